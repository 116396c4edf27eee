"""The OData query options that Dataverse knows: splitting, ordering, comparing, and the names that a filter may use.

It knows no row and no table: the caller brings a `Scope`, which says what a name means. Text compares without case, as in the
database; `ne` finds nulls too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol
from urllib.parse import unquote, unquote_plus

from cosell_sync.sandbox.dataverse.values import BAD_QUERY, Refused, Row

Test = Callable[[Any], bool]
Sort = Literal["guid", "string", "number", "boolean", "datetime", "date", "any"]
SYSTEM = (
    "$select",
    "$filter",
    "$orderby",
    "$top",
    "$expand",
    "$count",
    "$skiptoken",
    "$deltatoken",
    "$apply",
)


@dataclass(frozen=True)
class Operand:
    """What a name means: its type and how a row yields it."""

    sort: Sort
    value: Callable[[Any], Any]


class Scope(Protocol):
    """Where names are looked up; an unknown one is refused there."""

    def operand(self, path: str) -> Operand: ...
    def property(self, name: str) -> Operand: ...


@dataclass(frozen=True)
class Order:
    """One part of $orderby."""

    operand: Operand
    descending: bool


def bad_request(message: str) -> Refused:
    """The refusal of a malformed request."""
    return Refused(BAD_QUERY, message)


def unknown_property(name: str, type_name: str) -> Refused:
    """The refusal of a name that a table does not have."""
    return bad_request(
        f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{type_name}'."
    )


def comparable(value: Any) -> Any:
    """What a value is compared by: text without case, anything with an id by its id."""
    if isinstance(value, tuple):
        value = value[-1]
    return value.casefold() if isinstance(value, str) else value


def options(raw: str, *, strict_spaces: bool = False) -> dict[str, str]:
    """A query string as its options, in order; the plus sign is a space unless strict."""
    made: dict[str, str] = {}
    for part in raw.split("&"):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if strict_spaces and "+" in value:
            raise bad_request("Syntax error: character '+' is not valid for a blank.")
        name = unquote(name)
        if not equals:
            raise bad_request(f"The query option '{name}' has no value.")
        if name.startswith("$"):
            if name == "$skip":
                raise bad_request("Skip Clause is not supported in CRM")
            if name not in SYSTEM or name == "$apply":
                raise bad_request(f"The query parameter {name} is not supported.")
            if name in made:
                raise bad_request(
                    f"Query option '{name}' was specified more than once, but it must be specified at most once."
                )
        made[name] = (unquote if strict_spaces else unquote_plus)(value)
    return made


def split(text: str, mark: str) -> list[str]:
    """Cuts at a mark that stands outside parentheses and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if letter == mark and depth == 0:
                parts.append(text[start:at])
                start = at + 1
    return [*parts, text[start:]]


def whole(text: str, name: str) -> int:
    """A query option as a non-negative whole number."""
    if not text.strip().isdigit():
        raise bad_request(
            f"Invalid value '{text}' for {name} query option found. It must be a non-negative integer."
        )
    return int(text)


def truth(text: str, name: str) -> bool:
    """A query option as true or false."""
    if text not in {"true", "false"}:
        raise bad_request(
            f"Invalid value '{text}' for {name} query option found. Valid values are 'true' or 'false'."
        )
    return text == "true"


def orders(text: str, scope: Scope) -> tuple[Order, ...]:
    """`$orderby` as its parts."""
    made: list[Order] = []
    for part in split(text, ","):
        name, *way = part.split()
        if way not in ([], ["asc"], ["desc"]):
            raise bad_request(f"Syntax error in '{part}' of $orderby.")
        made.append(Order(scope.operand(name), way == ["desc"]))
    return tuple(made)


def sort_key(row: Row, by: tuple[Order, ...], last: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The values a row is sorted by; `last` makes the order total."""
    return (*(comparable(each.operand.value(row)) for each in by), comparable(last(row)))


def compare(one: tuple[Any, ...], two: tuple[Any, ...], by: tuple[Order, ...]) -> int:
    """Order of two sort keys; nulls come first, and last where descending."""
    for place, (left, right) in enumerate(zip(one, two, strict=True)):
        if left == right:
            continue
        less = left is None or (right is not None and left < right)
        descending = place < len(by) and by[place].descending
        return 1 if less == descending else -1
    return 0


def sort_of(value: Any) -> Sort:
    """The type of a value whose column is not known, as in metadata."""
    kinds: tuple[tuple[type, Sort], ...] = (
        (bool, "boolean"), (int, "number"), (Decimal, "number"), (datetime, "datetime"), (date, "date"), (str, "string"),
    )  # fmt: skip
    return next((sort for kind, sort in kinds if isinstance(value, kind)), "any")
