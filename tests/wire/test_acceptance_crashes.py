"""Killed at any instant: whatever was under way, the next cycle finds out by looking, and makes nothing twice.

A fault holds one call (before or after the other system has done its work), the process gets SIGKILL there, and a plain
``sync`` follows. The stage is one and the same for all points, so every crash meets what the earlier ones left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from acting import Stage, staged, struck
from judging import disagreements, doubles

from cosell_sync.sandbox.pipeline import Document, own_member

pytestmark = pytest.mark.wire

IDA, JONAS = "ida.kern@nordlicht.example", "jonas.brueck@nordlicht.example"
NEW = {"id": "SOL-90009-NEW", "name": "New", "type": "Name", "solutionType": "3P", "price": 5}
OPPORTUNITIES = r"/composite/sobjects/Opportunity/"
ROWS = r"/composite/sobjects"
COMPOSITE = r"/composite$"


@dataclass(frozen=True)
class Point:
    """A call at which the process dies. ``landed``: the other system has done its work by then."""

    server: int  # 0 Partner Center, 1 Salesforce
    method: str
    path: str
    body: str = ""
    landed: bool = True
    skip: int = 0


@dataclass
class Play:
    stage: Stage
    edited: dict[str, tuple[Document, Document]]
    walking: dict[str, Document]


IMPORTS = {
    "signing in": Point(0, "POST", r"/oauth2/v2\.0/token"),
    "before the account": Point(1, "POST", ROWS, '"Account"', landed=False),
    "account made": Point(1, "POST", ROWS, '"type":"Account"'),
    "before the opportunities": Point(1, "PATCH", OPPORTUNITIES, landed=False),
    "opportunities made": Point(1, "PATCH", OPPORTUNITIES),
    "contacts made": Point(1, "POST", ROWS, '"type":"Contact"'),
    "solutions made": Point(1, "PATCH", r"/composite/sobjects/Cosell_Solution__c/"),
    "roles and team made": Point(1, "POST", ROWS, "OpportunityContactRole|OpportunityTeamMember"),
    "reading back": Point(1, "POST", COMPOSITE, "Opportunity%20WHERE%20Id%20IN", skip=1),
}
EDITS = {
    "before the PATCH": Point(0, "PATCH", "referrals", landed=False),
    "PATCH landed": Point(0, "PATCH", "referrals"),
    "before the CRM write": Point(1, "POST", COMPOSITE, '"method": ?"PATCH"', landed=False),
    "CRM write landed": Point(1, "POST", COMPOSITE, '"method": ?"PATCH"'),
    "a contact made": Point(1, "POST", ROWS, '"type":"Contact"'),
    "a solution taken away": Point(1, "DELETE", ROWS),
}
WALK = {
    "accepted, not yet won": Point(0, "PATCH", "referrals", "Won", landed=False),
    "accept landed": Point(0, "PATCH", "referrals", "Accepted"),
    "won": Point(0, "PATCH", "referrals", "Won"),
}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("crashes")):
        stage.env.update(COSELL_SYNC__TERMINAL_HOLD="0s", COSELL_SYNC__SURPRISE_MIN="1000")
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
    server = stage.servers[point.server]
    server.faults.hang(
        method=point.method, path=point.path, body=point.body, applied=point.landed, skip=point.skip
    )
    stage.killed("sync", at=struck(server))
    stage.sync()
    assert doubles(stage) == []
    assert disagreements(stage) == []
    assert {row["Cosell_Sync_State__c"] for row in stage.sf.rows("Opportunity")} <= {"In sync", "Closed"}


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
    stage.seller(deal, Amount=4321, Cosell_Notes__c="one\ntwo\nthe seller's")
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
    stage.seller(other, CloseDate="2029-09-09")
    crash(stage, EDITS[where])
    row, document = stage.deal(deal), stage.referral(deal)
    assert (document["details"]["dealValue"], row["Cosell_Campaign_Id__c"]) == (4321, "CRASH")
    assert sorted(row["Cosell_Notes__c"].split("\n")) == ["one", "the portal's", "the seller's", "two"]
    assert stage.referral(other)["details"]["closingDateTime"].startswith("2029-09-09")


@pytest.mark.parametrize("where", WALK)
def test_a_crash_between_two_steps_of_a_walk_goes_on_where_it_was(play: Play, where: str) -> None:
    stage, deal = play.stage, play.walking[where]
    stage.seller(deal, StageName="Closed Won", Amount=99)
    crash(stage, WALK[where])
    assert stage.status(deal) == ("Closed", "Won")
    assert stage.referral(deal)["details"]["dealValue"] == 99


def test_after_all_these_crashes_there_is_nothing_left_to_write(stage: Stage) -> None:
    """Last: every intent is settled, every base is right."""
    stage.quiet()
    stage.quiet()
