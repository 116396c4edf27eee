"""What a deal is found by: both ids and the names of deal and customer, in one short text; and how a question is compared."""

from __future__ import annotations

import unicodedata
from typing import Final

from cosell_sync.core.deal import Customer
from cosell_sync.core.memory import Link

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs"})
LONGEST: Final = 1500  # bytes: an index row of PostgreSQL takes 2.7 kB


def printable(text: str) -> str:
    """Without what has no shape: PostgreSQL takes no zero byte and no half of a surrogate, and a direction mark misleads."""
    if text.isprintable():
        return text.strip()
    return "".join(letter for letter in text if unicodedata.category(letter) not in _INVISIBLE).strip()


def plain(text: str) -> str:
    """As it is compared."""
    return printable(text).casefold()


def searched(link: Link) -> str:
    """What a text is looked for in."""
    parts: list[str | None] = [link.referral_id, link.opportunity_id]
    for side in (link.referral, link.opportunity):
        if side is not None:
            customer = side["customer"]
            parts += [side.text("name"), customer.name if isinstance(customer, Customer) else None]
    words = dict.fromkeys(plain(part) for part in parts if part)
    return "\n".join(words).encode()[:LONGEST].decode(errors="ignore")
