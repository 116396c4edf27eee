"""Microsoft's sign-in service (Entra ID) for one delegated (App+User) application.

Grants: refresh token and device code. A refresh token rotates: every use returns a new one. Entra itself accepts the old one
for a while; `strict_rotation` refuses it, to test that a client stores the new one. Errors carry the AADSTS numbers that
operators search for. Access tokens are JSON web tokens that name their tenant, as those for Partner Center are; only their
last part is random, and nobody verifies the signature.

The sandbox's clock decides about expiry. Only the id token carries the real time, because MSAL checks it against the
machine's clock.
"""

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cosell_sync.sandbox.exchange import Request, Response

REFERRALS = "https://api.partner.microsoft.com"
WEBHOOKS = "https://api.partnercenter.microsoft.com"
SCOPES = {
    f"{REFERRALS}/.default": REFERRALS,
    f"{REFERRALS}/user_impersonation": REFERRALS,
    f"{WEBHOOKS}/.default": WEBHOOKS,
    f"{WEBHOOKS}/user_impersonation": WEBHOOKS,
}
COMPANY_SCOPES = {"openid", "profile", "offline_access", "email"}
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ENDPOINTS = (
    "/oauth2/v2.0/token",
    "/oauth2/v2.0/devicecode",
    "/v2.0/.well-known/openid-configuration",
    "/discovery/instance",
)
REFRESH_LIFE = timedelta(days=90)
DEVICE_LIFE = timedelta(minutes=15)


