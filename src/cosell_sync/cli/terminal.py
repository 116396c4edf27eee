"""A console for tables of texts that people and other systems wrote."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from cosell_sync.cli.common import escape_controls


class SafeConsole(Console):
    """Shows every text as the letters it is: no markup, and nothing that a terminal would obey."""

    def __init__(self, width: int, *, markup: bool) -> None:
        super().__init__(width=None if sys.stdout.isatty() else width, highlight=False, markup=markup)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_controls(text), **options)
