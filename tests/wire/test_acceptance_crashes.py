"""Killed at any instant: whatever was under way, the next cycle finds out by looking, and makes nothing twice.

A fault holds one call (before or after the other system has done its work), the process gets SIGKILL there, and a plain
``sync`` follows. The stage is one and the same for all points, so every crash meets what the earlier ones left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from acceptance import Stage, held_back, staged
from comparison import disagreements, doubles
from crm_vocabulary import Row

from cosell_sync.sandbox.partner_center.samples import own_member
from cosell_sync.sandbox.partner_center.schema import Document

pytestmark = pytest.mark.wire

IDA, JONAS = "ida.kern@nordlicht.example", "jonas.brueck@nordlicht.example"
NEW = {"id": "SOL-90009-NEW", "name": "New", "type": "Name", "solutionType": "3P", "price": 5}


@dataclass(frozen=True)
class Point:
    """A call at which the process dies. ``landed``: the other system has done its work by then."""

    call: str | Row  # to the CRM by its name, to Partner Center by a fault's match
    landed: bool = True
    skip: int = 0


@dataclass
class Play:
    stage: Stage
    edited: dict[str, tuple[Document, Document]]
    walking: dict[str, Document]


PATCH = {"method": "PATCH", "path": "referrals"}
IMPORTS = {
    "signing in": Point({"method": "POST", "path": r"/oauth2/v2\.0/token"}),
    "before the account": Point("account", landed=False),
    "account made": Point("account"),
    "before the opportunities": Point("opportunity", landed=False),
    "opportunities made": Point("opportunity"),
    "contacts made": Point("contact"),
    "solutions made": Point("solution"),
    "roles and team made": Point("person"),
    "reading back": Point("read back", skip=1),
}
EDITS = {
    "before the PATCH": Point(PATCH, landed=False),
    "PATCH landed": Point(PATCH),
    "before the CRM write": Point("write", landed=False),
    "CRM write landed": Point("write"),
    "a contact made": Point("contact"),
    "a solution taken away": Point("removal"),
}
WALK = {
    "accepted, not yet won": Point({**PATCH, "body": "Won"}, landed=False),
    "accept landed": Point({**PATCH, "body": "Accepted"}),
    "won": Point({**PATCH, "body": "Won"}),
}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("crashes"), crm):
        stage.env.update(
            COSELL_SYNC__TERMINAL_HOLD="0s",
            COSELL_SYNC__SURPRISE_MIN="1000",
            COSELL_SYNC__SURPRISE_MOVES="1000",
        )
        edited = {
            where: (
                stage.add(details={"notes": "one\ntwo"}, customerProfile={"name": "Edited AG"}, team=[own_member(IDA)]),
                stage.add("partner_led"),
            )
            for where in EDITS
        }  # fmt: skip
        walking = {where: stage.add("inbound_pending") for where in WALK}
        stage.sync()
        yield Play(stage, edited, walking)


@pytest.fixture
def stage(play: Play) -> Stage:
    return play.stage


def crash(stage: Stage, point: Point) -> None:
    """Die there, then run once more: both sides must agree."""
    ours, theirs = stage.servers
    server, match = (
        (theirs, stage.crm.calls[point.call]) if isinstance(point.call, str) else (ours, point.call)
    )
    server.faults.hang(**match, applied=point.landed, skip=point.skip)
    stage.killed("sync", at=held_back(server))
    stage.sync()
    assert doubles(stage) == []
    assert disagreements(stage) == []
    assert {row["sync_state"] for row in stage.crm.rows("opportunity")} <= {"In sync", "Closed"}


@pytest.mark.parametrize("where", IMPORTS)
def test_a_crash_in_an_import_makes_nothing_twice(stage: Stage, where: str) -> None:
    number = len(stage.pc.ours())
    for kind in ("inbound_pending", "cosell"):
        stage.add(
            kind,
            customerProfile={
                "name": f"Customer {number} AG",
                "team": [{"firstName": "C", "lastName": f"No {number}", "email": f"c{number}@c.example", "phoneNumber": "+49 1"}],
            },
            team=[own_member(IDA), own_member(JONAS)],
        )  # fmt: skip
    crash(stage, IMPORTS[where])


@pytest.mark.parametrize("where", EDITS)
def test_a_crash_in_the_middle_of_edits_loses_none_and_doubles_none(play: Play, where: str) -> None:
    """On one deal edits of both sides that merge, line by line and member by member."""
    stage, (deal, other) = play.stage, play.edited[where]
    stage.seller(deal, value=4321, notes="one\ntwo\nthe seller's")
    stage.pc.edit(
        deal["id"],
        {
            "details/notes": "the portal's\none\ntwo",
            "campaignId": "CRASH",
            "customerProfile/team": [
                {
                    "firstName": "New",
                    "lastName": "Person",
                    "email": f"new@{deal['id']}.example",
                    "phoneNumber": None,
                }
            ],
            "details/requirements/solutions": [NEW],
        },
    )
    stage.seller(other, close_date="2029-09-09")
    crash(stage, EDITS[where])
    row, document = stage.deal(deal), stage.referral(deal)
    assert (document["details"]["dealValue"], row["campaign_id"]) == (4321, "CRASH")
    assert sorted(row["notes"].split("\n")) == ["one", "the portal's", "the seller's", "two"]
    assert stage.referral(other)["details"]["closingDateTime"].startswith("2029-09-09")


@pytest.mark.parametrize("where", WALK)
def test_a_crash_between_two_steps_of_a_walk_goes_on_where_it_was(play: Play, where: str) -> None:
    stage, deal = play.stage, play.walking[where]
    stage.seller(deal, stage="Won", value=99)
    crash(stage, WALK[where])
    assert stage.status(deal) == ("Closed", "Won")
    assert stage.referral(deal)["details"]["dealValue"] == 99


def test_after_all_these_crashes_there_is_nothing_left_to_write(stage: Stage) -> None:
    """Last: every intent is settled, every base is right."""
    stage.quiet()
    stage.quiet()
