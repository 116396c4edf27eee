"""When a call is made again: the decision is a value, and one place carries it out.

``RetryStrategy.decide`` takes a failure and returns a ``RetryDecision``; ``Retrier.run`` carries it out with Tenacity.
An attempt that may be made again raises ``RetryableError``. Nothing else in the program loops over attempts at HTTP.
These are seconds; minutes are the next cycle's (``core.retry``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import tenacity

from cosell_sync.errors import CosellError, OutsideError

T = TypeVar("T")
R = TypeVar("R")


class RetryableError(Exception):
    """This attempt failed in a way that permits another.

    ``final``: what to raise when there is no further attempt. ``wait``: seconds that the system asked for, None where
    it did not say. ``tries``: attempts in all, where this failure permits fewer than the strategy.
    """

    def __init__(self, final: CosellError, wait: float | None = None, *, tries: int | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait = wait
        self.tries = tries


@dataclass(frozen=True)
class RetryDecision:
    """``wait``: seconds until the next attempt; None: there is none."""

    wait: float | None = None


GIVE_UP: Final = RetryDecision()


@dataclass(frozen=True)
class RetryStrategy:
    """``tries``: attempts in all. ``total``: seconds, all attempts and waits together. ``longest``: seconds, of a wait
    that the system did not name.
    """

    tries: int = 5
    total: float = 120.0
    longest: float = 20.0

    def backoff(self, attempt: int, chance: float) -> float:
        """Seconds after that attempt (from 1): 1, 2, 4 … ``longest``, of which up to half is left to ``chance`` (0 to 1)."""
        return min(self.longest, float(2 ** (attempt - 1))) * (0.5 + 0.5 * chance)

    def decide(
        self, failure: BaseException | None, *, attempt: int, elapsed: float, chance: float
    ) -> RetryDecision:
        """What to do after that attempt (from 1) failed, ``elapsed`` seconds after the first one began."""
        if not isinstance(failure, RetryableError):
            return GIVE_UP
        wait = self.backoff(attempt, chance) if failure.wait is None else failure.wait
        tries = self.tries if failure.tries is None else min(self.tries, failure.tries)
        return GIVE_UP if attempt >= tries or elapsed + wait > self.total else RetryDecision(wait)


class _Unsettled(CosellError):
    """Some items of a batch may be sent again."""


@dataclass(frozen=True)
class Retrier:
    """Carries decisions out. ``sleep`` may raise where the program is stopping. ``monotonic``: seconds of a clock that
    never goes back. ``chance``: a number from 0 to 1.
    """

    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    chance: Callable[[], float]

    def run(self, strategy: RetryStrategy, attempt: Callable[[], T]) -> T:
        """What an attempt returns, or raises if it is not ``RetryableError``; else the last failure's ``final``."""
        began = self.monotonic()
        decision = GIVE_UP

        def again(state: tenacity.RetryCallState) -> bool:
            nonlocal decision
            decision = strategy.decide(
                state.outcome.exception() if state.outcome else None,
                attempt=state.attempt_number,
                elapsed=self.monotonic() - began,
                chance=self.chance(),
            )
            return decision.wait is not None

        retrying = tenacity.Retrying(
            retry=again, wait=lambda _: decision.wait or 0.0, stop=tenacity.stop_never, sleep=self.sleep
        )
        try:
            return retrying(attempt)
        except RetryableError as failure:
            raise failure.final from None

    def resend(
        self,
        strategy: RetryStrategy,
        send: Callable[[Sequence[T]], Sequence[R]],
        items: Sequence[T],
        retryable: Callable[[R], RetryableError | None],
    ) -> list[R]:
        """Send several at once, and those again whose result is retryable; the last result of each, in order.

        ``send`` returns one result an item. Raises what the first sending raises; if the system goes away later, the
        results so far are returned.
        """
        results = list(send(items))
        open_items = _retryable(results, range(len(items)), retryable)
        first = True

        def attempt() -> None:
            nonlocal open_items, first
            if not first:
                fresh = send([items[at] for at in open_items])
                for at, result in zip(open_items, fresh, strict=True):
                    results[at] = result
                open_items = _retryable(results, list(open_items), retryable)
            first = False
            if open_items:
                waits = [each.wait for each in open_items.values() if each.wait is not None]
                raise RetryableError(_Unsettled(), max(waits, default=None))

        with suppress(_Unsettled, OutsideError):
            self.run(strategy, attempt)
        return results


def _retryable(
    results: Sequence[R], places: Sequence[int] | range, retryable: Callable[[R], RetryableError | None]
) -> dict[int, RetryableError]:
    """Those of the places whose result may be tried again."""
    judged = {at: retryable(results[at]) for at in places}
    return {at: failure for at, failure in judged.items() if failure is not None}
