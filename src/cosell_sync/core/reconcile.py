"""What follows for one linked deal: its two snapshots, its bases and the rules go in, a decision comes out.

A decision holds what to write on either side and why, what is held back and why, and what both sides already agree on.
It is made twice in a cycle. The first one says what goes to Partner Center. When that has landed, or failed, the second
one, made from what Partner Center holds then, says what goes to the CRM, so that the record always tells the truth
about what was really taken. Nothing of the first decision needs to survive a crash: made again, it comes out the same.

How a stage becomes a move. The CRM has one word, the stage, for where a deal stands; the lifecycle says which moves are
legal, and the base says what is new:

    referral    stage in the CRM                                    follows
    received    left standby since both agreed, or Action = Accept  the seller accepts
    received    closed as lost, or Action = Decline                 the seller declines
    received    won                                                 the seller accepts now and wins after the hold
    received    open, but was never in standby                      nothing: answering takes an explicit act
    accepted    won / lost                                          the seller wins / loses, after the hold
    accepted    standby, when the CRM was told "Received"           the CRM follows to the accepted stage
    over        open, and was not told yet                          the CRM follows to the closed stage
    over        reopened or changed after the end                   nothing is written; the seller is told
    over        closed differently, never agreed                    conflict, nothing is overwritten

``Cosell_Status__c`` on the record is what the CRM was last told; it stands in for the base where the store was lost.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cosell_sync.core import messages, publishing
from cosell_sync.core.as_json import plain_fields
from cosell_sync.core.deal import (
    ABSENT,
    SHARED,
    STATUS_FIELDS,
    Closing,
    DealType,
    Direction,
    Fields,
    Link,
    Memory,
    Side,
    Snapshot,
    State,
    Step,
    Value,
)
from cosell_sync.core.lifecycle import TERMINAL, Actor, Move, frozen, walk
from cosell_sync.core.merge import Conflict, Merged, Sides, merge
from cosell_sync.core.retry import freed, resting
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Rules, Standing, empty

REGISTRATION_WAIT = timedelta(hours=72)  # Partner Center, register deals: a win before that may be refused
_NEVER_EMPTY = frozenset({"name", "value", "currency", "close_date", "team", "solutions"})
_CRM_NEVER_EMPTY = frozenset({"name", "close_date"})


class HoldKind(StrEnum):
    """Why something is held back; the order is what the seller is told first."""

    NEED = "need"  # a person must fill something in
    CRM_CANNOT = "crm_cannot"  # the CRM cannot hold Partner Center's value
    PAUSED = "paused"
    UNKNOWN_STATE = "unknown_state"
    LATE = "late"  # after the end
    TERMINAL = "terminal"  # waits out its hold
    UNANSWERED = "unanswered"  # goes along with the accept
    FROZEN = "frozen"  # Partner Center does not take it
    READ_ONLY = "read_only"  # the CRM computes it, or does not let us


@dataclass(frozen=True)
class Hold:
    """A value or a move kept back. ``text`` is for the seller; ``until`` where it ends by itself."""

    kind: HoldKind
    field: str
    referral: Value
    opportunity: Value
    text: str
    until: datetime | None = None


@dataclass(frozen=True)
class Effect:
    """One thing to write: which side, which field, from what to what, by which rule."""

    side: Side
    action: str  # create, update, move, tell
    field: str
    old: Value
    new: Value
    rule: str


@dataclass(frozen=True)
class Decision:
    """What follows for one deal. ``link``: bases and memory with what is agreed and known already taken in."""

    link: Link
    steps: tuple[Step, ...] = ()
    crm: Fields = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    holds: tuple[Hold, ...] = ()
    notices: tuple[str, ...] = ()  # what the CRM write of this decision brings, in the seller's words


@dataclass
class _Draft:
    """A decision in the making: what it is about, and what was found so far."""

    link: Link
    state: State
    referral: Snapshot
    opportunity: Snapshot
    rules: Rules
    shape: CrmShape
    now: datetime
    own_move: State | None = None
    invites: bool = False  # Microsoft is to be invited, which is no step of a walk
    up: dict[str, Value] = field(default_factory=dict)
    down: dict[str, Value] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def update_memory(self, **changes: object) -> None:
        self.link = replace(self.link, memory=replace(self.link.memory, **changes))  # type: ignore[arg-type]


def content(link: Link) -> str:
    """A digest of what people wrote on both sides, so that a change of the record frees a stuck deal."""
    here = {
        name: item
        for name, item in (link.opportunity.fields if link.opportunity else {}).items()
        if name not in STATUS_FIELDS
    }
    there = {
        name: item
        for name, item in (link.referral.fields if link.referral else {}).items()
        if name != "updated_at"
    }
    text = json.dumps([plain_fields(here), plain_fields(there)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def state_of(referral: Snapshot) -> State:
    try:
        return State(referral.text("state"))
    except ValueError:
        return State.UNKNOWN


def reported_state(link: Link) -> State | None:
    """The state both sides last agreed on; from the record itself where the store does not know."""
    opportunity = link.opportunity
    words = link.base_referral.get("state") or (opportunity.text("status") if opportunity else "")
    return State(words) if isinstance(words, str) and words in set(State) else None


def decide(
    link: Link, rules: Rules, shape: CrmShape, now: datetime, own_move: State | None = None
) -> Decision:
    """What follows for a linked deal whose two sides are known.

    ``own_move``: the state that our own write brought about in this cycle, so that it is not told as news.
    """
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None or link.memory.gone is not None:
        return Decision(link)
    shape = shape.of_currency(referral.text("currency"))
    draft = _Draft(link, state_of(referral), referral, opportunity, rules, shape, now, own_move)
    if link.memory.failure is not None and link.memory.failure.seen not in {"", content(link)}:
        draft.link = replace(link, memory=freed(link.memory))
    draft.update_memory(rejected=False)
    if _paused(draft):
        return _finish(draft)
    if opportunity["sync"] is False:
        draft.down["sync"] = True
    _merge_fields(draft)
    if draft.state is State.UNKNOWN:
        text = messages.unknown_state(referral.text("status_text"))
        draft.holds.append(
            Hold(HoldKind.UNKNOWN_STATE, "status", referral["status_text"], opportunity["stage"], text)
        )
        draft.up.clear()
        return _finish(draft)
    _widen(draft)
    if draft.state in TERMINAL:
        _end(draft)
        return _finish(draft)
    steps = _seller_moves(draft)
    _crm_follows(draft)
    return _finish(draft, steps)


def _paused(draft: _Draft) -> bool:
    """Sync is off on a deal whose record was told before; a fresh link switches it on instead."""
    if draft.opportunity["sync"] is not False or not draft.opportunity.text("status"):
        return False
    draft.holds.append(Hold(HoldKind.PAUSED, "sync", ABSENT, False, messages.paused()))
    return True


def blocked(memory: Memory, now: datetime) -> Side | None:
    """The side that a stuck deal must not be written to now."""
    return memory.failure.side if memory.failure is not None and resting(memory, now) else None


# --- fields ----------------------------------------------------------------------------------------------------


def _merge_fields(draft: _Draft) -> None:
    referral, opportunity, rules, shape = draft.referral, draft.opportunity, draft.rules, draft.shape
    memory = draft.link.memory
    base_referral, base_opportunity = dict(draft.link.base_referral), dict(draft.link.base_opportunity)
    reported, disputed, resolved = list(memory.reported), list(memory.disputed), dict(memory.resolved)
    rewritten = dict(memory.rewritten)
    for name in SHARED:
        rule = rules.fields.get(name)
        if rule is None or (name not in shape.fields and name != "sales_stage"):
            continue
        if name == "sales_stage":
            if draft.state is State.ACCEPTED:
                _merge_sales_stage(draft, rule, base_referral, base_opportunity)
            continue
        stuck = {mark: why for mark, why in _stuck(name).items() if mark in reported}
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
                draft.conflicts.append(Conflict(name, sides.referral, sides.opportunity, None, why))
        if quiet and name in disputed:
            disputed.remove(name)
        _put(base_referral, name, merged.base_referral)
        _put(base_opportunity, name, merged.base_opportunity)
        _take(draft, rule, merged)
    if draft.state not in TERMINAL and (text := _foreign(draft)):
        draft.holds.append(Hold(HoldKind.CRM_CANNOT, "currency", referral["currency"], ABSENT, text))
    draft.link = replace(draft.link, base_referral=base_referral, base_opportunity=base_opportunity)
    draft.update_memory(
        reported=tuple(reported), disputed=tuple(disputed), rewritten=rewritten, resolved=resolved
    )


def _put(base: dict[str, Value], name: str, value: Value) -> None:
    if value is not ABSENT:
        base[name] = value


def _stuck(name: str) -> dict[str, str]:
    """What is remembered of a field whose write landed and yet left the sides different, and what that means."""
    return {
        f"automation:{name}": "an automation in the CRM rewrites it",
        f"kept:{name}": "Partner Center holds something else than was sent",
    }


def _take(draft: _Draft, rule: FieldRule, merged: Merged) -> None:
    """Sort what a merge asks for into what may be written and what must be held."""
    referral, opportunity, rules = draft.referral, draft.opportunity, draft.rules
    name, label = rule.name, draft.shape.label(rule.name)
    draft.why[name] = merged.rule

    def hold(kind: HoldKind, text: str) -> None:
        draft.holds.append(Hold(kind, name, referral[name], opportunity[name], text))

    if name == "value" and _foreign(draft):
        return  # five of one currency are not five of another; the hold on the currency says so
    if merged.conflict is not None:
        draft.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        why = _unsendable(name, draft.link, rules)
        if why:
            hold(HoldKind.FROZEN, messages.frozen(label, why))
        elif name in _NEVER_EMPTY and empty(merged.to_referral):
            hold(HoldKind.NEED, messages.cannot_be_empty(label, referral[name]))
        else:
            draft.up[name] = merged.to_referral
    if merged.to_crm is not ABSENT:
        _offer(draft, rule, merged.to_crm)


def _offer(draft: _Draft, rule: FieldRule, value: Value) -> None:
    """Write it to the CRM, or hold it where the CRM cannot take it."""
    opportunity, shape, name = draft.opportunity, draft.shape, rule.name
    label = shape.label(name)
    problem = crm_cannot_hold(name, value, shape)
    if name in opportunity.readonly:
        kind, text = HoldKind.READ_ONLY, messages.read_only(label, value, _why_locked(name, opportunity))
    elif problem:
        kind, text = HoldKind.CRM_CANNOT, messages.crm_cannot(label, value, problem)
    else:
        draft.down[name] = value
        return
    draft.holds.append(Hold(kind, name, draft.referral[name], opportunity[name], text))


def _why_locked(name: str, opportunity: Snapshot) -> str:
    if opportunity.flag("is_closed"):
        return "the record is closed there; reopen it to take this over"
    whys = {"currency": "a currency stays once it is set", "value": "the CRM computes it"}
    return whys.get(name, "the sync user may not change it")


def _foreign(draft: _Draft) -> str | None:
    """Why no amount may cross: the CRM has one currency only, and the referral is in another."""
    own = draft.rules.default_currency or draft.shape.default_currency
    currency = draft.referral.text("currency")
    if "currency" in draft.shape.fields or not own or not currency or currency == own:
        return None
    return messages.crm_cannot(draft.shape.label("currency"), currency, f"it has one currency only, {own}")


def _unsendable(name: str, link: Link, rules: Rules) -> str | None:
    """Why Partner Center does not take this field, or must not get it; or None."""
    if name == "name" and not rules.write_name:
        return "Partner Center is not known to take a new name (mapping.write_name)"
    if name == "favorite" and not rules.write_favorite:
        return "Partner Center is not known to take the heart (mapping.write_favorite)"
    referral, opportunity = link.referral, link.opportunity
    consented = link.base_opportunity.get("consent")
    if name == "contacts" and consented is True and opportunity and opportunity["consent"] is False:
        return "the customer's consent was taken back"
    words = str(publishing.deal_type(link))
    outbound = referral is not None and referral.text("direction") == Direction.OUTBOUND
    return frozen(name, DealType(words) if words in set(DealType) else None, outbound=outbound)


def crm_cannot_hold(name: str, value: Value, shape: CrmShape) -> str | None:
    """Why the CRM cannot hold this value, or None."""
    if name in _CRM_NEVER_EMPTY and empty(value):
        return "it must not be empty"
    if name == "value" and value is not None and abs(value) > shape.maximum:  # type: ignore[arg-type,operator]
        return f"the largest amount is {messages.shown(shape.maximum)}"
    if name == "currency" and isinstance(value, str) and shape.currencies and value not in shape.currencies:
        return "this currency is not active in the CRM"
    if name == "sales_stage" and value not in shape.picklists.get(name, {value}):
        return "it is none of its choices"
    return None


def _merge_sales_stage(
    draft: _Draft, rule: FieldRule, base_referral: dict[str, Value], base_opportunity: dict[str, Value]
) -> None:
    """Like any field, but a side may make no claim; then only a new claim of the other side counts."""
    opportunity, rules = draft.opportunity, draft.rules
    standing = rules.stages.standing(opportunity)
    if standing not in {Standing.OPEN, Standing.STANDBY} or rule.flow is Flow.OFF:
        return
    there, here = draft.referral["sales_stage"], rules.stages.sales_stage(opportunity)
    there = ABSENT if there is None else there
    base_there = base_referral.get("sales_stage", ABSENT)
    base_here = base_opportunity.get("sales_stage", ABSENT)
    if there is not ABSENT and here is not ABSENT:
        merged = merge(
            rule,
            Sides(there, here, base_there, base_here),
            draft.shape,
            draft.link.memory.resolved.get(rule.name),
        )
    elif there is not ABSENT and there != base_there and rule.flow is not Flow.TO_PARTNER_CENTER:
        merged = Merged(base_there, base_here, to_crm=there, rule="changed in Partner Center")
    elif here is not ABSENT and here != base_here and rule.flow is not Flow.TO_CRM:
        merged = Merged(base_there, base_here, to_referral=here, rule="changed in the CRM")
    else:
        return
    if merged.conflict:
        draft.conflicts.append(merged.conflict)
    if merged.to_referral is not ABSENT:
        draft.up["sales_stage"] = merged.to_referral
    if merged.to_crm is not ABSENT and rules.stages.apart(draft.shape.fields):
        _offer(draft, rule, merged.to_crm)
    elif merged.to_crm is not ABSENT:
        draft.down["stage"] = rules.stages.for_state(State.ACCEPTED, merged.to_crm)
    _put(base_referral, "sales_stage", merged.base_referral)
    _put(base_opportunity, "sales_stage", merged.base_opportunity)
    draft.why["sales_stage"] = draft.why["stage"] = merged.rule


def _claim_sales_stage(draft: _Draft) -> None:
    """A deal that is accepted at a sales stage of the seller's goes out with it, in the same PATCH."""
    rule, link = draft.rules.fields.get("sales_stage"), draft.link
    here, there = draft.rules.stages.sales_stage(draft.opportunity), draft.referral["sales_stage"]
    base_here, base_there = (
        bases.get("sales_stage") for bases in (link.base_opportunity, link.base_referral)
    )
    edited = base_here is not None and here != base_here and there == base_there
    sendable = rule is not None and rule.flow in {Flow.BOTH, Flow.TO_PARTNER_CENTER}
    if sendable and here is not ABSENT and (edited or there in {None, ABSENT}):
        draft.up["sales_stage"] = here
        draft.why["sales_stage"] = "changed in the CRM"


