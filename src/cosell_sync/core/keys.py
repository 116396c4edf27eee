"""The id of a referral as people type or paste it; pure. Each CRM has the same for its own records (``ids.py``)."""

from __future__ import annotations

import re
from typing import Final

GUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def referral_key(text: object) -> str:
    """The id in lower case: bare, among blanks, in braces, or the last one of a pasted Partner Center address.

    Any other text comes back without the blanks around it; empty for what is no text.
    """
    if not isinstance(text, str):
        return ""
    bare = text.strip().strip("{}").strip()
    if GUID.fullmatch(bare):
        return bare.lower()
    found = GUID.findall(bare) if "/" in bare else []
    return found[-1].lower() if found else text.strip()
