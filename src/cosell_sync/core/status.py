"""What the record shows: sync state, message and the facts of the referral; and when to decide again.

The message is made of conditions (what is so now: a hold, a conflict, something missing) and, where there are none
more urgent, of the last news. It is a function of the deal and of passed deadlines only, so a deal at rest is never
written; dates are given, never remaining time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cosell_sync.core import messages, microsoft
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, State, SyncState, Value, state_of
from cosell_sync.core.decision import Conflict, ConflictKind, Decision, Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import INTERNAL_ERROR, Failure, Link, Memory
from cosell_sync.core.normalize import for_crm
from cosell_sync.core.rules import CrmShape
from cosell_sync.core.texts import PLAIN, Language
from cosell_sync.errors import Cure

TRANSIENT_GRACE = timedelta(minutes=15)
LOCK_GRACE = timedelta(days=1)
REMINDERS = (timedelta(days=7), timedelta(days=3), timedelta(days=1))

_STATE_OF_HOLD = {
    HoldKind.NEED: SyncState.NEEDS_ATTENTION,
    HoldKind.WITHHELD: SyncState.NEEDS_ATTENTION,
    HoldKind.CRM_CANNOT: SyncState.NEEDS_ATTENTION,
    HoldKind.STAND_IN: SyncState.NEEDS_ATTENTION,
    HoldKind.PAUSED: SyncState.WAITING,
    HoldKind.UNKNOWN_STATE: SyncState.WAITING,
    HoldKind.LATE: SyncState.CLOSED,
    HoldKind.TERMINAL: SyncState.WAITING,
    HoldKind.UNANSWERED: SyncState.WAITING,
    HoldKind.FROZEN: SyncState.IN_SYNC,
    HoldKind.UNSEEN: SyncState.IN_SYNC,
    HoldKind.READ_ONLY: SyncState.IN_SYNC,
    HoldKind.UNKEYED: SyncState.IN_SYNC,
    HoldKind.SHARED: SyncState.IN_SYNC,
}
_NOT_REFUSED = frozenset({HoldKind.WITHHELD, HoldKind.STAND_IN})  # though they need a person
_NOT_OF_THE_ANSWER = frozenset({HoldKind.CRM_CANNOT, HoldKind.STAND_IN})
_URGENCY = (
    SyncState.CONFLICT,
    SyncState.NEEDS_ATTENTION,
    SyncState.WAITING,
    SyncState.CLOSED,
    SyncState.IN_SYNC,
)


@dataclass(frozen=True)
class StatusReport:
    """``fields``: what must be written so that the record is right; empty where it is already."""

    link: Link
    fields: Fields
    state: SyncState
    message: str
    reminder: int = 0


def status_report(
    decision: Decision, news: Iterable[str], shape: CrmShape, now: datetime, language: Language = PLAIN
) -> StatusReport:
    """What the record shows after this decision.

    ``news``: what was carried in this cycle, in the seller's words; where it is empty the last news stays.
    ``language``: of the record's message.
    """
    link = decision.link
    fresh = tuple(dict.fromkeys(news))
    memory = replace(link.memory, notices=fresh) if fresh else link.memory
    referral = link.referral
    state = state_of(referral) if referral else State.UNKNOWN
    reminder = reminders_passed(referral, state, now)
    conditions = [*_conditions(decision, memory, shape, now), *_background(referral, memory, state, shape)]
    states = {condition for condition, _ in conditions} | {SyncState.IN_SYNC}
    lines = [text for _, text in conditions]
    answer: list[str] = []
    if state is State.RECEIVED and _unanswered(decision) and not _blocked(decision, conditions):
        until = referral.moment("respond_by") if referral else None
        answer = [
            messages.answer_by(
                until,
                reminder,
                shape.label("action"),
                shape.choice("action", "Accept"),
                shape.choice("action", "Decline"),
            )
        ]
    sync_state = next(item for item in _URGENCY if item in states)
    if state in TERMINAL and sync_state is SyncState.WAITING:
        sync_state = SyncState.CLOSED
    parts = [*lines, *memory.notices] if _urgent(sync_state) else [*memory.notices, *lines]
    message = "\n".join(dict.fromkeys(language.say(part) for part in (*answer, *parts)))
    rejected = any(
        _STATE_OF_HOLD[hold.kind] is SyncState.NEEDS_ATTENTION and hold.kind not in _NOT_REFUSED
        for hold in (*decision.holds, *decision.retried)
    )
    memory = replace(memory, sync_state=sync_state, rejected=rejected)
    link = replace(link, memory=memory, due=_due(decision, memory, referral, state, now), dirty=False)
    return StatusReport(link, _differences(link, message, shape), sync_state, message, reminder)


def _background(
    referral: Snapshot | None, memory: Memory, state: State, shape: CrmShape
) -> Iterable[tuple[SyncState, str]]:
    """What is so, and asks nothing of the seller now: the end, its registration, Microsoft's side."""
    if state is State.CLOSED and referral is not None:
        yield SyncState.CLOSED, messages.closed_otherwise(referral.text("status_text"), shape.label("stage"))
    elif state in TERMINAL:
        yield SyncState.CLOSED, messages.over(state)
        registered = referral.text("registration_status") if referral and state is State.WON else ""
        if registered and registered != "None":
            yield SyncState.CLOSED, messages.registration(registered)
    elif text := microsoft.microsoft_said(memory.microsoft):
        yield SyncState.IN_SYNC, text


