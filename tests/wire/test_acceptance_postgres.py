"""``run`` on PostgreSQL: the second process takes over, and a server that goes away in the middle of a cycle costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from acceptance import Stage, staged, struck, waited
from comparison import disagreements, doubles
from test_acceptance_daemon import Daemon, running

from cosell_sync.sandbox.partner_center.schema import Document
from postgres import OwnServer, own_server, private_schema

pytestmark = [pytest.mark.wire, pytest.mark.postgres]
KEY = "a key of sixteen characters or more"


@dataclass
class Place:
    """A sandbox, and a store of its own in a server that may be stopped."""

    stage: Stage
    server: OwnServer


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


@pytest.fixture
def place(own: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With one CRM: the store knows none."""
    with private_schema(own.url) as url:
        for stage in staged(tmp_path_factory.mktemp("postgres"), "salesforce"):
            stage.env.update(
                COSELL_STORE__URL=url,
                COSELL_STORE__KEY=KEY,
                COSELL_SYNC__INTERVAL="1s",
                COSELL_SYNC__TERMINAL_HOLD="0s",
                COSELL_SYNC__SURPRISE_MIN="1000",
            )
            yield Place(stage, own)


def events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def took_over(second: Daemon) -> None:
    """Before the lease, which was renewed within the last ten seconds, runs out."""
    waited(lambda: events(second, "lease.taken"), "the second to take over", process=second.process, within=20)  # fmt: skip


def test_the_second_takes_over_within_seconds_of_a_kill_and_at_once_after_a_stop(place: Place) -> None:
    """A lease lasts thirty seconds; neither waits for that."""
    stage = place.stage
    deal = stage.add()
    with running(stage) as first:
        first.wait_ready()
        with running(stage) as second:
            waited(lambda: events(second, "lease.standby"), "the second to stand by", process=second.process)
            first.process.kill()
            first.process.wait()
            took_over(second)
            stage.seller(deal, value=32)
            waited(lambda: stage.referral(deal)["details"]["dealValue"] == 32, "the edit", process=second.process)  # fmt: skip
            with running(stage) as third:
                waited(lambda: events(third, "lease.standby"), "the third to stand by", process=third.process)
                second.stop()
                took_over(third)
                third.stop()
    stage.sync()  # the last one was stopped at any instant
    assert disagreements(stage) == []


# Side, call, and the seconds after which it is answered: while the server is down, or when it is up again.
POINTS: dict[str, tuple[str, Any, float]] = {
    "opportunities made": ("crm", "opportunity", 0.2),
    "a PATCH landed": ("pc", {"method": "PATCH", "path": "referrals"}, 2),
    "the CRM written": ("crm", "write", 2),
}


def restarted(place: Place, daemon: Daemon, deal: Document, where: str) -> None:
    """Edits of both sides and a new deal; the server dies at that call, and in the end all of it is carried."""
    stage, (side, call, seconds) = place.stage, POINTS[where]
    server, match = (stage.servers[1], stage.crm.calls[call]) if side == "crm" else (stage.servers[0], call)
    server.faults.delay(seconds, **match)
    new = stage.add()
    stage.seller(deal, value=500 + len(where))
    stage.pc.edit(deal["id"], "details/notes", f"one\n{where}")
    waited(struck(server), where, process=daemon.process)
    place.server.stop()
    if seconds < 1:
        waited(lambda: not daemon.ready(), "the outage to show", process=daemon.process)
    place.server.start()
    daemon.wait_ready()

    def carried() -> bool:
        held = stage.referral(deal)["details"]["dealValue"], stage.deal(deal)["notes"], len(stage.deals(new))
        return held == (500 + len(where), f"one\n{where}", 1)

    waited(carried, f"the edits while {where}", process=daemon.process)


def test_a_server_that_is_restarted_in_mid_cycle_loses_nothing(place: Place) -> None:
    """While a call is under way the server dies, as in a crash, and is up again before or after its answer."""
    stage = place.stage
    deals = [stage.add(details={"notes": "one"}) for _ in POINTS]
    with running(stage) as daemon:
        waited(lambda: all(map(stage.deals, deals)), "the import", process=daemon.process)
        daemon.wait_ready()
        for deal, where in zip(deals, POINTS, strict=True):
            restarted(place, daemon, deal, where)
        daemon.stop()
    stage.sync()  # the daemon was stopped at any instant
    stage.quiet()
    assert disagreements(stage) == []
    assert doubles(stage) == []
    began, ended = events(daemon, "outage.began"), events(daemon, "outage.ended")
    assert {line["what"] for line in began} == {"store"}
    assert len(began) == len(ended)
    assert len(events(daemon, "daemon.started")) == 1
    failed = [line for line in events(daemon, "system.failed") if line["system"] == "store"]
    assert len(failed) < 30  # a loop without a pause would fail hundreds of times
