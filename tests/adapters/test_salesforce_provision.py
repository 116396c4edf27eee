"""What `provision` does to orgs that hold some of it, differ, refuse, or answer late; and how strict the sandbox's setup is."""

from __future__ import annotations

import io
import re
import ssl
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.served_salesforce import Connection
from cosell_sync.crm.report import Finding, Status
from cosell_sync.crm.salesforce.install import package, reports
from cosell_sync.crm.salesforce.install.deploy import OPTIONAL, provision
from cosell_sync.crm.salesforce.install.schema import Component, components
from cosell_sync.crm.salesforce.install.setup import SetupRefused, deploy
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.errors import Rejected, Unavailable
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.salesforce.auth import INTEGRATION_USERNAME
from cosell_sync.sandbox.salesforce.formula import parse
from cosell_sync.sandbox.salesforce.service import Salesforce
from cosell_sync.sandbox.salesforce.values import Refused
from cosell_sync.sandbox.server import Server

DEAL = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"}
ACTION = "CustomField Opportunity.Cosell_Action__c"


class World:
    """One org behind TLS. ``between``: answers in the org's place, or passes on by returning None."""

    def __init__(self, certificates: Certificates, bundle: Path, *, installed: bool = False) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
        self.org = Salesforce(lambda: self.now, cosell_fields_installed=installed)
        self.between: Callable[[Request], Response | None] = lambda _: None
        self.posts: list[str] = []
        self.slept: list[float] = []
        self.server = Server(self._serve, certificates.server_context())
        self.bundle = bundle
        self.connections: list[Connection] = []

    def _serve(self, request: Request) -> Response:
        if request.method != "GET" and not request.path.endswith(("/token", "/composite")):
            self.posts.append(request.path.rpartition(".0/")[2])
        return self.between(request) or self.org(request)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def rest(self, **options: Any) -> Rest:
        trusted = ssl.create_default_context(cafile=str(self.bundle))
        given = {"clock": lambda: self.now, "sleep": self.sleep, "verify": trusted, **options}
        made = Connection(self.server.url, **given)
        self.connections.append(made)
        return made.rest

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Served, until its clients hang up."""
        with self.server:
            yield
        for each in self.connections:
            each.close()

    def provision(self, names: Mapping[str, str] | None = None, **options: Any) -> dict[str, Finding]:
        return {each.component: each for each in provision(self.rest(), names, **options)}


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def world(certificates: Certificates, tmp_path: Path) -> Iterator[World]:
    certificates.write(tmp_path / "ca.pem")
    made = World(certificates, tmp_path / "ca.pem")
    with made.opened():
        yield made


@pytest.fixture(scope="module")
def ready(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A provisioned org for tests that only have it check something."""
    bundle = tmp_path_factory.mktemp("ready") / "ca.pem"
    certificates.write(bundle)
    made = World(certificates, bundle)
    with made.opened():
        made.provision()
        yield made


def statuses(found: Mapping[str, Finding]) -> dict[str, int]:
    return {str(status): count for status, count in Counter(each.status for each in found.values()).items()}


def with_status(found: Mapping[str, Finding], status: Status) -> set[str]:
    return {name for name, each in found.items() if each.status is status}


# --- what is there -------------------------------------------------------------------------------------------------


def test_what_differs_is_told_and_left(world: World) -> None:
    world.provision()
    world.org.change_field("Opportunity", "Cosell_Action__c", values=("Accept", "Maybe"))
    world.org.change_field("Opportunity", "Cosell_Notes__c", length=1000)
    world.posts.clear()
    found = world.provision()
    assert world.posts == []
    assert found[ACTION].status is Status.DIFFERS
    assert found[ACTION].text == "lacks the values Decline; has values that mean nothing here: Maybe"
    assert "mapping.fields.action" in found[ACTION].todo
    assert found["CustomField Opportunity.Cosell_Notes__c"].text == "holds 1000 characters, not 32000"
    assert statuses(found) == {"there": 53, "differs": 2}


