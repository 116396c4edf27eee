"""Referrals without an opportunity: linked to what exists, skipped, held for a person, or made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import (
    SHARED,
    Customer,
    Intent,
    Link,
    Memory,
    Phase,
    Side,
    SyncState,
    Trouble,
    Value,
)
from cosell_sync.core.intake import Admission, Found, Verdict, admit
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.outcome import after_create
from cosell_sync.core.reconcile import Decision, Effect, Hold, HoldKind, blocked, content, state_of
from cosell_sync.core.retry import freed
from cosell_sync.core.status import tell
from cosell_sync.cycle.commands import released
from cosell_sync.cycle.context import Finding, Remembering, Run, entry, failed, ids
from cosell_sync.cycle.reread import complete, note_gone, settle_intents
from cosell_sync.errors import Unclear
from cosell_sync.ports import Memo, OpportunityDraft, OpportunityWrite, Sought

log = structlog.get_logger("cosell_sync.cycle")


def introduce(run: Run, links: Sequence[Link]) -> list[Link]:
    """Referrals without an opportunity: linked, skipped, held or made. Returns the pairs that were linked."""
    waiting = [link for link in links if link.phase is Phase.WAITING and link.referral is not None]
    waiting = [link for link in waiting if blocked(link.memory, run.now) is not Side.CRM or _changed(link)]
    named = [link for link in links if link.phase is Phase.WAITING and link.referral is None]
    joined = _join_named(run, named)
    found = run.world.crm.find([_sought(link) for link in waiting]) if waiting else {}
    taken = run.world.store.by_opportunity(
        [item.by_reference for item in found.values() if item.by_reference]
    )
    created: list[tuple[Link, Admission]] = []
    linked: list[Link] = []
    for link in waiting:
        sighting = found.get(link.referral_id or "", Found())
        holder = taken.get(sighting.by_reference or "")
        if holder is not None and holder.referral_id not in {None, link.referral_id}:
            sighting = replace(sighting, by_reference=None)
        verdict = admit(link, sighting, run.world.rules, run.shape)
        match verdict.verdict:
            case Verdict.SKIP:
                run.world.store.remember(
                    Memo(
                        links=[replace(link, phase=Phase.SKIPPED, dirty=False, due=None)],
                        settled=[(link.key, Side.CRM)],
                    )
                )
                log.debug("deal.skipped", **ids(link), reason=verdict.code)
            case Verdict.HOLD:
                hold(run, link, verdict)
            case Verdict.LINK:
                linked.append(_linked(run, link, verdict))
            case Verdict.CREATE:
                created.append((link, verdict))
    make_opportunities(run, created)
    return [*joined, *settle_intents(run, complete(run, linked))]


def _changed(link: Link) -> bool:
    trouble = link.memory.trouble
    return trouble is not None and trouble.seen != content(link)


def _linked(run: Run, link: Link, verdict: Admission) -> Link:
    own = run.world.store.by_opportunity([verdict.opportunity_id or ""]).get(verdict.opportunity_id or "")
    log.info("deal.linked", **{**ids(link), "opportunity_id": verdict.opportunity_id}, by=verdict.code)
    paired = replace(
        link,
        phase=Phase.LINKED,
        opportunity_id=verdict.opportunity_id,
        opportunity=own.opportunity if own else None,
        memory=Memory(notices=(messages.linked(),)),
    )
    links = [paired] if own is None or own.key == link.key else [paired, released(own)]
    run.world.store.remember(Memo(links=links, journal=[entry(run, paired, Side.CRM, "link", verdict.code)]))
    return paired


def _join_named(run: Run, links: Sequence[Link]) -> list[Link]:
    """Opportunities that carry the id of a referral the store does not know (yet)."""
    named = {
        link.opportunity.text("referral_id"): link
        for link in links
        if link.opportunity and link.opportunity.text("referral_id")
    }
    rest = [replace(link, dirty=False, due=None) for link in links if link not in named.values()]
    if rest:
        run.world.store.remember(Memo(links=rest))
    if not named:
        return []
    fetched = run.world.referrals.fetch(list(named))
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
            note_gone(run, [gone])
        else:
            joined.append(
                replace(link, referral_id=referral_id, referral=referral, phase=Phase.LINKED, memory=Memory())
            )
    run.world.store.remember(Memo(links=joined))
    return joined


def hold(run: Run, link: Link, verdict: Admission) -> None:
    """A referral that waits for a person; there is no record of its own to tell it on."""
    trouble = Trouble(Side.CRM, verdict.code, verdict.reason, run.now, seen=content(link))
    news = link.memory.trouble is None or link.memory.trouble.text != trouble.text
    memory = replace(
        link.memory,
        trouble=trouble if news else link.memory.trouble,
        lookalikes=verdict.lookalikes,
        rejected=verdict.code != "lookalike",
        sync_state=SyncState.NEEDS_ATTENTION,
    )
    held = replace(link, memory=memory, dirty=False, due=None)
    journal = [entry(run, held, Side.CRM, "hold", verdict.code)] if news else []
    run.world.store.remember(Memo(links=[held], settled=[(link.key, Side.CRM)], journal=journal))
    if news:
        log.warning("deal.held", **ids(link), reason=verdict.code)
    for opportunity_id in verdict.lookalikes or (None,):
        kind = HoldKind.NEED if verdict.code == "lookalike" else HoldKind.CRM_CANNOT
        hold = Hold(kind, "", link.referral["name"] if link.referral else None, None, verdict.reason)
        run.report(Finding(replace(held, opportunity_id=opportunity_id), holds=(hold,)))
    if news and verdict.lookalikes:
        mark_lookalikes(run, verdict.lookalikes, SyncState.NEEDS_ATTENTION.value, verdict.reason)


def mark_lookalikes(run: Run, ids: Sequence[str], state: str | None, message: str | None) -> None:
    """Say on a look-alike that a person must look, or take that back. Only our own fields are touched."""
    fields: dict[str, Value] = {
        name: item for name, item in (("sync_state", state), ("message", message)) if name in run.shape.fields
    }
    known = run.world.crm.fetch(ids)
    writes = [OpportunityWrite(item, fields) for item in known.values() if item is not None]
    if writes and fields:
        run.world.crm.write(writes)


def make_opportunities(run: Run, admissions: Sequence[tuple[Link, Admission]]) -> None:
    drafts, links, told_links, intents = [], [], [], []
    for link, admission in admissions:
        referral = link.referral
        if referral is None:
            continue
        memory = replace(freed(link.memory), carried_at=run.now.replace(microsecond=0), lookalikes=())
        fresh = replace(link, memory=memory)
        news = [messages.imported(referral.text("direction"))]
        if (state := state_of(referral)) in TERMINAL:
            news.append(messages.moved(state, referral.text("status_reason")))
        told = tell(Decision(fresh), news, run.shape, run.now)
        fields = {**told.fields, **admission.fields}
        links.append(link)
        told_links.append(told.link)
        drafts.append(OpportunityDraft(link.referral_id or "", fields))
        source = {**{name: referral[name] for name in SHARED}, "state": state_of(referral).value}
        intents.append(Intent(link.key, Side.CRM, True, "", fields, source, run.id, run.now))
        effects = tuple(
            Effect(Side.CRM, "create", name, None, item, "new in Partner Center")
            for name, item in fields.items()
        )
        run.report(Finding(link, effects=effects))
    if not drafts:
        return
    run.world.store.remember(Memo(intents=intents))
    outcomes = run.world.crm.create(drafts)
    memo = Remembering()
    forgotten: list[str] = []
    for link, told_link, draft, outcome in zip(links, told_links, drafts, outcomes, strict=True):
        if outcome.error is None and outcome.snapshot is not None and link.referral is not None:
            made = after_create(
                told_link, draft.fields, outcome.snapshot, run.world.rules, state_of(link.referral)
            )
            # somebody, or a flow, may have been there before it was read back
            made = replace(made, dirty=True)
            memo.links.append(made)
            memo.settled.append((link.key, Side.CRM))
            memo.journal.extend(
                entry(run, made, Side.CRM, "create", "new in Partner Center", name, None, item)
                for name, item in draft.fields.items()
            )
            run.tally.created[Side.CRM] += 1
            forgotten.extend(link.memory.lookalikes)
            log.info("deal.created", **ids(made), side=Side.CRM)
        else:
            failed(run, link, Side.CRM, outcome.error or Unclear("no answer"), memo)
    run.world.store.remember(memo.memo())
    if forgotten:
        mark_lookalikes(run, forgotten, None, None)


def _sought(link: Link) -> Sought:
    referral = link.referral
    customer = referral["customer"] if referral else None
    return Sought(
        referral_id=link.referral_id or "",
        external_reference=(referral.text("external_reference") or None) if referral else None,
        name=referral.text("name") if referral else "",
        customer=customer if isinstance(customer, Customer) else Customer(),
    )
