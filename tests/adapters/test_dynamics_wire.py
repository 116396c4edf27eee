"""The Dynamics adapter on a wire that misbehaves, and at the sign-in: answers made by hand, and the served tenant."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from served_dynamics import World

from cosell_sync.crm.dynamics import signin
from cosell_sync.crm.dynamics.batch import Group, Op
from cosell_sync.crm.dynamics.questions import template
from cosell_sync.crm.dynamics.rest import ID_HEADERS, Rest
from cosell_sync.crm.dynamics.signin import Application, SignIn
from cosell_sync.errors import AuthFailed, ConfigError, Flaky, Rejected, Stale, Surprise, Unavailable, Unclear
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import AccessToken, TokenSource

HOST = "https://contoso.crm4.dynamics.com"
ROOT = f"{HOST}/api/data/v9.2"
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PART = "Content-Type: application/http\r\n\r\nHTTP/1.1 {} X\r\n{}\r\n\r\n{}\r\n"


class Time:
    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def rest(time: Time) -> Iterator[Rest]:
    governor = Governor("dynamics", clock=time.clock, monotonic=lambda: time.passed, sleep=time.sleep)
    caller = HttpCaller(
        "dynamics",
        HOST,
        governor=governor,
        tokens=TokenSource(lambda: AccessToken("secret-token", START + timedelta(hours=1)), clock=time.clock),
        id_headers=ID_HEADERS,
        clock=time.clock,
        monotonic=lambda: time.passed,
        chance=lambda: 1.0,
    )
    yield Rest(caller, clock=time.clock)
    caller.close()


def multipart(*parts: str, status: int = 200) -> httpx.Response:
    body = "".join(f"--r\r\n{each}" for each in parts) + "--r--"
    return httpx.Response(status, headers={"content-type": "multipart/mixed; boundary=r"}, text=body)


def writes(count: int, *, guarded: bool = True) -> list[Group]:
    headers = {"If-Match": 'W/"1"'} if guarded else {}
    return [(Op("PATCH" if guarded else "POST", f"t{at}", {"a": at}, headers),) for at in range(count)]


# --- reading ------------------------------------------------------------------------------------------------------


@respx.mock
def test_every_call_says_which_odata_it_speaks(rest: Rest) -> None:
    route = respx.get(f"{ROOT}/WhoAmI").respond(json={"UserId": ID})
    assert rest.get("WhoAmI")["UserId"] == ID
    sent = route.calls.last.request.headers
    assert (sent["odata-version"], sent["odata-maxversion"], sent["if-none-match"]) == ("4.0", "4.0", "null")
    assert sent["accept"] == "application/json"
    assert sent["x-ms-client-request-id"]
    assert sent["authorization"] == "Bearer secret-token"


@respx.mock
@pytest.mark.parametrize("absolute", [True, False])
def test_links_go_out_exactly_as_they_came(rest: Rest, absolute: bool) -> None:
    odd = "accounts?$select=name&$skiptoken=%3Ccookie%20a=%22%25%22%2f%3E+b%27"
    link = f"{ROOT}/{odd}" if absolute else odd
    pages = {
        "accounts?$select=name": {"value": [{"a": 1}], "@odata.nextLink": link},
        odd: {"value": [{"a": 2}]},
    }
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        raw = request.url.raw_path.decode().removeprefix("/api/data/v9.2/")
        seen.append(raw)
        assert request.headers["prefer"] == "odata.maxpagesize=5000"
        return httpx.Response(200, json=pages[raw])

    respx.get(url__startswith=ROOT).mock(side_effect=answer)
    assert [row["a"] for row in rest.rows("accounts?$select=name")] == [1, 2]
    assert seen == list(pages)


@respx.mock
@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/x",
        f"http{HOST[5:]}/x",
        f"{HOST}:444/x",
        "https://contoso.crm4.dynamics.com.evil/",
    ],
)
def test_the_token_goes_to_no_other_host(rest: Rest, link: str) -> None:
    respx.get(f"{ROOT}/accounts").respond(json={"value": [], "@odata.nextLink": link})
    with pytest.raises(Unavailable) as caught:
        list(rest.rows("accounts"))
    assert caught.value.code == "foreign_host"
    assert len(respx.calls) == 1


@respx.mock
def test_pages_that_go_in_a_circle_end(rest: Rest) -> None:
    respx.get(f"{ROOT}/accounts").respond(json={"value": [], "@odata.nextLink": f"{ROOT}/accounts?p=1"})
    respx.get(f"{ROOT}/accounts?p=1").respond(json={"value": [], "@odata.nextLink": f"{ROOT}/accounts?p=1"})
    with pytest.raises(Unavailable, match="circle"):
        list(rest.rows("accounts"))


@respx.mock
@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(200, text="<html>"), Unavailable),
        (httpx.Response(200, json=[1]), Unavailable),
        (httpx.Response(400, json={"error": {"code": "0x80060888", "message": "no such column"}}), Surprise),
        (httpx.Response(403, json={"error": {"code": "0x80042F09", "message": "no roles"}}), AuthFailed),
        (httpx.Response(404, text=""), Unavailable),
        (httpx.Response(302, headers={"location": "https://evil.example"}), Unavailable),
    ],
)
def test_questions_that_are_not_answered(
    rest: Rest, response: httpx.Response, error: type[Exception]
) -> None:
    respx.get(f"{ROOT}/accounts").mock(return_value=response)
    with pytest.raises(error):
        list(rest.rows("accounts"))


@respx.mock
def test_a_stumble_over_a_delta_link_is_no_change_of_shape(rest: Rest) -> None:
    respx.get(f"{ROOT}/accounts").respond(500, json={"error": {"code": "0x80040216", "message": "?"}})
    with pytest.raises(Flaky):
        list(rest.sheets("accounts", scope=Scope.RECORD))


# --- writing ------------------------------------------------------------------------------------------------------


@respx.mock
def test_a_write_alone_needs_no_batch(rest: Rest) -> None:
    route = respx.post(f"{ROOT}/t0").respond(204, headers={"OData-EntityId": f"{ROOT}/t0({ID})"})
    (result,) = rest.send(writes(1, guarded=False))
    assert (result.error, result.ids) == (None, (ID,))
    assert json.loads(route.calls.last.request.content) == {"a": 0}
    assert rest.send([]) == []


@respx.mock
def test_fifty_share_a_batch_and_a_change_set_is_never_split(rest: Rest) -> None:
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["prefer"] == "odata.continue-on-error"
        assert re.search(rb"PATCH /api/data/v9.2/t\d+ HTTP/1.1\r\n", request.content)
        groups = len(re.findall(rb"\r\nIf-Match", request.content))
        sizes.append(groups)
        top = request.content.count(b"application/http") - 4 * request.content.count(b"multipart/mixed")
        nested = request.content.count(b"multipart/mixed")
        inner = "".join(f"--n\r\n{PART.format(204, '', '')}" for _ in range(4)) + "--n--\r\n"
        parts = [f"Content-Type: multipart/mixed; boundary=n\r\n\r\n{inner}"] * nested
        parts += [PART.format(204, "", "")] * top
        return multipart(*parts)

    respx.post(f"{ROOT}/$batch").mock(side_effect=answer)
    group = tuple(Op("PATCH", f"t{at}", {}, {"If-Match": "*"}) for at in range(4))
    results = rest.send([*writes(48), group, *writes(3)])
    assert {each.error for each in results} == {None}
    assert len(results) == 52
    assert sizes == [48, 7]


@respx.mock
def test_a_throttled_part_is_tried_again_alone_after_the_wait_it_asked_for(rest: Rest, time: Time) -> None:
    slow = PART.format(429, "Retry-After: 9", '{"error": {"code": "0x80072322"}}')
    bad = PART.format(412, "", '{"error": {"code": "0x80060882"}}')
    fine = PART.format(204, "", "")
    first = respx.post(f"{ROOT}/$batch").mock(return_value=multipart(fine, slow, bad))
    again = respx.patch(f"{ROOT}/t1").respond(204)
    one, two, three = rest.send(writes(3))
    assert (one.error, two.error) == (None, None)
    assert isinstance(three.error, Stale)
    assert (first.call_count, again.call_count) == (1, 1)
    assert time.passed == 9


@respx.mock
@pytest.mark.parametrize("guarded", [True, False])
def test_a_throttle_at_the_door_repeats_creates_too(rest: Rest, time: Time, guarded: bool) -> None:
    """429 proves that nothing was done, so even a create may be sent again."""
    slow = httpx.Response(429, headers={"Retry-After": "5"}, json={"error": {"code": "0x80072326"}})
    respx.post(f"{ROOT}/$batch").mock(
        side_effect=[slow, multipart(PART.format(204, "", ""), PART.format(204, "", ""))]
    )
    assert {each.error for each in rest.send(writes(2, guarded=guarded))} == {None}
    assert time.passed == 5


@respx.mock
@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(200, text="{}"), Unclear),
        (httpx.Response(200, headers={"content-type": "multipart/mixed; boundary=r"}, text="--r--"), Unclear),
        (httpx.Response(200, headers={"content-type": "multipart/mixed; boundary=r"}, text="x"), Unclear),
        (httpx.Response(400, json={"error": {"code": "0x1", "message": "framing"}}), Rejected),
        (httpx.Response(500, json={"error": {"code": "", "message": "?"}}), Unclear),
        (httpx.ReadTimeout("late"), Unclear),
    ],
)
def test_a_batch_without_a_usable_answer(rest: Rest, response: Any, error: type[Exception]) -> None:
    respx.post(f"{ROOT}/$batch").mock(side_effect=[response])
    results = rest.send(writes(2))
    assert {type(each.error) for each in results} == {error}
    assert len(respx.calls) == 1


@respx.mock
def test_a_server_that_stops_at_the_first_failure(rest: Rest) -> None:
    bad = PART.format(400, "", '{"error": {"code": "0x80040265", "message": "No."}}')
    respx.post(f"{ROOT}/$batch").mock(return_value=multipart(PART.format(204, "", ""), bad, status=400))
    kinds = [type(each.error) for each in rest.send(writes(3))]
    assert kinds == [type(None), Rejected, Flaky]


@respx.mock
@pytest.mark.parametrize("closed", [True, False])
def test_parts_that_are_not_answered_may_have_landed(rest: Rest, closed: bool) -> None:
    """Only a failure before them says that they were not carried out: a proxy may have cut the answer, and a create that is made
    again would be a second row.
    """
    whole = multipart(PART.format(204, "", ""), PART.format(204, "", ""))
    text = whole.text if closed else whole.text.removesuffix("--r--")
    respx.post(f"{ROOT}/$batch").mock(return_value=httpx.Response(200, headers=whole.headers, text=text))
    kinds = [type(each.error) for each in rest.send(writes(3))]
    assert kinds == [type(None), type(None), Unclear]


@respx.mock
def test_two_silent_batches_mean_that_nobody_is_there(rest: Rest) -> None:
    respx.post(f"{ROOT}/$batch").mock(side_effect=httpx.ReadTimeout("late"))
    results = rest.send(writes(200))
    assert len(respx.calls) == 2
    assert all(isinstance(each.error, Unclear) for each in results[:100])
    assert all(isinstance(each.outage, Unavailable) for each in results[100:])


@respx.mock
def test_logs_show_neither_ids_nor_texts(rest: Rest) -> None:
    respx.get().respond(json={})
    respx.route().respond(204)
    with structlog.testing.capture_logs() as logs:
        rest.send(
            [
                (
                    Op(
                        "PATCH",
                        "opportunities(cosell_referralid='person@x.example')",
                        {"a": "note"},
                        {"If-Match": "*"},
                    ),
                )
            ]
        )
        rest.get("accounts?$filter=name%20eq%20'Secret'", scope=Scope.RECORD)
    assert [each["path"] for each in logs] == ["opportunities(…)", "accounts"]
    assert not re.search("person|Secret|note|secret-token", repr(logs))
    assert template(f"{ROOT}/accounts?$deltatoken=1") == "accounts"


# --- signing in ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def world(certificates: Certificates, tmp_path: Path) -> Iterator[World]:
    made = World(certificates, certificates.write(tmp_path / "ca.pem"))
    made.server.start()
    yield made
    made.close()
    assert made.server.errors == []


def self_signed() -> tuple[str, bytes]:
    """PEM of key and certificate together, and of the certificate alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cosell-sync")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(START - timedelta(days=9)).not_valid_after(START + timedelta(days=9000))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    return (private + public).decode(), public


