"""Single values of a CRM's columns ⇄ our values; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, TypeVar

from cosell_sync.core import text_limits
from cosell_sync.core.deal import Known
from cosell_sync.core.fields import Kind

T = TypeVar("T")


def value(kind: Kind, data: object) -> Known:
    """A column's value as ours. What cannot be read as its kind counts as cleared (``None``); it is never guessed."""
    if kind is Kind.FLAG:
        return data is True
    if data is None or (isinstance(data, str) and text_limits.blank(data)):
        return None
    try:
        return _READ.get(kind, str)(data)
    except (ValueError, InvalidOperation):
        return None


def _number(data: object) -> Decimal | None:
    number = Decimal(str(data))
    return number if number.is_finite() else None


_READ: Final[Mapping[Kind, Callable[[object], Known]]] = {
    Kind.NUMBER: _number,
    Kind.DATE: lambda data: date.fromisoformat(str(data)[:10]),
    Kind.MOMENT: lambda data: datetime.fromisoformat(str(data)).astimezone(UTC),
    Kind.NOTES: lambda data: str(data).replace("\r\n", "\n").replace("\r", "\n"),
}


def column(kind: Kind, item: object) -> object:
    """Our value as a column takes it."""
    if kind is Kind.FLAG:
        return item is True
    match item:
        case str() if kind is Kind.NOTES:
            return text_limits.lines(item) or None
        case datetime():
            return moment(item)
        case date():
            return item.isoformat()
        case str():
            return text_limits.line(item) or None
        case _:
            return item


def moment(at: datetime) -> str:
    """UTC in whole seconds, with ``Z``, because the plus sign of ``+00:00`` would be read as a blank inside an address."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def email(data: object) -> str | None:
    """An e-mail address for comparison; None for blank."""
    return data.strip().lower() or None if isinstance(data, str) else None


def text(data: object) -> str | None:
    """One line of it; None where there is nothing to see."""
    return text_limits.line(data) or None if isinstance(data, str) else None


def short(data: object, most: int | None) -> str | None:
    """One line, cut to what a column holds; None where there is nothing to see."""
    return text_limits.fit(data, most) or None if isinstance(data, str) else None


# What data masking and encryption show in place of a value. A whole mask is known by itself, a partial one (`***-1234`) only
# in a column that is known to be masked.
# https://learn.microsoft.com/power-platform/admin/create-manage-masking-rules
_WHOLE_MASK: Final = re.compile(r"\s*[*#•●]{3,}\s*")
_MASK: Final = re.compile(r"[*#•●]{2,}|X{3,}", re.IGNORECASE)


def masked(data: object, *, partly: bool = False) -> bool:
    """Whether a text is a mask rather than a value. ``partly``: the column is known to show masks, also of a part only."""
    if not isinstance(data, str):
        return False
    return (_MASK.search(data) if partly else _WHOLE_MASK.fullmatch(data)) is not None


def folded(data: object) -> str:
    """A text for comparison without case and runs of blanks; empty for anything that is no text."""
    return " ".join(data.split()).casefold() if isinstance(data, str) else ""


def pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in parts of at most that size; none for no items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def packed(items: Sequence[T], size: int, weigh: Callable[[T], int], most: int) -> Iterator[Sequence[T]]:
    """The items in parts of at most that size and that weight; an item that is too heavy goes alone."""
    some: list[T] = []
    weight = 0
    for item in items:
        own = weigh(item)
        if some and (len(some) == size or weight + own > most):
            yield some
            some, weight = [], 0
        some.append(item)
        weight += own
    if some:
        yield some
