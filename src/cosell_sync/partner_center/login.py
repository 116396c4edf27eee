"""A person signs in to Partner Center once, in one of three ways; what comes of it is the refresh token that is kept.

- ``browser``: authorization code with PKCE; the browser of this machine brings the answer to a loopback address.
- ``paste``: the same where the browser is on another machine: the address is printed, the answer pasted.
- ``device-code``: a code is typed elsewhere. Many tenants block it (Microsoft's managed Conditional Access policy
  "Block device code flow", since 2025), so nothing falls back to it where a person could paste.

MSAL (Microsoft's own library) words the requests and makes state, nonce and PKCE. The user is asked to choose an account, for
the one that a browser is signed in with already is seldom the service user.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

from __future__ import annotations

import re
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from cosell_sync.errors import AuthFailed, ConfigError
from cosell_sync.partner_center.signin import SYSTEM, Application, refusal
from cosell_sync.partner_center.values import made_with_mfa, tenant_of
from cosell_sync.transport.aadsts import LOGIN, OTHERWISE, Way
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.loopback import Loopback

if TYPE_CHECKING:
    from cosell_sync.transport.session import LibrarySession

SLOWEST: Final = 60  # seconds from one question to the next that the authority may ask for
PATIENCE: Final = 300.0  # seconds that a person has to sign in in the browser
LOOK: Final = 0.2  # seconds between two looks whether the program is to stop
ATTEMPTS: Final = 3  # at pasting the answer
FIELDS: Final = 50  # of an answer; real ones have three
REDIRECT: Final = "http://localhost"  # Entra ignores the port of a loopback address
BLOCKED: Final = (
    f"Should the page say that this is blocked (AADSTS53003, 530033, 530036): Ctrl-C, then {OTHERWISE}."
)
PASTE: Final = """Open this address in a browser, on any machine, and sign in as the service user, with MFA:

{address}

The browser then shows that it cannot reach localhost. That is as it should be: copy the whole address of that page
(it begins with http://localhost) and paste it here. It works once and only here."""
NOT_THE_ANSWER: Final = "That is not the answer. Paste the whole address of the last page: it begins with http://localhost and has code= in it."


@dataclass(frozen=True)
class Terminal:
    """Where the person sits. ``show``: print lines. ``ask``: one line that the person pastes, None at the end of the input.

    ``browse``: open an address in a browser of this machine; whether that worked.
    """

    show: Callable[[str], None]
    ask: Callable[[], str | None] = lambda: None
    browse: Callable[[str], bool] = lambda _: False


@dataclass(frozen=True)
class Granted:
    """What a sign-in gave."""

    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)

    @property
    def tenant(self) -> str:
        """The tenant that was signed in to; empty where the token cannot be read."""
        return tenant_of(self.access_token)

    @property
    def mfa(self) -> bool | None:
        """Whether the user passed MFA; None where the token does not say."""
        return made_with_mfa(self.access_token)


def sign_in(
    application: Application,
    caller: HttpCaller,
    way: Way,
    terminal: Terminal,
    *,
    patience: float = PATIENCE,
) -> Granted:
    """Let a person sign in. ``caller`` calls whatever host the authority names, without tokens of its own.

    Raises AuthFailed, Unavailable or ConfigError.
    """
    from cosell_sync.transport.session import sign_in_session  # noqa: PLC0415 - imports requests

    with sign_in_session(caller) as session:
        client = _client(application, session)
        if way is Way.DEVICE_CODE:
            result = _device_flow(client, application, caller, terminal)
        else:
            result = _code_flow(client, application, caller, way, terminal, patience)
        return _granted(client, result, way)


def _client(application: Application, session: LibrarySession) -> Any:
    import msal  # noqa: PLC0415 - only `login` needs it, and it is a good part of a command's start

    try:
        return msal.PublicClientApplication(
            application.client_id,
            authority=f"{application.authority.rstrip('/')}/{application.tenant_id}",
            http_client=session,
            # The authority is the operator's own word; asking login.microsoftonline.com whether it knows it would
            # fail for sovereign and sandbox authorities.
            instance_discovery=False,
        )
    except (ValueError, KeyError) as cause:  # MSAL words an unknown tenant as a ValueError
        raise _no_authority() from cause


def _no_authority() -> ConfigError:
    return ConfigError(
        "the sign-in authority does not know this tenant or does not answer as one",
        hint="check partner_center.authority and partner_center.tenant_id",
    )


def _secret(application: Application) -> dict[str, str]:
    """A registration with a secret is asked for it here as well (AADSTS7000218); a new dict, for MSAL adds to it."""
    return {"client_secret": application.client_secret} if application.client_secret else {}


def _granted(client: Any, result: Mapping[str, Any], way: Way) -> Granted:
    if "access_token" not in result:
        raise refusal(result, way=way)
    import msal  # noqa: PLC0415 - see `_client`

    # To the end, for the search holds a lock of MSAL's as long as it is not.
    kept = list(client.token_cache.search(msal.TokenCache.CredentialType.REFRESH_TOKEN))
    token = next((entry.get("secret") for entry in kept), None)
    if not isinstance(token, str) or not token:
        raise AuthFailed(
            SYSTEM,
            "Microsoft gave no refresh token",
            code="no_refresh_token",
            hint="allow the app offline_access, then run cosell-sync login again",
        )
    return Granted(token, str(result["access_token"]))


