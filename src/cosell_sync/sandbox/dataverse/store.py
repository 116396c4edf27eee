"""The environment's rows in memory: found by id and by alternate key, and rolled back from a copy.

Every write of a row gives it the next version number, which is its ETag and its place in the change feed. Rows are never
changed in place but replaced, so that a copy for a rollback is a copy of a few dictionaries.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.schema import Key, Table
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

Record = dict[str, Any]


@dataclass(frozen=True)
class Deletion:
    """A deletion in the change feed."""

    table: str
    id: str
    version: int


@dataclass
class Store:
    """Rows, indexes of the alternate keys and deletions of one environment."""

    schema: dict[str, Table]
    clock: Callable[[], datetime]
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    deletions: list[Deletion] = field(default_factory=list)
    version: int = 1_000_000
    _keys: dict[tuple[str, str], dict[tuple[str, ...], str]] = field(default_factory=dict)

    # ------------------------------------------------------------ reading

    def now(self) -> datetime:
        """The time of a write, to the second."""
        return self.clock().astimezone(UTC).replace(microsecond=0)

    def table(self, name: str) -> Table:
        """The table of that name; KeyError when there is none."""
        try:
            return self.schema[name]
        except KeyError:
            raise KeyError(f"no such table: {name}") from None

    def by_set(self, set_name: str) -> Table | None:
        """The table of that entity set; None when there is none."""
        return next((table for table in self.schema.values() if table.set_name == set_name), None)

    def scan(self, name: str) -> Iterator[Row]:
        """All rows of a table, in the order of creation."""
        return iter(list(self.tables.get(name, {}).values()))

    def find(self, name: str, row_id: str) -> Row | None:
        """The row of that id; None when there is none."""
        return self.tables.get(name, {}).get(row_id)

    def live(self, name: str, row_id: str) -> Row:
        """The row of that id; refused with 404 when there is none."""
        row = self.find(name, row_id)
        if row is None:
            raise Refused(values.NO_ROW, f"{name} With Id = {row_id} Does Not Exist", 404)
        return row

    def at(self, ref: Ref | None) -> Row | None:
        """The row that a lookup points at; None when there is none."""
        return self.find(ref.table, ref.id) if ref is not None else None

    def title(self, ref: Ref) -> str | None:
        """The primary name of the row that a lookup points at."""
        row = self.at(ref)
        return row.get(self.schema[ref.table].primary) if row is not None else None

    def children(self, name: str, column: str, parent: Ref) -> list[Row]:
        """The rows that point at a parent through that lookup."""
        return [row for row in self.scan(name) if row.get(column) == parent]

    def record(self, name: str, row: Row) -> Record:
        """A row as the form shows it: choices by label, lookups by id."""
        return {each.name: values.displayed(each, row) for each in self.schema[name].columns.values()}

    # ------------------------------------------------------------ alternate keys

    def key(self, table: Table, columns: set[str]) -> Key:
        """The key over exactly these columns, if it may be used."""
        for key in table.keys:
            if set(key.columns) == columns and key.status == "Active":
                return key
        raise Refused(
            values.NO_SUCH_KEY,
            f"The specified key attributes are not a defined key for the {table.name} entity",
        )

    def by_key(self, table: Table, key: Key, given: Mapping[str, object]) -> Row | None:
        """The row with these values of an alternate key; None when there is none."""
        found = self.index(table, key).get(tuple(_folded(given[name]) for name in key.columns))
        return self.find(table.name, found) if found is not None else None

    def index(self, table: Table, key: Key) -> dict[tuple[str, ...], str]:
        """Row ids by the values of a key; built on first use."""
        index = self._keys.get((table.name, key.name))
        if index is None:
            index = self._keys[table.name, key.name] = {}
            for row in self.scan(table.name):
                made = key_of(key, row)
                if made is not None:
                    index.setdefault(made, row[table.key])
        return index

    def has_duplicates(self, table: Table, key: Key) -> bool:
        """Whether two rows share a value of the key, so that its index fails."""
        made = [key_of(key, row) for row in self.scan(table.name)]
        there = [each for each in made if each is not None]
        return len(there) != len(set(there))

    # ------------------------------------------------------------ rolling back

    def savepoint(self) -> tuple[dict[str, dict[str, Row]], list[Deletion]]:
        """A copy of rows and deletions, to roll back to."""
        return {name: dict(rows) for name, rows in self.tables.items()}, list(self.deletions)

    def roll_back(self, kept: tuple[dict[str, dict[str, Row]], list[Deletion]]) -> None:
        """Returns to a savepoint."""
        self.tables, self.deletions = kept
        self._keys.clear()

    def adopt(self, schema: dict[str, Table]) -> None:
        """Another schema for the same rows; new columns start empty."""
        self.schema = schema
        self._keys.clear()

    # ------------------------------------------------------------ storing

    def put(self, table: Table, row: Row, before: Row | None) -> Row:
        """Stores the row under its next version and checks no rule."""
        self.version += 1
        saved = {**row, "versionnumber": Decimal(self.version)}
        self.tables.setdefault(table.name, {})[row[table.key]] = saved
        for key in table.keys:
            index = self.index(table, key)
            old = key_of(key, before) if before is not None else None
            if old is not None and index.get(old) == row[table.key]:
                del index[old]
            new = key_of(key, saved)
            if new is not None:
                index.setdefault(new, row[table.key])
        return saved


def _folded(value: object) -> str:
    """Keys are compared as the database does: without case, without trailing blanks."""
    return str(value).rstrip().casefold()


def key_of(key: Key, row: Row) -> tuple[str, ...] | None:
    """The values of a key in a row, as they are compared; None when one is empty."""
    held = [row.get(name) for name in key.columns]
    return None if any(each is None for each in held) else tuple(_folded(each) for each in held)
