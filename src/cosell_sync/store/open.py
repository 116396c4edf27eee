"""Opens a store from its URL: file made owner-only, tables brought up to date, every obstacle said with its way out."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.ports import Clock
from cosell_sync.store.connections import introduce
from cosell_sync.store.engine import file_of, make_engine, parse
from cosell_sync.store.files import access_hint, close_store
from cosell_sync.store.lease import DEADLINE, Sleep
from cosell_sync.store.migrate import upgrade
from cosell_sync.store.schema import DEFAULT
from cosell_sync.store.sql import SqlStore


class Databases:
    """The databases of this process, one engine each, whatever number of connections have their rows in it.

    ``cycles``: how many run at a time. May be asked from any thread; to be closed when no store of it is used any more.
    """

    def __init__(self, cycles: int = 1) -> None:
        self._cycles = cycles
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}  # a database that hardly answers keeps no other waiting
        self._engines: dict[str, Engine] = {}

    def engine(self, url: str) -> Engine:
        """The engine of this URL; arguments and errors as of ``open_store``."""
        with self._lock:
            opening = self._opening.setdefault(url, threading.Lock())
        with opening:
            if url not in self._engines:
                self._engines[url] = open_engine(url, self._cycles)
            return self._engines[url]

    def store(
        self, url: str, clock: Clock, *, sleep: Sleep = time.sleep, connection: str = DEFAULT
    ) -> SqlStore:
        """The store of one connection. Closing it leaves the others their engine."""
        engine = self.engine(url)
        introduce(engine, connection)
        return SqlStore(engine, clock, sleep=sleep, connection=connection, shared=True)

    def close(self) -> None:
        """Close every connection to every database."""
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def open_store(
    url: str,
    clock: Clock,
    *,
    sleep: Sleep = time.sleep,
    deadline: timedelta = DEADLINE,
    connection: str = DEFAULT,
) -> SqlStore:
    """The store at this URL, made if it is a SQLite one that is not there yet. ``deadline`` is PostgreSQL's lease's.

    ConfigError where the URL or the place is no good, Unavailable where a PostgreSQL does not answer.
    """
    engine = open_engine(url)
    introduce(engine, connection)
    return SqlStore(engine, clock, sleep=sleep, deadline=deadline, connection=connection)


def open_engine(url: str, cycles: int = 1) -> Engine:
    """The database at this URL, its tables brought up to date; what is raised as of ``open_store``."""
    parsed = parse(url)
    path = file_of(parsed)
    if path is not None:
        _make_owner_only(path)
    engine = make_engine(parsed, cycles)
    try:
        upgrade(engine)
    except Unavailable as error:
        engine.dispose()
        if path is None:
            raise
        # Nobody but this machine is between us and a file: waiting will not cure it.
        raise ConfigError(
            f"{path} cannot be used as the store: {error}",
            hint="check that store.url names a cosell-sync store on a local disk that this user may write",
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _make_owner_only(path: Path) -> None:
    """SQLite gives the helper files that it makes the permissions of the store; those that lie there are closed as well."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError as error:
        raise ConfigError(
            f"the directory {path.parent} does not exist", hint="create it, or change store.url"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the store {path} cannot be opened: {error.strerror}",
            hint=f"{access_hint(path, error)}; or change store.url",
        ) from error
    close_store(path)
