"""A decision in the making: the deal it is about, and what the steps of ``reconcile`` have found so far."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import Fields, Side, Snapshot, State, Step, Value
from cosell_sync.core.decision import Conflict, Decision, Effect, Hold, HoldKind
from cosell_sync.core.frozen import replace
from cosell_sync.core.limits import (
    CRM_REQUIRES,
    currency_stays,
    no_choice_for,
    why_crm_cannot_store,
    why_read_only,
)
from cosell_sync.core.memory import Action, FinalKind, Link, Withheld, reported_state
from cosell_sync.core.normalize import empty
from cosell_sync.core.retry import blocked_side, freed_from
from cosell_sync.core.rules import CrmShape, FieldRule, Rules
from cosell_sync.core.stage_table import Consequence

TRIED: Final = "a try: whether Partner Center takes this is not known yet"


@dataclass
class DecisionBuilder:
    """``to_referral``, ``to_crm``: fields to write; ``reasons``: field → the rule that asks for it."""

    link: Link
    state: State
    referral: Snapshot
    opportunity: Snapshot
    rules: Rules
    shape: CrmShape
    now: datetime
    follows: Consequence  # what the stage in the CRM means for this deal
    own_move: State | None = None
    withheld: Mapping[FinalKind, Withheld] = field(default_factory=dict)  # what the guard lets nobody do now
    taken_back: State | None = None  # an end that is not asked for any more, before its hold was over
    invites: bool = False  # Microsoft is to be invited, which is no step of a walk
    to_referral: dict[str, Value] = field(default_factory=dict)
    to_crm: dict[str, Value] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    retried: list[Hold] = field(default_factory=list)

    def update_memory(self, **changes: object) -> None:
        """Replace fields of the link's memory; most are as they are to be."""
        memory = self.link.memory
        if any(getattr(memory, name) != value for name, value in changes.items()):
            self.link = replace(self.link, memory=replace(memory, **changes))  # type: ignore[arg-type]

    def forget_answers(self, names: Collection[str]) -> None:
        """There is nothing to decide of these fields: a person's answer is over, so that no later conflict is decided by it."""
        resolved = self.link.memory.resolved
        self.update_memory(resolved={name: side for name, side in resolved.items() if name not in names})

    def withholds(self, kind: FinalKind, field: str, there: Value, here: Value) -> bool:
        """Whether the guard withholds this step; then it is held, with its reason, and remembered."""
        item = self.withheld.get(kind)
        if item is None:
            return False
        self.update_memory(withheld=(*self.link.memory.withheld, item))
        self.holds.append(Hold(HoldKind.WITHHELD, field, there, here, messages.withheld(item)))
        return True


def set_base_state(builder: DecisionBuilder, state: State) -> None:
    """Both sides agree on this state, whatever the stage in the CRM is."""
    base_referral = {**builder.link.base_referral, "state": state.value}
    builder.link = replace(builder.link, base_referral=base_referral)


def agree_on_stage(builder: DecisionBuilder) -> None:
    """Both sides agree: the state and the stage as they are now become base."""
    set_base_state(builder, builder.state)
    base_opportunity = {**builder.link.base_opportunity, "stage": builder.opportunity["stage"]}
    builder.link = replace(builder.link, base_opportunity=base_opportunity)


def build_decision(builder: DecisionBuilder, steps: tuple[Step, ...] = ()) -> Decision:
    """The decision: what was found, less what a failed deal must not be tried with now and what the record locks."""
    link = builder.link
    failing = blocked_side(link.memory, builder.now)
    if failing is Side.PARTNER_CENTER:
        steps = ()
    elif not steps and not builder.invites:
        memory = freed_from(link.memory, Side.PARTNER_CENTER)  # nothing is left to be refused
        link = link if memory is link.memory else replace(link, memory=memory)
    to_crm = {} if failing is Side.CRM else builder.to_crm
    to_crm = {name: value for name, value in to_crm.items() if name not in builder.opportunity.readonly}
    return Decision(
        link=link,
        steps=steps,
        crm=to_crm,
        effects=(*_referral_effects(steps, builder), *_crm_effects(to_crm, builder, reported_state(link))),
        conflicts=tuple(builder.conflicts),
        holds=tuple(builder.holds),
        notices=tuple(builder.notices),
        taken_back=builder.taken_back,
        retried=tuple(builder.retried),
    )


