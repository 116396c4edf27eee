"""Errors, named by what happens next.

CosellError
 ├── ConfigError    the configuration is wrong: nothing is contacted, exit 2
 │    └── ForeignSystem  the store belongs to another org or tenant than the one that answers: nothing is read, exit 2
 ├── AuthFailed     a system refused the sign-in: nothing is written, exit 3
 ├── Unavailable    a system cannot be reached or is overloaded: the cycle ends, exit 3, the next one probes again
 ├── Busy           another process holds the lease: exit 3
 ├── Fenced         this process lost the lease while it was away: it must stop at once
 ├── Surprise       the cycle would do, or has seen, something unusual: it stops before writing, exit 1
 ├── Broken         a fault of this program: the cycle ends, nothing is lost, exit 3, the next one tries again
 └── RecordError    one record only; the others go on
      ├── Locked    somebody or something holds the record (an approval): no attempt counts, tried hourly until it is free
      ├── Stale     the record changed since it was read: read again, decide again
      ├── Rejected  the system refuses this record, and will until the record or a rule changes
      ├── Gone      the record does not exist (any more), or is out of sight
      ├── Unclear   sent, but no answer came: it may have landed; the next look settles it
      └── Flaky     the system failed on this record for now; no fault of the record

Every error carries its facts as attributes. ``text`` may quote another system and so goes to the CRM record and
to ``deals``, never to a log; ``code``, ``status``, ``target`` and ``request_id`` are safe to log.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final


class Cure(StrEnum):
    """Who ends an error. What a seller reads follows from this, never from the code."""

    SELLER = "seller"  # whoever edits the record
    ADMIN = "admin"  # cosell-sync's administrator, or the CRM's
    MICROSOFT = "microsoft"  # whoever runs the system that failed: Microsoft, or Salesforce
    TIME = "time"  # nobody: it passes


class CosellError(Exception):
    """Base of everything this program raises on purpose."""


class ConfigError(CosellError):
    """Wrong usage or configuration. ``hint`` is the next step, for example the nearest known key."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ForeignSystem(ConfigError):
    """The store belongs to another org or tenant. ``facts`` (names of systems, ids, hosts) are safe to log."""

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message, hint=hint)
        self.facts = facts


# What people call the systems that the code, the log and the metrics know by one word.
SYSTEMS: Final = {
    "partner_center": "Partner Center",
    "salesforce": "Salesforce",
    "dynamics": "Dynamics 365",
    "store": "the store",
}


class OutsideError(CosellError):
    """One outside system as a whole. ``system`` is ``partner_center``, ``salesforce``, ``dynamics`` or ``store``."""

    def __init__(
        self, system: str, message: str, *, code: str = "", status: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.system = system
        self.code = code
        self.status = status
        self.hint = hint


class AuthFailed(OutsideError):
    """The sign-in was refused; ``code`` is the token endpoint's own, for example ``invalid_grant``."""


class Unavailable(OutsideError):
    """No answer within the allowed tries and time. ``retry_at`` (UTC) where the system named a moment."""

    def __init__(
        self,
        system: str,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        hint: str = "",
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(system, message, code=code, status=status, hint=hint)
        self.retry_at = retry_at


class Busy(CosellError):
    """Another process holds the lease; ``holder`` names it."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"another cosell-sync holds the store: {holder}")
        self.holder = holder


class Fenced(CosellError):
    """The lease went to another process meanwhile; whatever this one wanted to write was refused."""


class Surprise(CosellError):
    """Something unusual was seen before anything was written; ``facts`` are safe to log."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class Broken(CosellError):
    """An error that nobody foresaw, told by its ``kind`` (the exception's type) and ``place`` (file and line)."""

    def __init__(self, kind: str, place: str) -> None:
        super().__init__(f"an unexpected {kind} in {place} ended the cycle; nothing is lost")
        self.kind = kind
        self.place = place
        self.hint = "please report it with this line; the next cycle tries again"


class RecordError(CosellError):
    """One record's trouble. ``text``: the other system's own words, for people, not for logs.

    ``cure``: who ends it; unless given, time for what passes by itself and an administrator for everything else.
    """

    usual_cure = Cure.TIME

    def __init__(
        self,
        text: str,
        *,
        code: str = "",
        status: int | None = None,
        fields: tuple[str, ...] = (),
        request_id: str = "",
        cure: Cure | None = None,
    ) -> None:
        super().__init__(text)
        self.cure = cure or self.usual_cure
        self.text = text
        self.code = code
        self.status = status
        self.fields = fields
        self.request_id = request_id


class Locked(RecordError):
    pass


class Stale(RecordError):
    pass


class Rejected(RecordError):
    usual_cure = Cure.ADMIN


class Gone(RecordError):
    usual_cure = Cure.ADMIN


class Unclear(RecordError):
    pass


class Flaky(RecordError):
    pass
