"""The wired program over the served sandbox, in the test's process: cycles of one long-lived program, as a daemon has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from acceptance import mutating

from cosell_sync import settings
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.summary import CycleSummary

CRMS = ["salesforce", "dynamics"]
TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
APIS = ("/v1.0/engagements/", "/services/data/", "/api/data/")


@dataclass
class WiredProgram:
    sandbox: Sandbox
    environment: dict[str, str]

    @property
    def org(self) -> Any:
        return self.sandbox.salesforce if self.sandbox.crm == "salesforce" else self.sandbox.dynamics

    @property
    def opportunity(self) -> str:
        return "Opportunity" if self.sandbox.crm == "salesforce" else "opportunity"

    @property
    def servers(self) -> tuple[Server, Server]:
        """Partner Center's, and the CRM's."""
        crm = (
            self.sandbox.salesforce_server
            if self.sandbox.crm == "salesforce"
            else self.sandbox.dynamics_server
        )
        return self.sandbox.partner_center_server, crm

    def calls(self) -> tuple[int, int]:
        """Made so far, without sign-ins, which no system counts."""
        ours, theirs = (
            sum(call.path.startswith(APIS) for call in list(server.calls)) for server in self.servers
        )
        return ours, theirs

    def mutations(self) -> int:
        return sum(mutating(call) for server in self.servers for call in list(server.calls))

    @contextmanager
    def process(self, **more: str) -> Iterator[Program]:
        with (
            structlog.testing.capture_logs(),
            program(settings.load(None, {**self.environment, **more})) as wired,
            wired.store.lease(wired.settings.sync.interval),
        ):
            yield wired


def cycle(wired: Program, *, accept: bool = False) -> CycleSummary:
    return run_cycle(wired.cycle_services(), "c", accept=accept)


@contextmanager
def wired_program(home: Path, crm: str, deals: int = 0) -> Iterator[WiredProgram]:
    with Sandbox(deals=deals, crm=crm) as sandbox:
        environment = sandbox.environment(home)
        with patch.dict(os.environ, {name: environment[name] for name in TRUST}):
            yield WiredProgram(sandbox, environment)
