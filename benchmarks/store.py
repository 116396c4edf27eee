"""What the store costs: an idle cycle over more and more deals, the size of a deal and of a year of history, and the purge.

    .venv/bin/python benchmarks/store.py [--deals 1000 10000 100000] [--year 10000] [--only sqlite]

Cycles run over systems in memory, so their time is the store's and the program's. PostgreSQL is a server of its own, started from
local binaries. A year is 30 edits of each deal, which leave two lines of history each; it is purged as if 100 days were kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, func, insert, literal, select, text

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

from cosell_sync.store import schema, standing  # noqa: E402
from cosell_sync.store.engine import writing  # noqa: E402
from cosell_sync.store.open import open_store  # noqa: E402
from cosell_sync.store.sql import SqlStore  # noqa: E402
from filled_store import FilledWorld  # noqa: E402
from memory_systems import Outside  # noqa: E402
from postgres import own_server, private_schema  # noqa: E402 - the tests' worlds, from beside this folder

EDITS, LINES, KEPT = 30, 2, timedelta(days=100)
CYCLES = 7


def drop(*_: Any) -> Any:
    raise structlog.DropEvent


class Transactions:
    """How many statements were made, and how long the longest transaction was."""

    def __init__(self, store: SqlStore) -> None:
        self.statements, self.longest, self._began = 0, 0.0, 0.0
        event.listen(store.engine, "before_cursor_execute", self._statement)
        event.listen(store.engine, "begin", self._begin)
        event.listen(store.engine, "commit", self._end)

    def _statement(self, *_: Any) -> None:
        self.statements += 1

    def _begin(self, _connection: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, _connection: Any) -> None:
        self.longest = max(self.longest, time.perf_counter() - self._began)


def size(store: SqlStore) -> float:
    """Bytes on disk."""
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "sqlite":
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return float(Path(str(store.engine.url.database)).stat().st_size)
        sizes = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        return float(connection.execute(text(sizes)).scalar_one())


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@contextmanager
def filled(url: str, deals: int) -> Iterator[FilledWorld]:
    outside = Outside()
    store = open_store(url, outside.clock)
    try:
        yield FilledWorld(store, outside, deals // 100)
    finally:
        store.close()


def idle(url: str, deals: int, first: float | None) -> float:
    with filled(url, deals) as world, world.store.lease(timedelta()):
        world.cycle()
        seen = Transactions(world.store)
        spent = min(timed(world.cycle) for _ in range(CYCLES))
        statements = seen.statements // CYCLES
        counts = min(
            timed(lambda: standing.counts(world.store.engine, schema.DEFAULT)) for _ in range(CYCLES)
        )
        outlook = min(timed(world.store.outlook) for _ in range(CYCLES))
        print(
            f"  {deals:>7} deals: idle cycle {spent * 1000:6.1f} ms  {spent / (first or spent):5.2f} x   "
            f"a count of all {counts * 1000:5.1f} ms   {statements:>3} statements   "
            f"outlook {outlook * 1000:5.1f} ms   {size(world.store) / deals / 1000:4.1f} kB a deal",
            flush=True,
        )
        return spent


def year(url: str, deals: int) -> None:
    with filled(url, deals) as world:
        store, now = world.store, world.outside.now
        empty = size(store)
        with store.engine.connect() as connection:
            last = connection.execute(select(func.max(schema.journal.c.id))).scalar_one()
        for number in range(EDITS * LINES):
            journal(store, now - timedelta(days=365 * number / (EDITS * LINES)), last)
        full = size(store)
        lines = deals * EDITS * LINES
        print(f"  a year of {deals} deals, {lines} lines: {(full - empty) / lines:4.0f} bytes a line, {empty / 1e6:.0f} -> {full / 1e6:.0f} MB")  # fmt: skip
        seen = Transactions(store)
        with store.lease(timedelta()):
            purged: list[int] = []
            spent = timed(lambda: purged.append(store.purge_journal(now - KEPT)))
        print(f"  purge of {purged[0]} lines: {spent:.2f} s, the longest transaction {seen.longest * 1000:.0f} ms; {size(store) / 1e6:.0f} MB")  # fmt: skip
        if store.engine.dialect.name == "postgresql":
            print(f"  VACUUM, as PostgreSQL makes it by itself: {timed(lambda: alone(store, 'VACUUM journal')):.2f} s")  # fmt: skip
        again = purged[0] // deals
        for number in range(again):
            journal(store, now - timedelta(days=number), last)
        print(f"  as many lines again: {size(store) / 1e6:.0f} MB")
        if store.engine.dialect.name == "sqlite":
            with store.lease(timedelta()):
                store.purge_journal(now - KEPT / 2)
            print(f"  VACUUM after another purge: {timed(lambda: alone(store, 'VACUUM')):.2f} s, {size(store) / 1e6:.0f} MB")  # fmt: skip


def journal(store: SqlStore, at: datetime, last: int) -> None:
    """One more line for each deal, a copy of one that it has up to the line of that number."""
    table = schema.journal
    names = [column.name for column in table.columns if column.name != "id"]
    values = [literal(at, table.c.at.type) if name == "at" else table.c[name] for name in names]
    with writing(store.engine) as connection:
        first = select(func.min(table.c.id)).where(table.c.id <= last).group_by(table.c.link)
        rows = select(*values).where(table.c.id.in_(first))
        connection.execute(insert(table).from_select(names, rows))


def alone(store: SqlStore, statement: str) -> None:
    """Outside of any transaction."""
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        if store.engine.dialect.name == "postgresql":
            driver.set_autocommit(True)
        driver.cursor().execute(statement)
        connection.connection.invalidate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--year", type=int, default=10_000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    structlog.configure(processors=[drop])
    for database in ("sqlite", "postgresql"):
        if given.only in (None, database):
            measure(database, given.deals, given.year)


def measure(database: str, sizes: list[int], a_year: int) -> None:
    print(database)
    with ExitStack() as stack:
        own = stack.enter_context(own_server()) if database == "postgresql" else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cosell-sync-benchmark-")))

        def place(name: str) -> str:
            return stack.enter_context(private_schema(own.url)) if own else f"sqlite:///{folder}/{name}.db"

        first = None
        for deals in sizes:
            spent = idle(place(str(deals)), deals, first)
            first = first or spent
        year(place("year"), a_year)


if __name__ == "__main__":
    main()
