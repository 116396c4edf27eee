"""The CRM's users: active people by e-mail or user name, read as needed and kept for one cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cosell_sync.crm.values import folded

# User id, and the names it goes by; of two users of one name the first counts.
User = tuple[str, Sequence[object]]


class Directory:
    """``ask`` returns the active users of these names, without the user that cosell-sync signs in as."""

    def __init__(self, ask: Callable[[Sequence[str]], Iterable[User]]) -> None:
        self._ask = ask
        self._known: dict[str, str | None] = {}

    def forget(self) -> None:
        """Read the users again when they are next needed; called once a cycle."""
        self._known.clear()

    def find(self, names: Iterable[str]) -> Mapping[str, str]:
        """User id of each e-mail or user name that an active user has."""
        wanted = list(dict.fromkeys(folded(name) for name in names if name.strip()))
        unknown = [name for name in wanted if name not in self._known]
        found: dict[str, str] = {}
        for user_id, known_as in self._ask(unknown) if unknown else ():
            for name in known_as:
                found.setdefault(folded(name), user_id)
        self._known |= {name: found.get(name) for name in unknown}
        return {name: user for name in wanted if (user := self._known[name]) is not None}
