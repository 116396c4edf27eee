"""Lists of people and solutions in Partner Center's JSON, read and written whole. Pure.

A member without an e-mail address and a solution without an id have no key. They travel in ``Snapshot.unkeyed``, so that
replacing the whole list does not drop them. Properties that we do not know travel in the ``extra`` of their member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from cosell_sync.core.deal import Member, Solution, Value
from cosell_sync.core.fields import NO_NAME
from cosell_sync.partner_center.values import (
    PERSON,
    Malformed,
    folded,
    optional_text,
    storable,
    unknown_properties,
)

_PERSON: Final = frozenset(PERSON.values())
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NO_WORD: Final = re.compile(r"[\W_]+")
_PUBLISHER: Final = (
    "publisherName",
    "publisherId",
    "organizationName",
    "organizationId",
)  # the first is seen in replies
_MICROSOFT: Final = frozenset({"microsoft", "microsoft corporation", "msft"})
UNKEYED: Final = "~unkeyed"  # name in ``extra`` under which earlier versions stored rows without a key


def read_list(
    raw: Any, read_item: Callable[[Mapping[str, Any]], Member | Solution | None]
) -> tuple[tuple[Member | Solution, ...], list[Any]]:
    """The members with a key, each key once; and all other rows: those without one, and those whose key is there already."""
    if not isinstance(raw, list):
        raise Malformed("is no list")
    keyed: dict[str, Member | Solution] = {}
    unkeyed: list[Any] = []
    for row in raw:
        if not isinstance(row, dict):
            raise Malformed("holds something that is no object")
        item = read_item(row)
        if item is None or item.key in keyed:
            unkeyed.append(storable(row))
        else:
            keyed[item.key] = item
    return tuple(keyed.values()), unkeyed


def nameless(rows: Iterable[Any]) -> str | None:
    """Who or what has no key at all, in words: names as far as they are given; None where there is nobody."""
    names = [_shown_name(row) for row in rows if isinstance(row, dict) and _key_of(row) is None]
    return ", ".join(dict.fromkeys(names)) or None


def _shown_name(row: Mapping[str, Any]) -> str:
    parts = (row.get(name) for name in ("firstName", "lastName", "name"))
    return " ".join(part.strip() for part in parts if isinstance(part, str) and part.strip()) or NO_NAME


def read_member(row: Mapping[str, Any]) -> Member | None:
    """A person, by e-mail in lower case; None without one."""
    email = optional_text(row, "email")
    if not email:
        return None
    person = {ours: optional_text(row, theirs) for ours, theirs in PERSON.items()}
    extra = unknown_properties(row, _PERSON)
    if row["email"] == email.strip().lower():
        extra.pop("email", None)
    return Member(email=email.strip().lower(), **person, extra=extra)


def read_solution(row: Mapping[str, Any], own: frozenset[str] = frozenset()) -> Solution | None:
    """A solution, by id; None without one. ``own``: our names and ids as a publisher, as `publisher_key` makes them."""
    id = optional_text(row, "id")  # noqa: A001 - the domain's word
    if not id:
        return None
    publishers = {key for name in _PUBLISHER if (key := publisher_key(row.get(name)))}
    extra = unknown_properties(row, ("id", "name"))
    return Solution(
        id=id,
        name=optional_text(row, "name"),
        type=_solution_type(publishers, own) or _unpublished_type(row, id, named=bool(publishers)),
        extra=extra,
    )


def publisher_key(name: object) -> str:
    """A publisher's name or id for comparison: without case and punctuation; empty where there is none."""
    return " ".join(_NO_WORD.sub(" ", name.casefold()).split()) if isinstance(name, str) else ""


def _solution_type(publishers: set[str], own: frozenset[str]) -> str | None:
    """The portal knows three kinds, by who published it: my company's, Microsoft's, other third-party.

    None where the row names no publisher, or names somebody and we are not known by name.
    https://learn.microsoft.com/partner-center/manage-co-sell-opportunities, "Add solutions"
    """
    if publishers & _MICROSOFT:
        return "Microsoft"
    if not publishers or not own:
        return None
    return "Own" if publishers & own else "Third party"


def _unpublished_type(row: Mapping[str, Any], id: str, *, named: bool) -> str | None:  # noqa: A002
    """What the form says where the publisher says nothing. ``named``: the row has a publisher, who is not Microsoft.

    ``SOL-…`` is a partner's, so most likely ours; a GUID is Microsoft's; ``1P`` for Microsoft's is a guess.
    """
    kind = folded(optional_text(row, "solutionType"))
    if not named and (kind == "1p" or _GUID.fullmatch(id)):
        return "Microsoft"
    if id.upper().startswith("SOL-"):
        return "Own"
    return "Third party" if named or kind == "3p" else None


# --- writing -------------------------------------------------------------------------------------------------


def write_list(
    value: Value, current: Value, unkeyed: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The whole list to be sent. Each member keeps the unknown properties that ``current``, the list as last read, holds.

    ``unkeyed``: the other rows of that list, which stay in it.

    Raises ValueError where ``value`` is not a list, which is a bug of the caller.
    """
    if value is None:
        value = ()
    if not isinstance(value, tuple):
        raise ValueError("a list is wanted")  # noqa: TRY004 - callers expect ValueError for every bug of theirs
    before = {item.key: item for item in current} if isinstance(current, tuple) else {}
    rows = [_row(item, before.get(item.key)) for item in value]
    kept = {item.key for item in value}
    others = [dict(row) for row in unkeyed] or [
        row for item in before.values() for row in _stored_unkeyed(item)
    ]
    # A second row of a person who is removed is removed too; otherwise the next read would bring that person back.
    return rows + [row for row in others if (key := _key_of(row)) is None or key in kept]


def _key_of(row: Mapping[str, Any]) -> str | None:
    email, id = row.get("email"), row.get("id")  # noqa: A001 - the domain's word
    if isinstance(email, str) and email.strip():
        return email.strip().lower()
    return id if isinstance(id, str) and id else None


def _stored_unkeyed(item: Member | Solution) -> list[dict[str, Any]]:
    rows = item.extra.get(UNKEYED)
    return [dict(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


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
