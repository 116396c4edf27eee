"""The words of a notice. Of a deal it says its name, its customer's organization, its ids and its deadline, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cosell_sync.core.deal import Customer
from cosell_sync.core.memory import Link, respond_by
from cosell_sync.core.notices import OURSELVES, Notice, NoticeKind

LONGEST_NAME: Final = 150  # characters of a deal's or customer's name
_SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "partner_center": "Partner Center",
        "salesforce": "Salesforce",
        "dynamics": "Dynamics 365",
        "store": "the store",
        OURSELVES: "cosell-sync",
    }
)


@dataclass(frozen=True)
class NamedDeal:
    """One deal in a message. ``url``: its page in Partner Center, empty where it has none."""

    referral_id: str | None
    opportunity_id: str | None
    name: str
    customer: str
    respond_by: datetime | None = None
    url: str = ""


@dataclass(frozen=True)
class Message:
    """What is sent, before a format is put on it. ``id``: the same in every repetition. ``more``: deals that are not listed.
    ``connection``: whose deals they are, empty where there is one only.
    """

    id: str
    kind: str
    over: bool
    title: str
    text: str
    deals: tuple[NamedDeal, ...] = ()
    more: int = 0
    connection: str = ""


def compose(notice: Notice, links: Mapping[str, Link], connection: str = "") -> Message:
    """The message of a notice. ``links``: by key, as they are now; a deal that is gone is left out. ``connection``: its name, where
    there are several; a channel may be told of many.
    """
    deals = tuple(_named(links[key]) for key in notice.deals if key in links)
    number = len(notice.deals) + notice.more
    title, text = _of_system(notice) if number == 0 else _of_deals(notice.kind, number, deals)
    title = f"{connection}: {title}" if connection else title
    return Message(notice.key, notice.kind.value, notice.over, title, text, deals, notice.more, connection)


def sample() -> Message:
    """What ``notices test`` sends."""
    text = "This is a test. Notices of co-sell deals will arrive here."
    return Message("test", "test", over=False, title="cosell-sync can reach this channel", text=text)


def moment(at: datetime) -> str:
    """A moment for people in any place."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _named(link: Link) -> NamedDeal:
    return NamedDeal(
        link.referral_id,
        link.opportunity_id,
        _first(link, "name") or "Deal without a name",
        _customer(link),
        respond_by(link),
        link.referral.text("referral_link") if link.referral else "",
    )


def _first(link: Link, name: str) -> str:
    """The text as the CRM has it, else as Partner Center has it."""
    texts = [side.text(name) for side in (link.opportunity, link.referral) if side is not None]
    return _cut(next((text for text in texts if text), ""))


def _customer(link: Link) -> str:
    found = [side["customer"] for side in (link.opportunity, link.referral) if side is not None]
    return _cut(next((each.name for each in found if isinstance(each, Customer) and each.name), ""))


def _cut(text: str) -> str:
    """On one line, and not too long for any format."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def _of_system(notice: Notice) -> tuple[str, str]:
    """Title and text of a notice that is about no single deal."""
    system = _SYSTEMS.get(notice.system, notice.system)
    match notice.kind, notice.over:
        case NoticeKind.SIGN_IN, False:
            return (
                f"{system} refuses the sign-in",
                "No deal is kept in step until an administrator signs in again. Nothing is lost.",
            )
        case NoticeKind.SIGN_IN, True:
            return f"{system} accepts the sign-in again", "Deals are kept in step again."
        case NoticeKind.OUTAGE, True:
            return f"{_capital(system)} works again", "Deals are kept in step again."
        case NoticeKind.OUTAGE, False if notice.system == OURSELVES:
            return (
                "cosell-sync had an internal error",
                "Deals are not kept in step for now. It tries again by itself and nothing is lost.",
            )
        case NoticeKind.OUTAGE, False:
            return (
                f"{_capital(system)} cannot be reached",
                "Deals are not kept in step for now. It goes on by itself as soon as possible. Nothing is lost.",
            )
    return (
        "The sync has stopped before changing anything",
        "Unusually many deals would change at once. An administrator must look at the plan and let it through.",
    )


def _of_deals(kind: NoticeKind, number: int, deals: Sequence[NamedDeal]) -> tuple[str, str]:
    one = number == 1
    title, text = (_ONE if one else _MANY)[kind]
    deadline = next((deal.respond_by for deal in deals if deal.respond_by), None)
    if one and deadline and kind in {NoticeKind.RECEIVED, NoticeKind.EXPIRING}:
        text = f"Accept or decline it in the CRM by {moment(deadline)}; after that it expires."
    return title.format(number=number), text


def _capital(text: str) -> str:
    return text if text == "cosell-sync" else text[:1].upper() + text[1:]


_ONE: Final[Mapping[NoticeKind, tuple[str, str]]] = MappingProxyType(
    {
        NoticeKind.RECEIVED: ("A new co-sell deal waits for an answer", "Accept or decline it in the CRM."),
        NoticeKind.EXPIRING: ("A co-sell deal expires soon", "Accept or decline it in the CRM."),
        NoticeKind.ATTENTION: (
            "A co-sell deal needs attention",
            "A person must act. The message on the opportunity says what to do.",
        ),
        NoticeKind.CONFLICT: (
            "A co-sell deal was changed differently on both sides",
            "A person must choose which value counts. The message on the opportunity says which field it is.",
        ),
        NoticeKind.WON: ("A co-sell deal is won", "Partner Center and the CRM both say so."),
    }
)
_MANY: Final[Mapping[NoticeKind, tuple[str, str]]] = MappingProxyType(
    {
        NoticeKind.RECEIVED: (
            "{number} more co-sell deals wait for an answer",
            "Accept or decline them in the CRM before they expire, the first ones listed first.",
        ),
        NoticeKind.EXPIRING: (
            "{number} more co-sell deals expire soon",
            "Accept or decline them in the CRM, the first ones listed first.",
        ),
        NoticeKind.ATTENTION: (
            "{number} more co-sell deals need attention",
            "A person must act. The message on each opportunity says what to do.",
        ),
        NoticeKind.CONFLICT: (
            "{number} more co-sell deals were changed differently on both sides",
            "A person must choose which values count. The message on each opportunity says which field it is.",
        ),
        NoticeKind.WON: ("{number} more co-sell deals are won", "Partner Center and the CRM both say so."),
    }
)
