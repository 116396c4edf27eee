"""``backup``: store and key in one file, while the daemon runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from cosell_sync.bootstrap.store import store_of
from cosell_sync.cli.common import ConfigOption, JsonOption, load, show, show_json
from cosell_sync.errors import ConfigError
from cosell_sync.store import backup as archive
from cosell_sync.store.engine import parse
from cosell_sync.store.tokens import find_key


def backup(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file to write; it holds a sign-in.", show_default=False),
    ],
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the store and its key to one file; the daemon may go on meanwhile.

    Example: cosell-sync backup /backup/cosell-$(date +%F).tar --config my.yaml
    """
    loaded = load(config, "deals")
    if file.exists() and not force:
        raise ConfigError(f"{file} exists", hint="give another FILE, or --force to write over it")
    store = store_of(loaded)
    try:
        configured = loaded.store.key.get_secret_value() if loaded.store.key else None
        made = archive.write(
            store, find_key(parse(loaded.store.url), configured), file, version("cosell-sync")
        )
    finally:
        store.close()
    if as_json:
        show_json({"file": str(file), "deals": made.deals, "at": made.at.isoformat()})
    else:
        show(f"Wrote {made.deals} deals and the sign-in to {file}. Keep it where only you can read it.")
