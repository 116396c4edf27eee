"""Which connection is served next, and by how many threads: nobody starves, and the end waits for nobody."""

from __future__ import annotations

import heapq
import threading
from datetime import UTC, datetime, timedelta

import pytest

from cosell_sync.serving.pool import Pool
from cosell_sync.serving.turn_order import TurnOrder

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def played(cycles: dict[str, timedelta], places: int, lasting: timedelta) -> dict[str, list[datetime]]:
    """Simulate: each connection's cycle takes so long, its next is due a minute later. When each was served."""
    order = TurnOrder(cycles, places, NOW)
    served: dict[str, list[datetime]] = {name: [] for name in cycles}
    ending: list[tuple[datetime, str]] = []
    now = NOW
    while now < NOW + lasting:
        while len(ending) < places and (taken := order.take(now)):
            served[taken[0]].append(now)
            heapq.heappush(ending, (now + cycles[taken[0]], taken[0]))
        ends = ending[0][0] if ending else datetime.max.replace(tzinfo=UTC)
        now = min(ends, now + max(order.idle(now, SECOND), timedelta(milliseconds=250)))
        while ending and ending[0][0] <= now:
            _, name = heapq.heappop(ending)
            order.done(name, now + MINUTE, now)
    return served


def longest_gap(moments: list[datetime], end: datetime) -> timedelta:
    return max(after - before for before, after in zip(moments, [*moments[1:], end], strict=True))


@pytest.mark.parametrize("places", [4, 2])
def test_ten_slow_connections_do_not_cost_the_quick_ones_their_turn(places: int) -> None:
    """Two minutes a cycle for ten of a hundred; the other ninety take half a second."""
    slow = {f"slow-{number}": 2 * MINUTE for number in range(10)}
    quick = {f"quick-{number}": timedelta(seconds=0.5) for number in range(90)}
    served = played({**slow, **quick}, places, timedelta(hours=1))
    end = NOW + timedelta(hours=1)
    settled = {name: [each for each in served[name] if each > NOW + 10 * MINUTE] for name in served}
    assert max(longest_gap(settled[name], end) for name in quick) < 2 * MINUTE
    # and the slow ones get on as well, in turn
    counts = [len(served[name]) for name in slow]
    assert min(counts) >= 3 * (places - 1) // 2
    assert max(counts) - min(counts) <= 2


def test_one_place_serves_all_in_the_order_in_which_they_are_due() -> None:
    served = played({"a": 2 * MINUTE, "b": SECOND, "c": SECOND}, 1, timedelta(minutes=30))
    assert min(len(moments) for moments in served.values()) >= 9
    assert len(served["b"]) - len(served["a"]) <= 1


def test_whoever_has_waited_longest_comes_first() -> None:
    order = TurnOrder(["a", "b"], 4, NOW)
    assert order.take(NOW) == ("a", True)  # the first time at once, whatever another process said
    order.done("a", NOW + 5 * SECOND, NOW)
    assert order.take(NOW + MINUTE) == ("b", True)
    order.done("b", NOW + 2 * MINUTE, NOW + MINUTE)
    assert order.take(NOW + MINUTE) == ("a", False)
    assert order.take(NOW + MINUTE) is None
    assert order.idle(NOW + MINUTE, 10 * MINUTE) == MINUTE


def test_an_event_brings_a_connection_forward_also_while_it_is_served() -> None:
    order = TurnOrder(["a"], 4, NOW)
    order.take(NOW)
    order.wake("a", NOW + SECOND)
    order.done("a", NOW + MINUTE, NOW + 2 * SECOND)
    assert order.take(NOW + 2 * SECOND) == ("a", True)
    order.done("a", NOW + MINUTE, NOW + 3 * SECOND)
    assert order.take(NOW + 4 * SECOND) is None
    order.wake("a", NOW + 5 * SECOND)
    assert order.take(NOW + 5 * SECOND) == ("a", True)


def test_the_pool_serves_several_at_a_time_and_each_by_one_thread() -> None:
    together = threading.Barrier(3, timeout=20)
    running: list[str] = []
    twice: list[str] = []

    def serve(name: str, _woken: bool) -> datetime:
        twice.extend(each for each in running if each == name)
        running.append(name)
        together.wait()  # three of them are served at this moment, or this test fails
        if name == "a":  # asked twice, the process would end at once
            pool.stop()
        together.wait()  # nobody goes on to the fourth
        running.remove(name)
        return NOW + MINUTE

    pool = Pool(["a", "b", "c", "d"], serve, parallel=3, clock=lambda: NOW)
    assert pool.run() == 0
    assert twice == []


def test_a_hanging_cycle_does_not_keep_the_process() -> None:
    """One thread hangs for good; the others end, and after the grace the process does."""
    release, left = threading.Event(), []

    def serve(name: str, _woken: bool) -> datetime:
        if name == "hangs":
            pool.stop()
            release.wait(30)
        return NOW + MINUTE

    pool = Pool(
        ["hangs", "well"],
        serve,
        parallel=2,
        clock=lambda: NOW,
        grace=timedelta(seconds=0.05),
        leave=left.append,
    )
    assert pool.run() == 0
    release.set()
    assert left == [0]


def test_an_error_of_the_loop_itself_ends_the_process_and_is_told() -> None:
    def serve(name: str, _woken: bool) -> datetime:
        raise KeyError(name)

    with pytest.raises(KeyError):
        Pool(["a", "b"], serve, parallel=2, clock=lambda: NOW).run()


def test_a_clock_that_is_set_back_puts_nobody_off() -> None:
    """The next turn is due when the pause is over, whatever the clock says then."""
    clock, passed, served = [NOW], [0.0], []

    def serve(name: str, _woken: bool) -> datetime:
        served.append(name)
        return clock[0] + MINUTE

    def monotonic() -> float:
        passed[0] += 20
        if served:
            clock[0] = NOW - timedelta(hours=2)
        if passed[0] > 200:
            pool.stop()
        return passed[0]

    pool = Pool(["a"], serve, parallel=1, clock=lambda: clock[0], monotonic=monotonic)
    pool._turn.wait = lambda _seconds: True  # type: ignore[method-assign,assignment]
    assert pool.run() == 0
    assert len(served) >= 2


def test_a_wake_is_heard() -> None:
    served: list[bool] = []

    def serve(_name: str, woken: bool) -> datetime:
        served.append(woken)
        if len(served) == 1:
            pool.wake("a")
        else:
            pool.stop()
        return NOW + timedelta(days=1)

    pool = Pool(["a"], serve, parallel=1, clock=lambda: NOW)
    assert pool.run() == 0
    assert served == [True, True]
