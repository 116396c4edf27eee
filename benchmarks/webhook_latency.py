"""From an edit at Microsoft to the CRM: the seconds, with webhooks, against the time that the cycle itself takes.

    .venv/bin/python benchmarks/webhook_latency.py [--events 100] [--crm dynamics]

The daemon runs as the installed command against the served sandbox, polls once an hour, and hears of edits by signed events
only. Each edit is of another deal, made as soon as the one before has arrived. The floor is the mean duration of a cycle in the
same run, by the daemon's own log: what is above it is delivery, gathering and waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cosell_sync.sandbox.seller import Seller
from cosell_sync.sandbox.systems import Sandbox

COMMAND = Path(sys.executable).with_name("cosell-sync")
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until the function says so."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > PATIENCE:
            raise SystemExit(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(0.02)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def measure(sandbox: Sandbox, home: Path, events: int) -> tuple[list[float], float]:
    """The seconds of each edit, and the mean of a cycle."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        **os.environ,
        **sandbox.environment(home),
        "COSELL_SYNC__INTERVAL": "1h",
        "COSELL_WEBHOOKS__ENABLED": "true",
        "COSELL_WEBHOOKS__PUBLIC_URL": url,
        "COSELL_HTTP__LISTEN": url.removeprefix("http://"),
    }
    log = home / "run.log"
    with log.open("w") as out, subprocess.Popen([COMMAND, "run"], env=env, stderr=out) as daemon:
        try:
            until(lambda: ready(url), "the daemon")
            subprocess.run([COMMAND, "webhooks", "register"], env=env, check=True, stdout=subprocess.DEVNULL)
            seller = sandbox.seller
            known = {each["referral_id"] for each in seller.deals()}
            active = [each["id"] for each in sandbox.partner_center.ours() if each["status"] == "Active"]
            deals = [each for each in active if each in known]
            spent = []
            for number in range(events):
                deal, mark = deals[number % len(deals)], f"EDIT-{number}"
                started = time.monotonic()
                sandbox.partner_center.edit(deal, "campaignId", mark)
                until(lambda deal=deal, mark=mark: _arrived(seller, deal, mark), f"edit {number}")
                spent.append(time.monotonic() - started)
        finally:
            daemon.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    cycles = [line["duration_s"] for line in lines if line["event"] == "cycle.finished"]
    return spent, statistics.mean(cycles[1:])


def _arrived(seller: Seller, deal: str, mark: str) -> bool:
    return any(each["referral_id"] == deal and each["campaign_id"] == mark for each in seller.deals())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    asked = parser.parse_args()
    with Sandbox(deals=60, crm=asked.crm) as sandbox, tempfile.TemporaryDirectory() as home:
        spent, floor = measure(sandbox, Path(home), asked.events)
    spent.sort()
    p95 = spent[int(len(spent) * 0.95) - 1]
    print(
        f"{asked.crm}, {len(spent)} events: median {statistics.median(spent):.2f} s, p95 {p95:.2f} s, worst {spent[-1]:.2f} s"
    )
    print(f"a cycle took {floor:.2f} s: p95 is {p95 / floor:.1f} times that")


if __name__ == "__main__":
    main()
