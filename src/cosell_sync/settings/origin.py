"""Where the values of a configuration were read: which file, and where each key stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Origin:
    """Where values were read. ``named``: the file that ``--config`` named; ``absent``: the file that a container image looks for,
    where it is not there; None where that is not so. ``places``: of each source, the strongest first, where each key stands.
    """

    named: Path | None = field(default=None, compare=False)  # equal settings are equal wherever they stand
    absent: Path | None = field(default=None, compare=False)
    places: Sequence[Mapping[tuple[str, ...], str]] = field(default=(), compare=False)

    def words(self) -> str:
        """To complete a sentence: that the image's file is not there; empty where one was read, or none is looked for."""
        return f"; from variables alone, for there is no {self.absent}" if self.absent else ""

    def place(self, path: tuple[str, ...]) -> str:
        """Where the value of this key was given; empty where it was not."""
        return next((places[path] for places in self.places if path in places), "")
