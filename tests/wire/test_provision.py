"""`provision` makes what a CRM lacks, once: the command against a served CRM that holds nothing of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acceptance import Done, Stage

from cosell_sync.sandbox.dataverse.auth import CLIENT_ID
from cosell_sync.sandbox.exchange import Call
from cosell_sync.sandbox.salesforce.auth import INTEGRATION_USERNAME
from cosell_sync.sandbox.salesforce.values import Refused
from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox

pytestmark = pytest.mark.wire

DEAL = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"}
ADMIN = "00000000-0000-4000-8000-0000000000ad"
ADMIN_SECRET = "sandbox-admin-secret"


@dataclass
class Ground(Stage):
    """A stage whose CRM waits for its fields, and nothing in Partner Center yet."""

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.sandbox.partner_center_server, self.sandbox.crm_server

    @property
    def org(self) -> Any:
        return self.sandbox.salesforce if self.sandbox.crm == "salesforce" else self.sandbox.dynamics

    @property
    def all(self) -> int:
        return 55 if self.sandbox.crm == "salesforce" else 53

    @property
    def fresh(self) -> Mapping[str, int]:
        """What the first run finds: two tables of Dynamics are tracked as they come."""
        return {"made": 55} if self.sandbox.crm == "salesforce" else {"made": 51, "there": 2}

    def fields(self) -> set[str]:
        if self.sandbox.crm == "salesforce":
            return set(self.sandbox.salesforce.described("Opportunity"))
        return set(self.sandbox.dynamics._org.schema["opportunity"].columns)

    def setup_calls(self) -> list[Call]:
        """What was asked of the CRM that only an admin may ask."""
        parts = (
            "/tooling/",
            "/metadata/",
            "/publishers",
            "/solutions",
            "/savedqueries",
            "PublishXml",
            "/roles",
        )
        return [
            call
            for call in self.servers[1].calls
            if any(part in call.path for part in parts)
            or ("Definitions" in call.path and call.method != "GET")
        ]


def ground(crm: str, home: Path) -> Iterator[Ground]:
    with Sandbox(installed=False, crm=crm) as sandbox:
        yield Ground(sandbox, home)


@pytest.fixture(params=["salesforce", "dynamics"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    yield from ground(request.param, tmp_path)


@pytest.fixture
def salesforce(tmp_path: Path) -> Iterator[Ground]:
    yield from ground("salesforce", tmp_path)


@pytest.fixture
def dynamics(tmp_path: Path) -> Iterator[Ground]:
    yield from ground("dynamics", tmp_path)


def found(done: Done) -> dict[str, dict[str, Any]]:
    return {each["component"]: each for each in done.json()["components"]}


def statuses(done: Done) -> dict[str, int]:
    return dict(Counter(each["status"] for each in done.json()["components"]))


def test_an_empty_org_is_provisioned_once_and_then_left_alone(stage: Ground) -> None:
    assert "cosell-sync provision" in stage.cosell("doctor", expect=1).out
    first = stage.cosell("provision", "--json")
    assert statuses(first) == stage.fresh
    assert first.json()["changed"]
    before = stage.org.snapshot()
    stage.forget_calls()
    second = stage.cosell("provision", "--json")
    assert statuses(second) == {"there": stage.all}
    assert not second.json()["changed"]
    assert stage.mutations() == []
    assert stage.org.snapshot() == before
    assert "Nothing was changed." in stage.cosell("provision").out


def test_after_it_doctor_is_content_and_a_sync_works(stage: Ground) -> None:
    stage.cosell("provision")
    stage.add(
        "inbound_accepted",
        details={"requirements": {"solutions": [{"id": "SOL-1", "name": "One", "type": "Solutions"}]}},
    )
    doctor = stage.cosell("doctor", "--json").json()
    others = [
        row for row in doctor["checks"] if not row["name"].startswith("value_lists.")
    ]  # those age with the year
    assert {row["status"] for row in others} == {"ok"}
    stage.sync()
    (deal,) = stage.sandbox.seller.deals()
    assert (deal["sync"], deal["sync_state"]) == (True, "In sync")
    assert stage.sandbox.seller.solutions() == {deal["id"]: {"SOL-1"}}
    stage.quiet()


def test_the_daily_user_needs_no_rights_of_an_admin(salesforce: Ground) -> None:
    """Once provisioned, everything but `provision` goes on without them."""
    stage = salesforce
    stage.cosell("provision")
    stage.sandbox.salesforce.may_customize = False
    stage.add()
    stage.forget_calls()
    stage.cosell("doctor")
    stage.sync()
    assert stage.setup_calls() == []


def test_an_admins_application_provisions_for_the_daemons(dynamics: Ground) -> None:
    """The daemon's application has no role but the one it is given, and that is enough for daily work."""
    stage, org = dynamics, dynamics.sandbox.dynamics
    org.enforce_roles(org.register_app(ADMIN, ADMIN_SECRET))
    refused = stage.cosell("provision", expect=1)
    assert "does not let the signed-in user see or change the setup" in refused.sentences
    assert "System Administrator" in refused.sentences
    admin = {"COSELL_DYNAMICS__CLIENT_ID": ADMIN, "COSELL_DYNAMICS__CLIENT_SECRET": ADMIN_SECRET}
    stage.cosell("provision", "--assign-to", CLIENT_ID, **admin)
    stage.add()
    stage.forget_calls()
    stage.cosell("doctor")
    stage.sync()
    assert stage.setup_calls() == []
    (deal,) = stage.sandbox.seller.deals()
    assert deal["sync_state"] == "In sync"


