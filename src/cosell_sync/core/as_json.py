"""Domain values as plain JSON data and back, by the kind of their field; for the store and for ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.texts import Day, Part, Text

_PERSON = ("email", "first_name", "last_name", "phone")
_SOLUTION = ("id", "name", "type")
_CUSTOMER = ("name", "address_line1", "address_line2", "city", "state", "postal_code", "country")
_CUSTOMER_MAY_HAVE = ("duns",)  # left out where there is none, as earlier versions did


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
            return [
                _record(item, _PERSON if isinstance(item, Member) else _SOLUTION, extras) for item in value
            ]
        case Customer():
            has = (name for name in _CUSTOMER_MAY_HAVE if getattr(value, name) is not None)
            return _record(value, (*_CUSTOMER, *has), extras)
        case _:
            return None


def _record(item: Member | Solution | Customer, names: tuple[str, ...], extras: bool) -> dict[str, Any]:
    record = {name: getattr(item, name) for name in names}
    return {**record, "extra": dict(item.extra)} if extras and item.extra else record


def value_from_json(kind: Kind, data: Any) -> Value:
    """The inverse of ``to_json`` for a field of that kind.

    Raises ValueError, TypeError or KeyError for data that ``to_json`` never made.
    """
    if data is None:
        return None
    match kind:
        case Kind.NUMBER:
            return Decimal(data)
        case Kind.DATE:
            return date.fromisoformat(data)
        case Kind.MOMENT:
            return datetime.fromisoformat(data)
        case Kind.MEMBERS:
            return tuple(Member(**item) for item in data)
        case Kind.SOLUTIONS:
            return tuple(Solution(**item) for item in data)
        case Kind.CUSTOMER:
            return Customer(**data)
        case Kind.FLAG:
            return bool(data)
        case _:
            return str(data)


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
    return {name: to_json(item) for name, item in fields.items() if item is not ABSENT}


def fields_from_json(data: Mapping[str, Any]) -> dict[str, Value]:
    """Fields from JSON data; names that this version does not know are dropped (they are read again anyway)."""
    return {name: value_from_json(KINDS[name], item) for name, item in data.items() if name in KINDS}


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
