"""One meter per outside system: the calls of the day, those that failed, the system's own limit, its clock, the sign-in.

The day's count stands in the store, for every process and every one-shot ``sync`` of the day adds to it. It is reserved
there in blocks *before* the calls are made, and what was not used is given back at the end: a crash loses the rest of a
block, at most a twentieth of what was left, and never lets a call go uncounted. Only where a ceiling is set is anything
counted at all.

The limit that a system tells about itself is everybody's: other programs use it up as well, and it rolls. Once it is
spent one call a cycle is let through, to see whether that is still so.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

from cosell_sync.core import quota
from cosell_sync.core.quota import DAY, Allowance, Forecast
from cosell_sync.errors import Unavailable

BLOCK: Final = 50
SHARE: Final = 20  # a block is at most this part of what is left
MOST_CODES: Final = 100  # told apart; a system that invents codes must not fill the metrics
_CODE: Final = re.compile(r"[\w.:-]{1,80}", re.ASCII)
SETTLED: Final = 3  # cycles before their mean says anything
_WEIGHT: Final = 0.2  # of the newest cycle in the mean
_TOLD_EVERY: Final = timedelta(hours=1)
# Salesforce: "api-usage=18/5000", beside "per-app-api-usage=…".
# https://developer.salesforce.com/docs/platform/api-rest/guide/headers-api-usage.html
_API_USAGE: Final = re.compile(r"(?:^|[^-])api-usage=(\d{1,12})/([1-9]\d{0,11})(?!\d)", re.ASCII)

Clock = Callable[[], datetime]


class Ledger(Protocol):
    """Where the count of a day is kept. Needs no lease: whoever calls, counts."""

    def used(self, system: str, day: date) -> int: ...

    def reserve(self, system: str, day: date, calls: int, ceiling: int) -> tuple[int, int]:
        """Take up to so many calls, as far as the ceiling allows; how many, and the day's count with them."""

    def give_back(self, system: str, day: date, calls: int) -> None: ...