def test_an_org_with_some_of_it_receives_the_rest(world: World) -> None:
    """A field that an admin took away comes back, its rights in the existing sets included."""
    world.provision()
    world.org.drop_field("Opportunity", "Cosell_Favorite__c")
    assert with_status(world.provision(), Status.MADE) == {
        "CustomField Opportunity.Cosell_Favorite__c",
        "PermissionSet Cosell_Sync Opportunity.Cosell_Favorite__c",
        "PermissionSet Cosell_Seller Opportunity.Cosell_Favorite__c",
    }
    assert "Cosell_Favorite__c" in world.org.described("Opportunity")
    assert statuses(world.provision()) == {"there": 55}


def test_a_dry_run_tells_the_grants_too(world: World) -> None:
    world.provision()
    world.org.drop_field("Opportunity", "Cosell_Favorite__c")
    before = world.org.snapshot()
    assert len(with_status(world.provision(dry_run=True), Status.TO_MAKE)) == 3
    assert world.org.snapshot() == before


def test_rights_that_an_admin_took_from_sellers_stay_taken(world: World) -> None:
    """The integration user's set is completed, that of people is not."""
    world.provision()
    for row in world.org.rows("FieldPermissions", Field="Opportunity.Cosell_Consent__c"):
        world.org.delete("FieldPermissions", row["Id"])
    found = world.provision()
    ours = found["PermissionSet Cosell_Sync Opportunity.Cosell_Consent__c"]
    theirs = found["PermissionSet Cosell_Seller Opportunity.Cosell_Consent__c"]
    assert (ours.status, theirs.status) == (Status.MADE, Status.DIFFERS)
    assert theirs.text == "does not give Read, Edit"
    assert len(world.org.rows("FieldPermissions", Field="Opportunity.Cosell_Consent__c")) == 1


def test_a_right_that_is_weaker_than_ours_is_told_not_raised(world: World) -> None:
    """A row that is there was set by somebody."""
    world.provision()
    (sync_set,) = world.org.rows("PermissionSet", Name="Cosell_Sync")
    (row,) = world.org.rows("ObjectPermissions", ParentId=sync_set["Id"], SobjectType="Contact")
    world.org.edit("ObjectPermissions", row["Id"], PermissionsCreate=False)
    found = world.provision()
    assert found["PermissionSet Cosell_Sync Contact"].text == "does not give Create"
    assert world.org.get("ObjectPermissions", row["Id"])["PermissionsCreate"] is False


def test_nobody_receives_modify_all_and_sellers_no_right_on_opportunities(world: World) -> None:
    world.provision()
    rows = world.org.rows("ObjectPermissions")
    assert not any(row["PermissionsModifyAllRecords"] for row in rows)
    (sellers,) = world.org.rows("PermissionSet", Name="Cosell_Seller")
    (on_deals,) = (r for r in rows if r["ParentId"] == sellers["Id"] and r["SobjectType"] == "Opportunity")
    assert not any(
        on_deals[f"Permissions{right}"] for right in ("Create", "Edit", "Delete", "ViewAllRecords")
    )
    (ours,) = world.org.rows("PermissionSet", Name="Cosell_Sync")
    assert [row["PermissionSetId"] for row in world.org.rows("PermissionSetAssignment")] == [ours["Id"]]


def test_fields_made_by_hand_are_recognised(certificates: Certificates, tmp_path: Path) -> None:
    certificates.write(tmp_path / "ca.pem")
    world = World(certificates, tmp_path / "ca.pem", installed=True)
    with world.opened():
        # The prepared org has the integration user's set and its assignment too.
        assert statuses(world.provision()) == {"there": 36, "made": 19}
        assert statuses(world.provision()) == {"there": 55}


def test_the_rule_that_it_makes_asks_for_a_reason(world: World) -> None:
    world.provision()
    with pytest.raises(Refused, match="Choose a co-sell reason before you decline"):
        world.org.create("Opportunity", **DEAL, Cosell_Action__c="Decline")
    world.org.create("Opportunity", **DEAL, Cosell_Action__c="Decline", Cosell_Reason__c="Other")


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_refused_component_holds_the_others_and_says_why(world: World) -> None:
    """All or nothing: here a field name that the platform does not take."""
    name = "Cosell_Message_Of_A_Length_That_Nobody_Takes__c"
    found = world.provision({"message": name})
    bad = found[f"CustomField Opportunity.{name}"]
    assert bad.status is Status.FAILED
    assert "field name is not valid" in bad.text
    assert found[ACTION].status is Status.BLOCKED
    assert found[f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}"].status is Status.BLOCKED
    assert not with_status(found, Status.MADE)
    assert "Cosell_Action__c" not in world.org.described("Opportunity")
    assert world.org.rows("PermissionSet") == []


