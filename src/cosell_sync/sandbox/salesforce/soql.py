"""SOQL as the platform reads it: a small parser and an evaluator over rows in memory.

A fake that accepts more than the platform hides bugs until the first customer, so the grammar here is the
platform's with its oddities: AND mixed with OR needs parentheses, NOT stands alone or in parentheses, strings
take single quotes, date-times take none, `IN ()` is an error, a long text area cannot be filtered, a sub-select in
WHERE cannot stand beside OR. Text compares without case; stamps compare with the precision of a second.

Reading happens in three steps: tokens, a tree of frozen values (`parse`), and closures over the schema (`Runner`),
so that a query over many rows looks every name up once.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn, Protocol

from cosell_sync.sandbox.salesforce.schema import NUMBER_TYPES, Field, Schema, SObject

Row = Mapping[str, Any]
Test = Callable[[Row], bool]

MAX_OFFSET = 2000
MAX_LENGTH = 100_000
MAX_STRING = 4000
MAX_DEPTH = 5


class SoqlError(Exception):
    """A query that the platform refuses, with its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def malformed(message: str) -> SoqlError:
    return SoqlError("MALFORMED_QUERY", message)


class Source(Protocol):
    """What the evaluator needs to know of a database."""

    @property
    def schema(self) -> Schema: ...
    def scan(self, name: str, *, deleted: bool) -> Iterable[Row]: ...
    def find(self, name: str, row_id: str) -> Row | None: ...
    def normal_id(self, text: str) -> str | None: ...
    def render(self, each: Field, row: Row) -> object: ...
    def today(self) -> date: ...


# ---------------------------------------------------------------- the tree


@dataclass(frozen=True)
class Text:
    value: str
    like: str


@dataclass(frozen=True)
class DateRange:
    """A date literal such as TODAY: the first day and the first day after it."""

    start: date
    end: date


@dataclass(frozen=True)
class Compare:
    path: str
    operator: str
    value: object


@dataclass(frozen=True)
class Within:
    path: str
    negated: bool
    values: "tuple[object, ...] | Select"


@dataclass(frozen=True)
class Not:
    inner: "Condition"


@dataclass(frozen=True)
class Both:
    word: str
    parts: "tuple[Condition, ...]"


Condition = Compare | Within | Not | Both


@dataclass(frozen=True)
class Order:
    path: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Select:
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


@dataclass(frozen=True)
class Path:
    """A field reached through parents: `steps` are the lookups to follow, each with the object it leads to."""

    steps: tuple[tuple[Field, str], ...]
    field: Field
    object: str


@dataclass(frozen=True)
class Answer:
    records: list[dict[str, Any]]
    total: int


def run(text: str, source: Source, root: str, *, deleted: bool = False) -> Answer:
    """Every matching row, rendered; the caller cuts the pages. `root` is the path in each record's url."""
    tree = parse(text, source.today())
    runner = Runner(source, root, deleted=deleted)
    if tree.counting:
        return Answer([], len(runner.matching(tree, runner.shape(tree.source))))
    shape = runner.shape(tree.source)
    render = runner.renderer(tree, shape)
    records = [render(row) for row in runner.matching(tree, shape)]
    return Answer(records, len(records))


