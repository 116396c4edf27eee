"""Salesforce's client from the settings. Imported only where Salesforce is the CRM, for what it imports is slow."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from cosell_sync.bootstrap.limits import limits
from cosell_sync.bootstrap.mapping import column_names, ownership
from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.client import SalesforceCrm
from cosell_sync.crm.salesforce.rest import HINT, NAME, Rest
from cosell_sync.crm.salesforce.signin import ClientCredentials, JwtBearer, SignIn
from cosell_sync.crm.salesforce.write import Guard
from cosell_sync.errors import ConfigError
from cosell_sync.ports import Clock
from cosell_sync.settings import Settings
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.permit import Permit, anyway
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

GRACE: Final = 5.0  # seconds that a call may still take when we are asked to stop


def salesforce_client(
    settings: Settings,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    *,
    permit: Permit = anyway,
) -> SalesforceCrm:
    ours = settings.salesforce
    if not ours.login_url or not ours.consumer_key:
        raise ConfigError("salesforce.login_url and salesforce.consumer_key are needed")
    credentials: ClientCredentials | JwtBearer
    if ours.username and ours.private_key:
        credentials = JwtBearer(
            ours.consumer_key, ours.username, ours.private_key.get_secret_value(), ours.jwt_audience
        )
    elif ours.consumer_secret:
        credentials = ClientCredentials(ours.consumer_key, ours.consumer_secret.get_secret_value())
    else:
        raise ConfigError(
            "salesforce.consumer_secret, or salesforce.username with salesforce.private_key, is needed"
        )
    patience = replace(limits(settings), grace=GRACE)
    authority = HttpCaller(
        "salesforce",
        ours.login_url,
        governor=Governor("salesforce", stop=stop),
        limits=patience,
        id_headers=(),
        name=NAME,
        hint=HINT,
    )
    tokens = TokenSource(
        SignIn(ours.login_url, credentials, authority, clock=clock),
        system="salesforce",
        signed_in=meter.signed_in,
    )
    caller = HttpCaller(
        "salesforce",
        ours.login_url,
        permit=permit,
        governor=Governor("salesforce", stop=stop, meter=meter),
        tokens=tokens,
        limits=patience,
        id_headers=(),
        name=NAME,
        hint=HINT,
        hints=errors.HINTS,
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return SalesforceCrm(
        Rest(caller, tokens, clock=clock, api_version=ours.api_version),
        names=column_names(settings),
        match=settings.mapping.account_match,
        ownership=ownership(settings),
        guard=Guard(last_modified=ours.guard_stamp == "last_modified", parts=ours.guard_parts),
    )