def test_what_the_org_says_of_no_component_of_ours_is_told_too(world: World) -> None:
    refusal = {
        "componentType": "CustomObject",
        "fullName": "Opportunity",
        "problem": "too many custom fields",
    }
    result = {"done": True, "success": False, "details": {"componentFailures": refusal}}
    world.between = _result(result)
    found = world.provision()
    assert found["CustomObject Opportunity"].text == "too many custom fields"
    assert with_status(found, Status.FAILED) == {"CustomObject Opportunity"}


def test_a_deployment_that_fails_as_a_whole_is_told(world: World) -> None:
    world.between = _result({"done": True, "success": False, "status": "Canceled", "details": None})
    found = world.provision()
    assert found["deployment"].text == "the deployment ended as Canceled"


def test_a_slow_deployment_is_waited_for(world: World) -> None:
    waits = iter([True, True, *[False] * 5])  # fields, buttons, compact layout, reports, dashboard

    def slow(request: Request) -> Response | None:
        if "/deployRequest/" in request.path and next(waits):
            return Response(200, {"deployResult": {"done": False, "status": "InProgress"}})
        return None

    world.between = slow
    assert statuses(world.provision()) == {"made": 55}
    assert len(world.slept) == 2


def test_a_deployment_that_never_ends_is_given_up(world: World) -> None:
    world.between = _result({"done": False, "status": "Pending"})
    with pytest.raises(Unavailable) as caught:
        world.provision()
    assert caught.value.code == "deployment_pending"
    assert "Deployment Status" in caught.value.hint


def test_a_lost_answer_to_the_deployment_is_no_fault_of_the_next_run(world: World) -> None:
    def lost(request: Request) -> Response | None:
        if request.method == "POST" and "/deployRequest" in request.path:
            world.org(request)
            return Response(503, [{"errorCode": "SERVER_UNAVAILABLE", "message": "busy"}])
        return None

    world.between = lost
    with pytest.raises(Unavailable) as caught:
        world.provision()
    assert "run provision again" in caught.value.hint
    world.between = lambda _: None
    made = with_status(world.provision(), Status.MADE)
    assert made == {
        f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}",
        *map(str, reports.components()),
        *(str(each) for each in components() if each.type in OPTIONAL),
    }


def _result(result: Mapping[str, object]) -> Callable[[Request], Response | None]:
    return lambda request: (
        Response(200, {"deployResult": result}) if "/deployRequest/" in request.path else None
    )


def test_a_refused_assignment_keeps_what_was_made(world: World) -> None:
    """Users with an integration licence need a permission set licence first; only the org can say so."""

    def refuse(request: Request) -> Response | None:
        if request.path.endswith("/sobjects/PermissionSetAssignment"):
            fault = {
                "errorCode": "FIELD_INTEGRITY_EXCEPTION",
                "message": "the user license does not allow it",
            }
            return Response(400, [fault])
        return None

    world.between = refuse
    found = world.provision()
    assigned = found[f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}"]
    assert (assigned.status, assigned.text) == (Status.FAILED, "the user license does not allow it")
    assert "Salesforce API Integration" in assigned.todo
    made = {str(each) for each in components()}
    assert with_status(found, Status.MADE) == made


def test_the_deployment_alone_may_be_forbidden(world: World) -> None:
    def forbid(request: Request) -> Response | None:
        if request.method == "POST" and "/deployRequest" in request.path:
            return Response(403, [{"errorCode": "INSUFFICIENT_ACCESS", "message": "no"}])
        return None

    world.between = forbid
    with pytest.raises(SetupRefused) as caught:
        world.provision()
    assert caught.value.code == "INSUFFICIENT_ACCESS"
    assert "Modify Metadata" in caught.value.hint


def test_an_unknown_user_is_named_before_anything_is_made(world: World) -> None:
    with pytest.raises(Rejected, match=r"nobody@contoso\.example"):
        world.provision(assign="nobody@contoso.example")
    assert world.posts == []


