"""The values of a deal: both systems' records, people, solutions, states. Every other module speaks with these words.

referral      our organization's record of a deal in Partner Center
engagement    what joins the referrals of one deal, one per organization
opportunity   the CRM's record of a deal
deal          what a referral and an opportunity describe; a *link* joins the two (see ``memory``)
snapshot      what one side had when it was last read, with the version that guards a write
value         the content of one field; ``None`` means cleared, ``ABSENT`` means not known, and they are never the same
stage         the CRM's word for where a deal stands; *state* is ours (see ``lifecycle``)

``docs/glossary.md`` has the other words. Money is ``Decimal`` beside an ISO 4217 code, a close date is a ``date`` (the day in
``mapping.close_date_zone``), a moment is an aware UTC ``datetime``. Versions are opaque: only the adapter that made one knows what it means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final, Literal


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
    """Where a deal stands; the words of ``Cosell_Status__c``, which has none for the last two.

    ``CLOSED``: over, in a way that is not known here. ``UNKNOWN``: open, read-only, warned about.
    """

    RECEIVED = "Received"
    ACCEPTED = "Accepted"
    WON = "Won"
    LOST = "Lost"
    DECLINED = "Declined"
    EXPIRED = "Expired"
    CLOSED = "Closed"
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


class Category(StrEnum):
    """What a referral is to us; the values of the field ``category``."""

    COSELL = "cosell"
    LEAD = "lead"
    FOREIGN = "foreign"  # another organization's row of the engagement


class SellerAction(StrEnum):
    """The words of ``Cosell_Action__c``."""

    ACCEPT = "Accept"
    DECLINE = "Decline"


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
        """By which a set knows its members."""
        return self.email


@dataclass(frozen=True)
class Solution:
    """What is sold, known by its id (mostly ``SOL-…`` a partner's, a GUID Microsoft's; whose it is, ``type`` says).

    ``type``: ``Own``, ``Microsoft``, ``Third party`` or None where the side does not say.
    """

    id: str
    name: str | None = None
    type: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        """By which a set knows its members."""
        return self.id


@dataclass(frozen=True)
class Customer:
    """The customer's organization and address; ``country`` in two letters (ISO 3166).

    ``duns``: the D-U-N-S number, nine digits; what stands in the CRM and is none, as it stands there.
    """

    name: str | None = None
    address_line1: str | None = None
    address_line2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    duns: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


HIDDEN: Final = "hidden"  # key in ``extra``: the parts of a record that its side does not show


def hidden_parts(record: Member | Solution | None) -> frozenset[str]:
    """The parts of a record that its side does not show: they read empty and say nothing."""
    found = record.extra.get(HIDDEN) if record is not None else None
    return frozenset(str(part) for part in found) if isinstance(found, (list, tuple)) else frozenset()


Known = str | bool | Decimal | date | datetime | tuple[Member, ...] | tuple[Solution, ...] | Customer | None


Value = Known | Literal[Absent.ABSENT]


Fields = Mapping[str, Value]


TOO_SOON: Final = "?"  # ends a version that was read so soon after its change that another may hide behind it


def same_version(one: str, other: str) -> bool:
    """Whether two versions are of the same state, as far as they can tell; a version read too soon counts as the one it is."""
    return one.removesuffix(TOO_SOON) == other.removesuffix(TOO_SOON)


@dataclass(frozen=True)
class Snapshot:
    """What one side has of one deal, read at once.

    ``fields`` maps names of ``fields.KINDS`` to values; a name that is missing is ``ABSENT``.
    ``readonly``: fields that this side does not take at the moment (an amount summed from products).
    ``rows``: ids of the child rows it was read from, so that a deleted child is traced back to its deal.
    ``unkeyed``: per set the rows as the side holds them that cannot be told apart, for a write of the whole set.
    ``last_by_us``: whether the record itself was last changed by the user that we sign in as; None: the side does not
    say. It is known of what was just read only, and not kept.
    """

    id: str
    version: str
    fields: Fields = field(default_factory=dict)
    readonly: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    unkeyed: Mapping[str, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    last_by_us: bool | None = field(default=None, compare=False)

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
        """The field as a moment; None where it is cleared or not known."""
        value = self[name]
        return value if isinstance(value, datetime) else None


@dataclass(frozen=True)
class Step:
    """One PATCH: fields of ``SHARED`` (plus ``external_reference``, ``status_reason``, ``visible``), at most one move.

    ``trial``: it holds one field of which it is not known whether Partner Center takes it; where it is refused, the steps
    after it are carried out all the same.
    """

    fields: Fields
    state: State | None = None
    trial: bool = False


_STATES: Final[Mapping[str, State]] = {state.value: state for state in State}


def state_of(referral: Snapshot) -> State:
    """Where the deal stands in Partner Center; ``UNKNOWN`` for a status that we do not know."""
    return _STATES.get(referral.text("state"), State.UNKNOWN)
