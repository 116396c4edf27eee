"""Partner Center's lists of values for what it asks of every deal: read from a file, since Microsoft renews them each July.

The file that cosell-sync brings is ``config/value-lists.yaml``; a wheel carries it beside this module. ``mapping.value_lists``
names another, whose lists replace those of the same name. A list without values was not obtained: its column then takes text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from cosell_sync.core.fields import ASKED_PER_DEAL
from cosell_sync.errors import ConfigError

FILE: Final = "value-lists.yaml"
# Lists that stand in the file for people; what they say is fixed by Partner Center's contract.
_FIXED: Final = frozenset({"help", "closed_reasons"})


class Unusable(ConfigError):
    """The file cannot be used; the text says why and where."""


@dataclass(frozen=True)
class ValueList:
    """``type``: of the attribute on the wire. ``labels``: id on the wire → what people read. ``valid_from``: the day from which
    Microsoft's list was this one; None where no list was obtained.
    """

    type: str
    labels: Mapping[str, str] = field(default_factory=dict)
    valid_from: date | None = None


ValueLists = Mapping[str, ValueList]  # by our name of the field


def fiscal_year_began(today: date) -> date:
    """The first day of Microsoft's fiscal year: 1 July."""
    return date(today.year if today.month >= 7 else today.year - 1, 7, 1)


@cache
def shipped() -> ValueLists:
    """The lists that cosell-sync brings: read once, since a process wires many programs and the file is part of the package."""
    packed = Path(__file__).with_name(FILE)
    return read(packed if packed.is_file() else Path(__file__).parents[3] / "config" / FILE)


def lists(named: str | None) -> ValueLists:
    """The lists in force; ``named``: `mapping.value_lists`. Raises `Unusable`."""
    return {**shipped(), **read(Path(named))} if named else shipped()


def choices(lists: ValueLists) -> Mapping[str, tuple[str, ...]]:
    """What a column offers for each list; nothing where no list was obtained."""
    return {name: tuple(each.labels.values()) for name, each in lists.items()}


def read(path: Path) -> ValueLists:
    """The lists of this file. Raises `Unusable`."""
    import yaml  # noqa: PLC0415 - only few commands read lists

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Unusable(f"cannot read {path}: {reason}") from None
    except yaml.YAMLError as error:
        raise Unusable(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise Unusable(f"{path} must be a map of lists")
    if unknown := [str(name) for name in tree if name not in {*ASKED_PER_DEAL, *_FIXED}]:
        raise Unusable(f"{path}: there is no list {unknown[0]}; lists are {', '.join(ASKED_PER_DEAL)}")
    return {name: _list(f"{path}: {name}", tree[name]) for name in ASKED_PER_DEAL if name in tree}


def _list(where: str, given: Any) -> ValueList:
    if not isinstance(given, dict) or not isinstance(given.get("type"), str) or not given["type"]:
        raise Unusable(f"{where} must be a map with type, valid_from and values")
    values = given.get("values") or []
    if not isinstance(values, list):
        raise Unusable(f"{where}.values must be a list")
    labels: dict[str, str] = {}
    for each in values:
        id_, label = (each.get("id"), each.get("label")) if isinstance(each, dict) else (None, None)
        if not (isinstance(id_, str) and isinstance(label, str) and id_.strip() and label.strip()):
            raise Unusable(
                f"{where}: each value needs an id and a label, both as text (quote Yes, No and numbers)"
            )
        labels[id_] = label
    for words in (labels, labels.values()):
        if len({each.casefold() for each in words}) < len(labels):
            raise Unusable(f"{where}: two values have the same id or label")
    since = given.get("valid_from")
    if not (isinstance(since, date) or (since is None and not labels)):
        raise Unusable(f"{where}.valid_from must be a day, for example 2026-07-01")
    return ValueList(given["type"], labels, since)
