"""One round over linked deals: Partner Center first, then the CRM, each write announced before and recorded after.

The CRM comes second because its record must tell what Partner Center really took; the second decision is made from what
landed. A record that turns out stale goes back to the caller, read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from cosell_sync.core import losses, messages, requirements, visibility
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, State, Step, Value, state_of
from cosell_sync.core.decision import Conflict, Decision, Effect
from cosell_sync.core.fields import KINDS, SELLER, SHARED
from cosell_sync.core.memory import Action, Intent, Link
from cosell_sync.core.normalize import same
from cosell_sync.core.outcome import after_failed_write, after_opportunity, after_referral
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import blocked_side, freed_from
from cosell_sync.core.status import StatusReport, conflict_text, status_report
from cosell_sync.cycle.context import (
    Cycle,
    DealPlan,
    PendingTransaction,
    effect_entry,
    ids,
    intent,
    journal_entry,
    record_failure,
)
from cosell_sync.cycle.reread import note_gone, refresh, write_status
from cosell_sync.errors import Stale, Unclear
from cosell_sync.ports import OpportunityWrite, Outcome, ReferralWrite, Transaction

log = structlog.get_logger("cosell_sync.cycle")


@dataclass(frozen=True)
class _ReferralResult:
    """What Partner Center took of one deal."""

    link: Link
    notices: tuple[str, ...] = ()
    state: State | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _CrmPlan:
    """The decision about the CRM and what the record shall say; written together."""

    decision: Decision
    status: StatusReport

    @property
    def fields(self) -> Fields:
        return {**self.status.fields, **self.decision.crm}


def sync_links(cycle: Cycle, links: Sequence[Link], *, last: bool) -> list[Link]:
    """Partner Center first, then the CRM. Returns the links that turned out stale, read again."""
    before = [decide(link, cycle.rules, cycle.shape, cycle.now) for link in links]
    carried, stale = write_referrals(cycle, [item for item in before if item.steps])
    chosen: list[_CrmPlan] = []
    for decision in before:
        if decision.link.key in stale:
            continue
        learned = carried.get(decision.link.key, _ReferralResult(decision.link))
        if learned.link.memory.gone is not None:
            note_gone(cycle, [learned.link])
            continue
        chosen.append(plan_crm(cycle, decision, learned))
    stale_too = write_opportunities(cycle, chosen)
    # what Partner Center took stays learned, though the CRM's record turned out stale
    latest = {item.link.key: item.link for item in before} | {key: item.link for key, item in carried.items()}
    again = [latest[key] for key in latest if key in stale | stale_too]
    if not again:
        return []
    if last:
        given_up = [
            after_failed_write(
                link,
                Side.CRM,
                Stale("changed again and again", code="stale"),
                cycle.now,
                cycle.settings.retry_policy,
            )
            for link in again
        ]
        cycle.counters.failed.update(link.key for link in given_up)
        cycle.store.commit(Transaction(links=given_up))
        return []
    read = refresh(cycle, again)
    cycle.store.commit(Transaction(links=read))
    note_gone(cycle, [link for link in read if link.memory.gone is not None])
    return [link for link in read if link.memory.gone is None]


def write_referrals(
    cycle: Cycle, decisions: Sequence[Decision]
) -> tuple[dict[str, _ReferralResult], set[str]]:
    """Announce, write, record. Returns what each link learned, and the keys of those that were stale."""
    if not decisions:
        return {}, set()
    batch = [
        ReferralWrite(item.link.referral, item.steps) for item in decisions if item.link.referral is not None
    ]
    cycle.store.commit(
        Transaction(
            links=[item.link for item in decisions], intents=[_announce(cycle, item) for item in decisions]
        )
    )
    outcomes = cycle.referrals.write(batch)
    carried: dict[str, _ReferralResult] = {}
    stale: set[str] = set()
    pending = PendingTransaction()
    for decision, outcome in zip(decisions, outcomes, strict=True):
        link = decision.link
        result = _record_referral_outcome(cycle, decision, outcome, pending)
        if isinstance(outcome.error, Stale):
            stale.add(link.key)
        carried[link.key] = result
    pending.links.extend(item.link for item in carried.values())
    cycle.store.commit(pending.build())
    return carried, stale


def _record_referral_outcome(
    cycle: Cycle, decision: Decision, outcome: Outcome, pending: PendingTransaction
) -> _ReferralResult:
    link, taken = decision.link, decision.steps[: outcome.steps]
    result = _ReferralResult(link)
    if taken and outcome.snapshot is not None:
        learned = after_referral(link, taken, outcome.snapshot, cycle.rules, cycle.shape)
        memory = replace(learned.link.memory, carried_at=cycle.now.replace(microsecond=0))
        link = replace(learned.link, memory=memory)
        result = _ReferralResult(
            link, learned.notices, learned.state, frozenset().union(*(step.fields for step in taken))
        )
        cycle.counters.written[Side.PARTNER_CENTER].add(link.key)
        for effect in decision.effects:
            if effect.side is Side.PARTNER_CENTER and _belongs(effect, taken):
                pending.journal.append(effect_entry(cycle, link, effect))
                if effect.action == "move":
                    log.info("deal.moved", **ids(link), side=Side.PARTNER_CENTER, state=effect.new)
    unread = outcome.steps > 0 and outcome.snapshot is None  # landed, but what it holds now must be looked up
    if not unread and not isinstance(outcome.error, Unclear):
        pending.settled.append((link.key, Side.PARTNER_CENTER))
    if outcome.error is not None and not isinstance(outcome.error, Stale):
        link = record_failure(cycle, link, Side.PARTNER_CENTER, outcome.error, pending)
        result = replace(result, link=link)
    return result


def plan_crm(cycle: Cycle, first: Decision, carried: _ReferralResult) -> _CrmPlan:
    """The decision about the CRM, made from what Partner Center holds now, and what the record shall say."""
    decision = decide(carried.link, cycle.rules, cycle.shape, cycle.now, carried.state)
    conflicts = [
        item
        for item in first.conflicts
        if item.kept is Side.CRM and item.field in carried.fields and item not in decision.conflicts
    ]
    down = [name for name in (*SHARED, "stage") if name in decision.crm]
    news = [*carried.notices, *decision.notices]
    news += [conflict_text(item, cycle.shape) for item in conflicts]
    news += [
        conflict_text(item, cycle.shape)
        for item in decision.conflicts
        if item.kept is not None and item.field in down
    ]
    if shared := [cycle.shape.label(name) for name in SHARED if name in decision.crm]:
        news.append(messages.took(shared))
    if carried.link.referral is not None:
        names = [name for name in SHARED if name in decision.crm]
        news += losses.told(names, carried.link.referral, cycle.shape)
    if down:
        memory = replace(decision.link.memory, carried_at=cycle.now.replace(microsecond=0))
        decision = replace(decision, link=replace(decision.link, memory=memory))
    decision = _name_conflicts(cycle, decision, [*conflicts, *decision.conflicts])
    status = status_report(
        replace(decision, link=_as_if_written(decision.link, cycle)), news, cycle.shape, cycle.now
    )
    # What follows only now (a sales stage after the accept) goes with the next cycle; an invitation follows at once.
    if decision.steps or _invites(cycle, status.link):
        status = replace(status, link=replace(status.link, dirty=True))
    effects = [effect for effect in first.effects if effect.side is Side.PARTNER_CENTER]
    effects += [effect for effect in decision.effects if effect.side is Side.CRM]
    opportunity = decision.link.opportunity
    effects += [
        Effect(
            Side.CRM,
            Action.REPORT,
            name,
            opportunity[name] if opportunity else None,
            item,
            "kept true on the record",
        )
        for name, item in status.fields.items()
    ]
    every = {conflict.field: conflict for conflict in (*first.conflicts, *decision.conflicts)}
    cycle.collect(DealPlan(decision.link, tuple(effects), tuple(every.values()), decision.holds))
    _remind(status, carried.link)
    return _CrmPlan(decision, status)


def _invites(cycle: Cycle, link: Link) -> bool:
    if link.opportunity is None or not requirements.asks_for_help(link.opportunity):
        return False
    fields = visibility.invitation(link, cycle.rules, cycle.shape, cycle.now.date())
    return fields is not None and blocked_side(link.memory, cycle.now) is not Side.PARTNER_CENTER


def _as_if_written(link: Link, cycle: Cycle) -> Link:
    """The record shall say what is true once this write has landed: then the CRM's failure with the deal is over."""
    if blocked_side(link.memory, cycle.now) is Side.CRM:
        return link
    return replace(link, memory=freed_from(link.memory, Side.CRM))


