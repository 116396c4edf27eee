"""What the steps of a cycle share: the systems and settings it works with, what it counts, what one step hands the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.core.deal import Fields, Side, State
from cosell_sync.core.decision import Conflict, Decision, Effect, Hold
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import FinalKind, Link, Withheld
from cosell_sync.core.preconditions import Fault
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.status import StatusReport
from cosell_sync.core.texts import PLAIN, Language
from cosell_sync.ports import Clock, Crm, CycleState, EngagementQueue, Findings, Meter, Referrals, Store
from cosell_sync.summary import CycleSummary

CHUNK = 200  # deals that are read, decided and written together; bounds the memory of a cycle


@dataclass(frozen=True)
class CycleSettings:
    """The settings of a cycle that are not about a single deal.

    ``overlap``: how far a pull reaches back behind its watermark. ``full_every``: how often every id and version is
    compared. ``surprise_share`` (0 to 1) and ``surprise_min`` (deals): a plan that changes more than both stops the cycle.
    ``surprise_moves`` and ``surprise_window``: so many steps of one kind that cannot be undone may be taken in so long a time
    without a person's word. ``post_patience``: see ``recover``. ``retry_policy``: when a failing deal is tried again. ``closed_rows`` (auto, on, off):
    whether closed opportunities are told. ``connection``: its name, for people. ``basis``: the questions about Partner Center that are left to ``auto``, each with
    what an answer depends on (``core.capabilities``).
    """

    overlap: timedelta = timedelta(minutes=5)
    full_every: timedelta = timedelta(hours=24)
    surprise_share: float = 0.3
    surprise_min: int = 20
    surprise_moves: int = 10
    surprise_window: timedelta = timedelta(hours=1)
    post_patience: timedelta = timedelta(minutes=10)
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    closed_rows: str = "auto"
    basis: Mapping[Capability, str] = field(default_factory=dict)
    connection: str = "default"


# What ``doctor`` calls a fault in the CRM. True: everything it checks; False: what is known of the org as it was read.
Preconditions = Callable[[bool], Sequence[Fault]]


def _ignored(_summary: CycleSummary) -> None:
    """Nobody wants to know."""


class Work(StrEnum):
    """What a cycle is at, of all that may take long."""

    READING = "reading"  # what changed on a side; in a fresh store everything
    COMPARING = "comparing"  # all ids and versions of a side
    DECIDING = "deciding"  # what follows for every deal that is due, before anything is written
    CARRYING = "carrying"  # deciding, writing and recording, chunk by chunk


@dataclass(frozen=True)
class Progress:
    """How far a cycle is: ``done`` records (of ``side``, where one is read) or deals, of ``total`` where that is known."""

    work: Work
    done: int
    side: Side | None = None
    total: int | None = None


def _unwatched(_progress: Progress) -> None:
    """Nobody watches."""


def _none_known(_whole: bool) -> Sequence[Fault]:
    return ()


@dataclass(frozen=True)
class Services:
    """Everything that a cycle works with: both systems, the store, the clock, the rules and the settings.

    ``meters``: per side its quota and clock; empty where nobody counts (tests). ``preconditions``: of this very CRM.
    ``findings``: shared with the adapter of Partner Center. ``rehearsal``: the ports only pretend to write.
    ``language``: that sellers read.
    ``lists_referrals``: whether this cycle asks Partner Center for what changed; while webhooks say so, not every one does.
    ``finished``: called with the summary of every cycle, those included that ended early. ``progress``: called while it runs.
    """

    referrals: Referrals
    crm: Crm
    store: Store
    clock: Clock
    rules: Rules
    settings: CycleSettings = field(default_factory=CycleSettings)
    meters: Mapping[Side, Meter] = field(default_factory=dict)
    preconditions: Preconditions = _none_known
    findings: Findings = field(default_factory=Findings)
    rehearsal: bool = False
    language: Language = PLAIN
    lists_referrals: Callable[[], bool] = lambda: True
    finished: Callable[[CycleSummary], None] = _ignored
    progress: Callable[[Progress], None] = _unwatched


@dataclass(frozen=True)
class DealPlan:
    """What a cycle found or did about one deal; ``plan`` prints these.

    ``link``: the deal as it was decided. ``effects``: what is written, field by field. ``conflicts``: fields that both
    sides changed. ``holds``: what is kept back, and why.
    """

    link: Link
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True)
class ReferralResult:
    """What Partner Center took of one deal.

    ``link``: the deal after that. ``notices``: what the seller may read of it. ``state``: the state that our own write
    brought about; None where none did. ``fields``: names of the fields that landed. ``stale``: the referral is not as it
    was decided on.
    """

    link: Link
    notices: tuple[str, ...] = ()
    state: State | None = None
    fields: frozenset[str] = frozenset()
    stale: bool = False


def _no_news(_refused: Collection[str]) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class CrmPlan:
    """The decision about the CRM and what the record is to say; both are one write.

    ``decision.crm``: shared fields and stage. ``status.fields``: our own fields. ``news``: what happened, in the seller's
    words, given the names of what the CRM did not take.
    """

    decision: Decision
    status: StatusReport
    news: Callable[[Collection[str]], Sequence[str]] = _no_news

    @property
    def fields(self) -> Fields:
        """All fields of the write; empty where the record is as it is to be."""
        return {**self.status.fields, **self.decision.crm}


@dataclass
class Counters:
    """What a cycle counts while it runs; ``summary.CycleSummary`` is made from it.

    ``pulled``: records read that were not known like this. ``written``: keys of links that were written on a side.
    ``created``: records made on a side. ``looked_at``: keys of links that were due. ``conflicts``: conflicts named for the
    first time. ``failed``: keys of links of which a write or a decision failed.
    """

    pulled: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    written: dict[Side, set[str]] = field(default_factory=lambda: {side: set() for side in Side})
    created: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    looked_at: set[str] = field(default_factory=set)
    conflicts: int = 0
    failed: set[str] = field(default_factory=set)


@dataclass
class GuardState:
    """What the guard knows in a cycle (``guard``); None: not asked yet.

    ``recent``: by kind the links of which a counted step was announced within the window. ``stages``: of the org, as read in
    this cycle. ``faults``: broken preconditions. ``whole``: all of them were checked. ``closed``: kinds of which the count
    withholds every step in this cycle. ``admitted``: steps that may be announced, with whether they count. ``withheld``: the
    last verdicts, by key of the link. ``logged``: what was logged.
    """

    recent: dict[FinalKind, frozenset[str]] | None = None
    stages: frozenset[str] | None = None
    faults: dict[str, Fault] = field(default_factory=dict)
    whole: bool = False
    closed: frozenset[FinalKind] = frozenset()
    admitted: dict[tuple[str, FinalKind], bool] = field(default_factory=dict)
    withheld: dict[str, Mapping[FinalKind, Withheld]] = field(default_factory=dict)
    logged: set[tuple[str, FinalKind]] = field(default_factory=set)


Collect = Callable[[DealPlan], None]


def collect_nothing(_plan: DealPlan) -> None:
    """For a cycle of which nobody asks what it found."""


@dataclass
class Cycle:
    """One cycle under way: what it works with (see ``Services``), what it is about, and what it found so far.

    ``id``: marks its log events and journal lines. ``now``: when it began; every decision of it is made for this moment.
    ``collect``: receives what is found about each deal. ``accept``: a person has seen what would be stopped as a surprise.
    ``approve``: and every step that cannot be undone.
    ``wishes``: keys of opportunities that want to be shared. ``changed``: keys of pairs whose referral was read anew.
    ``untold``: of these, whose change no field of ours explains.
    ``shape``: what the CRM can hold, empty before it was read. ``state``: what the last cycle left, as this one changes it
    (``record.keep_state``). ``decided``: first decisions of this chunk, by link key.
    ``first_due``: the first chunk of what is due, read and not worked on yet; None where it must be read.
    ``first_queue``: whose Microsoft side is read in turn, where the store does not say it yet.
    ``verdicts``: what is known of the systems' capabilities; ``rules`` follow them. ``tried``: fields that were tried in this
    cycle. ``postponed``: keys of links that wait for such a try, and are due again. ``denied``: what turned out not to be taken.
    """

    services: InitVar[Services]
    id: str
    now: datetime
    collect: Collect
    accept: bool = False
    approve: bool = False
    guard: GuardState = field(default_factory=GuardState)
    counters: Counters = field(default_factory=Counters)
    wishes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    shape: CrmShape = field(default_factory=lambda: CrmShape(frozenset(), {}))
    decided: dict[str, tuple[Link, Decision]] = field(default_factory=dict)
    first_due: list[Link] | None = None
    first_queue: EngagementQueue | None = None
    state: CycleState = field(default_factory=CycleState)
    verdicts: dict[Capability, Verdict] = field(default_factory=dict)
    tried: frozenset[str] = frozenset()
    postponed: set[str] = field(default_factory=set)
    denied: set[Capability] = field(default_factory=set)

    def __post_init__(self, services: Services) -> None:
        self.referrals, self.crm, self.store = services.referrals, services.crm, services.store
        self.rules, self.settings, self.meters = services.rules, services.settings, services.meters
        self.preconditions, self.clock = services.preconditions, services.clock
        self.lists_referrals, self._language = services.lists_referrals, services.language
        self.findings, self.rehearsal = services.findings, services.rehearsal
        self.progress = services.progress

    @property
    def collects(self) -> bool:
        """Whether somebody asks what is found about each deal; else it need not be put together."""
        return self.collect is not collect_nothing

    @property
    def language(self) -> Language:
        """That sellers read, with dates as the CRM's people write them."""
        return self._language.of(self.shape.region, self.shape.zone)


def ids(link: Link) -> dict[str, str | None]:
    """The fields by which every log event names a deal."""
    return {"referral_id": link.referral_id, "opportunity_id": link.opportunity_id}


def carried(cycle: Cycle, link: Link) -> Link:
    """The link, with this cycle as the last one that carried something (``last_sync`` on the record)."""
    return replace(link, memory=replace(link.memory, carried_at=cycle.now.replace(microsecond=0)))