def test_a_name_cannot_end_a_query(world: World) -> None:
    with pytest.raises(Rejected, match="no user"):
        world.provision(assign="x' OR Username != '")


def test_stopping_ends_the_wait(world: World) -> None:
    stop = threading.Event()

    def pending(request: Request) -> Response | None:
        if "/deployRequest/" in request.path:
            stop.set()
            return Response(200, {"deployResult": {"done": False}})
        return None

    world.between = pending
    with pytest.raises(Unavailable):
        provision(world.rest(stop=stop))


def test_a_dashboard_for_which_the_org_has_no_place_holds_nothing_else_back(world: World) -> None:
    """Editions allow few dashboards that show each viewer the viewer's own data."""
    everything = {str(each) for each in package.everything()}
    world.org.fill_dashboards()
    found = world.provision()
    dashboard = found["Dashboard Cosell/Cosell_Deals"]
    assert (dashboard.status, "limit of dynamic dashboards" in dashboard.text) == (Status.LEFT_OUT, True)
    assert with_status(found, Status.LEFT_OUT) == {"DashboardFolder Cosell", "Dashboard Cosell/Cosell_Deals"}
    assert everything - with_status(found, Status.MADE) == with_status(found, Status.LEFT_OUT)
    assert not any(each.status.needs_action for each in found.values())


def test_a_button_that_the_org_refuses_holds_nothing_else_back(world: World) -> None:
    """The daemon needs none of what sellers work with on the page."""
    refusal = {"componentType": "QuickAction", "fullName": "Opportunity.Cosell_Accept", "problem": "not here"}
    result = {"done": True, "success": False, "details": {"componentFailures": [refusal]}}

    def refuse(request: Request) -> Response | None:
        second = world.posts.count("metadata/deployRequest") == 2
        return (
            Response(200, {"deployResult": result}) if second and "/deployRequest/" in request.path else None
        )

    world.between = refuse
    found = world.provision()
    accept = found["QuickAction Opportunity.Cosell_Accept"]
    assert (accept.status, accept.text) == (Status.LEFT_OUT, "not here")
    assert "Co-sell action" in accept.todo
    assert with_status(found, Status.LEFT_OUT) == {
        f"QuickAction Opportunity.Cosell_{answer}" for answer in ("Accept", "Decline")
    }
    assert statuses(found) == {"made": 53, "left out": 2}


def test_a_user_without_reports_provisions_everything_else(world: World) -> None:
    """A user with an integration licence may have every right that provisioning needs, and no reports."""
    world.org.take_reports_away()
    found = world.provision()
    assert with_status(found, Status.LEFT_OUT) == {str(each) for each in reports.components()}
    assert {str(each) for each in components()} <= with_status(found, Status.MADE)
    assert "as an admin" in found["Report Cosell/Cosell_Unanswered"].text
    # Fields, assignment, buttons and compact layout.
    assert [each.rpartition("/")[2] for each in world.posts].count("deployRequest") == 3


def test_a_dry_run_checks_reports_only_on_fields_that_are_there(world: World) -> None:
    before = world.org.snapshot()
    assert statuses(world.provision(dry_run=True)) == {"to make": 55}
    assert world.org.snapshot() == before
    assert len(world.posts) == 1  # the deployment of the fields, checked only
    world.provision()
    for each in world.org.rows("Report"):
        world.org.remove_report(each["DeveloperName"])
    world.posts.clear()
    found = world.provision(dry_run=True)
    assert {name.partition(" ")[0] for name in with_status(found, Status.TO_MAKE)} == {"Report"}
    assert len(world.posts) == 1


# --- uninstalling --------------------------------------------------------------------------------------------------


