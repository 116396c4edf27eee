"""The service that ``run`` starts: the daemon and the HTTP listener, wired to each other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from uuid import uuid4

from cosell_sync.bootstrap import Program, program
from cosell_sync.cli.common import purge_journal
from cosell_sync.cli.deal_todo import URGENT, deadline
from cosell_sync.core.memory import Phase
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.daemon import Daemon
from cosell_sync.errors import AuthFailed, ConfigError
from cosell_sync.metrics import Metrics
from cosell_sync.settings import Settings
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Attention, Facts, fresh_within
from cosell_sync.web.server import Application, Listener

MOST_DEALS = 100  # listed on the status page


def serve(loaded: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises ``ConfigError`` where the listener's address is taken."""
    with program(loaded) as wired, ExitStack() as stack:
        monitor = _MonitoredCycles(wired)
        daemon = Daemon(
            monitor.cycle,
            interval=loaded.sync.interval,
            lease=wired.store.lease,
            clock=wired.clock,
            on_cycle=monitor.count,
            pace=monitor.pace,
        )
        application = Application(
            lambda: monitor.facts(daemon),
            monitor.metrics.render,
            health=lambda: monitor.health(daemon),
            wake=daemon.wake,
        )
        try:
            stack.enter_context(Listener(loaded.http.address, application))
        except OSError as error:
            raise ConfigError(
                f"http.listen {loaded.http.listen} cannot be used: {error.strerror}",
                hint="free that address, or change http.listen",
            ) from error
        original = daemon.stop

        def stop() -> None:
            wired.stop.set()
            original()

        daemon.stop = stop  # type: ignore[method-assign]
        return daemon.run()


class _MonitoredCycles:
    """Runs the daemon's cycles, feeds the metrics with them, and gathers what the listener shows."""

    def __init__(self, wired: Program) -> None:
        self.wired = wired
        self.metrics = Metrics(version("cosell-sync"), wired.settings.crm)
        self.sign_ins: dict[str, str] = {}
        self.purged: datetime | None = None

    def cycle(self) -> CycleSummary:
        """Run one cycle; remember which system refused the sign-in, until a cycle ends well."""
        self.purge()
        try:
            summary = run_cycle(self.wired.cycle_services(), uuid4().hex[:12])
        except AuthFailed as error:
            self.sign_ins[error.system] = error.code or "refused"
            raise
        self.sign_ins = {}
        return summary

    def purge(self) -> None:
        """Delete history older than ``store.journal_keep``, once a day, however the cycles end."""
        now = self.wired.clock()
        if self.purged is None or (now - self.purged).days >= 1:
            purge_journal(self.wired)
            self.purged = now

    def count(self, summary: CycleSummary) -> None:
        """Feed the metrics with a finished cycle, the states of all deals and the scarcest budget of each side."""
        self.metrics.cycle(summary, self.wired.clock())
        self.metrics.deals(self.states())
        held = map(deadline, self.wired.store.links([Phase.WAITING], URGENT))
        self.metrics.held(min(filter(None, held), default=None))
        for side, meter in self.wired.meters.items():
            if allowances := meter.allowances():
                allowance = min(
                    allowances, key=lambda each: each.left / each.ceiling if each.ceiling else 0.0
                )
                self.metrics.budget(side, allowance.used, allowance.ceiling)

    def pace(self) -> timedelta:
        """The pause between two cycles: ``sync.interval``, or longer where a budget of calls runs low."""
        interval = self.wired.settings.sync.interval
        return max(meter.pace(interval) for meter in self.wired.meters.values())

    def states(self) -> dict[str, int]:
        """Sync state → number of linked and waiting deals; states without deals are left out."""
        states: dict[str, int] = {}
        for tally in self.wired.store.counts():
            if tally.phase in {Phase.LINKED, Phase.WAITING}:
                states[tally.sync_state.value] = states.get(tally.sync_state.value, 0) + tally.deals
        return states

    def facts(self, daemon: Daemon) -> Facts:
        """Everything that the listener shows, at this moment."""
        return replace(self.health(daemon), states=self.states(), attention=self.attention())

    def health(self, daemon: Daemon) -> Facts:
        """What readiness is judged by, at this moment; asks the store nothing."""
        wired, status = self.wired, daemon.status
        return Facts(
            now=wired.clock(),
            version=version("cosell-sync"),
            crm=wired.settings.crm,
            fresh_within=fresh_within(self.pace()),
            sign_ins=dict(self.sign_ins),
            last_cycle=status.last,
            carried_at=status.carried_at,
            outage=status.outage,
            holder=status.holder,
        )

    def attention(self) -> list[Attention]:
        """Deals that need a person, at most ``MOST_DEALS``."""
        return [
            Attention(deal.referral_id, deal.opportunity_id, deal.sync_state.value, deal.since)
            for deal in self.wired.store.urgent(MOST_DEALS)
        ]
