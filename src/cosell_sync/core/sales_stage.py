"""The sales stage: like any shared field, but a side may make no claim about it."""

from __future__ import annotations

from cosell_sync.core.builder import DecisionBuilder, write_to_crm_or_hold
from cosell_sync.core.deal import ABSENT, State, Value
from cosell_sync.core.memory import set_known
from cosell_sync.core.merge import Merged, Sides, merge
from cosell_sync.core.rules import FieldRule, Flow, Standing


def merge_sales_stage(
    builder: DecisionBuilder,
    rule: FieldRule,
    base_referral: dict[str, Value],
    base_opportunity: dict[str, Value],
) -> None:
    """Like any field, but a side may make no claim; then only a new claim of the other side counts."""
    opportunity, rules = builder.opportunity, builder.rules
    standing = rules.stages.standing(opportunity)
    if standing not in {Standing.OPEN, Standing.STANDBY} or rule.flow is Flow.OFF:
        return
    there, here = builder.referral["sales_stage"], rules.stages.sales_stage(opportunity)
    there = ABSENT if there is None else there
    base_there = base_referral.get("sales_stage", ABSENT)
    base_here = base_opportunity.get("sales_stage", ABSENT)
    if there is not ABSENT and here is not ABSENT:
        merged = merge(
            rule,
            Sides(there, here, base_there, base_here),
            builder.shape,
            builder.link.memory.resolved.get(rule.name),
        )
    elif there is not ABSENT and there != base_there and rule.goes_to_crm:
        merged = Merged(base_there, base_here, to_crm=there, rule="changed in Partner Center")
    elif here is not ABSENT and here != base_here and rule.goes_to_partner_center:
        merged = Merged(base_there, base_here, to_referral=here, rule="changed in the CRM")
    else:
        return
    if merged.conflict:
        builder.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        builder.to_referral["sales_stage"] = merged.to_referral
    if merged.to_crm is not ABSENT and rules.stages.have_own_field(builder.shape.fields):
        write_to_crm_or_hold(builder, rule, merged.to_crm)
    elif merged.to_crm is not ABSENT:
        builder.to_crm["stage"] = rules.stages.for_state(State.ACCEPTED, merged.to_crm)
    set_known(base_referral, "sales_stage", merged.base_referral)
    set_known(base_opportunity, "sales_stage", merged.base_opportunity)
    builder.reasons["sales_stage"] = builder.reasons["stage"] = merged.rule


def send_sales_stage_with_accept(builder: DecisionBuilder) -> None:
    """A deal that is accepted at a sales stage of the seller's goes out with it, in the same PATCH."""
    rule, link = builder.rules.fields.get("sales_stage"), builder.link
    here, there = builder.rules.stages.sales_stage(builder.opportunity), builder.referral["sales_stage"]
    base_here, base_there = (
        bases.get("sales_stage") for bases in (link.base_opportunity, link.base_referral)
    )
    edited = base_here is not None and here != base_here and there == base_there
    sendable = rule is not None and rule.goes_to_partner_center
    if sendable and here is not ABSENT and (edited or there in {None, ABSENT}):
        builder.to_referral["sales_stage"] = here
        builder.reasons["sales_stage"] = "changed in the CRM"
