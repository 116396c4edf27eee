"""Referrals without an opportunity: linked to what exists, skipped, held for a person, or made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from cosell_sync.core import losses, messages
from cosell_sync.core.deal import Customer, Side, SyncState, Value, state_of
from cosell_sync.core.decision import Decision, Effect, Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.intake import IntakeAction, IntakeDecision, Matches, decide_intake
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Action, Failure, Intent, Link, Memory, Phase
from cosell_sync.core.normalize import for_crm
from cosell_sync.core.outcome import after_create
from cosell_sync.core.retry import blocked_side, content_digest, freed
from cosell_sync.core.rules import CrmShape
from cosell_sync.core.status import status_report
from cosell_sync.cycle.commands import released
from cosell_sync.cycle.context import Cycle, DealPlan, PendingTransaction, failed, ids, journal_entry
from cosell_sync.cycle.reread import complete, note_gone, settle_intents
from cosell_sync.errors import Unclear
from cosell_sync.ports import MatchQuery, OpportunityDraft, OpportunityWrite, Transaction

log = structlog.get_logger("cosell_sync.cycle")


def take_in(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Referrals without an opportunity: linked, skipped, held or made. Returns the pairs that were linked."""
    waiting = [link for link in links if link.phase is Phase.WAITING and link.referral is not None]
    waiting = [
        link for link in waiting if blocked_side(link.memory, cycle.now) is not Side.CRM or _changed(link)
    ]
    named = [link for link in links if link.phase is Phase.WAITING and link.referral is None]
    joined = _join_named(cycle, named)
    found = cycle.crm.find([_sought(link, cycle.shape) for link in waiting]) if waiting else {}
    taken = cycle.store.by_opportunity([item.by_reference for item in found.values() if item.by_reference])
    created: list[tuple[Link, IntakeDecision]] = []
    linked: list[Link] = []
    for link in waiting:
        sighting = found.get(link.referral_id or "", Matches())
        holder = taken.get(sighting.by_reference or "")
        if holder is not None and holder.referral_id not in {None, link.referral_id}:
            sighting = replace(sighting, by_reference=None)
        verdict = decide_intake(link, sighting, cycle.rules, cycle.shape)
        match verdict.action:
            case IntakeAction.SKIP:
                cycle.store.commit(
                    Transaction(
                        links=[replace(link, phase=Phase.SKIPPED, dirty=False, due=None)],
                        settled=[(link.key, Side.CRM)],
                    )
                )
                log.debug("deal.skipped", **ids(link), reason=verdict.code)
            case IntakeAction.HOLD:
                hold(cycle, link, verdict)
            case IntakeAction.LINK:
                linked.append(_linked(cycle, link, verdict))
            case IntakeAction.CREATE:
                created.append((link, verdict))
    make_opportunities(cycle, created)
    return [*joined, *settle_intents(cycle, complete(cycle, linked))]


def _changed(link: Link) -> bool:
    failure = link.memory.failure
    return failure is not None and failure.seen != content_digest(link)


def _linked(cycle: Cycle, link: Link, verdict: IntakeDecision) -> Link:
    own = cycle.store.by_opportunity([verdict.opportunity_id or ""]).get(verdict.opportunity_id or "")
    log.info("deal.linked", **{**ids(link), "opportunity_id": verdict.opportunity_id}, by=verdict.code)
    paired = replace(
        link,
        phase=Phase.LINKED,
        opportunity_id=verdict.opportunity_id,
        opportunity=own.opportunity if own else None,
        memory=Memory(notices=(messages.linked(),)),
    )
    links = [paired] if own is None or own.key == link.key else [paired, released(own)]
    cycle.store.commit(
        Transaction(links=links, journal=[journal_entry(cycle, paired, Side.CRM, "link", verdict.code)])
    )
    return paired


