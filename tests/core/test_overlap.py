"""How far back pulls reach: nothing that appears late is missed, and a burst is not listed in every pull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.overlap import Position, moved, read

BEGIN = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SPAN = timedelta(minutes=5)
FEW = 10


@dataclass
class Side:
    """Another system's rows, by second of their stamp and the second in which they appear; and who pulls them."""

    rows: Sequence[tuple[int, int]]
    clock: bool = True
    few: int = FEW
    position: Position | None = None
    seen: dict[int, int] = field(default_factory=dict)  # row → the second in which a pull brought it first
    listed: list[int] = field(default_factory=list)  # rows of each pull

    def pull(self, second: int) -> None:
        now = BEGIN + second * SECOND
        since = self.position.reaches(SPAN) if self.position else BEGIN - SPAN
        found = [
            (row, BEGIN + stamp * SECOND)
            for row, (stamp, appears) in enumerate(self.rows)
            if appears <= second and BEGIN + stamp * SECOND >= since
        ]
        self.listed.append(len(found))
        for row, _ in found:
            self.seen.setdefault(row, second)
        known = self.position.at if self.position else BEGIN
        at = max([known, *(stamp for _, stamp in found)])
        if now - at > SPAN:
            at = now
        self.position = moved(
            self.position,
            at,
            now=now if self.clock else None,
            overlap=SPAN,
            listed=[[stamp for _, stamp in found]],
            few=self.few,
            tick=SECOND,
        )


def test_a_quiet_overlap_is_a_stamp_alone() -> None:
    position = moved(None, BEGIN, now=BEGIN, overlap=SPAN, listed=[[BEGIN]], few=FEW, tick=SECOND)
    assert position == Position(BEGIN)
    assert position.text == "2026-11-28T12:00:00Z"
    assert position.reaches(SPAN) == BEGIN - SPAN
    assert read(position.text) == position


def test_a_burst_is_listed_twice_and_not_in_every_pull() -> None:
    side = Side([(second // 10, second // 10) for second in range(1000)])
    for second in range(120, 1200, 60):
        side.pull(second)
    assert side.listed[0] == 1000
    again = [number for number, rows in enumerate(side.listed) if rows > FEW]
    assert again[0] == 0
    assert len(again) == 2, "once more, when nothing can appear in it any more"
    assert side.listed[again[1]] == 1000
    assert side.listed[-1] == 0


def test_rows_of_one_stamp_are_not_listed_again_until_the_overlap_is_over() -> None:
    side = Side([(30, 30)] * 500)
    for second in (60, 120, 180):
        side.pull(second)
    assert side.listed == [500, 0, 0]


def test_what_appears_late_in_a_burst_is_brought_once_its_overlap_is_over() -> None:
    side = Side([*((second // 10, second // 10) for second in range(1000)), (3, 200)])
    for second in range(120, 700, 60):
        side.pull(second)
    assert 200 <= side.seen[1000] <= 120 + 2 * SPAN.total_seconds()


def test_without_a_clock_of_the_other_side_nothing_is_put_off() -> None:
    side = Side([(second // 10, second // 10) for second in range(1000)], clock=False)
    side.pull(120)
    assert side.position == Position(BEGIN + 99 * SECOND)


def test_an_endless_stream_is_listed_whole_once_in_an_overlap() -> None:
    side = Side([(second, second) for second in range(3600)])
    for second in range(60, 3600, 60):
        side.pull(second)
    whole = sum(rows > 200 for rows in side.listed)
    assert len(side.listed) == 59
    assert whole <= 3600 / SPAN.total_seconds()
    assert set(side.seen) >= set(range(3540))


@pytest.mark.parametrize("text", ["", "soon", "{}", '{"since": "2026-11-28T12:00:00Z"}', '{"at": 5}', "[1]"])
def test_a_text_of_another_kind_is_no_position(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 290)).map(lambda row: (row[0], row[0] + row[1])),
        max_size=120,
    ),
    pauses=st.lists(st.integers(5, 200), min_size=5, max_size=40),
)
def test_nothing_is_missed(rows: list[tuple[int, int]], pauses: list[int]) -> None:
    """Whatever appears within the overlap after its stamp is brought, by the first whole reading after it at the latest."""
    side = Side(rows, few=2)
    second = 0
    for pause in pauses:
        second += pause
        side.pull(second)
    while second < 900 + 4 * SPAN.total_seconds():
        second += 150
        side.pull(second)
        assert read(side.position.text if side.position else "") == side.position
    assert set(side.seen) == set(range(len(rows)))
