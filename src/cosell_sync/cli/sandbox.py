"""``sandbox``: serves the fake Partner Center, Salesforce and Dataverse, with faults, for trying and testing."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

from cosell_sync.cli.common import show
from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.settings import CrmName


def sandbox(
    deals: Annotated[int, typer.Option(min=0, max=20_000, help="Referrals to begin with.")] = 60,
    seed: Annotated[int, typer.Option(help="Another number, another pipeline.")] = 7,
    crm: Annotated[CrmName, typer.Option(help="The CRM that the printed variables name.")] = "salesforce",
    installed: Annotated[
        bool, typer.Option(help="Whether the CRM has our fields already; without them, try provision.")
    ] = True,
    directory: Annotated[
        Path | None, typer.Option(help="Where the certificate and the store go; else a temporary folder.")
    ] = None,
) -> None:
    """Serve a fake Partner Center, Salesforce and Dataverse over TLS on loopback until Ctrl-C, and print how to use them.

    Example: cosell-sync sandbox --crm salesforce --deals 20
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="cosell-sync-sandbox-") as temporary:
        home = (directory or Path(temporary)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with Sandbox(deals=deals, seed=seed, crm=crm, installed=installed) as served:
            lines = [f"export {name}='{value}'" for name, value in served.environment(home).items()]
            (home / "sandbox.env").write_text("\n".join(lines) + "\n", encoding="utf-8")
            partner_center, salesforce, dynamics = (server.url for server in served.servers)
            own, rows = {
                "salesforce": (salesforce, "object=Opportunity"),
                "dynamics": (dynamics, "table=opportunity"),
            }[crm]
            command = _as_called()
            show(
                f"Partner Center  {partner_center}\nSalesforce      {salesforce}\nDataverse       {dynamics}\n\n"
                f"In another shell:\n  . {home / 'sandbox.env'}\n  {command} plan\n  {command} sync\n\n"
                "Play people, and faults, with curl (an unknown path lists what there is):\n"
                f"  curl --cacert {home / 'sandbox-ca.pem'} {partner_center}/_sandbox/\n"
                f"  curl --cacert {home / 'sandbox-ca.pem'} '{own}/_sandbox/rows?{rows}'\n"
                f"  curl --cacert {home / 'sandbox-ca.pem'} {partner_center}/_sandbox/faults\n\nCtrl-C ends it."
            )
            ended.wait()


def _as_called() -> str:
    """The command that another shell finds: its name where PATH leads to this one, else its path."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    return called.name if found and Path(found).samefile(called) else str(called.absolute())
