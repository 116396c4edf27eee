"""Resemblance is not identity: what Dataverse calls alike, or names alike, is joined by value and key only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.served_dynamics import World, check, draft, only
from cosell_sync.core.deal import Member
from cosell_sync.crm.writes import Ownership
from cosell_sync.errors import Rejected
from cosell_sync.ports import OpportunityWrite
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.dataverse.schema import Key

Build = Callable[..., World]
GRETA = Member("greta@customer.example", "Greta", "Oz", "+49 421 1")


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def world(certificates: Certificates, tmp_path: Path) -> Iterator[Build]:
    made: list[World] = []

    def build(**switches: Any) -> World:
        each = World(certificates, certificates.write(tmp_path / "ca.pem"), **switches)
        each.server.start()
        made.append(each)
        return each

    yield build
    for each in made:
        each.close()
        assert each.server.errors == []


def add_key(w: World, table: str, column: str) -> None:
    """An alternate key of the customer's own on a standard table."""
    keys = (Key(f"own_{column}", f"Own_{column}", (column,)),)
    w.org._reshape(table, keys=keys)


# --- keys of the environment's own ----------------------------------------------------------------------------------


def test_the_holder_of_a_key_on_the_email_is_the_same_person(world: Build) -> None:
    w = world()
    elsewhere = w.account("Elsewhere")
    known = w.contact(GRETA.email, elsewhere)
    add_key(w, "contact", "emailaddress1")
    made = only(w.client().create([draft("ref-1", contacts=(GRETA,))]))
    assert made.error is None
    assert w.org.rows("opportunity")[0]["parentcontactid"] == known
    assert len(w.org.rows("contact")) == 1


def test_the_holder_of_a_key_on_the_name_is_another_company(world: Build) -> None:
    w = world()
    w.account("Fabrikam", address1_city="Lyon", address1_postalcode="9", address1_country="France")
    add_key(w, "account", "name")
    made = only(w.client().create([draft("ref-1")]))
    assert isinstance(made.error, Rejected)
    assert made.error.fields == ("customer",)
    assert "Fabrikam, Main St 1, Berlin" in made.error.text
    assert "Fabrikam, Lyon" in made.error.text
    assert not w.org.rows("opportunity")


# --- users ----------------------------------------------------------------------------------------------------------


def test_an_email_that_two_users_share_names_nobody(world: Build) -> None:
    w = world()
    for first in ("Una", "Ugo"):
        w.org.add_user(first, "Twin", "twin@contoso.example")
    una = w.org.rows("systemuser", firstname="Una")[0]
    made = only(w.client().create([draft("ref-1", team=(Member("twin@contoso.example"),))]))
    assert made.error is None
    assert made.ambiguous == {"twin@contoso.example"}
    (row,) = w.org.rows("opportunity")
    assert row["ownerid"] == w.org.integration_user
    assert not w.org.rows("connection")
    named = w.client(ownership=Ownership(default=str(una["domainname"])))
    made = only(named.create([draft("ref-2")]))
    assert w.org.get("opportunity", str(made.id))["ownerid"] == una["systemuserid"]


def test_a_shared_email_that_somebody_connected_stays(world: Build) -> None:
    w = world()
    una = w.org.add_user("Una", "Twin", "twin@contoso.example")
    w.org.add_user("Ugo", "Twin", "twin@contoso.example")
    deal = w.deal()
    w.org.connect(deal, una)
    w.clock.tick()
    crm = w.client()
    team = (Member("twin@contoso.example"), Member("sam.seller@contoso.example"))
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {"team": team})]))
    assert (outcome.error, outcome.unheld, outcome.ambiguous) == (None, {}, frozenset())
    assert {each["record2id"] for each in w.org.rows("connection")} - {deal} == {una, w.org.seller}


# --- status reasons of one label --------------------------------------------------------------------------------------

GERMAN = 1031


def test_status_reasons_of_one_label_are_told_apart_by_their_value(world: Build) -> None:
    w = world()
    won = w.org.add_status_reason("Closed", "Won")
    lost = w.org.add_status_reason("Closed", "Lost")
    crm = w.client()
    shape = crm.shape()
    assert shape.stages[f"Closed ({won})"].won
    assert shape.stages[f"Closed ({lost})"].closed
    assert not shape.stages[f"Closed ({lost})"].won
    assert "Closed" not in shape.stages
    assert shape.ambiguous_stages == {"closed": (f"Closed ({won})", f"Closed ({lost})")}
    deal = w.deal()
    w.clock.tick()
    refused = only(crm.write([OpportunityWrite(w.read(crm, deal), {"stage": "Closed"})]))
    assert isinstance(refused.error, Rejected)
    assert w.org.get("opportunity", deal)["statecode"] == "Open"
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {"stage": f"Closed ({lost})"})]))
    assert outcome.error is None
    assert w.org.get("opportunity", deal)["statecode"] == "Lost"
    assert outcome.snapshot is not None
    assert outcome.snapshot["stage"] == f"Closed ({lost})"
    assert not outcome.snapshot.flag("is_won")


def test_doctor_names_the_values_of_a_label_that_is_ambiguous(world: Build) -> None:
    w = world()
    won = w.org.add_status_reason("Closed", "Won")
    lost = w.org.add_status_reason("Closed", "Lost")
    crm = w.client()
    (fault,) = [each for each in check(crm, ["Closed"]) if each.name.endswith("status_reason.Closed")]
    assert fault.status == "fault"
    assert f"Closed ({won}) under Won, Closed ({lost}) under Lost" in fault.message
    assert all(
        each.status == "ok" for each in check(crm, [f"Closed ({won})"]) if "status_reason" in each.name
    )


def test_a_translation_that_equals_another_reasons_name_does_not_name_it(world: Build) -> None:
    w = world()
    w.org.set_languages(1033, GERMAN)
    w.org.add_status_reason("Dropped", "Lost", translations={GERMAN: "Won"})
    crm = w.client()
    deal = w.deal()
    w.clock.tick()
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {"stage": "Won"})]))
    assert outcome.error is None
    assert w.org.get("opportunity", deal)["statecode"] == "Won"
    w.org.add_status_reason("Gone", "Lost", translations={GERMAN: "Aus"})
    w.org.add_status_reason("Out", "Open", translations={GERMAN: "Aus"})
    assert w.client().shape().ambiguous_stages == {"aus": ("Gone", "Out")}
