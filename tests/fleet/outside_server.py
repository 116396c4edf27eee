"""Many pairs of a Partner Center and a CRM behind one loopback server, as light as they are strict.

Each pair is a ``memory_systems.Outside``: it refuses stale versions, holds one opportunity per referral id, and writes down
what a correct program never does. What this server adds is about *who* writes: every request carries its worker's process id
and the number of its lease, and each write is held against the lease in the database at that moment. A write under a number
that is not the current one came from a worker that was away and had been replaced: ``late``.

Some writes are first answered 429 with a wait, as the real systems do; the moment in which a worker waits for that is the one
in which standing still hurts (``/control/waiting`` tells who does).

Requests are pickled ports' calls: ``POST /<connection>/<method>``; ``fleet_worker`` is the client.
"""

from __future__ import annotations

import pickle
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from cosell_sync.core.deal import Side, State
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.normalize import agree
from cosell_sync.core.rules import CrmShape
from memory_sharing import Posts
from memory_systems import CrmKind, MemoryCrm, Outside

WAIT_SECONDS = 1
COMPARED = ("name", "value", "currency", "close_date", "campaign_id")
WRITES = frozenset({"write_referral", "create_referral", "write_opportunity", "create_opportunity"})
MOST_DEALS = 6  # of one connection


class Nothing:
    """``ports.KnownRecords`` of somebody who knows none."""

    def versions(self, _ids: Sequence[str]) -> Mapping[str, str]:
        return {}

    def holding(self, _ids: Sequence[str]) -> frozenset[str]:
        return frozenset()


@dataclass
class Pair:
    """One connection's two systems, and what was seen of those who serve it."""

    name: str
    outside: Outside = field(default_factory=lambda: Outside(CrmKind()))
    lock: threading.Lock = field(default_factory=threading.Lock)
    cycles: int = 0
    seen: list[tuple[float, str]] = field(default_factory=list)  # when a cycle began or made a call
    writes: list[tuple[float, int, int, str]] = field(default_factory=list)  # when, lease, process, what
    slow: float = 0.0  # seconds that each cycle takes longer

    def __post_init__(self) -> None:
        self.referrals = Posts(self.outside)
        self.crm = MemoryCrm(self.outside)

    # --- ports ---

    def begin(self) -> tuple[int, float]:
        """A cycle begins: its number, and how long its systems take in all."""
        self.cycles += 1
        return self.cycles, self.slow

    def pull_referrals(self, watermark: str | None, overlap: timedelta) -> Any:
        return list(self.referrals.changed_since(watermark, overlap))

    def pull_opportunities(self, watermark: str | None, overlap: timedelta) -> Any:
        return list(self.crm.changed_since(watermark, overlap, Nothing()))

    def index_referrals(self) -> Any:
        return list(self.referrals.index())

    def index_opportunities(self) -> Any:
        return list(self.crm.index())

    def fetch_referrals(self, ids: Sequence[str]) -> Any:
        return self.referrals.fetch(ids)

    def fetch_opportunities(self, ids: Sequence[str]) -> Any:
        return self.crm.fetch(ids)

    def find(self, sought: Any) -> Any:
        return self.crm.find(sought)

    def find_created(self, reference: str) -> Any:
        return self.referrals.find_created(reference)

    def engagement(self, engagement: str) -> Any:
        return self.referrals.engagement(engagement)

    def shape(self) -> CrmShape:
        return self.crm.shape()

    def stages(self) -> Any:
        return self.crm.stages()

    def write_referral(self, item: Any) -> Any:
        return self.referrals.write([item])[0]

    def create_referral(self, draft: Any) -> Any:
        return self.referrals.create(draft)

    def write_opportunity(self, item: Any) -> Any:
        return self.crm.write([item])[0]

    def create_opportunity(self, draft: Any) -> Any:
        return self.crm.create([draft])[0]

    # --- people ---

    def edit(self, dice: random.Random) -> None:
        """Somebody does something to some deal on one of the sides."""
        deals = len(self.outside.referrals) + sum(
            not row.fields["referral_id"] for row in self.outside.opportunities.values()
        )
        what = dice.random()
        if deals < MOST_DEALS and what < 0.15:
            self.outside.new_referral(State.ACCEPTED)  # until it is accepted, the CRM's edits stay there
        elif deals < MOST_DEALS and what < 0.25:
            self.outside.new_opportunity(name=f"Own {deals}")
        else:
            side = dice.choice((Side.PARTNER_CENTER, Side.CRM))
            rows = self.outside.rows(side)
            if rows:
                self.outside.people(side, dice.choice(sorted(rows)), self._news(dice))

    def _news(self, dice: random.Random) -> dict[str, Any]:
        if dice.random() < 0.5:
            return {"value": Decimal(dice.randrange(100, 100_000))}
        return {"campaign_id": f"C{dice.randrange(1000)}"}

    # --- what is told in the end ---

    def differences(self) -> list[str]:
        """Where the two sides do not agree, and every deal that one of them has twice or not at all."""
        found = list(self.outside.violations)
        shape = self.outside.kind.shape
        holders: dict[str, list[Any]] = {}
        for row in self.outside.opportunities.values():
            if not row.fields["referral_id"]:
                found.append(f"{row.id}: not shared")
            holders.setdefault(str(row.fields["referral_id"]), []).append(row)
        for row in self.outside.referrals.values():
            held = holders.get(row.id, [])
            if len(held) != 1:
                found.append(f"{row.id}: {len(held)} opportunities")
            elif State(str(row.fields["state"])) not in TERMINAL:
                found += [
                    f"{row.id}: {name}: {row.fields[name]!r} and {held[0].fields[name]!r}"
                    for name in COMPARED
                    if not agree(name, row.fields[name], held[0].fields[name], shape)
                ]
        return [f"{self.name}: {each}" for each in found]

    def duplicates(self) -> int:
        """Referrals that were posted again for an opportunity that has one, and opportunities made again for a referral."""
        posts = Counter(self.referrals.origins.values())
        held = Counter(str(row.fields["referral_id"]) for row in self.outside.opportunities.values())
        held.pop("None", None)
        return sum(number - 1 for number in (*posts.values(), *held.values()))


