"""``deals …`` does the same whether the command line carries it out or the daemon's next cycle does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from cosell_sync import settings
from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli import deal_lookup, deals
from cosell_sync.core.deal import Member, Side, Snapshot, SyncState
from cosell_sync.core.memory import Failure, JournalEntry, Link, Memory, Phase, RefusedField
from cosell_sync.cycle.commands import run_commands
from cosell_sync.cycle.context import Cycle, Services
from cosell_sync.errors import ConfigError
from cosell_sync.ports import Transaction
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from memory_systems import MemoryCrm, MemoryReferrals, Outside, rules

ADA = "ada@x.example"
REFUSED = Failure(
    Side.CRM, "REQUIRED_FIELD_MISSING", "Next Step is required.", datetime(2026, 11, 1, tzinfo=UTC)
)
LINKED = Link(
    "r:R1",
    referral_id="R1",
    opportunity_id="O1",
    phase=Phase.LINKED,
    referral=Snapshot("R1", "1", {"name": "One", "notes": "theirs", "contacts": (Member(ADA),)}),
    opportunity=Snapshot("O1", "1", {"name": "One", "notes": "ours", "sync": True}),
    base_referral={"name": "One", "notes": "before"},
    base_opportunity={"name": "One", "notes": "before"},
    memory=Memory(failure=REFUSED, attempts=8, parked=True, sync_state=SyncState.CONFLICT),
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
        ["resolve", "R1", "Cosell_Notes__c", "--keep", "crm"],
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
    loaded = settings.load(None, {"COSELL_STORE__URL": url, "COSELL_MAPPING__FIELDS__NOTES__CONFLICT": "ask"})
    monkeypatch.setattr(deal_lookup, "load", lambda _config: loaded)
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


@pytest.fixture
def desk(tmp_path: Path, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = _desk(tmp_path, "desk", events, monkeypatch)
    yield made
    made.store.close()


def put(desk: Desk, *links: Link) -> None:
    with desk.store.lease(timedelta()):
        desk.store.commit(Transaction(links=list(links)))


FINE = replace(LINKED, memory=Memory(), referral=replace(LINKED.referral, fields=LINKED.opportunity.fields))  # type: ignore[type-var, union-attr]
STANDS: dict[str, tuple[Link, str]] = {
    "in sync": (FINE, "it stands in In sync"),
    "due": (replace(FINE, dirty=True), "it is due in the next cycle anyway"),
    "a person must mend it": (
        replace(FINE, memory=Memory(sync_state=SyncState.NEEDS_ATTENTION)),
        "somebody must change its record",
    ),
    "in conflict": (replace(LINKED, memory=Memory(sync_state=SyncState.CONFLICT)), "deals resolve"),
    "unlinked": (replace(FINE, phase=Phase.PARTED), "deals link"),
}


@pytest.mark.parametrize("held", [False, True], ids=["alone", "while the daemon holds the store"])
@pytest.mark.parametrize("how", STANDS)
def test_retry_refuses_a_deal_of_which_nothing_failed(desk: Desk, how: str, held: bool) -> None:
    """At once, whoever would carry it out; nothing is recorded or left for the daemon."""
    deal, instead = STANDS[how]
    put(desk, deal)
    with ExitStack() as stack:
        if held:
            stack.enter_context(desk.store.lease(timedelta()))
        with pytest.raises(ConfigError, match=r"nothing of the deal R1 failed") as refused:
            CliRunner().invoke(deals.app, ["retry", "R1"], catch_exceptions=False)
    assert instead in str(refused.value)
    assert (desk.store.orders(), desk.store.journal("r:R1")) == ([], [])


@pytest.mark.parametrize(
    "memory",
    [
        Memory(failure=REFUSED, attempts=1),
        Memory(parked=True, attempts=8),
        Memory(refused={"notes": RefusedField(Side.CRM, "X", "No notes here.", "a", "b")}),
        Memory(gone=Side.CRM),
    ],
    ids=["failed", "parked", "a refused field", "gone"],
)
def test_retry_takes_whatever_has_something_to_retry(desk: Desk, memory: Memory) -> None:
    put(desk, replace(FINE, memory=memory))
    assert desk.say("retry", "R1").startswith("It will be tried again.")
    (link,) = desk.store.by_referral(["R1"]).values()
    assert link.dirty
    assert (link.memory.failure, link.memory.parked, dict(link.memory.refused)) == (None, False, {})


def test_retry_all_takes_every_deal_with_a_failure_and_no_other(desk: Desk) -> None:
    part = Memory(refused={"notes": RefusedField(Side.CRM, "X", "No notes here.", "a", "b")})
    put(
        desk,
        replace(LONE, memory=part),
        replace(WAITING, memory=Memory(sync_state=SyncState.NEEDS_ATTENTION)),
    )
    assert desk.say("retry", "--all") == "2 deals will be tried again: O3, R1. The next sync tries them."
    assert {link.key for link in desk.store.links() if link.dirty} == {"r:R1", "o:O3"}
    assert desk.say("retry", "--all") == "Nothing failed, is parked or was refused."


def test_retry_all_is_left_for_the_daemon_that_holds_the_store(desk: Desk) -> None:
    with desk.store.lease(timedelta()):
        assert desk.say("retry", "--all").startswith("1 deal will be tried again: R1. process ")
        assert [order.target for order in desk.store.orders()] == ["R1"]
        desk.cycle()
    assert {link.key for link in desk.store.links() if link.dirty} == {"r:R1"}


@pytest.mark.parametrize("words", [["retry"], ["retry", "R1", "--all"]])
def test_retry_takes_a_deal_or_all_of_them(desk: Desk, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="or give --all"):
        CliRunner().invoke(deals.app, words, catch_exceptions=False)


@pytest.mark.parametrize(
    ("deal", "field", "instead"),
    [
        (LINKED, "Amount", "in conflict are: Cosell_Notes__c"),
        (FINE, "Cosell_Notes__c", "it stands in In sync"),
    ],
    ids=["another field", "no field"],
)
def test_resolve_refuses_a_field_that_is_in_no_conflict(
    desk: Desk, deal: Link, field: str, instead: str
) -> None:
    put(desk, deal)
    with pytest.raises(ConfigError, match=f"{field} of the deal R1 is in no conflict") as refused:
        CliRunner().invoke(deals.app, ["resolve", "R1", field, "--keep", "crm"], catch_exceptions=False)
    assert instead in str(refused.value)
    assert not desk.store.orders()


HELD = Failure(Side.CRM, "lookalike", "An open opportunity of the same name exists.", REFUSED.since)


@pytest.mark.parametrize(
    ("deal", "told"),
    [
        (replace(WAITING, memory=Memory(failure=HELD, lookalikes=("O9",))), HELD.text),
        (replace(FINE, memory=Memory(failure=REFUSED, parked=True)), REFUSED.text),
        (replace(FINE, memory=Memory(gone=Side.CRM)), "deleted or hidden"),
        (replace(WAITING, phase=Phase.SKIPPED), "leaves this deal alone"),
    ],
    ids=["held", "parked", "gone", "skipped"],
)
def test_explain_gives_the_reason_that_stands_and_never_blames_people_for_it(
    desk: Desk, deal: Link, told: str
) -> None:
    put(desk, deal)
    said = desk.say("explain", deal.referral_id or "")
    assert told in said
    assert "people put there" not in said
