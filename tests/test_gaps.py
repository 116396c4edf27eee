"""Whole cycles with deals that lack what the CRM demands: made at once, told, never sent back; over CRMs like both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
import structlog

from cosell_sync.core.deal import ABSENT, Customer, Member, Side, Solution, State, Value
from cosell_sync.core.memory import OperatorCommand, Verb
from memory_systems import LIKE_DYNAMICS, LIKE_SALESFORCE, CrmKind, Fault
from test_cycle import Play

PC, CRM = Side.PARTNER_CENTER, Side.CRM
HUGE, NINE = Decimal("1e17"), Decimal("900.00")
DAY = date(2026, 9, 9)

# What Microsoft brings, what the seller enters, what Microsoft has then.
GAPS: Mapping[str, tuple[dict[str, Value], dict[str, Value], dict[str, Value]]] = {
    "no name": ({"name": None}, {"name": "Ours"}, {"name": "Ours"}),
    "a name of blanks": ({"name": " \u200b "}, {"name": "Ours"}, {"name": "Ours"}),
    "no date": ({"close_date": None}, {"close_date": DAY}, {"close_date": DAY}),
    "date not told": ({"close_date": ABSENT}, {"close_date": DAY}, {"close_date": DAY}),
    "too much": ({"value": HUGE}, {"value": NINE}, {"value": NINE}),
    "much too much": ({"value": Decimal("9e29")}, {"value": NINE}, {"value": NINE}),
    "no number": ({"value": ABSENT, "unreadable": "value"}, {"value": NINE}, {"value": NINE}),
    "foreign": ({"currency": "PLN"}, {"value": NINE, "currency": "USD"}, {"value": NINE, "currency": "USD"}),
    "no currency": ({"currency": None}, {"value": NINE, "currency": "USD"}, {"value": NINE, "currency": "USD"}),
    "nobody": ({"customer": None}, {"customer": Customer("Chosen", country="US")}, {}),
    "nothing": (
        {"name": None, "close_date": None, "customer": None, "currency": None, "value": HUGE},
        {"name": "Ours", "close_date": DAY, "value": NINE, "currency": "USD", "customer": Customer("Chosen", country="US")},
        {"name": "Ours", "close_date": DAY, "value": NINE, "currency": "USD"},
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize("gap", GAPS)
STATES = pytest.mark.parametrize("state", [State.RECEIVED, State.ACCEPTED])


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(params=[LIKE_SALESFORCE, LIKE_DYNAMICS], ids=["salesforce", "dynamics"])
def play(request: pytest.FixtureRequest) -> Play:
    made = Play()
    kind: CrmKind = request.param
    made.outside.kind = kind
    made.world = replace(made.world, rules=replace(made.world.rules, stages=kind.stages))
    return made


def arrived(play: Play, gap: str, state: State = State.ACCEPTED) -> dict[str, Value]:
    """The deal after its first cycle, and Partner Center's record as it was before."""
    play.outside.new_referral(
        state, solutions=(Solution("SOL-1", "One"),), team=(Member("t@x"),), **GAPS[gap][0]
    )
    before = dict(play.referral)
    play.cycle()
    return before


@EVERY
@STATES
def test_it_arrives_at_once_is_told_and_nothing_is_sent(play: Play, gap: str, state: State) -> None:
    before = arrived(play, gap, state)
    assert play.opportunity["sync_state"] == "Needs attention"
    assert "Microsoft" in str(play.opportunity["message"])
    play.rests()
    play.rests()
    assert play.referral == before


@EVERY
def test_what_the_seller_enters_travels_once_and_the_deal_is_in_sync(play: Play, gap: str) -> None:
    arrived(play, gap)
    _, entered, travels = GAPS[gap]
    play.seller(**entered)
    play.cycle()
    play.cycle()
    assert travels.items() <= play.referral.items()
    assert play.opportunity["sync_state"] == "In sync"
    assert {name: play.opportunity[name] for name in entered} == entered
    play.rests()


@EVERY
def test_what_microsoft_brings_replaces_it(play: Play, gap: str) -> None:
    arrived(play, gap)
    whole: dict[str, Value] = {
        "name": "Theirs", "close_date": DAY, "value": NINE, "currency": "USD", "customer": Customer("Theirs", country="US"),
    }  # fmt: skip
    given = {name: whole[name] for name in GAPS[gap][0] if name in whole}
    play.colleague(**given, unreadable=ABSENT)
    play.cycle()
    play.cycle()
    assert given.items() <= play.opportunity.items()
    assert play.opportunity["sync_state"] == "In sync"
    assert play.opportunity["value"] == play.referral["value"] or "value" not in given
    play.rests()


@EVERY
@pytest.mark.parametrize("fault", ["lost", "unread"])
def test_a_lost_answer_to_the_create_sends_nothing_either(play: Play, gap: str, fault: str) -> None:
    play.outside.faults.append(Fault(CRM, fault))
    before = arrived(play, gap)
    play.cycle()
    play.cycle()
    assert play.referral == before
    assert play.opportunity["sync_state"] == "Needs attention"
    assert list(play.outside.opportunities) == ["O1"]
    play.rests()


def test_the_answer_goes_out_with_what_was_entered(play: Play) -> None:
    arrived(play, "no date", State.RECEIVED)
    assert "choose Accept or Decline" in str(play.opportunity["message"]).splitlines()[0]
    play.seller(action="Accept")
    play.cycle()
    assert play.referral["state"] == "Received", "the accept needs a date that a person entered"
    assert "To accept this deal, fill in Close Date." in str(play.opportunity["message"])
    play.seller(close_date=DAY)
    play.cycle()
    assert (play.referral["state"], play.referral["close_date"]) == ("Accepted", DAY)
    play.cycle()
    assert play.opportunity["sync_state"] == "In sync"


