"""Installs in the CRM what this program needs there, over a client that counts no calls and keeps no store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.mapping import column_names, words
from cosell_sync.crm.report import Finding
from cosell_sync.settings import Settings, value_lists
from cosell_sync.transport.client import Limits
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.retry import RetryStrategy

# Dataverse makes a column within seconds or within a minute.
CUSTOMIZING: Final = Limits(read=120.0, retry=RetryStrategy(total=300.0))


def provision(
    settings: Settings, *, dry_run: bool, assign: str | None, progress: Callable[[str], None]
) -> Sequence[Finding]:
    """Make what the CRM lacks, or with ``dry_run`` only find it; one finding for each component.

    ``assign``: who receives the rights; None: the signed-in user. ``progress`` is called with each slow step.
    """
    names = column_names(settings)
    choices = value_lists.choices(value_lists.lists(settings.mapping.value_lists))
    stop = threading.Event()
    with ExitStack() as closing:
        if settings.crm == "salesforce":
            from cosell_sync.bootstrap.salesforce import salesforce_client  # noqa: PLC0415 - the CRM that is chosen
            from cosell_sync.crm.salesforce.install.deploy import provision as provision_salesforce  # noqa: PLC0415

            rest = salesforce_client(
                settings, stop, utc_now, closing, Meter("salesforce", clock=utc_now)
            ).rest
            return provision_salesforce(
                rest, names, dry_run=dry_run, assign=assign, choices=choices, words=words(settings)
            )
        from cosell_sync.bootstrap.dynamics import dynamics_client  # noqa: PLC0415
        from cosell_sync.crm.dynamics.install.deploy import provision as provision_dynamics  # noqa: PLC0415

        uncounted = Meter("dynamics", clock=utc_now)
        web = dynamics_client(settings, stop, utc_now, closing, uncounted, patience=CUSTOMIZING).rest
        return provision_dynamics(
            web,
            names,
            dry_run=dry_run,
            assign=assign,
            progress=progress,
            choices=choices,
            words=words(settings),
        )
