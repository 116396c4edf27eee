"""The words of a notice, in the language of ``mapping.language``. Of a deal it says its name, its customer's organization, its ids and its
deadline, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cosell_sync.core.deal import Customer
from cosell_sync.core.memory import Link, respond_by
from cosell_sync.core.notices import OURSELVES, Notice, NoticeKind
from cosell_sync.core.texts import PLAIN, Language, Text

LONGEST_NAME: Final = 150  # characters of a deal's or customer's name
_SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "partner_center": "Partner Center",
        "salesforce": "Salesforce",
        "dynamics": "Dynamics 365",
        "store": Text("The store"),
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
    """What is sent, before a format is put on it. ``id``: the same in every repetition, and no other notice's. ``more``: deals that are not listed.
    ``title`` and ``text`` are said in ``language`` already. ``connection``: whose deals they are, empty where there is one only.
    """

    id: str
    kind: str
    over: bool
    title: str
    text: str
    deals: tuple[NamedDeal, ...] = ()
    more: int = 0
    language: Language = PLAIN
    connection: str = ""


def compose(
    notice: Notice, links: Mapping[str, Link], at: datetime, language: Language = PLAIN, connection: str = ""
) -> Message:
    """The message of a notice that came up ``at`` this time. ``links``: by key, as they are now; a deal that is gone is left out.
    ``connection``: its name, where there are several; a channel may be told of many.
    """
    deals = tuple(_named(links[key], language) for key in notice.deals if key in links)
    number = len(notice.deals) + notice.more
    title, text = _of_system(notice) if number == 0 else _of_deals(notice.kind, number, deals)
    say = language.say
    return Message(
        "@".join(filter(None, (notice.key, at.isoformat(timespec="seconds"), connection))),
        notice.kind.value,
        notice.over,
        f"{connection}: {say(title)}" if connection else say(title),
        say(text),
        deals,
        notice.more,
        language,
        connection,
    )


def sample(language: Language = PLAIN) -> Message:
    """What ``notices test`` sends."""
    title = language.say(Text("%(system)s can reach this channel", system=_SYSTEMS[OURSELVES]))
    text = language.say(Text("This is a test. Notices of co-sell deals will arrive here."))
    return Message("test", "test", over=False, title=title, text=text, language=language)


def _named(link: Link, language: Language) -> NamedDeal:
    return NamedDeal(
        link.referral_id,
        link.opportunity_id,
        _first(link, "name") or language.say(Text("Deal without a name")),
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


def _of_system(notice: Notice) -> tuple[Text, Text]:
    """Title and text of a notice that is about no single deal."""
    system = _SYSTEMS.get(notice.system, notice.system)
    match notice.kind, notice.over:
        case NoticeKind.SIGN_IN, False:
            return (
                Text("%(system)s refuses the sign-in", system=system),
                Text("No deal is kept in step until an administrator signs in again. Nothing is lost."),
            )
        case NoticeKind.SIGN_IN, True:
            return Text("%(system)s accepts the sign-in again", system=system), _IN_STEP
        case NoticeKind.OUTAGE, True:
            return Text("%(system)s works again", system=system), _IN_STEP
        case NoticeKind.OUTAGE, False if notice.system == OURSELVES:
            return (
                Text("%(system)s had an internal error", system=system),
                Text("Deals are not kept in step for now. It tries again by itself and nothing is lost."),
            )
        case NoticeKind.OUTAGE, False:
            return (
                Text("%(system)s cannot be reached", system=system),
                Text(
                    "Deals are not kept in step for now. It goes on by itself as soon as possible. Nothing is lost."
                ),
            )
    return (
        Text("The sync has stopped before changing anything"),
        Text(
            "Unusually many deals would change at once. An administrator must look at the plan and let it through."
        ),
    )


def _of_deals(kind: NoticeKind, number: int, deals: Sequence[NamedDeal]) -> tuple[Text, Text]:
    if number > 1:
        title, text = _MANY[kind]
        return Text(title.template, number=number), text
    title, text = _ONE[kind]
    deadline = next((deal.respond_by for deal in deals if deal.respond_by), None)
    if deadline and kind in {NoticeKind.RECEIVED, NoticeKind.EXPIRING}:
        text = Text("Accept or decline it in the CRM by %(until)s; after that it expires.", until=deadline)
    return title, text


_IN_STEP: Final = Text("Deals are kept in step again.")
_BOTH_SAY_SO: Final = Text("Partner Center and the CRM both say so.")
_ONE: Final[Mapping[NoticeKind, tuple[Text, Text]]] = MappingProxyType(
    {
        NoticeKind.RECEIVED: (
            Text("A new co-sell deal waits for an answer"),
            Text("Accept or decline it in the CRM."),
        ),
        NoticeKind.EXPIRING: (Text("A co-sell deal expires soon"), Text("Accept or decline it in the CRM.")),
        NoticeKind.ATTENTION: (
            Text("A co-sell deal needs attention"),
            Text("A person must act. The message on the opportunity says what to do."),
        ),
        NoticeKind.CONFLICT: (
            Text("A co-sell deal was changed differently on both sides"),
            Text(
                "A person must choose which value counts. The message on the opportunity says which field it is."
            ),
        ),
        NoticeKind.WON: (Text("A co-sell deal is won"), _BOTH_SAY_SO),
    }
)
_MANY: Final[Mapping[NoticeKind, tuple[Text, Text]]] = MappingProxyType(
    {
        NoticeKind.RECEIVED: (
            Text("%(number)s more co-sell deals wait for an answer", number=2),
            Text("Accept or decline them in the CRM before they expire, the first ones listed first."),
        ),
        NoticeKind.EXPIRING: (
            Text("%(number)s more co-sell deals expire soon", number=2),
            Text("Accept or decline them in the CRM, the first ones listed first."),
        ),
        NoticeKind.ATTENTION: (
            Text("%(number)s more co-sell deals need attention", number=2),
            Text("A person must act. The message on each opportunity says what to do."),
        ),
        NoticeKind.CONFLICT: (
            Text("%(number)s more co-sell deals were changed differently on both sides", number=2),
            Text(
                "A person must choose which values count. The message on each opportunity says which field it is."
            ),
        ),
        NoticeKind.WON: (Text("%(number)s more co-sell deals are won", number=2), _BOTH_SAY_SO),
    }
)
