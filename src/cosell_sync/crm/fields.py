"""Which of our fields a CRM has columns for, and which of them it lets us change; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# Without write access to these no deal can be synchronised: a refused write, which `doctor` explains, is better than a hold.
REQUIRED: Final = frozenset({"referral_id", "stage", "action"})


def readable_fields(columns: Iterable[str], *, solutions: bool) -> frozenset[str]:
    """Our fields that a snapshot has: columns, related rows, and what follows from both."""
    rows = {"customer", "contacts", "team", *(["solutions"] if solutions else [])}
    return frozenset({*columns, *rows, "is_closed", "is_won", "owner_email"})


def read_only_fields(writable: Mapping[str, bool]) -> frozenset[str]:
    """Our fields that may be read and not written: each is held by itself while the rest of the deal is written."""
    return frozenset(name for name, may in writable.items() if not may) - REQUIRED
