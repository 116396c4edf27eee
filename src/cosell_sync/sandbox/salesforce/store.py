"""The org's rows in memory: found by id, by unique key and by parent, and rolled back from a copy.

Rows are never changed in place but replaced, so that a snapshot for a rollback is a copy of a few dictionaries.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from cosell_sync.sandbox.salesforce import values
from cosell_sync.sandbox.salesforce.schema import Field, SObject  # fmt: skip
from cosell_sync.sandbox.salesforce.values import Refused, Row

Record = dict[str, Any]


@dataclass(frozen=True)
class Deletion:
    """An entry in the log of deletions, which outlives the Recycle Bin."""

    object: str
    id: str
    at: datetime


@dataclass
class Savepoint:
    """A copy to roll back to."""

    tables: dict[str, dict[str, Row]]
    keys: dict[tuple[str, str], dict[str, str]]
    deletions: list[Deletion]
    deleted_with: dict[str, str]


@dataclass
class Store:
    """Rows, indexes and the log of deletions of one org."""

    schema: dict[str, SObject]
    clock: Callable[[], datetime]
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    keys: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    deletions: list[Deletion] = field(default_factory=list)
    _deleted_with: dict[str, str] = field(default_factory=dict)
    _children: dict[tuple[str, str], dict[str, dict[str, None]]] = field(default_factory=dict)

    # ------------------------------------------------------------ reading (what SOQL needs)

    def now(self) -> datetime:
        """The time of a write, to the second."""
        return self.clock().astimezone(UTC).replace(microsecond=0)

    def today(self) -> date:
        return self.now().date()

    def normal_id(self, text: str) -> str | None:
        return values.normal_id(text)

    def render(self, each: Field, row: Row) -> object:
        return values.render(each, row)

    def scan(self, name: str, *, deleted: bool = False) -> Iterable[Row]:
        """The rows of an object, in the order of creation."""
        rows = self.tables.get(name, {}).values()
        return list(rows) if deleted else [row for row in rows if not row.get("IsDeleted")]

    def find(self, name: str, row_id: str) -> Row | None:
        """The row of that id, deleted or not; None when there is none."""
        return self.tables.get(name, {}).get(row_id)

    def shape(self, name: str) -> SObject:
        """The object of that name, without regard to case; refused when there is none."""
        wanted = name.lower()
        for each in self.schema.values():
            if each.name.lower() == wanted:
                return each
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    def live(self, name: str, row_id: object) -> Row:
        """The row of that id; a deleted one and an unknown one are refused differently."""
        made = values.normal_id(row_id)
        row = self.find(name, made) if made is not None else None
        if row is None:
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        if row.get("IsDeleted"):
            raise Refused("ENTITY_IS_DELETED", "entity is deleted")
        return row

    def record(self, name: str, row: Row) -> Record:
        """A row as the platform shows it, every column."""
        return {each.name: values.render(each, row) for each in self.schema[name].fields.values()}

    def key_field(self, name: str, column: str) -> Field:
        """The external id field of that name; refused when there is none."""
        each = self.schema[name].find(column)
        if each is None or not each.external_id:
            raise Refused(
                "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {column}"
            )
        return each

    def by_key(self, name: str, each: Field, value: object) -> list[Row]:
        """Rows with that external id, compared as the platform does, without case."""
        wanted = str(value).strip().casefold()
        if each.unique:
            found = self.keys.get((name, each.name), {}).get(wanted)
            return [self.tables[name][found]] if found is not None else []
        return [row for row in self.scan(name) if str(row.get(each.name) or "").casefold() == wanted]

    def children(self, name: str, column: str, parent: str) -> list[Row]:
        """Rows that are not deleted and point at a parent; their index is built on first use."""
        index = self._children.get((name, column))
        if index is None:
            index = self._children[name, column] = {}
            for row in self.tables.get(name, {}).values():
                index.setdefault(row.get(column) or "", {})[row["Id"]] = None
        table = self.tables.get(name, {})
        found = [table[each] for each in index.get(parent, {}) if each in table]
        return [row for row in found if not row.get("IsDeleted")]

    def adopt(self, schema: dict[str, SObject]) -> None:
        """Replaces the schema; a new column of existing rows starts with its default, as after a deployment, and a deleted one is
        gone from them.
        """
        before, self.schema = self.schema, schema
        for name, table in self.tables.items():
            starts = {each.name: each.default for each in schema[name].fields.values()}
            gone = {each.name for each in before[name].fields.values()} - starts.keys()
            self.tables[name] = {
                row_id: {**starts, **{key: value for key, value in row.items() if key not in gone}}
                for row_id, row in table.items()
            }

    # ------------------------------------------------------------ rolling back

    def savepoint(self) -> Savepoint:
        """A copy of rows, keys and deletions, to roll back to."""
        return Savepoint(
            {name: dict(table) for name, table in self.tables.items()},
            {name: dict(keys) for name, keys in self.keys.items()},
            list(self.deletions),
            dict(self._deleted_with),
        )

    def roll_back(self, saved: Savepoint) -> None:
        """Returns to a savepoint."""
        self.tables, self.keys, self.deletions, self._deleted_with = (
            saved.tables,
            saved.keys,
            saved.deletions,
            saved.deleted_with,
        )
        self._children.clear()

    # ------------------------------------------------------------ storing

    def put(self, shape: SObject, row: Row, before: Row | None) -> None:
        """Stores a row and updates the indexes; checks no rule."""
        self.tables.setdefault(shape.name, {})[row["Id"]] = row
        for (name, column), parents in self._children.items():
            if name == shape.name:
                if before is not None:
                    parents.get(before.get(column) or "", {}).pop(row["Id"], None)
                parents.setdefault(row.get(column) or "", {})[row["Id"]] = None
        for each in shape.fields.values():
            if each.unique:
                keys = self.keys.setdefault((shape.name, each.name), {})
                old = before.get(each.name) if before is not None and not before.get("IsDeleted") else None
                if old is not None:
                    keys.pop(old.casefold(), None)
                new = row.get(each.name)
                if new is not None and not row.get("IsDeleted"):
                    keys[new.casefold()] = row["Id"]
