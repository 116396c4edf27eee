"""What every command shares: its options, its settings, its words for an error and its exit code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from cosell_sync import log, settings
from cosell_sync.bootstrap import LEASE_WAIT, Program, program
from cosell_sync.errors import (
    AuthFailed,
    Broken,
    Busy,
    ConfigError,
    CosellError,
    Fenced,
    OutsideError,
    Surprise,
)
from cosell_sync.settings import Command, Settings
from cosell_sync.summary import NEEDS_A_PERSON, OUT_OF_REACH, WRONG_USAGE

_UNRULY: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The YAML file; else COSELL_CONFIG names it, else defaults and COSELL_… variables.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def load(config: Path | None, command: Command | None = None) -> Settings:
    """The checked settings of this call, with logging set up; nothing is contacted."""
    loaded = settings.load(config)
    log.configure(loaded.log.level, loaded.log.format)
    if command is not None:
        settings.required(loaded, command)
    return loaded


@contextmanager
def writing(loaded: Settings) -> Iterator[Program]:
    """The wired program as the one writer of its store."""
    with program(loaded) as wired, wired.store.lease(LEASE_WAIT):
        yield wired


class _Terminal(Console):
    """Shows what people and other systems wrote as the letters it is: no markup, and nothing a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(tame(text), **options)


def console(width: int = 160, *, markup: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or ``width`` where there is none."""
    return _Terminal(width=None if sys.stdout.isatty() else width, highlight=False, markup=markup)


def tame(text: str) -> str:
    """The text with control characters and turns of direction written out, line ends and tabs excepted."""
    return _UNRULY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show(text: str) -> None:
    """A result, for people, on stdout."""
    sys.stdout.write(f"{tame(text)}\n")


def show_json(data: Any) -> None:
    show(json.dumps(data, indent=2, default=str, ensure_ascii=False))


def explain(error: CosellError) -> int:
    """Say on stderr what is wrong and what to do next; returns the exit code."""
    lines = [f"Error: {error}"]
    code = NEEDS_A_PERSON
    match error:
        case ConfigError():
            code = WRONG_USAGE
        case AuthFailed():
            detail = f" ({error.code})" if error.code else ""
            lines = [f"Error: {error.system} refused the sign-in{detail}: {error}"]
            code = OUT_OF_REACH
        case OutsideError():
            detail = f" ({error.code})" if error.code else ""
            lines = [f"Error: {error.system} cannot be reached{detail}: {error}"]
            code = OUT_OF_REACH
        case Busy():
            lines.append("Next: stop that process, or wait until it is done.")
            code = OUT_OF_REACH
        case Fenced() | Broken():
            code = OUT_OF_REACH
        case Surprise():
            lines = [f"Stopped: {error}"]
        case _:
            pass
    hint = getattr(error, "hint", "")
    if hint:
        lines.append(f"Next: {hint}")
    sys.stderr.write("\n".join(lines) + "\n")
    return code
