"""What cannot be undone, on the real wire and in both CRMs: a renamed or misspelt stage, a field that is missing, a mass tick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged
from test_acceptance_sharing import opportunity
from wired_program import CRMS, WiredProgram, cycle, wired_program

from cosell_sync.core.memory import WithheldBy
from cosell_sync.errors import Surprise
from cosell_sync.summary import NEEDS_A_PERSON

pytestmark = pytest.mark.wire

STANDBY = {"salesforce": "Prospecting", "dynamics": "On Hold"}
OURS = {"salesforce": "Cosell_Message__c", "dynamics": "cosell_message"}
POSTS = r"/v1.0/engagements/referrals"


@pytest.fixture(params=CRMS)
def crm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm, COSELL_SYNC__TERMINAL_HOLD="0s")


def unanswered(play: WiredProgram, number: int) -> None:
    for _ in range(number):
        play.sandbox.partner_center.add("inbound_received", details={"currency": "EUR", "dealValue": 84000})


def statuses(play: WiredProgram) -> set[str]:
    return {str(deal["status"]) for deal in play.sandbox.partner_center.ours()}


def rename(play: WiredProgram, old: str, new: str) -> None:
    if play.sandbox.crm == "salesforce":
        play.org.rename_stage(old, new)
    else:
        play.org.rename_status_reason(old, new)
        for row in play.org.rows("opportunity"):  # somebody touches the rows, so that they are read again
            play.org.edit("opportunity", row["opportunityid"], description="seen")


def test_a_stage_renamed_under_a_running_program_accepts_nothing(tmp_path: Path, crm: str) -> None:
    with wired_program(tmp_path, crm) as play, play.process() as wired:
        unanswered(play, 6)
        cycle(wired)
        cycle(wired)
        assert statuses(play) == {"New"}
        rename(play, STANDBY[crm], "New lead")
        codes = []
        for _ in range(4):
            try:
                codes.append(cycle(wired).exit_code)
            except Surprise:
                codes.append(NEEDS_A_PERSON)
            assert statuses(play) == {"New"}
        if crm == "salesforce":  # Dataverse's rows hold a number, so a new label alone asks for nothing
            assert codes == [NEEDS_A_PERSON] * 4
            assert {item.reason for link in wired.store.withheld() for item in link.memory.withheld} == {
                WithheldBy.STAGE
            }
        wired.crm.forget_shape()  # or the program starts again
        with pytest.raises(Surprise, match=STANDBY[crm]):
            cycle(wired)
        assert statuses(play) == {"New"}


def test_a_stage_that_is_renamed_with_its_mapping_is_left_by_who_accepts(stage: Stage, crm: str) -> None:
    """No row of Dataverse is touched by a new name, and what is remembered of the deals has the old one."""
    world = stage.sandbox.salesforce if crm == "salesforce" else stage.sandbox.dynamics
    deals = [stage.add("inbound_received") for _ in range(3)]
    stage.sync()
    (world.rename_stage if crm == "salesforce" else world.rename_status_reason)(STANDBY[crm], "New lead")
    stage.env["COSELL_MAPPING__STAGES__RECEIVED"] = "New lead"
    stage.sync()
    assert {stage.status(deal)[0] for deal in deals} == {"New"}
    stage.seller(deals[0], stage="Accepted")
    stage.sync()
    assert [stage.status(deal)[1] for deal in deals] == ["Accepted", "Received", "Received"]
    stage.quiet()


def test_a_misspelt_stage_accepts_nothing_from_a_fresh_store(tmp_path: Path, crm: str) -> None:
    """As ``doctor`` says: the records say Received, and no stage is the standby one."""
    with wired_program(tmp_path, crm) as play:
        unanswered(play, 6)
        with play.process() as wired:
            cycle(wired)
            cycle(wired)
        (tmp_path / "cosell-sync.db").unlink()
        wrong = "COSELL_MAPPING__STAGES__RECEIVED"
        with play.process(**{wrong: f"{STANDBY[crm]}g"}) as wired:
            for _ in range(3):
                ended = cycle(wired)
                assert (ended.exit_code, ended.broken >= 1) == (NEEDS_A_PERSON, True)
        assert statuses(play) == {"New"}
        with play.process() as wired:
            cycle(wired)
            assert cycle(wired).withheld == 0
        assert statuses(play) == {"New"}


def test_a_field_that_doctor_misses_is_an_exit_of_one_and_withholds(stage: Stage, crm: str) -> None:
    """Also in a fresh store, which never knew the field; once it is there, the post goes by itself."""
    world = stage.sandbox.salesforce if crm == "salesforce" else stage.sandbox.dynamics
    whole = world._org.schema
    if crm == "salesforce":
        world.hide_field("Opportunity", OURS[crm])
    else:
        world.remove_column("opportunity", OURS[crm])
    assert stage.cosell("doctor", expect=1)
    opportunity(stage)
    done = stage.sync(expect=1)
    broken = [line for line in done.events if line["event"] == "precondition.broken"]
    assert [OURS[crm] in line["check"] for line in broken] == [True]
    assert (done.finished["withheld"], done.finished["broken"], stage.pc.ours()) == (1, 1, [])
    world._org.schema = whole
    stage.sync()
    assert len(stage.pc.ours()) == 1


def test_a_mass_tick_posts_none_until_it_is_approved(stage: Stage) -> None:
    deals = [opportunity(stage, name=f"Mill {number}") for number in range(12)]
    done = stage.sync(expect=1)
    assert (done.finished["withheld"], stage.pc.ours()) == (12, [])
    record = stage.crm.get("opportunity", deals[0])
    assert record["sync_state"] == "Needs attention"
    assert "administrator can release it" in record["message"]
    listed = stage.cosell("deals", "list", "--withheld", "--json").json()
    assert [row["withheld"] for row in listed] == [[{"kind": "post", "reason": "count"}]] * 12
    held = stage.cosell("plan", "--json").json()["holds"]
    assert stage.sync(expect=1).finished["withheld"] == 12
    assert {hold["rule"].split(":")[0] for hold in held} == {"withheld"}
    stage.cosell("deals", "approve", deals[0])
    stage.sync(expect=1)
    assert len(stage.pc.ours()) == 1
    stage.cosell("deals", "approve", "--all")
    stage.sync()
    assert len(stage.pc.ours()) == 12
    assert stage.cosell("deals", "list", "--withheld", "--json").json() == []
    stage.cosell("deals", "approve", deals[0], expect=2)
    stage.cosell("deals", "approve", expect=2)


def test_accept_lets_the_whole_cycle_through(stage: Stage) -> None:
    for number in range(12):
        opportunity(stage, name=f"Mill {number}")
    stage.sync(expect=1)
    assert stage.pc.ours() == []
    stage.cosell("sync", "--accept")
    assert len(stage.pc.ours()) == 12
