"""What people and other systems wrote reaches a terminal as letters."""

from __future__ import annotations

import pytest
from rich.table import Table

from cosell_sync.cli.common import console, escape_controls, show

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]x[/bold red]\u202egnp.exe\x9b31m\rOK"
LETTERS = r"\u001b[2J\u001b]0;owned\u0007[bold red]x[/bold red]\u202egnp.exe\u009b31m\u000dOK"


def test_a_name_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither escape sequences nor our own markup, nor letters that turn the line around."""
    table = Table("name", box=None)
    table.add_row(HOSTILE)
    out = console()
    out.print(table)
    out.print(HOSTILE)
    show(HOSTILE)
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        "name",
        LETTERS,
        LETTERS,
        LETTERS,
    ]


@pytest.mark.parametrize("text", ["", "one\ntwo\tthree", "Łódź 東雲 😀 👩‍💻 e\u0301"])
def test_what_is_only_text_stays(text: str) -> None:
    assert escape_controls(text) == text
