"""Parses the command line, dispatches, and turns what happened into the exit code.

0 nothing needs a person · 1 something does · 2 wrong usage or configuration · 3 a system is out of reach
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from cosell_sync.cli.lazy import LazyGroup
from cosell_sync.errors import CosellError

app = typer.Typer(
    cls=LazyGroup,
    name="cosell-sync",
    help="Keeps co-sell referrals in Microsoft Partner Center and opportunities in a CRM equal.\n\n"
    "Start with `cosell-sync demo`; then `config check`, `login`, `doctor`, `plan`, `sync`, and `run` for good.",
    epilog="Exit codes: 0 nothing needs a person, 1 something does, 2 wrong usage or configuration, 3 a system is out of reach.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _top(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        from importlib.metadata import version  # noqa: PLC0415 - nothing else at the top needs it

        typer.echo(version("cosell-sync"))
        raise typer.Exit


def collect_seldom() -> None:
    """Look for garbage in circles every 25,000 objects, not every seven hundred: a cycle makes hundreds of thousands of
    values and hardly a circle, and the search took a tenth of its time.
    """
    gc.set_threshold(25_000, 10, 10)


def end_when_asked() -> None:
    """SIGTERM ends the process at any moment before ``run`` or ``worker`` take care of it themselves, be it an import, a store that
    is brought up to date or a database that hardly answers. The kernel does that for every process but the first one of a
    container, which would not notice. Nothing is lost: each commit of the store is whole, and open intents are settled later.
    """
    code = 0 if sys.argv[1:2] in (["run"], ["worker"]) else 128 + signal.SIGTERM
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: os._exit(code))


def main() -> None:
    """The installed command. With ``--json`` errors are JSON as well, wrong usage included."""
    collect_seldom()
    end_when_asked()
    as_json = "--json" in sys.argv[1:]
    try:
        if not as_json:
            app()
        sys.exit(app(standalone_mode=False))
    except CosellError as error:
        from cosell_sync.cli import errors  # noqa: PLC0415 - a command that succeeds needs no words for it
        from cosell_sync.log import flush  # noqa: PLC0415

        flush()
        sys.exit(errors.explain_as_json(error) if as_json else errors.explain(error))
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        from cosell_sync.cli import errors  # noqa: PLC0415 - see above

        if as_json and isinstance(error, errors.UsageFault):
            sys.exit(errors.explain_as_json(error))
        raise
