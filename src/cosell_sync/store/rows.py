"""Rows of one connection of the database: asked for by many values, inserted, written over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, insert, select

from cosell_sync.store.engine import reading
from cosell_sync.store.serialize import Row
from cosell_sync.store.statements import chunks, upsert


def among(
    engine: Engine,
    name: str,
    column: Column[Any],
    values: Sequence[str],
    wanted: Iterable[ColumnElement[Any]],
    *conditions: ColumnElement[bool],
) -> Iterator[Row]:
    """The wanted columns of the rows whose ``column`` is one of the values, asked for in chunks."""
    if not values:
        return
    query = select(*wanted).where(column.table.c.connection == name, *conditions)
    with reading(engine) as connection:
        for chunk in chunks(list(dict.fromkeys(values))):
            yield from connection.execute(query.where(column.in_(chunk))).mappings()


def insert_rows(connection: Connection, name: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add these rows; nothing is done where there are none."""
    if rows:
        connection.execute(insert(table), [{"connection": name, **row} for row in rows])


def upsert_rows(connection: Connection, name: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add these rows, each in the place of the one of its key; nothing is done where there are none."""
    if rows:
        connection.execute(upsert(connection, table), [{"connection": name, **row} for row in rows])
