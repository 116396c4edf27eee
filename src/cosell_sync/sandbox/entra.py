"""Microsoft's sign-in service (Entra ID) for one delegated (App+User) application.

Grants: authorization code with PKCE (`authorization`), device code, refresh token. A refresh token rotates: every use returns
a new one. Entra itself accepts the old one for a while; `strict_rotation` refuses it, to test that a client stores the new one.
Errors carry the AADSTS numbers that operators search for, and any of `aadsts.REFUSALS` can be armed. Access tokens are JSON
web tokens that name their tenant and how the user signed in (`amr`, learn.microsoft.com/entra/identity-platform/
access-token-claims-reference), as those for Partner Center do; only their last part is random, and nobody verifies the signature.

The sandbox's clock decides about expiry. Only the id token carries the real time, because MSAL checks it against the
machine's clock.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cosell_sync.sandbox import aadsts
from cosell_sync.sandbox import entra_documents as documents
from cosell_sync.sandbox.aadsts import Refused
from cosell_sync.sandbox.authorization import Authorization, error_page, question, returned
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
    "/oauth2/v2.0/authorize",
    "/oauth2/v2.0/token",
    "/oauth2/v2.0/devicecode",
    "/v2.0/.well-known/openid-configuration",
    "/discovery/instance",
)
REFRESH_LIFE = timedelta(days=90)
DEVICE_LIFE = timedelta(minutes=15)


@dataclass
class AccessToken:
    """For which audience, until when, and whether of a user who passed MFA."""

    audience: str
    expires: datetime
    mfa: bool = True


@dataclass
class RefreshToken:
    """When and by which sign-in it was issued, and whether it still works."""

    used_at: datetime
    mfa: bool = True
    by_device_code: bool = False
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
class Armed:
    """A refusal that every request at that place meets until it is lifted."""

    refusal: Refused
    at: str


Place = Literal["authorize", "devicecode", "token"]


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
    mfa: bool = True  # whether the user passes MFA when signing in
    # A Conditional Access policy that blocks device codes, and the refresh tokens that came from one
    # (learn.microsoft.com/entra/identity/conditional-access/concept-authentication-flows). "silent": only the browser
    # is told, and the client goes on polling.
    block_device_code: Literal["no", "told", "silent"] = "no"
    armed: Armed | None = None
    _access: dict[str, AccessToken] = field(default_factory=dict)
    _refresh: dict[str, RefreshToken] = field(default_factory=dict)
    _devices: dict[str, DeviceCode] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    authorization: Authorization = field(init=False)

    def __post_init__(self) -> None:
        self._refresh[self.refresh_token] = RefreshToken(self.clock())
        self.authorization = Authorization(self.clock)

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

    def arm(self, number: int | None, at: Place = "token") -> None:
        """From now on requests at that place are refused with this AADSTS number; None: no longer."""
        self.armed = None if number is None else Armed(aadsts.refused(number), at)

    def set_policies(self, **switches: object) -> None:
        """Sets `mfa`, `block_device_code`, `approve_at_once`; LookupError for anything else."""
        for name, value in switches.items():
            if name not in {"mfa", "block_device_code", "approve_at_once"}:
                raise LookupError(name)
            setattr(self, name, value)

    def issue_refresh_token(self, *, mfa: bool | None = None, by_device_code: bool = False) -> str:
        """A new refresh token; ``mfa``: of a user who passed MFA; None: as `self.mfa` says."""
        with self._lock:
            token = f"0.rt-{secrets.token_urlsafe(32)}"
            self._refresh[token] = RefreshToken(
                self.clock(), self.mfa if mfa is None else mfa, by_device_code
            )
            return token

    def issue_access_token(self, audience: str = REFERRALS, *, mfa: bool | None = True) -> str:
        """A new access token for an audience; ``mfa`` None: not of a user."""
        with self._lock:
            token = documents.access_token(audience, self.tenant, mfa)
            self._access[token] = AccessToken(
                audience, self.clock() + timedelta(seconds=self.access_token_life), bool(mfa)
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

    def passed_mfa(self, authorization: str | None) -> bool:
        """Whether the user of that Authorization header passed MFA."""
        known = self._access.get((authorization or "").partition(" ")[2])
        return known is not None and known.mfa

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
            return Response(200, documents.instance(base, self.tenant))
        if tenant not in {self.tenant, "organizations", "common"}:
            raise Refused("invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if request.path.endswith("/openid-configuration"):
            return Response(200, documents.openid(base, tenant, self.tenant))
        if request.path.endswith("/authorize"):
            with self._lock:
                return self._authorize(request)
        if request.method != "POST":
            raise Refused("invalid_request", 900561, "The endpoint only accepts POST requests.", status=405)
        if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused("invalid_request", 900144, "The request body must be an HTML form.")
        form = request.form()
        with self._lock:
            if request.path.endswith("/devicecode"):
                self._meet("devicecode")
                return Response(200, self._start_device(form, base))
            self._meet("token")
            return Response(200, self._token(form, base), {"Cache-Control": "no-store"})

    def _meet(self, place: Place) -> None:
        if self.armed is not None and self.armed.at == place:
            raise self.armed.refusal

    def _authorize(self, request: Request) -> Response:
        """The page where a person signs in; the query holds the request, and in this sandbox the person's choice."""
        asked = dict(request.query)
        try:
            self._check_client(asked, with_secret=False)
            self.authorization.check_redirect(asked)
        except Refused as refusal:
            return error_page(refusal, self.clock())
        choice = asked.get("sandbox") or ("approve" if self.approve_at_once else "")
        try:
            self._meet("authorize")
            self.authorization.check(asked)
            audience = self._audience(asked)
            self._check_choice(choice)
        except Refused as refusal:
            error = "access_denied" if refusal.error == aadsts.GRANT else refusal.error
            return returned(asked, {"error": error, "error_description": refusal.description(self.clock())})
        return returned(asked, self.authorization.grant(asked, audience)) if choice else question(request)

    def _check_choice(self, choice: str) -> None:
        if choice == "deny":
            raise Refused("access_denied", 65004, "User declined to consent to access the app.")

    def _error(self, refusal: Refused) -> dict[str, object]:
        now = self.clock()
        return {
            "error": refusal.error,
            "error_description": refusal.description(now),
            "error_codes": [refusal.number],
            "timestamp": f"{now:%Y-%m-%d %H:%M:%SZ}",
            "trace_id": secrets.token_hex(16),
            "correlation_id": secrets.token_hex(16),
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
        mfa, nonce, by_device_code = self.mfa, "", False
        if grant == "refresh_token":
            audience = self._audience(form)
            used = self._use_refresh_token(form.get("refresh_token"))
            mfa, by_device_code = used.mfa, used.by_device_code
        elif grant == "authorization_code":
            code = self.authorization.redeem(form)
            audience, nonce = code.audience, code.nonce
        elif grant == DEVICE_GRANT:
            audience, by_device_code = self._redeem_device_code(form.get("device_code")), True
        elif grant == "client_credentials":
            raise Refused("unauthorized_client", 700016, "Referrals are for App+User sign-in only.")
        else:
            raise Refused("unsupported_grant_type", 70003, f"The grant type '{grant}' is not supported.")
        return {
            "token_type": "Bearer",
            "scope": f"{audience}/user_impersonation {audience}/.default",
            "expires_in": self.access_token_life,
            "ext_expires_in": self.access_token_life,
            "access_token": self.issue_access_token(audience, mfa=mfa),
            "refresh_token": self.issue_refresh_token(mfa=mfa, by_device_code=by_device_code),
            "id_token": documents.id_token(base, self.tenant, self.client_id, self.username, nonce),
            "client_info": documents.base64_json({"uid": "u-0001", "utid": self.tenant}),
        }

    def _use_refresh_token(self, token: str | None) -> RefreshToken:
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
        if known.by_device_code and self.block_device_code != "no":
            raise aadsts.refused(530036)
        known.spent = True
        return known

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
        if waiting.outcome != "pending" and self.block_device_code == "told":
            raise aadsts.refused(53003)
        if waiting.outcome == "pending" or self.block_device_code == "silent":
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
