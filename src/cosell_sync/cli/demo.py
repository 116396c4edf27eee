"""``demo``: the whole product in one process, no credentials, ending in a proof that both sides agree."""

from __future__ import annotations

from typing import Annotated

import typer

from cosell_sync.cli.demo_player import play
from cosell_sync.settings import CrmName
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY


def demo(
    crm: Annotated[CrmName, typer.Option(help="Which CRM the seller works in.")] = "salesforce",
    deals: Annotated[
        int, typer.Option(min=1, max=2000, help="How many referrals the pipeline starts with.")
    ] = 60,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards and print the addresses.")] = False,
) -> None:
    """Show the whole product in one command: a sandbox, a pipeline, people on both sides, and proof of agreement.

    Example: cosell-sync demo --crm dynamics --deals 20
    """
    raise typer.Exit(NEEDS_NOBODY if play(crm, deals, keep=keep) else NEEDS_A_PERSON)
