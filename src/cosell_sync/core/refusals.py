"""Fields that a side refused while the rest of a write landed: remembered, told, and not sent again until it makes sense.

The field's base stays, so its value is still to be written; it is held back as long as the same would be sent to the same
record under the same rule. Any change of the value, of what the record holds beside it, or of the rule is a reason to try
again; so is ``deals retry``. Our own writes to the record are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cosell_sync.core import messages
from cosell_sync.core.as_json import fields_to_json
from cosell_sync.core.builder import DecisionBuilder
from cosell_sync.core.deal import ABSENT, Customer, Fields, Side, Snapshot, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.fields import KINDS, SHARED, STATUS_FIELDS, Kind, inseparable
from cosell_sync.core.memory import Link, RefusedField, set_known
from cosell_sync.core.merge import Written, take_elements
from cosell_sync.core.normalize import by_key
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.errors import RecordError, Rejected

MOVES = frozenset({"stage", "status"})  # a refused move is a failure of the deal, not of a field


def hold_refused(builder: DecisionBuilder) -> None:
    """Hold back what the sides refused and would refuse again; forget the refusals of what is not to be written any more."""
    memory = builder.link.memory
    if not memory.refused:
        return
    kept: dict[str, RefusedField] = {}
    for side, outgoing in ((Side.PARTNER_CENTER, builder.to_referral), (Side.CRM, builder.to_crm)):
        known = {name: each for name, each in memory.refused.items() if each.side is side}
        written = builder.referral if side is Side.PARTNER_CENTER else builder.opportunity
        for unit in inseparable([*outgoing, *known]):
            wanted = {name: outgoing[name] for name in unit if name in outgoing}
            if not wanted or not unit & known.keys():
                continue
            mark = _wanted(wanted, builder.rules, builder.shape), _around(written, side)
            if any((known[name].wanted, known[name].around) != mark for name in unit & known.keys()):
                continue
            kept |= {name: known[name] for name in unit & known.keys()}
            why = next(known[name] for name in unit if name in known)
            _hold_back(builder, outgoing, wanted, known, why)
    builder.update_memory(refused=kept)


def _hold_back(
    builder: DecisionBuilder,
    outgoing: dict[str, Value],
    wanted: Fields,
    known: Mapping[str, RefusedField],
    why: RefusedField,
) -> None:
    for name, value in wanted.items():
        label, text = builder.shape.label(name), known.get(name, why).text
        referral, opportunity = builder.referral[name], builder.opportunity[name]
        if why.side is Side.CRM:
            kind, told = HoldKind.CRM_CANNOT, messages.crm_refused(label, value, text)
        else:
            kind = HoldKind.NEED
            told = messages.partner_center_refused(label, value, referral, text)
        builder.holds.append(Hold(kind, name, referral, opportunity, told))
        del outgoing[name]


def remember_refused(
    link: Link, side: Side, sent: Fields, refused: Mapping[str, RecordError], rules: Rules, shape: CrmShape
) -> Link:
    """The link after a write of ``sent`` to this side, of which it refused some fields; moves are left out, and what is
    no refusal (it was only not sent yet).

    What this side refused before and was not sent now stays refused, for what has changed on the record is our own write.
    """
    written = link.referral if side is Side.PARTNER_CENTER else link.opportunity
    if written is None:
        return link
    if link.referral is not None:
        shape = shape.of_currency(link.referral.text("currency"))
    around = _around(written, side)
    known: dict[str, RefusedField] = {
        name: replace(each, around=around) if each.side is side else each
        for name, each in link.memory.refused.items()
        if each.side is not side or name not in sent
    }
    final = (name for name, error in refused.items() if isinstance(error, Rejected))
    for unit in inseparable(name for name in final if name in sent and name not in MOVES):
        wanted = _wanted({name: sent[name] for name in unit}, rules, shape)
        for name in unit:
            error = refused[name]
            code = error.code or type(error).__name__.lower()
            known[name] = RefusedField(side, code, error.text, wanted, around)
    return replace(link, memory=replace(link.memory, refused=known))


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
    return take_elements(base_written, written.after, there), take_elements(
        base_source, written.source, there
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
