"""A group of commands that are listed without being imported; a command's module is imported when it is called.

Half a second of a start used to be libraries that the called command never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup

from cosell_sync.cli.names import ALL_CONNECTIONS, COMMANDS

# What ``--connection`` named, which every command that serves one connection takes.
CONNECTION: Final[ContextVar[str | None]] = ContextVar("connection", default=None)


class LazyGroup(TyperGroup):
    """Lists ``COMMANDS`` by their help lines; resolves one to the command of its module."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, line in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=line, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Name, command and remaining arguments; an unknown name is refused by the library, with a suggestion."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """The command of ``cosell_sync.cli.NAME``: its group ``app``, else its function of that name."""
    word = name.replace("-", "_")
    module = import_module(f"cosell_sync.cli.{word}")
    parent = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    parent.callback()(_nothing)  # makes it a group, whatever stands below
    if hasattr(module, "app"):
        parent.add_typer(module.app, name=name)
    else:
        parent.command(name)(getattr(module, word))
    command = cast("TyperGroup", typer.main.get_command(parent)).commands[name]
    for called, leaf in _leaves(name, command):
        if called not in ALL_CONNECTIONS and any(each.name == "config" for each in leaf.params):
            leaf.params.append(_connection_option())
    return command


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
    for word, each in (below or {}).items():
        yield f"{name} {word}", each


@cache
def _connection_option() -> Any:
    """One option for all commands that serve one connection; ``common.load`` reads what was given."""
    app = typer.Typer(add_completion=False)
    app.command()(_with_connection)
    return next(each for each in typer.main.get_command(app).params if each.name == "connection")


def _remember(value: str | None) -> str | None:
    CONNECTION.set(value)
    return value


def _with_connection(
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            metavar="NAME",
            help="The connection, where the configuration holds several; else the one called default.",
            expose_value=False,
            callback=_remember,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Lends its option to the commands."""


def _nothing() -> None:
    """The parent group needs a callback to be a group; it has no options, those of the top stand in ``main``."""
