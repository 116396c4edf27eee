"""The standard duplicate rules of accounts (by name) and contacts (by e-mail)."""

from cosell_sync.sandbox.salesforce.schema import SObject  # fmt: skip
from cosell_sync.sandbox.salesforce.store import Store
from cosell_sync.sandbox.salesforce.values import Refused, Row

CHECKED_OBJECTS = ("Account", "Contact")
"""Objects that duplicate rules look at."""


def check_duplicates(store: Store, duplicate_rule: str, shape: SObject, row: Row) -> None:
    """Refuses a new account or contact that looks like one there is; ``duplicate_rule`` is off, alert or block."""
    if duplicate_rule == "off" or shape.name not in CHECKED_OBJECTS:
        return
    column = "Name" if shape.name == "Account" else "Email"
    wanted = (row.get(column) or "").casefold()
    matches = [
        each for each in store.scan(shape.name) if wanted and (each.get(column) or "").casefold() == wanted
    ]
    if matches:
        rule = f"Standard_{shape.name}_Duplicate_Rule"
        found = [
            {"record": {"attributes": {"type": shape.name}, "Id": each["Id"]}, "matchConfidence": 100.0}
            for each in matches
        ]
        result = {
            "allowSave": duplicate_rule == "alert",
            "duplicateRule": rule,
            "duplicateRuleEntityType": shape.name,
            "errorMessage": "Use one of these records?",
            "matchResults": [
                {"entityType": shape.name, "matchEngine": "FuzzyMatchEngine", "matchRecords": found}
            ],
        }
        raise Refused("DUPLICATES_DETECTED", "Use one of these records?", duplicateResult=result)
