"""Column security: which columns the application user may not read, so that null in them says nothing; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Security:
    """Columns under column security, by set; ``readable``: those of them that a profile of the application user opens.

    A secured column without a profile reads null, whatever it holds. Securing one moves no row's version, so `secured.refresh`
    brings this up to date before anything that changed is read.
    https://learn.microsoft.com/power-platform/admin/field-level-security
    """

    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    readable: Mapping[str, frozenset[str]] = field(default_factory=dict)
    narrow: frozenset[str] = frozenset()
    """Sets of which rows may be out of sight: one that is not listed is not known to be gone."""

    def secured(self, collection: str, column: str) -> bool:
        """Whether the column is under column security, so that what it shows may be a mask."""
        return column in self.columns.get(collection, ())

    def closed(self, collection: str, column: str) -> bool:
        """Whether the column is secured and no profile is known to open it, so that null says nothing."""
        return self.secured(collection, column) and column not in self.readable.get(collection, ())
