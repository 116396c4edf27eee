"""Statements that SQLAlchemy words differently per database, and the size of what is asked for at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, false, func
from sqlalchemy.dialects import postgresql, sqlite

from cosell_sync.store import schema

CHUNK: Final = 500  # values in one question, rows on one page
# Whether a deal fails because its record is held by an approval or an admin.
LOCKED: Final = func.coalesce(schema.link.c.memory["failure"]["locked"].as_boolean(), false()).label("locked")
T = TypeVar("T")


def upsert(connection: Connection, table: Table) -> Any:
    """INSERT that overwrites the row of the same key; the two databases agree on the words."""
    return _upsert(connection.dialect.name, table)


@cache
def _upsert(dialect: str, table: Table) -> Any:
    dialects: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    statement = dialects[dialect](table)
    keys = list(table.primary_key.columns)
    return statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: statement.excluded[column.name] for column in table.columns if column not in keys},
    )


def insert_new(connection: Connection, table: Table) -> Any:
    """INSERT that leaves a row of the same key as it is."""
    dialects: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return dialects[connection.dialect.name](table).on_conflict_do_nothing()


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """The same text, for which a database finds no index: it then goes along the one of a rarer condition.

    Without, it takes what has the wanted order, or more columns, and reads every link to find the few.
    """
    return column.concat("")


def chunks(values: Sequence[T]) -> Iterator[list[T]]:
    """The values in lists of at most ``CHUNK``."""
    rest = iter(values)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
