"""One exchange on a thread of its own, so that neither a stop nor a dripping answer is ever waited for.

Timeouts of HTTP libraries count per read of the socket, not per call: a server that sends a byte now and then holds a
call for as long as it likes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The program is stopping while the exchange is under way."""


class TooLong(Exception):
    """The answer did not end in time."""


def apart(
    work: Callable[[], T], *, name: str, limit: float, stopping: Callable[[], bool], grace: float = 0.0
) -> T:
    """What ``work`` returns or raises, if it does so within ``limit`` seconds (of the real world).

    ``grace``: how long it may still take once the program is stopping. Raises ``Stopped`` and ``TooLong``.
    """
    box: list[T] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            box.append(work())
        except BaseException as cause:  # noqa: BLE001 - carried over to the waiting thread
            failed.append(cause)
        done.set()

    threading.Thread(target=run, name=name, daemon=True).start()
    end = time.monotonic() + limit
    asked: float | None = None
    while not done.wait(0.1):
        now = time.monotonic()
        if stopping():
            asked = now if asked is None else asked
            if now - asked >= grace:
                raise Stopped
        if now > end:
            raise TooLong
    if failed:
        raise failed[0]
    return box[0]
