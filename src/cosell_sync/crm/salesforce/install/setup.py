"""An org's setup: what it has of ours, and one deployment of what is missing.

Reading uses the Tooling API, which shows the setup itself. Describe would hide a field without field-level security, and
making that field again would fail. Deploying uses the Metadata API over REST: all or nothing, and with ``checkOnly`` the
same request is the dry run, checked by the org.

https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_rest_deploy.htm
https://developer.salesforce.com/docs/atlas.en-us.api_tooling.meta/api_tooling/tooling_api_objects_customfield.htm
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cosell_sync.crm.salesforce import composite, errors
from cosell_sync.crm.salesforce.install.reports import FOLDER
from cosell_sync.crm.salesforce.install.schema import OBJECT_RIGHTS, PANEL, Component
from cosell_sync.crm.salesforce.org import ACCOUNT, OPPORTUNITY, SOLUTION
from cosell_sync.crm.salesforce.queries import soql
from cosell_sync.crm.salesforce.rest import Rest, raise_refused
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Rejected, Surprise, Unavailable, Unclear
from cosell_sync.transport.safety import Safety

if TYPE_CHECKING:
    from simple_salesforce.exceptions import SalesforceError

DEPLOYMENT_LIMIT: Final = timedelta(minutes=15)  # how long a deployment may take
HINT: Final = (
    "sign in as an admin for this one command (the daemon never needs these rights): Modify Metadata Through Metadata "
    "API Functions, View Setup and Configuration, Manage Profiles and Permission Sets, Assign Permission Sets; or "
    "deploy config/salesforce with `sf project deploy start`"
)
_NAMES: Final = "SELECT DeveloperName FROM {:literal} WHERE NamespacePrefix = null AND DeveloperName IN {}"


class SetupRefused(Rejected):
    """The org does not let this user read or change its setup."""

    def __init__(self, error: SalesforceError) -> None:
        # Without the right, the org answers as if the setup did not exist, so every refusal is taken for a missing right.
        faults = errors.faults(error.content)
        code = faults[0].code if faults else f"http_{error.status}"
        text = faults[0].text if faults else "no reason given"
        super().__init__(
            f"Salesforce does not let the signed-in user see or change the org's setup ({code}: {text})",
            code=code,
            status=error.status,
        )
        self.hint = HINT


@dataclass(frozen=True)
class Installed:
    """What the org has of ours.

    ``bodies``: component → its setup as the Tooling API shows it; empty where only its existence counts.
    ``permission_sets``: name → id. ``sees_reports``: whether the signed-in user sees reports at all.
    """

    bodies: Mapping[str, Mapping[str, Any]]
    permission_sets: Mapping[str, str]
    sees_reports: bool


def query(rest: Rest, text: str) -> Sequence[composite.Row]:
    """All rows of a query about data, which permission sets count as."""
    (rows,) = composite.everything(rest, [composite.query(text)])
    return rows


def has_field(rest: Rest, name: str, column: str) -> bool:
    """Whether the object has that field, as far as the signed-in user sees it."""
    try:
        found = rest.call("GET", f"sobjects/{name}/describe").data
    except errors.refusals():
        return False  # a user who may only set up the org need not see its records
    fields = found.get("fields") if isinstance(found, Mapping) else None
    if not isinstance(fields, list):
        raise composite.strange()
    return any(isinstance(each, Mapping) and each.get("name") == column for each in fields)


def read_installed(rest: Rest, wanted: Sequence[Component]) -> Installed:
    """What the org has of these components. One call each, because the platform shows the setup of one row at a time."""
    tables = {OPPORTUNITY: OPPORTUNITY, ACCOUNT: ACCOUNT}
    bodies: dict[str, Mapping[str, Any]] = {}
    text = "SELECT Id, SharingModel FROM CustomObject WHERE NamespacePrefix = null AND DeveloperName = {}"
    for row in _rows(rest, soql(text, SOLUTION.removesuffix("__c"))):
        bodies[f"CustomObject {SOLUTION}"] = {"sharingModel": row.get("SharingModel")}
        tables[SOLUTION] = str(row["Id"])
    bodies |= _fields(rest, wanted, tables)
    bodies |= _validation_rules(rest, wanted)
    bodies |= _page_parts(rest, wanted)
    text = "SELECT Id FROM LightningComponentBundle WHERE NamespacePrefix = null AND DeveloperName = {}"
    if _rows(rest, soql(text, PANEL)):
        bodies[f"LightningComponentBundle {PANEL}"] = {}
    views = "SELECT DeveloperName FROM ListView WHERE NamespacePrefix = null AND SobjectType = {}"
    sets = "SELECT Id, Name FROM PermissionSet WHERE NamespacePrefix = null AND Name IN {}"
    texts = [soql(views, OPPORTUNITY), soql(sets, list(OBJECT_RIGHTS))]
    view_rows, set_rows = composite.everything(rest, [*map(composite.query, texts)])
    bodies |= {f"ListView {OPPORTUNITY}.{row['DeveloperName']}": {} for row in view_rows}
    bodies |= {f"PermissionSet {row['Name']}": {} for row in set_rows}
    filed = _filed(rest, wanted)
    sets_there = {str(row["Name"]): str(row["Id"]) for row in set_rows}
    return Installed(bodies | (filed or {}), sets_there, sees_reports=filed is not None)


def _filed(rest: Rest, wanted: Sequence[Component]) -> dict[str, Mapping[str, Any]] | None:
    """What is there of reports, dashboards and their folders; None where the user sees none, as one with an integration licence."""
    listed = _in_folders(wanted)
    folders = "SELECT Type FROM Folder WHERE NamespacePrefix = null AND DeveloperName = {}"
    texts = [soql(folders, FOLDER), *(soql(_NAMES, kind, names) for kind, names in listed.items())]
    try:
        folder_rows, *others = composite.everything(rest, [*map(composite.query, texts)])
    except Surprise:
        return None
    found: dict[str, Mapping[str, Any]] = {f"{row['Type']}Folder {FOLDER}": {} for row in folder_rows}
    for kind, rows in zip(listed, others, strict=True):
        found |= {f"{kind} {FOLDER}/{row['DeveloperName']}": {} for row in rows}
    return found


def _fields(
    rest: Rest, wanted: Sequence[Component], tables: Mapping[str, str]
) -> dict[str, Mapping[str, Any]]:
    """``tables``: object → what its fields name as their table: the name of a standard object, the id of a custom one."""
    names = {str(each) for each in wanted}
    text = "SELECT Id, DeveloperName FROM CustomField WHERE NamespacePrefix = null AND TableEnumOrId = {}"
    found: dict[str, Mapping[str, Any]] = {}
    for name, table in tables.items():
        for row in _rows(rest, soql(text, table)):
            component = f"CustomField {name}.{row['DeveloperName']}__c"
            if component in names:
                found[component] = _body(rest, "CustomField", str(row["Id"]))
    return found


def _validation_rules(rest: Rest, wanted: Sequence[Component]) -> dict[str, Mapping[str, Any]]:
    text = "SELECT Id FROM ValidationRule WHERE NamespacePrefix = null AND ValidationName = {}"
    return {
        str(each): _body(rest, "ValidationRule", str(row["Id"]))
        for each in wanted
        if each.type == "ValidationRule"
        for row in _rows(rest, soql(text, each.own_name))
    }


def _page_parts(rest: Rest, wanted: Sequence[Component]) -> dict[str, Mapping[str, Any]]:
    """Buttons and compact layouts; their names carry ours, so no other object has them."""
    found: dict[str, Mapping[str, Any]] = {}
    for kind, table in (("QuickAction", "QuickActionDefinition"), ("CompactLayout", "CompactLayout")):
        ours = {each.own_name: each for each in wanted if each.type == kind}
        rows = _rows(rest, soql(_NAMES, table, list(ours)))
        found |= {str(ours[str(row["DeveloperName"])]): {} for row in rows}
    return found


def _in_folders(wanted: Sequence[Component]) -> Mapping[str, list[str]]:
    """Reports and dashboards: type → names, which are unique in the org."""
    found: dict[str, list[str]] = {"Report": [], "Dashboard": []}
    for each in wanted:
        if each.type in found:
            found[each.type].append(each.name.rpartition("/")[2])
    return found


def _rows(rest: Rest, query: str) -> Sequence[Mapping[str, Any]]:
    """All rows of a query about the setup, page after page."""
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
    """Component that failed → the org's text; empty where the deployment succeeded. What concerns no component has no name."""
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
    """The id of the deployment. It names no test level: without Apex, the org's default runs no tests."""
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
    answer = rest.send("POST", path, b"\r\n".join(lines), headers, safety=Safety.UNGUARDED)
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
    """The result of the deployment, polled until it is done. Raises `Unavailable` where it takes too long."""
    end = rest.clock() + DEPLOYMENT_LIMIT
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