def _uninstall(world: World, *, check_only: bool = False) -> Mapping[str, str]:
    """What the org says of the folder `uninstall`, deployed as it lies in `config/salesforce`."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in package.source_files(package.everything()).items():
            folder, _, name = path.partition("/")
            if folder == package.UNINSTALL:
                archive.writestr(name, content)
    return deploy(world.rest(), made.getvalue(), check_only=check_only)


def _unassign(world: World) -> None:
    for row in world.org.rows("PermissionSetAssignment"):
        world.org.delete("PermissionSetAssignment", row["Id"])


def _live(world: World) -> dict[str, list[Any]]:
    """The rows of every object, without what is in the Recycle Bin."""
    return {name: world.org.rows(name) for name in world.org.snapshot()}


def test_an_uninstall_leaves_the_org_as_it_was(world: World) -> None:
    kinds, fields = _live(world), set(world.org.described("Opportunity"))
    world.provision()
    world.org.create("Opportunity", **DEAL, Cosell_Notes__c="ours")
    _unassign(world)
    assert _uninstall(world, check_only=True) == {}
    assert world.org.rows("Report") != []
    assert _uninstall(world) == {}
    assert set(world.org.described("Opportunity")) == fields
    left = _live(world)
    assert [name for name in left if left[name] != kinds.get(name, [])] == ["Opportunity"]
    (deal,) = left["Opportunity"]
    assert not any(column.startswith("Cosell_") for column in deal)
    world.org.create("Opportunity", **DEAL)  # the rule is gone with its fields
    assert statuses(world.provision()) == {"made": 55}


def test_what_somebody_still_has_or_placed_is_not_deleted(world: World) -> None:
    world.provision()
    assert _uninstall(world) == {
        "PermissionSet Cosell_Sync": "You can't delete a permission set that's assigned to a user"
    }
    _unassign(world)
    world.org.place_on_page("cosellPanel", "Opportunity.Cosell_Accept")
    assert _uninstall(world).keys() >= {
        "LightningComponentBundle cosellPanel",
        "QuickAction Opportunity.Cosell_Accept",
    }
    assert "Cosell_Notes__c" in {row["Field"].partition(".")[2] for row in world.org.rows("FieldPermissions")}


def test_the_org_refuses_to_delete_what_something_names(world: World) -> None:
    world.provision()
    _unassign(world)
    files = package.source_files(package.everything())
    listed = files[f"{package.UNINSTALL}/destructiveChanges.xml"].decode()
    backwards = "<types>".join(
        [listed.partition("<types>")[0], *reversed(listed.rpartition("<version>")[0].split("<types>")[1:])]
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("package.xml", files[f"{package.UNINSTALL}/package.xml"])
        archive.writestr("destructiveChanges.xml", f"{backwards}</Package>")
    failures = deploy(world.rest(), made.getvalue(), check_only=True)
    assert "QuickAction Opportunity.Cosell_Decline" in failures["CustomField Opportunity.Cosell_Reason__c"]
    assert "Dashboard Cosell/Cosell_Deals" in failures["Report Cosell/Cosell_Unanswered"]


# --- the sandbox's setup is strict ---------------------------------------------------------------------------------


def _deployed(world: World, wanted: Sequence[Component], **replaced: bytes) -> Mapping[str, str]:
    """What the org says of a zip. ``replaced``: file by its path, or its name without suffix → other content."""
    made = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(package.bundle(wanted)))
    with zipfile.ZipFile(made, "w") as archive:
        for name in source.namelist():
            own = name.rpartition("/")[2].rpartition(".")[0]
            archive.writestr(name, replaced.get(name) or replaced.get(own) or source.read(name))
    return deploy(world.rest(), made.getvalue(), check_only=True)


def _pick(*names: str) -> list[Component]:
    return [each for each in components() if each.own_name in names]


XMLNS = b'xmlns="http://soap.sforce.com/2006/04/metadata"'


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"<type>Text</type><length>9</length><colour>red</colour>", "Can not specify 'colour'"),
        (b"<type>Text</type>", "Must specify length"),
        (b"<type>Txet</type><length>9</length>", "not a valid value"),
        (b"<type>Text</type><length>256</length>", "between 1 and 255"),
        (b"<type>LongTextArea</type><length>9</length><visibleLines>3</visibleLines>", "between 256 and"),
        (b"<type>Picklist</type>", "Must specify valueSet"),
        (b"<type>DateTime</type><length>9</length>", "Can not specify 'length'"),
    ],
)
def test_the_org_refuses_a_field_that_is_none(world: World, field: bytes, told: str) -> None:
    name = b"<fullName>Cosell_Notes__c</fullName><label>Notes</label>"
    file = b"<CustomObject %s><fields>%s%s</fields></CustomObject>" % (XMLNS, name, field)
    failures = _deployed(world, _pick("Cosell_Notes__c"), Opportunity=file)
    assert told in failures["CustomField Opportunity.Cosell_Notes__c"]


def test_the_org_refuses_what_rests_on_nothing(world: World) -> None:
    """Rules, views, sets and panels name fields, and these have to be in the org or in the same zip."""
    wanted = _pick(
        "Cosell_Decline_Needs_Reason", "Cosell_Inbound", "Cosell_Sync", "cosellPanel", "Solution_Id__c"
    )
    failures = _deployed(world, wanted)
    assert failures.keys() == {str(each) for each in wanted}


def test_the_org_refuses_a_permission_set_that_names_a_master_detail_field(world: World) -> None:
    world.provision()
    file = (
        b"<PermissionSet %s><label>X</label><fieldPermissions><editable>true</editable><field>Cosell_Solution__c."
        b"Opportunity__c</field><readable>true</readable></fieldPermissions></PermissionSet>" % XMLNS
    )
    failures = _deployed(
        world, [Component("PermissionSet", "Cosell_Seller", {"label": "X"})], Cosell_Seller=file
    )
    assert "required field" in failures["PermissionSet Cosell_Seller"]


def test_the_org_refuses_rights_without_those_they_rest_on(world: World) -> None:
    rights = {"allowRead": "true", "object": "Opportunity"}
    wanted = Component("PermissionSet", "X", {"label": "X", "objectPermissions": [rights]})
    assert _deployed(world, [wanted]) == {
        "PermissionSet X": "Permission Read Opportunity depends on permission(s): Read Account"
    }


def test_the_org_wants_files_and_manifest_to_agree(world: World) -> None:
    (notes,) = _pick("Cosell_Notes__c")
    (favorite,) = _pick("Cosell_Favorite__c")
    other = zipfile.ZipFile(io.BytesIO(package.bundle([favorite]))).read("objects/Opportunity.object")
    failures = _deployed(world, [notes], Opportunity=other)
    assert "not found in zipped directory" in failures[str(notes)]
    assert failures[str(favorite)] == "Not in package.xml"


def test_a_check_only_deployment_makes_nothing(world: World) -> None:
    assert _deployed(world, components()) == {}
    assert "Cosell_Notes__c" not in world.org.described("Opportunity")


@pytest.mark.parametrize("text", ["FOO(A__c)", 'AND(A__c, "x"', "AND(A__c) B__c", "A__c + 1", ""])
def test_a_formula_that_cannot_be_worked_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Syntax error|Unknown function"):
        parse(text)


def test_a_formula_says_when_a_record_is_broken() -> None:
    formula = parse('OR(NOT(ISBLANK(A__c)), ISPICKVAL(B__c, "No"))')
    assert formula.names == {"A__c", "B__c"}
    assert [formula.value(row) for row in ({"A__c": "x"}, {"B__c": "No"}, {"B__c": "Yes"})] == [
        True,
        True,
        False,
    ]


COMPACT = b"<CustomObject %s><compactLayouts><fullName>Cosell_Highlights</fullName>%s</compactLayouts></CustomObject>"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (b"<fields>Name</fields>" * 2 + b"<label>L</label>", "named twice"),
        (b"<fields>Name</fields>", "missing: label"),
        (b"<label>L</label>", "between 1 and 10"),
        (b"<fields>Nothing__c</fields><label>L</label>", "Invalid field"),
        (b"<fields>Cosell_Message__c</fields><label>L</label>", "cannot be used in a compact layout"),
    ],
)
def test_the_org_refuses_a_compact_layout_that_is_none(ready: World, fields: bytes, told: str) -> None:
    wanted = _pick("Cosell_Highlights", "Cosell_Message__c")
    parts = [each for each in wanted if each.type == "CustomField"]
    file = COMPACT % (XMLNS, fields)
    (kept,) = re.findall(rb"<fields>.*?</fields>", _file(parts, "objects/Opportunity.object"), re.DOTALL)
    failures = _deployed(
        ready, wanted, Opportunity=file.replace(b"<compactLayouts>", kept + b"<compactLayouts>")
    )
    assert told in failures["CompactLayout Opportunity.Cosell_Highlights"]


def _file(wanted: Sequence[Component], path: str) -> bytes:
    return zipfile.ZipFile(io.BytesIO(package.bundle(wanted))).read(path)


BUTTON = "QuickAction Opportunity.Cosell_Decline"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"<targetObject>Opportunity<", b"<targetObject>Case<", "targetObject"),
        (b"<targetObject>Opportunity</targetObject>", b"", "targetObject"),
        (b"<literalValue>Decline<", b"<literalValue>Refuse<", "Picklist value: Refuse"),
        (b"<field>Cosell_Reason__c<", b"<field>Cosell_Cause__c<", "Invalid field"),
        (b"<uiBehavior>Required<", b"<uiBehavior>Needed<", "UiBehavior"),
        (b"<optionsCreateFeedItem>false</optionsCreateFeedItem>", b"", "optionsCreateFeedItem"),
        (b"<type>Update<", b"<type>Create<", "update the record only"),
        (b"<label>Decline co-sell deal</label>", b"", "label"),
    ],
)
def test_the_org_refuses_a_button_that_is_none(ready: World, old: bytes, new: bytes, told: str) -> None:
    wanted = _pick("Cosell_Decline", "Cosell_Action__c", "Cosell_Reason__c", "Cosell_Reason_Note__c")
    good = _file(wanted, "quickActions/Opportunity.Cosell_Decline.quickAction")
    assert old in good
    assert told in _deployed(ready, wanted, **{"Opportunity.Cosell_Decline": good.replace(old, new)})[BUTTON]


WON = "Report Cosell/Cosell_Won_Lost"
SHOWN = "Dashboard Cosell/Cosell_Deals"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("Cosell_Won_Lost", b"<field>AMOUNT<", b"<field>Amount<", "Invalid value specified: Amount"),
        ("Cosell_Won_Lost", b"Opportunity.Cosell_Reason__c", b"Cosell_Reason__c", "Invalid value specified"),
        ("Cosell_Won_Lost", b"<reportType>Opportunity<", b"<reportType>Deal<", "invalid report type"),
        ("Cosell_Won_Lost", b"<value>Won,Lost<", b"<value>Won,Perdu<", "Perdu in the filter does not exist"),
        ("Cosell_Won_Lost", b"<format>Summary<", b"<format>Tabular<", "cannot have 2 groupings"),
        ("Cosell_Won_Lost", b"<dateGranularity>None<", b"<dateGranularity>Day<", "dateGranularity"),
        ("Cosell_Won_Lost", b"<name>Co-sell: Won", b"<name>Every co-sell deal: won", "max length=40"),
        ("Cosell_Won_Lost", b"<dateColumn>CLOSE_DATE<", b"<dateColumn>AMOUNT<", "timeFrameFilter"),
        ("Cosell", b"<accessLevel>View<", b"<accessLevel>Read<", "FolderShareAccessLevel"),
        ("Cosell_Deals", b"<report>Cosell/Cosell_Won_Lost<", b"<report>Cosell/None<", "Invalid report"),
        ("Cosell_Deals", b"<dashboardType>LoggedInUser<", b"<dashboardType>SpecifiedUser<", "Invalid user"),
        ("Cosell_Deals", b"<rowIndex>5<", b"<rowIndex>4<", "overlap"),
        ("Cosell_Deals", b"<column>RowCount<", b"<column>CLOSE_DATE<", "does not summarize"),
        ("Cosell_Deals", b"<textColor>#000000</textColor>", b"", "textColor"),
    ],
)
def test_the_org_refuses_reports_and_dashboards_that_are_none(
    ready: World, file: str, old: bytes, new: bytes, told: str
) -> None:
    wanted = reports.components()
    with zipfile.ZipFile(io.BytesIO(package.bundle(wanted))) as archive:
        (path,) = (
            each
            for each in archive.namelist()
            if each.endswith((f"/{file}.report", f"/{file}.dashboard", f"reports/{file}-meta.xml"))
        )
        good = archive.read(path)
    assert old in good
    failures = _deployed(ready, wanted, **{path: good.replace(old, new)})
    assert any(told in each for each in failures.values()), failures


def test_a_report_is_checked_with_the_eyes_of_who_deploys_it(world: World) -> None:
    """Fields made in the same deployment are seen by nobody yet."""
    failures = _deployed(world, [*components(), *reports.components()])
    assert failures.keys() == {str(each) for each in reports.components() if not each.type.endswith("Folder")}
