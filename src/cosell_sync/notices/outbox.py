"""What the notices ask of the store: how deals stand, what was told, and what still waits to be sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cosell_sync.core.memory import Link
from cosell_sync.core.notices import Backlog, Due, StandingDeal, Told, Waiting


class Outbox(Protocol):
    """Kept in the store, so that a restart neither loses a notice nor repeats one. Every method raises Unavailable.

    ``target``: the receiver, by a digest of its address.
    """

    def standing(self) -> Sequence[StandingDeal]:
        """Deals that wait for an answer or a person."""

    def won(self, since: datetime) -> Collection[str]:
        """Keys of the deals of which a win was carried to a side after that moment."""

    def known(self, target: str) -> Mapping[str, Told]:
        """By key, what this target was told, or is to be."""

    def keep(self, target: str, due: Due, now: datetime) -> None:
        """Put what is new into the outbox and forget what ended, in one transaction."""

    def waiting(self, targets: Collection[str], now: datetime, limit: int) -> Sequence[Waiting]:
        """What is to be sent to these targets by now, the oldest first."""

    def sent(self, target: str, key: str) -> None:
        """It arrived."""

    def put_off(self, target: str, key: str, again: datetime | None) -> None:
        """It did not arrive; ``again``: when to try once more, None: never."""

    def drop_others(self, targets: Collection[str]) -> None:
        """Forget what is for targets that are not configured any more."""

    def backlog(self, target: str) -> Backlog:
        """How much waits."""


class Links(Protocol):
    """Where deals are read."""

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        """By key; unknown ones are left out."""
