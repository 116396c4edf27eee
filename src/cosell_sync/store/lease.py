"""One writer at a time. How that is enforced depends on where the store lives.

A file: an operating-system lock on a file beside it, which dies with its process, however that ends. PostgreSQL: a row
with a deadline on the database's clock, renewed at a third of it, and a number that grows with every new holder; a
writer whose number is no longer the row's has been away too long and is refused (``Fenced``). A process that was killed
does not keep others waiting for its deadline (``presence``). Memory: nobody else can see it.

The number protects the store. No other system knows it, so a call there is preceded by ``check_deadline``: this machine's own
clock tells whether somebody else may have taken over, also after the process stood still.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from cosell_sync.errors import Busy, ConfigError, Fenced, Unavailable
from cosell_sync.store import schema
from cosell_sync.store.engine import file_of, reading, writing
from cosell_sync.store.files import access_hint
from cosell_sync.store.presence import BEAT, GRACE, clock, presence_of

try:
    import fcntl
except ImportError as error:
    # Raised on import, where the command turns it into a sentence: nothing that needs a store works without.
    raise ConfigError(
        "cosell-sync keeps its store on Linux, macOS and other Unix systems only; this one has no file locks (fcntl)",
        hint="run it in a container, in WSL 2 or on a Linux server (docs/install.md)",
    ) from error

Sleep = Callable[[float], object]

DEADLINE: Final = timedelta(seconds=30)
LEASE_WAIT: Final = timedelta(seconds=35)  # of a command: a little longer than a PostgreSQL holder's deadline
_POLL_SECONDS: Final = 0.25
_NOBODY: Final = "a process that has not said its name"
# Of the deadline, and of ``GRACE``, this much is left to a call that was sent: it has to arrive before somebody else takes over.
_RESERVE: Final = 1 / 6
# The number grows by a chance amount: a database that failed over, or was restored, may have forgotten the newest holder, and must
# not give its number to the next one. 64 bits last for billions of holders.
_LEAP: Final = 1 << 31
_GRACE_RESERVE: Final = timedelta(seconds=1.5)


class Lease(Protocol):
    """The right to write, held by one process at a time."""

    @property
    def held(self) -> bool:
        """Whether this process holds it."""

    def attempt(self) -> bool:
        """Take it if it is free."""

    def release(self) -> None:
        """Give it back; nothing happens where it is not held."""

    def holder(self) -> str | None:
        """The name of the process that holds it; None where nobody does."""

    def check(self, connection: Connection) -> None:
        """Raise ``Fenced`` unless it is held, for as long as this transaction lasts."""

    def check_deadline(self) -> None:
        """Raise ``Fenced`` where somebody else may hold it by now: for the moment before a call to another system."""


def acquire(lease: Lease, wait: timedelta, sleep: Sleep) -> None:
    """Take the lease, asking again until ``wait`` is over; ``Busy`` names who has it then."""
    left = wait.total_seconds()
    while not lease.attempt():
        if left <= 0:
            raise Busy(lease.holder() or _NOBODY)
        pause = min(_POLL_SECONDS, left)
        sleep(pause)
        left -= pause


class MemoryLease:
    """For a store that only this process can see: nothing to guard, but two holders are still a mistake."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.held = False

    def attempt(self) -> bool:
        taken, self.held = not self.held, True
        return taken

    def release(self) -> None:
        self.held = False

    def holder(self) -> str | None:
        return self._name if self.held else None

    def check(self, connection: Connection) -> None:
        pass

    def check_deadline(self) -> None:
        pass


