"""Records what the CRM took: fields of a decision, a new opportunity, our own fields on the record.

A write that landed moves the base and clears its intent, one that was refused is a failure with a next attempt, one without
an answer leaves its intent open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, state_of
from cosell_sync.core.fields import KINDS, SELLER, SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Action, Link, Memory
from cosell_sync.core.normalize import same
from cosell_sync.core.outcome import after_create, after_opportunity
from cosell_sync.core.refusals import without
from cosell_sync.cycle.context import CrmPlan, Cycle, ids
from cosell_sync.cycle.failures import deal_error, failure, fields_refused, waiting_for_a_person
from cosell_sync.cycle.journal import (
    STATUS_WORDS,
    effect_entry,
    journal_entry,
    record_effects,
    status_effects,
)
from cosell_sync.cycle.record import Record
from cosell_sync.errors import RecordError, Stale, Unclear
from cosell_sync.ports import Outcome

log = structlog.get_logger("cosell_sync.cycle")


def opportunity_outcome(cycle: Cycle, record: Record, plan: CrmPlan, outcome: Outcome) -> Link:
    """What the CRM took of a plan. A stale one is not recorded, for the caller reads and decides it again."""
    link = plan.status.link
    failed = deal_error(plan.decision.link, Side.CRM, plan.decision.crm, outcome)
    if failed is None and outcome.snapshot is not None and link.referral is not None:
        landed = _opportunity_landed(cycle, record, plan, outcome, outcome.snapshot)
        record.put(landed)
        return landed
    error = outcome.error or Unclear("no answer")
    if not isinstance(error, Unclear):
        record.settle(link, Side.CRM)
    if isinstance(error, Stale):
        return link
    # part of it may have landed, words for the seller among it that are not true now
    read = replace(plan.decision.link, opportunity=outcome.snapshot or link.opportunity)
    failing = failure(cycle, record, read, Side.CRM, error, outcome.refused)
    record.put(failing)
    return failing


def _opportunity_landed(
    cycle: Cycle, record: Record, plan: CrmPlan, outcome: Outcome, after: Snapshot
) -> Link:
    link, before, refused = plan.status.link, plan.status.link.opportunity, outcome.refused
    if before is None or link.referral is None:
        return link
    sent, state = plan.decision.crm, state_of(link.referral)
    landed = [name for name in (*SHARED, "stage") if name in without(sent, refused)]
    link = replace(link, memory=replace(link.memory, **_told(plan, before, refused, landed, cycle.now)))
    if "stage" in refused:  # the move failed before, perhaps: its attempts go on being counted
        link = replace(link, memory=replace(link.memory, **_failing(plan.decision.link.memory)))
    learned = after_opportunity(link, sent, after, cycle.rules, state, refused)
    if outcome.account_made is not None:
        learned = replace(learned, memory=replace(learned.memory, account_made=outcome.account_made))
    learned = _shared_emails(learned, outcome.ambiguous)
    learned = fields_refused(cycle, record, learned, Side.CRM, sent, refused)
    if landed or not refused:
        cycle.counters.written[Side.CRM].add(link.key)
    record.settle(link, Side.CRM)
    effects = [effect for effect in plan.decision.effects if effect.side is Side.CRM]
    record_effects(cycle, record, link, [effect for effect in effects if effect.field not in refused])
    words = {name: value for name, value in plan.status.fields.items() if name in STATUS_WORDS}
    words = {name: value for name, value in words.items() if same(KINDS[name], value, after[name])}
    record.journal += [effect_entry(cycle, link, effect) for effect in status_effects(before, words)]
    learned = replace(
        learned, dirty=learned.dirty or _changed_meanwhile(before, without(plan.fields, refused), after)
    )
    if "stage" in refused:
        return failure(cycle, record, learned, Side.CRM, refused["stage"])
    return learned


def _failing(memory: Memory) -> dict[str, Any]:
    """What a memory knows of a failure, to be put into another one."""
    names = ("failure", "attempts", "parked", "next_attempt")
    return {name: getattr(memory, name) for name in names}


def _told(
    plan: CrmPlan, before: Snapshot, refused: Mapping[str, RecordError], landed: Sequence[str], now: datetime
) -> dict[str, Any]:
    """What is to be said of a write, now that it is known what of it landed; empty where all did, as was foreseen."""
    if not refused and not plan.decision.retried_in_crm:
        return {}
    news = tuple(dict.fromkeys(plan.news(refused.keys())))
    return {
        "notices": news or plan.decision.link.memory.notices,
        "carried_at": now.replace(microsecond=0) if landed else before.moment("last_sync"),
    }


def _shared_emails(link: Link, emails: frozenset[str]) -> Link:
    """Tell the seller once, with the next words on the record, of e-mails that several users of the CRM share."""
    keys = {f"shared_email:{hashlib.sha256(each.encode()).hexdigest()[:12]}": each for each in sorted(emails)}
    fresh = {key: each for key, each in keys.items() if key not in link.memory.reported}
    if not fresh:
        return link
    notices = (*link.memory.notices, messages.shared_emails(fresh.values()))
    reported = (*link.memory.reported, *fresh)
    return replace(link, memory=replace(link.memory, notices=notices, reported=reported), dirty=True)


def _changed_meanwhile(before: Snapshot, sent: Fields, after: Snapshot) -> bool:
    """Whether the record holds something else than it should after our write: somebody, or a flow, was there too."""
    expected = {**before.fields, **sent}
    names = {*SHARED, *SELLER, "stage"}
    return any(not same(KINDS[name], expected.get(name, ABSENT), after[name]) for name in names)


def opportunity_created(
    cycle: Cycle, record: Record, link: Link, reported: Link, fields: Fields, outcome: Outcome
) -> Link | None:
    """A referral became an opportunity; None where that failed. ``reported``: the link with what the record says of it."""
    if outcome.error is not None or outcome.snapshot is None or link.referral is None:
        error = outcome.error or Unclear("no answer")
        if not isinstance(error, Unclear):
            record.settle(link, Side.CRM)
        failing = waiting_for_a_person(cycle, failure(cycle, record, link, Side.CRM, error))
        record.put(replace(failing, dirty=False, due=failing.memory.next_attempt))
        return None
    refused = outcome.refused
    made = after_create(
        reported,
        fields,
        outcome.snapshot,
        cycle.rules,
        state_of(link.referral),
        refused,
        account_made=outcome.account_made,
    )
    made = _shared_emails(made, outcome.ambiguous)
    made = fields_refused(cycle, record, made, Side.CRM, fields, refused)
    record.settle(link, Side.CRM)
    record.journal += [
        journal_entry(cycle, made, Side.CRM, Action.CREATE, "new in Partner Center", name, None, value)
        for name, value in without(fields, refused).items()
    ]
    cycle.counters.created[Side.CRM] += 1
    log.info("deal.created", **ids(made), side=Side.CRM)
    return made


def status_outcome(
    cycle: Cycle, record: Record, link: Link, before: Snapshot, fields: Fields, outcome: Outcome
) -> bool:
    """Whether our own fields stand on the record now; then that is recorded."""
    if outcome.error is not None or outcome.snapshot is None:
        return False
    cycle.counters.written[Side.CRM].add(link.key)
    words = {name: value for name, value in fields.items() if name in STATUS_WORDS}
    record.journal += [effect_entry(cycle, link, effect) for effect in status_effects(before, words)]
    record.put(replace(link, opportunity=outcome.snapshot))
    return True
