"""Collects what belongs together, and stores it in one transaction: links, intents, journal lines, the cycle's state.

``commit`` is the only place that stores. `referral_outcomes`, `opportunity_outcomes` and `failures` say what the outcome of a
write means. They are pure but for counters and log events, so several outcomes, and the intents of the writes that follow,
share a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.core.deal import Side
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import FinalStepTaken, Intent, JournalEntry, Link
from cosell_sync.cycle.context import Cycle
from cosell_sync.ports import CycleState, Identity, Store, Transaction


@dataclass
class Record:
    """What is to be stored at one moment. Of several versions of a link the last one counts."""

    links: dict[str, Link] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    settled: list[tuple[str, Side]] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)
    watermarks: dict[str, str] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    state: CycleState | None = None
    final: list[FinalStepTaken] = field(default_factory=list)
    bindings: dict[Side, Identity] = field(default_factory=dict)
    unread: list[Side] = field(default_factory=list)
    verdicts: dict[Capability, Verdict] = field(default_factory=dict)
    forgotten: list[Capability] = field(default_factory=list)
    looked_at: Sequence[str] = ()
    looked_until: datetime | None = None

    def put(self, *links: Link) -> None:
        """Store these links as they are now."""
        self.links.update({link.key: link for link in links})

    def settle(self, link: Link, side: Side) -> None:
        """Clear the intent of this link and side, if there is one."""
        self.settled.append((link.key, side))

    def take(self) -> Transaction:
        """All of it as one transaction; the record is empty from then on, so nothing is stored twice."""
        whole = Transaction(
            links=[*self.links.values()],
            intents=self.intents,
            settled=self.settled,
            journal=self.journal,
            watermarks=self.watermarks,
            completed=self.completed,
            state=self.state,
            final=self.final,
            bindings=self.bindings,
            unread=self.unread,
            verdicts=[*self.verdicts.values()],
            forgotten=self.forgotten,
            looked_at=self.looked_at,
            looked_until=self.looked_until,
        )
        vars(self).update(vars(Record()))
        return whole


def commit(store: Store, record: Record) -> None:
    """Store it and empty it; nothing is done where it is empty. Raises Fenced and Unavailable."""
    if record != Record():
        store.commit(record.take())


def keep_state(cycle: Cycle, record: Record, **changes: Any) -> None:
    """Let the next cycle find these fields of ``CycleState``; stored with the record."""
    record.state = cycle.state = replace(cycle.state, **changes)
