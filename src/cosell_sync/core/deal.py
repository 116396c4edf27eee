"""The words of the domain, as frozen values. Every other module speaks with these.

referral      our organization's row of a deal in Partner Center
engagement    what joins the referrals of one deal, one per organization
opportunity   the CRM's row of a deal
deal          the thing itself; a *link* joins its referral and its opportunity
snapshot      what one side held when it was last read, with the version that a write is guarded by
base          per side, what it held when both sides last agreed
value         the content of one field; ``None`` means cleared, ``ABSENT`` means not known, and they are never the same
stage         the CRM's name for where a deal stands; *state* is ours (see ``lifecycle``)
hold          a value or a move that waits, with its reason
conflict      a field that both sides changed to different values
intent        a write about to be made, recorded before the call
dead letter   a deal that was parked after too many tries

Money is ``Decimal`` beside an ISO 4217 code, a close date is a ``date`` (the UTC day), a moment is an aware UTC
``datetime``. Versions are opaque: only the adapter that made one knows what it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final, Literal


class Absent(Enum):
    """The type of ``ABSENT``."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT


class Side(StrEnum):
    """Which of the two systems."""

    PARTNER_CENTER = "partner_center"
    CRM = "crm"


class State(StrEnum):
    """Where a deal stands; the words of ``Cosell_Status__c``. ``UNKNOWN``: open, read-only, warned about."""

    RECEIVED = "Received"
    ACCEPTED = "Accepted"
    WON = "Won"
    LOST = "Lost"
    DECLINED = "Declined"
    EXPIRED = "Expired"
    UNKNOWN = "Unknown"


class Direction(StrEnum):
    """Who started the deal."""

    INBOUND = "Inbound"
    OUTBOUND = "Outbound"


class DealType(StrEnum):
    """The words of ``Cosell_Deal_Type__c``."""

    PRIVATE = "Private"
    PARTNER_LED = "Partner-led"
    COSELL = "Co-sell"
    LEAD = "Lead"


class SyncState(StrEnum):
    """The words of ``Cosell_Sync_State__c``."""

    IN_SYNC = "In sync"
    WAITING = "Waiting"
    NEEDS_ATTENTION = "Needs attention"
    CONFLICT = "Conflict"
    CLOSED = "Closed"


@dataclass(frozen=True)
class Member:
    """A person of a team or a customer contact, known by ``email`` (lower case).

    ``extra`` is what the side it came from holds beside these (a title, a row id); it is never compared.
    """

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.email


@dataclass(frozen=True)
class Solution:
    """What is sold, known by its id (``SOL-…`` a partner's own, a GUID Microsoft's).

    ``type``: ``Own``, ``Microsoft``, ``Third party`` or None where the side does not say.
    """

    id: str
    name: str | None = None
    type: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True)
class Customer:
    """The customer's organization and address; ``country`` in two letters (ISO 3166)."""

    name: str | None = None
    address_line1: str | None = None
    address_line2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


Known = str | bool | Decimal | date | datetime | tuple[Member, ...] | tuple[Solution, ...] | Customer | None
Value = Known | Literal[Absent.ABSENT]
Fields = Mapping[str, Value]


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NOTES = "notes"  # text of several lines
    NUMBER = "number"
    DATE = "date"
    MOMENT = "moment"
    FLAG = "flag"
    MEMBERS = "members"
    SOLUTIONS = "solutions"
    CUSTOMER = "customer"


# Fields that exist on both sides and are merged three-way.
SHARED: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "name": Kind.TEXT,
        "value": Kind.NUMBER,
        "currency": Kind.TEXT,
        "close_date": Kind.DATE,
        "sales_stage": Kind.TEXT,  # Qualify, Develop, Propose, Close; ABSENT: this side makes no claim
        "campaign_id": Kind.TEXT,
        "notes": Kind.NOTES,
        "favorite": Kind.FLAG,
        "customer": Kind.CUSTOMER,
        "team": Kind.MEMBERS,
        "contacts": Kind.MEMBERS,
        "solutions": Kind.SOLUTIONS,
    }
)
# What only a seller writes, in the CRM.
SELLER: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "sync": Kind.FLAG,
        "action": Kind.TEXT,  # Accept, Decline
        "reason": Kind.TEXT,
        "reason_note": Kind.NOTES,
        "visible": Kind.FLAG,
        "help": Kind.TEXT,
        "help_note": Kind.NOTES,
        "consent": Kind.FLAG,
    }
)
# What only we write, in the CRM.
STATUS_FIELDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "referral_id": Kind.TEXT,
        "referral_link": Kind.TEXT,
        "status": Kind.TEXT,
        "direction": Kind.TEXT,
        "deal_type": Kind.TEXT,
        "respond_by": Kind.MOMENT,
        "microsoft_status": Kind.TEXT,
        "microsoft_id": Kind.TEXT,
        "sync_state": Kind.TEXT,
        "message": Kind.NOTES,
        "last_sync": Kind.MOMENT,
    }
)
# What the CRM's own machinery says of an opportunity.
CRM_ONLY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "stage": Kind.TEXT,
        "is_closed": Kind.FLAG,
        "is_won": Kind.FLAG,
        "owner_email": Kind.TEXT,
    }
)
# What only Partner Center says of a referral.
REFERRAL_ONLY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "state": Kind.TEXT,  # a State
        "status_text": Kind.TEXT,  # as Partner Center words it, "New / Pending"
        "status_reason": Kind.TEXT,
        "category": Kind.TEXT,  # cosell, lead, foreign (another organization's row)
        "engagement_id": Kind.TEXT,
        "external_reference": Kind.TEXT,
        "created_at": Kind.MOMENT,
        "updated_at": Kind.MOMENT,
        "closed_at": Kind.MOMENT,
        "help_code": Kind.TEXT,
        "registration_status": Kind.TEXT,  # of a won deal, as Partner Center words it
        "organization": Kind.TEXT,  # whose row it is, on rows of others; "Microsoft" for Microsoft's
        "problem": Kind.TEXT,  # why this referral cannot be understood, or absent
    }
)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {**SHARED, **SELLER, **STATUS_FIELDS, **CRM_ONLY, **REFERRAL_ONLY}
)


