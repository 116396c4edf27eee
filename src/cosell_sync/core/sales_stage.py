"""The sales stage: like any shared field, but a side may make no claim about it."""

from __future__ import annotations

from typing import Final

from cosell_sync.core.builder import DecisionBuilder, write_to_crm_or_hold
from cosell_sync.core.deal import ABSENT, Fields, State, Value
from cosell_sync.core.fields import SALES_STAGES
from cosell_sync.core.memory import set_known
from cosell_sync.core.merge import Merged, Sides, merge
from cosell_sync.core.rules import FieldRule, Flow, Standing

# What Dynamics fills in for a new row (choice ``opportunity_salesstage``, default 0).
# https://learn.microsoft.com/power-apps/developer/data-platform/reference/entities/opportunity
DEFAULT: Final = SALES_STAGES[0]


def merge_sales_stage(
    builder: DecisionBuilder,
    rule: FieldRule,
    base_referral: dict[str, Value],
    base_opportunity: dict[str, Value],
) -> None:
    """Merge the sales stage of an accepted deal whose stage in the CRM is open; the bases are changed in place."""
    merged = _merged(builder, rule, base_referral, base_opportunity)
    if merged is None or (merged.to_referral, merged.to_crm, merged.conflict) == (ABSENT, ABSENT, None):
        builder.forget_answers([rule.name])
    if merged is None:
        return
    if merged.conflict:
        builder.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        builder.to_referral["sales_stage"] = merged.to_referral
    if merged.to_crm is not ABSENT:
        if builder.rules.stages.have_own_field(builder.shape.fields):
            write_to_crm_or_hold(builder, rule, merged.to_crm)
        else:
            builder.to_crm["stage"] = builder.rules.stages.for_state(State.ACCEPTED, merged.to_crm)
    set_known(base_referral, "sales_stage", merged.base_referral)
    set_known(base_opportunity, "sales_stage", merged.base_opportunity)
    builder.reasons["sales_stage"] = builder.reasons["stage"] = merged.rule


def _merged(
    builder: DecisionBuilder, rule: FieldRule, base_referral: Fields, base_opportunity: Fields
) -> Merged | None:
    """As any field where both sides claim one; else only a new claim counts. None: nothing follows."""
    stages = builder.rules.stages
    if stages.standing(builder.opportunity) not in {Standing.OPEN, Standing.STANDBY} or rule.flow is Flow.OFF:
        return None
    there, here = builder.referral["sales_stage"], stages.sales_stage(builder.opportunity)
    there = ABSENT if there is None else there
    base_there = base_referral.get("sales_stage", ABSENT)
    base_here = base_opportunity.get("sales_stage", ABSENT)
    if there is not ABSENT and here is not ABSENT:
        answer = builder.link.memory.resolved.get(rule.name)
        moved = base_opportunity.get("stage", ABSENT) not in {ABSENT, builder.opportunity["stage"]}
        if base_here is ABSENT and moved and there == base_there and there != here and answer is None:
            # the stage that the seller left made no claim; this one does
            sends = here if rule.goes_to_partner_center else ABSENT
            return Merged(base_there, base_here, to_referral=sends, rule="changed in the CRM")
        if base_there is ABSENT and base_here is not ABSENT and here == base_here and rule.goes_to_crm:
            # Partner Center made no claim when both agreed; it makes one now
            return Merged(base_there, base_here, to_crm=there, rule="changed in Partner Center")
        return merge(rule, Sides(there, here, base_there, base_here), builder.shape, answer)
    if there not in {ABSENT, base_there} and rule.goes_to_crm:
        return Merged(base_there, base_here, to_crm=there, rule="changed in Partner Center")
    if base_here is ABSENT and here == DEFAULT and stages.have_own_field(builder.shape.fields):
        return Merged(base_there, here)  # the platform filled it in; nobody has said so
    if here not in {ABSENT, base_here} and rule.goes_to_partner_center:
        return Merged(base_there, base_here, to_referral=here, rule="changed in the CRM")
    return None


def send_sales_stage_with_accept(builder: DecisionBuilder) -> None:
    """A deal that is accepted at a sales stage of the seller's goes out with it, in the same PATCH."""
    rule, link = builder.rules.fields.get("sales_stage"), builder.link
    here, there = builder.rules.stages.sales_stage(builder.opportunity), builder.referral["sales_stage"]
    base_here, base_there = (
        bases.get("sales_stage") for bases in (link.base_opportunity, link.base_referral)
    )
    edited = base_here is not None and here != base_here and there == base_there
    sendable = rule is not None and rule.goes_to_partner_center
    filled = builder.rules.stages.have_own_field(builder.shape.fields) and here in {base_here, DEFAULT}
    unsaid = there in {None, ABSENT} and not filled
    if sendable and here is not ABSENT and (edited or unsaid):
        builder.to_referral["sales_stage"] = here
        builder.reasons["sales_stage"] = "changed in the CRM"
