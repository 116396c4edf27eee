"""Connections to the store's database: how SQLite is made durable, and what a database that fails means to us.

SQLite: write-ahead log with full synchronisation (a commit survives a power cut), foreign keys on, and a writer that
takes its lock at the start of the transaction, since a read that turns into a write cannot wait for another writer.
Python's own transaction handling is switched off for that, as SQLAlchemy's page on pysqlite advises.

PostgreSQL may be reached through a pooler (PgBouncer, which Azure, for one, has built in) that lends out a session for one
transaction at a time. There nothing is left on a session for a next statement to find, or for somebody else: no prepared
statement, and settings are those of a transaction.
https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cosell_sync.errors import ConfigError, Unavailable

_BUSY_SECONDS: Final = 30
_OTHERS: Final = 6  # the listener's workers, and notices
# libpq's words, seconds (the last: milliseconds). A network that swallows everything is noticed within half a minute; the
# system's own patience is a quarter of an hour for what was sent, and two hours for an answer.
_NETWORK: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# Seconds between two statements of one transaction; less than the lease of PostgreSQL (``lease.DEADLINE``).
_IDLE_SECONDS: Final = 15
_WRITES: Final = "cosell_writes"
_POOLED: Final = "cosell_pooled"
_NOT_OURS: Final = frozenset({"42501"})  # PostgreSQL's insufficient_privilege: an admin's matter
_EXAMPLES: Final = "sqlite:///cosell-sync.db or postgresql+psycopg://user@host/database"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def _to_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half of a surrogate, or a number of more than 64 bits
        return json.dumps(value)


def _from_json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


_COMMON: Final[Mapping[str, Any]] = {
    "hide_parameters": True,
    "json_serializer": _to_json,
    "json_deserializer": _from_json,
}


def parse(url: str) -> URL:
    """The URL, with the driver that we bring. Never quoted in an error: there may be a password in it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError("store.url is not a database URL", hint=f"write {_EXAMPLES}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigError(
            f"store.url: {parsed.drivername} is no database we can use", hint=f"write {_EXAMPLES}"
        )
    if driver == "sqlite" and (parsed.query or parsed.host):
        raise ConfigError(
            "store.url names no plain SQLite file",
            hint="write sqlite:///relative/path.db, or sqlite:////absolute/path.db with four slashes",
        )
    return parsed.set(drivername=driver)


def make_engine(url: URL, cycles: int = 1) -> Engine:
    """An engine for SQLite or PostgreSQL; parameters never show in its errors, for they are people's data.

    ``cycles``: how many run over it at a time; PostgreSQL is asked for no more connections than these need.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    try:
        own = {name: value for name, value in _NETWORK.items() if name not in url.query}
        engine = create_engine(
            url,
            **_COMMON,
            pool_pre_ping=True,
            pool_size=cycles + 1,
            max_overflow=cycles + _OTHERS,
            connect_args=own,
        )
    except ImportError as error:
        raise ConfigError(
            f"a store on PostgreSQL needs the package {error.name}",
            hint="run `pip install 'cosell-sync[postgresql]'`",
        ) from error

    # A process that stands still in the middle of a write, or that the network has lost, would keep its locks for as long.
    limit = f"idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        record.info[_POOLED] = through_pooler(connection)
        if record.info[_POOLED]:
            connection.prepare_threshold = None
        else:
            connection.execute(f"SET {limit}")
        connection.commit()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.info.get(_POOLED) and connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql(f"SET LOCAL {limit}")

    return engine


def through_pooler(session: Any) -> bool:
    """Whether a connection of psycopg ends at a pooler: it greets with another process id than the session has (pgbouncer issue
    1296), for by that number it knows who cancels what.
    """
    found: int = session.execute("SELECT pg_backend_pid()").fetchone()[0]
    return bool(found != session.info.backend_pid)


def is_pooled(engine: Engine) -> bool:
    """Whether this engine reaches PostgreSQL through a pooler."""
    with engine.connect() as connection:
        return bool(connection.info.get(_POOLED))


def _sqlite(url: URL) -> Engine:
    arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    if file_of(url) is None:
        # A second connection would see another, empty database: everybody shares the one, in turn.
        engine = create_engine(
            url, **_COMMON, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=arguments
        )
    else:
        engine = create_engine(url, **_COMMON, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def file_of(url: URL) -> Path | None:
    """The file of a SQLite store; None for one in memory and for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).absolute()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent look."""
    with _transaction(engine, writes=False) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """All or nothing, and durable once left."""
    with _transaction(engine, writes=True) as connection:
        yield connection


@contextmanager
def _transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_WRITES: writes})
            with connection.begin():
                yield connection
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
        raise unavailable(error) from error
    except DatabaseError as error:
        # A damaged SQLite file is a bare DatabaseError; its subclasses are faults of the program and pass.
        if type(error) is not DatabaseError and getattr(error.orig, "sqlstate", None) not in _NOT_OURS:
            raise
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """What an error of the database, or of its driver, means."""
    cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return Unavailable(
        "store",
        f"the store does not answer: {cause}",
        code=type(error).__name__,
        hint="check that the database of store.url is up, has room, and lets this program in",
    )
