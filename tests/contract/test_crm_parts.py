"""Parts of a write fail apart, on every CRM: what is refused is named, and everything else lands in the same call."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from contract.crm_implementations import BAD, COLLEAGUE, FABRIKAM, InMemory, Place
from contract.test_crm import certificates, draft, keys, only, place, read, write
from cosell_sync.core.deal import Customer, Member, Solution
from cosell_sync.errors import Rejected
from cosell_sync.ports import OpportunityWrite

__all__ = ["certificates", "place"]  # fixtures

TOLD = {"message": "m"}
MANY = {
    "name": "N", "notes": BAD, "value": Decimal("7.00"), "close_date": date(2027, 3, 31), "campaign_id": "c-1",
}  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_a_refused_field_lets_the_rest_in(place: Place, named: bool) -> None:
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=named)
    done = write(place, before, **MANY, **TOLD, stage=place.stages["other"])
    assert (done.error, done.refused.keys()) == (None, {"notes"})
    assert isinstance(done.refused["notes"], Rejected)
    held = read(place, before.id)
    assert {name: held[name] for name in MANY} == {**MANY, "notes": "old"}
    assert (held["message"], held["stage"]) == ("m", place.stages["other"])


@pytest.mark.parametrize("named", [True, False])
def test_a_refused_field_does_not_hold_the_close(place: Place, named: bool) -> None:
    """The other fields arrive before the record closes, for afterwards it may take none."""
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=named)
    done = write(place, before, **MANY, **TOLD, stage=place.stages["won"])
    assert (done.error, done.refused.keys()) == (None, {"notes"})
    held = read(place, before.id)
    assert {name: held[name] for name in MANY} == {**MANY, "notes": "old"}
    assert (held["is_won"], held["message"]) == (True, "m")


@pytest.mark.parametrize("named", [True, False])
def test_words_that_are_true_only_of_the_whole_do_not_go_with_a_part(place: Place, named: bool) -> None:
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=named)
    (done,) = place.crm.write([OpportunityWrite(before, {"notes": BAD, "campaign_id": "c-1"}, words=TOLD)])
    assert done.refused.keys() == {"notes"}
    held = read(place, before.id)
    assert (held["campaign_id"], held["message"]) == ("c-1", before["message"])
    place.tick()
    (done,) = place.crm.write([OpportunityWrite(held, {"notes": "fine", "campaign_id": "c-2"}, words=TOLD)])
    assert (done.error, done.refused) == (None, {})
    assert read(place, before.id)["message"] == "m"


def test_a_search_takes_as_many_writes_as_halving_does(place: Place) -> None:
    """Five fields: one refusal of the whole, three halves at most, and the rest. Each that lands is read for its version."""
    if isinstance(place, InMemory):
        pytest.skip("it names what it refuses")
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=False)
    calls = place.crm.calls
    write(place, before, **MANY, **TOLD)
    assert place.crm.calls - calls <= 1 + 3 + 1 + 3 * 3


def test_nothing_is_searched_for_twice(place: Place) -> None:
    """The cycle says so once a search of the same content has found nothing."""
    if isinstance(place, InMemory):
        pytest.skip("it names what it refuses")
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=False)
    done = only(place.crm.write([OpportunityWrite(before, {**MANY, **TOLD}, search=False)]))
    assert isinstance(done.error, Rejected)
    assert done.refused == {}
    assert read(place, before.id)["name"] == before["name"]


def test_where_everything_is_refused_nothing_landed(place: Place) -> None:
    before = read(place, place.deal(notes="old"))
    place.tick()
    place.refuse_notes(named=True)
    done = write(place, before, notes=BAD)
    assert isinstance(done.error, Rejected)
    assert (done.refused.keys(), done.steps) == ({"notes"}, 0)


def test_a_refused_account_lets_people_and_solutions_in(place: Place) -> None:
    before = read(place, place.deal(customer=FABRIKAM))
    place.tick()
    place.refuse_account(before.id)
    done = write(
        place, before, customer=Customer("Fabrikam", "Elsewhere 2"), contacts=(Member("ann@x.example", "Ann", "A"),),
        team=(COLLEAGUE,), solutions=(Solution("SOL-1"),), name="N", **TOLD,
    )  # fmt: skip
    assert (done.error, done.refused.keys()) == (None, {"customer"})
    held = read(place, before.id)
    assert keys(held, "contacts") == {"ann@x.example"}
    assert keys(held, "team") == {COLLEAGUE.key}
    assert keys(held, "solutions") == {"SOL-1"}
    assert (held["name"], held["message"]) == ("N", "m")


def test_a_refused_colleague_lets_the_rest_in_and_is_named(place: Place) -> None:
    before = read(place, place.deal())
    place.tick()
    place.refuse_member()
    fields = {"team": (COLLEAGUE,), "contacts": (Member("ann@x.example", "Ann", "A"),), "name": "N"}
    done = write(place, before, **fields, **TOLD)
    assert (done.error, done.refused.keys()) == (None, {"team"})
    if not isinstance(place, InMemory):
        assert COLLEAGUE.email in done.refused["team"].text
        assert "application user" not in done.refused["team"].text
    assert keys(done.snapshot, "contacts") == {"ann@x.example"}
    assert keys(done.snapshot, "team") <= {COLLEAGUE.key}  # the owner counts as the team


def test_a_refused_colleague_sinks_no_import(place: Place) -> None:
    place.refuse_member()
    made = only(place.crm.create([draft(place, "ref-1", team=(COLLEAGUE,), solutions=(Solution("SOL-1"),))]))
    assert made.error is None
    assert keys(made.snapshot, "solutions") == {"SOL-1"}
    assert keys(made.snapshot, "team") <= {COLLEAGUE.key}  # the owner counts as the team


@pytest.mark.parametrize("named", [True, False])
def test_a_refused_field_sinks_no_import(place: Place, named: bool) -> None:
    """Where the refusal names nothing the row is made with what it needs; the rest follows as an update."""
    place.refuse_notes(named=named)
    made = only(place.crm.create([draft(place, "ref-1", notes=BAD, campaign_id="c-1")]))
    assert (made.error, "notes" in made.refused) == (None, True)
    assert made.snapshot is not None
    assert (made.snapshot["name"], made.snapshot["notes"]) == ("Deal", None)
    left = {
        name: value for name, value in {"campaign_id": "c-1", "notes": BAD}.items() if name in made.refused
    }
    place.tick()
    done = write(place, read(place, made.snapshot.id), **left)
    assert done.refused.keys() == {"notes"}
    assert read(place, made.snapshot.id)["campaign_id"] == "c-1"
