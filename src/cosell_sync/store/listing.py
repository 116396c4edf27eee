"""Deals page by page, asked of an index: by how they stand, by deadline, by a text; only the deals of one page are read.

A text is looked for in one short column that holds both ids and the names of deal and customer. It stands at the end of the
index that every other filter follows, so that no row is touched that is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Final

from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select, union

from cosell_sync.core.deal import SyncState
from cosell_sync.core.memory import Link, Phase
from cosell_sync.store import schema, serialize
from cosell_sync.store.engine import reading
from cosell_sync.store.search import plain, printable
from cosell_sync.store.statements import unindexed

_AT_WORK: Final = (Phase.LINKED, Phase.WAITING)


class Which(StrEnum):
    """What may be asked for. All but the last two are deals that are linked or wait for their other half."""

    ALL = "all"
    PERSON = "needs-a-person"  # needs attention, or in conflict
    UNANSWERED = "unanswered"  # to be accepted or declined; by deadline, the nearest first
    WITHHELD = "withheld"
    PARKED = "parked"
    IN_SYNC = "in-sync"
    WAITING = "waiting"
    ATTENTION = "needs-attention"
    CONFLICT = "conflict"
    CLOSED = "closed"
    SKIPPED = "skipped"
    UNLINKED = "unlinked"


_STATES: Final = {
    Which.PERSON: (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT),
    Which.IN_SYNC: (SyncState.IN_SYNC,),
    Which.WAITING: (SyncState.WAITING,),
    Which.ATTENTION: (SyncState.NEEDS_ATTENTION,),
    Which.CONFLICT: (SyncState.CONFLICT,),
    Which.CLOSED: (SyncState.CLOSED,),
}
_RARE: Final = (Which.WITHHELD, Which.PARKED)
_PHASES: Final = {Which.SKIPPED: (Phase.SKIPPED,), Which.UNLINKED: (Phase.PARTED,)}


@dataclass(frozen=True)
class Query:
    """``text``: part of an id or name, empty: any. ``by_name`` False: a text is a whole id. ``after``: ``Deals.next`` before."""

    which: Which = Which.ALL
    text: str = ""
    after: str = ""
    by_name: bool = True
    limit: int = 50


@dataclass(frozen=True)
class Deals:
    """A page. ``next``: what the query for the next one begins ``after``; empty on the last."""

    links: Sequence[Link] = ()
    next: str = ""


def page(engine: Engine, name: str, query: Query) -> Deals:
    """Deals of the connection of that name; by deadline where they are unanswered, else by key."""
    column = schema.link.c
    with reading(engine) as connection:
        if query.which is Which.UNANSWERED:
            keys, more = _by_deadline(connection, name, query)
        else:
            keys, more = _by_key(connection, name, query)
        rows = connection.execute(
            select(schema.link).where(column.connection == name, column.key.in_([key for key, _ in keys]))
        ).mappings()
        found = {row["key"]: serialize.to_link(row) for row in rows}
    links = [found[key] for key, _ in keys]
    return Deals(links, keys[-1][1] if more and keys else "")


Found = tuple[list[tuple[str, str]], bool]  # key and place of each deal of the page; whether there are more


def _by_key(connection: Connection, name: str, query: Query) -> Found:
    """One short query along the index for each phase and state; what is rare, and an id, have an index of their own."""
    column, whole = schema.link.c, bool(query.text) and not query.by_name
    base = (
        select(column.key)
        .where(column.connection == name, *_narrowed(name, query))
        .where((unindexed(column.key) if whole else column.key) > printable(query.after))
        .order_by(column.key)
        .limit(query.limit + 1)
    )
    phases, states = _PHASES.get(query.which, _AT_WORK), _STATES.get(query.which, tuple(SyncState))
    if query.which in _RARE or whole:
        ways = [(unindexed(column.phase).in_(phases), unindexed(column.sync_state).in_(states))]
    else:
        ways = [
            (column.phase.in_([phase]), column.sync_state.in_([state]))
            for phase, state in product(phases, states)
        ]
    keys = sorted(key for way in ways for key in connection.execute(base.where(*way)).scalars())
    return [(key, key) for key in keys[: query.limit]], len(keys) > query.limit


def _by_deadline(connection: Connection, name: str, query: Query) -> Found:
    column = schema.link.c
    moment, _, key = printable(query.after).partition(" ")
    later: Iterable[ColumnElement[bool]] = ()
    if (last := _moment(moment)) is not None:
        later = [or_(column.respond_by > last, and_(column.respond_by == last, column.key > key))]
    rows = connection.execute(
        select(column.key, column.respond_by)
        .where(column.connection == name, column.respond_by.is_not(None), *_narrowed(name, query), *later)
        .order_by(column.respond_by, column.key)
        .limit(query.limit + 1)
    ).all()
    found = [(row.key, f"{row.respond_by.isoformat()} {row.key}") for row in rows[: query.limit]]
    return found, len(rows) > query.limit


def _narrowed(name: str, query: Query) -> Iterator[ColumnElement[bool]]:
    column = schema.link.c
    if query.which is Which.WITHHELD:
        yield column.withheld
    if query.which is Which.PARKED:
        yield column.parked
    if query.text and query.by_name:
        yield column.search.contains(plain(query.text), autoescape=True)
    elif query.text:
        # Each id along its own index; asked for either of two columns, a database goes through every link.
        named = [
            select(column.key).where(column.connection == name, each == printable(query.text))
            for each in (column.referral_id, column.opportunity_id)
        ]
        yield column.key.in_(union(*named))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
