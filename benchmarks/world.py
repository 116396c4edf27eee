"""What the benchmarks share: the outside systems in a process of their own, and what is counted in ours."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import event

from cosell_sync import settings
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.cli.main import collect_seldom
from cosell_sync.core.deal import State, state_of
from cosell_sync.core.memory import Phase

ADDRESS = {"salesforce": "COSELL_SALESFORCE__LOGIN_URL", "dynamics": "COSELL_DYNAMICS__URL"}
COMMAND = Path(sys.executable).with_name("cosell-sync")


@contextmanager
def outside(deals: int, crm: str) -> Iterator[dict[str, str]]:
    """The sandbox in its own process, and the variables that name it."""
    with tempfile.TemporaryDirectory(prefix="cosell-sync-benchmark-") as home:
        command = [str(COMMAND), "sandbox", "--deals", str(deals), "--crm", crm, "--directory", home]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
            try:
                assert served.stdout is not None
                next(line for line in served.stdout if "Ctrl-C" in line)
                yield dict(re.findall(r"export (\w+)='([^']*)'", (Path(home) / "sandbox.env").read_text()))
            finally:
                served.terminate()


@contextmanager
def wired(variables: dict[str, str]) -> Iterator[Program]:
    """The product as a command wires it, holding the lease of its store."""
    collect_seldom()
    os.environ |= {name: variables[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
    with program(settings.load(None, variables)) as made, made.store.lease(made.settings.sync.interval):
        yield made


class Calls:
    """A log processor that keeps when calls were under way; nothing is printed."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        if event["event"] == "http.call":
            ended = time.monotonic()
            self.spans.append((ended - event["ms"] / 1000, ended))
        raise structlog.DropEvent

    def floor(self) -> float:
        """Seconds in which at least one call was under way; calls of several threads overlap."""
        total = reached = 0.0
        for began, ended in sorted(self.spans):
            total += max(0.0, ended - max(began, reached))
            reached = max(reached, ended)
        return total


class Statements:
    """How often the store was asked, and how often something was made durable."""

    def __init__(self, made: Program) -> None:
        self.asked = self.written = 0
        event.listen(made.store.engine, "after_cursor_execute", self._on_statement)
        event.listen(made.store.engine, "begin", self._on_begin)

    def _on_statement(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        self.asked += not statement.startswith("BEGIN")

    def _on_begin(self, connection: Any) -> None:
        self.written += bool(connection.get_execution_options().get("cosell_writes"))


def memory() -> int:
    """Resident memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024**2


def slow_down(variables: dict[str, str], crm: str, milliseconds: int) -> None:
    """From now on both systems wait so long before they handle a call, as systems do that are not on this machine."""
    fault = {"kind": "delay", "seconds": milliseconds / 1000, "times": None, "path": "^/(?!_sandbox)"}
    for name in ("COSELL_PARTNER_CENTER__BASE_URL", ADDRESS[crm]):
        _post(variables, variables[name], "faults", fault)


def edit_in_crm(made: Program, variables: dict[str, str], crm: str, deals: int) -> int:
    """Sellers move the close date of so many open deals; how many there were."""
    done = 0
    for link in made.store.links([Phase.LINKED]):
        due = link.opportunity["close_date"] if link.opportunity else None
        if done == deals or link.referral is None or state_of(link.referral) is not State.ACCEPTED or not due:
            continue
        day = (due + timedelta(days=7)).isoformat()
        body = {
            "salesforce": {"object": "Opportunity", "id": link.opportunity_id, "fields": {"CloseDate": day}},
            "dynamics": {
                "table": "opportunity",
                "id": link.opportunity_id,
                "columns": {"estimatedclosedate": day},
            },
        }[crm]
        _post(variables, variables[ADDRESS[crm]], "edit", body)
        done += 1
    return done


def _post(variables: dict[str, str], address: str, action: str, body: object) -> None:
    place = urlsplit(address)
    request = urllib.request.Request(
        f"{place.scheme}://{place.netloc}/_sandbox/{action}", json.dumps(body).encode()
    )
    trust = ssl.create_default_context(cafile=variables["SSL_CERT_FILE"])
    with urllib.request.urlopen(request, context=trust):
        pass
