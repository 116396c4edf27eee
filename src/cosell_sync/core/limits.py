"""What a side does not take, and why: required and fixed fields, values that do not fit, what must not be sent.

The functions return the reason in the seller's words; None where the side takes the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from cosell_sync.core import microsoft
from cosell_sync.core.countries import is_currency
from cosell_sync.core.deal import DealType, Direction, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import ASKED_PER_DEAL
from cosell_sync.core.lifecycle import frozen
from cosell_sync.core.memory import Link
from cosell_sync.core.normalize import by_key, empty
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.texts import Text

# Fields that must not become empty there.
PARTNER_CENTER_REQUIRES: Final = frozenset({"name", "value", "currency", "close_date", "team", "solutions"})
LARGEST_SET: Final = 50  # team members, contacts or solutions of a deal (Partner Center, bulk operations)
CRM_REQUIRES: Final = ("name", "close_date")
# Fields that are sent only where Partner Center takes them (doubt D6) → why this one is not.
NOT_TAKEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": Text("Partner Center takes no new name"),
        "favorite": Text("the heart stays in the CRM"),
    }
)

# Days that both CRMs hold: Salesforce from 1700 to 4000, Dataverse from 1753.
# https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/primitive_data_types.htm
# https://learn.microsoft.com/power-apps/developer/data-platform/behavior-format-date-time-attribute
FIRST_DAY: Final = date(1753, 1, 1)
LAST_DAY: Final = date(3999, 12, 31)


def currency_stays(name: str, opportunity: Snapshot) -> bool:
    """Whether this is a currency that the CRM never changes any more, be the record open or closed."""
    return name == "currency" and name in opportunity.readonly and not empty(opportunity[name])


def why_read_only(name: str, opportunity: Snapshot) -> Text:
    """Why the CRM does not take this field at the moment; for a field of ``Snapshot.readonly`` only."""
    if opportunity.flag("is_closed") and not currency_stays(name, opportunity):
        return Text("the record is closed there; reopen it to take this over")
    whys = {
        "currency": Text("a currency stays once it is set"),
        "value": Text("the CRM computes it"),
    }
    return whys.get(name, Text("the sync user may not change it; ask your administrator"))


def foreign_currency(referral: Snapshot, rules: Rules, shape: CrmShape) -> Text | None:
    """Why no amount may cross: the CRM has one currency only, and the referral is in another."""
    own = rules.default_currency or shape.default_currency
    currency = referral.text("currency")
    if "currency" in shape.fields or not own or not currency or currency == own:
        return None
    return Text("it has one currency only, %(currency)s", currency=own)


def why_not_sent(name: str, link: Link, rules: Rules) -> str | None:
    """Why this field is not sent to Partner Center, or None."""
    if rules.takes(name) is False:
        return NOT_TAKEN[name]
    referral, opportunity = link.referral, link.opportunity
    if (
        name == "currency"
        and opportunity
        and (code := opportunity.text("currency"))
        and not is_currency(code)
    ):
        return Text("%(currency)s is no currency that Partner Center knows", currency=code)
    consented = link.base_opportunity.get("consent")
    if name == "contacts" and consented is True and opportunity and opportunity["consent"] is False:
        return Text("the customer's consent was taken back")
    words = str(microsoft.deal_type(link))
    outbound = referral is not None and referral.text("direction") == Direction.OUTBOUND
    return frozen(name, DealType(words) if words in set(DealType) else None, outbound=outbound)


def tells_more(contacts: Value, wanted: Value) -> bool:
    """Whether contacts that are to be sent tell Partner Center of a person what it does not hold (``contacts``)."""
    known = by_key(contacts)
    return any(_has_more(person, known.get(key)) for key, person in by_key(wanted).items())


def _has_more(person: Member | Solution, known: Member | Solution | None) -> bool:
    parts = ("first_name", "last_name", "phone")
    return known is None or any(getattr(person, part) not in {None, getattr(known, part)} for part in parts)


def no_choice_for(name: str, value: Value, shape: CrmShape) -> bool:
    """Whether Microsoft's answer is none of the choices that the CRM offers for it, so that only an admin can add it."""
    choices = shape.picklists.get(name) if name in ASKED_PER_DEAL else None
    return choices is not None and isinstance(value, str) and value not in choices


def why_partner_center_cannot_store(value: Value, today: date) -> Text | None:
    """Why Partner Center cannot take this value, or None. One such value would refuse everything that goes along with it."""
    if isinstance(value, tuple) and len(value) > LARGEST_SET:
        return Text("it takes at most %(number)s entries", number=LARGEST_SET)
    if isinstance(value, date) and not isinstance(value, datetime) and value < today:
        return Text("it takes no date in the past")
    return None


def why_crm_cannot_store(name: str, value: Value, shape: CrmShape) -> str | None:
    """Why the CRM cannot store this value, or None."""
    if name in CRM_REQUIRES and empty(value):
        return Text("it must not be empty")
    if name == "value" and isinstance(value, Decimal) and value > shape.maximum:
        return Text("the largest amount is %(amount)s", amount=shape.maximum)
    if name == "value" and isinstance(value, Decimal) and value < shape.minimum:
        return Text("the smallest amount is %(amount)s", amount=shape.minimum)
    if name == "close_date" and isinstance(value, date) and not FIRST_DAY <= value <= LAST_DAY:
        return Text("it holds no such date")
    if name == "currency" and isinstance(value, str) and shape.currencies and value not in shape.currencies:
        return Text("this currency is not active there; your administrator can activate it")
    if name == "sales_stage" and value not in shape.picklists.get(name, {value}):
        return Text("it is none of its choices; your administrator can add it")
    return None
