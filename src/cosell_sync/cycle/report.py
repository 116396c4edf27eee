"""Writes our own fields on a record, apart from any exchange: why a deal waits, failed, vanished or is not shared.

What is to be remembered is stored first, so that a crash between leaves a deal that is reported again. Where the CRM does
not take the words either, ``deals list`` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosell_sync.core.deal import Fields, Snapshot
from cosell_sync.core.decision import Decision
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link
from cosell_sync.core.status import StatusReport, status_report
from cosell_sync.cycle import apply, closed_rows
from cosell_sync.cycle.context import Cycle
from cosell_sync.cycle.journal import STATUS_WORDS
from cosell_sync.cycle.opportunity_outcomes import status_outcome
from cosell_sync.cycle.record import Record, commit
from cosell_sync.errors import Locked, Rejected
from cosell_sync.ports import OpportunityWrite


@dataclass(frozen=True)
class RecordReport:
    """Fields for the record of one deal.

    ``link``: as it is to be remembered once they stand there. ``until_then``: as remembered before; None: the same.
    ``repeat``: try again in the next cycle where the CRM could not take them now.
    """

    link: Link
    fields: Fields
    until_then: Link | None = None
    repeat: bool = False

    @property
    def before(self) -> Snapshot | None:
        """The record they are written on; None where there is nothing to write."""
        return self.link.opportunity if self.fields else None


def report(cycle: Cycle, record: Record, reports: Sequence[RecordReport]) -> None:
    """Store the record with the links of these reports, write the fields, and record what landed."""
    reports = [_unless_closed(cycle, item) for item in reports]
    for item in reports:
        pending = item.until_then or item.link
        record.put(replace(pending, dirty=True) if item.repeat and item.before else pending)
    commit(cycle.store, record)
    writing = [(item, item.before) for item in reports if item.before is not None]
    if not writing:
        return
    outcomes = apply.write_status(cycle, [OpportunityWrite(before, item.fields) for item, before in writing])
    after = Record()
    for (item, before), outcome in zip(writing, outcomes, strict=True):
        closed_rows.learn(cycle, after, before, item.fields, outcome)
        if status_outcome(cycle, after, item.link, before, item.fields, outcome):
            continue
        if before.flag("is_closed") and isinstance(outcome.error, Rejected):
            after.put(_unless_closed(cycle, item, refused=True).link)
        elif item.repeat:
            unsaid = item.until_then or item.link
            opportunity = outcome.snapshot or unsaid.opportunity
            again = not isinstance(outcome.error, Rejected | Locked)
            after.put(replace(unsaid, opportunity=opportunity, dirty=again))
    commit(cycle.store, after)


def _unless_closed(cycle: Cycle, item: RecordReport, *, refused: bool = False) -> RecordReport:
    """The same report, with nothing to write where the record is closed and takes nothing: its message is remembered."""
    if item.before is None or not (refused or closed_rows.left_alone(cycle, item.link)):
        return item
    unsaid = str(item.fields.get("message") or item.link.memory.untold)
    return RecordReport(replace(item.link, memory=replace(item.link.memory, untold=unsaid)), {})


def words_of(cycle: Cycle, decision: Decision) -> tuple[StatusReport, Fields]:
    """What the record is to say of this decision, and the part of it that a person reads."""
    status = status_report(decision, (), cycle.shape, cycle.now, cycle.language)
    return status, {name: value for name, value in status.fields.items() if name in STATUS_WORDS}
