"""Who takes over on PostgreSQL, and when: at once after a holder that is gone, never from one that lives.

A killed process's connections are closed by its system, so its lock in the database is free; a stopped one keeps it. One whose
session was ended while it lives says so in time. Behind a pooler nothing follows from a session, and the deadline alone counts.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from test_stopped_process import Writer, writing

from cosell_sync.core.memory import Link
from cosell_sync.errors import Busy, Fenced, Unavailable
from cosell_sync.ports import Transaction
from cosell_sync.store.lease import DEADLINE, RowLease
from cosell_sync.store.open import open_store
from cosell_sync.store.presence import GRACE
from cosell_sync.store.sql import SqlStore
from postgres import private_schema, server

pytestmark = pytest.mark.postgres
AT_ONCE = timedelta()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def place(postgres: str) -> Iterator[str]:
    with private_schema(postgres) as url:
        yield url


@contextmanager
def opened(
    url: str, deadline: timedelta = DEADLINE, clock: Callable[[], float] | None = None
) -> Iterator[SqlStore]:
    """``clock``: of the machine, by which lease and session go."""
    store = open_store(url, lambda: datetime.now(UTC), deadline=deadline)
    if clock is not None:
        lease = store._lease
        assert isinstance(lease, RowLease)
        lease._clock = lease._presence._clock = clock
    try:
        yield store
    finally:
        store.close()


def row(store: SqlStore) -> Any:
    """The lease as it stands; ``left``: seconds to its deadline."""
    query = (
        "SELECT fence, presence, extract(epoch FROM deadline - clock_timestamp())::float AS left FROM lease"
    )
    with store.engine.connect() as connection:
        return connection.execute(text(query)).one()


def failed_over(store: SqlStore, fence: int) -> None:
    """The database goes on from a standby that had not yet heard of the newest lease, as asynchronous replication and a restored
    backup leave it: https://www.postgresql.org/docs/current/warm-standby.html (26.2.5, "some committed transactions may be lost").
    """
    query = "UPDATE lease SET fence = :fence, holder = NULL, deadline = NULL, presence = NULL"
    with store.engine.begin() as connection:
        connection.execute(text(query), {"fence": fence})


def until(true: Callable[[], bool]) -> None:
    """What another process does, the server's among them, takes its time."""
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def is_locked(store: SqlStore, number: int) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = :number"
    with store.engine.connect() as connection:
        return bool(connection.execute(text(query), {"number": number}).scalar_one())


def refused(store: SqlStore) -> str:
    with pytest.raises(Busy) as busy, store.lease(AT_ONCE):
        pass
    return busy.value.holder


def pass_deadline(store: SqlStore) -> None:
    """As time does."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE lease SET deadline = deadline - make_interval(secs => :grace)"), {"grace": GRACE.total_seconds()})  # fmt: skip


def killed(writer: Writer) -> None:
    writer.process.kill()
    writer.process.wait(30)


def test_after_a_killed_holder_nobody_waits_for_the_deadline(place: str) -> None:
    """The first look leaves it the grace, the first one after that takes over."""
    with opened(place) as store, writing(place, DEADLINE) as writer:
        number = row(store).presence
        killed(writer)
        until(lambda: not is_locked(store, number))
        assert str(writer.process.pid) in refused(store)
        assert 0 < row(store).left <= GRACE.total_seconds()
        pass_deadline(store)
        with store.lease(AT_ONCE):
            assert row(store).presence != number


@pytest.mark.parametrize("stopped", [False, True], ids=["working", "stopped"])
def test_a_holder_that_lives_keeps_its_whole_deadline(place: str, stopped: bool) -> None:
    with opened(place) as store, writing(place, DEADLINE) as writer, ExitStack() as stack:
        if stopped:
            stack.enter_context(writer.stopped())
        refused(store)
        assert row(store).left > GRACE.total_seconds()


def test_a_session_that_was_ended_is_replaced_before_the_grace_is_over(place: str) -> None:
    """The server was restarted, or an admin tidied up: whoever lives shows itself at once, not when it would renew the deadline."""
    long = timedelta(hours=1)
    with opened(place, long) as store, opened(place) as other, store.lease(AT_ONCE):
        before = row(store)
        with other.engine.begin() as connection:
            end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND (classid::bigint << 32) | objid::bigint = :number"
            connection.execute(text(end), {"number": before.presence})
        until(lambda: row(other).presence != before.presence)
        refused(other)
        after = row(other)
        assert after.fence == before.fence
        assert after.left > GRACE.total_seconds()
        assert is_locked(other, after.presence)


def test_a_holder_that_gave_it_back_leaves_nothing(place: str) -> None:
    with opened(place) as store, opened(place) as other:
        with store.lease(AT_ONCE):
            pass
        assert row(store).presence is None
        with other.lease(AT_ONCE):
            pass


def test_the_session_ends_with_the_store(place: str) -> None:
    """And a connection of the pool is not needed for it."""
    with opened(place) as other:
        with opened(place) as store, store.lease(AT_ONCE):
            number = row(store).presence
            assert is_locked(other, number)
            assert store.engine.pool.checkedout() == 0
        until(lambda: not is_locked(other, number))


def test_a_server_without_room_for_one_more_session_leaves_the_deadline(place: str, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """And once there is room, the row shows it."""
    with opened(place) as store:
        lease = store._lease
        assert isinstance(lease, RowLease)
        connect = lease._presence._connect

        def no_room() -> Any:
            raise lease._presence._failed("FATAL: remaining connection slots are reserved")

        monkeypatch.setattr(lease._presence, "_connect", no_room)
        with store.lease(AT_ONCE):
            assert row(store).presence is None
            monkeypatch.setattr(lease._presence, "_connect", connect)
            until(lambda: row(store).presence is not None)


# --- before a call to another system ----------------------------------------------------------------------------------


class Clock:
    """The machine's, moved by a test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moved() -> Clock:
    return Clock()


