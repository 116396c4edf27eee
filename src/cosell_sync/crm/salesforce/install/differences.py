"""How an existing component differs from the one we would make: only what matters to a cycle, in an admin's words. Pure.

Labels, help texts, list views and whether the rule is active are for the customer to decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cosell_sync.crm.salesforce.install.schema import Body, Component


def differences(wanted: Component, found: Body) -> Sequence[str]:
    """Each difference as a text. ``found``: the setup as the Tooling API shows it."""
    if wanted.type == "CustomField":
        if wanted.renewed and {found.get("type"), wanted.body["type"]} == {"Text", "Picklist"}:
            return []  # either holds what Microsoft says
        return list(_field(wanted.body, found))
    if wanted.type == "CustomObject" and found.get("sharingModel") != wanted.body["sharingModel"]:
        return [f"sharing model is {found.get('sharingModel')}, not {wanted.body['sharingModel']}"]
    if wanted.type == "ValidationRule" and _formula(wanted.body) != _formula(found):
        return ["its formula is another one"]
    return []


def _formula(rule: Body) -> str:
    return "".join(str(rule.get("errorConditionFormula") or "").split())


def _field(wanted: Body, found: Body) -> Iterator[str]:
    if found.get("type") != wanted["type"]:
        yield f"type is {found.get('type')}, not {wanted['type']}"
        return
    length = found.get("length")
    if "length" in wanted and length is not None and int(length) < wanted["length"]:
        yield f"holds {length} characters, not {wanted['length']}"
    for flag, words in (("externalId", "no external id"), ("unique", "not unique")):
        if wanted.get(flag) and not found.get(flag):
            yield f"is {words}"
    if found.get("required") and wanted.get("required") is False:
        yield "is required"
    if "referenceTo" in wanted and found.get("referenceTo") != wanted["referenceTo"]:
        yield f"points at {found.get('referenceTo')}, not {wanted['referenceTo']}"
    if "valueSet" in wanted:
        yield from _value_set(wanted["valueSet"], found.get("valueSet") or {})


def _value_set(wanted: Body, found: Body) -> Iterator[str]:
    if found.get("valueSetName"):
        yield f"takes its values from the global value set {found['valueSetName']}, which is not looked into"
        return
    ours, theirs = _values(wanted), _values(found)
    if lacking := [value for value in ours if value not in theirs]:
        yield f"lacks the values {', '.join(lacking)}"
    if wanted.get("restricted") and (extra := [value for value in theirs if value not in ours]):
        yield f"has values that mean nothing here: {', '.join(extra)}"


def _values(value_set: Mapping[str, Any]) -> Sequence[str]:
    """The active values; the Tooling API calls a value's name ``valueName``."""
    listed = (value_set.get("valueSetDefinition") or {}).get("value") or []
    return [
        str(each.get("valueName") or each.get("fullName"))
        for each in listed
        if each.get("isActive") is not False
    ]
