"""The setup of the fake org: the Tooling API, Metadata API deployments, and what a user sees of the result.

The Tooling API lists custom fields and objects, validation rules, quick actions, compact layouts and Lightning components. A
Metadata API deployment takes a zip, checks all of it, what it deletes included, and applies all or nothing; with `checkOnly` it
only checks.

What a user sees of the result is in `access`. `may_customize` = False takes the admin's rights away.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from cosell_sync.sandbox.exchange import Response
from cosell_sync.sandbox.salesforce import query as soql_query
from cosell_sync.sandbox.salesforce import schema, soql
from cosell_sync.sandbox.salesforce.access import Access
from cosell_sync.sandbox.salesforce.custom_fields import metadata_of
from cosell_sync.sandbox.salesforce.deletion import MANIFEST, Deletion, Parts
from cosell_sync.sandbox.salesforce.deployment import Deployment, failure
from cosell_sync.sandbox.salesforce.package import Tree, multipart
from cosell_sync.sandbox.salesforce.reports import DYNAMIC
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import Field, SObject, text
from cosell_sync.sandbox.salesforce.values import Refused, make_id


def _tooling() -> dict[str, SObject]:
    def shape(name: str, prefix: str, *columns: Field) -> SObject:
        own = (Field("Id", "Id", "id", 18), text("NamespacePrefix", "Namespace"), *columns)
        return SObject(name, name, prefix, {each.name: each for each in own})

    made = (
        shape("CustomObject", "01I", text("DeveloperName", "Name"), text("SharingModel", "Sharing")),
        shape("CustomField", "00N", text("DeveloperName", "Name"), text("TableEnumOrId", "Object")),
        shape("ValidationRule", "03d", text("ValidationName", "Name"), schema.checkbox("Active", "Active")),
        shape("LightningComponentBundle", "0Rb", text("DeveloperName", "Name")),
        shape("QuickActionDefinition", "09D", text("DeveloperName", "Name"), text("EntityDefinitionId", "Object")),
        shape("CompactLayout", "0AH", text("DeveloperName", "Name"), text("SobjectType", "Object")),
    )  # fmt: skip
    return {each.name: each for each in made}


def _named(object_column: str) -> Callable[[str, Tree], dict[str, object]]:
    def columns(name: str, _: Tree) -> dict[str, object]:
        return {"DeveloperName": name.partition(".")[2], object_column: name.partition(".")[0]}

    return columns


# Type of component → its table in the Tooling API, and its columns there.
SHOWN: Final[Mapping[str, tuple[str, Callable[[str, Tree], dict[str, object]]]]] = {
    "ValidationRule": (
        "ValidationRule",
        lambda name, rule: {"ValidationName": name.partition(".")[2], "Active": rule["active"] == "true"},
    ),
    "LightningComponentBundle": ("LightningComponentBundle", lambda name, _: {"DeveloperName": name}),
    "QuickAction": ("QuickActionDefinition", _named("EntityDefinitionId")),
    "CompactLayout": ("CompactLayout", _named("SobjectType")),
}


class Setup:
    """One org's setup. `org.schema` holds everything; `access` cuts it to what a user sees."""

    def __init__(self, org: Org, clock: Callable[[], datetime]) -> None:
        self.org = org
        self.may_customize = True
        self.root = ""
        self._tooling = Org(_tooling(), clock)
        self._ids: dict[tuple[str, str], str] = {}
        self.placed: set[str] = set()  # buttons, layouts and panels that an admin put on a page, by name
        self._parts: Parts = {}
        self._deployments: dict[str, dict[str, Any]] = {}
        self.access = Access(org)

    def fill_dashboards(self) -> None:
        """As many dashboards of the viewer's own data as the edition allows, in a folder of the customer's."""
        for number in range(DYNAMIC):
            self._parts["Dashboard", f"Theirs/Dashboard_{number}"] = {"dashboardType": "LoggedInUser"}

    def remove_report(self, developer_name: str) -> None:
        """One report less, whatever shows it."""
        for key in [
            key for key in self._parts if key[0] == "Report" and key[1].endswith(f"/{developer_name}")
        ]:
            del self._parts[key]
        for row in self.org.scan("Report"):
            if row["DeveloperName"] == developer_name:
                self.org.delete("Report", row["Id"], "", trusted=True)

    def answer(
        self,
        method: str,
        steps: tuple[str, ...],
        query: Mapping[str, str],
        content_type: str,
        body: bytes,
        actor: str,
    ) -> Response:
        """The response to a Tooling or Metadata API request of that user."""
        try:
            return self._route(method, steps, query, content_type, body, actor)
        except soql.SoqlError as refused:
            return Response(400, [{"message": refused.message, "errorCode": refused.code}])
        except Refused as refused:
            return Response(refused.status, [refused.as_error()])

    def _route(
        self,
        method: str,
        steps: tuple[str, ...],
        query: Mapping[str, str],
        content_type: str,
        body: bytes,
        actor: str,
    ) -> Response:
        match method, steps:
            case "GET", ("tooling", "query") if self.may_customize:
                self._list_setup()
                found = soql_query.run(query.get("q", ""), self._tooling, f"{self.root}/tooling")
                page = {"size": found.total, "totalSize": found.total, "done": True, "records": found.records}
                return Response(200, page)
            case "GET", ("tooling", "sobjects", kind, row_id) if self.may_customize:
                return Response(200, self._shown(kind, row_id))
            case "GET", ("tooling", *_):
                raise Refused("INVALID_TYPE", "sObject type is not supported.")
            case _, ("metadata", "deployRequest", *_) if not self.may_customize:
                message = "use of the Metadata API requires a user with the ModifyAllData or ModifyMetadata permissions"
                return Response(403, [{"message": message, "errorCode": "INSUFFICIENT_ACCESS"}])
            case "POST", ("metadata", "deployRequest"):
                return self._deploy(content_type, body, actor)
            case "GET", ("metadata", "deployRequest", started) if started in self._deployments:
                return self._status(started, query)
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    # ------------------------------------------------------------ the Tooling API

    def _id(self, kind: str, name: str) -> str:
        key = (kind, name)
        return self._ids.setdefault(key, make_id(self._tooling.schema[kind].prefix, len(self._ids) + 1))

    def _list_setup(self) -> None:
        """The rows of the Tooling API, read off the schema each time."""
        tables: dict[str, dict[str, Any]] = {name: {} for name in self._tooling.schema}

        def add(kind: str, name: str, **columns: object) -> None:
            row_id = self._id(kind, name)
            tables[kind][row_id] = {"Id": row_id, "NamespacePrefix": None, **columns}

        for name, shape in self.org.schema.items():
            table = name
            if name.endswith("__c"):
                table = self._id("CustomObject", name)
                add("CustomObject", name, DeveloperName=name[:-3], SharingModel="ControlledByParent")
            for column, each in shape.fields.items():
                if each.custom:
                    add("CustomField", f"{name}.{column}", DeveloperName=column[:-3], TableEnumOrId=table)
        for (kind, name), part in self._parts.items():
            if kind in SHOWN:
                shown_as, columns = SHOWN[kind]
                add(shown_as, name, **columns(name, part))
        self._tooling.tables = tables

    def _shown(self, kind: str, row_id: str) -> dict[str, object]:
        self._list_setup()
        name = next((own for (of, own), given in self._ids.items() if of == kind and given == row_id), None)
        row = self._tooling.find(kind, row_id) if kind in self._tooling.schema else None
        if name is None or row is None:
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        url = f"{self.root}/tooling/sobjects/{kind}/{row_id}"
        shown = {"attributes": {"type": kind, "url": url}, **row, "FullName": name}
        if kind == "CustomField":
            of, _, column = name.partition(".")
            shown["Metadata"] = metadata_of(self.org.schema[of].fields[column])
        elif kind == "ValidationRule":
            rule = self._parts[kind, name]
            shown["Metadata"] = {**rule, "active": rule["active"] == "true"}
        return shown

    # ------------------------------------------------------------ the Metadata API

    def _deploy(self, content_type: str, body: bytes, actor: str) -> Response:
        parts = multipart(content_type, body)
        try:
            options = json.loads(parts["json"])["deployOptions"]
            archive = zipfile.ZipFile(io.BytesIO(parts["file"]))
        except (KeyError, ValueError, zipfile.BadZipFile):
            raise Refused(
                "INVALID_MULTIPART_REQUEST", "a part json and a part file (zip) are needed"
            ) from None
        if not (options.get("rollbackOnError") and options.get("singlePackage")):
            raise Refused("INVALID_OPERATION", "this org takes single packages with rollbackOnError only")
        files = {name: archive.read(name) for name in archive.namelist()}
        seen = self.access.visible_to(actor)
        deployment = Deployment(self.org, self._parts, dict(self.org.schema), seen)
        deployment.check(files)
        deletion = Deletion(self.org, self.access, self._parts, frozenset(self.placed))
        if MANIFEST in files:
            deletion.run(files[MANIFEST])
            deployment.failures += [failure(*each) for each in deletion.failures]
        started = make_id("0Af", len(self._deployments) + 1)
        check_only = bool(options.get("checkOnly"))
        if not deployment.failures and not check_only:
            self._apply(deployment)
            if MANIFEST in files:
                deletion.apply()
        self._deployments[started] = {
            "id": started,
            "checkOnly": check_only,
            "done": True,
            "success": not deployment.failures,
            "status": "Failed" if deployment.failures else "Succeeded",
            "numberComponentErrors": len(deployment.failures),
            "numberComponentsDeployed": 0 if deployment.failures else len(deployment.successes),
            "numberComponentsTotal": len(deployment.failures) + len(deployment.successes),
            "details": {"componentFailures": deployment.failures, "componentSuccesses": deployment.successes},
        }
        pending = {
            "id": started,
            "status": "Pending",
            "done": False,
            "success": False,
            "checkOnly": check_only,
        }
        return Response(201, {"id": started, "deployOptions": options, "deployResult": pending, "validatedDeployRequestId": None})  # fmt: skip

    def _status(self, started: str, query: Mapping[str, str]) -> Response:
        result = self._deployments[started]
        if query.get("includeDetails", "").lower() != "true":
            result = {**result, "details": None}
        return Response(200, {"id": started, "deployResult": result, "validatedDeployRequestId": None})

    def _apply(self, deployment: Deployment) -> None:
        self.org.adopt(deployment.schema)
        self.access.fields |= deployment.fields
        self.access.objects |= deployment.objects
        for act in deployment.last:
            act()
