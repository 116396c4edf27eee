"""One refused property does not refuse the rest of a PATCH, and never the move; played on the served sandbox."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from contract.test_referrals import Served, certificates
from cosell_sync.core.deal import Fields, Member, Snapshot, Solution, State, Step
from cosell_sync.errors import Rejected
from cosell_sync.partner_center.patch import field_of
from cosell_sync.ports import Outcome, ReferralWrite
from cosell_sync.sandbox.certificates import Certificates

__all__ = ["certificates"]  # a fixture

PAST = date(2020, 1, 1)
GOOD: Fields = {"notes": "new", "value": Decimal("7.00"), "currency": "USD", "campaign_id": "c-1"}
FULL: Fields = {**GOOD, "close_date": PAST, "sales_stage": "Propose"}


@pytest.fixture
def place(certificates: Certificates, tmp_path: Path) -> Iterator[Served]:
    made = Served(certificates, certificates.write(tmp_path / "ca.pem"))
    yield made
    made.close()


def silent(place: Served) -> None:
    """Refusals name no target from now on."""
    place.center.switches.names_target = False


def read(place: Served, referral: str) -> Snapshot:
    found = place.port.fetch([referral])[referral]
    assert found is not None
    return found


def write(place: Served, referral: str, *steps: Step, search: bool = True) -> tuple[Outcome, int]:
    """The outcome and how many PATCHes it took."""
    before = read(place, referral)
    already = len(place.server.calls.matching("PATCH", "referrals"))
    (outcome,) = place.port.write([ReferralWrite(before, steps, search)])
    return outcome, len(place.server.calls.matching("PATCH", "referrals")) - already


@pytest.mark.parametrize("named", [True, False])
def test_a_past_close_date_does_not_hold_the_win(place: Served, named: bool) -> None:
    deal = place.deal(State.ACCEPTED)
    before = read(place, deal)
    if not named:
        silent(place)
    outcome, patches = write(place, deal, Step(FULL, State.WON))
    assert (outcome.error, outcome.refused.keys(), outcome.steps) == (None, {"close_date"}, 1)
    held = read(place, deal)
    assert held.text("state") == State.WON
    assert {name: held[name] for name in GOOD} == GOOD
    assert held["close_date"] == before["close_date"]
    units = len(FULL) - 1  # amount and currency go together
    assert patches <= (2 if named else 1 + math.ceil(math.log2(units)) + 1)
    assert place.center.violations == []


@pytest.mark.parametrize("named", [True, False])
def test_an_archived_solution_does_not_hold_the_accept(place: Served, named: bool) -> None:
    """The accept goes first, for an unanswered referral takes nothing before it."""
    deal = place.deal(State.RECEIVED)
    place.center.switches.archived = ("SOL-old",)
    place.center.switches.names_target = named
    outcome, _ = write(place, deal, Step({**GOOD, "solutions": (Solution("SOL-old"),)}, State.ACCEPTED))
    assert (outcome.error, outcome.refused.keys()) == (None, {"solutions"})
    held = read(place, deal)
    assert held.text("state") == State.ACCEPTED
    assert {name: held[name] for name in GOOD} == GOOD


def test_two_refused_fields_hold_themselves_and_not_the_win(place: Served) -> None:
    deal = place.deal(State.ACCEPTED)
    place.center.switches.archived = ("SOL-old",)
    place.center.switches.names_target = False
    outcome, _ = write(place, deal, Step({**FULL, "solutions": (Solution("SOL-old"),)}, State.WON))
    assert outcome.error is None
    assert {"close_date", "solutions"} <= outcome.refused.keys()
    held = read(place, deal)
    assert held.text("state") == State.WON
    assert all(held[name] == value for name, value in FULL.items() if name not in outcome.refused)


def test_fifty_one_contacts_do_not_keep_the_notes_out(place: Served) -> None:
    people = tuple(Member(f"p{n}@x.example", "P", "Q", "+49 1") for n in range(51))
    deal = place.deal(State.ACCEPTED)
    outcome, patches = write(place, deal, Step({"contacts": people, "notes": "new"}))
    assert (outcome.error, outcome.refused.keys(), patches) == (None, {"contacts"}, 2)
    assert read(place, deal)["notes"] == "new"


def test_a_refused_move_lets_the_fields_in_and_is_the_error(place: Served) -> None:
    """A loss without its reason, for example: the edits arrive, and the deal fails for the move alone."""
    deal = place.deal(State.ACCEPTED)
    outcome, _ = write(place, deal, Step(GOOD, State.LOST))
    assert outcome.refused.keys() == {"status"}
    assert outcome.error is outcome.refused["status"]
    held = read(place, deal)
    assert (held.text("state"), held["notes"]) == (State.ACCEPTED, "new")


def test_a_move_that_is_refused_without_a_name_lets_the_fields_in(place: Served) -> None:
    deal = place.deal(State.ACCEPTED)
    silent(place)
    outcome, patches = write(place, deal, Step(GOOD, State.LOST))
    assert outcome.refused.keys() == {"status"}
    assert outcome.error is outcome.refused["status"]
    assert read(place, deal)["notes"] == "new"
    assert patches <= 1 + 2 + 2


@pytest.mark.parametrize("named", [True, False])
def test_the_opportunitys_id_is_not_sent_by_itself_once_the_rest_is_refused(
    place: Served, named: bool
) -> None:
    deal = place.deal(State.ACCEPTED)
    place.center.switches.names_target = named
    outcome, patches = write(place, deal, Step({"close_date": PAST, "external_reference": "O-1"}))
    assert (outcome.refused.keys(), outcome.steps, patches) == ({"close_date"}, 0, 1)
    assert outcome.error is outcome.refused["close_date"]
    outcome, _ = write(place, deal, Step({"close_date": PAST, "notes": "n", "external_reference": "O-1"}))
    assert (outcome.refused.keys(), outcome.error) == ({"close_date"}, None)
    assert read(place, deal)["external_reference"] == "O-1"


def test_without_a_search_a_refusal_that_names_nothing_is_the_deals(place: Served) -> None:
    deal = place.deal(State.ACCEPTED)
    silent(place)
    outcome, patches = write(place, deal, Step(FULL, State.WON), search=False)
    assert isinstance(outcome.error, Rejected)
    assert (outcome.refused, outcome.steps, patches) == ({}, 0, 1)


def test_a_closed_referral_is_not_searched(place: Served) -> None:
    deal = place.deal(State.ACCEPTED)
    before = read(place, deal)
    place.win(deal)
    current = read(place, deal)
    (outcome,) = place.port.write([ReferralWrite(replace(before, version=current.version), (Step(GOOD),))])
    assert isinstance(outcome.error, Rejected)
    assert len(place.center.violations) == 1
    place.center.violations.clear()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("details.closingDateTime", "close_date"),
        ("/details/closingDateTime", "close_date"),
        ("ClosingDateTime", "close_date"),
        ("team", "team"),
        ("customerProfile/team/3/email", "contacts"),
        ("details.requirements.solutions[0].id", "solutions"),
        ("substatus", "status"),
        ("statusReason", "status"),
        ("eTag", None),
        ("", None),
    ],
)
def test_which_field_a_target_names(target: str, name: str | None) -> None:
    assert field_of(target) == name