# --- by device code -------------------------------------------------------------------------------------------------


def _device_flow(
    client: Any, application: Application, caller: HttpCaller, terminal: Terminal
) -> Mapping[str, Any]:
    """The answer of the token endpoint, once the person has typed the code or the code has expired."""
    try:
        flow = client.initiate_device_flow(scopes=[application.scope])
    except (ValueError, KeyError) as cause:
        raise _no_authority() from cause
    if "user_code" not in flow:
        raise refusal(flow, way=Way.DEVICE_CODE)
    asked = str(flow.get("interval", 5))
    seconds = int(asked) if re.fullmatch(r"\d{1,6}", asked, re.ASCII) else 5
    flow["interval"] = min(max(1, seconds), SLOWEST)  # at 0 MSAL would poll without ever coming back
    terminal.show(
        str(flow.get("message") or f"Open {flow.get('verification_uri')} and enter {flow['user_code']}")
    )
    # Entra may tell only the browser that a policy blocks this, while we are told to go on waiting.
    terminal.show(BLOCKED)
    while True:
        result = dict(
            client.acquire_token_by_device_flow(
                flow, exit_condition=lambda _: True, data=_secret(application)
            )
        )
        if result.get("error") not in {"authorization_pending", "slow_down"}:
            return result
        if flow.get("expires_at", 0) < time.time():
            raise AuthFailed(
                SYSTEM,
                "the sign-in was not completed in time",
                code="expired_token",
                hint=f"{LOGIN}; if the page said that it is blocked: {OTHERWISE}",
            )
        caller.governor.wait(float(flow["interval"]))


# --- by authorization code ------------------------------------------------------------------------------------------


def _code_flow(
    client: Any,
    application: Application,
    caller: HttpCaller,
    way: Way,
    terminal: Terminal,
    patience: float,
) -> Mapping[str, Any]:
    """The answer of the token endpoint to the code that the browser or the person brought."""
    state = secrets.token_urlsafe(24)
    with ExitStack() as closing:
        door = closing.enter_context(Loopback(state)) if way is Way.BROWSER else None
        with warnings.catch_warnings():
            # MSAL advises against the answer in an address; to be pasted it has to be there, and PKCE protects it.
            warnings.simplefilter("ignore")
            flow = client.initiate_auth_code_flow(
                [application.scope],
                redirect_uri=f"{REDIRECT}:{door.port}" if door else REDIRECT,
                state=state,
                prompt="select_account",
                response_mode="form_post" if door else "query",
            )
        if door is not None:
            answer = _brought(door, str(flow["auth_uri"]), caller, terminal, patience)
        else:
            answer = _pasted(str(flow["auth_uri"]), state, terminal)
    try:
        return dict(client.acquire_token_by_auth_code_flow(flow, dict(answer), data=_secret(application)))
    except (ValueError, RuntimeError):  # another state or nonce than ours; the texts hold both
        raise AuthFailed(
            SYSTEM,
            "the answer belongs to another sign-in than the one that was begun here",
            code="state_mismatch",
            hint=f"use the address that this very command shows: {LOGIN} again",
        ) from None


def _brought(
    door: Loopback, address: str, caller: HttpCaller, terminal: Terminal, patience: float
) -> Mapping[str, str]:
    opened = terminal.browse(address)
    where = "It has been opened in your browser" if opened else "Open it in a browser of this machine"
    terminal.show(f"Sign in as the service user, with MFA, at this address. {where}.\n\n{address}\n")
    until = time.monotonic() + patience
    while (answer := door.wait(LOOK)) is None:
        caller.governor.check()
        if time.monotonic() >= until:
            raise AuthFailed(
                SYSTEM,
                f"no answer came from the browser within {patience:.0f} seconds",
                code="timeout",
                hint="run cosell-sync login again, or with --paste if the browser is on another machine",
            )
    return answer


def _pasted(address: str, state: str, terminal: Terminal) -> Mapping[str, str]:
    terminal.show(PASTE.format(address=address))
    for attempt in range(ATTEMPTS):
        if attempt:
            terminal.show(NOT_THE_ANSWER)
        pasted = terminal.ask()
        if pasted is None:
            break
        answer = answer_of(pasted, state)
        if answer is not None:
            return answer
    raise AuthFailed(
        SYSTEM,
        "no answer was pasted",
        code="no_answer",
        hint="run cosell-sync login --paste again, in a terminal (in a container with docker run -it)",
    )


def answer_of(pasted: str, state: str) -> Mapping[str, str] | None:
    """The fields of an answer as people paste it: the whole address, what stands after its ``?``, the code alone, or the text
    of Microsoft's error page.

    A code alone is taken for the answer to this sign-in; PKCE holds it to that. None: it is none of these.
    """
    if (page := re.search(r"AADSTS\d{3,8}", pasted)) and "?" not in pasted:
        return {"error": "error_page", "error_description": page[0], "state": state}
    text = "".join(pasted.split()).strip("\"'<>")  # a terminal may have broken the line
    before, mark, after = text.partition("?")
    query = (after if mark else before).partition("#")[0]
    fields = dict(parse_qsl(query)) if query.count("&") < FIELDS else {}
    if fields.keys() & {"code", "error"}:
        return fields if mark or "state" in fields else {**fields, "state": state}
    if re.fullmatch(r"[A-Za-z0-9._~!*-]{20,8192}", text):
        return {"code": text, "state": state}
    return None