TOO_SOON: Final = "?"  # ends a version that was read so soon after its change that another may hide behind it


def same_version(one: str, other: str) -> bool:
    """Whether two readings show the same state, as far as versions can tell. What they say is the adapter's own."""
    return one.removesuffix(TOO_SOON) == other.removesuffix(TOO_SOON)


@dataclass(frozen=True)
class Snapshot:
    """What one side holds of one deal, read at once.

    ``fields`` maps names of ``KINDS`` to values; a name that is missing is ``ABSENT``.
    ``readonly``: fields that this side will not take just now (an amount summed from products).
    ``rows``: ids of the child rows it was read from, so that a deleted child is traced back to its deal.
    """

    id: str
    version: str
    fields: Fields = field(default_factory=dict)
    readonly: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Value:
        return self.fields.get(name, ABSENT)

    def text(self, name: str) -> str:
        """The field as text, empty where it is cleared or not known."""
        value = self[name]
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """True where the field is known and set."""
        return self[name] is True

    def moment(self, name: str) -> datetime | None:
        value = self[name]
        return value if isinstance(value, datetime) else None


@dataclass(frozen=True)
class Step:
    """One PATCH: fields of ``SHARED`` (plus ``external_reference``, ``status_reason``, ``visible``), at most one move."""

    fields: Fields
    state: State | None = None


class Phase(StrEnum):
    """What became of a pair."""

    WAITING = "waiting"  # seen on one side, its other half not made yet
    LINKED = "linked"
    SKIPPED = "skipped"  # seen, and none of our business (a lead, closed before we came)
    PARTED = "parted"  # unlinked by a person, for good


@dataclass(frozen=True)
class Closing:
    """A won, lost or declined that waits out its hold: the wish, the stage or action it was read from, since when."""

    state: State
    mark: str
    since: datetime


@dataclass(frozen=True)
class Failure:
    """Why a deal is stuck: refused by a system or by our own checks.

    ``text`` is for the seller; ``code`` for logs. ``seen`` is a digest of what both sides held, so that a change
    frees the deal.
    """

    side: Side
    code: str
    text: str
    since: datetime
    seen: str = ""
    transient: bool = False


@dataclass(frozen=True)
class Memory:
    """What is remembered of a deal beside its snapshots and bases."""

    closing: Closing | None = None
    notices: tuple[str, ...] = ()  # what happened last, in the seller's words
    reported: tuple[str, ...] = ()  # keys of what was said once and need not be said again
    rewritten: Mapping[str, bool] = field(
        default_factory=dict
    )  # the CRM changed our write again; True: still to carry
    resolved: Mapping[str, Side] = field(default_factory=dict)  # a person's answer to a conflict
    disputed: tuple[
        str, ...
    ] = ()  # fields whose last write may or may not have landed before someone changed them
    carried_at: datetime | None = None
    failure: Failure | None = None
    attempts: int = 0
    next_attempt: datetime | None = None
    parked: bool = False
    rejected: bool = False  # refused by our own checks, until someone mends the record
    gone: Side | None = None  # the side whose record vanished
    lookalikes: tuple[str, ...] = ()  # opportunities that may be the same deal
    create_anyway: bool = False  # a person said: it is not one of the lookalikes
    sync_state: SyncState = SyncState.IN_SYNC
    invite: str = (
        ""  # Microsoft's help: "pending" since the deal was shared or asked for, "done" once invited
    )
    microsoft: Mapping[str, str] = field(
        default_factory=dict
    )  # Microsoft's side as last read: status, id, reason, until


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
    """What a person told the program to do with a deal (``deals link``, ``retry`` …), until a cycle has done it.

    ``target``: a referral id or an opportunity id, the address of a ``forget``; ``other``: the opportunity of a ``link``;
    ``field`` and ``side`` of a ``resolve``.
    """

    id: str
    verb: str  # link, create, unlink, retry, resolve, forget
    target: str
    other: str = ""
    field: str = ""
    side: str = ""


@dataclass(frozen=True)
class Intent:
    """A write about to be made. One may be open per link and side; while it is, the next look settles it first.

    ``fields`` is what is written, ``source`` what the other side held when that was decided, ``version`` what the
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
    """One line of the journal. ``side`` is the side that was written, or that lost where ``action`` is ``conflict``."""

    link: str
    cycle: str
    at: datetime
    side: Side
    action: str  # create, update, move, tell, conflict, hold, failure, settle, link, unlink
    field: str | None
    old: Value
    new: Value
    rule: str
