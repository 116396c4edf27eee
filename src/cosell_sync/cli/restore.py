"""``restore``: what a backup holds in the place of what the store holds."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.store import store_of
from cosell_sync.cli.common import ConfigOption, load, show
from cosell_sync.cli.progress import leased
from cosell_sync.errors import ConfigError
from cosell_sync.store import backup as archive
from cosell_sync.store.connections import turns
from cosell_sync.store.engine import parse
from cosell_sync.store.lease import LEASE_WAIT
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import find_key


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.", show_default=False)],
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also over a store that has gone on since the backup.")
    ] = False,
) -> None:
    """Put a backup in the place of the store, on the same database or another; stop the daemon first.

    Example: cosell-sync restore /backup/cosell-2026-11-28.tar --config my.yaml
    """
    loaded = load(config, "deals")
    found = archive.about(file)
    store = store_of(loaded)
    try:
        with ExitStack() as stack:
            for name in turns(store.engine):
                one = SqlStore(store.engine, utc_now, connection=name, shared=True)
                stack.enter_context(leased(one, LEASE_WAIT))
                if not force:
                    _refuse_newer(one, found)
            configured = loaded.store.key.get_secret_value() if loaded.store.key else None
            archive.restore(file, store, find_key(parse(loaded.store.url), configured))
    finally:
        store.close()
    show(
        f"Restored {found.deals} deals as they were at {found.at:%Y-%m-%d %H:%M} UTC. "
        "The next cycle compares all of them with both sides. Next: cosell-sync plan"
    )


def _refuse_newer(store: SqlStore, found: archive.About) -> None:
    """Raises ConfigError where a cycle has run on this store since the backup."""
    last = store.cycle_state().clock
    if last is not None and last > found.at:
        raise ConfigError(
            f"the store has gone on since the backup of {found.at:%Y-%m-%d %H:%M} UTC (last cycle {last:%Y-%m-%d %H:%M} UTC)",
            hint="what it learned since would be lost: make a backup of it first, then use --force",
        )
