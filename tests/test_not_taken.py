"""What a side answers with success and does not take: nothing is lost for it on the other side, and somebody is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import structlog

from cosell_sync.core.deal import Member, Solution, Value
from cosell_sync.core.memory import OperatorCommand, Verb
from memory_systems import rules
from test_cycle import CRM, PC, Play

ADA, EVE = Member("ada@c.example", "Ada", "Lund", "1"), Member("eve@c.example", "Eve", "Oz", "2")
PLANNER, OTHER = Solution("SOL-1", "Planner"), Solution("SOL-2", "Other")
LINES = "Kick-off is done\nCall Ada on Monday\nThe budget is approved"


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def play() -> Play:
    play = Play()
    play.begin(notes="Kick-off is done", solutions=(PLANNER,), contacts=())
    play.seller(consent=True)
    play.cycle()
    return play


def told(play: Play, text: str) -> None:
    """The record names it, and nothing more is written."""
    assert play.opportunity["sync_state"] == "Conflict"
    assert text in str(play.opportunity["message"])
    play.rests()


def answer(play: Play, name: str, side: str) -> None:
    play.store.submit(OperatorCommand("1", Verb.RESOLVE, "R1", field=name, side=side))
    play.cycle()


KEPT: dict[str, Callable[[str, Value], Value]] = {
    "nothing": lambda name, value: "Kick-off is done" if name == "notes" else value,
    "a part": lambda name, value: str(value)[:30] if name == "notes" else value,
    "another form": lambda name, value: str(value).replace("Ada", "A&amp;da") if name == "notes" else value,
}


@pytest.mark.parametrize("keeps", KEPT.values(), ids=KEPT)
def test_notes_that_partner_center_does_not_keep_stay_in_the_crm(
    play: Play, keeps: Callable[[str, Value], Value]
) -> None:
    """It answers with success and holds something else: that is no edit of a colleague's, who took lines away."""
    play.outside.flow_there = keeps
    play.seller(notes=LINES)
    play.cycle()
    assert play.opportunity["notes"] == LINES
    told(play, "Partner Center holds")
    play.colleague(notes=f"{play.referral['notes']}\nFrom the portal")
    play.cycle()
    assert {*str(play.opportunity["notes"]).split("\n")} == {*LINES.split("\n"), "From the portal"}


def test_a_line_that_partner_center_does_not_give_up_does_not_come_back_unsaid(play: Play) -> None:
    play.outside.flow_there = KEPT["nothing"]
    play.seller(notes="Another one")
    play.cycle()
    assert (play.referral["notes"], play.opportunity["notes"]) == ("Kick-off is done", "Another one")
    told(play, "Partner Center holds")


def test_a_line_that_the_crm_drops_is_not_taken_away_from_microsoft(play: Play) -> None:
    play.outside.flow = lambda name, value: str(value).split("\n")[0] if name == "notes" else value
    play.colleague(notes=LINES)
    play.cycle()
    play.cycle()
    assert (play.referral["notes"], play.opportunity["notes"]) == (LINES, "Kick-off is done")
    told(play, "Ask your administrator which automation")


def test_a_line_that_an_automation_adds_still_travels(play: Play) -> None:
    play.outside.flow = lambda name, value: f"{value}\n(seen)" if name == "notes" else value
    play.colleague(notes=LINES)
    play.cycle()
    play.cycle()
    assert play.referral["notes"] == play.opportunity["notes"] == f"{LINES}\n(seen)"


def without(*keys: str) -> Callable[[str, Value], Value]:
    return lambda _name, value: (
        tuple(each for each in value if each.key not in keys) if isinstance(value, tuple) else value
    )


@pytest.mark.parametrize("side", ["crm", "partner_center"])
def test_members_that_partner_center_drops_are_named_until_somebody_decides(play: Play, side: str) -> None:
    play.outside.flow_there = without(EVE.email, OTHER.id)
    play.seller(contacts=(ADA, EVE), solutions=(PLANNER, OTHER))
    play.cycle()
    assert (play.referral["contacts"], play.opportunity["contacts"]) == ((ADA,), (ADA, EVE))
    assert (play.referral["solutions"], play.opportunity["solutions"]) == ((PLANNER,), (PLANNER, OTHER))
    told(play, "Partner Center holds Ada Lund for Contact Roles although Ada Lund and Eve Oz was sent")
    play.outside.flow_there = without()
    answer(play, "contacts", side)
    answer(play, "solutions", side)
    assert (
        play.opportunity["contacts"] == play.referral["contacts"] == ((ADA, EVE) if side == "crm" else (ADA,))
    )
    assert play.opportunity["sync_state"] == "In sync"
    play.cycle()
    play.rests()


def test_a_number_that_partner_center_keeps_as_it_was_is_named_and_one_in_another_form_is_not(
    play: Play,
) -> None:
    play.seller(contacts=(ADA,))
    play.cycle()
    newer = Member(ADA.email, "Ada", "Lund", "+49 30 1")
    plain = Member(ADA.email, "Ada", "Lund", "+49301")
    play.outside.flow_there = lambda name, value: (plain,) if name == "contacts" else value
    play.seller(contacts=(newer,))
    play.cycle()
    assert (play.referral["contacts"], play.opportunity["contacts"]) == ((plain,), (newer,))
    assert play.opportunity["sync_state"] == "In sync"
    play.seller(contacts=(ADA,))
    play.cycle()
    told(play, "for Contact Roles")


def test_an_answer_to_a_conflict_decides_no_later_one(play: Play) -> None:
    """The two came to agree before the answer was carried out; what they disagree on afterwards is asked anew."""
    play.colleague(close_date=play.outside.now.date().replace(month=7))
    play.seller(close_date=play.outside.now.date().replace(month=8))
    play.cycle()
    assert play.opportunity["sync_state"] == "Conflict"
    play.seller(close_date=play.referral["close_date"])
    answer(play, "close_date", "crm")
    assert (play.opportunity["sync_state"], play.link.memory.resolved) == ("In sync", {})
    there, here = (play.outside.now.date().replace(month=month) for month in (9, 10))
    play.outside.people(PC, "R1", {"close_date": there})
    play.outside.people(CRM, "O1", {"close_date": here})
    play.cycle()
    assert (play.referral["close_date"], play.opportunity["close_date"]) == (there, here)
    assert play.opportunity["sync_state"] == "Conflict"
    assert rules().fields["close_date"].policy == "ask"
