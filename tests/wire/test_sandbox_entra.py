"""The fake sign-in service's authorization codes, policies and armed refusals, and the fake Partner Center's demand for MFA."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from test_sandbox_partner_center import SCOPE, Stage, code

from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.server import Server

pytestmark = pytest.mark.wire

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
HERE = "http://localhost:50123"


@pytest.fixture(scope="module")
def trust() -> tuple[Certificates, ssl.SSLContext]:
    certificates = Certificates()
    return certificates, certificates.client_context()


@pytest.fixture
def stage(trust: tuple[Certificates, ssl.SSLContext]) -> Iterator[Stage]:
    stage = Stage()
    stage.world.entra.approve_at_once = True
    with Server(stage.world, trust[0].server_context()) as stage.server:
        with httpx.Client(verify=trust[1], base_url=stage.server.url) as stage.http:
            yield stage
        assert stage.server.errors == []


def page(stage: Stage, **changes: str | None) -> httpx.Response:
    """The authorize endpoint's answer to a request of ours with changes; None: left out."""
    entra = stage.world.entra
    asked: dict[str, str | None] = {
        "client_id": entra.client_id,
        "response_type": "code",
        "redirect_uri": HERE,
        "scope": SCOPE,
        "state": "our state",
        "nonce": "n",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    query = {name: value for name, value in asked.items() if value is not None}
    return stage.http.get(f"/{entra.tenant}/oauth2/v2.0/authorize", params=query)


def brought(answer: httpx.Response) -> dict[str, str]:
    """What the redirect address gets."""
    assert answer.status_code == 302
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def redeemed(stage: Stage, fields: dict[str, str], **changes: str) -> httpx.Response:
    form = {"code": fields["code"], "redirect_uri": HERE, "code_verifier": VERIFIER, **changes}
    return stage.token(grant_type="authorization_code", **form)


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))  # type: ignore[no-any-return]


def test_a_code_gives_tokens_once(stage: Stage) -> None:
    answer = page(stage)
    assert answer.headers["location"].startswith(f"{HERE}/?"), "Entra adds the slash"
    fields = brought(answer)
    assert fields["state"] == "our state"
    granted = redeemed(stage, fields).json()
    assert claims(granted["id_token"])["nonce"] == "n"
    assert claims(granted["access_token"]) == {
        "aud": "https://api.partner.microsoft.com",
        "tid": stage.world.entra.tenant,
        "ver": "1.0",
        "amr": ["pwd", "mfa"],
    }
    stage.http.headers["Authorization"] = f"Bearer {granted['access_token']}"
    assert stage.get().status_code == 200
    assert redeemed(stage, fields).json()["error_codes"] == [54005]


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"code_verifier": "w" * 43}, 501481),
        ({"code_verifier": ""}, 501481),
        ({"redirect_uri": "http://localhost:50124"}, 500112),
        ({"code": "unheard of"}, 9002313),
        ({"client_id": "other"}, 700016),
        ({"client_secret": "public clients have none"}, 700025),
    ],
)
def test_a_code_is_redeemed_by_who_asked_for_it(stage: Stage, changes: dict[str, str], number: int) -> None:
    assert redeemed(stage, brought(page(stage)), **changes).json()["error_codes"] == [number]


def test_a_code_lives_for_ten_minutes(stage: Stage) -> None:
    fields = brought(page(stage))
    stage.now += timedelta(minutes=11)
    assert redeemed(stage, fields).json()["error_codes"] == [70008]


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"client_id": "other"}, 700016),
        ({"redirect_uri": "http://localhost:50123/path"}, 50011),
        ({"redirect_uri": "http://127.0.0.1:50123"}, 50011),
        ({"redirect_uri": "http://[::1]:50123"}, 50011),
        ({"redirect_uri": "https://localhost"}, 50011),
        ({"redirect_uri": "http://localhost.evil.example"}, 50011),
        ({"redirect_uri": None}, 50011),
    ],
)
def test_nobody_is_sent_to_an_unknown_address(
    stage: Stage, changes: dict[str, str | None], number: int
) -> None:
    answer = page(stage, **changes)
    assert answer.status_code == 400
    assert f"AADSTS{number}" in answer.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "https://graph.microsoft.com/.default offline_access"}, "invalid_scope"),
        ({"sandbox": "deny"}, "access_denied"),
    ],
)
def test_other_refusals_come_to_the_redirect_address(
    stage: Stage, changes: dict[str, str | None], error: str
) -> None:
    fields = brought(page(stage, **changes))
    assert (fields["error"], fields["state"]) == (error, "our state")
    assert fields["error_description"].startswith("AADSTS")


