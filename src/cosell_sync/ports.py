"""What the cycle asks of the outside world, as Protocols; adapters and test doubles implement them.

Adapters speak in the values of ``core.deal``. A failure of one record is a value (an ``Outcome`` or a ``problem`` on a
snapshot); a failure of a whole system is raised (``Unavailable``, ``AuthFailed``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from cosell_sync.core.capabilities import Capability, Finding, Verdict
from cosell_sync.core.deal import Customer, Fields, Side, Snapshot, Step, SyncState
from cosell_sync.core.erasure import ErasureResult
from cosell_sync.core.intake import Matches
from cosell_sync.core.memory import (
    FinalKind,
    FinalStepTaken,
    Intent,
    JournalEntry,
    Link,
    OperatorCommand,
    Outlook,
    Phase,
)
from cosell_sync.core.quota import Allowance, Forecast
from cosell_sync.core.rules import CrmShape, StageFlags
from cosell_sync.errors import OutsideError, RecordError

__all__ = [
    "Clock",
    "Crm",
    "CrmShape",
    "CycleState",
    "DealCount",
    "EngagementQueue",
    "ErasureResult",
    "Findings",
    "KnownRecords",
    "MatchQuery",
    "Matches",
    "Meter",
    "OpportunityDraft",
    "OpportunityWrite",
    "Outcome",
    "Page",
    "ReferralDraft",
    "ReferralWrite",
    "Referrals",
    "StageFlags",
    "Step",
    "Store",
    "Tokens",
    "Transaction",
]

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Page:
    """Some records of a pull; ``gone``: ids seen to be deleted.

    ``watermark`` is an opaque text: once this page is stored, the next pull may start there (less the overlap).
    """

    snapshots: Sequence[Snapshot] = ()
    gone: Sequence[str] = ()
    watermark: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one write.

    ``error`` None: landed, but for ``refused``. ``snapshot``: what the record holds after the last thing that landed, where
    it could be read (never a guess). ``steps``: how many steps of a walk landed, or were
    trials that were refused. ``unheld``: per field the keys of members
    that this side cannot hold (a colleague who is no CRM user), which is no fault; `owner`: who could not be made the owner.
    ``ambiguous``: e-mails of the team that several users of the CRM share, so that they name nobody. ``account_made``: id of
    the account that was made for it.
    ``refused``: our names of fields that this side refused, and why; of a set, the members that the snapshot does not show.
    ``stage`` and ``status`` stand for a move. ``error`` is set as well where every field was refused.
    """

    id: str | None
    error: RecordError | None = None
    snapshot: Snapshot | None = None
    steps: int = 0
    unheld: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()
    account_made: str | None = None
    refused: Mapping[str, RecordError] = field(default_factory=dict)


class Findings:
    """What an adapter finds out of its system's capabilities while it works, and what was found out before.

    One object is shared by the cycle and the adapter; safe to use from several threads.
    """

    def __init__(self, known: Mapping[Capability, Finding] | None = None) -> None:
        self._lock = threading.Lock()
        self._known = dict(known or {})
        self._new: dict[Capability, Finding] = {}

    def recall(self, known: Iterable[Finding]) -> None:
        """Take these for all that is known; what was learned and not collected yet stays."""
        with self._lock:
            self._known = {**{each.capability: each for each in known}, **self._new}

    def get(self, capability: Capability) -> Finding | None:
        """The answer, as far as it is known."""
        with self._lock:
            return self._known.get(capability)

    def learn(self, finding: Finding) -> None:
        """Note an answer; nothing happens where it is known already, for the same reason."""
        with self._lock:
            if self._known.get(finding.capability) != finding:
                self._known[finding.capability] = self._new[finding.capability] = finding

    def collect(self) -> Sequence[Finding]:
        """What was learned since the last time."""
        with self._lock:
            new, self._new = list(self._new.values()), {}
            return new


