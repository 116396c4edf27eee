"""Parses the command line, dispatches, and turns what happened into the exit code.

0 nothing needs a person · 1 something does · 2 wrong usage or configuration · 3 a system is out of reach
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cosell_sync.cli import config, deals, demo, doctor, login, plan, provision, run, sandbox, sync
from cosell_sync.cli.common import explain
from cosell_sync.errors import CosellError
from cosell_sync.log import flush

app = typer.Typer(
    name="cosell-sync",
    help="Keeps Microsoft Partner Center co-sell referrals and CRM opportunities telling the same story.\n\n"
    "Start with `cosell-sync demo`; then `config check`, `login`, `doctor`, `plan`, `sync`, and `run` for good.",
    epilog="Exit codes: 0 nothing needs a person, 1 something does, 2 wrong usage or configuration, 3 a system is out of reach.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, sync, run, plan, doctor, login, provision, sandbox):
    app.command()(getattr(command, command.__name__.rsplit(".", 1)[-1]))
app.add_typer(deals.app, name="deals")
app.add_typer(config.app, name="config")


@app.callback(invoke_without_command=True)
def _top(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("cosell-sync"))
        raise typer.Exit


def main() -> None:
    """The installed command."""
    try:
        app()
    except CosellError as error:
        flush()
        sys.exit(explain(error))
    except BrokenPipeError:
        sys.exit(0)
