"""What was found out of the other systems' capabilities, as rows: one for each capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, select

from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.store import schema
from cosell_sync.store.engine import reading

_KNOWN: Final = frozenset(Capability)


def rows(verdicts: Sequence[Verdict]) -> list[Mapping[str, Any]]:
    """Their rows, without ``connection``."""
    return [
        {
            "capability": each.capability.value,
            "answer": each.answer,
            "code": each.code,
            "at": each.at,
            "basis": each.basis,
        }
        for each in verdicts
    ]


def verdicts(engine: Engine, connection: str) -> Sequence[Verdict]:
    """All of them by name; what only another version knows is left out."""
    column = schema.verdict.c
    query = select(schema.verdict).where(column.connection == connection).order_by(column.capability)
    with reading(engine) as database:
        found = database.execute(query).mappings().all()
    return [
        Verdict(Capability(row["capability"]), row["answer"], row["code"], row["at"], row["basis"])
        for row in found
        if row["capability"] in _KNOWN
    ]


def forget(database: Connection, connection: str, capabilities: Sequence[Capability]) -> None:
    """Delete what is remembered of these."""
    if capabilities:
        column = schema.verdict.c
        names = [each.value for each in capabilities]
        database.execute(
            delete(schema.verdict).where(column.connection == connection, column.capability.in_(names))
        )
