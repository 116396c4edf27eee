"""What each field is called, which way it flows, and what each side can hold of it.

Agreement is judged by what a side *can hold*: a name that the CRM cuts to 120 characters, an amount that it rounds to
cents and a deal whose close date has no time must read back as agreed, or two systems would correct each other for
ever. So every field has a pair of functions, there and back; going there, back and there again changes nothing more.

Stages are the CRM's only word for both status and sales stage. ``Stages.read`` turns a stage into what the lifecycle
needs; ``Stages.write`` finds the stage for a state. Several stages may mean the same: a stage that already fits is
never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final

from cosell_sync.core.deal import (
    ABSENT,
    KINDS,
    Customer,
    Kind,
    Member,
    Snapshot,
    Solution,
    State,
    Value,
)


class Flow(StrEnum):
    """Which way a field goes."""

    BOTH = "both"
    TO_CRM = "to_crm"
    TO_PARTNER_CENTER = "to_partner_center"
    OFF = "off"


class Policy(StrEnum):
    """Who wins where both sides changed a field to different values."""

    PARTNER_CENTER = "partner_center"
    CRM = "crm"
    ASK = "ask"
    MERGE = "merge"


@dataclass(frozen=True)
class FieldRule:
    """One field: our name, the CRM's name, flow and conflict policy."""

    name: str
    crm: str
    flow: Flow = Flow.BOTH
    policy: Policy = Policy.CRM


@dataclass(frozen=True)
class StageFlags:
    """What the CRM itself says of a stage."""

    closed: bool = False
    won: bool = False


@dataclass(frozen=True)
class CrmShape:
    """What this CRM can hold, read from the CRM itself.

    ``fields``: our names of the fields that exist and are readable. ``labels``: our name → what the seller sees.
    ``lengths``: our name (or `customer.name` and the like) → characters. ``digits``/``scale`` of the value field. ``currencies``: ISO codes, empty
    where the org has one only, which is then ``default_currency``. ``picklists``: our name → values allowed.
    ``scales``: ISO code → decimals, of the currencies that hold fewer than ``scale``.
    """

    fields: frozenset[str]
    stages: Mapping[str, StageFlags]
    labels: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    digits: int = 18
    scale: int = 2
    default_currency: str | None = None
    currencies: frozenset[str] = frozenset()
    picklists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    maximum: Decimal = Decimal("9999999999999999.99")
    scales: Mapping[str, int] = field(default_factory=dict)

    def of_currency(self, code: str) -> CrmShape:
        """The same for a deal in this currency, whose amounts may hold fewer decimals."""
        return replace(self, scale=min(self.scale, self.scales[code])) if code in self.scales else self

    def label(self, name: str) -> str:
        """What the seller calls this field."""
        return self.labels.get(name) or LABELS.get(name, name.replace("_", " ").capitalize())


LABELS: Final[Mapping[str, str]] = {
    "name": "Name",
    "value": "Amount",
    "currency": "Currency",
    "close_date": "Close Date",
    "sales_stage": "Stage",
    "stage": "Stage",
    "campaign_id": "Campaign Id",
    "notes": "Notes",
    "favorite": "Favorite",
    "customer": "Account",
    "team": "Opportunity Team",
    "contacts": "Contact Roles",
    "solutions": "Solutions",
    "customer.name": "Account Name",
    "customer.address_line1": "Billing Street",
    "customer.city": "Billing City",
    "customer.country": "Billing Country",
    "consent": "Consent",
    "visible": "Visible to Microsoft",
    "help": "Help",
    "help_note": "Help Note",
    "reason": "Reason",
    "action": "Action",
}

SALES_STAGES: Final = ("Qualify", "Develop", "Propose", "Close")


class Standing(StrEnum):
    """What a CRM stage says about the deal."""

    STANDBY = "standby"
    OPEN = "open"
    WON = "won"
    LOST = "lost"  # lost, declined or expired: which, the referral's history tells


