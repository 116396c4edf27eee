"""``worker``: serves connections from the queue that workers share, until SIGTERM or SIGINT."""

from __future__ import annotations

import typer

from cosell_sync.cli.common import ConfigOption, load_all, reload_log
from cosell_sync.cli.daemon_service import serve_from_queue


def worker(config: ConfigOption = None) -> None:
    """Serve connections from the queue that all workers on one PostgreSQL share; else as run. Needs the extra "workers".

    Example: cosell-sync worker --config my.yaml
    """
    raise typer.Exit(serve_from_queue(load_all(config), lambda: reload_log(config)))
