"""How many calls a cycle makes, in each situation that matters: the larger sibling of `tests/wire/test_calls.py`.

    .venv/bin/python benchmarks/calls.py [--deals 2000] [--burst 5000] [--crm dynamics] [--kinds]

Both sides are the sandbox, on a clock that is moved a minute a cycle. ``--kinds`` names the calls of each cycle.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from cosell_sync import settings
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.systems import Sandbox

MINUTE = timedelta(minutes=1)
HALF_AN_HOUR = timedelta(minutes=30)


class Heard:
    """A log processor that counts the calls by kind; nothing is printed."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        if event["event"] == "http.call":
            self.kinds[f"{event['method']} {event['path']}"] += 1
        raise structlog.DropEvent


class Table:
    """Runs cycles and prints a line of the table for each."""

    def __init__(self, sandbox: Sandbox, wired: Program, heard: Heard, *, kinds: bool) -> None:
        self.sandbox = sandbox
        self.wired = wired
        self.heard = heard
        self.kinds = kinds
        print(f"{'cycle':<44} {'Partner Center':>14} {sandbox.crm:>11}   written")

    def cycle(self, what: str, *, after: timedelta = MINUTE) -> None:
        """One cycle, so long after the one before."""
        assert isinstance(self.sandbox.clock, Clock)
        self.sandbox.clock.advance(after)
        self.heard.kinds.clear()
        said = run_cycle(self.wired.cycle_services(), uuid4().hex[:12], accept=True)
        written = f"{said.written.partner_center} + {said.written.crm}"
        print(f"{what:<44} {said.api_calls.partner_center:>14} {said.api_calls.crm:>11}   {written}")
        for kind, count in sorted(self.heard.kinds.items()) if self.kinds else ():
            print(f"{'':<8}{count:>6} {kind}")

    def quiet(self, what: str) -> None:
        """Cycles until nothing is written, then three more, and one half an hour later."""
        for number in range(2, 6):
            self.cycle(f"{what}: cycle {number}")
        self.cycle(f"{what}: when the overlap is over", after=timedelta(minutes=5))
        self.cycle(f"{what}: the next")
        self.cycle(f"{what}: half an hour later", after=HALF_AN_HOUR)


class People:
    """Edits of both sides on deals that are linked and open."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        org: Any = sandbox.salesforce if sandbox.crm == "salesforce" else sandbox.dynamics
        self.org = org
        of_salesforce = sandbox.crm == "salesforce"
        self.table, self.key, self.referral, self.amount, self.notes = (
            ("Opportunity", "Id", "Cosell_Referral_Id__c", "Amount", "Cosell_Notes__c")
            if of_salesforce
            else ("opportunity", "opportunityid", "cosell_referralid", "estimatedvalue", "cosell_notes")
        )
        open_deals = {each["id"] for each in sandbox.partner_center.ours() if each["status"] == "Active"}
        self.rows = [row for row in org.rows(self.table) if row[self.referral] in open_deals]
        self.edits = 0

    def at_partner_center(self, count: int) -> None:
        """So many edits, in turn over all open deals."""
        for row in (self.rows * (count // len(self.rows) + 1))[:count]:
            self.edits += 1
            self.sandbox.partner_center.edit(row[self.referral], {"details/dealValue": 1000 + self.edits})

    def in_the_crm(self, count: int) -> None:
        """So many edits, from the other end of the list."""
        for row in (self.rows[::-1] * (count // len(self.rows) + 1))[:count]:
            self.edits += 1
            self.org.edit(self.table, row[self.key], **{self.notes: f"Note {self.edits}"})


def situations(table: Table, given: argparse.Namespace) -> None:
    """Each situation, one after the other."""
    table.cycle(f"first import of {given.deals}")
    table.quiet("after the import")
    people = People(table.sandbox)
    some = max(1, given.deals // 100)
    people.at_partner_center(some)
    people.in_the_crm(some)
    table.cycle(f"{some} changed on each side")
    table.quiet("after that")
    bursts: dict[str, Callable[[int], None]] = {
        "Partner Center": people.at_partner_center,
        "the CRM": people.in_the_crm,
    }
    for where, edit in bursts.items():
        if given.burst:
            edit(given.burst)
            table.cycle(f"{given.burst} changes in {where}")
            table.quiet(f"after the burst in {where}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deals", type=int, default=2000)
    parser.add_argument("--burst", type=int, default=0, help="changes at once, over all open deals")
    parser.add_argument("--crm", choices=["salesforce", "dynamics"], default="salesforce")
    parser.add_argument("--kinds", action="store_true", help="name the calls of each cycle")
    given = parser.parse_args()
    heard = Heard()
    structlog.configure(processors=[heard])
    with (
        tempfile.TemporaryDirectory(prefix="cosell-sync-benchmark-") as home,
        Sandbox(deals=given.deals, crm=given.crm) as sandbox,
    ):
        variables = sandbox.environment(Path(home))
        os.environ |= {name: variables[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
        with (
            program(settings.load(None, variables), clock=sandbox.clock) as wired,
            wired.store.lease(wired.settings.sync.interval),
        ):
            situations(Table(sandbox, wired, heard, kinds=given.kinds), given)


if __name__ == "__main__":
    main()