class FileLease:
    """``flock`` on a file beside the store; the holder's name stands inside."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def attempt(self) -> bool:
        # Somebody who only asks for the holder has the lock for an instant; that must not look like a holder.
        return any(self._attempt() for _ in range(3))

    def _attempt(self) -> bool:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = self._descriptor is None and self._is_ours(descriptor)
        except BlockingIOError:
            taken = False
        except OSError as error:
            os.close(descriptor)
            raise ConfigError(
                f"the lock file {self._path} cannot be locked: {error.strerror}",
                hint="keep the store on a local disk: some network shares have no locks",
            ) from error
        if not taken:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        # The name is for people: on a disk that is full there is no room for it, and the lock is held all the same.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._name.encode(), 0)
        return True

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def holder(self) -> str | None:
        if self.held:
            return self._name
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 1000, 0).decode(errors="replace") or _NOBODY
        except OSError:  # a disk without locks, which who asks for the lease is told
            return None
        else:
            return None
        finally:
            os.close(descriptor)

    def check(self, connection: Connection) -> None:  # noqa: ARG002 - the file needs no database
        self.check_deadline()

    def check_deadline(self) -> None:
        """The system keeps the lock for a process that stands still; only a replaced file ends it."""
        if self._descriptor is None:
            raise Fenced("the lease is not held")
        if not self._is_ours(self._descriptor):
            raise Fenced(f"the lock file {self._path} was replaced")

    def _is_ours(self, descriptor: int) -> bool:
        """False where the file was deleted under us: somebody else may hold a new one of that name."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the lock file {self._path} cannot be opened: {error.strerror}",
                hint=access_hint(self._path, error),
            ) from error


