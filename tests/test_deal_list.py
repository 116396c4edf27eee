"""``deals list``: names and customers beside ids, and the filters by which operators find what they look for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cosell_sync import settings
from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli import deal_list, deal_lookup, deals
from cosell_sync.core.deal import Customer, Side, Snapshot, State, SyncState
from cosell_sync.core.memory import (
    Action,
    Closing,
    Failure,
    FinalKind,
    JournalEntry,
    Link,
    Memory,
    Phase,
    RefusedField,
    Withheld,
    WithheldBy,
)
from cosell_sync.errors import ConfigError
from cosell_sync.ports import Transaction
from cosell_sync.store.open import open_store

NOW = datetime(2026, 11, 28, 9, 30, 15, 123456, tzinfo=UTC)
KEYS = {
    "referral_id", "opportunity_id", "phase", "status", "sync_state", "parked", "locked", "untold", "attempts",
    "next_attempt", "respond_by", "gone", "lookalikes", "withheld", "todo",
}  # fmt: skip


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def deal(
    number: int,
    *,
    state: State = State.ACCEPTED,
    name: str = "",
    customer: str = "Contoso",
    respond_by: datetime | None = None,
    phase: Phase = Phase.LINKED,
    memory: Memory = Memory(),  # noqa: B008 - frozen
    value: dict[str, Any] | None = None,
) -> Link:
    both = {"name": name or f"Deal {number}", "customer": Customer(name=customer)}
    there = {**both, "state": state.value, "respond_by": respond_by}
    here = {**both, "sync": True, "stage": "Qualification", **(value or {})}
    return Link(
        f"r:R{number}",
        referral_id=f"R{number}",
        opportunity_id=f"O{number}" if phase is Phase.LINKED else None,
        phase=phase,
        referral=Snapshot(f"R{number}", "1", there),
        opportunity=Snapshot(f"O{number}", "1", here) if phase is Phase.LINKED else None,
        base_referral={**both, "state": state.value},
        base_opportunity=both,
        memory=memory,
        dirty=False,
    )


FAILED = Failure(Side.CRM, "X", "Next Step is required.", ago(9))
REFUSED = RefusedField(Side.CRM, "X", "No such name.", "a", "b")
STATED = Memory(sync_state=SyncState.NEEDS_ATTENTION, failure=FAILED, parked=True, attempts=8)
DEALS = (
    deal(1, name="Azure für Łódź", customer="Żabka"),
    deal(
        2,
        state=State.RECEIVED,
        respond_by=NOW + timedelta(days=2),
        memory=Memory(sync_state=SyncState.WAITING),
    ),
    deal(3, state=State.RECEIVED, respond_by=NOW + timedelta(days=1), phase=Phase.WAITING, memory=STATED),
    deal(4, state=State.RECEIVED, respond_by=NOW + timedelta(days=9)),
    deal(5, memory=Memory(refused={"name": REFUSED}, sync_state=SyncState.NEEDS_ATTENTION)),
    deal(6, memory=Memory(closing=Closing(State.WON, "m", ago(0.1)), sync_state=SyncState.WAITING)),
    deal(
        7,
        state=State.WON,
        memory=Memory(
            sync_state=SyncState.CLOSED,
            withheld=(Withheld(FinalKind.WIN, "m", WithheldBy.COUNT),),
            next_attempt=NOW,
        ),
    ),
    deal(8, phase=Phase.SKIPPED, name="A lead"),
    deal(9, state=State.RECEIVED, respond_by=NOW - timedelta(hours=1)),
)


def line(field: str, action: Action, at: datetime) -> JournalEntry:
    return JournalEntry("r:R5", "c", at, Side.CRM, action, field, None, None, "why")


@dataclass
class Office:
    def listed(self, *words: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(deals.app, ["list", *words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        rows: list[dict[str, Any]] = json.loads(done.output)
        return rows

    def ids(self, *words: str) -> list[str]:
        return [row["referral_id"] for row in self.listed(*words)]


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    url = f"sqlite:///{tmp_path}/deals.db"
    store = open_store(url, utc_now)
    history = [
        line("name", Action.HOLD, ago(30)),
        line("name", Action.UPDATE, ago(20)),  # what was refused before that has landed since
        line("name", Action.HOLD, ago(8)),
        line("name", Action.HOLD, ago(4)),
    ]
    with store.lease(timedelta()):
        store.commit(Transaction(links=list(DEALS), journal=history))
    monkeypatch.setattr(deal_lookup, "load", lambda _config: settings.load(None, {"COSELL_STORE__URL": url}))
    monkeypatch.setattr(deal_list, "utc_now", lambda: NOW)
    yield Office()
    store.close()


def test_a_deal_is_listed_with_its_name_its_customer_and_whole_times(office: Office) -> None:
    rows = {row["referral_id"]: row for row in office.listed()}
    assert all(row.keys() >= {*KEYS, "name", "customer"} for row in rows.values())
    assert (rows["R1"]["name"], rows["R1"]["customer"]) == ("Azure für Łódź", "Żabka")
    assert rows["R2"]["respond_by"] == "2026-11-30T09:30:15Z"
    assert rows["R7"]["next_attempt"] == "2026-11-28T09:30:15Z"
    assert rows["R3"]["since"] == "2026-11-19T09:30:15Z"
    assert "R8" not in rows
    assert office.listed("--all")[7]["name"] == "A lead"


FILTERS: dict[str, tuple[list[str], list[str]]] = {
    "a sync state": (["--state", "Needs attention"], ["R3", "R5"]),
    "a state in a shell's words": (["--state", "needs-attention"], ["R3", "R5"]),
    "a status": (["--state", "received"], ["R2", "R3", "R4", "R9"]),
    "several words": (["--state", "won", "--state", "Waiting"], ["R2", "R6", "R7"]),
    "what expires, the first first": (["--expiring", "3d"], ["R9", "R3", "R2"]),
    "what expires and needs a person": (["--expiring", "3d", "--attention"], ["R3"]),
    "what has failed or been refused for long": (["--older", "7d"], ["R3", "R5"]),
    "what failed or was held at all": (["--older", "1h"], ["R3", "R5", "R6"]),
    "a name, without regard to case": (["--text", "łÓDŹ"], ["R1"]),
    "a customer": (["--text", "żabka"], ["R1"]),
    "an id": (["--text", "o4"], ["R4"]),
    "what is withheld": (["--withheld"], ["R7"]),
    "everything together": (["--state", "Needs attention", "--older", "7d", "--text", "deal 5"], ["R5"]),
}


@pytest.mark.parametrize("how", FILTERS)
def test_a_filter_lists_what_it_says(office: Office, how: str) -> None:
    words, expected = FILTERS[how]
    assert office.ids(*words) == expected


def test_a_side_lists_the_deals_of_which_something_waits_to_be_written_there(office: Office) -> None:
    """A referral that failed to become an opportunity waits for the CRM; nothing waits for Partner Center there."""
    assert "R3" in office.ids("--side", "crm")
    assert "R3" not in office.ids("--side", "partner_center")
    assert "R1" not in office.ids("--side", "crm")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--state", "lost-in-space"],
            "one of: In sync, Waiting, Needs attention, Conflict, Closed, Received",
        ),
        (["--side", "salesforce"], "must be crm or partner_center"),
        (["--expiring", "soon"], "--expiring soon: is no duration; write 90s, 5m, 2h or 14d"),
        (["--older", "7"], "--older 7: is no duration"),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(office: Office, words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        CliRunner().invoke(deals.app, ["list", *words], catch_exceptions=False)
    assert told in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("columns", [80, 160])
def test_people_see_whole_ids_beside_names(
    office: Office, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deal_list.console
    monkeypatch.setattr(deal_list, "console", lambda: real(columns))
    said = CliRunner().invoke(deals.app, ["list", "--expiring", "3d"], catch_exceptions=False).output
    assert "R2" in said
    assert "O2" in said
    assert "Contoso" in said
    assert "Answer by" in said
    assert office.ids("--text", "nobody is called that") == []
    assert "No deals." in CliRunner().invoke(deals.app, ["list", "--text", "nobody"]).output
