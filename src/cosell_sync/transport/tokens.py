"""Tokens: when one is still good, and how many threads share the getting of one.

A token source knows neither HTTP nor a vendor: it is given a function that obtains a token. Whoever finds the token
refused names the value that was refused; only the first such thread signs in, the others take what it got, or share
its failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cosell_sync.errors import CosellError
from cosell_sync.transport.throttle import Clock, utc_now

MARGIN = timedelta(minutes=5)


@dataclass(frozen=True)
class AccessToken:
    value: str = field(repr=False)
    expires_at: datetime


def renew_at(token: AccessToken, obtained: datetime, margin: timedelta = MARGIN) -> datetime:
    """The moment to get another: the margin before it expires, or half its life for a short-lived one."""
    life = max(token.expires_at - obtained, timedelta())
    return token.expires_at - min(margin, life / 2)


class TokenSource:
    """Hands out one token to all threads and renews it before it expires."""

    def __init__(
        self, obtain: Callable[[], AccessToken], *, clock: Clock = utc_now, margin: timedelta = MARGIN
    ) -> None:
        self._obtain = obtain
        self._clock = clock
        self._margin = margin
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._renew_at: datetime | None = None
        self._failures = 0
        self._failure: CosellError | None = None

    def token(self) -> str:
        """A token that is good for a while yet."""
        return self._get(None)

    def refresh(self, stale: str) -> str:
        """Another token than the one that was refused."""
        return self._get(stale)

    def _get(self, stale: str | None) -> str:
        failures = self._failures
        with self._lock:
            token = self._token
            if token and self._renew_at and token.value != stale and self._clock() < self._renew_at:
                return token.value
            if self._failures != failures and self._failure is not None:
                raise self._failure  # another thread has just tried, while this one stood in line
            try:
                token = self._obtain()
            except CosellError as failure:
                self._failures += 1
                self._failure = failure
                raise
            self._token, self._renew_at = token, renew_at(token, self._clock(), self._margin)
            return token.value
