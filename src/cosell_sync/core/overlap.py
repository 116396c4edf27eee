"""How far back a pull reaches: over the whole overlap while few rows lie in it, and after a burst only once more.

A row may appear behind the newest stamp that was seen: its stamp is of the change, not of its commit, and lists lag. So each
pull reaches back over ``sync.overlap``, and versions drop what is known. After a burst that would be the whole burst, again in
every pull for five minutes. Instead the next pulls reach back over the newest rows only, as many as come with no further
call. Once the overlap is over, when nothing can appear in it any more, it is listed whole one last time. Whatever appeared
late in the burst is found then at the latest; nothing is left out.

Under a constant stream of changes the whole overlap is listed once per overlap rather than in every pull. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_TIMES = ("at", "since", "whole_since", "whole_due")


@dataclass(frozen=True)
class Position:
    """Where a reading stands, by the other side's clock.

    ``at``: everything up to here was listed. ``since``: from when the next pull lists; None: the overlap before ``at``.
    ``whole_since`` and ``whole_due``: from when, and once which moment is past, the overlap is to be listed whole.
    """

    at: datetime
    since: datetime | None = None
    whole_since: datetime | None = None
    whole_due: datetime | None = None

    @property
    def data(self) -> str | dict[str, str]:
        """The position as plain data: a stamp alone where nothing is put off."""
        if self.since is None:
            return _stamp(self.at)
        return {name: _stamp(at) for name in _TIMES if (at := getattr(self, name)) is not None}

    @property
    def text(self) -> str:
        """The position as a watermark."""
        data = self.data
        return data if isinstance(data, str) else json.dumps(data, sort_keys=True, separators=(",", ":"))

    def reaches(self, overlap: timedelta) -> datetime:
        """From when the next pull lists."""
        try:
            return self.since or self.at - overlap
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)

    @property
    def puts_off(self) -> bool:
        """Whether the next pull leaves a part of the overlap for later."""
        return self.since is not None and self.since != self.whole_since


def read(data: Any) -> Position:
    """The position of a watermark, or of plain data. Raises ValueError for anything else."""
    if isinstance(data, str) and data.startswith("{"):
        data = json.loads(data)
    if isinstance(data, str):
        return Position(_moment(data))
    try:
        times = {name: _moment(data[name]) for name in _TIMES if name in data}
        return Position(**times)
    except (TypeError, AttributeError) as cause:
        raise ValueError("no position") from cause


def moved(
    known: Position | None,
    at: datetime,
    *,
    now: datetime | None,
    overlap: timedelta,
    listed: Sequence[Sequence[datetime]],
    few: int,
    tick: timedelta,
) -> Position:
    """The position after a pull that listed these stamps, a sequence for each list.

    ``at``: how far it read. ``now``: the other side's clock; None: it does not say, and then nothing is put off. ``few``: so many
    rows of a list are read again in every pull. ``tick``: the least time between two stamps.
    """
    if now is None:
        return Position(at)
    newest = [since for stamps in listed if (since := _of_newest(stamps, few, tick)) is not None]
    if known is not None and known.puts_off:
        since = max(newest, default=known.since)
        if known.whole_due is not None and now >= known.whole_due:
            since = known.whole_since
        return Position(at, since, known.whole_since, known.whole_due)
    start = at - overlap
    within = max((sum(stamp >= start for stamp in stamps) for stamps in listed), default=0)
    if within <= few:
        return Position(at)
    return Position(at, max(newest), start, max(now, at) + overlap)


def _of_newest(stamps: Sequence[datetime], few: int, tick: timedelta) -> datetime | None:
    """From when on there are at most ``few`` of these, about half as many; None where there are no more of them."""
    if len(stamps) <= few:
        return None
    ordered = sorted(stamps, reverse=True)
    since = ordered[few // 2 - 1]
    if sum(stamp >= since for stamp in stamps) <= few:
        return since
    later = [stamp for stamp in ordered[: few // 2] if stamp > since]
    return min(later) if later else since + tick


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
