"""An account is no field of the deal: what a referral may fill of it, and what stays different by policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.deals import NOW, SHAPE, at_rest, here, rules, there
from cosell_sync.core.accounts import difference, filled, keeps_equal
from cosell_sync.core.deal import ABSENT, Customer, Snapshot, State
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.memory import Link
from cosell_sync.core.outcome import after_create, after_opportunity, after_shared_write
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import AccountUpdates, Rules
from cosell_sync.core.status import status_report

ACCOUNT = Customer("Contoso AG", country="US", extra={"account": "A1"})
BROUGHT = Customer("Contoso", "Main St 1", "Building 2", "Redmond", "WA", "98052", "US")


def decided(link: Link, given: Rules | None = None) -> Decision:
    return decide(link, given or rules(), SHAPE, NOW)


@pytest.mark.parametrize(
    ("account", "brought", "becomes"),
    [
        (ACCOUNT, BROUGHT, replace(BROUGHT, name="Contoso AG")),
        (Customer("C", city="REDMOND"), BROUGHT, replace(BROUGHT, name="C", city="REDMOND")),
        (Customer("C", city="Denver"), BROUGHT, Customer("C", city="Denver")),  # an address that nobody has
        (Customer("C", "Elm St 5", country="US"), BROUGHT, Customer("C", "Elm St 5", country="US")),
        (Customer(None, "Main St 1"), BROUGHT, replace(BROUGHT, name=None)),
        (BROUGHT, Customer("Contoso"), BROUGHT),
        (Customer("C"), Customer("D"), Customer("C")),
    ],
)
def test_only_blanks_are_filled_and_never_the_name(
    account: Customer, brought: Customer, becomes: Customer
) -> None:
    assert filled(account, brought) == becomes
    assert filled(becomes, brought) == becomes


def linked(account: Customer = ACCOUNT, brought: Customer = BROUGHT) -> Link:
    """A referral joined to an opportunity that was there: no bases yet."""
    return replace(
        here(there(at_rest(), customer=brought), customer=account), base_referral={}, base_opportunity={}
    )


def landed(link: Link, given: Rules) -> Link:
    """The link after the CRM took what the decision asks for."""
    decision = decide(link, given, SHAPE, NOW)
    assert link.opportunity is not None
    after = replace(link.opportunity, fields={**link.opportunity.fields, **decision.crm})
    return after_opportunity(decision.link, decision.crm, after, given, State.ACCEPTED)


def test_linking_fills_blanks_and_names_the_rest_once() -> None:
    link = linked()
    decision = decided(link)
    assert decision.crm["customer"] == replace(BROUGHT, name="Contoso AG")
    assert not any("customer" in step.fields for step in decision.steps)
    assert [hold.kind for hold in decision.holds if hold.field == "customer"] == [HoldKind.SHARED]
    at_peace = decided(landed(link, rules()))
    assert "customer" not in at_peace.crm
    report = status_report(at_peace, (), SHAPE, NOW)
    assert "is Contoso AG here and Contoso in Partner Center" in report.message
    assert report.state.value == "In sync"


def test_what_a_seller_clears_later_stays_clear() -> None:
    link = landed(linked(), rules())
    cleared = here(link, customer=replace(BROUGHT, name="Contoso AG", city=None))
    assert "customer" not in decided(cleared).crm
    assert "customer" not in decided(decided(cleared).link).crm


def test_a_new_name_in_partner_center_renames_no_account() -> None:
    link = there(landed(linked(), rules()), customer=replace(BROUGHT, name="Contoso Global"))
    decision = decided(link)
    assert "customer" not in decision.crm
    assert [hold.kind for hold in decision.holds] == [HoldKind.SHARED]
    assert "Contoso Global" in decision.holds[0].text
    assert decision.link.base_referral["customer"] == replace(BROUGHT, name="Contoso Global")


def test_a_new_name_of_the_account_is_no_edit_of_the_deal() -> None:
    link = here(landed(linked(), rules()), customer=replace(BROUGHT, name="Contoso SE"))
    decision = decided(link)
    assert (decision.steps, decision.crm) == ((), {})
    assert [hold.kind for hold in decision.holds] == [HoldKind.SHARED]


def test_where_both_say_the_same_nothing_is_said() -> None:
    assert difference(BROUGHT, replace(BROUGHT, name="CONTOSO "), SHAPE) is None
    assert difference(BROUGHT, Customer("Contoso"), SHAPE) is None
    assert difference(None, BROUGHT, SHAPE) is None


@pytest.mark.parametrize(
    ("updates", "made", "equal"),
    [
        (AccountUpdates.FILL, "A1", False),
        (AccountUpdates.OWN, "A1", True),
        (AccountUpdates.OWN, "A2", False),
        (AccountUpdates.OWN, None, False),
        (AccountUpdates.ALL, None, True),
    ],
)
def test_who_keeps_an_account_equal(updates: AccountUpdates, made: str | None, equal: bool) -> None:
    link = landed(linked(), rules())
    held = replace(BROUGHT, name="Contoso AG", extra={"account": "A1"})
    link = here(replace(link, memory=replace(link.memory, account_made=made)), customer=held)
    assert keeps_equal(link, updates) is equal
    renamed = there(link, customer=replace(BROUGHT, name="Contoso Global"))
    decision = decided(renamed, rules(account_updates=updates))
    assert ("customer" in decision.crm) is equal


def test_an_import_into_an_account_that_was_there_fills_its_blanks() -> None:
    link = replace(there(at_rest(), customer=BROUGHT), base_referral={}, base_opportunity={})
    after = Snapshot("006", "v2", {**link.opportunity.fields, "customer": ACCOUNT})  # type: ignore[union-attr]
    made = after_create(link, {"customer": BROUGHT}, after, rules(), State.ACCEPTED)
    assert decided(made).crm["customer"] == replace(BROUGHT, name="Contoso AG")
    own = after_create(link, {"customer": BROUGHT}, after, rules(), State.ACCEPTED, account_made="A1")
    assert own.memory.account_made == "A1"
    assert "customer" not in decided(own).crm


def test_what_we_wrote_for_one_deal_is_no_edit_of_another() -> None:
    everything = rules(account_updates=AccountUpdates.ALL)
    other = at_rest()
    before, after = other.base_opportunity["customer"], Customer("Renamed", country="US")
    moved = after_shared_write(here(other, customer=after), before, after)
    decision = decide(moved, everything, SHAPE, NOW)
    assert (decision.steps, decision.crm) == ((), {})
    assert [hold.kind for hold in decision.holds] == [HoldKind.SHARED]
    edited = here(other, customer=Customer("By hand", country="US"))
    edited = replace(edited, base_opportunity={**other.base_opportunity, "customer": Customer("Older")})
    assert after_shared_write(edited, before, after) is edited
    unknown = replace(other, base_opportunity={})
    assert after_shared_write(unknown, before, after) is unknown
    assert unknown.base_opportunity.get("customer", ABSENT) is ABSENT