def _unanswered(decision: Decision) -> bool:
    """Neither an answer of the seller's is on its way nor one that waits out its hold."""
    return not decision.steps and all(hold.kind is not HoldKind.TERMINAL for hold in decision.holds)


def _blocked(decision: Decision, conditions: Iterable[tuple[SyncState, str]]) -> bool:
    """Whether a person must act on the answer itself. A value that the CRM does not hold hides no deadline."""
    beside = {hold.text for hold in decision.holds if hold.kind in _NOT_OF_THE_ANSWER}
    return any(state is SyncState.NEEDS_ATTENTION and text not in beside for state, text in conditions)


def _urgent(state: SyncState) -> bool:
    return state in {SyncState.CONFLICT, SyncState.NEEDS_ATTENTION}


def conflict_text(conflict: Conflict, shape: CrmShape) -> str:
    """What the seller reads of a conflict."""
    label = shape.label(conflict.field)
    match conflict.kind:
        case ConflictKind.ENDED:
            return conflict.rule
        case ConflictKind.AUTOMATION:
            return messages.automation(label, conflict.referral, conflict.opportunity)
        case ConflictKind.NOT_TAKEN:
            return messages.not_taken(label, conflict.referral, conflict.opportunity)
        case ConflictKind.EDITED:
            return messages.conflict(label, conflict.referral, conflict.opportunity, conflict.kept)


def _conditions(
    decision: Decision, memory: Memory, shape: CrmShape, now: datetime
) -> Iterable[tuple[SyncState, str]]:
    over = decision.link.referral is not None and state_of(decision.link.referral) in TERMINAL
    if memory.gone is Side.PARTNER_CENTER and not over:
        yield SyncState.NEEDS_ATTENTION, messages.referral_gone()
    if memory.failure is not None:
        labels = [shape.label(name) for name in memory.failure.fields]
        yield from _failing(memory.failure, labels, now, parked=memory.parked, over=over)
    for conflict in decision.conflicts:
        if conflict.kept is None:
            yield SyncState.CONFLICT, conflict_text(conflict, shape)
    holds = (*decision.holds, *decision.retried)
    for hold in sorted(holds, key=_place):
        yield _STATE_OF_HOLD[hold.kind], hold.text
    held = {hold.field for hold in holds if hold.kind is not HoldKind.UNKEYED}
    for conflict in decision.conflicts:
        if conflict.kept is not None and conflict.field in held:
            yield SyncState.IN_SYNC, conflict_text(conflict, shape)


def _place(hold: Hold) -> tuple[int, int]:
    """Where a hold stands in the message: by its kind, then by its field, whatever order they were found in."""
    names = list(SHARED)
    at = names.index(hold.field) if hold.field in SHARED else len(names)
    return list(HoldKind).index(hold.kind), at


