"""Metadata as a client reads it: tables, columns, choices and alternate keys of the environment.

A definition is built as one object with all its properties, then cut by $select, $filter and $expand as rows are. Properties
that need a cast (MaxLength, OptionSet …) are only there behind the cast, as on the platform.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cosell_sync.sandbox.dataverse import odata, values
from cosell_sync.sandbox.dataverse.filters import condition
from cosell_sync.sandbox.dataverse.odata import Operand, bad_request
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Column, Key, Table
from cosell_sync.sandbox.dataverse.values import Refused

CRM = "Microsoft.Dynamics.CRM"
Definition = dict[str, Any]
_TYPES = {
    "guid": "Uniqueidentifier", "string": "String", "memo": "Memo", "money": "Money", "decimal": "Decimal",
    "integer": "Integer", "bigint": "BigInt", "boolean": "Boolean", "datetime": "DateTime", "date": "DateTime",
    "choice": "Picklist", "state": "State", "status": "Status", "lookup": "Lookup",
}  # fmt: skip
_DELETING = {"clear": "RemoveLink", "cascade": "Cascade", "restrict": "Restrict"}
_SEGMENT = re.compile(r"(?P<name>[\w.]+)(?:\((?P<key>[^)]*)\))?")
_NAMED = re.compile(r"(?P<name>\w+)='(?P<value>[^']*)'")
_ONLY_BY_EXPAND = {
    "Attributes",
    "Keys",
    "ManyToOneRelationships",
    "OneToManyRelationships",
    "OptionSet",
    "GlobalOptionSet",
}


@dataclass
class Metadata:
    """``languages``: those that labels have, the base language first. ``privileges``: of a table."""

    org: Org
    privileges: Callable[[Table], Iterable[Definition]]
    languages: tuple[int, ...] = (1033,)
    secured: Set[tuple[str, str]] = frozenset()  # (table, column) under column security
    roots: tuple[str, ...] = ("EntityDefinitions", "GlobalOptionSetDefinitions", "RelationshipDefinitions")

    def answer(self, path: str, options: Mapping[str, str], root: str) -> Definition:
        """One definition or a list, for a path of collections, keys and casts."""
        context = f"{root}$metadata#{path.partition('(')[0]}"
        here: Any = None
        cast = ""
        for step in path.split("/"):
            found = _SEGMENT.fullmatch(step)
            if found is None:
                raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{step}'.", 404)
            if found["name"].startswith(f"{CRM}."):
                cast = found["name"].removeprefix(f"{CRM}.")
                here = self._cast(here, cast)
                continue
            if here is None:
                here = self._roots(found["name"], found["key"])
            else:
                here = self._step(here, found["name"], cast)
            if found["key"] is not None:
                here = self._keyed(here, found["key"], found["name"])
        if isinstance(here, list):
            return {"@odata.context": context, "value": self._cut(here, options, cast)}
        if isinstance(here, dict):
            return {"@odata.context": f"{context}/$entity", **self._shown(here, options, cast)}
        return {"@odata.context": context, "value": here}

    def _roots(self, name: str, key: str | None) -> list[Definition]:
        """``key``: of the one that is asked for; a table that is asked for by name is the only one built."""
        if name == "EntityDefinitions":
            found = _NAMED.fullmatch(key or "")
            only = found["value"] if found and found["name"] == "LogicalName" else None
            return [self._table(each) for each in self.org.schema.values() if only in {None, each.name}]
        if name == "RelationshipDefinitions":
            return [each for table in self.org.schema.values() for each in self._relations(table)]
        return []

    def _step(self, here: Any, name: str, cast: str) -> Any:
        if isinstance(here, dict) and name in here and (name not in {"OptionSet", "GlobalOptionSet"} or cast):
            made = here[name]
            return made() if callable(made) else made
        raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{name}'.", 404)

    def _keyed(self, here: Any, key: str, name: str) -> Definition:
        found = _NAMED.fullmatch(key)
        wanted = values.guid(key)
        if isinstance(here, list):
            for each in here:
                if (wanted and each.get("MetadataId") == wanted) or (
                    found and each.get(found["name"]) == found["value"]
                ):
                    return dict(each)
        if found is None and wanted is None:
            raise bad_request(f"Error in the key '({key})' of {name}.")
        raise Refused(values.NO_ROW, f"Could not find an item of {name} with the key ({key}).", 404)

    def _cast(self, here: Any, cast: str) -> Any:
        typed = f"#{CRM}.{cast}"
        if isinstance(here, list):
            return [each for each in here if each.get("@odata.type") == typed]
        if isinstance(here, dict) and here.get("@odata.type") == typed:
            return here
        raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{CRM}.{cast}'.", 404)

    # ------------------------------------------------------------ cutting

    def _cut(self, definitions: list[Definition], options: Mapping[str, str], cast: str) -> list[Definition]:
        if "$orderby" in options or "$top" in options:
            raise bad_request("The query parameters $orderby and $top are not supported for metadata.")
        if "$filter" in options:
            sample = {
                name: value for each in definitions for name, value in each.items() if value is not None
            }
            test = condition(options["$filter"], _Scope(sample))
            definitions = [each for each in definitions if test(each)]
        return [self._shown(each, options, cast) for each in definitions]

    def _shown(self, definition: Definition, options: Mapping[str, str], cast: str) -> Definition:
        special = definition.get("_special", frozenset())
        known = {
            name: value
            for name, value in definition.items()
            if name not in _ONLY_BY_EXPAND and not name.startswith("_")
        }
        made = dict(known)
        if "$select" in options:
            names = [name.strip() for name in options["$select"].split(",")]
            for name in names:
                if name not in known or (name in special and not cast):
                    raise bad_request(
                        f"Could not find a property named '{name}' on type '{CRM}.{cast or 'metadata'}'."
                    )
            kept = {"@odata.type", "MetadataId", *names}
            made = {name: value for name, value in known.items() if name in kept}
        for part in odata.split(options["$expand"], ",") if "$expand" in options else []:
            name, paren, inside = part.strip().partition("(")
            if (
                name not in definition
                or name not in _ONLY_BY_EXPAND
                or (name in {"OptionSet", "GlobalOptionSet"} and not cast)
            ):
                raise bad_request(
                    f"Could not find a property named '{name}' on type '{CRM}.{cast or 'metadata'}'."
                )
            nested = {}
            for each in odata.split(inside[:-1], ";") if paren else []:
                option, _, value = each.strip().partition("=")
                nested[option] = value
            below = definition[name]() if callable(definition[name]) else definition[name]
            if isinstance(below, list):
                made[name] = self._cut(below, nested, "")
            else:
                made[name] = self._shown(below, nested, "") if below is not None else None
        return made

    # ------------------------------------------------------------ saying it

    def identity(self, name: str) -> str:
        """The MetadataId of a table, or of `table.column` and the like."""
        return _id(name)

    def shown(self, name: str) -> Definition:
        """A table's whole definition, as a GET of it says."""
        return self._shown(self._table(self.org.schema[name]), {}, "")

    def _label(self, text: str, translations: Mapping[int, str] | None = None) -> Definition:
        labels = [
            {"Label": (translations or {}).get(language, text), "LanguageCode": language, "IsManaged": True}
            for language in self.languages
        ]
        return {"LocalizedLabels": labels, "UserLocalizedLabel": labels[0]}

    def _table(self, table: Table) -> Definition:
        return {
            "MetadataId": _id(table.name),
            "LogicalName": table.name,
            "SchemaName": _schema_name(table.name),
            "EntitySetName": table.set_name,
            "LogicalCollectionName": table.set_name,
            "ObjectTypeCode": table.code,
            "PrimaryIdAttribute": table.key,
            "PrimaryNameAttribute": table.primary,
            "DisplayName": self._label(table.label),
            "DisplayCollectionName": self._label(f"{table.label}s"),
            "IsCustomEntity": table.custom,
            "IsActivity": table.activity,
            "ChangeTrackingEnabled": table.change_tracking,
            "CanChangeTrackingBeEnabled": {"Value": table.writable and table.trackable, "CanBeChanged": True},
            "IsOptimisticConcurrencyEnabled": table.concurrency,
            "OwnershipType": "UserOwned" if "ownerid" in table.columns else "OrganizationOwned",
            "Privileges": list(self.privileges(table)),
            "Attributes": lambda: [self._column(table, each) for each in table.columns.values()],
            "Keys": lambda: [self._key(table, each) for each in table.keys],
            "ManyToOneRelationships": lambda: self._relations(table),
            "OneToManyRelationships": lambda: [
                each
                for other in self.org.schema.values()
                for each in self._relations(other)
                if each["ReferencedEntity"] == table.name
            ],
        }

    def _column(self, table: Table, column: Column) -> Definition:
        kind = _TYPES[column.kind]
        if column.name == "ownerid":
            kind = "Owner"
        elif column.name in {"customerid", "parentcustomerid"}:
            kind = "Customer"
        class_name = {"Customer": "Lookup", "Owner": "Lookup", "Uniqueidentifier": ""}.get(kind, kind)
        special = _special(column)
        made = {
            "@odata.type": f"#{CRM}.{class_name}AttributeMetadata",
            "MetadataId": _id(f"{table.name}.{column.name}"),
            "LogicalName": column.name,
            "SchemaName": column.schema_name or _schema_name(column.name),
            "EntityLogicalName": table.name,
            "AttributeType": kind,
            "AttributeTypeName": {"Value": f"{kind}Type"},
            "AttributeOf": None,
            "DisplayName": self._label(column.label, column.translations),
            "RequiredLevel": {"Value": column.required, "CanBeChanged": True},
            "IsCustomAttribute": column.custom,
            "IsPrimaryId": column.name == table.key,
            "IsPrimaryName": column.name == table.primary,
            "IsValidForCreate": column.creatable,
            "IsValidForUpdate": column.updatable,
            "IsValidForRead": True,
            "IsSecured": (table.name, column.name) in self.secured,
            **special,
            "_special": frozenset(special),
        }
        if column.options:
            made["OptionSet"] = None if column.shared else self._options(table, column)
            made["GlobalOptionSet"] = self._options(table, column) if column.shared else None
        elif column.kind == "boolean":
            made["OptionSet"] = {
                "MetadataId": _id(f"{table.name}.{column.name}.options"),
                "TrueOption": {"Value": 1, "Label": self._label("Yes")},
                "FalseOption": {"Value": 0, "Label": self._label("No")},
            }
        return made

    def _options(self, table: Table, column: Column) -> Definition:
        listed = []
        for each in column.options:
            option: Definition = {
                "Value": each.value,
                "Label": self._label(each.label, each.translations),
                "Color": None,
            }
            if column.kind == "status":
                option.update({"@odata.type": f"#{CRM}.StatusOptionMetadata", "State": each.state})
            if column.kind == "state":
                option.update({"@odata.type": f"#{CRM}.StateOptionMetadata", "DefaultStatus": each.default, "InvariantName": each.label})  # fmt: skip
            listed.append(option)
        return {
            "@odata.type": f"#{CRM}.OptionSetMetadata",
            "MetadataId": _id(f"{table.name}.{column.name}.options"),
            "Name": column.shared or f"{table.name}_{column.name}",
            "IsGlobal": bool(column.shared),
            "IsCustomOptionSet": column.custom,
            "OptionSetType": _TYPES[column.kind],
            "Options": listed,
        }

    def _key(self, table: Table, key: Key) -> Definition:
        return {
            "MetadataId": _id(f"{table.name}.{key.name}"),
            "LogicalName": key.name,
            "SchemaName": key.schema_name,
            "EntityLogicalName": table.name,
            "KeyAttributes": list(key.columns),
            "EntityKeyIndexStatus": key.status,
            "DisplayName": self._label(key.schema_name),
            "IsManaged": False,
        }

    def _relations(self, table: Table) -> list[Definition]:
        return [
            {
                "@odata.type": f"#{CRM}.OneToManyRelationshipMetadata",
                "MetadataId": _id(f"{table.name}.{column.name}.{target}"),
                "SchemaName": column.collection(target) or f"{target}_{table.name}_{column.name}",
                "RelationshipType": "OneToManyRelationship",
                "ReferencedEntity": target,
                "ReferencedAttribute": f"{target}id",
                "ReferencedEntityNavigationPropertyName": column.collection(target) or None,
                "ReferencingEntity": table.name,
                "ReferencingAttribute": column.name,
                "ReferencingEntityNavigationPropertyName": way,
                "IsCustomRelationship": table.custom,
                "CascadeConfiguration": {
                    "Assign": "Cascade" if column.on_delete == "cascade" else "NoCascade",
                    "Delete": _DELETING[column.on_delete],
                    "Merge": "NoCascade",
                },
            }
            for column in table.columns.values()
            for target, way in column.targets.items()
        ]


