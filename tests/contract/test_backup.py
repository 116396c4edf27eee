"""A backup holds all that the store held, restores into either database, and nothing restores over what is newer."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, event
from test_store import (  # noqa: F401 - fixtures among them
    FULL,
    NO_WAIT,
    NOW,
    entry,
    intent,
    postgres,
    postgres_url,
    sql,
    sqlite,
)

from cosell_sync.core.deal import Side
from cosell_sync.errors import ConfigError
from cosell_sync.ports import CycleState, Identity, Transaction
from cosell_sync.store import backup, copy
from cosell_sync.store.engine import make_engine, parse
from cosell_sync.store.history import KEPT
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens, find_key
from cosell_sync.summary import CycleSummary

KEY = "a key of sixteen letters or more"


def fill(store: SqlStore) -> None:
    with store.lease(NO_WAIT):
        store.commit(
            Transaction(
                links=[FULL],
                intents=[intent()],
                journal=[entry()],
                watermarks={"crm": "1"},
                state=CycleState(clock=NOW, compared_at=NOW),
                bindings={Side.CRM: Identity("salesforce", "00D1", "a.example")},
            )
        )
    store.remember_cycle(CycleSummary("c-1", 1.0, exit_code=3))
    StoredTokens(store.engine, KEY).save("partner_center", "refresh")


@pytest.fixture
def made(sql: Any, tmp_path: Path) -> Path:
    store = sql.open()
    fill(store)
    file = tmp_path / "backup.tar"
    with store.lease(NO_WAIT):  # a daemon is at work
        found = backup.write(store, KEY, file, "1.0")
    assert (found.deals, found.version) == (1, "1.0")
    return file


def test_what_was_there_is_there_again(made: Path, sql: Any, tmp_path: Path) -> None:
    """From either database into SQLite, with another key, and back over the store itself."""
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert backup.about(made).at == NOW
    url = f"sqlite:///{tmp_path / 'other.db'}"
    others: Sequence[SqlStore] = (open_store(url, lambda: NOW), sql.open())
    for store, key in zip(others, (find_key(parse(url), None), KEY), strict=True):
        with store.lease(NO_WAIT):
            store.commit(
                Transaction(links=[replace(FULL, key="r:9", referral_id="9", opportunity_id="006Z")])
            )
            backup.restore(made, store, key)
            assert list(store.links()) == [FULL]
            assert list(store.intents(["r:1"])) == [intent()]
            assert list(store.journal("r:1")) == [entry()]
            assert store.watermark("crm") == "1"
            assert store.bindings() == {Side.CRM: Identity("salesforce", "00D1", "a.example")}
            assert [each.exit_code for each in store.last_cycles(5)] == [3]
            # Everything is compared anew: edits made since the backup are in no watermark.
            assert store.cycle_state() == CycleState(clock=NOW)
            store.commit(Transaction(journal=[entry(new="later")]))  # ids go on behind those that came
        assert StoredTokens(store.engine, key).load("partner_center") == "refresh"
        store.close()


@pytest.mark.parametrize("content", [b"", b"not a tar at all", None])
def test_what_is_no_backup_changes_nothing(
    made: Path, sql: Any, tmp_path: Path, content: bytes | None
) -> None:
    strange = tmp_path / "strange.tar"
    if content is not None:
        strange.write_bytes(content)
    store = sql.open()
    with store.lease(NO_WAIT), pytest.raises(ConfigError, match=r"strange\.tar"):
        backup.restore(strange, store, KEY)
    with pytest.raises(ConfigError, match=r"strange\.tar"):
        backup.about(strange)
    assert list(store.links()) == [FULL]
    assert backup.about(made).deals == 1


def test_a_backup_without_room_says_so_and_leaves_nothing(
    sql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the disk of the backup that is full, not the store's; the older backup of that name is still there."""
    store = sql.open()
    fill(store)
    file = tmp_path / "own" / "backup.tar"
    file.parent.mkdir()
    file.write_bytes(b"older")

    def small(url: URL, cycles: int = 1) -> Engine:
        engine = make_engine(url, cycles)
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 8"))
        return engine

    monkeypatch.setattr(copy, "make_engine", small)
    with pytest.raises(ConfigError, match="no room"):
        backup.write(store, KEY, file, "1.0")
    assert [each.name for each in file.parent.iterdir()] == ["backup.tar"]
    assert file.read_bytes() == b"older"


def test_the_newest_cycles_are_kept_and_no_more(sql: Any) -> None:
    store = sql.open()
    moments = [NOW + timedelta(minutes=number) for number in range(KEPT + 5)]
    for number, moment in enumerate(moments):
        store.clock = lambda moment=moment: moment
        store.remember_cycle(CycleSummary(f"c-{number}", 1.0, exit_code=number % 2))
    kept = store.last_cycles(KEPT + 5)
    assert [each.at for each in kept] == moments[: -KEPT - 1 : -1]
    assert kept[0].counts["cycle_id"] == f"c-{KEPT + 4}"
