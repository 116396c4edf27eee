"""Runs a SOQL query over the org's rows.

A parsed query is bound to the schema first (`Runner`), so that every name is looked up, and refused, once and before any row
is read. Text compares without case; times compare to the second.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cosell_sync.sandbox.salesforce.binding import Binder, Path, Row, Source
from cosell_sync.sandbox.salesforce.comparisons import Test, compare, member
from cosell_sync.sandbox.salesforce.schema import Field, SObject
from cosell_sync.sandbox.salesforce.soql import (
    Both,
    Compare,
    Condition,
    Not,
    Order,
    Select,
    SoqlError,
    Within,
    malformed,
    parse,
)


@dataclass(frozen=True)
class Answer:
    """The rendered rows, and how many match."""

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


class Runner(Binder):
    """Binds a tree to the schema before any row is read, then filters, sorts and renders rows."""

    def __init__(self, source: Source, root: str, *, deleted: bool) -> None:
        super().__init__(source)
        self.root = root
        self.deleted = deleted

    # ------------------------------------------------------------ rows

    def matching(self, tree: Select, shape: SObject, rows: Iterable[Row] | None = None) -> list[Row]:
        """The rows that a query selects, sorted and cut by LIMIT and OFFSET."""
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
        """The sort key of one ORDER BY field."""
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
        """A sub-select over child rows: its name and a function that renders it."""
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
        """A condition as a test of a row."""
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
                    return member(self, self.filterable(dotted, shape), values, negated=negated)
                if not top:
                    raise malformed(
                        "Semi join sub-selects are only allowed at the top level WHERE expressions and not in "
                        "nested WHERE expressions."
                    )
                return self.semi_join(dotted, values, shape, negated=negated)
            case Compare(dotted, operator, value):
                return compare(self, self.filterable(dotted, shape), operator, value)

    def filterable(self, dotted: str, shape: SObject) -> Path:
        """The path of a field that may be filtered."""
        path = self.path(dotted, shape)
        if path.field.long or path.field.type == "address":
            raise SoqlError("INVALID_FIELD", f"field '{path.field.name}' can not be filtered in a query call")
        return path

    def semi_join(self, dotted: str, inner: Select, shape: SObject, *, negated: bool) -> Test:
        """`IN` and `NOT IN` with a sub-select."""
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
