"""``sync``: one full cycle, then exits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from cosell_sync import tracing
from cosell_sync.cli.common import ConfigOption, JsonOption, load, show, show_json, writing
from cosell_sync.cli.progress import progress
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.summary import CycleSummary

if TYPE_CHECKING:
    from cosell_sync.bootstrap.program import Program


def sync(
    config: ConfigOption = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Let one plan through that was stopped as a surprise, and steps that are withheld.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one full cycle, then exit: 0 nothing needs a person, 1 some deal does, 3 a system is out of reach.

    Example: cosell-sync sync --config my.yaml
    """
    from cosell_sync.bootstrap.notices import noticing  # noqa: PLC0415 - see `writing`

    cycle = uuid4().hex[:12]
    loaded = load(config, "sync")
    with (
        tracing.exporting(loaded.tracing.otlp_endpoint),
        writing(loaded) as wired,
        noticing(wired) as watching,
        watching(cycle),
    ):
        refuse_paused(wired)
        wired.purge_journal()
        with progress() as step:
            services = replace(wired.cycle_services(), finished=remembering(wired), progress=step)
            summary = run_cycle(services, cycle, accept=accept)
    if as_json:
        show_json(summary.as_event())
    else:
        show(sentence(summary))
    raise typer.Exit(summary.exit_code)


def refuse_paused(wired: Program) -> None:
    """Raises ConfigError where a person wants the connection left alone."""
    from cosell_sync.store.connections import turn  # noqa: PLC0415 - as above

    name = wired.settings.connection
    since = turn(wired.store.engine, name).paused_at
    if since is not None:
        raise ConfigError(
            f"the connection {name} is paused since {since:%Y-%m-%d %H:%M} UTC; nothing was read or written",
            hint=f"cosell-sync connection resume {name}",
        )


def remembering(wired: Program) -> Callable[[CycleSummary], None]:
    """What keeps each finished cycle in the store, unless that is away."""

    def finished(summary: CycleSummary) -> None:
        with suppress(Unavailable):
            wired.store.remember_cycle(summary)

    return finished


def sentence(summary: CycleSummary) -> str:
    """One cycle in a line for people."""
    parts = [
        f"read {summary.pulled.partner_center} referrals and {summary.pulled.crm} opportunities",
        f"made {summary.created.crm} opportunities and {summary.created.partner_center} referrals",
        f"changed {summary.written.partner_center} in Partner Center and {summary.written.crm} in the CRM",
    ]
    for number, words in (
        (summary.conflicts, "conflicts"),
        (summary.rejected, "refused by our checks"),
        (summary.failed, "failed, to be tried again"),
        (summary.parked, "parked"),
        (summary.withheld, "withheld until a person approves (deals list --withheld)"),
    ):
        if number:
            parts.append(f"{number} {words}")
    if summary.broken:
        parts.append("a precondition is broken, so nothing that cannot be undone is done: cosell-sync doctor")
    if summary.exit_code == 1:
        parts.append("some deals need a person: cosell-sync deals list --attention")
    return f"{'; '.join(parts)} ({summary.duration_s:.1f} s)"
