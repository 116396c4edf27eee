"""What every command shares: its options, its settings, and its way to print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from structlog.contextvars import bind_contextvars

from cosell_sync import settings
from cosell_sync.cli.lazy import CONNECTION
from cosell_sync.settings import Command, Configuration, InvalidSettings, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from cosell_sync.bootstrap.program import Program

# C0 and C1 controls except tab and line end, and the marks that turn the direction of a line.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The YAML file; else COSELL_CONFIG names it, else defaults and COSELL_… variables.",
        show_default=False,
        readable=False,  # whether it may be read says the error of whoever reads it, with the user id
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def load(config: Path | None, command: Command | None = None) -> Settings:
    """The checked settings of the connection that ``--connection`` names, with logging set up; nothing is contacted.

    ``command``: refuse settings without which that command cannot begin. Raises ``InvalidSettings``, and ``ConfigError`` where
    there is no such connection.
    """
    return of_connection(load_all(config), CONNECTION.get(), command)


def of_connection(configuration: Configuration, name: str | None, command: Command | None = None) -> Settings:
    """As ``load``, of the connection of this name; None: the one called ``default``. What is logged from now on carries it,
    where there are several.
    """
    loaded = configuration.settings(name)
    if configuration.named:
        bind_contextvars(connection=loaded.connection)
    if command is not None:
        settings.required(loaded, command)
    return loaded


def load_all(config: Path | None) -> Configuration:
    """The configuration of this call, of which the top level is checked, with logging set up; nothing is contacted."""
    from cosell_sync import log  # noqa: PLC0415 - the commands of `config` log nothing

    configuration = Configuration(config)
    log.configure(configuration.shared.log.level, configuration.shared.log.format)
    return configuration


def reload_log(config: Path | None) -> None:
    """Take over the log's level and format from the configuration as it is now; the rest waits for a restart."""
    from cosell_sync import log  # noqa: PLC0415 - as in `load`

    try:
        wanted = settings.load(config).log
    except InvalidSettings as error:
        log.get_logger().error("config.refused", problems=len(error.problems))
        return
    log.configure(wanted.level, wanted.format)
    log.get_logger().warning("log.reloaded", log_level=wanted.level)


@contextmanager
def writing(loaded: Settings) -> Iterator[Program]:
    """The wired program as the one writer of its store. Raises ``Busy`` while another process holds it."""
    from cosell_sync.bootstrap.program import program  # noqa: PLC0415 - see `load`
    from cosell_sync.cli.progress import leased  # noqa: PLC0415
    from cosell_sync.store.lease import LEASE_WAIT  # noqa: PLC0415

    with program(loaded) as wired, leased(wired.store, LEASE_WAIT):
        yield wired


def console(width: int = 160, *, markup: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or ``width`` columns where there is none."""
    from cosell_sync.cli.terminal import SafeConsole  # noqa: PLC0415 - few commands print a table

    return SafeConsole(width, markup=markup)


def escape_controls(text: str) -> str:
    """The text with control characters and changes of direction written out, line ends and tabs excepted."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show(text: str) -> None:
    """Print a result for people on stdout, with control characters written out."""
    sys.stdout.write(f"{escape_controls(text)}\n")


def show_json(data: Any) -> None:
    """Print a result for other programs on stdout."""
    show(json.dumps(data, indent=2, default=str, ensure_ascii=False))
