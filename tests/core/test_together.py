"""Fields that mean something only together have one winner: an amount and its currency."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, there
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import Customer, Fields, Member, Side, Snapshot, State, Value, state_of
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.fields import TOGETHER
from cosell_sync.core.memory import Intent, Link
from cosell_sync.core.outcome import after_opportunity, after_referral, settle
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import AccountUpdates, CrmShape, Flow, Policy, Rules

PC, CRM = Side.PARTNER_CENTER, Side.CRM
TEN, ELEVEN, TWELVE = Decimal("10.00"), Decimal("11.00"), Decimal("12.00")
MONEY = TOGETHER["value"]
KEEP_PC = rules({"value": Policy.PARTNER_CENTER})
KEEP_CRM = rules()
ASK = rules({"value": Policy.ASK})


def decided(link: Link, rule: Rules = KEEP_CRM, shape: CrmShape = SHAPE) -> Decision:
    return decide(link, rule, shape, NOW)


def sent(decision: Decision) -> Fields:
    return {name: value for step in decision.steps for name, value in step.fields.items()}


def money(side: Snapshot | None) -> tuple[Value, ...]:
    assert side is not None
    return tuple(side[name] for name in MONEY)


def settled(link: Link, rule: Rules, shape: CrmShape = SHAPE) -> Link:
    """The deal after everything that follows has landed, and nothing follows any more."""
    for _ in range(4):
        decision = decided(link, rule, shape)
        link = decision.link
        assert link.referral is not None
        assert link.opportunity is not None
        if decision.steps:
            link = after_referral(
                link, decision.steps, _with(link.referral, sent(decision)), rule, shape
            ).link
            decision = decided(link, rule, shape)
            link = decision.link
        assert link.opportunity is not None
        if decision.crm:
            after = _with(link.opportunity, decision.crm)
            link = after_opportunity(link, decision.crm, after, rule, state_of(link.referral))  # type: ignore[arg-type]
    assert (decided(link, rule, shape).steps, decided(link, rule, shape).crm) == ((), {})
    return link


def _with(side: Snapshot, fields: Fields) -> Snapshot:
    return replace(side, version=side.version + "'", fields={**side.fields, **fields})


def both(**values: Value) -> Link:
    """Agreed on 10 EUR."""
    start: dict[str, Value] = {"value": TEN, "currency": "EUR", **values}
    link = there(here(at_rest(), **start), **start)
    return replace(
        link,
        base_referral={**link.base_referral, **start},
        base_opportunity={**link.base_opportunity, **start},
    )


@pytest.mark.parametrize(
    ("rule", "winner"),
    [(KEEP_CRM, (TWELVE, "EUR")), (KEEP_PC, (ELEVEN, "USD"))],
    ids=["crm", "partner center"],
)
def test_one_side_s_amount_in_the_other_s_currency_is_nobody_s(
    rule: Rules, winner: tuple[Value, ...]
) -> None:
    link = here(there(both(), value=ELEVEN, currency="USD"), value=TWELVE)
    decision = decided(link, rule)
    assert {each.field: (each.referral, each.opportunity) for each in decision.conflicts} == {
        "value": (ELEVEN, TWELVE),
        "currency": ("USD", "EUR"),
    }
    end = settled(link, rule)
    assert money(end.referral) == money(end.opportunity) == winner


@pytest.mark.parametrize(
    ("rule", "winner"), [(KEEP_CRM, (TWELVE, "EUR")), (KEEP_PC, (TEN, "USD"))], ids=["crm", "partner center"]
)
def test_an_amount_here_and_a_currency_there_are_a_conflict(rule: Rules, winner: tuple[Value, ...]) -> None:
    end = settled(here(there(both(), currency="USD"), value=TWELVE), rule)
    assert money(end.referral) == money(end.opportunity) == winner


def test_two_currencies_of_one_amount_go_by_the_currency_s_own_policy() -> None:
    rule = rules({"value": Policy.CRM, "currency": Policy.PARTNER_CENTER})
    end = settled(here(there(both(), currency="USD"), currency="JPY"), rule)
    assert money(end.referral) == money(end.opportunity) == (TEN, "USD")


def test_who_must_decide_decides_both() -> None:
    link = here(there(both(), currency="USD"), value=TWELVE)
    decision = decided(link, ASK)
    assert (decision.steps, decision.crm) == ((), {})
    assert {(each.field, each.kept) for each in decision.conflicts} == {("value", None), ("currency", None)}
    for name in MONEY:
        end = settled(remembering(link, resolved={name: CRM}), ASK)
        assert money(end.referral) == money(end.opportunity) == (TWELVE, "EUR")
        assert end.memory.resolved == {}


def test_the_same_pair_on_both_sides_is_agreed() -> None:
    decision = decided(here(there(both(), value=ELEVEN, currency="USD"), value=ELEVEN, currency="USD"))
    assert (decision.steps, decision.crm, decision.conflicts) == ((), {}, ())
    for base in (decision.link.base_referral, decision.link.base_opportunity):
        assert (base["value"], base["currency"]) == (ELEVEN, "USD")


def test_the_amount_goes_alone_where_the_currency_is_the_same() -> None:
    assert decided(there(both(), value=ELEVEN)).crm == {"value": ELEVEN}
    assert sent(decided(here(both(), value=ELEVEN))) == {"value": ELEVEN}


def test_a_new_currency_brings_its_amount_though_the_number_is_the_same() -> None:
    assert decided(there(both(), currency="USD")).crm == {"value": TEN, "currency": "USD"}
    assert sent(decided(here(both(), currency="USD"))) == {"value": TEN, "currency": "USD"}


def test_without_a_base_the_policy_decides_both() -> None:
    link = replace(here(there(both(), value=ELEVEN, currency="USD"), value=TWELVE), base_opportunity={})
    end = settled(link, KEEP_PC)
    assert money(end.referral) == money(end.opportunity) == (ELEVEN, "USD")
    empty = here(there(replace(both(), base_opportunity={}), value=None, currency="USD"), value=TWELVE)
    for rule in (KEEP_PC, KEEP_CRM):
        end = settled(empty, rule)
        assert money(end.referral) == money(end.opportunity) == (TWELVE, "EUR")


@pytest.mark.parametrize(
    ("locked", "shape", "rule", "kind"),
    [
        ({"currency"}, SHAPE, KEEP_CRM, HoldKind.READ_ONLY),
        ({"value"}, SHAPE, KEEP_CRM, HoldKind.READ_ONLY),
        (set(), replace(SHAPE, currencies=frozenset({"EUR"})), KEEP_CRM, HoldKind.CRM_CANNOT),
        (set(), SHAPE, rules(flows={"currency": Flow.TO_PARTNER_CENTER}), HoldKind.READ_ONLY),
        (set(), SHAPE, rules(flows={"currency": Flow.OFF}), HoldKind.READ_ONLY),
    ],
)
def test_a_crm_that_does_not_take_the_currency_does_not_get_the_amount(
    locked: set[str], shape: CrmShape, rule: Rules, kind: HoldKind
) -> None:
    link = there(both(), value=ELEVEN, currency="USD")
    assert link.opportunity is not None
    link = replace(link, opportunity=replace(link.opportunity, readonly=frozenset(locked)))
    decision = decided(there(link, close_date=date(2026, 7, 1)), rule, shape)
    assert decision.crm == {"close_date": date(2026, 7, 1)}
    assert {(hold.kind, hold.field) for hold in decision.holds} == {(kind, "value"), (kind, "currency")}
    (text,) = {hold.text for hold in decision.holds}
    assert "11.00 USD" in text
    assert decision.link.base_opportunity["value"] == TEN


@pytest.mark.parametrize(
    ("change", "rule", "kind"),
    [
        ({"value": None, "currency": "USD"}, KEEP_CRM, HoldKind.NEED),
        ({"value": TWELVE, "currency": None}, KEEP_CRM, HoldKind.NEED),
        ({"value": TWELVE, "currency": "USD"}, rules(flows={"currency": Flow.TO_CRM}), HoldKind.FROZEN),
        ({"value": TWELVE, "currency": "USD"}, rules(flows={"currency": Flow.OFF}), HoldKind.FROZEN),
    ],
)
def test_partner_center_gets_both_or_neither(change: Fields, rule: Rules, kind: HoldKind) -> None:
    decision = decided(here(both(), **change), rule)
    assert (decision.steps, decision.crm) == ((), {})
    assert {(hold.kind, hold.field) for hold in decision.holds} == {(kind, "value"), (kind, "currency")}


def test_an_amount_that_is_off_leaves_the_currency_alone() -> None:
    decision = decided(there(both(), value=ELEVEN, currency="USD"), rules(flows={"value": Flow.OFF}))
    assert (decision.crm, decision.holds) == ({}, ())


def test_what_went_over_is_agreed_whole() -> None:
    """Both had changed the currency to the same before; only the amount is written, and both become base."""
    link = here(there(both(), value=ELEVEN, currency="USD"), value=TWELVE, currency="USD")
    assert sent(decided(link)) == {"value": TWELVE}
    end = settled(link, KEEP_CRM)
    decision = decided(here(end, value=TEN))
    assert (sent(decision), decision.conflicts) == ({"value": TEN}, ())


def test_an_open_write_is_settled_whole() -> None:
    """The currency stands as it was sent, the amount does not: nobody knows of either."""
    link = here(both(), value=TWELVE, currency="USD")
    fields = {"value": TWELVE, "currency": "USD"}
    intent = Intent(link.key, PC, False, "1", fields, fields, "c", NOW)
    now = there(link, value=ELEVEN, currency="USD")
    after = settle(now, intent)
    assert set(after.memory.disputed) == {"value", "currency"}
    assert (after.base_referral["value"], after.base_referral["currency"]) == (TEN, "EUR")
    landed = settle(there(link, **fields), intent)
    assert (landed.base_referral["value"], landed.base_referral["currency"]) == (TWELVE, "USD")


PAIRS = st.tuples(st.sampled_from((TEN, ELEVEN, TWELVE)), st.sampled_from(("EUR", "USD", "JPY")))


@given(
    there_=PAIRS,
    here_=PAIRS,
    based=st.booleans(),
    policy=st.sampled_from((Policy.PARTNER_CENTER, Policy.CRM, Policy.ASK)),
    locked=st.sets(st.sampled_from(MONEY)),
    flow=st.sampled_from(Flow),
)
def test_neither_side_ever_holds_what_nobody_entered(
    there_: tuple[Decimal, str],
    here_: tuple[Decimal, str],
    based: bool,
    policy: Policy,
    locked: set[str],
    flow: Flow,
) -> None:
    rule = rules({"value": policy}, {"currency": flow})
    link = here(there(both(), value=there_[0], currency=there_[1]), value=here_[0], currency=here_[1])
    assert link.opportunity is not None
    link = replace(link, opportunity=replace(link.opportunity, readonly=frozenset(locked)))
    link = link if based else replace(link, base_referral={"state": State.ACCEPTED.value})
    end = settled(link, rule)
    assert money(end.referral) in {there_, here_}
    assert money(end.opportunity) in {there_, here_}


# --- within one value ------------------------------------------------------------------------------------------------


def people(
    last: str | None = "Lee", first: str | None = "Ann", phone: str | None = None
) -> tuple[Member, ...]:
    return (Member("ann@x", first, last, phone),)


def test_a_person_s_two_names_have_one_winner() -> None:
    """Each side married her otherwise: nobody is called Anna Kim."""
    link = both(contacts=people())
    for rule, name in (
        (KEEP_CRM, people(first="Anna")),
        (rules({"contacts": Policy.PARTNER_CENTER}), people("Kim")),
    ):
        edited = there(here(link, contacts=people(first="Anna")), contacts=people("Kim"))
        assert [each.field for each in decided(edited, rule).conflicts] == ["contacts"]
        end = settled(edited, rule)
        assert end.referral is not None
        assert end.opportunity is not None
        assert end.referral["contacts"] == end.opportunity["contacts"] == name


def test_a_name_and_a_phone_merge() -> None:
    link = there(here(both(contacts=people()), contacts=people(first="Anna")), contacts=people(phone="1"))
    end = settled(link, KEEP_CRM)
    assert end.referral is not None
    assert end.referral["contacts"] == people(first="Anna", phone="1")


def test_without_a_base_a_name_is_completed() -> None:
    link = replace(there(both(contacts=people(), consent=True), contacts=people(None)), base_opportunity={})
    assert decided(link).conflicts == ()
    assert sent(decided(link))["contacts"] == people()


CONTOSO = Customer("Contoso", "Main St 1", None, "Austin", "TX", "73301", "US")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (Customer("Contoso Ltd", country="US"), replace(CONTOSO, name="Contoso Ltd")),
        (Customer("Contoso", city="Berlin", country="DE"), Customer("Contoso", city="Berlin", country="DE")),
    ],
)
def test_without_a_base_an_address_is_completed_or_taken_whole(given: Customer, left: Customer) -> None:
    link = replace(there(here(both(), customer=CONTOSO), customer=given), base_opportunity={})
    kept_equal = rules(account_updates=AccountUpdates.ALL)
    assert decided(link, kept_equal).crm["customer"] == left


def test_an_amount_that_the_crm_holds_cut_goes_whole_with_its_new_currency() -> None:
    """A yen has no cents: in another currency, what the CRM holds of the amount is another amount."""
    link = there(at_rest(State.ACCEPTED), value=Decimal("10.005"), currency="USD")
    link = here(link, value=Decimal("10.01"), currency="USD")
    link = decided(link).link
    assert sent(decided(here(link, currency="EUR"))) == {"value": Decimal("10.005"), "currency": "EUR"}
    yen = replace(SHAPE, scales={"JPY": 0})
    assert sent(decided(here(link, currency="JPY"), shape=yen)) == {
        "value": Decimal("10.01"),
        "currency": "JPY",
    }
