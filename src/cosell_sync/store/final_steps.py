"""Steps that cannot be undone, as rows: one for each link and kind, with the moment it was last announced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from cosell_sync.core.memory import FinalKind, FinalStepTaken
from cosell_sync.store import schema
from cosell_sync.store.engine import reading


def rows(steps: Sequence[FinalStepTaken]) -> list[Mapping[str, Any]]:
    """Their rows, without ``connection``."""
    return [{"link": step.link, "kind": step.kind.value, "at": step.at} for step in steps]


def since(engine: Engine, connection: str, moment: datetime) -> Mapping[FinalKind, frozenset[str]]:
    """By kind, the links of which one was announced after that moment."""
    column = schema.final_step.c
    query = select(column.kind, column.link).where(column.connection == connection, column.at > moment)
    found: dict[FinalKind, set[str]] = {}
    with reading(engine) as database:
        for kind, link in database.execute(query):
            found.setdefault(FinalKind(kind), set()).add(link)
    return {kind: frozenset(links) for kind, links in found.items()}
