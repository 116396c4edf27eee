"""People, solutions and the customer of an opportunity: what is the same of their rows in every CRM; pure.

Sets are given whole. Rows that we cannot identify are left alone: people without an e-mail, solutions without an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from cosell_sync.core.deal import ABSENT, HIDDEN, Customer, Fields, Member, hidden_parts
from cosell_sync.core.fields import NO_NAME, UNKEYED
from cosell_sync.crm.values import email, folded, masked, text

Change = TypeVar("Change")


class Person(NamedTuple):
    """The columns that hold a person in one kind of row."""

    email: str
    first_name: str
    last_name: str
    phone: str


@dataclass(frozen=True)
class RelatedChanges(Generic[Change]):
    """What has to be written so that an opportunity's sets are as wanted.

    ``changes``: our field and the change of one row. ``new_contacts``: people who are to be connected and for whom a contact
    must be found or made first. ``primary_contact``: e-mail of the primary contact to set; None leaves it, "" clears it.
    ``unheld``: per field the keys of members that this CRM cannot hold.
    """

    changes: tuple[tuple[str, Change], ...] = ()
    new_contacts: tuple[Member, ...] = ()
    primary_contact: str | None = None
    unheld: Mapping[str, frozenset[str]] = field(default_factory=dict)


def member(row: object, columns: Person, *, hidden: Iterable[str] = (), **extra: object) -> Member | None:
    """The person of a row; None without an e-mail address. ``hidden``: the parts that cannot be read; neither can masked ones."""
    if not isinstance(row, dict) or not (address := email(row.get(columns.email))):
        return None
    parts = {part: row.get(getattr(columns, part)) for part in ("first_name", "last_name", "phone")}
    unseen = sorted({*hidden, *(part for part, data in parts.items() if masked(data))})
    known = {part: None if part in unseen else text(data) for part, data in parts.items()}
    extra |= {HIDDEN: unseen} if unseen else {}
    return Member(address, **known, extra={name: item for name, item in extra.items() if item is not None})


def nameless(rows: Iterable[object], key: str, names: Sequence[str]) -> str | None:
    """Who or what lacks the column by which a set knows its members, by the names that are given; None where there is nobody.

    Rows that cannot be read are none of these, and what is masked is not missing.
    """
    found = (each for each in rows if isinstance(each, dict) and key in each and not email(each[key]))
    shown = (" ".join(part for name in names if (part := text(each.get(name)))) or NO_NAME for each in found)
    return ", ".join(dict.fromkeys(shown)) or None


def unkeyed(sets: Mapping[str, str | None], unseen: Iterable[str]) -> dict[str, str]:
    """A snapshot's fields for rows without a key (``fields.UNKEYED``): none where there are none, or the set is out of sight."""
    out = set(unseen)
    return {UNKEYED[name]: shown for name, shown in sets.items() if shown and name not in out}


def unique(people: Iterable[Member | None]) -> tuple[Member, ...]:
    """The people in their order, of several with one e-mail the first."""
    found: dict[str, Member] = {}
    for each in people:
        if each is not None:
            found.setdefault(each.email, each)
    return tuple(found.values())


def members(wanted: Fields, name: str) -> tuple[Member, ...] | None:
    """The members to write: empty where the set is to be cleared, None where it is not to be written."""
    item = wanted.get(name, ABSENT)
    if item is None:
        return ()
    return tuple(each for each in item if isinstance(each, Member)) if isinstance(item, tuple) else None


def person_columns(person: Member, columns: Person) -> dict[str, str]:
    """The columns of a new contact. A contact needs a last name, so the first name or the e-mail replaces a missing one."""
    made = {
        columns.email: person.email,
        columns.first_name: text(person.first_name),
        columns.last_name: text(person.last_name)
        or text(person.first_name)
        or person.email.partition("@")[0],
        columns.phone: text(person.phone),
    }
    return {name: item for name, item in made.items() if item}


def changed_columns(wanted: Member, current: Member, columns: Person) -> dict[str, str | None]:
    """The columns that differ, without hidden ones, and without a last name to be cleared, because a contact needs one."""
    unseen = {getattr(columns, part) for part in hidden_parts(current)}
    pairs = {
        columns.first_name: (wanted.first_name, current.first_name),
        columns.last_name: (wanted.last_name, current.last_name),
        columns.phone: (wanted.phone, current.phone),
    }
    return {
        name: new
        for name, (new, old) in pairs.items()
        if new != old and not (name == columns.last_name and not new) and name not in unseen
    }


def solution_key(referral_id: str, solution_id: str) -> str:
    """The external key of a solution row."""
    return f"{referral_id}:{solution_id}"


def changed_solution(columns: Mapping[str, object], row: Mapping[str, Any], code: str) -> dict[str, object]:
    """The columns in which a solution's row differs; ``code``: the column that identifies it."""
    return {
        name: item
        for name, item in columns.items()
        if item is not None and row.get(name) != item and name != code
    }


def rows_by_code(rows: Iterable[Mapping[str, Any]], code: str) -> dict[str, list[Mapping[str, Any]]]:
    """Solution rows by the id in that column; rows without one are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in rows:
        if known := text(each.get(code)):
            found.setdefault(known, []).append(each)
    return found


def customer_key(found: Customer, match: Sequence[str]) -> tuple[str, ...]:
    """What makes two customers one: by default name, postal code and country, case and blanks aside."""
    return tuple(
        folded(getattr(found, name)).replace(" ", "")
        if name == "postal_code"
        else folded(getattr(found, name))
        for name in match
    )
