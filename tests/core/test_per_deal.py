"""What Partner Center asks of every deal, the partner's location, and the customer's D-U-N-S number."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from deals import NOW, SHAPE, at_rest, here, rules, there
from sharing import RULES, opportunity, pair

from cosell_sync.core import as_json, duns, publishing
from cosell_sync.core.accounts import difference, filled
from cosell_sync.core.deal import ABSENT, Customer, State, Value
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.fields import NEWER, Kind
from cosell_sync.core.intake import IntakeAction, Matches, decide_intake
from cosell_sync.core.memory import Link
from cosell_sync.core.outcome import after_create
from cosell_sync.core.readings import without_stale
from cosell_sync.core.reconcile import decide
from cosell_sync.core.requirements import missing
from cosell_sync.core.rules import AccountUpdates, CrmShape, Policy

LISTED = replace(SHAPE, picklists={"solution_area": frozenset({"Security"})})
NUMBERED = replace(SHAPE, duns=True)
BARE = replace(SHAPE, fields=SHAPE.fields - {*NEWER})  # an org that an earlier version set up
TODAY = date(2026, 3, 2)


def decided(link: Link, shape: CrmShape = SHAPE, **changes: object) -> Decision:
    return decide(link, rules(dict.fromkeys(NEWER, Policy.PARTNER_CENTER), **changes), shape, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NEWER)
def test_what_microsoft_says_is_shown(name: str) -> None:
    decision = decided(there(at_rest(), **{name: "42"}))
    assert (decision.steps, dict(decision.crm), decision.holds) == ((), {name: "42"}, ())
    assert dict(decided(there(at_rest(), **{name: "42"}), shape=BARE).crm) == {}


@pytest.mark.parametrize("name", NEWER)
def test_a_deal_that_exists_takes_no_other_answer(name: str) -> None:
    """PATCH has no path for it, so nothing is sent, both stay as they are, and the seller is told why."""
    decision = decided(here(at_rest(), **{name: "42"}))
    assert (decision.steps, dict(decision.crm)) == ((), {})
    assert [(hold.kind, hold.field) for hold in decision.holds] == [(HoldKind.FROZEN, name)]
    assert "once a deal exists" in decision.holds[0].text


@pytest.mark.parametrize("name", NEWER)
def test_both_changed_it_and_partner_center_keeps_its_own(name: str) -> None:
    decision = decided(there(here(at_rest(), **{name: "41"}), **{name: "42"}))
    assert dict(decision.crm) == {name: "42"}
    assert [(each.field, each.referral, each.opportunity) for each in decision.conflicts] == [
        (name, "42", "41")
    ]


def test_an_answer_that_is_none_of_the_choices_is_told_and_harms_nothing() -> None:
    link = there(at_rest(), solution_area="Data & AI", value=Decimal(5))
    decision = decided(link, shape=LISTED)
    assert dict(decision.crm) == {"value": Decimal("5.00")}
    (hold,) = decision.holds
    assert (hold.kind, hold.field, hold.referral) == (HoldKind.READ_ONLY, "solution_area", "Data & AI")
    assert hold.text == (
        "Partner Center has Data & AI for Solution Area, which the list here does not offer. Ask your administrator to add it."
    )
    assert dict(decided(there(at_rest(), solution_area="Security"), shape=LISTED).crm) == {
        "solution_area": "Security"
    }


def test_a_new_referral_is_imported_with_what_fits() -> None:
    referral = there(
        at_rest(State.RECEIVED), solution_area="Data & AI", location="4100001", solution_play="X"
    ).referral
    made = decide_intake(Link("r:R1", "R1", referral=referral), Matches(), rules(), LISTED, NOW)
    assert made.action is IntakeAction.CREATE
    assert "solution_area" not in made.fields
    assert (made.fields["location"], made.fields["solution_play"]) == ("4100001", "X")


def test_a_choice_that_an_admin_adds_later_is_taken_over() -> None:
    """What was left out of the new opportunity is not taken for agreed."""
    referral = there(at_rest(State.RECEIVED), solution_area="Data & AI").referral
    assert referral is not None
    link = Link("r:R1", "R1", referral=referral)
    fields = decide_intake(link, Matches(), rules(), LISTED, NOW).fields
    opportunity = at_rest(State.RECEIVED).opportunity
    assert opportunity is not None
    made = after_create(link, fields, replace(opportunity, last_by_us=True), rules(), State.RECEIVED)
    assert [hold.field for hold in decided(made, LISTED).holds] == ["solution_area"]
    assert decided(made).crm["solution_area"] == "Data & AI"


def test_what_the_crm_could_not_be_given_before_is_news_once_it_can() -> None:
    """The column for D-U-N-S numbers was made; the account is filled as if Partner Center had brought the number now."""
    numbered = Customer("Contoso", country="US", duns=NUMBER)
    link = there(at_rest(), customer=numbered)
    link = replace(link, base_referral={**link.base_referral, "customer": numbered})
    assert "customer" not in decided(link, NUMBERED).crm
    again = without_stale(link, {"customer.duns": True}, link.opportunity)
    assert decided(again, NUMBERED).crm["customer"] == numbered


def test_a_new_deal_says_what_the_seller_chose_and_leaves_the_rest_to_the_configuration() -> None:
    chosen: dict[str, Value] = {
        "marketplace_intent": " Yes ",
        "solution_area": "Security",
        "location": "4100001",
    }
    sent = publishing.new_referral_fields(opportunity(**chosen), RULES, SHAPE)
    assert {name: sent[name] for name in NEWER if name in sent} == {**chosen, "marketplace_intent": "Yes"}
    absent = opportunity(**dict.fromkeys(NEWER, ABSENT))
    assert not publishing.new_referral_fields(absent, RULES, BARE).keys() & {*NEWER}


def test_the_default_that_was_sent_is_shown_on_the_record() -> None:
    """The seller left it empty, Partner Center was told the configured one, and the record says so."""
    link = pair(marketplace_intent="Have not decided", location="4100001")
    decision = decide(link, RULES, SHAPE, NOW)
    assert (decision.steps, decision.holds, decision.conflicts) == ((), (), ())
    assert dict(decision.crm) == {"marketplace_intent": "Have not decided", "location": "4100001"}


@pytest.mark.parametrize(
    ("location", "told"), [("4100001", False), (" 4100001 ", False), ("Berlin", True), ("٤", True)]
)
def test_a_location_is_made_of_digits(location: str, *, told: bool) -> None:
    gaps = missing(opportunity(location=location), RULES, SHAPE, TODAY, cosell=False)
    assert [gap.words for gap in gaps] == (["Partner Location (digits only, or empty)"] if told else [])


# --- D-U-N-S ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("315000001", "315000001"), (" 31-500-0001 ", "315000001"), ("31 500 0001", "315000001"),
        ("31\u2011500\u20130001", "315000001"), ("31500001", None), ("3150000011", None), ("31.500.0001", None),
        ("DUNS 315000001", None), ("٣١٥٠٠٠٠٠١", None), ("", None), (None, None), (315000001, None),
    ],
)  # fmt: skip
def test_nine_digits_however_they_are_grouped(written: object, number: str | None) -> None:
    assert duns.normalized(written) == number
    if isinstance(written, str):
        assert duns.as_written(written) == (number or written)


def test_what_is_no_number_is_told_before_anything_is_sent() -> None:
    customer = opportunity()["customer"]
    assert isinstance(customer, Customer)
    wrong = opportunity(customer=replace(customer, duns="31500001"))
    gaps = missing(wrong, RULES, SHAPE, TODAY, cosell=False)
    assert [gap.words for gap in gaps] == ["D-U-N-S Number (nine digits, or empty)"]
    right = opportunity(customer=replace(customer, duns="315000001"))
    assert not missing(right, RULES, SHAPE, TODAY, cosell=False)


ACCOUNT = Customer("Contoso", "Main St 1", None, "Berlin", None, "10115", "DE")
NUMBER = "315000001"


@pytest.mark.parametrize(
    ("account", "number"),
    [
        (ACCOUNT, NUMBER),
        (replace(ACCOUNT, city=None), NUMBER),
        (replace(ACCOUNT, duns="079000002"), "079000002"),
        (replace(ACCOUNT, name="Contoso Holding"), None),  # the customer's parent, perhaps
        (replace(ACCOUNT, city="Bonn"), None),  # another site
    ],
)
def test_the_number_is_filled_into_the_account_of_that_company_only(
    account: Customer, number: str | None
) -> None:
    assert filled(account, replace(ACCOUNT, duns=NUMBER)).duns == number


def test_two_numbers_are_named_and_both_stay() -> None:
    told = difference(replace(ACCOUNT, duns=NUMBER), replace(ACCOUNT, duns="079000002"), NUMBERED)
    assert told is not None
    assert "D-U-N-S Number" in told
    assert "079000002" in told
    assert NUMBER in told
    assert difference(replace(ACCOUNT, duns=NUMBER), ACCOUNT, NUMBERED) is None
    assert difference(replace(ACCOUNT, duns=NUMBER), replace(ACCOUNT, duns="079000002"), SHAPE) is None


@pytest.mark.parametrize("updates", AccountUpdates)
def test_a_number_that_partner_center_brings_reaches_a_blank_account(updates: AccountUpdates) -> None:
    """Once: what was filled and cleared by a person since stays clear where the account is not the deal's own."""
    link = there(at_rest(), customer=Customer("Contoso", country="US", duns=NUMBER))
    wanted = Customer("Contoso", country="US", duns=NUMBER)
    assert dict(decided(link, NUMBERED, account_updates=updates).crm) == {"customer": wanted}
    assert dict(decided(link, SHAPE, account_updates=updates).crm) == {}  # no column for it


@pytest.mark.parametrize("updates", AccountUpdates)
def test_partner_center_says_none_and_clears_none(updates: AccountUpdates) -> None:
    numbered = Customer("Contoso", country="US", duns=NUMBER)
    link = here(at_rest(), customer=numbered)
    decision = decided(link, NUMBERED, account_updates=updates)
    assert (decision.steps, dict(decision.crm), decision.holds, decision.conflicts) == ((), {}, (), ())
    moved = there(link, customer=Customer("Contoso", city="Bonn", country="US"))
    moved = replace(moved, base_opportunity={**moved.base_opportunity, "customer": numbered})
    written = decided(moved, NUMBERED, account_updates=updates).crm["customer"]
    assert written == replace(numbered, city="Bonn")


def test_the_store_of_an_earlier_version_is_read_and_written_as_it_was() -> None:
    plain = as_json.to_json(ACCOUNT)
    assert "duns" not in plain
    assert as_json.value_from_json(Kind.CUSTOMER, plain) == ACCOUNT
    numbered = replace(ACCOUNT, duns=NUMBER)
    assert as_json.value_from_json(Kind.CUSTOMER, as_json.to_json(numbered)) == numbered
