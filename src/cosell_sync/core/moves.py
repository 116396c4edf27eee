"""The moves that the seller asks for in the CRM, as the PATCHes that carry them to Partner Center."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder
from cosell_sync.core.deal import SellerAction, Snapshot, State, Step, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.lifecycle import TERMINAL, Actor, Move, walk
from cosell_sync.core.memory import Closing, reported_state
from cosell_sync.core.normalize import empty
from cosell_sync.core.rules import Standing
from cosell_sync.core.sales_stage import send_sales_stage_with_accept

REGISTRATION_WAIT = timedelta(hours=72)  # Partner Center, register deals: a win before that may be refused


@dataclass(frozen=True)
class Request:
    """Where the seller wants the deal, and what says so."""

    state: State
    mark: str


def requested_state(builder: DecisionBuilder) -> Request | None:
    opportunity, rules = builder.opportunity, builder.rules
    action = opportunity.text("action")
    standing = rules.stages.standing(opportunity)
    stage = opportunity.text("stage")
    if builder.state is State.ACCEPTED:
        ends = {Standing.WON: State.WON, Standing.LOST: State.LOST}
        return Request(ends[standing], stage) if standing in ends else None
    if action == SellerAction.DECLINE:
        return Request(State.DECLINED, f"action {action}")
    base_stage = builder.link.base_opportunity.get("stage")
    was_standby = base_stage == rules.stages.received or (
        base_stage is None and reported_state(builder.link) is State.RECEIVED
    )
    closed_since = base_stage is not None and base_stage != stage
    if standing is Standing.LOST and (was_standby or closed_since):
        return Request(State.DECLINED, stage)
    if standing is Standing.WON and (was_standby or closed_since or action == SellerAction.ACCEPT):
        return Request(State.WON, stage)
    if action == SellerAction.ACCEPT or (standing is Standing.OPEN and was_standby):
        return Request(State.ACCEPTED, stage)
    return None


def seller_moves(builder: DecisionBuilder) -> tuple[Step, ...]:
    """The PATCHes that carry the seller's moves, and his edits with the first of them."""
    state, referral, opportunity, shape = builder.state, builder.referral, builder.opportunity, builder.shape
    action = opportunity.text("action")
    if action and state is State.ACCEPTED:
        builder.to_crm["action"] = None
        ours = reported_state(builder.link) is State.RECEIVED or builder.own_move is State.ACCEPTED
        if not (action == SellerAction.ACCEPT and ours):
            builder.notices.append(messages.refused_action(action, state))
    wish = requested_state(builder)
    path: tuple[Move, ...] = ()
    if wish is None:
        builder.update_memory(closing=None)
    else:
        path = _allowed_moves(builder, wish)
    if state is State.RECEIVED and path and path[0].target is State.ACCEPTED:
        send_sales_stage_with_accept(builder)
    if state is State.RECEIVED and not path:
        if builder.to_referral:
            labels = [shape.label(name) for name in builder.to_referral]
            for name in builder.to_referral:
                builder.holds.append(
                    Hold(
                        HoldKind.UNANSWERED,
                        name,
                        referral[name],
                        opportunity[name],
                        messages.unanswered(labels),
                    )
                )
            builder.to_referral.clear()
        return ()
    return _steps(builder, path)


def _allowed_moves(builder: DecisionBuilder, wish: Request) -> tuple[Move, ...]:
    """The part of the way to the wish that may be walked now: legal, nothing missing, its hold waited out."""
    state, now = builder.state, builder.now
    referral, opportunity, rules, shape = builder.referral, builder.opportunity, builder.rules, builder.shape
    path = walk(Actor.SELLER, state, wish.state) or ()
    allowed: list[Move] = []
    closing = builder.link.memory.closing
    mark = f"{wish.mark}|{opportunity.text('stage')}"
    for move in path:
        if move.target in TERMINAL:
            if closing is None or closing.state is not wish.state or closing.mark != mark:
                closing = Closing(wish.state, mark, now)
            builder.update_memory(closing=closing)
        missing = [need for need in move.needs if _missing(builder, need)]
        if missing:
            text = messages.needs((shape.label(need) for need in missing), move.target)
            for need in missing:
                builder.holds.append(Hold(HoldKind.NEED, need, referral[need], opportunity[need], text))
            break
        if move.target in TERMINAL and closing is not None:
            until = closing.since + rules.terminal_hold
            if now < until:
                text = messages.holding(wish.state, until)
                created = referral.moment("created_at")
                if wish.state is State.WON and created and now < created + REGISTRATION_WAIT:
                    text += " " + messages.hurried(created + REGISTRATION_WAIT)
                builder.holds.append(
                    Hold(HoldKind.TERMINAL, "status", state.value, wish.state.value, text, until)
                )
                break
        allowed.append(move)
    if wish.state not in TERMINAL:
        builder.update_memory(closing=None)
    return tuple(allowed)


def _missing(builder: DecisionBuilder, need: str) -> bool:
    if need == "reason":
        return "reason" in builder.opportunity.fields and empty(builder.opportunity["reason"])
    return empty(builder.to_referral.get(need, builder.referral[need]))


def _reason(opportunity: Snapshot) -> str:
    """Partner Center has one free text for it (referral resource, ``statusReason``)."""
    reason, note = opportunity.text("reason"), opportunity.text("reason_note").strip()
    return f"{reason}: {note}" if reason and note else reason or note


def _steps(builder: DecisionBuilder, path: tuple[Move, ...]) -> tuple[Step, ...]:
    steps = []
    fields: dict[str, Value] = dict(builder.to_referral)
    reason = _reason(builder.opportunity)
    for move in path:
        if "reason" in move.needs and reason:
            fields["status_reason"] = reason
        steps.append(Step(fields, move.target))
        fields = {}
    if fields and not steps:
        steps.append(Step(fields))
    if steps and empty(builder.referral["external_reference"]):
        steps[0] = replace(steps[0], fields={**steps[0].fields, "external_reference": builder.opportunity.id})
    return tuple(steps)
