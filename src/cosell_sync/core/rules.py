"""What is configured: what each field is called, which way it flows, who wins a conflict, what the stages mean.

Stages are the CRM's only word for both status and sales stage. ``Stages.standing`` and ``Stages.sales_stage`` read a stage;
``Stages.for_state`` finds the stage for a state. Several stages may mean the same: a stage that already fits is never
changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Final

from cosell_sync.core.deal import ABSENT, Snapshot, State, Value
from cosell_sync.core.fields import CLOSED_REASONS, LABELS, SALES_STAGES
from cosell_sync.core.frozen import replace


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


class AccountUpdates(StrEnum):
    """What a referral may change of an account that exists (see ``accounts``)."""

    FILL = "fill"
    OWN = "own"
    ALL = "all"


@dataclass(frozen=True)
class FieldRule:
    """One field: our name, the CRM's name, flow and conflict policy."""

    name: str
    crm: str
    flow: Flow = Flow.BOTH
    policy: Policy = Policy.CRM

    @property
    def goes_to_crm(self) -> bool:
        """Whether Partner Center's value may be written to the CRM."""
        return self.flow in {Flow.BOTH, Flow.TO_CRM}

    @property
    def goes_to_partner_center(self) -> bool:
        """Whether the CRM's value may be written to Partner Center."""
        return self.flow in {Flow.BOTH, Flow.TO_PARTNER_CENTER}


@dataclass(frozen=True)
class StageFlags:
    """What the CRM itself says of a stage."""

    closed: bool = False
    won: bool = False