def _failing(
    failure: Failure, labels: Sequence[str], now: datetime, *, parked: bool, over: bool
) -> Iterable[tuple[SyncState, str]]:
    """A failure is named at once, a transient one only when it lasts. A lock that lasts for a day needs a person, unless the
    deal is over: then nothing waits but words.
    """
    system = "Partner Center" if failure.side is Side.PARTNER_CENTER else messages.THE_CRM
    if failure.code == INTERNAL_ERROR:
        yield SyncState.NEEDS_ATTENTION, messages.broken()
    elif failure.locked:
        long = now - failure.since >= LOCK_GRACE and not over
        state = SyncState.NEEDS_ATTENTION if long else SyncState.WAITING
        yield (
            state,
            messages.waits_for_admin(failure.since)
            if failure.cure is Cure.ADMIN
            else messages.waits_for_lock(failure.since, long=long),
        )
    elif not failure.transient:
        text = messages.refused_by(system, failure.text, cure=failure.cure, parked=parked, labels=labels)
        yield SyncState.NEEDS_ATTENTION, text
    elif now - failure.since >= TRANSIENT_GRACE:
        yield SyncState.WAITING, messages.away(system, failure.since)


def reminders_passed(referral: Snapshot | None, state: State, now: datetime) -> int:
    """How many of the reminders at 7, 3 and 1 days are due for an unanswered deal."""
    return sum(now >= reminder for reminder in _reminders(referral, state))


def next_reminder(referral: Snapshot | None, state: State, now: datetime) -> datetime | None:
    """When the next reminder of an unanswered deal is due; None: there is none left."""
    return min((each for each in _reminders(referral, state) if each > now), default=None)


def _reminders(referral: Snapshot | None, state: State) -> list[datetime]:
    until = referral.moment("respond_by") if referral is not None and state is State.RECEIVED else None
    return [until - span for span in REMINDERS] if until else []


def _due(
    decision: Decision, memory: Memory, referral: Snapshot | None, state: State, now: datetime
) -> datetime | None:
    """When this deal must be decided again though nothing changes; None: never."""
    holds = (*decision.holds, *decision.retried)
    moments = [hold.until for hold in holds if hold.until is not None]
    moments += _reminders(referral, state)
    if memory.next_attempt is not None:
        moments.append(memory.next_attempt)
    if memory.failure is not None and memory.failure.transient:
        moments.append(memory.failure.since + TRANSIENT_GRACE)
    if memory.failure is not None and memory.failure.locked:
        moments.append(memory.failure.since + LOCK_GRACE)
    coming = [moment for moment in moments if moment > now]
    overdue = memory.next_attempt is not None and memory.next_attempt <= now
    return now if overdue else min(coming, default=None)


def facts(link: Link) -> dict[str, Value]:
    """What the record shows of the referral."""
    referral = link.referral
    if referral is None:
        return {}
    state = state_of(referral)
    shown: dict[str, Value] = {
        "referral_id": link.referral_id,
        "referral_link": referral["referral_link"],
        "direction": referral["direction"],
        "deal_type": microsoft.deal_type(link),
        "respond_by": referral["respond_by"] if state is State.RECEIVED else None,
        "microsoft_status": link.memory.microsoft.get("status", referral["microsoft_status"]),
        "microsoft_id": link.memory.microsoft.get("id", referral["microsoft_id"]),
    }
    if state not in {State.UNKNOWN, State.CLOSED}:
        shown["status"] = state.value
    return shown


def _differences(link: Link, message: str, shape: CrmShape) -> dict[str, Value]:
    wanted = {
        **facts(link),
        "sync_state": link.memory.sync_state.value,
        "message": message,
    }
    if link.memory.carried_at is not None:
        wanted["last_sync"] = link.memory.carried_at
    opportunity = link.opportunity
    different = {}
    for name, value in wanted.items():
        if value is ABSENT or name not in shape.fields or (opportunity and name in opportunity.readonly):
            continue
        if opportunity is not None and value == opportunity[name]:
            continue
        held = for_crm(name, value, shape)
        if opportunity is None or held != for_crm(name, opportunity[name], shape):
            different[name] = held
    return different
