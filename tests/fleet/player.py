"""Plays a fleet of workers against everything that befalls processes, and tells whether the promises held.

    .venv/bin/python tests/fleet/player.py --connections 200 --seconds 300      # the long one
    .venv/bin/python tests/fleet/player.py --naive                              # what the queue alone would do
    .venv/bin/python tests/fleet/player.py --no-deadline                        # without the look at the clock before a write

Workers are killed (``kill -9``), stopped for twice the lease and continued, each connection breaks twice by an error that
nobody foresaw, and PostgreSQL is restarted once, as after a crash. Meanwhile people edit on both sides. What is promised:

- the cycles of one connection do not overlap: what the store accepted, and what arrived outside, is ordered by lease;
- no connection waits longer than the lease and two ticks (beyond its pause, and the restart of the database);
- no job stays "doing" for a minute without a living worker;
- nothing is made twice, and no write of a worker arrives that was replaced meanwhile;
- in the end both sides are equal.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE)]

from outside_server import client, names  # noqa: E402

from cosell_sync.store import queue as queue_tables  # noqa: E402
from cosell_sync.store.migrate import migrate  # noqa: E402
from postgres import OwnServer, own_server  # noqa: E402

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE))),
}


@dataclass(frozen=True)
class Play:
    """What is played. Times in seconds; ``pause``: between two cycles of a connection. 0: never."""

    connections: int = 10
    workers: int = 3
    parallel: int = 4
    seconds: float = 30
    lease: float = 3
    tick: int = 1
    pause: float = 1
    dead_after: float = 3
    kill_every: float = 4
    stop_every: float = 9
    restart_at: float = 12
    edit_every: float = 0.1
    deals: int = 2
    throttle: int = 5
    slow: int = 0  # so many connections, of which each cycle takes ``slow_seconds`` longer
    slow_seconds: float = 20
    settle: float = 30
    moment: float = 2  # that a cycle itself may take
    naive: bool = False
    no_deadline: bool = False
    seed: int = 1


@dataclass
class Found:
    """What became of it; ``broken`` names each promise that did not hold."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def promise(self, held: bool, otherwise: str) -> None:
        if not held:
            self.broken.append(otherwise)


class Fleet:
    """The workers, as an orchestrator sees them: one that is gone is replaced at once."""

    def __init__(self, play: Play, world: str, database: str) -> None:
        self.play = play
        command = [
            *(sys.executable, str(HERE / "fleet_worker.py"), world, database, str(play.connections)),
            *("--lease", str(play.lease), "--tick", str(play.tick), "--pause", str(play.pause)),
            *("--parallel", str(play.parallel), "--dead-after", str(play.dead_after)),
            *(["--naive"] if play.naive else []),
            *(["--no-deadline"] if play.no_deadline else []),
        ]
        self.parent = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.running: list[int] = []
        self.stopped: dict[int, float] = {}  # process → until when
        self.killed = self.stops = 0

    def start(self) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write("\n")
        self.parent.stdin.flush()
        self.running.append(int(self.parent.stdout.readline()))

    def kill(self, dice: random.Random) -> None:
        going = [each for each in self.running if each not in self.stopped]
        if going:
            one = dice.choice(going)
            os.kill(one, signal.SIGKILL)
            self.running.remove(one)
            self.killed += 1

    def stop(self, dice: random.Random, waiting: Callable[[], dict[int, float]]) -> None:
        """Stop one that waits with a write in its hands, if there is one soon; any otherwise."""
        going = [each for each in self.running if each not in self.stopped]
        if not going:
            return
        found: list[int] = []
        for _ in range(60):
            found = [one for one, ago in waiting().items() if one in going and ago < 0.5]
            if found:
                break
            time.sleep(0.05)
        one = found[0] if found else dice.choice(going)
        os.kill(one, signal.SIGSTOP)
        self.stopped[one] = time.monotonic() + 2 * self.play.lease
        self.stops += 1

    def tend(self) -> None:
        """Continue who stood long enough; replace who is gone."""
        for one, until in list(self.stopped.items()):
            if time.monotonic() >= until:
                os.kill(one, signal.SIGCONT)
                del self.stopped[one]
        self.running = [each for each in self.running if _alive(each)]
        while len(self.running) < self.play.workers:
            self.start()

    def end(self) -> None:
        for one in self.running:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.parent.kill()
        self.parent.communicate(timeout=15)