@dataclass(frozen=True)
class CrmShape:
    """What this CRM can store, read from the CRM itself.

    ``fields``: our names of the fields that exist and are readable. ``labels``: our name → what the seller sees.
    ``lengths``: our name, or that of a part (`customer.name`, `contacts.first_name`, `solutions.id`; `customer.street` where
    both lines share a column) → UTF-16 code units. ``digits``/``scale``, ``minimum``/``maximum`` of the value field. ``currencies``: ISO codes,
    empty where the org has one only, which is then ``default_currency``. ``picklists``: our name → values allowed;
    `customer.country`: ISO codes, missing where a country is free text. ``states``: ISO code of a country → name or code
    of a state, without case → its code; None where a state is free text. ``duns``: whether an account can be given a
    D-U-N-S number. ``scales``: ISO code → decimals, of the
    currencies with fewer than ``scale``.
    ``ambiguous_stages``: a name, in lower case, that several stages have → the names that these go by here.
    ``choices``: our name → value of a choice → what the seller sees. ``region``, ``zone``: of the CRM's people, as in a locale
    and in the time zone database; empty where the CRM does not say.
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
    minimum: Decimal = Decimal("-9999999999999999.99")
    scales: Mapping[str, int] = field(default_factory=dict)
    ambiguous_stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    states: Mapping[str, Mapping[str, str]] | None = None
    duns: bool = False
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    region: str = ""
    zone: str = ""

    def of_currency(self, code: str) -> CrmShape:
        """The same for a deal in this currency, whose amounts may have fewer decimals."""
        return replace(self, scale=min(self.scale, self.scales[code])) if code in self.scales else self

    def choice(self, name: str, value: str) -> str:
        """What the seller sees for this value of a choice; empty where the CRM does not say."""
        return self.choices.get(name, {}).get(value, "")

    def label(self, name: str) -> str:
        """What the seller calls this field."""
        return self.labels.get(name) or LABELS.get(name, name.replace("_", " ").capitalize())


class Standing(StrEnum):
    """What a CRM stage says about the deal."""

    STANDBY = "standby"
    OPEN = "open"
    WON = "won"
    LOST = "lost"  # lost, declined or expired; the referral says which


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
        """By the CRM's own state; by name only between open stages, and where the CRM does not say whether it is closed.

        A name decides no end: it may be mapped wrongly, or stand for two stages of which one is won and one is lost.
        """
        stage = opportunity.text("stage")
        if isinstance(opportunity["is_closed"], bool):
            if opportunity.flag("is_closed"):
                return Standing.WON if opportunity.flag("is_won") else Standing.LOST
        elif stage == self.won:
            return Standing.WON
        elif stage in {self.lost, self.declined, self.expired}:
            return Standing.LOST
        return Standing.STANDBY if stage == self.received else Standing.OPEN

    def problems(self, shape: CrmShape) -> list[tuple[str, str, str]]:
        """Names that must not be worked with: the name, what is wrong, the next step. Names that no stage has are not among them."""
        ends = (self.lost, self.declined, self.expired)
        found = []
        for name in dict.fromkeys([self.received, self.accepted, self.won, *ends, *self.sales]):
            flags = shape.stages.get(name)
            names = shape.ambiguous_stages.get(" ".join(name.split()).casefold(), ())
            if flags is None and names:
                todo = f"write one of them in mapping: {', '.join(names)}; or rename them in the CRM"
                found.append((name, f"several stages of the CRM are called {name}", todo))
            elif flags is not None and name == self.won and not (flags.closed and flags.won):
                text = f"{name} is mapped as won, but the CRM does not count it as won"
                found.append((name, text, "name a stage in mapping.stages.won that is closed and won"))
            elif flags is not None and name in ends and flags.won:
                text = f"{name} is mapped as lost, but the CRM counts it as won"
                found.append((name, text, "name a stage in mapping.stages that is closed and lost"))
        return found

    def sales_stage(self, opportunity: Snapshot) -> Value:
        """Qualify, Develop, Propose, Close; ABSENT where the CRM makes no such claim."""
        if self.have_own_field(opportunity.fields):
            own = opportunity.text("sales_stage")
            return own if own in SALES_STAGES else ABSENT
        return self.sales.get(opportunity.text("stage"), ABSENT)

    def have_own_field(self, fields: Container[str]) -> bool:
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
    """Everything configured that the core decides by, and what was found out where the configuration leaves it open.

    ``write_name``, ``write_favorite``: None is ``auto``: ``found`` says it, by our name of the field (``takes``).
    """

    fields: Mapping[str, FieldRule]
    stages: Stages = Stages()
    terminal_hold: timedelta = timedelta(minutes=15)
    write_name: bool | None = False
    write_favorite: bool | None = False
    import_closed: bool = False
    import_leads: bool = False
    match: str = "propose"  # propose, link, off
    default_currency: str | None = None
    account_updates: AccountUpdates = AccountUpdates.FILL
    cosell_recipe: str = "two_posts"  # or one_post: the post that makes a co-sell deal also invites Microsoft
    reasons: Mapping[str, str] = field(default_factory=dict)  # the CRM's own loss reason → closed reason
    default_close: timedelta = timedelta(days=30)  # from today to the close date of a deal that brings none
    close_date_zone: tzinfo = UTC  # in which a close date is a day
    found: Mapping[str, bool] = field(
        default_factory=dict
    )  # whether Partner Center was found to take a field

    def today(self, now: datetime) -> date:
        """The day of this moment where close dates are days."""
        return now.astimezone(self.close_date_zone).date()

    def takes(self, name: str) -> bool | None:
        """Whether Partner Center takes this field, by configuration or by what was found out; None: not known yet."""
        configured = {"name": self.write_name, "favorite": self.write_favorite}.get(name, True)
        return self.found.get(name) if configured is None else configured

    def crm_value(self, name: str, opportunity: Snapshot) -> Value:
        """A shared field as the CRM holds it; its sales stage may be what its stage means."""
        return self.stages.sales_stage(opportunity) if name == "sales_stage" else opportunity[name]

    def closed_reason(self, opportunity: Snapshot) -> str:
        """Why the deal was lost: our own field, else what the CRM's own says: ``loss_reason``, then the stage. Or empty.

        Sellers lose a deal in the CRM's own dialog, which does not know our field (Dynamics: a status reason).
        """
        if own := opportunity.text("reason"):
            return own
        known = {label.casefold(): reason for label, reason in self.reasons.items()}
        known |= {reason.casefold(): reason for reason in CLOSED_REASONS}
        said = (opportunity.text(name).strip().casefold() for name in ("loss_reason", "stage"))
        return next((known[words] for words in said if words in known), "")

    def crm_name(self, name: str) -> str:
        """The CRM's name of one of our fields, for people and ``--json``."""
        rule = self.fields.get(name)
        return rule.crm if rule else name


# What people read frees nothing that is held: a new word for a field rewrites no record before its deal is told anew.
_WORDS: Final = ("labels", "choices", "region", "zone")


def digest(rules: Rules, shape: CrmShape) -> str:
    """Sixteen hex digits that change with any part of the configuration or of what the CRM can store; not with ``found``.

    Equal for equal values in every process: sets and mappings have no order here. The language that sellers read, and the
    CRM's own labels, are no part of it.
    """
    storing = {name: each for name, each in vars(shape).items() if name not in _WORDS}
    text = json.dumps([_canonical(replace(rules, found={})), _canonical(storing)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: object) -> object:
    """The value as JSON data in one order; what JSON does not know stands as its text."""
    if is_dataclass(value):
        return {each.name: _canonical(getattr(value, each.name)) for each in fields(value)}
    match value:
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(key): _canonical(item) for key, item in value.items()}
        case frozenset():
            return sorted((_canonical(item) for item in value), key=str)
        case tuple():
            return [_canonical(item) for item in value]
        case _:
            return str(value)
