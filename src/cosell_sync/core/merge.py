"""The three-way merge of one field.

The *base* is, per side, what that side had when both last agreed. A side has changed when it differs from its own
base; the two bases may differ from each other, where one side can store less or an automation rewrote what we wrote.

    base → referral   base → opportunity   result
    same              same                 nothing
    changed           same                 write to the CRM
    same              changed              write to Partner Center
    changed           changed, equal       agreed silently
    changed           changed, different   the field's policy; both values are named, the losing one is kept

Without a base (first sight, or a lost store) equal fields become base, an empty one is filled from the other side, and
different ones follow the policy; nothing is ever deleted for lack of a base.

Sets (team, contacts, solutions) merge member by member, members attribute by attribute, notes line by line: the
table applies to every element, so that two people who each add something both keep it.

``learn`` moves the base after a write has landed: for the elements that were written and for no others, to what the
written side has *after* the write. An element that was not written keeps its base, so an edit that arrived meanwhile
still shows as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from cosell_sync.core.deal import ABSENT, HIDDEN, Customer, Side, Value, hidden_parts
from cosell_sync.core.decision import Conflict
from cosell_sync.core.erasure import recalled
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.frozen import replace
from cosell_sync.core.line_diff import apply_delta, line_delta, undoes
from cosell_sync.core.merge_record import Pair, Record, merge_record, waiting_parts, with_parts_of
from cosell_sync.core.normalize import (
    agree,
    by_key,
    empty,
    for_crm,
    for_referral,
    keeping_duns,
    note_lines,
    notes_of,
    same,
    same_record,
    storable,
)
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Policy

_ADDRESS: Final = ("address_line1", "address_line2", "city", "state", "postal_code", "country")


@dataclass(frozen=True)
class Merged:
    """What follows for one field; ABSENT: nothing to write on that side.

    ``base_referral`` and ``base_opportunity``: the bases after taking in whatever is agreed already.
    """

    base_referral: Value
    base_opportunity: Value
    to_crm: Value = ABSENT
    to_referral: Value = ABSENT
    conflict: Conflict | None = None
    rule: str = ""


@dataclass(frozen=True)
class Sides:
    """One field on both sides and its bases; ``forced``: sides to be taken as changed whatever the base says."""

    referral: Value
    opportunity: Value
    base_referral: Value = ABSENT
    base_opportunity: Value = ABSENT
    forced: frozenset[Side] = frozenset()

    @property
    def first(self) -> bool:
        """Whether a base is missing: seen for the first time, or the store was lost."""
        return self.base_referral is ABSENT or self.base_opportunity is ABSENT


def merge(rule: FieldRule, sides: Sides, shape: CrmShape, answer: Side | None = None) -> Merged:
    """The table above for one field. ``answer``: the side that a person chose for this field's conflict."""
    still = Merged(sides.base_referral, sides.base_opportunity)
    if rule.flow is Flow.OFF or sides.referral is ABSENT or sides.opportunity is ABSENT:
        return still
    kind = KINDS[rule.name]
    if kind in {Kind.MEMBERS, Kind.SOLUTIONS}:
        merged = _merge_set(rule, sides, shape, answer)
    elif kind is Kind.NOTES and rule.policy is Policy.MERGE and answer is None:
        merged = _merge_notes(rule, sides, shape)
    else:
        merged = _merge_value(rule, kind, sides, shape, answer)
    if merged.to_crm is not ABSENT and not rule.goes_to_crm:
        merged = replace(merged, to_crm=ABSENT)
    if merged.to_referral is not ABSENT and not rule.goes_to_partner_center:
        merged = replace(merged, to_referral=ABSENT)
    return merged


def _merge_value(rule: FieldRule, kind: Kind, sides: Sides, shape: CrmShape, answer: Side | None) -> Merged:
    still = Merged(sides.base_referral, sides.base_opportunity)
    if agree(rule.name, sides.referral, sides.opportunity, shape):
        return Merged(sides.referral, sides.opportunity)
    to_crm = keeping_duns(for_crm(rule.name, sides.referral, shape), sides.opportunity)
    to_referral = for_referral(rule.name, sides.opportunity, shape)
    outcomes = {
        Side.PARTNER_CENTER: replace(still, to_crm=to_crm, rule="changed in Partner Center"),
        Side.CRM: replace(still, to_referral=to_referral, rule="changed in the CRM"),
        None: still,
    }
    changed = changed_sides(rule, kind, sides)
    if len(changed) < len(Side):
        return outcomes[next(iter(changed), None)]
    kept = answer or {Policy.PARTNER_CENTER: Side.PARTNER_CENTER, Policy.CRM: Side.CRM}.get(rule.policy)
    why = f"policy {rule.policy}" + (" at first sight" if sides.first else "")
    why = "a person decided" if answer else why
    conflict = Conflict(rule.name, sides.referral, sides.opportunity, kept, why)
    if sides.first and kept is Side.PARTNER_CENTER:
        outcomes[kept] = replace(outcomes[kept], to_crm=_completed(to_crm, sides.opportunity))
    return replace(outcomes[kept], conflict=conflict, rule=why)


