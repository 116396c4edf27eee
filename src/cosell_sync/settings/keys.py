"""Which keys may be written where, read off the models, and the known key that an unknown one resembles most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final, get_args

from pydantic import SecretStr

from cosell_sync.settings.defaults import FIELDS, OPTIONAL_FIELDS
from cosell_sync.settings.model import FieldRule, Settings, Stages
from cosell_sync.settings.notices import NoticeSettings
from cosell_sync.settings.section import Section

KeyPath = tuple[str, ...]

PREFIX: Final = "COSELL_"
IMAGE_PREFIX: Final = "COSELL_DEFAULT_"  # what a container image suggests; anything else overrides it
CONFIG_VARIABLE: Final = "COSELL_CONFIG"  # names the YAML file
IMAGE_CONFIG: Final = "COSELL_DEFAULT_CONFIG"  # where a container image looks for it; it may be missing
# Maps whose keys are the user's own: given once more, they are replaced as a whole.
FREE_MAPS: Final[tuple[KeyPath, ...]] = (
    ("mapping", "sales_stages"),
    ("mapping", "reasons"),
    ("mapping", "deal_attributes"),
    ("mapping", "owner_by_location"),
)
# Lists whose items are sections; an item's path is the list's and its number, from 0.
LISTS: Final[Mapping[KeyPath, type[Section]]] = {("notices",): NoticeSettings}
CONNECTIONS: Final = "connections"
# What one process has once, however many connections it serves, and why.
SHARED: Final[Mapping[str, str]] = {
    "http": "one listener serves all connections",
    "log": "all connections write one log, each under its own name",
    "run": "one process serves all connections",
    "tracing": "the spans of all connections go to one place",
    CONNECTIONS: "a connection holds no others",
}
FIELD_RULES: Final[KeyPath] = ("mapping", "fields")
_STAGES: Final[KeyPath] = ("mapping", "stages")
_SECTIONS: Final[Mapping[str, type[Section]]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
_OF_A_CONNECTION: Final = tuple(name for name in Settings.model_fields if name not in SHARED)


def variable_name(path: Iterable[str]) -> str:
    """The environment variable of a key: ``COSELL_SYNC__INTERVAL``, ``COSELL_CONNECTIONS__ACME_EU__SYNC__INTERVAL``."""
    return PREFIX + "__".join(part.upper().replace("-", "_") for part in path)


def within_connection(path: KeyPath) -> KeyPath:
    """The path as it would be at the top of the file: what stands below a connection is written like what stands there."""
    return path[2:] if path[:1] == (CONNECTIONS,) and len(path) > 2 else path


def secret_keys(section: str) -> frozenset[str]:
    """Keys of the section, or of each item of the list, whose value may stand in a file of its own; else empty."""
    model = LISTS.get((section,)) or _SECTIONS.get(section)
    fields = model.model_fields if model else {}
    return frozenset(
        name
        for name, info in fields.items()
        if SecretStr in (info.annotation, *get_args(info.annotation)) or (section, name) == ("store", "url")
    )


def keys_below(path: KeyPath) -> tuple[str, ...] | None:
    """Keys that may stand below ``path``. None: ``path`` holds a value; empty: it holds a map of the user's own keys."""
    if not path:
        return (*Settings.model_fields, CONNECTIONS)
    if path[0] == CONNECTIONS:
        if len(path) == 1:
            return ()
        return keys_below(path[2:]) if len(path) > 2 else _OF_A_CONNECTION
    if len(path) == 1 and path[0] in _SECTIONS:
        secrets = secret_keys(path[0])
        names = _SECTIONS[path[0]].model_fields
        return (*names, *(f"{name}_file" for name in names if name in secrets))
    if len(path) == 2 and path[:1] in LISTS:
        secrets = secret_keys(path[0])
        return (*LISTS[path[:1]].model_fields, *(f"{name}_file" for name in secrets))
    if path == _STAGES:
        return tuple(Stages.model_fields)
    if path in FREE_MAPS:
        return ()
    if path == FIELD_RULES:
        return (*FIELDS, *OPTIONAL_FIELDS)
    return tuple(FieldRule.model_fields) if path[:-1] == FIELD_RULES else None


def is_known(path: KeyPath) -> bool:
    """Whether the last key of ``path`` may stand where it stands."""
    below = keys_below(path[:-1])
    return below is not None and (not below or path[-1] in below)


def known_keys() -> tuple[str, ...]:
    """Every key as it is written, for example ``sync.interval``; the ``_file`` forms are left out."""
    keys = ["crm"]
    for section, model in _SECTIONS.items():
        for name in model.model_fields:
            path = (section, name)
            keys += (
                [".".join((*path, key)) for key in Stages.model_fields]
                if path == _STAGES
                else [".".join(path)]
            )
    return tuple(keys)


def nearest_key(path: KeyPath) -> str:
    """The known key that resembles the unknown ``path`` most.

    A good match among its neighbours comes first, then a very good one with the last word of any key, then the best
    match among its neighbours, however poor.
    """
    *above, last = path
    neighbours = {key: ".".join((*above, key)) for key in keys_below(tuple(above)) or ()}
    everywhere = {key.rpartition(".")[2]: key for key in reversed(known_keys())}
    for cutoff, candidates in ((0.6, neighbours), (0.75, everywhere), (0.0, neighbours)):
        if found := get_close_matches(last, list(candidates), 1, cutoff):
            return candidates[found[0]]
    return known_keys()[0]
