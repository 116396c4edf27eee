"""The newest cycles, for the console and for who asks what happened: as `cycle.finished` told them, with their exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, delete, select

from cosell_sync.store import schema
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.statements import upsert
from cosell_sync.summary import CycleSummary

KEPT: Final = 200


@dataclass(frozen=True)
class PastCycle:
    """A cycle that ended at ``at``. ``counts``: the fields of ``cycle.finished``; ``exit_code``: as the commands'."""

    at: datetime
    exit_code: int
    counts: dict[str, Any]


def remember(engine: Engine, name: str, summary: CycleSummary, at: datetime) -> None:
    """Keep this cycle of the connection of that name, and the ``KEPT`` newest in all."""
    column = schema.cycle.c
    row = {
        "connection": name,
        "id": summary.cycle_id,
        "at": at,
        "data": {"exit_code": summary.exit_code, **summary.as_event()},
    }
    oldest = (
        select(column.at)
        .where(column.connection == name)
        .order_by(column.at.desc())
        .offset(KEPT - 1)
        .limit(1)
    )
    with writing(engine) as connection:
        connection.execute(upsert(connection, schema.cycle), row)
        last = connection.execute(oldest).scalar_one_or_none()
        if last is not None:
            connection.execute(delete(schema.cycle).where(column.connection == name, column.at < last))


def last(engine: Engine, name: str, limit: int) -> Sequence[PastCycle]:
    """The newest cycles, the newest first."""
    column = schema.cycle.c
    newest = (
        select(column.at, column.data)
        .where(column.connection == name)
        .order_by(column.at.desc())
        .limit(limit)
    )
    with reading(engine) as connection:
        return [
            PastCycle(
                at, data["exit_code"], {key: value for key, value in data.items() if key != "exit_code"}
            )
            for at, data in connection.execute(newest)
        ]
