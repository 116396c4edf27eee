"""What memory a process needs with few deals and with many, and whether cycle after cycle it needs more.

    .venv/bin/python benchmarks/memory.py [--deals 2000 20000] [--crm dynamics]
    .venv/bin/python benchmarks/memory.py --soak 10000

The first measures a fresh process each: a first import, the cycle after it and an idle one, against the sandbox in a process
of its own. The second makes that many cycles over systems in memory, with an edit on either side in turn in every fifth one,
and counts objects too, for they tell a leak before megabytes do.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import structlog
from world import Calls, memory, outside, wired

from cosell_sync.cycle.cycle import run_cycle

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

WARM = 200  # cycles until caches are filled


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def one(deals: int, crm: str) -> None:
    """The phases with so many deals, in this process."""
    calls = Calls()
    structlog.configure(processors=[calls])
    with outside(deals, crm) as variables, wired(variables) as made:
        told = [f"{deals:>7} deals: before {memory()} MB"]
        for phase in ("first import", "the one after it", "idle"):
            run_cycle(made.cycle_services(), uuid4().hex[:12], accept=True)
            calls.spans.clear()
            told.append(f"{phase} {memory()} MB (most so far {peak()})")
    print(", ".join(told), flush=True)


def objects() -> int:
    """How many there are, without the log that the systems in memory keep."""
    gc.collect()
    return sum(type(each).__module__ != "memory_systems" for each in gc.get_objects())


def soak(cycles: int) -> None:
    """So many cycles over two systems in memory and a store in a file."""
    structlog.configure(processors=[Calls()])
    from soak import Soak  # noqa: PLC0415 - found beside the tests, see above

    with tempfile.TemporaryDirectory(prefix="cosell-sync-soak-") as home:
        run = Soak(Path(home) / "store.db", deals=20)
        run.cycles(WARM)
        first, megabytes = objects(), memory()
        print(f"after {WARM} cycles {megabytes} MB, {first} objects", flush=True)
        for part in range(1, 6):
            run.cycles(cycles // 5)
            grown = objects() - first
            print(
                f"after {WARM + part * (cycles // 5)} cycles {memory()} MB ({memory() - megabytes:+d}), "
                f"{grown:+d} objects",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    parser.add_argument("--soak", type=int, default=0, metavar="CYCLES")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.soak:
        soak(given.soak)
    elif given.here:
        one(given.deals[0], given.crm)
    else:
        for deals in given.deals:
            command = [sys.executable, __file__, "--here", "--deals", str(deals), "--crm", given.crm]
            subprocess.run(command, check=True, timeout=timedelta(hours=2).total_seconds())


if __name__ == "__main__":
    main()
