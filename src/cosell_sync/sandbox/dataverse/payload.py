"""What a request says: its parts, the row that an address names, and a JSON body as columns with converted values."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.odata import bad_request
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Column, Table
from cosell_sync.sandbox.dataverse.store import Record
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

UNFIT_FOR_KEYS = frozenset("/<>*%&:\\?+")
_PREFERENCE = re.compile(r'\s*([\w.\-]+)\s*(?:=\s*("[^"]*"|[^,;\s]+))?\s*(?:[,;]|$)')
SEGMENT = re.compile(r"(?P<name>[\w$.@]+)(?:\((?P<key>(?:[^'()]|'(?:[^']|'')*')*)\))?")
_KEY_PART = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<bare>[\w.:\-]+))\s*(?:,|$)")


@dataclass(frozen=True)
class Part:
    """One request: `path` decoded and below the root, `raw_query` as it came."""

    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes
    root: str
    batched: bool = False
    made: Mapping[str, str] = field(
        default_factory=dict
    )  # Content-ID -> opportunities(guid), in a change set


@dataclass
class Payload:
    """Reads the addresses and bodies of requests against the schema and the rows."""

    org: Org

    def addressed(self, table: Table, key: str) -> tuple[Row | None, Record]:
        """The row under an id or an alternate key, if there is one, and how it was addressed."""
        wanted = values.guid(key)
        if wanted is not None:
            return self.org.find(table.name, wanted), {table.key: wanted}
        named: Record = {}
        at = 0
        while at < len(key) and (found := _KEY_PART.match(key, at)):
            text = found["text"]
            if text is not None and UNFIT_FOR_KEYS & set(text):
                raise bad_request(
                    f"The key value '{text}' holds a character that cannot be used in an address."
                )
            named[found["name"]] = found["bare"] if text is None else text.replace("''", "'")
            at = found.end()
        if not named or at < len(key):
            raise bad_request(f"Error in the key '({key})': bare guids, or name='text' of an alternate key.")
        if set(named) == {table.key}:
            wanted = values.guid(named[table.key])
            if wanted is None:
                raise bad_request(f"'{named[table.key]}' is no guid.")
            return self.org.find(table.name, wanted), {table.key: wanted}
        alternate = self.org.key(table, set(named))
        sent = {name: self._key_value(table, table.columns[name], value) for name, value in named.items()}
        return self.org.by_key(table, alternate, sent), sent

    def _key_value(self, table: Table, column: Column, text: str) -> Any:
        value: object = Decimal(text) if column.kind in {"integer", "decimal"} else text
        return values.convert(column, value, table.name)

    def not_found(self, table: Table, named: Record) -> Refused:
        """The 404 for an id or for an alternate key."""
        if table.key in named:
            return Refused(values.NO_ROW, f"{table.name} With Id = {named[table.key]} Does Not Exist", 404)
        return Refused(
            values.NO_ROW_BY_KEY,
            f"A record with the specified key values does not exist in {table.name} entity",
            404,
        )

    def body(self, part: Part, table: Table | None) -> dict[str, Any]:
        """The JSON object of a request."""
        if "json" not in part.headers.get("content-type", ""):
            raise Refused(values.BAD_PAYLOAD, "The Content-Type header must be application/json.", 415)
        try:
            made = json.loads(part.body, parse_float=Decimal)
        except ValueError:
            made = None
        if not isinstance(made, dict):
            raise self.bad_payload(table, "Invalid JSON. An object was expected.")
        return made

    def bad_payload(self, table: Table | None, why: str) -> Refused:
        """The refusal of a body."""
        return Refused(
            values.BAD_PAYLOAD,
            f"Error identified in Payload provided by the user for Entity :'{table.set_name if table else ''}', For more "
            "information on this error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293 "
            f"---->  InnerException : Microsoft.OData.ODataException: {why}",
        )

    def columns(self, part: Part, table: Table, body: Mapping[str, Any], *, creating: bool) -> Record:
        """Columns with converted values; unknown names are refused, references resolved."""
        made: Record = {}
        for name, value in body.items():
            if name.endswith("@odata.bind"):
                column, ref = self._bound(part, table, name.removesuffix("@odata.bind"), value)
                made[column.name] = ref
                continue
            if "@" in name:
                continue
            if name.startswith("_") and name.endswith("_value"):
                raise bad_request(
                    "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead."
                )
            column_or_none = table.reading(name)
            if column_or_none is not None:
                made[name] = values.convert(column_or_none, value, table.name)
                continue
            way = table.navigation(name)
            if way is not None and value is None:
                made[way[0].name] = None
                continue
            if table.child(name) is not None and creating and isinstance(value, list):
                continue
            if table.child(name) is not None:
                raise bad_request("Deep update of navigation properties is not allowed.")
            raise self.bad_payload(
                table,
                f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'. Make sure to only "
                "use property names that are defined by the type.",
            )
        return made

    def _bound(self, part: Part, table: Table, name: str, value: object) -> tuple[Column, Ref | None]:
        way = table.navigation(name)
        if way is None:
            raise self.bad_payload(
                table,
                f"An undeclared property '{name}' which only has property annotations in the payload but no property "
                "value was found in the payload. In OData, only declared navigation properties and declared named "
                "streams can be represented as properties without values.",
            )
        column, tables = way
        if value is None:
            return column, None
        if not isinstance(value, str):
            raise self.bad_payload(table, f"The value of '{name}@odata.bind' must be a URL.")
        ref = self._pointed(part, value)
        if ref.table not in tables:
            raise self.bad_payload(table, f"'{name}' does not lead to {ref.table}.")
        if not (column.creatable or column.updatable):
            raise Refused(values.BAD_ARGUMENT, f"Attribute '{column.name}' of {table.name} is read-only.")
        return column, ref

    def _pointed(self, part: Part, address: str) -> Ref:
        """`/accounts(<guid>)`, the same without the slash, a whole URL, a `$1` of the change set, or by key."""
        if address.startswith("$"):
            if address[1:] not in part.made:
                raise bad_request(f"Content-ID Reference: '{address}' does not exist in the batch context.")
            address = part.made[address[1:]]
        path = unquote(urlsplit(address).path if "://" in address else address)
        found = SEGMENT.fullmatch(path.removeprefix("/api/data/v9.2").lstrip("/"))
        table = self.org.by_set(found["name"]) if found else None
        if found is None or table is None or found["key"] is None:
            raise bad_request(f"'{address}' is no address of a row.")
        row, named = self.addressed(table, found["key"])
        if row is None:
            raise self.not_found(table, named)
        return Ref(table.name, row[table.key])


def preferences(header: str) -> dict[str, str]:
    """`Prefer` as its parts."""
    return {found[1].lower(): (found[2] or "").strip('"') for found in _PREFERENCE.finditer(header)}


def inner(part: Part, **changes: Any) -> Part:
    """A part inside a batch: with the outer request's root and nothing else of it."""
    return replace(part, batched=True, **changes)
