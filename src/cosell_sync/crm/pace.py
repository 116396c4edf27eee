"""How many rows go into one call: as many as are surely written within its time, by how long the last ones took.

The platforms take far more rows in a call than a customer's plug-ins, flows and triggers let them finish before the call is
given up. What a row costs there is known only by trying, so the first calls are small, and each may be at most four times as
large as the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SECONDS: Final = 8.0  # a call is to take at most so long; `sync.call_timeout` is 30 s
GROWTH: Final = 4


class Pace:
    """``first``: rows in the first call, and the least at all. ``most``: what the platform takes."""

    def __init__(self, first: int, most: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._most = most
        self._monotonic = monotonic
        self._per_row = 0.0
        self.rows = first

    @contextmanager
    def call(self, rows: int) -> Iterator[None]:
        """One call that writes so many rows. What it took decides the size of the next one."""
        began = self._monotonic()
        try:
            yield
        except BaseException:
            self.rows = self._first  # it may have been too large
            raise
        self._per_row = max((self._monotonic() - began) / max(rows, 1), self._per_row / 2)
        fitting = int(SECONDS / self._per_row) if self._per_row else self._most
        grown = max(self.rows, rows * GROWTH)
        self.rows = max(self._first, min(fitting, grown, self._most))
