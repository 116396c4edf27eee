"""Parses and computes the formula of a validation rule, with a few functions; others are refused at deployment.

AND(ISPICKVAL(Action__c, "Decline"), ISBLANK(TEXT(Reason__c)))
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r'\s*(?:(?P<text>"[^"]*")|(?P<name>\w+)|(?P<sign>[(),]))')
Record = Mapping[str, Any]
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "AND": lambda *parts: all(parts),
    "OR": lambda *parts: any(parts),
    "NOT": lambda part: not part,
    "ISPICKVAL": lambda value, wanted: (value or "") == wanted,
    "ISBLANK": lambda value: value in (None, ""),
    "TEXT": lambda value: value or "",
}


@dataclass(frozen=True)
class Formula:
    """`names`: the fields it reads."""

    names: frozenset[str]
    value: Callable[[Record], Any]


def parse(text: str) -> Formula:
    """Raises ValueError for what cannot be worked out here."""
    tokens = list(_tokens(text))
    names: set[str] = set()
    made = _expression(tokens, names)
    if tokens:
        raise ValueError(f"Syntax error. Extra {tokens[0]}")
    return Formula(frozenset(names), made)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"Syntax error at: {text[at:][:20]}")
        yield found[0].strip()
        at = found.end()


def _expression(tokens: list[str], names: set[str]) -> Callable[[Record], Any]:
    if not tokens:
        raise ValueError("Syntax error. Formula ends too early")
    token = tokens.pop(0)
    if token.startswith('"'):
        return lambda _: token[1:-1]
    if not tokens or tokens[0] != "(":
        names.add(token)
        return lambda row: row.get(token)
    function = FUNCTIONS.get(token.upper())
    if function is None:
        raise ValueError(f"Unknown function {token}. Check spelling.")
    tokens.pop(0)
    parts: list[Callable[[Record], Any]] = []
    while True:
        parts.append(_expression(tokens, names))
        sign = tokens.pop(0) if tokens else ""
        if sign == ")":
            return lambda row: function(*(part(row) for part in parts))
        if sign != ",":
            raise ValueError("Syntax error. Missing ')'")
