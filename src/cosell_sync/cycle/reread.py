"""Looking again: open intents are settled, halves read, vanished records noted, words alone written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from cosell_sync.core.deal import Fields, Side, SyncState, state_of
from cosell_sync.core.decision import Decision
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Link
from cosell_sync.core.outcome import settle
from cosell_sync.core.status import status_report
from cosell_sync.cycle.context import Cycle, DealPlan, ids
from cosell_sync.ports import OpportunityWrite, Transaction

log = structlog.get_logger("cosell_sync.cycle")


def settle_intents(cycle: Cycle, chunk: Sequence[Link]) -> list[Link]:
    """Open intents first: read both sides, and see what became of the write."""
    intents = cycle.store.intents([link.key for link in chunk])
    if not intents:
        return list(chunk)
    keys = {intent.link for intent in intents}
    fresh = {link.key: link for link in refresh(cycle, [link for link in chunk if link.key in keys])}
    unread = keys - fresh.keys()
    intents = [intent for intent in intents if intent.link not in unread]
    for intent in intents:
        link = fresh[intent.link]
        if intent.create and link.opportunity is None:
            continue  # the admission finds it by its referral id, or makes it again under the same id
        fresh[intent.link] = settle(link, intent)
        log.info("intent.settled", **ids(link), side=intent.side)
    cycle.store.commit(
        Transaction(
            links=list(fresh.values()),
            settled=[
                (item.link, item.side)
                for item in intents
                if not (item.create and fresh[item.link].opportunity is None)
            ],
        )
    )
    return [fresh.get(link.key, link) for link in chunk if link.key not in unread]


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
        gone = None
        if link.referral_id and referral is None:
            gone = Side.PARTNER_CENTER
        elif link.opportunity_id and opportunity is None:
            gone = Side.CRM
        read.append(
            replace(
                link,
                referral=referral or link.referral,
                opportunity=opportunity or link.opportunity,
                memory=replace(link.memory, gone=gone),
                dirty=True,
            )
        )
    return read


def note_gone(cycle: Cycle, links: Sequence[Link]) -> None:
    """A record vanished: the other side is left as it is, the pair is paused, and a person is asked.

    Of a deal that is over nobody need be asked: people tidy up.
    """
    writes, changed = [], []
    for link in links:
        reported = status_report(Decision(link), (), cycle.shape, cycle.now)
        over = link.referral is not None and state_of(link.referral) in TERMINAL
        state = SyncState.CLOSED if over else SyncState.NEEDS_ATTENTION
        memory = replace(reported.link.memory, sync_state=state)
        changed.append(replace(reported.link, memory=memory, due=None))
        if link.memory.gone is Side.PARTNER_CENTER and link.opportunity is not None and reported.fields:
            writes.append((changed[-1], reported.fields))
        cycle.collect(DealPlan(link))
        log.warning("deal.gone", **ids(link), side=link.memory.gone)
    if changed:
        cycle.store.commit(Transaction(links=changed))
    write_status(cycle, writes)


def complete(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Linked pairs of which one side has not been read yet."""
    partial = [link for link in links if link.referral is None or link.opportunity is None]
    if not partial:
        return list(links)
    read = {link.key: link for link in refresh(cycle, partial)}
    cycle.store.commit(Transaction(links=list(read.values())))
    note_gone(cycle, [link for link in read.values() if link.memory.gone is not None])
    whole = [read.get(link.key, link) for link in links]
    return [
        link
        for link in whole
        if link.memory.gone is None and link.referral is not None and link.opportunity is not None
    ]


def write_status(cycle: Cycle, writes: Sequence[tuple[Link, Fields]]) -> None:
    """Write nothing but our own words; where that fails too, ``deals list`` has to do."""
    batch = [
        (link, OpportunityWrite(link.opportunity, fields))
        for link, fields in writes
        if link.opportunity is not None and fields
    ]
    if not batch:
        return
    outcomes = cycle.crm.write([write for _, write in batch])
    landed = [
        replace(link, opportunity=outcome.snapshot)
        for (link, _), outcome in zip(batch, outcomes, strict=True)
        if outcome.error is None and outcome.snapshot is not None
    ]
    if landed:
        cycle.store.commit(Transaction(links=landed))
        cycle.counters.written[Side.CRM].update(link.key for link in landed)
