"""The store through a real PgBouncer that lends out a session for one transaction at a time, as Azure's built-in one does.

What is left on a session is found by whoever has it next: a prepared statement of the same name, a setting.
https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from cosell_sync.errors import Busy
from cosell_sync.serving.worker import Timing, Worker
from cosell_sync.store import queue
from cosell_sync.store.engine import _IDLE_SECONDS, is_pooled, reading, writing
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from postgres import own_server

pytestmark = pytest.mark.postgres
LIMIT = "SHOW idle_in_transaction_session_timeout"


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[str, str]]:
    """The database directly, and through the pooler."""
    with own_server() as own, own.pooled() as pooled:
        yield own.url, pooled


def opened(url: str) -> SqlStore:
    return open_store(url, lambda: datetime.now(UTC))


@pytest.fixture
def pooled(places: tuple[str, str]) -> Iterator[SqlStore]:
    store = opened(places[1])
    yield store
    store.close()


def test_several_programs_may_share_a_few_sessions(places: tuple[str, str]) -> None:
    """Each statement is made often enough for the driver to want to prepare it."""

    def use(_number: int) -> None:
        store = opened(places[1])
        try:
            for _ in range(20):
                store.cycle_state()
                with writing(store.engine) as connection:
                    connection.execute(text("SELECT CAST(:one AS int)"), {"one": 1})
        finally:
            store.close()

    with ThreadPoolExecutor(6) as programs:
        list(programs.map(use, range(6)))


def test_our_settings_do_not_stay_on_the_sessions_of_others(
    places: tuple[str, str], pooled: SqlStore
) -> None:
    other = opened(places[1])
    try:
        for _ in range(4):
            with writing(pooled.engine) as connection:
                assert connection.execute(text(LIMIT)).scalar_one() == f"{_IDLE_SECONDS}s"
            with reading(other.engine) as connection:
                assert connection.execute(text(LIMIT)).scalar_one() == "0"
    finally:
        other.close()


def test_without_a_pooler_each_session_has_the_limit(places: tuple[str, str]) -> None:
    store = opened(places[0])
    try:
        assert not is_pooled(store.engine)
        with reading(store.engine) as connection:
            assert connection.execute(text(LIMIT)).scalar_one() == f"{_IDLE_SECONDS}s"
    finally:
        store.close()


def test_the_lease_is_held_by_one(pooled: SqlStore, places: tuple[str, str]) -> None:
    other = opened(places[1])
    try:
        with pooled.lease(timedelta()):
            pooled.check_deadline()
            with pytest.raises(Busy), other.lease(timedelta()):
                pass
        with other.lease(timedelta()):
            other.check_deadline()
    finally:
        other.close()


def test_a_worker_serves_what_is_due(pooled: SqlStore) -> None:
    """The database cannot wake it: nobody hears a notification through a pooler. It asks."""
    queue.prepare(pooled.engine)
    served: list[str] = []
    twice = threading.Event()

    def serve(name: str, woken: bool) -> None:
        del woken
        served.append(name)
        if len(served) == 2:
            twice.set()

    worker = Worker(
        lambda: queue.connector(pooled.engine),
        due=lambda: {"contoso": datetime.now(UTC)},
        serve=serve,
        parallel=2,
        timing=Timing(tick=timedelta(seconds=1)),
        listens=not is_pooled(pooled.engine),
    )
    stopping = threading.Thread(target=lambda: (twice.wait(30), worker.stop()))
    stopping.start()
    assert worker.run() == 0
    stopping.join(30)
    assert served[:2] == ["contoso", "contoso"]