def _completed(customer: Value, other: Value) -> Value:
    """At first sight, a customer with what only the other side knows of it. An address stays one value: it is completed
    only where the two do not contradict each other.
    """
    if not isinstance(customer, Customer) or not isinstance(other, Customer):
        return customer
    given = {name: getattr(customer, name) for name in _ADDRESS}
    known = {name: getattr(other, name) for name in _ADDRESS}
    if any(given[name] and known[name] and given[name] != known[name] for name in _ADDRESS):
        return customer
    return replace(customer, **{name: given[name] or known[name] for name in _ADDRESS})


def changed_sides(rule: FieldRule, kind: Kind, sides: Sides) -> frozenset[Side]:
    """The sides whose value counts as an edit and may go the other way. Without a base, an empty one never does."""
    changed = set()
    if rule.goes_to_crm and (
        sides.first
        or Side.PARTNER_CENTER in sides.forced
        or not same(kind, sides.referral, sides.base_referral)
    ):
        changed.add(Side.PARTNER_CENTER)
    if rule.goes_to_partner_center and (
        sides.first or Side.CRM in sides.forced or not same(kind, sides.opportunity, sides.base_opportunity)
    ):
        changed.add(Side.CRM)
    if sides.first:
        changed -= says_nothing(sides)
    return frozenset(changed)


def says_nothing(sides: Sides) -> set[Side]:
    """The side that holds nothing where the other one holds something; a flag that is not set is nothing, too."""
    there, here = (
        empty(sides.referral) or sides.referral is False,
        empty(sides.opportunity) or sides.opportunity is False,
    )
    if there == here:
        return set()
    return {Side.PARTNER_CENTER} if there else {Side.CRM}


# --- sets ------------------------------------------------------------------------------------------------------


def _merge_set(rule: FieldRule, sides: Sides, shape: CrmShape, answer: Side | None) -> Merged:
    referral, opportunity = by_key(sides.referral), by_key(sides.opportunity)
    base_referral = recalled(by_key(sides.base_referral), referral, opportunity)
    base_opportunity = recalled(by_key(sides.base_opportunity), opportunity, referral)
    prefer = answer or (Side.PARTNER_CENTER if rule.policy is Policy.PARTNER_CENTER else Side.CRM)
    target_referral, target_opportunity = dict(referral), dict(opportunity)
    next_referral, next_opportunity = dict(base_referral), dict(base_opportunity)
    clash = False
    for key in dict.fromkeys([*referral, *opportunity, *base_referral, *base_opportunity]):
        there, here = referral.get(key), opportunity.get(key)
        new_there: Record | None
        new_here: Record | None
        was_there, was_here = base_referral.get(key), base_opportunity.get(key)
        alike = same_record(there, here)
        stored = there if alike or there is None else storable(rule.name, there, shape)
        if alike or same_record(stored, here):
            _set_record(next_referral, key, _keeping_hidden(there, here, was_there))
            _set_record(next_opportunity, key, _keeping_hidden(here, there, was_here))
            continue
        decided = answer is not None and (there, here) == (was_there, was_here)  # a write left them unequal
        if there is not None and here is not None:
            bases = (None, None) if decided else (was_there, was_here)
            new_there, new_here, clashed = merge_record(Pair(there, stored or there, here), *bases, prefer)
            clash = clash or clashed
        elif decided and answer is Side.PARTNER_CENTER:
            new_there, new_here = there, stored
        elif decided:  # whom the CRM cannot hold stays in Partner Center
            new_there, new_here = here or there, here
        else:
            new_there, new_here = _merge_presence(there, here, was_there, was_here)
            new_here = stored if new_here is there else new_here
        _set_record(target_referral, key, new_there and _with_extra(new_there, there))
        _set_record(target_opportunity, key, new_here and _with_extra(new_here, here))
    return Merged(
        base_referral=_pack(next_referral),
        base_opportunity=_pack(next_opportunity),
        to_crm=ABSENT if target_opportunity == opportunity else _pack(target_opportunity),
        to_referral=ABSENT if target_referral == referral else _pack(target_referral),
        conflict=Conflict(rule.name, sides.referral, sides.opportunity, prefer, f"policy {prefer} per member")
        if clash
        else None,
        rule="merged member by member",
    )


def _keeping_hidden(record: Record | None, other: Record | None, was: Record | None) -> Record | None:
    """The record as the next base of its side: of the parts that a side does not show, the base keeps what it had."""
    if record is None or was is None or not (hidden := hidden_parts(record) | hidden_parts(other)):
        return record
    kept = {name: getattr(was, name) for name in hidden}
    return replace(record, **kept, extra={**record.extra, HIDDEN: sorted(hidden_parts(was))})


