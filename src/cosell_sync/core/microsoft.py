"""Microsoft's side of a deal: a referral of its own, which we only read. ``Memory.microsoft`` keeps what was read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Category, DealType, Direction, Fields, Snapshot, State, Value
from cosell_sync.core.fields import UNKEYED
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Invitation, Link, Phase

MICROSOFT: Final = "Microsoft"


ONE_WAY: Final = ("help", "help_note")  # fixed once Microsoft was asked (bulk file)


def deal_type(link: Link) -> Value:
    """The deal type, ABSENT where it is not known. A deal with Microsoft in it is co-sell, whatever our own row says (D2)."""
    if link.memory.invite == Invitation.DONE or link.memory.microsoft:
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
        and not link.memory.microsoft.get("status", "").casefold().startswith("closed")
    )


def may_have_joined(link: Link) -> bool:
    """Whether Microsoft may be in this deal, or have moved on in it, without our row saying so: open, and its sellers see it.

    A customer's consent to an incentive claim turns a partner-led referral into a co-sell one; nobody here asks for that.
    """
    referral = link.referral
    return (
        link.phase is Phase.LINKED
        and link.memory.gone is None
        and referral is not None
        and referral.text("state") == State.ACCEPTED
        and referral.flag("visible")
        and bool(referral.text("engagement_id"))
    )


# Beside what the service writes of itself, what changes when Microsoft is asked: the customer's contact is filled in.
_TELLS_NOTHING: Final = frozenset(
    {"updated_at", "contacts", "visible", "deal_type", "help_code", *UNKEYED.values()}
)


def tells_too_little(before: Snapshot, after: Snapshot) -> bool:
    """Whether a referral changed without a field of ours that explains it, so that the change may lie on Microsoft's side."""
    names = {*before.fields, *after.fields} - _TELLS_NOTHING
    return all(before[name] == after[name] for name in names)


def joined_elsewhere(link: Link) -> bool:
    """Whether a deal that the record calls private or partner-led is a co-sell one now, and not because we asked."""
    told = link.opportunity.text("deal_type") if link.opportunity is not None else ""
    return (
        told in {DealType.PRIVATE, DealType.PARTNER_LED}
        and link.memory.invite is Invitation.NONE
        and deal_type(link) == DealType.COSELL
    )


def microsoft_side(sides: Sequence[Snapshot]) -> dict[str, str]:
    """What is kept of Microsoft's referral of an engagement, the newest where there are several; empty for none."""
    own = [
        side
        for side in sides
        if side.text("category") == Category.FOREIGN and side.text("organization") == MICROSOFT
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
        "referral": newest.id.lower(),
    }
    return {name: text for name, text in kept.items() if text}


def says_nothing_new(side: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether Microsoft's side tells what is known of it: whatever the id of its referral."""
    return {**side, "referral": ""} == {**known, "referral": ""}


def microsoft_said(side: Mapping[str, str]) -> str:
    """Microsoft's side in words; empty where nothing is known."""
    until = side.get("until")
    return messages.microsoft_side(
        side.get("status", ""), side.get("reason", ""), datetime.fromisoformat(until) if until else None
    )


def fix_help_request(link: Link, known: Fields) -> Link:
    """The link with the help that Microsoft was asked for as base: from now on it cannot be changed."""
    words = {name: known[name] for name in ONE_WAY if name in known}
    return replace(link, base_opportunity={**link.base_opportunity, **words})
