"""What follows from the stage in the CRM, as one table that the decision, the docs and the tests read.

The CRM has one word, the stage, for where a deal stands; the lifecycle says which moves are legal. Five facts decide:

state      where the deal stands in Partner Center
told       the state that the CRM was last told: the base, or ``Cosell_Status__c`` where the store was lost
standing   what the stage in the CRM means: standby, open, won, lost
before     what the stage was when both sides last agreed: standby, another one than now, or the same
action     the seller's word in ``Cosell_Action__c``

Every combination has exactly one row; a fact that a row leaves open does not matter there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cosell_sync.core.deal import SellerAction, Snapshot, State
from cosell_sync.core.lifecycle import OPEN, TERMINAL
from cosell_sync.core.memory import Link, reported_state
from cosell_sync.core.rules import Stages, Standing


class Before(StrEnum):
    """The stage when both sides last agreed, as far as it matters."""

    STANDBY = "standby"
    CHANGED = "another"  # not standby, and another one than now
    SAME = "the same"  # as now, or not known


class Consequence(StrEnum):
    """What follows."""

    ACCEPT = "the seller accepts"
    DECLINE = "the seller declines, after the hold"
    WIN = "the seller wins, after the hold"
    ACCEPT_AND_WIN = "the seller accepts and wins, after the hold"
    LOSE = "the seller loses, after the hold"
    AGREE = "both sides agree on it"
    FOLLOW = "the CRM follows to the stage of this state"
    NOTHING = "nothing"
    TOO_LATE = "nothing is written; the seller is told"
    CONFLICT = "conflict; neither side is overwritten"
    WAIT = "nothing is sent until the status is known"


# The state that the seller asks for. None: nothing is asked.
REQUESTS: Final[Mapping[Consequence, State]] = MappingProxyType(
    {
        Consequence.ACCEPT: State.ACCEPTED,
        Consequence.DECLINE: State.DECLINED,
        Consequence.WIN: State.WON,
        Consequence.ACCEPT_AND_WIN: State.WON,
        Consequence.LOSE: State.LOST,
    }
)


@dataclass(frozen=True)
class Situation:
    """The five facts of one deal. ``told`` is None where nothing is known; ``action`` is None where none is chosen."""

    state: State
    told: State | None
    standing: Standing
    before: Before
    action: SellerAction | None


@dataclass(frozen=True)
class Row:
    """One row: the values that each fact may have, and what follows."""

    states: frozenset[State]
    told: frozenset[State | None]
    standings: frozenset[Standing]
    before: frozenset[Before]
    actions: frozenset[SellerAction | None]
    follows: Consequence

    def fits(self, situation: Situation) -> bool:
        """Whether this is the row of that situation."""
        return (
            situation.state in self.states
            and situation.told in self.told
            and situation.standing in self.standings
            and situation.before in self.before
            and situation.action in self.actions
        )


ANY_TOLD: Final = frozenset({*State, None})
ANY_BEFORE: Final = frozenset(Before)
ANY_ACTION: Final = frozenset({*SellerAction, None})
ANY_STANDING: Final = frozenset(Standing)
NOT_OVER: Final = ANY_TOLD - TERMINAL  # the CRM was told no end yet
ENDS: Final = TERMINAL - {State.CLOSED}  # that are known to be a win or not
CLOSED_AS_LOST: Final = ENDS - {State.WON}
STILL_OPEN: Final = frozenset({Standing.STANDBY, Standing.OPEN})
IS_NEWS: Final = frozenset({Before.STANDBY, Before.CHANGED})
NOT_DECLINED: Final = ANY_ACTION - {SellerAction.DECLINE}


def _received(
    standings: frozenset[Standing],
    before: frozenset[Before],
    actions: frozenset[SellerAction | None],
    follows: Consequence,
) -> Row:
    return Row(frozenset({State.RECEIVED}), ANY_TOLD, standings, before, actions, follows)


def _from(
    states: frozenset[State],
    told: frozenset[State | None],
    standings: frozenset[Standing],
    follows: Consequence,
) -> Row:
    """Once a deal is answered, neither the stage before nor the action asks for anything."""
    return Row(states, told, standings, ANY_BEFORE, ANY_ACTION, follows)


_ACCEPTED: Final = frozenset({State.ACCEPTED})
_WON: Final = frozenset({State.WON})
_STANDBY: Final = frozenset({Standing.STANDBY})
_OPEN: Final = frozenset({Standing.OPEN})
_IS_WON: Final = frozenset({Standing.WON})
_IS_LOST: Final = frozenset({Standing.LOST})
_ACCEPT: Final = frozenset({SellerAction.ACCEPT})
_DECLINE: Final = frozenset({SellerAction.DECLINE})
_NONE: Final[frozenset[SellerAction | None]] = frozenset({None})
_SAME: Final = frozenset({Before.SAME})
_WAS_STANDBY: Final = frozenset({Before.STANDBY})

ROWS: Final = (
    _received(ANY_STANDING, ANY_BEFORE, _DECLINE, Consequence.DECLINE),
    _received(STILL_OPEN, ANY_BEFORE, _ACCEPT, Consequence.ACCEPT),
    _received(_STANDBY, ANY_BEFORE, _NONE, Consequence.AGREE),
    _received(_OPEN, _WAS_STANDBY, _NONE, Consequence.ACCEPT),
    _received(_OPEN, ANY_BEFORE - _WAS_STANDBY, _NONE, Consequence.AGREE),  # answering takes an explicit act
    _received(_IS_WON, IS_NEWS, NOT_DECLINED, Consequence.ACCEPT_AND_WIN),
    _received(_IS_WON, _SAME, _ACCEPT, Consequence.ACCEPT_AND_WIN),
    _received(_IS_WON, _SAME, _NONE, Consequence.NOTHING),
    _received(_IS_LOST, IS_NEWS, NOT_DECLINED, Consequence.DECLINE),
    _received(_IS_LOST, _SAME, _ACCEPT, Consequence.ACCEPT),
    _received(_IS_LOST, _SAME, _NONE, Consequence.NOTHING),
    _from(_ACCEPTED, frozenset({State.RECEIVED}), _STANDBY, Consequence.FOLLOW),
    _from(_ACCEPTED, ANY_TOLD - {State.RECEIVED}, _STANDBY, Consequence.AGREE),
    _from(_ACCEPTED, ANY_TOLD, _OPEN, Consequence.AGREE),
    _from(_ACCEPTED, ANY_TOLD, _IS_WON, Consequence.WIN),
    _from(_ACCEPTED, ANY_TOLD, _IS_LOST, Consequence.LOSE),
    _from(frozenset({State.CLOSED}), ANY_TOLD, ANY_STANDING, Consequence.NOTHING),
    _from(ENDS, NOT_OVER, STILL_OPEN, Consequence.FOLLOW),
    _from(_WON, NOT_OVER, _IS_WON, Consequence.AGREE),
    _from(_WON, NOT_OVER, _IS_LOST, Consequence.CONFLICT),
    _from(_WON, TERMINAL, _IS_WON, Consequence.NOTHING),
    _from(_WON, TERMINAL, ANY_STANDING - _IS_WON, Consequence.TOO_LATE),
    _from(CLOSED_AS_LOST, NOT_OVER, _IS_LOST, Consequence.AGREE),
    _from(CLOSED_AS_LOST, NOT_OVER, _IS_WON, Consequence.CONFLICT),
    _from(CLOSED_AS_LOST, TERMINAL, _IS_LOST, Consequence.NOTHING),
    _from(CLOSED_AS_LOST, TERMINAL, ANY_STANDING - _IS_LOST, Consequence.TOO_LATE),
    _from(frozenset(State) - OPEN - TERMINAL, ANY_TOLD, ANY_STANDING, Consequence.WAIT),
)


def consequence(situation: Situation) -> Consequence:
    """What follows in this situation. Raises ValueError where the table has no row or several, which tests exclude."""
    (row,) = (row for row in ROWS if row.fits(situation))
    return row.follows


def situation_of(link: Link, state: State, opportunity: Snapshot, stages: Stages) -> Situation:
    """The five facts of a link whose referral stands at ``state``."""
    action = opportunity.text("action")
    told = reported_state(link)
    base = link.base_opportunity.get("stage")
    if base == stages.received or (base is None and told is State.RECEIVED):
        before = Before.STANDBY
    else:
        before = Before.SAME if base is None or base == opportunity.text("stage") else Before.CHANGED
    chosen = SellerAction(action) if action in set(SellerAction) else None
    return Situation(state, told, stages.standing(opportunity), before, chosen)