def _merge_presence(
    there: Record | None, here: Record | None, was_there: Record | None, was_here: Record | None
) -> tuple[Record | None, Record | None]:
    """A member that only one side has: added there, or taken away here. What both sides changed is kept."""
    changed_there, changed_here = there != was_there, here != was_here
    if changed_there and (there is not None or not changed_here):
        return there, there
    if changed_here and (here is not None or not changed_there):
        return here, here
    return there, here


def _pack(records: Mapping[str, Record]) -> Value:
    return cast("Value", tuple(records.values()))


def _set_record(records: dict[str, Record], key: str, record: Record | None) -> None:
    if record is None:
        records.pop(key, None)
    else:
        records[key] = record


def _with_extra(record: Record, own: Record | None) -> Record:
    """What only a side knows of a member (a title, a row id) stays on that side."""
    return replace(record, extra=own.extra if own else {})


# --- notes -----------------------------------------------------------------------------------------------------


def _merge_notes(rule: FieldRule, sides: Sides, shape: CrmShape) -> Merged:
    referral, opportunity = note_lines(sides.referral), note_lines(sides.opportunity)
    base_referral, base_opportunity = note_lines(sides.base_referral), note_lines(sides.base_opportunity)
    if agree(rule.name, sides.referral, sides.opportunity, shape):
        return Merged(sides.referral, sides.opportunity)
    to_referral = apply_delta(referral, line_delta(base_opportunity, opportunity))
    to_opportunity = apply_delta(opportunity, line_delta(base_referral, referral))
    if Counter(to_referral) == Counter(to_opportunity):  # the same lines: one order for both
        mine = not same(Kind.NOTES, sides.opportunity, sides.base_opportunity)
        to_referral = to_opportunity = to_opportunity if mine else to_referral
    new_referral, new_opportunity = notes_of(to_referral), for_crm(rule.name, notes_of(to_opportunity), shape)
    return Merged(
        base_referral=sides.base_referral,
        base_opportunity=sides.base_opportunity,
        to_crm=_unless(same(Kind.NOTES, new_opportunity, sides.opportunity), new_opportunity),
        to_referral=_unless(same(Kind.NOTES, new_referral, sides.referral), new_referral),
        rule="merged line by line",
    )


def _unless(nothing: bool, value: Value) -> Value:
    return ABSENT if nothing else value


# --- after a write ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """One field of a write that landed: what the side had before, was sent, has now; what the other side had."""

    before: Value
    sent: Value
    after: Value
    source: Value


def learn(name: str, base_written: Value, base_source: Value, written: Written) -> tuple[Value, Value]:
    """The bases of the written and of the source side after a write has landed."""
    kind = KINDS[name]
    if kind in {Kind.MEMBERS, Kind.SOLUTIONS}:
        before, sent = by_key(written.before), by_key(written.sent)
        touched = [key for key in {**before, **sent} if before.get(key) != sent.get(key)]
        after, source = by_key(written.after), by_key(written.source)
        waiting = {
            key: waiting_parts(after.get(key), source.get(key), not_sent=(before.get(key), sent.get(key)))
            for key in touched
        }
        return (
            take_elements(base_written, written.after, waiting),
            take_elements(base_source, written.source, waiting),
        )
    if kind is Kind.NOTES:
        if same(kind, written.after, written.source):
            return written.after, written.source
        lines = note_lines(written.sent)
        delta = line_delta(note_lines(written.before), lines)
        made = line_delta(lines, note_lines(written.after))
        base = apply_delta(note_lines(base_written), delta)
        if undoes(made, delta):  # the side's own doing, so that the source loses no line by it
            base = apply_delta(base, made)
        return notes_of(base), notes_of(apply_delta(note_lines(base_source), delta))
    return written.after, written.source


def take_elements(base: Value, current: Value, waiting: Mapping[str, frozenset[str]]) -> Value:
    """The base with these members as they are now; of their attributes that still have to go the other way, as they were."""
    records, now = dict(by_key(base)), by_key(current)
    for key, names in waiting.items():
        _set_record(records, key, with_parts_of(now.get(key), records.get(key), names))
    return _pack(records)


def landed(name: str, sent: Value, now: Value) -> bool:
    """Whether what a side has now is what it was sent."""
    return same(KINDS[name], sent, now)


def settle_set(
    base_written: Value, base_source: Value, sent: Value, source: Value, now: Value
) -> tuple[Value, Value]:
    """Bases after a set write of unknown fate: members that stand as they were sent have landed, others have not."""
    wanted, there, other = by_key(sent), by_key(now), by_key(source)
    waiting = {
        key: waiting_parts(record, other[key])
        for key, record in wanted.items()
        if there.get(key) == record and key in other
    }
    return take_elements(base_written, now, waiting), take_elements(base_source, source, waiting)


def settle_notes(base_written: Value, base_source: Value, source: Value) -> tuple[Value, Value]:
    """Bases after notes have landed unseen: of the lines that stand there now only the source's were carried; what the
    written side had added itself still has to go the other way.
    """
    delta = line_delta(note_lines(base_source), note_lines(source))
    return notes_of(apply_delta(note_lines(base_written), delta)), source
