"""Compares fields with literals as the platform does: by type, text without case, ids in either form."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from cosell_sync.sandbox.salesforce.binding import Binder, Path, Row
from cosell_sync.sandbox.salesforce.schema import NUMBER_TYPES, Field
from cosell_sync.sandbox.salesforce.soql import (
    DateRange,
    SoqlError,
    Text,
    malformed,
)

Test = Callable[[Row], bool]


def member(binder: Binder, path: Path, values: tuple[object, ...], *, negated: bool) -> Test:
    """`IN` and `NOT IN` with a list of literals."""
    wanted = {operand(binder, path.field, value, "=") for value in values}
    get = binder.getter(path)
    fold = _folds(path.field)
    if any(isinstance(value, DateRange) for value in wanted):
        raise malformed("a date literal cannot stand in a list here")

    def inside(row: Row) -> bool:
        value = get(row)
        return ((value.casefold() if fold and isinstance(value, str) else value) in wanted) != negated

    return inside


def operand(binder: Binder, each: Field, value: object, operator: str) -> Any:
    """The literal as this field compares it, or the platform's refusal."""
    if value is None:
        if operator not in {"=", "!="}:
            raise malformed("null can only be compared with = and !=")
        return None
    if each.type in {"id", "reference"} and isinstance(value, Text):
        if value.value == "":
            return None
        made = binder.source.normal_id(value.value)
        if made is None:
            raise SoqlError("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.value}")
        return made
    kind = _kind(each)
    fits = {
        "text": isinstance(value, Text),
        "number": isinstance(value, Decimal),
        "boolean": isinstance(value, bool),
        "date": (isinstance(value, date) and not isinstance(value, datetime)) or isinstance(value, DateRange),
        "datetime": isinstance(value, datetime | DateRange),
    }[kind]  # fmt: skip
    if not fits:
        quotes = "should be enclosed in quotes" if kind == "text" else "should not be enclosed in quotes"
        raise SoqlError(
            "INVALID_FIELD",
            f"value of filter criterion for field '{each.name}' must be of type {each.type} and {quotes}",
        )
    if isinstance(value, Text):
        if value.value == "":
            return None
        return value.value.casefold() if _folds(each) else value.value
    return value


def compare(binder: Binder, path: Path, operator: str, value: object) -> Test:
    """A comparison of one field with one literal."""
    each = path.field
    get = binder.getter(path)
    if operator == "like":
        if _kind(each) != "text" or not isinstance(value, Text) or each.type in {"id", "reference"}:
            raise SoqlError(
                "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {each.type} field: {each.name}"
            )
        pattern = re.compile(value.like, re.IGNORECASE | re.DOTALL)
        return lambda row: (found := get(row)) is not None and pattern.fullmatch(found) is not None
    if operator not in {"=", "!="} and each.type == "boolean":
        raise SoqlError("INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on boolean field: {each.name}")
    wanted = operand(binder, each, value, operator)
    if isinstance(wanted, DateRange):
        return _compare_range(get, operator, wanted, each)
    fold = _folds(each)
    judge = _JUDGES[operator]

    def test(row: Row) -> bool:
        found = get(row)
        if found is None or wanted is None:
            return judge(found is None, wanted is None) if operator in {"=", "!="} else False
        return judge(found.casefold() if fold else found, wanted)

    return test


def _compare_range(get: Callable[[Row], Any], operator: str, span: DateRange, each: Field) -> Test:
    def edge(day: date) -> Any:
        return datetime(day.year, day.month, day.day, tzinfo=UTC) if each.type == "datetime" else day

    start, end = edge(span.start), edge(span.end)
    judge: dict[str, Callable[[Any], bool]] = {
        "=": lambda found: start <= found < end,
        "!=": lambda found: not start <= found < end,
        "<": lambda found: found < start,
        "<=": lambda found: found < end,
        ">": lambda found: found >= end,
        ">=": lambda found: found >= start,
    }
    test = judge[operator]
    return lambda row: test(found) if (found := get(row)) is not None else operator == "!="


_JUDGES: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, wanted: found == wanted,
    "!=": lambda found, wanted: found != wanted,
    "<": lambda found, wanted: found < wanted,
    "<=": lambda found, wanted: found <= wanted,
    ">": lambda found, wanted: found > wanted,
    ">=": lambda found, wanted: found >= wanted,
}


def _kind(each: Field) -> str:
    if each.type in NUMBER_TYPES:
        return "number"
    return each.type if each.type in {"boolean", "date", "datetime"} else "text"


def _folds(each: Field) -> bool:
    return _kind(each) == "text" and each.type not in {"id", "reference"}