# --- visibility and help ---------------------------------------------------------------------------------------


def _widen(draft: _Draft) -> None:
    """One-way and by the seller's word only; what is missing for it, or cannot be had any more, is told."""
    wider = publishing.widening(draft.link, draft.state, draft.rules, draft.shape, draft.now.date())
    draft.link = wider.link
    draft.invites = wider.invites and not wider.gaps
    if wider.visible:
        draft.up["visible"] = True
        draft.why["visible"] = "the seller opens this deal to Microsoft"
    text = messages.cannot_widen(gap.words for gap in wider.gaps)
    for gap in wider.gaps:
        draft.holds.append(
            Hold(HoldKind.NEED, gap.field, draft.referral[gap.field], draft.opportunity[gap.field], text)
        )
    for wish in wider.refused:
        told = messages.one_way(draft.shape.label(wish.field), wish.why)
        draft.holds.append(Hold(HoldKind.FROZEN, wish.field, wish.referral, wish.opportunity, told))


# --- moves -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wish:
    """Where the seller wants the deal, and what says so."""

    state: State
    mark: str


def _wish(draft: _Draft) -> _Wish | None:
    opportunity, rules = draft.opportunity, draft.rules
    action = opportunity.text("action")
    standing = rules.stages.standing(opportunity)
    stage = opportunity.text("stage")
    if draft.state is State.ACCEPTED:
        ends = {Standing.WON: State.WON, Standing.LOST: State.LOST}
        return _Wish(ends[standing], stage) if standing in ends else None
    if action == "Decline":
        return _Wish(State.DECLINED, f"action {action}")
    base_stage = draft.link.base_opportunity.get("stage")
    was_standby = base_stage == rules.stages.received or (
        base_stage is None and reported_state(draft.link) is State.RECEIVED
    )
    closed_since = base_stage is not None and base_stage != stage
    if standing is Standing.LOST and (was_standby or closed_since):
        return _Wish(State.DECLINED, stage)
    if standing is Standing.WON and (was_standby or closed_since or action == "Accept"):
        return _Wish(State.WON, stage)
    if action == "Accept" or (standing is Standing.OPEN and was_standby):
        return _Wish(State.ACCEPTED, stage)
    return None


