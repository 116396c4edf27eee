"""The meter of one system: counted across processes, never above the ceiling, and a crash loses at most a block."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from cosell_sync.core.quota import Level
from cosell_sync.errors import Unavailable
from cosell_sync.store.engine import writing
from cosell_sync.store.open import open_store
from cosell_sync.store.quota import StoredLedger
from cosell_sync.store.sql import SqlStore
from cosell_sync.transport.quota import Meter

MINUTE = timedelta(minutes=1)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.now = datetime(2026, 5, 4, 10, tzinfo=UTC)
        self.store: SqlStore = open_store(f"sqlite:///{folder / 'store.db'}", self.clock)
        self.ledger = StoredLedger(self.store.engine)

    def clock(self) -> datetime:
        return self.now

    def meter(self, ceiling: int | None = 100, system: str = "partner_center") -> Meter:
        return Meter(system, clock=self.clock, ceiling=ceiling, ledger=self.ledger)

    def counted(self, system: str = "partner_center") -> int:
        return self.ledger.used(system, self.now.date())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def spend(meter: Meter, calls: int) -> int:
    """How many of so many calls were let through."""
    made = 0
    for _ in range(calls):
        try:
            meter.spend()
        except Unavailable:
            break
        made += 1
    return made


def test_what_one_process_used_the_next_one_has_not(bench: Bench) -> None:
    """One-shot syncs of a day add up, to the call."""
    for _ in range(3):
        meter = bench.meter()
        assert spend(meter, 30) == 30
        meter.close()
    assert bench.counted() == 90
    assert spend(bench.meter(), 30) == 10


def test_two_processes_at_once_share_one_ceiling(bench: Bench) -> None:
    one, two = bench.meter(), bench.meter()
    made = [0, 0]

    def use(number: int, meter: Meter) -> None:
        made[number] = spend(meter, 100)

    threads = [Thread(target=use, args=each) for each in ((0, one), (1, two))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == 100


def test_a_crash_counts_too_much_but_never_too_little(bench: Bench) -> None:
    """What was reserved and not given back is lost: at most a twentieth of what was left."""
    assert spend(bench.meter(1000), 1) == 1
    assert 1 < bench.counted() <= 50
    left = 1000 - bench.counted()
    assert spend(bench.meter(1000), 2000) == left


def test_reserving_costs_far_fewer_writes_than_calls(bench: Bench) -> None:
    writes = 0
    reserve = bench.ledger.reserve

    def counting(*args: object) -> tuple[int, int]:
        nonlocal writes
        writes += 1
        return reserve(*args)  # type: ignore[arg-type]

    bench.ledger.reserve = counting  # type: ignore[method-assign]
    assert spend(bench.meter(100_000), 1000) == 1000
    assert writes == 20


def test_without_a_ceiling_nothing_is_counted_in_the_store(bench: Bench) -> None:
    meter = bench.meter(None)
    assert spend(meter, 100) == 100
    meter.begin()
    meter.close()
    assert (bench.counted(), meter.allowances()) == (0, [])


def test_a_new_day_has_a_new_budget_and_a_clock_put_back_does_not(bench: Bench) -> None:
    meter = bench.meter(10)
    assert spend(meter, 20) == 10
    bench.now += timedelta(days=1)
    assert spend(meter, 20) == 10
    bench.now -= timedelta(days=1)
    assert spend(meter, 20) == 0
    assert spend(bench.meter(10), 20) == 0


def test_the_systems_own_limit_stops_as_well_and_is_probed_once_a_cycle(bench: Bench) -> None:
    """Other programs used it up; the next answer may say that there is some again."""
    meter = bench.meter(None)
    meter.observe(1000, 1000)
    meter.begin()
    assert spend(meter, 5) == 1
    assert spend(meter, 5) == 0
    meter.begin()
    assert spend(meter, 1) == 1
    meter.observe(990, 1000)
    assert spend(meter, 20) == 10
    assert meter.allowances()[0].level is Level.SPENT


def test_forecasts_are_told_when_they_are_news(bench: Bench) -> None:
    """First, when they change in kind, and hourly: not in every cycle."""
    meter = bench.meter(2000)

    def cycle(calls: int) -> int:
        meter.begin()
        assert spend(meter, calls) == calls
        return len(meter.end(MINUTE))

    assert [cycle(1), cycle(1), cycle(1)] == [1, 0, 0]
    assert cycle(1800) == 1
    bench.now += timedelta(hours=1)
    assert cycle(1) == 1


def test_a_cycle_does_not_even_begin_without_calls(bench: Bench) -> None:
    meter = bench.meter(5)
    assert spend(meter, 9) == 5
    for process in (meter, bench.meter(5)):
        with pytest.raises(Unavailable) as caught:
            process.begin()
        assert caught.value.retry_at == datetime(2026, 5, 5, tzinfo=UTC)


def test_a_store_that_is_away_at_the_end_only_loses_the_block(bench: Bench) -> None:
    meter = bench.meter()
    spend(meter, 1)
    with writing(bench.store.engine) as connection:
        connection.exec_driver_sql("DROP TABLE budget")
    meter.close()
    meter.close()


@pytest.mark.parametrize("header", ["Mon, 04 May 2026 10:07:00 GMT", "Mon, 04 May 2026 12:07:00 +0200"])
def test_the_systems_clock_is_read_off_its_answers(bench: Bench, header: str) -> None:
    meter = bench.meter()
    assert meter.skew is None
    for worthless in (None, "", "yesterday", "Mon, 04 May 2026 10:07:00 -0000"):
        meter.dated(worthless)
    assert meter.skew is None
    meter.dated(header)
    assert meter.skew == timedelta(minutes=7)
