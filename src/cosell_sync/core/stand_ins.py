"""Stand-ins: what an opportunity is made with where the referral lacks what the CRM demands, or holds what it cannot store.

A CRM wants a name, a close date and a customer, and an amount in a currency it has; Partner Center promises none of them. A
deal that waits for them is a deal that nobody sees, and an unanswered one runs out. So it is made at once:

name         from the customer and the first solution
close date   today and ``mapping.default_close``
amount       left empty, where the currency is not known there or the number does not fit
customer     left empty: no account

Nobody wrote these, so none of them is ever sent to Microsoft. A stand-in is *base* on the CRM's side, and what Partner Center
holds (nothing, or what does not fit) is base on the other: neither has changed, so nothing follows. What a person enters
differs from the base and travels like every edit; what Microsoft brings later differs from its own base and replaces the
stand-in. ``Memory.stand_ins`` names the fields for which that is so; meanwhile the record needs attention and says what to
fill in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Customer, Fields, Snapshot, Solution, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.fields import KINDS, partners
from cosell_sync.core.frozen import replace
from cosell_sync.core.limits import CRM_REQUIRES, foreign_currency, why_crm_cannot_store
from cosell_sync.core.memory import Link, set_known
from cosell_sync.core.normalize import agree, empty, for_crm, same
from cosell_sync.core.rules import CrmShape, Rules


class _NoAmount(Enum):
    """Why the CRM cannot hold Partner Center's amount."""

    UNREADABLE = "unreadable"
    NO_CURRENCY = "no currency"
    FOREIGN = "foreign"
    NO_FIT = "no fit"


