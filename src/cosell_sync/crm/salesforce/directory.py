"""Who is a CRM user: active people by e-mail or user name, asked for as needed and kept for one cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cosell_sync.crm.salesforce import composite, queries
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.values import folded, pieces


class Directory:
    """The integration user is nobody's colleague and never found here."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._known: dict[str, str | None] = {}

    def forget(self) -> None:
        self._known.clear()

    def find(self, names: Iterable[str], but: str) -> Mapping[str, str]:
        """User id of each e-mail or user name that an active user has. ``but``: our own user id."""
        wanted = list(dict.fromkeys(folded(name) for name in names if name.strip()))
        unknown = [name for name in wanted if name not in self._known]
        parts = [composite.query(queries.users(some)) for some in pieces(unknown, queries.AT_ONCE)]
        found: dict[str, str] = {}
        for people in composite.everything(self._rest, parts):
            for person in people:
                if person["Id"] != but:
                    found.setdefault(folded(person.get("Username")), str(person["Id"]))
                    found.setdefault(folded(person.get("Email")), str(person["Id"]))
        self._known |= {name: found.get(name) for name in unknown}
        return {name: user for name in wanted if (user := self._known[name]) is not None}
