"""The CRM's stage after a move that Partner Center reports, and after the end of the deal."""

from __future__ import annotations

from dataclasses import replace

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder, agree_on_stage
from cosell_sync.core.deal import SellerAction, Side, State
from cosell_sync.core.decision import Conflict, ConflictKind, Hold, HoldKind
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import reported_state
from cosell_sync.core.moves import requested_state
from cosell_sync.core.rules import Standing


def follow_in_crm(builder: DecisionBuilder) -> None:
    """The CRM's stage after a move that Partner Center reports; and what both agree on becomes base."""
    state, rules = builder.state, builder.rules
    standing = rules.stages.standing(builder.opportunity)
    before = reported_state(builder.link)
    if state is State.ACCEPTED and before is State.RECEIVED:
        if builder.own_move is not state:
            builder.notices.append(messages.moved(state))
        if standing is Standing.STANDBY:
            builder.to_crm["stage"] = rules.stages.for_state(state, builder.referral["sales_stage"])
            builder.reasons["stage"] = "Partner Center says accepted"
            return
        builder.link = replace(
            builder.link, base_referral={**builder.link.base_referral, "state": state.value}
        )
    fits = standing in {Standing.STANDBY, Standing.OPEN}
    if state is State.RECEIVED and fits:
        fits = requested_state(builder) is None
    if fits and "stage" not in builder.to_crm:
        agree_on_stage(builder)


def reconcile_closed(builder: DecisionBuilder) -> None:
    """A closed referral is never written to. The CRM follows once; what changes there later is named and left alone."""
    state, rules, shape = builder.state, builder.rules, builder.shape
    referral, opportunity = builder.referral, builder.opportunity
    before = reported_state(builder.link)
    standing = rules.stages.standing(opportunity)
    fits = standing is (Standing.WON if state is State.WON else Standing.LOST)
    builder.update_memory(closing=None)
    if action := opportunity.text("action"):
        builder.to_crm["action"] = None
        if not (builder.own_move is state or (action == SellerAction.DECLINE and state is State.DECLINED)):
            builder.notices.append(messages.refused_action(action, state))
    unsent = [*builder.to_referral]
    unsent += [
        item.field for item in builder.conflicts if item.kept is None
    ]  # nobody needs to decide any more
    unsent += [item.field for item in builder.holds if item.kind is HoldKind.NEED]  # nor to fill anything in
    late = {name: shape.label(name) for name in unsent}
    builder.holds[:] = [item for item in builder.holds if item.kind is not HoldKind.NEED]
    if before in TERMINAL:
        if not fits:
            late["stage"] = shape.label("stage")
    elif not fits and standing in {Standing.WON, Standing.LOST}:
        text = messages.both_over(state, opportunity.text("stage"))
        builder.conflicts.append(
            Conflict("stage", state.value, opportunity["stage"], None, text, ConflictKind.ENDED)
        )
        told = (
            before or State.UNKNOWN
        ).value  # the record is told the end now, but that is no agreement on it
        builder.link = replace(builder.link, base_referral={**builder.link.base_referral, "state": told})
    else:
        if builder.own_move is not state:
            builder.notices.append(messages.moved(state, referral.text("status_reason")))
        if fits:
            agree_on_stage(builder)
        else:
            builder.to_crm["stage"] = rules.stages.for_state(state)
            builder.reasons["stage"] = f"Partner Center says {state.lower()}"
    for name in late:
        there = state.value if name == "stage" else referral[name]
        builder.holds.append(
            Hold(HoldKind.LATE, name, there, opportunity[name], messages.late(late.values()))
        )
    builder.to_referral.clear()
    builder.conflicts[:] = [
        item
        for item in builder.conflicts
        if item.kind is ConflictKind.ENDED or item.kept is Side.PARTNER_CENTER
    ]
