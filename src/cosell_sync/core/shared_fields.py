"""The fields that both sides have: each is merged, then written or held back with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cosell_sync.core import messages, stand_ins
from cosell_sync.core.accounts import difference, keeps_equal, merge_account
from cosell_sync.core.builder import DecisionBuilder, why_not_in_crm
from cosell_sync.core.deal import ABSENT, Customer, Fields, Side, State, Value, hidden_parts
from cosell_sync.core.decision import Conflict, ConflictKind, Hold, HoldKind
from cosell_sync.core.fields import KINDS, SHARED, TOGETHER, UNKEYED
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.limits import (
    PARTNER_CENTER_REQUIRES,
    currency_stays,
    foreign_currency,
    tells_more,
    why_not_sent,
    why_partner_center_cannot_store,
)
from cosell_sync.core.memory import Memory, set_known
from cosell_sync.core.merge import Merged, Sides, merge
from cosell_sync.core.normalize import agree, empty, only_adds, same
from cosell_sync.core.rules import FieldRule, Flow
from cosell_sync.core.sales_stage import merge_sales_stage
from cosell_sync.core.texts import Text, sentences
from cosell_sync.core.together import merge_together
from cosell_sync.errors import Cure

# Kinds of conflict that are remembered of a field: a write landed, and yet the sides differ.
_UNEQUAL_AFTER_WRITE: Final[Mapping[ConflictKind, str]] = {
    ConflictKind.AUTOMATION: "an automation in the CRM rewrites it",
    ConflictKind.NOT_TAKEN: "Partner Center holds something else than was sent",
}

# Fields that are merged with the first of their group, and by its rule; alone they mean nothing.
_LED: Final = frozenset(name for first, group in TOGETHER.items() for name in group if name != first)
Reason = tuple[HoldKind, str]


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
        elif name == "value" and _is_other_money(builder):
            continue  # five of one currency are not five of another; the hold says so
        elif name == "customer" and stand_ins.has_no_customer(builder.referral):
            continue  # no account can be found or made for nobody, and Partner Center takes none of ours
        elif name in builder.shape.fields and name not in _LED:
            _merge_field(builder, rule, base_referral, base_opportunity)
    _hold_other_money(builder)
    _hold_stand_ins(builder)
    _hold_unkeyed(builder)
    builder.link = replace(builder.link, base_referral=base_referral, base_opportunity=base_opportunity)


def _hold_stand_ins(builder: DecisionBuilder) -> None:
    """Say what stands in for what Microsoft does not bring, once for each field; forget those that stand no longer."""
    referral, rules, shape, link = builder.referral, builder.rules, builder.shape, builder.link
    if not link.memory.stand_ins:
        return
    if builder.state not in TERMINAL:
        held = {hold.field for hold in builder.holds if hold.kind is HoldKind.CRM_CANNOT}
        names = tuple(name for name in stand_ins.standing(link, rules, shape) if name not in held)
        builder.holds += stand_ins.holds(names, referral, builder.opportunity.fields, rules, shape)
        apart = stand_ins.kept_apart(referral, builder.opportunity, rules, shape)
        builder.holds += [apart] if apart and "value" in link.memory.stand_ins else []
    builder.update_memory(stand_ins=stand_ins.remembered(link, rules, shape))


def _hold_unkeyed(builder: DecisionBuilder) -> None:
    """Name whoever stays on one side, because nothing there tells them from others."""
    if builder.state in TERMINAL:
        return
    for name, told in UNKEYED.items():
        rule = builder.rules.fields.get(name)
        if rule is None or name not in builder.shape.fields:
            continue
        there, here, label = builder.referral[told], builder.opportunity[told], builder.shape.label(name)
        if rule.goes_to_partner_center and not empty(here):
            text = messages.without_key_here(name, label, str(here))
            builder.holds.append(Hold(HoldKind.UNKEYED, name, ABSENT, here, text))
        if rule.goes_to_crm and not empty(there):
            text = messages.without_key_there(name, label, str(there))
            builder.holds.append(Hold(HoldKind.UNKEYED, name, there, ABSENT, text))


def _together(builder: DecisionBuilder, name: str) -> tuple[str, ...]:
    """The fields that are merged with this one, it first, as far as both sides say something of them."""
    others = (each for each in TOGETHER.get(name, ()) if each != name and each in builder.rules.fields)
    return (name, *(each for each in others if each in builder.shape.fields and _both_say(builder, each)))


def _unseen(builder: DecisionBuilder, name: str) -> list[str]:
    """What the CRM does not show of this field, or of one that it means nothing without: then nothing of it crosses."""
    rules, shape = builder.rules.fields, builder.shape
    return [
        each
        for each in TOGETHER.get(name, (name,))
        if each in rules
        and rules[each].flow is not Flow.OFF
        and each in shape.fields
        and builder.opportunity[each] is ABSENT
    ]


def _both_say(builder: DecisionBuilder, name: str) -> bool:
    return builder.referral[name] is not ABSENT and builder.opportunity[name] is not ABSENT


def _merge_field(
    builder: DecisionBuilder,
    rule: FieldRule,
    base_referral: dict[str, Value],
    base_opportunity: dict[str, Value],
) -> None:
    """Merge a field, and with it those that mean something only together with it."""
    if agreed := _agreed(builder, rule):
        for name in agreed:
            base_referral[name] = builder.referral[name]
            base_opportunity[name] = builder.opportunity[name]
            builder.reasons[name] = ""
        builder.forget_answers(agreed)
        _note_consent(builder, rule.name)
        return
    if unseen := _unseen(builder, rule.name):
        builder.holds += [
            Hold(
                HoldKind.UNSEEN,
                name,
                builder.referral[name],
                ABSENT,
                messages.unseen(builder.shape.label(name)),
            )
            for name in unseen
        ]
        return
    _note_consent(builder, rule.name)
    memory, names = builder.link.memory, _together(builder, rule.name)
    unequal = {
        name: [kind for kind in _UNEQUAL_AFTER_WRITE if kind.key(name) in memory.reported] for name in names
    }
    taken = frozenset[Side]().union(
        *(_taken_as_changed(name, memory, unequal=bool(unequal[name])) for name in names)
    )
    if rule.name in stand_ins.untouched(builder.link) and not stand_ins.lacks(
        rule.name, builder.referral, builder.rules, builder.shape
    ):
        taken |= {Side.PARTNER_CENTER}  # what the CRM could not hold when it was made, it can hold now
    group = {
        name: Sides(
            builder.referral[name],
            builder.opportunity[name],
            base_referral.get(name, ABSENT),
            base_opportunity.get(name, ABSENT),
            taken,
        )
        for name in names
    }
    answer = next((memory.resolved[name] for name in names if name in memory.resolved), None)
    if answer is None and _is_shared_account(builder, rule.name):
        merged = {rule.name: merge_account(rule, group[rule.name], builder.shape)}
    elif len(names) == 1:
        merged = {rule.name: merge(rule, group[rule.name], builder.shape, answer)}
    else:
        merged = merge_together(builder.rules.fields, group, builder.shape, answer)
    if all(
        each.to_crm is ABSENT and each.to_referral is ABSENT and not each.conflict for each in merged.values()
    ):
        builder.conflicts += [
            Conflict(name, sides.referral, sides.opportunity, None, _UNEQUAL_AFTER_WRITE[kind], kind)
            for name, sides in group.items()
            if sides.referral != sides.opportunity
            for kind in unequal[name]
        ]
        builder.update_memory(disputed=tuple(each for each in memory.disputed if each not in names))
        builder.forget_answers(names)
    else:  # someone has changed it since, or decided
        over = {kind.key(name) for name in names for kind in unequal[name]}
        builder.update_memory(reported=tuple(each for each in memory.reported if each not in over))
    for name, each in merged.items():
        set_known(base_referral, name, each.base_referral)
        set_known(base_opportunity, name, each.base_opportunity)
    _write_or_hold(builder, merged)


def _agreed(builder: DecisionBuilder, rule: FieldRule) -> Sequence[str]:
    """The field, and those that it is merged with, where both sides plainly hold the same, as of most; else none."""
    if rule.flow is Flow.OFF or builder.link.memory.disputed or not _plainly_alike(builder, rule.name):
        return ()
    if rule.name not in TOGETHER:
        return (rule.name,)
    rules, shape = builder.rules.fields, builder.shape.fields
    names = [name for name in TOGETHER[rule.name] if name in rules and name in shape]
    return names if all(_plainly_alike(builder, name) for name in names) else ()


def _plainly_alike(builder: DecisionBuilder, name: str) -> bool:
    """Whether both sides hold the very same and show all of it, so that merging it would find nothing."""
    there, here = builder.referral[name], builder.opportunity[name]
    if there is ABSENT or there != here:
        return False
    if isinstance(there, tuple) and isinstance(here, tuple):
        return not any(map(hidden_parts, there)) and not any(map(hidden_parts, here))
    return True


def _is_shared_account(builder: DecisionBuilder, name: str) -> bool:
    """Whether the field stands in an account that other records may use, so that the referral does not rule it."""
    return (
        name == "customer"
        and isinstance(builder.opportunity[name], Customer)
        and not keeps_equal(builder.link, builder.rules.account_updates)
    )


def _taken_as_changed(name: str, memory: Memory, *, unequal: bool) -> frozenset[Side]:
    """The sides whose value counts as an edit whatever the base says."""
    if name in memory.disputed or (unequal and name in memory.resolved):
        return frozenset(Side)
    return frozenset({Side.CRM} if memory.rewritten.get(name) else ())


def _write_or_hold(builder: DecisionBuilder, group: Mapping[str, Merged]) -> None:
    """Sort what a merge asks for into what may be written and what must be held: a group goes over whole or not at all."""
    for name, merged in group.items():
        builder.reasons[name] = merged.rule
        if merged.conflict is not None:
            builder.conflicts.append(merged.conflict)
    opportunity = builder.opportunity
    up = {name: merged.to_referral for name, merged in group.items() if merged.to_referral is not ABSENT}
    told = {
        name: merged.to_crm
        for name, merged in group.items()
        if merged.to_crm is not ABSENT
        and not (name == "currency" and empty(merged.to_crm) and empty(builder.referral["value"]))
    }  # a currency without an amount says nothing, and no CRM clears one
    down = {
        name: value
        for name, value in told.items()
        if not (len(group) > 1 and name in opportunity.readonly and value == opportunity[name])
    }
    # the reason that is told is that of a part which differs, if it has one
    names = sorted(group, key=lambda name: builder.referral[name] == opportunity[name])
    no_up = [why for name in names if name in up and (why := _why_not_up(builder, name, up[name]))]
    names.sort(
        key=lambda name: not currency_stays(name, opportunity)
    )  # what a reopened record would not take either
    no_down = [why for name in names if name in down and (why := _why_not_down(builder, name, told))]
    _put_or_hold(builder, builder.to_referral, up, no_up)
    _put_or_hold(builder, builder.to_crm, down, no_down)
    if "customer" in group:
        _hold_difference(builder, group["customer"])


def _hold_difference(builder: DecisionBuilder, merged: Merged) -> None:
    """Name what stays different between an account and Partner Center's customer."""
    rule, there, here = (
        builder.rules.fields["customer"],
        builder.referral["customer"],
        builder.opportunity["customer"],
    )
    if not rule.goes_to_crm or merged.to_referral is not ABSENT or merged.conflict is not None:
        return
    held = builder.to_crm.get("customer", here)
    if text := difference(there, held, builder.shape):
        builder.holds.append(Hold(HoldKind.SHARED, "customer", there, here, text))


