"""How deals stand, asked of an index: counted without reading one, and what of them has a clock running."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, func, select

from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.memory import Link, Outlook, Phase
from cosell_sync.ports import DealCount
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading
from cosell_sync.store.statements import LOCKED, unindexed

_AT_WORK: Final = (Phase.LINKED, Phase.WAITING)
_URGENT: Final = (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)


def counts(engine: Engine, name: str) -> list[DealCount]:
    """How many deals of the connection of that name stand how. Those that wait for a lock are few, all of them have a moment
    to be looked at again, and only of these the memory is read.
    """
    column = schema.link.c
    standing = (column.phase, column.sync_state, column.parked, column.rejected, column.withheld)
    groups = (
        select(*standing, func.count())
        .where(column.connection == name)
        .group_by(*standing)
        .order_by(*standing)
    )
    with reading(engine) as connection:
        every = [(tuple(how), deals) for *how, deals in connection.execute(groups)]
        # Grouped here: a database would go through every link along the index above, to have them in groups.
        waiting = select(*standing).where(column.connection == name, column.due.is_not(None), LOCKED)
        locked = Counter(tuple(how) for how in connection.execute(waiting))
    split = [(how, deals - locked[how], False) for how, deals in every]
    split += [(how, deals, True) for how, deals in locked.items()]
    return [
        DealCount(Phase(phase), SyncState(state), parked, rejected, deals, withheld, held)
        for (phase, state, parked, rejected, withheld), deals, held in split
        if deals
    ]


def expiring(engine: Engine, name: str, until: datetime) -> list[Link]:
    """The deals of the connection of that name whose referral waits for accept or decline and expires until then, the first
    to expire first.
    """
    column = schema.link.c
    rows = (
        select(schema.link)
        .where(column.connection == name, column.respond_by <= until)
        .order_by(column.respond_by, column.key)
    )
    with reading(engine) as connection:
        return [serialize.to_link(row) for row in connection.execute(rows).mappings()]


def outlook(engine: Engine, name: str) -> Outlook:
    """What of the deals of the connection of that name has a clock running.

    The failures are read out of the memory of those deals only that are to be looked at again or are parked.
    """
    column, intent = schema.link.c, schema.intent.c
    of_us = column.connection == name
    at_work = unindexed(column.phase).in_([phase.value for phase in _AT_WORK])
    first = func.min(column.respond_by)
    failure = column.memory["failure"]
    side, since = failure["side"].as_string(), func.min(failure["since"].as_string())
    with reading(engine) as connection:
        open_ones = select(func.count(column.respond_by), first).where(of_us, column.respond_by.is_not(None))
        unanswered, expires = connection.execute(open_ones).one()
        held = connection.execute(
            select(first).where(
                of_us,
                column.respond_by.is_not(None),
                column.phase == Phase.WAITING.value,
                column.sync_state.in_([state.value for state in _URGENT]),
            )
        ).scalar_one()
        refused: dict[str, str] = {}
        for some in (column.due.is_not(None), column.parked):  # each along its own index
            failing = select(side, since).where(of_us, at_work, some, side.is_not(None)).group_by(side)
            for where, moment in connection.execute(failing):
                refused[where] = min(moment, refused.get(where, moment))
        intents = connection.execute(select(func.count()).where(intent.connection == name)).scalar_one()
    return Outlook(
        unanswered=unanswered,
        expires=expires,
        held_expires=held,
        refused={Side(where): datetime.fromisoformat(moment) for where, moment in refused.items()},
        intents=intents,
    )