# --- Partner Center ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferralWrite:
    """Steps of one referral, in order, the first guarded by the version of ``before``. ``search``: see `OpportunityWrite`."""

    before: Snapshot
    steps: tuple[Step, ...]
    search: bool = True


@dataclass(frozen=True)
class ReferralDraft:
    """A new referral for an opportunity; ``external_reference`` is the opportunity's id, by which it is found again.

    ``fields``: those of ``SHARED``, plus ``visible``, ``help``, ``help_note``, ``deal_type`` and ``consent``.
    ``engagement_id``: join this engagement by inviting Microsoft (the second post of a co-sell deal).
    """

    external_reference: str
    fields: Fields
    engagement_id: str | None = None


@dataclass(frozen=True)
class Identity:
    """Whose records a system holds; two that are equal hold the same ones.

    ``system``: ``partner_center``, ``salesforce`` or ``dynamics``. ``account``: the tenant's or organization's id, empty
    where nothing says it. ``host``: the address that answers, with its port where that is not 443.
    """

    system: str
    account: str
    host: str


class Referrals(Protocol):
    """Partner Center's referrals, ours only (rows of other organizations are left out of pages)."""

    def identity(self) -> Identity:
        """Whose referrals these are. Signs in; makes no other call. Raises AuthFailed and Unavailable."""

    @property
    def calls(self) -> int:
        """HTTP requests made so far, retries included, sign-ins not."""

    @property
    def outage(self) -> OutsideError | None:
        """Why the last batch was cut short; None once the system answers again."""

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        """Referrals updated since the watermark less the overlap; all of them without a watermark."""

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        """Each referral as it is now; None where it is gone or out of sight (404)."""

    def write(self, batch: Sequence[ReferralWrite]) -> Sequence[Outcome]:
        """Carry out each write; the outcomes stand in the order of the batch."""

    def index(self) -> Iterator[Page]:
        """Every referral there is, for the full compare."""

    def create(self, draft: ReferralDraft) -> Outcome:
        """One POST, never repeated; ``Unclear`` where no answer came."""

    def find_created(self, external_reference: str) -> Snapshot | None:
        """Among the newest outgoing referrals, the one that carries this opportunity's id."""

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        """All sides of a deal, other organizations' included (``category`` is ``foreign`` there)."""


# --- the CRM ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatchQuery:
    """A referral without an opportunity: what may lead to one that exists."""

    referral_id: str
    external_reference: str | None
    name: str
    customer: Customer


@dataclass(frozen=True)
class OpportunityWrite:
    """New values of some fields of one opportunity, guarded by the version of ``before``. Sets are given whole.

    ``search``: whether a refusal that names no field may be searched for by halves. ``words``: more fields, which are true
    only if everything lands (what a person reads of it), and so are left out of what is sent again after a refusal.
    """

    before: Snapshot
    fields: Fields
    search: bool = True
    words: Fields = field(default_factory=dict)


@dataclass(frozen=True)
class OpportunityDraft:
    """A new opportunity for a referral; the referral id is the external key that keeps it single.

    ``location``: of the partner, as the referral says, whether or not the CRM has a column for it.
    """

    referral_id: str
    fields: Fields
    location: str | None = None


class KnownRecords(Protocol):
    """What is already known, so that an adapter need not read it again."""

    def versions(self, opportunity_ids: Sequence[str]) -> Mapping[str, str]:
        """Version of each opportunity as last remembered; unknown ones are left out."""

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        """Ids of the opportunities whose remembered snapshot was read from any of these child rows."""


