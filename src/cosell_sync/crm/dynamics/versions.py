"""The version of an opportunity in Dataverse: its ETag, and that of every row that its snapshot was read from. Pure.

An edit of a contact, a solution or the account does not move the opportunity's own ETag, so theirs are part of the version.
ETags can only be compared for equality. They follow a row version that moves with every change, so they are exact.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/perform-conditional-operations-using-web-api
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Version:
    """``etag``: of the opportunity, for ``If-Match``; ``rows``: id of every other row → its ETag."""

    etag: str
    rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The version as it is stored."""
        return json.dumps({"etag": self.etag, "rows": dict(self.rows)}, sort_keys=True, separators=(",", ":"))


def parse(text: str | None) -> Version | None:
    """The version of a stored text; None for a text of another kind, which equals no version."""
    try:
        data = json.loads(text or "")
        rows = {str(key): str(each) for key, each in data["rows"].items()}
        return Version(str(data["etag"]), rows)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def etag(row: Mapping[str, Any]) -> str:
    """A row's ETag; its row version where the answer has no annotations; empty where it has neither."""
    found = row.get("@odata.etag") or row.get("versionnumber")
    return "" if found is None else str(found)


def unchanged(known: str | None, now: str) -> bool:
    """Whether nothing has changed between two reads."""
    return known is not None and known == now


def own_etag(known: str | None) -> str | None:
    """The opportunity's own ETag in that version; None where there is no version."""
    version = parse(known)
    return version.etag if version else None


def covers(known: str | None, row_id: str, tag: str) -> bool:
    """Whether the version includes that state of a related row."""
    version = parse(known)
    return version is not None and bool(tag) and version.rows.get(row_id) == tag
