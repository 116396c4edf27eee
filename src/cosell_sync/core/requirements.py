"""What an opportunity must have before it is shared with Partner Center, or Microsoft is asked for help.

Everything that is missing is found at once and named by the CRM's own labels; nothing is invented to fill a gap. No consent, no sharing.
Mandatory fields: learn.microsoft.com/partner-center/manage-co-sell-opportunities and bulk-operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from cosell_sync.core import duns, messages
from cosell_sync.core.countries import is_country, is_currency
from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Value, hidden_parts
from cosell_sync.core.fields import UNKEYED
from cosell_sync.core.normalize import by_key, empty
from cosell_sync.core.rules import CrmShape, Rules

# The six kinds of Cosell_Help__c; Partner Center's codes for them stand in config/value-lists.yaml.
HELP_KINDS: Final = (
    "Workload-specific value proposition",
    "Customer technical architecture",
    "Proof of concept or demo",
    "Quotes or licensing",
    "Post-sales customer success",
    "General or other",
)


MOST: Final = 50  # solutions, and members of a team (bulk file)


_PARTS: Final = (("first_name", "first name"), ("last_name", "last name"), ("phone", "phone"))


@dataclass(frozen=True)
class Gap:
    """Something without which a deal is not shared. ``words``: what is missing, beginning with the CRM's label.

    ``unchosen``: it is a record to be chosen, named by its label alone.
    """

    field: str
    words: str
    unchosen: bool = False


def told(gaps: Iterable[Gap], text: Callable[[Iterable[str], Iterable[str]], str]) -> str:
    """These gaps in one text for the seller: ``messages.cannot_share`` or ``cannot_widen``."""
    gaps = list(gaps)
    return text([gap.words for gap in gaps if not gap.unchosen], [gap.words for gap in gaps if gap.unchosen])


def missing(
    opportunity: Snapshot, rules: Rules, shape: CrmShape, today: date, *, cosell: bool
) -> tuple[Gap, ...]:
    """Everything that is missing, at once. ``cosell``: Microsoft is asked for help, which needs more."""
    gaps = [*_own_gaps(opportunity, rules, shape, today), *_customer_gaps(opportunity, shape)]
    gaps += _set_gaps(opportunity, shape)
    if opportunity["consent"] is not True:
        gaps.append(Gap("consent", shape.label("consent")))
    if cosell:
        gaps += _help_gaps(opportunity, shape)
    return tuple(dict.fromkeys(_unseen(gap, opportunity, shape) or gap for gap in gaps))


def _unseen(gap: Gap, opportunity: Snapshot, shape: CrmShape) -> Gap | None:
    """What stands in place of a gap in a field that the CRM has and does not show: nobody can fill it in."""
    if gap.field not in shape.fields or opportunity[gap.field] is not ABSENT:
        return None
    return Gap(gap.field, f"{shape.label(gap.field)} ({messages.NOT_SHOWN})")


def _own_gaps(opportunity: Snapshot, rules: Rules, shape: CrmShape, today: date) -> Iterable[Gap]:
    if empty(opportunity["name"]):
        yield Gap("name", shape.label("name"))
    value = opportunity["value"]
    if not isinstance(value, Decimal):
        yield Gap("value", shape.label("value"))
    elif value < 0:
        yield Gap("value", f"{shape.label('value')} (must not be negative)")
    currency = _currency(opportunity, rules, shape)
    if not is_currency(currency):
        yield Gap("currency", shape.label("currency"))
    close = opportunity["close_date"]
    if not isinstance(close, date):
        yield Gap("close_date", shape.label("close_date"))
    elif close < today:
        yield Gap("close_date", f"{shape.label('close_date')} (must not be in the past)")
    location = opportunity.text("location").strip()
    if location and not (location.isascii() and location.isdigit()):
        yield Gap("location", f"{shape.label('location')} (digits only, or empty)")


def _currency(opportunity: Snapshot, rules: Rules, shape: CrmShape) -> Value:
    """The deal's, or the only one that this CRM has."""
    own = opportunity["currency"]
    if own is ABSENT and "currency" in shape.fields:
        return ABSENT  # the row has one that is not shown
    return own if not empty(own) else rules.default_currency or shape.default_currency


def _customer_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    customer = opportunity["customer"]
    if not isinstance(customer, Customer):
        yield Gap("customer", shape.label("customer"), unchosen=True)
        return
    for part in ("name", "address_line1", "city"):
        if empty(getattr(customer, part)):
            yield Gap("customer", shape.label(f"customer.{part}"))
    country = customer.country or ""
    if not is_country(country):
        known = f' ("{country}" is no country known here)' if country else ""
        yield Gap("customer", f"{shape.label('customer.country')}{known}")
    if customer.duns and duns.normalized(customer.duns) is None:
        yield Gap("customer", f"{shape.label('customer.duns')} (nine digits, or empty)")


def _set_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    for name in ("solutions", "team"):
        count = len(by_key(opportunity[name]))
        if count > MOST:
            yield Gap(name, f"{shape.label(name)} (at most {MOST})")
        elif name == "solutions" and not count:
            yield Gap(name, f"{shape.label(name)} (at least one{_without(name, 'id', opportunity)})")
    yield from _person_gap("team", "a colleague", opportunity, shape)


def _help_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    yield from _person_gap("contacts", "a customer contact", opportunity, shape)
    if opportunity.text("help") not in HELP_KINDS:
        yield Gap("help", f"{shape.label('help')} (one of the six kinds)")


def _person_gap(name: str, who: str, opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    """One person at least with everything; of those who come close, the closest is named."""
    people = [each for each in by_key(opportunity[name]).values() if isinstance(each, Member)]
    lacking = {each.email: [*_lacking(each)] for each in people}
    if people and min(map(len, lacking.values())) == 0:
        return
    words = f"{shape.label(name)} ({who} with first name, last name, phone and e-mail"
    if not people:
        words += _without(name, "e-mail", opportunity)
    if people:
        closest = min(people, key=lambda each: len(lacking[each.email]))
        words += f"; {messages.person(closest)} has no {messages.listed(lacking[closest.email])}"
    yield Gap(name, f"{words})")


def _without(name: str, what: str, opportunity: Snapshot) -> str:
    """Who is there and does not count, because nothing tells them from others."""
    names = opportunity.text(UNKEYED[name])
    return f"; {names} has no {what}" if names else ""


def _lacking(member: Member) -> Iterable[str]:
    hidden = hidden_parts(member)
    for part, words in _PARTS:
        if empty(getattr(member, part)):
            yield f"{words} ({messages.NOT_SHOWN})" if part in hidden else words


def asks_for_help(opportunity: Snapshot) -> bool:
    """Whether the seller chose a kind of help, known or not."""
    return bool(opportunity.text("help").strip())
