"""How an existing column differs from the one we would make: only what matters to a cycle, in an admin's words. Pure.

Labels of columns, descriptions and views are for the customer to decide. Choices are compared by label; their numbers do not
matter, nor whether their list is shared with other columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cosell_sync.crm.columns import Column, ColumnKind
from cosell_sync.crm.dynamics import org
from cosell_sync.crm.dynamics.install.schema import PARENT, TYPES
from cosell_sync.crm.values import folded


def column(wanted: Column, found: org.Column, behavior: str) -> Iterator[str]:
    """Each difference as a text. ``behavior``: of a date and time, by its metadata."""
    if wanted.renewed and {found.type, TYPES[wanted.kind]} == {"String", "Picklist"}:
        return  # either holds what Microsoft says, or tells that it cannot
    if found.type != TYPES[wanted.kind]:
        yield f"type is {found.type}, not {TYPES[wanted.kind]}"
        return
    if found.length is not None and found.length < wanted.length:
        yield f"holds {found.length} characters, not {wanted.length}"
    if not found.updatable:
        yield "cannot be written"
    if wanted.kind is ColumnKind.MOMENT and behavior != "UserLocal":
        days = behavior == "DateOnly"
        why = "holds days, not moments" if days else "shows everybody UTC instead of the own time"
        yield f"{why} (behavior {behavior})"
    if wanted.kind is ColumnKind.CHOICE:
        yield from _choices(wanted, found)


def _choices(wanted: Column, found: org.Column) -> Iterator[str]:
    if lacking := [value for value in wanted.values if found.labelled(value) is None]:
        yield f"lacks the choices {', '.join(lacking)}"
    known = {folded(value) for value in wanted.values}
    if not wanted.renewed and (
        extra := [each.label for each in found.choices if known.isdisjoint(each.labels)]
    ):
        yield f"has choices that mean nothing here: {', '.join(extra)}"


def relationship(found: Mapping[str, Any]) -> Iterator[str]:
    """Each difference as a text: another column, or solutions that outlive their opportunity."""
    if found.get("ReferencingAttribute") != PARENT:
        yield f"its column is {found.get('ReferencingAttribute')}, not {PARENT}"
    deleting = (found.get("CascadeConfiguration") or {}).get("Delete")
    if deleting != "Cascade":
        yield f"solutions are not deleted with their opportunity (Delete: {deleting})"