class Refused(Exception):
    """An error answer of the sign-in service."""

    def __init__(self, error: str, number: int, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.error, self.number, self.sentence, self.status = error, number, sentence, status


@dataclass
class AccessToken:
    """For which audience and until when."""

    audience: str
    expires: datetime


@dataclass
class RefreshToken:
    """When it was issued, and whether it still works."""

    used_at: datetime
    spent: bool = False
    revoked: bool = False


@dataclass
class DeviceCode:
    """A sign-in that waits for a person."""

    user_code: str
    audience: str
    expires: datetime
    outcome: str = "pending"  # then approved, declined or used


@dataclass
class Entra:
    """One tenant with one application registration and one signed-in user."""

    clock: Callable[[], datetime]
    tenant: str = "3f6c1b52-0000-4000-8000-00000000a001"
    client_id: str = "9d2e7c10-0000-4000-8000-00000000c001"
    client_secret: str | None = None  # None: a public client, which must not send one
    refresh_token: str = "sandbox-refresh-token"  # noqa: S105  (the seed a configuration may carry)
    username: str = "cosell.service@nordlicht.example"
    access_token_life: int = 3600
    device_interval: int = 5
    strict_rotation: bool = False
    approve_at_once: bool = False
    _access: dict[str, AccessToken] = field(default_factory=dict)
    _refresh: dict[str, RefreshToken] = field(default_factory=dict)
    _devices: dict[str, DeviceCode] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._refresh[self.refresh_token] = RefreshToken(self.clock())

    # What tests and people do

    def approve(self, user_code: str | None = None) -> int:
        """Approves the sign-in with that code; without a code, every pending sign-in. Returns how many."""
        return self._decide_sign_ins(user_code, "approved")

    def deny(self, user_code: str | None = None) -> int:
        """Declines the sign-in with that code; without a code, every pending sign-in."""
        return self._decide_sign_ins(user_code, "declined")

    def expire_tokens(self) -> None:
        """Invalidates every access token issued so far."""
        with self._lock:
            self._access.clear()

    def revoke_refresh_tokens(self) -> None:
        """Revokes every refresh token, as a password change does."""
        with self._lock:
            for token in self._refresh.values():
                token.revoked = True

    def issue_refresh_token(self) -> str:
        """A new refresh token."""
        with self._lock:
            token = f"0.rt-{secrets.token_urlsafe(32)}"
            self._refresh[token] = RefreshToken(self.clock())
            return token

    def issue_access_token(self, audience: str = REFERRALS) -> str:
        """A new access token for an audience."""
        with self._lock:
            claims = json.dumps({"aud": audience, "tid": self.tenant, "ver": "1.0"}).encode()
            parts = [
                base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"typ":"JWT"}', claims)
            ]
            token = ".".join([*parts, secrets.token_urlsafe(32)])
            self._access[token] = AccessToken(
                audience, self.clock() + timedelta(seconds=self.access_token_life)
            )
            return token

    def is_signed_in(self, authorization: str | None, audience: str = REFERRALS) -> bool:
        """Whether the Authorization header holds a valid token for that audience."""
        kind, _, token = (authorization or "").partition(" ")
        with self._lock:
            known = self._access.get(token)
            return (
                kind == "Bearer"
                and known is not None
                and known.audience == audience
                and self.clock() < known.expires
            )

    # What clients do

    def answers(self, path: str) -> bool:
        """Whether the path is one of the sign-in service."""
        return path.endswith(ENDPOINTS)

    def __call__(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except Refused as refusal:
            return Response(refusal.status, self._error(refusal))

    def _answer(self, request: Request) -> Response:
        tenant = request.path.split("/")[1]
        base = f"https://{request.headers.get('Host', 'localhost')}"
        if request.path.endswith("/discovery/instance"):
            return Response(200, self._instance(base))
        if tenant not in {self.tenant, "organizations", "common"}:
            raise Refused("invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if request.path.endswith("/openid-configuration"):
            return Response(200, self._openid(base, tenant))
        if request.method != "POST":
            raise Refused("invalid_request", 900561, "The endpoint only accepts POST requests.", status=405)
        if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused("invalid_request", 900144, "The request body must be an HTML form.")
        form = request.form()
        with self._lock:
            if request.path.endswith("/devicecode"):
                return Response(200, self._start_device(form, base))
            return Response(200, self._token(form, base), {"Cache-Control": "no-store"})

    def _error(self, refusal: Refused) -> dict[str, object]:
        now, trace = self.clock(), secrets.token_hex(16)
        return {
            "error": refusal.error,
            "error_description": f"AADSTS{refusal.number}: {refusal.sentence} Trace ID: {trace} Timestamp: {now:%Y-%m-%d %H:%M:%SZ}",
            "error_codes": [refusal.number],
            "timestamp": f"{now:%Y-%m-%d %H:%M:%SZ}",
            "trace_id": trace,
            "correlation_id": secrets.token_hex(16),
        }

    def _instance(self, base: str) -> dict[str, object]:
        return {
            "tenant_discovery_endpoint": f"{base}/{self.tenant}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [],
        }

    def _openid(self, base: str, tenant: str) -> dict[str, object]:
        return {
            "issuer": f"{base}/{self.tenant}/v2.0",
            "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/devicecode",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "tenant_region_scope": "EU",
        }

    def _check_client(self, form: dict[str, str], *, with_secret: bool) -> None:
        client_id = form.get("client_id")
        if not client_id:
            raise Refused("invalid_request", 900144, "The request body must contain 'client_id'.")
        if client_id != self.client_id:
            raise Refused(
                "unauthorized_client",
                700016,
                f"Application '{client_id}' was not found in the directory.",
                status=400,
            )
        given = form.get("client_secret")
        if self.client_secret is None and (given is not None or "client_assertion" in form):
            raise Refused(
                "invalid_client", 700025, "Client is public, so no secret may be presented.", status=401
            )
        if self.client_secret is not None and with_secret:
            if given is None:
                raise Refused("invalid_client", 7000218, "The body must contain 'client_secret'.", status=401)
            if given != self.client_secret:
                raise Refused("invalid_client", 7000215, "Invalid client secret provided.", status=401)

    def _audience(self, form: dict[str, str]) -> str:
        scopes = form.get("scope", "").split()
        resources = [scope for scope in scopes if scope not in COMPANY_SCOPES]
        if not resources:
            raise Refused("invalid_scope", 70011, "The provided value for 'scope' names no resource.")
        unknown = [scope for scope in resources if scope not in SCOPES]
        if unknown:
            raise Refused("invalid_scope", 70011, f"The scope {unknown[0]} is not valid.")
        audiences = {SCOPES[scope] for scope in resources}
        if len(audiences) > 1:
            raise Refused(
                "invalid_request", 28000, "Scopes of more than one resource were asked for at once."
            )
        if "offline_access" not in scopes:
            # Entra would answer without a refresh token; a client would notice only when it needs one.
            raise Refused("invalid_scope", 70011, "The scope offline_access is missing.")
        return audiences.pop()

    def _token(self, form: dict[str, str], base: str) -> dict[str, object]:
        grant = form.get("grant_type")
        if not grant:
            raise Refused("invalid_request", 900144, "The request body must contain 'grant_type'.")
        self._check_client(form, with_secret=True)
        if grant == "refresh_token":
            audience = self._audience(form)
            self._use_refresh_token(form.get("refresh_token"))
        elif grant == DEVICE_GRANT:
            audience = self._redeem_device_code(form.get("device_code"))
        elif grant == "client_credentials":
            raise Refused("unauthorized_client", 700016, "Referrals are for App+User sign-in only.")
        else:
            raise Refused("unsupported_grant_type", 70003, f"The grant type '{grant}' is not supported.")
        return {
            "token_type": "Bearer",
            "scope": f"{audience}/user_impersonation {audience}/.default",
            "expires_in": self.access_token_life,
            "ext_expires_in": self.access_token_life,
            "access_token": self.issue_access_token(audience),
            "refresh_token": self.issue_refresh_token(),
            "id_token": self._id_token(base),
            "client_info": _base64({"uid": "u-0001", "utid": self.tenant}),
        }

    def _use_refresh_token(self, token: str | None) -> None:
        if not token:
            raise Refused("invalid_request", 900144, "The request body must contain 'refresh_token'.")
        known = self._refresh.get(token)
        if known is None:
            raise Refused("invalid_grant", 9002313, "The refresh token is malformed or not valid.")
        if known.revoked:
            raise Refused("invalid_grant", 50173, "The grant was revoked; a fresh sign-in is needed.")
        if self.clock() - known.used_at > REFRESH_LIFE:
            raise Refused("invalid_grant", 700082, "The refresh token has expired due to inactivity.")
        if known.spent and self.strict_rotation:
            raise Refused("invalid_grant", 54005, "The refresh token was already redeemed.")
        known.spent = True

    def _start_device(self, form: dict[str, str], base: str) -> dict[str, object]:
        self._check_client(form, with_secret=False)
        audience = self._audience(form)
        user_code, device_code = secrets.token_hex(4).upper(), secrets.token_urlsafe(32)
        outcome = "approved" if self.approve_at_once else "pending"
        self._devices[device_code] = DeviceCode(user_code, audience, self.clock() + DEVICE_LIFE, outcome)
        return {
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": f"{base}/devicelogin",
            "expires_in": int(DEVICE_LIFE.total_seconds()),
            "interval": self.device_interval,
            "message": f"To sign in, open {base}/devicelogin and enter the code {user_code} to authenticate.",
        }

    def _redeem_device_code(self, device_code: str | None) -> str:
        waiting = self._devices.get(device_code or "")
        if waiting is None or waiting.outcome == "used":
            raise Refused("invalid_grant", 70000, "The device code is not valid.")
        if waiting.outcome == "declined":
            raise Refused("authorization_declined", 70019, "The user declined.")
        if self.clock() > waiting.expires:
            raise Refused("expired_token", 70020, "The device code has expired.")
        if waiting.outcome == "pending":
            raise Refused("authorization_pending", 70016, "Authorization is pending. Continue polling.")
        waiting.outcome = "used"
        return waiting.audience

    def _decide_sign_ins(self, user_code: str | None, outcome: str) -> int:
        with self._lock:
            waiting = [
                device
                for device in self._devices.values()
                if device.outcome == "pending" and user_code in {None, device.user_code}
            ]
            for device in waiting:
                device.outcome = outcome
            return len(waiting)

    def _id_token(self, base: str) -> str:
        now = int(time.time())
        claims = {
            "aud": self.client_id,
            "iss": f"{base}/{self.tenant}/v2.0",
            "iat": now,
            "nbf": now - 60,
            "exp": now + 3600,
            "oid": "u-0001",
            "sub": "u-0001",
            "tid": self.tenant,
            "preferred_username": self.username,
            "name": "Co-sell Service",
            "ver": "2.0",
        }
        return f"{_base64({'alg': 'none', 'typ': 'JWT'})}.{_base64(claims)}.{_base64({})}"


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
