"""`login` in its three ways against the served sign-in service, every refusal of it, and what `doctor` says of a sign-in."""

from __future__ import annotations

import html
import os
import pty
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from acceptance import COMMAND, Done, Stage, staged, waited

from cosell_sync.transport.aadsts import CURES, Way, cure

pytestmark = pytest.mark.wire

# A program that opens an address as a browser does: it follows redirects, and sends the form that a page submits by itself.
BROWSER = """
import html, os, re, ssl, sys, urllib.parse, urllib.request
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
page = urllib.request.urlopen(sys.argv[1], context=context).read().decode()
action = html.unescape(re.search('action="([^"]+)"', page)[1])
fields = {name: html.unescape(value) for name, value in re.findall('name="([^"]+)" value="([^"]*)"', page)}
urllib.request.urlopen(action, urllib.parse.urlencode(fields).encode()).read()
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stage]]:
    made = {crm: staged(tmp_path_factory.mktemp(crm), crm) for crm in ("salesforce", "dynamics")}
    yield {crm: next(stage) for crm, stage in made.items()}
    for stage in made.values():
        next(stage, None)


@pytest.fixture
def stage(stages: dict[str, Stage], tmp_path: Path) -> Iterator[Stage]:
    """The sandbox as it comes, with a store of its own and nobody signed in."""
    stage = stages["salesforce"]
    yield from fresh(stage, tmp_path)


def fresh(stage: Stage, home: Path) -> Iterator[Stage]:
    before = dict(stage.env)
    stage.env |= {
        "COSELL_STORE__URL": f"sqlite:///{home / 'store.db'}",
        "COSELL_PARTNER_CENTER__REFRESH_TOKEN": "",
    }
    yield stage
    stage.env.clear()
    stage.env |= before
    entra, switches = stage.pc.entra, stage.pc.switches
    entra.arm(None)
    stage.sandbox.dynamics.entra.arm(None)
    entra.set_policies(mfa=True, block_device_code="no", approve_at_once=False)
    entra.authorization.redirect_uris[:] = ["http://localhost"]
    entra.authorization.code_bytes = 900
    switches.demand_mfa, switches.referrals_role, switches.locations = True, True, None


def visited(stage: Stage, address: str) -> httpx.Response:
    """The page at an address, as a browser gets it that trusts the sandbox; redirects are not followed."""
    trust = ssl.create_default_context(cafile=str(stage.home / "sandbox-ca.pem"))
    return httpx.get(address, verify=trust, follow_redirects=False)


def in_the_browser(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the browser showed of a command in this process that opens one: there the person signs in at once."""
    pages: list[str] = []

    def browse(address: str) -> bool:
        page = visited(stage, address)
        pages.append(page.text)
        form = re.search(r'action="([^"]+)"', page.text)
        if form:
            fields = {
                name: html.unescape(value)
                for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', page.text)
            }
            threading.Thread(target=httpx.post, args=(form[1],), kwargs={"data": fields}).start()
        return True

    monkeypatch.setattr("cosell_sync.cli.login.webbrowser.open", browse)
    return pages


def todo(done: Done) -> str:
    """The next step that the command names."""
    return "\n".join(
        line.removeprefix("Next: ") for line in done.sentences.splitlines() if line.startswith("Next: ")
    )


# --- the three ways -------------------------------------------------------------------------------------------------


def test_login_by_the_browser_of_this_machine(stage: Stage, tmp_path: Path) -> None:
    """As a process, which finds the browser by itself; the address on the screen is the one that was opened."""
    program = tmp_path / "browser.py"
    program.write_text(BROWSER)
    stage.pc.entra.approve_at_once = True
    done = stage.cosell("login", "--browser", process=True, BROWSER=f"{sys.executable} {program} %s")
    assert f"Signed in to Partner Center, tenant {stage.pc.entra.tenant}, with MFA." in done.out
    assert done.err == ""
    assert stage.sync(expect=None).named("cycle.finished")


