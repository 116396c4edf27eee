"""What is left of a system's API calls, as a value: what may still be done with it, how fast, and whether it will last.

As a budget runs low, work stops in the order of its worth: first what could as well be done tomorrow, then edits of
fields, then changes of status; the answer to a referral comes last, for it cannot wait. Looking whether there is work
costs calls too, so cycles are spread: at most half of what is left goes into looking, the other half is for what is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from cosell_sync.core.deal import State

DAY = timedelta(days=1)
LONGEST = timedelta(hours=1)  # between looks at a system whose limit rolls: others may have stopped using it
SHORTEST = 0.25  # of a day: towards its end what is left is still measured against this share of the day
SHARED_OUT = 2.5  # a limit that rolls is everybody's: that others have used up half of it is nothing unusual


class Urgency(IntEnum):
    """Kinds of work, the most urgent first."""

    ANSWER = 0  # accept, decline
    STATUS = 1  # every other move, and deals that one side has not seen yet
    FIELDS = 2
    BACKGROUND = 3  # full compare, Microsoft's side


class Level(IntEnum):
    """How a budget stands. Each one allows one kind of work less than the one before."""

    AMPLE = 0
    TIGHT = 1
    LOW = 2
    SCARCE = 3
    SPENT = 4


_BELOW = ((0.1, Level.SCARCE), (0.25, Level.LOW), (0.5, Level.TIGHT))


@dataclass(frozen=True)
class Allowance:
    """``span``: until it is full again. ``rolling``: the limit of the last 24 hours, as the system itself counts."""

    used: int
    ceiling: int
    span: timedelta = DAY
    rolling: bool = False

    @property
    def left(self) -> int:
        """Calls that may still be made; never negative."""
        return max(0, self.ceiling - self.used)

    @property
    def level(self) -> Level:
        """Half of the calls at noon is ample; a tenth of them is not."""
        if self.left == 0:
            return Level.SPENT
        share = self.left / self.ceiling
        share = share * SHARED_OUT if self.rolling else share / max(self.span / DAY, SHORTEST)
        return next((level for bound, level in _BELOW if share < bound), Level.AMPLE)


@dataclass(frozen=True)
class Forecast:
    """What will have been used by the end of the day (of the next 24 hours, where the limit rolls)."""

    allowance: Allowance
    per_cycle: float
    pause: timedelta
    expected: int

    @property
    def lasts(self) -> bool:
        """Whether the budget reaches until it is full again."""
        return self.expected <= self.allowance.ceiling

    @property
    def outlook(self) -> tuple[Level, bool]:
        """What is worth a log line when it changes."""
        return self.allowance.level, self.lasts


def today(used: int, ceiling: int, now: datetime) -> Allowance:
    """An allowance that is filled at midnight UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    return Allowance(used, ceiling, midnight - now)


def allows(level: Level, urgency: Urgency) -> bool:
    """Whether work of this urgency may still be done at this level."""
    return level + urgency < Level.SPENT


def urgency(moves: Iterable[State], *, fresh: bool = False) -> Urgency:
    """Of a deal with these moves to make. ``fresh``: one side has not seen it yet."""
    targets = set(moves)
    if targets & {State.ACCEPTED, State.DECLINED}:
        return Urgency.ANSWER
    return Urgency.STATUS if targets or fresh else Urgency.FIELDS


def pace(allowance: Allowance, per_look: float, interval: timedelta) -> timedelta:
    """From one cycle to the next: the interval, or longer, so that looking takes at most half of what is left."""
    if allowance.left == 0 or per_look <= 0:
        return interval
    longest = LONGEST if allowance.rolling else allowance.span
    return max(interval, min(longest, 2 * per_look * allowance.span / allowance.left))


def foresee(allowance: Allowance, per_cycle: float, per_look: float, interval: timedelta) -> Forecast:
    """As long as cycles go on to cost what they did of late; at the interval, that is without slowing down."""
    cycles = allowance.span / interval
    expected = allowance.used + round(per_cycle * cycles)
    return Forecast(allowance, per_cycle, pace(allowance, per_look, interval), expected)
