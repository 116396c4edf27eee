"""``deals …`` does the same whether the command line carries it out or the daemon's next cycle does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from cosell_sync import settings
from cosell_sync.bootstrap import utc_now
from cosell_sync.cli import deals
from cosell_sync.core.deal import Member, Snapshot
from cosell_sync.core.memory import JournalEntry, Link, Phase
from cosell_sync.cycle.commands import run_commands
from cosell_sync.cycle.context import Cycle, Services
from cosell_sync.ports import Transaction
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from memory_systems import MemoryCrm, MemoryReferrals, Outside, rules

ADA = "ada@x.example"
LINKED = Link(
    "r:R1",
    referral_id="R1",
    opportunity_id="O1",
    phase=Phase.LINKED,
    referral=Snapshot("R1", "1", {"name": "One", "contacts": (Member(ADA),)}),
    opportunity=Snapshot("O1", "1", {"name": "One"}),
    dirty=False,
)
WAITING = Link("r:R2", referral_id="R2", referral=Snapshot("R2", "1", {"name": "Two"}), dirty=False)
LONE = Link("o:O3", opportunity_id="O3", opportunity=Snapshot("O3", "1", {"name": "Three"}), dirty=False)
COMMANDS: dict[str, tuple[list[str], str, str]] = {
    "retry": (["retry", "R1"], "It will be tried again. The next sync tries it.", "It will be tried again."),
    "unlink": (["unlink", "O1"], "They are parted.", "They will be parted."),
    "create": (
        ["create", "R2"],
        "Its opportunity will be made. The next sync makes it.",
        "Its opportunity will be made.",
    ),
    "link": (
        ["link", "R2", "O3"],
        "They are linked. The next sync merges their fields.",
        "They will be linked.",
    ),
    "resolve": (
        ["resolve", "R1", "Amount", "--keep", "crm"],
        "It is decided. The next sync writes it.",
        "It will be decided like that.",
    ),
    "forget": (
        ["forget", ADA],
        "Forgotten: 1 deals, 0 open writes and 0 lines of history held something of this person.",
        "",
    ),
}


@dataclass
class Desk:
    """A store in a file with three deals, and the command line over it."""

    url: str
    store: SqlStore
    events: list[dict[str, Any]]

    def say(self, *words: str) -> str:
        done = CliRunner().invoke(deals.app, list(words), catch_exceptions=False)
        assert done.exit_code == 0
        return " ".join(done.output.split())

    def cycle(self) -> None:
        """The part of a daemon's cycle that carries out what waits."""
        outside = Outside()
        world = Services(MemoryReferrals(outside), MemoryCrm(outside), self.store, utc_now, rules())
        run_commands(Cycle(world, "c1", utc_now(), lambda _plan: None))

    def outcome(self) -> tuple[list[Link], list[JournalEntry], list[dict[str, Any]]]:
        """What is known now: links, history without who and when, events."""
        links = list(self.store.links())
        history = [
            replace(line, cycle="", at=utc_now().min)
            for link in links
            for line in self.store.journal(link.key)
        ]
        return links, history, list(self.events)


def _desk(tmp_path: Path, name: str, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Desk:
    url = f"sqlite:///{tmp_path}/{name}.db"
    store = open_store(url, utc_now)
    with store.lease(timedelta()):
        store.commit(Transaction(links=[LINKED, WAITING, LONE]))
    loaded = settings.load(None, {"COSELL_STORE__URL": url})
    monkeypatch.setattr(deals, "load", lambda _config: loaded)
    events.clear()
    return Desk(url, store, events)


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_leaves_the_same_behind_wherever_it_is_carried_out(
    verb: str, tmp_path: Path, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same links, the same line of history, the same event; and the text says whether it is done or waits."""
    words, done, queued = COMMANDS[verb]
    alone = _desk(tmp_path, "alone", events, monkeypatch)
    assert alone.say(*words) == done
    at_once = alone.outcome()
    assert not alone.store.orders()

    busy = _desk(tmp_path, "busy", events, monkeypatch)
    with busy.store.lease(timedelta()):
        before = list(busy.store.links())
        said = busy.say(*words)
        assert said.startswith(f"{queued} process " if queued else "process ")
        assert said.endswith("in its next cycle.")
        assert (list(busy.store.links()), len(busy.store.orders())) == (before, 1)
        busy.cycle()
    assert busy.outcome() == at_once
    assert not busy.store.orders()
    if verb != "forget":
        assert [line.action for line in at_once[1]] == [verb]
    (event,) = at_once[2]
    assert event["event"] == ("person.forgotten" if verb == "forget" else "order.obeyed")
    assert ADA not in str(event)
    for desk in (alone, busy):
        desk.store.close()
