"""The service that ``run`` and ``worker`` start: the loop over one connection or several, and the HTTP listener, wired to each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Protocol

from cosell_sync import tracing
from cosell_sync.bootstrap.notices import noticing
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.bootstrap.rules import rules_from
from cosell_sync.cli.console_pages import Subject, console, console_of_several
from cosell_sync.cli.event_receiver import Spaced, log_events, receiver, taking, to_each
from cosell_sync.errors import Busy, ConfigError
from cosell_sync.metrics import ACTIVE, PAUSED, Metrics
from cosell_sync.serving.connections import Connections
from cosell_sync.serving.daemon import Daemon
from cosell_sync.serving.monitor import Monitor
from cosell_sync.serving.pool import Pool
from cosell_sync.settings import Configuration, InvalidSettings, Settings, required
from cosell_sync.store import connections as stored
from cosell_sync.store.engine import is_pooled, parse
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
            return _serve_several(configuration, reload, _pool)
        required(configuration.shared, "run")
        return _serve_one(configuration.shared, reload)


def serve_from_queue(configuration: Configuration, reload: Callable[[], None] = lambda: None) -> int:
    """As ``serve``, where a queue in PostgreSQL says what is served next, and other workers share it.

    Raises ``ConfigError`` as well where a store is no PostgreSQL or the package of the queue is missing.
    """
    with tracing.exporting(configuration.shared.tracing.otlp_endpoint):
        return _serve_several(configuration, reload, _worker)


class _Loop(Protocol):
    """What serves connections until it is stopped: ``Pool`` or ``Worker``."""

    @property
    def shared(self) -> bool:
        """Whether other processes serve the same connections now, and this one need not know of every one."""

    def wake(self, name: str) -> None:
        """Serve this connection soon."""

    def run(self) -> int:
        """Until stopped; the exit code."""


def _pool(connections: Connections, reload: Callable[[], None]) -> _Loop:
    return Pool(
        connections.served,
        lambda name, woken: connections.serve_once(name, woken=woken).due,
        parallel=connections.configuration.shared.run.parallel,
        clock=connections.clock,
        stopping=connections.stop,
        reload=reload,
    )


def _worker(connections: Connections, reload: Callable[[], None]) -> _Loop:
    shared = connections.configuration.shared
    for settings in (shared, *connections.served.values()):
        if parse(settings.store.url).get_backend_name() != "postgresql":
            raise ConfigError(
                "workers share their connections by PostgreSQL, and store.url names a SQLite file, which is one process's own",
                hint="set store.url to postgresql+psycopg://…, or use `cosell-sync run`",
            )
    try:
        from cosell_sync.serving.worker import Worker  # noqa: PLC0415
        from cosell_sync.store import queue  # noqa: PLC0415 - procrastinate is an extra
    except ImportError as error:
        raise ConfigError(
            f"a worker needs the package {error.name}", hint="run `pip install 'cosell-sync[workers]'`"
        ) from error
    engine = connections.databases.engine(shared.store.url)
    queue.prepare(engine)
    return Worker(
        partial(queue.connector, engine),
        due=connections.due,
        serve=lambda name, woken: connections.serve_once(name, woken=woken),
        parallel=shared.run.parallel,
        listens=not is_pooled(engine),
        stopping=connections.stop,
        reload=reload,
    )


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
            lease=cycles.lease,
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
        self._look()
        return self._monitor.cycle()

    @contextmanager
    def lease(self, wait: timedelta) -> Iterator[None]:
        """The lease, which nobody takes during a pause."""
        self._look()
        with self._wired.store.lease(wait):
            yield

    def _look(self) -> None:
        since = stored.turn(self._wired.store.engine, self._wired.settings.connection).paused_at
        self.paused = since is not None
        self._metrics.stands(self._wired.settings.connection, PAUSED if self.paused else ACTIVE)
        if since is not None:
            raise Busy(f"nobody: it is paused since {since:%Y-%m-%d %H:%M} UTC")

    def seen(self, facts: Facts) -> Facts:
        """The facts, with this one among them."""
        return replace(facts, paused=self.paused)


def _serve_several(
    configuration: Configuration,
    reload: Callable[[], None],
    loop_of: Callable[[Connections, Callable[[], None]], _Loop],
) -> int:
    """A lease is held for a turn; whoever else serves the same store shares the work."""
    with closing(Connections(configuration)) as connections, ExitStack() as stack:
        if not connections.served:
            raise InvalidSettings(
                [each for refused in connections.refused.values() for each in refused.problems]
            )
        loop = loop_of(connections, reload)

        def facts() -> Mapping[str, Facts]:
            return connections.facts(shared=loop.shared)

        def wake(name: str) -> None:
            if connections.may_be_woken(name):
                loop.wake(name)

        wakers = {name: partial(wake, name) for name in connections.served}
        seldom = {name: Spaced(each).call for name, each in wakers.items()}

        def take(events: Sequence[Event], address: str | None) -> None:
            """Keep what they say for the connections that they are for, and wake those."""
            log_events(events)
            ours = [event.referral_id for event in events if event.name in OURS]

            def tell(name: str) -> None:
                monitor = connections.monitor(name)
                taking(connections.store(name), monitor, wakers[name], seldom[name])(events)

            to_each(connections.receivers(address, ours), tell)

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
                lambda: connections.facts_of(name, shared=loop.shared),
                monitor.pace,
                lambda _: "Each process that serves it takes the lease for a cycle at a time.",
                wakers[name],
            )

        shared = configuration.shared
        application = Application(
            facts,
            lambda: connections.rendered(shared=loop.shared),
            console=console_of_several(shared, subject, facts, connections.metrics.console),
            **receiver([each.webhooks for each in connections.served.values()], connections.clock, take),
        )
        _listen(shared, application, stack)
        return loop.run()


def _listen(shared: Settings, application: Application, stack: ExitStack) -> None:
    try:
        stack.enter_context(Listener(shared.http.address, application))
    except OSError as error:
        raise ConfigError(
            f"http.listen {shared.http.listen} cannot be used: {error.strerror or error}",
            hint="another program, or another cosell-sync, may listen there: stop it, or change http.listen",
        ) from error
