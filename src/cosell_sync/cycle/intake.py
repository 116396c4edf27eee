"""Takes in referrals without an opportunity: linked to what exists, skipped, held for a person, or made in the CRM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from cosell_sync.core import losses, messages, stand_ins
from cosell_sync.core.deal import (
    ABSENT,
    Customer,
    Fields,
    Side,
    Snapshot,
    State,
    SyncState,
    Value,
    state_of,
)
from cosell_sync.core.decision import Decision, Effect, Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.intake import IntakeAction, IntakeDecision, Matches, decide_intake
from cosell_sync.core.keys import referral_key
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Action, Failure, Link, Memory, Phase, released
from cosell_sync.core.normalize import for_crm
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import blocked_side, content_digest, freed
from cosell_sync.core.rules import CrmShape
from cosell_sync.core.status import StatusReport, next_reminder, reminders_passed, status_report
from cosell_sync.cycle import apply
from cosell_sync.cycle.context import Cycle, DealPlan, carried, ids
from cosell_sync.cycle.decide import settled_as_made
from cosell_sync.cycle.journal import journal_entry
from cosell_sync.cycle.opportunity_outcomes import opportunity_created
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.recover import settle_open_intents
from cosell_sync.cycle.report import RecordReport, report
from cosell_sync.cycle.reread import note_gone, still_present
from cosell_sync.ports import MatchQuery, OpportunityDraft, OpportunityWrite

REMINDED = "held_reminder:"  # in ``Memory.reported``: which reminder was given

log = structlog.get_logger("cosell_sync.cycle")


@dataclass(frozen=True)
class TakenIn:
    """What became of waiting links. ``pairs``: linked to what exists, both sides read. ``made``: with a new opportunity."""

    pairs: list[Link]
    made: list[Link]


def take_in(cycle: Cycle, links: Sequence[Link]) -> TakenIn:
    """Decide on each of these waiting links, and carry it out."""
    record = Record()
    named = [link for link in links if link.referral is None]
    joined = _join_named(cycle, record, named) if named else []
    verdicts, holders = _verdicts(cycle, [link for link in links if _may_be_taken_in(cycle, link)])
    for link, verdict in verdicts[IntakeAction.SKIP]:
        record.put(replace(link, phase=Phase.SKIPPED, dirty=False, due=None))
        record.settle(link, Side.CRM)
        log.debug("deal.skipped", **ids(link), reason=verdict.code)
    held = [each for link, each in verdicts[IntakeAction.HOLD] if _hold(cycle, record, link, each)]
    linked = _link_all(cycle, record, verdicts[IntakeAction.LINK], holders)
    made = _create(cycle, record, verdicts[IntakeAction.CREATE])
    commit(cycle.store, record)
    skipped = (link for link, _ in verdicts[IntakeAction.SKIP])
    done = {link.key for link in (*joined, *linked, *made, *skipped)}
    _remind(cycle, [link for link in links if link.key not in done])
    for verdict in held:
        _mark_lookalikes(cycle, verdict.lookalikes, SyncState.NEEDS_ATTENTION.value, verdict.reason)
    new = {link.key for link in made}
    _mark_lookalikes(
        cycle, [each for link in links if link.key in new for each in link.memory.lookalikes], None, None
    )
    return TakenIn([*joined, *linked], made)


def _remind(cycle: Cycle, links: Sequence[Link]) -> None:
    """Deals without a record could run out unseen: each is named as its deadline comes near, and looked at again then."""
    record = Record()
    for link in cycle.store.by_keys([each.key for each in links]).values():
        if link.phase is not Phase.WAITING or link.referral is None or link.memory.failure is None:
            continue
        state = state_of(link.referral)
        passed = reminders_passed(link.referral, state, cycle.now)
        coming = next_reminder(link.referral, state, cycle.now)
        memory = link.memory
        if passed and (key := f"{REMINDED}{passed}") not in memory.reported:
            log.warning("deal.reminder", **ids(link), reminder=passed)
            kept = [each for each in memory.reported if not each.startswith(REMINDED)]
            memory = replace(memory, reported=(*kept, key))
        # what failed because a system was away is due now, that is in the next cycle
        moments = [each for each in (coming, link.due) if each is not None and each >= cycle.now]
        again = replace(link, memory=memory, due=min(moments, default=None))
        if again != link:
            record.put(again)
    if record.links:
        commit(cycle.store, record)


def _may_be_taken_in(cycle: Cycle, link: Link) -> bool:
    """A referral that the CRM does not refuse just now; a change of the referral ends a refusal."""
    failure = link.memory.failure
    changed = failure is not None and failure.seen != content_digest(link)
    return link.referral is not None and (changed or blocked_side(link.memory, cycle.now) is not Side.CRM)


_Verdicts = Mapping[IntakeAction, Sequence[tuple[Link, IntakeDecision]]]


def _verdicts(cycle: Cycle, waiting: Sequence[Link]) -> tuple[_Verdicts, dict[str, Link]]:
    """What becomes of each referral; and by opportunity id the links of what the CRM found for them."""
    verdicts: dict[IntakeAction, list[tuple[Link, IntakeDecision]]] = {each: [] for each in IntakeAction}
    found = cycle.crm.find([_sought(link, cycle.shape) for link in waiting]) if waiting else {}
    opportunities = {
        each
        for item in found.values()
        for each in (item.by_referral, item.by_reference, *item.lookalikes)
        if each
    }
    holders = dict(cycle.store.by_opportunity(sorted(opportunities)))
    owners = {each: link.referral_id for each, link in holders.items() if link.referral_id}
    for link in sorted(waiting, key=_is_over):  # an open deal claims before one that is over
        matches = _unclaimed(found.get(link.referral_id or "", Matches()), link, owners)
        verdict = decide_intake(link, matches, cycle.rules, cycle.shape, cycle.now)
        if verdict.action is IntakeAction.LINK and verdict.opportunity_id and link.referral_id:
            owners[verdict.opportunity_id] = link.referral_id
        verdicts[verdict.action].append((link, verdict))
    return verdicts, holders


def _is_over(link: Link) -> bool:
    return link.referral is not None and state_of(link.referral) in TERMINAL


def _unclaimed(found: Matches, link: Link, owners: Mapping[str, str]) -> Matches:
    """Without the opportunities that belong to another referral, or were given to one earlier in this batch."""
    others = {each for each, owner in owners.items() if owner != link.referral_id}
    return replace(
        found,
        by_reference=None if found.by_reference in others else found.by_reference,
        lookalikes=tuple(each for each in found.lookalikes if each not in others),
        claimed=found.by_reference if found.by_reference in others else found.claimed,
    )


def _link_all(
    cycle: Cycle,
    record: Record,
    verdicts: Sequence[tuple[Link, IntakeDecision]],
    holders: dict[str, Link],
) -> list[Link]:
    """Link referrals to opportunities that exist; ``holders`` follows. Returns the pairs, both sides read."""
    linked: dict[str, Link] = {}
    for link, verdict in verdicts:
        opportunity = verdict.opportunity_id or ""
        own = holders.get(opportunity)
        linked.pop(own.key if own else "", None)
        linked[link.key] = holders[opportunity] = _link(cycle, record, link, verdict, own)
    if not linked:
        return []
    commit(cycle.store, record)
    return settle_open_intents(cycle, still_present(cycle, list(linked.values())))


def _link(cycle: Cycle, record: Record, link: Link, verdict: IntakeDecision, own: Link | None) -> Link:
    """``own``: the link that the opportunity has today, which gives it up."""
    log.info("deal.linked", **{**ids(link), "opportunity_id": verdict.opportunity_id}, by=verdict.code)
    paired = replace(
        link,
        phase=Phase.LINKED,
        opportunity_id=verdict.opportunity_id,
        opportunity=own.opportunity if own else None,
        memory=Memory(notices=(messages.linked(),)),
    )
    record.put(paired, *([released(own)] if own is not None and own.key != link.key else []))
    record.journal.append(journal_entry(cycle, paired, Side.CRM, Action.LINK, verdict.code))
    return paired


def _join_named(cycle: Cycle, record: Record, links: Sequence[Link]) -> list[Link]:
    """Opportunities that carry the id of a referral the store does not know (yet)."""
    named = {
        key: link
        for link in links
        if link.opportunity and (key := referral_key(link.opportunity["referral_id"]))
    }
    record.put(*(replace(link, dirty=False, due=None) for link in links if link not in named.values()))
    fetched = cycle.referrals.fetch(list(named)) if named else {}
    joined = []
    for referral_id, link in named.items():
        referral = fetched.get(referral_id)
        gone = None if referral else Side.PARTNER_CENTER
        memory = replace(link.memory, gone=gone) if gone else Memory()
        joined.append(
            replace(link, referral_id=referral_id, referral=referral, phase=Phase.LINKED, memory=memory)
        )
    found = [link for link in joined if link.memory.gone is None]
    record.put(*found)
    note_gone(cycle, record, joined)
    return found


def _hold(cycle: Cycle, record: Record, link: Link, verdict: IntakeDecision) -> bool:
    """A referral that waits for a person; there is no record of its own to say so on. Whether that is news."""
    failure = Failure(Side.CRM, verdict.code, verdict.reason, cycle.now, seen=content_digest(link))
    news = link.memory.failure is None or link.memory.failure.text != failure.text
    memory = replace(
        link.memory,
        failure=failure if news else link.memory.failure,
        lookalikes=verdict.lookalikes,
        claimed=verdict.opportunity_id or "",
        rejected=verdict.code != "lookalike",
        sync_state=SyncState.NEEDS_ATTENTION,
    )
    held = replace(link, memory=memory, dirty=False, due=None)
    record.put(held)
    record.settle(held, Side.CRM)
    if news:
        record.journal.append(journal_entry(cycle, held, Side.CRM, Action.HOLD, verdict.code))
        log.warning("deal.held", **ids(link), reason=verdict.code)
    for opportunity_id in verdict.lookalikes or (None,):
        kind = HoldKind.NEED if verdict.code == "lookalike" else HoldKind.CRM_CANNOT
        hold = Hold(kind, "", link.referral["name"] if link.referral else None, None, verdict.reason)
        cycle.collect(DealPlan(replace(held, opportunity_id=opportunity_id), holds=(hold,)))
    return news


def _mark_lookalikes(cycle: Cycle, ids: Sequence[str], state: str | None, message: str | None) -> None:
    """Say on look-alikes that a person must look, or take that back. Their links, if any, see it at the next pull."""
    fields: dict[str, Value] = {
        name: item
        for name, item in (("sync_state", state), ("message", message and cycle.language.say(message)))
        if name in cycle.shape.fields
    }
    known = cycle.crm.fetch(ids) if ids and fields else {}
    if known:
        apply.write_status(cycle, [OpportunityWrite(item, fields) for item in known.values() if item])


def _create(cycle: Cycle, record: Record, admissions: Sequence[tuple[Link, IntakeDecision]]) -> list[Link]:
    """Make the opportunities. Returns the links of those that were made."""
    if not admissions:
        return []
    drafted = [(link, *_draft(cycle, link, each)) for link, each in admissions if link.referral is not None]
    new: list[Link] = []
    held: list[RecordReport] = []
    outcomes = apply.create_opportunities(
        cycle, record, [(link, draft, source) for link, draft, source, _ in drafted]
    )
    for (link, draft, _, status), outcome in zip(drafted, outcomes, strict=True):
        made = opportunity_created(cycle, record, link, status.link, draft.fields, outcome)
        if made is not None:
            if status.reminder:
                log.warning("deal.reminder", **ids(made), reminder=status.reminder)
            if "owner" in outcome.unheld:
                notices = (*made.memory.notices, messages.nobody_may_own())
                made = replace(made, memory=replace(made.memory, notices=notices))
            settled = settled_as_made(cycle, made)
            record.put(settled)
            new.append(settled)
            if made.memory.refused:
                held.append(_held_parts(cycle, settled))
    if held:
        report(cycle, record, held)
    return new


def _draft(
    cycle: Cycle, link: Link, admission: IntakeDecision
) -> tuple[OpportunityDraft, Fields, StatusReport]:
    """What the opportunity is made with, what Partner Center holds of it, and what the record is to say."""
    referral = link.referral
    assert referral is not None  # noqa: S101 - the caller has looked
    state = state_of(referral)
    memory = replace(freed(link.memory), lookalikes=(), claimed="", stand_ins=admission.stand_ins)
    fresh = carried(cycle, replace(link, memory=memory))
    news: list[str] = [messages.imported(referral.text("direction"))]
    taken = [name for name in SHARED if name in admission.fields and name not in admission.stand_ins]
    news += losses.lost_in_crm(taken, referral, admission.fields, cycle.shape)
    if state in TERMINAL:
        news.append(messages.moved(state, referral.text("status_reason")))
    holds = _holds_of_new(cycle, referral, admission)
    status = status_report(Decision(fresh, holds=holds), news, cycle.shape, cycle.now, cycle.language)
    fields = {**status.fields, **admission.fields}
    source = {**{name: referral[name] for name in SHARED}, "state": state.value}
    source |= stand_ins.as_source(admission.stand_ins, referral)
    if cycle.collects:
        rule = "new in Partner Center"
        effects = (Effect(Side.CRM, Action.CREATE, name, None, item, rule) for name, item in fields.items())
        cycle.collect(DealPlan(link, effects=tuple(effects), holds=holds))
    draft = OpportunityDraft(link.referral_id or "", fields, referral.text("location") or None)
    return draft, source, status


def _holds_of_new(cycle: Cycle, referral: Snapshot, admission: IntakeDecision) -> tuple[Hold, ...]:
    """What the record says from its first cycle on, as every later decision would: stand-ins, a status that is not known."""
    if state_of(referral) in TERMINAL:
        return ()
    shape = cycle.shape.of_currency(referral.text("currency"))
    found = stand_ins.holds(admission.stand_ins, referral, admission.fields, cycle.rules, shape)
    if state_of(referral) is State.UNKNOWN:
        text = messages.unknown_state(referral.text("status_text"))
        stage = admission.fields.get("stage", ABSENT)
        found.append(Hold(HoldKind.UNKNOWN_STATE, "status", referral["status_text"], stage, text))
    return tuple(found)


def _held_parts(cycle: Cycle, made: Link) -> RecordReport:
    """What a new record is to say of the fields that it did not take."""
    decision = decide(made, cycle.rules, cycle.shape, cycle.now)
    status = status_report(decision, (), cycle.shape, cycle.now, cycle.language)
    return RecordReport(replace(status.link, dirty=made.dirty), status.fields)


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