def _processor_seconds(process: int) -> float:
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def _alive(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


class Queue:
    """What the jobs' table shows, looked at now and then."""

    def __init__(self, engine: Engine, dead_after: float) -> None:
        self.engine, self.dead_after = engine, dead_after
        self.orphans: dict[int, float] = {}  # job "doing" without a living worker → since when it was seen
        self.longest = 0.0

    def look(self) -> None:
        query = text(
            "SELECT job.id FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id"
            " WHERE job.status = 'doing' AND (worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => :s))"
        )
        with suppress(DBAPIError), self.engine.connect() as connection:
            seen = set(connection.execute(query, {"s": self.dead_after}).scalars())
            now = time.monotonic()
            self.orphans = {job: self.orphans.get(job, now) for job in seen}
            self.longest = max([self.longest, *(now - since for since in self.orphans.values())])


@contextmanager
def served(play: Play, database: str) -> Iterator[str]:
    """The address of the outside world, in a process of its own."""
    command = [
        sys.executable,
        str(HERE / "outside_server.py"),
        database,
        str(play.connections),
        str(play.throttle),
    ]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def prepare(play: Play, url: str) -> Engine:
    migrate(url)
    engine = create_engine(url, pool_pre_ping=True, pool_size=2)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO connection (name) VALUES (:name) ON CONFLICT DO NOTHING"),
            [{"name": name} for name in names(play.connections)],
        )
        connection.execute(
            text(
                "CREATE TABLE accepted (id bigserial PRIMARY KEY, connection text, fence bigint,"
                " at timestamptz DEFAULT clock_timestamp())"
            )
        )
        connection.execute(text("CREATE TABLE turn (connection text PRIMARY KEY, due timestamptz)"))
        connection.execute(
            text("INSERT INTO turn SELECT name, now() FROM connection WHERE name <> 'default'")
        )
    if not play.naive:
        queue_tables.prepare(engine)
    else:
        from procrastinate import App, SyncPsycopgConnector

        conninfo = url.replace("postgresql+psycopg:", "postgresql:")
        with App(connector=SyncPsycopgConnector(conninfo=conninfo)).open() as app:
            app.schema_manager.apply_schema()
    return engine


def run(play: Play, own: OwnServer, say: Callable[[str], None] = lambda _line: None) -> Found:
    """Play it over this database, which is empty, and judge."""
    engine = prepare(play, own.url)
    queue = Queue(engine, play.dead_after)
    with served(play, own.url) as world:
        ask = client(world)
        ask("seed", play.deals)
        ask("slow", names(play.connections)[: play.slow], play.slow_seconds)
        fleet = Fleet(play, world, own.url)
        try:
            down = _befall(play, own, fleet, queue, ask, say)
            settled = _settle(play, fleet, queue, ask, down)
            end = ask("state")
            spent = sum(map(_processor_seconds, fleet.running))
            seen, written = ask("seen"), ask("written")
        finally:
            fleet.end()
    found = _judge(play, engine, queue, end, seen, written, down)
    found.figures |= _rates(play, seen)
    if not fleet.killed:
        found.figures["worker CPU ms a cycle"] = round(1000 * spent / max(1, found.figures["cycles"]))
    found.figures |= {"killed": fleet.killed, "stopped": fleet.stops, "settled_s": settled}
    engine.dispose()
    return found


def _befall(
    play: Play,
    own: OwnServer,
    fleet: Fleet,
    queue: Queue,
    ask: Callable[..., Any],
    say: Callable[[str], None],
) -> float:
    """Everything that befalls the fleet; how long the database was away."""
    dice = random.Random(play.seed)
    fleet.tend()
    ask("people", play.edit_every)
    began = time.monotonic()
    due = {"kill": play.kill_every, "stop": play.stop_every, "restart": play.restart_at}
    due = {what: began + after for what, after in due.items() if after}
    down = 0.0
    while (now := time.monotonic()) < began + play.seconds:
        for what in [what for what, at in due.items() if now >= at]:
            say(f"{now - began:6.1f} s  {what}")
            if what == "kill":
                fleet.kill(dice)
                due[what] = now + play.kill_every
            elif what == "stop":
                fleet.stop(dice, lambda: ask("last_told_to_wait"))
                due[what] = now + play.stop_every
            else:
                own.restart()
                down = time.monotonic() - now
                del due[what]
        fleet.tend()
        queue.look()
        time.sleep(0.25)
    ask("people", 0)
    return down


def _settle(play: Play, fleet: Fleet, queue: Queue, ask: Callable[..., Any], down: float) -> float:
    """Nothing befalls them any more: until both sides are equal, or as long as ``settle`` and the longest wait permit."""
    began = time.monotonic()
    while time.monotonic() < began + play.settle + 2 * play.lease:
        fleet.tend()
        queue.look()
        time.sleep(0.5)
        if time.monotonic() > began + 2 * play.lease + 1 and not ask("state")["differences"]:
            break
    return round(time.monotonic() - began, 1)


