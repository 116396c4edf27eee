"""Resemblance is not identity: what Salesforce names as alike is taken only where it is the same company or person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.served_salesforce import World, draft
from cosell_sync.core.deal import Customer, Member
from cosell_sync.crm.writes import Ownership
from cosell_sync.errors import Rejected
from cosell_sync.ports import OpportunityWrite, Outcome
from cosell_sync.sandbox.certificates import Certificates

GRETA = Member("greta@customer.example", "Greta", "Oz", "+49 421 1")
FABRIKAM = {"Name": "Fabrikam", "BillingPostalCode": "10115", "BillingCountry": "Germany"}


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def world(certificates: Certificates, tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def build(**switches: bool) -> World:
        each = World(certificates, certificates.write(tmp_path / "ca.pem"), **switches)
        each.server.start()
        made.append(each)
        return each

    yield build
    for each in made:
        each.close()
        assert each.server.errors == []


def only(outcomes: Sequence[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def contact(w: World, email: str, first: str = "Greta", last: str = "Oz", **more: Any) -> str:
    return w.org.create("Contact", FirstName=first, LastName=last, Email=email, **more)


def roles(w: World) -> set[str]:
    return {str(each["ContactId"]) for each in w.org.rows("OpportunityContactRole")}


def import_greta(w: World) -> Outcome:
    return only(w.client().create([draft("ref-1", contacts=(GRETA,))]))


# --- contacts that a duplicate rule names ---------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_contact_of_the_same_name_with_another_email_is_somebody_else(
    world: Callable[..., World], named: bool
) -> None:
    w = world()
    w.org.duplicates.named = named
    stranger = contact(w, "greta.oz@elsewhere.example", Phone="+1 555 9")
    made = import_greta(w)
    assert made.error is None
    assert made.snapshot is not None
    assert made.snapshot["contacts"] == (GRETA,)
    assert stranger not in roles(w)


def test_a_lead_is_no_contact(world: Callable[..., World]) -> None:
    w = world()
    w.org.duplicates.add_lead("Greta", "Oz", GRETA.email, "Fabrikam")
    made = import_greta(w)
    assert made.error is None
    assert made.snapshot is not None
    assert made.snapshot["contacts"] == (GRETA,)


def test_a_contact_of_another_account_with_the_same_email_is_the_same_person(
    world: Callable[..., World],
) -> None:
    w = world()
    elsewhere = w.org.create("Account", Name="Elsewhere")
    contact(w, "greta.oz@elsewhere.example")
    known = contact(w, GRETA.email.upper(), AccountId=elsewhere)
    made = import_greta(w)
    assert made.error is None
    assert roles(w) == {known}
    assert len(w.org.rows("Contact")) == 2
    row = w.org.get("Contact", known)
    assert (row["AccountId"], row["Phone"]) == (elsewhere, "+49 421 1")  # what it left blank is filled


def test_of_two_contacts_elsewhere_with_the_same_email_neither_is_guessed(
    world: Callable[..., World],
) -> None:
    w = world()
    two = {contact(w, GRETA.email, AccountId=w.org.create("Account", Name=name)) for name in ("One", "Two")}
    made = import_greta(w)
    assert made.error is None
    assert made.snapshot is not None
    assert made.snapshot["contacts"] == (GRETA,)
    assert not roles(w) & two


def test_a_rule_that_blocks_holds_the_contact_and_names_both(world: Callable[..., World]) -> None:
    w = world()
    w.org.duplicate_rule = "block"
    stranger = contact(w, "greta.oz@elsewhere.example")
    made = import_greta(w)
    assert made.error is None  # the rest of the deal is there
    refusal = made.refused["contacts"]
    assert isinstance(refusal, Rejected)
    assert refusal.fields == ("contacts",)
    assert GRETA.email in refusal.text
    assert "greta.oz@elsewhere.example" in refusal.text
    assert stranger not in roles(w)


def test_a_rule_that_blocks_because_of_a_lead_names_the_new_contact(world: Callable[..., World]) -> None:
    w = world()
    w.org.duplicate_rule = "block"
    w.org.duplicates.add_lead("Greta", "Oz", "greta@lead.example", "Fabrikam")
    made = import_greta(w)
    assert (made.error, made.refused.keys()) == (None, {"contacts"})
    assert GRETA.email in made.refused["contacts"].text


# --- accounts -------------------------------------------------------------------------------------------------------


def test_an_account_of_the_same_name_elsewhere_is_another_company(world: Callable[..., World]) -> None:
    w = world()
    other = w.org.create("Account", Name="Fabrikam", BillingPostalCode="99999", BillingCountry="France")
    made = only(w.client().create([draft("ref-1")]))
    assert made.error is None
    assert w.org.rows("Opportunity")[0]["AccountId"] != other
    assert len(w.org.rows("Account", Name="Fabrikam")) == 2


def test_a_rule_that_blocks_holds_the_deal_and_names_both_companies(world: Callable[..., World]) -> None:
    w = world()
    w.org.duplicate_rule = "block"
    w.org.create(
        "Account", Name="FABRIKAM", BillingCity="Lyon", BillingPostalCode="9", BillingCountry="France"
    )
    made = only(w.client().create([draft("ref-1")]))
    assert isinstance(made.error, Rejected)
    assert made.error.fields == ("customer",)
    assert "Fabrikam, Main St 1, Berlin" in made.error.text
    assert "FABRIKAM, Lyon" in made.error.text
    assert not w.org.rows("Opportunity")


# --- edits ----------------------------------------------------------------------------------------------------------


def test_an_edit_of_a_known_row_passes_a_rule_that_only_alerts(world: Callable[..., World]) -> None:
    w = world()
    account = w.org.create("Account", **FABRIKAM)
    known = contact(w, GRETA.email, "Margarete", "Ozick", AccountId=account)
    contact(w, "greta.oz@elsewhere.example")
    deal = w.deal(AccountId=account)
    w.org.create("OpportunityContactRole", OpportunityId=deal, ContactId=known)
    w.org.create("Account", Name="Contoso")
    w.org.duplicates.on_edit = "alert"
    w.clock.tick()
    crm = w.client()
    renamed = Customer("Contoso", None, None, None, None, "10115", "DE")
    before = w.read(crm, deal)
    outcome = only(crm.write([OpportunityWrite(before, {"contacts": (GRETA,), "customer": renamed})]))
    assert outcome.error is None
    assert outcome.snapshot is not None
    assert outcome.snapshot["contacts"] == (GRETA,)
    assert w.org.get("Account", account)["Name"] == "Contoso"


# --- users ----------------------------------------------------------------------------------------------------------


def test_an_email_that_two_users_share_names_nobody(world: Callable[..., World]) -> None:
    w = world()
    for first in ("Una", "Ugo"):
        w.org.add_user(first, "Twin", "twin@contoso.example")
    crm = w.client(ownership=Ownership(default=None))
    made = only(crm.create([draft("ref-1", team=(Member("twin@contoso.example"),))]))
    assert made.error is None
    (row,) = w.org.rows("Opportunity")
    assert row["OwnerId"] == w.org.integration_user
    assert not w.org.rows("OpportunityTeamMember")
    assert made.ambiguous == {"twin@contoso.example"}


def test_a_user_name_is_single_though_the_email_is_shared(world: Callable[..., World]) -> None:
    w = world()
    una = w.org.add_user("Una", "Twin", "twin@contoso.example")
    w.org.add_user("Ugo", "Twin", "twin@contoso.example")
    crm = w.client(ownership=Ownership(default=str(w.org.get("User", una)["Username"])))
    crm.create([draft("ref-1")])
    assert w.org.rows("Opportunity")[0]["OwnerId"] == una


def test_a_shared_email_that_somebody_put_on_the_team_stays(world: Callable[..., World]) -> None:
    w = world()
    una = w.org.add_user("Una", "Twin", "twin@contoso.example")
    w.org.add_user("Ugo", "Twin", "twin@contoso.example")
    deal = w.deal()
    w.org.create("OpportunityTeamMember", OpportunityId=deal, UserId=una)
    w.clock.tick()
    crm = w.client()
    team = (Member("twin@contoso.example"), Member("sam.seller@contoso.example"))
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {"team": team})]))
    assert (outcome.error, outcome.unheld, outcome.ambiguous) == (None, {}, frozenset())
    assert {each["UserId"] for each in w.org.rows("OpportunityTeamMember")} == {una, w.org.seller}
