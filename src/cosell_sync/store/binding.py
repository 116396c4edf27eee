"""To whom a store belongs: one row a side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, Engine, delete, func, select

from cosell_sync.core.deal import Side
from cosell_sync.errors import ForeignSystem
from cosell_sync.ports import Identity
from cosell_sync.store import schema
from cosell_sync.store.engine import reading
from cosell_sync.store.statements import upsert

_LOCK: Final = 0x636F73656C62  # any number, as long as every version uses the same


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
    """Store them, and drop the watermarks of the sides that are to be read from the start.

    Raises ForeignSystem where another connection of this database, unless it is paused, has the same org and tenant. Where the
    same one answers under another address (its name was changed), only ``doctor`` says so.
    """
    rows = [{"connection": name, "side": side.value, **asdict(each)} for side, each in whose.items()]
    if rows:
        if connection.dialect.name == "postgresql":  # two that begin at once must see each other
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        connection.execute(upsert(connection, schema.binding), rows)
        _refuse_a_second(connection, name)
    if unread:
        column = schema.watermark.c
        named = column.name.in_([side.value for side in unread])
        connection.execute(delete(schema.watermark).where(column.connection == name, named))


def _refuse_a_second(connection: Connection, name: str) -> None:
    """Two connections for one pair would both share every opportunity, whatever either is called in the configuration."""
    mine, other, column = schema.binding.alias(), schema.binding, schema.connection.c
    found = connection.execute(
        select(other.c.connection)
        .join_from(other, mine, (other.c.side == mine.c.side) & (other.c.system == mine.c.system))
        .join(schema.connection, column.name == other.c.connection)
        .where(mine.c.connection == name, other.c.connection != name, column.paused_at.is_(None))
        .where(other.c.account == mine.c.account, other.c.account != "", other.c.host == mine.c.host)
        .group_by(other.c.connection)
        .having(func.count() == len(Side))
    ).scalar()
    if found is not None:
        raise ForeignSystem(
            f"the connection {found} of this store has the deals of the same CRM and the same tenant; both would write every deal, "
            "so nothing was written",
            hint=f"if {name} is a new name of {found}, call it {found} again; else keep one of both, or pause the other: "
            f"cosell-sync connection pause {found} (connection forget {found}, where it is configured no more)",
            stored=found,
            found=name,
        )
