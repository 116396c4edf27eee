"""How many rows go into one call, by how long the last ones took."""

from __future__ import annotations

import pytest

from cosell_sync.crm.pace import SECONDS, Pace


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def calls(pace: Pace, watch: Watch, seconds_a_row: float, rows: int) -> list[int]:
    """So many rows, written at that speed; how many went into each call."""
    sizes = []
    while rows:
        size = min(pace.rows, rows)
        with pace.call(size):
            watch.now += size * seconds_a_row
        sizes.append(size)
        rows -= size
    return sizes


def test_an_org_that_is_quick_takes_what_the_platform_takes() -> None:
    watch = Watch()
    assert calls(Pace(50, 1000, monotonic=watch), watch, 0.001, 3000) == [50, 200, 800, 1000, 950]


def test_an_org_that_is_slow_takes_what_it_finishes_in_time() -> None:
    watch = Watch()
    sizes = calls(Pace(50, 1000, monotonic=watch), watch, 0.1, 400)
    assert sizes == [50, *[int(SECONDS / 0.1)] * 4, 30]
    assert calls(Pace(50, 1000, monotonic=watch), watch, 2.0, 150) == [50, 50, 50], "never less than at first"


def test_one_slow_call_is_not_forgotten_at_once() -> None:
    watch = Watch()
    pace = Pace(50, 1000, monotonic=watch)
    calls(pace, watch, 0.2, 50)
    calls(pace, watch, 0.001, 50)
    assert pace.rows == SECONDS / 0.1


def test_after_a_call_that_failed_it_begins_small_again() -> None:
    watch = Watch()
    pace = Pace(50, 1000, monotonic=watch)
    calls(pace, watch, 0.001, 1000)
    with pytest.raises(TimeoutError), pace.call(800):
        raise TimeoutError
    assert pace.rows == 50
