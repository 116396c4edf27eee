"""``run``: the daemon, until SIGTERM or SIGINT."""

from __future__ import annotations

import typer

from cosell_sync.cli.common import ConfigOption, load


def run(config: ConfigOption = None) -> None:
    """Run cycles every sync.interval until stopped, with health, metrics and a status page on http.listen."""
    from cosell_sync.cli.service import serve  # noqa: PLC0415 - no other command needs a server

    raise typer.Exit(serve(load(config, "run")))