class World:
    """All pairs. ``throttle``: every so many-th write is first told to wait; 0: none."""

    def __init__(self, names: Sequence[str], database: str, *, throttle: int, seed: int = 1) -> None:
        self.pairs = {name: Pair(name) for name in names}
        self.throttle = throttle
        self.dice = random.Random(seed)
        self.engine = create_engine(database, pool_size=10, pool_pre_ping=True)
        self.tried = self.late = self.unproven = 0
        self.waiting: dict[int, float] = {}  # process → when it was told to wait
        self.editing = threading.Event()
        self.asked: dict[str, int] = {}

    def call(self, name: str, method: str, arguments: Any, process: int, number: int) -> Any:
        """What the system answers; None where it says that it is busy."""
        pair = self.pairs[name]
        writes = method in WRITES
        pair.seen.append((time.monotonic(), method))
        if writes:
            self.tried += 1
            if self.throttle and method != "create_referral" and self.tried % self.throttle == 0:
                self.waiting[process] = time.monotonic()
                return None
        with pair.lock:
            pair.outside.now = max(pair.outside.now, datetime.now(UTC))
            if writes:
                self._judge(pair, number, process, method)
            return getattr(pair, method)(*arguments)

    def _judge(self, pair: Pair, number: int, process: int, method: str) -> None:
        """Whether this worker still is the one writer, asked of the database itself."""
        pair.writes.append((time.monotonic(), number, process, method))
        query = text("SELECT fence FROM lease WHERE connection = :name")
        try:
            with self.engine.connect() as connection:
                current = connection.execute(query, {"name": pair.name}).scalar_one_or_none()
        except DBAPIError:
            self.unproven += 1
            return
        if current != number:
            self.late += 1
            print(f"late: {pair.name} {method} by {process} under {number}, is {current}", flush=True)

    def keep_editing(self, pause: float) -> None:
        names = sorted(self.pairs)
        while self.editing.is_set():
            pair = self.pairs[self.dice.choice(names)]
            with pair.lock:
                pair.outside.now = max(pair.outside.now, datetime.now(UTC))
                pair.edit(self.dice)
            time.sleep(pause)

    # --- /control ---

    def people(self, pause: float) -> None:
        """Begin to edit, every ``pause`` seconds somebody somewhere; 0: end."""
        if pause:
            self.editing.set()
            threading.Thread(target=self.keep_editing, args=(pause,), daemon=True).start()
        else:
            self.editing.clear()

    def seed(self, deals: int) -> None:
        for pair in self.pairs.values():
            for _ in range(deals):
                pair.outside.new_referral(State.ACCEPTED)

    def slow(self, names: Sequence[str], seconds: float) -> None:
        for name in names:
            self.pairs[name].slow = seconds

    def last_told_to_wait(self) -> dict[int, float]:
        """By process, how many seconds ago."""
        now = time.monotonic()
        return {process: now - at for process, at in self.waiting.items()}

    def state(self) -> dict[str, Any]:
        differences: list[str] = []
        for pair in self.pairs.values():
            with pair.lock:
                differences += pair.differences()
        return {
            "differences": differences,
            "duplicates": sum(pair.duplicates() for pair in self.pairs.values()),
            "late": self.late,
            "unproven": self.unproven,
            "writes": sum(len(pair.writes) for pair in self.pairs.values()),
            "deals": sum(len(pair.outside.referrals) for pair in self.pairs.values()),
            "cycles": {name: pair.cycles for name, pair in self.pairs.items()},
            "now": time.monotonic(),
        }

    def seen(self) -> dict[str, list[tuple[float, str]]]:
        return {name: list(pair.seen) for name, pair in self.pairs.items()}

    def written(self) -> dict[str, list[tuple[float, int, int, str]]]:
        return {name: list(pair.writes) for name, pair in self.pairs.items()}


def handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # cut off with whoever sent it
                self.close_connection = True
                return
            name, method = self.path.strip("/").split("/")
            arguments = pickle.loads(body)
            if name == "control":
                answer: Any = getattr(world, method)(*arguments)
            else:
                number, process = int(self.headers["x-lease"]), int(self.headers["x-process"])
                answer = world.call(name, method, arguments, process, number)
                if answer is None and method in WRITES:
                    self.send_response(429)
                    self.send_header("retry-after", str(WAIT_SECONDS))
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
            content = pickle.dumps(answer)
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A worker was killed in the middle of its call."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*_)


def client(address: str) -> Callable[..., Any]:
    """Calls ``/control``: method and arguments → its answer."""
    import urllib.request

    def call(method: str, *arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{address}/control/{method}", pickle.dumps(arguments), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return pickle.loads(answer.read())

    return call


def main() -> None:
    database, number, throttle = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    world = World(names(number), database, throttle=throttle)
    server = Server(("127.0.0.1", 0), handler(world))
    print(server.server_address[1], flush=True)
    server.serve_forever()


def names(number: int) -> list[str]:
    return [f"c{each:03}" for each in range(number)]


if __name__ == "__main__":
    main()
