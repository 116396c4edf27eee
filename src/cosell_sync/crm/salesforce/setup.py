"""An org's setup: what it holds of ours, and one deployment of what is missing.

Looking goes through the Tooling API, which shows the setup itself: describe would hide a field without field-level
security, and making it again would fail. Deploying goes through the Metadata API over REST: all or nothing, and with
``checkOnly`` the very same request is the dry run, judged by the org.

https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_rest_deploy.htm
https://developer.salesforce.com/docs/atlas.en-us.api_tooling.meta/api_tooling/tooling_api_objects_customfield.htm
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from simple_salesforce.exceptions import SalesforceError
from simple_salesforce.format import format_soql

from cosell_sync.crm.salesforce import composite, errors
from cosell_sync.crm.salesforce.metadata import OBJECT_RIGHTS, PANEL, Component
from cosell_sync.crm.salesforce.org import OPPORTUNITY, SOLUTION
from cosell_sync.crm.salesforce.rest import Rest, raise_refused
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Rejected, Unavailable, Unclear

PATIENCE: Final = timedelta(minutes=15)  # how long a deployment may take
HINT: Final = (
    "sign in as an admin for this one command (the daemon never needs these rights): Modify Metadata Through Metadata "
    "API Functions, View Setup and Configuration, Manage Profiles and Permission Sets, Assign Permission Sets; or "
    "deploy config/salesforce with `sf project deploy start`"
)


class SetupRefused(Rejected):
    """The org does not let this user look at or change its setup."""

    def __init__(self, error: SalesforceError) -> None:
        # Without the right, setup is answered like something that does not exist, so every refusal is read that way.
        faults = errors.faults(error.content)
        code = faults[0].code if faults else f"http_{error.status}"
        text = faults[0].text if faults else "no reason given"
        super().__init__(
            f"Salesforce does not let the signed-in user see or change the org's setup ({code}: {text})",
            code=code,
            status=error.status,
        )
        self.hint = HINT


@dataclass
class There:
    """What the org holds of ours.

    ``bodies``: component → its setup as the Tooling API shows it; empty where only its being there counts.
    ``sets``: permission set → its id.
    """

    bodies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)


def soql(text: str, *values: object) -> str:
    """A query with its values quoted."""
    return str(format_soql(text, *values))


def look(rest: Rest, wanted: Sequence[Component]) -> There:
    """A call for each component that is there, as the platform shows a setup for one row at a time only."""
    there = There()
    tables = {OPPORTUNITY: OPPORTUNITY}
    text = "SELECT Id, SharingModel FROM CustomObject WHERE NamespacePrefix = null AND DeveloperName = {}"
    for row in _rows(rest, soql(text, SOLUTION.removesuffix("__c"))):
        there.bodies[f"CustomObject {SOLUTION}"] = {"sharingModel": row.get("SharingModel")}
        tables[SOLUTION] = str(row["Id"])
    ours = {str(each) for each in wanted}
    text = "SELECT Id, DeveloperName FROM CustomField WHERE NamespacePrefix = null AND TableEnumOrId = {}"
    for name, table in tables.items():
        for row in _rows(rest, soql(text, table)):
            component = f"CustomField {name}.{row['DeveloperName']}__c"
            if component in ours:
                there.bodies[component] = _body(rest, "CustomField", str(row["Id"]))
    text = "SELECT Id FROM ValidationRule WHERE NamespacePrefix = null AND ValidationName = {}"
    for each in wanted:
        if each.type == "ValidationRule":
            for row in _rows(rest, soql(text, each.own_name)):
                there.bodies[str(each)] = _body(rest, "ValidationRule", str(row["Id"]))
    text = "SELECT Id FROM LightningComponentBundle WHERE NamespacePrefix = null AND DeveloperName = {}"
    if _rows(rest, soql(text, PANEL)):
        there.bodies[f"LightningComponentBundle {PANEL}"] = {}
    text = "SELECT DeveloperName FROM ListView WHERE NamespacePrefix = null AND SobjectType = {}"
    views = composite.query(soql(text, OPPORTUNITY))
    text = "SELECT Id, Name FROM PermissionSet WHERE NamespacePrefix = null AND Name IN {}"
    sets = composite.query(soql(text, list(OBJECT_RIGHTS)))
    for rows, kind, column in zip(
        composite.everything(rest, [views, sets]),
        (f"ListView {OPPORTUNITY}.", "PermissionSet "),
        ("DeveloperName", "Name"),
        strict=True,
    ):
        there.bodies |= {f"{kind}{row[column]}": {} for row in rows}
        if column == "Name":
            there.sets = {str(row["Name"]): str(row["Id"]) for row in rows}
    return there


def _rows(rest: Rest, query: str) -> Sequence[Mapping[str, Any]]:
    """All rows of a query about the setup."""
    found: list[Mapping[str, Any]] = []
    path: str | None = f"tooling/query/?q={quote(query, safe='')}"
    while path:
        page = _get(rest, path)
        if not isinstance(page.get("records"), list):
            raise composite.strange()
        found += page["records"]
        path = None if page.get("done", True) else str(page.get("nextRecordsUrl") or "") or None
    return found


def _body(rest: Rest, kind: str, row_id: str) -> Mapping[str, Any]:
    found = _get(rest, f"tooling/sobjects/{kind}/{row_id}").get("Metadata")
    if not isinstance(found, Mapping):
        raise composite.strange()
    return found


def _get(rest: Rest, path: str) -> Mapping[str, Any]:
    try:
        data = rest.call("GET", path).data
    except errors.refusals() as error:
        raise SetupRefused(error) from None
    if not isinstance(data, Mapping):
        raise composite.strange()
    return data


# --- deploying -----------------------------------------------------------------------------------------------------


def deploy(rest: Rest, zipped: bytes, *, check_only: bool) -> Mapping[str, str]:
    """Component that failed → the org's text, empty where all is well; under no name what concerns no component."""
    result = _finished(rest, _send(rest, zipped, check_only=check_only))
    if result.get("success"):
        return {}
    failures: dict[str, str] = {}
    found = (result.get("details") or {}).get("componentFailures")
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, Mapping):
            name = f"{each.get('componentType') or ''} {each.get('fullName') or ''}".strip()
            text = str(each.get("problem") or "no reason given")
            failures[name] = f"{failures[name]}; {text}" if name in failures else text
    return failures or {
        "": str(result.get("errorMessage") or f"the deployment ended as {result.get('status')}")
    }


