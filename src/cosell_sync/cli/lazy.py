"""A group of commands that are listed without being imported; a command's module is imported when it is called.

Half a second of a start used to be libraries that the called command never used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from cosell_sync.cli.names import COMMANDS


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
    return cast("TyperGroup", typer.main.get_command(parent)).commands[name]


def _nothing() -> None:
    """The parent group needs a callback to be a group; it has no options, those of the top stand in ``main``."""
