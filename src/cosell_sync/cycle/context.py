"""What the parts of a cycle share: the world they act on, the numbers they count, what is to be remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from cosell_sync.core.deal import Entry, Fields, Intent, Link, Side, Snapshot, SyncState, Value
from cosell_sync.core.merge import Conflict
from cosell_sync.core.outcome import after_trouble
from cosell_sync.core.reconcile import Effect, Hold
from cosell_sync.core.retry import Patience
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.errors import Gone, RecordError, Unclear
from cosell_sync.ports import Clock, Crm, Memo, Meter, Referrals, Store

log = structlog.get_logger("cosell_sync.cycle")


@dataclass(frozen=True)
class Habits:
    """The settings of a cycle that are not about a single deal."""

    overlap: timedelta = timedelta(minutes=5)
    full_every: timedelta = timedelta(hours=24)
    surprise_share: float = 0.3
    surprise_min: int = 20
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class World:
    """Everything a cycle works with."""

    referrals: Referrals
    crm: Crm
    store: Store
    clock: Clock
    rules: Rules
    habits: Habits = field(default_factory=Habits)
    meters: Mapping[Side, Meter] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a cycle found or did about one deal; ``plan`` collects these, the journal and the log get theirs."""

    link: Link
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass
class Numbers:
    """Numbers of the cycle in the making."""

    pulled: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    written: dict[Side, set[str]] = field(default_factory=lambda: {side: set() for side in Side})
    created: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    looked_at: set[str] = field(default_factory=set)
    conflicts: int = 0
    failed: set[str] = field(default_factory=set)


Report = Callable[[Finding], None]


@dataclass
class Run:
    """One cycle under way."""

    world: World
    id: str
    now: datetime
    report: Report
    accept: bool = False  # a person has seen what would be stopped as a surprise
    tally: Numbers = field(default_factory=Numbers)
    wishes: list[str] = field(default_factory=list)  # keys of opportunities that want to be shared
    changed: list[str] = field(default_factory=list)  # keys of pairs whose referral is not as it was
    shape: CrmShape = field(default_factory=lambda: CrmShape(frozenset(), {}))


@dataclass
class Remembering:
    """A memo in the making."""

    links: list[Link] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    settled: list[tuple[str, Side]] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)

    def memo(self) -> Memo:
        return Memo(links=self.links, intents=self.intents, settled=self.settled, journal=self.journal)


def trouble(run: Run, link: Link, side: Side, error: RecordError, memo: Remembering) -> Link:
    troubled = after_trouble(link, side, error, run.now, run.world.habits.patience)
    run.tally.failed.add(link.key)
    facts = {"side": side, "code": error.code, "status": error.status, "request_id": error.request_id}
    if isinstance(error, Gone):
        log.warning("deal.gone", **ids(link), side=side)
    elif troubled.memory.parked and not link.memory.parked:
        log.error("deal.parked", **ids(link), attempts=troubled.memory.attempts, **facts)
    else:
        log.warning("deal.refused" if not transient(troubled) else "deal.failed", **ids(link), **facts)
    memo.journal.append(entry(run, troubled, side, "trouble", error.code or type(error).__name__.lower()))
    return troubled


def failed(run: Run, link: Link, side: Side, error: RecordError, memo: Remembering) -> None:
    if not isinstance(error, Unclear):
        memo.settled.append((link.key, side))
    troubled = trouble(run, link, side, error, memo)
    if not transient(troubled):
        troubled = replace(troubled, memory=replace(troubled.memory, sync_state=SyncState.NEEDS_ATTENTION))
    memo.links.append(replace(troubled, dirty=False, due=troubled.memory.next_attempt))


def intent(
    run: Run, link: Link, side: Side, written: Snapshot | None, fields: Fields, source: Snapshot | None
) -> Intent:
    held = {name: source[name] for name in fields if source is not None and name in source.fields}
    return Intent(link.key, side, False, written.version if written else "", fields, held, run.id, run.now)


def journal_line(run: Run, link: Link, effect: Effect) -> Entry:
    return entry(run, link, effect.side, effect.action, effect.rule, effect.field, effect.old, effect.new)


def entry(
    run: Run,
    link: Link,
    side: Side,
    action: str,
    rule: str,
    name: str | None = None,
    old: Value = None,
    new: Value = None,
) -> Entry:
    return Entry(link.key, run.id, run.now, side, action, name, old, new, rule)


def ids(link: Link) -> dict[str, str | None]:
    return {"referral_id": link.referral_id, "opportunity_id": link.opportunity_id}


def transient(link: Link) -> bool:
    return link.memory.trouble is not None and link.memory.trouble.transient
