"""The life of a deal: states and moves as one table that both directions, the docs and the tests read.

A deal is *received* (Microsoft asks, we have not answered), *accepted* (both work on it) or over: *won*, *lost*,
*declined*, *expired*. Over is over: Partner Center takes no change of a closed referral, not even of a note, so
nothing leads out of these four (Partner Center, bulk operations and referrals FAQ). A closed status with a second word that
is not known here is over too (``CLOSED``); whether that is a loss, only a person can say.

Two actors move a deal. The *seller* moves it in the CRM; such a move is a request until Partner Center has taken it, so
it is checked against the table before any call. The *portal* is a colleague in Partner Center, or the service itself, which
alone lets a deal expire after 14 days; such a move is a fact when it arrives.

A request that skips a state (received, and the seller says won) is carried along the shortest legal path, one PATCH a
step. Each move has needs: fields without which Partner Center refuses it, or a person could not understand it later.

Beside the moves stand the freezes: fields that Partner Center stops taking at some point of the life (bulk file
rules; the connector's list of patchable paths).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cosell_sync.core.deal import DealType, State
from cosell_sync.core.fields import NEWER
from cosell_sync.core.texts import Text


class Actor(StrEnum):
    """Who moves a deal."""

    SELLER = "seller"
    PORTAL = "portal"


@dataclass(frozen=True)
class Move:
    """One row of the table. ``needs``: names of fields that must not be empty before the move."""

    name: str
    source: State
    target: State
    actors: frozenset[Actor]
    needs: tuple[str, ...] = ()


_BOTH = frozenset(Actor)
_PORTAL = frozenset({Actor.PORTAL})

MOVES: Final = (
    Move("accept", State.RECEIVED, State.ACCEPTED, _BOTH, ("value", "close_date")),
    Move("decline", State.RECEIVED, State.DECLINED, _BOTH, ("reason",)),
    Move("expire", State.RECEIVED, State.EXPIRED, _PORTAL),
    Move("edit", State.ACCEPTED, State.ACCEPTED, _BOTH),
    Move("win", State.ACCEPTED, State.WON, _BOTH, ("value",)),
    Move("lose", State.ACCEPTED, State.LOST, _BOTH, ("reason",)),
)

OPEN: Final = frozenset({State.RECEIVED, State.ACCEPTED})
TERMINAL: Final = frozenset({State.WON, State.LOST, State.DECLINED, State.EXPIRED, State.CLOSED})


def legal_moves(source: State, actor: Actor) -> Iterator[Move]:
    """The moves, edits aside, that this actor may make from here."""
    return (
        move for move in MOVES if move.source is source and move.target is not source and actor in move.actors
    )


def walk(actor: Actor, source: State, target: State) -> tuple[Move, ...] | None:
    """The shortest legal way of this actor from one state to another. None: there is none. Empty: it is there already."""
    if source is target:
        return ()
    paths: deque[tuple[State, tuple[Move, ...]]] = deque([(source, ())])
    reached = {source}
    while paths:
        here, path = paths.popleft()
        for move in legal_moves(here, actor):
            if move.target is target:
                return (*path, move)
            if move.target not in reached:
                reached.add(move.target)
                paths.append((move.target, (*path, move)))
    return None


@dataclass(frozen=True)
class Freeze:
    """A field that Partner Center does not take (any more), and why, in the seller's words."""

    field: str
    why: str
    types: frozenset[DealType] = frozenset(DealType)  # the deal types it holds for


# Partner Center, bulk operations: what is fixed once created (customer with its D-U-N-S number, partner location), and once
# shared; the rest, such as what is asked per deal, is missing in the connector's list of paths.
FREEZES: Final = (
    Freeze("customer", Text("Partner Center fixes the customer once a deal exists")),
    Freeze(
        "contacts",
        Text("Partner Center fixes the customer contacts once Microsoft was asked for help"),
        frozenset({DealType.COSELL}),
    ),
    *(Freeze(name, Text("Partner Center fixes it once a deal exists")) for name in NEWER),
)


def frozen(field: str, deal_type: DealType | None, *, outbound: bool) -> str | None:
    """Why Partner Center will not take a new value of this field, or None where it will.

    Contacts freeze only on co-sell deals that we made ourselves: there the freeze rule was written for our own
    creation or upgrade.
    """
    for freeze in FREEZES:
        if freeze.field == field and (deal_type in freeze.types or freeze.types == frozenset(DealType)):
            return freeze.why if field != "contacts" or outbound else None
    return None
