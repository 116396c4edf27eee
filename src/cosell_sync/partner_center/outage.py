"""Whether Partner Center answers: why a batch was cut short, and how many calls in a row had no answer."""

from __future__ import annotations

import threading
from typing import Final

from cosell_sync.errors import AuthFailed, Flaky, OutsideError, Unavailable, Unclear
from cosell_sync.partner_center.paging import SYSTEM

SILENT_AFTER: Final = 3  # so many in a row mean that the system is away


class Outage:
    """The outage of one client, shared by the threads of its pool. ``cause``: why Partner Center was away last; None once it answers."""

    def __init__(self) -> None:
        self.cause: OutsideError | None = None
        self._unanswered = 0
        self._lock = threading.Lock()

    def forget(self) -> None:
        """A list was answered, or a batch begins, which asks for itself: what was before is over."""
        self._unanswered = 0
        self.cause = None

    def answered(self) -> None:
        """A call was answered, so the silence is over; a batch that was cut short stays so."""
        self._unanswered = 0

    def unanswered(self, error: Unclear) -> None:
        """One lost answer is one record's failure, several in a row are the system's."""
        if error.status is None:
            with self._lock:
                self._unanswered += 1
                silent = self._unanswered >= SILENT_AFTER or error.code == "stopping"
            if silent:
                self.begin(Unavailable(SYSTEM, "Partner Center does not answer", code=error.code))

    def begin(self, cause: OutsideError) -> None:
        """Nothing further is to be started. The first cause of several counts."""
        with self._lock:
            self.cause = self.cause or cause


def unavailable(cause: OutsideError) -> Flaky:
    """The error of one record that an outage left unfinished."""
    code = "unauthenticated" if isinstance(cause, AuthFailed) else "unavailable"
    return Flaky("Partner Center is not available just now", code=code, status=cause.status)
