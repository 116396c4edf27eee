"""What is lost of Partner Center's values when the CRM takes them over, in words for the seller; pure.

Reported once, with the change that brings it: what was cut or left out reads back as agreed (``rules.for_crm``), so nothing of it
travels to Partner Center, and nothing calls for a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cosell_sync.core import messages, text_limits
from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.normalize import by_key, clean_notes, empty, for_crm, storable
from cosell_sync.core.rules import CrmShape
from cosell_sync.core.texts import Text

_CHOSEN: Final = ("country", "state")  # parts of an address that an org may hold as choices only
_CUT: Final = {
    "name": ("name",),
    "address_line1": ("address_line1", "address_line2"),
    "city": ("city",),
    "postal_code": ("postal_code",),
}
_NO_CHOICE: Final = Text("it is none of its choices; your administrator can add it")
_OF_MEMBER: Final = ("first_name", "last_name", "phone", "name")


def lost_in_crm(names: Iterable[str], referral: Snapshot, written: Fields, shape: CrmShape) -> list[str]:
    """Sentences about those of these fields that lose something in the CRM. ``written``: what it is being given."""
    cut: list[str] = []
    said: list[str] = []
    for name in names:
        value = referral[name]
        if value == written.get(name, ABSENT):
            continue  # as most are: it goes over as it stands
        match value:
            case str() if KINDS[name] in {Kind.TEXT, Kind.NOTES}:
                cut += [shape.label(name)] if _is_cut(name, value, shape) else []
            case Customer():
                lost, why = _of_customer(name, value, shape)
                cut += lost
                said += why
            case tuple():
                cut += [shape.label(name)] if _any_cut(name, value, shape) else []
                said += _left_out(name, value, shape)
    return [*said, *([messages.shortened(cut)] if cut else [])]


def _is_cut(name: str, value: str, shape: CrmShape) -> bool:
    """Whether characters are missing at the end; strays that no column takes are no loss."""
    whole = clean_notes(value) if KINDS[name] is Kind.NOTES else text_limits.line(value)
    return for_crm(name, value, shape) != (whole or None)


def _of_customer(name: str, value: Customer, shape: CrmShape) -> tuple[list[str], list[str]]:
    stored = for_crm(name, value, shape)
    if not isinstance(stored, Customer):
        return [], []
    why: list[str] = [
        messages.crm_cannot(shape.label(f"{name}.{part}"), getattr(value, part), _NO_CHOICE)
        for part in _CHOSEN
        if not empty(getattr(value, part)) and getattr(stored, part) is None
    ]
    lost = [
        shape.label(f"{name}.{part}")
        for part, lines in _CUT.items()
        if text_limits.units(_joined(value, lines)) > text_limits.units(_joined(stored, lines))
    ]
    return lost, why


def _joined(customer: Customer, lines: tuple[str, ...]) -> str:
    """Street lines may share a column, and a second one alone becomes the first."""
    return "\n".join(filter(None, (text_limits.line(getattr(customer, each) or "") for each in lines)))


def _any_cut(name: str, value: Value, shape: CrmShape) -> bool:
    for each in by_key(value).values():
        stored = storable(name, each, shape)
        whole = {part: text_limits.line(getattr(each, part, None) or "") for part in _OF_MEMBER}
        if stored is not None and any(
            text != (getattr(stored, part, None) or "") for part, text in whole.items()
        ):
            return True
    return False


def _left_out(name: str, value: Value, shape: CrmShape) -> list[str]:
    lost = [each for each in by_key(value).values() if storable(name, each, shape) is None]
    why = (
        Text("an e-mail address is too long")
        if any(isinstance(each, Member) for each in lost)
        else Text("an id is too long")
    )
    return [messages.crm_cannot(shape.label(name), _shown(lost), why)] if lost else []


def _shown(lost: list[Member | Solution]) -> Value:
    return tuple(lost)  # type: ignore[return-value]  # all of one kind
