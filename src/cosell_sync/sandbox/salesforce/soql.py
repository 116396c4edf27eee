"""The SOQL language: parses a query text into a tree of frozen values.

A fake that accepts more than the platform hides bugs, so the grammar is the platform's with its oddities: AND mixed with OR
needs parentheses, NOT stands alone or in parentheses, strings take single quotes, date-times take none, `IN ()` is an error,
a sub-select in WHERE cannot stand beside OR.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NoReturn

MAX_OFFSET = 2000
MAX_LENGTH = 100_000
MAX_STRING = 4000


class SoqlError(Exception):
    """A query that the platform refuses, with its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def malformed(message: str) -> SoqlError:
    """The refusal of a query that cannot be read."""
    return SoqlError("MALFORMED_QUERY", message)


# ---------------------------------------------------------------- the tree


@dataclass(frozen=True)
class Text:
    """A string literal, and the regular expression that it is for LIKE."""

    value: str
    like: str


@dataclass(frozen=True)
class DateRange:
    """A date literal such as TODAY: the first day and the first day after it."""

    start: date
    end: date


@dataclass(frozen=True)
class Compare:
    """A comparison of a field with a literal."""

    path: str
    operator: str
    value: object


@dataclass(frozen=True)
class Within:
    """`IN` or `NOT IN` with literals or with a sub-select."""

    path: str
    negated: bool
    values: "tuple[object, ...] | Select"


@dataclass(frozen=True)
class Not:
    """A negated condition."""

    inner: "Condition"


@dataclass(frozen=True)
class Both:
    """Conditions joined by AND or by OR."""

    word: str
    parts: "tuple[Condition, ...]"


Condition = Compare | Within | Not | Both


@dataclass(frozen=True)
class Order:
    """One field of ORDER BY."""

    path: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Select:
    """A query, or a sub-select."""

    columns: "tuple[str | Select, ...]"
    source: str
    where: Condition | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    counting: bool = False


