"""The CRM port for every CRM: each call of a cycle is passed to the function of that CRM which does it."""

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
    Identity,
    KnownRecords,
    Matches,
    MatchQuery,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
    StageFlags,
)

MATCH: Final = ("name", "postal_code", "country")


class HasShape(Protocol):
    """What an org or environment can hold, as its own modules describe it."""

    def shape(self) -> CrmShape: ...


class WritesBatches(Protocol):
    """Carries out one batch; ``outage`` says why the CRM did not answer, or None."""

    @property
    def outage(self) -> OutsideError | None: ...

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]: ...


Org = TypeVar("Org", bound=HasShape)
Writer = TypeVar("Writer", bound=WritesBatches)


@dataclass(frozen=True)
class CrmFunctions(Generic[Org, Writer]):
    """What one CRM's modules do for each call of the port."""

    calls: Callable[[], int]
    identity: Callable[[], Identity]
    org: Callable[[], Org]
    stages: Callable[[], Mapping[str, StageFlags]]
    changed_since: Callable[[Org, str | None, timedelta, KnownRecords], Iterator[Page]]
    fetch: Callable[[Org, Sequence[str]], Mapping[str, Snapshot | None]]
    find: Callable[[Org, Sequence[MatchQuery], Sequence[str]], Mapping[str, Matches]]
    foreign_accounts: Callable[[Org, Sequence[str]], frozenset[str]]
    index: Callable[[Org], Iterator[Mapping[str, str]]]
    writer: Callable[[Org], Writer]
    create: Callable[[Writer, Sequence[OpportunityDraft], Ownership], Sequence[Outcome]]
    directory: Directory


class CrmAdapter(Generic[Org, Writer]):
    """``match``: the parts of a customer by which two are one. The org is read at the first call and kept."""

    def __init__(
        self, functions: CrmFunctions[Org, Writer], *, match: Sequence[str], ownership: Ownership | None
    ) -> None:
        self.outage: OutsideError | None = None
        self._functions = functions
        self._match = tuple(match)
        self._ownership = ownership or Ownership()
        self._org: Org | None = None

    @property
    def calls(self) -> int:
        """HTTP requests made so far; see `ports.Crm`."""
        return self._functions.calls()

    @property
    def org(self) -> Org:
        """The org as it was read; reads it at the first use."""
        if self._org is None:
            self._org = self._functions.org()
        return self._org

    def identity(self) -> Identity:
        """Which org answers; see `ports.Crm`."""
        return self._functions.identity()

    def shape(self) -> CrmShape:
        """What this CRM can hold."""
        return self.org.shape()

    def forget_shape(self) -> None:
        """Read the org again at the next call, because fields were added or rights changed."""
        self._org = None

    def stages(self) -> Mapping[str, StageFlags]:
        """The stages as they are at this moment."""
        return self._functions.stages()

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        """Pages of what changed. Users are read again, and the org too after a surprise."""
        self._functions.directory.forget()
        try:
            yield from self._functions.changed_since(self.org, watermark, overlap, seen)
        except Surprise:
            self.forget_shape()  # an admin may have removed a field on purpose, so the next cycle reads the org again
            raise
        self.outage = None

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        """Each opportunity as it is now; None where it is deleted or hidden."""
        return self._functions.fetch(self.org, ids)

    def find(self, sought: Sequence[MatchQuery]) -> Mapping[str, Matches]:
        """By referral id, what exists for it already."""
        return self._functions.find(self.org, sought, self._match)

    def foreign_accounts(self, account_ids: Sequence[str]) -> frozenset[str]:
        """Those of these accounts that an opportunity without a referral id uses."""
        return self._functions.foreign_accounts(self.org, account_ids)

    def names_user(self, name: str) -> bool:
        """Whether one active user has this user name or e-mail address."""
        return self._functions.directory.named(name) is not None

    def index(self) -> Iterator[Mapping[str, str]]:
        """Id → version of every opportunity in scope, in pages."""
        yield from self._functions.index(self.org)

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Never raises for an outage: the outcomes carry it, and ``outage``, which the next success clears."""
        if not batch:
            return []
        writer = self._functions.writer(self.org)
        outcomes = writer.write(batch)
        self.outage = writer.outage
        return outcomes

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        """Like ``write``."""
        if not batch:
            return []
        writer = self._functions.writer(self.org)
        outcomes = self._functions.create(writer, batch, self._ownership)
        self.outage = writer.outage
        return outcomes
