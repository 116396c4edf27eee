"""Plays the demo: a sandbox, a pipeline, people on both sides, cycles after each scene, and the proof at the end."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cosell_sync import log, settings
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.cli.common import console
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.demo.comparison import Agreement, compare
from cosell_sync.sandbox.demo.story import Act, Story
from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.summary import CycleSummary

MOST_CYCLES = 6


def play(crm: settings.CrmName, deals: int, *, keep: bool) -> bool:
    """Play the whole demo; whether both systems agree in the end. ``keep``: serve on until Ctrl-C."""
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="cosell-sync-demo-") as folder:
        home = Path(folder)
        with Sandbox(deals=deals, clock=clock, crm=crm) as sandbox:
            # Else a seller who closed her deal could not read on it what became of it.
            sandbox.dynamics.closed_rows_writable = True
            environment = sandbox.environment(home)
            # requests and ssl read these when a client is made: the demo trusts its own servers and nobody else
            os.environ["SSL_CERT_FILE"] = environment["SSL_CERT_FILE"]
            os.environ["REQUESTS_CA_BUNDLE"] = environment["REQUESTS_CA_BUNDLE"]
            configured = settings.load(None, environment)
            with (home / "demo.log").open("w", encoding="utf-8") as stream:
                log.configure("info", "json", stream)
                with program(configured, clock=clock) as wired, wired.store.lease(configured.sync.interval):
                    agreed = _Player(sandbox, clock, wired).play()
                if keep:
                    _stay(sandbox, home)
                log.configure("info", "json", sys.stderr)
    return agreed


class _Player:
    """Plays the story scene by scene and prints what each cycle did with it."""

    def __init__(self, sandbox: Sandbox, clock: Clock, wired: Program) -> None:
        self.sandbox = sandbox
        self.crm = sandbox.seller.crm
        self.wired = wired
        self.story = Story(sandbox, clock)
        self.console = console(120, markup=True)
        self.started = time.monotonic()

    def play(self) -> bool:
        say = self.console.print
        say(f"[bold]cosell-sync demo[/]: Partner Center and {self.crm}, served on this machine over TLS.")
        for system, server in (
            ("Partner Center", self.sandbox.partner_center_server),
            (self.crm, self.sandbox.crm_server),
        ):
            say(f"  {system:<15} {server.url}")
        self.story.add_missing_deals()
        self._title("1. The first cycle takes over the pipeline")
        self._cycle()
        self._title("2. The second one finds nothing to do")
        second = self._cycle()
        if second.written.crm or second.written.partner_center or second.created.crm:
            say("[red]but it wrote something[/]")
            return False
        self.story.assign_deals()
        for number, scene in enumerate(self.story.scenes(), 3):
            self._title(f"{number}. {scene.title}")
            acts = scene.play()
            for _ in range(scene.cycles):
                self._cycle()
            self._deals(acts)
        self._title("And now nobody touches anything")
        self._until_quiet()
        return self._proof(compare(self.sandbox.partner_center, self.sandbox.seller))

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold cyan]{text}[/]")

    def _cycle(self) -> CycleSummary:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task("a cycle runs")
            summary = run_cycle(self.wired.cycle_services(), uuid4().hex[:8])
        written, calls = summary.written, summary.api_calls
        self.console.print(
            f"  cycle: read {summary.pulled.partner_center} + {summary.pulled.crm}, "
            f"made {summary.created.crm}, changed {written.partner_center} in Partner Center and {written.crm} in "
            f"{self.crm}, {summary.conflicts} conflicts; {calls.partner_center} + {calls.crm} API calls, "
            f"{summary.duration_s:.1f} s"
        )
        return summary

    def _until_quiet(self) -> None:
        for _ in range(MOST_CYCLES):
            summary = self._cycle()
            if not (summary.written.crm or summary.written.partner_center or summary.created.crm):
                return

    def _deals(self, acts: Iterable[Act]) -> None:
        """Deal by deal: who did what, and what the seller reads on the record now."""
        table = Table(show_lines=True, expand=True)
        table.add_column("Deal", ratio=3)
        table.add_column("Who did what", ratio=4)
        table.add_column("Status", no_wrap=True)
        table.add_column("State", no_wrap=True)
        table.add_column("What the seller reads on the record", ratio=6)
        rows: dict[str, list[Act]] = {}
        for act in acts:
            rows.setdefault(act.deal, []).append(act)
        for deal, done in rows.items():
            shown = self.sandbox.seller.deal(deal)
            table.add_row(
                shown["name"],
                "\n".join(f"[bold]{act.who}[/] {act.what}" for act in done),
                *(shown[word] or "" for word in ("status", "sync_state", "message")),
            )
        self.console.print(table)

    def _proof(self, agreement: Agreement) -> bool:
        self._title("The proof, read off the raw records of both systems")
        table = Table("field", "compared", box=None, header_style="bold")
        for name, number in agreement.by_field.items():
            table.add_row(name, str(number))
        self.console.print(table)
        closed_touched = len(self.sandbox.partner_center.violations)
        broken = [*self.sandbox.partner_center_server.errors, *self.sandbox.crm_server.errors]
        for line in agreement.named:
            self.console.print(f"  named on the record: {line}", markup=False)
        for line in [*agreement.faults, *broken]:
            self.console.print(f"  DIFFERENCE {line}", markup=False, style="red")
        holds = agreement.holds and not closed_touched and not broken
        verdict = "[bold green]Agreed.[/]" if holds else "[bold red]Not agreed.[/]"
        self.console.print(
            f"\n{verdict} {agreement.deals} deals, {agreement.fields} values compared, {len(agreement.faults)} differ, "
            f"{len(agreement.named)} named on the record; {closed_touched} writes to closed referrals; "
            f"{time.monotonic() - self.started:.0f} s in all."
        )
        return holds


def _stay(sandbox: Sandbox, home: Path) -> None:
    """Keep the sandbox up until Ctrl-C, with what a shell needs to use it."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    sys.stdout.write("\nStill up. In another shell:\n")
    for name, value in sandbox.environment(home).items():
        sys.stdout.write(f"  export {name}='{value}'\n")
    sys.stdout.write(f"  (log of the demo: {home / 'demo.log'})\nCtrl-C ends it.\n")
    sys.stdout.flush()
    ended.wait()
