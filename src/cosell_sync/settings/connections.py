"""All connections together: which may be served, which are refused and why, and which get in each other's way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from cosell_sync.settings.load import Configuration
from cosell_sync.settings.model import Settings
from cosell_sync.settings.problems import InvalidSettings, Problem
from cosell_sync.settings.required import Command, required

Check = Callable[[Settings, Command], None]


def check_all(
    configuration: Configuration, command: Command, check: Check = required
) -> tuple[Mapping[str, Settings], Mapping[str, InvalidSettings]]:
    """The connections that ``command`` can begin with, and what is wrong with each of the others.

    ``check`` raises ``InvalidSettings`` where a connection cannot be begun with. Two connections for one pair would both make a
    referral of every opportunity that is shared, and a store has one key, or its backup could not be read: the first is served,
    the other refused.
    """
    valid: dict[str, Settings] = {}
    refused: dict[str, InvalidSettings] = {}
    pairs: dict[tuple[str, str], str] = {}
    keys: dict[str, tuple[str, SecretStr | None]] = {}
    for name in configuration.names:
        try:
            settings = configuration.settings(name)
            check(settings, command)
        except InvalidSettings as error:
            refused[name] = error
            continue
        pair = (_tenant(settings), organization(settings))
        first = pairs.setdefault(pair, name) if all(pair) else name
        keyed, key = keys.setdefault(settings.store.url, (name, settings.store.key))
        if first != name:
            what = (
                f"is for the same tenant and the same CRM as connections.{first}; both would write every deal"
            )
            refused[name] = _refusal(configuration, name, "", what, "Keep one")
        elif key != settings.store.key:
            what, hint = (
                f"is not that of connections.{keyed}, whose store it shares",
                "Give both one key, or each a store.url",
            )
            refused[name] = _refusal(configuration, name, ".store.key", what, hint)
        else:
            valid[name] = settings
    return valid, refused


def _refusal(configuration: Configuration, name: str, key: str, what: str, hint: str) -> InvalidSettings:
    return InvalidSettings([Problem(f"{_key(name)}{key}", configuration.place(name), what, hint)])


def shared_organizations(connections: Iterable[Settings]) -> Iterator[str]:
    """A sentence for each CRM that several connections write to: an opportunity there is shared with one tenant only, and each of
    them would take it.
    """
    users: dict[str, list[str]] = {}
    for each in connections:
        if where := organization(each):
            users.setdefault(where, []).append(each.connection)
    for where, names in users.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(_key(name) for name in names)} write to the same CRM, {where}: every opportunity with a tick would be "
                "shared by each of them. Give each its own org, or its own field names for what the sync keeps (mapping.fields)"
            )


def organization(settings: Settings) -> str:
    """Where the CRM is, as it is configured; empty where it is not."""
    address = settings.dynamics.url if settings.crm == "dynamics" else settings.salesforce.login_url
    return urlsplit(address).netloc.lower() if address else ""


def _tenant(settings: Settings) -> str:
    return (settings.partner_center.tenant_id or "").strip().lower()


def _key(name: str) -> str:
    return f"connections.{name}"
