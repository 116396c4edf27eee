"""``run``: ready, watched, woken by nothing but edits and time, stopped politely, replaced by the one that stands by."""

from __future__ import annotations

import html
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from acceptance import PATIENCE, Stage, staged, waited
from comparison import disagreements

from ports import held_port

pytestmark = pytest.mark.wire


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    for stage in staged(tmp_path, crm):
        stage.env.update(COSELL_SYNC__INTERVAL="1s", COSELL_SYNC__TERMINAL_HOLD="0s")
        yield stage


class Daemon:
    """A running ``cosell-sync run`` and its listener."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage = stage
        self.url = f"http://127.0.0.1:{port}"
        # Its log goes to a file: nobody reads a pipe while the daemon talks.
        self.log = stage.home / f"run-{port}.log"
        self.process = stage.start("run", into=self.log, COSELL_HTTP__LISTEN=f"127.0.0.1:{port}")

    def get(self, path: str) -> httpx.Response | None:
        try:
            return httpx.get(self.url + path, timeout=30)
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200

    def wait_ready(self) -> None:
        waited(self.ready, "the daemon to be ready", process=self.process)

    def stop(self) -> None:
        """SIGTERM; it ends with 0, and waits neither for a call nor for the grace after which it would leave one behind."""
        self.process.send_signal(signal.SIGTERM)
        code, log = self.process.wait(PATIENCE), self.log.read_text()
        assert (code, "daemon.abandoned" in log) == (0, False), log[-3000:]


@contextmanager
def running(stage: Stage) -> Iterator[Daemon]:
    with held_port() as port:
        daemon = Daemon(stage, port)
        try:
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()


def test_it_becomes_ready_shows_itself_carries_edits_and_stops_on_sigterm(stage: Stage) -> None:
    deal = stage.add()
    with running(stage) as daemon:
        waited(lambda: daemon.get("/livez"), "the listener", process=daemon.process)
        daemon.wait_ready()
        alive, ready, metrics, console = (daemon.get(path) for path in ("/livez", "/readyz", "/metrics", "/"))
        assert alive is not None
        assert alive.status_code == 200
        assert ready is not None
        assert ready.json()["ready"] is True
        assert metrics is not None
        assert re.search(r"^cosell_cycle\w*", metrics.text, re.MULTILINE)
        assert console is not None
        assert "text/html" in console.headers["content-type"]
        for person in deal["customerProfile"]["team"]:
            assert person["email"] not in console.text + metrics.text
        assert httpx.post(f"{daemon.url}/webhooks/partner-center", json={"EventName": "referral-updated"}).status_code == 401  # fmt: skip
        # edits of both sides are picked up without being called
        waited(lambda: stage.deals(deal), "the import", process=daemon.process)
        for path in ("/", "/deals?state=in-sync", f"/deals/{deal['id']}"):
            page = daemon.get(path)
            assert page is not None
            assert page.status_code == 200, path
            for person in deal["customerProfile"]["team"]:
                assert person["email"] not in page.text, path
        waited(
            lambda: deal["name"] in html.unescape(daemon.get("/deals").text),
            "the deal",
            process=daemon.process,
        )
        stage.seller(deal, value=31)
        waited(
            lambda: stage.referral(deal)["details"]["dealValue"] == 31,
            "the seller's edit",
            process=daemon.process,
        )
        stage.pc.edit(deal["id"], "campaignId", "WATCHED")
        waited(
            lambda: stage.deal(deal)["campaign_id"] == "WATCHED",
            "the portal's edit",
            process=daemon.process,
        )
        # what a person orders meanwhile is left for the process that holds the store
        other = stage.add()
        waited(lambda: stage.deals(other), "the second import", process=daemon.process)
        stage.cosell("deals", "unlink", other["id"], process=True)
        waited(lambda: "order.obeyed" in daemon.log.read_text(), "the order", process=daemon.process)
        stage.pc.edit(other["id"], "details/dealValue", 1)
        stage.pc.edit(deal["id"], "details/dealValue", 32)
        waited(lambda: stage.deal(deal)["value"] == 32, "another cycle", process=daemon.process)
        assert stage.deal(other)["value"] == 84000
        # a system that goes away and comes back
        stage.servers[0].faults.answer(503, headers={"Retry-After": "0"}, times=None, path="/engagements/")
        waited(lambda: not daemon.ready(), "readiness to notice the outage", process=daemon.process)
        stage.servers[0].faults.clear()
        daemon.wait_ready()
        daemon.stop()
    assert disagreements(stage, besides=[(other["id"], "value")]) == []
    log = daemon.log.read_text()
    assert log.count('"event": "daemon.started"') == log.count('"event": "daemon.stopped"') == 1
    assert log.count('"event": "outage.began"') == log.count('"event": "outage.ended"') == 1


@pytest.mark.parametrize("number", [0, 1])
def test_it_stops_during_a_hanging_call(stage: Stage, number: int) -> None:
    stage.add()
    stage.servers[number].faults.hang(
        path=(r"/engagements/", stage.crm.calls["any"]["path"])[number], times=None
    )
    with running(stage) as daemon:
        waited(lambda: any(call.fault == "hang" for call in list(stage.servers[number].calls)), "a call to hang", process=daemon.process)  # fmt: skip
        daemon.stop()


def test_a_second_process_stands_by_and_takes_over(stage: Stage) -> None:
    """A second ``run`` says who holds the store; a second ``sync`` waits half a minute and ends with 3."""
    if stage.crm.name == "dynamics":
        pytest.skip("the lease knows no CRM, and this waits for most of a minute")
    stage.add()
    with running(stage) as first:
        first.wait_ready()
        waiting = time.monotonic()
        sync = stage.start("sync")
        with running(stage) as second:

            def named() -> bool:
                answer = second.get("/readyz")
                return (
                    answer is not None and answer.status_code == 503 and str(first.process.pid) in answer.text
                )

            waited(named, "the second to name the holder", process=second.process)
            done = stage.finish(sync, ("sync",))
            assert done.code == 3, str(done)
            assert time.monotonic() - waiting >= 25
            assert str(first.process.pid) in done.sentences
            first.process.kill()
            first.process.wait()
            deal = stage.add()
            second.wait_ready()
            waited(lambda: stage.deals(deal), "the second to take over", process=second.process)
            second.stop()
    assert disagreements(stage) == []


@pytest.mark.parametrize("crm", ["salesforce"], indirect=True)
def test_a_parked_deal_is_tried_again_from_the_console(stage: Stage) -> None:
    """Signed in over HTTP as a browser does; the order wakes the daemon, whose next cycle would else come in an hour."""
    deal = stage.add()
    stage.sync()
    refusal = {"error": {"code": "invalidRequest", "message": "No.", "target": "details.dealValue"}}
    stage.servers[0].faults.answer(400, refusal, times=None, path=deal["id"])
    stage.seller(deal, value=7)
    stage.sync(expect=1, COSELL_SYNC__MAX_ATTEMPTS="1")
    stage.servers[0].faults.clear()
    token = stage.home / "console-token"
    token.write_text("a token that nobody guesses")
    token.chmod(0o600)
    stage.env.update(COSELL_SYNC__INTERVAL="1h", COSELL_CONSOLE__TOKEN_FILE=str(token))
    with running(stage) as daemon, httpx.Client(base_url=daemon.url, headers={"Origin": daemon.url}) as web:
        waited(lambda: daemon.get("/livez"), "the listener", process=daemon.process)
        daemon.wait_ready()
        page = f"/deals/{deal['id']}"
        assert "parked" in web.get(page).text
        assert web.post(page, data={"verb": "retry"}).status_code == 403
        signed = web.post("/sign-in", data={"token": token.read_text(), "next": page})
        assert (signed.status_code, signed.headers["location"]) == (303, page)
        key = re.search(r'name="form_key" value="([^"]+)"', web.get(page).text)
        assert key
        foreign = {"Origin": "https://evil.example"}
        assert web.post(page, data={"verb": "retry", "form_key": key[1]}, headers=foreign).status_code == 403
        assert stage.referral(deal)["details"]["dealValue"] != 7
        assert web.post(page, data={"verb": "retry", "form_key": key[1]}).status_code == 303
        waited(lambda: stage.referral(deal)["details"]["dealValue"] == 7, "the retry", process=daemon.process)
        waited(lambda: "In sync" in web.get(page).text, "the deal at rest", process=daemon.process)
        assert 'cosell_console_events_total{event="ordered"} 1.0' in web.get("/metrics").text
        daemon.stop()
    log = daemon.log.read_text()
    assert token.read_text() not in log
    for event in ("console.signed_in", "console.refused", "console.ordered", "order.obeyed"):
        assert f'"{event}"' in log
