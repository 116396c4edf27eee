"""People, solutions and the customer around an opportunity: what is the same of their rows in every CRM; pure.

Sets are given whole. Rows that have no name in our language are left alone: people without an e-mail, solutions
without an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from cosell_sync.core.deal import ABSENT, Customer, Fields, Member
from cosell_sync.crm.values import email, folded, text

Change = TypeVar("Change")


class Person(NamedTuple):
    """The columns that hold a person in one kind of row."""

    email: str
    first_name: str
    last_name: str
    phone: str


@dataclass(frozen=True)
class Around(Generic[Change]):
    """``changes``: our field, what to do. ``people``: contacts that need a row, for which a contact must be found or
    made first.

    ``primary``: e-mail of whom the opportunity shall name as its primary contact; None leaves it, "" clears it.
    """

    changes: tuple[tuple[str, Change], ...] = ()
    people: tuple[Member, ...] = ()
    primary: str | None = None
    unheld: Mapping[str, frozenset[str]] = field(default_factory=dict)


def member(row: object, columns: Person, **extra: object) -> Member | None:
    if not isinstance(row, Mapping) or not (address := email(row.get(columns.email))):
        return None
    return Member(
        email=address,
        first_name=text(row.get(columns.first_name)),
        last_name=text(row.get(columns.last_name)),
        phone=text(row.get(columns.phone)),
        extra={name: item for name, item in extra.items() if item is not None},
    )


def unique(people: Iterable[Member | None]) -> tuple[Member, ...]:
    """Each e-mail once, the first of several."""
    found: dict[str, Member] = {}
    for each in people:
        if each is not None:
            found.setdefault(each.email, each)
    return tuple(found.values())


def members(wanted: Fields, name: str) -> tuple[Member, ...] | None:
    """The set, where it is to be written at all; None clears it."""
    item = wanted.get(name, ABSENT)
    if item is None:
        return ()
    return tuple(each for each in item if isinstance(each, Member)) if isinstance(item, tuple) else None


def person_columns(person: Member, columns: Person) -> dict[str, str]:
    """A new contact, who needs a last name."""
    made = {
        columns.email: person.email,
        columns.first_name: person.first_name,
        columns.last_name: person.last_name or person.first_name or person.email.partition("@")[0],
        columns.phone: person.phone,
    }
    return {name: item for name, item in made.items() if item}


def changed_columns(wanted: Member, held: Member, columns: Person) -> dict[str, str | None]:
    """Only what changed; a contact cannot lose its last name."""
    pairs = {
        columns.first_name: (wanted.first_name, held.first_name),
        columns.last_name: (wanted.last_name, held.last_name),
        columns.phone: (wanted.phone, held.phone),
    }
    return {
        name: new
        for name, (new, old) in pairs.items()
        if new != old and not (name == columns.last_name and not new)
    }


def solution_key(referral_id: str, solution_id: str) -> str:
    return f"{referral_id}:{solution_id}"


def changed_solution(columns: Mapping[str, object], held: Mapping[str, Any], code: str) -> dict[str, object]:
    """What a solution's row has to say that it does not; ``code``: the column by which it is known."""
    return {
        name: item
        for name, item in columns.items()
        if item is not None and held.get(name) != item and name != code
    }


def customer_key(found: Customer, match: Sequence[str]) -> tuple[str, ...]:
    """What makes two customers one: by default name, postal code and country, case and blanks aside."""
    return tuple(
        folded(getattr(found, name)).replace(" ", "")
        if name == "postal_code"
        else folded(getattr(found, name))
        for name in match
    )
