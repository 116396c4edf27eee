"""What is remembered of a deal from one cycle to the next: its link, bases, failures, open writes and journal.

link      the pair of a referral and an opportunity, or one of them that waits for its other half
base      what one side had when both sides last agreed, per field
memory    what cannot be read again: failures, a close that waits, what the record was told
intent    a write about to be made, stored before the call
journal   what was done, line by line
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, State, SyncState, Value, state_of
from cosell_sync.core.frozen import replace
from cosell_sync.errors import Cure


class Phase(StrEnum):
    """Where the link of a deal stands."""

    WAITING = "waiting"  # seen on one side, its other half not made yet
    LINKED = "linked"
    SKIPPED = "skipped"  # seen and left alone: a lead, another organization's, closed before the first cycle
    PARTED = "parted"  # unlinked by a person, for good


class Action(StrEnum):
    """What a line of the journal says was done. Stored, and shown as JSON. An effect has one of the first four."""

    CREATE = "create"
    UPDATE = "update"
    MOVE = "move"
    REPORT = "tell"  # the status fields of the record
    CONFLICT = "conflict"
    HOLD = "hold"
    FAILURE = "trouble"
    LINK = "link"
    UNLINK = "unlink"
    RETRY = "retry"
    RESOLVE = "resolve"
    APPROVE = "approve"


class Verb(StrEnum):
    """What an operator can ask for: the names of ``cosell-sync deals …``."""

    LINK = "link"
    CREATE = "create"
    UNLINK = "unlink"
    RETRY = "retry"
    RESOLVE = "resolve"
    FORGET = "forget"
    APPROVE = "approve"


class Invitation(StrEnum):
    """Whether Microsoft was invited into a deal."""

    NONE = ""
    PENDING = "pending"  # the deal was shared for co-sell, or help asked for; the invitation is not sent yet
    DONE = "done"


@dataclass(frozen=True)
class Closing:
    """A request to win, lose or decline that waits out ``sync.terminal_hold``.

    ``mark``: the stage and action that ask for it; a change of them starts the wait again. ``hurried``: the accept that goes
    before it could not wait, because the referral would have expired.
    """

    state: State
    mark: str
    since: datetime
    hurried: bool = False


class FinalKind(StrEnum):
    """Steps that cannot be undone."""

    ACCEPT = "accept"
    DECLINE = "decline"
    WIN = "win"
    LOSE = "lose"
    POST = "post"  # an opportunity is shared
    INVITE = "invite"  # Microsoft is asked for help
    VISIBILITY = "visibility"  # Microsoft's sellers may see the deal


class WithheldBy(StrEnum):
    """Why the guard withholds such a step (``guard``)."""

    STAGE = "stage"
    UNMOVED = "unmoved"  # nobody changed the stage: it means something else now
    PRECONDITION = "precondition"
    COUNT = "count"


@dataclass(frozen=True)
class Withheld:
    """A step that the guard withholds. ``mark``: the stage or the tick that asks for it; ``stage``: the one that is gone."""

    kind: FinalKind
    mark: str
    reason: WithheldBy
    stage: str = ""


@dataclass(frozen=True)
class Approval:
    """A person let this step through, as it was asked for then: of this kind, by this stage or tick."""

    kind: FinalKind
    mark: str


@dataclass(frozen=True)
class FinalStepTaken:
    """That a step was announced for a link, without a person's word for it; the guard counts these."""

    link: str
    kind: FinalKind
    at: datetime


INTERNAL_ERROR: Final = "broken"  # the code of a failure that is an unexpected exception of our own


@dataclass(frozen=True)
class Failure:
    """Why a write of this deal failed: refused by a system or by our own checks.

    ``text`` is for the seller; ``code`` for logs. ``seen``: digest of what both sides had, so that a change
    frees the deal (``retry.content_digest``). ``cure``: who ends it. ``locked``: the record is held by somebody, which
    counts as no attempt and has no end of its own. ``fields``: our names of what was refused, where that is known.
    """

    side: Side
    code: str
    text: str
    since: datetime
    seen: str = ""
    transient: bool = False
    cure: Cure = Cure.SELLER  # as earlier versions, which did not store it, spoke of every refusal
    locked: bool = False
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefusedField:
    """A field that a side refused while the rest of the write landed; it is held until something changes or it is time.

    ``text``: the system's own words; ``code`` for logs. ``wanted``: digest of what was to be written and of the rule for it;
    ``around``: digest of what the side held beside it. ``cure``: who ends it. ``tries``: how often the same was refused;
    ``again``: when it is tried the next time though nothing changes.
    """

    side: Side
    code: str
    text: str
    wanted: str
    around: str
    cure: Cure = Cure.SELLER
    tries: int = 1
    again: datetime | None = None


