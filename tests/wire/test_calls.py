"""The API calls of a cycle, counted at the served systems in the situations that matter, so that they cannot creep.

The bounds are formulas, so that they hold for any number of deals; `benchmarks/calls.py` prints the table for thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from wired_program import CRMS, WiredProgram, cycle, wired_program

from cosell_sync import settings
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.crm import pace
from cosell_sync.cycle import decide
from cosell_sync.sandbox.exchange import Call
from cosell_sync.summary import CycleSummary

pytestmark = pytest.mark.wire

DEALS = 110
IDLE = {"salesforce": 2, "dynamics": 1}
START = {
    "salesforce": 10,
    "dynamics": 12,
}  # of a program: to learn what the CRM is, and where its changes begin
CHUNK = {"salesforce": 6, "dynamics": 9}  # for two hundred referrals
MICROSOFT = Counter(
    engagement=20
)  # reads of Microsoft's side of deals for which it is awaited, at most, in any cycle


class Counted:
    """One long-lived program, whose cycles are a minute apart, and what each called."""

    def __init__(self, play: WiredProgram, wired: Program) -> None:
        self.play = play
        self.wired = wired

    def cycle(self, after: timedelta = timedelta(minutes=1)) -> tuple[CycleSummary, Counter[str]]:
        """One cycle, with its calls by what they are."""
        self.play.sandbox.clock.advance(after)  # type: ignore[attr-defined]
        for server in self.play.servers:
            server.calls.clear()
        said = cycle(self.wired, accept=True)
        kinds = Counter(
            kind for server in self.play.servers for call in list(server.calls) if (kind := named(call))
        )
        assert (said.api_calls.partner_center, said.api_calls.crm) == self.play.calls()
        return said, kinds


def named(call: Call) -> str:
    """What a call is, in words of its own; empty for a sign-in."""
    if "/engagements/" in call.path:
        if call.method != "GET":
            return call.method
        return (
            "engagement"
            if "engagementId" in call.raw_query
            else "one"
            if call.path.count("/") > 3
            else "list"
        )
    return "crm" if call.path.startswith(("/services/data/", "/api/data/")) else ""


@contextmanager
def counted(home: Path, crm: str, deals: int = DEALS) -> Iterator[Counted]:
    with (
        wired_program(home, crm, deals) as play,
        structlog.testing.capture_logs(),
        patch.object(pace, "SECONDS", 1e9),  # else a slow machine would make more calls
        program(settings.load(None, play.environment), clock=play.sandbox.clock) as wired,
        wired.store.lease(wired.settings.sync.interval),
    ):
        yield Counted(play, wired)


@pytest.mark.parametrize("crm", CRMS)
def test_what_the_cycles_of_a_day_cost(tmp_path: Path, crm: str) -> None:
    with counted(tmp_path, crm) as counts:
        imported(counts, crm)
        idle(counts, crm)
        rows = open_rows(counts.play)
        some_edits(counts, crm, rows)
        idle(counts, crm)
        a_burst(counts, crm, rows)


def imported(counts: Counted, crm: str) -> None:
    """Each new deal is decided once, and the cycle after it has nothing to decide."""
    made = patch.object(decide, "decide", wraps=decide.decide)
    with made as decided:
        said, kinds = counts.cycle()
        assert said.created.crm > 70
        # once each, from what was read back; and where Microsoft's side says something new
        assert decided.call_count <= said.created.crm + kinds["engagement"]
        decided.reset_mock()
        assert kinds["list"] <= ceil(DEALS / 100) + 5
        assert kinds["crm"] <= CHUNK[crm] * ceil(DEALS / 200) + START[crm]
        said, kinds = counts.cycle()
        assert decided.call_count == 0
    assert (said.written.partner_center, said.written.crm) == (0, 0)
    assert kinds - MICROSOFT == {"list": 1, "crm": IDLE[crm]}


def idle(counts: Counted, crm: str) -> None:
    """Minutes and hours later: the same few calls."""
    counts.cycle(timedelta(hours=2))
    counts.cycle()  # a new sign-in asks once who it is
    for _ in range(2):
        said, kinds = counts.cycle()
        assert (said.written.partner_center, said.written.crm) == (0, 0)
        assert kinds - MICROSOFT == {"list": 1, "crm": IDLE[crm]}


def some_edits(counts: Counted, crm: str, rows: list[dict[str, Any]]) -> None:
    """One list call and one PATCH a deal for Partner Center; nothing is read again that is known."""
    referral, key, notes = words(counts.play)
    for row in rows[:3]:
        counts.play.org.edit(counts.play.opportunity, row[key], **{notes: "Called them."})
    for row in rows[-3:]:
        counts.play.sandbox.partner_center.edit(row[referral], "details/dealValue", 4321)
    said, kinds = counts.cycle()
    assert (said.written.partner_center, said.written.crm) == (3, 6)
    assert kinds - MICROSOFT == Counter(list=1, PATCH=3, crm=kinds["crm"])
    assert kinds["crm"] <= IDLE[crm] + {"salesforce": 2, "dynamics": 5}[crm]
    said, kinds = counts.cycle()
    assert (said.written.partner_center, said.written.crm) == (0, 0)
    assert kinds - MICROSOFT == {"list": 1, "crm": IDLE[crm]}


def a_burst(counts: Counted, crm: str, rows: list[dict[str, Any]]) -> None:
    """A burst on both sides is listed when it comes, and once more when its overlap is over; in between a cycle is idle."""
    _, key, notes = words(counts.play)
    partner_center = counts.play.sandbox.partner_center
    for number, each in enumerate(partner_center.ours()):
        partner_center.edit(each["id"], "details/notes", f"Burst {number}")
    for row in rows:
        counts.play.org.edit(counts.play.opportunity, row[key], **{notes: "Burst of theirs"})
    patched = len(rows)
    said, kinds = counts.cycle()
    assert kinds["list"] == ceil(DEALS / 100)
    assert kinds["PATCH"] == said.written.partner_center <= patched
    assert kinds["one"] == 0
    counts.cycle()  # what we wrote ourselves is listed once
    listed = []
    for _ in range(6):
        said, kinds = counts.cycle()
        assert (said.written.partner_center, said.written.crm) == (0, 0)
        listed.append(kinds["list"])
        assert kinds["crm"] <= IDLE[crm] + 1
    assert sum(listed) <= len(listed) + 1, "at most once more"


def open_rows(play: WiredProgram) -> list[dict[str, Any]]:
    """The opportunities of accepted deals."""
    accepted = {each["id"] for each in play.sandbox.partner_center.ours() if each["status"] == "Active"}
    return [row for row in play.org.rows(play.opportunity) if row[words(play)[0]] in accepted]


def words(play: WiredProgram) -> tuple[str, str, str]:
    """The columns for the referral's id, the row's id and the notes."""
    if play.sandbox.crm == "salesforce":
        return "Cosell_Referral_Id__c", "Id", "Cosell_Notes__c"
    return "cosell_referralid", "opportunityid", "cosell_notes"
