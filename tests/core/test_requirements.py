"""What must be there before a deal is shared or Microsoft is asked: everything missing, by the CRM's own labels."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from deals import SHAPE, rules
from sharing import COMPLETE, HELP, RULES, TODAY, opportunity

from cosell_sync.core import messages, publishing, requirements
from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS
from cosell_sync.core.requirements import Gap
from cosell_sync.core.rules import CrmShape


def gaps(cosell: bool = False, shape: CrmShape = SHAPE, **changes: Value) -> list[str]:
    found = requirements.missing(opportunity(**changes), RULES, shape, TODAY, cosell=cosell)
    return [gap.words for gap in found]


def customer(**changes: str | None) -> Customer:
    return replace(COMPLETE["customer"], **changes)  # type: ignore[type-var,arg-type,return-value]


LABELLED = replace(
    SHAPE,
    default_currency=None,
    labels={name: f"<{name}>" for name in [*KINDS, *(f"customer.{part.name}" for part in fields(Customer))]},
)


ASK = "Ask the customer whether their contact details may be shared, then tick <consent>."
PERSON = "with first name, last name, phone and e-mail"


def test_every_gap_is_named_by_the_crms_own_labels() -> None:
    nothing = Snapshot("006", "1", dict.fromkeys(COMPLETE))
    assert requirements.missing(nothing, RULES, LABELLED, TODAY, cosell=True) == (
        Gap("name", "<name>"),
        Gap("value", "<value>"),
        Gap("currency", "<currency>"),
        Gap("close_date", "<close_date>"),
        Gap("customer", "Choose a <customer>.", asks=True),
        Gap("solutions", "<solutions> (at least one)"),
        Gap("team", f"<team> (a colleague {PERSON})"),
        Gap("consent", ASK, asks=True),
        Gap("contacts", f"<contacts> (a customer contact {PERSON})"),
        Gap("help", "<help> (one of the six kinds)"),
    )


def test_without_an_account_its_fields_are_not_spoken_of() -> None:
    found = requirements.missing(opportunity(customer=None, value=None), RULES, SHAPE, TODAY, cosell=False)
    text = requirements.told(found, messages.cannot_share)
    assert text == "Not shared with Partner Center yet. Choose an Account. Please fill in: Amount."
    alone = [gap for gap in found if gap.field == "customer"]
    assert requirements.told(alone, messages.cannot_widen).endswith("told yet. Choose an Account.")


def test_who_is_there_and_cannot_be_sent_is_named() -> None:
    found = requirements.missing(
        opportunity(contacts=(), solutions=(), contacts_unkeyed="Greta Oz", solutions_unkeyed="Planner"),
        RULES,
        LABELLED,
        TODAY,
        cosell=True,
    )
    assert Gap("solutions", "<solutions> (at least one; Planner has no id)") in found
    assert Gap("contacts", f"<contacts> (a customer contact {PERSON}; Greta Oz has no e-mail)") in found


def test_what_the_crm_does_not_show_is_not_asked_of_the_seller() -> None:
    """Nobody can fill in what is there and out of sight; a currency that is not shown is not the org's own either."""
    known = opportunity()
    for name in ("customer", "team", "currency"):
        unseen = replace(known, fields={key: value for key, value in known.fields.items() if key != name})
        (gap,) = requirements.missing(unseen, RULES, LABELLED, TODAY, cosell=False)
        assert gap == Gap(name, f"<{name}> ({messages.NOT_SHOWN})")
    ann = Member("ann@contoso.example", "Ann", "Lee", extra={"hidden": ["phone"]})
    (words,) = gaps(team=(ann,))
    assert f"Ann Lee has no phone ({messages.NOT_SHOWN})" in words


def test_every_wrong_value_is_named_with_what_is_wrong() -> None:
    wrong = opportunity(
        value=Decimal("-0.01"),
        currency="EURO",
        close_date=TODAY - timedelta(days=1),
        customer=customer(country="Freedonia"),
        solutions=tuple(Solution(f"SOL-{n}") for n in range(51)),
        team=(*(Member(f"{n}@x") for n in range(50)), Member("ida@p.example", "Ida", "Kern")),
        contacts=(Member("greta@c.example"),),
        help="Something else",
        consent=None,
    )
    assert requirements.missing(wrong, RULES, LABELLED, TODAY, cosell=True) == (
        Gap("value", "<value> (must not be negative)"),
        Gap("currency", "<currency>"),
        Gap("close_date", "<close_date> (must not be in the past)"),
        Gap("customer", '<customer.country> ("Freedonia" is no country known here)'),
        Gap("solutions", "<solutions> (at most 50)"),
        Gap("team", "<team> (at most 50)"),
        Gap("team", f"<team> (a colleague {PERSON}; Ida Kern has no phone)"),
        Gap("consent", ASK, asks=True),
        Gap(
            "contacts",
            f"<contacts> (a customer contact {PERSON}; greta@c.example has no first name, last name and phone)",
        ),
        Gap("help", "<help> (one of the six kinds)"),
    )


