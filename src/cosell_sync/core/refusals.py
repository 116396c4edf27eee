"""Fields that a side refused while the rest of a write landed: remembered, told, and not sent again until it makes sense.

The field's base stays, so its value is still to be written; it is held back as long as the same would be sent to the same
record under the same rule. Any change of the value, of what the record holds beside it, or of the rule is a reason to try
again; so is ``deals retry``, and that a person saved the record. Our own writes to the record are none. And it is tried by
itself now and then (``retry.pause_of_part``), one field at a time, because whoever ends a refusal may do it elsewhere: nothing
is held for ever.

A field of the deal that is refused alone, so that nothing landed, is a failure of the deal (``is_failure``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from cosell_sync.core import messages
from cosell_sync.core.as_json import fields_to_json
from cosell_sync.core.builder import DecisionBuilder
from cosell_sync.core.deal import ABSENT, Customer, Fields, Side, Snapshot, Value, state_of
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.fields import KINDS, SHARED, STATUS_FIELDS, Kind, inseparable
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Link, RefusedField, set_known
from cosell_sync.core.merge import Written, take_elements
from cosell_sync.core.normalize import by_key
from cosell_sync.core.retry import blocked_side, pause_of_part
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.errors import Locked, RecordError, Rejected

MOVES = frozenset({"stage", "status"})  # a refused move is a failure of the deal, not of a field
_ROWS = frozenset({Kind.MEMBERS, Kind.SOLUTIONS, Kind.CUSTOMER})  # kept in rows beside the opportunity's


def hold_refused(builder: DecisionBuilder) -> None:
    """Hold back what the sides refused and would refuse again; forget the refusals of what is not to be written any more."""
    memory = builder.link.memory
    if not memory.refused:
        return
    kept: dict[str, RefusedField] = {}
    for side, outgoing in ((Side.PARTNER_CENTER, builder.to_referral), (Side.CRM, builder.to_crm)):
        known = {name: each for name, each in memory.refused.items() if each.side is side}
        around = _around(builder.referral if side is Side.PARTNER_CENTER else builder.opportunity, side)
        may_try = blocked_side(memory, builder.now) is not side
        for unit in inseparable([*outgoing, *known]):
            wanted = {name: outgoing[name] for name in unit if name in outgoing}
            mark = _wanted(wanted, builder.rules, builder.shape)
            before = {name: known[name] for name in unit if name in known and known[name].wanted == mark}
            if not wanted or not before:
                continue
            kept |= before
            why = next(iter(before.values()))
            if any(each.around != around for each in before.values()):
                builder.retried += _holds(builder, wanted, known, why)
            elif may_try and (why.again or builder.now) <= builder.now:
                may_try = False  # the next one goes with the next cycle: then each is judged by itself
                builder.retried += _holds(builder, wanted, known, why)
            else:
                builder.holds += _holds(builder, wanted, known, why)
                for name in wanted:
                    del outgoing[name]
    builder.update_memory(refused=kept)


def _holds(
    builder: DecisionBuilder, wanted: Fields, known: Mapping[str, RefusedField], why: RefusedField
) -> Iterator[Hold]:
    soon = builder.now + timedelta(seconds=1)
    for name, value in wanted.items():
        refusal = known.get(name, why)
        label = builder.shape.label(name)
        referral, opportunity = builder.referral[name], builder.opportunity[name]
        if why.side is Side.CRM:
            kind, told = HoldKind.CRM_CANNOT, messages.crm_refused(label, value, refusal.text, refusal.cure)
        else:
            kind = HoldKind.NEED
            told = messages.partner_center_refused(label, value, referral, refusal.text, refusal.cure)
        yield Hold(kind, name, referral, opportunity, told, max(why.again or soon, soon))


def is_failure(
    link: Link, side: Side, sent: Fields, refused: Mapping[str, RecordError], after: Snapshot | None
) -> bool:
    """Whether a write of which these fields were refused is a failure of the deal: nothing of the deal landed, and this is news.

    What goes along with a change (the opportunity's id, our own words) is nothing of the deal. ``sent``: with the move, as
    ``stage`` or ``status``. Rows beside the opportunity (account, people, solutions) never fail a deal in the CRM, and what
    was held already stays held.
    """
    ours = {name for name in sent if name in SHARED or name in MOVES or name == "visible"}
    if ours - refused.keys():
        return False
    before = link.referral if side is Side.PARTNER_CENTER else link.opportunity
    rows = {name for name in ours if name in SHARED and KINDS[name] in _ROWS}
    if before and after and any(before[name] != after[name] for name in rows):
        return False  # some members landed
    known = {name for name, each in link.memory.refused.items() if each.side is side}
    return bool(ours - known - (rows if side is Side.CRM else frozenset()))


def remember_refused(
    link: Link,
    side: Side,
    sent: Fields,
    refused: Mapping[str, RecordError],
    rules: Rules,
    shape: CrmShape,
    now: datetime,
    longest: timedelta,
) -> Link:
    """The link after a write of ``sent`` to this side, of which it refused some fields; moves are left out, and what is
    no refusal (it was only not sent yet). ``longest``: the longest pause between two tries of an open deal.

    What this side refused before and was not sent now stays refused, for what has changed on the record is our own write.
    """
    written = link.referral if side is Side.PARTNER_CENTER else link.opportunity
    if written is None or not (refused or link.memory.refused):
        return link
    over = link.referral is not None and state_of(link.referral) in TERMINAL
    if link.referral is not None:
        shape = shape.of_currency(link.referral.text("currency"))
    around = _around(written, side)
    before = link.memory.refused
    known: dict[str, RefusedField] = {
        name: replace(each, around=around) if each.side is side else each
        for name, each in before.items()
        if each.side is not side or name not in sent
    }
    final = (name for name, error in refused.items() if is_refusal(error))
    for unit in inseparable(name for name in final if name in sent and name not in MOVES):
        wanted = _wanted({name: sent[name] for name in unit}, rules, shape)
        earlier = [before[name].tries for name in unit if name in before and before[name].wanted == wanted]
        tries = max(earlier, default=0) + 1
        again = now + pause_of_part(tries, None if over else longest)
        for name in unit:
            error = refused[name]
            code = error.code or type(error).__name__.lower()
            known[name] = RefusedField(side, code, error.text, wanted, around, error.cure, tries, again)
    return replace(link, memory=replace(link.memory, refused=known))


def is_refusal(error: RecordError) -> bool:
    """Whether a field is held for this error; any other one says that it was not sent yet."""
    return isinstance(error, Rejected | Locked)


def without(sent: Fields, refused: Iterable[str]) -> Fields:
    """What landed of a write: all of ``sent`` but what was refused."""
    names = frozenset(refused)
    return {name: value for name, value in sent.items() if name not in names}


def learn_landed(name: str, base_written: Value, base_source: Value, written: Written) -> tuple[Value, Value]:
    """The bases after a write of which this field was refused: as they were, but for members of a set that did land.

    A member landed where it stands as it was sent, or where it was new and is there now (a side may know its name otherwise).
    """
    if KINDS[name] not in {Kind.MEMBERS, Kind.SOLUTIONS}:
        return base_written, base_source
    before, sent, after = by_key(written.before), by_key(written.sent), by_key(written.after)
    touched = [key for key in {**before, **sent} if before.get(key) != sent.get(key)]
    there = [
        key for key in touched if after.get(key) == sent.get(key) or (key not in before and key in after)
    ]
    whole = dict.fromkeys(there, frozenset[str]())
    return take_elements(base_written, written.after, whole), take_elements(
        base_source, written.source, whole
    )


def with_bases_of_unmade(link: Link, made: Link, refused: list[str]) -> Link:
    """The link with bases of the fields that the new row did not take: Partner Center's values are still to be written, and
    what stands there instead is nobody's edit. ``made``: with what the create taught of sets, member by member.

    Without a base the two sides would merge at first sight, and the CRM's own default could travel to Partner Center.
    """
    base_referral, base_opportunity = dict(link.base_referral), dict(link.base_opportunity)
    for name in refused:
        if name not in SHARED or link.opportunity is None or link.opportunity[name] is ABSENT:
            continue
        if KINDS[name] in {Kind.MEMBERS, Kind.SOLUTIONS}:
            set_known(base_referral, name, made.base_referral.get(name, ()))
            set_known(base_opportunity, name, made.base_opportunity.get(name, ()))
        else:
            base_referral[name], base_opportunity[name] = None, link.opportunity[name]
    return replace(link, base_referral=base_referral, base_opportunity=base_opportunity)


def _wanted(values: Fields, rules: Rules, shape: CrmShape) -> str:
    """A digest of what is to be written, and of all that decides how."""
    parts = [
        [
            name,
            str(rules.fields.get(name)),
            shape.lengths.get(name),
            sorted(shape.picklists.get(name, ())),
            name in shape.fields,
        ]
        for name in sorted(values)
    ]
    return _digest([_plain(values), parts, sorted(shape.currencies), str(shape.maximum), shape.scale])


def _around(written: Snapshot, side: Side) -> str:
    """A digest of what people wrote on this side, and of what it takes at the moment."""
    own = STATUS_FIELDS if side is Side.CRM else {"updated_at"}
    held = {name: value for name, value in written.fields.items() if name not in own}
    return _digest([_plain(held), sorted(written.readonly)])


def _plain(values: Fields) -> object:
    """Without what a side keeps beside its values (row ids, stamps): these move by themselves."""
    return fields_to_json({name: _bare(value) for name, value in values.items()})


def _bare(value: Value) -> Value:
    if isinstance(value, tuple):
        items = sorted(value, key=lambda item: item.key)
        return tuple(replace(item, extra={}) for item in items)  # type: ignore[return-value,type-var]
    return replace(value, extra={}) if isinstance(value, Customer) else value


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]