@dataclass(frozen=True)
class _Scope:
    """Properties of metadata by name; `A/B` reaches into a complex one."""

    sample: Definition

    def operand(self, path: str) -> Operand:
        steps = path.split("/")
        here: Any = self.sample
        for step in steps:
            if not isinstance(here, dict) or step not in here or step.startswith("_"):
                raise bad_request(f"Could not find a property named '{path}' on type '{CRM}.metadata'.")
            here = here[step]

        def value(definition: Any) -> Any:
            for step in steps:
                definition = definition.get(step) if isinstance(definition, dict) else None
            return definition

        sort = odata.sort_of(here)
        if path == "MetadataId":
            sort = "guid"
        elif path in {"AttributeType", "OwnershipType", "EntityKeyIndexStatus"}:
            sort = "any"
        return Operand(sort, value)

    def property(self, name: str) -> Operand:
        return self.operand(name)


def _special(column: Column) -> Definition:
    """The properties that only one type of column has; they need a cast."""
    special: Definition = {}
    if column.kind in {"string", "memo"}:
        special = {
            "MaxLength": column.length,
            "Format": column.format or ("TextArea" if column.kind == "memo" else "Text"),
        }
    elif column.kind in {"money", "decimal"}:
        special = {"Precision": column.precision, "MinValue": column.low, "MaxValue": column.high}
        if column.kind == "money":
            special["PrecisionSource"] = column.precision_source
    elif column.kind == "integer":
        special = {"MinValue": int(column.low), "MaxValue": int(column.high)}
    elif column.kind in {"datetime", "date"}:
        special = {
            "Format": column.format or ("DateOnly" if column.kind == "date" else "DateAndTime"),
            "DateTimeBehavior": {
                "Value": column.behavior or ("DateOnly" if column.kind == "date" else "UserLocal")
            },
        }
    elif column.kind == "lookup":
        special = {"Targets": sorted(column.targets)}
    elif column.kind == "boolean":
        special = {"DefaultValue": bool(column.default)}
    return special


@cache
def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"dataverse/{name}"))


def _schema_name(name: str) -> str:
    return name if name.startswith("cosell_") else name[:1].upper() + name[1:]
