"""A writer that stood still for a while (a laptop's lid, a paused machine) and goes on must not write over its successor.

PostgreSQL: its lease runs out meanwhile, somebody else takes over, and its first write is refused by the fencing number.
SQLite: the operating system keeps the lock for it, so nobody takes over; where the lock file was replaced, it is refused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cosell_sync.core.memory import Link
from cosell_sync.errors import Busy
from cosell_sync.ports import Transaction
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from postgres import private_schema, server

LEASE = timedelta(seconds=1)
PATIENCE = timedelta(seconds=30)
WRITER = """
import sys
from itertools import chain
from datetime import UTC, datetime, timedelta
from cosell_sync.core.memory import Link
from cosell_sync.errors import Fenced
from cosell_sync.ports import Transaction
from cosell_sync.store.open import open_store
store = open_store(sys.argv[1], lambda: datetime.now(UTC), deadline=timedelta(seconds=1))
with store.lease(timedelta()):
    for number, line in enumerate(chain(["at once"], sys.stdin)):
        try:
            store.commit(Transaction(links=[Link(f"writer:{number}")]))
        except Fenced:
            print("fenced", flush=True)
        else:
            print("written", flush=True)
"""


class Writer:
    """Another process that holds the lease and writes one link whenever it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def write(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        yield
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def writing(url: str) -> Iterator[Writer]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            writer = Writer(process)
            assert writer.answer() == "written"
            yield writer
        finally:
            process.kill()


@contextmanager
def opened(url: str) -> Iterator[SqlStore]:
    store = open_store(url, lambda: datetime.now(UTC), deadline=LEASE)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.mark.postgres
def test_on_postgresql_the_first_write_after_standing_still_is_refused(postgres: str) -> None:
    """Its own deadline ran out, for nobody renewed it; what the successor wrote stays the last word."""
    with private_schema(postgres) as place, opened(place) as store, writing(place) as writer:
        with writer.stopped():
            with store.lease(PATIENCE):
                store.commit(Transaction(links=[Link("successor")]))
            writer.write()
        assert writer.answer() == "fenced"
        assert [link.key for link in store.links()] == ["successor", "writer:0"]


@pytest.mark.postgres
def test_on_postgresql_it_is_refused_while_the_successor_still_works(postgres: str) -> None:
    with private_schema(postgres) as place, opened(place) as store, writing(place) as writer:
        with writer.stopped():
            lease = store.lease(PATIENCE)
            lease.__enter__()
        writer.write()
        assert writer.answer() == "fenced"
        store.commit(Transaction(links=[Link("successor")]))
        lease.__exit__(None, None, None)
        assert [link.key for link in store.links()] == ["successor", "writer:0"]


def test_on_sqlite_nobody_takes_over_while_it_stands_still(tmp_path: Path) -> None:
    """And when it goes on, it is still the one writer."""
    url = f"sqlite:///{tmp_path}/store.db"
    with opened(url) as store, writing(url) as writer:
        with writer.stopped():
            with pytest.raises(Busy), store.lease(timedelta()):
                pass
            writer.write()
        assert writer.answer() == "written"
        assert [link.key for link in store.links()] == ["writer:0", "writer:1"]


def test_on_sqlite_a_replaced_lock_file_refuses_its_first_write(tmp_path: Path) -> None:
    """Somebody tidied the directory up while it stood still, and another process began."""
    url = f"sqlite:///{tmp_path}/store.db"
    with opened(url) as store, writing(url) as writer:
        with writer.stopped():
            (tmp_path / "store.db.lock").unlink()
            with store.lease(timedelta()):
                store.commit(Transaction(links=[Link("successor")]))
            writer.write()
        assert writer.answer() == "fenced"
        assert [link.key for link in store.links()] == ["successor", "writer:0"]
