"""Access tokens: when to get another, and one sign-in for all threads that need one.

A token source knows neither HTTP nor a vendor: it is given a function that obtains a token. A thread whose token was
refused names that token; only the first such thread signs in, the others take its token, or raise its failure.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cosell_sync.errors import CosellError, Unavailable
from cosell_sync.transport.throttle import Clock, utc_now

MARGIN = timedelta(minutes=5)
NO_EXPIRY = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class AccessToken:
    """``expires_at`` (UTC): ``NO_EXPIRY`` where the sign-in does not say; then it serves until refused. ``base_url``: the one place that it may be
    sent to, where the sign-in names it; else the caller's own. ``user_id`` and ``organization``: to whom it was given and
    for whose records, where the sign-in says.
    """

    value: str = field(repr=False)
    expires_at: datetime
    base_url: str = ""
    user_id: str = ""
    organization: str = ""


def lifetime(expires_in: object) -> timedelta:
    """How long a token lives, from ``expires_in`` (seconds; v1 endpoints write it as text); nonsense counts as an hour."""
    text = str(expires_in)
    return timedelta(seconds=int(text) if re.fullmatch(r"0*[1-9]\d{0,5}", text, re.ASCII) else 3600)


def renew_at(token: AccessToken, obtained: datetime, margin: timedelta = MARGIN) -> datetime:
    """The moment to get another: the margin before it expires, or half its life for a short-lived one."""
    life = max(token.expires_at - obtained, timedelta())
    return token.expires_at - min(margin, life / 2)


def _whose(token: AccessToken) -> tuple[str, str]:
    """For whose records it was given, and where they are; empty where the sign-in does not say."""
    return token.organization, token.base_url


class TokenSource:
    """Hands out one token to all threads and renews it before it expires.

    Where the renewed one is for another org or host, whoever asks gets ``Unavailable`` instead, for the work under way was begun
    elsewhere; until somebody looks whose it is (``whose``). ``system`` is named by that error.
    ``signed_in``: called with the moment of each sign-in.
    """

    def __init__(
        self,
        obtain: Callable[[], AccessToken],
        *,
        clock: Clock = utc_now,
        margin: timedelta = MARGIN,
        system: str = "",
        signed_in: Callable[[datetime], None] = lambda _: None,
    ) -> None:
        self._system = system
        self._signed_in = signed_in
        self._strange = False
        self._obtain = obtain
        self._clock = clock
        self._margin = margin
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._renew_at: datetime | None = None
        self._failures = 0
        self._failure: CosellError | None = None

    def token(self) -> AccessToken:
        """A token that is not about to expire. Raises what signing in raises."""
        return self._get(None)

    def whose(self) -> AccessToken:
        """As ``token``, for who looks at the account before anything is done there."""
        return self._get(None, looking=True)

    def refresh(self, refused: AccessToken) -> AccessToken:
        """Another token than the refused one. Raises what signing in raises."""
        return self._get(refused)

    def _get(self, refused: AccessToken | None, *, looking: bool = False) -> AccessToken:
        failures = self._failures
        with self._lock:
            token = self._token
            if token is not None and not self._is_due(token, refused):
                return self._known(token, looking=looking)
            if self._failures != failures and self._failure is not None:
                raise self._failure  # another thread has just failed, while this one waited for the lock
            try:
                token = self._obtain()
            except CosellError as failure:
                self._failures += 1
                self._failure = failure
                raise
            before, self._token = self._token, token
            obtained_at = self._clock()
            self._signed_in(obtained_at)
            self._renew_at = renew_at(token, obtained_at, self._margin)
            self._strange = self._strange or (before is not None and _whose(before) != _whose(token))
            return self._known(token, looking=looking)

    def _known(self, token: AccessToken, *, looking: bool) -> AccessToken:
        self._strange = self._strange and not looking
        if self._strange:
            raise Unavailable(self._system, "the sign-in leads to other records now", code="other_account")
        return token

    def _is_due(self, token: AccessToken, refused: AccessToken | None) -> bool:
        if refused is not None and token.value == refused.value:
            return True
        return self._renew_at is not None and self._clock() >= self._renew_at
