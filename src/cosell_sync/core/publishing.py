"""Deals born in the CRM: what must be there before one is shared, what is sent, and how it is widened later.

Sharing cannot be undone: Partner Center has no delete, and visibility and a request for help are one-way. So nothing
is sent before everything is there, all that is missing is found at once and named by the CRM's own labels, and nothing
is invented to fill a gap. No consent, no sharing. (Mandatory fields: learn.microsoft.com/partner-center/
manage-co-sell-opportunities and bulk-operations; a deal's kinds: /developer/create-a-referral.)

    what the seller says                     kind of deal    how it is made
    Sync                                     private         one post
    Sync, Visible to Microsoft               partner-led     one post, or visibility patched later
    Sync, Help                               co-sell         one post, then Microsoft is invited into its engagement

An invitation is a second post, joined to the first by the engagement, and never sent twice: before it, the engagement
is searched for Microsoft's side. Whether one post with the help code would invite as well is the reference's highest
doubt (D1); ``mapping.cosell_recipe: one_post`` plays it that way. An existing deal can only be joined by the second post,
whatever the recipe.

Microsoft's side is a referral of its own, which we only read. ``Memory.microsoft`` keeps what was read of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import (
    ABSENT,
    SHARED,
    Customer,
    DealType,
    Direction,
    Fields,
    Link,
    Member,
    Memory,
    Phase,
    Snapshot,
    State,
    Value,
)
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.rules import CrmShape, Flow, Rules, Standing, empty, for_referral, keyed

# The six kinds of Cosell_Help__c; Partner Center's codes for them stand in config/value-lists-fy26.yaml.
HELP_KINDS: Final = (
    "Workload-specific value proposition",
    "Customer technical architecture",
    "Proof of concept or demo",
    "Quotes or licensing",
    "Post-sales customer success",
    "General or other",
)
MOST: Final = 50  # solutions, and members of a team (bulk file)
MICROSOFT: Final = "Microsoft"
PENDING: Final = "pending"  # values of Memory.invite
DONE: Final = "done"
_OPTIONAL: Final = ("campaign_id", "notes", "sales_stage", "contacts")
_PARTS: Final = (("first_name", "first name"), ("last_name", "last name"), ("phone", "phone"))
_ONE_WAY: Final = ("help", "help_note")  # fixed once Microsoft was asked (bulk file)


@dataclass(frozen=True)
class Gap:
    """Something without which a deal is not shared. ``words``: what is missing, beginning with the CRM's label."""

    field: str
    words: str


# --- what must be there ------------------------------------------------------------------------------------------


def wants_sharing(link: Link) -> bool:
    """An opportunity whose seller asks for a referral, and that has none."""
    opportunity = link.opportunity
    return (
        link.phase is Phase.WAITING
        and link.referral is None
        and opportunity is not None
        and opportunity.flag("sync")
        and not opportunity.text("referral_id")
    )


def is_closed(opportunity: Snapshot, rules: Rules) -> bool:
    return rules.stages.standing(opportunity) in {Standing.WON, Standing.LOST}


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
    return tuple(gaps)


def _own_gaps(opportunity: Snapshot, rules: Rules, shape: CrmShape, today: date) -> Iterable[Gap]:
    if empty(opportunity["name"]):
        yield Gap("name", shape.label("name"))
    value = opportunity["value"]
    if not isinstance(value, Decimal):
        yield Gap("value", shape.label("value"))
    elif value < 0:
        yield Gap("value", f"{shape.label('value')} (must not be negative)")
    currency = _currency(opportunity, rules, shape)
    if not (isinstance(currency, str) and len(currency) == 3 and currency.isascii() and currency.isalpha()):
        yield Gap("currency", shape.label("currency"))
    close = opportunity["close_date"]
    if not isinstance(close, date):
        yield Gap("close_date", shape.label("close_date"))
    elif close < today:
        yield Gap("close_date", f"{shape.label('close_date')} (must not be in the past)")