@contextmanager
def alone(store: SqlStore) -> Iterator[RowLease]:
    """The lease is held, and the thread that renews it is not run."""
    with store.lease(AT_ONCE):
        lease = store._lease
        assert isinstance(lease, RowLease)
        assert lease._renewer is not None
        lease._stop.set()
        lease._renewer.join(30)
        yield lease


def out_of_reach() -> bool:
    raise Unavailable("store", "the store does not answer")


def test_who_cannot_ask_makes_no_call_once_its_session_may_have_ended(
    place: str, moved: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(place, clock=moved) as store, alone(store) as lease:
        monkeypatch.setattr(lease, "renew", out_of_reach)
        moved.now += 2.4
        store.check_deadline()  # no question is needed yet
        moved.now += 0.2
        with pytest.raises(Fenced):
            store.check_deadline()


def test_a_session_that_answers_does_not_replace_the_deadline(
    place: str, moved: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(place, clock=moved) as store, alone(store) as lease:
        monkeypatch.setattr(lease, "renew", out_of_reach)
        moved.now += 24.9
        assert lease._presence.number() == row(store).presence
        store.check_deadline()
        moved.now += 0.2
        with pytest.raises(Fenced):
            store.check_deadline()


def test_who_was_away_and_was_not_replaced_goes_on(place: str, moved: Clock) -> None:
    """It asks, and the lease is its own again for a while."""
    with opened(place, clock=moved) as store, alone(store):
        moved.now += 3600
        store.check_deadline()
        assert row(store).left > GRACE.total_seconds()


def test_who_was_away_and_was_replaced_makes_no_call(place: str, moved: Clock) -> None:
    with opened(place, clock=moved) as store, opened(place, clock=moved) as other, alone(store):
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE lease SET deadline = clock_timestamp()"))
        with other.lease(AT_ONCE):
            moved.now += 3
            with pytest.raises(Fenced):
                store.check_deadline()
            other.check_deadline()


# --- behind a pooler --------------------------------------------------------------------------------------------------


def greeted_by_a_pooler(data: bytes) -> bytes:
    """The server's first answer with another process id in BackendKeyData, as PgBouncer greets."""
    at = data.find(b"K" + struct.pack("!i", 12))
    return data if at < 0 else data[: at + 5] + struct.pack("!i", 123456789) + data[at + 9 :]


@contextmanager
def pooler(url: str) -> Iterator[str]:
    """What lies between the program and the server, and greets as a pooler does."""
    to = make_url(url)
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def pump(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(change(data))
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    behind = stack.enter_context(socket.create_connection((to.host, to.port)))
                    threads = (
                        threading.Thread(target=pump, args=(client, behind, bytes), daemon=True),
                        threading.Thread(
                            target=pump, args=(behind, client, greeted_by_a_pooler), daemon=True
                        ),
                    )
                    for thread in threads:
                        thread.start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield to.set(host="127.0.0.1", port=listener.getsockname()[1]).render_as_string(hide_password=False)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def test_behind_a_pooler_only_the_deadline_counts(place: str) -> None:
    """A pooler keeps the session of a process that is gone and may end that of one that lives."""
    with opened(place) as store, pooler(place) as between, writing(between, DEADLINE) as writer:
        assert row(store).presence is None
        os.kill(writer.process.pid, signal.SIGKILL)
        writer.process.wait(30)
        refused(store)
        assert row(store).left > GRACE.total_seconds()


def test_a_database_that_forgot_the_newest_lease_does_not_give_its_number_again(place: str) -> None:
    """Both would be let through: a fencing number must be one that no holder had, not the one after the last that is remembered."""
    with opened(place) as first, opened(place) as second:
        with first.lease(AT_ONCE):
            known = row(first).fence
        with first.lease(AT_ONCE):
            failed_over(second, known)
            with second.lease(AT_ONCE):
                lease = first._lease
                assert isinstance(lease, RowLease)
                with pytest.raises(Fenced):
                    first.commit(Transaction(links=[Link("first")]))
                assert not lease.renew()
                with pytest.raises(Fenced):
                    first.check_deadline()
                second.commit(Transaction(links=[Link("second")]))
        assert [link.key for link in second.links()] == ["second"]


def test_a_lease_that_nothing_renews_is_given_back(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may have no room for one more thread; kept without one, the lease would stand in its own holder's way."""

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with opened(place) as store:
        with monkeypatch.context() as crowded:
            crowded.setattr(threading.Thread, "start", no_room)
            with pytest.raises(RuntimeError), store.lease(AT_ONCE):
                pass
        with store.lease(AT_ONCE):
            store.commit(Transaction(links=[Link("first")]))
