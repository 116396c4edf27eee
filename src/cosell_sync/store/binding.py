"""To whom a store belongs: one row a side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Engine, delete, select

from cosell_sync.core.deal import Side
from cosell_sync.ports import Identity
from cosell_sync.store import schema
from cosell_sync.store.engine import reading
from cosell_sync.store.statements import upsert


def bindings(engine: Engine, name: str) -> dict[Side, Identity]:
    """Those of the connection of that name; a side is missing before its first contact."""
    column = schema.binding.c
    query = select(column.side, column.system, column.account, column.host)
    with reading(engine) as connection:
        return {
            Side(side): Identity(*whose)
            for side, *whose in connection.execute(query.where(column.connection == name))
        }


def others(engine: Engine, name: str) -> dict[str, dict[Side, Identity]]:
    """Those of every other connection of this database."""
    column = schema.binding.c
    query = select(column.connection, column.side, column.system, column.account, column.host)
    found: dict[str, dict[Side, Identity]] = {}
    with reading(engine) as connection:
        for other, side, *whose in connection.execute(query.where(column.connection != name)):
            found.setdefault(other, {})[Side(side)] = Identity(*whose)
    return found


def bind(connection: Connection, name: str, whose: Mapping[Side, Identity], unread: Sequence[Side]) -> None:
    """Store them, and drop the watermarks of the sides that are to be read from the start."""
    rows = [{"connection": name, "side": side.value, **asdict(each)} for side, each in whose.items()]
    if rows:
        connection.execute(upsert(connection, schema.binding), rows)
    if unread:
        column = schema.watermark.c
        named = column.name.in_([side.value for side in unread])
        connection.execute(delete(schema.watermark).where(column.connection == name, named))
