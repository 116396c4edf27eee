"""Single values of Dataverse's columns ⇄ ours, by the column's type and behavior, and what is no value; pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from cosell_sync.core.deal import Known
from cosell_sync.core.fields import Kind
from cosell_sync.crm import values
from cosell_sync.crm.dynamics.org import Column, Org
from cosell_sync.crm.values import masked

CHOICES: Final = frozenset({"Picklist", "Status", "State"})


def unreadable(org: Org, collection: str, column: str, data: object) -> bool:
    """Whether what a column shows is no value: null where column security may hide one, or a mask."""
    if data is None:
        return org.security.closed(collection, column)
    return masked(data, partly=True) if org.security.secured(collection, column) else False


def value(kind: Kind, data: object, column: Column) -> Known:
    """A column's value. What cannot be read as its kind counts as cleared, never as a guess."""
    if column.type in CHOICES:
        choice = column.valued(data)
        return choice.label if choice else None
    return _day(data, column) if kind is Kind.DATE and data is not None else values.value(kind, data)


def column_value(kind: Kind, item: object, column: Column | None) -> object:
    """Our value as a column takes it. Raises LookupError for a label that a choice does not have."""
    if column is not None and column.type in CHOICES and item is not None:
        choice = column.labelled(item)
        if choice is None:
            raise LookupError(str(item))
        return choice.value
    if isinstance(item, date) and kind is Kind.DATE and column is not None:
        return _written_day(item, column)
    return values.column(kind, item)


# A day in a column that travels as an instant. `UserLocal`: midnight where the person who entered it lives, so the instant may
# be of the day before. Ten o'clock UTC is the same day from UTC-10 to UTC+13; reading allows for the same zones.
# https://learn.microsoft.com/power-apps/developer/data-platform/behavior-format-date-time-attribute
_WRITTEN_HOUR: Final = 10
_READ_LATER: Final = timedelta(hours=13, minutes=59)


def _day(data: object, column: Column) -> Known:
    if column.behavior != "UserLocal" or "T" not in str(data):
        return values.value(Kind.DATE, data)
    try:
        return (datetime.fromisoformat(str(data)).astimezone(UTC) + _READ_LATER).date()
    except ValueError:
        return None


def _written_day(day: date, column: Column) -> str:
    if column.behavior not in {"UserLocal", "TimeZoneIndependent"}:
        return day.isoformat()
    return f"{day.isoformat()}T{_WRITTEN_HOUR if column.behavior == 'UserLocal' else 0:02}:00:00Z"
