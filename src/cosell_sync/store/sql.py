"""The store over SQLAlchemy Core: SQLite for one machine, PostgreSQL for several.

``commit`` is one transaction, which begins by checking that this process is still the one writer. Reads ask for little at a
time: ids in chunks, all else in pages by key, so that memory is bounded however many deals there are.
"""

from __future__ import annotations

import heapq
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from cosell_sync.core import erasure as forgetting
from cosell_sync.core.capabilities import Verdict
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.erasure import ErasureResult, Person
from cosell_sync.core.memory import FinalKind, Intent, JournalEntry, Link, OperatorCommand, Outlook, Phase
from cosell_sync.ports import Clock, CycleState, DealCount, Identity, Transaction
from cosell_sync.store import binding, final_steps, history, listing, schema, serialize, standing, verdicts
from cosell_sync.store import hints as hints_table
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.history import PastCycle
from cosell_sync.store.lease import DEADLINE, Sleep, acquire, lease_of
from cosell_sync.store.listing import Deals, Query
from cosell_sync.store.statements import CHUNK, chunks, unindexed, upsert
from cosell_sync.summary import CycleSummary

PURGED_AT_ONCE: Final = 2000  # some ten milliseconds


class SqlStore:
    """Implements ``ports.Store``. The database must be migrated; ``open.open_store`` sees to that."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        sleep: Sleep = time.sleep,
        connection: str = schema.DEFAULT,
        deadline: timedelta = DEADLINE,
        shared: bool = False,
    ) -> None:
        """``connection``: whose rows it reads and writes. ``shared``: the engine is not its own to close."""
        self._shared = shared
        self.engine = engine
        self.clock = clock
        self._sleep = sleep
        self.connection = connection
        since = clock().astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        name = f"process {os.getpid()} on {socket.gethostname()}, started {since}"
        self._lease = lease_of(engine, connection, name, deadline)
        # What ``counts`` found, as long as this store is the one writer and has written no deal since; and how often it has.
        self._counted: Sequence[DealCount] | None = None
        self._written = 0

    @property
    def holds_lease(self) -> bool:
        """Whether this process is the one writer."""
        return self._lease.held

    def close(self) -> None:
        """Close what is its own; the store must not be used after."""
        if not self._shared:
            self.engine.dispose()

    # --- what is known -------------------------------------------------------------------------------------------

    def versions(self, opportunity_ids: Sequence[str]) -> Mapping[str, str]:
        column = schema.link.c
        rows = self._among(
            column.opportunity_id,
            opportunity_ids,
            (column.opportunity_id, column.opportunity_version),
            column.opportunity_version.is_not(None),
        )
        return {row["opportunity_id"]: row["opportunity_version"] for row in rows}

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        column = schema.link_row.c
        rows = self._among(column.row, row_ids, (column.opportunity_id,))
        return frozenset(row["opportunity_id"] for row in rows)

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        return {link.key: link for link in self._links(schema.link.c.key, keys)}

    def by_referral(self, ids: Sequence[str]) -> Mapping[str, Link]:
        links = self._links(schema.link.c.referral_id, ids)
        return {link.referral_id: link for link in links if link.referral_id is not None}

    def by_opportunity(self, ids: Sequence[str]) -> Mapping[str, Link]:
        links = self._links(schema.link.c.opportunity_id, ids)
        return {link.opportunity_id: link for link in links if link.opportunity_id is not None}

    def due(self, now: datetime, after: str, limit: int) -> Sequence[Link]:
        """Three short queries, each along its own index, instead of one over every link."""
        link, intent = schema.link, schema.intent
        ours = (link.c.connection == self.connection, link.c.phase != Phase.PARTED.value)
        opened = (intent.c.connection == link.c.connection) & (intent.c.link == link.c.key)
        key = unindexed(link.c.key)
        queries = (
            select(link.c.key).where(*ours, link.c.dirty, link.c.key > after).order_by(link.c.key),
            select(link.c.key).where(*ours, link.c.due <= now, key > after).order_by(key),
            select(intent.c.link)
            .join_from(intent, link, opened)
            .where(*ours, intent.c.connection == self.connection, intent.c.link > after)
            .order_by(intent.c.link)
            .distinct(),
        )
        with reading(self.engine) as connection:
            found = {each for query in queries for each in connection.execute(query.limit(limit)).scalars()}
        return self._links(link.c.key, sorted(found)[:limit])

    def links(
        self, phases: Iterable[Phase] = tuple(Phase), states: Iterable[SyncState] = tuple(SyncState)
    ) -> Iterator[Link]:
        """Phase by phase, merged by key: each then follows its own index, however many of the others there are."""
        wanted, standing, column = set(phases), set(states), schema.link.c
        if wanted == set(Phase) and standing == set(SyncState):
            return self._walk()
        some = [] if standing == set(SyncState) else [column.sync_state.in_(sorted(standing))]
        return heapq.merge(
            *(self._walk(column.phase == phase.value, *some) for phase in wanted), key=lambda link: link.key
        )

    def page(self, query: Query) -> Deals:
        """Some deals, asked of an index, for who looks at them; see ``listing``."""
        return listing.page(self.engine, self.connection, query)

    def intents(self, keys: Sequence[str]) -> Sequence[Intent]:
        rows = self._among(schema.intent.c.link, keys, schema.intent.c)
        return sorted(
            (serialize.to_intent(row) for row in rows), key=lambda intent: (intent.link, intent.side)
        )

    def journal(self, key: str, limit: int = 200) -> Sequence[JournalEntry]:
        column = schema.journal.c
        lines = (
            select(schema.journal)
            .where(column.connection == self.connection, column.link == key)
            .order_by(column.id.desc())
            .limit(limit)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(lines).mappings()
            return [line for row in rows for line in reversed(serialize.to_entries(row))][:limit]

    def watermark(self, side: str) -> str | None:
        column = schema.watermark.c
        with reading(self.engine) as connection:
            return connection.execute(
                select(column.value).where(column.connection == self.connection, column.name == side)
            ).scalar_one_or_none()

    def cycle_state(self) -> CycleState:
        state = schema.cycle_state
        with reading(self.engine) as connection:
            row = connection.execute(select(state).where(state.c.connection == self.connection)).mappings()
            return serialize.to_state(row.one_or_none())

    def bindings(self) -> Mapping[Side, Identity]:
        return binding.bindings(self.engine, self.connection)

    def withheld(self) -> Iterator[Link]:
        return self._walk(schema.link.c.withheld)

    def final_steps(self, since: datetime) -> Mapping[FinalKind, frozenset[str]]:
        return final_steps.since(self.engine, self.connection, since)

    def verdicts(self) -> Sequence[Verdict]:
        return verdicts.verdicts(self.engine, self.connection)

    def counts(self) -> Sequence[DealCount]:
        """One look at an index with an entry for each deal, or none where nothing can have changed since the last."""
        known, written = self._counted, self._written
        if known is not None and self._lease.held:
            return known
        found = standing.counts(self.engine, self.connection)
        if self._lease.held and written == self._written:
            self._counted = found
        return found

    def _to_be_counted(self) -> None:
        self._written += 1
        self._counted = None

    def hint(self, hints: Sequence[tuple[str, str, str]]) -> int:
        """Keep what a webhook said (referral id, event, changed); how many of them were new. Needs no lease."""
        return hints_table.put(self.engine, self.connection, hints, self.clock())

    def hints(self, limit: int, *, related: bool = False) -> Sequence[str]:
        return hints_table.waiting(self.engine, self.connection, limit, related=related)

    def expiring(self, until: datetime) -> Sequence[Link]:
        """The deals that wait for accept or decline and expire until then, the first to expire first."""
        return standing.expiring(self.engine, self.connection, until)

    def outlook(self) -> Outlook:
        return standing.outlook(self.engine, self.connection)

    def remember_cycle(self, summary: CycleSummary) -> None:
        """Keep how a cycle went, that has just ended; needs no lease, for a cycle that lost it is told as well."""
        history.remember(self.engine, self.connection, summary, self.clock())

    def last_cycles(self, limit: int) -> Sequence[PastCycle]:
        """The newest cycles of all processes, the newest first."""
        return history.last(self.engine, self.connection, limit)

    def submit(self, order: OperatorCommand) -> None:
        with writing(self.engine) as connection:
            self._upsert(connection, schema.order, [{"id": order.id, "data": asdict(order)}])

    def orders(self) -> Sequence[OperatorCommand]:
        column = schema.order.c
        query = select(column.data).where(column.connection == self.connection).order_by(column.id)
        with reading(self.engine) as connection:
            return [OperatorCommand(**data) for data in connection.execute(query).scalars()]

    # --- writing -------------------------------------------------------------------------------------------------

    def commit(self, transaction: Transaction) -> None:
        """One transaction. ValueError where an id would belong to two links, or an intent to none."""
        try:
            with writing(self.engine) as connection:
                self._lease.check(connection)
                self._put_links(connection, transaction.links)
                self._put_intents(connection, transaction.intents, transaction.settled)
                self._insert(connection, schema.journal, serialize.from_entries(transaction.journal))
                self._upsert(
                    connection,
                    schema.watermark,
                    [{"name": name, "value": value} for name, value in transaction.watermarks.items()],
                )
                binding.bind(connection, self.connection, transaction.bindings, transaction.unread)
                self._upsert(connection, schema.final_step, final_steps.rows(transaction.final))
                verdicts.forget(connection, self.connection, transaction.forgotten)
                self._upsert(connection, schema.verdict, verdicts.rows(transaction.verdicts))
                if transaction.looked_until is not None:
                    hints_table.take(
                        connection, self.connection, transaction.looked_at, transaction.looked_until
                    )
                if transaction.state is not None:
                    self._upsert(connection, schema.cycle_state, [serialize.from_state(transaction.state)])
                if transaction.completed:
                    column = schema.order.c
                    connection.execute(
                        delete(schema.order).where(
                            column.connection == self.connection, column.id.in_(transaction.completed)
                        )
                    )
        except IntegrityError as error:
            raise ValueError(f"what was to be remembered contradicts the store: {error.orig}") from error
        finally:
            if transaction.links:
                self._to_be_counted()

    def purge_journal(self, before: datetime) -> int:
        """Delete journal lines older than that; how many there were.

        Some at a time, each time in a transaction of its own: nobody who writes waits long, and the lease is renewed meanwhile. A
        call that was cut short is simply made again.
        """
        column, purged = schema.journal.c, 0
        old = (
            select(column.id)
            .where(column.connection == self.connection, column.at < before)
            .order_by(column.at)
            .limit(PURGED_AT_ONCE)
        )
        while True:
            with writing(self.engine) as connection:
                self._lease.check(connection)
                gone = connection.execute(delete(schema.journal).where(column.id.in_(old))).rowcount
            purged += gone
            if gone < PURGED_AT_ONCE:
                return purged

    def forget(self, email: str) -> ErasureResult:
        """Page by page, each a transaction of its own: a call that was cut short is simply made again."""
        person = Person(email.strip().lower())
        for link in self._walk():
            person = person.with_traces(forgetting.values(link))
        for some in self._entries():
            lines = (line for row in some.values() for line in row)
            person = person.with_traces(value for line in lines for value in (line.old, line.new))
        done = ErasureResult(
            deals=self._forget_in_links(person),
            intents=self._forget_in_intents(person),
            journal=self._forget_in_journal(person),
        )
        self.wipe()
        return done

    def _forget_in_links(self, person: Person) -> int:
        links = [link for link in self._walk() if forgetting.from_link(link, person) is not link]
        for part in chunks(links):
            with self.erasing() as connection:
                self._put_links(connection, [forgetting.from_link(link, person) for link in part])
        self._to_be_counted()
        return len(links)

    def _forget_in_intents(self, person: Person) -> int:
        with self.erasing() as connection:
            column = schema.intent.c
            rows = connection.execute(select(schema.intent).where(column.connection == self.connection))
            opened = [serialize.to_intent(row) for row in rows.mappings()]
            without = [(item, forgetting.from_intent(item, person)) for item in opened]
            changed = [serialize.from_intent(after) for item, after in without if after is not item]
            self._upsert(connection, schema.intent, changed)
        return len(changed)

    def _forget_in_journal(self, person: Person) -> int:
        count = 0
        for some in self._entries():
            without = {
                number: [forgetting.from_entry(line, person) for line in lines]
                for number, lines in some.items()
            }
            changed = {number: lines for number, lines in without.items() if lines != some[number]}
            for number, lines in changed.items():
                count += sum(line != before for line, before in zip(lines, some[number], strict=True))
            if changed:
                with self.erasing() as connection:
                    for number, lines in changed.items():
                        mine = schema.journal.c.id == number
                        (row,) = serialize.from_entries(lines)
                        connection.execute(update(schema.journal).where(mine).values(**row))
        return count

    @contextmanager
    def erasing(self) -> Iterator[Connection]:
        """Writing as the one writer; SQLite overwrites what it gives up instead of only letting go of it."""
        with writing(self.engine) as connection:
            self._lease.check(connection)
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            yield connection

    def wipe(self) -> None:
        """What SQLite's log still holds of former pages goes too; PostgreSQL's vacuum does that in its own time."""
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _entries(self) -> Iterator[dict[int, list[JournalEntry]]]:
        """The whole journal by row number, in pages."""
        column = schema.journal.c
        after = 0
        while True:
            page = (
                select(schema.journal)
                .where(column.connection == self.connection, column.id > after)
                .order_by(column.id)
                .limit(CHUNK)
            )
            with reading(self.engine) as connection:
                rows = connection.execute(page).mappings().all()
            if not rows:
                return
            yield {row["id"]: serialize.to_entries(row) for row in rows}
            after = rows[-1]["id"]

    def _put_links(self, connection: Connection, links: Sequence[Link]) -> None:
        stored = self._free_ids(connection, links)
        self._upsert(connection, schema.link, [serialize.from_link(link) for link in links])
        wanted = {link.key: serialize.child_rows(link) for link in links}
        changed = [key for key, rows in wanted.items() if rows != stored.get(key, {})]
        for keys in chunks([key for key in changed if stored.get(key)]):
            connection.execute(
                delete(schema.link_row).where(
                    schema.link_row.c.connection == self.connection, schema.link_row.c.link.in_(keys)
                )
            )
        rows = [
            {"link": key, "row": row, "opportunity_id": owner}
            for key in changed
            for row, owner in wanted[key].items()
        ]
        self._insert(connection, schema.link_row, rows)

    def _free_ids(self, connection: Connection, links: Sequence[Link]) -> Mapping[str, Mapping[str, str]]:
        """Take away the ids that these links give up, so that another of them may have one, in whatever order.

        Returns what is stored of their child rows, as ``child_rows``, by key: most are as they were and stay.
        """
        new = {link.key: (link.referral_id, link.opportunity_id) for link in links}
        column, child = schema.link.c, schema.link_row.c
        mine = and_(child.connection == column.connection, child.link == column.key)
        known = select(
            column.key, column.referral_id, column.opportunity_id, child.row, child.opportunity_id
        ).select_from(schema.link.outerjoin(schema.link_row, mine))
        stored: dict[str, dict[str, str]] = {}
        for keys in chunks(list(new)):
            ours = (column.connection == self.connection, column.key.in_(keys))
            given_up = set()
            for key, *old, row, owner in connection.execute(known.where(*ours)).all():
                if any(was is not None and was != now for was, now in zip(old, new[key], strict=True)):
                    given_up.add(key)
                if row is not None:
                    stored.setdefault(key, {})[row] = owner
            if given_up:
                connection.execute(
                    update(schema.link)
                    .where(column.connection == self.connection, column.key.in_(given_up))
                    .values(referral_id=None, opportunity_id=None)
                )
        return stored

    def _put_intents(
        self, connection: Connection, opened: Sequence[Intent], settled: Sequence[tuple[str, Side]]
    ) -> None:
        column = schema.intent.c
        if settled:
            this = delete(schema.intent).where(
                column.connection == self.connection,
                column.link == bindparam("of"),
                column.side == bindparam("to"),
            )
            connection.execute(this, [{"of": link, "to": side.value} for link, side in settled])
        self._upsert(connection, schema.intent, [serialize.from_intent(intent) for intent in opened])

    def _insert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            connection.execute(insert(table), [{"connection": self.connection, **row} for row in rows])

    def _upsert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            connection.execute(
                upsert(connection, table), [{"connection": self.connection, **row} for row in rows]
            )

    # --- the one writer ------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, wait: timedelta) -> Iterator[None]:
        acquire(self._lease, wait, self._sleep)
        self._to_be_counted()  # others may have written meanwhile
        try:
            yield
        finally:
            self._lease.release()

    def check_deadline(self) -> None:
        """For the moment before a call that changes another system: raises ``Fenced`` where another process may be at it."""
        self._lease.check_deadline()

    @property
    def held(self) -> bool:
        """Whether this very store has the lease."""
        return self._lease.held

    def holder(self) -> str | None:
        """Who has the lease, this process included; None when it is free."""
        return self._lease.holder()

    # --- reading -------------------------------------------------------------------------------------------------

    def _links(self, column: Column[Any], values: Sequence[str]) -> list[Link]:
        links = [serialize.to_link(row) for row in self._among(column, values, schema.link.c)]
        return sorted(links, key=lambda link: link.key)

    def _walk(self, *conditions: ColumnElement[bool]) -> Iterator[Link]:
        column = schema.link.c
        page = (
            select(schema.link)
            .where(column.connection == self.connection, *conditions)
            .order_by(column.key)
            .limit(CHUNK)
        )
        after = ""
        while True:
            with reading(self.engine) as connection:
                rows = connection.execute(page.where(column.key > after)).mappings().all()
            yield from map(serialize.to_link, rows)
            if len(rows) < CHUNK:
                return
            after = rows[-1]["key"]

    def _among(
        self,
        column: Column[Any],
        values: Sequence[str],
        wanted: Iterable[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
    ) -> Iterator[serialize.Row]:
        """The wanted columns of the rows whose ``column`` is one of the values, asked for in chunks."""
        if not values:
            return
        query = select(*wanted).where(column.table.c.connection == self.connection, *conditions)
        with reading(self.engine) as connection:
            for chunk in chunks(list(dict.fromkeys(values))):
                yield from connection.execute(query.where(column.in_(chunk))).mappings()
