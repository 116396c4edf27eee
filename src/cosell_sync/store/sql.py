"""The store over SQLAlchemy Core: SQLite for one machine, PostgreSQL for several. Each table's module does the work.

``commit`` is one transaction, which begins by checking that this process is still the one writer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, bindparam, delete, select
from sqlalchemy.exc import IntegrityError

from cosell_sync.core.capabilities import Verdict
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.erasure import ErasureResult
from cosell_sync.core.memory import FinalKind, Intent, JournalEntry, Link, OperatorCommand, Outlook, Phase
from cosell_sync.ports import Clock, CycleState, DealCount, Identity, Transaction
from cosell_sync.store import (
    binding,
    final_steps,
    history,
    journal,
    links,
    listing,
    schema,
    serialize,
    standing,
    verdicts,
)
from cosell_sync.store import hints as hints_table
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.erasure import Erasure, erasing
from cosell_sync.store.history import PastCycle
from cosell_sync.store.lease import DEADLINE, Sleep, acquire, lease_of
from cosell_sync.store.listing import Deals, Query
from cosell_sync.store.rows import among, insert_rows, upsert_rows
from cosell_sync.summary import CycleSummary


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

    def close(self) -> None:
        """Close what is its own; the store must not be used after."""
        if not self._shared:
            self.engine.dispose()

    # --- what is known -------------------------------------------------------------------------------------------

    def versions(self, opportunity_ids: Sequence[str]) -> Mapping[str, str]:
        return links.versions(self.engine, self.connection, opportunity_ids)

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        return links.holding(self.engine, self.connection, row_ids)

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        return {link.key: link for link in self._links(schema.link.c.key, keys)}

    def by_referral(self, ids: Sequence[str]) -> Mapping[str, Link]:
        found = self._links(schema.link.c.referral_id, ids)
        return {link.referral_id: link for link in found if link.referral_id is not None}

    def by_opportunity(self, ids: Sequence[str]) -> Mapping[str, Link]:
        found = self._links(schema.link.c.opportunity_id, ids)
        return {link.opportunity_id: link for link in found if link.opportunity_id is not None}

    def _links(self, column: Column[Any], values: Sequence[str]) -> Sequence[Link]:
        return links.find(self.engine, self.connection, column, values)

    def due(self, now: datetime, after: str, limit: int) -> Sequence[Link]:
        return links.due(self.engine, self.connection, now, after, limit)

    def links(
        self, phases: Iterable[Phase] = tuple(Phase), states: Iterable[SyncState] = tuple(SyncState)
    ) -> Iterator[Link]:
        return links.in_phases(self.engine, self.connection, phases, states)

    def page(self, query: Query) -> Deals:
        """Some deals, asked of an index, for who looks at them; see ``listing``."""
        return listing.page(self.engine, self.connection, query)

    def intents(self, keys: Sequence[str]) -> Sequence[Intent]:
        rows = among(self.engine, self.connection, schema.intent.c.link, keys, schema.intent.c)
        return sorted(
            (serialize.to_intent(row) for row in rows), key=lambda intent: (intent.link, intent.side)
        )

    def journal(self, key: str, limit: int = 200) -> Sequence[JournalEntry]:
        return journal.of_deal(self.engine, self.connection, key, limit)

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
        return links.walk(self.engine, self.connection, schema.link.c.withheld)

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
                links.put(connection, self.connection, transaction.links)
                self._put_intents(connection, transaction.intents, transaction.settled)
                insert_rows(
                    connection, self.connection, schema.journal, serialize.from_entries(transaction.journal)
                )
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
        """Delete journal lines older than that; how many there were. A call that was cut short is simply made again."""
        return journal.purge(self.engine, self.connection, self._lease, before)

    def forget(self, email: str) -> ErasureResult:
        try:
            return Erasure(self.engine, self.connection, self._lease).forget(email)
        finally:
            self._to_be_counted()

    def erasing(self) -> AbstractContextManager[Connection]:
        """A transaction that removes rows for good; see ``erasure``."""
        return erasing(self.engine, self._lease)

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

    def _upsert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        upsert_rows(connection, self.connection, table, rows)

    # --- the one writer ------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, wait: timedelta) -> Iterator[None]:
        acquire(self._lease, wait, self._sleep)
        self._to_be_counted()  # others may have written meanwhile
        try:
            yield
        finally:
            self._lease.release()

    @property
    def holds_lease(self) -> bool:
        """Whether this very store has the lease."""
        return self._lease.held

    def check_deadline(self) -> None:
        """For the moment before a call that changes another system: raises ``Fenced`` where another process may be at it."""
        self._lease.check_deadline()

    def holder(self) -> str | None:
        """Who has the lease, this process included; None when it is free."""
        return self._lease.holder()