def test_login_by_the_answer_that_is_pasted_into_a_terminal(stage: Stage) -> None:
    """The usual way in a terminal without a browser; the answer is longer than a terminal takes by itself (4096)."""
    stage.pc.entra.approve_at_once = True
    stage.pc.entra.authorization.code_bytes = 4200
    env = {name: value for name, value in stage.environment().items() if name not in {"DISPLAY", "BROWSER"}}
    env.pop("WAYLAND_DISPLAY", None)
    terminal, end = pty.openpty()
    command = subprocess.Popen(
        [str(COMMAND), "login"],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**env, "TERM": "dumb"},
        cwd=stage.home,
    )
    os.close(end)
    os.set_blocking(terminal, False)
    said = ""

    def read() -> str:
        nonlocal said
        try:
            said += os.read(terminal, 65536).decode()
        except BlockingIOError:
            pass
        except OSError:  # the end of a terminal
            return said + "\n[end]"
        return said

    waited(lambda: "> " in read(), "the question for the answer")
    address = next(line for line in said.splitlines() if line.startswith("https://"))
    answer = visited(stage, address).headers["location"]
    assert answer.startswith("http://localhost/?code=")
    assert len(answer) > 4500
    os.write(terminal, f"{answer}\n".encode())
    waited(lambda: "[end]" in read(), "the end of the command")
    os.close(terminal)
    assert command.wait(60) == 0, said
    assert f"Signed in to Partner Center, tenant {stage.pc.entra.tenant}, with MFA." in said
    assert stage.sync(expect=None).named("cycle.finished")


def test_login_by_device_code(stage: Stage) -> None:
    """The usual way without a terminal."""
    stage.pc.entra.approve_at_once = True
    done = stage.cosell("login")
    assert "/devicelogin and enter the code" in done.out
    assert f"Signed in to Partner Center, tenant {stage.pc.entra.tenant}, with MFA." in done.out
    assert stage.sync(expect=None).named("cycle.finished")


def test_the_end_of_the_input_ends_a_paste(stage: Stage) -> None:
    done = stage.cosell("login", "--paste", expect=3)
    assert "no answer was pasted" in done.sentences
    assert "docker run -it" in todo(done)


def test_one_way_at_a_time(stage: Stage) -> None:
    done = stage.cosell("login", "--paste", "--browser", expect=2)
    assert "only one way at a time: --browser, --paste" in done.sentences


