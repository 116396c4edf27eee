"""The service that ``run`` starts: the loop over one connection or several, and the HTTP listener, wired to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from importlib.metadata import version

from cosell_sync import tracing
from cosell_sync.bootstrap import Program, noticing, program, rules_from
from cosell_sync.cli.console_pages import Subject, console, console_of_several
from cosell_sync.cli.event_receiver import Spaced, log_events, receiver, taking
from cosell_sync.daemon import Daemon
from cosell_sync.errors import Busy, ConfigError
from cosell_sync.metrics import ACTIVE, PAUSED, Metrics
from cosell_sync.monitor import Monitor
from cosell_sync.pool import Pool
from cosell_sync.serving import Connections
from cosell_sync.settings import Configuration, InvalidSettings, Settings, required
from cosell_sync.store import connections as stored
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Facts
from cosell_sync.web.server import Application, Listener
from cosell_sync.web.webhooks import OURS, Event


def serve(configuration: Configuration, reload: Callable[[], None] = lambda: None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. ``reload``: called after SIGHUP.

    Raises ``ConfigError`` where the listener's address is taken, or where no connection can be begun with.
    """
    with tracing.exporting(configuration.shared.tracing.otlp_endpoint):
        if configuration.named:
            return _serve_several(configuration, reload)
        required(configuration.shared, "run")
        return _serve_one(configuration.shared, reload)


def _serve_one(loaded: Settings, reload: Callable[[], None]) -> int:
    """The lease is held for as long as the process lives; another one stands by."""
    with program(loaded) as wired, ExitStack() as stack:
        metrics = Metrics(version("cosell-sync"))
        monitor = Monitor(loaded, wired.clock, metrics.of(loaded.connection, loaded.crm))
        monitor.attach(wired, stack.enter_context(noticing(wired, background=True)))
        cycles = _UnlessPaused(wired, monitor, metrics)
        daemon = Daemon(
            cycles,
            interval=loaded.sync.interval,
            lease=wired.store.lease,
            clock=wired.clock,
            pace=monitor.pace,
            stopping=wired.stop.set,
            reload=reload,
        )
        note = taking(wired.store, monitor, daemon.wake, Spaced(daemon.wake).call)

        def facts() -> Facts:
            return cycles.seen(monitor.facts(daemon.status))

        def rendered() -> bytes:
            monitor.measure(daemon.status, holds=wired.store.holds_lease)
            return metrics.render()

        def take(events: Sequence[Event], _address: str | None) -> None:
            log_events(events)
            note(events)

        application = Application(
            facts,
            rendered,
            console=console(wired, facts, monitor.pace, wake=daemon.wake, tell=metrics.console),
            **receiver([loaded.webhooks], wired.clock, take),
        )
        _listen(loaded, application, stack)
        return daemon.run()


class _UnlessPaused:
    """The daemon's cycles; while a person wants the connection left alone, the lease is given back and asked for again."""

    def __init__(self, wired: Program, monitor: Monitor, metrics: Metrics) -> None:
        self._wired = wired
        self._monitor = monitor
        self._metrics = metrics
        self.paused = False
        metrics.stands(wired.settings.connection, ACTIVE)

    def __call__(self) -> CycleSummary:
        since = stored.turn(self._wired.store.engine, self._wired.settings.connection).paused_at
        self.paused = since is not None
        self._metrics.stands(self._wired.settings.connection, PAUSED if self.paused else ACTIVE)
        if since is not None:
            raise Busy(f"nobody: it is paused since {since:%Y-%m-%d %H:%M} UTC")
        return self._monitor.cycle()

    def seen(self, facts: Facts) -> Facts:
        """The facts, with this one among them."""
        return replace(facts, paused=self.paused)


def _serve_several(configuration: Configuration, reload: Callable[[], None]) -> int:
    """A lease is held for a turn; whoever else serves the same store shares the work."""
    with closing(Connections(configuration)) as connections, ExitStack() as stack:
        if not connections.served:
            raise InvalidSettings(
                [each for refused in connections.refused.values() for each in refused.problems]
            )
        pool = Pool(
            connections.served,
            lambda name, woken: connections.serve_once(name, woken=woken).due,
            parallel=configuration.shared.run.parallel,
            clock=connections.clock,
            stopping=connections.stop,
            reload=reload,
        )

        def wake(name: str) -> None:
            if connections.may_be_woken(name):
                pool.wake(name)

        wakers = {name: partial(wake, name) for name in connections.served}
        seldom = {name: Spaced(each).call for name, each in wakers.items()}

        def take(events: Sequence[Event], address: str | None) -> None:
            """Keep what they say for the connections that they are for, and wake those."""
            log_events(events)
            ours = [event.referral_id for event in events if event.name in OURS]
            for name in connections.receivers(address, ours):
                monitor = connections.monitor(name)
                taking(connections.store(name), monitor, wakers[name], seldom[name])(events)

        def subject(name: str) -> Subject | None:
            if name not in wakers:
                return None
            monitor = connections.monitor(name)
            return Subject(
                monitor.settings,
                connections.store(name),
                partial(rules_from, monitor.settings),
                connections.clock,
                monitor.wired.meters if monitor.wired else {},
                partial(connections.facts_of, name),
                monitor.pace,
                lambda _: "Each process that serves it takes the lease for a cycle at a time.",
                wakers[name],
            )

        shared = configuration.shared
        application = Application(
            connections.facts,
            connections.rendered,
            console=console_of_several(shared, subject, connections.facts, connections.metrics.console),
            **receiver([each.webhooks for each in connections.served.values()], connections.clock, take),
        )
        _listen(shared, application, stack)
        return pool.run()


def _listen(shared: Settings, application: Application, stack: ExitStack) -> None:
    try:
        stack.enter_context(Listener(shared.http.address, application))
    except OSError as error:
        raise ConfigError(
            f"http.listen {shared.http.listen} cannot be used: {error.strerror or error}",
            hint="another program, or another cosell-sync, may listen there: stop it, or change http.listen",
        ) from error
