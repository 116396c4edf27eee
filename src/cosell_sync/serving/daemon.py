"""The loop of one connection: run a cycle, wait or be woken, back off after errors, stop when asked.

Two threads share the work. The second one holds the lease and runs the cycles; the first, where signals arrive, only
waits (``supervisor``). While another process holds the lease, this one stands by and tries again; where the lease went away
meanwhile (``Fenced``), it stands by as well.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final

from cosell_sync.errors import Busy, Fenced, ForeignSystem
from cosell_sync.log import get_logger
from cosell_sync.ports import Clock
from cosell_sync.serving.outages import Outages, Status
from cosell_sync.serving.supervisor import GRACE, Supervisor
from cosell_sync.summary import CycleSummary

GATHER: Final = 1.0  # seconds
STANDBY: Final = timedelta(seconds=5)

Lease = Callable[[timedelta], AbstractContextManager[None]]


class Daemon:
    """``run`` blocks until stopped; ``stop`` and ``wake`` may be called from any thread.

    ``pace``: how far apart cycles must at least be, for the calls to last. ``stopping``: called when
    somebody asks to stop, perhaps in a signal handler; it ends what a cycle waits for. ``reload``: called after
    SIGHUP, in the main thread.
    """

    def __init__(
        self,
        run_cycle: Callable[[], CycleSummary],
        *,
        interval: timedelta,
        lease: Lease,
        clock: Clock,
        wait: Callable[[float], bool] | None = None,
        pace: Callable[[], timedelta] = timedelta,
        stopping: Callable[[], None] = lambda: None,
        reload: Callable[[], None] = lambda: None,
        grace: timedelta = GRACE,
        leave: Callable[[int], Any] = os._exit,
    ) -> None:
        self._run_cycle = run_cycle
        self._interval = interval
        self._lease = lease
        self._outages = Outages(interval, clock)
        self._bell = threading.Event()
        self._wait = wait or self._bell.wait
        self._pace = pace
        self._stopping = stopping
        self._supervisor = Supervisor(self._ring, reload=reload, grace=grace, leave=leave)

    @property
    def status(self) -> Status:
        """How the loop is doing now."""
        return self._outages.status

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._supervisor.stopping

    def stop(self) -> None:
        """End soon; asked twice, end now."""
        self._supervisor.stop()

    def _ring(self) -> None:
        self._stopping()
        self._bell.set()

    def wake(self) -> None:
        """Run the next cycle at once; while cycles fail the pause is kept."""
        if not self._outages.failures:
            self._bell.set()

    def run(self) -> int:
        """Loop until stopped by signal or ``stop``; 0 is the exit code of the command. Call it in the main thread."""
        return self._supervisor.run(self._work, interval_s=self._interval.total_seconds())

    # --- the second thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self.stopping:
            self._hold_and_cycle()

    def _hold_and_cycle(self) -> None:
        try:
            with self._lease(timedelta(0)):
                self._outages.taken()
                while not self.stopping:
                    self._once()
        except Busy as busy:
            self._outages.stand_by(busy.holder)
            self._pause(min(self._interval, STANDBY))
        except Fenced:
            get_logger().warning("lease.lost")
            self._pause(min(self._interval, STANDBY))
        except ForeignSystem:
            raise  # no pause cures it: the process ends, with exit code 2
        except Exception as error:  # noqa: BLE001 - the store may be away when the lease is asked for
            self._pause(self._outages.failed(error))

    def _once(self) -> None:
        """One cycle and the pause after it."""
        self._bell.clear()  # before the cycle: who rings during it wants another one
        if self.stopping:
            return
        try:
            summary = self._run_cycle()
        except (Busy, Fenced, ForeignSystem):
            raise
        except Exception as error:  # noqa: BLE001 - a failing cycle must not end the daemon
            pause = self._outages.failed(error)
        else:
            pause = self._outages.ended(summary, self._pace())
        self._pause(pause)

    def _pause(self, span: timedelta) -> None:
        if not self.stopping and self._wait(span.total_seconds()) and not self.stopping:
            # Somebody rang: what comes with it within a moment goes into the same cycle.
            self._bell.clear()
            self._wait(min(GATHER, span.total_seconds()))
