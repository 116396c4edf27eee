"""Deals born in the CRM: what is sent to make their referral, and the link after the post landed.

Sharing cannot be undone: Partner Center has no delete, and visibility and a request for help are one-way. So nothing
is sent before everything is there (``requirements``), and a linked deal is only ever opened further (``visibility``).
A deal's kinds: learn.microsoft.com/partner-center/developer/create-a-referral.

    what the seller says                     kind of deal    how it is made
    Sync                                     private         one post
    Sync, Visible to Microsoft               partner-led     one post, or visibility patched later
    Sync, Help                               co-sell         one post, then Microsoft is invited into its engagement

An invitation is a second post, joined to the first by the engagement, and never sent twice: before it, the engagement
is searched for Microsoft's side. Whether one post with the help code would invite as well is not certain (D1);
``mapping.cosell_recipe: one_post`` does it that way. An existing deal can only be joined by the second post, whatever the
recipe.
"""

from __future__ import annotations

from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, DealType, Fields, Snapshot, State, Value
from cosell_sync.core.decision import ConflictKind
from cosell_sync.core.fields import NEWER, SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Invitation, Link, Memory, Phase
from cosell_sync.core.microsoft import fix_help_request
from cosell_sync.core.normalize import by_key, empty, for_referral, not_taken
from cosell_sync.core.requirements import _currency, asks_for_help
from cosell_sync.core.rules import CrmShape, Rules, Standing

_OPTIONAL: Final = ("campaign_id", "notes", "sales_stage", "contacts", *NEWER)


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
    """Whether its stage means won or lost."""
    return rules.stages.standing(opportunity) in {Standing.WON, Standing.LOST}


def kind_of(opportunity: Snapshot) -> DealType:
    """The kind of deal that the seller asks for."""
    if asks_for_help(opportunity):
        return DealType.COSELL
    return DealType.PARTNER_LED if opportunity.flag("visible") else DealType.PRIVATE


def new_referral_fields(opportunity: Snapshot, rules: Rules, shape: CrmShape) -> dict[str, Value]:
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
        if (rule := rules.fields.get(name)) is not None and rule.goes_to_partner_center
        for value in [rules.crm_value(name, opportunity)]
        if not empty(value)
    }
    fields = {name: for_referral(name, value, shape) for name, value in fields.items()}
    fields |= {
        "consent": opportunity.flag("consent"),
        "visible": kind is not DealType.PRIVATE,
        "deal_type": kind.value,
    }
    if kind is DealType.COSELL:
        fields |= {
            "help": opportunity["help"],
            "help_note": for_referral("help_note", opportunity["help_note"], shape),
        }
    return {name: value for name, value in fields.items() if value is not ABSENT}


def source_values(opportunity: Snapshot, sent: Fields, rules: Rules) -> dict[str, Value]:
    """What the CRM had when this was sent, for the base."""
    values = {name: rules.crm_value(name, opportunity) for name in (*sent, "stage") if name != "deal_type"}
    return {name: value for name, value in values.items() if value is not ABSENT}


def after_post(
    link: Link,
    sent: Fields,
    known: Fields,
    referral: Snapshot,
    rules: Rules,
    shape: CrmShape,
    *,
    answered: bool,
) -> Link:
    """The link after the post landed: Partner Center has ``referral`` now.

    ``known``: see ``source_values``. ``answered``: ``referral`` is the reply to the post itself, so whatever differs from what
    was sent is Partner Center's own doing, and so is what it filled in by itself; else the reply was lost, and what
    differs was written by a person since. What it made otherwise than it was sent is told, but for the customer, which nobody
    can change there. What is asked per deal and the location are no such case: where the seller left
    them empty the configured default was sent, and the record is to show it.
    """
    base_referral: dict[str, Value] = {"state": State.ACCEPTED.value}  # our own deals start so
    base_opportunity = {name: known[name] for name in ("stage", "visible", "consent") if name in known}
    for name in sent.keys() & SHARED.keys():
        there = referral[name] if answered else _as_posted(name, sent[name], referral[name])
        here = known.get(name, ABSENT)
        if there is not ABSENT and here is not ABSENT:
            base_referral[name], base_opportunity[name] = there, here
    unsent = SHARED.keys() - sent.keys() - {*NEWER}
    for name in unsent if answered and link.opportunity is not None else ():
        there, here = referral[name], rules.crm_value(name, link.opportunity)  # type: ignore[arg-type]  # asked above
        if here is not ABSENT and empty(here) and not empty(there):
            base_referral[name], base_opportunity[name] = there, here
    compared = {name: sent[name] for name in known.keys() & sent.keys() - {"customer"}}
    unequal = not_taken({}, compared, referral, known, shape)
    invited = Invitation.NONE
    if sent.get("deal_type") == DealType.COSELL:
        invited = Invitation.DONE if rules.cosell_recipe == "one_post" else Invitation.PENDING
    shared = replace(
        link,
        referral_id=referral.id,
        phase=Phase.LINKED,
        referral=referral,
        base_referral=base_referral,
        base_opportunity=base_opportunity,
        memory=Memory(
            notices=(messages.shared(DealType(str(sent["deal_type"]))),),
            invite=invited,
            reported=tuple(ConflictKind.NOT_TAKEN.key(name) for name in unequal) if answered else (),
        ),
        dirty=True,
        due=None,
    )
    return fix_help_request(shared, known) if invited == Invitation.DONE else shared


def _as_posted(name: str, sent: Value, now: Value) -> Value:
    """What Partner Center made of a field right after the post, as far as can be told later.

    A post lands whole, so a member that is not there any more was taken away since.
    """
    if now is ABSENT or name == "customer":
        return now  # fixed once created: it is as it was made
    if name == "solutions":
        later = by_key(now)
        return tuple(later.get(key, item) for key, item in by_key(sent).items())  # type: ignore[return-value]
    return sent