def with_stand_ins(
    fields: Fields, referral: Snapshot, rules: Rules, shape: CrmShape, today: date
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The fields of a new opportunity with a stand-in where one is needed, and the names of those that have one."""
    names = tuple(name for name in _LACKS if lacks(name, referral, rules, shape))
    made = dict(fields)
    for name in names:
        if name == "value":
            made["value"] = None
            if _no_amount(referral, rules, shape) in {_NoAmount.NO_CURRENCY, _NoAmount.FOREIGN}:
                made.pop("currency", None)
        elif name == "customer":
            made.pop("customer", None)
    for (
        name
    ) in CRM_REQUIRES:  # also where the mapping lets it go the other way only: there is no record without it
        if name in shape.fields and name in rules.fields and (name in names or empty(made.get(name, ABSENT))):
            own = ABSENT if _unusable(name, referral, shape) else for_crm(name, referral[name], shape)
            made[name] = _stand_in(name, referral, rules, shape, today) if own is ABSENT else own
    return made, names


def _stand_in(name: str, referral: Snapshot, rules: Rules, shape: CrmShape, today: date) -> Value:
    if name == "close_date":
        return today + rules.default_close
    customer, solutions = referral["customer"], referral["solutions"]
    parts: list[str | None] = [customer.name if isinstance(customer, Customer) else None]
    if isinstance(solutions, tuple) and solutions and isinstance(solutions[0], Solution):
        parts.append(solutions[0].name)
    words = " - ".join(part.strip() for part in parts if part and not empty(part))
    return for_crm("name", words, shape) or for_crm("name", f"Deal {referral.id}", shape)


# --- what is lacking --------------------------------------------------------------------------------------------


def lacks(name: str, referral: Snapshot, rules: Rules, shape: CrmShape) -> bool:
    """Whether the referral has nothing for this field that the CRM could hold, though it is to bring it."""
    rule = rules.fields.get(name)
    if rule is None or name not in shape.fields or not rule.goes_to_crm:
        return False
    return _LACKS[name](name, referral, rules, shape)


def has_no_customer(referral: Snapshot) -> bool:
    """Whether the referral names no customer, by whom an account could be found or made."""
    customer = referral["customer"]
    return not isinstance(customer, Customer) or empty(customer.name)


def _unusable(name: str, referral: Snapshot, shape: CrmShape) -> bool:
    value = for_crm(name, referral[name], shape)
    return empty(value) or why_crm_cannot_store(name, value, shape) is not None


def _no_amount(referral: Snapshot, rules: Rules, shape: CrmShape) -> _NoAmount | None:
    value, currency = referral["value"], referral["currency"]
    if "value" in referral.text("unreadable").split():
        return _NoAmount.UNREADABLE
    if empty(currency):
        return _NoAmount.NO_CURRENCY if isinstance(value, Decimal) else None
    own = rules.fields.get("currency")
    stored = own is not None and own.goes_to_crm and "currency" in shape.fields
    if _is_foreign(referral, rules, shape) or (stored and why_crm_cannot_store("currency", currency, shape)):
        return _NoAmount.FOREIGN
    rounded = for_crm("value", value, shape.of_currency(referral.text("currency")))
    return _NoAmount.NO_FIT if why_crm_cannot_store("value", rounded, shape) else None


def _is_foreign(referral: Snapshot, rules: Rules, shape: CrmShape) -> bool:
    """Whether the CRM has one currency only, and the referral is in another."""
    own = rules.default_currency or shape.default_currency
    other = not shape.currencies and bool(own) and referral.text("currency") not in {"", own}
    return other or foreign_currency(referral, rules, shape) is not None


_LACKS: Final[Mapping[str, Callable[[str, Snapshot, Rules, CrmShape], bool]]] = {
    "name": lambda name, referral, _rules, shape: _unusable(name, referral, shape),
    "close_date": lambda name, referral, _rules, shape: _unusable(name, referral, shape),
    "value": lambda _name, referral, rules, shape: _no_amount(referral, rules, shape) is not None,
    "customer": lambda _name, referral, _rules, _shape: has_no_customer(referral),
}


_HAVE_STAND_INS: Final = partners(_LACKS)


# --- while they stand --------------------------------------------------------------------------------------------


def as_base(link: Link, sent: Fields = MappingProxyType({})) -> Link:
    """The link with a base for each stand-in that has none: what stands in the CRM, and what Partner Center holds.

    Without it a stand-in would be merged as at first sight, and fill what is empty in Partner Center. ``sent``: what the
    opportunity was made with. What Partner Center holds that cannot be told counts as nothing.
    """
    referral, opportunity = link.referral, link.opportunity
    if not link.memory.stand_ins or referral is None or opportunity is None:
        return link
    base_referral, base_opportunity = dict(link.base_referral), dict(link.base_opportunity)
    for name in _merged_names(link):
        if name not in base_referral:
            base_referral[name] = _told(referral[name])
        if name not in base_opportunity:
            set_known(base_opportunity, name, sent.get(name, opportunity[name]))
    return replace(link, base_referral=base_referral, base_opportunity=base_opportunity)


def as_source(names: tuple[str, ...], referral: Snapshot) -> dict[str, Value]:
    """For the intent of a create: which fields have a stand-in, and what Partner Center holds of them.

    What cannot be told counts as nothing. Empty where there is no stand-in.
    """
    if not names:
        return {}
    held = {name: _told(referral[name]) for name in partners(name for name in names if name != "customer")}
    return {**held, "stand_ins": " ".join(names)}


def from_source(source: Fields) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The inverse: what Partner Center held when the create was sent, and the fields that it gave a stand-in."""
    held = dict(source)
    names = held.pop("stand_ins", None)
    return held, tuple(names.split()) if isinstance(names, str) else ()


def told(link: Link) -> Snapshot | None:
    """The referral as it is merged: where nothing is agreed on, what cannot be told counts as nothing, so that an edit travels.

    That is so where a stand-in stands, and where one stood: its base outlives it.
    """
    referral, base = link.referral, link.base_referral
    if referral is None:
        return None
    stood = [name for name in _HAVE_STAND_INS if name in base and base[name] is None]
    names = [name for name in (*_merged_names(link), *stood) if referral[name] is ABSENT]
    return replace(referral, fields={**referral.fields, **dict.fromkeys(names, None)}) if names else referral


def adopted(link: Link, rules: Rules, shape: CrmShape) -> Link:
    """The link of a deal whose store was lost, or that was joined by hand, with the stand-ins that it seems to have.

    Where Partner Center tells nothing of what the CRM demands, what stands in the CRM may be anybody's: it is not sent, and
    the record says so until somebody enters a value.
    """
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None:
        return link
    names = [
        name
        for name in CRM_REQUIRES
        if name not in link.memory.stand_ins
        and name not in link.base_referral
        and referral[name] is ABSENT
        and not empty(opportunity[name])
        and lacks(name, referral, rules, shape)
    ]
    if not names:
        return link
    return replace(link, memory=replace(link.memory, stand_ins=(*link.memory.stand_ins, *names)))


def untouched(link: Link) -> frozenset[str]:
    """The stand-ins, or what has replaced them since, that nobody has written over in the CRM."""
    return frozenset(name for name in link.memory.stand_ins if not _touched(name, link))


def standing(link: Link, rules: Rules, shape: CrmShape) -> tuple[str, ...]:
    """The fields that still have a stand-in: nobody has entered a value in the CRM, and Partner Center has none that fits."""
    referral = link.referral
    if referral is None:
        return ()
    return tuple(
        name
        for name in link.memory.stand_ins
        if not _touched(name, link) and lacks(name, referral, rules, shape)
    )


def remembered(link: Link, rules: Rules, shape: CrmShape) -> tuple[str, ...]:
    """What is to be remembered as stand-ins: not what a person has written over, nor what Partner Center's value replaced.

    An amount in a currency that a CRM of one currency does not have stays one, for the two amounts are never compared.
    """
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None:
        return link.memory.stand_ins
    apart = foreign_currency(referral, rules, shape) is not None
    return tuple(
        name
        for name in link.memory.stand_ins
        if (name == "value" and apart)
        or (
            not _touched(name, link)
            and (
                lacks(name, referral, rules, shape)
                or not agree(name, referral[name], opportunity[name], shape)
            )
        )
    )


def holds(
    names: tuple[str, ...], referral: Snapshot, here: Fields, rules: Rules, shape: CrmShape
) -> list[Hold]:
    """What the seller reads of these stand-ins, which make the record need attention. ``here``: the opportunity's fields."""
    return [
        Hold(HoldKind.STAND_IN, name, referral[name], here.get(name, ABSENT), text)
        for name in names
        if (text := _text(name, referral, here, rules, shape))
    ]


def kept_apart(referral: Snapshot, opportunity: Snapshot, rules: Rules, shape: CrmShape) -> Hold | None:
    """The seller has entered an amount of their own beside one in a currency that the CRM does not have."""
    own = rules.default_currency or shape.default_currency
    if foreign_currency(referral, rules, shape) is None or empty(opportunity["value"]) or not own:
        return None
    text = messages.amounts_apart(shape.label("value"), own, _money(referral))
    return Hold(HoldKind.READ_ONLY, "value", referral["value"], opportunity["value"], text)


def _text(name: str, referral: Snapshot, here: Fields, rules: Rules, shape: CrmShape) -> str:
    label = shape.label(name)
    if name == "customer":
        return messages.no_customer(label)
    if name != "value":
        return messages.stand_in(label, here.get(name, ABSENT))
    own = rules.default_currency or shape.default_currency if "currency" not in shape.fields else None
    match _no_amount(referral, rules, shape):
        case _NoAmount.NO_CURRENCY if own:
            return messages.amount_without_currency([label], _money(referral))
        case _NoAmount.NO_CURRENCY:
            return messages.amount_without_currency([label, shape.label("currency")], _money(referral))
        case _NoAmount.FOREIGN:
            return messages.amount_in_foreign_currency(label, own, _money(referral))
        case _NoAmount.NO_FIT:
            return messages.amount_does_not_fit(label, _money(referral))
        case _NoAmount.UNREADABLE:
            return messages.amount_unreadable(label)
    return ""


def _money(referral: Snapshot) -> str:
    known = (referral[name] for name in ("value", "currency"))
    return " ".join(messages.shown(each) for each in known if not empty(each))


def _touched(name: str, link: Link) -> bool:
    """Whether the CRM holds something else than was put there; one that is out of sight says nothing."""
    opportunity = link.opportunity
    if opportunity is None:
        return False
    if name == "customer":
        return opportunity[name] is ABSENT or not has_no_customer(opportunity)
    return any(
        opportunity[each] is not ABSENT
        and each in link.base_opportunity
        and not same(KINDS[each], opportunity[each], link.base_opportunity[each])
        for each in partners([name])
    )


def _merged_names(link: Link) -> tuple[str, ...]:
    return partners(name for name in link.memory.stand_ins if name != "customer")


def _told(value: Value) -> Value:
    return None if value is ABSENT else value