def _seller_moves(draft: _Draft) -> tuple[Step, ...]:
    """The PATCHes that carry the seller's moves, and his edits with the first of them."""
    state, referral, opportunity, shape = draft.state, draft.referral, draft.opportunity, draft.shape
    action = opportunity.text("action")
    if action and state is State.ACCEPTED:
        draft.down["action"] = None
        ours = reported_state(draft.link) is State.RECEIVED or draft.own_move is State.ACCEPTED
        if not (action == "Accept" and ours):
            draft.notices.append(messages.refused_action(action, state))
    wish = _wish(draft)
    path: tuple[Move, ...] = ()
    if wish is None:
        draft.update_memory(closing=None)
    else:
        path = _allowed(draft, wish)
    if state is State.RECEIVED and path and path[0].target is State.ACCEPTED:
        _claim_sales_stage(draft)
    if state is State.RECEIVED and not path:
        if draft.up:
            labels = [shape.label(name) for name in draft.up]
            for name in draft.up:
                draft.holds.append(
                    Hold(
                        HoldKind.UNANSWERED,
                        name,
                        referral[name],
                        opportunity[name],
                        messages.unanswered(labels),
                    )
                )
            draft.up.clear()
        return ()
    return _steps(draft, path)


def _allowed(draft: _Draft, wish: _Wish) -> tuple[Move, ...]:
    """The part of the way to the wish that may be walked now: legal, nothing missing, its hold waited out."""
    state, now = draft.state, draft.now
    referral, opportunity, rules, shape = draft.referral, draft.opportunity, draft.rules, draft.shape
    path = walk(Actor.SELLER, state, wish.state) or ()
    allowed: list[Move] = []
    closing = draft.link.memory.closing
    mark = f"{wish.mark}|{opportunity.text('stage')}"
    for move in path:
        if move.target in TERMINAL:
            if closing is None or closing.state is not wish.state or closing.mark != mark:
                closing = Closing(wish.state, mark, now)
            draft.update_memory(closing=closing)
        missing = [need for need in move.needs if _missing(draft, need)]
        if missing:
            text = messages.needs((shape.label(need) for need in missing), move.target)
            for need in missing:
                draft.holds.append(Hold(HoldKind.NEED, need, referral[need], opportunity[need], text))
            break
        if move.target in TERMINAL and closing is not None:
            until = closing.since + rules.terminal_hold
            if now < until:
                text = messages.holding(wish.state, until)
                created = referral.moment("created_at")
                if wish.state is State.WON and created and now < created + REGISTRATION_WAIT:
                    text += " " + messages.hurried(created + REGISTRATION_WAIT)
                draft.holds.append(
                    Hold(HoldKind.TERMINAL, "status", state.value, wish.state.value, text, until)
                )
                break
        allowed.append(move)
    if wish.state not in TERMINAL:
        draft.update_memory(closing=None)
    return tuple(allowed)


