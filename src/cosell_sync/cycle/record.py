"""Records what a cycle learned: links, cleared intents, journal lines, counters and log events.

A ``Record`` collects what belongs together; ``commit`` stores it in one transaction and is the only place that does. The
functions between say what the outcome of a write means: a write that landed moves the base and clears its intent, one
that was refused is a failure with a next attempt, one without an answer leaves its intent open. They are pure but for
counters and log events, so several outcomes, and the intents of the writes that follow, share a transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from cosell_sync.core import messages
from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, Step, SyncState, Value, state_of
from cosell_sync.core.decision import Conflict, Decision, Effect
from cosell_sync.core.fields import KINDS, SELLER, SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import (
    Action,
    FinalStepTaken,
    Intent,
    Invitation,
    JournalEntry,
    Link,
    Memory,
    Phase,
)
from cosell_sync.core.normalize import same
from cosell_sync.core.outcome import after_create, after_failed_write, after_opportunity, after_referral
from cosell_sync.core.refusals import MOVES, is_failure, is_refusal, remember_refused, without
from cosell_sync.core.retry import freed_from
from cosell_sync.core.status import LOCK_GRACE
from cosell_sync.core.visibility import invited
from cosell_sync.cycle.context import CrmPlan, Cycle, ReferralResult, ids
from cosell_sync.errors import Gone, RecordError, Rejected, Stale, Unclear
from cosell_sync.ports import CycleState, Identity, Outcome, Store, Transaction

STATUS_RULE = "tells the seller how the deal stands"
STATUS_WORDS = (
    "sync_state",
    "message",
)  # what a person reads on the record; the rest of our fields are facts

log = structlog.get_logger("cosell_sync.cycle")


@dataclass
class Record:
    """What is to be stored at one moment. Of several versions of a link the last one counts."""

    links: dict[str, Link] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    settled: list[tuple[str, Side]] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)
    watermarks: dict[str, str] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    state: CycleState | None = None
    final: list[FinalStepTaken] = field(default_factory=list)
    bindings: dict[Side, Identity] = field(default_factory=dict)
    unread: list[Side] = field(default_factory=list)
    verdicts: dict[Capability, Verdict] = field(default_factory=dict)
    forgotten: list[Capability] = field(default_factory=list)
    looked_at: Sequence[str] = ()
    looked_until: datetime | None = None

    def put(self, *links: Link) -> None:
        """Store these links as they are now."""
        self.links.update({link.key: link for link in links})

    def settle(self, link: Link, side: Side) -> None:
        """Clear the intent of this link and side, if there is one."""
        self.settled.append((link.key, side))

    def take(self) -> Transaction:
        """All of it as one transaction; the record is empty from then on, so nothing is stored twice."""
        whole = Transaction(
            links=[*self.links.values()],
            intents=self.intents,
            settled=self.settled,
            journal=self.journal,
            watermarks=self.watermarks,
            completed=self.completed,
            state=self.state,
            final=self.final,
            bindings=self.bindings,
            unread=self.unread,
            verdicts=[*self.verdicts.values()],
            forgotten=self.forgotten,
            looked_at=self.looked_at,
            looked_until=self.looked_until,
        )
        vars(self).update(vars(Record()))
        return whole


def commit(store: Store, record: Record) -> None:
    """Store it and empty it; nothing is done where it is empty. Raises Fenced and Unavailable."""
    if record != Record():
        store.commit(record.take())


def keep_state(cycle: Cycle, record: Record, **changes: Any) -> None:
    """Let the next cycle find these fields of ``CycleState``; stored with the record."""
    record.state = cycle.state = replace(cycle.state, **changes)


# --- journal -------------------------------------------------------------------------------------------------------


def journal_entry(
    cycle: Cycle,
    link: Link,
    side: Side,
    action: Action,
    rule: str,
    name: str | None = None,
    old: Value = None,
    new: Value = None,
) -> JournalEntry:
    """One line of the journal, of this cycle and moment."""
    return JournalEntry(link.key, cycle.id, cycle.now, side, action, name, old, new, rule)


def effect_entry(cycle: Cycle, link: Link, effect: Effect) -> JournalEntry:
    """The journal line of something that was written."""
    return journal_entry(
        cycle, link, effect.side, effect.action, effect.rule, effect.field, effect.old, effect.new
    )


def status_effects(before: Snapshot | None, fields: Fields) -> tuple[Effect, ...]:
    """Our own fields on the record as effects, for the plan and the journal."""
    return tuple(
        Effect(Side.CRM, Action.REPORT, name, before[name] if before else None, value, STATUS_RULE)
        for name, value in fields.items()
    )


def carried(cycle: Cycle, link: Link) -> Link:
    """The link, with this cycle as the last one that carried something (``last_sync`` on the record)."""
    return replace(link, memory=replace(link.memory, carried_at=cycle.now.replace(microsecond=0)))


# --- writes to Partner Center ----------------------------------------------------------------------------------------


def referral_outcome(
    cycle: Cycle, record: Record, decision: Decision, outcome: Outcome, taken: Sequence[Step]
) -> ReferralResult:
    """What Partner Center took of the steps of a decision. ``taken``: the steps that landed, with what it holds of them."""
    outcome = _without_trials(decision, outcome)
    link, refused = decision.link, outcome.refused
    result = ReferralResult(link)
    if taken and outcome.snapshot is not None:
        learned = after_referral(link, tuple(taken), outcome.snapshot, cycle.rules, cycle.shape, refused)
        link = learned.link
        fields = frozenset(without(_fields_of(taken), refused))
        if fields or learned.state is not None:
            link = carried(cycle, link)
            cycle.counters.written[Side.PARTNER_CENTER].add(link.key)
        result = ReferralResult(link, learned.notices, learned.state, fields)
        effects = [effect for effect in decision.effects if effect.side is Side.PARTNER_CENTER]
        effects = [effect for effect in effects if effect.field not in refused]
        _written(cycle, record, link, [effect for effect in effects if _is_of(effect, taken)])
    tried = decision.steps[
        : outcome.steps + 1
    ]  # what is refused is of the steps that landed, or of the next one
    sent = _fields_of(tried)
    failed = _failed(decision.link, Side.PARTNER_CENTER, {**sent, **_moves_of(tried)}, outcome)
    if taken or (refused and failed is None):
        landed = _fields_of(taken)
        known = {name: value for name, value in sent.items() if name in landed or name in refused}
        link = fields_refused(cycle, record, link, Side.PARTNER_CENTER, known, refused)
        result = replace(result, link=link)
    unread = outcome.steps > 0 and outcome.snapshot is None  # landed, but what it holds now must be looked up
    if not unread and not isinstance(outcome.error, Unclear):
        record.settle(link, Side.PARTNER_CENTER)
    if isinstance(outcome.error, Stale):
        result = replace(result, stale=True)
    elif error := failed or refused.get("status"):
        about = refused if failed and not taken else ()
        failing = failure(cycle, record, link, Side.PARTNER_CENTER, error, about)
        result = replace(result, link=failing)
    record.put(result.link)
    return result


def _fields_of(steps: Sequence[Step]) -> Fields:
    fields: dict[str, Value] = {}
    for step in steps:
        fields |= step.fields
    return fields


def _moves_of(steps: Sequence[Step]) -> Fields:
    moves = [step.state.value for step in steps if step.state is not None]
    return {"status": moves[-1]} if moves else {}


def _failed(link: Link, side: Side, sent: Fields, outcome: Outcome) -> RecordError | None:
    """Why the deal itself failed; None where nothing did, or only fields that are held while the rest goes on."""
    of_fields = any(outcome.error is error for error in outcome.refused.values())
    if of_fields and not is_failure(link, side, sent, outcome.refused, outcome.snapshot):
        return None
    return outcome.error


def _without_trials(decision: Decision, outcome: Outcome) -> Outcome:
    """The outcome less the refusals that only answered a question (``cycle.capabilities``)."""
    answered = {name for step in decision.steps[: outcome.steps] if step.trial for name in step.fields}
    refused = {name: error for name, error in outcome.refused.items() if name not in answered}
    return replace(outcome, refused=refused)


def post_landed(
    cycle: Cycle, record: Record, link: Link, fields: Fields, rule: str, holder: Link | None
) -> Link:
    """An opportunity became a referral. ``holder``: a link that had taken our referral for a new one."""
    made = carried(cycle, link)
    record.put(
        made, *([replace(released(holder), referral=None)] if holder and holder.key != made.key else [])
    )
    record.settle(made, Side.PARTNER_CENTER)
    record.journal += [
        journal_entry(cycle, made, Side.PARTNER_CENTER, Action.CREATE, rule, name, None, value)
        for name, value in fields.items()
    ]
    cycle.counters.created[Side.PARTNER_CENTER] += 1
    log.info("deal.created", **ids(made), side=Side.PARTNER_CENTER)
    return made


def invitation_landed(
    cycle: Cycle, record: Record, link: Link, side: Mapping[str, str], known: Fields, effect: Effect | None
) -> Link:
    """Microsoft has its side now. ``effect``: our invitation; None where it was found there."""
    made = invited(link, side, known)
    made = replace(made, memory=freed_from(made.memory, Side.PARTNER_CENTER))
    if effect is not None or link.memory.invite == Invitation.PENDING:
        made = carried(cycle, replace(made, memory=replace(made.memory, notices=(messages.invited(),))))
    if effect is not None:
        cycle.counters.written[Side.PARTNER_CENTER].add(link.key)
        record.journal.append(effect_entry(cycle, made, effect))
        log.info("deal.invited", **ids(made))
    record.put(made)
    record.settle(made, Side.PARTNER_CENTER)
    return made


def post_failed(cycle: Cycle, record: Record, link: Link, error: RecordError) -> Link:
    """A post that failed. Without an answer its intent stays open; a 404 on a post is no vanished deal."""
    if isinstance(error, Gone):
        error = Rejected(
            error.text, code=error.code, status=error.status, request_id=error.request_id, cure=error.cure
        )
    if not isinstance(error, Unclear):
        record.settle(link, Side.PARTNER_CENTER)
    failing = _waiting_for_a_person(cycle, failure(cycle, record, link, Side.PARTNER_CENTER, error))
    failing = replace(failing, due=failing.memory.next_attempt)
    record.put(failing)
    return failing


# --- writes to the CRM -----------------------------------------------------------------------------------------------


def opportunity_outcome(cycle: Cycle, record: Record, plan: CrmPlan, outcome: Outcome) -> Link:
    """What the CRM took of a plan. A stale one is not recorded, for the caller reads and decides it again."""
    link = plan.status.link
    failed = _failed(plan.decision.link, Side.CRM, plan.decision.crm, outcome)
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
    learned = _named_nobody(learned, outcome.ambiguous)
    learned = fields_refused(cycle, record, learned, Side.CRM, sent, refused)
    if landed or not refused:
        cycle.counters.written[Side.CRM].add(link.key)
    record.settle(link, Side.CRM)
    effects = [effect for effect in plan.decision.effects if effect.side is Side.CRM]
    _written(cycle, record, link, [effect for effect in effects if effect.field not in refused])
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


def fields_refused(
    cycle: Cycle, record: Record, link: Link, side: Side, sent: Fields, refused: Mapping[str, RecordError]
) -> Link:
    """The link after a side refused some fields of a write that landed but for them. Journals and logs each once."""
    longest = cycle.settings.retry_policy.longest_hold
    known = remember_refused(link, side, sent, refused, cycle.rules, cycle.shape, cycle.now, longest)
    written = link.referral if side is Side.PARTNER_CENTER else link.opportunity
    for name, error in refused.items():
        if name in MOVES or name not in sent or written is None or not is_refusal(error):
            continue
        log.warning(
            "deal.field_refused",
            **ids(link),
            side=side,
            field=cycle.rules.crm_name(name),
            code=error.code,
            status=error.status,
            request_id=error.request_id,
        )
        code = error.code or type(error).__name__.lower()
        record.journal.append(
            journal_entry(cycle, link, side, Action.HOLD, code, name, written[name], sent[name])
        )
    return known


def opportunity_created(
    cycle: Cycle, record: Record, link: Link, reported: Link, fields: Fields, outcome: Outcome
) -> Link | None:
    """A referral became an opportunity; None where that failed. ``reported``: the link with what the record says of it."""
    if outcome.error is not None or outcome.snapshot is None or link.referral is None:
        error = outcome.error or Unclear("no answer")
        if not isinstance(error, Unclear):
            record.settle(link, Side.CRM)
        failing = _waiting_for_a_person(cycle, failure(cycle, record, link, Side.CRM, error))
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
    made = _named_nobody(made, outcome.ambiguous)
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


# --- failures and conflicts ------------------------------------------------------------------------------------------


def failure(
    cycle: Cycle, record: Record, link: Link, side: Side, error: RecordError, refused: Collection[str] = ()
) -> Link:
    """The link after a write to this side failed: its reason, its next attempt, or that it is parked.

    ``refused``: our names of the fields that it is about, where that is known.
    """
    failing = after_failed_write(link, side, error, cycle.now, cycle.settings.retry_policy, refused)
    cycle.counters.failed.add(link.key)
    refused = failing.memory.failure.fields if failing.memory.failure else ()
    facts = {"side": side, "code": error.code, "status": error.status, "request_id": error.request_id}
    facts["field"] = ", ".join(refused) or None
    if isinstance(error, Gone):
        log.warning("deal.gone", **ids(link), side=side)
    elif failing.memory.parked and not link.memory.parked:
        log.error("deal.parked", **ids(link), attempts=failing.memory.attempts, **facts)
    elif failing.memory.failure is not None and failing.memory.failure.locked:
        log.warning("deal.locked", **ids(link), **facts)
    else:
        log.warning("deal.refused" if not transient(failing) else "deal.failed", **ids(link), **facts)
    code = error.code or type(error).__name__.lower()
    record.journal.append(journal_entry(cycle, failing, side, Action.FAILURE, code))
    return failing


def given_up(cycle: Cycle, record: Record, links: Iterable[Link]) -> None:
    """Deals whose record changed at each try of this cycle: they fail like any other write."""
    for link in links:
        error = Stale("changed again and again", code="stale")
        record.put(after_failed_write(link, Side.CRM, error, cycle.now, cycle.settings.retry_policy))
        cycle.counters.failed.add(link.key)


def conflicts(cycle: Cycle, record: Record, link: Link, found: Sequence[Conflict]) -> Link:
    """Count, journal and log each conflict once; what was named stays remembered while it stands."""
    marks = {_mark(item): item for item in found}
    known = link.memory.reported
    for mark, conflict in marks.items():
        if mark in known:
            continue
        cycle.counters.conflicts += 1
        log.warning(
            "deal.conflict", **ids(link), field=cycle.rules.crm_name(conflict.field), kept=conflict.kept
        )
        loser = Side.PARTNER_CENTER if conflict.kept is Side.CRM else Side.CRM
        values = (conflict.referral, conflict.opportunity)
        lost, won = values if loser is Side.PARTNER_CENTER else values[::-1]
        record.journal.append(
            journal_entry(cycle, link, loser, Action.CONFLICT, conflict.rule, conflict.field, lost, won)
        )
    kept = [mark for mark in known if not mark.startswith("conflict:")]
    return replace(link, memory=replace(link.memory, reported=(*kept, *marks)))


def released(link: Link) -> Link:
    """A link whose opportunity went to another: it keeps its key, stands for nothing, and is never looked at again."""
    return replace(
        link,
        referral_id=None,
        opportunity_id=None,
        opportunity=None,
        phase=Phase.SKIPPED,
        dirty=False,
        due=None,
    )


def transient(link: Link) -> bool:
    """Whether the deal fails because of a system, not because of itself."""
    return link.memory.failure is not None and link.memory.failure.transient


def _named_nobody(link: Link, emails: frozenset[str]) -> Link:
    """Tell the seller once, with the next words on the record, of e-mails that several users of the CRM share."""
    keys = {f"shared_email:{_digest(each)}": each for each in sorted(emails)}
    fresh = {key: each for key, each in keys.items() if key not in link.memory.reported}
    if not fresh:
        return link
    notices = (*link.memory.notices, messages.shared_emails(fresh.values()))
    reported = (*link.memory.reported, *fresh)
    return replace(link, memory=replace(link.memory, notices=notices, reported=reported), dirty=True)


def _waiting_for_a_person(cycle: Cycle, failing: Link) -> Link:
    failed = failing.memory.failure
    if failed is None or failed.transient:
        return failing
    recently_locked = failed.locked and cycle.now - failed.since < LOCK_GRACE
    state = SyncState.WAITING if recently_locked else SyncState.NEEDS_ATTENTION
    return replace(failing, memory=replace(failing.memory, sync_state=state))


def _written(cycle: Cycle, record: Record, link: Link, effects: Sequence[Effect]) -> None:
    updated: dict[Side, list[str]] = {}
    for effect in effects:
        record.journal.append(effect_entry(cycle, link, effect))
        if effect.action == Action.MOVE:
            log.info("deal.moved", **ids(link), side=effect.side, state=effect.new)
        elif effect.action == Action.UPDATE:
            updated.setdefault(effect.side, []).append(effect.field)
    for side, fields in updated.items():
        log.info("deal.updated", **ids(link), side=side, fields=sorted(set(fields)))


def _is_of(effect: Effect, taken: Sequence[Step]) -> bool:
    if effect.action == Action.MOVE:
        return any(step.state is not None and step.state.value == effect.new for step in taken)
    return any(effect.field in step.fields for step in taken)


def _mark(conflict: Conflict) -> str:
    """A conflict's mark without its values: marks are kept, values may be people's data."""
    text = f"conflict:{conflict.field}:{conflict.referral!r}:{conflict.opportunity!r}"
    return f"conflict:{conflict.field}:{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _changed_meanwhile(before: Snapshot, sent: Fields, after: Snapshot) -> bool:
    """Whether the record holds something else than it should after our write: somebody, or a flow, was there too."""
    expected = {**before.fields, **sent}
    names = {*SHARED, *SELLER, "stage"}
    return any(not same(KINDS[name], expected.get(name, ABSENT), after[name]) for name in names)
