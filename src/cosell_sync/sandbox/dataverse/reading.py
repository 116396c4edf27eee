"""Answers reads: one row, a page of rows, the changes since a token.

Every page is computed from the rows as they are now, starting after the last row of the page before. So a row whose order
changes in between may come twice or not at all, as with the real service. Links are absolute and opaque; a changed one is
refused.

The change feed is the order of row versions. Its token is issued with the last page of the first load (a switch moves it
to the first), so changes on pages already delivered are missed, which users report of the platform.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from cosell_sync.sandbox.dataverse import odata, values
from cosell_sync.sandbox.dataverse.odata import bad_request
from cosell_sync.sandbox.dataverse.query import Expand, Query, read_query
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Column, Table
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

MOST_ROWS = 5000

CRM = "Microsoft.Dynamics.CRM"

FORMATTED = "OData.Community.Display.V1.FormattedValue"


@dataclass(frozen=True)
class ReadOptions:
    """What the headers of a read ask for."""

    root: str  # https://host/api/data/v9.2/
    page: int | None = None
    annotations: tuple[str, ...] = ()
    track: bool = False
    modern: bool = False  # no OData-MaxVersion: 4.0, so 4.01 shapes

    def wants(self, annotation: str) -> bool:
        """Whether an annotation is asked for; `*` stands for all or, at the end, for any rest."""
        return any(
            annotation == each or (each.endswith("*") and annotation.startswith(each[:-1]))
            for each in self.annotations
        )


@dataclass(frozen=True)
class _Cursor:
    """Where the next page goes on: behind a sort key, in a query whose options must come back unchanged."""

    table: str
    options: Mapping[str, str]
    after: tuple[Any, ...]
    number: int
    tracking: bool
    since: int = 0
    mark: int | None = None


@dataclass
class Reader:
    """Answers reads of one environment."""

    org: Org
    delta_token_at_end: bool = True
    most_rows: int = MOST_ROWS
    not_tracked: set[str] = field(default_factory=set)
    may_see: Callable[[str, str], bool] = lambda _table, _column: True
    mask: Callable[[str, str], str | None] = lambda _table, _column: None
    reached: Callable[[Iterable[Row], str], list[Row]] = lambda rows, _key: list(rows)
    _cursors: dict[str, _Cursor] = field(default_factory=dict)
    _expired: set[str] = field(default_factory=set)
    _tokens: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)

    def _rows(self, table: Table) -> list[Row]:
        return self.reached(self.org.scan(table.name), table.key)

    def expire_tokens(self) -> None:
        """Every delta token is too old, as after the days that the organization keeps its changes."""
        self._expired.update(self._tokens)

    # ------------------------------------------------------------ one row

    def shown(self, row: Row, query: Query, asked: ReadOptions, *, context: bool = False) -> dict[str, Any]:
        """One row as JSON: the columns asked for, annotations, expanded rows."""
        table = query.table
        made: dict[str, Any] = {}
        if context:
            made["@odata.context"] = f"{asked.root}$metadata#{table.set_name}/$entity"
        if table.concurrency:
            made["@odata.etag"] = etag(row)
        columns = query.select if query.select is not None else tuple(table.columns.values())
        names = {column.name for column in columns}
        if table.key not in names:
            columns = (*columns, table.columns[table.key])
        for column in columns:
            self._show(made, column, row, asked, query)
        for each in query.expand:
            made[each.name] = self._expanded(each, row, asked, table)
        return made

    def _show(self, made: dict[str, Any], column: Column, row: Row, asked: ReadOptions, query: Query) -> None:
        if not self.may_see(query.table.name, column.name):
            if query.select is not None:
                made[column.read_as] = None
            return
        value = row.get(column.name)
        name = column.read_as
        mask = self.mask(query.table.name, column.name)
        if mask is not None and value is not None:
            made[name] = mask
            return
        if isinstance(value, Ref):
            way = column.targets[value.table]
            beside = {
                f"{CRM}.associatednavigationproperty": way,
                f"{CRM}.lookuplogicalname": value.table,
                FORMATTED: self.org.title(value),
            }
        else:
            money = self.org.at(row.get("transactioncurrencyid")) if column.kind == "money" else None
            beside = {FORMATTED: values.formatted(column, row, money["currencysymbol"] if money else "$")}
        for annotation, shown in beside.items():
            if shown is not None and asked.wants(annotation):
                made[f"{name}@{annotation}"] = shown
        made[name] = values.render(column, row)

    def _expanded(self, each: Expand, row: Row, asked: ReadOptions, table: Table) -> Any:
        if each.lookup is not None:
            ref = row.get(each.lookup.name)
            there = self.org.at(ref) if ref is not None and ref.table in self._leads(each, table) else None
            target = self.org.schema[ref.table] if there is not None and ref is not None else None
            if there is None or target is None:
                return None
            query = each.query if target.name == each.table else Query(target)
            return self.shown(there, query, asked)
        rows = self.org.children(each.table, each.child_column, Ref(table.name, row[table.key]))
        found = each.query.sorted(rows)[: each.query.top]
        return [self.shown(child, each.query, asked) for child in found]

    def _leads(self, each: Expand, table: Table) -> tuple[str, ...]:
        way = table.navigation(each.name)
        return way[1] if way is not None else ()

    # ------------------------------------------------------------ many rows

    def page(self, table: Table, options: Mapping[str, str], asked: ReadOptions) -> dict[str, Any]:
        """One page of a table, of its first load, or of its changes."""
        if "$deltatoken" in options:
            return self._changes(table, options, asked, self._since(table, options["$deltatoken"]))
        cursor = self._cursor(table, options) if "$skiptoken" in options else None
        if cursor is not None and cursor.tracking and cursor.mark is not None:
            return self._changes(table, options, asked, (cursor.since, cursor.mark), cursor)
        tracking = asked.track or (cursor is not None and cursor.tracking)
        if tracking:
            self._trackable(table, options)
        query = read_query(self.org, table, _plain(options))
        rows = query.sorted(self._rows(table))
        total = len(rows)
        if query.top is not None and asked.page is None:
            rows = rows[: query.top]
        if cursor is not None:
            rows = [row for row in rows if odata.compare(query.key(row), cursor.after, query.order) > 0]
        size = min(asked.page or self.most_rows, self.most_rows)
        made: dict[str, Any] = {"@odata.context": self._context(query, asked, delta=False)}
        if query.count:
            made["@odata.count"] = min(total, MOST_ROWS)
            if asked.wants(f"{CRM}.totalrecordcount"):
                made[f"@{CRM}.totalrecordcount"] = min(total, MOST_ROWS)
                made[f"@{CRM}.totalrecordcountlimitexceeded"] = total > MOST_ROWS
        made["value"] = [self.shown(row, query, asked) for row in rows[:size]]
        first_mark = cursor.since if cursor is not None else self.org.version
        if len(rows) > size:
            number = cursor.number + 1 if cursor is not None else 2
            following = _Cursor(
                table.name, _plain(options), query.key(rows[size - 1]), number, tracking, first_mark
            )
            made["@odata.nextLink"] = self._next(table, options, asked, following)
        elif tracking:
            mark = self.org.version if self.delta_token_at_end else first_mark
            made["@odata.deltaLink"] = self._delta(table, options, asked, mark)
        return made

    def count(self, table: Table, options: Mapping[str, str]) -> int:
        """How many rows match, or how many changes there are since a token."""
        if "$deltatoken" in options:
            since, _ = self._since(table, options["$deltatoken"])
            changed = [row for row in self._rows(table) if row["versionnumber"] > since]
            return len(changed) + len(self._deletions(table, since, self.org.version))
        query = read_query(self.org, table, _plain(options))
        return min(len(query.sorted(self._rows(table))), MOST_ROWS)

    def _context(self, query: Query, asked: ReadOptions, *, delta: bool) -> str:
        listed = f"({','.join(each.read_as for each in query.select)})" if query.select is not None else ""
        return f"{asked.root}$metadata#{query.table.set_name}{listed}{'/$delta' if delta else ''}"

    # ------------------------------------------------------------ links

    def _next(self, table: Table, options: Mapping[str, str], asked: ReadOptions, cursor: _Cursor) -> str:
        """The cookie as the platform writes it: percent-encoded twice, so that re-encoding a link breaks it."""
        token = secrets.token_hex(12)
        self._cursors[token] = cursor
        cookie = quote(f'<cookie page="{cursor.number - 1}"><id last="{token}" /></cookie>', safe="")
        tracking = "True" if cursor.tracking else "False"
        text = f'<cookie pagenumber="{cursor.number}" pagingcookie="{cookie}" istracking="{tracking}" />'
        return _link(table, _plain(options), asked, f"$skiptoken={quote(text, safe='')}")

    def _cursor(self, table: Table, options: Mapping[str, str]) -> _Cursor:
        found = re.fullmatch(
            r'<cookie pagenumber="\d+" pagingcookie="([^"]*)" istracking="(True|False)" />',
            options["$skiptoken"],
        )
        inner = re.search(r'last="([0-9a-f]+)"', unquote(found[1])) if found else None
        cursor = self._cursors.get(inner[1]) if inner else None
        if cursor is None:
            raise bad_request("Malformed XML in the Paging Cookie")
        if cursor.table != table.name or dict(cursor.options) != _plain(options):
            raise bad_request("The paging cookie does not belong to this query.")
        return cursor

    def _delta(self, table: Table, options: Mapping[str, str], asked: ReadOptions, mark: int) -> str:
        now = self.org.now()
        token = f"{mark}!{now:%m/%d/%Y %H:%M:%S}"
        self._tokens[f"{table.name}:{token}"] = (table.name, mark, now)
        kept = {name: value for name, value in options.items() if name == "$select"}
        return _link(table, kept, asked, f"$deltatoken={quote(token, safe='')}")

    # ------------------------------------------------------------ changes

    def _trackable(self, table: Table, options: Mapping[str, str]) -> None:
        for option in ("$filter", "$orderby", "$expand", "$top"):
            if option in options:
                raise bad_request(f'The "{option}" query parameter isn\'t supported when tracking changes.')
        if not table.change_tracking or table.name in self.not_tracked:
            raise Refused(values.NO_TRACKING, f"Entity: {table.name} does not have change tracking enabled.")

    def _since(self, table: Table, token: str) -> tuple[int, int]:
        self._trackable(table, {})
        name = f"{table.name}:{token}"
        known = self._tokens.get(name)
        if known is None:
            raise bad_request("The delta token is not valid.")
        organization = next(self.org.scan("organization"))
        lives = timedelta(days=int(organization["expirechangetrackingindays"]))
        if name in self._expired or self.org.now() - known[2].astimezone(UTC) > lives:
            raise Refused(
                values.EXPIRED_TOKEN,
                "Version stamp associated with the client has expired. Please perform a full sync.",
            )
        return known[1], self.org.version

    def _deletions(self, table: Table, since: int, mark: int) -> list[Any]:
        """Deletions in a span of versions; a row that is back again is no deletion any more."""
        present = self.org.tables.get(table.name, {})
        return [
            deletion
            for deletion in self.org.deletions
            if deletion.table == table.name
            and since < deletion.version <= mark
            and deletion.id not in present
        ]

    def _changes(
        self,
        table: Table,
        options: Mapping[str, str],
        asked: ReadOptions,
        span: tuple[int, int],
        cursor: _Cursor | None = None,
    ) -> dict[str, Any]:
        since, mark = span
        self._trackable(table, options)
        query = read_query(self.org, table, _plain(options))
        at = cursor.after[0] if cursor is not None else since
        entries: list[tuple[int, Any]] = [
            (int(row["versionnumber"]), row)
            for row in self._rows(table)
            if at < int(row["versionnumber"]) <= mark
        ]
        entries += [(deletion.version, deletion.id) for deletion in self._deletions(table, at, mark)]
        entries.sort(key=lambda entry: entry[0])
        size = min(asked.page or self.most_rows, self.most_rows)
        made: dict[str, Any] = {"@odata.context": self._context(query, asked, delta=True)}
        made["value"] = [self._entry(entry, query, asked) for _, entry in entries[:size]]
        if len(entries) > size:
            number = cursor.number + 1 if cursor is not None else 2
            after = (entries[size - 1][0],)
            following = _Cursor(
                table.name, _plain(options), after, number, tracking=True, since=since, mark=mark
            )
            made["@odata.nextLink"] = self._next(table, options, asked, following)
        else:
            made["@odata.deltaLink"] = self._delta(table, options, asked, mark)
        return made

    def _entry(self, entry: Any, query: Query, asked: ReadOptions) -> dict[str, Any]:
        if not isinstance(entry, str):
            return self.shown(entry, query, asked)
        context = f"{asked.root}$metadata#{query.table.set_name}/$deletedEntity"
        if asked.modern:
            return {
                "@context": context,
                "@removed": {"reason": "deleted"},
                "@id": f"{query.table.set_name}({entry})",
            }
        return {"@odata.context": context, "id": entry, "reason": "deleted"}


def etag(row: Row) -> str:
    """The row's ETag, which is its version."""
    return f'W/"{row["versionnumber"]}"'


def _plain(options: Mapping[str, str]) -> dict[str, str]:
    """The options that make the query, without those that say where in it we are."""
    return {
        name: value
        for name, value in options.items()
        if name.startswith(("$", "@")) and name not in {"$skiptoken", "$deltatoken"}
    }


def _link(table: Table, options: Mapping[str, str], asked: ReadOptions, token: str) -> str:
    parts = [f"{name}={quote(value, safe=chr(39) + '(),$/:')}" for name, value in options.items()]
    return f"{asked.root}{table.set_name}?{'&'.join([*parts, token])}"
