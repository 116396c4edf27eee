"""The main thread of ``run``: it starts the threads that work, waits for signals, and ends the process in time.

Asked to stop, the threads end at their next pause. Where one hangs in a call it is given a grace, and then the process ends
anyway: every commit of the store is atomic and open intents are settled by the next start, so nothing is lost.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Final

from cosell_sync.log import flush, get_logger

GRACE: Final = timedelta(seconds=8)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_HANGUP: Final = getattr(signal, "SIGHUP", None)  # not on Windows
_TICK: Final = 0.1


class Supervisor:
    """``run`` blocks until stopped; ``stop`` may be called from any thread.

    ``stopping``: called when somebody asks to stop, perhaps in a signal handler; it ends what the threads wait for.
    ``reload``: called after SIGHUP, in the main thread. ``leave``: ends the process while a thread hangs.
    """

    def __init__(
        self,
        stopping: Callable[[], None],
        *,
        reload: Callable[[], None] = lambda: None,
        grace: timedelta = GRACE,
        leave: Callable[[int], Any] = os._exit,
    ) -> None:
        self._on_stop = stopping
        self._reload = reload
        self._reload_asked = False
        self._grace = grace
        self._leave = leave
        self._asked = 0
        self._crash: BaseException | None = None

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._asked > 0

    def stop(self) -> None:
        """End soon; asked twice, end now."""
        self._asked += 1
        self._on_stop()

    def run(self, work: Callable[[], None], threads: int = 1, **facts: object) -> int:
        """Let so many threads ``work`` until stopped by signal or ``stop``; 0 is the exit code of the command. Raises what one
        of them raised. ``facts`` are logged at the start. Call it in the main thread.
        """
        workers = [
            threading.Thread(target=self._guarded, args=(work,), name="cycles", daemon=True)
            for _ in range(threads)
        ]
        with _handling(self.stop, self._ask_for_reload):
            get_logger().info("daemon.started", **facts)
            for worker in workers:
                worker.start()
            # A signal handler must not touch a lock that this thread holds, so it waits for threads, not for an event.
            while (alive := _join(workers)) and not self.stopping:
                if self._reload_asked:
                    self._reload_asked = False
                    self._reload()
            if alive:
                get_logger().info("daemon.stopping")
            deadline = time.monotonic() + self._grace.total_seconds()
            while alive and self._asked < 2 and time.monotonic() < deadline:
                alive = _join(workers)
            if alive:
                get_logger().warning("daemon.abandoned", grace_s=self._grace.total_seconds())
                flush()
                self._leave(0)
                return 0
        if self._crash is not None:
            raise self._crash
        get_logger().info("daemon.stopped")
        return 0

    def _ask_for_reload(self) -> None:
        self._reload_asked = True

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._crash = error
            self._asked = max(self._asked, 1)  # the others end as well
            self._on_stop()


def _join(workers: list[threading.Thread]) -> bool:
    """Wait a moment for one that still works; whether there is any."""
    alive = next((worker for worker in workers if worker.is_alive()), None)
    if alive is not None:
        alive.join(_TICK)
    return any(worker.is_alive() for worker in workers)


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
