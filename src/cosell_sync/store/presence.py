"""Whether a process that holds leases on PostgreSQL is still there: a session of its own, and a lock that lives and dies with it.

The operating system closes the connections of a process that was killed, and PostgreSQL then ends the session and frees its
advisory lock. The lock's number stands in the lease's row. Who finds that lock free need not wait for the row's deadline; it only
leaves the holder ``GRACE``, for a session may also end while its process lives (the server was restarted, an admin ended it).
Such a process notices within ``BEAT``, opens another session and writes its number into the row.

A lock of a session means nothing behind a pooler (PgBouncer), which keeps the session when the process is gone and hands it to
others. There, and where no session can be had, only the deadline counts.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from datetime import timedelta
from threading import Lock
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from cosell_sync.store.engine import through_pooler

GRACE: Final = timedelta(seconds=4)
BEAT: Final = timedelta(seconds=1)
_NEVER: Final = float("-inf")
_OPTION: Final = "cosell_presence"


def clock() -> float:
    """Seconds that go on while this process, or the whole machine, stands still."""
    # Linux' usual monotonic clock stops while the machine sleeps; this one does not. Others (macOS) have only the one.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Presence:
    """The session of this process at one database, shared by all its leases there. May be asked from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = Lock()
        self._failed: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._session: Any = None
        self._number: int | None = None
        self._pooled = False
        self._asked = _NEVER

    def number(self) -> int | None:
        """The number whose lock this process holds, asked of the session unless that was done within the last ``BEAT``.

        None where there is no such session.
        """
        with self._lock:
            now = self._clock()
            if self._session is not None and now - self._asked < BEAT.total_seconds() / 2:
                return self._number
            if not self._answers():
                self._leave()
                self._enter()
            self._asked = now
            return self._number

    def seen(self, number: int) -> float:
        """When, by ``clock``, the lock of that number was last known to be held; endlessly long ago where it is another's."""
        with self._lock:
            return self._asked if number == self._number else _NEVER

    def close(self) -> None:
        """End the session; the next question opens another."""
        with self._lock:
            self._leave()

    def _enter(self) -> None:
        if self._pooled:
            return
        # Where the database is away, or has no room for one more session, nothing is lost but the haste.
        with suppress(SQLAlchemyError, self._failed):
            session = self._connect()
            try:
                self._pooled = through_pooler(session)
                if not self._pooled:
                    number = secrets.randbits(63)
                    _first(session, f"SELECT pg_advisory_lock({number})")
                    self._session, self._number = session, number
            finally:
                if self._session is None:
                    session.close()

    def _connect(self) -> Any:
        """A connection of psycopg that the pool knows nothing of."""
        connection = self._engine.raw_connection()
        session: Any = connection.driver_connection
        connection.detach()
        session.set_autocommit(True)
        return session

    def _leave(self) -> None:
        session, self._session, self._number = self._session, None, None
        if session is not None:
            session.close()

    def _answers(self) -> bool:
        try:
            return self._session is not None and _first(self._session, "SELECT 1") == 1
        except self._failed:
            return False


def _first(session: Any, query: str) -> Any:
    return session.execute(query).fetchone()[0]


def presence_of(engine: Engine) -> Presence:
    """The one of this engine, which ends when the engine is disposed of."""
    known = engine.get_execution_options().get(_OPTION)
    if isinstance(known, Presence):
        return known
    presence = Presence(engine)
    engine.update_execution_options(**{_OPTION: presence})
    event.listen(engine, "engine_disposed", lambda _engine: presence.close())
    return presence