@EVERY
def test_what_is_entered_before_the_answer_goes_out_with_it(play: Play, gap: str) -> None:
    """Several cycles lie between the seller's value and the accept; nobody enters it twice."""
    arrived(play, gap, State.RECEIVED)
    _, entered, travels = GAPS[gap]
    play.seller(**entered)
    play.cycle()
    play.cycle()
    assert "fill in" not in str(play.opportunity["message"])
    play.seller(action="Accept")
    play.cycle()
    assert play.referral["state"] == "Accepted"
    assert travels.items() <= play.referral.items()


@EVERY
def test_what_is_entered_while_partner_center_is_away_goes_out_later(play: Play, gap: str) -> None:
    arrived(play, gap)
    _, entered, travels = GAPS[gap]
    play.seller(**entered)
    play.outside.faults.append(Fault(PC, "flaky"))
    for _ in range(3):
        play.cycle()
        play.outside.pass_time(timedelta(hours=1))
    assert travels.items() <= play.referral.items()


@pytest.mark.parametrize(("left", "given"), [(13, [1, 2, 3]), (5, [1, 2, 3]), (2, [2, 3]), (0.5, [3])])
def test_an_unanswered_deal_with_a_stand_in_has_its_clock(play: Play, left: float, given: list[int]) -> None:
    until = play.outside.now + timedelta(days=left)
    with structlog.testing.capture_logs() as logs:
        play.outside.new_referral(State.RECEIVED, close_date=None, respond_by=until)
        while play.outside.now < until + timedelta(days=1):
            play.cycle()
            play.outside.pass_time(timedelta(hours=6))
        play.cycle()
    told = [each["reminder"] for each in logs if each["event"] == "deal.reminder"]
    assert told == given
    assert play.opportunity["status"] == "Expired"
    assert play.opportunity["sync_state"] == "Closed"


def test_a_currency_that_is_activated_brings_the_amount(play: Play) -> None:
    arrived(play, "foreign")
    shape = play.outside.kind.shape
    play.outside.shape = replace(shape, currencies=shape.currencies | {"PLN"})
    play.crm.forget_shape()  # as once a day
    play.cycle()
    play.cycle()
    assert (play.opportunity["value"], play.opportunity["currency"]) == (Decimal(100), "PLN")
    assert play.opportunity["sync_state"] == "In sync"
    play.rests()


@pytest.mark.parametrize(
    "changes", [{"name": None}, {"close_date": None}, {"value": HUGE}, {"value": Decimal("9e29")}, {"currency": "PLN"},
                {"currency": None}, {"currency": None, "value": None}, {"customer": None}, {"close_date": ABSENT}, {"name": ABSENT, "customer": ABSENT}],
    ids=repr,
)  # fmt: skip
def test_a_linked_deal_whose_fields_become_unusable_keeps_what_it_has(
    play: Play, changes: dict[str, Value]
) -> None:
    play.begin()
    kept = {name: play.opportunity[name] for name in changes} | ({"value": None} if "value" in changes and not changes["value"] else {})  # fmt: skip
    play.colleague(**changes)
    play.cycle()
    play.rests()
    assert {name: play.opportunity[name] for name in changes} == kept
    play.colleague(
        name="Theirs", close_date=DAY, value=NINE, currency="USD", customer=Customer("Theirs", country="US")
    )
    play.cycle()
    play.cycle()
    assert (play.opportunity["close_date"], play.opportunity["value"]) == (DAY, NINE)
    assert play.opportunity["sync_state"] == "In sync"
    play.rests()


def test_parted_and_joined_again_it_is_still_a_stand_in(play: Play) -> None:
    before = arrived(play, "no date")
    for verb in ("unlink", "link"):
        play.store.submit(OperatorCommand(verb, Verb(verb), "R1", other="O1" if verb == "link" else ""))
        play.cycle()
    play.cycle()
    assert play.link.phase == "linked"
    assert play.referral["close_date"] == before["close_date"]
    play.seller(close_date=DAY)
    play.cycle()
    assert play.referral["close_date"] == DAY


@pytest.mark.parametrize("state", [State.UNKNOWN, State.ACCEPTED])
def test_a_status_that_is_not_known_is_told_in_the_first_cycle(play: Play, state: State) -> None:
    if state is State.ACCEPTED:
        play.begin()
        play.colleague(state="Unknown", status_text="On ice / Maybe")
    else:
        play.outside.new_referral(State.ACCEPTED)
        play.colleague(state="Unknown", status_text="On ice / Maybe")
    play.cycle()
    assert 'the status "On ice / Maybe"' in str(play.opportunity["message"])
    assert play.opportunity["sync_state"] == "Waiting"
    play.rests()


def test_closed_in_a_way_that_is_not_known_is_closed(play: Play) -> None:
    play.begin()
    stage = play.opportunity["stage"]
    play.colleague(state="Closed", status_text="Closed / Withdrawn")
    play.cycle()
    assert (play.opportunity["sync_state"], play.opportunity["stage"]) == ("Closed", stage)
    assert 'closed this deal as "Closed / Withdrawn"' in str(play.opportunity["message"])
    play.rests()
    before = dict(play.referral)
    play.seller(value=Decimal(7))
    play.cycle()
    play.seller(stage="Closed Won")
    play.cycle()
    play.cycle()
    assert play.referral == before
    assert play.opportunity["sync_state"] == "Closed"
    play.rests()
