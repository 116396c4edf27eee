"""Several connections in one installation: each carries its own deals, and what is wrong with one harms no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from acceptance import COMMAND, FOREIGN, PATIENCE, Stage, waited
from main_in_process import Ended, run_main

import postgres
from cosell_sync.sandbox.systems import Sandbox
from ports import held_port

pytestmark = pytest.mark.wire
TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass
class Provider:
    """An installation with four connections: ``north`` and ``south`` are well, ``sick`` has a wrong secret, and ``wrong`` an
    interval that is none.
    """

    home: Path
    north: Stage
    south: Stage
    store: str
    changes: dict[str, Any] = field(default_factory=dict)

    def write(self) -> Path:
        """The file, with what the test changes."""
        north, south = (_sections(stage.sandbox, stage.home) for stage in (self.north, self.south))
        sick = {**_sections(self.north.sandbox, self.north.home, "dynamics")}
        sick["dynamics"] = {**sick["dynamics"], "client_secret": "not-the-secret"}
        content = {
            "store": {"url": self.store, "key": "a key for the tests of many"},
            "sync": {"interval": "1s", "terminal_hold": "0s"},
            "connections": {
                "north": north,
                "south": south,
                "sick": sick,
                "wrong": {**south, "sync": {"interval": "soon"}},
            },
            **self.changes,
        }
        file = self.home / "provider.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return file

    def environment(self, **more: str) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        trust = dict.fromkeys(TRUST, str(self.home / "both.pem"))
        return {**outside, **trust, "COSELL_CONFIG": str(self.home / "provider.yaml"), **more}

    def cosell(self, *args: str, expect: int = 0) -> Ended:
        done = run_main(args, self.environment(), self.home)
        assert done.code == expect, f"{args}: {done}"
        return done


def _sections(sandbox: Sandbox, home: Path, crm: str = "") -> dict[str, Any]:
    """What a connection to this sandbox needs, as in a file."""
    crm = crm or sandbox.crm
    variables = sandbox.environment(home)
    variables |= sandbox._salesforce() if crm == "salesforce" else sandbox._dynamics()
    found: dict[str, Any] = {"crm": crm}
    for name, value in variables.items():
        section, _, key = name.removeprefix("COSELL_").lower().partition("__")
        if name.startswith("COSELL_") and section in {"partner_center", crm}:
            found.setdefault(section, {})[key] = value
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def provider(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Provider]:
    with ExitStack() as stack:
        stages = []
        for name, crm in (("north", "salesforce"), ("south", "dynamics")):
            sandbox = stack.enter_context(Sandbox(crm=crm))
            sandbox.dynamics.closed_rows_writable = True
            home = tmp_path / name
            home.mkdir()
            stages.append(Stage(sandbox, home))
        pems = [Path(stage.environment()["SSL_CERT_FILE"]).read_text() for stage in stages]
        (tmp_path / "both.pem").write_text("".join(pems))
        url = f"sqlite:///{tmp_path / 'many.db'}"
        if request.param == "postgresql":
            url = stack.enter_context(postgres.private_schema(stack.enter_context(postgres.server())))
        made = Provider(tmp_path, *stages, url)
        made.write()
        yield made


@dataclass
class Running:
    """A ``run`` of the provider."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def standing(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.get("/readyz").json()
        except httpx.TransportError:
            return {}
        return found.get("connections", {}) if len(found.get("connections", {})) == 4 else {}

    def events(self, name: str, connection: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [each for each in lines if (each["event"], each.get("connection")) == (name, connection)]


@contextmanager
def running(provider: Provider) -> Iterator[Running]:
    with held_port() as port, (log := provider.home / f"run-{port}.log").open("a") as out:
        process = subprocess.Popen(
            [str(COMMAND), "run"],
            env=provider.environment(COSELL_HTTP__LISTEN=f"127.0.0.1:{port}"),
            cwd=provider.home,
            text=True,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Running(process, f"http://127.0.0.1:{port}", log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def test_a_sick_and_a_misconfigured_one_harm_no_other(provider: Provider) -> None:
    """Both good ones carry; each bad one is named in the log, on /readyz, in the metrics and in the list."""
    north, south = provider.north, provider.south
    deals = (
        {stage: stage.add() for stage in (north, south)} if False else [(s, s.add()) for s in (north, south)]
    )
    with running(provider) as run:
        waited(lambda: all(stage.deals(deal) for stage, deal in deals), "both imports", process=run.process)
        waited(lambda: run.events("outage.began", "sick"), "the sick one's outage", process=run.process)
        each = waited(run.standing, "the listener", process=run.process)
        assert not each["sick"]["ready"]
        assert "sign-in of dynamics" in each["sick"]["reasons"][0]
        assert each["wrong"]["reasons"][0].startswith("misconfigured: connections.wrong.sync.interval")
        waited(
            lambda: run.standing()["north"]["ready"] and run.standing()["south"]["ready"],
            "the good ones to be ready",
            process=run.process,
        )
        assert run.get("/readyz").status_code == 200
        assert not run.standing()["sick"]["ready"]
        assert run.events("connection.misconfigured", "wrong")
        assert run.events("cycle.finished", "north")
        metrics = run.get("/metrics").text
        assert 'cosell_connection_state{connection="wrong",state="misconfigured"} 1.0' in metrics
        assert 'cosell_connection_state{connection="north",state="active"} 1.0' in metrics
        assert 'cosell_cycles_total{connection="sick",exit_code="3"}' in metrics
        # a paused one is left alone, the other goes on, and nothing of the pause is lost
        provider.cosell("connection", "pause", "south")
        assert provider.cosell("sync", "--connection", "south", expect=2).err.count("paused")
        (_, deal_north), (_, deal_south) = deals
        waited(lambda: run.events("connection.paused", "south"), "the pause", process=run.process)
        south.seller(deal_south, value=31)
        north.seller(deal_north, value=41)
        waited(
            lambda: north.referral(deal_north)["details"]["dealValue"] == 41,
            "north's edit",
            process=run.process,
        )
        assert south.referral(deal_south)["details"]["dealValue"] == 84000
        listed = {row["name"]: row for row in json.loads(provider.cosell("connection", "list", "--json").out)}
        assert {name: row["state"] for name, row in listed.items()} == {
            "north": "active",
            "south": "paused",
            "sick": "active",
            "wrong": "misconfigured",
        }
        assert "provider.yaml:" in listed["wrong"]["reason"]
        assert listed["north"]["last_cycle"]["exit_code"] == 0
        # the pages
        assert ">Misconfigured<" in run.get("/").text
        assert deal_north["name"] in run.get("/deals?connection=north").text
        assert run.get("/deals?connection=nobody").status_code == 404
        page = run.get(f"/deals/{deal_south['id']}?connection=south")
        assert page.status_code == 200
        assert "?connection=south" in page.text
        provider.cosell("connection", "resume", "south")
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(PATIENCE) == 0, run.log.read_text()[-3000:]
        assert "daemon.abandoned" not in run.log.read_text()
    provider.cosell("sync", "--connection", "south")
    assert south.referral(deal_south)["details"]["dealValue"] == 31
    assert [len(stage.crm.rows("opportunity")) for stage in (north, south)] == [1, 1]
