"""``provision``: what the CRM needs, made once by an admin's sign-in; run again, it changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cosell_sync.bootstrap.provision import provision as install
from cosell_sync.cli.common import ConfigOption, JsonOption, console, load, show, show_json
from cosell_sync.crm.report import Finding, Status
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY

_COLOURS = {
    Status.THERE: "green",
    Status.MADE: "green",
    Status.TO_MAKE: "cyan",
    Status.DIFFERS: "yellow",
    Status.FAILED: "red",
    Status.BLOCKED: "red",
    Status.LEFT_OUT: "yellow",
}


def provision(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the org check what would be made; change nothing.")
    ] = False,
    assign_to: Annotated[
        str | None,
        typer.Option(
            "--assign-to",
            metavar="USER",
            help="Who receives the daemon's permission set (Salesforce: a user name) or security role (Dynamics: an "
            "application id or a user name); default: the signed-in user.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create what is missing in the CRM: fields, child object, keys, list views, rights; in Salesforce also a validation rule,
    a panel, buttons, a compact layout and reports.

    Needs an admin's rights once. Salesforce: Modify Metadata Through Metadata API Functions, View Setup and Configuration, Manage
    Profiles and Permission Sets, Assign Permission Sets. Dynamics: the security role System Administrator. The daemon's user needs
    none of them for daily work: sign in as an admin here and name that user with --assign-to, or give the rights for this one
    command and take them away again.

    What is there is never overwritten; what differs is told, with what to do. Run it twice: the second run changes nothing.

    Example: cosell-sync provision --dry-run --config my.yaml
    """
    loaded = load(config, "provision")
    with Console(stderr=True).status("provision") as status:
        found = install(
            loaded, dry_run=dry_run, assign=assign_to, progress=lambda text: status.update(escape(text))
        )
    code = NEEDS_A_PERSON if any(each.status.needs_action for each in found) else NEEDS_NOBODY
    counts = Counter(each.status for each in found)
    if as_json:
        components = [{**asdict(each), "status": each.status.value} for each in found]
        show_json({
            "dry_run": dry_run,
            "changed": counts[Status.MADE] > 0,
            "components": components,
            "ok": code == NEEDS_NOBODY,
        })  # fmt: skip
    else:
        _print(found, counts, dry_run=dry_run)
    raise typer.Exit(code)


def _print(found: Sequence[Finding], counts: Counter[Status], *, dry_run: bool) -> None:
    table = Table("", "component", "found", "what to do", box=None, header_style="bold")
    for each in found:
        table.add_row(Text(each.status, _COLOURS[each.status]), each.component, each.text, each.todo)
    console().print(table)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    if not counts[Status.MADE]:
        summary += ". Nothing was changed" + (" (dry run)." if dry_run else ".")
    else:
        summary += "."
    following = "cosell-sync provision" if dry_run else "cosell-sync doctor"
    show(summary)
    if not any(each.status.needs_action for each in found):
        show(f"Next: {following}")
