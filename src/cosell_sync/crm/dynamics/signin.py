"""Signing in to Dataverse: the application itself, by secret, by certificate, or as a managed identity of Azure.

MSAL (Microsoft's own library) speaks to the authority, over a session of ours. It keeps a cache of its own, which would
hand out a refused token again, so every sign-in starts without one; `TokenSource` is the only cache. Texts of refusals may name
people and are left out, their AADSTS number says what is wrong (`transport.aadsts`). A sign-in is no API call and is not
counted.

https://learn.microsoft.com/power-apps/developer/data-platform/use-single-tenant-server-server-authentication
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.errors import AuthFailed, ConfigError, Unavailable
from cosell_sync.ports import Clock
from cosell_sync.transport.aadsts import Way, cure, number_of, told
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.throttle import utc_now
from cosell_sync.transport.tokens import AccessToken, lifetime

if TYPE_CHECKING:
    from cosell_sync.transport.session import LibrarySession

# Authorities that Microsoft's instance discovery knows; asking it about any other would fail.
MICROSOFT: Final = frozenset(
    {
        "login.microsoftonline.com",
        "login.microsoft.com",
        "login.windows.net",
        "sts.windows.net",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "login.chinacloudapi.cn",
    }
)
USER: Final = (
    "check that the environment has an application user for this app, with the role `Co-sell Sync Service`"
)
UNREACHABLE: Final = "check dynamics.authority, the network, and SSL_CERT_FILE for a private authority"
HINTS: Final[Mapping[str, str]] = {
    "invalid_client": "check dynamics.client_id and dynamics.client_secret or dynamics.certificate",
    "unauthorized_client": "check dynamics.client_id and the tenant of the app registration",
    "invalid_scope": "check dynamics.url",
    "invalid_resource": "check dynamics.url",
    "invalid_request": "check dynamics.tenant_id, .client_id and .url",
    "managed_identity": "check that this machine has the managed identity named in dynamics.managed_identity",
}
PASSING: Final = frozenset({"temporarily_unavailable", "server_error", "service_unavailable"})
SYSTEM_ASSIGNED: Final = "system"


@dataclass(frozen=True)
class Application:
    """Who we are to the org at ``url``. ``managed_identity``: a client id, or ``system``; then nothing else is needed."""

    url: str
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)  # PEM: private key and certificate
    managed_identity: str | None = None
    authority: str = "https://login.microsoftonline.com"

    @property
    def resource(self) -> str:
        return self.url.rstrip("/")


class SignIn:
    """Obtains access tokens for a ``TokenSource``: ``TokenSource(SignIn(…))``.

    ``caller`` calls whatever host MSAL finds (the authority, or the machine's own identity endpoint), without tokens of
    its own; ``connect`` makes one. Its requests are no API calls.
    """

    def __init__(self, application: Application, caller: HttpCaller, *, clock: Clock = utc_now) -> None:
        self._application = application
        self._caller = caller
        self._clock = clock

    def __call__(self) -> AccessToken:
        """Raises AuthFailed, Unavailable or ConfigError."""
        from cosell_sync.transport.session import sign_in_session  # noqa: PLC0415 - imports requests

        asked = self._clock()
        with sign_in_session(self._caller) as session:
            result = self._acquire(session)
        value = result.get("access_token")
        if not isinstance(value, str) or not value:
            raise refusal(result, managed=self._application.managed_identity is not None)
        return AccessToken(value, asked + lifetime(result.get("expires_in")))

    def _acquire(self, session: LibrarySession) -> Mapping[str, Any]:
        import msal  # noqa: PLC0415 - imports requests, and is a good part of a command's start

        ours = self._application
        if ours.managed_identity is not None:
            identity = (
                msal.SystemAssignedManagedIdentity()
                if ours.managed_identity.strip().lower() == SYSTEM_ASSIGNED
                else msal.UserAssignedManagedIdentity(client_id=ours.managed_identity.strip())
            )
            try:
                client = msal.ManagedIdentityClient(identity, http_client=session)
                return dict(client.acquire_token_for_client(resource=ours.resource))
            except msal.ManagedIdentityError as cause:
                return {"error": "managed_identity", "error_description": type(cause).__name__}
        try:
            app = msal.ConfidentialClientApplication(
                ours.client_id,
                authority=f"{ours.authority.rstrip('/')}/{ours.tenant_id}",
                client_credential=credential(ours),
                http_client=session,
                instance_discovery=None if urlsplit(ours.authority).hostname in MICROSOFT else False,
            )
            return dict(app.acquire_token_for_client(scopes=[f"{ours.resource}/.default"]))
        except (ValueError, KeyError):  # MSAL words an unknown tenant as a ValueError
            raise AuthFailed(
                SYSTEM,
                "the sign-in authority does not know this tenant or does not answer as one",
                code="invalid_tenant",
                hint="check dynamics.authority and dynamics.tenant_id",
            ) from None


def credential(ours: Application) -> str | dict[str, str]:
    """The secret, or key and certificate as MSAL takes them; the thumbprint it works out itself."""
    if ours.certificate is None:
        if not ours.client_secret:
            raise ConfigError(
                "Dynamics needs dynamics.client_secret, dynamics.certificate or dynamics.managed_identity"
            )
        return ours.client_secret
    from cryptography import x509  # noqa: PLC0415 - a certificate alone needs it
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    pem = ours.certificate.encode()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError):
        raise _bad_certificate() from None  # the cause may quote the key
    if not certificates:
        raise _bad_certificate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificates[0].public_bytes(serialization.Encoding.PEM)
    return {"private_key": private.decode(), "public_certificate": public.decode()}


def _bad_certificate() -> ConfigError:
    return ConfigError(
        "dynamics.certificate cannot be used",
        hint="it must hold an unencrypted private key and its certificate, both in PEM form",
    )


def refusal(answer: Mapping[str, Any], *, managed: bool = False) -> AuthFailed | Unavailable:
    """What the authority refused, with its code and AADSTS number and what to do; never its text."""
    code = re.sub(r"[^a-z_]", "", str(answer.get("error") or "").lower())[:60] or "no_token"
    number = number_of(answer)
    if code in PASSING:
        return Unavailable(SYSTEM, f"Microsoft's sign-in is not available ({code})", code=code)
    hint = cure(number, Way.APPLICATION) or HINTS.get("managed_identity" if managed else code, USER)
    return AuthFailed(
        SYSTEM,
        told(code, number),
        code=code if number is None else f"AADSTS{number}",
        hint=hint,
    )
