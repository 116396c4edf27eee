"""The fields that both sides have: each is merged, then written or held back with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder, write_to_crm_or_hold
from cosell_sync.core.deal import ABSENT, Side, State, Value
from cosell_sync.core.decision import Conflict, ConflictKind, Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.limits import (
    PARTNER_CENTER_REQUIRES,
    foreign_currency,
    why_not_sent,
    why_partner_center_cannot_store,
)
from cosell_sync.core.memory import Memory, set_known
from cosell_sync.core.merge import Merged, Sides, merge
from cosell_sync.core.normalize import empty
from cosell_sync.core.rules import FieldRule
from cosell_sync.core.sales_stage import merge_sales_stage

# Kinds of conflict that are remembered of a field: a write landed, and yet the sides differ.
_UNEQUAL_AFTER_WRITE: Final[Mapping[ConflictKind, str]] = {
    ConflictKind.AUTOMATION: "an automation in the CRM rewrites it",
    ConflictKind.NOT_TAKEN: "Partner Center holds something else than was sent",
}


def merge_shared_fields(builder: DecisionBuilder) -> None:
    """Merge every field that is configured and that this CRM has; what is agreed already becomes base."""
    base_referral, base_opportunity = dict(builder.link.base_referral), dict(builder.link.base_opportunity)
    for name in SHARED:
        rule = builder.rules.fields.get(name)
        if rule is None:
            continue
        if name == "sales_stage":
            if builder.state is State.ACCEPTED:
                merge_sales_stage(builder, rule, base_referral, base_opportunity)
        elif name in builder.shape.fields:
            _merge_field(builder, rule, base_referral, base_opportunity)
    text = foreign_currency(builder.referral, builder.rules, builder.shape)
    if text and builder.state not in TERMINAL:
        builder.holds.append(
            Hold(HoldKind.CRM_CANNOT, "currency", builder.referral["currency"], ABSENT, text)
        )
    builder.link = replace(builder.link, base_referral=base_referral, base_opportunity=base_opportunity)


def _merge_field(
    builder: DecisionBuilder,
    rule: FieldRule,
    base_referral: dict[str, Value],
    base_opportunity: dict[str, Value],
) -> None:
    name, memory = rule.name, builder.link.memory
    unequal = [kind for kind in _UNEQUAL_AFTER_WRITE if kind.key(name) in memory.reported]
    sides = Sides(
        builder.referral[name],
        builder.opportunity[name],
        base_referral.get(name, ABSENT),
        base_opportunity.get(name, ABSENT),
        _taken_as_changed(name, memory, unequal=bool(unequal)),
    )
    merged = merge(rule, sides, builder.shape, memory.resolved.get(name))
    if merged.to_crm is ABSENT and merged.to_referral is ABSENT and merged.conflict is None:
        if sides.referral != sides.opportunity:
            builder.conflicts += [
                Conflict(name, sides.referral, sides.opportunity, None, _UNEQUAL_AFTER_WRITE[kind], kind)
                for kind in unequal
            ]
        builder.update_memory(disputed=tuple(each for each in memory.disputed if each != name))
    else:  # someone has changed it since, or decided
        over = {kind.key(name) for kind in unequal}
        builder.update_memory(reported=tuple(each for each in memory.reported if each not in over))
    set_known(base_referral, name, merged.base_referral)
    set_known(base_opportunity, name, merged.base_opportunity)
    _write_or_hold(builder, rule, merged)


def _taken_as_changed(name: str, memory: Memory, *, unequal: bool) -> frozenset[Side]:
    """The sides whose value counts as an edit whatever the base says."""
    if name in memory.disputed or (unequal and name in memory.resolved):
        return frozenset(Side)
    return frozenset({Side.CRM} if memory.rewritten.get(name) else ())


def _write_or_hold(builder: DecisionBuilder, rule: FieldRule, merged: Merged) -> None:
    """Write what a merge asks for, or hold it back with the reason."""
    referral, opportunity, rules, shape = builder.referral, builder.opportunity, builder.rules, builder.shape
    name, label = rule.name, shape.label(rule.name)
    builder.reasons[name] = merged.rule

    def hold_back(kind: HoldKind, text: str) -> None:
        builder.holds.append(Hold(kind, name, referral[name], opportunity[name], text))

    if name == "value" and foreign_currency(referral, rules, shape):
        return  # five of one currency are not five of another; the hold on the currency says so
    if merged.conflict is not None:
        builder.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        why = why_not_sent(name, builder.link, rules)
        if why:
            hold_back(HoldKind.FROZEN, messages.frozen(label, why))
        elif name in PARTNER_CENTER_REQUIRES and empty(merged.to_referral):
            hold_back(HoldKind.NEED, messages.cannot_be_empty(label, referral[name]))
        elif why := why_partner_center_cannot_store(merged.to_referral, builder.now.date()):
            value = merged.to_referral
            hold_back(HoldKind.NEED, messages.partner_center_refused(label, value, referral[name], why))
        else:
            builder.to_referral[name] = merged.to_referral
    if merged.to_crm is not ABSENT:
        write_to_crm_or_hold(builder, rule, merged.to_crm)
