"""Single values of Dataverse's columns ⇄ ours, by the column's type and behavior, and what is no value; pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
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


def value(kind: Kind, data: object, column: Column, zone: tzinfo = UTC) -> Known:
    """A column's value; a date is a day in ``zone``. What cannot be read as its kind counts as cleared, never as a guess."""
    if column.type in CHOICES:
        choice = column.valued(data)
        return choice.label if choice else None
    return _day(data, column, zone) if kind is Kind.DATE and data is not None else values.value(kind, data)


def column_value(kind: Kind, item: object, column: Column | None, zone: tzinfo = UTC) -> object:
    """Our value as a column takes it, the inverse of ``value``. Raises LookupError for a label that a choice does not have."""
    if column is not None and column.type in CHOICES and item is not None:
        choice = column.labelled(item)
        if choice is None:
            raise LookupError(str(item))
        return choice.value
    if isinstance(item, date) and kind is Kind.DATE and column is not None:
        return _written_day(item, column, zone)
    return values.column(kind, item)


# A day in a column that travels as an instant. `UserLocal`: midnight where the person who entered it lives, so the instant may
# be of the day before. Ten o'clock UTC is the same day from UTC-10 to UTC+13; reading allows for the same zones. Where the
# zone of close dates lies outside of them (UTC-11, UTC+14), its people are meant, and an instant is of the day that it has
# there. `DateOnly` and `TimeZoneIndependent` know no zone.
# https://learn.microsoft.com/power-apps/developer/data-platform/behavior-format-date-time-attribute
_WRITTEN_HOUR: Final = time(10)
_READ_LATER: Final = timedelta(hours=13, minutes=59)
_COVERED: Final = (timedelta(hours=-10), _READ_LATER)


def _day(data: object, column: Column, zone: tzinfo) -> Known:
    if column.behavior != "UserLocal" or "T" not in str(data):
        return values.value(Kind.DATE, data)
    try:
        at = datetime.fromisoformat(str(data)).astimezone(UTC)
        return (at + _READ_LATER).date() if _covers(zone, at) else at.astimezone(zone).date()
    except (ValueError, OverflowError):
        return None


def _written_day(day: date, column: Column, zone: tzinfo) -> str:
    if column.behavior == "TimeZoneIndependent":
        return f"{day.isoformat()}T00:00:00Z"
    if column.behavior != "UserLocal":
        return day.isoformat()
    at = datetime.combine(day, _WRITTEN_HOUR, UTC)
    return values.moment(at if _covers(zone, at) else datetime.combine(day, time(12), zone))


def _covers(zone: tzinfo, at: datetime) -> bool:
    """Whether the zone is one of those whose midnights are told from any of the others'."""
    least, most = _COVERED
    return least <= (at.astimezone(zone).utcoffset() or timedelta()) <= most
