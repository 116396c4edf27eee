"""The id of an opportunity as people type or paste it; pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_ID: Final = r"006[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?"
_BARE: Final = re.compile(_ID)
_IN_ADDRESS: Final = re.compile(rf"(?:/|=)({_ID})(?![A-Za-z0-9])")


def is_opportunity_id(text: object) -> bool:
    """Whether the text has the form of an opportunity's id (prefix 006, 15 or 18 characters)."""
    return isinstance(text, str) and _BARE.fullmatch(text) is not None


def opportunity_id(text: object) -> str | None:
    """The id, of 15 or 18 characters: bare, among blanks, or in a pasted address (Lightning or Classic); else None.

    The first 15 characters identify a row; the other three are a check sum.
    """
    if not isinstance(text, str):
        return None
    bare = text.strip().strip("{}").strip()
    if is_opportunity_id(bare):
        return bare
    found = _IN_ADDRESS.search(unquote(bare)) if "/" in bare else None
    return found[1] if found else None


def long_id(short: str) -> str:
    """An id of 15 characters in the form of 18, which does not depend on case; any other text as it is.

    https://help.salesforce.com/s/articleView?id=000385585
    """
    if len(short) != 15:
        return short
    blocks = (short[start : start + 5] for start in (0, 5, 10))
    places = (sum(1 << at for at, letter in enumerate(block) if "A" <= letter <= "Z") for block in blocks)
    return short + "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[place] for place in places)
