"""What a person may order of a deal, for the command line and the console: the same checks, refused with the same sentences."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from uuid import uuid4

from cosell_sync.core.as_json import to_json
from cosell_sync.core.deal import Side
from cosell_sync.core.fields import LABELS, SHARED, partners
from cosell_sync.core.memory import Link, OperatorCommand, Verb
from cosell_sync.core.messages import listed
from cosell_sync.core.rules import Rules
from cosell_sync.core.waiting import Waiting, WaitKind
from cosell_sync.cycle.commands import Refused, links_after, standing, withheld_mark
from cosell_sync.ports import Store
from cosell_sync.web.pages import Offer, Order
from cosell_sync.web.privacy import Discreet

_SIDES = {Side.CRM: "the CRM", Side.PARTNER_CENTER: "Partner Center"}


def ordered(verb: Verb, target: str, **more: str) -> OperatorCommand:
    """A new order; ``more`` as of ``OperatorCommand``."""
    return OperatorCommand(f"{time.time_ns():020d}-{uuid4().hex[:8]}", verb, target, **more)


def check_conflict(
    link: Link, waits: Iterable[Waiting], rules: Rules, name: str, said: tuple[str, str]
) -> None:
    """Raises ``Refused`` where this field is in no conflict. ``said``: the field and the deal in the words of who asks."""
    in_conflict = [each.field for each in waits if each.kind is WaitKind.CONFLICT and each.field]
    if set(in_conflict) & set(partners([name])):
        return
    others = ", ".join(rules.crm_name(each) for each in in_conflict)
    how = f"in conflict are: {others}" if others else standing(link)
    raise Refused(f"{said[0]} of the deal {said[1]} is in no conflict: {how}")


def deal_id(link: Link) -> str:
    """The id that a deal goes by."""
    return link.referral_id or link.opportunity_id or link.key


def order_of(
    link: Link, waits: Sequence[Waiting], rules: Rules, store: Store, asked: Order
) -> OperatorCommand:
    """The order that was asked for on the page of this deal. Raises ``Refused``, also where the page is out of date."""
    target = deal_id(link)
    match asked.verb:
        case Verb.RETRY:
            order = ordered(Verb.RETRY, target)
        case Verb.APPROVE:
            order = ordered(Verb.APPROVE, target, other=asked.seen or "-")
        case Verb.RESOLVE if asked.field in SHARED and asked.side in set(Side):
            check_conflict(link, waits, rules, asked.field, said=(rules.crm_name(asked.field), target))
            if asked.seen != _conflict_mark(_conflicts(waits, asked.field)):
                raise Refused(f"the values of the deal {target} are not those any more that the page showed")
            order = ordered(Verb.RESOLVE, target, field=asked.field, side=asked.side)
        case _:
            raise Refused("that is no order")
    links_after(order, store)
    return order


def offers(
    link: Link, waits: Sequence[Waiting], store: Store, orders: Iterable[OperatorCommand], discreet: Discreet
) -> Iterator[Offer]:
    """What may be ordered of this deal now, but for what is ordered already (``orders``)."""
    target = deal_id(link)
    known = {(order.verb, order.field) for order in orders}
    if (Verb.RETRY, "") not in known and _possible(ordered(Verb.RETRY, target), store):
        about = "What failed, is parked or was refused is tried again."
        yield Offer("Try it again", about, [("Try again", Order(Verb.RETRY))])
    if (Verb.APPROVE, "") not in known and _possible(ordered(Verb.APPROVE, target), store):
        kinds = listed(dict.fromkeys(item.kind.value for item in link.memory.withheld))
        about = f"Withheld: {kinds}. What you approve goes to Partner Center, and cannot be taken back there."
        order = Order(Verb.APPROVE, seen=withheld_mark(link.memory))
        yield Offer("Approve what is withheld", about, [("Approve", order)])
    done = {name for verb, field in known if verb == Verb.RESOLVE for name in partners([field])}
    for item in waits:
        if item.kind is not WaitKind.CONFLICT or item.field is None or item.field in done:
            continue
        done.update(partners([item.field]))
        yield _choice(_conflicts(waits, item.field), discreet)


def said(order: OperatorCommand, rules: Rules) -> str:
    """An order that waits, in words; nothing of whom or what it is about but its field."""
    match order.verb:
        case Verb.RESOLVE:
            field = LABELS.get(order.field, rules.crm_name(order.field))
            return f"{field}: keep the value of {_SIDES.get(Side(order.side), order.side)}"
        case Verb.RETRY:
            return "Try again"
        case verb:
            return str(verb).capitalize()


def _possible(order: OperatorCommand, store: Store) -> bool:
    try:
        links_after(order, store)
    except Refused:
        return False
    return True


def _conflicts(waits: Iterable[Waiting], name: str) -> list[Waiting]:
    """The conflict of this field, with those that are decided together with it."""
    group = partners([name])
    return [each for each in waits if each.kind is WaitKind.CONFLICT and each.field in group]


def _choice(items: Sequence[Waiting], discreet: Discreet) -> Offer:
    names = [item.field or "" for item in items]
    label = listed([LABELS.get(name, name) for name in names])
    # of a conflict `value` is what Partner Center has, `before` what stands in the CRM
    held = {
        Side.CRM: ", ".join(discreet.value(item.field or "", item.before) for item in items),
        Side.PARTNER_CENTER: ", ".join(discreet.value(item.field or "", item.value) for item in items),
    }
    seen = _conflict_mark(items)
    buttons = [
        (f"Keep what {_SIDES[side]} has: {value}", Order(Verb.RESOLVE, names[0], side, seen))
        for side, value in held.items()
    ]
    about = "Both sides changed it to different values. The value that you keep is written to the other side."
    return Offer(f"Answer the conflict: {label}", about, buttons)


def _conflict_mark(items: Sequence[Waiting]) -> str:
    values = [str([item.field, to_json(item.value), to_json(item.before)]) for item in items]
    return sha256("\n".join(values).encode()).hexdigest()[:16]
