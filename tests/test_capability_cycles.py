"""Questions that settle themselves: one real deal tries, the answer counts for all; cycles in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import structlog

from cosell_sync.core.capabilities import Capability
from cosell_sync.core.deal import Side, State
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.cycle.dry_run import DryCrm, DryReferrals
from cosell_sync.summary import NEEDS_NOBODY
from memory_systems import Fault, rules
from test_cycle import Play

PC, CRM = Side.PARTNER_CENTER, Side.CRM
BASIS = dict.fromkeys((Capability.WRITE_NAME, Capability.WRITE_FAVORITE), "https://api/v1.0")
KEPT = "Name stays as you wrote it in the CRM but was not sent: Partner Center takes no new name."


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def play() -> Play:
    play = Play()
    mine = rules(write_name=None, write_favorite=None, terminal_hold=timedelta())
    play.world = replace(play.world, rules=mine, settings=replace(play.world.settings, basis=BASIS))
    return play


def settled(logs: list[Any]) -> list[tuple[str, str, str]]:
    found = [each for each in logs if each["event"] == "doubt.settled" and each["side"] == PC]
    return [(each["capability"], each["answer"], each["code"]) for each in found]


def deals(play: Play, number: int) -> None:
    for _ in range(number):
        play.outside.new_referral(State.ACCEPTED)
    play.cycle()
    play.cycle()


def calls(play: Play) -> int:
    """The PATCHes of the next cycle."""
    counted = []
    play.number += 1
    play.outside.at = lambda where: counted.append(where) if where == "partner_center.write" else None
    with play.store.lease(timedelta()):
        run_cycle(play.world, f"c{play.number}")
    assert not play.outside.violations
    return len(counted)


def test_a_name_entered_with_the_accept_reaches_partner_center(play: Play, logs: list[Any]) -> None:
    """The first time by a PATCH of its own after the accept; once it is known, in the accept itself."""
    play.begin(State.RECEIVED)
    play.seller(name="Ours", action="Accept", favorite=True)
    assert calls(play) == 3
    assert (play.referral["name"], play.referral["favorite"], play.referral["state"]) == (
        "Ours",
        True,
        State.ACCEPTED,
    )
    assert settled(logs) == [
        ("mapping.write_name", "yes", "taken"),
        ("mapping.write_favorite", "yes", "taken"),
    ]
    assert play.opportunity["sync_state"] == "In sync"
    assert "Name" in str(play.opportunity["message"])
    play.cycle()
    play.rests()
    play.outside.new_referral()
    play.cycle()
    play.cycle()
    assert play.outside.people(CRM, "O2", {"name": "Also", "action": "Accept", "value": Decimal(7)})
    assert calls(play) == 1, "accept, name and value in one PATCH"
    assert play.outside.referrals["R2"].fields["name"] == "Also"
    assert len(settled(logs)) == 2, "logged once"


@pytest.mark.parametrize("world", ["refused", "ignored"])
def test_a_name_that_is_not_taken_stays_in_the_crm_and_holds_nothing(
    play: Play, logs: list[Any], world: str
) -> None:
    play.outside.doubtful["name"] = world
    play.begin()
    play.seller(name="Ours", value=Decimal(7), stage="Closed Won")
    summary = play.cycle()
    assert (summary.exit_code, summary.failed, summary.conflicts) == (NEEDS_NOBODY, 0, 0)
    assert (play.referral["state"], play.referral["value"]) == (State.WON, Decimal(7))
    assert (play.referral["name"], play.opportunity["name"]) == ("Deal 1", "Ours")
    code = "invalidRequest" if world == "refused" else "ignored"
    assert settled(logs) == [("mapping.write_name", "no", code)]
    play.cycle()
    play.rests()


@pytest.mark.parametrize("world", ["refused", "ignored"])
def test_what_is_known_not_to_be_taken_costs_no_call(play: Play, logs: list[Any], world: str) -> None:
    """Of several deals one tries; the others, in this cycle and later ones, are told as always, once."""
    play.outside.doubtful["name"] = world
    deals(play, 4)
    for number in range(1, 5):
        assert play.outside.people(CRM, f"O{number}", {"name": f"New {number}"})
    assert calls(play) == 1
    for number in range(1, 5):
        row = play.outside.opportunities[f"O{number}"].fields
        assert row["name"] == f"New {number}"
        assert str(row["message"]).count(KEPT) == 1
    assert play.outside.people(CRM, "O2", {"value": Decimal(8)})
    assert calls(play) == 1
    assert calls(play) == 0
    assert len(settled(logs)) == 1
    play.rests()


def test_the_others_follow_in_the_same_cycle_where_the_first_was_taken(play: Play, logs: list[Any]) -> None:
    deals(play, 4)
    for number in range(1, 5):
        assert play.outside.people(CRM, f"O{number}", {"name": f"New {number}", "value": Decimal(8)})
    assert calls(play) == 5, "the first in two, the others in one each"
    assert {row.fields["name"] for row in play.outside.referrals.values()} == {
        f"New {n}" for n in range(1, 5)
    }
    assert len(settled(logs)) == 1
    play.cycle()
    play.rests()


def test_a_try_that_says_nothing_is_made_once_a_cycle(play: Play, logs: list[Any]) -> None:
    """A fault of the system is no answer: the deal is due again, and so are the others, who did not try."""
    deals(play, 3)
    for number in range(1, 4):
        assert play.outside.people(CRM, f"O{number}", {"name": f"New {number}"})
    play.outside.faults.append(Fault(PC, "flaky"))
    assert calls(play) == 1
    assert not settled(logs)
    assert calls(play) == 3
    assert {row.fields["name"] for row in play.outside.referrals.values()} == {
        f"New {n}" for n in range(1, 4)
    }
    play.cycle()
    play.rests()


def test_a_colleague_who_renames_in_that_moment_settles_nothing(play: Play, logs: list[Any]) -> None:
    """What stands there is neither the old name nor ours."""
    play.begin()
    play.seller(name="Ours")
    play.cycle(landed=lambda: play.colleague(name="Theirs"))
    assert settled(logs) == []


def test_a_no_is_asked_again_after_a_month(play: Play, logs: list[Any]) -> None:
    play.outside.doubtful["name"] = "refused"
    play.begin()
    play.seller(name="Ours")
    play.cycle()
    play.cycle()
    play.outside.doubtful.clear()
    play.outside.now += timedelta(days=29)
    assert calls(play) == 0
    play.outside.now += timedelta(days=1)
    assert calls(play) == 1
    assert play.referral["name"] == "Ours"
    assert [answer for _, answer, _ in settled(logs)] == ["no", "yes"]
    play.outside.now += timedelta(days=400)
    play.cycle()
    assert [verdict.answer for verdict in play.store.verdicts()] == ["yes"], "a yes stands"


@pytest.mark.parametrize(
    ("configured", "basis"), [(None, "https://api/v2.0"), (True, None)], ids=["api", "setting"]
)
def test_it_is_forgotten_with_the_setting_or_the_version_of_the_api(
    play: Play, configured: bool | None, basis: str | None
) -> None:
    play.outside.doubtful["name"] = "ignored"
    play.begin()
    play.seller(name="Ours")
    play.cycle()
    assert [verdict.answer for verdict in play.store.verdicts()] == ["no"]
    play.outside.doubtful.clear()
    now = {Capability.WRITE_NAME: basis} if basis else {}
    settings = replace(play.world.settings, basis=now)
    play.world = replace(
        play.world, settings=settings, rules=replace(play.world.rules, write_name=configured)
    )
    play.cycle()
    assert play.referral["name"] == "Ours"
    assert [verdict.basis for verdict in play.store.verdicts()] == ([basis] if basis else [])


def test_a_yes_that_a_write_contradicts_is_a_no(play: Play, logs: list[Any]) -> None:
    """The value goes along all the same, and the seller is told as if it had been known."""
    play.begin()
    play.seller(name="Ours")
    play.cycle()
    play.outside.doubtful["name"] = "ignored"
    play.seller(name="Other", value=Decimal(9))
    summary = play.cycle()
    assert (summary.conflicts, summary.exit_code) == (0, NEEDS_NOBODY)
    assert (play.referral["name"], play.referral["value"]) == ("Ours", Decimal(9))
    assert [answer for _, answer, _ in settled(logs)] == ["yes", "no"]
    assert KEPT in str(play.opportunity["message"])
    play.cycle()
    play.rests()


def test_a_deal_that_is_declined_tries_nothing(play: Play, logs: list[Any]) -> None:
    play.begin(State.RECEIVED)
    play.seller(name="Ours", action="Decline", reason="Other")
    assert calls(play) == 1
    assert play.referral["state"] == State.DECLINED
    assert settled(logs) == []


def test_a_configured_answer_is_never_asked(play: Play, logs: list[Any]) -> None:
    play.world = replace(play.world, rules=replace(play.world.rules, write_name=False))
    play.begin()
    play.seller(name="Ours")
    assert calls(play) == 0
    assert settled(logs) == []


def test_a_promise_made_before_the_answer_is_taken_back(play: Play) -> None:
    """An unanswered deal was told that its new name goes along with the accept; another deal found out that it does not."""
    play.outside.doubtful["name"] = "refused"
    play.begin(State.RECEIVED)
    play.seller(name="Ours")
    play.cycle()
    assert "Accepting also sends your Name" in str(play.opportunity["message"])
    play.outside.new_referral(State.ACCEPTED)
    play.cycle()
    play.cycle()
    assert play.outside.people(CRM, "O2", {"name": "Other"})
    play.cycle()
    play.cycle()
    assert KEPT in str(play.opportunity["message"])
    assert "Accepting also sends" not in str(play.opportunity["message"])
    play.rests()


def test_a_plan_shows_every_try_as_one_and_settles_nothing(play: Play, logs: list[Any]) -> None:
    deals(play, 2)
    for number in (1, 2):
        assert play.outside.people(CRM, f"O{number}", {"name": f"New {number}"})
    found: list[Any] = []
    dry = replace(
        play.world, referrals=DryReferrals(play.world.referrals), crm=DryCrm(play.crm), rehearsal=True
    )
    with play.store.lease(timedelta()):
        run_cycle(dry, "plan", collect=found.append)
    planned = {
        (effect.new, effect.rule)
        for plan in found
        for effect in plan.effects
        if effect.side is PC and effect.field == "name"
    }
    words = "changed in the CRM; a try: whether Partner Center takes this is not known yet"
    assert planned == {("New 1", words), ("New 2", words)}
    assert settled(logs) == []
    assert play.store.verdicts() == []
