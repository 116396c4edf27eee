"""The CRM port over Dynamics 365 Sales: what the cycle asks for, handed to the module that knows how.

org        what this environment can hold, read once
feeds      what changed         reading    records, look-alikes, index
writing    guarded updates      creating   new opportunities      (both: `people`, `directory`)
checks     what `doctor` looks at
rest       one call, or several in one; beneath it `signin`
records    rows ⇄ values, pure, with `odata`, `batch`, `versions`, `places`, `children` and `closing`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from cosell_sync.core.deal import Snapshot
from cosell_sync.crm.check import Check
from cosell_sync.crm.dynamics import checks, creating, feeds, org, reading
from cosell_sync.crm.dynamics.creating import Ownership
from cosell_sync.crm.dynamics.directory import Directory
from cosell_sync.crm.dynamics.org import Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.writing import Writer
from cosell_sync.errors import OutsideError, Surprise
from cosell_sync.ports import (
    CrmShape,
    Found,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
    Seen,
    Sought,
)

MATCH: Final = ("name", "postal_code", "country")


class DynamicsCrm:
    """``names``: our field → column of opportunity, laid over the defaults. ``match``: what makes two customers one.

    ``closed_rows``: whether our own columns are written to a closed opportunity.
    """

    def __init__(
        self,
        rest: Rest,
        *,
        names: Mapping[str, str] | None = None,
        match: Sequence[str] = MATCH,
        ownership: Ownership | None = None,
        closed_rows: bool = False,
    ) -> None:
        self.rest = rest
        self.trouble: OutsideError | None = None
        self._names = org.field_names(names)
        self._match = tuple(match)
        self._ownership = ownership or Ownership()
        self._closed = org.ClosedRows(write=closed_rows)
        self._directory = Directory(rest)
        self._org: Org | None = None

    @property
    def calls(self) -> int:
        return self.rest.calls

    @property
    def org(self) -> Org:
        if self._org is None:
            self._org = replace(org.read(self.rest, self._names), closed=self._closed)
        return self._org

    def shape(self) -> CrmShape:
        return self.org.shape()

    def forget_shape(self) -> None:
        """After columns were added or rights changed."""
        self._org = None

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: Seen) -> Iterator[Page]:
        self._directory.forget()
        try:
            yield from feeds.changed_since(self.rest, self.org, watermark, overlap, seen)
        except Surprise:
            self.forget_shape()  # an admin may have taken a column away on purpose: the next cycle looks again
            raise
        self.trouble = None

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        return reading.fetch(self.rest, self.org, ids)

    def find(self, sought: Sequence[Sought]) -> Mapping[str, Found]:
        return reading.find(self.rest, self.org, sought, self._match)

    def index(self) -> Iterator[Mapping[str, str]]:
        yield from reading.index(self.rest, self.org)

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Never raises for Dataverse being away: see ``trouble``, which the next success clears."""
        if not batch:
            return []
        writer = self._writer()
        outcomes = writer.write(batch)
        self.trouble = writer.trouble
        return outcomes

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        """Like ``write``."""
        if not batch:
            return []
        writer = self._writer()
        outcomes = creating.create(writer, batch, self._ownership)
        self.trouble = writer.trouble
        return outcomes

    def check(self, stages: Sequence[str] = ()) -> Sequence[Check]:
        """Everything ``doctor`` wants to know; ``stages``: those that the mapping names."""
        return checks.check(self.rest, self._names, stages)

    def _writer(self) -> Writer:
        return Writer(self.rest, self.org, self._directory, self._match)
