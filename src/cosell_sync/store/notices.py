"""The outbox of notices: how deals stand, what a receiver was told, and what still waits to be sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any, Final

from sqlalchemy import Engine, Row, delete, func, select, update

from cosell_sync.core.deal import State, SyncState
from cosell_sync.core.memory import Action, Phase
from cosell_sync.core.notices import Backlog, Due, Notice, NoticeKind, StandingDeal, Told, Waiting
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.statements import chunks, insert_new

_AT_WORK: Final = (Phase.LINKED, Phase.WAITING)
_ASKING: Final = (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)


class SqlOutbox:
    """Implements ``notices.outbox.Outbox`` for the connection of this name. Needs no lease: keys keep notices single."""

    def __init__(self, engine: Engine, connection: str = schema.DEFAULT) -> None:
        self._engine = engine
        self._name = connection

    def standing(self) -> Sequence[StandingDeal]:
        """Each question along its own index; neither snapshots nor memories are read."""
        column = schema.link.c
        told = select(column.key, column.sync_state, column.respond_by).where(column.connection == self._name)
        questions = [told.where(column.respond_by.is_not(None))]
        questions += [
            told.where(column.phase == phase.value, column.sync_state == state.value)
            for phase, state in product(_AT_WORK, _ASKING)
        ]
        with reading(self._engine) as connection:
            found = {row.key: row for query in questions for row in connection.execute(query)}
        return [
            StandingDeal(key, SyncState(row.sync_state), row.respond_by) for key, row in sorted(found.items())
        ]

    def won(self, since: datetime) -> Collection[str]:
        column = schema.journal.c
        moves = select(schema.journal).where(
            column.connection == self._name, column.at >= since, column.action == Action.MOVE.value
        )
        with reading(self._engine) as connection:
            rows = connection.execute(moves).mappings()
            lines = [line for row in rows for line in serialize.to_entries(row)]
        return sorted({line.link for line in lines if line.new == State.WON.value})

    def known(self, target: str) -> Mapping[str, Told]:
        column = schema.notice.c
        query = select(column.key, column.at, column.told).where(*self._of(target))
        with reading(self._engine) as connection:
            return {row.key: Told(row.at, row.told) for row in connection.execute(query)}

    def keep(self, target: str, due: Due, now: datetime) -> None:
        column = schema.notice.c
        with writing(self._engine) as connection:
            for keys in chunks(sorted(due.ended)):
                connection.execute(delete(schema.notice).where(*self._of(target), column.key.in_(keys)))
            for some in chunks([*enumerate(due.new)]):
                rows = [self._row(target, place, notice, now) for place, notice in some]
                connection.execute(insert_new(connection, schema.notice), rows)

    def waiting(self, targets: Collection[str], now: datetime, limit: int) -> Sequence[Waiting]:
        column = schema.notice.c
        query = (
            select(schema.notice)
            .where(column.connection == self._name, column.target.in_(sorted(targets)), column.due <= now)
            .order_by(column.due, column.place, column.key)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_waiting(row) for row in connection.execute(query)]

    def sent(self, target: str, key: str) -> None:
        self._set(target, key, told=True, due=None)

    def put_off(self, target: str, key: str, again: datetime | None) -> None:
        self._set(target, key, due=again, tries=schema.notice.c.tries + 1)

    def drop_others(self, targets: Collection[str]) -> None:
        column = schema.notice.c
        others = (column.connection == self._name, column.target.not_in(sorted(targets)))
        with reading(self._engine) as connection:
            if connection.execute(select(column.key).where(*others).limit(1)).first() is None:
                return
        with writing(self._engine) as connection:
            connection.execute(delete(schema.notice).where(*others))

    def backlog(self, target: str) -> Backlog:
        column = schema.notice.c
        count = select(func.count()).where(*self._of(target), column.told.is_(False))
        with reading(self._engine) as connection:
            waiting = connection.execute(count.where(column.due.is_not(None))).scalar_one()
            given_up = connection.execute(count.where(column.due.is_(None))).scalar_one()
        return Backlog(waiting, given_up)

    def _of(self, target: str) -> tuple[Any, Any]:
        return schema.notice.c.connection == self._name, schema.notice.c.target == target

    def _set(self, target: str, key: str, **values: Any) -> None:
        mine = (*self._of(target), schema.notice.c.key == key)
        with writing(self._engine) as connection:
            connection.execute(update(schema.notice).where(*mine).values(**values))

    def _row(self, target: str, place: int, notice: Notice, now: datetime) -> dict[str, Any]:
        data = {
            "kind": notice.kind.value,
            "deals": list(notice.deals),
            "more": notice.more,
            "days": notice.days,
            "system": notice.system,
            "over": notice.over,
        }
        return {
            "connection": self._name,
            "target": target,
            "key": notice.key,
            "at": now,
            "place": place,
            "due": None if notice.silent else now,
            "told": notice.silent,
            "tries": 0,
            "data": data,
        }


def _waiting(row: Row[Any]) -> Waiting:
    data = row.data
    notice = Notice(
        row.key,
        NoticeKind(data["kind"]),
        tuple(data["deals"]),
        data["more"],
        data["days"],
        data["system"],
        data["over"],
    )
    return Waiting(row.target, notice, row.tries, row.at)
