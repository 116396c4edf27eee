"""The moves that the seller asks for in the CRM, as the PATCHes that carry them to Partner Center."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder
from cosell_sync.core.deal import SellerAction, Snapshot, State, Step, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import KIND_OF_MOVE
from cosell_sync.core.lifecycle import TERMINAL, Actor, Move, walk
from cosell_sync.core.memory import Closing, reported_state
from cosell_sync.core.normalize import clean_notes, empty
from cosell_sync.core.rules import Rules
from cosell_sync.core.sales_stage import send_sales_stage_with_accept
from cosell_sync.core.stage_table import REQUESTS
from cosell_sync.core.texts import sentences

IN_TIME = timedelta(minutes=5)  # an accept goes no later than this before the referral expires
REGISTRATION_WAIT = timedelta(hours=72)  # Partner Center, register deals: a win before that may be refused


def seller_moves(builder: DecisionBuilder) -> tuple[Step, ...]:
    """The PATCHes that carry the seller's moves and edits, the edits with the first of them.

    Empty where nothing is to be sent, or where a received deal must be answered before its edits can go.
    """
    if builder.state is State.ACCEPTED:
        _clear_action(builder)
    target = REQUESTS.get(builder.follows)
    path: tuple[Move, ...] = ()
    if target is not None:
        path = _allowed_moves(builder, target)
    if target not in TERMINAL:
        _forget_closing(builder)
    if builder.state is not State.RECEIVED:
        return _steps(builder, path)
    if not path:
        _hold_until_answered(builder)
        return ()
    if path[0].target is State.ACCEPTED:
        send_sales_stage_with_accept(builder)
    return _steps(builder, path)


def _clear_action(builder: DecisionBuilder) -> None:
    """An answer that came too late is cleared and named; one that this very state shows as taken is only cleared."""
    action = builder.opportunity.text("action")
    if not action:
        return
    builder.to_crm["action"] = None
    answered_now = reported_state(builder.link) is State.RECEIVED or builder.own_move is State.ACCEPTED
    if not (action == SellerAction.ACCEPT and answered_now):
        builder.notices.append(messages.refused_action(action, builder.state))


def _hold_until_answered(builder: DecisionBuilder) -> None:
    """Edits of a deal that is not answered go along with its accept."""
    text = _goes_along(builder)
    for name in builder.to_referral:
        values = builder.referral[name], builder.opportunity[name]
        builder.holds.append(Hold(HoldKind.UNANSWERED, name, *values, text))
    builder.to_referral.clear()


def _goes_along(builder: DecisionBuilder) -> str:
    """The edits in words; of long texts and of sets only the name."""
    changes = [
        (builder.shape.label(name), builder.opportunity[name], builder.referral[name])
        for name in builder.to_referral
    ]
    short = {Kind.NUMBER, Kind.DATE, Kind.TEXT}
    if len(changes) == 1 and KINDS[next(iter(builder.to_referral))] not in short:
        return messages.unanswered_text(changes[0][0])
    return messages.unanswered(changes)


def _remember_closing(builder: DecisionBuilder, target: State) -> None:
    """Since when the seller asks for this end, by this stage and action; any change of them starts the wait again."""
    stage, action = builder.opportunity.text("stage"), builder.opportunity.text("action")
    by_action = builder.state is State.RECEIVED and action == SellerAction.DECLINE
    mark = f"action {action}|{stage}" if by_action else f"{stage}|{stage}"
    closing = builder.link.memory.closing
    if closing is None or closing.state is not target or closing.mark != mark:
        builder.update_memory(closing=Closing(target, mark, builder.now))


def _forget_closing(builder: DecisionBuilder) -> None:
    """The seller took an end back before it went to Partner Center."""
    closing = builder.link.memory.closing
    if closing is not None:
        builder.taken_back = closing.state
        builder.update_memory(closing=None)


def _allowed_moves(builder: DecisionBuilder, target: State) -> tuple[Move, ...]:
    """The part of the way that may be walked now: legal, nothing missing, not waiting. What stops it is held.

    An accept that is only there for an end waits with it, so that both can be taken back.
    """
    path = walk(Actor.SELLER, builder.state, target) or ()
    allowed: list[Move] = []
    for move in path:
        if move.target in TERMINAL:
            _remember_closing(builder, target)
        if holds := _needs_something(builder, move):
            builder.holds += holds
            break
        if target in TERMINAL:
            _remember_closing(builder, target)  # what waits for the end waits from now on
        if _stopped(builder, move, path[-1]):
            break
        allowed.append(move)
    return tuple(allowed)


def _stopped(builder: DecisionBuilder, move: Move, last: Move) -> bool:
    """Whether this move waits, or the guard withholds it or the end that it is there for; then that is held."""
    for_the_end = move is not last and last.target in TERMINAL and not _accepts_at_once(builder)
    if (move is last or for_the_end) and (holds := _waits(builder, last, with_accept=for_the_end)):
        builder.holds += holds
        return True
    # The wait before an end goes on while it is withheld, so that an approved one goes at once.
    stopped = _withheld(builder, move)
    return (_withheld(builder, last) or stopped) if for_the_end else stopped


def _withheld(builder: DecisionBuilder, move: Move) -> bool:
    return builder.withholds(KIND_OF_MOVE[move.target], "status", builder.state.value, move.target.value)


def _accepts_at_once(builder: DecisionBuilder) -> bool:
    """Whether the accept before an end does not wait: the seller chose it, or the referral would expire meanwhile."""
    closing = builder.link.memory.closing
    if builder.opportunity.text("action") == SellerAction.ACCEPT or closing is None:
        return True
    respond_by, until = builder.referral.moment("respond_by"), closing.since + builder.rules.terminal_hold
    hurried = respond_by is not None and respond_by < until + IN_TIME and builder.now < until
    if hurried:
        builder.update_memory(closing=replace(closing, hurried=True))
    return hurried


def _needs_something(builder: DecisionBuilder, move: Move) -> list[Hold]:
    missing = [need for need in move.needs if _missing(builder, need)]
    if not missing:
        return []
    text = messages.needs((builder.shape.label(need) for need in missing), move.target)
    by_stage = builder.opportunity.text("action") != SellerAction.DECLINE
    if move.target is State.DECLINED and by_stage and missing == ["reason"]:
        text = messages.declines_by_stage(builder.shape.label("reason"))
    return [
        Hold(HoldKind.NEED, need, builder.referral[need], builder.opportunity[need], text) for need in missing
    ]


def _waits(builder: DecisionBuilder, move: Move, *, with_accept: bool = False) -> list[Hold]:
    """Won, lost and declined wait, for Partner Center cannot undo them. ``with_accept``: so does the accept before it."""
    closing = builder.link.memory.closing
    if move.target not in TERMINAL or closing is None:
        return []
    until = closing.since + builder.rules.terminal_hold
    if builder.now >= until:
        return []
    text = messages.holding(move.target, until, with_accept=with_accept)
    if closing.hurried:
        text = sentences(text, messages.accepted_in_time())
    created = builder.referral.moment("created_at")
    if move.target is State.WON and created and builder.now < created + REGISTRATION_WAIT:
        text = sentences(text, messages.hurried(created + REGISTRATION_WAIT))
    return [Hold(HoldKind.TERMINAL, "status", builder.state.value, move.target.value, text, until)]


def _missing(builder: DecisionBuilder, need: str) -> bool:
    """A reason stays in the CRM until the move takes it along; a CRM without that column has none to give."""
    if need == "reason":
        return "reason" in builder.opportunity.fields and not builder.rules.closed_reason(builder.opportunity)
    return empty(builder.to_referral.get(need, builder.referral[need]))


def _reason(opportunity: Snapshot, rules: Rules) -> str:
    """Partner Center has one free text for it (referral resource, ``statusReason``)."""
    texts = (
        clean_notes(text) for text in (rules.closed_reason(opportunity), opportunity.text("reason_note"))
    )
    return ": ".join(text.strip() for text in texts if isinstance(text, str))


def _steps(builder: DecisionBuilder, path: tuple[Move, ...]) -> tuple[Step, ...]:
    steps = []
    unknown = [name for name in builder.to_referral if builder.rules.takes(name) is None]
    fields: dict[str, Value] = {
        name: value for name, value in builder.to_referral.items() if name not in unknown
    }
    reason = _reason(builder.opportunity, builder.rules)
    for move in path:
        if "reason" in move.needs and reason:
            fields["status_reason"] = reason
        steps.append(Step(fields, move.target))
        fields = {}
    if fields and not steps:
        steps.append(Step(fields))
    if steps and empty(builder.referral["external_reference"]):
        steps[0] = replace(steps[0], fields={**steps[0].fields, "external_reference": builder.opportunity.id})
    return _with_trials(builder, steps, unknown)


def _with_trials(builder: DecisionBuilder, steps: Sequence[Step], unknown: Sequence[str]) -> tuple[Step, ...]:
    """The steps, and a PATCH of its own for each field of which it is not known whether Partner Center takes it.

    An unanswered referral takes no edit, and one that is over none any more, so they stand between accept and end; a deal
    that is declined is no place to find out.
    """
    trials = [Step({name: builder.to_referral[name]}, trial=True) for name in unknown]
    end = next((at for at, step in enumerate(steps) if step.state in TERMINAL), len(steps))
    answered = builder.state is not State.RECEIVED or end > 0
    return (*steps[:end], *(trials if answered else ()), *steps[end:])
