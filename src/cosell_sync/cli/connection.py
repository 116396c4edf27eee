"""``connection``: which connections there are, to which org and tenant each belongs, and what is done about one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from cosell_sync.cli.common import (
    ConfigOption,
    JsonOption,
    console,
    load_all,
    of_connection,
    show,
    show_json,
)
from cosell_sync.cli.connection_forget import forget, urls
from cosell_sync.core.deal import Side
from cosell_sync.errors import ConfigError, ForeignSystem, Unavailable
from cosell_sync.metrics import ACTIVE, MISCONFIGURED, PAUSED
from cosell_sync.ports import Identity
from cosell_sync.settings import Configuration, InvalidSettings, Settings, check_all
from cosell_sync.store.connections import Turn
from cosell_sync.store.history import PastCycle
from cosell_sync.summary import OUT_OF_REACH

if TYPE_CHECKING:
    from cosell_sync.store.open import Databases

app = typer.Typer(
    help="See the connections and to which org and tenant each belongs; pause, resume, move or forget one.",
    no_args_is_help=True,
)

# The state of one that is configured no more, of which a store still keeps something.
LEFT_OVER: Final = "not configured"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection.", show_default=False)]


@dataclass(frozen=True)
class _Found:
    """What the store says of a connection."""

    bindings: Mapping[Side, Identity]
    turn: Turn
    last: PastCycle | None


@app.command(name="list")
def list_connections(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List connections with org, tenant, state and last cycle, also those of which only the store knows. Contacts nobody else.

    Example: cosell-sync connection list --config my.yaml
    """
    configuration = load_all(config)
    # Without `connections` this tells to whom a store belongs also while settings are missing.
    valid, refused = check_all(configuration, "run" if configuration.named else "deals")
    if not configuration.named and refused:
        raise refused[configuration.names[0]]
    rows = list(_rows(configuration, valid, refused))
    if as_json:
        show_json(rows)
    else:
        table = Table(
            "name",
            "CRM",
            "organization",
            "at",
            "tenant",
            "state",
            "last cycle",
            box=None,
            header_style="bold",
        )
        unknown = "not known before the first cycle"
        for row in rows:
            last = row["last_cycle"]
            table.add_row(
                row["name"],
                row["crm"] or "",
                row["organization"] or ("" if row["state"] in {MISCONFIGURED, LEFT_OVER} else unknown),
                row["host"] or "",
                row["tenant"] or ("" if row["state"] in {MISCONFIGURED, LEFT_OVER} else unknown),
                ": ".join(filter(None, (row["state"], row["reason"]))),
                f"{last['at']:%Y-%m-%d %H:%M} UTC, exit {last['exit_code']}" if last else "none",
            )
        console().print(table)
    if any(row["state"] == "unknown" for row in rows):
        raise typer.Exit(OUT_OF_REACH)


@app.command()
def pause(name: Name, config: ConfigOption = None) -> None:
    """Leave a connection alone: the cycle that runs ends, and none begins until it is resumed.

    Example: cosell-sync connection pause acme-eu --config my.yaml
    """
    from cosell_sync.bootstrap.clock import utc_now  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.bootstrap.store import store_of  # noqa: PLC0415
    from cosell_sync.store.connections import pause as stop_serving  # noqa: PLC0415

    loaded = of_connection(load_all(config), name, "deals")
    with closing(store_of(loaded)) as store:
        stop_serving(store.engine, loaded.connection, utc_now())
    show(
        f"{name} is paused: a running cycle ends, no other begins. Next: cosell-sync connection resume {name}"
    )


@app.command()
def resume(name: Name, config: ConfigOption = None) -> None:
    """Serve a paused connection again; what happened meanwhile is carried by its next cycle.

    Example: cosell-sync connection resume acme-eu --config my.yaml
    """
    from cosell_sync.bootstrap.store import store_of  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.store.connections import pause as stop_serving  # noqa: PLC0415

    loaded = of_connection(load_all(config), name, "deals")
    with closing(store_of(loaded)) as store:
        stop_serving(store.engine, loaded.connection, None)
    show(f"{name} is served again: by `cosell-sync run` within half a minute, or by the next `sync`.")


