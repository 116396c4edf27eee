"""What each side can store of a value, and when two values count as equal.

Agreement is judged by what a side can store: a name that the CRM cuts to 120 characters, an amount that it rounds to
cents and a deal whose close date has no time must read back as agreed, or two systems would correct each other for
ever. So every kind of field has a pair of functions, one per side. Applying a pair twice changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from cosell_sync.core.deal import ABSENT, Customer, Member, Solution, Value, hidden_parts
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.rules import CrmShape

Conversion = Callable[[str, Value, CrmShape], Value]


@dataclass(frozen=True)
class Pair:
    """How a value arrives on either side: ``crm(referral's value)``, ``referral(crm's value)``."""

    crm: Conversion
    referral: Conversion


def clean_text(value: Value) -> Value:
    """One line, blanks around it gone; an empty text is a cleared one."""
    if not isinstance(value, str):
        return value
    return " ".join(value.split("\n")).strip() or None


def clean_notes(value: Value) -> Value:
    """Lines end with a line feed and without blanks; an empty text is a cleared one."""
    if not isinstance(value, str):
        return value
    lines = value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n") or None


def _text_crm(name: str, value: Value, shape: CrmShape) -> Value:
    text = clean_text(value)
    length = shape.lengths.get(name)
    return text[:length].rstrip() if isinstance(text, str) and length else text


def _customer_crm(name: str, value: Value, shape: CrmShape) -> Value:
    """Cut part by part; what fits stays to the letter."""
    if not isinstance(value, Customer):
        return value
    cut = {}
    for part in ("name", "address_line1", "address_line2", "city", "state", "postal_code", "country"):
        length, text = shape.lengths.get(f"{name}.{part}"), getattr(value, part)
        if length and text and len(text) > length:
            cut[part] = text[:length].rstrip()
    return replace(value, **cut) if cut else value


def _notes_crm(name: str, value: Value, shape: CrmShape) -> Value:
    text = clean_notes(value)
    length = shape.lengths.get(name)
    return clean_notes(text[:length]) if isinstance(text, str) and length else text


def _number_crm(_name: str, value: Value, shape: CrmShape) -> Value:
    if not isinstance(value, Decimal):
        return value
    return value.quantize(Decimal(1).scaleb(-shape.scale), ROUND_HALF_UP)


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
    Kind.MEMBERS: Pair(_same, _same),
    Kind.SOLUTIONS: Pair(_same, _same),
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


def agree(name: str, referral: Value, opportunity: Value, shape: CrmShape) -> bool:
    """Whether both sides have the same, as far as each can store it."""
    kind = KINDS[name]
    return same(kind, for_crm(name, referral, shape), opportunity) or same(
        kind, for_referral(name, opportunity, shape), referral
    )


def empty(value: Value) -> bool:
    """Nothing there: cleared, not known, no members. False is a value."""
    return value is None or value is ABSENT or value in {"", ()}
