"""Ports for ``plan``: reads go to the real systems, writes return what would stand there, and nothing is written anywhere.

``plan`` runs ``run_cycle`` with these and with a copy of the store, so what it prints is what ``sync`` would do, decided
by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from cosell_sync.core.deal import Snapshot
from cosell_sync.core.frozen import replace
from cosell_sync.errors import OutsideError
from cosell_sync.ports import (
    Crm,
    CrmShape,
    Identity,
    KnownRecords,
    Matches,
    MatchQuery,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
    ReferralDraft,
    Referrals,
    ReferralWrite,
    StageFlags,
)

DRY_ID = "new:"  # begins the id of a record that only the dry run made; the id of its other half follows


class DryReferrals:
    """``ports.Referrals`` whose writes return the outcome of success and send nothing."""

    def __init__(self, real: Referrals) -> None:
        self._real = real

    @property
    def calls(self) -> int:
        return self._real.calls

    @property
    def outage(self) -> OutsideError | None:
        return self._real.outage

    def identity(self) -> Identity:
        return self._real.identity()

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        return self._real.changed_since(watermark, overlap)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        return self._real.fetch(ids)

    def index(self) -> Iterator[Page]:
        return self._real.index()

    def find_created(self, external_reference: str) -> Snapshot | None:
        return self._real.find_created(external_reference)

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        return self._real.engagement(engagement_id)

    def write(self, batch: Sequence[ReferralWrite]) -> Sequence[Outcome]:
        outcomes = []
        for write in batch:
            after = write.before
            for step in write.steps:
                moved = {"state": step.state.value} if step.state else {}
                after = replace(
                    after, version=f"{after.version}+", fields={**after.fields, **step.fields, **moved}
                )
            outcomes.append(Outcome(after.id, snapshot=after, steps=len(write.steps)))
        return outcomes

    def create(self, draft: ReferralDraft) -> Outcome:
        made = f"{DRY_ID}{draft.external_reference}"
        own = {"state": "Accepted", "direction": "Outbound", "external_reference": draft.external_reference}
        return Outcome(made, snapshot=Snapshot(made, "new", {**draft.fields, **own}), steps=1)


class DryCrm:
    """``ports.Crm`` whose writes return the outcome of success and send nothing."""

    def __init__(self, real: Crm) -> None:
        self._real = real

    @property
    def calls(self) -> int:
        return self._real.calls

    @property
    def outage(self) -> OutsideError | None:
        return self._real.outage

    def identity(self) -> Identity:
        return self._real.identity()

    def shape(self) -> CrmShape:
        return self._real.shape()

    def forget_shape(self) -> None:
        self._real.forget_shape()

    def stages(self) -> Mapping[str, StageFlags]:
        return self._real.stages()

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        return self._real.changed_since(watermark, overlap, seen)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        return self._real.fetch(ids)

    def find(self, sought: Sequence[MatchQuery]) -> Mapping[str, Matches]:
        return self._real.find(sought)

    def foreign_accounts(self, account_ids: Sequence[str]) -> frozenset[str]:
        return self._real.foreign_accounts(account_ids)

    def index(self) -> Iterator[Mapping[str, str]]:
        return self._real.index()

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        return [
            Outcome(
                write.before.id,
                snapshot=replace(write.before, fields={**write.before.fields, **write.fields, **write.words}),
            )
            for write in batch
        ]

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        return [
            Outcome(
                f"{DRY_ID}{draft.referral_id}",
                snapshot=Snapshot(
                    f"{DRY_ID}{draft.referral_id}", "new", {**draft.fields, "referral_id": draft.referral_id}
                ),
            )
            for draft in batch
        ]
