"""A message as the JSON that each receiver documents.

Teams: a message with one Adaptive Card, as the Workflows template "Send webhook alerts to a channel" takes it
(learn.microsoft.com/connectors/teams, "Microsoft Teams Webhook"; adaptivecards.io/explorer). Names stand in text runs, which
know no Markdown, so that nobody's deal name becomes a link or a heading.

Slack: blocks of an incoming webhook (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks). ``&``, ``<`` and ``>``
are escaped (docs.slack.dev/messaging/formatting-message-text), so that no name mentions a channel; ``verbatim`` keeps addresses
in names from becoming links.

JSON: our own, the same keys in every notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from cosell_sync.core.texts import Text
from cosell_sync.notices.message import Message, NamedDeal

ADAPTIVE_CARD: Final = "application/vnd.microsoft.card.adaptive"
OPEN: Final = Text("Open in Partner Center")


def teams(message: Message) -> dict[str, Any]:
    """``{"type": "message", "attachments": [one Adaptive Card]}``."""
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": message.title, "size": "Medium", "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": message.text, "wrap": True},
    ]
    body += [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": _line(message, deal)}]}
        for deal in message.deals
    ]
    if message.more:
        body.append({"type": "TextBlock", "text": _more(message), "isSubtle": True, "wrap": True})
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": message.title,
        "body": body,
    }
    if url := _only_url(message):
        card["actions"] = [{"type": "Action.OpenUrl", "title": message.language.say(OPEN), "url": url}]
    return {
        "type": "message",
        "attachments": [{"contentType": ADAPTIVE_CARD, "contentUrl": None, "content": card}],
    }


def slack(message: Message) -> dict[str, Any]:
    """``{"text": for the notification, "blocks": header and sections}``."""
    lines = [_escaped(_line(message, deal)) for deal in message.deals]
    if message.more:
        lines.append(_more(message))
    if url := _only_url(message):
        lines.append(f"<{_escaped(url)}|{message.language.say(OPEN)}>")
    sections = [
        _escaped(message.text),
        *(["\n".join(lines)] if lines else []),
    ]
    return {
        "text": _escaped(message.title),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": message.title, "emoji": False}},
            *(
                {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000], "verbatim": True}}
                for text in sections
            ),
        ],
    }


def plain(message: Message) -> dict[str, Any]:
    """Our own keys, described in docs/notices.md."""
    return {
        "id": message.id,
        "kind": message.kind,
        "over": message.over,
        "title": message.title,
        "text": message.text,
        "deals": [_facts(deal) for deal in message.deals],
        "more": message.more,
    }


FORMATS: Final[Mapping[str, Callable[[Message], dict[str, Any]]]] = MappingProxyType(
    {"teams": teams, "slack": slack, "json": plain}
)


def _facts(deal: NamedDeal) -> dict[str, Any]:
    return {
        "referral_id": deal.referral_id,
        "opportunity_id": deal.opportunity_id,
        "name": deal.name,
        "customer": deal.customer or None,
        "respond_by": deal.respond_by.isoformat() if deal.respond_by else None,
        "url": deal.url or None,
    }


def _line(message: Message, deal: NamedDeal) -> str:
    """A deal on one line; its deadline where the text does not say it already."""
    parts = [deal.name, *([deal.customer] if deal.customer else [])]
    if deal.respond_by and len(message.deals) > 1:
        parts.append(message.language.say(Text("answer by %(until)s", until=deal.respond_by)))
    return " · ".join(parts)


def _more(message: Message) -> str:
    return message.language.say(Text("and %(number)s more", number=message.more))


def _only_url(message: Message) -> str:
    return message.deals[0].url if len(message.deals) == 1 and not message.more else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
