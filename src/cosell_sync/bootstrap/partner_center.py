"""Partner Center's clients from the settings: referrals, the sign-in of a person, and the registration of webhooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cosell_sync.bootstrap.limits import limits
from cosell_sync.bootstrap.mapping import close_date_zone
from cosell_sync.bootstrap.store import open_tokens, store_of
from cosell_sync.errors import ConfigError
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.signin import TOKEN_NAME, UNREACHABLE, Application, Lent, SignIn
from cosell_sync.partner_center.values import Attribute, WireOptions
from cosell_sync.ports import Clock, Findings
from cosell_sync.settings import Settings, value_lists
from cosell_sync.store.tokens import StoredTokens
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.permit import Permit
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

if TYPE_CHECKING:
    from cosell_sync.partner_center.registration import Registration


def application(settings: Settings) -> Application:
    """The Partner Center app registration. Raises ``ConfigError`` where it is not configured."""
    ours = settings.partner_center
    if not ours.tenant_id or not ours.client_id:
        raise ConfigError("partner_center.tenant_id and partner_center.client_id are needed")
    return Application(
        tenant_id=ours.tenant_id,
        client_id=ours.client_id,
        client_secret=ours.client_secret.get_secret_value() if ours.client_secret else None,
        authority=ours.authority,
    )


def login_caller(settings: Settings) -> HttpCaller:
    """For the sign-in of a person to Partner Center; MSAL finds the hosts."""
    return HttpCaller(
        "partner_center", "", limits=limits(settings), name="the sign-in of Partner Center", hint=UNREACHABLE
    )


class AskedAttributes(Mapping[str, Attribute]):
    """What Partner Center asks per deal, by the lists in force. Read at the first use: a cycle without news needs none."""

    def __init__(self, named: str | None) -> None:
        self._named = named

    @cached_property
    def _lists(self) -> Mapping[str, Attribute]:
        found = value_lists.lists(self._named)
        return {name: Attribute(each.type, each.labels) for name, each in found.items()}

    def __getitem__(self, name: str) -> Attribute:
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)


def partner_center_client(
    settings: Settings,
    tokens: StoredTokens,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    findings: Findings,
    *,
    permit: Permit,
    rehearsal: bool = False,
) -> PartnerCenter:
    ours = settings.partner_center
    if ours.refresh_token:
        tokens.seed(TOKEN_NAME, ours.refresh_token.get_secret_value())
    authority = HttpCaller(
        "partner_center",
        ours.authority,
        governor=Governor("partner_center", stop=stop),
        limits=limits(settings),
    )
    sign_in = SignIn(application(settings), tokens, authority, clock=clock)
    source = TokenSource(Lent(sign_in, tokens, borrow=rehearsal, clock=clock), signed_in=meter.signed_in)
    governor = Governor("partner_center", stop=stop, meter=meter)
    caller = HttpCaller(
        "partner_center",
        ours.base_url,
        permit=permit,
        governor=governor,
        tokens=source,
        limits=limits(settings),
        id_headers=ID_HEADERS,
        name="Partner Center",
        hint="check partner_center.base_url and the network",
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    mapping = settings.mapping
    wire = WireOptions(
        sales_stage=mapping.sales_stage_wire,
        write_name=mapping.write_name is not False,
        write_favorite=mapping.write_favorite is not False,
        recipe=mapping.cosell_recipe,
        marketplace_intent=mapping.marketplace_intent,
        attributes=mapping.deal_attributes,
        asked=AskedAttributes(mapping.value_lists),
        location=mapping.location,
        link=ours.portal_url,
        close_date_zone=close_date_zone(settings),
        publishers=ours.publisher_names,
    )
    return PartnerCenter(caller, wire, tenant=ours.tenant_id or "", findings=findings)


def webhook_registration(settings: Settings, clock: Clock, closing: ExitStack) -> Registration:
    """The registration API, which has a host and an audience of its own; the sign-in is that of referrals."""
    from cosell_sync.partner_center.registration import SCOPE, Registration  # noqa: PLC0415 - one command needs it

    ours = settings.partner_center
    store = store_of(settings, clock)
    closing.callback(store.close)
    tokens = open_tokens(settings, store)
    if ours.refresh_token:
        tokens.seed(TOKEN_NAME, ours.refresh_token.get_secret_value())
    authority = HttpCaller("partner_center", ours.authority, limits=limits(settings))
    sign_in = SignIn(replace(application(settings), scope=SCOPE), tokens, authority, clock=clock)
    caller = HttpCaller(
        "partner_center",
        ours.webhook_base_url,
        tokens=TokenSource(sign_in, clock=clock),
        limits=limits(settings),
        id_headers=ID_HEADERS,
        name="the webhook registration of Partner Center",
        hint="check partner_center.webhook_base_url and the network",
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return Registration(caller)
