"""The fields that both sides have: each is merged, then written or held back with a reason."""

from __future__ import annotations

from dataclasses import replace

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder, write_to_crm_or_hold
from cosell_sync.core.deal import ABSENT, Side, State
from cosell_sync.core.decision import Conflict, Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.limits import NEVER_EMPTY, foreign_currency, why_not_sent
from cosell_sync.core.memory import set_known
from cosell_sync.core.merge import Merged, Sides, merge
from cosell_sync.core.normalize import empty
from cosell_sync.core.rules import FieldRule
from cosell_sync.core.sales_stage import merge_sales_stage


def merge_shared_fields(builder: DecisionBuilder) -> None:
    referral, opportunity, rules, shape = builder.referral, builder.opportunity, builder.rules, builder.shape
    memory = builder.link.memory
    base_referral, base_opportunity = dict(builder.link.base_referral), dict(builder.link.base_opportunity)
    reported, disputed, resolved = list(memory.reported), list(memory.disputed), dict(memory.resolved)
    rewritten = dict(memory.rewritten)
    for name in SHARED:
        rule = rules.fields.get(name)
        if rule is None or (name not in shape.fields and name != "sales_stage"):
            continue
        if name == "sales_stage":
            if builder.state is State.ACCEPTED:
                merge_sales_stage(builder, rule, base_referral, base_opportunity)
            continue
        stuck = {mark: why for mark, why in _unequal_after_write(name).items() if mark in reported}
        forced: set[Side] = set(Side) if name in disputed or (stuck and name in resolved) else set()
        if rewritten.get(name):
            forced.add(Side.CRM)
        sides = Sides(
            referral[name],
            opportunity[name],
            base_referral.get(name, ABSENT),
            base_opportunity.get(name, ABSENT),
            frozenset(forced),
        )
        merged = merge(rule, sides, shape, resolved.get(name))
        quiet = merged.to_crm is ABSENT and merged.to_referral is ABSENT and merged.conflict is None
        for mark, why in stuck.items():
            if not quiet:
                reported.remove(mark)  # someone changed it since, or decided: a new story
            elif sides.referral != sides.opportunity:
                builder.conflicts.append(Conflict(name, sides.referral, sides.opportunity, None, why))
        if quiet and name in disputed:
            disputed.remove(name)
        set_known(base_referral, name, merged.base_referral)
        set_known(base_opportunity, name, merged.base_opportunity)
        _write_or_hold(builder, rule, merged)
    if builder.state not in TERMINAL and (text := foreign_currency(referral, rules, shape)):
        builder.holds.append(Hold(HoldKind.CRM_CANNOT, "currency", referral["currency"], ABSENT, text))
    builder.link = replace(builder.link, base_referral=base_referral, base_opportunity=base_opportunity)
    builder.update_memory(
        reported=tuple(reported), disputed=tuple(disputed), rewritten=rewritten, resolved=resolved
    )


def _unequal_after_write(name: str) -> dict[str, str]:
    """What is remembered of a field whose write landed and yet left the sides different, and what that means."""
    return {
        f"automation:{name}": "an automation in the CRM rewrites it",
        f"kept:{name}": "Partner Center holds something else than was sent",
    }


def _write_or_hold(builder: DecisionBuilder, rule: FieldRule, merged: Merged) -> None:
    """Sort what a merge asks for into what may be written and what must be held."""
    referral, opportunity, rules, shape = builder.referral, builder.opportunity, builder.rules, builder.shape
    name, label = rule.name, shape.label(rule.name)
    builder.reasons[name] = merged.rule

    def hold(kind: HoldKind, text: str) -> None:
        builder.holds.append(Hold(kind, name, referral[name], opportunity[name], text))

    if name == "value" and foreign_currency(referral, rules, shape):
        return  # five of one currency are not five of another; the hold on the currency says so
    if merged.conflict is not None:
        builder.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        why = why_not_sent(name, builder.link, rules)
        if why:
            hold(HoldKind.FROZEN, messages.frozen(label, why))
        elif name in NEVER_EMPTY and empty(merged.to_referral):
            hold(HoldKind.NEED, messages.cannot_be_empty(label, referral[name]))
        else:
            builder.to_referral[name] = merged.to_referral
    if merged.to_crm is not ABSENT:
        write_to_crm_or_hold(builder, rule, merged.to_crm)