def test_a_dry_run_asks_the_org_and_writes_nothing(stage: Ground) -> None:
    before, fields = stage.org.snapshot(), stage.fields()
    done = stage.cosell("provision", "--dry-run", "--json")
    assert statuses(done) == {
        {"made": "to make"}.get(status, status): count for status, count in stage.fresh.items()
    }
    assert stage.org.snapshot() == before
    assert stage.fields() == fields
    writes = [call for call in stage.setup_calls() if call.method != "GET"]
    judged = (
        stage.sandbox.crm == "salesforce"
    )  # by a deployment that is only checked; Dataverse knows no such thing
    assert [b'"checkOnly": true' in call.body for call in writes] == ([True] if judged else [])
    assert "Nothing was changed (dry run)" in stage.cosell("provision", "--dry-run").out
    assert statuses(stage.cosell("provision", "--json")) == stage.fresh


def test_what_is_made_is_invisible_until_the_permission_set_is_assigned(salesforce: Ground) -> None:
    """Fields arrive without field-level security: only who has the set sees them."""
    stage = salesforce
    stage.sandbox.salesforce.add_user("Ada", "Admin", "admin@contoso.example")
    admin = next(row for row in stage.sandbox.salesforce.users if row["Email"] == "admin@contoso.example")
    first = found(stage.cosell("provision", "--json", "--assign-to", admin["Username"]))
    assert "Cosell_Sync__c" not in stage.sandbox.salesforce.described("Opportunity")
    assert "Cosell_Sync__c" in stage.sandbox.salesforce.described("Opportunity", by=admin["Id"])
    assert "cannot see opportunities" in " ".join(stage.cosell("doctor", expect=1).out.split())
    done = stage.cosell("provision", "--json")
    # Reports are made by somebody who sees their fields; until then they are left out, and nothing else is.
    left = {name for name, each in first.items() if each["status"] == "left out"}
    assert {name.partition(" ")[0] for name in left} == {
        "ReportFolder",
        "Report",
        "DashboardFolder",
        "Dashboard",
    }
    assert statuses(done) == {"there": 47, "made": 1 + len(left)}
    assert found(done)[f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}"]["status"] == "made"
    stage.cosell("doctor")


def test_without_the_right_the_person_learns_which(salesforce: Ground) -> None:
    stage = salesforce
    stage.sandbox.salesforce.may_customize = False
    before = stage.sandbox.salesforce.snapshot()
    done = stage.cosell("provision", expect=1)
    assert "does not let the signed-in user see or change the org's setup (INVALID_TYPE" in done.sentences
    assert "Modify Metadata Through Metadata API Functions" in done.sentences
    assert stage.sandbox.salesforce.snapshot() == before


def test_what_differs_is_told_and_needs_a_person(dynamics: Ground) -> None:
    stage = dynamics
    stage.cosell("provision")
    stage.sandbox.dynamics.change_column("opportunity", "cosell_notes", length=1000)
    stage.forget_calls()
    done = stage.cosell("provision", "--json", expect=1)
    assert statuses(done) == {"there": 52, "differs": 1}
    assert not done.json()["ok"]
    assert stage.mutations() == []
    assert "holds 1000 characters, not 32000" in stage.cosell("provision", expect=1).out


def test_configured_names_are_respected(stage: Ground) -> None:
    salesforce = stage.sandbox.crm == "salesforce"
    message, action = (
        ("Partner_Message__c", "Partner_Answer__c")
        if salesforce
        else ("cosell_partnermessage", "cosell_partneranswer")
    )
    config = stage.home / "config.yaml"
    config.write_text(
        f"mapping:\n  fields:\n    message: {{crm: {message}}}\n    action: {{crm: {action}}}\n"
    )
    done = stage.cosell("provision", "--json", "--config", str(config))
    assert statuses(done) == stage.fresh
    columns = stage.fields()
    assert {message, action} <= columns
    assert not {"Cosell_Message__c", "Cosell_Action__c", "cosell_message", "cosell_action"} & columns
    stage.cosell("doctor", "--config", str(config))
    if salesforce:  # Dataverse has no validation rule: a decline without a reason is told on the record
        with pytest.raises(Refused, match="Choose a co-sell reason"):
            stage.sandbox.salesforce.create("Opportunity", **DEAL, Partner_Answer__c="Decline")


def test_help_says_who_needs_which_rights(stage: Ground) -> None:
    told = " ".join(stage.cosell("provision", "--help").out.split())
    assert "The daemon's user needs none of them for daily work" in told
    assert "--dry-run" in told
