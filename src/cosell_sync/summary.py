"""What one cycle did, as one frozen value: the cycle makes it, logs, metrics, console and exit code read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

# deals that wait for a person are no failure of the program, but somebody must hear of them
NEEDS_NOBODY: Final = 0
NEEDS_A_PERSON: Final = 1
WRONG_USAGE: Final = 2
OUT_OF_REACH: Final = 3


@dataclass(frozen=True)
class Counts:
    """A number per side: of records, of deals or of calls."""

    partner_center: int = 0
    crm: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.partner_center + other.partner_center, self.crm + other.crm)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.partner_center - other.partner_center, self.crm - other.crm)


@dataclass(frozen=True)
class CycleSummary:
    """The fields of the event ``cycle.finished``, and how the cycle ended.

    ``cycle_id``: marks the log events and journal lines of the cycle. ``duration_s``: seconds from begin to end.

    What the cycle did. ``pulled``: records read that were not known like this. ``written``: deals written on a side.
    ``created``: records made. ``unchanged``: deals that were due and needed no write. ``conflicts``: conflicts that were
    named for the first time. ``failed``: deals of which a write or a decision failed. ``api_calls``: HTTP requests, repeated
    ones included, sign-ins not.

    What stands after it, from earlier cycles as well. ``rejected``: deals that our own checks keep from being written.
    ``parked``: deals that are not tried any more until their record changes or a person says so. ``withheld``: deals of which
    the guard withholds a step. ``broken``: preconditions that are, as ``doctor`` shows them.

    ``exit_code`` (0, 1 or 3, above) is set by the cycle, which knows what the counts do not: deals that stand in ``Needs
    attention``, a surprise, a system out of reach.
    """

    cycle_id: str
    duration_s: float
    pulled: Counts = Counts()
    written: Counts = Counts()
    created: Counts = Counts()
    unchanged: int = 0
    conflicts: int = 0
    rejected: int = 0
    failed: int = 0
    parked: int = 0
    withheld: int = 0
    broken: int = 0
    api_calls: Counts = Counts()
    exit_code: int = NEEDS_NOBODY

    def as_event(self) -> dict[str, Any]:
        """Exactly the fields of ``cycle.finished``, without ``event``, which the logger adds."""
        event = asdict(self)
        del event["exit_code"]
        event["duration_s"] = round(self.duration_s, 3)
        return event