def _currency(opportunity: Snapshot, rules: Rules, shape: CrmShape) -> Value:
    """The deal's, or the only one that this CRM has."""
    own = opportunity["currency"]
    return own if not empty(own) else rules.default_currency or shape.default_currency


def _customer_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    value = opportunity["customer"]
    customer = value if isinstance(value, Customer) else Customer()
    for part in ("name", "address_line1", "city"):
        if not getattr(customer, part):
            yield Gap("customer", shape.label(f"customer.{part}"))
    country = customer.country or ""
    if not (len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()):
        known = f' ("{country}" is no country known here)' if country else ""
        yield Gap("customer", f"{shape.label('customer.country')}{known}")


def _set_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    for name in ("solutions", "team"):
        count = len(keyed(opportunity[name]))
        if count > MOST:
            yield Gap(name, f"{shape.label(name)} (at most {MOST})")
        elif name == "solutions" and not count:
            yield Gap(name, f"{shape.label(name)} (at least one)")
    yield from _person_gap("team", "a colleague", opportunity, shape)


def _help_gaps(opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    yield from _person_gap("contacts", "a customer contact", opportunity, shape)
    if opportunity.text("help") not in HELP_KINDS:
        yield Gap("help", f"{shape.label('help')} (one of the six kinds)")


def _person_gap(name: str, who: str, opportunity: Snapshot, shape: CrmShape) -> Iterable[Gap]:
    """One person at least with everything; of those who come close, the closest is named."""
    people = [each for each in keyed(opportunity[name]).values() if isinstance(each, Member)]
    lacking = {each.email: [words for part, words in _PARTS if not getattr(each, part)] for each in people}
    if people and min(map(len, lacking.values())) == 0:
        return
    words = f"{shape.label(name)} ({who} with first name, last name, phone and e-mail"
    if people:
        closest = min(people, key=lambda each: len(lacking[each.email]))
        words += f"; {messages.person(closest)} has no {messages.listed(lacking[closest.email])}"
    yield Gap(name, f"{words})")


# --- what is sent ------------------------------------------------------------------------------------------------


def asks_for_help(opportunity: Snapshot) -> bool:
    return bool(opportunity.text("help").strip())


def kind_of(opportunity: Snapshot) -> DealType:
    """What the seller makes of it."""
    if asks_for_help(opportunity):
        return DealType.COSELL
    return DealType.PARTNER_LED if opportunity.flag("visible") else DealType.PRIVATE


def draft(opportunity: Snapshot, rules: Rules, shape: CrmShape) -> dict[str, Value]:
    """The fields of a new referral. Only for an opportunity of which nothing is ``missing``."""
    kind = kind_of(opportunity)
    fields: dict[str, Value] = {
        "name": opportunity["name"],
        "value": opportunity["value"],
        "currency": _currency(opportunity, rules, shape),
        "close_date": opportunity["close_date"],
        "customer": opportunity["customer"],
        "team": opportunity["team"],
        "solutions": opportunity["solutions"],
    }
    fields |= {
        name: value
        for name in _OPTIONAL
        if (rule := rules.fields.get(name)) is not None and rule.flow in {Flow.BOTH, Flow.TO_PARTNER_CENTER}
        for value in [rules.held(name, opportunity)]
        if not empty(value)
    }
    fields = {name: for_referral(name, value, shape) for name, value in fields.items()}
    fields |= {
        "consent": opportunity.flag("consent"),
        "visible": kind is not DealType.PRIVATE,
        "deal_type": kind.value,
    }
    if kind is DealType.COSELL:
        fields |= {"help": opportunity["help"], "help_note": opportunity["help_note"]}
    return {name: value for name, value in fields.items() if value is not ABSENT}


def source(opportunity: Snapshot, sent: Fields, rules: Rules) -> dict[str, Value]:
    """What the CRM held when this was sent, for the base."""
    values = {name: rules.held(name, opportunity) for name in (*sent, "stage") if name != "deal_type"}
    return {name: value for name, value in values.items() if value is not ABSENT}


def adopted(
    link: Link, sent: Fields, known: Fields, referral: Snapshot, rules: Rules, *, answered: bool
) -> Link:
    """The pair after the post landed: Partner Center holds ``referral`` now.

    ``known``: see ``source``. ``answered``: ``referral`` is the reply to the post itself, so whatever differs from what
    was sent is Partner Center's own doing; else the reply was lost, and what differs was written by a person since.
    """
    base_referral: dict[str, Value] = {"state": State.ACCEPTED.value}  # our own deals start so
    base_opportunity = {name: known[name] for name in ("stage", "visible", "consent") if name in known}
    for name in sent.keys() & SHARED.keys():
        there = referral[name] if answered else _as_posted(name, sent[name], referral[name])
        here = known.get(name, ABSENT)
        if there is not ABSENT and here is not ABSENT:
            base_referral[name], base_opportunity[name] = there, here
    invited = ""
    if sent.get("deal_type") == DealType.COSELL:
        invited = DONE if rules.cosell_recipe == "one_post" else PENDING
    shared = replace(
        link,
        referral_id=referral.id,
        phase=Phase.LINKED,
        referral=referral,
        base_referral=base_referral,
        base_opportunity=base_opportunity,
        memory=Memory(notices=(messages.shared(DealType(str(sent["deal_type"]))),), invite=invited),
        dirty=True,
        due=None,
    )
    return _fixed(shared, known) if invited == DONE else shared


def _as_posted(name: str, sent: Value, now: Value) -> Value:
    """What Partner Center made of a field right after the post, as far as can be told later.

    A post lands whole, so a member that is not there any more was taken away since.
    """
    if now is ABSENT or name == "customer":
        return now  # fixed once created: it is as it was made
    if name == "solutions":
        later = keyed(now)
        return tuple(later.get(key, item) for key, item in keyed(sent).items())  # type: ignore[return-value]
    return sent


# --- widening ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """A wish that cannot be had any more."""

    field: str
    referral: Value
    opportunity: Value
    why: str


@dataclass(frozen=True)
class Widening:
    """How a linked deal is to be opened further. ``link``: with the seller's word on visibility taken in."""

    link: Link
    visible: bool = False  # patch the visibility
    invites: bool = False  # help is asked for that Microsoft does not know of yet
    gaps: tuple[Gap, ...] = ()
    refused: tuple[Refusal, ...] = ()


def widening(link: Link, state: State, rules: Rules, shape: CrmShape, today: date) -> Widening:
    """Private → partner-led → co-sell, in this direction only, and only by the seller's word."""
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None or state is State.UNKNOWN or opportunity["sync"] is False:
        return Widening(link)
    link = _noted(link, opportunity, referral)
    refused = tuple(_refusals(link, opportunity, referral, shape))
    asked = asks_for_help(opportunity) and link.memory.invite != DONE and "help" not in link.base_opportunity
    if asked and takes_part(link):
        refused += (Refusal("help", None, opportunity["help"], "Microsoft takes part in this deal already"),)
        asked = False
    invites = asked and state is not State.RECEIVED
    gaps: tuple[Gap, ...] = ()
    if state in TERMINAL:
        gaps = (Gap("help", shape.label("help")),) if invites else ()
    elif invites:
        gaps = missing(opportunity, rules, shape, today, cosell=True)
    hidden = referral["visible"] is False
    wanted = hidden and (opportunity.flag("visible") or (invites and not gaps))
    if wanted and opportunity["consent"] is not True:
        wanted = False
        gaps = gaps or (Gap("consent", shape.label("consent")),)
    return Widening(link, visible=wanted, invites=invites, gaps=gaps, refused=refused)


def _noted(link: Link, opportunity: Snapshot, referral: Snapshot) -> Link:
    """A visibility that both sides have said is agreed, and cannot be taken back from then on."""
    if not (referral.flag("visible") and opportunity.flag("visible")):
        return link
    return replace(link, base_opportunity={**link.base_opportunity, "visible": True})


def _refusals(link: Link, opportunity: Snapshot, referral: Snapshot, shape: CrmShape) -> Iterable[Refusal]:
    base = link.base_opportunity
    if referral.flag("visible") and base.get("visible") is True and opportunity["visible"] is False:
        why = "Microsoft's sellers can see this deal, and that cannot be taken back"
        yield Refusal("visible", True, False, why)
    if base.get("consent") is True and opportunity["consent"] is False:
        why = "what was shared cannot be taken back; nothing more about customer contacts is sent"
        yield Refusal("consent", True, False, why)
    for name in _ONE_WAY:
        if (
            name in base
            and opportunity[name] is not ABSENT
            and (base[name] or None) != (opportunity[name] or None)
        ):
            label = shape.label(name)
            why = f"Microsoft was asked with {label} {messages.shown(base[name])}, and that cannot be changed"
            yield Refusal(name, base[name], opportunity[name], why)


def invitation(link: Link, rules: Rules, shape: CrmShape, today: date) -> dict[str, Value] | None:
    """The fields of the post that invites Microsoft; None where it is not wanted, or not yet possible."""
    referral, opportunity = link.referral, link.opportunity
    if (
        link.phase is not Phase.LINKED
        or link.memory.gone is not None
        or referral is None
        or opportunity is None
    ):
        return None
    if referral.text("state") != State.ACCEPTED or not referral.text("engagement_id"):
        return None
    wider = widening(link, State.ACCEPTED, rules, shape, today)
    if not wider.invites or wider.gaps or referral["visible"] is False:
        return None
    return draft(opportunity, rules, shape)


def invited(link: Link, side: Mapping[str, str], known: Fields) -> Link:
    """Microsoft has its side of this deal now."""
    memory = replace(link.memory, invite=DONE, microsoft=side or link.memory.microsoft)
    return _fixed(replace(link, memory=memory, dirty=True), known)


def _fixed(link: Link, known: Fields) -> Link:
    words = {name: known[name] for name in _ONE_WAY if name in known}
    return replace(link, base_opportunity={**link.base_opportunity, **words})


# --- Microsoft's side --------------------------------------------------------------------------------------------


def deal_type(link: Link) -> Value:
    """Whether our own row says so once Microsoft is invited is a doubt (D2); a deal with Microsoft in it is co-sell."""
    if link.memory.invite == DONE or link.memory.microsoft:
        return DealType.COSELL.value
    return link.referral["deal_type"] if link.referral else ABSENT


def takes_part(link: Link) -> bool:
    """Microsoft started this deal, or is known to be in it without our having asked."""
    inbound = link.referral is not None and link.referral.text("direction") == Direction.INBOUND
    return (inbound and deal_type(link) == DealType.COSELL) or bool(link.memory.microsoft)


def awaited(link: Link) -> bool:
    """Whether Microsoft's side of this deal may still change and is of interest: open, and we asked for it."""
    referral = link.referral
    return (
        link.phase is Phase.LINKED
        and link.memory.gone is None
        and referral is not None
        and referral.text("state") == State.ACCEPTED
        and referral.text("direction") != Direction.INBOUND
        and bool(referral.text("engagement_id"))
        and deal_type(link) == DealType.COSELL
        and not link.memory.microsoft.get("status", "").startswith("Closed")
    )


def microsoft_side(sides: Sequence[Snapshot]) -> dict[str, str]:
    """What is kept of Microsoft's referral of an engagement, the newest where there are several; empty for none."""
    own = [
        side
        for side in sides
        if side.text("category") == "foreign" and side.text("organization") == MICROSOFT
    ]
    if not own:
        return {}
    newest = max(own, key=lambda side: side.moment("created_at") or datetime.min.replace(tzinfo=UTC))
    until = newest.moment("respond_by")
    kept = {
        "status": newest.text("status_text"),
        "id": newest.text("microsoft_id"),
        "reason": newest.text("status_reason"),
        "until": until.isoformat() if until else "",
    }
    return {name: text for name, text in kept.items() if text}


def microsoft_said(side: Mapping[str, str]) -> str:
    """Microsoft's side in words; empty where nothing is known."""
    until = side.get("until")
    return messages.microsoft_side(
        side.get("status", ""), side.get("reason", ""), datetime.fromisoformat(until) if until else None
    )
