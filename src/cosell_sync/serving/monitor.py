"""Cycles of one connection with what surrounds them: metrics, notices, history, and what the listener shows of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from uuid import uuid4

from cosell_sync.bootstrap.program import Program
from cosell_sync.core.memory import Outlook, Phase
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import AuthFailed, Unavailable
from cosell_sync.metrics import ConnectionMetrics
from cosell_sync.ports import Clock
from cosell_sync.serving.outages import Status
from cosell_sync.settings import Settings
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Facts, fresh_within

Watching = Callable[[str], AbstractContextManager[None]]


def _unwatched(_cycle: str) -> AbstractContextManager[None]:
    return nullcontext()


class Monitor:
    """Outlives the wired programs of its connection. ``wired``: the one of the moment, if there is one; it is set by whoever
    wires it, with ``watching``, what a cycle runs within so that people are told of it.
    """

    def __init__(self, settings: Settings, clock: Clock, metrics: ConnectionMetrics) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.wired: Program | None = None
        self.watching: Watching = _unwatched
        self.outlook = Outlook()
        self.sign_ins: dict[str, str] = {}
        self.purged: datetime | None = None
        self.hinted_at: datetime | None = None  # when the last event came that was Microsoft's
        self.listed_at: datetime | None = None  # when Partner Center was last asked for what changed

    def attach(self, wired: Program, watching: Watching = _unwatched) -> None:
        """Run cycles of this program from now on."""
        self.wired, self.watching = wired, watching

    def cycle(self) -> CycleSummary:
        """Run one cycle; remember which system refused the sign-in, until a cycle ends well."""
        assert self.wired is not None  # noqa: S101 - `attach` comes first
        self.purge(self.wired)
        cycle = uuid4().hex[:12]
        services = replace(
            self.wired.cycle_services(), finished=self.count, lists_referrals=self.lists_referrals
        )
        try:
            with self.watching(cycle):
                summary = run_cycle(services, cycle)
        except Exception as error:
            self.listed_at = None  # the list may not have been read: the next cycle asks for it
            if isinstance(error, AuthFailed):
                self.sign_ins = {**self.sign_ins, error.system: error.code or "refused"}
            raise
        self.sign_ins = {}
        return summary

    def lists_referrals(self) -> bool:
        """Whether this cycle asks Partner Center for what changed: always, but less often while its events arrive."""
        now, pause = self.clock(), self.settings.sync.interval_with_webhooks
        flowing = self.hinted_at is not None and now - self.hinted_at < 3 * pause
        if flowing and self.listed_at is not None and now - self.listed_at < pause:
            return False
        self.listed_at = now
        return True

    def purge(self, wired: Program) -> None:
        """Delete history older than ``store.journal_keep``, once a day, however the cycles end."""
        now = self.clock()
        if self.purged is None or (now - self.purged).days >= 1:
            wired.purge_journal()
            self.purged = now

    def count(self, summary: CycleSummary) -> None:
        """Feed the metrics with a finished cycle, also one that ended early, and with how all deals stand after it."""
        self.metrics.cycle(summary, self.clock())
        if self.wired is None:
            return
        with suppress(Unavailable):  # the store may be what ended the cycle
            self.wired.store.remember_cycle(summary)
            self.metrics.deals(self.states(self.wired))
            self.outlook = self.wired.store.outlook()

    def measure(self, status: Status, *, holds: bool) -> None:
        """Set the metrics that change from moment to moment; asks the store nothing. ``holds``: whether this process writes."""
        now = self.clock()
        self.metrics.outlook(
            self.outlook, now, carried_at=status.carried_at, failing=status.outage is not None
        )
        self.metrics.lease(held=holds)
        for side, meter in self.wired.meters.items() if self.wired else ():
            self.metrics.errors(meter.system, meter.failures)
            if meter.signed_in_at is not None:
                self.metrics.sign_in(meter.system, (now - meter.signed_in_at).total_seconds())
            if allowances := meter.allowances():
                allowance = min(
                    allowances, key=lambda each: each.left / each.ceiling if each.ceiling else 0.0
                )
                self.metrics.budget(side, allowance.used, allowance.ceiling)

    def pace(self) -> timedelta:
        """The pause between two cycles: ``sync.interval``, or longer where a budget of calls runs low."""
        interval = self.settings.sync.interval
        meters = self.wired.meters.values() if self.wired else ()
        return max((meter.pace(interval) for meter in meters), default=interval)

    @staticmethod
    def states(wired: Program) -> dict[str, int]:
        """Sync state → number of linked and waiting deals; states without deals are left out."""
        states: dict[str, int] = {}
        for tally in wired.store.counts():
            if tally.phase in {Phase.LINKED, Phase.WAITING}:
                states[tally.sync_state.value] = states.get(tally.sync_state.value, 0) + tally.deals
        return states

    def facts(self, status: Status) -> Facts:
        """What readiness is judged by, at this moment; asks the store nothing."""
        return Facts(
            now=self.clock(),
            version=version("cosell-sync"),
            crm=self.settings.crm,
            fresh_within=fresh_within(self.pace()),
            sign_ins=dict(self.sign_ins),
            carried_at=status.carried_at,
            outage=status.outage,
            holder=status.holder,
        )
