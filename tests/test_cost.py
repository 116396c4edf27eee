"""What our own part of a cycle costs, in counts, so that it cannot creep: transactions, questions to the store, decisions.

Seconds are measured by ``benchmarks/``; here is what they are made of.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event

import memory_systems
from cosell_sync.core import reconcile
from cosell_sync.core.deal import Side
from cosell_sync.cycle import decide as deciding
from cosell_sync.cycle import intake, linked
from cosell_sync.store import serialize
from soak import Soak

FEW, SOME, MANY = 4, 15, 60


class Counted:
    """A world with so many deals, and what its cycles did since the last look."""

    def __init__(self, path: Path, deals: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.soak = Soak(path, deals)
        self.counts = Counter[str]()
        engine = self.soak.store.engine
        event.listen(engine, "after_cursor_execute", self._on_statement)
        event.listen(engine, "begin", self._on_begin)
        for module in (deciding, intake, linked):
            monkeypatch.setattr(module, "decide", self._counting("decisions", reconcile.decide))
        monkeypatch.setattr(serialize, "to_link", self._counting("links read", serialize.to_link))
        monkeypatch.setattr(serialize, "from_link", self._counting("links written", serialize.from_link))

    def _counting(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            self.counts[what] += 1
            return function(*given)

        return counted

    def _on_statement(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        self.counts["statements"] += not statement.startswith("BEGIN")

    def _on_begin(self, connection: Any) -> None:
        self.counts["transactions"] += bool(connection.get_execution_options().get("cosell_writes"))

    def cycle(self) -> Counter[str]:
        """The counts of one more cycle."""
        self.counts.clear()
        self.soak.cycle()
        return Counter(self.counts)

    def rest(self) -> None:
        """Cycles until all that is listed again is one deal that was edited last, which moved the watermarks on."""
        for _ in range(8):
            self.soak.cycle()
        for side in Side:
            self.soak.edit(side, 1)
        for _ in range(8):
            self.soak.cycle()


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    structlog.configure(processors=[_dropped])
    yield
    structlog.reset_defaults()


def _dropped(*_event: Any) -> Any:
    raise structlog.DropEvent


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Counted]:
    monkeypatch.setattr(memory_systems, "PAGE", 100)
    numbers = count()
    return lambda deals: Counted(tmp_path / f"{next(numbers)}.db", deals, monkeypatch)


def test_an_import_asks_and_commits_as_often_for_many_deals_as_for_few(
    world: Callable[[int], Counted],
) -> None:
    """A chunk is one transaction for its intents and one for what landed. A deal is read once, decided once, written twice:
    as it is pulled, and as it is once it is made.
    """
    few, many = world(FEW).cycle(), world(MANY).cycle()
    assert few == few | each(FEW, read=1, decided=1, written=2)
    assert many == few | each(MANY, read=1, decided=1, written=2)
    assert few["transactions"] <= 6
    assert few["statements"] <= 34


def test_an_idle_cycle_decides_and_writes_nothing(world: Callable[[int], Counted]) -> None:
    """One transaction keeps the clock; the two deals that are read were listed again, for they were edited last."""
    counts = []
    for deals in (FEW, MANY):
        counted = world(deals)
        counted.rest()
        counts.append(counted.cycle())
    few, many = counts
    assert few == many
    assert few.keys() == {"statements", "transactions", "links read"}
    assert few["transactions"] == 1
    assert few["statements"] <= 18
    assert few["links read"] <= 2


@pytest.mark.parametrize(
    ("side", "read", "decided", "written", "transactions"),
    [(Side.CRM, 2, 2, 4, 5), (Side.PARTNER_CENTER, 3, 1, 2, 4)],
)
def test_edits_ask_and_commit_as_often_for_many_deals_as_for_few(
    world: Callable[[int], Counted], side: Side, read: int, decided: int, written: int, transactions: int
) -> None:
    """An edit in the CRM is decided for either system, one in Partner Center for the CRM alone."""
    counts = {}
    for edits in (FEW, SOME):
        counted = world(MANY)
        counted.rest()
        counted.soak.edit(side, edits)
        counts[edits] = counted.cycle()
    assert counts[SOME]["links read"] <= read * SOME + 2  # two are listed again
    more = counts[SOME] - counts[FEW]
    del more["links read"]
    assert more == {"decisions": decided * (SOME - FEW), "links written": written * (SOME - FEW)}
    assert counts[FEW]["transactions"] == transactions


def each(deals: int, read: int, decided: int, written: int) -> dict[str, int]:
    """The counts that grow with the deals."""
    return {"links read": read * deals, "decisions": decided * deals, "links written": written * deals}


def test_nothing_piles_up_from_cycle_to_cycle(tmp_path: Path) -> None:
    """Caches fill in some stretch of cycles; a leak of one object every other cycle shows in each."""
    soak = Soak(tmp_path / "store.db", deals=3)
    grown = []
    for _ in range(4):
        before = objects()
        soak.cycles(40)
        grown.append(objects() - before)
    assert min(grown) < 20


def objects() -> int:
    """How many there are, without the log that the systems in memory keep."""
    gc.collect()
    return sum(type(each).__module__ != "memory_systems" for each in gc.get_objects())