def _missing(draft: _Draft, need: str) -> bool:
    if need == "reason":
        return "reason" in draft.opportunity.fields and empty(draft.opportunity["reason"])
    return empty(draft.up.get(need, draft.referral[need]))


def _reason(opportunity: Snapshot) -> str:
    """Partner Center has one free text for it (referral resource, ``statusReason``)."""
    reason, note = opportunity.text("reason"), opportunity.text("reason_note").strip()
    return f"{reason}: {note}" if reason and note else reason or note


def _steps(draft: _Draft, path: tuple[Move, ...]) -> tuple[Step, ...]:
    steps = []
    fields: dict[str, Value] = dict(draft.up)
    reason = _reason(draft.opportunity)
    for move in path:
        if "reason" in move.needs and reason:
            fields["status_reason"] = reason
        steps.append(Step(fields, move.target))
        fields = {}
    if fields and not steps:
        steps.append(Step(fields))
    if steps and empty(draft.referral["external_reference"]):
        steps[0] = replace(steps[0], fields={**steps[0].fields, "external_reference": draft.opportunity.id})
    return tuple(steps)


def _crm_follows(draft: _Draft) -> None:
    """The CRM's stage after a move that Partner Center reports; and what both agree on becomes base."""
    state, rules = draft.state, draft.rules
    standing = rules.stages.standing(draft.opportunity)
    before = reported_state(draft.link)
    if state is State.ACCEPTED and before is State.RECEIVED:
        if draft.own_move is not state:
            draft.notices.append(messages.moved(state))
        if standing is Standing.STANDBY:
            draft.down["stage"] = rules.stages.for_state(state, draft.referral["sales_stage"])
            draft.why["stage"] = "Partner Center says accepted"
            return
        draft.link = replace(draft.link, base_referral={**draft.link.base_referral, "state": state.value})
    fits = standing in {Standing.STANDBY, Standing.OPEN}
    if state is State.RECEIVED and fits:
        fits = _wish(draft) is None
    if fits and "stage" not in draft.down:
        _agree_on_stage(draft)


