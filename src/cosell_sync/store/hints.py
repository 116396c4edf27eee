"""What webhooks said: which referrals are worth a look, ours and those of other organizations in a deal of ours.

A repetition of what was said within a day is known as one, also of what names no referral at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, delete, select, update

from cosell_sync.store import schema
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.statements import chunks, insert_new

KEPT: Final = timedelta(days=1)
_RELATED: Final = "related-"  # so begin the names of events about other organizations' referrals


def put(engine: Engine, name: str, hints: Sequence[tuple[str, str, str]], at: datetime) -> int:
    """Keep hints (referral id, event, changed) for the next cycle; how many of them were new. One without an id waits for nothing."""
    column = schema.hint.c
    with writing(engine) as connection:
        connection.execute(
            delete(schema.hint).where(column.connection == name, column.taken, column.at < at - KEPT)
        )
        new = 0
        for referral_id, event, changed in hints:
            row = {
                "connection": name,
                "referral_id": referral_id,
                "event": event,
                "changed": changed,
                "at": at,
                "taken": not referral_id,
            }
            kept = insert_new(connection, schema.hint).values(row).returning(column.referral_id)
            new += len(connection.execute(kept).all())
        return new


def waiting(engine: Engine, name: str, limit: int, *, related: bool) -> list[str]:
    """Ids of referrals that are worth a look, those first that wait longest. ``related``: those of other organizations, else ours."""
    column = schema.hint.c
    query = (
        select(column.referral_id)
        .where(column.connection == name, column.taken.is_(False))
        .where(column.event.startswith(_RELATED) if related else column.event.not_like(f"{_RELATED}%"))
        .order_by(column.at, column.referral_id)
        .limit(limit)
    )
    with reading(engine) as connection:
        return list(dict.fromkeys(connection.execute(query).scalars()))


def take(connection: Connection, name: str, referral_ids: Sequence[str], before: datetime) -> None:
    """They were looked at: what was said of them until ``before`` is done with."""
    column = schema.hint.c
    for some in chunks(referral_ids):
        connection.execute(
            update(schema.hint)
            .where(column.connection == name, column.referral_id.in_(some), column.at <= before)
            .values(taken=True)
        )
