"""Dynamics 365's client from the settings. Imported only where Dynamics 365 is the CRM, for what it imports is slow."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from cosell_sync.bootstrap.limits import limits
from cosell_sync.bootstrap.mapping import close_date_zone, column_names, ownership, words
from cosell_sync.crm.dynamics import signin
from cosell_sync.crm.dynamics.client import DynamicsCrm
from cosell_sync.crm.dynamics.rest import ID_HEADERS, Rest
from cosell_sync.errors import ConfigError
from cosell_sync.ports import Clock
from cosell_sync.settings import Settings
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.permit import Permit, anyway
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource


def dynamics_client(
    settings: Settings,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    patience: Limits | None = None,
    *,
    permit: Permit = anyway,
) -> DynamicsCrm:
    ours = settings.dynamics
    if not ours.url:
        raise ConfigError("dynamics.url is needed")
    signing = signin.Application(
        url=ours.url,
        tenant_id=ours.tenant_id or "",
        client_id=ours.client_id or "",
        client_secret=ours.client_secret.get_secret_value() if ours.client_secret else None,
        certificate=ours.certificate.get_secret_value() if ours.certificate else None,
        managed_identity=ours.managed_identity,
        authority=ours.authority,
    )
    authority = HttpCaller(
        "dynamics",
        "",  # MSAL finds the hosts
        governor=Governor("dynamics", stop=stop),
        limits=limits(settings),
        name="the sign-in of Dynamics 365",
        hint=signin.UNREACHABLE,
        proxies=ours.managed_identity is None,  # a machine's identity is asked for on the machine
    )
    caller = HttpCaller(
        "dynamics",
        ours.url,
        permit=permit,
        governor=Governor("dynamics", stop=stop, meter=meter),
        tokens=TokenSource(signin.SignIn(signing, authority, clock=clock), signed_in=meter.signed_in),
        limits=patience or limits(settings),
        id_headers=ID_HEADERS,
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return DynamicsCrm(
        Rest(caller, clock=clock),
        names=column_names(settings),
        match=settings.mapping.account_match,
        ownership=ownership(settings),
        words=words(settings),
        close_date_zone=close_date_zone(settings),
    )
