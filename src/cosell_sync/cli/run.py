"""``run``: the daemon, until SIGTERM or SIGINT."""

from __future__ import annotations

import typer

from cosell_sync.cli.common import ConfigOption, load_all, reload_log
from cosell_sync.cli.daemon_service import serve


def run(config: ConfigOption = None) -> None:
    """Run cycles every sync.interval until stopped, with health, metrics and the console on http.listen.

    Example: cosell-sync run --config my.yaml
    """
    raise typer.Exit(serve(load_all(config), lambda: reload_log(config)))
