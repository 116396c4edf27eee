"""Reads both sides of a deal as they are now, and notes what vanished."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cosell_sync.core.deal import Side, Snapshot, SyncState, state_of
from cosell_sync.core.decision import Decision
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.status import status_report
from cosell_sync.cycle.context import Cycle, DealPlan, ids
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.report import RecordReport, report

log = structlog.get_logger("cosell_sync.cycle")


def refresh(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Both sides of these links as they are now; those that could not be read just now are left out, and stay due."""
    referrals = cycle.referrals.fetch([link.referral_id for link in links if link.referral_id])
    opportunities = cycle.crm.fetch([link.opportunity_id for link in links if link.opportunity_id])
    read = []
    for link in links:
        referral = referrals.get(link.referral_id or "", link.referral)
        opportunity = opportunities.get(link.opportunity_id or "", link.opportunity)
        if referral is not None and not referral.version:
            continue
        memory = replace(link.memory, gone=_gone(link, referral, opportunity))
        read.append(
            replace(
                link,
                referral=referral or link.referral,
                opportunity=opportunity or link.opportunity,
                memory=memory,
                dirty=True,
            )
        )
    return read


def _gone(link: Link, referral: Snapshot | None, opportunity: Snapshot | None) -> Side | None:
    if link.referral_id and referral is None:
        return Side.PARTNER_CENTER
    return Side.CRM if link.opportunity_id and opportunity is None else None


def read_again(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """These links with both sides as they are now, stored; those of which a side vanished are noted and left out."""
    record, read = Record(), refresh(cycle, links)
    record.put(*read)
    note_gone(cycle, record, read)
    commit(cycle.store, record)
    return [link for link in read if link.memory.gone is None]


def still_present(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """The links of which no record vanished. Of a linked pair both sides are known: one that was not read yet is read."""
    record, known = Record(), {link.key: link for link in links}
    partial = [link for link in links if _partial(link) and link.memory.gone is None]
    if partial:
        read = refresh(cycle, partial)
        record.put(*read)
        known |= {link.key: link for link in read}
    note_gone(cycle, record, [*known.values()])
    commit(cycle.store, record)
    return [link for link in known.values() if link.memory.gone is None and not _partial(link)]


def _partial(link: Link) -> bool:
    return link.phase is Phase.LINKED and (link.referral is None or link.opportunity is None)


def note_gone(cycle: Cycle, record: Record, links: Sequence[Link]) -> None:
    """Note the links of which a record vanished; with them the record is stored.

    The other side is left as it is, the pair is paused, and a person is asked. Of a deal that is over nobody need be asked:
    people tidy up.
    """
    reports = []
    for link in links:
        if link.memory.gone is None:
            continue
        status = status_report(Decision(link), (), cycle.shape, cycle.now, cycle.language)
        over = link.referral is not None and state_of(link.referral) in TERMINAL
        state = SyncState.CLOSED if over else SyncState.NEEDS_ATTENTION
        noted = replace(status.link, memory=replace(status.link.memory, sync_state=state), due=None)
        reports.append(RecordReport(noted, status.fields if link.memory.gone is Side.PARTNER_CENTER else {}))
        cycle.collect(DealPlan(link))
        log.warning("deal.gone", **ids(link), side=link.memory.gone)
    if reports:
        report(cycle, record, reports)
