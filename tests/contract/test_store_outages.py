"""A PostgreSQL that fails in the middle of something: nothing by halves, one kind of error, and its reason in words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Action, JournalEntry, Link
from cosell_sync.errors import Unavailable
from cosell_sync.ports import Transaction
from cosell_sync.store import migrate
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from postgres import private_schema, server

pytestmark = pytest.mark.postgres
NOW = datetime(2026, 3, 1, tzinfo=UTC)
AT_ONCE = timedelta()
TWO_THINGS = Transaction(
    links=[Link("r:1", "1")],
    journal=[JournalEntry("r:1", "c1", NOW, Side.CRM, Action.LINK, None, "", "", "made")],
)
OPEN = """
import sys
from datetime import UTC, datetime
from cosell_sync.store.open import open_store
open_store(sys.argv[1], lambda: datetime.now(UTC)).close()
"""


@pytest.fixture
def place() -> Iterator[str]:
    with server() as url, private_schema(url) as private:
        yield private


@contextmanager
def opened(url: str, *options: str) -> Iterator[SqlStore]:
    """With these options of the server for each session."""
    parsed = make_url(url)
    given = " ".join((str(parsed.query["options"]), *(f"-c{each}" for each in options)))
    url = parsed.update_query_dict({"options": given}).render_as_string(hide_password=False)
    store = open_store(url, lambda: NOW)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def before_the_second(store: SqlStore, happens: Callable[[Any], None]) -> Iterator[None]:
    """Right before the second INSERT of a transaction, its connection's process id is handed over."""
    inserts = [0]

    def executing(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        inserts[0] += statement.startswith("INSERT")
        if inserts[0] == 2:
            inserts[0] += 1
            happens(connection.connection.driver_connection.info.backend_pid)

    event.listen(store.engine, "before_cursor_execute", executing)
    try:
        yield
    finally:
        event.remove(store.engine, "before_cursor_execute", executing)


def test_a_session_that_is_ended_in_the_middle_of_a_transaction_leaves_nothing_of_it(place: str) -> None:
    """And the next transaction has a session that works."""
    with opened(place) as store, opened(place) as admin:

        def end(process: int) -> None:
            with admin.engine.connect() as connection:
                # so that the session is gone when this returns
                connection.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})

        with store.lease(AT_ONCE):
            with before_the_second(store, end), pytest.raises(Unavailable) as failure:
                store.commit(TWO_THINGS)
            assert failure.value.system == "store"
            assert list(store.links()) == []
            store.commit(TWO_THINGS)
        assert [link.key for link in store.links()] == ["r:1"]
        assert len(store.journal("r:1")) == 1


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (
            "default_transaction_read_only=on",
            "read-only transaction",
        ),  # a replica, a full disk at some providers
        ("role=pg_read_all_data", "permission denied"),
    ],
)
def test_a_database_that_takes_no_writes_is_unavailable_and_says_why(
    place: str, option: str, reason: str
) -> None:
    """Not a fault of the program, which would be reported with a traceback."""
    with opened(place) as first, first.engine.begin() as connection:
        schema = connection.execute(text("SELECT current_schema()")).scalar_one()
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO pg_read_all_data"))
    with opened(place, option) as store, pytest.raises(Unavailable, match=reason) as failure:
        store.hint([("1", "referral-updated", "now")])
    assert failure.value.hint


def test_a_network_that_swallows_everything_is_noticed(place: str) -> None:
    """Else a store that vanished with its machine would be waited for a quarter of an hour. An admin's own words count."""

    def network(url: str) -> dict[str, str]:
        with opened(url) as store, store.engine.connect() as connection:
            return connection.connection.driver_connection.info.get_parameters()

    own = make_url(place).update_query_dict({"connect_timeout": "7"}).render_as_string(hide_password=False)
    assert network(place).items() >= {"connect_timeout": "10", "keepalives_idle": "10", "tcp_user_timeout": "25000"}.items()  # fmt: skip
    assert network(own).items() >= {"connect_timeout": "7", "keepalives_idle": "10"}.items()


def test_tables_that_another_process_makes_between_two_looks_are_found(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look finds none, and the look for the reason of that finds them."""
    real = migrate.inspect

    def late(connection: Any) -> Any:
        monkeypatch.setattr(migrate, "inspect", real)
        migrate.migrate(place)
        return real(connection)

    monkeypatch.setattr(migrate, "inspect", late)
    with opened(place) as store, store.lease(AT_ONCE):
        store.commit(TWO_THINGS)


def test_processes_that_start_at_once_on_an_empty_database_make_its_tables_once(place: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, place], stderr=subprocess.PIPE) for _ in range(3)
    ]
    try:
        ended = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert ended == [(b"", 0)] * 3
    with opened(place) as store, store.lease(AT_ONCE):
        store.commit(TWO_THINGS)
