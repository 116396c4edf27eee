"""A whole cycle with a fault in it, then one without: how the first one ends, and that both sides agree after the second.

The program as ``sync`` runs it, in process, against the served sandbox of either CRM; only its clocks are given, so that
no wait is real.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from cosell_sync import settings
from cosell_sync.bootstrap import dynamics, partner_center, salesforce
from cosell_sync.bootstrap.program import program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import OutsideError
from cosell_sync.sandbox.demo.comparison import compare
from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.throttle import Governor

CYCLES = 4  # after a fault: settled, carried, told, quiet


class Clock:
    """The real time, and whatever was slept."""

    def __init__(self) -> None:
        self.slept = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.slept)

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@dataclass
class Stage:
    sandbox: Sandbox
    home: Path
    clock: Clock
    told: list[dict[str, Any]] = field(default_factory=list)
    deals: int = 0

    def cycle(self) -> int:
        """The exit code; ``told`` holds the events."""
        loaded = settings.load(
            env=self.sandbox.environment(self.home)
            | {"COSELL_SYNC__SURPRISE_MIN": "1000", "COSELL_SYNC__SURPRISE_MOVES": "1000"}
        )
        with (
            structlog.testing.capture_logs() as logs,
            program(loaded, clock=self.clock) as wired,
            wired.store.lease(timedelta(0)),
        ):
            try:
                code = run_cycle(wired.cycle_services(), "cycle").exit_code
            except OutsideError:
                code = 3
        self.told = [dict(each) for each in logs]
        assert len(self.named("cycle.finished")) == 1
        return code

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.told if each["event"] == event]

    def events(self) -> str:
        return "\n".join(str(each) for each in self.told if each["event"] != "http.call")

    def linked(self) -> str:
        """The referral id of a deal that both sides hold, edited on both."""
        pc, seller = self.sandbox.partner_center, self.sandbox.seller
        referral = self.added()
        assert self.cycle() == 0
        deal = next(each for each in seller.deals() if each["referral_id"] == referral)
        pc.edit(referral, {"details/dealValue": 4300 + self.deals, "campaignId": "SPRING"})
        seller.write(deal["id"], close_date="2031-03-03", notes="the seller's")
        return referral

    def added(self) -> str:
        self.deals += 1
        details = {"currency": "EUR", "dealValue": 84000, "notes": None}
        plain = {"name": f"Deal {self.deals}", "campaignId": None, "favorite": False, "details": details}
        return str(self.sandbox.partner_center.add("inbound_accepted", **plain)["id"])

    def agreed(self) -> None:
        """Soon nothing waits for anybody and nothing more is written, and both tell the same story."""
        for _ in range(CYCLES):
            code = self.cycle()
            (finished,) = self.named("cycle.finished")
            if (code, finished["failed"], finished["written"]) == (0, 0, {"partner_center": 0, "crm": 0}):
                break
        else:
            raise AssertionError(self.events())
        found = compare(self.sandbox.partner_center, self.sandbox.seller)
        assert found.holds, found.faults
        assert found.named == []

    @property
    def servers(self) -> tuple[Server, Server]:
        sandbox = self.sandbox
        crm = sandbox.salesforce_server if sandbox.crm == "salesforce" else sandbox.dynamics_server
        return sandbox.partner_center_server, crm


@pytest.fixture(scope="module", params=["salesforce", "dynamics"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    clock, home = Clock(), tmp_path_factory.mktemp("cycles")
    with Sandbox(crm=request.param, clock=clock) as sandbox, pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.environment(home).items():
            if not name.startswith("COSELL_"):
                patch.setenv(name, value)  # whom to trust
        given = {"clock": clock, "monotonic": clock.monotonic, "sleep": clock.sleep}
        calling = functools.partial(HttpCaller, clock=clock, monotonic=clock.monotonic)
        for wiring in (partner_center, salesforce, dynamics):
            patch.setattr(wiring, "Governor", functools.partial(Governor, **given))
            patch.setattr(wiring, "HttpCaller", calling)
        yield Stage(sandbox, home, clock)
        assert all(server.errors == [] for server in sandbox.servers)


REFERRALS = r"/engagements/referrals"
LIST = {"method": "GET", "path": f"{REFERRALS}$"}
PATCH = {"method": "PATCH", "path": REFERRALS}
# What the same deed is on either CRM.
TOKEN = {"path": r"/oauth2/(v2\.0/)?token$"}
READ = {
    "salesforce": {"path": r"/composite$"},
    "dynamics": {"method": "POST", "path": r"/\$batch$", "body": r"GET \S*/opportunities\?"},
}
WRITE = {
    "salesforce": {"path": r"/composite$", "body": r'"PATCH","url":"/services/data/v[\d.]+/sobjects/'},
    "dynamics": {"method": "PATCH", "path": r"/opportunities\([0-9a-f]"},
}
CREATE = {
    "salesforce": {"path": r"/composite$", "body": "/composite/sobjects/Opportunity/"},
    "dynamics": {"method": "PATCH", "path": r"/opportunities\(cosell_"},
}
LASTING = {"times": None}
STRANGE = {"answer": ["unexpected"]}
SOON, LATER = ({"Retry-After": str(seconds)} for seconds in (7, 600))

OURS = {
    "the list is overloaded": (LIST, "answer", {"status": 503, **LASTING}, 3),
    "the list is throttled for a moment": (LIST, "answer", {"status": 429, "headers": SOON}, 0),
    "the list is throttled for long": (LIST, "answer", {"status": 429, "headers": LATER}, 3),
    "a web page for a list": (LIST, "html", LASTING, 3),
    "the list leads elsewhere": (LIST, "redirect", {"location": "https://elsewhere.example", **LASTING}, 3),
    "no token": (TOKEN, "answer", {"status": 500, **LASTING}, 3),
    "a refused sign-in": (TOKEN, "answer", {"status": 400, "answer": {"error": "invalid_client"}}, 3),
    "a change whose answer is lost": (PATCH, "reset_after", {}, 0),
    "a change that never arrives": (PATCH, "reset_before", {}, 0),
    "a change answered with something else": (PATCH, "wrong_json", STRANGE, 0),
    "a change answered by a web page": (PATCH, "html", {}, 0),
    "a change that leads elsewhere": (PATCH, "redirect", {"location": "https://elsewhere.example"}, 3),
    "a change refused": (PATCH, "answer", {"status": 403, "answer": {"error": {"code": "accessDenied"}}}, 1),
    "a change that came too late": (PATCH, "answer", {"status": 412}, 0),
    "a change answered 500, yet done": (PATCH, "answer", {"status": 500, "applied": True}, 0),
    "changes throttled for long": (PATCH, "answer", {"status": 429, "headers": LATER}, 3),
}
THEIRS = {
    "the questions are overloaded": (READ, "answer", {"status": 503, **LASTING}, 3),
    "the questions are throttled for long": (READ, "answer", {"status": 429, "headers": LATER}, 3),
    "a web page for an answer": (READ, "html", LASTING, 3),
    "a shape that is not theirs": (READ, "wrong_json", {**STRANGE, **LASTING}, 3),
    "no token": (TOKEN, "answer", {"status": 500, **LASTING}, 3),
    "a change whose answer is lost": (WRITE, "reset_after", {}, 0),
    "a change that never arrives": (WRITE, "reset_before", {}, 0),
    "a change answered with something else": (WRITE, "wrong_json", STRANGE, 0),
    "a change answered 500, yet done": (WRITE, "answer", {"status": 500, "applied": True}, 0),
    "a change that leads elsewhere": (WRITE, "redirect", {"location": "https://elsewhere.example"}, 3),
    "changes throttled for long": (WRITE, "answer", {"status": 429, "headers": LATER}, 3),
}
BORN = {
    "a new deal whose answer is lost": (CREATE, "reset_after", {}),
    "a new deal that never arrives": (CREATE, "reset_before", {}),
    "a new deal answered with something else": (CREATE, "wrong_json", STRANGE),
    "a new deal answered 500, yet made": (CREATE, "answer", {"status": 500, "applied": True}),
    "a new deal answered by a web page": (CREATE, "html", {}),
}


def strike(server: Server, kind: str, details: dict[str, Any], match: dict[str, Any]) -> None:
    headers = {"Location": details["location"]} if "location" in details else details.get("headers", {})
    given = {name: value for name, value in details.items() if name != "location"}
    if kind == "redirect":
        given["status"] = 307
    server.faults.add(kind, **{**match, **given, "headers": headers})  # type: ignore[arg-type]


def recovers(stage: Stage, server: Server) -> None:
    """After the fault: left alone for as long as it asked, then settled, and quiet."""
    assert any(call.fault for call in server.calls)
    server.faults.clear()
    server.calls.clear()
    stage.clock.sleep(600)
    stage.agreed()


@pytest.mark.parametrize("what", OURS)
def test_a_fault_of_partner_center(stage: Stage, what: str) -> None:
    match, kind, details, code = OURS[what]
    server, _ = stage.servers
    stage.linked()
    strike(server, kind, details, match)
    assert stage.cycle() == code, stage.events()
    recovers(stage, server)


@pytest.mark.parametrize("what", THEIRS)
def test_a_fault_of_the_crm(stage: Stage, what: str) -> None:
    match, kind, details, code = THEIRS[what]
    _, server = stage.servers
    stage.linked()
    strike(server, kind, details, match.get(stage.sandbox.crm, match))
    assert stage.cycle() == code, stage.events()
    recovers(stage, server)


@pytest.mark.parametrize("what", BORN)
def test_a_fault_while_a_deal_is_born_in_the_crm(stage: Stage, what: str) -> None:
    """Made once, whatever became of the answer."""
    match, kind, details = BORN[what]
    _, server = stage.servers
    referral = stage.added()
    strike(server, kind, details, match[stage.sandbox.crm])
    stage.cycle()
    recovers(stage, server)
    assert [each["referral_id"] for each in stage.sandbox.seller.deals()].count(referral) == 1
