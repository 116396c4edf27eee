"""The journal as rows: the lines of one deal, the whole of it in pages, and what is old deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, delete, select

from cosell_sync.core.memory import JournalEntry
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.lease import Lease
from cosell_sync.store.statements import CHUNK

PURGED_AT_ONCE: Final = 2000  # some ten milliseconds


def of_deal(engine: Engine, name: str, key: str, limit: int) -> list[JournalEntry]:
    """The newest lines of one deal, the newest first."""
    column = schema.journal.c
    lines = (
        select(schema.journal)
        .where(column.connection == name, column.link == key)
        .order_by(column.id.desc())
        .limit(limit)
    )
    with reading(engine) as connection:
        rows = connection.execute(lines).mappings()
        return [line for row in rows for line in reversed(serialize.to_entries(row))][:limit]


def pages(engine: Engine, name: str) -> Iterator[dict[int, list[JournalEntry]]]:
    """The whole journal by row number, in pages."""
    column = schema.journal.c
    after = 0
    while True:
        page = (
            select(schema.journal)
            .where(column.connection == name, column.id > after)
            .order_by(column.id)
            .limit(CHUNK)
        )
        with reading(engine) as connection:
            rows = connection.execute(page).mappings().all()
        if not rows:
            return
        yield {row["id"]: serialize.to_entries(row) for row in rows}
        after = rows[-1]["id"]


def purge(engine: Engine, name: str, lease: Lease, before: datetime) -> int:
    """Delete lines older than that; how many rows of them there were.

    Some at a time, each time in a transaction of its own: nobody who writes waits long, and the lease is renewed meanwhile. A
    call that was cut short is simply made again.
    """
    column, purged = schema.journal.c, 0
    old = (
        select(column.id)
        .where(column.connection == name, column.at < before)
        .order_by(column.at)
        .limit(PURGED_AT_ONCE)
    )
    while True:
        with writing(engine) as connection:
            lease.check(connection)
            gone = connection.execute(delete(schema.journal).where(column.id.in_(old))).rowcount
        purged += gone
        if gone < PURGED_AT_ONCE:
            return purged
