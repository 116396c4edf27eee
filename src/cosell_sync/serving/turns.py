"""What the stores say of the connections: which are paused, and when each is due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.ports import Clock
from cosell_sync.store import connections as stored
from cosell_sync.store.connections import Turn
from cosell_sync.store.open import Databases

# A database that was away is left alone for so long: to find that takes ten seconds, and all wait for it.
ASK_AGAIN: Final = timedelta(seconds=30)


class Turns:
    """Over the databases of one process. May be asked from any thread."""

    def __init__(self, databases: Databases, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock
        self._away: dict[str, datetime] = {}  # until when it is not asked

    def away(self, url: str) -> bool:
        """Whether the database of this URL did not answer when it was last asked."""
        return url in self._away

    def of(self, urls: Mapping[str, str]) -> Mapping[str, Turn]:
        """By name, given each connection's database; of one that is away nothing is known."""
        found: dict[str, Turn] = dict.fromkeys(urls, Turn())
        for url in dict.fromkeys(urls.values()):
            known = self._asked(url)
            found.update({name: known[name] for name, its in urls.items() if its == url and name in known})
        return found

    def _asked(self, url: str) -> Mapping[str, Turn]:
        now = self._clock()
        until = self._away.get(url)
        if until is not None and now < until <= now + ASK_AGAIN:
            return {}
        try:
            known = stored.turns(self._databases.engine(url))
        except (Unavailable, ConfigError):
            self._away[url] = self._clock() + ASK_AGAIN
            return {}
        self._away.pop(url, None)
        return known
