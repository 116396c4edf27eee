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
from cosell_sync.core.texts import Text, sentences

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


_PARTS: Final = (
    ("first_name", Text("first name")),
    ("last_name", Text("last name")),
    ("phone", Text("phone")),
)


@dataclass(frozen=True)
class Gap:
    """Something without which a deal is not shared. ``words``: what is missing, beginning with the CRM's label.

    ``asks``: filling in a field is not what is to be done; ``words`` is a sentence that says what is.
    """

    field: str
    words: str
    asks: bool = False


def told(gaps: Iterable[Gap], text: Callable[[Iterable[str], Iterable[str]], Text]) -> Text:
    """These gaps in one text for the seller: ``messages.cannot_share`` or ``cannot_widen``."""
    gaps = list(gaps)
    return text([gap.words for gap in gaps if not gap.asks], [gap.words for gap in gaps if gap.asks])


def missing(
    opportunity: Snapshot, rules: Rules, shape: CrmShape, today: date, *, cosell: bool
) -> tuple[Gap, ...]:
    """Everything that is missing, at once. ``cosell``: Microsoft is asked for help, which needs more."""
    gaps = [*_own_gaps(opportunity, rules, shape, today), *_customer_gaps(opportunity, shape)]
    gaps += _set_gaps(opportunity, shape)
    if opportunity["consent"] is not True:
        gaps.append(Gap("consent", messages.ask_consent(shape.label("consent")), asks=True))
    if cosell:
        gaps += _help_gaps(opportunity, shape)
    return tuple(dict.fromkeys(_unseen(gap, opportunity, shape) or gap for gap in gaps))


def _unseen(gap: Gap, opportunity: Snapshot, shape: CrmShape) -> Gap | None:
    """What stands in place of a gap in a field that the CRM has and does not show: nobody can fill it in."""
    if gap.field not in shape.fields or opportunity[gap.field] is not ABSENT:
        return None
    return Gap(gap.field, _noted(shape.label(gap.field), messages.NOT_SHOWN))


def _own_gaps(opportunity: Snapshot, rules: Rules, shape: CrmShape, today: date) -> Iterable[Gap]:
    if empty(opportunity["name"]):
        yield Gap("name", shape.label("name"))
    value = opportunity["value"]
    if not isinstance(value, Decimal):
        yield Gap("value", shape.label("value"))
    elif value < 0:
        yield Gap("value", _noted(shape.label("value"), Text("must not be negative")))
    currency = _currency(opportunity, rules, shape)
    if not is_currency(currency):
        yield Gap("currency", shape.label("currency"))
    close = opportunity["close_date"]
    if not isinstance(close, date):
        yield Gap("close_date", shape.label("close_date"))
    elif close < today:
        yield Gap("close_date", _noted(shape.label("close_date"), Text("must not be in the past")))
    location = opportunity.text("location").strip()
    if location and not (location.isascii() and location.isdigit()):
        yield Gap("location", _noted(shape.label("location"), Text("digits only, or empty")))


def _currency(opportunity: Snapshot, rules: Rules, shape: CrmShape) -> Value:
    """The deal's, or the only one that this CRM has."""
    own = opportunity["currency"]
    if own is ABSENT and "currency" in shape.fields:
        return ABSENT  # the row has one that is not shown
    return own if not empty(own) else rules.default_currency or shape.default_currency


def _customer_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    customer = opportunity["customer"]
    if not isinstance(customer, Customer):
        yield Gap("customer", messages.choose_account(shape.label("customer")), asks=True)
        return
    for part in ("name", "address_line1", "city"):
        if empty(getattr(customer, part)):
            yield Gap("customer", shape.label(f"customer.{part}"))
    country = customer.country or ""
    if not is_country(country):
        label = shape.label("customer.country")
        unknown = Text('"%(country)s" is no country known here', country=country)
        yield Gap("customer", _noted(label, unknown) if country else label)
    if customer.duns and duns.normalized(customer.duns) is None:
        yield Gap("customer", _noted(shape.label("customer.duns"), Text("nine digits, or empty")))


def _set_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    for name in ("solutions", "team"):
        count = len(by_key(opportunity[name]))
        if count > MOST:
            yield Gap(name, _noted(shape.label(name), Text("at most %(number)s", number=MOST)))
        elif name == "solutions" and not count:
            yield Gap(name, _noted(shape.label(name), _with_unkeyed(Text("at least one"), name, opportunity)))
    yield from _person_gap(
        "team", Text("a colleague with first name, last name, phone and e-mail"), opportunity, shape
    )


def _help_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    yield from _person_gap(
        "contacts",
        Text("a customer contact with first name, last name, phone and e-mail"),
        opportunity,
        shape,
    )
    if opportunity.text("help") not in HELP_KINDS:
        yield Gap("help", _noted(shape.label("help"), Text("one of the six kinds")))


def _person_gap(name: str, who: Text, opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    """One person at least with everything; of those who come close, the closest is named."""
    people = [each for each in by_key(opportunity[name]).values() if isinstance(each, Member)]
    lacking = {each.email: [*_lacking(each)] for each in people}
    if people and min(map(len, lacking.values())) == 0:
        return
    words = who if people else _with_unkeyed(who, name, opportunity)
    if people:
        closest = min(people, key=lambda each: len(lacking[each.email]))
        has_no = Text(
            "%(person)s has no %(parts)s",
            person=messages.person(closest),
            parts=tuple(lacking[closest.email]),
        )
        words = sentences(who, has_no, between="; ")
    yield Gap(name, _noted(shape.label(name), words))


def _noted(label: str, note: str) -> str:
    return Text("%(label)s (%(note)s)", label=label, note=note)


def _with_unkeyed(wanted: Text, name: str, opportunity: Snapshot) -> Text:
    """What is wanted, and who is there and does not count, because nothing tells them from others."""
    names = opportunity.text(UNKEYED[name])
    if not names:
        return wanted
    if name == "solutions":
        return sentences(wanted, Text("%(names)s has no id", names=messages.named(names)), between="; ")
    return sentences(wanted, Text("%(names)s has no e-mail", names=messages.named(names)), between="; ")


def _lacking(member: Member) -> Iterable[str]:
    hidden = hidden_parts(member)
    for part, words in _PARTS:
        if empty(getattr(member, part)):
            yield _noted(words, messages.NOT_SHOWN) if part in hidden else words


def asks_for_help(opportunity: Snapshot) -> bool:
    """Whether the seller chose a kind of help, known or not."""
    return bool(opportunity.text("help").strip())
