"""A new configuration from the shipped example: the values that are given are set, every comment stays.

The examples are ``config/salesforce.yaml`` and ``config/dynamics.yaml``. A wheel carries them beside this module
(``force-include`` in pyproject.toml); in a checkout they are read from ``config/``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cosell_sync.errors import ConfigError
from cosell_sync.settings.keys import (
    FREE_MAPS,
    KeyPath,
    is_known,
    nearest_key,
    secret_keys,
    within_connection,
)
from cosell_sync.settings.values import CrmName


def example(crm: CrmName) -> str:
    """The shipped example for this CRM."""
    packaged = Path(__file__).with_name("examples") / f"{crm}.yaml"
    file = packaged if packaged.exists() else Path(__file__).parents[3] / "config" / f"{crm}.yaml"
    return file.read_text(encoding="utf-8")


def key_path(key: str) -> KeyPath:
    """``sync.interval`` as a path. Raises ConfigError for a key that does not exist, with the nearest that does, and for a
    secret, which belongs into a file of its own.
    """
    parts = tuple(key.strip().split("."))
    local = within_connection(parts)
    if local[:2] in FREE_MAPS:  # names of the user's own may hold dots
        parts = (*parts[: len(parts) - len(local) + 2], ".".join(local[2:]))
    unknown = next((parts[:n] for n in range(1, len(parts) + 1) if not is_known(parts[:n])), None)
    if unknown is not None or not parts[-1]:
        nearest = nearest_key(unknown or parts)
        raise ConfigError(f"{key} is no key of the configuration", hint=f"did you mean {nearest}?")
    if len(local) == 2 and local[1] in secret_keys(local[0]) and local != ("store", "url"):
        raise ConfigError(
            f"{key} is a secret, and what stands on a command line can be read by others",
            hint=f"write it to a file of its own and give {key}_file=PATH",
        )
    return parts


def filled(text: str, values: Mapping[KeyPath, str]) -> str:
    """The example with these values in it: a key that is commented out there is taken in, one that it lacks is added."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - only `init` writes YAML

    yaml: Any = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    for path in values:
        text = _taken_in(text, path)
    tree = yaml.load(text)
    for path, value in values.items():
        branch = tree
        for part in path[:-1]:
            if not isinstance(branch.get(part), dict):
                branch[part] = {}
            branch = branch[part]
        branch[path[-1]] = value
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _taken_in(text: str, path: KeyPath) -> str:
    """The text without the mark of a comment before this key of a section."""
    section = rf"(^{re.escape(path[0])}:.*\n(?:(?:[ #].*)?\n)*?)"
    return (
        re.sub(rf"{section}  # ({re.escape(path[-1])}: )", r"\1  \2", text, count=1, flags=re.MULTILINE)
        if len(path) == 2
        else text
    )


def parse_assignments(given: Sequence[str]) -> dict[KeyPath, str]:
    """``KEY=VALUE`` texts as paths and values. Raises ConfigError, as ``key_path``, and for a text without ``=``."""
    values = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals:
            raise ConfigError(
                f"--set takes KEY=VALUE, not {each}", hint="for example --set sync.interval=30s"
            )
        values[key_path(key)] = value.strip()
    return values
