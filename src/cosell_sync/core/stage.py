"""The CRM's stage after a move that Partner Center reports, and after the end of the deal."""

from __future__ import annotations

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder, agree_on_stage, set_base_state
from cosell_sync.core.deal import ABSENT, SellerAction, Side, State, Value
from cosell_sync.core.decision import Conflict, ConflictKind, Hold, HoldKind
from cosell_sync.core.memory import reported_state
from cosell_sync.core.stage_table import Consequence


def follow_in_crm(builder: DecisionBuilder) -> None:
    """An open deal: the CRM's stage follows a move that Partner Center reports; what both agree on becomes base."""
    state = builder.state
    if state is State.ACCEPTED and reported_state(builder.link) is State.RECEIVED:
        if builder.own_move is not state:
            builder.notices.append(messages.moved(state))
        if builder.follows is Consequence.FOLLOW:
            _follow(builder, builder.referral["sales_stage"])
            return
        set_base_state(builder, state)
    if builder.follows is Consequence.AGREE and "stage" not in builder.to_crm:
        agree_on_stage(builder)


def reconcile_closed(builder: DecisionBuilder) -> None:
    """A closed referral is never written to. The CRM follows once; what changes there later is named and left alone."""
    state = builder.state
    builder.update_memory(closing=None)
    _clear_action(builder)
    news = builder.own_move is not state
    match builder.follows:
        case Consequence.FOLLOW:
            _follow(builder)
        case Consequence.AGREE:
            agree_on_stage(builder)
        case Consequence.CONFLICT:
            _conflict(builder)
            news = False
        case _:
            news = False
    if news:
        builder.notices.append(messages.moved(state, builder.referral.text("status_reason")))
    _hold_what_comes_late(builder)


def _follow(builder: DecisionBuilder, sales_stage: Value = ABSENT) -> None:
    builder.to_crm["stage"] = builder.rules.stages.for_state(builder.state, sales_stage)
    builder.reasons["stage"] = f"Partner Center says {builder.state.lower()}"


def _clear_action(builder: DecisionBuilder) -> None:
    """An action after the end is cleared, and named unless it is what brought the end about."""
    action, state = builder.opportunity.text("action"), builder.state
    if not action:
        return
    builder.to_crm["action"] = None
    if not (builder.own_move is state or (action == SellerAction.DECLINE and state is State.DECLINED)):
        builder.notices.append(messages.refused_action(action, state))


def _conflict(builder: DecisionBuilder) -> None:
    """Both sides ended the deal, differently. The record is told the end; that is no agreement on it."""
    stage = builder.opportunity["stage"]
    text = messages.both_over(builder.state, builder.opportunity.text("stage"))
    builder.conflicts.append(Conflict("stage", builder.state.value, stage, None, text, ConflictKind.ENDED))
    set_base_state(builder, reported_state(builder.link) or State.UNKNOWN)


def _hold_what_comes_late(builder: DecisionBuilder) -> None:
    """What is not sent any more is held as late and named."""
    names = _take_out_unsent(builder)
    if builder.follows is Consequence.TOO_LATE:
        names.append("stage")
    text = messages.late(builder.shape.label(name) for name in names)
    for name in names:
        there = builder.state.value if name == "stage" else builder.referral[name]
        builder.holds.append(Hold(HoldKind.LATE, name, there, builder.opportunity[name], text))


def _take_out_unsent(builder: DecisionBuilder) -> list[str]:
    """Names of the fields with edits, with conflicts that nobody needs to decide, with gaps that nobody needs to fill."""
    names = [*builder.to_referral]
    conflicts = [item for item in builder.conflicts if item.kind is not ConflictKind.ENDED]
    names += [item.field for item in conflicts if item.kept is None]
    names += [hold.field for hold in builder.holds if hold.kind is HoldKind.NEED]
    builder.to_referral.clear()
    builder.holds[:] = [hold for hold in builder.holds if hold.kind is not HoldKind.NEED]
    dropped = [item for item in conflicts if item.kept is not Side.PARTNER_CENTER]
    builder.conflicts[:] = [item for item in builder.conflicts if item not in dropped]
    return list(dict.fromkeys(names))
