"""A stand-in: made by us, never sent, replaced by whoever first has a value; until then the record says what to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, shared, there

from cosell_sync.core import stand_ins
from cosell_sync.core.deal import ABSENT, Customer, Fields, Side, Snapshot, State, Value
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.intake import Matches, decide_intake
from cosell_sync.core.memory import Intent, Link
from cosell_sync.core.outcome import after_create, after_opportunity, after_referral, settle
from cosell_sync.core.readings import without_stale
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import CrmShape, FieldRule, Rules
from cosell_sync.core.status import status_report
from cosell_sync.core.visibility import invitation

EUROS = replace(SHAPE, currencies=frozenset({"USD"}))
ONE_CURRENCY = replace(SHAPE, fields=SHAPE.fields - {"currency"})
LATER = NOW.date() + timedelta(days=30)
MAY = date(2026, 5, 4)
AMOUNT = Decimal("900.00")

# What Microsoft brings → the shape of the CRM, what the seller enters, what travels then, what Microsoft brings later.
GAPS: Mapping[str, tuple[dict[str, Value], CrmShape, Fields, Fields, Fields]] = {
    "no name": ({"name": None}, SHAPE, {"name": "Ours"}, {"name": "Ours"}, {"name": "Theirs"}),
    "name not told": ({"name": ABSENT}, SHAPE, {"name": "Ours"}, {"name": "Ours"}, {"name": "Theirs"}),
    "no date": ({"close_date": None}, SHAPE, {"close_date": MAY}, {"close_date": MAY}, {"close_date": MAY}),
    "date not told": ({"close_date": ABSENT}, SHAPE, {"close_date": MAY}, {"close_date": MAY}, {"close_date": MAY}),
    "a date of no CRM": ({"close_date": date(9999, 1, 1)}, SHAPE, {"close_date": MAY}, {"close_date": MAY}, {"close_date": MAY}),
    "too much": ({"value": Decimal("1e17")}, SHAPE, {"value": AMOUNT}, {"value": AMOUNT}, {"value": AMOUNT}),
    "no number": ({"value": ABSENT, "unreadable": "value"}, SHAPE, {"value": AMOUNT}, {"value": AMOUNT}, {"value": AMOUNT, "unreadable": ABSENT}),
    "foreign": ({"currency": "PLN"}, EUROS, {"value": AMOUNT, "currency": "USD"}, {"value": AMOUNT, "currency": "USD"}, {"currency": "USD"}),
    "no currency": ({"currency": None}, EUROS, {"value": AMOUNT, "currency": "USD"}, {"value": AMOUNT, "currency": "USD"}, {"currency": "USD"}),
    "currency not told": ({"currency": ABSENT}, EUROS, {"value": AMOUNT, "currency": "USD"}, {"value": AMOUNT, "currency": "USD"}, {"currency": "USD"}),
}  # fmt: skip
EVERY = pytest.mark.parametrize("gap", GAPS)
RULES = rules(write_name=True)


def imported(
    changes: Mapping[str, Value], shape: CrmShape, state: State = State.ACCEPTED, *, fills_in: Fields = MappingProxyType({}), by_us: bool | None = True
) -> Link:  # fmt: skip
    """The link of a referral with these fields, after its opportunity was made. ``fills_in``: what the platform adds."""
    referral = at_rest(state).referral
    assert referral is not None
    referral = replace(referral, fields={**referral.fields, **changes})
    link = Link("r:R1", "R1", referral=referral)
    made = decide_intake(link, Matches(), RULES, shape, NOW)
    assert made.action == "create"
    link = remembering(link, stand_ins=made.stand_ins)
    fields = {
        **dict.fromkeys(shared()),
        **made.fields,
        **fills_in,
        "status": state.value,
        "referral_id": "R1",
    }
    after = Snapshot("O1", "1", fields, last_by_us=by_us)
    return after_create(link, made.fields, after, RULES, state)


def decided(link: Link, shape: CrmShape, rule: Rules = RULES) -> Decision:
    return decide(link, rule, shape, NOW)


def sent(decision: Decision) -> Fields:
    return {
        name: value
        for step in decision.steps
        for name, value in step.fields.items()
        if name != "external_reference"
    }


def needs(decision: Decision) -> list[str]:
    return [hold.field for hold in decision.holds if hold.kind is HoldKind.STAND_IN]


@EVERY
@pytest.mark.parametrize("by_us", [True, False, None])
def test_a_stand_in_is_not_sent_and_says_what_to_fill_in(gap: str, by_us: bool | None) -> None:
    """Whoever else has touched the new record since; and again as often as it is decided."""
    changes, shape, *_ = GAPS[gap]
    link = imported(changes, shape, by_us=by_us)
    for _ in range(2):
        decision = decided(link, shape)
        assert (sent(decision), dict(decision.crm)) == ({}, {})
        (name,) = needs(decision)
        report = status_report(decision, (), shape, NOW)
        assert report.state == "Needs attention"
        assert report.message.startswith(("Enter the ", "Choose the "))
        link = report.link
    assert link.memory.stand_ins == (name,)
    assert not link.memory.rejected


@EVERY
def test_what_the_platform_fills_in_beside_it_is_not_sent_either(gap: str) -> None:
    changes, shape, *_ = GAPS[gap]
    currency = {"currency": "USD"} if shape is EUROS else {}
    link = imported(changes, shape, fills_in=currency)
    assert sent(decided(link, shape)) == {}


@EVERY
def test_what_the_seller_enters_travels_and_ends_it(gap: str) -> None:
    changes, shape, enters, travels, _ = GAPS[gap]
    link = here(imported(changes, shape), **enters)
    decision = decided(link, shape)
    assert travels.items() <= sent(decision).items()
    assert needs(decision) == []
    assert decision.link.memory.stand_ins == ()
    assert link.referral is not None
    after = replace(link.referral, version="2", fields={**link.referral.fields, **travels})
    learned = after_referral(decision.link, decision.steps, after, RULES, shape).link
    again = decided(learned, shape)
    assert (sent(again), dict(again.crm), again.holds) == ({}, {}, ())


@EVERY
def test_what_microsoft_brings_later_replaces_it(gap: str) -> None:
    changes, shape, _, _, later = GAPS[gap]
    link = there(imported(changes, shape), **later)
    decision = decided(link, shape)
    assert (sent(decision), needs(decision)) == ({}, [])
    assert decision.crm
    assert link.opportunity is not None
    after = replace(link.opportunity, version="2", fields={**link.opportunity.fields, **decision.crm})
    learned = after_opportunity(decision.link, decision.crm, after, RULES, State.ACCEPTED)
    again = decided(learned, shape)
    assert (sent(again), dict(again.crm), again.holds, again.link.memory.stand_ins) == ({}, {}, (), ())


def test_both_at_once_is_a_conflict_like_any_other() -> None:
    link = there(here(imported({"close_date": None}, SHAPE), close_date=MAY), close_date=LATER)
    decision = decided(link, SHAPE)
    assert [(item.field, item.kept) for item in decision.conflicts] == [("close_date", Side.CRM)]
    assert sent(decision) == {"close_date": MAY}


def test_what_the_crm_can_hold_by_now_arrives() -> None:
    """An administrator has activated the currency: nothing has changed on either side, and the amount comes all the same."""
    link = imported({"currency": "PLN"}, EUROS, fills_in={"currency": "USD"})
    more = replace(EUROS, currencies=frozenset({"USD", "PLN"}))
    decision = decided(link, more)
    assert dict(decision.crm) == {"value": Decimal("100.00"), "currency": "PLN"}
    assert (sent(decision), needs(decision)) == ({}, [])


def test_an_accept_does_not_take_it_along() -> None:
    """The accept needs a date, and what stands there is none that anybody expects."""
    link = here(imported({"close_date": None}, SHAPE, State.RECEIVED), action="Accept")
    decision = decided(link, SHAPE)
    assert decision.steps == ()
    assert {(hold.kind, hold.field) for hold in decision.holds} == {
        (HoldKind.NEED, "close_date"),
        (HoldKind.STAND_IN, "close_date"),
    }
    assert sent(decided(here(link, close_date=MAY), SHAPE)) == {"close_date": MAY}


@pytest.mark.parametrize("changes", [{"close_date": None}, {"currency": "PLN"}, {"customer": None}])
def test_the_deadline_of_an_unanswered_deal_comes_first(changes: dict[str, Value]) -> None:
    link = imported(changes, EUROS, State.RECEIVED)
    report = status_report(decided(link, EUROS), ("New deal.",), EUROS, NOW)
    first, second, *_ = report.message.splitlines()
    assert "choose Accept or Decline" in first
    assert second.startswith(("Enter the ", "Choose the "))
    assert report.reminder == 1
    assert report.link.due == NOW + timedelta(days=1, hours=1)


def test_a_value_that_the_crm_cannot_hold_hides_no_deadline() -> None:
    """Also where it came later."""
    link = there(at_rest(State.RECEIVED), value=Decimal("1e17"))
    report = status_report(decided(link, SHAPE), (), SHAPE, NOW)
    assert "choose Accept or Decline" in report.message.splitlines()[0]
    assert (report.state, report.reminder) == ("Needs attention", 1)


@pytest.mark.parametrize("customer", [None, ABSENT, Customer(city="Bremen")])
def test_a_deal_of_nobody_waits_for_an_account_and_loops_not(customer: Value) -> None:
    link = imported({"customer": customer}, SHAPE)
    decision = decided(link, SHAPE)
    assert (needs(decision), dict(decision.crm), decision.steps) == (["customer"], {}, ())
    chosen = decided(here(link, customer=Customer("Contoso", country="US")), SHAPE)
    assert (chosen.holds, dict(chosen.crm), chosen.steps, chosen.link.memory.stand_ins) == ((), {}, (), ())
    named = decided(there(link, customer=Customer("Contoso", country="US")), SHAPE)
    assert dict(named.crm) == {"customer": Customer("Contoso", country="US")}


@pytest.mark.parametrize("customer", [None, ABSENT, Customer(city="Bremen")])
def test_a_linked_deal_whose_customer_is_taken_away_keeps_its_account(customer: Value) -> None:
    decision = decided(there(at_rest(), customer=customer), SHAPE, replace(RULES, account_updates="all"))  # type: ignore[arg-type]
    assert (dict(decision.crm), decision.steps, decision.holds) == ({}, (), ())


@pytest.mark.parametrize(
    ("changes", "shape", "kept"),
    [
        ({"name": None}, SHAPE, "name"),
        ({"name": "  "}, SHAPE, "name"),
        ({"close_date": None}, SHAPE, "close_date"),
        ({"close_date": date(9999, 1, 1)}, SHAPE, "close_date"),
        ({"value": Decimal("1e17")}, SHAPE, "value"),
        ({"value": Decimal("9e29")}, SHAPE, "value"),
        ({"currency": "PLN"}, EUROS, "value"),
    ],
)
def test_a_linked_deal_keeps_what_it_has_when_microsofts_becomes_unusable(
    changes: dict[str, Any], shape: CrmShape, kept: str
) -> None:
    link = there(at_rest(), **changes)
    decision = decided(link, shape)
    assert (dict(decision.crm), decision.steps) == ({}, ())
    assert {hold.kind for hold in decision.holds} == {HoldKind.CRM_CANNOT}
    entered = {"name": "Ours", "close_date": MAY, "value": AMOUNT}[kept]
    assert sent(decided(here(link, **{kept: entered}), shape))[kept] == entered
    back = decided(there(link, **{each: shared()[each] for each in changes}), shape)
    assert back.holds == ()


def test_an_amount_of_the_sellers_own_beside_a_foreign_one() -> None:
    """A CRM of one currency: the two amounts are never compared, and once there is one nobody needs to do anything."""
    link = imported({"currency": "PLN"}, ONE_CURRENCY)
    assert needs(decided(link, ONE_CURRENCY)) == ["value"]
    entered = here(link, value=AMOUNT)
    for _ in range(2):
        decision = decided(entered, ONE_CURRENCY)
        report = status_report(decision, (), ONE_CURRENCY, NOW)
        assert (sent(decision), dict(decision.crm), report.state) == ({}, {}, "In sync")
        assert "Amount is in USD here and 100.00 PLN at Microsoft" in report.message
        entered = report.link
    assert needs(decided(here(entered, value=None), ONE_CURRENCY)) == ["value"]


def test_an_invitation_does_not_take_it_along() -> None:
    link = imported({"close_date": None}, SHAPE)
    full = here(
        remembering(link, microsoft={}),
        customer=Customer("Contoso", "Kai 7", None, "Bremen", None, None, "DE"),
        consent=True,
        help="Proof of concept or demo",
    )
    full = there(full, direction="Outbound", deal_type="Partner-led", engagement_id="E1", visible=True)
    people = {
        name: tuple(replace(each, first_name="A", last_name="B", phone="1") for each in shared()[name])  # type: ignore[union-attr, arg-type]
        for name in ("team", "contacts")
    }
    full = here(full, **people)
    assert invitation(full, RULES, SHAPE, NOW.date()) is None
    filled = here(full, close_date=LATER + timedelta(days=1))
    found = invitation(filled, RULES, SHAPE, NOW.date())
    assert found is not None
    assert found["close_date"] == LATER + timedelta(days=1)


@EVERY
def test_a_create_without_an_answer_knows_its_stand_ins(gap: str) -> None:
    """They are told from the intent, also where Microsoft has brought a value since."""
    changes, shape, _, _, later = GAPS[gap]
    whole = imported(changes, shape)
    referral, opportunity = whole.referral, whole.opportunity
    assert referral is not None
    assert opportunity is not None
    made = decide_intake(Link("r:R1", "R1", referral=referral), Matches(), RULES, shape, NOW)
    source = {name: referral[name] for name in shared()} | {"state": "Accepted"}
    source |= stand_ins.as_source(made.stand_ins, referral)
    intent = Intent("r:R1", Side.CRM, True, "", made.fields, source, "c1", NOW)
    for by_us in (True, None):
        linked = Link("r:R1", "R1", "O1", whole.phase, referral, replace(opportunity, last_by_us=by_us))
        settled = settle(linked, intent, RULES)
        assert settled.memory.stand_ins == made.stand_ins
        assert sent(decided(settled, shape)) == {}
        assert needs(decided(settled, shape)) == [*made.stand_ins]
        assert sent(decided(there(settled, **later), shape)) == {}
        assert decided(there(settled, **later), shape).crm


def test_another_column_is_no_stand_in() -> None:
    link = imported({"close_date": None}, SHAPE)
    fresh = link.opportunity
    assert fresh is not None
    fresh = replace(fresh, fields={**fresh.fields, "close_date": MAY})
    moved = without_stale(link, {"close_date": False}, fresh)
    assert moved.memory.stand_ins == ()
    assert sent(decided(moved, SHAPE)) == {"close_date": MAY}


def test_a_field_that_is_not_carried_has_none() -> None:
    fields = {name: rule for name, rule in RULES.fields.items() if name != "value"}
    rule = replace(RULES, fields={**fields, "campaign_id": FieldRule("campaign_id", "x")})
    referral = Snapshot("R1", "1", {**shared(), "value": Decimal("1e17")})
    assert not stand_ins.lacks("value", referral, rule, SHAPE)


@pytest.mark.parametrize("name", ["name", "close_date"])
def test_what_stands_beside_nothing_told_is_asked_for_once_the_store_is_lost(name: str) -> None:
    """It may be ours or a person's: it is not sent, and the record says so; what is entered then travels."""
    link = at_rest(State.ACCEPTED)
    assert link.referral is not None
    fields = {each: value for each, value in link.referral.fields.items() if each != name}
    link = replace(
        link, referral=replace(link.referral, fields=fields), base_referral={}, base_opportunity={}
    )
    decision = decided(link, SHAPE)
    assert (sent(decision), needs(decision)) == ({}, [name])
    again = decided(decision.link, SHAPE)
    assert (sent(again), needs(again)) == ({}, [name])
    entered: Fields = {name: {"name": "Ours", "close_date": MAY}[name]}
    assert sent(decided(here(again.link, **entered), SHAPE)) == entered
