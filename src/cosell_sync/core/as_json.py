"""Domain values as plain JSON data and back, by the kind of their field; for the store and for ``--json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import is_
from typing import Any, Final

from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.texts import Day, Part, Text

_AS_IT_IS: Final = frozenset({str, bool, type(None)})  # what JSON knows by itself: most values


def to_json(value: Value, *, extras: bool = True) -> Any:
    """The value as JSON data. ``ABSENT`` must not come here inside ``Fields``: it is left out instead."""
    match value:
        case bool() | str() | None:
            return value
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case tuple():
            return [_record(item, extras) for item in value]
        case Customer():
            return _record(value, extras)
        case _:
            return None


def _record(item: Member | Solution | Customer, extras: bool) -> dict[str, Any]:
    """Its parts by name. A D-U-N-S number is left out where there is none, as earlier versions did."""
    record = vars(item).copy()
    if extras and item.extra:
        record["extra"] = dict(item.extra)
    else:
        del record["extra"]
    if isinstance(item, Customer) and item.duns is None:
        del record["duns"]
    return record


_FROM_JSON: Final[Mapping[Kind, Callable[[Any], Value]]] = {
    Kind.TEXT: str,
    Kind.NOTES: str,
    Kind.NUMBER: Decimal,
    Kind.DATE: date.fromisoformat,
    Kind.MOMENT: datetime.fromisoformat,
    Kind.FLAG: bool,
    Kind.MEMBERS: lambda data: tuple(Member(**item) for item in data),
    Kind.SOLUTIONS: lambda data: tuple(Solution(**item) for item in data),
    Kind.CUSTOMER: lambda data: Customer(**data),
}
_OF_FIELD: Final = {name: _FROM_JSON[kind] for name, kind in KINDS.items()}


def value_from_json(kind: Kind, data: Any) -> Value:
    """The inverse of ``to_json`` for a field of that kind.

    Raises ValueError, TypeError or KeyError for data that ``to_json`` never made.
    """
    return None if data is None else _FROM_JSON[kind](data)


def text_to_json(text: str) -> Any:
    """A text for sellers as JSON data: a ``Text`` with its template and values, anything else as the text that it is."""
    if not isinstance(text, Text):
        return str(text)
    return {"text": text.template, "with": {name: _part_to_json(part) for name, part in text.values.items()}}


def _part_to_json(part: Part) -> Any:
    match part:
        case str():
            return text_to_json(part)
        case tuple():
            return [_part_to_json(each) for each in part]
        case Day():
            return {"day": part.moment.isoformat()}
        case datetime():
            return {"moment": part.isoformat()}
        case date():
            return {"date": part.isoformat()}
        case _:
            return {"number": str(part)}


def text_from_json(data: Any) -> str:
    """The inverse of ``text_to_json``; texts of earlier versions are plain ones. Raises what ``value_from_json`` does."""
    if not isinstance(data, Mapping):
        return str(data)
    return Text(data["text"], **{name: _part_from_json(part) for name, part in data["with"].items()})


def _part_from_json(data: Any) -> Part:
    match data:
        case {"text": _}:
            return text_from_json(data)
        case {"day": moment}:
            return Day(datetime.fromisoformat(moment))
        case {"moment": moment}:
            return datetime.fromisoformat(moment)
        case {"date": day}:
            return date.fromisoformat(day)
        case {"number": number}:
            return Decimal(number)
        case list():
            return tuple(_part_from_json(each) for each in data)
        case _:
            return str(data)


def fields_to_json(fields: Fields) -> dict[str, Any]:
    """The fields as JSON data; ``ABSENT`` ones are left out."""
    return {
        name: item if type(item) in _AS_IT_IS else to_json(item)
        for name, item in fields.items()
        if item is not ABSENT
    }


def base_to_json(base: Fields, side: Mapping[str, Any] | None, snapshot: Snapshot | None) -> dict[str, Any]:
    """The inverse of ``base_from_json``: what its side holds stands in the data of that side already.

    A value of its own is one that is not the very same: equal ones may differ in what is never compared.
    """
    if side is None or snapshot is None:
        return fields_to_json(base)
    said, held = side["fields"], snapshot.fields
    return {
        name: said[name]
        if (its := held.get(name, ABSENT)) is item or _same_records(its, item)
        else to_json(item)
        for name, item in base.items()
        if item is not ABSENT
    }


def _same_records(one: Value, other: Value) -> bool:
    """Whether these are two sets of the very same records."""
    return (
        isinstance(one, tuple)
        and isinstance(other, tuple)
        and len(one) == len(other)
        and all(map(is_, one, other))
    )


def fields_from_json(data: Mapping[str, Any]) -> dict[str, Value]:
    """Fields from JSON data; names that this version does not know are dropped (they are read again anyway)."""
    return {
        name: None if item is None else _OF_FIELD[name](item)
        for name, item in data.items()
        if name in _OF_FIELD
    }


def base_from_json(
    data: Mapping[str, Any], side: Mapping[str, Any] | None, snapshot: Snapshot | None
) -> Fields:
    """A base, as ``fields_from_json``. It mostly holds what its side holds, and then has the very same values.

    ``side``: the JSON data of ``snapshot``; both None where that side was never read.
    """
    if side is None or snapshot is None:
        return fields_from_json(data)
    said, held = side["fields"], snapshot.fields
    alike = {name: held[name] for name, item in data.items() if name in held and said[name] == item}
    return alike | fields_from_json({name: item for name, item in data.items() if name not in alike})


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as JSON data."""
    return {
        "id": snapshot.id,
        "version": snapshot.version,
        "fields": fields_to_json(snapshot.fields),
        "readonly": sorted(snapshot.readonly),
        "rows": sorted(snapshot.rows),
        **(
            {"unkeyed": {name: list(rows) for name, rows in snapshot.unkeyed.items()}}
            if snapshot.unkeyed
            else {}
        ),
    }


def snapshot_from_json(data: Mapping[str, Any]) -> Snapshot:
    """The inverse of ``snapshot_to_json``. Raises KeyError for data that it never made."""
    return Snapshot(
        id=data["id"],
        version=data["version"],
        fields=fields_from_json(data["fields"]),
        readonly=frozenset(data.get("readonly", ())),
        rows=frozenset(data.get("rows", ())),
        unkeyed=data.get("unkeyed", {}),
    )