def bound(play: Play, down: float) -> float:
    """How long a connection may see nothing of any worker."""
    return play.lease + 2 * play.tick + play.pause + down + play.moment


def _judge(
    play: Play,
    engine: Engine,
    queue: Queue,
    end: dict[str, Any],
    seen: dict[str, list[tuple[float, str]]],
    written: dict[str, list[tuple[float, int, int, str]]],
    down: float,
) -> Found:
    found = Found()
    idle = {
        name: max(later - earlier for earlier, later in zip(times, [*times[1:], end["now"]], strict=True))
        for name, moments in seen.items()
        if (times := [at for at, _ in moments])
    }
    silent = [
        name
        for name, moments in seen.items()
        if not moments or end["now"] - moments[-1][0] > bound(play, down)
    ]
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT connection, fence FROM accepted ORDER BY id")).all()
    fences: dict[str, list[int]] = {}
    for name, fence in rows:
        fences.setdefault(name, []).append(fence)
    mixed = [name for name, numbers in fences.items() if numbers != sorted(numbers)]
    crossed = [name for name, list_ in written.items() if (n := [each[1] for each in list_]) != sorted(n)]
    longest = max(idle.values(), default=0.0)
    cycles = sum(end["cycles"].values())
    found.promise(not mixed, f"transactions of two leases are mixed: {mixed}")
    found.promise(not crossed, f"outside writes of two leases are mixed: {crossed}")
    found.promise(not end["late"], f"{end['late']} writes of a worker that had been replaced")
    found.promise(not end["duplicates"], f"{end['duplicates']} records were made twice")
    found.promise(
        longest <= bound(play, down),
        f"a connection waited {longest:.1f} s, {bound(play, down):.1f} s are allowed",
    )
    found.promise(
        not silent, f"{len(silent)} of {play.connections} connections are served no more: {silent[:5]}"
    )
    found.promise(queue.longest <= 60, f"a job was 'doing' for {queue.longest:.0f} s without a living worker")
    found.promise(not end["differences"], f"{len(end['differences'])} differences: {end['differences'][:5]}")
    found.figures = {
        "cycles": cycles,
        "transactions": len(rows),
        "outside writes": end["writes"],
        "late writes": end["late"],
        "not proven (database away)": end["unproven"],
        "made twice": end["duplicates"],
        "deals": end["deals"],
        "longest wait_s": round(longest, 1),
        "longest waits": sorted(((round(w, 1), n) for n, w in idle.items()), reverse=True)[:4],
        "allowed_s": round(bound(play, down), 1),
        "served no more": len(silent),
        "longest orphaned job_s": round(queue.longest, 1),
        "database away_s": round(down, 1),
    }
    return found


def _rates(play: Play, seen: dict[str, list[tuple[float, str]]]) -> dict[str, Any]:
    """How much was done while everything befell, and how long the quick connections waited beyond their pause."""
    slow = set(names(play.connections)[: play.slow])
    moments = sorted(at for times in seen.values() for at, what in times if what == "begin")
    waits = sorted(
        max(0.0, later - earlier - play.pause)
        for name, times in seen.items()
        if name not in slow
        for (earlier, _), (later, what) in pairwise(times)
        if what == "begin"
    )
    spent = moments[-1] - moments[0] if len(moments) > 1 else 0.0
    return {
        "cycles a second": round(len(moments) / spent, 1) if spent else 0,
        "quick ones waited_s p50": round(waits[len(waits) // 2], 1) if waits else None,
        "quick ones waited_s p95": round(waits[len(waits) * 95 // 100], 1) if waits else None,
    }


LONG = Play(
    connections=200,
    seconds=300,
    lease=30,
    tick=5,
    pause=60,
    dead_after=30,
    kill_every=7,
    stop_every=31,
    restart_at=120,
    edit_every=0.2,
    settle=120,
    moment=5,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--long", action="store_true", help="200 connections, 30 s lease, 5 s ticks, 5 minutes"
    )
    chosen, _ = parser.parse_known_args()
    base = LONG if chosen.long else Play()
    for name, value in vars(base).items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(value), default=value)
    given = vars(parser.parse_args())
    del given["long"]
    play = Play(**given)
    with own_server() as own:
        found = run(play, own, say=lambda line: print(line, flush=True))
    for name, value in found.figures.items():
        print(f"{name:<28} {value}")
    for each in found.broken:
        print(f"BROKEN: {each}")
    sys.exit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
