"""The service that ``run`` and ``worker`` start: the loop over one connection or several, and the HTTP listener, wired to each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Protocol

from cosell_sync import tracing
from cosell_sync.bootstrap import Program, noticing, program, rules_from
from cosell_sync.cli.console_pages import Subject, console, console_of_several
from cosell_sync.daemon import Daemon
from cosell_sync.errors import Busy, ConfigError
from cosell_sync.log import get_logger
from cosell_sync.metrics import ACTIVE, PAUSED, Metrics
from cosell_sync.monitor import Monitor
from cosell_sync.pool import Pool
from cosell_sync.ports import Clock
from cosell_sync.serving import Connections
from cosell_sync.settings import Configuration, InvalidSettings, Settings, required
from cosell_sync.settings.model import WebhooksSettings
from cosell_sync.store import connections as stored
from cosell_sync.store.engine import parse
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Facts
from cosell_sync.web.server import Application, Listener
from cosell_sync.web.webhooks import ACCEPTED, Event, Headers, Verdict

Judging = Callable[[Headers, int | None, Callable[[], bytes]], Verdict]


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
        from cosell_sync.store import queue  # noqa: PLC0415 - procrastinate is an extra
        from cosell_sync.worker import Worker  # noqa: PLC0415
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
            lease=wired.store.lease,
            clock=wired.clock,
            pace=monitor.pace,
            stopping=wired.stop.set,
            reload=reload,
        )

        def facts() -> Facts:
            return cycles.seen(monitor.facts(daemon.status))

        def rendered() -> bytes:
            monitor.measure(daemon.status, holds=wired.store.holds_lease)
            return metrics.render()

        def take(events: Sequence[Event], _address: str | None) -> None:
            """Store what they say, then wake the daemon."""
            hints, others = _hints(events)
            _log_events(events)
            fresh = wired.store.hint(hints) if hints else 0
            if fresh or others:  # what was said before says nothing of what arrives now
                monitor.hinted_at = wired.clock()
                daemon.wake()

        application = Application(
            facts,
            rendered,
            console=console(wired, facts, monitor.pace),
            **_receiver([loaded.webhooks], wired.clock, take),
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

        def take(events: Sequence[Event], address: str | None) -> None:
            """Store what they say for the connections that they are for, then wake those."""
            hints, others = _hints(events)
            _log_events(events)
            for name in connections.receivers(address, [referral for referral, _, _ in hints]):
                if connections.told(name, hints, news=others):
                    loop.wake(name)

        def subject(name: str) -> Subject | None:
            monitor = connections.monitor(name)
            if monitor is None:
                return None
            return Subject(
                monitor.settings,
                connections.store(name),
                rules_from(monitor.settings),
                connections.clock,
                monitor.wired.meters if monitor.wired else {},
                lambda: connections.facts_of(name, shared=loop.shared),
                monitor.pace,
                lambda _: "Each process that serves it takes the lease for a cycle at a time.",
            )

        receiving = [each.webhooks for each in connections.served.values() if each.webhooks.enabled]
        application = Application(
            facts,
            lambda: connections.rendered(shared=loop.shared),
            console=console_of_several(subject, facts),
            **_receiver(receiving, connections.clock, take),
        )
        _listen(configuration.shared, application, stack)
        return loop.run()


def _listen(shared: Settings, application: Application, stack: ExitStack) -> None:
    try:
        stack.enter_context(Listener(shared.http.address, application))
    except OSError as error:
        raise ConfigError(
            f"http.listen {shared.http.listen} cannot be used: {error.strerror or error}",
            hint="another program, or another cosell-sync, may listen there: stop it, or change http.listen",
        ) from error


def _hints(events: Sequence[Event]) -> tuple[list[tuple[str, str, str]], bool]:
    """What the events say of referrals, and whether some of them name none."""
    hints = [(event.referral_id, event.name, event.changed) for event in events if event.referral_id]
    return hints, len(hints) < len(events)


def _log_events(events: Sequence[Event]) -> None:
    for event in events:
        get_logger().info("webhook.received", kind=event.name, referral_id=event.referral_id or None)


def _receiver(
    sections: Iterable[WebhooksSettings], clock: Clock, take: Callable[[Sequence[Event], str | None], None]
) -> dict[str, Any]:
    """The arguments with which the listener judges and takes webhooks; empty where they are off. Raises ConfigError."""
    enabled = [each for each in sections if each.enabled]
    if not enabled:
        return {}
    from cosell_sync.web.certificates import Certificates  # noqa: PLC0415 - only where webhooks are on
    from cosell_sync.web.trusted import load_trust  # noqa: PLC0415
    from cosell_sync.web.webhooks import Judge  # noqa: PLC0415

    ways = {(each.header, each.certificate_hosts, each.trusted_roots, each.organization) for each in enabled}
    judges: list[Judging] = []
    for header, hosts, roots, organization in sorted(ways, key=str):
        try:
            judges.append(Judge(header, Certificates(hosts), load_trust(roots, organization), clock))
        except ConfigError as error:
            if len(enabled) == 1:
                raise
            get_logger().error("webhook.unusable", exc_info=error)  # the others' arrive, and polling goes on
    return {"judge": _first_that_accepts(judges), "take": take} if judges else {}


def _first_that_accepts(judges: Sequence[Judging]) -> Judging:
    """Believe an event that one of them believes; connections may be registered in different ways."""
    if len(judges) == 1:
        return judges[0]

    def judge(headers: Headers, length: int | None, read: Callable[[], bytes]) -> Verdict:
        body = cache(read)
        verdicts = [each(headers, length, body) for each in judges]
        return next((each for each in verdicts if each.status == ACCEPTED), verdicts[0])

    return judge
