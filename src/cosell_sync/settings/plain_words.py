"""What pydantic finds wrong with a value, in the words that complete the sentence "KEY …"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from cosell_sync.settings.values import format_duration

# Of a pattern, what it stands for.
_PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Z]{3}$": "must be an ISO currency code of three capital letters, for example EUR",
    r"^\d{2,3}\.0$": "must be a version number, for example 66.0",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_DURATION: Final = re.compile(r"datetime\.timedelta\((?:(\w+)=)?(\d+)\)")
_PLAIN: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "missing": "is not given",
    "dict_type": "must be a map of keys",
}


def in_plain_words(error: Mapping[str, Any]) -> str:
    """One entry of ``ValidationError.errors()`` in plain words; never the value, which may be a secret."""
    kind, about = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {_bound(about[key], error['loc'])}"
    if kind == "literal_error":
        return f"must be {str(about['expected']).replace(chr(39), '')}"
    if kind == "string_pattern_mismatch" and about["pattern"] in _PATTERNS:
        return _PATTERNS[about["pattern"]]
    what = _PLAIN.get(kind) or str(error["msg"]).removeprefix("Value error, ")
    return what[:1].lower() + what[1:]


def _bound(limit: Any, where: Any) -> str:
    """A bound as a person writes it: a duration as 120s, a share in percent."""
    if duration := _DURATION.fullmatch(str(limit)):  # pydantic hands a duration's bound out as its repr
        return format_duration(timedelta(**{duration[1] or "days": int(duration[2])}))
    if str(where[-1]).endswith("_share"):
        return f"{limit * 100:g}%; write 30%"
    return str(limit)
