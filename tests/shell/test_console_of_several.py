"""The console over several connections: one page that lists them, one sign-in for all, and each deal in its own connection."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from console_world import World, deal, urgent
from structlog.testing import capture_logs
from werkzeug.test import Client

from cosell_sync.cli.console_pages import Subject, console_of_several
from cosell_sync.web.server import Application

TOKEN = "correct horse battery staple"
HOME = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
PARKED = deal(1, "Lakehouse", memory=urgent("No.", parked=True))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """``acme`` with a parked deal, ``wrong`` misconfigured; ``web`` reaches both."""
    token = tmp_path / "console-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    made = World([PARKED], token=token)
    facts = replace(made.facts, connection="acme")

    def subject(name: str) -> Subject | None:
        if name != "acme":
            return None
        return Subject(
            made.wired.settings,
            made.store,
            lambda: made.wired.rules,
            made.wired.clock,
            made.wired.meters,
            lambda: facts,
            lambda: timedelta(minutes=1),
            lambda _: "",
            made.wake,
        )

    several = {
        "acme": facts,
        "wrong": replace(facts, crm="", connection="wrong", wrong="connections.wrong.sync.interval"),
    }
    console = console_of_several(made.wired.settings, subject, lambda: several, made.told.append)
    made.web = Client(Application(lambda: several, lambda: b"", console=console))
    return made


def test_the_first_page_lists_them_and_each_page_stays_with_its_connection(world: World) -> None:
    first = world.page("/")
    assert 'href="/?connection=acme"' in first
    assert "misconfigured: connections.wrong.sync.interval" in first
    assert 'connection=wrong"' not in first
    for path in ("/?connection=acme", "/deals?connection=acme&state=parked"):
        page = world.page(path)
        assert f'href="/deals/{PARKED.referral_id}?connection=acme"' in page
        own = [each for each in re.findall(r'href="(/[^"]*)"', page) if not each.startswith("/sign-in")]
        assert [each for each in own if "connection=acme" not in each] == ["/"], "the way to the others"
    assert '<input type="hidden" name="connection" value="acme">' in world.page("/deals?connection=acme")
    for path in ("/deals", "/deals?connection=wrong", "/?connection=nobody", f"/deals/{PARKED.referral_id}"):
        assert world.web.get(path).status_code == 404, path


def test_one_sign_in_acts_on_every_connection(world: World) -> None:
    page = f"/deals/{PARKED.referral_id}?connection=acme"
    assert world.web.post(page, data={"verb": "retry"}, headers=HOME).status_code == 403
    assert "Sign in" in world.page("/")
    answer = world.web.post("/sign-in", data={"token": TOKEN, "next": page}, headers=HOME)
    assert (answer.status_code, answer.location) == (303, page)
    assert "Sign out" in world.page("/")
    (form,) = re.findall(r"<form class=\"card\".*?</form>", world.page(page), re.DOTALL)
    (address,) = re.findall(r'action="([^"]*)"', form)
    assert address == page
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        answer = world.web.post(
            address, data=dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)), headers=HOME
        )
    assert [(line["event"], line["connection"]) for line in logged] == [("console.ordered", "acme")]
    assert (answer.status_code, answer.location) == (303, f"{page}#orders")
    assert [order.verb for order in world.store.orders()] == ["retry"]
    assert world.woken == 1
    assert world.told == ["refused", "signed_in", "ordered"]
