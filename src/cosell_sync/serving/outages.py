"""How the cycles of one connection go: an outage is logged once when it begins and once when it ends, and says how long to wait."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from cosell_sync.errors import Broken, OutsideError, Surprise, Unavailable
from cosell_sync.log import get_logger
from cosell_sync.ports import Clock
from cosell_sync.summary import OUT_OF_REACH, CycleSummary

LONGEST: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Status:
    """How the loop is doing, for health and console.

    ``last``: the newest cycle that said anything. ``carried_at``: end of the last one that reached both systems.
    ``outage``: what keeps cycles from ending well. ``holder``: the other process that holds the lease.
    """

    last: CycleSummary | None = None
    carried_at: datetime | None = None
    outage: str | None = None
    holder: str | None = None


def pause_after(failures: int, interval: timedelta) -> timedelta:
    """The interval, doubled with each failure in a row, up to eight intervals or ``LONGEST``, never less than one."""
    doubled = interval * (1 << min(max(failures - 1, 0), 3))
    return max(interval, min(doubled, LONGEST))


class Outages:
    """Told of each cycle of one connection, it answers with the pause after it."""

    def __init__(self, interval: timedelta, clock: Clock) -> None:
        self._interval = interval
        self._clock = clock
        self.status = Status()
        self.failures = 0  # in a row
        self._failing_since: datetime | None = None
        self._reported: set[str] = set()

    def taken(self) -> None:
        """This process has the lease now."""
        if self.status.holder is not None:
            get_logger().info("lease.taken", previous=self.status.holder)
            self.status = replace(self.status, holder=None)

    def stand_by(self, holder: str) -> None:
        """Another process has it."""
        if self.status.holder is None:
            get_logger().info("lease.standby", holder=holder)
        self.status = replace(self.status, holder=holder)

    def ended(self, summary: CycleSummary, pace: timedelta) -> timedelta:
        """A cycle ended by itself. ``pace``: how far apart cycles must at least be, for the calls to last."""
        self.status = replace(self.status, last=summary)
        if summary.exit_code == OUT_OF_REACH:
            self._begin("a system was out of reach or refused the sign-in")
        else:
            self._end()
        return max(pause_after(self.failures, self._interval), pace)

    def failed(self, error: Exception, *, told: bool = False) -> timedelta:
        """A cycle could not begin, or ended early; the pause is as long as the system asked for, within the bound. ``told``: the
        caller says what is wrong.
        """
        system = error.system if isinstance(error, OutsideError) else type(error).__name__
        facts = error.facts if isinstance(error, Surprise) else {}
        expected = isinstance(error, OutsideError | Surprise | Broken)
        if told:
            self._reported.add(system)
        self._begin(system, error=error, loud=not expected, **facts)
        pause = pause_after(self.failures, self._interval)
        if isinstance(error, Unavailable) and error.retry_at is not None:
            asked = error.retry_at - self._clock()
            return max(pause, min(asked, max(LONGEST, self._interval)))
        return pause

    def _begin(
        self, what: str, *, error: Exception | None = None, loud: bool = False, **facts: object
    ) -> None:
        self.failures += 1
        self._failing_since = self._failing_since or self._clock()
        self.status = replace(self.status, outage=what)
        if what in self._reported:
            return
        self._reported.add(what)
        emit = get_logger().error if loud else get_logger().warning
        emit("outage.began", what=what, **({"facts": facts} if facts else {}), exc_info=error)

    def _end(self) -> None:
        now = self._clock()
        if self._failing_since is not None:
            lasted = (now - self._failing_since).total_seconds()
            get_logger().info(
                "outage.ended", what=sorted(self._reported), cycles=self.failures, lasted_s=round(lasted, 1)
            )
        self.failures = 0
        self._failing_since = None
        self._reported.clear()
        self.status = replace(self.status, carried_at=now, outage=None)
