"""One precondition as `doctor` shows it, whichever CRM is asked."""

from __future__ import annotations

from dataclasses import dataclass

from cosell_sync.errors import OutsideError


@dataclass(frozen=True)
class Check:
    """``status``: ``ok``, ``warning`` (works, with less) or ``fault``. ``todo``: the one next step."""

    name: str
    status: str
    message: str
    todo: str = ""
    error: OutsideError | None = None  # where the CRM could not be asked: decides the exit code
