"""After each cycle: what is to be told goes into the outbox, and what waits there is sent. Neither can fail a cycle.

A notice is taken out of the outbox when its receiver has answered, so a process that ends between sends it twice rather than
never. ``run`` sends on a thread of its own, so that no receiver holds up a cycle; ``sync`` sends before it ends, for a few
seconds at most. What was not taken is sent again after later cycles, with growing pauses.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog

from cosell_sync.core import notices
from cosell_sync.core.notices import Ending, Situation, Waiting
from cosell_sync.core.texts import PLAIN, Language
from cosell_sync.errors import AuthFailed, Broken, ConfigError, CosellError, Fenced, OutsideError, Surprise
from cosell_sync.notices.message import compose
from cosell_sync.notices.outbox import Links, Outbox
from cosell_sync.notices.sender import NotSent, Sender, Target
from cosell_sync.ports import Clock
from cosell_sync.transport.deadline import Stopped

log = structlog.get_logger("cosell_sync.notices")

WON_SINCE: Final = timedelta(
    hours=1
)  # so far back wins are looked for, should a process have ended in between
ROUND: Final = 100  # messages after one cycle
BUDGET: Final = 10.0  # seconds after one cycle of `sync`
LEAVING: Final = 2.0  # seconds for the thread to end


class Notifier:
    """``background``: send on a thread of its own. ``language``: that people are told in. ``connection``: whose deals they are, where
    there are several.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        outbox: Outbox,
        links: Links,
        clock: Clock,
        *,
        background: bool = False,
        language: Language = PLAIN,
        connection: str = "",
        sender: Sender | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.targets = {target.digest: target for target in targets}
        self.background = background
        self._language = language
        self._connection = connection
        self._outbox = outbox
        self._links = links
        self._clock = clock
        self._sender = sender or Sender()
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def watching(self, cycle: str) -> Iterator[None]:
        """Around a cycle: whatever its outcome, people are told of it, and the outcome stays what it is."""
        try:
            yield
        except (ConfigError, Fenced):
            raise  # another process, or a person, goes on from here
        except Exception as error:
            self.after_cycle(cycle, error)
            raise
        self.after_cycle(cycle, None)

    def after_cycle(self, cycle: str, error: Exception | None) -> None:
        """Put what is to be told into the outbox and send what waits. Never raises."""
        if not self.targets:
            return
        with structlog.contextvars.bound_contextvars(cycle_id=cycle), _harmless():
            self._decide(cycle, error)
        if not self.background:
            self.deliver(BUDGET)
        elif self._thread is None or not self._thread.is_alive():
            # A thread begins without what is bound here, the connection's name among it.
            within = contextvars.copy_context()
            self._thread = threading.Thread(
                target=within.run, args=(self.deliver,), name="notices", daemon=True
            )
            self._thread.start()

    def deliver(self, budget: float | None = None) -> None:
        """Send what is due, for at most so many seconds. Never raises."""
        with _harmless():
            started, unwell = self._monotonic(), set[str]()
            for waiting in self._outbox.waiting(self.targets.keys(), self._clock(), ROUND):
                spent = self._monotonic() - started
                if self._closed.is_set() or (budget is not None and spent > budget):
                    return
                if waiting.target not in unwell and not self._send(waiting):
                    unwell.add(waiting.target)  # the rest waits for a later cycle

    def close(self) -> None:
        """No further message; one that is under way may arrive."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(LEAVING)
        self._sender.close()

    def _decide(self, cycle: str, error: Exception | None) -> None:
        now = self._clock()
        ending, system = _ending(error)
        situation = Situation(
            now=now,
            cycle=cycle,
            deals=self._outbox.standing(),
            won=self._outbox.won(now - WON_SINCE),
            ending=ending,
            system=system,
        )
        self._outbox.drop_others(self.targets.keys())
        for digest, target in self.targets.items():
            due = notices.due(situation, self._outbox.known(digest), target.kinds)
            if due.new or due.ended:
                self._outbox.keep(digest, due, now)

    def _send(self, waiting: Waiting) -> bool:
        """Whether it arrived."""
        target, notice = self.targets[waiting.target], waiting.notice
        links = self._links.by_keys(notice.deals)
        message = compose(notice, links, waiting.at, self._language, self._connection)
        facts = {"kind": notice.kind.value, "target": target.name, "deals": len(notice.deals) + notice.more}
        try:
            status = self._sender.send(target, message, self._closed.is_set)
        except Stopped:
            return False
        except NotSent as failure:
            tries = waiting.tries + 1
            given_up = tries >= notices.MOST_TRIES
            pause = max(notices.pause_after(tries), timedelta(seconds=failure.retry_after))
            self._outbox.put_off(target.digest, notice.key, None if given_up else self._clock() + pause)
            emit = log.error if given_up else log.warning
            emit(
                "notice.failed",
                **facts,
                code=failure.code,
                status=failure.status,
                attempts=tries,
                given_up=given_up,
            )
            return False
        self._outbox.sent(target.digest, notice.key)
        log.info("notice.sent", **facts, status=status)
        return True


def _ending(error: Exception | None) -> tuple[Ending, str]:
    match error:
        case None:
            return Ending.WELL, ""
        case AuthFailed():
            return Ending.AUTH_FAILED, error.system
        case OutsideError():
            return Ending.UNAVAILABLE, error.system
        case Surprise():
            return Ending.SURPRISE, ""
        case Broken() | _:
            return Ending.BROKEN, ""


@contextmanager
def _harmless() -> Iterator[None]:
    """A notice that cannot be told must not end what it tells of."""
    try:
        yield
    except CosellError as error:
        log.warning("notice.failed", code=getattr(error, "code", "") or type(error).__name__)
    except Exception as error:
        log.exception("notice.failed", code=type(error).__name__)
