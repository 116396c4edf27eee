"""The CRM's users: active people by e-mail or user name, read as needed and kept for one cycle.

A user name is single in a CRM; an e-mail is not. One that several active users share identifies none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cosell_sync.crm.values import folded


class User(NamedTuple):
    """An active user: id, user name and e-mail, as the CRM spells them."""

    id: str
    name: object
    email: object


@dataclass(frozen=True)
class Found:
    """``users``: e-mail or user name → id of the one user that it names. ``ambiguous``: e-mails of several users."""

    users: dict[str, str] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()


class Directory:
    """``ask`` returns the active users of these names, without the user that cosell-sync signs in as."""

    def __init__(self, ask: Callable[[Sequence[str]], Iterable[User]]) -> None:
        self._ask = ask
        self._by_email: dict[str, frozenset[str]] = {}
        self._by_name: dict[str, str] = {}

    def forget(self) -> None:
        """Read the users again when they are next needed; called once a cycle."""
        self._by_email.clear()
        self._by_name.clear()

    def find(self, emails: Iterable[str]) -> Found:
        """Whom each of these e-mails names; a user name counts where no user has it as e-mail."""
        wanted = self._read(emails)
        users: dict[str, str] = {}
        for address in wanted:
            people = self._by_email[address]
            if len(people) == 1:
                users[address] = next(iter(people))
            elif not people and address in self._by_name:
                users[address] = self._by_name[address]
        return Found(users, frozenset(each for each in wanted if len(self._by_email[each]) > 1))

    def named(self, name: str | None) -> str | None:
        """The user of this user name, else of this e-mail where it names one only."""
        for wanted in self._read([name or ""]):
            return self._by_name.get(wanted) or self.find([wanted]).users.get(wanted)
        return None

    def _read(self, names: Iterable[str]) -> list[str]:
        """The names folded, each once; those not known yet are asked for in one go."""
        wanted = list(dict.fromkeys(folded(name) for name in names if name.strip()))
        unknown = [name for name in wanted if name not in self._by_email]
        found: dict[str, set[str]] = {name: set() for name in unknown}
        for user in self._ask(unknown) if unknown else ():
            found.setdefault(folded(user.email), set()).add(user.id)
            if user.name:
                self._by_name.setdefault(folded(user.name), user.id)
        self._by_email |= {name: frozenset(found[name]) for name in unknown}
        return wanted
