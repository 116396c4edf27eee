"""How long a command takes that has nothing to do, against importing what it imports.

    .venv/bin/python benchmarks/start.py [--tries 7] [--crm dynamics]

``--version``, ``--help`` and a ``sync`` over an idle store of ten deals. The floor is a fresh interpreter that imports every
module which the command had imported when it ended, and does nothing with them. CPU seconds, the least of some tries.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys

from world import COMMAND, outside

# Runs the command in a fresh interpreter and prints the modules that it imported, in their order.
REPORT = """
import json, sys
from cosell_sync.cli.main import main
sys.argv = ["cosell-sync", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
sys.stderr.write("\\n" + json.dumps([name for name, module in sys.modules.items() if getattr(module, "__file__", None)]))
"""
IMPORT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception:
        pass
"""


def seconds(command: list[str], env: dict[str, str], tries: int) -> float:
    """The least CPU seconds of so many runs."""
    spent = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=env, capture_output=True, check=False)  # 1: a deal needs a person
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=7)
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    given = parser.parse_args()
    with outside(10, given.crm) as variables:
        env = {**os.environ, **variables}
        for _ in range(2):
            subprocess.run([COMMAND, "sync", "--accept"], env=env, capture_output=True, check=False)
        for words in (["--version"], ["--help"], ["sync"]):
            report = [sys.executable, "-c", REPORT, *words]
            told = subprocess.run(report, env=env, capture_output=True, text=True, check=True).stderr
            modules = told.rpartition("\n")[2]
            own = seconds([str(COMMAND), *words], env, given.tries)
            floor = seconds([sys.executable, "-c", IMPORT, modules], env, given.tries)
            count = len(json.loads(modules))
            print(
                f"{words[0]:<10} CPU {own:5.2f} s, {own / floor:4.2f} x its {count} imports ({floor:4.2f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
