"""Records what Partner Center took: steps of a decision, a new referral, an invitation.

A write that landed moves the base and clears its intent, one that was refused is a failure with a next attempt, one without
an answer leaves its intent open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import Fields, Side, Step, Value
from cosell_sync.core.decision import Decision, Effect
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Action, Invitation, Link, released
from cosell_sync.core.outcome import after_referral
from cosell_sync.core.refusals import without
from cosell_sync.core.retry import freed_from
from cosell_sync.core.visibility import invited
from cosell_sync.cycle.context import Cycle, ReferralResult, carried, ids
from cosell_sync.cycle.failures import deal_error, failure, fields_refused, waiting_for_a_person
from cosell_sync.cycle.journal import effect_entry, journal_entry, record_effects
from cosell_sync.cycle.record import Record
from cosell_sync.errors import Gone, RecordError, Rejected, Stale, Unclear
from cosell_sync.ports import Outcome

log = structlog.get_logger("cosell_sync.cycle")

HUNG_UP = "read_timeout"  # the code of an error where we waited no longer (``transport.errors``)


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
        record_effects(cycle, record, link, [effect for effect in effects if _is_of(effect, taken)])
    tried = decision.steps[
        : outcome.steps + 1
    ]  # what is refused is of the steps that landed, or of the next one
    sent = _fields_of(tried)
    failed = deal_error(decision.link, Side.PARTNER_CENTER, {**sent, **_moves_of(tried)}, outcome)
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


def _without_trials(decision: Decision, outcome: Outcome) -> Outcome:
    """The outcome less the refusals that only answered a question (``cycle.capabilities``)."""
    answered = {name for step in decision.steps[: outcome.steps] if step.trial for name in step.fields}
    refused = {name: error for name, error in outcome.refused.items() if name not in answered}
    return replace(outcome, refused=refused)


def _fields_of(steps: Sequence[Step]) -> Fields:
    fields: dict[str, Value] = {}
    for step in steps:
        fields |= step.fields
    return fields


def _moves_of(steps: Sequence[Step]) -> Fields:
    moves = [step.state.value for step in steps if step.state is not None]
    return {"status": moves[-1]} if moves else {}


def _is_of(effect: Effect, taken: Sequence[Step]) -> bool:
    if effect.action == Action.MOVE:
        return any(step.state is not None and step.state.value == effect.new for step in taken)
    return any(effect.field in step.fields for step in taken)


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


def post_failed(cycle: Cycle, record: Record, link: Link, error: RecordError) -> Link:
    """A post that failed. Without an answer its intent stays open; a 404 on a post is no vanished deal."""
    if isinstance(error, Gone):
        error = Rejected(
            error.text, code=error.code, status=error.status, request_id=error.request_id, cure=error.cure
        )
    if not isinstance(error, Unclear):
        record.settle(link, Side.PARTNER_CENTER)
    failing = waiting_for_a_person(cycle, failure(cycle, record, link, Side.PARTNER_CENTER, error))
    hung_up = cycle.clock() if isinstance(error, Unclear) and error.code == HUNG_UP else None
    memory = replace(failing.memory, hung_up=hung_up)
    failing = replace(failing, memory=memory, due=memory.next_attempt)
    record.put(failing)
    return failing


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
