"""Which of our fields a CRM has columns for, and which of them it lets us change; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# Without these no deal can be told: better refused, and seen by `doctor`, than left out.
NEEDED: Final = frozenset({"referral_id", "stage", "action"})


def shown(columns: Iterable[str], *, solutions: bool) -> frozenset[str]:
    """Everything that a snapshot says: columns, rows around, and what follows from both."""
    rows = {"customer", "contacts", "team", *(["solutions"] if solutions else [])}
    return frozenset({*columns, *rows, "is_closed", "is_won", "owner_email"})


def locked(writable: Mapping[str, bool]) -> frozenset[str]:
    """Columns that we may read and not change: each is held for itself, the rest of the deal goes on."""
    return frozenset(name for name, may in writable.items() if not may) - NEEDED
