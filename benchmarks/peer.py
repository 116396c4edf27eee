"""A peer does the import alone: dlt, the Python library for pipelines, by its REST source and a custom destination.

    .venv/bin/python benchmarks/peer.py [--deals 1000]

dlt is installed from PyPI into an environment of its own, for this run. Each imports into a sandbox of its own with the same
deals. What the peer leaves out is told in ``peer_dlt.py``; ours is what the product always does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import structlog
from world import Calls, outside, wired

from cosell_sync.cycle.cycle import run_cycle

UV = Path(sys.executable).with_name("uv")
PEER = Path(__file__).with_name("peer_dlt.py")


def installed(home: Path) -> Path:
    """The interpreter of a fresh environment with dlt."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, home], check=True)
    python = home / "bin" / "python"
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, "dlt>=1.20", "requests"], check=True)
    return python


def ours(deals: int) -> tuple[float, float, int]:
    """Seconds, CPU seconds and opportunities made."""
    with outside(deals, "salesforce") as variables, wired(variables) as made:
        began, cpu = time.monotonic(), time.process_time()
        summary = run_cycle(made.cycle_services(), uuid4().hex[:12], accept=True)
        return time.monotonic() - began, time.process_time() - cpu, summary.created.crm


def theirs(python: Path, deals: int) -> tuple[float, float, int]:
    """The same of the peer."""
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    with outside(deals, "salesforce") as variables:
        env = {**os.environ, **variables, **quiet}
        run = subprocess.run([python, PEER], env=env, stdout=subprocess.PIPE, text=True, check=True)
    seconds, cpu, made = run.stdout.split()[-3:]
    return float(seconds), float(cpu), int(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, default=1000)
    given = parser.parse_args()
    structlog.configure(processors=[Calls()])
    with tempfile.TemporaryDirectory(prefix="cosell-sync-peer-") as home:
        python = installed(Path(home) / "venv")
        peer = theirs(python, given.deals)
    own = ours(given.deals)
    for name, (seconds, cpu, made) in {"dlt": peer, "cosell-sync": own}.items():
        print(
            f"{name:<12} {seconds:6.2f} s, CPU {cpu:6.2f} s, {made} opportunities, {seconds / made * 1000:5.2f} ms each"
        )
    print(
        f"cosell-sync takes {own[0] / own[2] / (peer[0] / peer[2]):.2f} x the time of dlt for an opportunity"
    )


if __name__ == "__main__":
    main()
