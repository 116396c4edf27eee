"""Signing in: two OAuth flows, neither of which knows a refresh token, so to refresh is to sign in again.

client credentials   the app signs in as its run-as user: consumer key and secret by HTTP Basic
JWT bearer           the app signs an assertion for one user with its private key (RS256, three minutes)

The reply names the host that serves the org. That host receives the token with every later call, so it is taken only
when it is the host we signed in to, or stands under the same Salesforce site: a reply cannot send the token away.

https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm
https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

from cosell_sync.crm.salesforce.ids import long_id
from cosell_sync.errors import AuthFailed
from cosell_sync.ports import Clock
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import VERDICTS, Scope
from cosell_sync.transport.safety import Safety
from cosell_sync.transport.tokens import NO_EXPIRY, AccessToken

SYSTEM: Final = "salesforce"
GRANT_JWT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME: Final = timedelta(minutes=3)
TOKEN_PATH: Final = "/services/oauth2/token"  # noqa: S105 - a path, not a token

# Below these names every host is Salesforce's own.
SITES: Final = (".salesforce.com", ".force.com", ".salesforce.mil", ".sfcrmproducts.cn", ".sfcrmapps.cn")

HINTS: Final = {
    "invalid_client": "check salesforce.consumer_key and .consumer_secret against the External Client App",
    "invalid_client_id": "check salesforce.consumer_key against the External Client App",
    "invalid_grant": (
        "check that the app is approved for the user, that the user is active, that the certificate in the app "
        "belongs to salesforce.private_key, and this machine's clock"
    ),
    "inactive_user": "activate the integration user, or name another one",
    "inactive_org": "the org is closed or suspended",
    "unsupported_grant_type": "enable this flow in the External Client App",
    "invalid_request": "check that salesforce.login_url is the My Domain address",
    "invalid_app_access": "approve the app for the integration user",
}
DEFAULT_HINT: Final = (
    "check the sign-in settings of the External Client App; `cosell-sync doctor` tries it alone"
)


@dataclass(frozen=True)
class TokenRequest:
    """The form to post to the token address; ``basic`` where the client proves itself by HTTP Basic."""

    form: dict[str, str] = field(repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ClientCredentials:
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)

    def request(self, login_url: str, now: datetime) -> TokenRequest:  # noqa: ARG002  (one shape for both flows)
        return TokenRequest({"grant_type": "client_credentials"}, (self.consumer_key, self.consumer_secret))


@dataclass(frozen=True)
class JwtBearer:
    """``audience``: whether a My Domain address is accepted here is not documented, so it can be set."""

    consumer_key: str = field(repr=False)
    username: str = field(repr=False)
    private_key: str = field(repr=False)
    audience: str | None = None

    def request(self, login_url: str, now: datetime) -> TokenRequest:
        import jwt  # noqa: PLC0415 - this flow alone needs it, and it is a part of a command's start

        claims = {
            "iss": self.consumer_key,
            "sub": self.username,
            "aud": self.audience or audience(login_url),
            "exp": int((now + LIFETIME).timestamp()),
        }
        try:
            assertion = jwt.encode(claims, self.private_key, algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):
            raise AuthFailed(
                SYSTEM,
                "the private key cannot sign",
                code="invalid_private_key",
                hint="salesforce.private_key must be an unencrypted RSA key in PEM form",
            ) from None  # the cause may quote the key
        return TokenRequest({"grant_type": GRANT_JWT, "assertion": assertion})


Credentials = ClientCredentials | JwtBearer


class SignIn:
    """Obtains access tokens for a ``TokenSource``: ``TokenSource(SignIn(…))``.

    ``caller`` calls the host of ``login_url``, without tokens of its own; its requests are no API calls.
    """

    def __init__(self, login_url: str, credentials: Credentials, caller: HttpCaller, *, clock: Clock) -> None:
        self._login_url = login_url.rstrip("/")
        self._credentials = credentials
        self._caller = caller
        self._clock = clock

    def __call__(self) -> AccessToken:
        """A token with the host that it belongs to. Raises ``AuthFailed`` and ``Unavailable``."""
        if not self._login_url.startswith("https://"):
            raise AuthFailed(SYSTEM, "salesforce.login_url is not https", code="not_https")
        wanted = self._credentials.request(self._login_url, self._clock())
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if wanted.basic:
            proof = base64.b64encode(":".join(wanted.basic).encode()).decode()
            headers["authorization"] = f"Basic {proof}"
        answer = self._caller.call(
            "POST",
            TOKEN_PATH,
            template=TOKEN_PATH,
            safety=Safety.READ,  # a second token does no harm
            scope=Scope.SYSTEM,
            headers=headers,
            body=urlencode(wanted.form).encode(),
            accept=VERDICTS | {401},
        )
        if answer.status >= 400:
            raise refused(answer.status, _parsed(answer.body))
        return granted(self._login_url, answer.data)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def audience(login_url: str) -> str:
    """Sandboxes have their own; everything else is production."""
    host = urlsplit(login_url).hostname or ""
    return "https://test.salesforce.com" if ".sandbox." in host else "https://login.salesforce.com"


def refused(status: int, reply: object) -> AuthFailed:
    """The token endpoint said no; only its code is kept, its description may name the user."""
    code = str(reply.get("error") or "") if isinstance(reply, dict) else ""
    return AuthFailed(
        SYSTEM,
        f"Salesforce refused the sign-in ({code or status})",
        code=code or f"http_{status}",
        status=status,
        hint=HINTS.get(code, DEFAULT_HINT),
    )


def granted(login_url: str, reply: object) -> AccessToken:
    """The token in a reply of the token endpoint, checked. Raises ``AuthFailed``."""
    if not isinstance(reply, dict) or not isinstance(reply.get("access_token"), str):
        raise AuthFailed(
            SYSTEM,
            "the sign-in gave no token",
            code="no_token",
            hint="check that salesforce.login_url is the My Domain address",
        )
    instance = str(reply.get("instance_url") or "")
    if not trusted(login_url, instance):
        raise AuthFailed(
            SYSTEM,
            "the sign-in named a host that is not the one signed in to; the token was not used",
            code="foreign_instance",
            hint="check that salesforce.login_url is the My Domain address, and who answers there",
        )
    parts = urlsplit(instance)
    # The identity URL ends in organization and user id: https://login.salesforce.com/id/00D…/005…
    organization, _, user = str(reply.get("id") or "").rstrip("/").rpartition("/id/")[2].partition("/")
    return AccessToken(
        reply["access_token"],
        NO_EXPIRY,  # neither flow says when it expires
        base_url=f"https://{parts.netloc}",
        user_id=user if user.startswith("005") else "",
        organization=long_id(organization) if organization.startswith("00D") else "",
    )


def trusted(login_url: str, instance_url: str) -> bool:
    """Whether the token may go to that host: the one we signed in to, or one under the same Salesforce site."""
    try:
        login, instance = urlsplit(login_url), urlsplit(instance_url)
        ports = login.port, instance.port
    except ValueError:
        return False
    if instance.scheme != "https" or not instance.hostname or "@" in instance.netloc:
        return False
    if login.hostname == instance.hostname:
        return True
    site = next((site for site in SITES if (login.hostname or "").endswith(site)), None)
    return site is not None and instance.hostname.endswith(site) and set(ports) <= {None, 443}