@app.command()
def rebind(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Move it although the deals of the store are not found there.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Let the store belong to the org and tenant that the configuration names now; looks first whether its deals are there.

    Example: cosell-sync connection rebind default --config my.yaml
    """
    from cosell_sync.bootstrap.program import program  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.cli.progress import leased  # noqa: PLC0415
    from cosell_sync.cycle import binding  # noqa: PLC0415
    from cosell_sync.store.lease import LEASE_WAIT  # noqa: PLC0415

    loaded = of_connection(load_all(config), name, "sync")
    with program(loaded, rebinding=True) as wired, leased(wired.store, LEASE_WAIT):
        known = wired.store.bindings()
        found = binding.identities(wired.crm, wired.referrals)
        if known == found:
            show(f"Nothing to do: the store belongs to {' and '.join(map(binding.words, found.values()))}.")
            return
        looked = {} if force else binding.look_up(wired.store, wired.crm, wired.referrals)
        if strangers := [side for side, seen in looked.items() if not seen.convinces]:
            told = "; ".join(
                f"{binding.words(found[side])} has {looked[side].there} of {looked[side].asked}"
                for side in strangers
            )
            raise ConfigError(
                f"the store's deals are not there: {told} that were looked up; the store stays as it is",
                hint="give another org or tenant a store of its own (store.url); if the store is to be moved all the same, "
                "repeat this with --force",
            )
        binding.rebind(wired.store, found)
    for seen in list(looked.values())[:1]:
        show(f"Looked up {seen.asked} deals on both sides.")
    for whose in found.values():
        show(f"The store belongs to {binding.words(whose)}.")
    show("Next: cosell-sync doctor, then plan. The next sync reads both sides from the start.")


app.command()(forget)


def _rows(
    configuration: Configuration, valid: Mapping[str, Settings], refused: Mapping[str, InvalidSettings]
) -> Iterator[dict[str, Any]]:
    from cosell_sync.store.open import Databases  # noqa: PLC0415 - the help needs none of it

    names = configuration.names
    with closing(Databases()) as databases:
        for name in names:
            if name in refused:
                yield _row(name, None, None, (MISCONFIGURED, _briefly(refused[name])))
                continue
            settings = valid[name]
            try:
                found = _looked_up(settings.store.url, name, databases)
            except Unavailable as error:
                if len(names) == 1:
                    raise
                yield _row(name, settings, None, ("unknown", str(error)))
            except ConfigError as error:
                if len(names) == 1:
                    raise
                yield _row(name, settings, None, (MISCONFIGURED, str(error)))
            else:
                yield _row(name, settings, found, _state(settings, found))
        yield from _left_over(configuration, databases)


def _left_over(configuration: Configuration, databases: Databases) -> Iterator[dict[str, Any]]:
    """Those that only a store knows; of a database that is away nothing is known."""
    from cosell_sync.store.removal import left_over  # noqa: PLC0415 - the help needs none of it

    for url in urls(configuration):
        with suppress(Unavailable, ConfigError):
            for name in left_over(databases.engine(url), configuration.names):
                what = f"to remove its data: cosell-sync connection forget {name}"
                yield _row(name, None, _looked_up(url, name, databases), (LEFT_OVER, what))


def _briefly(error: InvalidSettings) -> str:
    more = len(error.problems) - 1
    return f"{error.problems[0]}{f'; and {more} more: cosell-sync config check' if more else ''}"


def _looked_up(url: str, name: str, databases: Databases) -> _Found:
    from cosell_sync.bootstrap.clock import utc_now  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.store.connections import turn  # noqa: PLC0415

    store = databases.store(url, utc_now, connection=name)
    return _Found(store.bindings(), turn(store.engine, name), next(iter(store.last_cycles(1)), None))


def _state(settings: Settings, found: _Found) -> tuple[str, str]:
    """The state, and why."""
    from cosell_sync.cycle import binding  # noqa: PLC0415 - the help needs none of it

    try:
        ours = binding.configured(settings.crm, settings.partner_center.tenant_id)
        binding.refuse_others(found.bindings, ours, settings.connection)
    except ForeignSystem as error:
        return MISCONFIGURED, str(error)
    if found.turn.paused_at is not None:
        return PAUSED, f"since {found.turn.paused_at:%Y-%m-%d %H:%M} UTC"
    return ACTIVE, ""


def _row(
    name: str, settings: Settings | None, found: _Found | None, state: tuple[str, str]
) -> dict[str, Any]:
    """As ``connection list --json`` gives it."""
    known = found.bindings if found else {}
    crm, ours = known.get(Side.CRM), known.get(Side.PARTNER_CENTER)
    last = found.last if found else None
    return {
        "name": name,
        "crm": crm.system if crm else settings.crm if settings else None,
        "organization": crm.account if crm else None,
        "host": crm.host if crm else None,
        "tenant": ours.account if ours else None,
        "partner_center_host": ours.host if ours else None,
        "bound": bool(known),
        "state": state[0],
        "reason": state[1],
        "due": found.turn.due if found else None,
        "last_cycle": {"at": last.at, "exit_code": last.exit_code} if last else None,
    }