def test_a_person_who_cancels(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = in_the_browser(stage, monkeypatch)
    original = visited

    def cancelling(on: Stage, address: str) -> httpx.Response:
        page = original(on, address)
        link = re.search(r'href="([^"]+deny)"', page.text)
        assert link
        return original(on, f"{on.servers[0].url}{html.unescape(link[1])}")

    monkeypatch.setattr(sys.modules[__name__], "visited", cancelling)
    done = stage.cosell("login", "--browser", expect=3)
    assert pages
    assert "AADSTS65004" in done.sentences
    assert "Grant admin consent" in todo(done)


# --- every refusal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", CURES)
def test_every_refusal_of_a_login_names_its_cure(
    stage: Stage, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the token endpoint after a device code, and by way of the browser; nothing is stored."""
    entra = stage.pc.entra
    entra.approve_at_once = True
    entra.arm(number)
    done = stage.cosell("login", "--device-code", expect=3)
    assert re.search(rf"{re.escape(CURES[number].means)} \(\w+, AADSTS{number}\)", done.sentences)
    assert todo(done) == cure(number, Way.DEVICE_CODE)
    in_the_browser(stage, monkeypatch)
    entra.arm(number, "authorize")
    done = stage.cosell("login", "--browser", expect=3)
    assert todo(done) == cure(number, Way.BROWSER)
    assert "nordlicht.example" not in done.sentences, "the texts of refusals name people"
    entra.arm(None)
    assert "nobody has signed in" in stage.sync(expect=3).sentences


@pytest.mark.parametrize("number", CURES)
def test_every_refusal_of_the_stored_sign_in_names_its_cure(stage: Stage, number: int) -> None:
    stage.pc.entra.arm(number)
    token = stage.pc.entra.issue_refresh_token()
    done = stage.sync(expect=3, COSELL_PARTNER_CENTER__REFRESH_TOKEN=token)
    assert re.search(rf"{re.escape(CURES[number].means)} \(\w+, AADSTS{number}\)", done.sentences)
    assert todo(done) == cure(number, Way.REFRESH)
    (event,) = done.named("system.failed")
    assert f"AADSTS{number}" in event["reason"], "a daemon has nobody to tell but its log"
    assert event["hint"] == cure(number, Way.REFRESH)
    assert "nordlicht.example" not in done.err


@pytest.mark.parametrize("number", [number for number, row in CURES.items() if row.application])
def test_every_refusal_of_the_application_names_its_cure(
    stages: dict[str, Stage], number: int, tmp_path: Path
) -> None:
    for stage in fresh(stages["dynamics"], tmp_path):
        stage.sandbox.dynamics.entra.arm(number)
        token = stage.pc.entra.issue_refresh_token()
        done = stage.sync(expect=3, COSELL_PARTNER_CENTER__REFRESH_TOKEN=token)
        assert re.search(rf"{re.escape(CURES[number].means)} \(\w+, AADSTS{number}\)", done.sentences)
        assert todo(done) == cure(number, Way.APPLICATION)


def test_an_error_page_without_a_way_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entra does not send anybody to an address that it does not know: the number is in the browser only."""
    stage.pc.entra.authorization.redirect_uris[:] = ["https://elsewhere.example"]
    monkeypatch.setattr("cosell_sync.partner_center.login.sign_in.__kwdefaults__", {"patience": 0.0})
    pages = in_the_browser(stage, monkeypatch)
    done = stage.cosell("login", "--browser", expect=3)
    assert "AADSTS50011" in pages[0]
    assert "no answer came from the browser" in done.sentences
    assert "paste" in todo(done)


def test_a_tenant_that_does_not_exist(stage: Stage) -> None:
    for way in ("--browser", "--paste", "--device-code"):
        done = stage.cosell("login", way, expect=2, COSELL_PARTNER_CENTER__TENANT_ID="nobody.example")
        assert "partner_center.tenant_id" in todo(done)


def test_a_blocked_device_code(stage: Stage) -> None:
    entra = stage.pc.entra
    entra.set_policies(approve_at_once=True, block_device_code="told")
    done = stage.cosell("login", "--device-code", expect=3)
    assert "AADSTS53003" in done.sentences
    assert "--browser" in todo(done)
    assert "--paste" in todo(done)
    assert "--device-code" not in todo(done)


def test_a_sign_in_by_device_code_dies_with_the_policy_that_blocks_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    entra = stage.pc.entra
    entra.approve_at_once = True
    stage.cosell("login", "--device-code")
    stage.sync(expect=None)
    entra.block_device_code = "told"
    entra.expire_tokens()
    done = stage.sync(expect=3)
    assert "AADSTS530036" in done.sentences
    assert "login --browser" in todo(done)
    in_the_browser(stage, monkeypatch)
    stage.cosell("login", "--browser")
    assert stage.sync(expect=None).named("cycle.finished"), "the other way is not blocked"


# --- MFA ------------------------------------------------------------------------------------------------------------


def test_without_mfa_the_cycle_ends_and_login_cures_it(stage: Stage) -> None:
    entra = stage.pc.entra
    entra.set_policies(approve_at_once=True, mfa=False)
    done = stage.cosell("login")
    assert "Warning: this sign-in was made without multifactor authentication (MFA)" in done.out
    done = stage.sync(expect=3)
    assert "demands multifactor authentication" in done.sentences
    assert "900421" in done.sentences
    assert todo(done) == "sign in again as a user with MFA: run cosell-sync login"
    assert "nordlicht.example" not in done.err
    entra.mfa = True
    assert "Warning" not in stage.cosell("login").out
    assert stage.sync(expect=None).named("cycle.finished")


def test_a_sign_in_that_was_made_anew_counts_at_once(stage: Stage) -> None:
    """`plan` begins with the access token that is left in the store: the one without MFA."""
    entra = stage.pc.entra
    entra.set_policies(approve_at_once=True, mfa=False)
    stage.cosell("login")
    stage.sync(expect=3)
    entra.mfa = True
    stage.cosell("login")
    stage.cosell("plan")


# --- another tenant -------------------------------------------------------------------------------------------------

OTHER = "3f6c1b52-0000-4000-8000-00000000b002"


def test_a_sign_in_to_another_tenant_is_not_stored(stage: Stage) -> None:
    entra, ours = stage.pc.entra, stage.pc.entra.tenant
    entra.approve_at_once = True
    stage.cosell("login")
    stage.sync(expect=None)
    try:
        entra.tenant = OTHER
        anywhere = {"COSELL_PARTNER_CENTER__TENANT_ID": "organizations"}
        done = stage.cosell("login", expect=2, **anywhere)
        assert ours in done.sentences
        assert OTHER in done.sentences
        assert "nothing was stored" in done.sentences
    finally:
        entra.tenant = ours
    assert stage.sync(expect=None).named("cycle.finished"), "the sign-in of before is still there"


# --- doctor ---------------------------------------------------------------------------------------------------------


def checks(stage: Stage, expect: int, **env: str) -> dict[str, dict[str, Any]]:
    return {
        row["name"]: row for row in stage.cosell("doctor", "--json", expect=expect, **env).json()["checks"]
    }


def test_doctor_shows_whose_referrals_of_which_locations_are_visible(stage: Stage) -> None:
    stage.pc.entra.approve_at_once = True
    stage.cosell("login")
    for place in ("4711", "4711", "4712"):
        stage.add(mpnId=place)
    stage.forget_calls()
    found = checks(stage, 0)
    assert stage.pc.entra.tenant in found["Partner Center"]["message"]
    assert "Nordlicht" in found["Partner Center"]["message"]
    assert found["MFA"]["status"] == "ok"
    visible = found["referrals visible"]
    assert "2 of location 4711, 1 of location 4712" in visible["message"]
    assert "another tenant of the same account" in visible["todo"]
    assert len(stage.servers[0].calls.matching("GET", "/engagements/referrals")) == 1, "one page"
    stage.pc.switches.locations = ["4712"]
    narrow = checks(stage, 0)["referrals visible"]
    assert "4711" not in narrow["message"]
    assert "a location that the role of the signed-in user does not cover" in narrow["todo"]


def test_doctor_of_a_sign_in_without_mfa(stage: Stage) -> None:
    stage.pc.entra.set_policies(approve_at_once=True, mfa=False)
    stage.cosell("login")
    found = checks(stage, 3)["Partner Center"]
    assert found["status"] == "fault"
    assert "900421" in found["message"]
    assert "user with MFA" in found["todo"]
    stage.pc.switches.demand_mfa = False  # before it is enforced for this tenant
    found = checks(stage, 0)["MFA"]
    assert found["status"] == "warning"
    assert "user with MFA" in found["todo"]


def test_doctor_of_a_user_without_a_role_for_referrals(stage: Stage) -> None:
    stage.pc.entra.approve_at_once = True
    stage.cosell("login")
    stage.pc.switches.referrals_role = False
    found = checks(stage, 3)["Partner Center"]
    assert stage.pc.entra.tenant in found["message"], "the sign-in itself was fine"
    assert "accessDenied" in found["message"]
    assert "Referrals admin" in found["todo"]
    assert "Referrals admin" in todo(stage.sync(expect=3))


def test_doctor_of_another_tenant(stage: Stage) -> None:
    entra, ours = stage.pc.entra, stage.pc.entra.tenant
    entra.approve_at_once = True
    stage.cosell("login")
    stage.sync(expect=None)
    try:
        entra.tenant = OTHER
        found = checks(stage, 1, COSELL_PARTNER_CENTER__TENANT_ID=OTHER)["connection"]
    finally:
        entra.tenant = ours
    assert found["status"] == "fault"
    assert ours in found["message"]
    assert OTHER in found["message"]


def test_doctor_of_a_sign_in_that_came_from_a_device_code_which_is_blocked_now(stage: Stage) -> None:
    entra = stage.pc.entra
    entra.approve_at_once = True
    stage.cosell("login")
    entra.block_device_code = "told"
    found = checks(stage, 3)["Partner Center"]
    assert "AADSTS530036" in found["message"]
    assert "login --browser" in found["todo"]