def _join_named(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Opportunities that carry the id of a referral the store does not know (yet)."""
    named = {
        link.opportunity.text("referral_id"): link
        for link in links
        if link.opportunity and link.opportunity.text("referral_id")
    }
    rest = [replace(link, dirty=False, due=None) for link in links if link not in named.values()]
    if rest:
        cycle.store.commit(Transaction(links=rest))
    if not named:
        return []
    fetched = cycle.referrals.fetch(list(named))
    joined = []
    for referral_id, link in named.items():
        referral = fetched.get(referral_id)
        if referral is None:
            gone = replace(
                link,
                referral_id=referral_id,
                phase=Phase.LINKED,
                memory=replace(link.memory, gone=Side.PARTNER_CENTER),
            )
            note_gone(cycle, [gone])
        else:
            joined.append(
                replace(link, referral_id=referral_id, referral=referral, phase=Phase.LINKED, memory=Memory())
            )
    cycle.store.commit(Transaction(links=joined))
    return joined


def hold(cycle: Cycle, link: Link, verdict: IntakeDecision) -> None:
    """A referral that waits for a person; there is no record of its own to tell it on."""
    failure = Failure(Side.CRM, verdict.code, verdict.reason, cycle.now, seen=content_digest(link))
    news = link.memory.failure is None or link.memory.failure.text != failure.text
    memory = replace(
        link.memory,
        failure=failure if news else link.memory.failure,
        lookalikes=verdict.lookalikes,
        rejected=verdict.code != "lookalike",
        sync_state=SyncState.NEEDS_ATTENTION,
    )
    held = replace(link, memory=memory, dirty=False, due=None)
    journal = [journal_entry(cycle, held, Side.CRM, "hold", verdict.code)] if news else []
    cycle.store.commit(Transaction(links=[held], settled=[(link.key, Side.CRM)], journal=journal))
    if news:
        log.warning("deal.held", **ids(link), reason=verdict.code)
    for opportunity_id in verdict.lookalikes or (None,):
        kind = HoldKind.NEED if verdict.code == "lookalike" else HoldKind.CRM_CANNOT
        hold = Hold(kind, "", link.referral["name"] if link.referral else None, None, verdict.reason)
        cycle.collect(DealPlan(replace(held, opportunity_id=opportunity_id), holds=(hold,)))
    if news and verdict.lookalikes:
        mark_lookalikes(cycle, verdict.lookalikes, SyncState.NEEDS_ATTENTION.value, verdict.reason)


def mark_lookalikes(cycle: Cycle, ids: Sequence[str], state: str | None, message: str | None) -> None:
    """Say on a look-alike that a person must look, or take that back. Only our own fields are touched."""
    fields: dict[str, Value] = {
        name: item
        for name, item in (("sync_state", state), ("message", message))
        if name in cycle.shape.fields
    }
    known = cycle.crm.fetch(ids)
    writes = [OpportunityWrite(item, fields) for item in known.values() if item is not None]
    if writes and fields:
        cycle.crm.write(writes)


def make_opportunities(cycle: Cycle, admissions: Sequence[tuple[Link, IntakeDecision]]) -> None:
    drafts, links, reported, intents = [], [], [], []
    for link, admission in admissions:
        referral = link.referral
        if referral is None:
            continue
        memory = replace(freed(link.memory), carried_at=cycle.now.replace(microsecond=0), lookalikes=())
        fresh = replace(link, memory=memory)
        news = [messages.imported(referral.text("direction"))]
        news += losses.told([name for name in SHARED if name in admission.fields], referral, cycle.shape)
        if (state := state_of(referral)) in TERMINAL:
            news.append(messages.moved(state, referral.text("status_reason")))
        status = status_report(Decision(fresh), news, cycle.shape, cycle.now)
        fields = {**status.fields, **admission.fields}
        links.append(link)
        reported.append(status.link)
        drafts.append(OpportunityDraft(link.referral_id or "", fields))
        source = {**{name: referral[name] for name in SHARED}, "state": state_of(referral).value}
        intents.append(Intent(link.key, Side.CRM, True, "", fields, source, cycle.id, cycle.now))
        effects = tuple(
            Effect(Side.CRM, Action.CREATE, name, None, item, "new in Partner Center")
            for name, item in fields.items()
        )
        cycle.collect(DealPlan(link, effects=effects))
    if not drafts:
        return
    cycle.store.commit(Transaction(intents=intents))
    outcomes = cycle.crm.create(drafts)
    pending = PendingTransaction()
    forgotten: list[str] = []
    for link, after, draft, outcome in zip(links, reported, drafts, outcomes, strict=True):
        if outcome.error is None and outcome.snapshot is not None and link.referral is not None:
            made = after_create(after, draft.fields, outcome.snapshot, cycle.rules, state_of(link.referral))
            # somebody, or a flow, may have been there before it was read back
            made = replace(made, dirty=True)
            if "owner" in outcome.unheld:
                notices = (*made.memory.notices, messages.nobody_may_own())
                made = replace(made, memory=replace(made.memory, notices=notices))
            pending.links.append(made)
            pending.settled.append((link.key, Side.CRM))
            pending.journal.extend(
                journal_entry(cycle, made, Side.CRM, "create", "new in Partner Center", name, None, item)
                for name, item in draft.fields.items()
            )
            cycle.counters.created[Side.CRM] += 1
            forgotten.extend(link.memory.lookalikes)
            log.info("deal.created", **ids(made), side=Side.CRM)
        else:
            failed(cycle, link, Side.CRM, outcome.error or Unclear("no answer"), pending)
    cycle.store.commit(pending.build())
    if forgotten:
        mark_lookalikes(cycle, forgotten, None, None)


def _sought(link: Link, shape: CrmShape) -> MatchQuery:
    """What to look for, as the CRM would hold it."""
    referral = link.referral
    customer = for_crm("customer", referral["customer"], shape) if referral else None
    name = for_crm("name", referral["name"], shape) if referral else None
    return MatchQuery(
        referral_id=link.referral_id or "",
        external_reference=(referral.text("external_reference") or None) if referral else None,
        name=name if isinstance(name, str) else "",
        customer=customer if isinstance(customer, Customer) else Customer(),
    )
