"""The service that ``run`` starts: the daemon and the HTTP listener, wired to each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Final
from uuid import uuid4

from cosell_sync import tracing
from cosell_sync.bootstrap import Program, noticing, program
from cosell_sync.cli.common import purge_journal
from cosell_sync.cli.console_pages import console
from cosell_sync.core.memory import Outlook, Phase
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.daemon import Daemon
from cosell_sync.errors import AuthFailed, ConfigError, Unavailable
from cosell_sync.log import get_logger
from cosell_sync.metrics import Metrics
from cosell_sync.settings import Settings
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Facts, fresh_within
from cosell_sync.web.server import Application, Listener
from cosell_sync.web.webhooks import OURS, RELATED, TEST, Event, Judge

SELDOM: Final = 5.0  # seconds between two cycles for the sake of events that name no referral of ours


def _later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


def serve(loaded: Settings, reload: Callable[[], None] = lambda: None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. ``reload``: called after SIGHUP.

    Raises ``ConfigError`` where the listener's address is taken.
    """
    endpoint = loaded.tracing.otlp_endpoint
    with tracing.exporting(endpoint), program(loaded) as wired, ExitStack() as stack:
        monitor = _MonitoredCycles(wired, stack.enter_context(noticing(wired, background=True)))
        daemon = Daemon(
            monitor.cycle,
            interval=loaded.sync.interval,
            lease=wired.store.lease,
            clock=wired.clock,
            pace=monitor.pace,
            stopping=wired.stop.set,
            reload=reload,
        )
        application = Application(
            lambda: monitor.health(daemon),
            lambda: monitor.rendered(daemon),
            console=console(
                wired,
                lambda: monitor.health(daemon),
                monitor.pace,
                wake=daemon.wake,
                tell=monitor.metrics.console,
            ),
            **receiver(wired, monitor, daemon.wake),
        )
        try:
            stack.enter_context(Listener(loaded.http.address, application))
        except OSError as error:
            raise ConfigError(
                f"http.listen {loaded.http.listen} cannot be used: {error.strerror or error}",
                hint="another program, or another cosell-sync, may listen there: stop it, or change http.listen",
            ) from error
        return daemon.run()


def receiver(wired: Program, monitor: _MonitoredCycles, wake: Callable[[], None]) -> dict[str, Any]:
    """The arguments with which the listener judges and takes webhooks; empty where they are off. Raises ConfigError."""
    ours = wired.settings.webhooks
    if not ours.enabled:
        return {}
    from cosell_sync.web.certificates import Certificates  # noqa: PLC0415 - only where webhooks are on
    from cosell_sync.web.trusted import load_trust  # noqa: PLC0415

    trust = load_trust(ours.trusted_roots, ours.organization)
    return {
        "judge": Judge(ours.header, Certificates(ours.certificate_hosts), trust, wired.clock),
        "take": taking(wired, monitor, wake, Spaced(wake).call),
    }


def taking(
    wired: Program, monitor: _MonitoredCycles, wake: Callable[[], None], seldom: Callable[[], None]
) -> Callable[[Sequence[Event]], None]:
    """What is done with events that are Microsoft's: what they say is stored, and what is new wakes the daemon.

    ``wake``: called for a referral of ours; ``seldom``: for another organization's, and for events of unknown names. A test
    event says nothing.
    """

    def fresh(events: Sequence[Event], *, wanted: Callable[[str], bool]) -> bool:
        hints = [(each.referral_id, each.name, each.changed) for each in events if wanted(each.name)]
        return bool(hints) and wired.store.hint(hints) > 0

    def take(events: Sequence[Event]) -> None:
        own = fresh(events, wanted=OURS.__contains__)
        related = fresh(events, wanted=RELATED.__contains__)
        unknown = fresh(events, wanted=lambda name: name not in {*OURS, *RELATED, TEST})
        for event in events:
            get_logger().info("webhook.received", kind=event.name, referral_id=event.referral_id or None)
        if own or related:
            monitor.hinted_at = wired.clock()
        if own:
            wake()
        elif related or unknown:
            seldom()

    return take


