"""Definitions that a client posts (columns, tables, relationships, keys) read into the schema's own terms; pure.

Strict where the platform is: unknown properties, a missing label, a language that is not provisioned, a name without the
publisher's prefix, lengths and choices out of range are refused.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/create-update-column-definitions-using-web-api
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.schema import Column, Key, Kind, Option, Table, active, stamps
from cosell_sync.sandbox.dataverse.values import Refused

Body = Mapping[str, Any]

CRM: Final = "Microsoft.Dynamics.CRM"
KEYABLE: Final = frozenset({"string", "integer", "decimal", "datetime", "date", "lookup", "choice"})
MOST_KEYS: Final = 10
FIRST_CODE: Final = 10_500
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_COMMON: Final = frozenset({
    "@odata.type", "AttributeType", "AttributeTypeName", "Description", "DisplayName", "RequiredLevel", "SchemaName",
    "IsPrimaryName", "IsAuditEnabled",
})  # fmt: skip
_OWN: Final[Mapping[str, frozenset[str]]] = {
    "String": frozenset({"MaxLength", "FormatName"}),
    "Memo": frozenset({"MaxLength", "Format", "ImeMode"}),
    "Boolean": frozenset({"DefaultValue", "OptionSet"}),
    "DateTime": frozenset({"Format", "DateTimeBehavior"}),
    "Picklist": frozenset({"OptionSet", "SourceTypeMask"}),
}
_LONGEST: Final = {"String": 4000, "Memo": 1_048_576}
_REQUIRED: Final = frozenset({"None", "Recommended", "ApplicationRequired"})
_ON_DELETE: Final[Mapping[str, Literal["clear", "cascade", "restrict"]]] = {
    "Cascade": "cascade",
    "RemoveLink": "clear",
    "Restrict": "restrict",
}
_CASCADES: Final = frozenset({"NoCascade", "Cascade", "Active", "UserOwned", "RemoveLink", "Restrict"})


def bad_definition(why: str) -> Refused:
    """The refusal of a malformed definition."""
    return Refused(
        values.BAD_PAYLOAD, f"Error identified in Payload provided by the user for Entity :'', {why}"
    )


@dataclass(frozen=True)
class Rules:
    """What a definition is judged by: the publisher's prefix, and the languages, the base language first."""

    prefix: str
    languages: Sequence[int] = (1033,)

    def label(self, given: object, what: str) -> str:
        """The text in the base language."""
        listed = given.get("LocalizedLabels") if isinstance(given, Mapping) else None
        if not isinstance(listed, list) or not listed:
            raise bad_definition(f"{what} needs LocalizedLabels.")
        found: dict[int, str] = {}
        for each in listed:
            code, text = each.get("LanguageCode"), each.get("Label")
            if code not in self.languages:
                raise Refused(values.BAD_ARGUMENT, f"The language code {code} is not a valid language code of this organization.")  # fmt: skip
            if not isinstance(text, str) or not text:
                raise bad_definition(f"{what} has an empty label.")
            found[code] = text
        if self.languages[0] not in found:
            raise Refused(
                values.BAD_ARGUMENT, f"{what} has no label for the base language {self.languages[0]}."
            )
        return found[self.languages[0]]

    def translations(self, given: object, what: str) -> dict[int, str]:
        """The texts in the other languages."""
        base = self.label(given, what)
        listed = given["LocalizedLabels"] if isinstance(given, Mapping) else []
        return {each["LanguageCode"]: each["Label"] for each in listed if each["Label"] != base}

    def name(self, given: object) -> str:
        """The checked schema name: letters, digits and the prefix of the publisher."""
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            raise bad_definition(f"'{given}' is no schema name.")
        if not given.lower().startswith(f"{self.prefix}_") or len(given) > 50:
            raise Refused(
                values.BAD_ARGUMENT,
                f"The schema name '{given}' must start with the customization prefix '{self.prefix}_' of its publisher "
                "and hold at most 50 characters.",
            )
        return given


def typed(body: Body, ending: str) -> str:
    """The class that ``@odata.type`` names, without its ending."""
    given = str(body.get("@odata.type") or "").lstrip("#")
    if not given.startswith(f"{CRM}.") or not given.endswith(ending):
        raise bad_definition(f"@odata.type must name a {ending}, not '{given}'.")
    return given.removeprefix(f"{CRM}.").removesuffix(ending)


def only(body: Body, known: frozenset[str], what: str) -> None:
    unknown = sorted(name for name in body if name not in known)
    if unknown:
        raise bad_definition(f"The property '{unknown[0]}' does not exist on type '{CRM}.{what}'.")