def _agree_on_stage(draft: _Draft) -> None:
    draft.link = replace(
        draft.link,
        base_referral={**draft.link.base_referral, "state": draft.state.value},
        base_opportunity={**draft.link.base_opportunity, "stage": draft.opportunity["stage"]},
    )


def _end(draft: _Draft) -> None:
    """A closed referral is never written to. The CRM follows once; what changes there later is named and left alone."""
    state, rules, shape = draft.state, draft.rules, draft.shape
    referral, opportunity = draft.referral, draft.opportunity
    before = reported_state(draft.link)
    standing = rules.stages.standing(opportunity)
    fits = standing is (Standing.WON if state is State.WON else Standing.LOST)
    draft.update_memory(closing=None)
    if action := opportunity.text("action"):
        draft.down["action"] = None
        if not (draft.own_move is state or (action == "Decline" and state is State.DECLINED)):
            draft.notices.append(messages.refused_action(action, state))
    unsent = [*draft.up]
    unsent += [item.field for item in draft.conflicts if item.kept is None]  # nobody needs to decide any more
    unsent += [item.field for item in draft.holds if item.kind is HoldKind.NEED]  # nor to fill anything in
    late = {name: shape.label(name) for name in unsent}
    draft.holds[:] = [item for item in draft.holds if item.kind is not HoldKind.NEED]
    if before in TERMINAL:
        if not fits:
            late["stage"] = shape.label("stage")
    elif not fits and standing in {Standing.WON, Standing.LOST}:
        text = messages.both_over(state, opportunity.text("stage"))
        draft.conflicts.append(Conflict("stage", state.value, opportunity["stage"], None, text))
        told = (
            before or State.UNKNOWN
        ).value  # the record is told the end now, but that is no agreement on it
        draft.link = replace(draft.link, base_referral={**draft.link.base_referral, "state": told})
    else:
        if draft.own_move is not state:
            draft.notices.append(messages.moved(state, referral.text("status_reason")))
        if fits:
            _agree_on_stage(draft)
        else:
            draft.down["stage"] = rules.stages.for_state(state)
            draft.why["stage"] = f"Partner Center says {state.lower()}"
    for name in late:
        there = state.value if name == "stage" else referral[name]
        draft.holds.append(Hold(HoldKind.LATE, name, there, opportunity[name], messages.late(late.values())))
    draft.up.clear()
    draft.conflicts[:] = [
        item for item in draft.conflicts if item.field == "stage" or item.kept is Side.PARTNER_CENTER
    ]


