"""What a sign-in shows: how many referrals of which locations, and of which organization, by one page of the list.

A Referrals admin sees the referrals of the locations that the role covers, a Referrals user those of the own team
(learn.microsoft.com/partner-center/permissions-overview); what is out of sight is missing from the list
without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.partner_center.paging import list_page, rows_of
from cosell_sync.partner_center.values import MICROSOFT, made_with_mfa
from cosell_sync.transport.client import HttpCaller

NEWEST: Final = "$orderby=createdDateTime desc"
# Replies tell whether the user passed MFA, since September 2025
# (learn.microsoft.com/partner-center/developer/referral-api-authentication).
COMPLIANT: Final = "ismfacompliant"


@dataclass(frozen=True)
class Sight:
    """``referrals``: ours on the first page of the list; ``more``: whether there are further pages.

    ``locations``: how many of them by location (``mpnId``), most first; empty text: without one. ``organizations``: names by
    id. ``mfa``: whether the user passed MFA; None where neither the reply nor the token says.
    """

    referrals: int
    more: bool
    locations: Mapping[str, int]
    organizations: Mapping[str, str]
    mfa: bool | None


def look(caller: HttpCaller) -> Sight:
    """One page of the newest referrals. Raises what a list raises."""
    answer = list_page(caller, NEWEST, first=True)
    rows = [row for row in rows_of(answer) if isinstance(row, Mapping) and not _is_microsofts(row)]
    locations = Counter(_text(row, "mpnId") for row in rows)
    names = {_text(row, "organizationId"): _text(row, "organizationName") for row in rows}
    said = answer.headers.get(COMPLIANT, "").strip().lower()
    token = caller.sign_in()
    return Sight(
        referrals=len(rows),
        more=any(name.lower().endswith("nextlink") and link for name, link in answer.data.items()),
        locations=dict(locations.most_common()),
        organizations={key: name for key, name in names.items() if key},
        mfa=said == "true" if said in {"true", "false"} else made_with_mfa(token.value) if token else None,
    )


def _is_microsofts(row: Mapping[str, Any]) -> bool:
    return _text(row, "organizationId").casefold() == MICROSOFT


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value.strip()[:100] if isinstance(value, str) else ""
