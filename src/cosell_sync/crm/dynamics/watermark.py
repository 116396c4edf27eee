"""Where every feed of a pull stands, as one opaque text; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cosell_sync.core import overlap
from cosell_sync.core.overlap import Position

FORMAT: Final = 1
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Watermark:
    """``links``: set → delta link. ``stamps``: set → where its reading by `modifiedon` stands. ``refused``: sets that are tracked but that the
    application user may not follow. ``narrow``: those of them of which the user may not read every row.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, Position] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    narrow: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The watermark as the store keeps it."""
        data = {
            "format": FORMAT,
            "links": dict(self.links),
            "stamps": {name: position.data for name, position in self.stamps.items()},
            "refused": sorted(self.refused),
            **({"narrow": sorted(self.narrow)} if self.narrow else {}),
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))


def parse(text: str | None) -> Watermark | None:
    """The watermark of a stored text; None for a text of another kind, then everything is read again."""
    try:
        data = json.loads(text or "")
        if data["format"] != FORMAT:
            return None
        return Watermark(
            links={str(name): str(link) for name, link in data["links"].items()},
            stamps={str(name): overlap.read(at) for name, at in data["stamps"].items()},
            refused=frozenset(str(name) for name in data["refused"]),
            narrow=frozenset(str(name) for name in data.get("narrow", ())),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def moment(stamp: object) -> datetime | None:
    """A stamp in UTC; None for anything else."""
    try:
        return datetime.fromisoformat(str(stamp)).astimezone(UTC)
    except ValueError:
        return None