def _send(rest: Rest, zipped: bytes, *, check_only: bool) -> str:
    """The id of the deployment. No test level: it carries no Apex, so the org's default runs none."""
    options = {
        "allowMissingFiles": False,
        "autoUpdatePackage": False,
        "checkOnly": check_only,
        "ignoreWarnings": False,
        "performRetrieve": False,
        "purgeOnDelete": False,
        "rollbackOnError": True,
        "singlePackage": True,
    }
    boundary = f"cosell-{secrets.token_hex(16)}"
    lines = (
        f"--{boundary}".encode(),
        b'Content-Disposition: form-data; name="json"',
        b"Content-Type: application/json",
        b"",
        json.dumps({"deployOptions": options}).encode(),
        f"--{boundary}".encode(),
        b'Content-Disposition: form-data; name="file"; filename="deploy.zip"',
        b"Content-Type: application/zip",
        b"",
        zipped,
        f"--{boundary}--".encode(),
        b"",
    )
    headers = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
    path = f"{rest.root}/metadata/deployRequest"
    answer = rest.send("POST", path, b"\r\n".join(lines), headers, repeat=False)
    try:
        if answer.status >= 300:
            raise_refused(answer, path, name="metadata/deployRequest")
    except errors.refusals() as error:
        raise SetupRefused(error) from None
    made = answer.data
    if not isinstance(made, Mapping) or not made.get("id"):
        raise Unclear(str(composite.strange()), code="unknown_shape")
    return str(made["id"])


def _finished(rest: Rest, started: str) -> Mapping[str, Any]:
    """The result of the deployment, asked for until it is done."""
    end = rest.clock() + PATIENCE
    while True:
        result = _get(rest, f"metadata/deployRequest/{started}?includeDetails=true").get("deployResult")
        if not isinstance(result, Mapping):
            raise composite.strange()
        if result.get("done"):
            return result
        if rest.clock() > end:
            raise Unavailable(
                SYSTEM,
                "the org is still working on the deployment",
                code="deployment_pending",
                hint="look at Setup > Deployment Status, then run provision again",
            )
        rest.wait(1.5)
