"""What `provision` does to orgs that hold some of it, differ, refuse, or answer late; and how strict the sandbox's setup is."""

from __future__ import annotations

import io
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
from cosell_sync.crm.salesforce.install import package
from cosell_sync.crm.salesforce.install.deploy import provision
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
    assert statuses(found) == {"there": 42, "differs": 2}


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
    assert statuses(world.provision()) == {"there": 44}


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
        assert statuses(world.provision()) == {"there": 36, "made": 8}
        assert statuses(world.provision()) == {"there": 44}


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
    waits = iter([True, True, False])

    def slow(request: Request) -> Response | None:
        if "/deployRequest/" in request.path and next(waits):
            return Response(200, {"deployResult": {"done": False, "status": "InProgress"}})
        return None

    world.between = slow
    assert statuses(world.provision()) == {"made": 44}
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
    assert with_status(world.provision(), Status.MADE) == {
        f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}"
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
    assert statuses(found) == {"made": 43, "failed": 1}


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


# --- the sandbox's setup is strict ---------------------------------------------------------------------------------


def _deployed(world: World, wanted: Sequence[Component], **replaced: bytes) -> Mapping[str, str]:
    """What the org says of a zip. ``replaced``: file by its name without suffix → other content."""
    made = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(package.bundle(wanted)))
    with zipfile.ZipFile(made, "w") as archive:
        for name in source.namelist():
            own = name.rpartition("/")[2].partition(".")[0]
            archive.writestr(name, replaced.get(own, source.read(name)))
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
