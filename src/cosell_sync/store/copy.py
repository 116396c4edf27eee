"""A copy of the store in memory, for what must not write anywhere: ``plan`` decides on a copy and throws it away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from sqlalchemy import URL, Connection, Engine, insert, select

from cosell_sync.errors import ConfigError
from cosell_sync.ports import Clock
from cosell_sync.store import schema
from cosell_sync.store.engine import file_of, make_engine, parse, reading, writing
from cosell_sync.store.migrate import pending, revision, upgrade
from cosell_sync.store.sql import SqlStore

_MEMORY: Final = URL.create("sqlite")
_PART: Final = 1000


def copy_into_memory(store: SqlStore) -> SqlStore:
    """Everything the store holds at this moment, tokens included, to be written to without consequence."""
    memory = make_engine(_MEMORY)
    if store.engine.dialect.name == "sqlite":
        with reading(store.engine) as source:
            _backup(_driver(source), memory)
    else:
        with reading(store.engine) as source:
            _copy_rows(source, memory)
    return SqlStore(memory, store.clock)


def open_copy(url: str, clock: Clock) -> SqlStore:
    """As ``open_store`` and ``copy_into_memory``, without making, migrating or touching the store itself."""
    parsed = parse(url)
    memory = make_engine(_MEMORY)
    if parsed.get_backend_name() == "sqlite":
        path = file_of(parsed)
        if path is not None and path.exists():
            try:
                with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
                    _backup(file, memory)
            except sqlite3.Error as error:
                raise ConfigError(
                    f"{path} cannot be read as the store: {error}",
                    hint="check that store.url names a cosell-sync store that this user may read",
                ) from error
        upgrade(memory)
        return SqlStore(memory, clock)
    engine = make_engine(parsed)
    try:
        with reading(engine) as source:
            if revision(source) is None:
                upgrade(memory)
            elif not pending(engine):
                _copy_rows(source, memory)
            else:
                raise ConfigError(
                    "the store is still of an older version",
                    hint="run `cosell-sync sync` once, which brings it up to date",
                )
    finally:
        engine.dispose()
    return SqlStore(memory, clock)


def _backup(source: sqlite3.Connection, memory: Engine) -> None:
    with memory.connect() as target:
        source.backup(_driver(target))


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for the type checker; both engines are SQLite
    return driver


def _copy_rows(source: Connection, memory: Engine) -> None:
    with writing(memory) as target:
        schema.metadata.create_all(target)
        for table in schema.metadata.sorted_tables:
            rows = source.execution_options(yield_per=_PART).execute(select(table)).mappings()
            for part in rows.partitions():
                target.execute(insert(table), [dict(row) for row in part])