class Spaced:
    """Calls ``work`` at most once in ``pause`` seconds: at once where it may, else when the pause is over. Safe from any thread.

    ``monotonic``: seconds. ``later``: calls after so many of them.
    """

    def __init__(
        self,
        work: Callable[[], None],
        pause: float = SELDOM,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _later,
    ) -> None:
        self._work = work
        self._pause = pause
        self._monotonic = monotonic
        self._later = later
        self._lock = threading.Lock()
        self._next = float("-inf")  # from when on it may be called again, the call that waits included

    def call(self) -> None:
        """Call it, now or soon; one call waits at most."""
        with self._lock:
            now = self._monotonic()
            wait = self._next - now
            if wait > self._pause:
                return  # one waits already
            self._next = max(now, self._next) + self._pause
        if wait <= 0:
            self._work()
        else:
            self._later(wait, self._work)


def _unwatched(_cycle: str) -> AbstractContextManager[None]:
    return nullcontext()


class _MonitoredCycles:
    """Runs the daemon's cycles, feeds the metrics with them, and gathers what the listener shows."""

    def __init__(
        self, wired: Program, watching: Callable[[str], AbstractContextManager[None]] = _unwatched
    ) -> None:
        self.wired = wired
        self.watching = watching
        self.metrics = Metrics(version("cosell-sync"), wired.settings.crm)
        self.outlook = Outlook()
        self.sign_ins: dict[str, str] = {}
        self.purged: datetime | None = None
        self.hinted_at: datetime | None = None  # when the last event came that was Microsoft's
        self.listed_at: datetime | None = None  # when Partner Center was last asked for what changed

    def cycle(self) -> CycleSummary:
        """Run one cycle; remember which system refused the sign-in, until a cycle ends well."""
        self.purge()
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
                self.sign_ins[error.system] = error.code or "refused"
            raise
        self.sign_ins = {}
        return summary

    def lists_referrals(self) -> bool:
        """Whether this cycle asks Partner Center for what changed: always, but less often while its events arrive."""
        now, pause = self.wired.clock(), self.wired.settings.sync.interval_with_webhooks
        flowing = self.hinted_at is not None and now - self.hinted_at < 3 * pause
        if flowing and self.listed_at is not None and now - self.listed_at < pause:
            return False
        self.listed_at = now
        return True

    def purge(self) -> None:
        """Delete history older than ``store.journal_keep``, once a day, however the cycles end."""
        now = self.wired.clock()
        if self.purged is None or (now - self.purged).days >= 1:
            purge_journal(self.wired)
            self.purged = now

    def count(self, summary: CycleSummary) -> None:
        """Feed the metrics with a finished cycle, also one that ended early, and with how all deals stand after it."""
        self.metrics.cycle(summary, self.wired.clock())
        with suppress(Unavailable):  # the store may be what ended the cycle
            self.wired.store.remember_cycle(summary)
            self.metrics.deals(self.states())
            self.outlook = self.wired.store.outlook()

    def rendered(self, daemon: Daemon) -> bytes:
        """The metrics at this moment; asks the store nothing."""
        now, status = self.wired.clock(), daemon.status
        self.metrics.outlook(
            self.outlook, now, carried_at=status.carried_at, failing=status.outage is not None
        )
        self.metrics.lease(held=self.wired.store.holds_lease)
        for side, meter in self.wired.meters.items():
            self.metrics.errors(meter.system, meter.failures)
            if meter.signed_in_at is not None:
                self.metrics.sign_in(meter.system, (now - meter.signed_in_at).total_seconds())
            if allowances := meter.allowances():
                allowance = min(
                    allowances, key=lambda each: each.left / each.ceiling if each.ceiling else 0.0
                )
                self.metrics.budget(side, allowance.used, allowance.ceiling)
        return self.metrics.render()

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

    def health(self, daemon: Daemon) -> Facts:
        """What readiness is judged by, at this moment; asks the store nothing."""
        wired, status = self.wired, daemon.status
        return Facts(
            now=wired.clock(),
            version=version("cosell-sync"),
            crm=wired.settings.crm,
            fresh_within=fresh_within(self.pace()),
            sign_ins=dict(self.sign_ins),
            carried_at=status.carried_at,
            outage=status.outage,
            holder=status.holder,
        )