def _name_conflicts(cycle: Cycle, decision: Decision, conflicts: Sequence[Conflict]) -> Decision:
    """Count, journal and log each conflict once; what was named stays remembered while it stands."""
    named = {f"conflict:{item.field}:{item.referral!r}:{item.opportunity!r}": item for item in conflicts}
    marks = {_mark(text): item for text, item in named.items()}
    reported = decision.link.memory.reported
    journal = []
    for mark, conflict in marks.items():
        if mark in reported:
            continue
        cycle.counters.conflicts += 1
        log.warning(
            "deal.conflict",
            **ids(decision.link),
            field=cycle.rules.crm_name(conflict.field),
            kept=conflict.kept,
        )
        loser = Side.PARTNER_CENTER if conflict.kept is Side.CRM else Side.CRM
        lost, won = (
            (conflict.referral, conflict.opportunity)
            if loser is Side.PARTNER_CENTER
            else (conflict.opportunity, conflict.referral)
        )
        journal.append(
            journal_entry(cycle, decision.link, loser, "conflict", conflict.rule, conflict.field, lost, won)
        )
    kept = [mark for mark in reported if not mark.startswith("conflict:")]
    memory = replace(decision.link.memory, reported=(*kept, *marks))
    if journal:
        cycle.store.commit(Transaction(journal=journal))
    return replace(decision, link=replace(decision.link, memory=memory))


