"""Signing in to Partner Center: App+User, by the refresh token that a person's sign-in left (``login``).

Referrals take no app-only sign-in (learn.microsoft.com/partner-center/developer/referral-api-authentication), so a
service user signs in once, with MFA, and its refresh token is kept. Microsoft hands out a new refresh token with each
use; it is stored before the access token is used, for once that is spent the old one may be worth nothing. A stored
token is never discarded: a refused one may be mended by an administrator.

The texts of refusals name users and are left out; the AADSTS number says what is wrong (``transport.aadsts``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from cosell_sync.errors import AuthFailed, Unavailable
from cosell_sync.ports import Clock, Tokens
from cosell_sync.transport.aadsts import LOGIN, Way, cure, number_of, told
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.safety import Safety
from cosell_sync.transport.throttle import utc_now
from cosell_sync.transport.tokens import MARGIN, AccessToken, lifetime

SYSTEM: Final = "partner_center"
TOKEN_NAME: Final = "partner_center"  # noqa: S105 - a name, not a token
ACCESS_NAME: Final = "partner_center.access"
SCOPE: Final = "https://api.partner.microsoft.com/.default"
UNREACHABLE: Final = "check partner_center.authority and the network"

# What the token endpoint's refusals ask of a person; whatever is not here asks for a login.
HINTS: Final[Mapping[str, str]] = {
    "invalid_client": "check partner_center.client_id and partner_center.client_secret",
    "unauthorized_client": "check partner_center.client_id and the app's permissions",
    "invalid_request": "check partner_center.tenant_id, .client_id and .client_secret",
    "invalid_scope": "give the app the delegated permissions of Microsoft Partner Center, with admin consent",
    "invalid_resource": "give the app the delegated permissions of Microsoft Partner Center, with admin consent",
}
PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})


@dataclass(frozen=True)
class Application:
    """The app registration. ``client_secret`` None: a public client, which must not send one."""

    tenant_id: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    authority: str = "https://login.microsoftonline.com"
    scope: str = SCOPE

    @property
    def token_path(self) -> str:
        return f"/{quote(self.tenant_id, safe='')}/oauth2/v2.0/token"


class SignIn:
    """Obtains access tokens for a ``TokenSource``: ``TokenSource(SignIn(…))``.

    ``caller`` calls the authority's host, without tokens of its own; its requests are no API calls.
    """

    def __init__(
        self, application: Application, tokens: Tokens, caller: HttpCaller, *, clock: Clock = utc_now
    ) -> None:
        self._application = application
        self._tokens = tokens
        self._caller = caller
        self._clock = clock

    def __call__(self) -> AccessToken:
        refresh_token = self._tokens.load(TOKEN_NAME)
        if not refresh_token:
            raise AuthFailed(
                SYSTEM, "nobody has signed in to Partner Center yet", code="no_token", hint=LOGIN
            )
        asked = self._clock()
        answer = self._caller.call(
            "POST",
            self._application.token_path,
            template="/{tenant}/oauth2/v2.0/token",
            # Entra keeps honouring a refresh token after its use, so asking again is harmless
            # (learn.microsoft.com/entra/identity-platform/refresh-tokens).
            safety=Safety.READ,
            scope=Scope.SYSTEM,
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(self._form(refresh_token)).encode(),
            accept=(400, 401, 403),
        )
        granted = answer.data
        if answer.status >= 400:
            raise refusal(_parsed(answer.body), answer.status)
        if not isinstance(granted, Mapping):
            raise Unavailable(SYSTEM, "the sign-in gave an unreadable answer", code="unreadable")
        value, life = granted.get("access_token"), granted.get("expires_in", 3600)
        if not isinstance(value, str) or not value:
            raise Unavailable(SYSTEM, "the sign-in gave no access token", code="unreadable")
        rotated = granted.get("refresh_token")
        if isinstance(rotated, str) and rotated and rotated != refresh_token:
            self._tokens.save(TOKEN_NAME, rotated)
        return AccessToken(value, asked + lifetime(life))

    def _form(self, refresh_token: str) -> dict[str, str]:
        form = {
            "client_id": self._application.client_id,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "scope": f"{self._application.scope} offline_access",
        }
        secret = self._application.client_secret
        return {**form, "client_secret": secret} if secret else form


class Lent:
    """Leaves each access token in the store, and with ``borrow`` starts with the one that is there.

    For ``plan``: a sign-in spends the stored refresh token and stores the new one, and a plan must not write anything.
    Every other command signs in, so that a refused sign-in shows at once.
    """

    def __init__(
        self, sign_in: SignIn, tokens: Tokens, *, borrow: bool = False, clock: Clock = utc_now
    ) -> None:
        self._sign_in = sign_in
        self._tokens = tokens
        self._borrow = borrow
        self._clock = clock

    def __call__(self) -> AccessToken:
        borrow, self._borrow = self._borrow, False  # one that is refused is not borrowed again
        if borrow and (token := self._left()) is not None:
            return token
        token = self._sign_in()
        self._tokens.save(ACCESS_NAME, f"{token.expires_at.isoformat()} {token.value}")
        return token

    def _left(self) -> AccessToken | None:
        expires, _, value = (self._tokens.load(ACCESS_NAME) or "").partition(" ")
        try:
            token = AccessToken(value, datetime.fromisoformat(expires))
        except ValueError:
            return None
        return token if token.expires_at - self._clock() > MARGIN else None


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, Mapping) else {}


def refusal(
    answer: Mapping[str, Any], status: int | None = None, *, way: Way = Way.REFRESH
) -> AuthFailed | Unavailable:
    """The token endpoint's refusal, with its code and AADSTS number and what to do; never its text."""
    code = re.sub(r"[^a-z_]", "", str(answer.get("error") or ""))[:60] or f"http_{status}"
    number = number_of(answer)
    if code in PASSING:
        return Unavailable(SYSTEM, f"Microsoft's sign-in is not available ({code})", code=code, status=status)
    return AuthFailed(
        SYSTEM,
        told(code, number),
        code=code,
        status=status,
        hint=cure(number, way) or HINTS.get(code, LOGIN),
    )
