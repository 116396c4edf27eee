"""How deals stand, asked of an index: counted without reading one, and those that need a person by what is told of them."""

from __future__ import annotations

from itertools import product
from typing import Final

from sqlalchemy import Engine, func, select

from cosell_sync.core.deal import SyncState
from cosell_sync.core.memory import Phase
from cosell_sync.ports import DealCount, UrgentDeal
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading

_AT_WORK: Final = (Phase.LINKED, Phase.WAITING)
_URGENT: Final = (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)


def counts(engine: Engine, name: str) -> list[DealCount]:
    """How many deals of the connection of that name stand how."""
    column = schema.link.c
    standing = (column.phase, column.sync_state, column.parked, column.rejected, column.withheld)
    groups = (
        select(*standing, func.count())
        .where(column.connection == name)
        .group_by(*standing)
        .order_by(*standing)
    )
    with reading(engine) as connection:
        return [
            DealCount(Phase(phase), SyncState(state), parked, rejected, deals, withheld)
            for phase, state, parked, rejected, withheld, deals in connection.execute(groups)
        ]


def urgent(engine: Engine, name: str, limit: int) -> list[UrgentDeal]:
    """Linked and waiting deals that need a person, by key, at most ``limit``. Neither snapshots nor bases are read.

    One short query along the index for each phase and state, then the rows that are told.
    """
    column = schema.link.c
    keys = select(column.key).where(column.connection == name).order_by(column.key).limit(limit)
    told = (column.key, column.referral_id, column.opportunity_id, column.sync_state, column.memory)
    with reading(engine) as connection:
        found = [
            key
            for phase, state in product(_AT_WORK, _URGENT)
            for key in connection.execute(
                keys.where(column.phase == phase.value, column.sync_state == state.value)
            ).scalars()
        ]
        rows = (
            select(*told)
            .where(column.connection == name, column.key.in_(sorted(found)[:limit]))
            .order_by(column.key)
        )
        return [serialize.to_urgent(row) for row in connection.execute(rows).mappings()]