@dataclass(frozen=True)
class Stages:
    """``mapping.stages`` and ``mapping.sales_stages``.

    ``sales``: stages whose name means a sales stage. Where none does, a CRM may have a field of its own for it.
    """

    received: str = "Prospecting"
    accepted: str = "Qualification"
    won: str = "Closed Won"
    lost: str = "Closed Lost"
    declined: str = "Closed Lost"
    expired: str = "Closed Lost"
    sales: Mapping[str, str] = field(default_factory=dict)

    def standing(self, opportunity: Snapshot) -> Standing:
        """By name first, then by the CRM's own flags, so that a stage nobody listed still counts."""
        stage = opportunity.text("stage")
        if stage == self.won:
            return Standing.WON
        if stage in {self.lost, self.declined, self.expired}:
            return Standing.LOST
        if opportunity.flag("is_closed"):
            return Standing.WON if opportunity.flag("is_won") else Standing.LOST
        return Standing.STANDBY if stage == self.received else Standing.OPEN

    def sales_stage(self, opportunity: Snapshot) -> Value:
        """Qualify, Develop, Propose, Close; ABSENT where the CRM makes no such claim."""
        if self.apart(opportunity.fields):
            own = opportunity.text("sales_stage")
            return own if own in SALES_STAGES else ABSENT
        return self.sales.get(opportunity.text("stage"), ABSENT)

    def apart(self, fields: Container[str]) -> bool:
        """Whether the sales stage stands in a field of its own; ``fields``: those that the CRM has."""
        return not self.sales and "sales_stage" in fields

    def for_state(self, state: State, sales_stage: Value = ABSENT) -> str:
        """The stage a deal in this state lands in; an accepted one by its sales stage where there is one."""
        match state:
            case State.RECEIVED:
                return self.received
            case State.WON:
                return self.won
            case State.LOST:
                return self.lost
            case State.DECLINED:
                return self.declined
            case State.EXPIRED:
                return self.expired
            case _:
                named = (stage for stage, meaning in self.sales.items() if meaning == sales_stage)
                return next(named, self.accepted)


@dataclass(frozen=True)
class Rules:
    """Everything configured that the core decides by."""

    fields: Mapping[str, FieldRule]
    stages: Stages = Stages()
    terminal_hold: timedelta = timedelta(minutes=15)
    write_name: bool = False
    write_favorite: bool = False
    import_closed: bool = False
    import_leads: bool = False
    match: str = "propose"  # propose, link, off
    default_currency: str | None = None
    cosell_recipe: str = "two_posts"  # or one_post: the post that makes a co-sell deal also invites Microsoft

    def held(self, name: str, opportunity: Snapshot) -> Value:
        """A shared field as the CRM holds it; its sales stage may be what its stage means."""
        return self.stages.sales_stage(opportunity) if name == "sales_stage" else opportunity[name]

    def crm_name(self, name: str) -> str:
        """The CRM's name of one of our fields, for people and ``--json``."""
        rule = self.fields.get(name)
        return rule.crm if rule else name


# --- what each side can hold -----------------------------------------------------------------------------------

Hold = Callable[[str, Value, CrmShape], Value]


@dataclass(frozen=True)
class Pair:
    """How a value arrives on either side: ``crm(referral's value)``, ``referral(crm's value)``."""

    crm: Hold
    referral: Hold


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
    """What the CRM will hold when it is given this value."""
    return PAIRS[KINDS[name]].crm(name, value, shape)


def for_referral(name: str, value: Value, shape: CrmShape) -> Value:
    """What Partner Center will hold when it is given this value."""
    return PAIRS[KINDS[name]].referral(name, value, shape)


def same(kind: Kind, one: Value, other: Value) -> bool:
    """Equal as far as a person could tell: order of a set, blanks, an empty text and a cleared one do not count."""
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
            return keyed(one) == keyed(other)
        case Kind.CUSTOMER:
            return (one or Customer()) == (other or Customer())
        case _:
            return one == other


def keyed(value: Value) -> dict[str, Member | Solution]:
    """The members of a set by key; nothing and ABSENT are the empty set."""
    return {item.key: item for item in value} if isinstance(value, tuple) else {}


def agree(name: str, referral: Value, opportunity: Value, shape: CrmShape) -> bool:
    """Whether both sides hold the same, as far as each can."""
    kind = KINDS[name]
    return same(kind, for_crm(name, referral, shape), opportunity) or same(
        kind, for_referral(name, opportunity, shape), referral
    )


def empty(value: Value) -> bool:
    """Nothing there: cleared, not known, no members. False is a value."""
    return value is None or value is ABSENT or value in {"", ()}
