"""Lists of people and solutions in Partner Center's JSON, read and written whole. Pure.

A member without an e-mail address and a solution without an id have no key. They travel in the ``extra`` of their first keyed
neighbour, so that replacing the whole list does not drop them. Properties that we do not know travel in ``extra`` as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from cosell_sync.core.deal import Member, Solution, Value
from cosell_sync.partner_center.values import (
    PERSON,
    Malformed,
    folded,
    optional_text,
    storable,
    unknown_properties,
)

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
UNKEYED: Final = "~unkeyed"  # name in ``extra`` under which rows without a key travel


def read_list(
    raw: Any, read_item: Callable[[Mapping[str, Any]], Member | Solution | None]
) -> tuple[tuple[Member | Solution, ...], list[Any]]:
    """The members with a key, each key once; and the rows without one, which also travel with the first member."""
    if not isinstance(raw, list):
        raise Malformed("is no list")
    keyed: dict[str, Member | Solution] = {}
    unkeyed: list[Any] = []
    for row in raw:
        if not isinstance(row, Mapping):
            raise Malformed("holds something that is no object")
        item = read_item(row)
        if item is None or item.key in keyed:
            unkeyed.append(storable(row))
        else:
            keyed[item.key] = item
    items = list(keyed.values())
    if items and unkeyed:
        first = items[0]
        items[0] = _with_extra(first, {**first.extra, UNKEYED: unkeyed})
    return tuple(items), unkeyed


def _with_extra(item: Member | Solution, extra: Mapping[str, object]) -> Member | Solution:
    if isinstance(item, Member):
        return Member(item.email, item.first_name, item.last_name, item.phone, extra)
    return Solution(item.id, item.name, item.type, extra)


def read_member(row: Mapping[str, Any]) -> Member | None:
    """A person, by e-mail in lower case; None without one."""
    email = optional_text(row, "email")
    if not email:
        return None
    person = {ours: optional_text(row, theirs) for ours, theirs in PERSON.items()}
    extra = unknown_properties(row, PERSON.values())
    if row["email"] == email.strip().lower():
        extra.pop("email", None)
    return Member(email=email.strip().lower(), **person, extra=extra)


def read_solution(row: Mapping[str, Any]) -> Solution | None:
    """A solution, by id; None without one."""
    id = optional_text(row, "id")  # noqa: A001 - the domain's word
    if not id:
        return None
    kind = folded(optional_text(row, "solutionType"))
    extra = unknown_properties(row, ("id", "name"))
    return Solution(id=id, name=optional_text(row, "name"), type=_solution_type(id, kind), extra=extra)


def _solution_type(id: str, kind: str) -> str | None:  # noqa: A002
    """``SOL-…`` is a partner's own, a GUID Microsoft's; ``1P`` for Microsoft's is a guess."""
    if kind == "1p" or _GUID.fullmatch(id):
        return "Microsoft"
    if id.upper().startswith("SOL-"):
        return "Own"
    return "Third party" if kind == "3p" else None


# --- writing -------------------------------------------------------------------------------------------------


def write_list(value: Value, current: Value) -> list[dict[str, Any]]:
    """The whole list to be sent. Each member keeps the unknown properties that ``current``, the list as last read, holds.

    Raises ValueError where ``value`` is not a list, which is a bug of the caller.
    """
    if value is None:
        value = ()
    if not isinstance(value, tuple):
        raise ValueError("a list is wanted")  # noqa: TRY004 - callers expect ValueError for every bug of theirs
    before = {item.key: item for item in current} if isinstance(current, tuple) else {}
    rows = [_row(item, before.get(item.key)) for item in value]
    kept = {item.key for item in value}
    unkeyed = [row for item in before.values() for row in _unkeyed(item)]
    # A second row of a person who is removed is removed too; otherwise the next read would bring that person back.
    return rows + [row for row in unkeyed if (key := _key_of(row)) is None or key in kept]


def _key_of(row: Mapping[str, Any]) -> str | None:
    email, id = row.get("email"), row.get("id")  # noqa: A001 - the domain's word
    if isinstance(email, str) and email.strip():
        return email.strip().lower()
    return id if isinstance(id, str) and id else None


def _unkeyed(item: Member | Solution) -> list[dict[str, Any]]:
    rows = item.extra.get(UNKEYED)
    return [dict(row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _row(item: Member | Solution, before: Member | Solution | None) -> dict[str, Any]:
    # Only properties that came from Partner Center: a member read from the CRM has row ids in its ``extra``.
    extra = {name: data for name, data in (before.extra if before else {}).items() if name != UNKEYED}
    if isinstance(item, Member):
        email = extra.pop("email", None)
        names = {theirs: getattr(item, ours) for ours, theirs in PERSON.items()}
        known = {name: text for name, text in names.items() if text is not None}
        return {**known, "email": email or item.email, **extra}
    name = {"name": item.name} if item.name is not None else {}
    return {"id": item.id, **name, "type": "Name", **extra}