def column(body: Body, rules: Rules) -> Column:
    """The column that a posted attribute definition describes."""
    kind = typed(body, "AttributeMetadata")
    if kind not in _OWN:
        raise Refused(values.BAD_ARGUMENT, f"Attribute of type {kind} cannot be created by this request.")
    only(body, _COMMON | _OWN[kind], f"{kind}AttributeMetadata")
    name = rules.name(body.get("SchemaName"))
    label = rules.label(body.get("DisplayName"), "DisplayName")
    if "Description" in body:
        rules.label(body["Description"], "Description")
    level = (body.get("RequiredLevel") or {"Value": "None"}).get("Value")
    if level not in _REQUIRED:
        raise bad_definition(f"'{level}' is no requirement level.")
    translations = rules.translations(body.get("DisplayName"), "DisplayName")
    made = Column(name.lower(), label, schema_name=name, translations=translations)
    if level == "ApplicationRequired":
        made = replace(made, required="ApplicationRequired")
    return _special(body, kind, made, rules)


def _special(body: Body, kind: str, made: Column, rules: Rules) -> Column:
    if kind in _LONGEST:
        length = body.get("MaxLength")
        if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= _LONGEST[kind]:
            raise Refused(values.BAD_ARGUMENT, f"MaxLength of {made.name} must be 1 to {_LONGEST[kind]}.")
        form = (body.get("FormatName") or {"Value": "Text"}).get("Value") if kind == "String" else ""
        if form not in {"", "Text", "Url", "Email", "Phone", "TextArea"}:
            raise bad_definition(f"'{form}' is no FormatName.")
        text: Kind = "string" if kind == "String" else "memo"
        return replace(made, kind=text, length=length, format=form if form != "Text" else "")
    if kind == "DateTime":
        behavior = (body.get("DateTimeBehavior") or {}).get("Value")
        form = body.get("Format")
        if form not in {"DateOnly", "DateAndTime"} or behavior not in {"UserLocal", "DateOnly", "TimeZoneIndependent"}:  # fmt: skip
            raise bad_definition("a DateTime needs a Format and a DateTimeBehavior.")
        if behavior == "DateOnly" and form != "DateOnly":
            raise Refused(
                values.BAD_ARGUMENT, "The behavior DateOnly does not go with the format DateAndTime."
            )
        return replace(made, kind="date" if form == "DateOnly" else "datetime", behavior=behavior)
    if kind == "Boolean":
        options = body.get("OptionSet") or {}
        for side, number in (("TrueOption", 1), ("FalseOption", 0)):
            given = options.get(side) or {}
            if given.get("Value") != number:
                raise bad_definition(f"{side} of {made.name} must have the value {number}.")
            rules.label(given.get("Label"), side)
        return replace(made, kind="boolean", default=body.get("DefaultValue") is True)
    return replace(made, kind="choice", options=_options(body.get("OptionSet"), made.name, rules))


def _options(given: object, name: str, rules: Rules) -> tuple[Option, ...]:
    if not isinstance(given, Mapping) or given.get("OptionSetType") != "Picklist" or given.get("IsGlobal"):
        raise bad_definition(f"{name} needs a local OptionSet of the type Picklist.")
    made: list[Option] = []
    for each in given.get("Options") or []:
        value = each.get("Value")
        if not isinstance(value, int) or value < 0 or any(value == other.value for other in made):
            raise Refused(values.BAD_ARGUMENT, f"The value {value} of {name} is out of range or used twice.")
        said = each.get("Label")
        label, others = rules.label(said, "an option"), rules.translations(said, "an option")
        made.append(Option(value, label, translations=others))
    if not made:
        raise bad_definition(f"{name} has no options.")
    return tuple(made)


_TABLE: Final = frozenset({
    "@odata.type", "Attributes", "ChangeTrackingEnabled", "Description", "DisplayCollectionName", "DisplayName",
    "HasActivities", "HasNotes", "IsActivity", "OwnershipType", "SchemaName",
})  # fmt: skip


