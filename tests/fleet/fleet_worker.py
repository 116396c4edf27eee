"""Worker processes of the crash test: the real queue, cycle, store and transport over ``outside_server``.

    python tests/fleet/fleet_worker.py WORLD DATABASE CONNECTIONS [--naive] [--no-deadline] ...

For each line on its standard input it forks a worker, so that one begins within milliseconds, and prints its process id.

``--naive``: the queue's own means instead of ours (``lock``, ``queueing_lock``, retry): how it is usually done.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from outside_server import names
from sqlalchemy import Connection, Engine, event, text

from cosell_sync.core.deal import TOO_SOON, Side, Snapshot
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Busy, Fenced, Flaky, OutsideError, RecordError
from cosell_sync.ports import Identity, KnownRecords, Outcome, Page
from cosell_sync.serving.worker import Timing, Worker
from cosell_sync.store import queue
from cosell_sync.store.connections import put_off, turns
from cosell_sync.store.engine import make_engine, parse
from cosell_sync.store.lease import RowLease
from cosell_sync.store.schema import DEFAULT
from cosell_sync.store.sql import SqlStore
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.safety import Safety
from memory_systems import IDENTITIES, rules

UNTRUSTING = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # nothing is encrypted here, and reading certificates takes long
EXPLODES = {2: "before", 4: "within"}  # cycles of each connection that end by an error that nobody foresaw


class Asked:
    """Calls of one connection's systems over the real transport."""

    def __init__(self, world: str, name: str, lease: RowLease, *, deadline: bool) -> None:
        self._name, self._lease = name, lease
        permit = {"permit": lease.check_deadline} if deadline else {}
        self.caller = HttpCaller("partner_center", world, proxies=False, verify=UNTRUSTING, **permit)  # type: ignore[arg-type]

    def __call__(self, method: str, *arguments: Any, safety: Safety = Safety.READ) -> Any:
        return self.caller.call(
            "POST",
            f"/{self._name}/{method}",
            template=method,
            safety=safety,
            body=pickle.dumps(arguments),
            headers={"x-lease": str(self._lease._fence or 0), "x-process": str(os.getpid())},
            parse=pickle.loads,
        ).data

    def write(self, method: str, item: Any, key: str | None, safety: Safety) -> Outcome:
        try:
            answer = self(method, item, safety=safety)
        except RecordError as error:
            return Outcome(key, error)
        except OutsideError:
            return Outcome(key, Flaky("not now", code="unavailable"))
        assert isinstance(answer, Outcome)
        return answer


