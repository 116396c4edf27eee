"""What must stay in one place: the writes to the outside, their announcement, and the store's transactions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cosell_sync.core.deal import State
from cosell_sync.core.memory import FinalKind
from cosell_sync.cycle import apply
from cosell_sync.cycle.apply import Announcement
from cosell_sync.cycle.context import Cycle
from cosell_sync.cycle.record import Record
from memory_sharing import HELP, Stage

SOURCE = Path(__file__).parents[1] / "src" / "cosell_sync"
PORTS = {"referrals", "crm"}
OUTSIDE_WRITES = {"write", "create"}


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def calls(file: Path) -> Iterator[tuple[str, str]]:
    """Of each method call in a file: the last name before the dot, and the method."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield getattr(owner, "attr", getattr(owner, "id", "")), node.func.attr


def files_that_call(owners: set[str], methods: set[str]) -> set[str]:
    files = [
        *(SOURCE / "cycle").glob("*.py"),
        *(SOURCE / "cli").glob("*.py"),
        *(SOURCE / "serving").glob("*.py"),
    ]
    return {
        file.name
        for file in files
        if any(owner in owners and method in methods for owner, method in calls(file))
    }


def test_one_module_writes_to_the_outside() -> None:
    """So that what must hold before a write is checked in one place."""
    assert files_that_call(PORTS, OUTSIDE_WRITES) - {"dry_run.py"} == {"apply.py"}


def test_one_module_commits_to_the_store() -> None:
    """So that a link, its intents, its journal and its marks cannot part."""
    assert files_that_call({"store", "_store"}, {"commit"}) == {"record.py"}


def test_what_cannot_be_undone_passes_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its kind, its deal and its cause, before the call goes out."""
    seen: list[tuple[FinalKind, str | None, bool]] = []
    announce = apply.announce

    def watching(cycle: Cycle, record: Record, writes: list[Announcement]) -> None:
        assert all(step.cause for write in writes for step in write.final)
        seen.extend(
            (step.kind, step.link.opportunity_id, bool(step.cause)) for w in writes for step in w.final
        )
        announce(cycle, record, writes)

    monkeypatch.setattr(apply, "announce", watching)
    stage = Stage()
    stage.opportunity()
    stage.cycle()
    stage.seller("O1", visible=True)
    stage.cycle()
    stage.seller("O1", help=HELP, help_note="Pilot")
    stage.cycle()
    for state, wish in ((State.RECEIVED, "Accept"), (State.RECEIVED, "Decline")):
        made = stage.outside.new_referral(state)
        stage.cycle()
        opportunity = str(stage.store.by_referral([made.id])[made.id].opportunity_id)
        stage.seller(opportunity, action=wish, reason="Other")
        stage.cycle()
        stage.cycle()
    stage.seller("O1", stage="Closed Won")
    stage.seller("O2", stage="Closed Lost", reason="Other")
    for _ in range(3):
        stage.outside.now += stage.rules.terminal_hold
        stage.cycle()
    assert {kind for kind, _, _ in seen} == set(FinalKind)
    assert len(seen) == len(set(seen)), "and nothing twice"
    assert not stage.outside.violations
