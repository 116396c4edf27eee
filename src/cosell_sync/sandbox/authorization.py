"""The page where a person signs in (authorize endpoint), and the codes that it gives: authorization code with PKCE.

A request whose application or redirect address is wrong gets an error page, for there is nobody to send the person back to;
every other answer goes to the redirect address, as a query or as a form that submits itself
(learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow). Of a loopback address the port does not count; IPv6 is
not supported (learn.microsoft.com/entra/identity-platform/reply-url). Entra takes requests without PKCE; this fake does not.
"""

import base64
import hashlib
import html
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

from cosell_sync.sandbox.aadsts import Refused
from cosell_sync.sandbox.exchange import Request, Response

CODE_LIFE = timedelta(minutes=10)
HTML = {"Content-Type": "text/html; charset=utf-8"}


@dataclass
class Code:
    """An authorization code: what it was asked with."""

    audience: str
    redirect_uri: str
    challenge: str
    nonce: str
    expires: datetime
    used: bool = False


@dataclass
class Authorization:
    """The codes of one application registration."""

    clock: Callable[[], datetime]
    redirect_uris: list[str] = field(default_factory=lambda: ["http://localhost"])
    code_bytes: int = 900  # of randomness in a code: 1200 characters, about as long as real ones
    _codes: dict[str, Code] = field(default_factory=dict)

    def check_redirect(self, asked: Mapping[str, str]) -> str:
        """The redirect address of the request. Raises `Refused` for one that is not registered."""
        given = asked.get("redirect_uri", "")
        if _without_port(given) not in {_without_port(known) for known in self.redirect_uris}:
            raise Refused("invalid_request", 50011, f"The redirect URI '{given}' specified in the request does not match the redirect URIs configured for the application.")  # fmt: skip
        return given

    def check(self, asked: Mapping[str, str]) -> None:
        """Everything else of the request that this page looks at."""
        if asked.get("response_type") != "code":
            raise Refused("unsupported_response_type", 70005, "The response type is not enabled for the app.")
        if asked.get("response_mode", "query") not in {"query", "form_post"}:
            raise Refused("invalid_request", 70007, "The response mode is not supported.")
        if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
            raise Refused("invalid_request", 50147, "The code challenge is missing or of the wrong size.")

    def grant(self, asked: Mapping[str, str], audience: str) -> dict[str, str]:
        """The fields of the answer after the person has agreed."""
        code = f"1.{secrets.token_urlsafe(self.code_bytes)}"
        self._codes[code] = Code(
            audience,
            asked["redirect_uri"],
            asked["code_challenge"],
            asked.get("nonce", ""),
            self.clock() + CODE_LIFE,
        )
        return {"code": code, "session_state": secrets.token_hex(16)}

    def redeem(self, form: Mapping[str, str]) -> Code:
        """The code of a token request, used up by it. Raises `Refused`."""
        known = self._codes.get(form.get("code", ""))
        if known is None:
            raise Refused("invalid_grant", 9002313, "Invalid request. Request is malformed or invalid.")
        if known.used:
            raise Refused("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed.")
        if self.clock() > known.expires:
            raise Refused("invalid_grant", 70008, "The provided authorization code has expired.")
        if form.get("redirect_uri") != known.redirect_uri:
            raise Refused("invalid_grant", 500112, "The reply address does not match the one of the request.")
        verifier = form.get("code_verifier", "")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if challenge != known.challenge:
            raise Refused("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge.")
        known.used = True
        return known


def returned(asked: Mapping[str, str], fields: Mapping[str, str]) -> Response:
    """Sends the person back to the redirect address with these fields, and the state of the request."""
    target = asked["redirect_uri"]
    answer = {**fields, **({"state": asked["state"]} if "state" in asked else {})}
    if asked.get("response_mode") == "form_post":
        inputs = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
            for name, value in answer.items()
        )
        page = f'<form method="post" action="{html.escape(target)}">{inputs}</form><script>document.forms[0].submit()</script>'
        return Response(200, page.encode(), dict(HTML))
    slash = "" if urlsplit(target).path else "/"  # Entra adds it to an address without a path
    return Response(302, None, {"Location": f"{target}{slash}?{urlencode(answer)}"})


def question(request: Request) -> Response:
    """The page on which the person agrees or cancels."""
    again = html.escape(f"{request.path}?{request.raw_query}")
    page = (
        "<!DOCTYPE html><title>Sandbox sign-in</title><p>Sign in to the sandbox as the service user?</p>"
        f'<p><a href="{again}&amp;sandbox=approve">Sign in</a> <a href="{again}&amp;sandbox=deny">Cancel</a></p>'
    )
    return Response(200, page.encode(), dict(HTML))


def error_page(refusal: Refused, now: datetime) -> Response:
    """What the person sees where there is no address to go back to."""
    page = f"<!DOCTYPE html><title>Sign in to your account</title><p>Sorry, but we're having trouble signing you in.</p><p>{html.escape(refusal.description(now))}</p>"
    return Response(400, page.encode(), dict(HTML))


def _without_port(address: str) -> str:
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme == "http" and host in {"localhost", "127.0.0.1"}:
        return f"http://{host}{parts.path.rstrip('/')}"
    return address