def _crm_effects(to_crm: Fields, builder: DecisionBuilder, told: State | None) -> Iterator[Effect]:
    """``told``: the state that the CRM was last told; a stage that goes with a new one is a move."""
    state = builder.state
    for name, value in to_crm.items():
        rule = builder.reasons.get(name, "")
        if name == "stage" and state is not told and state is not State.UNKNOWN:
            yield Effect(Side.CRM, Action.MOVE, name, told.value if told else None, state.value, rule)
        else:
            yield Effect(Side.CRM, Action.UPDATE, name, builder.opportunity[name], value, rule or "done")


def _referral_effects(steps: tuple[Step, ...], builder: DecisionBuilder) -> list[Effect]:
    effects = []
    state = builder.state
    for step in steps:
        for name, value in step.fields.items():
            rule = builder.reasons.get(name, "goes along with this change")
            if step.trial:
                rule = f"{rule}; {TRIED}"
            effects.append(
                Effect(Side.PARTNER_CENTER, Action.UPDATE, name, builder.referral[name], value, rule)
            )
        if step.state is not None:
            rule = "the seller moved it in the CRM"
            effects.append(
                Effect(Side.PARTNER_CENTER, Action.MOVE, "status", state.value, step.state.value, rule)
            )
            state = step.state
    return effects


def write_to_crm_or_hold(builder: DecisionBuilder, rule: FieldRule, value: Value) -> None:
    """Write the value to the CRM, or hold it back with the reason why the CRM cannot take it."""
    name = rule.name
    reason = why_not_in_crm(builder, name, value, builder.shape.label(name), value)
    if reason is None:
        builder.to_crm[name] = value
        return
    kind, text = reason
    builder.holds.append(Hold(kind, name, builder.referral[name], builder.opportunity[name], text))


def why_not_in_crm(
    builder: DecisionBuilder, name: str, value: Value, label: str, shown: Value
) -> tuple[HoldKind, str] | None:
    """Why the CRM cannot take it, and what the seller reads of that; ``label``, ``shown``: as he is to read them."""
    if name in builder.opportunity.readonly and (
        not builder.opportunity.flag("is_closed") or currency_stays(name, builder.opportunity)
    ):
        why = why_read_only(name, builder.opportunity)
        return HoldKind.READ_ONLY, messages.read_only(label, shown, why)
    if reason := _why_never(builder, name, value, label, shown):
        return reason
    if name in builder.opportunity.readonly:  # only while the record is closed
        why = why_read_only(name, builder.opportunity)
        return HoldKind.READ_ONLY, messages.read_only(label, shown, why)
    return None


def _why_never(
    builder: DecisionBuilder, name: str, value: Value, label: str, shown: Value
) -> tuple[HoldKind, str] | None:
    """Why the CRM would not take it, be the record open or closed; as ``why_not_in_crm``."""
    if no_choice_for(name, value, builder.shape):
        return HoldKind.READ_ONLY, messages.no_choice(label, shown)
    kept = builder.opportunity[name]
    if name in CRM_REQUIRES and empty(value) and not empty(kept):
        return HoldKind.CRM_CANNOT, messages.cannot_be_cleared(label, kept)
    if name == "currency" and empty(value):
        amount = messages.shown(builder.referral["value"])
        return HoldKind.CRM_CANNOT, messages.amount_without_currency([label], amount)
    if problem := why_crm_cannot_store(name, value, builder.shape):
        return HoldKind.CRM_CANNOT, messages.crm_cannot(label, shown, problem)
    return None
