"""All that a database keeps for one connection: counted, and removed some rows at a time.

The tables are those of the schema that have a column ``connection``. ``store.key`` is not needed, for a sign-in is removed unread;
and it stays, for those of the other connections are encrypted with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sqlalchemy import Engine, Table, delete, func, select, tuple_

from cosell_sync.store import schema
from cosell_sync.store.connections import turns
from cosell_sync.store.engine import reading
from cosell_sync.store.erasure import wipe
from cosell_sync.store.journal import PURGED_AT_ONCE
from cosell_sync.store.lease import remove_lock
from cosell_sync.store.sql import SqlStore

# What people call the rows of each table. Those of ``lease`` hold nothing of a customer, and go with the name.
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "link": "deals",
        "journal": "history entries",
        "intent": "open writes",
        "orders": "orders",
        "link_row": "child rows",
        "final_step": "final steps",
        "notice": "notices",
        "hint": "hints",
        "cycle": "cycles",
        "cycle_state": "cycle states",
        "watermark": "watermarks",
        "verdict": "verdicts",
        "budget": "daily call counts",
        "binding": "bindings",
        "token": "sign-ins",
    }
)


def tables() -> Sequence[Table]:
    """Those that hold something of a connection, what refers to others first; without the lease."""
    return [
        table
        for table in reversed(schema.metadata.sorted_tables)
        if "connection" in table.columns and table is not schema.lease
    ]


def kept(engine: Engine, name: str) -> Mapping[str, int]:
    """How many rows the database keeps for this connection, by the words of ``KINDS``; what there is none of is left out."""
    found = {}
    with reading(engine) as connection:
        for table in tables():
            rows = select(func.count()).select_from(table).where(table.c.connection == name)
            found[KINDS[table.name]] = connection.execute(rows).scalar_one()
    return _in_order(found)


def left_over(engine: Engine, configured: Collection[str]) -> Sequence[str]:
    """The connections of this database that are not among those configured, by name. ``default``, which every database begins
    with, is one of them where something is kept for it.
    """
    names = sorted(turns(engine).keys() - set(configured))
    return [name for name in names if name != schema.DEFAULT or kept(engine, name)]


def remove(store: SqlStore, *, with_name: bool) -> Mapping[str, int]:
    """Remove what ``kept`` counts; how many rows that were. Needs the lease of the store, whose connection it is.

    ``with_name``: the database forgets that there was such a connection, and the store must not be used after. Some rows at a time,
    each time in a transaction of its own, as ``purge_journal``; a call that was cut short is simply made again.
    """
    name, gone = store.connection, Counter[str]()
    for table in tables():
        key = list(table.primary_key.columns)
        some = select(*key).where(table.c.connection == name).limit(PURGED_AT_ONCE)
        rows = PURGED_AT_ONCE
        while rows == PURGED_AT_ONCE:
            with store.erasing() as connection:
                rows = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
            gone[KINDS[table.name]] += rows
    if with_name:
        named = schema.connection.c.name == name
        with store.erasing() as connection:
            # Who has not heard yet, as a process that receives events, adds nothing from here on, and what it has added goes too.
            connection.execute(select(schema.connection).where(named).with_for_update())
            for table in [*tables(), schema.lease]:
                connection.execute(delete(table).where(table.c.connection == name))
            connection.execute(delete(schema.connection).where(named))
        remove_lock(store.engine, name)
    wipe(store.engine)
    return _in_order(gone)


def _in_order(found: Mapping[str, int]) -> Mapping[str, int]:
    return {kind: found[kind] for kind in KINDS.values() if found[kind]}
