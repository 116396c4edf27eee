"""The settings without which a command cannot begin, checked before anything is contacted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

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


# What the shipped examples hold where an administrator's own value belongs.
PLACEHOLDERS: Final = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "11111111-1111-1111-1111-111111111111",
        "22222222-2222-2222-2222-222222222222",
        "https://example.my.salesforce.com",
        "consumer-key-of-the-external-client-app",
        "https://example.crm.dynamics.com",
    }
)
_HOSTS: Final = (("salesforce", "login_url"), ("dynamics", "url"))  # addresses of a whole org
_PAGES: Final = (".lightning.force.com", ".salesforce-setup.com")
_MOUNT: Final = "Mount yours there, or give what is missing by variables"
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORD: Final = re.compile(r"[\w.-]+")  # what an id may be at most: no address, no blank
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)


def required(settings: Settings, for_: Command) -> None:
    """Refuse to begin while credentials are missing. Raises ``InvalidSettings`` with every missing key."""
    _refuse(settings, for_, lambda _path, _value: None)


def plausible(settings: Settings, for_: Command) -> None:
    """As ``required``, and refuse values that can only be a mistake. Raises ``InvalidSettings`` with all of both."""
    _refuse(settings, for_, mistake)


def _refuse(
    settings: Settings, for_: Command, wrong: Callable[[KeyPath, str], tuple[str, str] | None]
) -> None:
    problems, origin = [], settings.origin
    for path, value in _credentials(settings, for_):
        if not value:
            problems.append(_missing(path, for_, settings.key_prefix))
        elif isinstance(value, str) and (what := wrong(path, value)):
            problems.append(Problem(".".join((*settings.key_prefix, *path)), origin.place(path), *what))
    if problems and origin.absent:
        where = str(origin.absent)
        problems.insert(0, Problem("the configuration", where, "there is no such file", _MOUNT))
    if problems:
        raise InvalidSettings(problems, origin)


def _credentials(settings: Settings, command: Command) -> Iterator[tuple[KeyPath, object]]:
    for system in _SYSTEMS[command]:
        for path in _needed(settings, system):
            yield path, getattr(getattr(settings, path[0]), path[1])


def mistake(path: KeyPath, value: str) -> tuple[str, str] | None:
    """What is wrong with a value that cannot be right, and what to do; None where it may be."""
    if value in PLACEHOLDERS:
        return "still holds the example's value", "Put your own in its place"
    if path[1] == "client_id" and not _WORD.fullmatch(value):
        return (
            "is no application id",
            "Entra ID shows it as Application (client) ID: 8 letters or digits, 4, 4, 4 and 12, with hyphens between",
        )
    if path[1] == "tenant_id" and not (_GUID.fullmatch(value) or _DOMAIN.fullmatch(value)):
        return (
            "is neither a directory id nor a domain",
            "Entra ID shows it as Directory (tenant) ID: 8 letters or digits, 4, 4, 4 and 12, with hyphens between",
        )
    host = urlsplit(value).hostname or ""
    if path == ("salesforce", "login_url") and host.endswith(_PAGES):
        mine = re.sub(r"\.lightning\.force\.com$|\.(my\.)?salesforce-setup\.com$", ".my.salesforce.com", host)
        return (
            "is the address of Salesforce's pages, where nobody signs in",
            f"Give the My Domain address: https://{mine}",
        )
    if path in _HOSTS and urlsplit(value).path:
        return "is the address of a page", f"Give https://{urlsplit(value).netloc} alone"
    return None


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


def _missing(path: KeyPath, command: Command, prefix: KeyPath) -> Problem:
    """The problem of a missing key, with every way of giving it. ``prefix``: where the connection's keys stand."""
    whole = (*prefix, *path)
    written, variable = ".".join(whole), variable_name(whole)
    secret = path[1] in secret_keys(path[0])
    ways = [written, *([f"{written}_file"] if secret else []), variable]
    ways += [f"{variable}_FILE"] if secret else []
    return Problem(
        written,
        "",
        f"is not given, and {command} needs it",
        f"Give one of {', '.join(ways)}{_ALTERNATIVES.get(path, '')}",
    )
