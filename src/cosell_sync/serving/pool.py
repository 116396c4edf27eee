"""The loop of several connections: a few threads, each of which serves whatever ``turn_order`` says is next."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from cosell_sync.ports import Clock
from cosell_sync.serving.supervisor import GRACE, Supervisor
from cosell_sync.serving.turn_order import TurnOrder

GATHER: Final = timedelta(seconds=1)  # what arrives with an event within a moment goes into the same cycle
LOOK_EVERY: Final = timedelta(seconds=1)  # a stop is noticed within it


class Pool:
    """``run`` blocks until stopped; ``stop`` and ``wake`` may be called from any thread.

    ``serve``: serves a connection once, at the behest of somebody or not, and says when it is due again. ``stopping`` and
    ``reload`` as of ``Supervisor``.
    """

    def __init__(
        self,
        names: Iterable[str],
        serve: Callable[[str, bool], datetime],
        *,
        parallel: int,
        clock: Clock,
        stopping: Callable[[], None] = lambda: None,
        reload: Callable[[], None] = lambda: None,
        grace: timedelta = GRACE,
        leave: Callable[[int], Any] = os._exit,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._serve = serve
        self._parallel = parallel
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock(), monotonic()
        self._order = TurnOrder(names, parallel, self._now())
        self._turn = threading.Condition()
        self._supervisor = Supervisor(stopping, reload=reload, grace=grace, leave=leave)

    @property
    def shared(self) -> bool:
        """It serves every connection that no other process was found to serve."""
        return False

    def run(self) -> int:
        """Serve until stopped by signal or ``stop``; 0 is the exit code of the command. Call it in the main thread."""
        return self._supervisor.run(self._work, self._parallel, parallel=self._parallel)

    def stop(self) -> None:
        """End soon; asked twice, end now."""
        self._supervisor.stop()

    def wake(self, name: str) -> None:
        """Serve this connection in a moment."""
        with self._turn:
            self._order.wake(name, self._now() + GATHER)
            self._turn.notify_all()

    def _now(self) -> datetime:
        """A time that only goes forward: a clock that is set back must not put off everybody's turn."""
        began, since = self._began
        return began + timedelta(seconds=self._monotonic() - since)

    def _work(self) -> None:
        while not self._supervisor.stopping:
            with self._turn:
                taken = self._order.take(self._now())
                if taken is None:
                    self._turn.wait(self._order.idle(self._now(), LOOK_EVERY).total_seconds())
                    continue
            pause = self._serve(*taken) - self._clock()
            with self._turn:
                self._order.done(taken[0], self._now() + pause, self._now())
                self._turn.notify_all()
