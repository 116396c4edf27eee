"""Waits until a request has arrived, so that no worker ever waits for a slow client. A thread of its own.

A connection whose request is complete, headers and body, goes to a worker; a question whether the process lives is answered
right here. One that is not complete in time is closed. At most ``MOST`` wait; of more the oldest is closed.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cheroot.server import HTTPConnection

DEADLINE: Final = 5.0  # seconds for headers and body
MOST: Final = 200
HEADERS_CAP: Final = 32 * 1024
_TICK: Final = 0.02
_LENGTH: Final = re.compile(rb"\r?\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
_LIVEZ: Final = re.compile(rb"(?:GET|HEAD) /livez[ ?]")


@dataclass
class Arrivals:
    """``work``: gives a connection to a worker. ``answer``: answers it here. ``body_cap``: bytes; a longer body is not waited
    for, because it is refused unread.
    """

    work: Callable[[HTTPConnection], None]
    answer: Callable[[HTTPConnection], None]
    body_cap: int
    deadline: float = DEADLINE
    _new: queue.SimpleQueue[HTTPConnection | None] = field(default_factory=queue.SimpleQueue)
    _waiting: dict[HTTPConnection, float] = field(default_factory=dict)  # → when it began, oldest first

    def start(self) -> None:
        """Begin; the thread keeps no process from ending."""
        threading.Thread(target=self._run, name="http-arrivals", daemon=True).start()

    def stop(self) -> None:
        """End soon; what waits is closed."""
        self._new.put(None)

    def put(self, connection: HTTPConnection) -> None:
        """A connection of which something has arrived."""
        self._new.put(connection)

    def _run(self) -> None:
        while self._take():
            for connection, since in list(self._waiting.items()):
                head = _whole(connection, self.body_cap)
                if head is None and time.monotonic() - since < self.deadline:
                    continue
                del self._waiting[connection]
                if not head:
                    _close(connection)
                elif _LIVEZ.match(head):
                    self.answer(connection)
                else:
                    self.work(connection)
        for connection in self._waiting:
            _close(connection)

    def _take(self) -> bool:
        """Note what came in; wait for it where nothing else is to be done. False: stop."""
        try:
            fresh = self._new.get(timeout=_TICK if self._waiting else None)
        except queue.Empty:
            return True
        if fresh is None:
            return False
        if len(self._waiting) >= MOST:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            _close(oldest)
        self._waiting[fresh] = time.monotonic()
        return True


def _whole(connection: HTTPConnection, body_cap: int) -> bytes | None:
    """What has arrived, where a worker need not wait for more of it; None: not yet; empty: the client has gone."""
    if connection.rfile.has_data():
        return b"more"  # the next request came along with the last one
    sock = connection.socket
    patience = sock.gettimeout()
    try:
        sock.setblocking(False)
        try:
            seen = sock.recv(HEADERS_CAP + body_cap, socket.MSG_PEEK)
        finally:
            sock.settimeout(patience)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    head, blank, body = seen.partition(b"\r\n\r\n") if b"\r\n\r\n" in seen else seen.partition(b"\n\n")
    if not seen or (not blank and len(seen) < HEADERS_CAP):
        return None if seen else b""
    length = _LENGTH.search(head + b"\n")
    expected = int(length[1]) if length else 0
    return None if len(body) < expected <= body_cap else seen


def _close(connection: HTTPConnection) -> None:
    with suppress(OSError):
        connection.close()
