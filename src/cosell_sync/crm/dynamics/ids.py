"""The id of an opportunity as people type or paste it; pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cosell_sync.core.keys import GUID

_IN_BRACKETS: Final = re.compile(rf"/opportunities\(\{{?({GUID.pattern})\}}?\)", re.IGNORECASE)


def opportunity_id(text: object) -> str | None:
    """The id in lower case: bare, among blanks, in braces, or in a pasted address of an app or of the Web API; else None.

    An address of an app names the app by a GUID as well, so only ``id`` counts, and only of an opportunity.
    """
    if not isinstance(text, str):
        return None
    bare = text.strip().strip("{}").strip()
    if GUID.fullmatch(bare):
        return bare.lower()
    if found := _IN_BRACKETS.search(bare):
        return found[1].lower()
    try:
        asked = parse_qs(urlsplit(bare).query)
    except ValueError:
        return None
    table = asked.get("etn", ["opportunity"])[-1].lower()
    row = asked.get("id", [""])[-1].strip().strip("{}")
    return row.lower() if table == "opportunity" and GUID.fullmatch(row) else None
