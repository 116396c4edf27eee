"""`$filter`: a condition text parsed into a test of a row.

Types are checked as the platform checks them, so that a quoted guid, a text for a number or a date without a zone is
refused instead of finding nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cosell_sync.sandbox.dataverse.odata import Operand, Scope, Test, bad_request, comparable
from cosell_sync.sandbox.dataverse.values import Refused, day, guid, moment

_EDM = {
    "guid": "Edm.Guid", "string": "Edm.String", "number": "Edm.Decimal", "boolean": "Edm.Boolean",
    "datetime": "Edm.DateTimeOffset", "date": "Edm.Date",
}  # fmt: skip

_NAMED = {
    "eq": "Equal", "ne": "NotEqual", "lt": "LessThan", "le": "LessThanOrEqual", "gt": "GreaterThan",
    "ge": "GreaterThanOrEqual",
}  # fmt: skip

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*')
    | (?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![\w-]))
    | (?P<datetime>\d{4}-\d{2}-\d{2}T[0-9:.]+(?:Z|[+-]\d{2}:\d{2}))
    | (?P<date>\d{4}-\d{2}-\d{2}(?![\w-]))
    | (?P<number>-?\d+(?:\.\d+)?(?![\w.-]))
    | (?P<enum>[A-Za-z][\w.]*'[^']*')
    | (?P<alias>@\w+)
    | (?P<name>[A-Za-z_$][\w.]*(?:/[A-Za-z_$][\w.]*)*)
    | (?P<mark>[(),=\[\]:"])
    )""",
    re.VERBOSE,
)


def condition(text: str, scope: Scope, aliases: Mapping[str, str] | None = None) -> Test:
    """`$filter` as a test of a row."""
    return _Parser(text, scope, aliases or {}).whole()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


