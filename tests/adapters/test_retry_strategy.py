"""When a call is made again: the decision as a value, and the one place that carries it out. Time never sleeps here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cosell_sync.errors import Flaky, Rejected, Unavailable
from cosell_sync.transport.retry import GIVE_UP, Retrier, RetryableError, RetryDecision, RetryStrategy

DOWN = Unavailable("x", "down")


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def retrier(time: Time) -> Retrier:
    return Retrier(time.sleep, time.monotonic, lambda: 1.0)


@pytest.mark.parametrize(
    ("failure", "attempt", "elapsed", "decision"),
    [
        (RetryableError(DOWN), 1, 0.0, RetryDecision(1.0)),
        (RetryableError(DOWN), 4, 10.0, RetryDecision(8.0)),
        (RetryableError(DOWN), 5, 10.0, GIVE_UP),
        (RetryableError(DOWN, tries=3), 2, 0.0, RetryDecision(2.0)),
        (RetryableError(DOWN, tries=3), 3, 0.0, GIVE_UP),
        (RetryableError(DOWN, tries=9), 5, 0.0, GIVE_UP),
        (RetryableError(DOWN, 7.0), 1, 0.0, RetryDecision(7.0)),
        (RetryableError(DOWN, 0.0), 1, 0.0, RetryDecision(0.0)),
        (RetryableError(DOWN, 100.0), 1, 20.0, RetryDecision(100.0)),
        (RetryableError(DOWN, 100.0), 1, 21.0, GIVE_UP),
        (DOWN, 1, 0.0, GIVE_UP),
        (ValueError(), 1, 0.0, GIVE_UP),
        (None, 1, 0.0, GIVE_UP),
    ],
)
def test_a_decision_is_a_value(
    failure: BaseException | None, attempt: int, elapsed: float, decision: RetryDecision
) -> None:
    assert RetryStrategy().decide(failure, attempt=attempt, elapsed=elapsed, chance=1.0) == decision


def test_waits_double_up_to_a_limit_and_half_of_each_is_left_to_chance() -> None:
    strategy = RetryStrategy()
    assert [strategy.backoff(attempt, 1.0) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 20, 20]
    assert [strategy.backoff(attempt, 0.0) for attempt in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_the_last_failure_is_raised_as_what_it_finally_is(retrier: Retrier, time: Time) -> None:
    def fail() -> None:
        raise RetryableError(DOWN)

    with pytest.raises(Unavailable) as caught:
        retrier.run(RetryStrategy(tries=3), fail)
    assert caught.value is DOWN
    assert time.slept == [1.0, 2.0]


def test_what_is_not_retryable_is_raised_at_once(retrier: Retrier, time: Time) -> None:
    def fail() -> None:
        raise Rejected("no")

    with pytest.raises(Rejected):
        retrier.run(RetryStrategy(), fail)
    assert time.slept == []


class Wire:
    """Answers ``busy`` for an item as often as it is told to, then ``fine``."""

    def __init__(self, **busy: int) -> None:
        self.busy = busy
        self.sent: list[Sequence[str]] = []

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.sent.append(items)
        found = ["busy" if self.busy.get(each, 0) > 0 else f"fine {each}" for each in items]
        self.busy = {each: left - (each in items) for each, left in self.busy.items()}
        return found


def busy(result: str) -> RetryableError | None:
    return RetryableError(Flaky("busy"), 3.0) if result == "busy" else None


def test_only_what_may_be_sent_again_is_sent_again(retrier: Retrier, time: Time) -> None:
    wire = Wire(b=2)
    assert retrier.resend(RetryStrategy(), wire, ["a", "b", "c"], busy) == ["fine a", "fine b", "fine c"]
    assert wire.sent == [["a", "b", "c"], ["b"], ["b"]]
    assert time.slept == [3.0, 3.0]


def test_what_stays_busy_is_returned_as_busy(retrier: Retrier) -> None:
    wire = Wire(b=9)
    assert retrier.resend(RetryStrategy(tries=4), wire, ["a", "b"], busy) == ["fine a", "busy"]
    assert len(wire.sent) == 4


def test_a_stop_while_waiting_keeps_the_results_so_far(time: Time) -> None:
    def stopping(_: float) -> None:
        raise Unavailable("x", "the program is stopping", code="stopping")

    wire = Wire(b=1)
    retrier = Retrier(stopping, time.monotonic, lambda: 1.0)
    assert retrier.resend(RetryStrategy(), wire, ["a", "b"], busy) == ["fine a", "busy"]
    assert len(wire.sent) == 1
