"""The version of an opportunity on Salesforce: the stamps of every row that its snapshot was read from; pure.

An edit of a contact, a solution or the account does not move the opportunity's own stamp, so the stamp of each such row is
part of the version. Stamps have the precision of a second: a row read in the second of its change may change again without a
new stamp. Such a version is `unsettled`, equals no other, and its opportunity is read once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, Final

from cosell_sync.core.deal import TOO_SOON

SETTLED: Final = timedelta(seconds=2)


@dataclass(frozen=True)
class Version:
    """``stamp`` and ``modified``: SystemModstamp and LastModifiedDate of the opportunity; ``rows``: id → stamp."""

    stamp: str
    modified: str
    rows: Mapping[str, str] = field(default_factory=dict)
    unsettled: bool = False

    @property
    def text(self) -> str:
        """The version as it is stored."""
        data: dict[str, Any] = {"stamp": self.stamp, "modified": self.modified, "rows": dict(self.rows)}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return text + TOO_SOON if self.unsettled else text

    def agrees(self, other: Version) -> bool:
        """Same stamps everywhere, settled or not."""
        return (self.stamp, dict(self.rows)) == (other.stamp, dict(other.rows))


def build(stamp: object, modified: object, rows: Mapping[str, object], at: datetime) -> Version:
    """A version from the platform's stamps. ``at``: the server's time of the read."""
    moments = {name: parse_stamp(each) for name, each in rows.items()}
    own, changed = parse_stamp(stamp), parse_stamp(modified)
    youngest = max([own, *moments.values()])
    return Version(
        stamp=format_stamp(own),
        modified=format_stamp(changed),
        rows={name: format_stamp(each) for name, each in sorted(moments.items())},
        unsettled=at - youngest < SETTLED,
    )


def parse(text: str) -> Version | None:
    """The version of a stored text; None for a text of another kind, which equals no version."""
    try:
        data = json.loads(text.removesuffix(TOO_SOON))
        return Version(data["stamp"], data["modified"], data["rows"], text.endswith(TOO_SOON))
    except (ValueError, TypeError, KeyError):
        return None


def unchanged(known: str | None, now: str) -> bool:
    """Whether nothing can have changed between two reads."""
    if known is None or known != now:
        return False
    version = parse(now)
    return version is not None and not version.unsettled


def covers(known: str | None, rows: Iterable[tuple[str, object]]) -> bool:
    """Whether a settled version includes these states of related rows. ``rows``: (row id, stamp)."""
    version = None if known is None else parse(known)
    return (
        version is not None
        and not version.unsettled
        and all(
            version.rows.get(row_id) == (format_stamp(parse_stamp(stamp)) if stamp else "")
            for row_id, stamp in rows
        )
    )


def has_row(known: str | None, row_id: str) -> bool:
    """Whether the version includes that row, in any state."""
    version = None if known is None else parse(known)
    return version is not None and row_id in version.rows


def parse_stamp(stamp: object) -> datetime:
    """A stamp such as ``2026-11-22T09:55:00.000+0000``; the earliest time for anything that is no stamp."""
    return _parsed(str(stamp))


@lru_cache(maxsize=4096)  # rows that are made in one call have the same
def _parsed(stamp: str) -> datetime:
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def format_stamp(at: datetime) -> str:
    """A stamp with ``Z``, because the plus sign of ``+00:00`` would be read as a blank inside a composite."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds" if at.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def http_date(stamp: str) -> str:
    """A stamp as an HTTP date, in whole seconds."""
    moment: datetime = parse_stamp(stamp).replace(microsecond=0)
    return format_datetime(moment.astimezone(UTC), usegmt=True)