# ---------------------------------------------------------------- tokens

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<datetime>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})(?![\w:]))
    | (?P<date>\d{4}-\d{2}-\d{2}(?![\w:-]))
    | (?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.:-]))
    | (?P<string>'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    | (?P<operator><=|>=|!=|<>|=|<|>)
    | (?P<mark>[(),:])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_RESERVED = frozenset(
    {
        "and", "asc", "desc", "excludes", "first", "from", "group", "having", "in", "includes", "last", "like",
        "limit", "not", "null", "nulls", "or", "order", "select", "true", "false", "using", "where", "with",
        "offset", "for",
    }
)  # fmt: skip
_REFUSED_LATER = {"group", "having", "with", "using", "for", "all", "typeof"}


@dataclass(frozen=True)
class Token:
    """One token and where it starts."""

    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            rest = text[at:].lstrip()
            raise malformed(f"line 1:{end - len(rest)} no viable alternative at character '{rest[:1]}'")
        found.append(Token(str(match.lastgroup), match.group(str(match.lastgroup)), match.start()))
        at = match.end()
    return found


def _string(raw: str) -> Text:
    plain: list[str] = []
    like: list[str] = []
    inner = raw[1:-1]
    at = 0
    while at < len(inner):
        mark = inner[at]
        if mark != "\\":
            plain.append(mark)
            like.append(".*" if mark == "%" else "." if mark == "_" else re.escape(mark))
            at += 1
            continue
        escape = inner[at + 1]
        if escape in "%_":
            plain.append("\\" + escape)
            like.append(re.escape(escape))
            at += 2
        elif escape == "u" and re.fullmatch(r"[0-9A-Fa-f]{4}", inner[at + 2 : at + 6]):
            letter = chr(int(inner[at + 2 : at + 6], 16))
            plain.append(letter)
            like.append(re.escape(letter))
            at += 6
        elif escape.lower() in _ESCAPES:
            letter = _ESCAPES[escape.lower()]
            plain.append(letter)
            like.append(re.escape(letter))
            at += 2
        else:
            raise malformed(f"Illegal string literal, invalid escape \\{escape}")
    value = "".join(plain)
    if len(value) > MAX_STRING:
        raise malformed("string literal is longer than 4000 characters")
    return Text(value, "".join(like))


# ---------------------------------------------------------------- the parser


class _Parser:
    def __init__(self, text: str, today: date) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.today = today

    def fail(self) -> NoReturn:
        if self.at >= len(self.tokens):
            raise malformed("unexpected end of query")
        token = self.tokens[self.at]
        raise malformed(f"unexpected token: '{token.text}' (at column {token.at + 1})")

    def peek(self, ahead: int = 0) -> Token | None:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else None

    def word(self, ahead: int = 0) -> str:
        token = self.peek(ahead)
        return token.text.lower() if token is not None and token.kind in {"name", "mark", "operator"} else ""

    def take(self, *words: str) -> bool:
        if self.word() in words:
            self.at += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.take(word):
            self.fail()

    def name(self, *, path: bool = True) -> str:
        token = self.peek()
        if token is None or token.kind != "name" or token.text.lower() in _RESERVED:
            self.fail()
        if not path and "." in token.text:
            self.fail()
        self.at += 1
        return token.text

    def whole(self) -> Select:
        made = self.select()
        if self.at < len(self.tokens):
            self.fail()
        return made

    def select(self) -> Select:
        self.expect("select")
        counting = self.word() == "count" and self.word(1) == "(" and self.word(2) == ")"
        columns: list[str | Select] = []
        if counting:
            self.at += 3
        else:
            columns.append(self.column())
            while self.take(","):
                columns.append(self.column())
        self.expect("from")
        source = self.name(path=True)
        if self.word() not in {"", ")", "where", "order", "limit", "offset", *_REFUSED_LATER}:
            self.alias(source)
        where = self.condition() if self.take("where") else None
        order: list[Order] = []
        if self.take("order"):
            self.expect("by")
            order.append(self.ordering())
            while self.take(","):
                order.append(self.ordering())
        limit = self.whole_number() if self.take("limit") else None
        offset = self.whole_number() if self.take("offset") else 0
        if offset > MAX_OFFSET:
            raise SoqlError("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        return Select(tuple(columns), source, where, tuple(order), limit, offset, counting)

    def alias(self, source: str) -> NoReturn:
        raise malformed(f"an alias for {source} is more than this sandbox understands")

    def column(self) -> "str | Select":
        if self.take("("):
            inner = self.select()
            self.expect(")")
            return inner
        name = self.name()
        if self.word() == "(":
            raise malformed(f"the function {name}() is more than this sandbox understands")
        return name

    def whole_number(self) -> int:
        token = self.peek()
        if token is None or token.kind != "number" or not token.text.isdigit():
            self.fail()
        self.at += 1
        return int(token.text)

    def ordering(self) -> Order:
        path = self.name()
        descending = False
        if self.word() in {"asc", "desc"}:
            descending = self.word() == "desc"
            self.at += 1
        nulls_first = True
        if self.take("nulls"):
            if self.word() not in {"first", "last"}:
                self.fail()
            nulls_first = self.word() == "first"
            self.at += 1
        return Order(path, descending, nulls_first)

    def condition(self) -> Condition:
        """`NOT simple`, or simple ones joined by one and the same word; anything else needs parentheses."""
        if self.take("not"):
            return Not(self.simple())
        parts = [self.simple()]
        joined = self.word()
        if joined not in {"and", "or"}:
            return parts[0]
        while self.take(joined):
            parts.append(self.simple())
        if self.word() in {"and", "or"}:
            self.fail()
        return Both(joined, tuple(parts))

    def simple(self) -> Condition:
        if self.take("("):
            inner = self.condition()
            self.expect(")")
            return inner
        path = self.name()
        token = self.peek()
        if token is not None and token.kind == "operator":
            self.at += 1
            return Compare(path, "!=" if token.text == "<>" else token.text, self.literal())
        if self.take("like"):
            value = self.literal()
            if not isinstance(value, Text):
                self.at -= 1
                self.fail()
            return Compare(path, "like", value)
        negated = self.take("not")
        self.expect("in")
        self.expect("(")
        if self.word() == "select":
            inner_select = self.select()
            self.expect(")")
            return Within(path, negated, inner_select)
        values = [self.literal()]
        while self.take(","):
            values.append(self.literal())
        self.expect(")")
        return Within(path, negated, tuple(values))

    def literal(self) -> object:
        token = self.peek()
        if token is None:
            self.fail()
        self.at += 1
        try:
            if token.kind == "string":
                return _string(token.text)
            if token.kind == "datetime":
                return datetime.fromisoformat(token.text).astimezone(UTC).replace(microsecond=0)
            if token.kind == "date":
                return date.fromisoformat(token.text)
        except ValueError:
            raise malformed(f"line 1:{token.at} invalid date '{token.text}'") from None
        if token.kind == "number":
            return Decimal(token.text)
        if token.kind == "name":
            word = token.text.lower()
            if word in {"null", "true", "false"}:
                return {"null": None, "true": True, "false": False}[word]
            made = self.date_literal(word)
            if made is not None:
                return made
        self.at -= 1
        return self.fail()

    def date_literal(self, word: str) -> DateRange | None:
        day = timedelta(days=1)
        simple = {"today": 0, "yesterday": -1, "tomorrow": 1}
        if word in simple:
            start = self.today + simple[word] * day
            return DateRange(start, start + day)
        if word in {"last_n_days", "next_n_days"} and self.take(":"):
            count = self.whole_number() * day
            if word == "last_n_days":
                return DateRange(self.today - count, self.today + day)
            return DateRange(self.today + day, self.today + day + count)
        return None


def parse(text: str, today: date = date(2000, 1, 1)) -> Select:
    """The tree of a query, or `SoqlError`."""
    if len(text) > MAX_LENGTH:
        raise malformed("SOQL statements cannot be longer than 100000 characters.")
    return _Parser(text, today).whole()


# ---------------------------------------------------------------- the evaluator
