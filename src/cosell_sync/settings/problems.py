"""Mistakes in the configuration, each with its place, all reported in one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosell_sync.errors import ConfigError
from cosell_sync.settings.origin import Origin


@dataclass(frozen=True)
class Problem:
    """One mistake: the key, where it stands (``config.yaml:12`` or a variable), what is wrong, what to do.

    ``where`` is empty for what is given nowhere, ``hint`` where there is nothing to add.
    """

    key: str
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.key}{place}: {self.what}{'. ' + self.hint if self.hint else ''}"


class InvalidSettings(ConfigError):
    """Every mistake of the configuration, at once. ``origin``: for the next step, which repeats ``--config``."""

    def __init__(self, problems: Sequence[Problem], origin: Origin | None = None) -> None:
        if len(problems) == 1:
            text = str(problems[0])
        else:
            lines = "".join(f"\n- {problem}" for problem in problems)
            text = f"{len(problems)} problems in the configuration:{lines}"
        named = f" --config {origin.named}" if origin and origin.named else ""
        super().__init__(text, hint=f"correct that, then: cosell-sync config check{named}")
        self.problems = tuple(problems)
