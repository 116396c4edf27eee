"""What one field accepts, what it keeps of it, and how it reads back.

The platform changes what was sent: text is trimmed, an empty string becomes null, numbers are rounded to their scale, times
to the second, ids grow to eighteen characters. The fake does the same, because clients compare what they sent with what they
read. Pure functions over one field; rules that need other rows are in `rows`.
"""

import re
import string
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from cosell_sync.sandbox.salesforce.schema import NUMBER_TYPES, Field

Row = Mapping[str, Any]

ID_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SUFFIX = string.ascii_uppercase + "012345"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:?\d{2})")
_EMAIL = re.compile(r"[^@\s<>(),;:\"\\]+@[^@\s.]+(\.[^@\s.]+)+")
STATUS = {
    "NOT_FOUND": 404,
    "ENTITY_IS_DELETED": 404,
    "METHOD_NOT_ALLOWED": 405,
    "REQUEST_LIMIT_EXCEEDED": 403,
    "INVALID_SESSION_ID": 401,
    "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE": 412,
}


class Refused(Exception):
    """A refusal of the platform: its error code, and the fields it names."""

    def __init__(self, code: str, message: str, fields: tuple[str, ...] = (), **extra: object) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.fields = fields
        self.extra = extra

    @property
    def status(self) -> int:
        """The HTTP status of the refusal."""
        return STATUS.get(self.code, 400)

    def as_error(self) -> dict[str, object]:
        """One entry of the error list of a REST reply."""
        made: dict[str, object] = {"message": self.message, "errorCode": self.code}
        if self.fields or self.code in {"REQUIRED_FIELD_MISSING", "FIELD_CUSTOM_VALIDATION_EXCEPTION"}:
            made["fields"] = list(self.fields)
        return {**made, **self.extra}

    def as_row_error(self) -> dict[str, object]:
        """The same inside a collection's result, where the code is called `statusCode`."""
        return {"statusCode": self.code, "message": self.message, "fields": list(self.fields), **self.extra}


def make_id(prefix: str, number: int) -> str:
    """An eighteen character id whose order is the order of creation."""
    digits = ""
    for _ in range(9):
        number, rest = divmod(number, len(ID_DIGITS))
        digits = ID_DIGITS[rest] + digits
    return with_suffix(f"{prefix}5g0{digits}")


def with_suffix(short: str) -> str:
    """Three letters that say which of the fifteen are upper case, so that the id survives without regard to case."""
    tail = ""
    for at in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[at : at + 5]) if letter.isupper())
        tail += _SUFFIX[bits]
    return short + tail


def normal_id(text: object) -> str | None:
    """The eighteen character form of an id in either form; None when it is no id."""
    if not isinstance(text, str) or not text.isascii() or not text.isalnum() or len(text) not in {15, 18}:
        return None
    long = with_suffix(text[:15])
    return long if len(text) == 15 or long == text else None


def _unreadable(each: Field, value: object) -> Refused:
    kind = {str: "STRING", bool: "TRUE", int: "NUMBER_INT", float: "NUMBER_FLOAT", dict: "START_OBJECT"}
    shown = kind.get(type(value), "START_ARRAY")
    return Refused(
        "JSON_PARSER_ERROR",
        f"Cannot deserialize instance of {each.type} from VALUE_{shown} value {value} or request may be missing "
        "a required field",
    )


def _units(text: str) -> int:
    """UTF-16 code units, as Apex and formulas count (String.length): an emoji is two.

    https://developer.salesforce.com/docs/atlas.en-us.apexref.meta/apexref/apex_methods_system_string.htm
    """
    return len(text.encode("utf-16-le")) // 2


def _text(each: Field, value: object) -> str | None:
    if not isinstance(value, str):
        raise _unreadable(each, value)
    kept = value.strip()
    if not kept:
        return None
    if each.type == "picklist":
        if each.restricted and kept not in each.values:
            raise Refused(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{each.label}: bad value for restricted picklist field: {kept}",
                (each.name,),
            )
        return kept
    if each.type == "email" and not _EMAIL.fullmatch(kept):
        raise Refused("INVALID_EMAIL_ADDRESS", f"{each.label}: invalid email address: {kept}", (each.name,))
    if each.length and _units(kept) > each.length:
        raise Refused(
            "STRING_TOO_LONG",
            f"{each.label}: data value too large: {kept[:80]} (max length={each.length})",
            (each.name,),
        )
    return kept


def _number(each: Field, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise _unreadable(each, value)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _unreadable(each, value) from None
    if not number.is_finite():
        raise _unreadable(each, value)
    if each.type == "int" and number != number.to_integral_value():
        raise _unreadable(each, value)
    if abs(number) >= Decimal(10) ** (each.precision - each.scale):
        raise Refused(
            "NUMBER_OUTSIDE_VALID_RANGE",
            f"{each.label}: value outside of valid range on numeric field: {value}",
            (each.name,),
        )
    return number.quantize(Decimal(1).scaleb(-each.scale), ROUND_HALF_UP)


def _boolean(each: Field, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise _unreadable(each, value)


def _date(each: Field, value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise _unreadable(each, value)


def _moment(each: Field, value: object) -> datetime:
    made = value if isinstance(value, datetime) else None
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            made = datetime.fromisoformat(value)
        except ValueError:
            made = None
    if made is None or made.tzinfo is None:
        raise _unreadable(each, value)
    return made.astimezone(UTC).replace(microsecond=0)


def _reference(each: Field, value: object) -> str | None:
    if value == "":
        return None
    made = normal_id(value)
    if made is None:
        raise Refused("MALFORMED_ID", f"{each.label}: id value of incorrect type: {value}", (each.name,))
    return made


def convert(each: Field, value: object) -> Any:
    """What the field keeps of a value that was sent."""
    if value is None:
        if each.type == "boolean":
            raise Refused(
                "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{each.label}: value not of required type: ", (each.name,)
            )
        return None
    if each.type in NUMBER_TYPES:
        return None if value == "" else _number(each, value)
    readers = {
        "boolean": _boolean,
        "date": _date,
        "datetime": _moment,
        "reference": _reference,
        "id": _reference,
    }
    return readers.get(each.type, _text)(each, value)


def render_moment(moment: datetime) -> str:
    """A time as the REST API prints it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def render(each: Field, row: Row) -> Any:
    """The field as JSON shows it."""
    value = row.get(each.name)
    if each.type == "address":
        return _address(each.name.removesuffix("Address"), row)
    if each.type == "boolean":
        return bool(value)
    if isinstance(value, datetime):
        return render_moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if each.type == "int" else float(value)
    return value


def _address(kind: str, row: Row) -> dict[str, object] | None:
    parts = ("City", "Country", "CountryCode", "PostalCode", "State", "StateCode", "Street")
    made: dict[str, object] = {
        part[0].lower() + part[1:]: row.get(kind + part) for part in parts if kind + part in row
    }
    if not any(made.values()):
        return None
    return {**made, "geocodeAccuracy": None, "latitude": None, "longitude": None}
