"""One governor per host: when the host says "not now", no thread calls it until the time that it named.

A 429 counts against the quota even while one waits it out on another thread (Partner Center and Dataverse both say
so), therefore the pause belongs to the host, not to the call. Every wait of the program's HTTP edge goes through here,
so that one stop event ends them all at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from cosell_sync.errors import Unavailable
from cosell_sync.transport.answers import UNBELIEVED, believable_wait, retry_after
from cosell_sync.transport.quota import Meter

log = structlog.get_logger()

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Governor:
    """``meter`` counts the calls and may refuse one. ``sleep`` is for tests; the real one wakes when ``stop`` is set."""

    def __init__(
        self,
        system: str,
        *,
        stop: threading.Event | None = None,
        meter: Meter | None = None,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.system = system
        self.stop = stop or threading.Event()
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep or self.stop.wait
        self._lock = threading.Lock()
        self._open_at = 0.0
        self.meter = meter or Meter(system, clock=clock)

    def asked_wait(self, headers: Mapping[str, str]) -> float | None:
        """Seconds that an answer asks us to wait, within bounds (``answers``); None where it asks for none."""
        value, now = headers.get("retry-after"), self._clock()
        if value is not None and believable_wait(value, now) is None:
            log.warning("retry_after.unbelieved", system=self.system, said=value[:40], wait_s=UNBELIEVED)
        return retry_after(value, now)

    def pause(self, seconds: float) -> None:
        """Nobody calls this host for that long; a longer pause already set stays."""
        with self._lock:
            self._open_at = max(self._open_at, self._monotonic() + seconds)

    @property
    def paused(self) -> float:
        """Seconds until the host may be called again."""
        with self._lock:
            return max(0.0, self._open_at - self._monotonic())

    def admit(self, patience: float) -> None:
        """Return when one call may start; raise ``Unavailable`` if that takes longer than ``patience`` seconds."""
        until = self._monotonic() + patience
        while (rest := self.paused) > 0:
            if self._monotonic() + rest > until:
                raise Unavailable(
                    self.system,
                    f"{self.system} asked us to wait",
                    code="paused",
                    retry_at=self._clock() + timedelta(seconds=rest),
                )
            self.wait(rest)
        self.check()
        self.meter.spend()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the program is stopping."""
        self.check()
        if seconds > 0:
            self._sleep(seconds)
        self.check()

    def check(self) -> None:
        if self.stop.is_set():
            raise Unavailable(self.system, "the program is stopping", code="stopping")