class Crm(Protocol):
    """The CRM, whichever it is."""

    @property
    def calls(self) -> int:
        """HTTP requests made so far, retries included, sign-ins not; a composite is one."""

    @property
    def outage(self) -> OutsideError | None:
        """Why the last batch was cut short; None once the system answers again."""

    def identity(self) -> Identity:
        """Which org answers, as of the current sign-in. At most one call per sign-in. Raises AuthFailed and Unavailable."""

    def shape(self) -> CrmShape:
        """What this CRM can hold; read once and kept until an unknown field is refused or it is to be forgotten."""

    def forget_shape(self) -> None:
        """The next ``shape`` asks the CRM again."""

    def stages(self) -> Mapping[str, StageFlags]:
        """The stages as they are at this moment, in one call, whatever ``shape`` remembers of them."""

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        """Opportunities that carry a referral id or want to be shared, and changed themselves or in a child row,
        account, contact or user since the watermark; all of them without a watermark.
        """

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        """Each opportunity as it is now; None where it is deleted or out of sight."""

    def find(self, sought: Sequence[MatchQuery]) -> Mapping[str, Matches]:
        """By referral id: what exists for it already."""

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Guarded updates, read back; the outcomes stand in the order of the batch."""

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        """Accounts found or made, opportunities upserted by referral id, child rows made, all read back."""

    def foreign_accounts(self, account_ids: Sequence[str]) -> frozenset[str]:
        """Those of these accounts that an opportunity without a referral id uses."""

    def index(self) -> Iterator[Mapping[str, str]]:
        """Every opportunity that carries a referral id or wants to be shared: id → version, in pages."""


# --- the store --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EngagementQueue:
    """Whose turn it is to have Microsoft's side read: keys of links, the one that waits longest first.

    ``asked``: deals into which we asked Microsoft, read again and again while they are open. ``elsewhere``: deals into which
    Microsoft was asked in Partner Center, read as often while there are few of both, else in rounds; ``round``: when the last
    round began. ``once``: deals that are read when it is their turn, and leave the queue then.
    """

    asked: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    round: datetime | None = None


@dataclass(frozen=True)
class CycleState:
    """What a cycle leaves for the next beside deals and watermarks. None: no cycle has left it yet.

    ``compared_at``: when every id and version was last compared. ``clock``: the last cycle's begin, by this machine's clock.
    ``rules``: a digest of what the last cycle decided by. ``shape``: what the CRM could hold then, as JSON.
    ``engagements``: the queue of reads of Microsoft's side. ``broken``: names of the preconditions that were broken.
    """

    compared_at: datetime | None = None
    clock: datetime | None = None
    rules: str | None = None
    shape: Mapping[str, Any] | None = None
    engagements: EngagementQueue | None = None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transaction:
    """Everything to be stored at one moment: one transaction, all or nothing.

    ``links``: each replaced whole. ``intents``: opened. ``settled``: cleared, by link key and side. ``watermarks``: by side,
    and through what the CRM was read (``core.readings``).
    ``completed``: ids of commands that were carried out or refused. ``state``: replaced whole; None leaves it.
    ``final``: steps that cannot be undone, announced by this transaction; of a link and kind the last one counts.
    ``looked_at``: referrals of which hints are done with, as far as they came before ``looked_until``.
    ``bindings``: by side, to whom the store belongs from now on. ``unread``: sides that are to be read from the start again.
    ``verdicts``: each in the place of the one about the same capability; ``forgotten``: capabilities without a verdict.
    """

    links: Sequence[Link] = ()
    intents: Sequence[Intent] = ()
    settled: Sequence[tuple[str, Side]] = ()
    journal: Sequence[JournalEntry] = ()
    watermarks: Mapping[str, str] = field(default_factory=dict)
    completed: Sequence[str] = ()
    state: CycleState | None = None
    final: Sequence[FinalStepTaken] = ()
    bindings: Mapping[Side, Identity] = field(default_factory=dict)
    unread: Sequence[Side] = ()
    verdicts: Sequence[Verdict] = ()
    forgotten: Sequence[Capability] = ()
    looked_at: Sequence[str] = ()
    looked_until: datetime | None = None


@dataclass(frozen=True)
class DealCount:
    """How many deals stand like this: ``deals`` is their number, the rest what they have in common.

    ``locked``: their record is held by an approval or an admin.
    """

    phase: Phase
    sync_state: SyncState
    parked: bool
    rejected: bool
    deals: int
    withheld: bool = False
    locked: bool = False


class Store(KnownRecords, Protocol):
    """Memory that survives. Every write checks that this process still holds the lease (``Fenced``)."""

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        """The links with these keys; unknown keys are left out."""

    def by_referral(self, ids: Sequence[str]) -> Mapping[str, Link]:
        """By referral id, the links that have it; unknown ids are left out."""

    def by_opportunity(self, ids: Sequence[str]) -> Mapping[str, Link]:
        """By opportunity id, the links that have it; unknown ids are left out."""

    def due(self, now: datetime, after: str, limit: int) -> Sequence[Link]:
        """Links that are dirty, have an open intent, or whose ``due`` has come; by key, greater than ``after``."""

    def links(
        self, phases: Iterable[Phase] = tuple(Phase), states: Iterable[SyncState] = tuple(SyncState)
    ) -> Iterator[Link]:
        """All links of these phases and in these states, by key, read in pages."""

    def intents(self, keys: Sequence[str]) -> Sequence[Intent]:
        """The open intents of these links, by key and side."""

    def journal(self, key: str, limit: int = 200) -> Sequence[JournalEntry]:
        """The last ``limit`` lines about this link, newest first."""

    def watermark(self, side: str) -> str | None:
        """How far this side was read; None before its first pull."""

    def cycle_state(self) -> CycleState:
        """What the last cycle left; all None in a fresh store."""

    def withheld(self) -> Iterator[Link]:
        """The links of which the guard withholds a step, by key, read in pages."""

    def final_steps(self, since: datetime) -> Mapping[FinalKind, frozenset[str]]:
        """By kind, the links of which a counted step was announced after that moment; kinds without one are left out."""

    def bindings(self) -> Mapping[Side, Identity]:
        """To whom this store belongs; a side is missing before its first contact."""

    def verdicts(self) -> Sequence[Verdict]:
        """What was found out of the other systems' capabilities, by name."""

    def counts(self) -> Sequence[DealCount]:
        """How many deals stand how; without those of which there are none."""

    def hints(self, limit: int, *, related: bool = False) -> Sequence[str]:
        """Ids of referrals that webhooks said are worth a look, at most ``limit``, those first that wait longest. ``related``: those
        of other organizations, else ours.
        """

    def outlook(self) -> Outlook:
        """What has a clock running, asked of indexes."""

    def submit(self, order: OperatorCommand) -> None:
        """Leave a command for the next cycle; needs no lease, so it works while the daemon runs."""

    def orders(self) -> Sequence[OperatorCommand]:
        """Commands not carried out yet, oldest first."""

    def commit(self, transaction: Transaction) -> None:
        """Store all of it or nothing. ValueError where an id would belong to two links, or an intent to none."""

    def forget(self, email: str) -> ErasureResult:
        """Take a person out of everything remembered, as ``core.forget`` says; may be repeated."""

    def lease(self, wait: timedelta) -> AbstractContextManager[None]:
        """Be the one writer, waiting at most ``wait``; raises ``Busy`` after that."""


class Meter(Protocol):
    """What is known of a system beside its records: how many calls it still takes, its clock, how its calls go."""

    @property
    def skew(self) -> timedelta | None:
        """How far its clock is ahead of ours, by its last answer; None before it gave one."""

    def begin(self) -> None:
        """A cycle begins. Raises ``Unavailable`` where no calls are left."""

    def looked(self) -> None:
        """The cycle knows what has changed; from here on its calls are for that."""

    def end(self, interval: timedelta) -> Sequence[Forecast]:
        """A cycle ended; how the budgets will stand, where that is news."""

    def allowances(self) -> Sequence[Allowance]:
        """What is left of each quota, as far as it is known; empty where none is."""


class Tokens(Protocol):
    """Where the refresh token lives, encrypted."""

    def load(self, name: str) -> str | None:
        """The token of this name; None where none was saved."""

    def save(self, name: str, token: str) -> None:
        """Keep the token under this name; the one before is gone."""