def table(body: Body, rules: Rules, there: Mapping[str, Table]) -> Table:
    """The table that a posted entity definition describes, with its primary column."""
    typed(body, "EntityMetadata")
    only(body, _TABLE, "EntityMetadata")
    name = rules.name(body.get("SchemaName")).lower()
    if name in there:
        raise Refused(values.BAD_ARGUMENT, f"An entity with the specified name {name} already exists.")
    label = rules.label(body.get("DisplayName"), "DisplayName")
    rules.label(body.get("DisplayCollectionName"), "DisplayCollectionName")
    owned = {"UserOwned": True, "OrganizationOwned": False}.get(str(body.get("OwnershipType")))
    if owned is None:
        raise bad_definition("OwnershipType must be UserOwned or OrganizationOwned.")
    for needed in ("HasActivities", "HasNotes", "IsActivity"):
        if not isinstance(body.get(needed), bool):
            raise bad_definition(f"{needed} must be said.")
    given = body.get("Attributes") or []
    primary = [each for each in given if each.get("IsPrimaryName") is True]
    if len(primary) != 1 or len(given) != 1 or typed(primary[0], "AttributeMetadata") != "String":
        raise Refused(values.BAD_ARGUMENT, "An entity is created with one primary name attribute of text.")
    first = column(primary[0], rules)
    key = Column(f"{name}id", label, "guid", updatable=False, required="SystemRequired")
    code = max([FIRST_CODE - 1, *(each.code for each in there.values() if each.custom)]) + 1
    return Table(
        name,
        f"{name}s",
        label,
        code,
        key.name,
        first.name,
        {each.name: each for each in (key, first, *active(), *stamps(owned=owned))},
        change_tracking=body.get("ChangeTrackingEnabled") is True,
    )


_RELATION: Final = frozenset({
    "@odata.type", "AssociatedMenuConfiguration", "CascadeConfiguration", "Lookup", "ReferencedAttribute",
    "ReferencedEntity", "ReferencingEntity", "SchemaName",
})  # fmt: skip


def lookup(body: Body, rules: Rules, there: Mapping[str, Table]) -> tuple[str, Column]:
    """The table that points, and the column it points with."""
    typed(body, "OneToManyRelationshipMetadata")
    only(body, _RELATION, "OneToManyRelationshipMetadata")
    name = rules.name(body.get("SchemaName"))
    parent, child = (
        there.get(str(body.get("ReferencedEntity"))),
        there.get(str(body.get("ReferencingEntity"))),
    )
    if parent is None or child is None:
        raise Refused(values.NO_ROW, "The referenced or referencing entity does not exist.", 404)
    if body.get("ReferencedAttribute") != parent.key:
        raise bad_definition(f"ReferencedAttribute must be {parent.key}.")
    cascade = body.get("CascadeConfiguration") or {}
    unknown = [value for value in cascade.values() if value not in _CASCADES]
    if unknown or cascade.get("Delete") not in _ON_DELETE:
        raise bad_definition("CascadeConfiguration is incomplete or holds an unknown word.")
    if cascade.get("Merge") == "Cascade" and parent.name not in {"account", "contact", "lead"}:
        raise Refused(values.BAD_ARGUMENT, f"{parent.name} cannot be merged, so Merge must be NoCascade.")
    given = body.get("Lookup")
    if not isinstance(given, Mapping) or typed(given, "AttributeMetadata") != "Lookup":
        raise bad_definition("A relationship brings its Lookup.")
    only(given, _COMMON, "LookupAttributeMetadata")
    way = rules.name(given.get("SchemaName"))
    level = (given.get("RequiredLevel") or {"Value": "None"}).get("Value")
    made = Column(
        way.lower(),
        rules.label(given.get("DisplayName"), "DisplayName"),
        "lookup",
        schema_name=way,
        targets={parent.name: way},
        on_delete=_ON_DELETE[cascade["Delete"]],
        child_name=name,
    )
    if level == "ApplicationRequired":
        made = replace(made, required="ApplicationRequired")
    return child.name, made


def key(body: Body, rules: Rules, of: Table) -> Key:
    """The alternate key that a posted key definition describes."""
    only(body, frozenset({"SchemaName", "DisplayName", "KeyAttributes"}), "EntityKeyMetadata")
    name = rules.name(body.get("SchemaName"))
    rules.label(body.get("DisplayName"), "DisplayName")
    columns = tuple(body.get("KeyAttributes") or ())
    if not columns or any(each not in of.columns or of.columns[each].kind not in KEYABLE for each in columns):
        raise Refused(values.BAD_ARGUMENT, "A key needs columns of the entity that can be part of a key.")
    if any(each.name == name.lower() or set(each.columns) == set(columns) for each in of.keys):
        raise Refused("0x80060893", "An entity key with this name or these attributes already exists.")
    if len(of.keys) >= MOST_KEYS:
        raise Refused(values.BAD_ARGUMENT, "The maximum number of entity keys of this entity is reached.")
    return Key(name.lower(), name, columns, "Pending")
