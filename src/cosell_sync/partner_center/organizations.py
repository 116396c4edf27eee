"""Which organizations are ours: the configured one, else those whose referrals the plain list shows."""

from __future__ import annotations

import threading


class Organizations:
    """``configured``: the id of ours, where it is configured; else empty.

    Rows of the plain list are then taken for ours (it shows no others, as far as the page says) unless they are Microsoft's.
    """

    def __init__(self, organization_id: str | None) -> None:
        self.configured = frozenset({organization_id} if organization_id else ())
        self._learned: set[str] = set()
        self._lock = threading.Lock()

    @property
    def known(self) -> frozenset[str]:
        """For a row from anywhere but the plain list, which may be another organization's."""
        return self.configured or frozenset(self._learned)

    def learn(self, row: object) -> None:
        """A row that is ours."""
        organization = row.get("organizationId") if isinstance(row, dict) else None
        if isinstance(organization, str) and organization:
            with self._lock:
                self._learned.add(organization)
