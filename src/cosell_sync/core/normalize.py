"""What each side can store of a value, and when two values count as equal.

Agreement is judged by what a side can store: a name that the CRM cuts to 120 characters, an amount that it rounds to
cents and a deal whose close date has no time must read back as agreed, or two systems would correct each other for
ever. So every kind of field has a pair of functions, one per side. Applying a pair twice changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, TypeVar

from cosell_sync.core import text_limits
from cosell_sync.core.countries import country_code
from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Snapshot, Solution, Value, hidden_parts
from cosell_sync.core.fields import KINDS, SHARED, Kind
from cosell_sync.core.frozen import replace
from cosell_sync.core.line_diff import line_delta, undoes
from cosell_sync.core.rules import CrmShape

_Record = TypeVar("_Record", bound=Member | Solution | Customer)
Conversion = Callable[[str, Value, CrmShape], Value]

_WIDE: Final = Context(prec=80)  # more digits than any number that is read has with any scale


@dataclass(frozen=True)
class Pair:
    """How a value arrives on either side: ``crm(referral's value)``, ``referral(crm's value)``."""

    crm: Conversion
    referral: Conversion


def clean_text(value: Value) -> Value:
    """One line without blanks around it; an empty or blank text is a cleared one."""
    if not isinstance(value, str):
        return value
    return text_limits.line(value) or None


def clean_notes(value: Value) -> Value:
    """Lines end with a line feed and without blanks; an empty or blank text is a cleared one."""
    if not isinstance(value, str):
        return value
    if text_limits.blank(value):
        return None
    return "\n".join(each.rstrip() for each in text_limits.lines(value).split("\n")).strip("\n") or None


def note_lines(value: Value) -> list[str]:
    """The lines of notes; none of an empty text."""
    text = clean_notes(value)
    return text.split("\n") if isinstance(text, str) else []


def notes_of(lines: Sequence[str]) -> Value:
    """The notes of these lines."""
    return clean_notes("\n".join(lines))


def _text_crm(name: str, value: Value, shape: CrmShape) -> Value:
    return text_limits.fit(value, shape.lengths.get(name)) or None if isinstance(value, str) else value


def _notes_crm(name: str, value: Value, shape: CrmShape) -> Value:
    text, length = clean_notes(value), shape.lengths.get(name)
    return clean_notes(text_limits.cut(text, length)) if isinstance(text, str) and length else text


def _customer_crm(name: str, value: Value, shape: CrmShape) -> Value:
    """Part by part. A country or state that is none of the org's choices is left out, and a state without country."""
    if not isinstance(value, Customer):
        return value
    parts = ("name", "address_line1", "address_line2", "city", "state", "postal_code")
    stored: dict[str, str | None] = {
        part: text_limits.fit(getattr(value, part) or "", shape.lengths.get(f"{name}.{part}")) or None
        for part in parts
    }
    if street := shape.lengths.get(f"{name}.street"):
        stored |= _street(stored, street)
    country, choices = country_code(value.country), shape.picklists.get(f"{name}.country")
    if choices is not None:
        country = country if country in choices else None
    elif country:
        country = text_limits.fit(country, shape.lengths.get(f"{name}.country")) or None
    if shape.states is not None:
        stored["state"] = shape.states.get(country or "", {}).get((stored["state"] or "").casefold())
    duns = value.duns if shape.duns else None
    return _with_parts(value, {**stored, "country": country, "duns": duns})


def _street(stored: Mapping[str, str | None], most: int) -> dict[str, str | None]:
    """Both lines in one column, with a break between them; the column knows no second line without a first."""
    first, *more = [text for text in (stored["address_line1"], stored["address_line2"]) if text] or [""]
    first = text_limits.fit(first, most)
    left = most - text_limits.units(first) - len("\r\n")
    second = text_limits.fit(more[0], left) if more and left > 0 else ""
    return {"address_line1": first or None, "address_line2": second or None}


def storable(name: str, record: Member | Solution, shape: CrmShape) -> Member | Solution | None:
    """What the CRM stores of one member of a set; None where its key does not fit, for a key is never cut."""
    most = shape.lengths.get(f"{name}.email" if isinstance(record, Member) else f"{name}.id")
    if most and text_limits.units(record.key) > most:
        return None
    parts = ("first_name", "last_name", "phone") if isinstance(record, Member) else ("name",)
    stored = {
        part: text_limits.fit(getattr(record, part) or "", shape.lengths.get(f"{name}.{part}")) or None
        for part in parts
    }
    return _with_parts(record, stored)


def _with_parts(record: _Record, parts: Mapping[str, str | None]) -> _Record:
    """The record with these parts: itself where it has them already, as most do."""
    if all(getattr(record, part) == text for part, text in parts.items()):
        return record
    return replace(record, **parts)  # type: ignore[arg-type]  # none of the parts is ``extra``


def _set_crm(name: str, value: Value, shape: CrmShape) -> Value:
    if not isinstance(value, tuple):
        return value
    stored = (storable(name, each, shape) for each in value)
    return tuple(each for each in stored if each is not None)  # type: ignore[return-value]  # all of one kind


def _number_crm(_name: str, value: Value, shape: CrmShape) -> Value:
    if not isinstance(value, Decimal):
        return value
    return value.quantize(Decimal(1).scaleb(-shape.scale), ROUND_HALF_UP, _WIDE)


def _moment_crm(_name: str, value: Value, _shape: CrmShape) -> Value:
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def _flag(_name: str, value: Value, _shape: CrmShape) -> Value:
    return value if value is ABSENT else bool(value)


