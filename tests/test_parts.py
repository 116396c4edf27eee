"""What a side refuses of a deal is held by itself: the rest is exchanged, the record says so once, and it is tried again
when something of it changes. Played on the real cycle over two systems in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
import structlog

from core.deals import rules
from cosell_sync.core.deal import Customer, Member, Side, State, SyncState, Value
from cosell_sync.core.memory import Action, OperatorCommand, Verb
from cosell_sync.core.rules import AccountUpdates
from cosell_sync.errors import Cure
from test_cycle import Play

PC, CRM = Side.PARTNER_CENTER, Side.CRM
ANN, BOB, CID = Member("ann@x.example"), Member("bob@x.example"), Member("cid@x.example")


@pytest.fixture(autouse=True)
def events() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as logs:
        yield logs  # type: ignore[misc]


@pytest.fixture
def play() -> Play:
    made = Play()
    made.begin()
    return made


def message(play: Play) -> str:
    return str(play.opportunity["message"])


def named(events: list[dict[str, object]]) -> list[object]:
    return [each["field"] for each in events if each["event"] == "deal.field_refused"]


def test_a_fixed_currency_keeps_only_the_amount_out(play: Play, events: list[dict[str, object]]) -> None:
    """The amount goes with its currency: 110 JPY are not 110 of what the record has."""
    play.outside.refuses["currency"] = lambda _: True
    amount, currency = play.opportunity["value"], play.opportunity["currency"]
    play.colleague(currency="JPY", value=Decimal(110), notes="new", close_date=date(2027, 5, 1))
    summary = play.cycle()
    assert (play.opportunity["notes"], play.opportunity["close_date"]) == ("new", date(2027, 5, 1))
    assert (play.opportunity["value"], play.opportunity["currency"]) == (amount, currency)
    assert (play.referral["value"], play.referral["currency"]) == (Decimal(110), "JPY")
    assert "did not take JPY for Currency" in message(play)
    assert play.opportunity["sync_state"] == SyncState.NEEDS_ATTENTION
    assert (summary.failed, play.link.memory.failure, play.link.memory.attempts) == (0, None, 0)
    assert sorted(map(str, named(events))) == ["currency", "value"]
    play.rests()
    play.rests()
    assert len(named(events)) == 2


def test_a_refused_field_is_sent_again_once_it_or_the_record_changes(
    play: Play, events: list[dict[str, object]]
) -> None:
    play.outside.refuses["notes"] = lambda value: value != "fine"
    play.colleague(notes="bad")
    play.cycle()
    play.colleague(campaign_id="c-9")  # another field, written by us: no reason to try again
    play.cycle()
    assert (play.opportunity["campaign_id"], len(named(events))) == ("c-9", 1)
    play.rests()
    play.seller(name="Other")  # the seller's record may meet the rule now
    play.cycle()
    assert len(named(events)) == 2
    play.rests()
    play.colleague(notes="fine")
    play.cycle()
    assert play.opportunity["notes"] == "fine"
    assert "did not take" not in message(play)
    assert play.link.memory.refused == {}
    play.rests()


def test_deals_retry_sends_a_refused_field_again(play: Play) -> None:
    play.outside.refuses["notes"] = lambda _: True
    play.colleague(notes="new", campaign_id="c-4")
    play.cycle()
    play.outside.refuses.clear()
    play.rests()
    play.store.submit(OperatorCommand("1", Verb.RETRY, "R1"))
    play.cycle()
    assert play.opportunity["notes"] == "new"


def test_an_edit_of_the_other_side_settles_a_refusal(play: Play) -> None:
    play.outside.refuses["notes"] = lambda _: True
    play.colleague(notes="new", campaign_id="c-4")
    play.cycle()
    assert "did not take" in message(play)
    play.seller(notes="new")
    play.cycle()
    assert "did not take" not in message(play)
    assert play.link.memory.refused == {}
    play.rests()


@pytest.mark.parametrize("field", ["close_date", "solutions", "contacts"])
def test_a_field_that_partner_center_refuses_does_not_hold_the_win(
    play: Play, events: list[dict[str, object]], field: str
) -> None:
    play.outside.refuses_there[field] = lambda _: True
    before = play.referral[field]
    values: dict[str, Value] = {
        "close_date": date(2027, 5, 1), "solutions": (), "contacts": (ANN,), "notes": "the last word",
    }  # fmt: skip
    given = {name: values[name] for name in (field, "notes") if values[name] != ()}
    play.seller(**given, stage="Closed Won", consent=True)
    play.cycle()
    assert play.referral["state"] == State.WON
    assert (play.referral["notes"], play.referral[field]) == ("the last word", before)
    if field != "solutions":
        assert named(events) == [field]
    play.cycle()
    play.rests()


def test_a_refused_field_of_an_open_deal_is_told_and_rests(play: Play) -> None:
    play.outside.refuses_there["close_date"] = lambda _: True
    play.seller(close_date=date(2027, 5, 1), notes="new")
    summary = play.cycle()
    assert play.referral["notes"] == "new"
    assert "Partner Center did not take 1 May 2027 for Close Date" in message(play)
    assert "Notes" in message(play)
    assert (summary.failed, play.link.memory.failure) == (0, None)
    play.rests()


@pytest.mark.parametrize("side", [PC, CRM])
def test_a_field_that_is_refused_alone_is_a_failure_of_the_deal(play: Play, side: Side) -> None:
    """With growing pauses, then parked: nothing of the deal has landed. The record names the field all along."""
    if side is PC:
        play.outside.refuses_there["close_date"] = lambda _: True
        play.seller(close_date=date(2027, 5, 1))
    else:
        play.outside.refuses["close_date"] = lambda _: True
        play.colleague(close_date=date(2027, 5, 1))
    assert play.cycle().failed == 1
    for _ in range(40):
        failure = play.link.memory.failure
        assert failure is not None
        assert (failure.side, failure.fields, play.link.memory.refused) == (side, ("close_date",), {})
        assert "refused the last change of Close Date: not so: close_date" in message(play)
        assert play.opportunity["sync_state"] == SyncState.NEEDS_ATTENTION
        play.outside.now += timedelta(hours=1)
        play.cycle()
    assert (play.link.memory.parked, play.link.memory.attempts) == (True, 3)


def test_what_was_held_stays_held_though_it_is_then_refused_alone(play: Play) -> None:
    play.outside.refuses["notes"] = lambda _: True
    play.colleague(notes="new", campaign_id="c-4")
    assert play.cycle().failed == 0
    play.outside.now += timedelta(hours=2)
    assert play.cycle().failed == 0
    assert play.link.memory.refused["notes"].tries == 2
    play.rests()


def test_a_saved_record_frees_a_parked_deal_for_one_try(play: Play) -> None:
    """What the seller mended may be no field that we read."""
    play.outside.refuses["close_date"] = lambda _: True
    play.colleague(close_date=date(2027, 5, 1))
    for _ in range(10):
        play.outside.now += timedelta(hours=1)
        play.cycle()
    assert play.link.memory.parked
    play.outside.saves("O1")
    play.cycle()
    assert (play.link.memory.parked, play.link.memory.attempts) == (True, 4)
    play.outside.refuses.clear()
    play.outside.saves("O1")
    play.cycle()
    assert (play.opportunity["close_date"], play.opportunity["sync_state"]) == (date(2027, 5, 1), "In sync")
    play.rests()


@pytest.mark.parametrize("side", [PC, CRM])
def test_a_held_field_goes_at_once_when_a_person_saves_the_record(
    play: Play, events: list[dict[str, object]], side: Side
) -> None:
    refuses = play.outside.refuses_there if side is PC else play.outside.refuses
    refuses["notes"] = lambda _: True
    (play.seller if side is PC else play.colleague)(notes="new", campaign_id="c-4")
    play.cycle()
    play.rests()
    play.outside.saves("O1")
    play.cycle()
    assert len(named(events)) == 2
    play.rests()
    refuses.clear()
    play.outside.saves("O1")
    play.cycle()
    assert (play.opportunity["notes"], play.referral["notes"]) == ("new", "new")
    assert play.opportunity["sync_state"] == SyncState.IN_SYNC
    assert "did not take" not in message(play)
    play.rests()


@pytest.mark.parametrize("side", [PC, CRM])
def test_a_held_field_is_tried_by_itself_ever_more_rarely_and_the_record_keeps_its_words(
    play: Play, events: list[dict[str, object]], side: Side
) -> None:
    """Whoever ends a refusal may do it elsewhere. The record says the same until it has landed, and is not touched."""
    refuses = play.outside.refuses_there if side is PC else play.outside.refuses
    refuses["notes"] = lambda _: True
    (play.seller if side is PC else play.colleague)(notes="new", campaign_id="c-4")
    play.cycle()
    before, words = play.outside.opportunities["O1"].version, message(play)
    assert "did not take new for Notes" in words
    assert "Taken over from Partner Center: Notes" not in words
    tried: list[int] = []
    for hour in range(24 * 5):
        known = len(named(events))
        play.outside.now += timedelta(hours=1)
        play.cycle()
        tried += [hour + 1] * (len(named(events)) - known)
    assert tried[:5] == [1, 3, 7, 15, 31]
    assert max(later - one for one, later in pairwise(tried)) <= 26
    assert (play.outside.opportunities["O1"].version, message(play)) == (before, words)
    refuses.clear()
    for _ in range(26):
        play.outside.now += timedelta(hours=1)
        play.cycle()
    assert (play.opportunity["notes"], play.referral["notes"]) == ("new", "new")
    assert play.opportunity["sync_state"] == SyncState.IN_SYNC
    assert "Notes" in message(play)
    assert "did not take" not in message(play)
    play.rests()


@pytest.mark.parametrize("side", [PC, CRM])
def test_held_fields_are_tried_one_at_a_time(play: Play, side: Side) -> None:
    """So that one whose refusal is over is not kept out by another."""
    refused = {name: lambda _: True for name in ("notes", "name", "close_date")}
    play.outside.refuses, play.outside.refuses_there = (refused, {}) if side is CRM else ({}, refused)
    edits = play.colleague if side is CRM else play.seller
    edits(notes="new", name="New", close_date=date(2027, 5, 1), campaign_id="c-4")
    play.cycle()
    words = message(play)
    assert play.link.memory.refused.keys() == {"notes", "name", "close_date"}
    play.outside.now += timedelta(hours=1)
    for left in (2, 1, 0):
        tries = [each.tries for each in play.link.memory.refused.values()]
        play.cycle()
        assert sum(each.tries for each in play.link.memory.refused.values()) == sum(tries) + 1
        assert [each.tries for each in play.link.memory.refused.values()].count(1) == left
        assert message(play) == words
    play.rests()


def test_once_the_deal_is_over_a_held_field_is_tried_ever_more_rarely(
    play: Play, events: list[dict[str, object]]
) -> None:
    play.outside.refuses["notes"] = lambda _: True
    play.colleague(notes="new", campaign_id="c-4")
    play.cycle()
    assert play.outside.portal_moves("R1", State.WON)
    for _ in range(200):
        play.outside.now += timedelta(hours=24)
        play.cycle()
    assert len(named(events)) < 14


@pytest.mark.parametrize("side", [PC, CRM])
@pytest.mark.parametrize("alone", [True, False])
def test_a_sellers_text_quotes_nothing_that_he_cannot_mend(play: Play, side: Side, alone: bool) -> None:
    play.outside.cure = Cure.ADMIN
    (play.outside.refuses_there if side is PC else play.outside.refuses)["notes"] = lambda _: True
    more = {} if alone else {"campaign_id": "c-4"}
    (play.seller if side is PC else play.colleague)(notes="new", **more)
    play.cycle()
    assert play.opportunity["sync_state"] == SyncState.NEEDS_ATTENTION
    assert "not so" not in message(play)
    assert "Notes" in message(play)
    assert "administrator" in message(play)


def test_known_limits_are_held_before_anything_is_sent(play: Play) -> None:
    people = tuple(Member(f"p{n:02}@x.example") for n in range(51))
    play.seller(contacts=people, close_date=date(2020, 1, 1), notes="new", consent=True)
    play.cycle()
    assert play.referral["notes"] == "new"
    assert play.referral["close_date"] != date(2020, 1, 1)
    assert len(play.referral["contacts"]) < 51  # type: ignore[arg-type]
    assert "no date in the past" in message(play)
    assert "at most 50 entries" in message(play)
    play.rests()


def test_a_refused_account_lets_people_in(play: Play) -> None:
    kept_equal = rules(write_name=True, terminal_hold=timedelta(), account_updates=AccountUpdates.ALL)
    play.world = replace(play.world, rules=kept_equal)
    play.outside.refuses["customer"] = lambda _: True
    play.colleague(customer=Customer("Renamed"), contacts=(ANN,))
    play.cycle()
    assert play.opportunity["contacts"] == (ANN,)
    assert "for Account" in message(play)
    play.rests()


def test_a_refused_colleague_stays_wanted_and_hides_no_other_change(play: Play) -> None:
    """What is refused of a set keeps its base: nobody is taken away at Partner Center, and later members still arrive."""
    play.outside.refuses["team"] = lambda value: ANN in value  # type: ignore[operator]
    play.colleague(team=(*play.referral["team"], ANN))  # type: ignore[misc]
    there = play.referral["team"]
    play.cycle()
    assert play.referral["team"] == there
    play.rests()
    play.outside.refuses.clear()
    play.colleague(team=(*there, BOB))  # type: ignore[misc]
    play.cycle()
    assert {each.email for each in play.opportunity["team"]} >= {ANN.email, BOB.email}  # type: ignore[union-attr]
    assert play.referral["team"] == (*there, BOB)  # type: ignore[misc]
    play.rests()


def test_a_refused_field_of_an_import_does_not_travel_back() -> None:
    """What the CRM put there instead is nobody's edit, and Partner Center's value is still the one to write."""
    play = Play()
    play.outside.refuses["notes"] = lambda value: value == "from there"
    play.outside.refuses["value"] = lambda value: value == Decimal(77)
    play.outside.new_referral(State.ACCEPTED, notes="from there", value=Decimal(77))
    play.cycle()
    play.cycle()
    assert (play.referral["notes"], play.referral["value"]) == ("from there", Decimal(77))
    assert "for Notes" in message(play)
    play.rests()
    play.outside.refuses.clear()
    play.seller(campaign_id="c-2")
    play.cycle()
    assert (play.opportunity["notes"], play.opportunity["value"]) == ("from there", Decimal(77))
    play.rests()


def test_a_refused_stage_is_the_deals_failure_and_keeps_no_field_out(play: Play) -> None:
    """It is tried again with growing pauses and parked at last, like any other move."""
    play.outside.refuses["stage"] = lambda value: value == "Closed Won"
    play.colleague(notes="new")
    assert play.outside.portal_moves("R1", State.WON)
    assert play.cycle().failed == 1
    assert play.opportunity["notes"] == "new"
    assert play.opportunity["stage"] != "Closed Won"
    assert "refused the last change" in message(play)
    for _ in range(40):
        play.outside.now += timedelta(hours=1)
        play.cycle()
    assert play.link.memory.parked
    assert play.link.memory.attempts == 3


def test_what_was_refused_is_in_the_journal(play: Play) -> None:
    play.outside.refuses["notes"] = lambda _: True
    play.colleague(notes="new", campaign_id="c-3")
    play.cycle()
    lines = [
        (each.action, each.field, each.rule) for each in play.store.journal("r:R1") if each.cycle == "c3"
    ]
    assert (Action.HOLD, "notes", "not_so") in lines
    assert all(each[:2] != (Action.UPDATE, "notes") for each in lines)
    assert any(each[:2] == (Action.UPDATE, "campaign_id") for each in lines)
