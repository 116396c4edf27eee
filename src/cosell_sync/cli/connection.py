"""``connection``: to which org and tenant a store belongs, and how it is moved to another address."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Table

from cosell_sync.cli.common import ConfigOption, JsonOption, console, load, show, show_json
from cosell_sync.core.deal import Side
from cosell_sync.errors import ConfigError

app = typer.Typer(
    help="See to which org and tenant the store belongs; move it after a refresh or rename.",
    no_args_is_help=True,
)

DEFAULT = "default"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection: default.")]


@app.command(name="list")
def list_connections(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List connections with the org and tenant that each belongs to. Contacts nobody.

    Example: cosell-sync connection list --config my.yaml
    """
    from cosell_sync.bootstrap import utc_now  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.store.open import open_store  # noqa: PLC0415

    loaded = load(config)
    with closing(open_store(loaded.store.url, utc_now)) as store:
        known = store.bindings()
    crm, ours = known.get(Side.CRM), known.get(Side.PARTNER_CENTER)
    row: dict[str, Any] = {
        "name": DEFAULT,
        "crm": crm.system if crm else loaded.crm,
        "organization": crm.account if crm else None,
        "host": crm.host if crm else None,
        "tenant": ours.account if ours else None,
        "partner_center_host": ours.host if ours else None,
        "bound": bool(known),
    }
    if as_json:
        show_json([row])
        return
    table = Table("name", "CRM", "organization", "at", "tenant", box=None, header_style="bold")
    unknown = "not known before the first cycle"
    table.add_row(
        DEFAULT, row["crm"], row["organization"] or unknown, row["host"] or "", row["tenant"] or unknown
    )
    console().print(table)


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
    from cosell_sync.bootstrap import LEASE_WAIT, program  # noqa: PLC0415 - the help needs none of it
    from cosell_sync.cli.progress import leased  # noqa: PLC0415
    from cosell_sync.cycle import binding  # noqa: PLC0415

    if name != DEFAULT:
        raise ConfigError(f"there is no connection {name}", hint=f"there is one: {DEFAULT}")
    with program(load(config, "sync"), rebinding=True) as wired, leased(wired.store, LEASE_WAIT):
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
