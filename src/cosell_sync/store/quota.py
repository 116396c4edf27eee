"""The calls of each day and system, counted across processes; see ``transport.quota``.

No lease guards them: ``doctor`` and ``plan`` call as well. Rows of past days stay, a few hundred small ones a year: were
they dropped by a clock that is wrong, the day would begin anew.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cosell_sync.store import schema
from cosell_sync.store.engine import reading, writing


class StoredLedger:
    """Implements ``transport.quota.Ledger``."""

    def __init__(self, engine: Engine, *, connection: str = schema.DEFAULT) -> None:
        self._engine = engine
        self._connection = connection

    def used(self, system: str, day: date) -> int:
        """Calls made or reserved on this day (UTC)."""
        with reading(self._engine) as connection:
            return self._used(connection, system, day)

    def reserve(self, system: str, day: date, calls: int, ceiling: int) -> tuple[int, int]:
        """Reserve so many calls, or as many as are left below ``ceiling``: how many were granted, how many are used now."""
        with writing(self._engine) as connection:
            self._begin(connection, system, day)
            used = self._used(connection, system, day, lock=True)
            granted = max(0, min(calls, ceiling - used))
            if granted:
                self._put(connection, system, day, used + granted)
            return granted, used + granted

    def give_back(self, system: str, day: date, calls: int) -> None:
        """Return calls that were reserved and not made."""
        with writing(self._engine) as connection:
            used = self._used(connection, system, day, lock=True)
            self._put(connection, system, day, max(0, used - calls))

    def _begin(self, connection: Connection, system: str, day: date) -> None:
        dialects: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
        row = {"connection": self._connection, "system": system, "day": day, "used": 0}
        statement = dialects[connection.dialect.name](schema.budget).values(row)
        connection.execute(statement.on_conflict_do_nothing())

    def _used(self, connection: Connection, system: str, day: date, *, lock: bool = False) -> int:
        query = select(schema.budget.c.used).where(*self._row(system, day))
        found = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
        return found or 0

    def _put(self, connection: Connection, system: str, day: date, used: int) -> None:
        connection.execute(update(schema.budget).where(*self._row(system, day)).values(used=used))

    def _row(self, system: str, day: date) -> tuple[ColumnElement[bool], ...]:
        column = schema.budget.c
        return (column.connection == self._connection, column.system == system, column.day == day)
