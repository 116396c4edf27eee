"""What a version of an opportunity is in Dataverse: its ETag, and that of every row its snapshot was read from. Pure.

An edit of a contact, a solution or the account does not move the opportunity's own ETag, so theirs belong to the
version. ETags can only be compared for equality; that they are made of a row version that moves with every change is
what makes them exact, whatever the clock.
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
        return json.dumps({"etag": self.etag, "rows": dict(self.rows)}, sort_keys=True, separators=(",", ":"))


def parse(text: str | None) -> Version | None:
    """The version again; None for a text that is none of ours, which equals no version."""
    try:
        data = json.loads(text or "")
        rows = {str(key): str(each) for key, each in data["rows"].items()}
        return Version(str(data["etag"]), rows)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def etag(row: Mapping[str, Any]) -> str:
    """A row's ETag; its row version where the answer carries no annotations."""
    found = row.get("@odata.etag") or row.get("versionnumber")
    return "" if found is None else str(found)


def same(known: str | None, now: str) -> bool:
    return known is not None and known == now


def own(known: str | None) -> str | None:
    """The ETag that the opportunity itself had."""
    version = parse(known)
    return version.etag if version else None


def holds(known: str | None, row_id: str, tag: str) -> bool:
    """Whether that state of a row is already part of the version."""
    version = parse(known)
    return version is not None and bool(tag) and version.rows.get(row_id) == tag
