"""Checks what a deployment puts on record pages: compact layouts and quick actions. Raises InvalidComponent."""

from collections.abc import Mapping
from typing import Final

from cosell_sync.sandbox.salesforce.custom_fields import InvalidComponent
from cosell_sync.sandbox.salesforce.package import Tree, many
from cosell_sync.sandbox.salesforce.schema import Field, SObject

# https://help.salesforce.com/s/articleView?id=platform.compact_layout_create.htm: up to ten fields.
COMPACT_FIELDS: Final = 10
# Metadata API, QuickAction: parents beside custom objects.
PARENTS: Final = frozenset({
    "Account", "Campaign", "Case", "Contact", "ContentNote", "Group", "Lead", "Opportunity",
})  # fmt: skip
BEHAVIOURS: Final = frozenset({"Edit", "Required", "Readonly"})
STYLES: Final = frozenset({"TwoColumnsTopToBottom", "TwoColumnsLeftToRight", "OneColumn", "CustomLinks"})
ACTION_ELEMENTS: Final = frozenset({
    "description", "fieldOverrides", "label", "optionsCreateFeedItem", "quickActionLayout", "standardLabel",
    "successMessage", "targetObject", "type",
})  # fmt: skip


def check_compact_layout(tree: Tree, shape: SObject) -> None:
    """Metadata API, CompactLayout: all types of fields but text areas and multi-select picklists; the label is required."""
    if not tree.get("label"):
        raise InvalidComponent("Required field is missing: label")
    fields = many(tree, "fields")
    if not 1 <= len(fields) <= COMPACT_FIELDS:
        raise InvalidComponent(f"A compact layout has between 1 and {COMPACT_FIELDS} fields")
    if len(set(fields)) < len(fields):
        raise InvalidComponent("duplicate value found: a field is named twice")
    for name in fields:
        if _field(shape, name).type == "textarea":
            raise InvalidComponent(f"Field {name} cannot be used in a compact layout")


def check_quick_action(name: str, tree: Tree, schema: Mapping[str, SObject]) -> None:
    """Metadata API, QuickAction: an action of an object that updates the record has that object as its target, a layout with
    fields, and values for fields, each one literal or a formula. https://developer.salesforce.com/docs/atlas.en-us.salesforce1.meta/
    salesforce1/actions_predef_values_about.htm: no values for multi-select picklists and fields that nobody writes.
    """
    of = name.partition(".")[0]
    if of not in PARENTS and not (of.endswith("__c") and of in schema):
        raise InvalidComponent(f"{of} is no object that a quick action can belong to")
    if tree.get("type") != "Update":
        raise InvalidComponent("this sandbox takes quick actions that update the record only")
    for each in sorted(tree.keys() - ACTION_ELEMENTS):
        raise InvalidComponent(f"Can not specify '{each}' for a QuickAction of type Update")
    if not tree.get("label") and not tree.get("standardLabel"):
        raise InvalidComponent("Required field is missing: label")
    if tree.get("optionsCreateFeedItem") not in {"true", "false"}:
        raise InvalidComponent("Required field is missing: optionsCreateFeedItem")
    if tree.get("targetObject") != of:
        raise InvalidComponent(
            "targetObject: an action that updates a record has the record's own object as its target"
        )
    _check_layout(tree.get("quickActionLayout"), schema[of])
    for each in many(tree, "fieldOverrides"):
        _check_override(each, _field(schema[of], each["field"]))


def _check_layout(layout: Tree | None, shape: SObject) -> None:
    if not layout or layout.get("layoutSectionStyle") not in STYLES:
        raise InvalidComponent("Required field is missing: quickActionLayout")
    columns = [each for each in many(layout, "quickActionLayoutColumns") if each]
    items = [item for column in columns for item in many(column, "quickActionLayoutItems")]
    if not items:
        raise InvalidComponent("A quick action layout needs a field")
    for item in items:
        _field(shape, item.get("field", ""))
        if item.get("uiBehavior") not in BEHAVIOURS:
            raise InvalidComponent(f"{item.get('uiBehavior')} is not a valid value for the enum 'UiBehavior'")


def _check_override(given: Tree, field: Field) -> None:
    if ("formula" in given) == ("literalValue" in given):
        raise InvalidComponent(f"{field.name}: either a formula or a literal value")
    if field.calculated or not field.updateable:
        raise InvalidComponent(f"{field.name}: a field that nobody writes takes no predefined value")
    value = given.get("literalValue")
    if value is not None and field.type == "picklist" and value not in field.values:
        raise InvalidComponent(f"Picklist value: {value} does not exist")


def _field(shape: SObject, name: str) -> Field:
    found = shape.fields.get(name)
    if found is None:
        raise InvalidComponent(f"Invalid field: {name} in {shape.name}")
    return found
