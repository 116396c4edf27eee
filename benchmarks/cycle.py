"""How much of a cycle is ours: its time as a multiple of the time in which a call to an outside system was under way.

    .venv/bin/python benchmarks/cycle.py [--deals 2000] [--crm dynamics]

The outside systems are the sandbox in a process of its own. Whatever it takes to answer is the floor, measured in the
same run; a real system is slower, so a real ratio is nearer to 1. Calls are counted, because they cost most of all.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from cosell_sync import settings
from cosell_sync.bootstrap import Program, program
from cosell_sync.cycle.cycle import run_cycle

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


def measured(wired: Program, calls: Calls, what: str) -> None:
    calls.spans.clear()
    began = time.monotonic()
    summary = run_cycle(wired.cycle_services(), uuid4().hex[:12], accept=True)
    seconds, floor = time.monotonic() - began, calls.floor()
    api = summary.api_calls
    print(
        f"{what:<28} {seconds:7.2f} s  {seconds / max(floor, 0.001):6.2f} x the calls' own {floor:.2f} s   "
        f"{api.partner_center} + {api.crm} calls, made {summary.created.crm}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, default=1000)
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    given = parser.parse_args()
    calls = Calls()
    structlog.configure(processors=[calls])
    with outside(given.deals, given.crm) as variables:
        os.environ |= {name: variables[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
        with (
            program(settings.load(None, variables)) as wired,
            wired.store.lease(wired.settings.sync.interval),
        ):
            measured(wired, calls, f"first import of {given.deals}")
            for which in ("second", "idle"):
                measured(wired, calls, f"{which} cycle")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
