"""Many deals in a store within seconds: real ones, brought there by cycles over systems in memory, multiplied by the database.

A copy differs from its original in its ids only, wherever they stand, its journal included. One deal in a hundred needs a
person, two wait to be accepted or declined, five are closed; the others are in sync.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, Table, cast, func, insert, literal, select, text, true
from sqlalchemy import String as Text

from cosell_sync.core.deal import Side, State
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.store import schema
from cosell_sync.store.engine import writing
from cosell_sync.store.sql import SqlStore
from cosell_sync.summary import CycleSummary
from memory_systems import MemoryCrm, MemoryReferrals, Outside, rules

MINUTE = timedelta(minutes=1)
IN_A_HUNDRED = {"R1": 92, "R2": 5, "R3": 2, "R4": 1}  # in sync, closed, to be answered, needs a person


class FilledWorld:
    """Two systems in memory with four deals, and a store that knows a hundred times ``hundreds`` more."""

    def __init__(self, store: SqlStore, outside: Outside, hundreds: int) -> None:
        self.store = store
        self.outside = outside
        self.number = 0
        self.services = Services(
            MemoryReferrals(outside),
            MemoryCrm(outside),
            store,
            outside.clock,
            rules(write_name=True, terminal_hold=timedelta()),
            CycleSettings(retry_policy=RetryPolicy(MINUTE, 3, timedelta(days=7))),
        )
        self._begin()
        multiply(store, hundreds)

    def cycle(self) -> CycleSummary:
        """One cycle, a minute after the last one; takes the lease unless it is held, as by the daemon."""
        self.number += 1
        self.outside.now += MINUTE
        with nullcontext() if self.store.holds_lease else self.store.lease(timedelta()):
            return run_cycle(self.services, f"c{self.number}", accept=True)

    def _begin(self) -> None:
        outside = self.outside
        for state in (State.ACCEPTED, State.ACCEPTED, State.RECEIVED, State.ACCEPTED):
            outside.new_referral(state, name="Contoso")
        self.cycle()
        outside.portal_moves("R2", State.LOST)
        outside.people(Side.CRM, "O4", {"close_date": None})
        for _ in range(3):
            self.cycle()


def multiply(store: SqlStore, hundreds: int) -> None:
    """Copy each deal as often as ``IN_A_HUNDRED`` says, with its rows and its journal; PostgreSQL counts its rows after."""
    with writing(store.engine) as connection:
        for referral, parts in IN_A_HUNDRED.items():
            for table in (schema.link, schema.link_row, schema.journal):
                names, rows = _copies(table, referral, parts * hundreds, connection.dialect.name)
                connection.execute(insert(table).from_select(names, rows))
        if (
            connection.dialect.name == "postgresql"
        ):  # its own vacuum does that within a minute; SQLite has no such thing
            connection.execute(text("ANALYZE"))


def _copies(table: Table, referral: str, times: int, dialect: str) -> tuple[list[str], Any]:
    """The rows of one deal so many times; ``R1`` and ``O1`` in them are ``R1-7`` and ``O1-7`` in the seventh copy."""
    first = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = first.union_all(select(first.c.n + 1).where(first.c.n < times))
    ids = (referral, referral.replace("R", "O"))

    def value(column: Column[Any]) -> ColumnElement[Any]:
        if column.name == "connection" or not isinstance(column.type, JSON | Text):
            return column
        copied: ColumnElement[Any] = cast(column, Text)
        for each in ids:
            copied = func.replace(copied, each, literal(f"{each}-").concat(cast(numbers.c.n, Text)))
        is_json = dialect == "postgresql" and isinstance(column.type, JSON)
        return cast(copied, JSON) if is_json else copied

    columns = [column for column in table.columns if column.name != "id"]
    key = table.c.key if table is schema.link else table.c.link
    rows = select(*map(value, columns)).select_from(table.join(numbers, true())).where(key == f"r:{referral}")
    return [column.name for column in columns], rows
