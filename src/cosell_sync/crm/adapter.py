"""The CRM port, whichever CRM it is: what the cycle asks for, handed to the module that knows how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, Protocol, TypeVar

from cosell_sync.core.deal import Snapshot
from cosell_sync.crm.users import Directory
from cosell_sync.crm.writes import Ownership
from cosell_sync.errors import OutsideError, Surprise
from cosell_sync.ports import (
    CrmShape,
    KnownRecords,
    Matches,
    MatchQuery,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
)

MATCH: Final = ("name", "postal_code", "country")


class Shaped(Protocol):
    """What a CRM can hold, as its own modules know it."""

    def shape(self) -> CrmShape: ...


class Writing(Protocol):
    """Carries out one batch."""

    @property
    def outage(self) -> OutsideError | None: ...

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]: ...


Org = TypeVar("Org", bound=Shaped)
Writer = TypeVar("Writer", bound=Writing)


@dataclass(frozen=True)
class Parts(Generic[Org, Writer]):
    """One CRM's own way to do each of these."""

    calls: Callable[[], int]
    org: Callable[[], Org]
    changed_since: Callable[[Org, str | None, timedelta, KnownRecords], Iterator[Page]]
    fetch: Callable[[Org, Sequence[str]], Mapping[str, Snapshot | None]]
    find: Callable[[Org, Sequence[MatchQuery], Sequence[str]], Mapping[str, Matches]]
    index: Callable[[Org], Iterator[Mapping[str, str]]]
    writer: Callable[[Org], Writer]
    create: Callable[[Writer, Sequence[OpportunityDraft], Ownership], Sequence[Outcome]]
    directory: Directory


class CrmAdapter(Generic[Org, Writer]):
    """``match``: what makes two customers one."""

    def __init__(
        self, parts: Parts[Org, Writer], *, match: Sequence[str], ownership: Ownership | None
    ) -> None:
        self.outage: OutsideError | None = None
        self._parts = parts
        self._match = tuple(match)
        self._ownership = ownership or Ownership()
        self._org: Org | None = None

    @property
    def calls(self) -> int:
        return self._parts.calls()

    @property
    def org(self) -> Org:
        if self._org is None:
            self._org = self._parts.org()
        return self._org

    def shape(self) -> CrmShape:
        return self.org.shape()

    def forget_shape(self) -> None:
        """After fields were added or rights changed."""
        self._org = None

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        self._parts.directory.forget()
        try:
            yield from self._parts.changed_since(self.org, watermark, overlap, seen)
        except Surprise:
            self.forget_shape()  # an admin may have taken a field away on purpose: the next cycle looks again
            raise
        self.outage = None

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        return self._parts.fetch(self.org, ids)

    def find(self, sought: Sequence[MatchQuery]) -> Mapping[str, Matches]:
        return self._parts.find(self.org, sought, self._match)

    def index(self) -> Iterator[Mapping[str, str]]:
        yield from self._parts.index(self.org)

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Never raises for the CRM being away: see ``outage``, which the next success clears."""
        if not batch:
            return []
        writer = self._parts.writer(self.org)
        outcomes = writer.write(batch)
        self.outage = writer.outage
        return outcomes

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        """Like ``write``."""
        if not batch:
            return []
        writer = self._parts.writer(self.org)
        outcomes = self._parts.create(writer, batch, self._ownership)
        self.outage = writer.outage
        return outcomes
