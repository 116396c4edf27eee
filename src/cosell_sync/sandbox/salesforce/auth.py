"""Sign-in at the fake Salesforce: client credentials and JWT bearer, and the sessions they open.

Neither flow hands out a refresh token, so a client whose session ends has to ask for a new one in the same way. The JWT
checks are the platform's: RS256 against the certificate registered with the app, issuer = consumer key, subject = the user,
audience = the login host or this org's own, an expiry at most five minutes ahead.
"""

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import jwt

from cosell_sync.sandbox.exchange import Request, Response

CONSUMER_KEY = "sandbox-consumer-key"
CONSUMER_SECRET = "sandbox-consumer-secret"  # noqa: S105  (opens nothing but this fake)
INTEGRATION_USERNAME = "cosell-sync@contoso.example"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOGIN_HOSTS = ("https://login.salesforce.com", "https://test.salesforce.com")
MAX_ASSERTION = timedelta(minutes=5)


@dataclass(frozen=True)
class ClientApp:
    """An external client app as the admin set it up."""

    consumer_key: str
    consumer_secret: str | None = None
    public_key: str | None = None
    run_as: str | None = None


class LoginRefused(Exception):
    """An OAuth error."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


@dataclass
class SignIn:
    """The registered apps and the open sessions."""

    clock: Callable[[], datetime]
    user_by_name: Callable[[str], Mapping[str, object] | None]
    user_by_id: Callable[[str], Mapping[str, object] | None]
    apps: dict[str, ClientApp] = field(default_factory=dict)
    sessions: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    session_length: timedelta = timedelta(hours=2)
    refusal: tuple[str, str] | None = None
    logins: int = 0

    def open_session(self, user_id: str) -> str:
        """A new session of a user; returns its token."""
        token = f"00Dfake!{secrets.token_urlsafe(36)}"
        self.sessions[token] = (user_id, self.clock() + self.session_length)
        return token

    def user_of(self, authorization: str) -> str | None:
        """The user of a running session, from the Authorization header."""
        word, _, token = authorization.partition(" ")
        user, ends = self.sessions.get(token.strip(), ("", None))
        if word.lower() not in {"bearer", "oauth"} or ends is None or ends <= self.clock():
            return None
        return user

    def token(self, request: Request, own_url: str, organization: str) -> Response:
        """The answer of the token endpoint."""
        if request.method != "POST":
            return Response(405, {"error": "invalid_request", "error_description": "must use HTTP POST"})
        self.logins += 1
        try:
            user = self._sign_in(request, own_url)
        except LoginRefused as refused:
            return Response(
                refused.status, {"error": refused.error, "error_description": refused.description}
            )
        issued = int(self.clock().timestamp() * 1000)
        return Response(
            200,
            {
                "access_token": self.open_session(user),
                "signature": base64.b64encode(secrets.token_bytes(32)).decode("ascii"),
                "scope": "api",
                "instance_url": own_url,
                "id": f"https://login.salesforce.com/id/{organization}/{user}",
                "token_type": "Bearer",
                "issued_at": str(issued),
            },
        )

    def _sign_in(self, request: Request, own_url: str) -> str:
        form = request.form()
        if self.refusal is not None:
            raise LoginRefused(*self.refusal)
        grant = form.get("grant_type", "")
        if grant == "client_credentials":
            return self._client_credentials(request, form)
        if grant == JWT_BEARER:
            return self._assertion(form.get("assertion", ""), own_url)
        raise LoginRefused("unsupported_grant_type", "grant type not supported")

    def _client_credentials(self, request: Request, form: Mapping[str, str]) -> str:
        key, secret = form.get("client_id", ""), form.get("client_secret", "")
        basic = request.headers.get("authorization", "")
        if basic.lower().startswith("basic "):
            try:
                key, _, secret = base64.b64decode(basic[6:], validate=True).decode("utf-8").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise LoginRefused("invalid_request", "unreadable Authorization header") from None
            key, secret = unquote(key), unquote(secret)
        app = self.apps.get(key)
        if app is None:
            raise LoginRefused("invalid_client_id", "client identifier invalid")
        if app.consumer_secret is None or not secrets.compare_digest(
            app.consumer_secret.encode(), secret.encode()
        ):
            raise LoginRefused("invalid_client", "invalid client credentials", 401)
        if app.run_as is None:
            raise LoginRefused("invalid_grant", "no client credentials user enabled")
        return self._active_user(self.user_by_id(app.run_as))

    def _assertion(self, assertion: str, own_url: str) -> str:
        try:
            claimed = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            raise LoginRefused("invalid_grant", "invalid assertion") from None
        app = self.apps.get(str(claimed.get("iss")))
        if app is None:
            raise LoginRefused("invalid_client_id", "client identifier invalid")
        if app.public_key is None:
            raise LoginRefused("invalid_client", "no certificate uploaded for this app")
        lax: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims = jwt.decode(assertion, app.public_key, algorithms=["RS256"], options=lax)
        except jwt.InvalidTokenError:
            raise LoginRefused("invalid_grant", "invalid assertion") from None
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if not any(str(each).rstrip("/") in {*LOGIN_HOSTS, own_url} for each in named):
            raise LoginRefused("invalid_grant", "audience is invalid")
        expires = claims.get("exp")
        left = float(expires) - self.clock().timestamp() if isinstance(expires, int | float) else -1.0
        if left <= 0:
            raise LoginRefused("invalid_grant", "assertion expired")
        if left > MAX_ASSERTION.total_seconds():
            raise LoginRefused("invalid_grant", "invalid assertion: exp is too far in the future")
        user = self.user_by_name(str(claims.get("sub")))
        if user is None:
            raise LoginRefused("invalid_grant", "user hasn't approved this consumer")
        return self._active_user(user)

    def _active_user(self, user: Mapping[str, object] | None) -> str:
        if user is None or not user["IsActive"]:
            raise LoginRefused("inactive_user", "user is inactive")
        return str(user["Id"])
