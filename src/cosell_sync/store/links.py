"""Links as rows: found by their ids, walked by key, and written with the ids of the rows that their opportunities consist of.

What is asked of many links comes in chunks or pages, so that memory is bounded however many deals there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, and_, delete, select, update

from cosell_sync.core.deal import SyncState
from cosell_sync.core.memory import Link, Phase
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading
from cosell_sync.store.rows import among, insert_rows, upsert_rows
from cosell_sync.store.statements import CHUNK, chunks, unindexed


def find(engine: Engine, name: str, column: Column[Any], values: Sequence[str]) -> list[Link]:
    """The links whose ``column`` is one of the values, by key."""
    links = [serialize.to_link(row) for row in among(engine, name, column, values, schema.link.c)]
    return sorted(links, key=lambda link: link.key)


def versions(engine: Engine, name: str, opportunity_ids: Sequence[str]) -> dict[str, str]:
    """The version that is known of each of these opportunities; the others are missing."""
    column = schema.link.c
    rows = among(
        engine,
        name,
        column.opportunity_id,
        opportunity_ids,
        (column.opportunity_id, column.opportunity_version),
        column.opportunity_version.is_not(None),
    )
    return {row["opportunity_id"]: row["opportunity_version"] for row in rows}


def holding(engine: Engine, name: str, row_ids: Sequence[str]) -> frozenset[str]:
    """The opportunities that consist of these rows among others."""
    column = schema.link_row.c
    rows = among(engine, name, column.row, row_ids, (column.opportunity_id,))
    return frozenset(row["opportunity_id"] for row in rows)


def due(engine: Engine, name: str, now: datetime, after: str, limit: int) -> list[Link]:
    """Three short queries, each along its own index, instead of one over every link."""
    link, intent = schema.link, schema.intent
    ours = (link.c.connection == name, link.c.phase != Phase.PARTED.value)
    opened = (intent.c.connection == link.c.connection) & (intent.c.link == link.c.key)
    key = unindexed(link.c.key)
    queries = (
        select(link.c.key).where(*ours, link.c.dirty, link.c.key > after).order_by(link.c.key),
        select(link.c.key).where(*ours, link.c.due <= now, key > after).order_by(key),
        select(intent.c.link)
        .join_from(intent, link, opened)
        .where(*ours, intent.c.connection == name, intent.c.link > after)
        .order_by(intent.c.link)
        .distinct(),
    )
    with reading(engine) as connection:
        found = {each for query in queries for each in connection.execute(query.limit(limit)).scalars()}
    return find(engine, name, link.c.key, sorted(found)[:limit])


def in_phases(
    engine: Engine, name: str, phases: Iterable[Phase], states: Iterable[SyncState]
) -> Iterator[Link]:
    """Phase by phase, merged by key: each then follows its own index, however many of the others there are."""
    some_phases, some_states, column = set(phases), set(states), schema.link.c
    if some_phases == set(Phase) and some_states == set(SyncState):
        return walk(engine, name)
    standing = [] if some_states == set(SyncState) else [column.sync_state.in_(sorted(some_states))]
    return heapq.merge(
        *(walk(engine, name, column.phase == phase.value, *standing) for phase in some_phases),
        key=lambda link: link.key,
    )


def walk(engine: Engine, name: str, *conditions: ColumnElement[bool]) -> Iterator[Link]:
    """All links of which this is true, by key, read in pages."""
    column = schema.link.c
    page = select(schema.link).where(column.connection == name, *conditions).order_by(column.key).limit(CHUNK)
    after = ""
    while True:
        with reading(engine) as connection:
            rows = connection.execute(page.where(column.key > after)).mappings().all()
        yield from map(serialize.to_link, rows)
        if len(rows) < CHUNK:
            return
        after = rows[-1]["key"]


def put(connection: Connection, name: str, links: Sequence[Link]) -> None:
    """Store these links as they are now, each once. An id that one of them gives up may go to another, in whatever order."""
    stored = _stored(connection, name, [link.key for link in links])
    _free_ids(connection, name, links, stored)
    upsert_rows(connection, name, schema.link, [serialize.from_link(link) for link in links])
    _put_child_rows(connection, name, links, stored)


@dataclass
class _Stored:
    """What is stored of one link before it is written: its two ids, and its rows as ``serialize.child_rows``."""

    ids: tuple[str | None, str | None] = (None, None)
    rows: dict[str, str] = field(default_factory=dict)


_NOTHING = _Stored()


def _stored(connection: Connection, name: str, keys: Sequence[str]) -> Mapping[str, _Stored]:
    """By key; a link that is new is missing. Ids and rows come in one query: both are asked for before each write."""
    column, child = schema.link.c, schema.link_row.c
    its_rows = and_(child.connection == column.connection, child.link == column.key)
    query = select(
        column.key, column.referral_id, column.opportunity_id, child.row, child.opportunity_id
    ).select_from(schema.link.outerjoin(schema.link_row, its_rows))
    found: dict[str, _Stored] = {}
    for some in chunks(list(dict.fromkeys(keys))):
        ours = (column.connection == name, column.key.in_(some))
        for key, referral_id, opportunity_id, row, owner in connection.execute(query.where(*ours)).all():
            stored = found.setdefault(key, _Stored((referral_id, opportunity_id)))
            if row is not None:
                stored.rows[row] = owner
    return found


def _free_ids(
    connection: Connection, name: str, links: Collection[Link], stored: Mapping[str, _Stored]
) -> None:
    """Take away the ids that these links give up, so that another of them may have one."""
    given_up = {
        link.key
        for link in links
        for was, now in zip(
            stored.get(link.key, _NOTHING).ids, (link.referral_id, link.opportunity_id), strict=True
        )
        if was is not None and was != now
    }
    column = schema.link.c
    for keys in chunks(sorted(given_up)):
        connection.execute(
            update(schema.link)
            .where(column.connection == name, column.key.in_(keys))
            .values(referral_id=None, opportunity_id=None)
        )


def _put_child_rows(
    connection: Connection, name: str, links: Collection[Link], stored: Mapping[str, _Stored]
) -> None:
    """Write those that are others than before: most are as they were and stay."""
    column = schema.link_row.c
    wanted = {link.key: serialize.child_rows(link) for link in links}
    changed = [key for key, rows in wanted.items() if rows != stored.get(key, _NOTHING).rows]
    for keys in chunks([key for key in changed if stored.get(key, _NOTHING).rows]):
        connection.execute(delete(schema.link_row).where(column.connection == name, column.link.in_(keys)))
    rows = [
        {"link": key, "row": row, "opportunity_id": owner}
        for key in changed
        for row, owner in wanted[key].items()
    ]
    insert_rows(connection, name, schema.link_row, rows)
