"""What a version of an opportunity is on Salesforce: the stamps of every row its snapshot was read from.

An edit of a contact, a solution or the account does not move the opportunity's own stamp, so the stamp of each such
row belongs to the version. Stamps have the precision of a second: a row read in the second of its change may change
again without a new stamp. Such a version says `unsettled`, is never equal to another, and so is read once more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
        data: dict[str, Any] = {"stamp": self.stamp, "modified": self.modified, "rows": dict(self.rows)}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return text + TOO_SOON if self.unsettled else text

    def agrees(self, other: Version) -> bool:
        """Same stamps everywhere, settled or not."""
        return (self.stamp, dict(self.rows)) == (other.stamp, dict(other.rows))


def made(stamp: object, modified: object, rows: Mapping[str, object], at: datetime) -> Version:
    """A version from stamps as they came, read when the server's clock said ``at``."""
    moments = {name: moment(each) for name, each in rows.items()}
    own, changed = moment(stamp), moment(modified)
    youngest = max([own, *moments.values()])
    return Version(
        stamp=written(own),
        modified=written(changed),
        rows={name: written(each) for name, each in sorted(moments.items())},
        unsettled=at - youngest < SETTLED,
    )


def parse(text: str) -> Version | None:
    """The version again; None for a text that is none of ours, which equals no version."""
    try:
        data = json.loads(text.removesuffix(TOO_SOON))
        return Version(data["stamp"], data["modified"], data["rows"], text.endswith(TOO_SOON))
    except (ValueError, TypeError, KeyError):
        return None


def same(known: str | None, now: str) -> bool:
    """Whether nothing can have changed between two readings."""
    if known is None or known != now:
        return False
    version = parse(now)
    return version is not None and not version.unsettled


def holds(known: str | None, row_id: str, stamp: object) -> bool:
    """Whether that state of a child row is already part of a settled version."""
    version = None if known is None else parse(known)
    return (
        version is not None
        and not version.unsettled
        and version.rows.get(row_id) == (written(moment(stamp)) if stamp else "")
    )


def lists(known: str | None, row_id: str) -> bool:
    """Whether that row was there when the version was read."""
    version = None if known is None else parse(known)
    return version is not None and row_id in version.rows


def moment(stamp: object) -> datetime:
    """``2026-11-22T09:55:00.000+0000`` as the platform writes it; the beginning of time for anything else."""
    try:
        return datetime.fromisoformat(str(stamp)).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    """With ``Z``: inside a composite a plain ``+00:00`` would be read as a blank."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds" if at.microsecond else "seconds")
    return text.replace("+00:00", "Z")