@pytest.mark.parametrize("currency", ["eur", "EURO", "XXX", "XBT", "DEM"])
def test_a_currency_is_one_of_iso(currency: str) -> None:
    assert gaps(currency=currency) == ["Currency"]


@pytest.mark.parametrize("country", ["de", "DEU", "D1", "D ", "ÄÖ", "D", "EL", "EU", "XX", "UK"])
def test_a_country_is_two_capital_letters(country: str) -> None:
    assert gaps(customer=customer(country=country)) == [
        f'Billing Country ("{country}" is no country known here)'
    ]


@pytest.mark.parametrize("currency", ["EU", "EURO", "E1R", "ÄUR", "EU "])
def test_a_currency_is_three_letters(currency: str) -> None:
    assert gaps(currency=currency) == ["Currency"]


def test_what_just_suffices() -> None:
    assert (
        gaps(
            value=Decimal(0),
            solutions=tuple(Solution(f"SOL-{n}") for n in range(50)),
            team=(*(Member(f"{n}@x") for n in range(49)), Member("ida@p.example", "Ida", "Kern", "+49")),
        )
        == []
    )


LACKS: list[tuple[str, dict[str, Value]]] = [
    ("Name", {"name": None}),
    ("Amount", {"value": None}),
    ("Amount", {"value": Decimal(-1)}),
    ("Close Date", {"close_date": None}),
    ("Close Date (must not be in the past)", {"close_date": date(2026, 3, 1)}),
    ("Account Name", {"customer": customer(name=None)}),
    ("Billing Street", {"customer": customer(address_line1=None)}),
    ("Billing City", {"customer": customer(city=None)}),
    ("Billing Country", {"customer": customer(country=None)}),
    ('Billing Country ("Freedonia"', {"customer": customer(country="Freedonia")}),
    ("Solutions (at least one)", {"solutions": ()}),
    ("Solutions (at most 50)", {"solutions": tuple(Solution(f"SOL-{n}") for n in range(51))}),
    ("Opportunity Team", {"team": ()}),
    ("Opportunity Team", {"team": (Member("ida@p.example", "Ida", "Kern"),)}),
    ("Opportunity Team", {"team": (Member("ida@p.example", None, "Kern", "+49"),)}),
    ("Choose an Account.", {"customer": None}),
    ("Ask the customer", {"consent": False}),
    ("Consent (the sync user", {"consent": ABSENT}),
]


def test_a_complete_opportunity_lacks_nothing() -> None:
    assert gaps() == []
    assert gaps(cosell=True, help=HELP) == []
    assert gaps(close_date=TODAY) == []


@pytest.mark.parametrize(("label", "changes"), LACKS)
def test_each_missing_field_alone_is_named_by_its_label(label: str, changes: dict[str, Value]) -> None:
    (words,) = gaps(**changes)
    assert words.startswith(label)


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("Contact Roles", {"contacts": ()}),
        ("Contact Roles", {"contacts": (Member("greta@c.example", "Greta", "Öz"),)}),
        ("Help", {"help": "Something else"}),
    ],
)
def test_a_request_for_help_needs_a_contact_and_one_of_the_six_kinds(
    label: str, changes: dict[str, Value]
) -> None:
    (words,) = gaps(cosell=True, **{"help": HELP, **changes})
    assert words.startswith(label)
    assert label == "Help" or gaps(**changes) == [], "other deals need no contact"


def test_a_currency_is_the_deals_or_the_only_one_there_is() -> None:
    assert gaps(currency=None) == []  # the org's own
    assert publishing.new_referral_fields(opportunity(currency=None), RULES, SHAPE)["currency"] == "USD"
    theirs = rules(default_currency="CHF")
    assert publishing.new_referral_fields(opportunity(currency=None), theirs, SHAPE)["currency"] == "CHF"
    assert publishing.new_referral_fields(opportunity(), theirs, SHAPE)["currency"] == "EUR"
    (words,) = gaps(shape=replace(SHAPE, default_currency=None), currency=None)
    assert words == "Currency"


def test_all_that_is_missing_is_told_in_one_message() -> None:
    nothing = Snapshot("006", "1", {"stage": "Qualification", "sync": True, "help": HELP})
    found = requirements.missing(nothing, RULES, SHAPE, TODAY, cosell=True)
    text = requirements.told(found, messages.cannot_share)
    assert "\n" not in text
    assert all(gap.words in text for gap in found)


def test_who_comes_closest_is_named() -> None:
    (words,) = gaps(team=(Member("x@p.example"), Member("ida@p.example", "Ida", "Kern")))
    assert "Ida Kern has no phone" in words
