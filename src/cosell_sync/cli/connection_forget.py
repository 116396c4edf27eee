"""``connection forget``: all that the stores of this configuration keep for one connection is removed, also of one that is
configured no more.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cosell_sync.cli.common import ConfigOption, JsonOption, load_all, show, show_json
from cosell_sync.errors import Busy, ConfigError
from cosell_sync.settings import Configuration

if TYPE_CHECKING:
    from cosell_sync.store.open import Databases
    from cosell_sync.store.sql import SqlStore

# A process that serves a connection begins its cycle not much later than it said.
_LATE: Final = timedelta(minutes=5)
_AS_KEY: Final = str.maketrans(" -", "__")
_UNTOUCHED: Final = (
    "The CRM and Partner Center stay as they are: deals, co-sell fields, the webhook's registration and the sign-in that Microsoft "
    "gave. docs/uninstall.md says how those are removed. Backups made before still hold the connection."
)


def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The connection.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where it is still configured, or was served a moment ago."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all that the store keeps for a connection: deals, history, sign-in. The CRM and Partner Center stay as they are.

    Example: cosell-sync connection forget acme-old --config my.yaml
    """
    from cosell_sync.bootstrap.clock import utc_now  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.store import connections, removal  # noqa: PLC0415
    from cosell_sync.store.open import Databases  # noqa: PLC0415

    configuration = load_all(config)
    configured = name in configuration.names
    if configured and not force:
        raise ConfigError(
            f"{name} is still configured, so its next cycle would read everything again; nothing was removed",
            hint="take it out of the configuration, restart cosell-sync run and repeat this; or add --force to let it begin anew",
        )
    with closing(Databases()) as databases, ExitStack() as stack:
        stores = list(_stores(configuration, name, databases))
        for store in stores:
            if (holder := store.holder()) is not None:
                raise Busy(holder)
            if not configured and not force:
                _refuse_served(store)
        _confirm(stores, yes=yes, quiet=as_json)
        removed = Counter[str]()
        for store in stores:
            stack.enter_context(store.lease(timedelta()))
            if configured:  # nobody is to serve it with half of what it knew, nor to begin anew unasked
                connections.pause(store.engine, name, utc_now())
            removed.update(removal.remove(store, with_name=not configured))
    if as_json:
        numbers = {kind.translate(_AS_KEY): number for kind, number in removed.items()}
        result = {"connection": name, "removed": numbers, "still_configured": configured}
        show_json({**result, "untouched": _UNTOUCHED})
        return
    show(f"Removed of {name}: {_listed(removed)}. {_UNTOUCHED}")
    if configured:
        show(
            f"{name} is paused. Next: take it out of the configuration and repeat this; or, to let it meet all deals as for the first "
            f"time, cosell-sync connection resume {name}"
        )


def urls(configuration: Configuration) -> Sequence[str]:
    """The databases that the configuration names, each once; a file that is not there would be made, and is left out."""
    from cosell_sync.store.engine import file_of, parse  # noqa: PLC0415 - the help needs none of it

    found = []
    for name in (None, *configuration.names):
        with suppress(ConfigError):  # what is wrong with one connection harms no other
            settings = configuration.shared if name is None else configuration.settings(name)
            path = file_of(parse(settings.store.url))
            if path is None or path.exists():
                found.append(settings.store.url)
    return list(dict.fromkeys(found))


def _stores(configuration: Configuration, name: str, databases: Databases) -> Iterator[SqlStore]:
    """Its stores: of one that is configured the one that is configured for it, else each in which something is left of it."""
    from cosell_sync.bootstrap.clock import utc_now  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.store.removal import left_over  # noqa: PLC0415
    from cosell_sync.store.sql import SqlStore  # noqa: PLC0415

    if name in configuration.names:
        yield databases.store(configuration.settings(name).store.url, utc_now, connection=name)
        return
    others: list[str] = []
    for url in urls(configuration):
        engine = databases.engine(url)
        found = left_over(engine, configuration.names)
        if name in found:
            yield SqlStore(engine, utc_now, connection=name, shared=True)
        others += found
    if name not in others:
        left = f"those left over: {', '.join(dict.fromkeys(others))}. " if others else ""
        raise ConfigError(
            f"no store of this configuration keeps anything for a connection {name}",
            hint=f"{left}cosell-sync connection list shows all; a store.url of its own is removed as a database, or as a file",
        )


def _refuse_served(store: SqlStore) -> None:
    """Raises ConfigError where a process, which perhaps has another configuration, serves it unless it is told otherwise."""
    from cosell_sync.store.connections import turn  # noqa: PLC0415 - the help needs none of it

    found = turn(store.engine, store.connection)
    if found.paused_at is None and found.due is not None and store.clock() < (until := found.due + _LATE):
        raise ConfigError(
            f"a process that serves {store.connection} said that its next cycle is at {found.due:%Y-%m-%d %H:%M:%S} UTC; nothing was removed",
            hint="restart every cosell-sync run and worker with the configuration that no longer has it, then repeat this with --force, "
            f"or after {until:%Y-%m-%d %H:%M} UTC",
        )


def _confirm(stores: Sequence[SqlStore], *, yes: bool, quiet: bool) -> None:
    """Tell what will be removed, and ask unless ``yes``. Raises ConfigError unless a person says yes. ``quiet``: nobody is there."""
    from cosell_sync.store.removal import kept  # noqa: PLC0415 - the help needs none of it

    name, counts = stores[0].connection, Counter[str]()
    for store in stores:
        counts.update(kept(store.engine, name))
    last = max((cycle.at for store in stores for cycle in store.last_cycles(1)), default=None)
    told = f"This removes of {name}, for ever: {_listed(counts)}." + (
        f" Its last cycle was at {last:%Y-%m-%d %H:%M} UTC." if last else ""
    )
    if not yes and (quiet or not (sys.stdin.isatty() and sys.stderr.isatty())):
        raise ConfigError(f"{told} Nothing was removed yet", hint="repeat this with --yes")
    if not quiet:
        typer.echo(told, err=True)
    if not yes and not typer.confirm("Remove it?", err=True):
        raise ConfigError("nothing was removed", hint="cosell-sync backup keeps a copy of the whole store")


def _listed(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{kind} {number}" for kind, number in counts.items()) or "its name; nothing else is kept"
    )
