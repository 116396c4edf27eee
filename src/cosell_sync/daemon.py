"""The loop: run a cycle, wait or be woken, back off after errors, stop when asked.

Two threads share the work. The second one holds the lease and runs the cycles; the first, where signals arrive, only
waits. Asked to stop, the second ends at its next pause. Where it hangs in a call it is given a grace, and then the
process ends anyway: every commit of the store is atomic and open intents are settled by the next start, so nothing
is lost.

An outage is logged once when it begins and once when it ends. While another process holds the lease, this
one stands by and tries again; where the lease went away meanwhile (``Fenced``), it stands by as well.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, Final

from cosell_sync.errors import Broken, Busy, Fenced, ForeignSystem, OutsideError, Surprise, Unavailable
from cosell_sync.log import flush, get_logger
from cosell_sync.ports import Clock
from cosell_sync.summary import OUT_OF_REACH, CycleSummary

GRACE: Final = timedelta(seconds=8)
LONGEST: Final = timedelta(minutes=5)
GATHER: Final = 1.0  # seconds
STANDBY: Final = timedelta(seconds=5)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not on Windows
_TICK: Final = 0.1

Lease = Callable[[timedelta], AbstractContextManager[None]]


@dataclass(frozen=True)
class Status:
    """How the loop is doing, for health and console.

    ``last``: the newest cycle that said anything. ``carried_at``: end of the last one that reached both systems.
    ``outage``: what keeps cycles from ending well. ``holder``: the other process that holds the lease.
    """

    last: CycleSummary | None = None
    carried_at: datetime | None = None
    outage: str | None = None
    holder: str | None = None


def pause_after(failures: int, interval: timedelta) -> timedelta:
    """The interval, doubled with each failure in a row, up to eight intervals or ``LONGEST``, never less than one."""
    doubled = interval * (1 << min(max(failures - 1, 0), 3))
    return max(interval, min(doubled, LONGEST))


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
        self._clock = clock
        self._bell = threading.Event()
        self._wait = wait or self._bell.wait
        self._pace = pace
        self._stopping = stopping
        self._reload = reload
        self._reload_asked = False
        self._grace = grace
        self._leave = leave
        self._asked = 0
        self._failures = 0
        self._failing_since: datetime | None = None
        self._reported: set[str] = set()
        self._status = Status()
        self._crash: BaseException | None = None

    @property
    def status(self) -> Status:
        """How the loop is doing now."""
        return self._status

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._asked > 0

    def stop(self) -> None:
        """End soon; asked twice, end now."""
        self._asked += 1
        self._stopping()
        self._bell.set()

    def _ask_for_reload(self) -> None:
        self._reload_asked = True

    def wake(self) -> None:
        """Run the next cycle at once; while cycles fail the pause is kept."""
        if not self._failures:
            self._bell.set()

    # --- the first thread ---------------------------------------------------------------------------------------

    def run(self) -> int:
        """Loop until stopped by signal or ``stop``; 0 is the exit code of the command. Call it in the main thread."""
        worker = threading.Thread(target=self._work, name="cycles", daemon=True)
        with _handling(self.stop, self._ask_for_reload):
            get_logger().info("daemon.started", interval_s=self._interval.total_seconds())
            worker.start()
            # A signal handler must not touch a lock that this thread holds, so it waits for the thread, not the event.
            while worker.is_alive() and not self.stopping:
                worker.join(_TICK)
                if self._reload_asked:
                    self._reload_asked = False
                    self._reload()
            if worker.is_alive():
                get_logger().info("daemon.stopping")
            deadline = time.monotonic() + self._grace.total_seconds()
            while worker.is_alive() and self._asked < 2 and time.monotonic() < deadline:
                worker.join(_TICK)
            if worker.is_alive():
                get_logger().warning("daemon.abandoned", grace_s=self._grace.total_seconds())
                flush()
                self._leave(0)
                return 0
        if self._crash is not None:
            raise self._crash
        get_logger().info("daemon.stopped")
        return 0

    # --- the second thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self.stopping:
                self._hold_and_cycle()
        except BaseException as error:  # noqa: BLE001 - handed to the first thread, which raises it
            self._crash = error

    def _hold_and_cycle(self) -> None:
        try:
            with self._lease(timedelta(0)):
                self._taken()
                while not self.stopping:
                    self._once()
        except Busy as busy:
            self._stand_by(busy.holder)
            self._pause(min(self._interval, STANDBY))
        except Fenced:
            get_logger().warning("lease.lost")
            self._pause(min(self._interval, STANDBY))
        except ForeignSystem:
            raise  # no pause cures it: the process ends, with exit code 2
        except Exception as error:  # noqa: BLE001 - the store may be away when the lease is asked for
            self._failed(error)
            self._pause(pause_after(self._failures, self._interval))

    def _taken(self) -> None:
        if self._status.holder is not None:
            get_logger().info("lease.taken", previous=self._status.holder)
            self._status = replace(self._status, holder=None)

    def _stand_by(self, holder: str) -> None:
        if self._status.holder is None:
            get_logger().info("lease.standby", holder=holder)
        self._status = replace(self._status, holder=holder)

    def _once(self) -> None:
        """One cycle and the pause after it."""
        self._bell.clear()  # before the cycle: who rings during it wants another one
        if self.stopping:
            return
        pause = self._interval
        try:
            summary = self._run_cycle()
        except (Fenced, ForeignSystem):
            raise
        except Exception as error:  # noqa: BLE001 - a failing cycle must not end the daemon
            self._failed(error)
            pause = self._pause_for(error)
        else:
            self._ended(summary)
            pause = max(pause_after(self._failures, self._interval), self._pace())
        self._pause(pause)

    def _pause(self, span: timedelta) -> None:
        if not self.stopping and self._wait(span.total_seconds()) and not self.stopping:
            # Somebody rang: what comes with it within a moment goes into the same cycle.
            self._bell.clear()
            self._wait(min(GATHER, span.total_seconds()))

    def _pause_for(self, error: Exception) -> timedelta:
        """As long as the system asked for, within the bound."""
        pause = pause_after(self._failures, self._interval)
        if isinstance(error, Unavailable) and error.retry_at is not None:
            asked = error.retry_at - self._clock()
            return max(pause, min(asked, max(LONGEST, self._interval)))
        return pause

    # --- what is logged -----------------------------------------------------------------------------------------

    def _ended(self, summary: CycleSummary) -> None:
        self._status = replace(self._status, last=summary)
        if summary.exit_code == OUT_OF_REACH:
            self._begin("a system was out of reach or refused the sign-in")
        else:
            self._end()

    def _failed(self, error: Exception) -> None:
        system = error.system if isinstance(error, OutsideError) else type(error).__name__
        facts = error.facts if isinstance(error, Surprise) else {}
        expected = isinstance(error, OutsideError | Surprise | Broken)
        self._begin(system, error=error, loud=not expected, **facts)

    def _begin(
        self, what: str, *, error: Exception | None = None, loud: bool = False, **facts: object
    ) -> None:
        self._failures += 1
        self._failing_since = self._failing_since or self._clock()
        self._status = replace(self._status, outage=what)
        if what in self._reported:
            return
        self._reported.add(what)
        emit = get_logger().error if loud else get_logger().warning
        emit("outage.began", what=what, **({"facts": facts} if facts else {}), exc_info=error)

    def _end(self) -> None:
        now = self._clock()
        if self._failing_since is not None:
            lasted = (now - self._failing_since).total_seconds()
            get_logger().info(
                "outage.ended", what=sorted(self._reported), cycles=self._failures, lasted_s=round(lasted, 1)
            )
        self._failures = 0
        self._failing_since = None
        self._reported.clear()
        self._status = replace(self._status, carried_at=now, outage=None)


@contextmanager
def _handling(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask to stop, SIGHUP to read the configuration again; the handlers that stood before come back.

    Outside the main thread nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        (reload if number == _HANGUP else stop)()

    numbers = _SIGNALS if _HANGUP is None else (*_SIGNALS, _HANGUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