class Referrals:
    """``ports.Referrals``."""

    outage = None

    def __init__(self, ask: Asked, name: str) -> None:
        self._ask, self._name = ask, name

    @property
    def calls(self) -> int:
        return self._ask.caller.calls

    def identity(self) -> Identity:
        return replace(IDENTITIES[Side.PARTNER_CENTER], account=self._name)

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        yield from self._ask("pull_referrals", watermark, overlap)

    def index(self) -> Iterator[Page]:
        yield from self._ask("index_referrals")

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        found: Mapping[str, Snapshot | None] = self._ask("fetch_referrals", list(ids))
        return found

    def write(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        return [self._ask.write("write_referral", each, each.before.id, Safety.GUARDED) for each in batch]

    def create(self, draft: Any) -> Outcome:
        return self._ask.write("create_referral", draft, None, Safety.ONCE)

    def find_created(self, external_reference: str) -> Snapshot | None:
        found: Snapshot | None = self._ask("find_created", external_reference)
        return found

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        found: Sequence[Snapshot] = self._ask("engagement", engagement_id)
        return found


class Crm:
    """``ports.Crm``."""

    outage = None
    calls = 0

    def __init__(self, ask: Asked, *, explode: bool) -> None:
        self._ask, self._explode = ask, explode

    def identity(self) -> Identity:
        return IDENTITIES[Side.CRM]

    def shape(self) -> Any:
        if self._explode:
            raise RuntimeError("nobody foresaw this, in a cycle")
        return self._ask("shape")

    def forget_shape(self) -> None:
        pass

    def stages(self) -> Any:
        return self._ask("stages")

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        for page in self._ask("pull_opportunities", watermark, overlap):
            known = seen.versions([each.id for each in page.snapshots])
            fresh = [
                each
                for each in page.snapshots
                if each.version != known.get(each.id) or each.version.endswith(TOO_SOON)
            ]
            yield Page(fresh, page.gone, page.watermark)

    def index(self) -> Iterator[Mapping[str, str]]:
        yield from self._ask("index_opportunities")

    def fetch(self, ids: Sequence[str]) -> Any:
        return self._ask("fetch_opportunities", list(ids))

    def find(self, sought: Sequence[Any]) -> Any:
        return self._ask("find", list(sought))

    def foreign_accounts(self, account_ids: Sequence[str]) -> frozenset[str]:
        return frozenset()

    def write(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        return [self._ask.write("write_opportunity", each, each.before.id, Safety.GUARDED) for each in batch]

    def create(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        return [self._ask.write("create_opportunity", each, None, Safety.UNGUARDED) for each in batch]


class WitnessedLease(RowLease):
    """Every transaction that the store accepts leaves its lease's number behind, within that very transaction."""

    def check(self, connection: Connection) -> None:
        super().check(connection)
        connection.execute(
            text("INSERT INTO accepted (connection, fence) VALUES (:name, :fence)"),
            {"name": self._connection, "fence": self._fence},
        )


class Server:
    """Serves one connection once: what a worker of the product does with a wired program, here with light systems."""

    def __init__(self, engine: Engine, given: argparse.Namespace) -> None:
        self.engine, self.given = engine, given

    def serve(self, name: str, ended: Callable[[], None] = lambda: None) -> None:
        """Raises whatever ends the cycle; Busy where another worker is at it. ``ended``: called before the lease is given back."""
        store = SqlStore(self.engine, now, connection=name, deadline=timedelta(seconds=self.given.lease))
        lease = WitnessedLease(
            self.engine, name, f"process {os.getpid()}", timedelta(seconds=self.given.lease)
        )
        store._lease = lease
        ask = Asked(self.given.world, name, lease, deadline=not self.given.no_deadline)
        try:
            with store.lease(timedelta(0)):
                number, slow = ask("begin")
                if EXPLODES.get(number) == "before":
                    raise RuntimeError("nobody foresaw this")
                time.sleep(slow)
                crm = Crm(ask, explode=EXPLODES.get(number) == "within")
                run_cycle(services(Referrals(ask, name), crm, store), uuid4().hex[:12])
                ended()
        finally:
            ask.caller.close()


def services(referrals: Referrals, crm: Crm, store: SqlStore) -> Services:
    return Services(
        referrals,
        crm,
        store,
        now,
        rules(terminal_hold=timedelta()),
        CycleSettings(
            overlap=timedelta(seconds=5),
            surprise_moves=10_000,
            surprise_min=10_000,
            post_patience=timedelta(),
            retry_policy=RetryPolicy(timedelta(seconds=1), 10_000, timedelta(hours=24)),
        ),
    )


def now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("world")
    parser.add_argument("database")
    parser.add_argument("connections", type=int)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--no-deadline", action="store_true")
    parser.add_argument("--lease", type=float, default=30.0)
    parser.add_argument("--tick", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--dead-after", type=float, default=30.0)
    given = parser.parse_args()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the ones that are killed
    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            work(given)
            os._exit(0)
        print(process, flush=True)


def work(given: argparse.Namespace) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.WARNING if os.environ.get("FLEET_LOG") else logging.CRITICAL
        )
    )
    for name in ("procrastinate", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    engine = make_engine(parse(given.database))

    @event.listens_for(engine, "connect")
    def _shorter(connection: Any, _record: object) -> None:
        """As the lease is shorter than the product's."""
        connection.execute(f"SET idle_in_transaction_session_timeout = '{given.lease / 2}s'")
        connection.commit()

    server = Server(engine, given)
    if given.naive:
        import naive_queue

        naive_queue.run(server.serve, names(given.connections), given)
    else:
        wake_up(server, given)


def wake_up(server: Server, given: argparse.Namespace) -> None:
    """The product's own worker."""
    pause = timedelta(seconds=given.pause)

    def due() -> dict[str, datetime]:
        waiting = {name: turn.due or now() for name, turn in turns(server.engine).items() if name != DEFAULT}
        return {name: at for name, at in waiting.items() if at <= now()}

    def serve(name: str, _woken: bool) -> None:
        try:
            server.serve(name, lambda: put_off(server.engine, name, now() + pause))
        except (Busy, Fenced):
            return

    Worker(
        partial(queue.connector, server.engine),
        due=due,
        serve=serve,
        parallel=given.parallel,
        timing=Timing(timedelta(seconds=given.tick), timedelta(seconds=given.dead_after)),
    ).run()


if __name__ == "__main__":
    main()
