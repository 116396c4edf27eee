"""A person signs in to Partner Center, over made-up answers: what is asked, what is taken for an answer, what is kept."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
import respx

from cosell_sync.cli.login import usual_way
from cosell_sync.errors import AuthFailed, ConfigError, Unavailable
from cosell_sync.partner_center import login
from cosell_sync.partner_center.login import Granted, Terminal, answer_of, sign_in
from cosell_sync.partner_center.signin import Application
from cosell_sync.partner_center.values import made_with_mfa, tenant_of
from cosell_sync.transport.aadsts import Way
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.loopback import Loopback
from cosell_sync.transport.throttle import Governor

LOGIN = "https://login.example"
TENANT = "3f6c1b52-0000-4000-8000-00000000a001"
PUBLIC = Application("tenant", "client", None, LOGIN)
SECRET_TEXT = "AADSTS70008: The code of ida.kern@partner.example has expired."
PENDING = {"error": "authorization_pending"}


def jwt(**claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.sig"


GRANT = {
    "access_token": jwt(tid=TENANT, ver="1.0", amr=["pwd", "mfa"]),
    "refresh_token": "r",
    "expires_in": 3600,
    "token_type": "Bearer",
}


class Entra:
    """Answers of the sign-in service to MSAL, and the caller over which it asks."""

    def __init__(self, mock: respx.MockRouter, *polls: dict[str, Any]) -> None:
        self.polls = list(polls)
        self.forms: list[Mapping[str, str]] = []
        self.slept: list[float] = []
        self.stop = threading.Event()
        self.tenant_known = True
        mock.route(url__startswith=LOGIN).mock(side_effect=self.send)
        self.caller = HttpCaller(
            "partner_center",
            "",
            governor=Governor("partner_center", stop=self.stop, sleep=self.slept.append),
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def send(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        base = f"{LOGIN}/tenant"
        body: dict[str, Any]
        if not self.tenant_known:
            body = {"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found."}
        elif "openid-configuration" in url:
            body = {
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "issuer": f"{base}/v2.0",
            }
        elif "devicecode" in url:
            body = {"user_code": "ABC", "device_code": "d", "verification_uri": "u", "interval": 0}
            body |= {"expires_in": 900, "message": "Open u and enter ABC"}
        else:
            form = parse_qs(request.content.decode())
            self.forms.append({key: value[0] for key, value in form.items()})
            body = self.polls.pop(0)
        return httpx.Response(400 if "error" in body else 200, json=body)


@pytest.fixture
def entra() -> Iterator[Callable[..., Entra]]:
    with respx.mock(assert_all_called=False) as mock:
        yield lambda *polls: Entra(mock, *polls)


class Person:
    """Reads the address that is shown, and answers what the test wants."""

    def __init__(self, *pasted: str | Callable[[Mapping[str, str]], str]) -> None:
        self.pasted = list(pasted)
        self.shown: list[str] = []

    @property
    def asked(self) -> dict[str, str]:
        """What the shown address asks the authority for."""
        line = next(line for line in "\n".join(self.shown).splitlines() if line.startswith(LOGIN))
        return dict(parse_qsl(urlsplit(line).query))

    def ask(self) -> str | None:
        if not self.pasted:
            return None
        line = self.pasted.pop(0)
        return line if isinstance(line, str) else line(self.asked)

    @property
    def terminal(self) -> Terminal:
        return Terminal(self.shown.append, self.ask)


# --- by device code ---------------------------------------------------------------------------------------------


def test_a_device_login_gives_the_refresh_token(entra: Callable[..., Entra]) -> None:
    world, person = entra(PENDING, GRANT), Person()
    application = Application("tenant", "client", "s3cret", LOGIN)
    granted = sign_in(application, world.caller, Way.DEVICE_CODE, person.terminal)
    assert (granted.refresh_token, granted.tenant, granted.mfa) == ("r", TENANT, True)
    assert person.shown[0] == "Open u and enter ABC"
    assert "login --browser" in person.shown[1], "a policy may be told to the browser only"
    assert world.slept == [1.0]
    assert {form["client_secret"] for form in world.forms} == {"s3cret"}
    assert "'r'" not in repr(granted)


@pytest.mark.parametrize("error", ["authorization_declined", "expired_token", "bad_verification_code"])
def test_a_device_login_that_is_declined_gives_nothing(entra: Callable[..., Entra], error: str) -> None:
    world = entra({"error": error, "error_description": SECRET_TEXT})
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, world.caller, Way.DEVICE_CODE, Person().terminal)
    assert caught.value.code == error
    assert "ida.kern" not in f"{caught.value} {caught.value.hint}"


def test_a_device_login_can_be_stopped(entra: Callable[..., Entra]) -> None:
    world = entra(*[PENDING] * 9)
    with pytest.raises(Unavailable) as caught:
        sign_in(PUBLIC, world.caller, Way.DEVICE_CODE, Terminal(lambda _: world.stop.set()))
    assert caught.value.code == "stopping"


# --- pasted -----------------------------------------------------------------------------------------------------

CODE = "1.AXoA" + "b-_~" * 300


def address(asked: Mapping[str, str], **changes: str) -> str:
    fields = {"code": CODE, "state": asked["state"], "session_state": "s", **changes}
    return f"http://localhost/?{urlencode(fields)}#"


PASTES: dict[str, Callable[[Mapping[str, str]], str]] = {
    "the whole address": address,
    "without its scheme": lambda asked: address(asked).removeprefix("http://"),
    "quoted": lambda asked: f"'{address(asked)}'",
    "broken by the terminal": lambda asked: address(asked).replace("session", "ses  \tsion"),
    "what follows the question mark": lambda asked: address(asked).partition("?")[2],
    "the code alone": lambda _: CODE,
    "code= and the code": lambda _: f"code={CODE}",
}


@pytest.mark.parametrize("paste", PASTES)
def test_an_answer_is_taken_however_it_is_pasted(entra: Callable[..., Entra], paste: str) -> None:
    world, person = entra(GRANT), Person(PASTES[paste])
    granted = sign_in(PUBLIC, world.caller, Way.PASTE, person.terminal)
    assert granted.refresh_token == "r"
    form = world.forms[0]
    assert form["code"] == CODE
    assert form["redirect_uri"] == "http://localhost"
    assert len(form["code_verifier"]) >= 43
    assert "client_secret" not in form
    asked = person.asked
    assert asked["code_challenge_method"] == "S256"
    assert asked["prompt"] == "select_account", "the browser is seldom signed in as the service user"
    assert {"offline_access", "https://api.partner.microsoft.com/.default"} <= set(asked["scope"].split())


def test_what_is_no_answer_is_asked_for_again(entra: Callable[..., Entra]) -> None:
    world = entra(GRANT)
    person = Person("", lambda asked: f"{LOGIN}/tenant/oauth2/v2.0/authorize?{urlencode(asked)}", address)
    assert sign_in(PUBLIC, world.caller, Way.PASTE, person.terminal).refresh_token == "r"
    assert person.shown.count(login.NOT_THE_ANSWER) == 2


@pytest.mark.parametrize("pasted", [[], ["no"], ["no", "no", "no", address]])
def test_without_an_answer_nothing_is_asked_of_the_authority(
    entra: Callable[..., Entra], pasted: list[Any]
) -> None:
    world = entra()
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, world.caller, Way.PASTE, Person(*pasted).terminal)
    assert caught.value.code == "no_answer"
    assert world.forms == []


@pytest.mark.parametrize("state", ["another", ""])
def test_the_answer_to_another_sign_in_is_refused(entra: Callable[..., Entra], state: str) -> None:
    world, person = entra(), Person(lambda asked: address(asked, state=state))
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, world.caller, Way.PASTE, person.terminal)
    assert caught.value.code == "state_mismatch"
    assert world.forms == []
    assert person.asked["state"] not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


def test_a_refusal_that_is_pasted_is_explained(entra: Callable[..., Entra]) -> None:
    text = "AADSTS65004: User ida.kern@partner.example declined to consent."
    refused = Person(
        lambda asked: (
            f"http://localhost/?{urlencode({'error': 'access_denied', 'error_description': text, 'state': asked['state']})}"
        )
    )
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, entra().caller, Way.PASTE, refused.terminal)
    assert "AADSTS65004" in str(caught.value)
    assert "Grant admin consent" in caught.value.hint
    assert "ida.kern" not in f"{caught.value} {caught.value.hint}"


def test_the_text_of_microsofts_error_page_may_be_pasted_too(entra: Callable[..., Entra]) -> None:
    """Where the app or its redirect address is wrong, Entra has nowhere to send the person back to."""
    person = Person("AADSTS50011: The redirect URI 'http://localhost' does not match the redirect URIs …")
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, entra().caller, Way.PASTE, person.terminal)
    assert "AADSTS50011" in str(caught.value)
    assert "add http://localhost to the app registration" in caught.value.hint


@pytest.mark.parametrize(
    "pasted", ["?", "&" * 200, "code", "http://localhost/?state=x", "x" * 9000, "é" * 30]
)
def test_nothing_pasted_is_too_odd(pasted: str) -> None:
    assert answer_of(pasted, "state") is None


# --- by browser -------------------------------------------------------------------------------------------------


def browser(entra: Entra, visit: Callable[[str, Mapping[str, str]], object]) -> Terminal:
    """A browser in which the person signs in at once; ``visit`` gets the redirect address and what was asked."""

    def browse(address: str) -> bool:
        asked = dict(parse_qsl(urlsplit(address).query))
        visit(asked["redirect_uri"], asked)
        return True

    return Terminal(lambda _: None, browse=browse)


def posted(to: str, **fields: str) -> int:
    """Real HTTP to the loopback address, past the mock."""
    import http.client

    parts = urlsplit(to)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
    headers = {"Host": parts.netloc, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/", urlencode(fields), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_browser_brings_the_answer(entra: Callable[..., Entra]) -> None:
    world = entra(GRANT)
    seen: list[int] = []

    def visit(redirect: str, asked: Mapping[str, str]) -> None:
        assert urlsplit(redirect).hostname == "localhost"
        assert asked["response_mode"] == "form_post", "no code in the browser's history"
        seen.append(posted(redirect, code="stolen", state="guessed"))
        seen.append(posted(redirect, state=asked["state"]))
        seen.append(posted(redirect, code=CODE, state=asked["state"]))
        seen.append(posted(redirect, code="later", state=asked["state"]))

    application = Application("tenant", "client", "s3cret", LOGIN)
    granted = sign_in(application, world.caller, Way.BROWSER, browser(world, visit))
    assert granted.refresh_token == "r"
    assert seen == [400, 400, 200, 200]
    assert world.forms[0]["code"] == CODE, "the first one counts"
    assert world.forms[0]["client_secret"] == "s3cret"


def test_nobody_signs_in_within_the_time(entra: Callable[..., Entra]) -> None:
    shown: list[str] = []
    with pytest.raises(AuthFailed) as caught:
        sign_in(PUBLIC, entra().caller, Way.BROWSER, Terminal(shown.append), patience=0.0)
    assert caught.value.code == "timeout"
    assert "--paste" in caught.value.hint
    assert LOGIN in "".join(shown), "without a browser that opens by itself, the address is shown"


def test_waiting_for_the_browser_can_be_stopped(entra: Callable[..., Entra]) -> None:
    world = entra()
    with pytest.raises(Unavailable) as caught:
        sign_in(PUBLIC, world.caller, Way.BROWSER, Terminal(lambda _: world.stop.set()))
    assert caught.value.code == "stopping"


def test_the_listener_is_on_loopback_and_refuses_other_names() -> None:
    import http.client

    with Loopback("state") as door:
        assert door._server.server_address[0] == "127.0.0.1"
        for host, path in (("evil.example", "/"), (f"localhost:{door.port}", "/favicon.ico")):
            connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
            connection.request("GET", f"{path}?code=x&state=state", headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read().decode()
            assert (answer.status, "code" in body) == (404, False)
            connection.close()
        assert door.wait(0.0) is None
    with pytest.raises(ConnectionRefusedError):
        posted(f"http://localhost:{door.port}", code="x", state="state")


def test_an_answer_that_is_too_long_is_refused() -> None:
    with Loopback("state") as door:
        assert posted(f"http://localhost:{door.port}", code="x" * 70_000, state="state") == 413
        assert door.wait(0.0) is None


# --- which way, and what was got --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "platform", "terminal", "way"),
    [
        ({"DISPLAY": ":0"}, "linux", True, Way.BROWSER),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True, Way.BROWSER),
        ({}, "darwin", True, Way.BROWSER),
        ({}, "win32", True, Way.BROWSER),
        ({"BROWSER": "wslview"}, "linux", True, Way.BROWSER),
        ({}, "linux", True, Way.PASTE),
        ({"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22", "DISPLAY": ":10"}, "linux", True, Way.PASTE),
        ({"SSH_TTY": "/dev/ttys1"}, "darwin", True, Way.PASTE),
        ({"DISPLAY": ":0"}, "linux", False, Way.DEVICE_CODE),
        ({}, "linux", False, Way.DEVICE_CODE),
    ],
)
def test_the_usual_way(environment: dict[str, str], platform: str, terminal: bool, way: Way) -> None:
    assert usual_way(environment, platform, terminal=terminal) is way


@pytest.mark.parametrize(
    ("token", "mfa"),
    [
        (jwt(tid=TENANT, ver="1.0", amr=["pwd", "mfa"]), True),
        (jwt(tid=TENANT, ver="1.0", amr=["pwd"]), False),
        (jwt(tid=TENANT, ver="1.0"), False),
        (jwt(tid=TENANT, ver="2.0"), None),
        (jwt(tid=TENANT, ver="1.0", amr="mfa"), None),
        ("opaque", None),
        ("a.b.c", None),
        ("e30.W10.x", None),
    ],
)
def test_whether_a_token_was_made_with_mfa(token: str, mfa: bool | None) -> None:
    assert made_with_mfa(token) is mfa
    assert Granted("r", token).mfa is mfa
    assert tenant_of(token) in {"", TENANT}


def test_an_unknown_tenant_is_a_matter_of_the_configuration(entra: Callable[..., Entra]) -> None:
    world = entra()
    world.tenant_known = False
    with pytest.raises(ConfigError) as caught:
        sign_in(PUBLIC, world.caller, Way.PASTE, Person().terminal)
    assert "partner_center.tenant_id" in caught.value.hint
