"""What is done with webhooks in a running process: who judges them, what is kept of them, and whom they wake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final, Protocol

from cosell_sync.errors import ConfigError, CosellError
from cosell_sync.log import get_logger
from cosell_sync.ports import Clock
from cosell_sync.serving.monitor import Monitor
from cosell_sync.settings.model import WebhooksSettings
from cosell_sync.web.webhooks import ACCEPTED, OURS, RELATED, TEST, Event, Headers, Verdict

SELDOM: Final = 5.0  # seconds between two cycles for the sake of events that name no referral of ours
Judging = Callable[[Headers, int | None, Callable[[], bytes]], Verdict]
Take = Callable[[Sequence[Event], str | None], None]


class Hints(Protocol):
    """Where what events say is kept."""

    def hint(self, hints: Sequence[tuple[str, str, str]]) -> int:
        """Keep it (referral id, event, changed); how many of them were new."""


def receiver(sections: Iterable[WebhooksSettings], clock: Clock, take: Take) -> dict[str, Any]:
    """The arguments with which the listener judges and takes webhooks; empty where they are off.

    Raises ConfigError where the signing roots cannot be read, unless others' can.
    """
    enabled = [each for each in sections if each.enabled]
    if not enabled:
        return {}
    from cosell_sync.web.certificates import Certificates  # noqa: PLC0415 - only where webhooks are on
    from cosell_sync.web.trusted import load_trust  # noqa: PLC0415
    from cosell_sync.web.webhooks import Judge  # noqa: PLC0415

    ways = {(each.header, each.certificate_hosts, each.trusted_roots, each.organization) for each in enabled}
    judges: list[Judging] = []
    for header, hosts, roots, organization in sorted(ways, key=str):
        try:
            judges.append(Judge(header, Certificates(hosts), load_trust(roots, organization), clock))
        except ConfigError as error:
            if len(enabled) == 1:
                raise
            get_logger().error("webhook.unusable", exc_info=error)  # the others' arrive, and polling goes on
    return {"judge": first_that_accepts(judges), "take": take} if judges else {}


def first_that_accepts(judges: Sequence[Judging]) -> Judging:
    """Believe an event that one of them believes; connections may be registered in different ways."""
    if len(judges) == 1:
        return judges[0]

    def judge(headers: Headers, length: int | None, read: Callable[[], bytes]) -> Verdict:
        body = cache(read)
        verdicts = [each(headers, length, body) for each in judges]
        return next((each for each in verdicts if each.status == ACCEPTED), verdicts[0])

    return judge


def log_events(events: Sequence[Event]) -> None:
    """Say what arrived."""
    for event in events:
        get_logger().info("webhook.received", kind=event.name, referral_id=event.referral_id or None)


def to_each(names: Iterable[str], tell: Callable[[str], None]) -> None:
    """Tell these connections. One whose store is away keeps no other from hearing; then its failure is raised, so that the sender
    tries again.
    """
    failures: list[CosellError] = []
    for name in names:
        try:
            tell(name)
        except CosellError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def taking(
    store: Hints, monitor: Monitor, wake: Callable[[], None], seldom: Callable[[], None]
) -> Callable[[Sequence[Event]], None]:
    """What is done with events that are Microsoft's: what they say is stored, and what is new wakes the connection.

    ``wake``: called for a referral of ours; ``seldom``: for another organization's, and for events of unknown names. A test
    event says nothing.
    """

    def fresh(events: Sequence[Event], *, wanted: Callable[[str], bool]) -> bool:
        hints = [(each.referral_id, each.name, each.changed) for each in events if wanted(each.name)]
        return bool(hints) and store.hint(hints) > 0

    def take(events: Sequence[Event]) -> None:
        own = fresh(events, wanted=OURS.__contains__)
        related = fresh(events, wanted=RELATED.__contains__)
        unknown = fresh(events, wanted=lambda name: name not in {*OURS, *RELATED, TEST})
        if own or related:
            monitor.hinted_at = monitor.clock()
        if own:
            wake()
        elif related or unknown:
            seldom()

    return take


def _later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


class Spaced:
    """Calls ``work`` at most once in ``pause`` seconds: at once where it may, else when the pause is over. Safe from any thread.

    ``monotonic``: seconds. ``later``: calls after so many of them.
    """

    def __init__(
        self,
        work: Callable[[], None],
        pause: float = SELDOM,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _later,
    ) -> None:
        self._work = work
        self._pause = pause
        self._monotonic = monotonic
        self._later = later
        self._lock = threading.Lock()
        self._next = float("-inf")  # from when on it may be called again, the call that waits included

    def call(self) -> None:
        """Call it, now or soon; one call waits at most."""
        with self._lock:
            now = self._monotonic()
            wait = self._next - now
            if wait > self._pause:
                return  # one waits already
            self._next = max(now, self._next) + self._pause
        if wait <= 0:
            self._work()
        else:
            self._later(wait, self._work)