def _remind(status: StatusReport, link: Link) -> None:
    opportunity = link.opportunity
    if status.reminder and "message" in status.fields and opportunity is not None:
        log.warning("deal.reminder", **ids(link), reminder=status.reminder)


def write_opportunities(cycle: Cycle, second: Sequence[_CrmPlan]) -> set[str]:
    """Announce, write, record. Returns the keys of those that were stale."""
    pending = PendingTransaction()
    writing: list[_CrmPlan] = []
    for item in second:
        crm_closed = blocked_side(item.status.link.memory, cycle.now) is Side.CRM
        if item.fields and not crm_closed:
            writing.append(item)
        else:
            pending.links.append(item.status.link)
    pending.intents.extend(
        _announce_crm(cycle, item) for item in writing if item.decision.crm.keys() & {*SHARED, "stage"}
    )
    if pending.links or pending.intents:
        cycle.store.commit(pending.build())
    if not writing:
        return set()
    batch = [
        OpportunityWrite(item.status.link.opportunity, item.fields)
        for item in writing
        if item.status.link.opportunity is not None
    ]
    outcomes = cycle.crm.write(batch)
    pending, stale = PendingTransaction(), set()
    refused: list[tuple[Link, Decision]] = []
    for item, outcome in zip(writing, outcomes, strict=True):
        link = item.status.link
        if outcome.error is None and outcome.snapshot is not None and link.referral is not None:
            pending.links.append(_landed(cycle, item, outcome.snapshot, pending))
        elif isinstance(outcome.error, Stale):
            stale.add(link.key)
            pending.settled.append((link.key, Side.CRM))
        else:
            error = outcome.error or Unclear("no answer")
            if not isinstance(error, Unclear):
                pending.settled.append((link.key, Side.CRM))
            # part of it may have landed, words for the seller among it that are not true now
            held = replace(item.decision.link, opportunity=outcome.snapshot or link.opportunity)
            failing = record_failure(cycle, held, Side.CRM, error, pending)
            pending.links.append(failing)
            if failing.memory.failure is not None and not failing.memory.failure.transient:
                refused.append((failing, item.decision))
    cycle.store.commit(pending.build())
    report_refused(cycle, refused)
    return stale


def _landed(cycle: Cycle, item: _CrmPlan, after: Snapshot, pending: PendingTransaction) -> Link:
    link, referral, before = item.status.link, item.status.link.referral, item.status.link.opportunity
    if referral is None or before is None:
        return link
    learned = after_opportunity(link, item.decision.crm, after, cycle.rules, state_of(referral))
    meanwhile = _changed_meanwhile(before, item.fields, after)
    cycle.counters.written[Side.CRM].add(link.key)
    pending.settled.append((link.key, Side.CRM))
    for effect in item.decision.effects:
        if effect.side is Side.CRM:
            pending.journal.append(effect_entry(cycle, link, effect))
            if effect.action == "move":
                log.info("deal.moved", **ids(link), side=Side.CRM, state=effect.new)
    pending.journal.extend(
        journal_entry(cycle, link, Side.CRM, "tell", "kept true on the record", name, before[name], value)
        for name, value in item.status.fields.items()
        if name in {"sync_state", "message"}
    )
    return replace(learned, dirty=learned.dirty or meanwhile)


def report_refused(cycle: Cycle, refused: Sequence[tuple[Link, Decision]]) -> None:
    """The CRM refused a change: say so on the record, by a write of our own fields alone."""
    writes = []
    for link, decision in refused:
        status = status_report(replace(decision, link=link), (), cycle.shape, cycle.now)
        fields = {name: item for name, item in status.fields.items() if name in {"sync_state", "message"}}
        writes.append((status.link, fields))
    cycle.store.commit(Transaction(links=[link for link, _ in writes]))
    write_status(cycle, writes)


def _announce(cycle: Cycle, decision: Decision) -> Intent:
    link = decision.link
    fields: dict[str, Value] = {}
    for step in decision.steps:
        fields |= step.fields
        if step.state is not None:
            fields["state"] = step.state.value
    return intent(cycle, link, Side.PARTNER_CENTER, link.referral, fields, link.opportunity)


def _announce_crm(cycle: Cycle, item: _CrmPlan) -> Intent:
    link = item.status.link
    moment = {name: value for name, value in item.status.fields.items() if name == "last_sync"}
    return intent(cycle, link, Side.CRM, link.opportunity, {**item.decision.crm, **moment}, link.referral)


def _mark(text: str) -> str:
    """A conflict's mark without its values: marks are kept, values may be people's data."""
    name = text.split(":")[1]
    return f"conflict:{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _belongs(effect: Effect, taken: Sequence[Step]) -> bool:
    if effect.action == "move":
        return any(step.state is not None and step.state.value == effect.new for step in taken)
    return any(effect.field in step.fields for step in taken)


def _changed_meanwhile(before: Snapshot, sent: Fields, after: Snapshot) -> bool:
    """Whether the record holds something else than it should after our write: somebody, or a flow, was there too."""
    expected = {**before.fields, **sent}
    names = {*SHARED, *SELLER, "stage"}
    return any(not same(KINDS[name], expected.get(name, ABSENT), after[name]) for name in names)
