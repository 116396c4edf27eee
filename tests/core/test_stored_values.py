"""What is cut for the CRM reads back as agreed, part by part, and an edit beside it takes nothing of the cut along."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.deals import NOW, SHAPE, at_rest, here, rules, there
from cosell_sync.core.deal import Customer, Member, Solution, Value
from cosell_sync.core.normalize import agree, empty, for_crm
from cosell_sync.core.reconcile import decide

NARROW = replace(
    SHAPE,
    lengths={
        "name": 8, "notes": 12, "customer.name": 8, "customer.street": 12, "customer.city": 4, "customer.postal_code": 3,
        "contacts.email": 12, "contacts.first_name": 3, "contacts.last_name": 4, "contacts.phone": 5, "solutions.name": 5,
        "solutions.id": 6,
    },
    picklists={"customer.country": frozenset({"DE", "US"})},
    states={"US": {"washington": "WA", "wa": "WA"}},
)  # fmt: skip
FREE = replace(NARROW, picklists={}, states=None)
TEXT = st.text(st.sampled_from("ab \v\f\n\r\t\0\u200b\u0301\N{ROCKET}\u2028"), max_size=20)
MAYBE = st.none() | TEXT
CUSTOMER = st.builds(
    Customer, MAYBE, MAYBE, MAYBE, MAYBE, st.sampled_from([None, " ", "WA", "Washington", "Bavaria"]), MAYBE,
    st.sampled_from([None, "", "DE", "US", "XK", "Germany", "EL", "Freedonia"]),
)  # fmt: skip
PERSON = st.builds(Member, st.sampled_from(["a@x", "b@x", "long@example.org"]), MAYBE, MAYBE, MAYBE)


@settings(deadline=None)  # the first country loads its tables
@given(
    st.one_of(
        st.tuples(st.just("name"), MAYBE), st.tuples(st.just("notes"), MAYBE), st.tuples(st.just("customer"), CUSTOMER),
        st.tuples(st.just("contacts"), st.lists(PERSON, unique_by=lambda each: each.email).map(tuple)),
        st.tuples(st.just("solutions"), TEXT.map(lambda name: (Solution("S1", name), Solution("TOO-LONG")))),
    ),
    st.sampled_from([NARROW, FREE, SHAPE]),
)  # fmt: skip
def test_what_was_cut_is_cut_no_further_and_agrees(case: tuple[str, Value], shape: object) -> None:
    name, value = case
    held = for_crm(name, value, shape)  # type: ignore[arg-type]
    assert for_crm(name, held, shape) == held  # type: ignore[arg-type]
    assert agree(name, value, held, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", " ", "\u00a0", "\t\v\n", "\u200b\ufeff", None, ()])
def test_blank_is_empty(value: Value) -> None:
    assert empty(value)


def test_false_and_nought_are_values() -> None:
    assert not empty(False)
    assert not empty(Decimal(0))


LONG = Member("c@x", "Maximiliane", "Ekman", "+49 30 1")
CUT = Member("c@x", "Max", "Ekma", "+49 3")


def rested() -> object:
    """Both sides hold the same people, as far as each can; bases as after a write."""
    link = at_rest()
    assert link.referral is not None
    assert link.opportunity is not None
    return replace(
        link,
        referral=replace(link.referral, fields={**link.referral.fields, "contacts": (LONG,)}),
        opportunity=replace(link.opportunity, fields={**link.opportunity.fields, "contacts": (CUT,)}),
        base_referral={**link.base_referral, "contacts": (LONG,)},
        base_opportunity={**link.base_opportunity, "contacts": (CUT,)},
    )


def test_a_contact_that_is_cut_is_at_rest() -> None:
    decision = decide(rested(), rules(), NARROW, NOW)  # type: ignore[arg-type]
    assert (decision.steps, decision.crm, decision.conflicts, decision.holds) == ((), {}, (), ())


def test_a_phone_edited_beside_a_cut_name_travels_alone() -> None:
    link = here(rested(), contacts=(replace(CUT, phone="+1"),))  # type: ignore[arg-type]
    (step,) = decide(link, rules(), NARROW, NOW).steps
    assert step.fields["contacts"] == (replace(LONG, phone="+1"),)


def test_a_cut_name_that_the_seller_writes_anew_is_an_edit() -> None:
    link = here(rested(), contacts=(replace(CUT, first_name="Eva"),))  # type: ignore[arg-type]
    (step,) = decide(link, rules(), NARROW, NOW).steps
    assert step.fields["contacts"] == (replace(LONG, first_name="Eva"),)


def test_a_new_long_name_of_partner_center_is_cut_on_its_way() -> None:
    link = there(rested(), contacts=(replace(LONG, last_name="Bergström"),))  # type: ignore[arg-type]
    decision = decide(link, rules(), NARROW, NOW)
    assert decision.steps == ()
    assert decision.crm["contacts"] == (replace(CUT, last_name="Berg"),)


def test_a_key_that_does_not_fit_stays_where_it_is() -> None:
    """A colleague's e-mail longer than the column is no edit, neither now nor when somebody else is added."""
    far = Member("somebody@far.example")
    link = there(at_rest(), contacts=(Member("c@x", phone="1"), far))
    decision = decide(link, rules(), NARROW, NOW)
    assert (decision.steps, decision.crm) == ((), {})
    both = here(decision.link, contacts=(Member("c@x", phone="1"), Member("d@x")))
    (step,) = decide(both, rules(), NARROW, NOW).steps
    assert {each.key for each in step.fields["contacts"]} == {"c@x", "d@x", far.email}  # type: ignore[union-attr]


def test_a_country_that_the_crm_does_not_list_is_at_rest() -> None:
    link = there(at_rest(), customer=Customer("Contoso", country="XK"))
    decision = decide(link, rules(), NARROW, NOW)
    assert decision.crm == {"customer": Customer("Contoso")}
    emptied = here(replace(link, base_referral={**link.base_referral, "customer": Customer("Contoso", country="XK")},
        base_opportunity={**link.base_opportunity, "customer": Customer("Contoso")}), customer=Customer("Contoso"))  # fmt: skip
    decision = decide(emptied, rules(), NARROW, NOW)
    assert (decision.steps, decision.crm, decision.holds, decision.conflicts) == ((), {}, (), ())


def test_a_currency_that_is_none_is_not_sent() -> None:
    """Dynamics lets an admin make one with any code."""
    decision = decide(here(at_rest(), currency="XBT"), rules(), NARROW, NOW)
    assert decision.steps == ()
    assert [hold.text for hold in decision.holds] == [
        "Currency stays as you wrote it in the CRM but was not sent: XBT is no currency that Partner Center knows."
    ]
