"""The setup of the fake environment: what a provisioning tool changes, and when that takes effect.

Tables, columns, relationships and alternate keys are posted to the metadata; publishers, solutions, views and roles are rows
with rules of their own. A request adds what it makes to the unmanaged solution that its `MSCRM.SolutionUniqueName` names, and
names must carry that solution's prefix. Effects are delayed as on the platform: the index of a key is built in the background
(`index_time`), data calls know a new column only after a while (`visible_after`), a changed definition counts once it is
published, and only one customization runs at a time (`busy`).
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/use-web-api-metadata
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.dataverse import definitions, forms, values, views
from cosell_sync.sandbox.dataverse.definitions import bad_definition
from cosell_sync.sandbox.dataverse.metadata import Metadata
from cosell_sync.sandbox.dataverse.odata import bad_request
from cosell_sync.sandbox.dataverse.payload import Part
from cosell_sync.sandbox.dataverse.rights import Rights
from cosell_sync.sandbox.dataverse.roles import Roles
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Column, Table, linked
from cosell_sync.sandbox.dataverse.store import Record
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row
from cosell_sync.sandbox.exchange import Response

BUSY: Final = "0x80071151"
PARTS: Final = {"table": 1, "column": 2, "relationship": 10, "key": 14, "role": 20, "view": 26, "form": 60}
_TABLE: Final = re.compile(r"EntityDefinitions\(LogicalName='(?P<name>\w+)'\)(?:/(?P<below>\w+))?")
_CALL: Final = re.compile(r"(?P<name>[A-Z]\w+)(?:\((?P<given>[^)]*)\))?")
_ROLE: Final = re.compile(r"roles\((?P<id>[0-9a-fA-F-]{36})\)/Microsoft\.Dynamics\.CRM\.(?P<action>\w+)")
_MEMBER: Final = re.compile(
    r"systemusers\((?P<id>[0-9a-fA-F-]{36})\)/systemuserroles_association(?P<ref>/\$ref)?"
)
_ADDRESS: Final = re.compile(r"/api/data/v9\.\d/roles\((?P<id>[0-9a-fA-F-]{36})\)")


@dataclass
class Setup:
    """``labels_lost``: tables whose translations a PUT without `MSCRM.MergeLabels` dropped."""

    org: Org
    metadata: Metadata
    rights: Rights
    roles: Roles
    languages: tuple[int, ...] = (1033,)
    index_time: timedelta = timedelta()
    visible_after: timedelta = timedelta()
    busy: int = 0
    busy_status: int = 400
    labels_lost: list[str] = field(default_factory=list)
    _solution: str = ""
    _actor: str = ""
    _due: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _fresh: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _unpublished: dict[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.org.guards |= {
            "publisher": self._publisher,
            "solution": self._new_solution,
            "savedquery": self._view,
            "systemform": self._form,
        }
        self.org.afters["systemform"] = lambda row, before, _: self._add_to_solution(
            before, "form", row["formid"]
        )
        self.org.afters["savedquery"] = lambda row, before, _: self._add_to_solution(
            before, "view", row["savedqueryid"]
        )
        copied = self.org.afters["role"]

        def role(row: Row, before: Row | None, actor: str) -> None:
            if row["parentrootroleid"] is None:
                self._add_to_solution(before, "role", row["roleid"])
            copied(row, before, actor)

        self.org.afters["role"] = role

    # ------------------------------------------------------------ routing

    def answer(self, part: Part, options: Mapping[str, str], actor: str) -> Response | None:
        """The answer to a setup request; None for every other request."""
        self._actor, self._solution = actor, part.headers.get("mscrm.solutionuniquename", "")
        self._advance_indexes()
        path = part.path.strip("/")
        first = path.partition("/")[0].partition("(")[0]
        if first in self.metadata.roots and part.method != "GET":
            return self._define(part, path)
        if (
            (found := _ROLE.fullmatch(path))
            and part.method == "POST"
            and found["action"] == "AddPrivilegesRole"
        ):
            self._start_customization("Write", "role")
            self.roles.give(found["id"].lower(), _body(part).get("Privileges"))
            return Response(204)
        if found := _MEMBER.fullmatch(path):
            return self._member(part, found)
        if (found := _CALL.fullmatch(path)) and (made := self._call(part, found)) is not None:
            return made
        if part.method == "POST" and first in {
            "publishers",
            "solutions",
            "savedqueries",
            "systemforms",
            "roles",
        }:
            self._check_not_busy()
            self._prefix()  # names a solution that is there, or none
        self._visible(first, options)
        return None

    def _call(self, part: Part, found: re.Match[str]) -> Response | None:
        match part.method, found["name"]:
            case "GET", "RetrieveProvisionedLanguages":
                return Response(200, {"RetrieveProvisionedLanguages": list(self.languages)})
            case "GET", "RetrieveRolePrivilegesRole":
                self.rights.need("Read", "role", self._actor)
                role_id = str(found["given"] or "").removeprefix("RoleId=").lower()
                return Response(200, {"RolePrivileges": self.roles.listed(role_id)})
            case "POST", "PublishXml":
                self._start_customization("", "")
                self._publish(_body(part))
                return Response(204)
            case "POST", "ReactivateEntityKey":
                self._start_customization("Write", "attribute")
                body = _body(part)
                self._reactivate(str(body.get("EntityLogicalName")), str(body.get("EntityKeyLogicalName")))
                return Response(204)
        return None

    def _member(self, part: Part, found: re.Match[str]) -> Response | None:
        user_id = found["id"].lower()
        if part.method == "GET" and not found["ref"]:
            self.rights.need("Read", "role", self._actor)
            rows = [{"roleid": row["roleid"], "name": row["name"]} for row in self.roles.of_user(user_id)]
            return Response(200, {"value": rows})
        if part.method == "POST" and found["ref"]:
            self.rights.need("Assign", "role", self._actor)
            address = urlsplit(str(_body(part).get("@odata.id") or ""))
            role = _ADDRESS.fullmatch(address.path)
            if role is None or f"{address.scheme}://{address.netloc}" != part.root.partition("/api/")[0]:
                raise bad_request("@odata.id must be the absolute address of a role here.")
            self.roles.assign(user_id, role["id"].lower())
            return Response(204)
        return None

    # ------------------------------------------------------------ one at a time

    def _start_customization(self, verb: str, what: str) -> None:
        if what:
            self.rights.need(verb, what, self._actor)
        else:
            self.rights.need_named("prvPublishCustomization", "organization", self._actor)
        self._check_not_busy()

    def _check_not_busy(self) -> None:
        if self.busy > 0:
            self.busy -= 1
            raise Refused(
                BUSY,
                "Cannot start another [EntityCustomization] because there is a previous [Import] running at this moment. "
                "Use Solution History for more details.",
                self.busy_status,
            )

    def _prefix(self) -> str:
        """The prefix that names must carry: that of the named solution's publisher."""
        if not self._solution:
            return "new"
        for row in self.org.scan("solution"):
            if row["uniquename"] == self._solution:
                publisher = self.org.at(row["publisherid"])
                return str(publisher["customizationprefix"]) if publisher else "new"
        raise Refused(values.NO_ROW, f"A solution with the unique name {self._solution} does not exist.", 404)

    def _add_to_solution(self, before: object, kind: str, part_id: str) -> None:
        if before is not None:
            return
        for row in self.org.scan("solution"):
            if row["uniquename"] == self._solution:
                columns = {
                    "componenttype": PARTS[kind],
                    "objectid": part_id,
                    "solutionid": Ref("solution", row["solutionid"]),
                }
                self.org.insert("solutioncomponent", columns, self._actor, trusted=True)
        self._solution = ""

    # ------------------------------------------------------------ definitions

    def _define(self, part: Part, path: str) -> Response:
        body = _body(part)
        rules = definitions.Rules(self._prefix(), self.languages)
        found = _TABLE.fullmatch(path)
        name = found["name"] if found else ""
        if found and name not in self.org.schema:
            raise Refused(values.NO_ROW, f"Could not find an entity with the name {name}.", 404)
        match part.method, path if found is None else found["below"] or "itself":
            case "POST", "EntityDefinitions":
                self._start_customization("Create", "entity")
                return self._created(part, path, "table", self._add_table(body, rules))
            case "POST", "RelationshipDefinitions":
                self._start_customization("Create", "relationship")
                return self._created(part, path, "relationship", self._relate(body, rules))
            case "POST", "Attributes":
                self._start_customization("Create", "attribute")
                column = definitions.column(body, rules)
                self._add(name, column)
                return self._created(part, path, "column", f"{name}.{column.name}")
            case "POST", "Keys":
                self._start_customization("Create", "attribute")
                key = definitions.key(body, rules, self.org.schema[name])
                table = self.org.schema[name]
                self._reshape(replace(table, keys=(*table.keys, key)))
                self._due[name, key.name] = self.org.now() + self.index_time
                return self._created(part, path, "key", f"{name}.{key.name}")
            case "PUT", "itself":
                self._start_customization("Write", "entity")
                self._replace(part, name, body)
                return Response(204)
        raise Refused(values.NO_SEGMENT, f"The method '{part.method}' is not allowed here.", 405)

    def _created(self, part: Part, path: str, kind: str, name: str) -> Response:
        part_id = self.metadata.identity(name)
        self._add_to_solution(None, kind, part_id)
        return Response(204, None, {"OData-EntityId": f"{part.root}{path}({part_id})"})

    def _add_table(self, body: Mapping[str, Any], rules: definitions.Rules) -> str:
        made = definitions.table(body, rules, self.org.schema)
        self._reshape(made)
        self.roles.introduce(self._actor)
        return made.name

    def _relate(self, body: Mapping[str, Any], rules: definitions.Rules) -> str:
        child, column = definitions.lookup(body, rules, self.org.schema)
        self._add(child, column)
        return f"{child}.{column.name}"

    def _add(self, name: str, column: Column) -> None:
        table = self.org.schema[name]
        if column.name in table.columns:
            raise Refused(
                "0x80047013", f"An attribute with the specified name {column.name} already exists for {name}."
            )
        self._reshape(replace(table, columns={**table.columns, column.name: column}))
        self._fresh[table.set_name, column.read_as] = self.org.now() + self.visible_after

    def _reshape(self, table: Table) -> None:
        self.org.adopt(linked({**self.org.schema, table.name: table}))

    def _replace(self, part: Part, name: str, body: Mapping[str, Any]) -> None:
        """PUT replaces the whole definition; of what it holds only change tracking may differ here."""
        shown = self.metadata.shown(name)
        missing = sorted(shown.keys() - body.keys())
        if missing:
            raise bad_definition(f"PUT replaces the whole definition, and '{missing[0]}' is not in it.")
        changed = [each for each in shown if each != "ChangeTrackingEnabled" and body[each] != shown[each]]
        if changed:
            raise Refused(values.BAD_ARGUMENT, f"The sandbox takes no other '{changed[0]}' of {name}.")
        if part.headers.get("mscrm.mergelabels", "").lower() != "true":
            self.labels_lost.append(name)
        wanted = body["ChangeTrackingEnabled"] is True
        table = self.org.schema[name]
        if table.change_tracking and not wanted:
            raise Refused(values.BAD_ARGUMENT, f"Change tracking of {name} cannot be turned off.")
        if wanted and not (table.writable and table.trackable):
            raise Refused(values.BAD_ARGUMENT, f"Change tracking of {name} cannot be enabled.")
        self._unpublished[name] = replace(table, change_tracking=wanted)

    def _publish(self, body: Mapping[str, Any]) -> None:
        try:
            root = ET.fromstring(str(body.get("ParameterXml")))  # noqa: S314  (a sandbox on loopback)
        except ET.ParseError:
            raise bad_definition("ParameterXml is no XML.") from None
        names = [each.text or "" for each in root.findall("entities/entity")]
        if root.tag != "importexportxml" or not names:
            raise bad_definition("ParameterXml must be <importexportxml><entities><entity>…")
        for name in names:
            if name not in self.org.schema:
                raise Refused(values.NO_ROW, f"Could not find an entity with the name {name}.", 404)
            if name in self._unpublished:
                waiting = self._unpublished.pop(name)
                self._reshape(replace(self.org.schema[name], change_tracking=waiting.change_tracking))

    # ------------------------------------------------------------ what takes its time

    def _advance_indexes(self) -> None:
        for (name, key), due in list(self._due.items()):
            status = "Active" if self.org.now() >= due else "InProgress"
            self.org.set_key_status(name, key, status)
            if status == "Active":
                del self._due[name, key]

    def _reactivate(self, name: str, key_name: str) -> None:
        table = self.org.schema.get(name)
        key = next((each for each in table.keys if each.name == key_name), None) if table else None
        if key is None:
            raise Refused(values.NO_ROW, f"The entity key {key_name} does not exist.", 404)
        if key.status != "Failed":
            raise Refused(values.BAD_ARGUMENT, f"The entity key {key_name} is not in a failed state.")
        self.org.adopt(self.org.schema)  # the index is built anew
        self.org.set_key_status(name, key_name, "Pending")
        self._due[name, key_name] = self.org.now() + self.index_time

    def _visible(self, set_name: str, options: Mapping[str, str]) -> None:
        for name in options.get("$select", "").split(","):
            since = self._fresh.get((set_name, name.strip()))
            if since is not None and self.org.now() < since:
                raise bad_request(
                    f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM'."
                )

    # ------------------------------------------------------------ publishers, solutions, views

    def _publisher(self, changes: Record, before: Row | None) -> None:
        row = {**(before or {}), **changes}
        if not re.fullmatch(r"(?!mscrm)[a-z][a-z0-9]{1,7}", str(row.get("customizationprefix") or "")):
            raise Refused(
                values.BAD_ARGUMENT, "The customization prefix must hold 2 to 8 letters and digits."
            )
        if not 10_000 <= int(row.get("customizationoptionvalueprefix") or 0) <= 99_999:
            raise Refused(values.BAD_ARGUMENT, "The option value prefix must be 10000 to 99999.")
        self._unique("publisher", row, before)

    def _new_solution(self, changes: Record, before: Row | None) -> None:
        row = {**(before or {}), **changes}
        if not re.fullmatch(r"\d+(\.\d+){1,3}", str(row.get("version") or "")) or not row.get("publisherid"):
            raise Refused(values.BAD_ARGUMENT, "A solution needs a version and a publisher.")
        self._unique("solution", row, before)

    def _unique(self, name: str, row: Mapping[str, Any], before: Row | None) -> None:
        unique = str(row.get("uniquename") or "")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", unique) or not row.get("friendlyname"):
            raise Refused(values.BAD_ARGUMENT, f"A {name} needs a unique name and a display name.")
        if before is None and any(each["uniquename"] == unique for each in self.org.scan(name)):
            raise Refused(
                values.DUPLICATE_ROW, f"A {name} with the unique name {unique} already exists.", 412
            )

    def _form(self, changes: Record, before: Row | None) -> None:
        def is_view(row_id: str, table: str) -> bool:
            return any(
                row["savedqueryid"] == row_id and row["returnedtypecode"] == table
                for row in self.org.scan("savedquery")
            )

        forms.check({**(before or {}), **changes}, self.org.schema, self.languages, is_view)

    def _view(self, changes: Record, before: Row | None) -> None:
        views.check({**(before or {}), **changes}, self.org.schema)


def _body(part: Part) -> dict[str, Any]:
    if "json" not in part.headers.get("content-type", ""):
        raise Refused(values.BAD_PAYLOAD, "The Content-Type header must be application/json.", 415)
    try:
        made = json.loads(part.body)
    except ValueError:
        made = None
    if not isinstance(made, dict):
        raise bad_definition("Invalid JSON. An object was expected.")
    return made
