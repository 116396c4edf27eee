"""Which connection is served next: pure, on a clock that is handed in.

The one that has been due for longest comes first, so none waits behind another that has just been served. Some connections
take long, because they import thousands of deals or because a system of theirs hardly answers. While others are due, the slow
ones together leave a place free for them: ten slow connections cost the quick ones a place or two, not their turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SLOW: Final = timedelta(seconds=20)  # a cycle that takes longer; an idle one takes about one


@dataclass
class _Entry:
    """``since``: when it was taken up, while it is being served. ``woken``: somebody wants it served at once; again, where it
    is being served.
    """

    due: datetime
    since: datetime | None = None
    lasted: timedelta = timedelta()
    woken: bool = False

    def slow(self, now: datetime) -> bool:
        spent = timedelta() if self.since is None else now - self.since
        return max(self.lasted, spent) > SLOW


class TurnOrder:
    """The connections of one process. Not for several threads at a time: the caller holds a lock."""

    def __init__(self, names: Iterable[str], places: int, now: datetime) -> None:
        self._places = places
        # The first time a process looks, whatever another one said: it may have been started to see what was corrected.
        self._entries = {name: _Entry(now, woken=True) for name in names}

    def take(self, now: datetime) -> tuple[str, bool] | None:
        """The connection to serve now, and whether somebody woke it; None: none is due, or its place is kept for others."""
        due = sorted(
            (entry.due, name) for name, entry in self._entries.items() if not entry.since and entry.due <= now
        )
        full = self._slow_ones(now) >= self._for_slow_ones
        for _, name in due:
            entry = self._entries[name]
            if full and entry.slow(now):
                continue
            woken, entry.woken, entry.since = entry.woken, False, now
            return name, woken
        return None

    def done(self, name: str, due: datetime, now: datetime) -> None:
        """It was served, and is to be served again when it is ``due``; at once, where somebody woke it meanwhile."""
        entry = self._entries[name]
        entry.lasted = now - (entry.since or now)
        entry.since = None
        entry.due = now if entry.woken else due

    def wake(self, name: str, now: datetime) -> None:
        """Serve it as soon as there is a place."""
        entry = self._entries[name]
        entry.woken = True
        entry.due = min(entry.due, now)

    def idle(self, now: datetime, longest: timedelta) -> timedelta:
        """How long nothing will be due, at most ``longest``."""
        waiting = [entry.due - now for entry in self._entries.values() if not entry.since]
        return max(timedelta(), min([*(each for each in waiting if each > timedelta()), longest]))

    @property
    def _for_slow_ones(self) -> int:
        """Places that slow connections may take together: one in four, and one at least, is kept for the others."""
        return max(1, self._places - max(1, self._places // 4))

    def _slow_ones(self, now: datetime) -> int:
        return sum(1 for entry in self._entries.values() if entry.since and entry.slow(now))
