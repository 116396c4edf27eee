"""Sign-in of an application user: client credentials by secret or certificate, and a managed identity.

The tenant endpoints are those of `entra`, with another grant. A token is for one environment and one application; the
environment decides which user it stands for. A certificate signs an assertion (RS256 with `x5t`, PS256 or RS256 with
`x5t#S256`) for exactly this token endpoint, to be used once.

`managed_identity` is the endpoint that App Service and Container Apps give their programs.
"""

import base64
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from cosell_sync.sandbox.aadsts import Refused
from cosell_sync.sandbox.entra import Entra
from cosell_sync.sandbox.exchange import Request, Response

CLIENT_ID = "9d2e7c10-0000-4000-8000-00000000d001"
CLIENT_SECRET = "sandbox-dynamics-secret"  # noqa: S105  (opens nothing but this fake)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MANAGED_IDENTITY_PATH = "/msi/token"
ANYWHERE = ""
"""The audience of a token that a test took without signing in: good for every name of the environment."""


@dataclass
class Application:
    """One app registration."""

    client_id: str
    secret: str | None = None
    keys: dict[str, RSAPublicKey] = field(default_factory=dict)  # by thumbprint, SHA-1 and SHA-256


@dataclass
class AppSignIn(Entra):
    """The tenant for applications without a user."""

    applications: dict[str, Application] = field(default_factory=dict)
    resource: str = ""  # the environment's URL; empty: under which name it was asked
    identity_header: str = "sandbox-identity-header"
    logins: int = 0
    refusal: Refused | None = None
    _opens: dict[str, str] = field(default_factory=dict)  # token -> client id
    _used: set[str] = field(default_factory=set)

    def register(self, client_id: str, secret: str | None = None, certificate: bytes | None = None) -> None:
        """An app registration; the certificate as PEM, without its key."""
        made = Application(client_id, secret)
        if certificate is not None:
            parsed = x509.load_pem_x509_certificate(certificate)
            key = parsed.public_key()
            if not isinstance(key, RSAPublicKey):
                raise ValueError("an RSA certificate is needed")
            for way in (hashes.SHA1(), hashes.SHA256()):  # noqa: S303  (x5t is defined as SHA-1)
                thumbprint = base64.urlsafe_b64encode(parsed.fingerprint(way)).decode().rstrip("=")
                made.keys[thumbprint] = key
        self.applications[client_id] = made

    def issue(self, client_id: str, audience: str = ANYWHERE) -> str:
        with self._lock:
            token = self.issue_access_token(audience, mfa=None)
            self._opens[token] = client_id
            return token

    def opened(self, authorization: str | None, audience: str) -> str | None:
        """The application that this header signs in, for this environment and now."""
        kind, _, token = (authorization or "").partition(" ")
        known = self._access.get(token)
        if kind != "Bearer" or known is None or self.clock() >= known.expires:
            return None
        if known.audience not in {ANYWHERE, audience, self.resource or audience}:
            return None
        return self._opens.get(token)

    def managed_identity(self, request: Request) -> Response:
        """`GET /msi/token?api-version=2019-08-01&resource=…`, with the secret header of the program."""
        if request.headers.get("x-identity-header") != self.identity_header:
            return Response(401, {"statusCode": 401, "message": "X-IDENTITY-HEADER is missing or wrong."})
        asked = request.query.get("resource", "")
        client_id = request.query.get("client_id") or self.client_id
        if asked.endswith("/.default") or asked != self._resource(request.headers.get("host", "")):
            return Response(400, {"statusCode": 400, "message": f"AADSTS500011: The resource principal named {asked} was not found."})  # fmt: skip
        if client_id not in self.applications:
            return Response(400, {"statusCode": 400, "message": "No managed identity with that client id."})
        self.logins += 1
        expires = int(time.time()) + self.access_token_life
        token = self.issue(client_id, asked)
        return Response(200, {"access_token": token, "expires_on": str(expires), "resource": asked, "token_type": "Bearer", "client_id": client_id})  # fmt: skip

    def _resource(self, host: str) -> str:
        return self.resource or f"https://{host.lower()}"

    def _token(self, form: dict[str, str], base: str) -> dict[str, object]:
        if self.refusal is not None:
            raise self.refusal
        grant = form.get("grant_type")
        if not grant:
            raise Refused("invalid_request", 900144, "The request body must contain 'grant_type'.")
        if grant != "client_credentials":
            raise Refused("unsupported_grant_type", 70003, f"The grant type '{grant}' is not supported.")
        application = self._application(form)
        if "client_assertion" in form:
            self._check_assertion(form, application, base)
        elif application.secret is None:
            raise Refused(
                "invalid_client", 7000216, "'client_assertion' or 'client_secret' is required.", status=401
            )
        elif "client_secret" not in form:
            raise Refused("invalid_client", 7000218, "The body must contain 'client_secret'.", status=401)
        elif form["client_secret"] != application.secret:
            raise Refused("invalid_client", 7000215, "Invalid client secret provided.", status=401)
        audience = self._wanted(form, urlsplit(base).netloc)
        self.logins += 1
        return {
            "token_type": "Bearer",
            "expires_in": self.access_token_life,
            "ext_expires_in": self.access_token_life,
            "access_token": self.issue(application.client_id, audience),
        }

    def _application(self, form: dict[str, str]) -> Application:
        client_id = form.get("client_id", "")
        found = self.applications.get(client_id)
        if found is None:
            raise Refused(
                "unauthorized_client", 700016, f"Application '{client_id}' was not found in the directory."
            )
        return found

    def _wanted(self, form: dict[str, str], host: str) -> str:
        scope = form.get("scope", "")
        named = [each for each in scope.split() if each not in {"openid", "profile", "offline_access"}]
        if len(named) != 1 or not named[0].endswith("/.default"):
            raise Refused("invalid_scope", 1002012, f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.")  # fmt: skip
        audience = named[0].removesuffix("/.default")
        if audience.lower() != self._resource(host):
            raise Refused("invalid_resource", 500011, f"The resource principal named {audience} was not found in the tenant.")  # fmt: skip
        return audience.lower()

    def _check_assertion(self, form: dict[str, str], application: Application, base: str) -> None:
        if form.get("client_assertion_type") != ASSERTION:
            raise Refused("invalid_request", 900144, "The request body must contain 'client_assertion_type'.")
        bad = Refused("invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application, or the signature is not valid.", status=401)  # fmt: skip
        assertion = form["client_assertion"]
        try:
            head = jwt.get_unverified_header(assertion)
            key = application.keys.get((head.get("x5t#S256") or head.get("x5t") or "").rstrip("="))
            if key is None:
                raise bad
            algorithms = ["RS256", "PS256"] if head.get("x5t#S256") else ["RS256"]
            claims = jwt.decode(
                assertion, key, algorithms=algorithms, issuer=application.client_id,
                audience=[f"{base}/{tenant}/oauth2/v2.0/token" for tenant in (self.tenant, "organizations", "common")],
                options={"require": ["exp", "iss", "sub", "aud", "jti"]}, leeway=300,
            )  # fmt: skip
        except jwt.PyJWTError:
            raise bad from None
        if claims["sub"] != application.client_id or claims["jti"] in self._used:
            raise bad
        self._used.add(claims["jti"])