class Runner:
    """Binds a tree to a schema, so that names are looked up (and refused) before any row is read."""

    def __init__(self, source: Source, root: str, *, deleted: bool) -> None:
        self.source = source
        self.root = root
        self.deleted = deleted

    def shape(self, name: str) -> SObject:
        wanted = name.lower()
        found = next((each for each in self.source.schema.values() if each.name.lower() == wanted), None)
        if found is None:
            raise SoqlError(
                "INVALID_TYPE",
                f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure "
                "to append the '__c' after the entity name.",
            )
        return found

    def path(self, dotted: str, shape: SObject) -> Path:
        *hops, last = dotted.split(".")
        if hops and hops[0].lower() == shape.name.lower() and shape.parent(hops[0]) is None:
            hops = hops[1:]
        if len(hops) > MAX_DEPTH:
            raise malformed(f"relationship path too deep: {dotted}")
        steps: list[tuple[Field, str]] = []
        here = shape
        for hop in hops:
            lookup = here.parent(hop)
            if lookup is None:
                raise SoqlError(
                    "INVALID_FIELD",
                    f"Didn't understand relationship '{hop}' in field path. If you are attempting to use a custom "
                    "relationship, be sure to append the '__r' after the custom relationship name.",
                )
            here = self.source.schema[lookup.refers_to[0]]
            steps.append((lookup, here.name))
        each = here.find(last)
        if each is None:
            raise SoqlError(
                "INVALID_FIELD",
                f"No such column '{last}' on entity '{here.name}'. If you are attempting to use a custom field, be "
                "sure to append the '__c' after the custom field name.",
            )
        return Path(tuple(steps), each, here.name)

    def parent(self, lookup: Field, row: Row) -> Row | None:
        target = row.get(lookup.name)
        if target is None:
            return None
        for name in lookup.refers_to:
            found = self.source.find(name, target)
            if found is not None:
                return found
        return None

    def getter(self, path: Path) -> Callable[[Row], Any]:
        name = path.field.name
        if not path.steps:
            return lambda row: row.get(name)

        def through(row: Row) -> Any:
            here: Row | None = row
            for lookup, _ in path.steps:
                here = self.parent(lookup, here) if here is not None else None
            return None if here is None else here.get(name)

        return through

    # ------------------------------------------------------------ rows

    def matching(self, tree: Select, shape: SObject, rows: Iterable[Row] | None = None) -> list[Row]:
        test = self.test(tree.where, shape, top=True) if tree.where is not None else None
        orders = [(self.sort_key(order, shape), order.descending) for order in tree.order]
        if rows is None:
            rows = self.source.scan(shape.name, deleted=self.deleted)
        found = [row for row in rows if test is None or test(row)]
        for key, descending in reversed(orders):
            found.sort(key=key, reverse=descending)
        stop = None if tree.limit is None else tree.offset + tree.limit
        return found[tree.offset : stop]

    def sort_key(self, order: Order, shape: SObject) -> Callable[[Row], Any]:
        path = self.path(order.path, shape)
        if path.field.long or path.field.type == "address":
            raise malformed(f"field '{path.field.name}' can not be sorted in a query call")
        get = self.getter(path)
        null_rank = 0 if order.nulls_first != order.descending else 2
        fold = path.field.type not in {"id", "reference"}

        def key(row: Row) -> tuple[int, Any]:
            value = get(row)
            if value is None:
                return (null_rank, 0)
            return (1, value.casefold() if fold and isinstance(value, str) else value)

        return key

    def renderer(self, tree: Select, shape: SObject) -> Callable[[Row], dict[str, Any]]:
        """A function from a stored row to its JSON, columns in the order of the query, parents nested."""
        fields: list[Field] = []
        parents: dict[str, tuple[Field, list[str]]] = {}
        children: list[tuple[str, Callable[[Row], Any]]] = []
        order: list[tuple[str, Any]] = []
        seen: set[str] = set()
        for column in tree.columns:
            if isinstance(column, Select):
                name, child = self.child(column, shape)
                children.append((name, child))
                order.append((name, child))
                continue
            path = self.path(column, shape)
            key = column.lower()
            if key in seen:
                raise malformed(f"duplicate field selected: {column}")
            seen.add(key)
            if not path.steps:
                fields.append(path.field)
                order.append((path.field.name, path.field))
                continue
            lookup = path.steps[0][0]
            rest = ".".join(column.split(".")[-len(path.steps) :])
            if lookup.relationship not in parents:
                parents[lookup.relationship] = (lookup, [])
                order.append((lookup.relationship, None))
            parents[lookup.relationship][1].append(rest)
        inner = {
            name: (lookup, {to: self.nested(to, rests) for to in lookup.refers_to})
            for name, (lookup, rests) in parents.items()
        }

        def render(row: Row) -> dict[str, Any]:
            made: dict[str, Any] = {"attributes": self.attributes(shape.name, row["Id"])}
            for name, what in order:
                if isinstance(what, Field):
                    made[name] = self.source.render(what, row)
                elif what is not None:
                    made[name] = what(row)
                else:
                    made[name] = self.render_parent(inner[name], row)
            return made

        return render

    def nested(self, name: str, rests: list[str]) -> Callable[[Row], dict[str, Any]] | None:
        shape = self.source.schema.get(name)
        return None if shape is None else self.renderer(Select(tuple(rests), name), shape)

    def render_parent(
        self, inner: tuple[Field, Mapping[str, Callable[[Row], dict[str, Any]] | None]], row: Row
    ) -> dict[str, Any] | None:
        lookup, renders = inner
        target = row.get(lookup.name)
        for name, render in renders.items():
            found = self.source.find(name, target) if target is not None else None
            if found is not None and render is not None:
                return render(found)
        return None

    def child(self, tree: Select, shape: SObject) -> tuple[str, Callable[[Row], Any]]:
        relation = shape.child(tree.source)
        if relation is None or not relation.relationship:
            raise SoqlError(
                "INVALID_TYPE",
                f"Didn't understand relationship '{tree.source}' in FROM part of query call. If you are attempting "
                "to use a custom relationship, be sure to append the '__r' after the custom relationship name.",
            )
        if any(isinstance(column, Select) for column in tree.columns) or tree.counting:
            raise malformed("a sub-select cannot contain another one, nor COUNT()")
        target = self.source.schema[relation.object]
        render = self.renderer(tree, target)
        self.matching(tree, target, rows=())
        grouped: dict[str, list[Row]] = {}
        loaded = False

        def children(row: Row) -> Any:
            nonlocal loaded
            if not loaded:
                for each in self.source.scan(target.name, deleted=self.deleted):
                    grouped.setdefault(each[relation.field], []).append(each)
                loaded = True
            found = self.matching(tree, target, rows=grouped.get(row["Id"], ()))
            if not found:
                return None
            return {"totalSize": len(found), "done": True, "records": [render(each) for each in found]}

        return relation.relationship, children

    def attributes(self, name: str, row_id: str) -> dict[str, str]:
        return {"type": name, "url": f"{self.root}/sobjects/{name}/{row_id}"}

    # ------------------------------------------------------------ conditions

    def test(self, condition: Condition, shape: SObject, *, top: bool = False) -> Test:
        match condition:
            case Not(inner):
                negate = self.test(inner, shape)
                return lambda row: not negate(row)
            case Both(word, parts):
                tests = [self.test(part, shape, top=top and word == "and") for part in parts]
                if word == "and":
                    return lambda row: all(test(row) for test in tests)
                return lambda row: any(test(row) for test in tests)
            case Within(dotted, negated, values):
                if not isinstance(values, Select):
                    return self.member(self.filterable(dotted, shape), values, negated=negated)
                if not top:
                    raise malformed(
                        "Semi join sub-selects are only allowed at the top level WHERE expressions and not in "
                        "nested WHERE expressions."
                    )
                return self.semi_join(dotted, values, shape, negated=negated)
            case Compare(dotted, operator, value):
                return self.compare(self.filterable(dotted, shape), operator, value)

    def filterable(self, dotted: str, shape: SObject) -> Path:
        path = self.path(dotted, shape)
        if path.field.long or path.field.type == "address":
            raise SoqlError("INVALID_FIELD", f"field '{path.field.name}' can not be filtered in a query call")
        return path

    def semi_join(self, dotted: str, inner: Select, shape: SObject, *, negated: bool) -> Test:
        path = self.filterable(dotted, shape)
        if path.field.type not in {"id", "reference"}:
            raise malformed(f"The left operand of a semi join must be an id or a reference: {dotted}")
        if len(inner.columns) != 1 or not isinstance(inner.columns[0], str) or "." in inner.columns[0]:
            raise malformed("A semi join sub-select takes exactly one field of its own object")
        if inner.order or inner.limit is not None or inner.offset:
            raise malformed("ORDER BY, LIMIT and OFFSET are not supported in a semi join sub-select")
        target = self.shape(inner.source)
        if target.name == shape.name and not path.steps:
            raise malformed("The inner and outer selects should not be on the same object type")
        column = self.path(inner.columns[0], target).field
        if column.type not in {"id", "reference"}:
            raise malformed(f"The selected field '{column.name}' of a semi join must be an id or a reference")
        if inner.where is not None and _has_select(inner.where):
            raise malformed("Nesting of semi join sub-selects is not supported")
        found = {row.get(column.name) for row in self.matching(inner, target)} - {None}
        get = self.getter(path)
        return lambda row: (get(row) in found) != negated

    def member(self, path: Path, values: tuple[object, ...], *, negated: bool) -> Test:
        wanted = {self.operand(path.field, value, "=") for value in values}
        get = self.getter(path)
        fold = _folds(path.field)
        if any(isinstance(value, DateRange) for value in wanted):
            raise malformed("a date literal cannot stand in a list here")

        def inside(row: Row) -> bool:
            value = get(row)
            return ((value.casefold() if fold and isinstance(value, str) else value) in wanted) != negated

        return inside

    def operand(self, each: Field, value: object, operator: str) -> Any:
        """The literal as this field compares it, or the platform's refusal."""
        if value is None:
            if operator not in {"=", "!="}:
                raise malformed("null can only be compared with = and !=")
            return None
        if each.type in {"id", "reference"} and isinstance(value, Text):
            if value.value == "":
                return None
            made = self.source.normal_id(value.value)
            if made is None:
                raise SoqlError("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.value}")
            return made
        kind = _kind(each)
        fits = {
            "text": isinstance(value, Text),
            "number": isinstance(value, Decimal),
            "boolean": isinstance(value, bool),
            "date": (isinstance(value, date) and not isinstance(value, datetime)) or isinstance(value, DateRange),
            "datetime": isinstance(value, datetime | DateRange),
        }[kind]  # fmt: skip
        if not fits:
            quotes = "should be enclosed in quotes" if kind == "text" else "should not be enclosed in quotes"
            raise SoqlError(
                "INVALID_FIELD",
                f"value of filter criterion for field '{each.name}' must be of type {each.type} and {quotes}",
            )
        if isinstance(value, Text):
            if value.value == "":
                return None
            return value.value.casefold() if _folds(each) else value.value
        return value

    def compare(self, path: Path, operator: str, value: object) -> Test:
        each = path.field
        get = self.getter(path)
        if operator == "like":
            if _kind(each) != "text" or not isinstance(value, Text) or each.type in {"id", "reference"}:
                raise SoqlError(
                    "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {each.type} field: {each.name}"
                )
            pattern = re.compile(value.like, re.IGNORECASE | re.DOTALL)
            return lambda row: (found := get(row)) is not None and pattern.fullmatch(found) is not None
        if operator not in {"=", "!="} and each.type == "boolean":
            raise SoqlError(
                "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on boolean field: {each.name}"
            )
        wanted = self.operand(each, value, operator)
        if isinstance(wanted, DateRange):
            return self.compare_range(get, operator, wanted, each)
        fold = _folds(each)
        judge = _JUDGES[operator]

        def test(row: Row) -> bool:
            found = get(row)
            if found is None or wanted is None:
                return judge(found is None, wanted is None) if operator in {"=", "!="} else False
            return judge(found.casefold() if fold else found, wanted)

        return test

    def compare_range(self, get: Callable[[Row], Any], operator: str, span: DateRange, each: Field) -> Test:
        def edge(day: date) -> Any:
            return datetime(day.year, day.month, day.day, tzinfo=UTC) if each.type == "datetime" else day

        start, end = edge(span.start), edge(span.end)
        judge: dict[str, Callable[[Any], bool]] = {
            "=": lambda found: start <= found < end,
            "!=": lambda found: not start <= found < end,
            "<": lambda found: found < start,
            "<=": lambda found: found < end,
            ">": lambda found: found >= end,
            ">=": lambda found: found >= start,
        }
        test = judge[operator]
        return lambda row: test(found) if (found := get(row)) is not None else operator == "!="


_JUDGES: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, wanted: found == wanted,
    "!=": lambda found, wanted: found != wanted,
    "<": lambda found, wanted: found < wanted,
    "<=": lambda found, wanted: found <= wanted,
    ">": lambda found, wanted: found > wanted,
    ">=": lambda found, wanted: found >= wanted,
}


def _kind(each: Field) -> str:
    if each.type in NUMBER_TYPES:
        return "number"
    return each.type if each.type in {"boolean", "date", "datetime"} else "text"


def _folds(each: Field) -> bool:
    return _kind(each) == "text" and each.type not in {"id", "reference"}


def _selects(condition: Condition) -> Iterator[Select]:
    match condition:
        case Not(inner):
            yield from _selects(inner)
        case Both(_, parts):
            for part in parts:
                yield from _selects(part)
        case Within(_, _, Select() as inner_select):
            yield inner_select
        case _:
            return


def _has_select(condition: Condition) -> bool:
    return any(True for _ in _selects(condition))