@dataclass(frozen=True)
class Memory:
    """What is remembered of a deal beside its snapshots and bases. Stored as JSON under these names."""

    closing: Closing | None = None
    notices: tuple[str, ...] = ()  # the last news, in the seller's words
    reported: tuple[str, ...] = ()  # keys of what was said once and need not be said again
    rewritten: Mapping[str, bool] = field(
        default_factory=dict
    )  # the CRM changed our write again; True: still to carry
    resolved: Mapping[str, Side] = field(default_factory=dict)  # a person's answer to a conflict
    disputed: tuple[
        str, ...
    ] = ()  # fields whose last write may or may not have landed before someone changed them
    carried_at: datetime | None = None
    refused: Mapping[str, RefusedField] = field(default_factory=dict)  # by our name; see ``refusals``
    failure: Failure | None = None
    attempts: int = 0
    next_attempt: datetime | None = None
    parked: bool = False
    rejected: bool = False  # refused by our own checks, until someone mends the record
    gone: Side | None = None  # the side whose record vanished
    lookalikes: tuple[str, ...] = ()  # opportunities that may be the same deal
    claimed: str = ""  # the opportunity that its referral names, which belongs to another deal
    account_made: str | None = None  # id of the account that was made for this deal and that no other uses
    create_anyway: bool = False  # a person said: it is not one of the lookalikes
    unconsented: bool = False  # the opportunity had contacts at first sight that both sides do not share yet
    hung_up: datetime | None = None  # when we gave up on a post of whose fate nothing is known since
    sync_state: SyncState = SyncState.IN_SYNC
    invite: Invitation = Invitation.NONE
    untold: str = ""  # the message that the closed record could not be told; empty where it shows what is so
    shut: str = (
        ""  # what the closed record was like when it refused our own fields: left alone until that changes
    )
    microsoft: Mapping[str, str] = field(
        default_factory=dict
    )  # Microsoft's side as last read: status, id, reason, until
    withheld: tuple[Withheld, ...] = ()
    approved: tuple[Approval, ...] = ()
    stand_ins: tuple[
        str, ...
    ] = ()  # fields that the opportunity was made without a value of Microsoft's (``stand_ins``)


@dataclass(frozen=True)
class Link:
    """One deal as the store knows it. ``key`` never changes: ``r:<referral id>`` or ``o:<opportunity id>``, by birth."""

    key: str
    referral_id: str | None = None
    opportunity_id: str | None = None
    phase: Phase = Phase.WAITING
    referral: Snapshot | None = None
    opportunity: Snapshot | None = None
    base_referral: Fields = field(default_factory=dict)
    base_opportunity: Fields = field(default_factory=dict)
    memory: Memory = Memory()
    dirty: bool = True  # something was seen that has not been decided yet
    due: datetime | None = None  # when to look again though nothing changes


@dataclass(frozen=True)
class OperatorCommand:
    """What an operator asked for (``deals link``, ``retry``, ``approve`` …), until a cycle has done it.

    ``target``: a referral id or an opportunity id, the address of a ``forget``; ``other``: the opportunity of a ``link``,
    what was withheld when a person looked, of an ``approve`` (empty: whatever is); ``field`` and ``side`` of a ``resolve``.
    """

    id: str
    verb: Verb  # as stored: a newer version may have written one that is unknown here
    target: str
    other: str = ""
    field: str = ""
    side: str = ""


@dataclass(frozen=True)
class Intent:
    """A write about to be made. One may be open per link and side; the next cycle settles it first.

    ``fields`` are the values to write, ``source`` what the other side had when that was decided, ``version`` what the
    write is guarded by (empty for a create).
    """

    link: str
    side: Side
    create: bool
    version: str
    fields: Fields
    source: Fields
    cycle: str
    at: datetime


@dataclass(frozen=True)
class JournalEntry:
    """One line of the journal. ``side`` is the side that was written, or that lost where ``action`` is ``CONFLICT``."""

    link: str
    cycle: str
    at: datetime
    side: Side
    action: Action
    field: str | None
    old: Value
    new: Value
    rule: str


@dataclass(frozen=True)
class Outlook:
    """What of all deals has a clock running.

    ``unanswered``: deals whose referral waits for accept or decline; ``expires``: when the first of these does;
    ``held_expires``: the same of those that a person must free before they reach the CRM. ``refused``: by side that was to be
    written, since when the write that has failed longest fails. ``intents``: writes whose fate is not known.
    """

    unanswered: int = 0
    expires: datetime | None = None
    held_expires: datetime | None = None
    refused: Mapping[Side, datetime] = field(default_factory=dict)
    intents: int = 0


def reported_state(link: Link) -> State | None:
    """The state both sides last agreed on; from the record itself where the store does not know."""
    opportunity = link.opportunity
    words = link.base_referral.get("state") or (opportunity.text("status") if opportunity else "")
    return State(words) if isinstance(words, str) and words in set(State) else None


def respond_by(link: Link) -> datetime | None:
    """Until when the referral must be accepted or declined; None where it waits for neither."""
    at_work = link.phase in {Phase.WAITING, Phase.LINKED}
    unanswered = link.referral is not None and state_of(link.referral) is State.RECEIVED
    return link.referral.moment("respond_by") if link.referral and at_work and unanswered else None


def set_known(base: dict[str, Value], name: str, value: Value) -> None:
    """Put a value into a base; one that is not known leaves the base as it is."""
    if value is not ABSENT:
        base[name] = value


def released(link: Link) -> Link:
    """A link whose opportunity went to another: it keeps its key, stands for nothing, and is never looked at again."""
    return replace(
        link,
        referral_id=None,
        opportunity_id=None,
        opportunity=None,
        phase=Phase.SKIPPED,
        dirty=False,
        due=None,
    )