# --- the end of a decision -------------------------------------------------------------------------------------


def _finish(draft: _Draft, steps: tuple[Step, ...] = ()) -> Decision:
    link, state = draft.link, draft.state
    closed_to = blocked(link.memory, draft.now)
    if closed_to is Side.PARTNER_CENTER:
        steps = ()
    elif steps or draft.invites:
        pass
    elif link.memory.failure is not None and link.memory.failure.side is Side.PARTNER_CENTER:
        link = replace(link, memory=freed(link.memory))  # nothing is left that could be refused
    locked = draft.opportunity.readonly
    down = {
        name: value for name, value in draft.down.items() if closed_to is not Side.CRM and name not in locked
    }
    effects = list(_referral_effects(steps, draft))
    before = reported_state(link)
    for name, value in down.items():
        rule = draft.why.get(name, "")
        if name == "stage" and state is not before and state is not State.UNKNOWN:
            old = before.value if before else None
            effects.append(Effect(Side.CRM, "move", name, old, state.value, rule))
        else:
            effects.append(Effect(Side.CRM, "update", name, draft.opportunity[name], value, rule or "done"))
    return Decision(
        link=link,
        steps=steps,
        crm=down,
        effects=tuple(effects),
        conflicts=tuple(draft.conflicts),
        holds=tuple(draft.holds),
        notices=tuple(draft.notices),
    )


def _referral_effects(steps: tuple[Step, ...], draft: _Draft) -> list[Effect]:
    effects = []
    state = draft.state
    for step in steps:
        for name, value in step.fields.items():
            rule = draft.why.get(name, "goes along with this change")
            effects.append(Effect(Side.PARTNER_CENTER, "update", name, draft.referral[name], value, rule))
        if step.state is not None:
            rule = "the seller moved it in the CRM"
            effects.append(Effect(Side.PARTNER_CENTER, "move", "status", state.value, step.state.value, rule))
            state = step.state
    return effects