class _Parser:
    """Recursive descent: or, and, not, then one comparison or function."""

    def __init__(self, text: str, scope: Scope, aliases: Mapping[str, str]) -> None:
        self.text, self.scope = text, scope
        self.tokens: list[_Token] = []
        for token in self._cut(text):
            if token.kind == "alias":
                if token.text not in aliases:
                    raise bad_request(f"The parameter alias '{token.text}' has no value.")
                self.tokens += self._cut(aliases[token.text])
            else:
                self.tokens.append(token)
        self.at = 0

    def _cut(self, text: str) -> list[_Token]:
        made, at, text = [], 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise bad_request(f"Syntax error at position {at} in '{text}'.")
            made.append(_Token(found.lastgroup, found[found.lastgroup]))
            at = found.end()
        return made

    def _peek(self) -> _Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _Token("end", "")

    def _take(self) -> _Token:
        token = self._peek()
        self.at += 1
        return token

    def _is(self, text: str) -> bool:
        token = self._peek()
        if token.kind in {"name", "mark"} and token.text == text:
            self.at += 1
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._is(text):
            raise self._wrong()

    def _wrong(self) -> Refused:
        return bad_request(
            f"Syntax error: '{self._peek().text}' is not expected at this place in '{self.text}'."
        )

    def whole(self) -> Test:
        made = self._or()
        if self._peek().kind != "end":
            raise self._wrong()
        return made

    def _or(self) -> Test:
        tests = [self._and()]
        while self._is("or"):
            tests.append(self._and())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._is("and"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _not(self) -> Test:
        if self._is("not"):
            test = self._not()
            return lambda row: not test(row)
        if self._is("("):
            inner = self._or()
            self._need(")")
            return inner
        token = self._peek()
        if token.kind != "name":
            raise self._wrong()
        following = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else _Token("end", "")
        if following.text == "(":
            return self._function(self._take().text)
        return self._comparison()

    def _comparison(self) -> Test:
        operand = self.scope.operand(self._take().text)
        operator = self._take()
        if operator.kind != "name" or operator.text not in _NAMED:
            self.at -= 1
            raise self._wrong()
        return _test(operand, operator.text, *self._literal())

    def _literal(self) -> tuple[str, Any]:  # noqa: C901  (one case per kind of token)
        token = self._take()
        match token.kind:
            case "string":
                return "string", token.text[1:-1].replace("''", "'")
            case "guid":
                return "guid", guid(token.text)
            case "datetime":
                made = moment(token.text)
                if made is None:
                    raise bad_request(f"Unrecognized 'Edm.DateTimeOffset' literal '{token.text}'.")
                return "datetime", made
            case "date":
                there = day(token.text)
                if there is None:
                    raise bad_request(f"Unrecognized 'Edm.Date' literal '{token.text}'.")
                return "date", there
            case "number":
                return "number", Decimal(token.text)
            case "enum":
                return "any", token.text[:-1].partition("'")[2]
            case "name" if token.text in {"true", "false"}:
                return "boolean", token.text == "true"
            case "name" if token.text == "null":
                return "null", None
        self.at -= 1
        raise self._wrong()

    def _function(self, name: str) -> Test:
        self._need("(")
        if name == "Microsoft.Dynamics.CRM.In":
            return self._among()
        if name not in {"contains", "startswith", "endswith"}:
            raise bad_request(
                f"An unknown function with name '{name}' was found. This may also be a function import."
            )
        operand = self.scope.operand(self._take().text)
        self._need(",")
        kind, wanted = self._literal()
        self._need(")")
        if kind != "string" or operand.sort not in {"string", "any"}:
            raise bad_request(
                f"No function signature for the function with name '{name}' matches the specified arguments."
            )
        piece = wanted.casefold()
        test = {"contains": str.__contains__, "startswith": str.startswith, "endswith": str.endswith}[name]

        def holds(row: Any) -> bool:
            value = operand.value(row)
            return isinstance(value, str) and bool(test(value.casefold(), piece))

        if self._is("eq"):
            kind, wanted = self._literal()
            if kind != "boolean":
                raise self._wrong()
            return holds if wanted else lambda row: not holds(row)
        return holds

    def _among(self) -> Test:
        """`In(PropertyName='x',PropertyValues=['a','b'])`, the platform's own."""
        given: dict[str, list[str]] = {}
        while not self._is(")"):
            name = self._take().text
            self._need("=")
            made: list[str] = []
            many = self._is("[")
            while True:
                token = self._take()
                if token.kind == "string":
                    made.append(token.text[1:-1].replace("''", "'"))
                elif token.kind in {"guid", "number"} and not many:
                    made.append(token.text)
                elif token.text == '"':
                    made.append(self._double_quoted())
                else:
                    self.at -= 1
                    raise self._wrong()
                if not many or self._is("]"):
                    break
                self._need(",")
            given[name] = made
            self._is(",")
        if given.keys() != {"PropertyName", "PropertyValues"} or len(given["PropertyName"]) != 1:
            raise bad_request("The function In needs PropertyName and PropertyValues.")
        operand = self.scope.property(given["PropertyName"][0])
        wanted = {each.casefold() for each in given["PropertyValues"]}
        return lambda row: _written(operand.value(row)) in wanted

    def _double_quoted(self) -> str:
        made = ""
        while not self._is('"'):
            token = self._take()
            if token.kind == "end":
                raise self._wrong()
            made += token.text
        return made


def _written(value: Any) -> str | None:
    value = comparable(value)
    return value if value is None or isinstance(value, str) else str(value).casefold()


def _test(operand: Operand, operator: str, kind: str, wanted: Any) -> Test:
    if kind not in {"null", operand.sort} and "any" not in {kind, operand.sort}:
        raise bad_request(
            "A binary operator with incompatible types was detected. Found operand types "
            f"'{_EDM[operand.sort]}' and '{_EDM[kind]}' for operator kind '{_NAMED[operator]}'."
        )
    if kind == "null" and operator not in {"eq", "ne"}:
        raise bad_request(f"null cannot be compared by '{operator}'.")
    wanted = comparable(wanted)
    if operator == "eq":
        return lambda row: comparable(operand.value(row)) == wanted
    if operator == "ne":
        return lambda row: comparable(operand.value(row)) != wanted
    tests: dict[str, Callable[[Any], bool]] = {
        "lt": lambda held: held < wanted,
        "le": lambda held: held <= wanted,
        "gt": lambda held: held > wanted,
        "ge": lambda held: held >= wanted,
    }
    test = tests[operator]

    def holds(row: Any) -> bool:
        held = comparable(operand.value(row))
        return held is not None and test(held)

    return holds