class RowLease:
    """A row in PostgreSQL, kept alive by a small thread while it is held."""

    def __init__(
        self,
        engine: Engine,
        connection: str,
        name: str,
        deadline: timedelta = DEADLINE,
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._name = name
        self._deadline = deadline
        self._presence = presence_of(engine)
        self._shown: int | None = None  # the number of our presence that stands in the row
        self._fence: int | None = None
        self._clock = clock
        self._ours_until = 0.0  # by our clock, and counted from before the database was asked: never too late
        self._stop = Event()
        self._renewer: Thread | None = None

    @property
    def held(self) -> bool:
        return self._fence is not None

    def attempt(self) -> bool:
        if self.held:
            return False
        row, now = schema.lease.c, func.clock_timestamp()
        shown, asked = self._presence.number(), self._clock()
        with writing(self._engine) as connection:
            connection.execute(
                insert(schema.lease)
                .values(connection=self._connection, fence=0)
                .on_conflict_do_nothing(index_elements=[row.connection])
            )
            # Who writes just now has the row locked (``check``), and may stand still in the middle of it: nobody waits for that.
            ours = select(row.fence).where(row.connection == self._connection)
            if connection.execute(ours.with_for_update(skip_locked=True)).first() is None:
                return False
            fence = connection.execute(
                update(schema.lease)
                .where(
                    row.connection == self._connection,
                    or_(row.deadline.is_(None), row.deadline <= now),
                )
                .values(
                    holder=self._name,
                    fence=row.fence + 1 + secrets.randbelow(_LEAP),
                    deadline=now + self._deadline,
                    presence=shown,
                )
                .returning(row.fence)
            ).scalar_one_or_none()
            if fence is None:
                self._hasten(connection)
                return False
        self._fence, self._shown = fence, shown
        self._ours_until = asked + self._deadline.total_seconds()
        self._stop.clear()
        renewer = Thread(target=self._keep, name="lease", daemon=True)
        try:
            renewer.start()
        except BaseException:  # the machine has no room for a thread
            self.release()
            raise
        self._renewer = renewer
        return True

    def _hasten(self, connection: Connection) -> None:
        """Where nobody holds the lock of the holder's number, leave it ``GRACE`` to show itself instead of the whole deadline."""
        row, soon = schema.lease.c, func.clock_timestamp() + GRACE
        connection.execute(
            update(schema.lease)
            .where(
                row.connection == self._connection,
                row.deadline > soon,
                func.pg_try_advisory_xact_lock_shared(row.presence),
            )
            .values(deadline=soon)
        )

    def release(self) -> None:
        self._stop.set()
        if self._renewer is not None:
            self._renewer.join()
        fence, self._fence, self._renewer = self._fence, None, None
        # Where the database is away, the deadline does the same, only later.
        with suppress(Unavailable), writing(self._engine) as connection:
            connection.execute(
                update(schema.lease)
                .where(schema.lease.c.connection == self._connection, schema.lease.c.fence == fence)
                .values(holder=null(), deadline=null(), presence=null())
            )

    def holder(self) -> str | None:
        row = schema.lease.c
        with reading(self._engine) as connection:
            return connection.execute(
                select(row.holder).where(
                    row.connection == self._connection, row.deadline > func.clock_timestamp()
                )
            ).scalar_one_or_none()

    def check(self, connection: Connection) -> None:
        """Locks the row, so that nobody takes over between this look and the commit."""
        row = schema.lease.c
        fence = connection.execute(
            select(row.fence).where(row.connection == self._connection).with_for_update()
        ).scalar_one_or_none()
        if self._fence is None or fence != self._fence:
            raise Fenced(
                "the lease is not held" if self._fence is None else "the lease went to another process"
            )

    def check_deadline(self) -> None:
        if self._fence is None:
            raise Fenced("the lease is not held")
        if not self._is_ours():
            # Perhaps only the thread that renews it was kept waiting.
            with suppress(Unavailable):
                self.renew()
            if not self._is_ours():
                raise Fenced("the lease was not renewed in time; another process may hold it")

    def _is_ours(self) -> bool:
        """Whether nobody can have taken over, by our clock, nor will while a call that leaves now is under way."""
        now, reserve = self._clock(), self._deadline.total_seconds() * _RESERVE
        if self._shown is not None:
            known = self._presence.seen(self._shown) + (GRACE - _GRACE_RESERVE).total_seconds()
            return now < min(known, self._ours_until - reserve)
        return now < self._ours_until - reserve

    def renew(self) -> bool:
        """Push the deadline out, and show this process's presence of now; False where the lease is lost."""
        shown, asked = self._presence.number(), self._clock()
        with writing(self._engine) as connection:
            kept = (
                connection.execute(
                    update(schema.lease)
                    .where(schema.lease.c.connection == self._connection, schema.lease.c.fence == self._fence)
                    .values(deadline=func.clock_timestamp() + self._deadline, presence=shown)
                ).rowcount
                == 1
            )
        self._shown, self._ours_until = shown, asked + self._deadline.total_seconds() if kept else 0.0
        return kept

    def _keep(self) -> None:
        third = self._deadline.total_seconds() / 3
        while not self._stop.wait(min(third, BEAT.total_seconds())):
            if self._presence.number() == self._shown and self._clock() < self._ours_until - 2 * third:
                continue
            # A database that is away may be back before the deadline; if not, ``check`` refuses every write.
            with suppress(Unavailable):
                if not self.renew():
                    return


def lease_of(engine: Engine, connection: str, name: str, deadline: timedelta) -> Lease:
    """The lease of this store. ``name``: what this process is called. ``deadline``: of PostgreSQL's row."""
    if engine.dialect.name != "sqlite":
        return RowLease(engine, connection, name, deadline)
    path = _lock_file(engine, connection)
    return MemoryLease(name) if path is None else FileLease(path, name)


def remove_lock(engine: Engine, connection: str) -> None:
    """Remove the lock file of a connection that is no more, while its lease is held; that of the first connection stays."""
    path = _lock_file(engine, connection)
    if path is not None and connection != schema.DEFAULT:
        path.unlink(missing_ok=True)


def _lock_file(engine: Engine, connection: str) -> Path | None:
    """None where the store is no file."""
    path = file_of(engine.url)
    # The store's first connection keeps the file that earlier versions lock.
    mine = "" if connection == schema.DEFAULT else f".{connection}"
    return None if path is None else path.with_name(f"{path.name}{mine}.lock")
