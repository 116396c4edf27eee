"""How deals stand, asked of an index: counted without reading one, and those that need a person by what is told of them."""

from __future__ import annotations

from sqlalchemy import Engine, func, select

from cosell_sync.core.deal import SyncState
from cosell_sync.core.memory import Phase
from cosell_sync.ports import DealCount, UrgentDeal
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading


def counts(engine: Engine, name: str) -> list[DealCount]:
    """How many deals of the connection of that name stand how."""
    column = schema.link.c
    standing = (column.phase, column.sync_state, column.parked, column.rejected)
    groups = (
        select(*standing, func.count())
        .where(column.connection == name)
        .group_by(*standing)
        .order_by(*standing)
    )
    with reading(engine) as connection:
        return [
            DealCount(Phase(phase), SyncState(state), parked, rejected, deals)
            for phase, state, parked, rejected, deals in connection.execute(groups)
        ]


def urgent(engine: Engine, name: str, limit: int) -> list[UrgentDeal]:
    """Linked and waiting deals that need a person, by key, at most ``limit``. Neither snapshots nor bases are read."""
    column = schema.link.c
    rows = (
        select(column.referral_id, column.opportunity_id, column.sync_state, column.memory)
        .where(
            column.connection == name,
            column.phase.in_([Phase.LINKED.value, Phase.WAITING.value]),
            column.sync_state.in_([SyncState.NEEDS_ATTENTION.value, SyncState.CONFLICT.value]),
        )
        .order_by(column.key)
        .limit(limit)
    )
    with reading(engine) as connection:
        return [serialize.to_urgent(row) for row in connection.execute(rows).mappings()]
