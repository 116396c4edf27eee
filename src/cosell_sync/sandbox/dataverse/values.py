"""What one column accepts, what it keeps of it, and how it reads back; and the refusals of the platform.

Values live as Python ones: text, `Decimal`, `bool`, `datetime` in UTC to the second, `date`, a number for a choice and a
`Ref` (table and id) for a lookup. An empty text becomes null, money is rounded to its currency, moments lose their
fraction. Pure functions over one column; rules that need other rows are in `rows`.

Error codes are the platform's; where a status is not documented the fake answers 400.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from cosell_sync.sandbox.dataverse.schema import CHOICES, NUMBERS, Column

Row = Mapping[str, Any]

BAD_QUERY = "0x80060888"
BAD_PAYLOAD = "0x80048d19"
NO_SEGMENT = "0x8006088a"
NO_ROW = "0x80040217"
NO_ROW_BY_KEY = "0x80060891"
NO_SUCH_KEY = "0x80060890"
DUPLICATE_KEY = "0x80060892"
DUPLICATE_ROW = "0x80040237"
DUPLICATES_FOUND = "0x80040333"
STALE = "0x80060882"
NO_CONCURRENCY = "0x8006088D"
NO_TRACKING = "0x80072491"
EXPIRED_TOKEN = "0x80044352"  # noqa: S105  (an error code)
TOO_LONG = "0x80044331"
BAD_CHARACTERS = "0x80040278"
OUT_OF_RANGE = "0x8004431A"
OUT_OF_BOUNDS = "0x80044330"
TOO_EARLY = "0x80040239"
BAD_STATUS = "0x80048408"
USE_THE_ACTION = "0x80100005"
ALREADY_CLOSED = "0x80040515"
CANNOT_CLOSE = "0x80040516"
READ_ONLY = "0x8004022E"
CURRENCY_FIXED = "0x80048479"
PLUGIN_REFUSED = "0x80040265"
NO_PRIVILEGE = "0x80040220"
NO_ACCESS = "0x80048306"  # no right on this row
NO_ROLES = "0x80042F09"
NOT_A_MEMBER = "0x80072560"
NO_MESSAGE = "0x80040800"
BAD_ARGUMENT = "0x80040203"

EARLIEST = date(1753, 1, 1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})")
_EDM = {
    "guid": "Edm.Guid", "string": "Edm.String", "memo": "Edm.String", "money": "Edm.Decimal", "decimal": "Edm.Decimal",
    "integer": "Edm.Int32", "bigint": "Edm.Int64", "boolean": "Edm.Boolean", "datetime": "Edm.DateTimeOffset",
    "date": "Edm.Date", "choice": "Edm.Int32", "state": "Edm.Int32", "status": "Edm.Int32", "lookup": "Edm.Guid",
}  # fmt: skip


class Ref(NamedTuple):
    """What a lookup holds."""

    table: str
    id: str


class Refused(Exception):
    """A refusal of the platform: its code, text and status."""

    def __init__(
        self, code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.headers = code, message, status, dict(headers or {})

    def as_error(self) -> dict[str, object]:
        """The error object of a response."""
        return {"error": {"code": self.code, "message": self.message}}


def edm(column: Column) -> str:
    """The OData type of a column."""
    return _EDM[column.kind]


def guid(value: object) -> str | None:
    """The id in lower case with its dashes; None when it is none."""
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return str(UUID(value))
    except ValueError:
        return None


def moment(value: object) -> datetime | None:
    """A point in time, which must say its zone, to the second; None when it is none."""
    if isinstance(value, str):
        if not _MOMENT.fullmatch(value):
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return value.astimezone(UTC).replace(microsecond=0)


def day(value: object) -> date | None:
    """A date; None when the text is none."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return None


def _unreadable(column: Column, value: object) -> Refused:
    return Refused(
        BAD_PAYLOAD,
        "Error identified in Payload provided by the user for Entity :'', For more information on this error please "
        f"follow this help link https://go.microsoft.com/fwlink/?linkid=2195293 ----> InnerException : "
        f"Microsoft.OData.ODataException: Cannot convert the literal '{value}' to the expected type '{edm(column)}' "
        f"of property '{column.name}'.",
    )


