"""Who is signed in to the console: sessions in memory, opened with the one token, and a bound on wrong guesses.

A session ends after ``IDLE`` without a request, after ``LONGEST`` in any case, with the process, and as soon as the file holds
another token or none that may be used: who changes the token signs everybody out. There are at most ``MOST``; one more ends the
oldest. Wrong guesses are counted by address; nobody is made to wait on a thread, and who is signed in already notices nothing.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from cosell_sync.log import get_logger
from cosell_sync.settings.token_file import Unusable

IDLE: Final = 3600.0  # seconds
LONGEST: Final = 8 * 3600.0
MOST: Final = 50
GUESSES: Final = 5  # from one address within PENALTY
PENALTY: Final = 60.0  # seconds
ADDRESSES: Final = 1000  # that are remembered; of more the oldest is forgotten


@dataclass
class Session:
    """``form_key``: stands in every form of this session's pages; a form without it was not made by us."""

    form_key: str
    opened: float
    seen: float
    token: bytes = field(repr=False)  # the digest of the one it was opened with


class Guesses:
    """How often each address guessed wrong of late. ``monotonic``: seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, float]] = (
            OrderedDict()
        )  # → how many, and when the last one came

    def take(self, address: str) -> bool:
        """Whether one more guess may be looked at; it counts as wrong until ``forgive``."""
        key, now = _origin(address), self._monotonic()
        with self._lock:
            count, last = self._known.pop(key, (0, now))
            if now - last >= PENALTY:
                count = 0
            allowed = count < GUESSES
            self._known[key] = (count + 1, now) if allowed else (count, last)
            if len(self._known) > ADDRESSES:
                self._known.popitem(last=False)
        return allowed

    def forgive(self, address: str) -> None:
        """The guess was right."""
        with self._lock:
            self._known.pop(_origin(address), None)


class Sessions:
    """``token``: reads the token as it is now; raises ``Unusable``. ``monotonic``: seconds. Safe from any thread."""

    def __init__(self, token: Callable[[], str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.guesses = Guesses(monotonic)
        self._token = token
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, Session] = OrderedDict()  # by the digest of their id, oldest first

    def open(self, given: str) -> str | None:
        """The id of a new session; None where this is not the token. Raises ``Unusable``."""
        token = _digest(self._token())
        if not hmac.compare_digest(_digest(given), token):
            return None
        made, now = secrets.token_urlsafe(32), self._monotonic()
        with self._lock:
            self._open[_digest(made)] = Session(secrets.token_urlsafe(32), now, now, token)
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        return made

    def find(self, session_id: str) -> Session | None:
        """The session of this id, which counts as seen now; None where there is none or it is over."""
        key, now = _digest(session_id), self._monotonic()
        with self._lock:
            found = self._open.get(key)
        if found is None:
            return None
        if now - found.seen >= IDLE or now - found.opened >= LONGEST or found.token != self._present():
            self.close(session_id)
            return None
        found.seen = now
        return found

    def close(self, session_id: str) -> None:
        """End it, where there is one."""
        with self._lock:
            self._open.pop(_digest(session_id), None)

    def _present(self) -> bytes | None:
        try:
            return _digest(self._token())
        except Unusable as fault:
            get_logger().warning("console.token_unusable", reason=str(fault))
            return None


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _origin(address: str) -> str:
    """An IPv6 address by its network of 64 bits, all of which belongs to one host."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
