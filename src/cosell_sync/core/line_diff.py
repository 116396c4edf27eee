"""What changed between two texts, line by line, and the same change made to another text; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LineDelta:
    """The difference of two texts: lines taken away, and lines put in, each with the line it was put after."""

    removed: Counter[str]
    added: tuple[tuple[str, str | None], ...]


def line_delta(before: Sequence[str], after: Sequence[str]) -> LineDelta:
    """What leads from the one to the other."""
    kept = Counter(before)
    added = []
    previous: str | None = None
    for line in after:
        if kept[line] > 0:
            kept[line] -= 1
        else:
            added.append((line, previous))
        previous = line
    return LineDelta(+kept, tuple(added))


def undoes(made: LineDelta, sent: LineDelta) -> bool:
    """Whether what a side made of a text that it was sent loses a line of it, or holds one again that was taken away."""
    return bool(made.removed) or any(line in sent.removed for line, _ in made.added)


def apply_delta(lines: Sequence[str], delta: LineDelta) -> list[str]:
    """The lines after the same was done to them. A line that is there already is not put in again."""
    removed = Counter(delta.removed)
    result = []
    for line in lines:
        if removed[line] > 0:
            removed[line] -= 1
        else:
            result.append(line)
    present = Counter(lines)
    for line, previous in delta.added:
        if present[line] > 0:  # both added it
            present[line] -= 1
            continue
        result.insert(_after(previous, result), line)
    return result


def _after(previous: str | None, lines: Sequence[str]) -> int:
    if previous is None:
        return 0
    return lines.index(previous) + 1 if previous in lines else len(lines)
