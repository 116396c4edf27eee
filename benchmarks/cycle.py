"""How much of a cycle is ours: its time as a multiple of the time in which a call to an outside system was under way.

    .venv/bin/python benchmarks/cycle.py [--deals 2000] [--crm dynamics] [--edits 200] [--answer-after 200]

The outside systems are the sandbox in a process of its own. Whatever it takes to answer is the floor, measured in the
same run; a real system is slower, so a real ratio is nearer to 1: ``--answer-after`` lets each call wait first. Calls are counted, because they cost most of all.
CPU is this process's own: unlike time, it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import time
from uuid import uuid4

import structlog
from world import Calls, Statements, edit_in_crm, outside, slow_down, wired

from cosell_sync.bootstrap.program import Program
from cosell_sync.cycle.cycle import run_cycle


def measured(made: Program, calls: Calls, statements: Statements, what: str, deals: int) -> None:
    """One cycle. ``deals``: among how many its CPU is shared out."""
    calls.spans.clear()
    statements.asked = statements.written = 0
    began, cpu = time.monotonic(), time.process_time()
    summary = run_cycle(made.cycle_services(), uuid4().hex[:12], accept=True)
    seconds, cpu, floor = time.monotonic() - began, time.process_time() - cpu, calls.floor()
    api = summary.api_calls
    print(
        f"{what:<22} {seconds:7.2f} s {seconds / max(floor, 0.001):6.2f} x the calls' {floor:5.2f} s   "
        f"CPU {cpu:6.2f} s, {cpu / deals * 1000:5.2f} ms a deal   "
        f"{api.partner_center} + {api.crm} calls, {statements.written} transactions, {statements.asked} statements; "
        f"made {summary.created.crm}, written {summary.written.partner_center} + {summary.written.crm}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, default=1000)
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--answer-after", type=int, default=0, metavar="MS")
    given = parser.parse_args()
    calls = Calls()
    structlog.configure(processors=[calls])
    with outside(given.deals, given.crm) as variables, wired(variables) as made:
        statements = Statements(made)
        if given.answer_after:
            slow_down(variables, given.crm, given.answer_after)
        measured(made, calls, statements, f"first import of {given.deals}", given.deals)
        measured(made, calls, statements, "the one after it", given.deals)
        measured(made, calls, statements, "idle", given.deals)
        edits = edit_in_crm(made, variables, given.crm, given.edits)
        measured(made, calls, statements, f"{edits} edits in the CRM", max(edits, 1))
        measured(made, calls, statements, "idle again", given.deals)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
