"""What the parts of a cycle share: the world they act on, the numbers they count, what is to be remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from cosell_sync.core.deal import Fields, Side, Snapshot, SyncState, Value
from cosell_sync.core.decision import Conflict, Effect, Hold
from cosell_sync.core.memory import Action, Intent, JournalEntry, Link
from cosell_sync.core.outcome import after_failed_write
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.errors import Gone, RecordError, Unclear
from cosell_sync.ports import Clock, Crm, Meter, Referrals, Store, Transaction

log = structlog.get_logger("cosell_sync.cycle")


@dataclass(frozen=True)
class CycleSettings:
    """The settings of a cycle that are not about a single deal."""

    overlap: timedelta = timedelta(minutes=5)
    full_every: timedelta = timedelta(hours=24)
    surprise_share: float = 0.3
    surprise_min: int = 20
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class Services:
    """Everything a cycle works with."""

    referrals: Referrals
    crm: Crm
    store: Store
    clock: Clock
    rules: Rules
    settings: CycleSettings = field(default_factory=CycleSettings)
    meters: Mapping[Side, Meter] = field(default_factory=dict)


@dataclass(frozen=True)
class DealPlan:
    """What a cycle found or did about one deal; ``plan`` collects these, the journal and the log get theirs."""

    link: Link
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass
class Counters:
    """Counters of the cycle in the making."""

    pulled: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    written: dict[Side, set[str]] = field(default_factory=lambda: {side: set() for side in Side})
    created: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    looked_at: set[str] = field(default_factory=set)
    conflicts: int = 0
    failed: set[str] = field(default_factory=set)


Collect = Callable[[DealPlan], None]


@dataclass
class Cycle:
    """One cycle under way."""

    services: Services
    id: str
    now: datetime
    collect: Collect
    accept: bool = False  # a person has seen what would be stopped as a surprise
    counters: Counters = field(default_factory=Counters)
    wishes: list[str] = field(default_factory=list)  # keys of opportunities that want to be shared
    changed: list[str] = field(default_factory=list)  # keys of pairs whose referral is not as it was
    shape: CrmShape = field(default_factory=lambda: CrmShape(frozenset(), {}))

    @property
    def referrals(self) -> Referrals:
        return self.services.referrals

    @property
    def crm(self) -> Crm:
        return self.services.crm

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def rules(self) -> Rules:
        return self.services.rules

    @property
    def settings(self) -> CycleSettings:
        return self.services.settings

    @property
    def meters(self) -> Mapping[Side, Meter]:
        return self.services.meters


@dataclass
class PendingTransaction:
    """A transaction in the making."""

    links: list[Link] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    settled: list[tuple[str, Side]] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)

    def build(self) -> Transaction:
        return Transaction(links=self.links, intents=self.intents, settled=self.settled, journal=self.journal)


def record_failure(
    cycle: Cycle, link: Link, side: Side, error: RecordError, pending: PendingTransaction
) -> Link:
    failing = after_failed_write(link, side, error, cycle.now, cycle.settings.retry_policy)
    cycle.counters.failed.add(link.key)
    facts = {"side": side, "code": error.code, "status": error.status, "request_id": error.request_id}
    if isinstance(error, Gone):
        log.warning("deal.gone", **ids(link), side=side)
    elif failing.memory.parked and not link.memory.parked:
        log.error("deal.parked", **ids(link), attempts=failing.memory.attempts, **facts)
    else:
        log.warning("deal.refused" if not transient(failing) else "deal.failed", **ids(link), **facts)
    pending.journal.append(
        journal_entry(cycle, failing, side, "trouble", error.code or type(error).__name__.lower())
    )
    return failing


def failed(cycle: Cycle, link: Link, side: Side, error: RecordError, pending: PendingTransaction) -> None:
    if not isinstance(error, Unclear):
        pending.settled.append((link.key, side))
    failing = record_failure(cycle, link, side, error, pending)
    if not transient(failing):
        failing = replace(failing, memory=replace(failing.memory, sync_state=SyncState.NEEDS_ATTENTION))
    pending.links.append(replace(failing, dirty=False, due=failing.memory.next_attempt))


def intent(
    cycle: Cycle, link: Link, side: Side, written: Snapshot | None, fields: Fields, source: Snapshot | None
) -> Intent:
    held = {name: source[name] for name in fields if source is not None and name in source.fields}
    return Intent(
        link.key, side, False, written.version if written else "", fields, held, cycle.id, cycle.now
    )


def effect_entry(cycle: Cycle, link: Link, effect: Effect) -> JournalEntry:
    return journal_entry(
        cycle, link, effect.side, effect.action, effect.rule, effect.field, effect.old, effect.new
    )


def journal_entry(
    cycle: Cycle,
    link: Link,
    side: Side,
    action: str,
    rule: str,
    name: str | None = None,
    old: Value = None,
    new: Value = None,
) -> JournalEntry:
    return JournalEntry(link.key, cycle.id, cycle.now, side, Action(action), name, old, new, rule)


def ids(link: Link) -> dict[str, str | None]:
    return {"referral_id": link.referral_id, "opportunity_id": link.opportunity_id}


def transient(link: Link) -> bool:
    return link.memory.failure is not None and link.memory.failure.transient