def _put_or_hold(
    builder: DecisionBuilder, target: dict[str, Value], values: Fields, reasons: Sequence[Reason]
) -> None:
    """All of them, or none: then each is held, for the first reason, which is thus told once."""
    if not reasons:
        target.update(values)
        return
    kind, text = reasons[0]
    for name in values:
        there, here = builder.referral[name], builder.opportunity[name]
        if len(values) > 1 and there == here:
            continue  # the same number, of another currency
        builder.holds.append(Hold(kind, name, there, here, text))


def _why_not_up(builder: DecisionBuilder, name: str, value: Value) -> Reason | None:
    """Why Partner Center is not sent this value."""
    label = builder.shape.label(name)
    if why := why_not_sent(name, builder.link, builder.rules):
        return HoldKind.FROZEN, messages.frozen(label, why)
    if name == "contacts" and (why := _why_no_consent(builder, value)):
        return HoldKind.FROZEN, messages.frozen(label, why)
    if name in PARTNER_CENTER_REQUIRES and empty(value):
        return HoldKind.NEED, messages.cannot_be_empty(label, builder.referral[name])
    if why := why_partner_center_cannot_store(value, builder.now.date()):
        return HoldKind.NEED, messages.partner_center_refused(
            label, value, builder.referral[name], why, Cure.SELLER
        )
    if not builder.rules.fields[name].goes_to_partner_center:
        return HoldKind.FROZEN, messages.frozen(label, messages.not_kept_in_step(label))
    nameless = name == "solutions" and not empty(builder.referral[UNKEYED[name]])
    if nameless and not only_adds(builder.referral[name], value):
        # The list would be written whole, and a solution without an id is not known to be taken (resource page, SolutionTag).
        return HoldKind.FROZEN, messages.frozen(label, messages.WITHOUT_ID_THERE)
    return None


