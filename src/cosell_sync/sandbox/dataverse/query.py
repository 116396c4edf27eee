"""The query options of one table read into a checked `Query`: select, filter, order, top, expand, count."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cmp_to_key
from typing import Any

from cosell_sync.sandbox.dataverse import odata
from cosell_sync.sandbox.dataverse.filters import condition
from cosell_sync.sandbox.dataverse.odata import Operand, Order, Sort, Test, bad_request, unknown_property
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Column, Table
from cosell_sync.sandbox.dataverse.values import Row

_SORTS: dict[str, Sort] = {
    "guid": "guid", "lookup": "guid", "string": "string", "memo": "string", "boolean": "boolean", "datetime": "datetime",
    "date": "date",
}  # fmt: skip


@dataclass(frozen=True)
class TableScope:
    """What names mean in a filter on a table: its columns, and those of a row that a lookup leads to."""

    org: Org
    table: Table

    def operand(self, path: str) -> Operand:
        first, slash, rest = path.partition("/")
        if not slash:
            column = self.table.reading(first)
            if column is None:
                raise unknown_property(first, self.table.name)
            return self._of(column)
        way = self.table.navigation(first)
        if way is None or len(way[1]) != 1:
            raise unknown_property(first, self.table.name)
        lookup, (target,) = way
        inner = TableScope(self.org, self.org.schema[target]).operand(rest)

        def through(row: Row) -> Any:
            ref = row.get(lookup.name)
            there = self.org.at(ref) if ref is not None and ref.table == target else None
            return inner.value(there) if there is not None else None

        return Operand(inner.sort, through)

    def property(self, name: str) -> Operand:
        column = self.table.columns.get(name)
        if column is None:
            raise unknown_property(name, self.table.name)
        return self._of(column)

    def _of(self, column: Column) -> Operand:
        return Operand(_SORTS.get(column.kind, "number"), lambda row: row.get(column.name))


@dataclass(frozen=True)
class Expand:
    """One part of $expand, with the query for the rows below."""

    name: str
    table: str
    lookup: Column | None  # of this table; None: a collection
    child_column: str
    query: "Query"


@dataclass(frozen=True)
class Query:
    """A checked query over one table."""

    table: Table
    select: tuple[Column, ...] | None = None
    where: Test | None = None
    order: tuple[Order, ...] = ()
    top: int | None = None
    expand: tuple[Expand, ...] = ()
    count: bool = False

    def key(self, row: Row) -> tuple[Any, ...]:
        """The sort key of a row."""
        return odata.sort_key(row, self.order, lambda each: each[self.table.key])

    def sorted(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that the filter keeps, in order."""

        def order(one: tuple[tuple[Any, ...], Row], two: tuple[tuple[Any, ...], Row]) -> int:
            return odata.compare(one[0], two[0], self.order)

        keyed = [(self.key(row), row) for row in rows if self.where is None or self.where(row)]
        return [row for _, row in sorted(keyed, key=cmp_to_key(order))]


def read_query(org: Org, table: Table, options: Mapping[str, str]) -> Query:
    """The query that these options make, or a refusal."""
    scope = TableScope(org, table)
    made = Query(table)
    if "$select" in options:
        made = replace(made, select=_select(table, options["$select"]))
    if "$filter" in options:
        aliases = {name: value for name, value in options.items() if name.startswith("@")}
        made = replace(made, where=condition(options["$filter"], scope, aliases))
    if "$orderby" in options:
        made = replace(made, order=odata.orders(options["$orderby"], scope))
    if "$top" in options:
        made = replace(made, top=odata.whole(options["$top"], "$top"))
    if "$count" in options:
        made = replace(made, count=odata.truth(options["$count"], "$count"))
    if "$expand" in options:
        parts = odata.split(options["$expand"], ",")
        made = replace(made, expand=tuple(_expand(org, table, part.strip()) for part in parts))
    return made


def _select(table: Table, text: str) -> tuple[Column, ...]:
    made: list[Column] = []
    for name in text.split(","):
        column = table.reading(name.strip())
        if column is None:
            raise unknown_property(name.strip(), table.name)
        made.append(column)
    return tuple(made)


def _expand(org: Org, table: Table, text: str) -> Expand:
    name, paren, inner = text.partition("(")
    if paren and not inner.endswith(")"):
        raise bad_request(f"Syntax error in $expand: '{text}'.")
    options: dict[str, str] = {}
    for part in odata.split(inner[:-1], ";") if paren else []:
        option, _, value = part.strip().partition("=")
        if option not in {"$select", "$filter", "$orderby", "$top", "$expand"}:
            raise bad_request(f"The query option '{option}' is not supported inside $expand.")
        options[option] = value
    way = table.navigation(name)
    if way is not None:
        column, tables = way
        target = tables[0]
        if options.keys() - {"$select", "$expand"}:
            raise bad_request("A single-valued navigation property takes $select and $expand only.")
        return Expand(name, target, column, "", read_query(org, org.schema[target], options))
    child = table.child(name)
    if child is None:
        raise unknown_property(name, table.name)
    return Expand(name, child.table, None, child.column, read_query(org, org.schema[child.table], options))