def _same(_name: str, value: Value, _shape: CrmShape) -> Value:
    return value


def _text_referral(_name: str, value: Value, _shape: CrmShape) -> Value:
    return clean_text(value)


def _notes_referral(_name: str, value: Value, _shape: CrmShape) -> Value:
    return clean_notes(value)


PAIRS: Final[Mapping[Kind, Pair]] = {
    Kind.TEXT: Pair(_text_crm, _text_referral),
    Kind.NOTES: Pair(_notes_crm, _notes_referral),
    Kind.NUMBER: Pair(_number_crm, _same),
    Kind.DATE: Pair(_same, _same),
    Kind.MOMENT: Pair(_moment_crm, _same),
    Kind.FLAG: Pair(_flag, _flag),
    Kind.MEMBERS: Pair(_set_crm, _same),
    Kind.SOLUTIONS: Pair(_set_crm, _same),
    Kind.CUSTOMER: Pair(_customer_crm, _same),
}


def for_crm(name: str, value: Value, shape: CrmShape) -> Value:
    """What the CRM stores when it is given this value."""
    return PAIRS[KINDS[name]].crm(name, value, shape)


def for_referral(name: str, value: Value, shape: CrmShape) -> Value:
    """What Partner Center stores when it is given this value."""
    return PAIRS[KINDS[name]].referral(name, value, shape)


def same(kind: Kind, one: Value, other: Value) -> bool:
    """Whether two values mean the same: the order of a set and blanks do not count; an empty text is a cleared one."""
    if one is ABSENT or other is ABSENT:
        return one is other
    if one == other:
        return True
    match kind:
        case Kind.TEXT:
            return clean_text(one) == clean_text(other)
        case Kind.NOTES:
            return clean_notes(one) == clean_notes(other)
        case Kind.FLAG:
            return bool(one) == bool(other)
        case Kind.MEMBERS | Kind.SOLUTIONS:
            ours, theirs = by_key(one), by_key(other)
            return ours.keys() == theirs.keys() and all(same_record(ours[key], theirs[key]) for key in ours)
        case Kind.CUSTOMER:
            return (one or Customer()) == (other or Customer())
        case _:
            return one == other


def same_record(one: Member | Solution | None, other: Member | Solution | None) -> bool:
    """Whether two members of a set are equal, as far as both sides show their parts."""
    hidden = hidden_parts(one) | hidden_parts(other)
    if one is None or other is None or not hidden:
        return one == other
    shown = [item.name for item in fields(one) if item.compare and item.name not in hidden]
    return all(getattr(one, name) == getattr(other, name) for name in shown)


def by_key(value: Value) -> dict[str, Member | Solution]:
    """The members of a set by key; nothing and ABSENT are the empty set."""
    return {item.key: item for item in value} if isinstance(value, tuple) else {}


def only_adds(before: Value, after: Value) -> bool:
    """Whether a set keeps every member as it was, and has others besides."""
    was, now = by_key(before), by_key(after)
    return len(now) > len(was) and all(
        key in now and same_record(now[key], item) for key, item in was.items()
    )


def keeping_duns(customer: Value, account: Value) -> Value:
    """A customer for the CRM, with the account's D-U-N-S number where Partner Center says none: that clears no number."""
    if isinstance(customer, Customer) and isinstance(account, Customer) and customer.duns is None:
        return replace(customer, duns=account.duns)
    return customer


def agree(name: str, referral: Value, opportunity: Value, shape: CrmShape) -> bool:
    """Whether both sides have the same, as far as each can store it."""
    if referral == opportunity:
        return True  # each can store what it has
    kind = KINDS[name]
    there = keeping_duns(for_crm(name, referral, shape), opportunity)
    return same(kind, there, opportunity) or same(kind, for_referral(name, opportunity, shape), referral)


def not_taken(before: Fields, sent: Fields, after: Snapshot, here: Fields, shape: CrmShape) -> list[str]:
    """Fields written to Partner Center that read back as something else: not taken, or changed there before the read.

    ``before``: what it had; ``here``: what the CRM has. Either way both values are named, once. The sales stage may stand in
    the stage.
    """
    return [
        name
        for name in SHARED
        if name in sent
        and name != "sales_stage"
        and after[name] is not ABSENT
        and not _taken(name, before.get(name), sent[name], after[name])
        and not agree(name, after[name], here.get(name, ABSENT), shape)
    ]


def _taken(name: str, before: Value, sent: Value, after: Value) -> bool:
    """Whether a set or notes, which merge, stand as they were sent, though a member may read back in another form. Of any
    other field that is what both sides hold.
    """
    match KINDS[name]:
        case Kind.NOTES:
            return took_lines(before, sent, after)
        case Kind.MEMBERS | Kind.SOLUTIONS:
            was, wanted, now = by_key(before), by_key(sent), by_key(after)
            changed = (key for key in {**was, **wanted} if not same_record(was.get(key), wanted.get(key)))
            return not any(same_record(now.get(key), was.get(key)) for key in changed)
        case _:
            return False


def took_lines(before: Value, sent: Value, after: Value) -> bool:
    """Whether notes have every line that they were sent, and none that was taken away from them."""
    lines = note_lines(sent)
    return not undoes(line_delta(lines, note_lines(after)), line_delta(note_lines(before), lines))


def empty(value: Value) -> bool:
    """Nothing there: cleared, not known, blank, no members. False is a value."""
    if isinstance(value, str):
        return text_limits.blank(value)
    return value is None or value is ABSENT or value == ()
