"""The three-way merge of fields that mean something only together, such as an amount and its currency.

Each by itself, one side's amount could meet the other side's currency, and both systems would hold what nobody entered.
"""

from __future__ import annotations

from collections.abc import Mapping

from cosell_sync.core.deal import ABSENT, Side
from cosell_sync.core.decision import Conflict
from cosell_sync.core.fields import KINDS
from cosell_sync.core.frozen import replace
from cosell_sync.core.merge import Merged, Sides, changed_sides, says_nothing
from cosell_sync.core.normalize import agree, for_crm, for_referral, same
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Policy


def merge_together(
    rules: Mapping[str, FieldRule], group: Mapping[str, Sides], shape: CrmShape, answer: Side | None = None
) -> dict[str, Merged]:
    """The same table for fields that mean something only together, as one value with one winner.

    The first field's rule decides for all; where one of the others alone differs, its own policy does. Where the winner's value goes over, all of it does: a PATCH that
    brings an amount in another currency brings both, though the number be the same.
    """
    rule = rules[next(iter(group))]
    still = {name: Merged(sides.base_referral, sides.base_opportunity) for name, sides in group.items()}
    values = group.values()
    if rule.flow is Flow.OFF or any(ABSENT in (each.referral, each.opportunity) for each in values):
        return still
    if all(agree(name, each.referral, each.opportunity, shape) for name, each in group.items()):
        return {name: Merged(each.referral, each.opportunity) for name, each in group.items()}
    changed = _changed_together(rule, group)
    kept = next(iter(changed), None)
    why = {Side.PARTNER_CENTER: "changed in Partner Center", Side.CRM: "changed in the CRM", None: ""}[kept]
    clash = len(changed) == len(Side)
    if clash:
        differing = [
            name for name, each in group.items() if not same(KINDS[name], each.referral, each.opportunity)
        ]
        policy = rules[differing[0] if len(differing) == 1 else rule.name].policy
        kept = answer or {Policy.PARTNER_CENTER: Side.PARTNER_CENTER, Policy.CRM: Side.CRM}.get(policy)
        why = f"policy {policy}" + (" at first sight" if any(each.first for each in values) else "")
        why = "a person decided" if answer else why
    return {
        name: replace(
            _carried(name, group, kept, shape, still[name]),
            conflict=Conflict(name, sides.referral, sides.opportunity, kept, why)
            if clash and not agree(name, sides.referral, sides.opportunity, shape)
            else None,
            rule=why,
        )
        for name, sides in group.items()
    }


def _changed_together(rule: FieldRule, group: Mapping[str, Sides]) -> frozenset[Side]:
    """As for one field; a group is changed where a part of it is. At first sight its first field says what is empty."""
    first = any(sides.first for sides in group.values())
    changed: set[Side] = set()
    for name, sides in group.items():
        changed |= changed_sides(rule, KINDS[name], sides)
    if first:
        changed = {
            side
            for side, goes in (
                (Side.PARTNER_CENTER, rule.goes_to_crm),
                (Side.CRM, rule.goes_to_partner_center),
            )
            if goes
        } - says_nothing(group[rule.name])
    return frozenset(changed)


def _carried(
    name: str, group: Mapping[str, Sides], kept: Side | None, shape: CrmShape, still: Merged
) -> Merged:
    """What goes over of one field of a group, given whose value is kept: the first goes along wherever another does."""
    sides, kind, (first, *others) = group[name], KINDS[name], group
    along = name == first and not all(
        same(KINDS[other], group[other].referral, group[other].opportunity) for other in others
    )
    if kept is Side.PARTNER_CENTER:
        value = for_crm(name, sides.referral, shape)
        return replace(still, to_crm=value) if along or not same(kind, value, sides.opportunity) else still
    if kept is Side.CRM:
        value = for_referral(name, sides.opportunity, shape)
        if agree(name, sides.referral, sides.opportunity, shape) and _equally_exact(group, shape):
            value = sides.referral  # whole, as Partner Center holds it: only its partner was changed
        return replace(still, to_referral=value) if along or not same(kind, value, sides.referral) else still
    return still


def _equally_exact(group: Mapping[str, Sides], shape: CrmShape) -> bool:
    """Whether the CRM holds as many decimals in both sides' currencies, so that an amount cut in the one is no other in the other."""
    currency = group.get("currency")
    if currency is None:
        return True
    there, here = (shape.scales.get(str(each)) for each in (currency.referral, currency.opportunity))
    return there == here
