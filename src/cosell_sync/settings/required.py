"""The settings without which a command cannot begin, checked before anything is contacted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from cosell_sync.settings.keys import KeyPath, secret_keys, variable_name
from cosell_sync.settings.model import DynamicsSettings, SalesforceSettings, Settings
from cosell_sync.settings.problems import InvalidSettings, Problem

Command = Literal["sync", "run", "plan", "doctor", "login", "provision", "deals"]
System = Literal["partner_center", "crm", "store"]

_SYSTEMS: Final[Mapping[Command, tuple[System, ...]]] = {
    "sync": ("partner_center", "crm", "store"),
    "run": ("partner_center", "crm", "store"),
    "plan": ("partner_center", "crm", "store"),
    "doctor": ("partner_center", "crm", "store"),
    "login": ("partner_center", "store"),
    "provision": ("crm",),
    "deals": ("store",),
}
# What may be given instead, to complete the sentence of a missing key.
_ALTERNATIVES: Final[Mapping[KeyPath, str]] = {
    ("salesforce", "consumer_secret"): ", or salesforce.username and salesforce.private_key for the JWT flow",
    ("dynamics", "client_secret"): ", or dynamics.certificate, or dynamics.managed_identity",
}


def required(settings: Settings, for_: Command) -> None:
    """Refuse to begin while credentials are missing. Raises ``InvalidSettings`` with every missing key."""
    missing = [
        path
        for system in _SYSTEMS[for_]
        for path in _needed(settings, system)
        if not getattr(getattr(settings, path[0]), path[1])
    ]
    if missing:
        raise InvalidSettings([_missing(path, for_) for path in missing])


def _needed(settings: Settings, system: System) -> Iterator[KeyPath]:
    """The keys that must be given for this system, in the order in which they are reported."""
    if system == "partner_center":
        yield from (("partner_center", "tenant_id"), ("partner_center", "client_id"))
    elif system == "store":
        if not settings.store.on_sqlite:
            yield ("store", "key")
    elif settings.crm == "salesforce":
        yield from (("salesforce", key) for key in _needed_for_salesforce(settings.salesforce))
    else:
        yield from (("dynamics", key) for key in _needed_for_dynamics(settings.dynamics))


def _needed_for_salesforce(given: SalesforceSettings) -> tuple[str, ...]:
    if (given.private_key or given.username) and not given.consumer_secret:
        return ("login_url", "consumer_key", "username", "private_key")
    return ("login_url", "consumer_key", "consumer_secret")


def _needed_for_dynamics(given: DynamicsSettings) -> tuple[str, ...]:
    if given.managed_identity:
        return ("url",)
    secret = () if given.certificate else ("client_secret",)
    return ("url", "tenant_id", "client_id", *secret)


def _missing(path: KeyPath, command: Command) -> Problem:
    """The problem of a missing key, with every way of giving it."""
    section, key = path
    secret = key in secret_keys(section)
    ways = [".".join(path), *([f"{section}.{key}_file"] if secret else []), variable_name(path)]
    ways += [f"{variable_name(path)}_FILE"] if secret else []
    return Problem(
        ".".join(path),
        "",
        f"is not given, and {command} needs it",
        f"Give one of {', '.join(ways)}{_ALTERNATIVES.get(path, '')}",
    )
