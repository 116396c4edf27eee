"""One exchange on a thread of its own, so that neither a stop nor a dripping answer is ever waited for.

Timeouts of HTTP libraries count per read of the socket, not per call: a server that sends a byte now and then holds a
call for as long as it likes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


class Stopped(Exception):
    """The program is stopping while the exchange is under way."""


class DeadlineExceeded(Exception):
    """The answer did not end in time."""


class NoRoom(Exception):
    """The machine has no room for one more thread: nothing was sent."""


def within_deadline(
    exchange: Callable[[A], T],
    request: A,
    *,
    name: str,
    limit: float,
    stopping: Callable[[], bool],
    grace: float = 0.0,
) -> T:
    """What ``exchange(request)`` returns or raises, if it does so within ``limit`` seconds (of the real world).

    ``name`` of the thread. ``grace``: seconds that it may still take once the program is stopping. Raises ``Stopped``,
    ``DeadlineExceeded`` and ``NoRoom``.
    """
    returned: list[T] = []
    raised: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            returned.append(exchange(request))
        except BaseException as cause:  # noqa: BLE001 - carried over to the waiting thread
            raised.append(cause)
        done.set()

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as cause:
        raise NoRoom from cause
    end = time.monotonic() + limit
    stop_seen: float | None = None
    while not done.wait(0.1):
        now = time.monotonic()
        if stopping():
            stop_seen = now if stop_seen is None else stop_seen
            if now - stop_seen >= grace:
                raise Stopped
        if now > end:
            raise DeadlineExceeded
    if raised:
        raise raised[0]
    return returned[0]
