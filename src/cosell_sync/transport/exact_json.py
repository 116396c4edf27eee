"""JSON without binary floats: money never passes through one, neither read nor written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii
from typing import Any, Final

ZEROS: Final = 100


def parse(body: bytes) -> Any:
    """JSON without binary floats. What no number can hold becomes a NaN, so that one row's nonsense is judged where
    that row is read. Raises ValueError for what is no JSON.
    """
    try:
        return json.loads(body, parse_float=_decimal, parse_int=_integer, parse_constant=_nan)
    except RecursionError as cause:
        raise ValueError("nested too deeply") from cause


def _decimal(text: str) -> Decimal:
    """The number; NaN for one whose exponent is beyond what it is written with and ``ZEROS``: it would fill the memory."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")
    _, digits, exponent = number.as_tuple()
    fits = isinstance(exponent, int) and abs(exponent) <= max(ZEROS, len(digits))
    return number if fits else Decimal("NaN")


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= 18 else _decimal(text)


def _nan(_: str) -> Decimal:
    return Decimal("NaN")


class Encoded(str):
    """What ``encoded`` made: a part of a larger body that is weighed, or looked through, before it is sent."""

    __slots__ = ()


def encoded(data: Any) -> Encoded:
    """As ``encode``, to be put into a larger body, where it is written as it stands. Pure ASCII."""
    return Encoded(_encode(data))


def encode(data: Any) -> bytes:
    """JSON with decimal numbers written exactly as they are: 84000.00 stays 84000.00."""
    return _encode(data).encode()


def _encode(data: Any) -> str:
    if data is None:
        return "null"
    if type(data) is str:  # most values; in C, without the way there through the library
        return encode_basestring_ascii(data)
    match data:
        case Encoded():
            return data
        case dict():
            parts = [f"{encode_basestring_ascii(str(name))}:{_encode(item)}" for name, item in data.items()]
            return "{" + ",".join(parts) + "}"
        case Decimal():
            if not data.is_finite():
                raise ValueError("JSON has no such number")
            return format(data, "f")
        case Mapping():
            return _encode(dict(data))
        case list() | tuple():
            return "[" + ",".join(map(_encode, data)) + "]"
        case _:
            return json.dumps(data, allow_nan=False)
