"""What `provision` reports of each component and `doctor` of each precondition, the same for every CRM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from cosell_sync.errors import OutsideError, Unavailable, Unclear


class Status(StrEnum):
    """What became of one component; the values are the words that `provision` prints."""

    THERE = "there"
    MADE = "made"
    TO_MAKE = "to make"  # in a dry run
    DIFFERS = "differs"
    FAILED = "failed"
    BLOCKED = "not made"  # because something that it depends on failed
    LEFT_OUT = "left out"  # refused by the CRM, and nothing needs it

    @property
    def needs_action(self) -> bool:
        """Whether a person has to act; `provision` then exits with 1."""
        return self in {Status.DIFFERS, Status.FAILED, Status.BLOCKED}


@dataclass(frozen=True)
class Finding:
    """What became of one component. ``text``: how it differs or why it failed; ``todo``: the one next step."""

    component: str
    status: Status
    text: str = ""
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """One precondition as `doctor` shows it. ``status``: ``ok``, ``warning`` (works, with less) or ``fault``."""

    name: str
    status: str
    message: str
    todo: str = ""  # the one next step
    error: OutsideError | None = None  # why the CRM could not be asked; it decides the exit code


@contextmanager
def stop_when_unclear(system: str) -> Iterator[None]:
    """End the run at a change of the setup that got no answer. Raises `Unavailable`; the next run reads what became of it."""
    try:
        yield
    except Unclear:
        raise Unavailable(
            system,
            "no answer came to a change of the setup, so it may have been made or not",
            code="unclear",
            hint="run provision again: it looks first, and makes only what is missing",
        ) from None