def test_signing_in_by_secret(world: World) -> None:
    token = world.signin()()
    assert world.org.entra.opened(f"Bearer {token.value}", world.server.url)
    assert token.expires_at > world.clock()
    assert "token" not in repr(token).replace("AccessToken", "")
    (call,) = world.server.calls.matching("POST", "token")
    assert f"scope={world.server.url}/.default".replace("/", "%2F").replace(":", "%3A") in call.body.decode()


def test_every_sign_in_asks_anew(world: World) -> None:
    """MSAL's cache would hand out the refused token again."""
    signin_ = world.signin()
    assert signin_().value != signin_().value


def test_signing_in_by_certificate(world: World) -> None:
    pem, public = self_signed()
    client = "11111111-0000-4000-8000-000000000001"
    world.org.register_app(client, certificate=public)
    token = world.signin(client_id=client, client_secret=None, certificate=pem)()
    assert world.org.entra.opened(f"Bearer {token.value}", world.server.url) == client


@pytest.mark.parametrize("pem", ["nonsense", "", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"])
def test_a_certificate_that_cannot_be_used(pem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signin.credential(Application(HOST, certificate=pem))
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigError):
        signin.credential(Application(HOST))


@pytest.mark.parametrize("identity", ["system", None])
def test_signing_in_as_a_managed_identity(
    world: World, monkeypatch: pytest.MonkeyPatch, identity: str | None
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{world.server.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", world.org.entra.identity_header)
    token = world.signin(managed_identity=identity or world.org.entra.client_id)()
    assert world.org.entra.opened(f"Bearer {token.value}", world.server.url)
    with pytest.raises(AuthFailed) as caught:
        world.signin(managed_identity="22222222-0000-4000-8000-000000000001")()
    assert "managed_identity" in caught.value.hint


def test_a_refusal_names_what_to_do_and_nobody(world: World) -> None:
    world.org.refuse_sign_in("invalid_client", "AADSTS7000215: wrong secret of person@x.example", 7000215)
    with pytest.raises(AuthFailed) as caught:
        world.signin()()
    assert caught.value.code == "AADSTS7000215"
    assert "dynamics.client_secret" in caught.value.hint
    assert "person" not in f"{caught.value} {caught.value.hint}"


def test_an_unknown_tenant(world: World) -> None:
    with pytest.raises(AuthFailed) as caught:
        world.signin(tenant_id="33333333-0000-4000-8000-000000000001")()
    assert "tenant" in caught.value.hint


def test_an_authority_that_cannot_be_reached(world: World) -> None:
    options = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    away = Application(HOST, authority="https://127.0.0.1:1", **options)
    with pytest.raises(Unavailable):
        SignIn(away, world.authority(read=2), clock=world.clock)()
    untrusted = Application(HOST, authority=world.server.url, **options)
    with pytest.raises(Unavailable) as caught:
        SignIn(untrusted, world.authority(verify=ssl.create_default_context()), clock=world.clock)()
    assert caught.value.code == "certificate"


@pytest.mark.parametrize(
    ("answer", "error", "hint"),
    [
        ({"error": "invalid_client"}, AuthFailed, "client_secret"),
        ({"error": "invalid_scope", "error_description": "AADSTS500011: x"}, AuthFailed, "dynamics.url"),
        ({"error": "temporarily_unavailable"}, Unavailable, ""),
        ({}, AuthFailed, "application user"),
    ],
)
def test_what_refusals_mean(answer: dict[str, str], error: type[Exception], hint: str) -> None:
    found = signin.refusal(answer)
    assert type(found) is error
    assert hint in found.hint


def test_secrets_do_not_show() -> None:
    shown = repr(Application(HOST, client_secret="hush", certificate="hush"))
    assert "hush" not in shown
