"""The service that ``run`` starts: the daemon and the HTTP listener, wired to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

from cosell_sync import tracing
from cosell_sync.bootstrap import Program, noticing, program
from cosell_sync.cli.console_pages import console
from cosell_sync.daemon import Daemon
from cosell_sync.errors import ConfigError
from cosell_sync.log import get_logger
from cosell_sync.metrics import ACTIVE, Metrics
from cosell_sync.monitor import Monitor
from cosell_sync.settings import Settings
from cosell_sync.web.server import Application, Listener
from cosell_sync.web.webhooks import Event, Judge


def serve(loaded: Settings, reload: Callable[[], None] = lambda: None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. ``reload``: called after SIGHUP.

    Raises ``ConfigError`` where the listener's address is taken.
    """
    endpoint = loaded.tracing.otlp_endpoint
    with tracing.exporting(endpoint), program(loaded) as wired, ExitStack() as stack:
        metrics = Metrics(version("cosell-sync"))
        metrics.stands(loaded.connection, ACTIVE)
        monitor = Monitor(loaded, wired.clock, metrics.of(loaded.connection, loaded.crm))
        monitor.attach(wired, stack.enter_context(noticing(wired, background=True)))
        daemon = Daemon(
            monitor.cycle,
            interval=loaded.sync.interval,
            lease=wired.store.lease,
            clock=wired.clock,
            pace=monitor.pace,
            stopping=wired.stop.set,
            reload=reload,
        )

        def rendered() -> bytes:
            monitor.measure(daemon.status, holds=wired.store.holds_lease)
            return metrics.render()

        application = Application(
            lambda: monitor.facts(daemon.status),
            rendered,
            console=console(wired, lambda: monitor.facts(daemon.status), monitor.pace),
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


def receiver(wired: Program, monitor: Monitor, wake: Callable[[], None]) -> dict[str, Any]:
    """The arguments with which the listener judges and takes webhooks; empty where they are off. Raises ConfigError."""
    ours = wired.settings.webhooks
    if not ours.enabled:
        return {}
    from cosell_sync.web.certificates import Certificates  # noqa: PLC0415 - only where webhooks are on
    from cosell_sync.web.trusted import load_trust  # noqa: PLC0415

    trust = load_trust(ours.trusted_roots, ours.organization)

    def take(events: Sequence[Event]) -> None:
        """Store what they say, then wake the daemon."""
        hints = [(event.referral_id, event.name, event.changed) for event in events if event.referral_id]
        fresh = wired.store.hint(hints) if hints else 0
        for event in events:
            get_logger().info("webhook.received", kind=event.name, referral_id=event.referral_id or None)
        if fresh or len(hints) < len(events):  # what was said before says nothing of what arrives now
            monitor.hinted_at = wired.clock()
            wake()

    return {
        "judge": Judge(ours.header, Certificates(ours.certificate_hosts), trust, wired.clock),
        "take": take,
    }
