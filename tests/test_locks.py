"""What time or an admin cures is not parked, and a closed deal whose record takes nothing is done; cycles in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
import structlog

from cosell_sync.core.deal import Side, State, SyncState
from cosell_sync.cycle.context import Services
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY
from memory_systems import Fault, MemoryReferrals
from test_cycle import Play

CRM = Side.CRM
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def play() -> Play:
    return Play()


def locked_for(play: Play, hours: int) -> int:
    """An approval holds the record for so many hours; how many writes were tried."""
    tries = 0
    for _ in range(hours * 4):
        play.outside.faults[:] = [Fault(CRM.value, "locked"), Fault(CRM.value, "locked")]
        play.cycle()
        tries += len(play.outside.faults) < 2
        play.outside.now += HOUR / 4
    play.outside.faults.clear()
    return tries


def test_a_lock_of_three_days_is_waited_out(play: Play) -> None:
    """Tried hourly, no attempt counted, never parked; a day later a person is asked; then it goes on by itself."""
    play.begin()
    play.colleague(value=Decimal(200))
    assert locked_for(play, 3) in {3, 4}
    memory = play.link.memory
    assert memory.failure is not None
    assert (memory.failure.locked, memory.attempts, memory.parked) == (True, 0, False)
    assert memory.sync_state is SyncState.WAITING
    locked_for(play, 69)
    memory = play.link.memory
    assert (memory.attempts, memory.parked, memory.sync_state) == (0, False, SyncState.NEEDS_ATTENTION)
    play.outside.now += HOUR
    assert play.cycle().exit_code == NEEDS_NOBODY
    assert (play.opportunity["value"], play.opportunity["sync_state"]) == (Decimal(200), "In sync")
    play.rests()


def test_a_lock_is_counted_and_is_no_fault_for_a_day(play: Play) -> None:
    play.begin()
    play.colleague(value=Decimal(200))
    play.outside.faults += [Fault(CRM.value, "locked"), Fault(CRM.value, "locked")]
    summary = play.cycle()
    assert (summary.exit_code, summary.locked, summary.parked) == (NEEDS_NOBODY, 1, 0)
    assert play.cycle().locked == 1
    play.outside.now += timedelta(days=1)
    play.outside.faults += [Fault(CRM.value, "locked"), Fault(CRM.value, "locked")]
    assert play.cycle().exit_code == NEEDS_A_PERSON


def test_a_change_of_the_record_frees_a_lock_at_once(play: Play) -> None:
    play.begin()
    play.colleague(value=Decimal(200))
    play.outside.faults += [Fault(CRM.value, "locked"), Fault(CRM.value, "locked")]
    play.cycle()
    play.seller(notes="approved")
    play.cycle()
    assert play.opportunity["value"] == Decimal(200)


def test_a_won_deal_whose_closed_record_takes_nothing_is_done(play: Play) -> None:
    play.begin()
    play.outside.shut_when_closed = True
    play.seller(stage="Closed Won")
    for _ in range(12):
        assert play.cycle().exit_code == NEEDS_NOBODY
        play.outside.now += HOUR
    memory = play.link.memory
    assert play.referral["state"] == State.WON
    assert (memory.failure, memory.parked, memory.sync_state) == (None, False, SyncState.CLOSED)
    assert "over in Partner Center" in memory.untold
    play.rests()


def test_closed_rows_are_asked_once_and_again_after_a_day(play: Play) -> None:
    for _ in range(5):
        play.outside.new_referral(State.ACCEPTED)
    play.cycle()
    play.cycle()
    play.outside.shut_when_closed = True
    for name in play.outside.opportunities:
        assert play.outside.people(CRM, name, {"stage": "Closed Won"})
    before = play.crm.calls
    with structlog.testing.capture_logs() as logs:
        play.cycle()
    settled = [each for each in logs if each["event"] == "doubt.settled"]
    assert [(each["capability"], each["answer"]) for each in settled] == [("closed_rows", "no")]
    writes = [each for each in logs if each["event"] == "deal.untold"]
    assert len(writes) == 1
    assert play.crm.calls - before < 10
    play.rests()
    play.outside.shut_when_closed = False
    play.outside.now += timedelta(days=1)
    play.cycle()
    play.cycle()
    assert {row.fields["status"] for row in play.outside.opportunities.values()} == {"Won"}
    assert {row.fields["sync_state"] for row in play.outside.opportunities.values()} == {"Closed"}
    assert not any(link.memory.untold for link in play.store.links())
    play.rests()


def test_off_never_writes_to_a_closed_record(play: Play) -> None:
    settings = replace(play.world.settings, closed_rows="off")
    play.world = replace_settings(play, settings)
    play.begin()
    play.seller(stage="Closed Won")
    play.cycle()
    assert (play.opportunity["status"], play.link.memory.sync_state) == ("Accepted", SyncState.CLOSED)
    assert play.link.memory.untold


def test_lost_without_a_reason_that_maps_needs_a_person_though_the_record_cannot_say_so(play: Play) -> None:
    play.begin()
    play.outside.shut_when_closed = True
    play.seller(stage="Closed Lost")
    assert play.cycle().exit_code == NEEDS_A_PERSON
    assert play.cycle().exit_code == NEEDS_A_PERSON
    assert play.referral["state"] == State.ACCEPTED
    assert "To report this deal as lost, fill in Reason" in play.link.memory.untold


def test_the_crm_own_reason_is_taken_where_ours_is_empty(play: Play) -> None:
    mine = replace(play.world.rules, reasons={"closed lost": "Other vendor chosen"})
    play.world = replace_settings(play, play.world.settings, mine)
    play.begin()
    play.seller(stage="Closed Lost", reason_note="cheaper")
    assert play.cycle().exit_code == NEEDS_NOBODY
    assert (play.referral["state"], play.referral["status_reason"]) == (
        State.LOST,
        "Other vendor chosen: cheaper",
    )


def replace_settings(play: Play, settings: object, mine: object = None) -> Services:
    world = play.world
    return Services(
        MemoryReferrals(play.outside),
        play.crm,
        play.store,
        world.clock,
        mine or world.rules,
        settings,  # type: ignore[arg-type]
    )
