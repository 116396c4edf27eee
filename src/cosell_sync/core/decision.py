"""What a decision consists of: effects to write, values and moves held back, conflicts. Types only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cosell_sync.core.deal import Fields, Side, State, Step, Value
from cosell_sync.core.memory import Action, Link


class HoldKind(StrEnum):
    """Why something is held back. The order is the order of the message to the seller."""

    NEED = "need"  # a person must fill something in
    WITHHELD = "withheld"  # cannot be undone, and the guard wants a person's word first
    CRM_CANNOT = "crm_cannot"  # the CRM cannot store Partner Center's value
    STAND_IN = "stand_in"  # the CRM holds a stand-in, or nothing, for what Partner Center does not bring
    PAUSED = "paused"
    UNKNOWN_STATE = "unknown_state"
    LATE = "late"  # after the end
    TERMINAL = "terminal"  # waits out ``sync.terminal_hold``
    UNANSWERED = "unanswered"  # goes along with the accept
    FROZEN = "frozen"  # Partner Center does not take it
    UNSEEN = "unseen"  # the CRM does not show it to us, so nothing of it is compared
    READ_ONLY = "read_only"  # the CRM computes it, or does not let us
    UNKEYED = "unkeyed"  # people without an e-mail address, solutions without an id: they stay on their side
    SHARED = "shared"  # it stands in a row that other deals use too


@dataclass(frozen=True)
class Hold:
    """A value or a move held back. ``text`` is for the seller; ``until``: when the hold ends by itself, else None."""

    kind: HoldKind
    field: str
    referral: Value
    opportunity: Value
    text: str
    until: datetime | None = None


class ConflictKind(StrEnum):
    """How two values came to differ. ``AUTOMATION`` and ``NOT_TAKEN`` begin keys of ``Memory.reported``."""

    EDITED = "edited"  # both sides changed the field
    ENDED = "ended"  # both sides closed the deal, differently
    AUTOMATION = "automation"  # an automation in the CRM rewrote what was written, again
    NOT_TAKEN = "kept"  # Partner Center holds something else than was sent

    def key(self, field: str) -> str:
        """Under which ``Memory.reported`` remembers it of a field."""
        return f"{self}:{field}"


@dataclass(frozen=True)
class Conflict:
    """A field with different values, of which at most one is kept. ``kept`` None: a person must decide.

    ``rule``: why, for the journal; of an ``ENDED`` one it is the text for the seller.
    """

    field: str
    referral: Value
    opportunity: Value
    kept: Side | None
    rule: str
    kind: ConflictKind = ConflictKind.EDITED


@dataclass(frozen=True)
class Effect:
    """One thing to write: which side, which field, from what to what, by which rule."""

    side: Side
    action: Action  # create, update, move or report
    field: str
    old: Value
    new: Value
    rule: str


@dataclass(frozen=True)
class Decision:
    """What follows for one deal. ``link``: with bases and memory as they are once this is decided, before any write."""

    link: Link
    steps: tuple[Step, ...] = ()
    crm: Fields = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    holds: tuple[Hold, ...] = ()
    taken_back: State | None = (
        None  # an end that waited out its hold, and that the seller does not ask for any more
    )
    notices: tuple[str, ...] = ()  # what the CRM write of this decision brings, in the seller's words
    retried: tuple[
        Hold, ...
    ] = ()  # what a side refused before and is sent again now; held until it has landed

    @property
    def retried_in_crm(self) -> frozenset[str]:
        """The fields of ``retried`` that go to the CRM."""
        return frozenset(hold.field for hold in self.retried if hold.kind is HoldKind.CRM_CANNOT)