class Meter:
    """``ceiling``: calls a day (UTC) at most. Without a ``ledger`` the count lives in this process."""

    def __init__(
        self, system: str, *, clock: Clock, ceiling: int | None = None, ledger: Ledger | None = None
    ) -> None:
        self.system = system
        self._ceiling = ceiling
        self._clock = clock
        self._ledger = ledger or _Process()
        self._lock = threading.Lock()
        self._day = clock().astimezone(UTC).date()
        self._known = 0  # the day's count as last seen in the ledger, with what is reserved here
        self._reserved = 0
        self._org: tuple[int, int] | None = None
        self._probe = True
        self._calls = 0
        self._begun: int | None = None
        self._ended = 0  # cycles of this process
        self._per_cycle = _Mean()
        self._per_look = _Mean()
        self._told: tuple[object, datetime] | None = None
        self._failures: Counter[str] = Counter()
        self.skew: timedelta | None = None
        self.signed_in_at: datetime | None = None

    # --- one call -----------------------------------------------------------------------------------------------

    def spend(self) -> None:
        """One call is about to be made. Raises ``Unavailable`` where there is none left."""
        now = self._clock().astimezone(UTC)
        with self._lock:
            if self._org is not None and self._org[0] >= self._org[1]:
                if not self._probe:
                    raise self._spent(f"the limit of {self._org[1]} calls that {self.system} sets is used up")
                self._probe = False
            if self._ceiling is not None:
                self._take(self._ceiling, now)
            if self._org is not None:
                self._org = (self._org[0] + 1, self._org[1])
            self._calls += 1

    def _take(self, ceiling: int, now: datetime) -> None:
        self._turn(now.date())
        if self._reserved == 0:
            wanted = max(1, min(BLOCK, (ceiling - self._known) // SHARE))
            self._reserved, self._known = self._ledger.reserve(self.system, self._day, wanted, ceiling)
        if self._reserved == 0:
            raise self._over(ceiling)
        self._reserved -= 1

    def _turn(self, day: date) -> None:
        if day != self._day:
            self._day, self._known, self._reserved = day, 0, 0

    def _over(self, ceiling: int) -> Unavailable:
        midnight = datetime.combine(self._day + DAY, datetime.min.time(), UTC)
        return self._spent(f"the day's budget of {ceiling} calls to {self.system} is spent", midnight)

    def _spent(self, words: str, again: datetime | None = None) -> Unavailable:
        return Unavailable(
            self.system,
            words,
            code="budget",
            retry_at=again,
            hint="raise budget.* or wait: it goes on by itself, the most urgent first",
        )

    def answered(self, headers: Mapping[str, str]) -> None:
        """The system answered, good or bad; the names of ``headers`` are in lower case."""
        self.dated(headers.get("date"))
        if usage := _API_USAGE.search(headers.get("sforce-limit-info", "")):
            self.observe(int(usage[1]), int(usage[2]))

    def failed(self, code: str) -> None:
        """A request was refused or not answered. ``code``: the system's own, the HTTP status, or why no answer came."""
        with self._lock:
            known = code in self._failures or len(self._failures) < MOST_CODES
            self._failures[code if known and _CODE.fullmatch(code) else "other"] += 1

    @property
    def failures(self) -> Mapping[str, int]:
        """Code → requests that failed with it, since this process began."""
        with self._lock:
            return dict(self._failures)

    def signed_in(self, at: datetime) -> None:
        """The system gave an access token at that moment."""
        self.signed_in_at = at

    @property
    def usage(self) -> tuple[int, int] | None:
        """Calls used and allowed by the system's own count, with those made since it last said so; None: it never did."""
        with self._lock:
            return self._org

    def observe(self, used: int, limit: int) -> None:
        """What the system said about its own limit."""
        with self._lock:
            self._org = (used, limit)

    def dated(self, header: str | None) -> None:
        """The moment at which the system answered, by its own clock (``Date``, RFC 9110)."""
        try:
            moment = parsedate_to_datetime(header or "")
        except (ValueError, OverflowError):
            return
        if moment.tzinfo is not None:
            self.skew = moment - self._clock()

    # --- one cycle ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A cycle begins: other processes may have counted meanwhile, and a spent limit may be asked after once.

        Raises ``Unavailable`` where nothing is left of the ceiling: then no other system need be called either.
        """
        day = self._clock().astimezone(UTC).date()
        with self._lock:
            self._probe = True
            self._begun = self._calls
            if self._ceiling is not None:
                self._turn(day)
                self._known = self._ledger.used(self.system, day)
                if self._known - self._reserved >= self._ceiling:
                    raise self._over(self._ceiling)

    def looked(self) -> None:
        """The cycle knows now what has changed; from here on its calls are for that."""
        with self._lock:
            if self._begun is not None:
                self._per_look.take(self._calls - self._begun)

    def end(self, interval: timedelta) -> Sequence[Forecast]:
        """The cycle is over; the forecasts, where they are news: they differ in kind, or an hour has passed."""
        with self._lock:
            if self._begun is not None:
                self._per_cycle.take(self._calls - self._begun)
                self._begun = None
        now = self._clock()
        cycle, look = self._per_cycle.value, self._per_look.value
        forecasts = [quota.foresee(allowance, cycle, look, interval) for allowance in self.allowances()]
        self._ended += 1
        if self._ended < SETTLED:  # a first import is no measure of the days to come
            ample = quota.Level.AMPLE
            forecasts = [each for each in forecasts if each.lasts or each.allowance.level is not ample]
        outlook = [forecast.outlook for forecast in forecasts]
        if self._told is not None and self._told[0] == outlook and now - self._told[1] < _TOLD_EVERY:
            return ()
        self._told = (outlook, now)
        return forecasts

    def allowances(self) -> Sequence[Allowance]:
        """How the ceiling stands, and the system's own limit, as far as there are any."""
        now = self._clock().astimezone(UTC)
        with self._lock:
            found = []
            if self._ceiling is not None:
                used = self._known - self._reserved if now.date() == self._day else 0
                found.append(quota.today(used, self._ceiling, now))
            if self._org is not None:
                found.append(Allowance(*self._org, rolling=True))
            return found

    def pace(self, interval: timedelta) -> timedelta:
        """How long to wait from this cycle to the next."""
        look = self._per_look.value
        return max(
            (quota.pace(allowance, look, interval) for allowance in self.allowances()), default=interval
        )

    def close(self) -> None:
        """Give back what was reserved and not used. May be called twice."""
        with self._lock:
            calls, self._reserved = self._reserved, 0
            self._known -= calls
            if calls:
                with suppress(Unavailable):  # a store that is away: the calls count as made
                    self._ledger.give_back(self.system, self._day, calls)


class _Mean:
    """Of what cycles cost of late; the first one counts in full."""

    def __init__(self) -> None:
        self.value = 0.0

    def take(self, cost: int) -> None:
        self.value = self.value + _WEIGHT * (cost - self.value) if self.value else float(cost)


class _Process:
    """A ledger for who has no store."""

    def __init__(self) -> None:
        self._days: dict[date, int] = {}

    def used(self, system: str, day: date) -> int:
        del system
        return self._days.get(day, 0)

    def reserve(self, system: str, day: date, calls: int, ceiling: int) -> tuple[int, int]:
        used = self.used(system, day)
        granted = max(0, min(calls, ceiling - used))
        self._days[day] = used + granted
        return granted, used + granted

    def give_back(self, system: str, day: date, calls: int) -> None:
        del system
        self._days[day] -= calls
