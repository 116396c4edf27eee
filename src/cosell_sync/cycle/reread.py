"""Looking again: open intents are settled, halves read, vanished records noted, words alone written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from cosell_sync.core.deal import Fields, Link, Side, SyncState
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.outcome import settle
from cosell_sync.core.reconcile import Decision, state_of
from cosell_sync.core.status import tell
from cosell_sync.cycle.context import Finding, Run, ids
from cosell_sync.ports import Memo, OpportunityWrite

log = structlog.get_logger("cosell_sync.cycle")


def settle_intents(run: Run, chunk: Sequence[Link]) -> list[Link]:
    """Open intents first: read both sides, and see what became of the write."""
    intents = run.world.store.intents([link.key for link in chunk])
    if not intents:
        return list(chunk)
    keys = {intent.link for intent in intents}
    fresh = {link.key: link for link in refresh(run, [link for link in chunk if link.key in keys])}
    unread = keys - fresh.keys()
    intents = [intent for intent in intents if intent.link not in unread]
    for intent in intents:
        link = fresh[intent.link]
        if intent.create and link.opportunity is None:
            continue  # the admission finds it by its referral id, or makes it again under the same id
        fresh[intent.link] = settle(link, intent)
        log.info("intent.settled", **ids(link), side=intent.side)
    run.world.store.remember(
        Memo(
            links=list(fresh.values()),
            settled=[
                (item.link, item.side)
                for item in intents
                if not (item.create and fresh[item.link].opportunity is None)
            ],
        )
    )
    return [fresh.get(link.key, link) for link in chunk if link.key not in unread]


def refresh(run: Run, links: Sequence[Link]) -> list[Link]:
    """Both sides of these links as they are now; those that could not be read just now are left out, and stay due."""
    referrals = run.world.referrals.fetch([link.referral_id for link in links if link.referral_id])
    opportunities = run.world.crm.fetch([link.opportunity_id for link in links if link.opportunity_id])
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


def note_gone(run: Run, links: Sequence[Link]) -> None:
    """A record vanished: the other side is left as it is, the pair is paused, and a person is asked.

    Of a deal that is over nobody need be asked: people tidy up.
    """
    writes, told = [], []
    for link in links:
        told_link = tell(Decision(link), (), run.shape, run.now)
        over = link.referral is not None and state_of(link.referral) in TERMINAL
        state = SyncState.CLOSED if over else SyncState.NEEDS_ATTENTION
        memory = replace(told_link.link.memory, sync_state=state)
        told.append(replace(told_link.link, memory=memory, due=None))
        if link.memory.gone is Side.PARTNER_CENTER and link.opportunity is not None and told_link.fields:
            writes.append((told[-1], told_link.fields))
        run.report(Finding(link))
        log.warning("deal.gone", **ids(link), side=link.memory.gone)
    if told:
        run.world.store.remember(Memo(links=told))
    tell_only(run, writes)


def complete(run: Run, links: Sequence[Link]) -> list[Link]:
    """Linked pairs of which one side has not been read yet."""
    partial = [link for link in links if link.referral is None or link.opportunity is None]
    if not partial:
        return list(links)
    read = {link.key: link for link in refresh(run, partial)}
    run.world.store.remember(Memo(links=list(read.values())))
    note_gone(run, [link for link in read.values() if link.memory.gone is not None])
    whole = [read.get(link.key, link) for link in links]
    return [
        link
        for link in whole
        if link.memory.gone is None and link.referral is not None and link.opportunity is not None
    ]


def tell_only(run: Run, writes: Sequence[tuple[Link, Fields]]) -> None:
    """Write nothing but our own words; where that fails too, ``deals list`` has to do."""
    batch = [
        (link, OpportunityWrite(link.opportunity, fields))
        for link, fields in writes
        if link.opportunity is not None and fields
    ]
    if not batch:
        return
    outcomes = run.world.crm.write([write for _, write in batch])
    landed = [
        replace(link, opportunity=outcome.snapshot)
        for (link, _), outcome in zip(batch, outcomes, strict=True)
        if outcome.error is None and outcome.snapshot is not None
    ]
    if landed:
        run.world.store.remember(Memo(links=landed))
        run.tally.written[Side.CRM].update(link.key for link in landed)
