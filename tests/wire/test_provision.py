"""`provision` makes what an org lacks, once: the installed command against a served org that holds nothing of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acting import Done, Stage

from cosell_sync.sandbox.salesforce import INTEGRATION_USERNAME
from cosell_sync.sandbox.salesforce_values import Refused
from cosell_sync.sandbox.world import Sandbox

pytestmark = pytest.mark.wire

SETUP = ("/tooling/", "/metadata/")
DEAL = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An org that waits for its fields, and nothing in Partner Center yet."""
    with Sandbox(installed=False) as sandbox:
        yield Stage(sandbox, tmp_path)


def found(done: Done) -> dict[str, dict[str, Any]]:
    return {each["component"]: each for each in done.json()["components"]}


def statuses(done: Done) -> dict[str, int]:
    return dict(Counter(each["status"] for each in done.json()["components"]))


def test_an_empty_org_is_provisioned_once_and_then_left_alone(stage: Stage) -> None:
    stage.cosell("doctor", expect=1)
    first = stage.cosell("provision", "--json")
    assert statuses(first) == {"made": 38}
    assert first.json()["changed"]
    before = stage.crm.world.snapshot()
    stage.forget_calls()
    second = stage.cosell("provision", "--json")
    assert statuses(second) == {"there": 38}
    assert not second.json()["changed"]
    assert stage.mutations() == []
    assert stage.crm.world.snapshot() == before
    assert "Nothing was changed." in stage.cosell("provision").out


def test_after_it_doctor_is_content_and_a_sync_works(stage: Stage) -> None:
    stage.cosell("provision")
    referral = stage.add()
    doctor = stage.cosell("doctor", "--json").json()
    assert {row["status"] for row in doctor["checks"]} == {"ok"}
    stage.sync()
    deal = stage.deal(referral)
    assert deal["Cosell_Sync__c"] is True
    assert deal["Cosell_Sync_State__c"] == "In sync"
    assert stage.solutions(referral)
    stage.quiet()


def test_the_daily_user_needs_no_rights_of_an_admin(stage: Stage) -> None:
    """Once provisioned, everything but `provision` goes on without them."""
    stage.cosell("provision")
    stage.crm.world.may_customize = False
    stage.add()
    stage.forget_calls()
    stage.cosell("doctor")
    stage.sync()
    assert not [call for call in stage.servers[1].calls if any(part in call.path for part in SETUP)]


def test_a_dry_run_asks_the_org_and_writes_nothing(stage: Stage) -> None:
    before, fields = stage.crm.world.snapshot(), _fields(stage)
    done = stage.cosell("provision", "--dry-run", "--json")
    assert statuses(done) == {"to make": 38}
    assert stage.crm.world.snapshot() == before
    assert _fields(stage) == fields
    writes = [call for call in stage.servers[1].calls if call.method == "POST" and "/metadata/" in call.path]
    assert [b'"checkOnly": true' in call.body for call in writes] == [True]
    assert "Nothing was changed (dry run)" in stage.cosell("provision", "--dry-run").out
    assert statuses(stage.cosell("provision", "--json")) == {"made": 38}


def _fields(stage: Stage) -> set[str]:
    return set(stage.crm.world.described("Opportunity"))


def test_what_is_made_is_invisible_until_the_permission_set_is_assigned(stage: Stage) -> None:
    """Fields arrive without field-level security: only who has the set sees them."""
    stage.crm.world.add_user("Ada", "Admin", "admin@contoso.example")
    admin = next(row for row in stage.crm.world.users if row["Email"] == "admin@contoso.example")
    stage.cosell("provision", "--assign-to", admin["Username"])
    assert "Cosell_Sync__c" not in stage.crm.world.described("Opportunity")
    assert "Cosell_Sync__c" in stage.crm.world.described("Opportunity", by=admin["Id"])
    assert stage.cosell("doctor", expect=1).out.count("Cosell_Referral_Id__c")
    done = stage.cosell("provision", "--json")
    assert statuses(done) == {"there": 37, "made": 1}
    assert found(done)[f"PermissionSetAssignment Cosell_Sync to {INTEGRATION_USERNAME}"]["status"] == "made"
    stage.cosell("doctor")


def test_without_the_right_the_person_learns_which(stage: Stage) -> None:
    stage.crm.world.may_customize = False
    before = stage.crm.world.snapshot()
    done = stage.cosell("provision", expect=1)
    assert "does not let the signed-in user see or change the org's setup (INVALID_TYPE" in done.sentences
    assert "Modify Metadata Through Metadata API Functions" in done.sentences
    assert stage.crm.world.snapshot() == before


def test_configured_names_are_respected(stage: Stage) -> None:
    config = stage.home / "config.yaml"
    config.write_text(
        "mapping:\n  fields:\n    message: {crm: Partner_Message__c}\n    action: {crm: Partner_Answer__c}\n"
    )
    done = stage.cosell("provision", "--json", "--config", str(config))
    assert statuses(done) == {"made": 38}
    columns = _fields(stage)
    assert {"Partner_Message__c", "Partner_Answer__c"} <= columns
    assert not {"Cosell_Message__c", "Cosell_Action__c"} & columns
    stage.cosell("doctor", "--config", str(config))
    with pytest.raises(Refused, match="Choose a co-sell reason"):
        stage.crm.world.create("Opportunity", **DEAL, Partner_Answer__c="Decline")


def test_help_says_who_needs_which_rights(stage: Stage) -> None:
    told = " ".join(stage.cosell("provision", "--help").out.split())
    assert "The daemon's user needs none of them for daily work" in told
    assert "--dry-run" in told
