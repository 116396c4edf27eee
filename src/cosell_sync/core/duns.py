"""D-U-N-S numbers as people write them: Dun & Bradstreet's nine digits, often in groups; pure."""

from __future__ import annotations

import re
from typing import Final

_GROUPING: Final = re.compile(
    r"[\s\u200b\u2060\ufeff\-\u2010-\u2015\u2212]+"
)  # blanks, and hyphens of every kind
_NUMBER: Final = re.compile(r"[0-9]{9}")


def normalized(text: object) -> str | None:
    """The nine digits; None for anything that is no D-U-N-S number."""
    digits = _GROUPING.sub("", text) if isinstance(text, str) else ""
    return digits if _NUMBER.fullmatch(digits) else None


def as_written(text: str | None) -> str | None:
    """The nine digits where it is a number, else the text as it is, so that a person can be told of it."""
    return normalized(text) or text
