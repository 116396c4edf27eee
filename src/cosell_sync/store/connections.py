"""The connections of one database: which are paused, and when each is due, for every process that serves some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select, update

from cosell_sync.store import schema
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.statements import insert_new


@dataclass(frozen=True)
class Turn:
    """``paused_at``: since when a person wants it left alone. ``due``: when its next cycle is, as the process said that made the
    last one; None before the first.
    """

    paused_at: datetime | None = None
    due: datetime | None = None


def introduce(engine: Engine, name: str) -> None:
    """Let rows belong to the connection of that name; nothing happens where it is known."""
    column = schema.connection.c.name
    with reading(engine) as connection:
        known = connection.execute(select(column).where(column == name)).first()
    if known is None:
        with writing(engine) as connection:
            connection.execute(insert_new(connection, schema.connection).values(name=name))


def turns(engine: Engine) -> Mapping[str, Turn]:
    """Every connection that this database has seen, by name."""
    column = schema.connection.c
    with reading(engine) as connection:
        rows = connection.execute(select(column.name, column.paused_at, column.due))
        return {row.name: Turn(row.paused_at, row.due) for row in rows}


def turn(engine: Engine, name: str) -> Turn:
    """The turn of one connection."""
    column = schema.connection.c
    with reading(engine) as connection:
        row = connection.execute(select(column.paused_at, column.due).where(column.name == name)).first()
    return Turn() if row is None else Turn(row.paused_at, row.due)


def pause(engine: Engine, name: str, at: datetime | None) -> None:
    """Leave it alone from now on; None: serve it again, and at once."""
    column = schema.connection.c
    values: dict[str, datetime | None] = {"paused_at": at} if at else {"paused_at": None, "due": None}
    with writing(engine) as connection:
        connection.execute(update(schema.connection).where(column.name == name).values(**values))


def put_off(engine: Engine, name: str, due: datetime) -> None:
    """Say when its next cycle is due."""
    with writing(engine) as connection:
        connection.execute(update(schema.connection).where(schema.connection.c.name == name).values(due=due))
