"""The standard duplicate rules: new accounts by name, new contacts by e-mail or by name, against contacts and leads.

They are active in every new org and only alert; an API create is refused all the same unless its caller allows the save.
A match resembles the new row, which does not make it the same company or person, nor a row of the same object.
https://help.salesforce.com/s/articleView?id=sales.duplicate_rules_standard_rules.htm
https://developer.salesforce.com/docs/platform/api-rest/guide/headers-duplicaterules.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cosell_sync.sandbox.salesforce.schema import SObject
from cosell_sync.sandbox.salesforce.store import Record, Store
from cosell_sync.sandbox.salesforce.values import Refused, Row, make_id

COMPARED = {"Account": ("Name",), "Contact": ("Email", "FirstName", "LastName")}
"""Objects that the rules look at, and the columns they compare."""


@dataclass
class DuplicateRules:
    """``on_create``, ``on_edit``: off, alert or block. ``named``: whether the refusal of a collection's row names the matches,
    which no page of the platform says (open question). ``leads``: rows of an object that no client of ours reads.
    """

    on_create: str = "alert"
    on_edit: str = "off"
    named: bool = True
    leads: list[Record] = field(default_factory=list)

    def add_lead(self, first: str, last: str, email: str, company: str) -> str:
        """A lead; returns its id."""
        row_id = make_id("00Q", len(self.leads) + 1)
        lead = {"Id": row_id, "FirstName": first, "LastName": last, "Email": email, "Company": company}
        self.leads.append(lead)
        return row_id

    def check(self, store: Store, shape: SObject, row: Row, before: Row | None, *, allow_save: bool) -> None:
        """Refuses an account or contact that resembles another row, as the rule for a create or an edit says."""
        rule = self.on_create if before is None else self.on_edit
        compared = COMPARED.get(shape.name, ())
        if rule == "off" or not compared or (allow_save and rule == "alert"):
            return
        if before is not None and all(before.get(name) == row.get(name) for name in compared):
            return
        pools: Mapping[str, Iterable[Row]] = {shape.name: store.scan(shape.name)}
        if shape.name == "Contact":
            pools = {**pools, "Lead": self.leads}
        found = {
            table: [
                each for each in rows if each["Id"] != row.get("Id") and _resembles(shape.name, row, each)
            ]
            for table, rows in pools.items()
        }
        if any(found.values()):
            text = "Use one of these records?"
            result = _result(shape.name, found, text, allow_save=rule == "alert")
            if self.named:
                raise Refused("DUPLICATES_DETECTED", text, duplicateResult=result)
            raise Refused("DUPLICATES_DETECTED", text)


def _resembles(name: str, row: Row, other: Row) -> bool:
    def text(of: Row, column: str) -> str:
        return str(of.get(column) or "").casefold()

    if name == "Account":
        return bool(text(row, "Name")) and text(row, "Name") == text(other, "Name")
    if text(row, "Email") and text(row, "Email") == text(other, "Email"):
        return True
    names = [text(row, column) for column in ("FirstName", "LastName")]
    return all(names) and names == [text(other, column) for column in ("FirstName", "LastName")]


def _result(name: str, found: Mapping[str, list[Row]], text: str, *, allow_save: bool) -> Mapping[str, Any]:
    return {
        "allowSave": allow_save,
        "duplicateRule": f"Standard_{name}_Duplicate_Rule",
        "duplicateRuleEntityType": name,
        "errorMessage": text,
        "matchResults": [
            {
                "entityType": table,
                "errors": [],
                "matchEngine": "FuzzyMatchEngine",
                "matchRecords": [
                    {
                        "additionalInformation": [],
                        "fieldDiffs": [],
                        "matchConfidence": 100.0,
                        "record": {"attributes": {"type": table}, "Id": each["Id"]},
                    }
                    for each in rows
                ],
                "rule": f"Standard_{table}_Match_Rule_v1_0",
                "size": len(rows),
                "success": True,
            }
            for table, rows in found.items()
            if rows
        ],
    }