def test_a_person_decides_and_the_answer_may_be_a_form(stage: Stage) -> None:
    stage.world.entra.approve_at_once = False
    asking = page(stage)
    assert asking.status_code == 200
    assert "sandbox=approve" in asking.text
    assert "code" in brought(page(stage, sandbox="approve"))
    form = page(stage, sandbox="approve", response_mode="form_post")
    assert f'action="{HERE}"' in form.text
    assert 'name="code"' in form.text


def test_refusals_are_armed_and_lifted_from_a_shell(stage: Stage) -> None:
    control: Callable[..., httpx.Response] = lambda path, **body: stage.http.post(  # noqa: E731
        f"/_sandbox/{path}", json=body
    )
    assert control("refuse-sign-ins", number=65001).status_code == 204
    assert stage.token(refresh_token="sandbox-refresh-token").json()["error_codes"] == [65001]
    assert control("refuse-sign-ins", number=7000222, at="token").status_code == 204
    assert stage.token(refresh_token="sandbox-refresh-token").status_code == 401
    control("refuse-sign-ins", number=53003, at="authorize")
    assert brought(page(stage))["error_description"].startswith("AADSTS53003")
    control("refuse-sign-ins", number=None)
    assert stage.token(refresh_token="sandbox-refresh-token").status_code == 200
    assert control("refuse-sign-ins", number=1).status_code == 400
    assert control("sign-ins", mfa=False).status_code == 204
    assert control("sign-ins", tenant="other").status_code == 400
    assert stage.world.entra.mfa is False


def test_the_policy_that_blocks_device_codes_reaches_what_came_from_one(stage: Stage) -> None:
    entra = stage.world.entra
    asked = {"client_id": entra.client_id, "scope": SCOPE}
    start = lambda: stage.http.post(f"/{entra.tenant}/oauth2/v2.0/devicecode", data=asked).json()  # noqa: E731
    poll = lambda flow: stage.token(  # noqa: E731
        grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=flow["device_code"]
    ).json()
    first = poll(start())["refresh_token"]
    rotated = stage.token(refresh_token=first).json()["refresh_token"]
    entra.block_device_code = "told"
    assert poll(start())["error_codes"] == [53003]
    assert stage.token(refresh_token=rotated).json()["error_codes"] == [530036]
    assert "access_token" in redeemed(stage, brought(page(stage))).json()
    entra.block_device_code = "silent"
    assert poll(start())["error"] == "authorization_pending"


def test_partner_center_demands_mfa_and_a_role(stage: Stage) -> None:
    entra = stage.world.entra
    token = entra.issue_access_token(mfa=False)
    stage.http.headers["Authorization"] = f"Bearer {token}"
    answer = stage.get()
    assert answer.status_code == 401
    assert answer.json().keys() == {"code", "description", "data", "source"}
    assert answer.json()["code"] == "900421"
    stage.world.switches.demand_mfa = False
    assert stage.get().status_code == 200
    stage.world.switches.referrals_role = False
    assert code(stage.get()) == (403, "accessDenied")


def test_a_role_for_some_locations_sees_their_referrals_only(stage: Stage) -> None:
    stage.sign_in()
    seen, unseen = stage.world.add(mpnId="4711"), stage.world.add(mpnId="4712")
    stage.world.switches.locations = ["4711"]
    assert [row["id"] for row in stage.get().json()["value"]] == [seen["id"]]
    path = f"/v1.0/engagements/referrals/{unseen['id']}"
    assert code(stage.call("GET", path)) == (404, "itemNotFound")
