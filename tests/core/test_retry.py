"""When a stubborn deal is tried again: a decision as a value."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from deals import NOW

from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Failure, Memory
from cosell_sync.core.retry import LONGEST, RetryPolicy, after_failure, freed, pause, resting

MINUTE = timedelta(minutes=1)
POLICY = RetryPolicy(MINUTE, 3)
REFUSED = Failure(Side.CRM, "not_liked", "no", NOW)
AWAY = replace(REFUSED, code="busy", transient=True)


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (9, 256), (10, 360), (1000, 360)]
)
def test_pauses_double_up_to_six_hours(attempts: int, minutes: int) -> None:
    assert pause(attempts, MINUTE) == minutes * MINUTE
    assert timedelta(hours=6) == LONGEST


def test_failing_until_it_is_parked() -> None:
    """The first retry is due at once, the next after a pause, and the last never."""
    memory = Memory()
    due = []
    for _ in range(3):
        memory = after_failure(memory, REFUSED, NOW, POLICY)
        due.append(memory.next_attempt)
    assert due == [NOW, NOW + 2 * MINUTE, None]
    assert memory.parked
    assert resting(memory, NOW + timedelta(days=100))


def test_a_fault_of_a_system_says_nothing_about_the_deal() -> None:
    memory = after_failure(Memory(), AWAY, NOW, POLICY)
    assert (memory.attempts, memory.next_attempt, memory.failure) == (0, NOW, AWAY)
    refused = after_failure(Memory(), REFUSED, NOW, POLICY)
    later = after_failure(replace(refused, next_attempt=None), AWAY, NOW, POLICY)
    assert (later.failure, later.next_attempt) == (REFUSED, NOW)  # its own stays the one that is told


def test_a_trouble_that_lasts_keeps_its_beginning() -> None:
    first = after_failure(Memory(), AWAY, NOW, POLICY)
    later = after_failure(first, replace(AWAY, since=NOW + MINUTE), NOW + MINUTE, POLICY)
    assert later.failure is not None
    assert later.failure.since == NOW
    other = after_failure(later, replace(REFUSED, since=NOW + MINUTE), NOW + MINUTE, POLICY)
    assert other.failure is not None
    assert other.failure.since == NOW + MINUTE


def test_freed_starts_afresh() -> None:
    memory = after_failure(Memory(reported=("x",)), REFUSED, NOW, RetryPolicy(MINUTE, 1))
    assert freed(replace(memory, next_attempt=NOW)) == Memory(reported=("x",))


@pytest.mark.parametrize(("offset", "rests"), [(-MINUTE, True), (timedelta(), False), (MINUTE, False)])
def test_resting_ends_at_the_very_moment(offset: timedelta, *, rests: bool) -> None:
    assert resting(Memory(next_attempt=NOW), NOW + offset) is rests
    assert not resting(Memory(), NOW)
