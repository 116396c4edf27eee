"""What the seller reads when the CRM cannot hold all of Partner Center's value: each loss once, and no more than that."""

from __future__ import annotations

from dataclasses import replace

from core.deals import SHAPE
from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Solution, Value
from cosell_sync.core.losses import lost_in_crm
from cosell_sync.core.normalize import for_crm

NARROW = replace(
    SHAPE,
    lengths={
        "name": 8, "notes": 10, "customer.name": 8, "customer.street": 20, "contacts.email": 12, "contacts.last_name": 4,
        "solutions.name": 5, "solutions.id": 6,
    },
    labels={"customer.country": "Country", "customer.state": "State", "customer.address_line1": "Street", "contacts": "Contacts"},
    picklists={"customer.country": frozenset({"DE", "US"})},
    states={"US": {"washington": "WA", "wa": "WA"}, "DE": {}},
)  # fmt: skip


def said(**fields: Value) -> list[str]:
    written = {name: for_crm(name, value, NARROW) for name, value in fields.items()}
    return lost_in_crm(fields, Snapshot("R1", "1", fields), written, NARROW)


def test_what_fits_is_not_talked_about() -> None:
    assert said(
        name=" Fabric\x0b", notes="one\r\ntwo\x07", campaign_id="c" * 500, customer=Customer("Contoso", "A", "B", country="US", state="washington"),
        contacts=(Member("a@x.example", "A", "Ek"),), solutions=(Solution("S1", "One"),), favorite=True, value=None, team=(),
    ) == []  # fmt: skip
    assert lost_in_crm(["name"], Snapshot("R1", "1", {"name": ABSENT}), {}, NARROW) == []


def test_texts_that_are_cut_are_named_together() -> None:
    assert said(
        name="Fabricated", notes="one two three", contacts=(Member("a@x.example", None, "Ekman"),)
    ) == ["Shortened to what the CRM can hold: Name, Notes and Contacts. Partner Center keeps the whole."]


def test_street_lines_share_their_column() -> None:
    both = Customer("C", "Main Street 1", "Rear building")
    assert said(customer=both) == [
        "Shortened to what the CRM can hold: Street. Partner Center keeps the whole."
    ]
    assert said(customer=Customer("C", None, "Rear building")) == []


def test_a_place_that_is_none_of_the_choices_is_named() -> None:
    assert said(customer=Customer("C", country="XK", state="Somewhere")) == [
        "Partner Center has XK for Country, which the CRM cannot hold: it is none of its choices; your administrator can add it.",
        "Partner Center has Somewhere for State, which the CRM cannot hold: it is none of its choices; your administrator can add it.",
    ]
    assert said(customer=Customer("C", country="DE", state="BY")) == [
        "Partner Center has BY for State, which the CRM cannot hold: it is none of its choices; your administrator can add it."
    ]


def test_a_key_is_never_cut() -> None:
    assert said(contacts=(Member("a" * 9 + "@x.example", "Ann", "Ek"), Member("b@x.example"))) == [
        "Partner Center has Ann Ek for Contacts, which the CRM cannot hold: an e-mail address is too long."
    ]
    assert said(solutions=(Solution("SOL-12345", "One"),)) == [
        "Partner Center has One for Solutions, which the CRM cannot hold: an id is too long."
    ]
