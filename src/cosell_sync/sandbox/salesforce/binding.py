"""Binds the names in a query to the schema: objects, fields, and paths through parents; unknown names are refused."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from cosell_sync.sandbox.salesforce.schema import Field, Schema, SObject
from cosell_sync.sandbox.salesforce.soql import (
    SoqlError,
    malformed,
)

Row = Mapping[str, Any]


MAX_DEPTH = 5


class Source(Protocol):
    """What the evaluator needs to know of a database."""

    @property
    def schema(self) -> Schema: ...
    def scan(self, name: str, *, deleted: bool) -> Iterable[Row]: ...
    def find(self, name: str, row_id: str) -> Row | None: ...
    def normal_id(self, text: str) -> str | None: ...
    def render(self, each: Field, row: Row) -> object: ...
    def today(self) -> date: ...


@dataclass(frozen=True)
class Path:
    """A field reached through parents: `steps` are the lookups to follow, each with the object it leads to."""

    steps: tuple[tuple[Field, str], ...]
    field: Field
    object: str


class Binder:
    """Looks names up, and reads the values that they stand for from a row."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def shape(self, name: str) -> SObject:
        """The object of that name, without regard to case; SoqlError when there is none."""
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
        """The field that a dotted name stands for; SoqlError when there is none."""
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
            if lookup.refers_to[0] not in self.source.schema:
                raise SoqlError(
                    "INVALID_FIELD", f"No access to {lookup.refers_to[0]} in field path {dotted}."
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
        """The row that a lookup points at; None when there is none."""
        target = row.get(lookup.name)
        if target is None:
            return None
        for name in lookup.refers_to:
            found = self.source.find(name, target)
            if found is not None:
                return found
        return None

    def getter(self, path: Path) -> Callable[[Row], Any]:
        """A function that reads the path from a row; None where a parent is missing."""
        name = path.field.name
        if not path.steps:
            return lambda row: row.get(name)

        def through(row: Row) -> Any:
            here: Row | None = row
            for lookup, _ in path.steps:
                here = self.parent(lookup, here) if here is not None else None
            return None if here is None else here.get(name)

        return through