# What XML 1.0 has no place for: InvalidCharactersInField in the list of codes.
# https://learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def _units(text: str) -> int:
    """The columns are nvarchar, whose length counts UTF-16 code units: an emoji is two.

    https://learn.microsoft.com/sql/t-sql/data-types/nchar-and-nvarchar-transact-sql
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _text(column: Column, value: object, table: str) -> str | None:
    if not isinstance(value, str):
        raise _unreadable(column, value)
    if _NOT_XML.search(value):
        raise Refused(BAD_CHARACTERS, f"The field '{column.name}' contains one or more invalid characters.")
    if column.length and _units(value) > column.length:
        raise Refused(
            TOO_LONG,
            f"A validation error occurred. The length of the '{column.name}' attribute of the '{table}' entity exceeded "
            f"the maximum allowed length of '{column.length}'.",
        )
    return value or None


def _number(column: Column, value: object, table: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _unreadable(column, value)
    try:
        made = Decimal(str(value))
    except InvalidOperation:
        raise _unreadable(column, value) from None
    whole = column.kind in {"integer", "bigint"}
    if not made.is_finite() or (whole and made != made.to_integral_value()):
        raise _unreadable(column, value)
    if not Decimal(str(column.low)) <= made <= Decimal(str(column.high)):
        raise Refused(
            OUT_OF_BOUNDS,
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table}' is outside "
            f"the valid range {column.low:g} to {column.high:g}.",
        )
    return made.quantize(Decimal(1).scaleb(0 if whole else -max(column.precision, 4)), ROUND_HALF_UP)


def _choice(column: Column, value: object, table: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unreadable(column, value)
    if column.option(value) is None:
        accepted = ",".join(str(each.value) for each in column.options)
        raise Refused(
            OUT_OF_RANGE,
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table}' is outside "
            f"the valid range. Accepted Values: {accepted}",
        )
    return value


def convert(column: Column, value: object, table: str) -> Any:
    """What the column keeps of a value that was sent; lookups are bound elsewhere."""
    if value is None:
        return None
    if column.kind in CHOICES:
        return _choice(column, value, table)
    if column.kind in NUMBERS:
        return _number(column, value, table)
    if column.kind == "boolean":
        if not isinstance(value, bool):
            raise _unreadable(column, value)
        return value
    readers = {"guid": guid, "datetime": moment, "date": day}
    if column.kind in readers:
        made = readers[column.kind](value)
        if made is None:
            raise _unreadable(column, value)
        if isinstance(made, date) and (made.date() if isinstance(made, datetime) else made) < EARLIEST:
            raise Refused(TOO_EARLY, f"DateTime is less than minimum value supported. Actual value: {value}")
        return made
    return _text(column, value, table)


def render(column: Column, row: Row) -> Any:
    """The column as JSON shows it: numbers for choices, ids for lookups."""
    value = row.get(column.name)
    if isinstance(value, Ref):
        return value.id
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if column.kind in {"integer", "bigint"} else float(value)
    return value


def displayed(column: Column, row: Row) -> Any:
    """The column as the form shows it: choices by label, lookups by id."""
    if column.kind in CHOICES:
        option = column.option(row.get(column.name))
        return option.label if option else None
    return render(column, row)


def formatted(column: Column, row: Row, symbol: str = "") -> str | None:
    """The text that the platform adds to a value for display; None where it adds none."""
    value = row.get(column.name)
    if value is None or column.kind in {"string", "memo", "guid", "lookup"}:
        return None
    if column.kind == "boolean":
        return "Yes" if value else "No"
    if isinstance(value, datetime):
        return f"{value.month}/{value.day}/{value.year} {value:%I:%M %p}"
    if isinstance(value, date):
        return f"{value.month}/{value.day}/{value.year}"
    if column.kind == "money":
        return f"{symbol}{value:,.2f}"
    if isinstance(value, Decimal):
        return f"{value:,}"
    shown = displayed(column, row)
    return None if shown is None else str(shown)
