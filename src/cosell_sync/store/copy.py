"""A copy of the store: in memory, for what must not write anywhere (``plan`` decides on a copy and throws it away), or in a file
of its own, for a backup.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, Table, delete, insert, select, text

from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.ports import Clock
from cosell_sync.store import schema
from cosell_sync.store.connections import introduce
from cosell_sync.store.engine import file_of, make_engine, parse, reading, unavailable, writing
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
            _copy_rows(source, memory, store.connection)
    return SqlStore(memory, store.clock, connection=store.connection)


def copy_into_file(store: SqlStore, path: Path) -> None:
    """Everything the store holds at this moment, as a SQLite store of this version. The daemon may run meanwhile.

    Raises Unavailable, also where there is no room for the file.
    """
    engine = make_engine(URL.create("sqlite", database=str(path)))
    try:
        if store.engine.dialect.name == "sqlite":
            with reading(store.engine) as source:
                _backup(_driver(source), engine)
        else:
            upgrade(engine)
            with reading(store.engine) as source:
                replace_rows(source, engine)
    finally:
        engine.dispose()


def replace_rows(source: Connection, target: Engine) -> None:
    """Put the rows of one store of this version in the place of another's, in one transaction; the lease stays as it is."""
    kept = (schema.lease, schema.connection)
    tables = [table for table in schema.metadata.sorted_tables if table not in kept]
    with writing(target) as into:
        for table in reversed(tables):
            into.execute(delete(table))
        known = set(into.execute(select(schema.connection.c.name)).scalars())
        names = set(source.execute(select(schema.connection.c.name)).scalars())
        for name in sorted(names - known):
            into.execute(insert(schema.connection).values(name=name))
        _insert_rows(source, into, tables)
        if into.dialect.name == "postgresql":  # ids were given, so the sequence has not seen them
            into.execute(
                text(
                    "SELECT setval(pg_get_serial_sequence('journal', 'id'), (SELECT coalesce(max(id), 1) FROM journal))"
                )
            )


def open_copy(url: str, clock: Clock, connection: str = schema.DEFAULT) -> SqlStore:
    """As ``open_store`` and ``copy_into_memory``, without making, migrating or touching the store itself."""
    memory = _copied(url, connection)
    introduce(memory, connection)
    return SqlStore(memory, clock, connection=connection)


def _copied(url: str, connection: str) -> Engine:
    parsed = parse(url)
    memory = make_engine(_MEMORY)
    if parsed.get_backend_name() == "sqlite":
        path = file_of(parsed)
        if path is not None and path.exists():
            try:
                with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
                    _backup(file, memory)
            except (sqlite3.Error, Unavailable) as error:
                raise ConfigError(
                    f"{path} cannot be read as the store: {error.__cause__ or error}",
                    hint="check that store.url names a cosell-sync store that this user may read",
                ) from error
        upgrade(memory)
        return memory
    engine = make_engine(parsed)
    try:
        with reading(engine) as source:
            if revision(source) is None:
                upgrade(memory)
            elif not pending(engine):
                _copy_rows(source, memory, connection)
            else:
                raise ConfigError(
                    "the store is still of an older version",
                    hint="run `cosell-sync sync` once, which brings it up to date",
                )
    finally:
        engine.dispose()
    return memory


def _backup(source: sqlite3.Connection, memory: Engine) -> None:
    try:
        with memory.connect() as target:
            source.backup(_driver(target))
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for the type checker; both engines are SQLite
    return driver


def _copy_rows(source: Connection, memory: Engine, connection: str) -> None:
    with writing(memory) as target:
        schema.metadata.create_all(target)
        _insert_rows(source, target, schema.metadata.sorted_tables, connection)


def _insert_rows(
    source: Connection, target: Connection, tables: Sequence[Table], connection: str | None = None
) -> None:
    """``connection``: whose rows; None: those of all."""
    for table in tables:
        query = select(table)
        if connection is not None and table is not schema.connection:
            query = query.where(table.c.connection == connection)
        rows = source.execution_options(yield_per=_PART).execute(query).mappings()
        for part in rows.partitions():
            target.execute(insert(table), [dict(row) for row in part])
