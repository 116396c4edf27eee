"""Several connections in one process: each is served once at a time, and the trouble of one stays its own.

One *turn* of a connection: take its lease, see whether it is paused or was served by another process meanwhile, run one cycle,
say when the next is due, give the lease back. The lease is held for a turn and not longer, so that several processes share the
work: whoever comes first serves, and the store tells the others when the next turn is due. So there are never more leases, nor
threads that renew them, than cycles that run.

What a connection needs to be served (sign-ins, HTTP connections, what was learned of the CRM) is wired at its first turn and
kept for the next ones, for at most ``KEPT`` connections; the one that will be needed last gives way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from typing import Final

import structlog

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.notices import noticing
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.errors import Busy, ConfigError, Fenced, Unavailable
from cosell_sync.log import get_logger
from cosell_sync.metrics import ACTIVE, MISCONFIGURED, PAUSED, Metrics
from cosell_sync.ports import Clock
from cosell_sync.serving.monitor import Monitor
from cosell_sync.serving.outages import LONGEST, Outages
from cosell_sync.serving.turns import Turns
from cosell_sync.settings import Configuration, Settings, check_all
from cosell_sync.store import connections as stored
from cosell_sync.store.connections import Turn
from cosell_sync.store.open import Databases
from cosell_sync.store.sql import SqlStore
from cosell_sync.web.health import Facts, fresh_within

KEPT: Final = 256
STANDBY: Final = timedelta(seconds=5)
LOOK_AGAIN: Final = timedelta(seconds=30)  # whether a paused connection was resumed
LEAVING: Final = 1.5  # seconds
SLACK: Final = timedelta(seconds=1)  # two processes' clocks agree no better
_EVER: Final = datetime.fromtimestamp(0, UTC)


class Ending(StrEnum):
    """How a turn ended. Only ``SERVED`` and ``FAILED`` ran a cycle, or tried to."""

    SERVED = "served"
    FAILED = "failed"  # a system is away, refused the sign-in, or an error that nobody foresaw
    HELD = "held"  # another process, or another thread, serves it now
    EARLY = "early"  # another process has served it, and its next turn is not due
    PAUSED = "paused"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True)
class Outcome:
    """``due``: when the connection is to be served again. ``reason``: for an operator, unless it was served well."""

    connection: str
    ending: Ending
    due: datetime
    reason: str = ""


class _Served:
    """What one process keeps of a connection between its turns."""

    def __init__(self, settings: Settings, monitor: Monitor, clock: Clock) -> None:
        self.settings = settings
        self.monitor = monitor
        self.outages = Outages(settings.sync.interval, clock)
        self.busy = threading.Lock()
        self.wired: Program | None = None
        self.closing = ExitStack()
        self.due = clock()  # its next turn
        self.rested = clock()  # since when this process has not served it
        self.mine = False  # whether this process made the newest turn that it knows of
        self.elsewhere: datetime | None = None  # when another process was last found to serve it
        self.wrong = ""  # what a person must correct, as last told
        self.paused = False


def _waits(turn: Turn, now: datetime, longest: timedelta) -> bool:
    """Whether its next cycle is not due yet. A time further ahead than any pause was noted by a clock that has been set back."""
    return turn.due is not None and now + SLACK < turn.due <= now + longest + SLACK


class Connections:
    """The connections of this process. ``serve_once`` may be called from several threads.

    ``configuration``: what is configured; a connection that is misconfigured is told of and not served. To be closed.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        clock: Clock = utc_now,
        databases: Databases | None = None,
        kept: int = KEPT,
    ) -> None:
        self.configuration = configuration
        self.clock = clock
        self.metrics = Metrics(version("cosell-sync"))
        self.databases = databases or Databases(configuration.shared.run.parallel)
        self._turns = Turns(self.databases, clock)
        self._kept = kept
        self._stopped = threading.Event()
        self._wiring = threading.Lock()
        valid, self.refused = check_all(configuration, "run")
        self._served = {name: self._serve_with(settings) for name, settings in valid.items()}
        for name, error in self.refused.items():
            self.metrics.stands(name, MISCONFIGURED)
            get_logger().error("connection.misconfigured", connection=name, problems=len(error.problems))

    def _serve_with(self, settings: Settings) -> _Served:
        self.metrics.stands(settings.connection, ACTIVE)
        part = self.metrics.of(settings.connection, settings.crm)
        return _Served(settings, Monitor(settings, self.clock, part), self.clock)

    @property
    def served(self) -> Mapping[str, Settings]:
        """The settings of every valid connection, by name, in the order of the file."""
        return {name: one.settings for name, one in self._served.items()}

    # --- which there are ------------------------------------------------------------------------------------------

    def names(self) -> Sequence[str]:
        """Those that are configured, valid and not paused, in the order of the file."""
        turns = self.turns()
        return [name for name in self._served if turns[name].paused_at is None]

    def due(self) -> Mapping[str, datetime]:
        """Those of ``names`` whose next turn is due now, whoever made the last one, and since when; who waits longest first."""
        now, turns = self.clock(), self.turns()
        waiting = {
            name: turn.due or _EVER
            for name, turn in turns.items()
            if turn.paused_at is None
            and not self._put_off_here(self._served[name], now)
            and not _waits(turn, now, max(self._served[name].settings.sync.interval, LONGEST))
        }
        return dict(sorted(waiting.items(), key=lambda each: each[1]))

    def _put_off_here(self, one: _Served, now: datetime) -> bool:
        """Whether it waits although no store says so: it could not be served here, and might not even be asked there."""
        return one.due > now and (bool(one.wrong) or self._turns.away(one.settings.store.url))

    def turns(self) -> Mapping[str, Turn]:
        """What the stores say of each valid connection; of a store that is away nothing is known."""
        return self._turns.of({name: each.settings.store.url for name, each in self._served.items()})

    # --- one turn -------------------------------------------------------------------------------------------------

    def serve_once(self, name: str, *, woken: bool = False) -> Outcome:
        """Serve this connection once. ``woken``: now, although it may not be due.

        Whatever is wrong with the connection is told and returned. Raises ConfigError where there is none of that name.
        """
        if name in self.refused:
            return Outcome(name, Ending.MISCONFIGURED, self.clock() + LOOK_AGAIN, str(self.refused[name]))
        one = self._served.get(name)
        if one is None:
            self.configuration.settings(name)  # raises: there is no such connection
            raise ConfigError(f"there is no connection {name}")
        if not one.busy.acquire(blocking=False):
            return Outcome(name, Ending.HELD, self.clock() + STANDBY, "another thread of this process")
        try:
            with self.naming(name):
                outcome = self._turn(one, woken=woken)
            one.due = outcome.due
            return outcome
        finally:
            one.rested = self.clock()
            one.busy.release()

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Whatever is logged within carries the connection's name, where there are several."""
        named = self.configuration.named
        with structlog.contextvars.bound_contextvars(connection=name) if named else nullcontext():
            yield

    def _turn(self, one: _Served, *, woken: bool) -> Outcome:
        name = one.settings.connection
        try:
            wired = self._wired(one)
            with wired.store.lease(timedelta(0)):
                return self._leased(one, wired, woken=woken)
        except Busy as busy:
            self._elsewhere(one)
            return Outcome(name, Ending.HELD, self._soon(one), busy.holder)
        except Fenced:
            get_logger().warning("lease.lost")
            self._elsewhere(one)
            return Outcome(name, Ending.HELD, self._soon(one), "the lease went to another process")
        except ConfigError as error:
            return self._misconfigured(one, error)
        except Exception as error:  # noqa: BLE001 - the store may be away; whatever it is, it is this connection's
            return self._failed(one, error)

    def _leased(self, one: _Served, wired: Program, *, woken: bool) -> Outcome:
        name, turn = one.settings.connection, stored.turn(wired.store.engine, one.settings.connection)
        self._pausing(one, paused=turn.paused_at is not None)
        if turn.paused_at is not None:
            return Outcome(name, Ending.PAUSED, self.clock() + LOOK_AGAIN, f"paused since {turn.paused_at}")
        pauses = max(one.settings.sync.interval, LONGEST, one.monitor.pace())
        if not woken and _waits(turn, self.clock(), pauses):
            self._elsewhere(one)
            return Outcome(name, Ending.EARLY, turn.due or self.clock(), "another process has served it")
        one.mine = True
        outcome = self._cycled(one)
        if not self._stopped.is_set():
            with suppress(Unavailable):
                stored.put_off(wired.store.engine, name, outcome.due)
        return outcome

    def _cycled(self, one: _Served) -> Outcome:
        name = one.settings.connection
        try:
            summary = one.monitor.cycle()
        except (Fenced, Busy):
            raise
        except ConfigError as error:
            return self._misconfigured(one, error)
        except Exception as error:  # noqa: BLE001 - a failing cycle ends nothing but itself
            return self._failed(one, error)
        self._right_again(one)
        pause = one.outages.ended(summary, one.monitor.pace())
        return Outcome(name, Ending.SERVED, self.clock() + pause)

    def _failed(self, one: _Served, error: Exception) -> Outcome:
        due = self.clock() + one.outages.failed(error)
        return Outcome(one.settings.connection, Ending.FAILED, due, one.outages.status.outage or "")

    def _misconfigured(self, one: _Served, error: ConfigError) -> Outcome:
        """It is tried again later all the same: a person may correct it elsewhere, as ``connection rebind`` does."""
        name, first = one.settings.connection, str(error) != one.wrong
        one.wrong = str(error)
        due = self.clock() + one.outages.failed(error, told=True)
        self.metrics.stands(name, MISCONFIGURED)
        if first:
            get_logger().error("connection.misconfigured", exc_info=error)
        return Outcome(name, Ending.MISCONFIGURED, due, str(error))

    def _right_again(self, one: _Served) -> None:
        if one.wrong:
            one.wrong = ""
            self.metrics.stands(one.settings.connection, ACTIVE)

    def _pausing(self, one: _Served, *, paused: bool) -> None:
        if one.paused != paused:
            one.paused = paused
            self.metrics.stands(one.settings.connection, PAUSED if paused else ACTIVE)
            get_logger().info("connection.paused" if paused else "connection.resumed")

    def _elsewhere(self, one: _Served) -> None:
        one.mine, one.elsewhere = False, self.clock()

    def _soon(self, one: _Served) -> datetime:
        return self.clock() + min(one.settings.sync.interval, STANDBY)

    # --- what is wired --------------------------------------------------------------------------------------------

    def _wired(self, one: _Served) -> Program:
        """The program of this connection; its lock is held by the caller. Raises as ``bootstrap.program.program``."""
        if one.wired is None:
            self._make_room()
            with ExitStack() as closing:
                wired = closing.enter_context(
                    program(one.settings, clock=self.clock, databases=self.databases)
                )
                one.monitor.attach(wired, closing.enter_context(noticing(wired, background=True)))
                one.wired, one.closing = wired, closing.pop_all()
            if self._stopped.is_set():
                one.wired.stop.set()
        return one.wired

    def _make_room(self) -> None:
        """Close the program that will be needed last, where as many are kept as may be: one that is not served, else the one
        whose next turn is furthest away. Whoever is served in turn would find nothing if the one that has rested longest went.
        """
        with self._wiring:
            kept = sorted(
                (each for each in self._served.values() if each.wired),
                key=lambda each: (each.paused or bool(each.wrong), each.due),
            )
            for each in kept[self._kept - 1 :]:
                if each.busy.acquire(blocking=False):
                    try:
                        self._unwire(each)
                    finally:
                        each.busy.release()

    @staticmethod
    def _unwire(one: _Served) -> None:
        one.wired, one.monitor.wired = None, None
        one.closing.close()

    def stop(self) -> None:
        """End every wait and hanging call of every cycle; may be called in a signal handler."""
        self._stopped.set()
        for each in self._served.values():
            if (wired := each.wired) is not None:
                wired.stop.set()

    def close(self) -> None:
        """Close what is wired and every database; no turn may be under way."""
        self.stop()
        # Each waits a moment for a notice that is under way; all of them together get no more.
        closing = threading.Thread(target=self._unwire_all, name="closing", daemon=True)
        closing.start()
        closing.join(LEAVING)
        self.databases.close()

    def _unwire_all(self) -> None:
        for each in self._served.values():
            self._unwire(each)

    # --- how they do ----------------------------------------------------------------------------------------------

    def facts(self, *, shared: bool = False) -> Mapping[str, Facts]:
        """What readiness is judged by, for each connection that is configured; asks no store. ``shared``: whoever is free serves
        a connection, so that one which was not served here lately is no sign of trouble.
        """
        return {name: self.facts_of(name, shared=shared) for name in self.configuration.names}

    def facts_of(self, name: str, *, shared: bool = False) -> Facts:
        """Those of one connection."""
        one = self._served.get(name)
        if one is None:
            keys = ", ".join(problem.key for problem in self.refused[name].problems)
            return Facts(
                now=self.clock(),
                version=version("cosell-sync"),
                crm="",
                fresh_within=timedelta(),
                wrong=f"{keys}; cosell-sync config check says more",
                connection=name,
            )
        status = one.outages.status
        elsewhere = self.clock() if shared else one.elsewhere
        if not self._served_here(one, shared=shared) and elsewhere is not None:
            # Another process serves it, and tells how that goes.
            status = replace(status, carried_at=elsewhere, outage=None)
            known = replace(one.monitor.facts(status), sign_ins={})
        else:
            known = one.monitor.facts(status)
        return replace(known, paused=one.paused, wrong=one.wrong, connection=name)

    def _served_here(self, one: _Served, *, shared: bool) -> bool:
        """Whether this process made the newest turn that it knows of; where turns are shared, and lately."""
        long_ago = self.clock() - one.due > fresh_within(one.monitor.pace())
        return one.mine and not (shared and long_ago)

    def rendered(self, *, shared: bool = False) -> bytes:
        """The text of /metrics; asks no store. ``shared`` as of ``facts``."""
        for one in self._served.values():
            one.monitor.measure(one.outages.status, holds=self._served_here(one, shared=shared))
        return self.metrics.render()

    # --- what events say ------------------------------------------------------------------------------------------

    def may_be_woken(self, name: str) -> bool:
        """Whether its next turn may come at once; while cycles fail the pause is kept."""
        return not self._served[name].outages.failures

    def receivers(self, addressed: str | None, referrals: Sequence[str]) -> Sequence[str]:
        """The connections that an event is for. Each has an address of its own, and hears with it what the others of its tenant
        are told; at the common address those hear of a referral that know it, or cannot say, and all where nobody does.
        """
        enabled = {name: one.settings for name, one in self._served.items() if one.settings.webhooks.enabled}
        if addressed is not None:
            tenant = enabled[addressed].partner_center.tenant_id if addressed in enabled else None
            return [name for name, each in enabled.items() if each.partner_center.tenant_id == tenant]
        knowing = [name for name in enabled if self._may_know(name, referrals)] if referrals else []
        return knowing or list(enabled)

    def _may_know(self, name: str, referrals: Sequence[str]) -> bool:
        try:
            return bool(self.store(name).by_referral(referrals))
        except (Unavailable, ConfigError):  # its store is away, and keeps no other from hearing
            return True

    def store(self, name: str) -> SqlStore:
        """The store of a valid connection, for who looks at it."""
        settings = self._served[name].settings
        return self.databases.store(settings.store.url, self.clock, connection=name)

    def monitor(self, name: str) -> Monitor:
        """What is known of a valid connection's cycles."""
        return self._served[name].monitor
