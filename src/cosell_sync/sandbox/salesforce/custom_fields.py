"""Custom fields in the words of the setup: read from a deployed definition, and shown as the Tooling API shows them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cosell_sync.sandbox.salesforce import schema
from cosell_sync.sandbox.salesforce.package import Tree, many
from cosell_sync.sandbox.salesforce.schema import Field, text

FIELD_NAME: Final = re.compile(r"[A-Za-z](?!\w*__\w*__c)\w{0,36}__c")

# Type of field → required elements, further allowed elements.
_COMMON: Final = frozenset({"fullName", "label", "type", "description", "inlineHelpText"})

FIELD_TYPES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "Checkbox": (frozenset({"defaultValue"}), frozenset()),
    "Text": (frozenset({"length"}), frozenset({"required", "externalId", "unique", "caseSensitive"})),
    "Url": (frozenset(), frozenset({"required"})),
    "DateTime": (frozenset(), frozenset({"required"})),
    "LongTextArea": (frozenset({"length", "visibleLines"}), frozenset()),
    "Picklist": (frozenset({"valueSet"}), frozenset({"required"})),
    "MasterDetail": (
        frozenset({"referenceTo", "relationshipName", "relationshipOrder"}),
        frozenset({"relationshipLabel", "reparentableMasterDetail", "writeRequiresMasterRead"}),
    ),
}


class InvalidComponent(Exception):
    """A component that cannot be deployed; the text is the reason."""


def _check_elements(kind: str, tree: Tree) -> None:
    """Refuses missing and misplaced elements of a definition."""
    if kind not in FIELD_TYPES:
        raise InvalidComponent(f"'{kind}' is not a valid value for the enum 'FieldType'")
    needed, allowed = FIELD_TYPES[kind]
    for each in sorted({"label"} | needed):
        if not tree.get(each):
            raise InvalidComponent(f"Must specify {each} for a CustomField of type {kind}")
    for each in sorted(tree.keys() - _COMMON - needed - allowed):
        raise InvalidComponent(f"Can not specify '{each}' for a CustomField of type {kind}")
    if len(tree["label"]) > 40:
        raise InvalidComponent("Label: data value too large")
    if len(tree.get("inlineHelpText", "")) > 510:
        raise InvalidComponent("Help text: data value too large")


def field_of(name: str, tree: Tree) -> Field:
    """The field that a deployed definition describes; InvalidComponent for what the platform refuses."""
    kind = tree.get("type", "")
    _check_elements(kind, tree)
    flag = {each: tree.get(each) == "true" for each in ("required", "externalId", "unique")}
    label, length = tree["label"], int(tree.get("length", 0))
    match kind:
        case "Checkbox":
            return schema.checkbox(name, label, default=tree["defaultValue"] == "true")
        case "Text":
            if not 1 <= length <= 255:
                raise InvalidComponent("Text length must be between 1 and 255")
            return text(name, label, length, external_id=flag["externalId"], unique=flag["unique"], required=flag["required"])  # fmt: skip
        case "Url":
            return Field(name, label, "url", 255, required=flag["required"])
        case "DateTime":
            return Field(name, label, "datetime", required=flag["required"])
        case "LongTextArea":
            if not 256 <= length <= 131_072:
                raise InvalidComponent("Long text length must be between 256 and 131072")
            return Field(name, label, "textarea", length)
        case "Picklist":
            listed = tree["valueSet"]["valueSetDefinition"]
            values = tuple(each["fullName"] for each in many(listed, "value"))
            restricted = tree["valueSet"].get("restricted") == "true"
            # A value is its fullName; people see its label. Metadata API, CustomValue.
            labels = tuple(each.get("label") or each["fullName"] for each in many(listed, "value"))
            made = schema.picklist(name, label, values, restricted=restricted, required=flag["required"])
            return replace(made, labels=labels)
    return schema.fixed(
        schema.lookup(
            name, label, tree["referenceTo"], name[:-1] + "r",
            required=True, cascade=True, child_name=f"{tree['relationshipName']}__r",
        )
    )  # fmt: skip


def metadata_of(each: Field) -> dict[str, object]:
    """A field as the Tooling API shows its setup."""
    kinds = {
        "boolean": "Checkbox", "string": "Text", "url": "Url", "datetime": "DateTime", "picklist": "Picklist",
        "reference": "MasterDetail" if each.cascade else "Lookup", "date": "Date", "double": "Number", "currency": "Currency",
    }  # fmt: skip
    kind = ("LongTextArea" if each.long else "TextArea") if each.type == "textarea" else kinds[each.type]
    made: dict[str, object] = {
        "label": each.label, "type": kind, "required": each.required and kind != "MasterDetail",
        "length": each.length if kind in {"Text", "LongTextArea"} else None,
        "externalId": each.external_id, "unique": each.unique, "valueSet": None,
    }  # fmt: skip
    if each.type == "picklist":
        values = [
            {"valueName": value, "label": label, "default": False, "isActive": None}
            for value, label in zip(each.values, each.labels or each.values, strict=True)
        ]
        made["valueSet"] = {
            "restricted": each.restricted,
            "valueSetName": None,
            "valueSetDefinition": {"sorted": False, "value": values},
        }
    if each.refers_to:
        made["referenceTo"] = each.refers_to[0]
    return made