def _why_no_consent(builder: DecisionBuilder, contacts: Value) -> Text | None:
    """Why Partner Center is not told of these contacts."""
    if not builder.link.memory.unconsented or builder.opportunity["consent"] is True:
        return None
    if not tells_more(builder.referral["contacts"], contacts):
        return None
    return Text("tick %(consent)s once these people have agreed", consent=builder.shape.label("consent"))


def _note_consent(builder: DecisionBuilder, name: str) -> None:
    """Remember whether the opportunity had contacts at first sight: those nobody meant for Microsoft, until both sides hold the
    same. A contact that is added then is a seller's word about this deal.
    """
    if name != "contacts":
        return
    there, here = builder.referral[name], builder.opportunity[name]
    if agree(name, there, here, builder.shape):
        builder.update_memory(unconsented=False)
    elif name not in builder.link.base_opportunity and tells_more(there, here):
        builder.update_memory(unconsented=True)


def _why_not_down(builder: DecisionBuilder, name: str, values: Fields) -> Reason | None:
    """Why the CRM is not given this value; of fields that go together the text names all: `110.00 USD`."""
    label, shown = builder.shape.label(name), values[name]
    if len(values) > 1:
        label = messages.listed(builder.shape.label(each) for each in values)
        shown = sentences(*(messages.shown(builder.referral[each]) for each in values))
    if reason := why_not_in_crm(builder, name, values[name], label, shown):
        return reason
    if not builder.rules.fields[name].goes_to_crm:
        why = messages.not_kept_in_step(builder.shape.label(name))
        return HoldKind.READ_ONLY, messages.read_only(label, shown, why)
    return None


def _is_other_money(builder: DecisionBuilder) -> bool:
    return foreign_currency(builder.referral, builder.rules, builder.shape) is not None


def _hold_other_money(builder: DecisionBuilder) -> None:
    """A CRM of one currency holds neither the currency nor an amount in another; told once."""
    referral, opportunity, shape = builder.referral, builder.opportunity, builder.shape
    why = foreign_currency(referral, builder.rules, shape)
    if why is None or builder.state in TERMINAL or "value" in builder.link.memory.stand_ins:
        return
    label, shown = shape.label("currency"), referral["currency"]
    differs = not same(KINDS["value"], referral["value"], opportunity["value"])
    if differs:
        label = messages.listed([shape.label("value"), label])
        shown = sentences(messages.shown(referral["value"]), messages.shown(shown))
    text = messages.crm_cannot(label, shown, why)
    builder.holds.append(Hold(HoldKind.CRM_CANNOT, "currency", referral["currency"], ABSENT, text))
    if differs:
        builder.holds.append(
            Hold(HoldKind.CRM_CANNOT, "value", referral["value"], opportunity["value"], text)
        )
