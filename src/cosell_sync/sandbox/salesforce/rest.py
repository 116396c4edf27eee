"""The REST resources below /services/data/vNN.0/: routes each path and answers it from the org.

A `Part` is one request, over the wire or inside a composite. Both are handled the same way, so that a part of a composite
answers what the request alone would have answered. `Rest.answer` turns `Refused` into the platform's error list.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import accumulate, takewhile
from typing import Any

from cosell_sync.sandbox.exchange import Response
from cosell_sync.sandbox.salesforce import query, soql
from cosell_sync.sandbox.salesforce.access import Access, Seen
from cosell_sync.sandbox.salesforce.metadata import describe, summary
from cosell_sync.sandbox.salesforce.payload import (
    MAX_ROWS,
    Part,
    allows_duplicates,
    check_count,
    checked_id,
    has_id,
    is_true,
    json_object,
    key_value,
    records_of,
    row_refusal,
)
from cosell_sync.sandbox.salesforce.replication import deleted, updated
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import Field, SObject
from cosell_sync.sandbox.salesforce.values import Refused, Row, make_id, normal_id, render

MAX_RETRIEVE = 2000


def _child_rows(record: Mapping[str, Any]) -> int:
    """How many rows the sub-selects of a record have."""
    return sum(
        len(each["records"]) for each in record.values() if isinstance(each, dict) and "records" in each
    )


@dataclass
class Rest:
    """Routes a part and answers it."""

    org: Org
    precondition_field: str = "LastModifiedDate"
    page_size: int = 2000
    root: str = "/services/data/v66.0"
    usage: Callable[[], tuple[int, int]] = lambda: (0, 0)
    composite: "Callable[[Rest, Part], Response] | None" = None
    access: Access | None = None
    _cursors: dict[str, tuple[list[dict[str, Any]], int]] = field(default_factory=dict)

    def answer(self, part: Part) -> Response:
        """The response to one part; a refusal becomes an error list."""
        try:
            return self._route(part)
        except Refused as refused:
            return Response(refused.status, [refused.as_error()])
        except soql.SoqlError as refused:
            return Response(400, [{"message": refused.message, "errorCode": refused.code}])

    def _route(self, part: Part) -> Response:
        match part.method, part.path:
            case "GET", ():
                names = ("sobjects", "query", "queryAll", "composite", "limits")
                return Response(200, {name: f"{self.root}/{name}" for name in names})
            case "GET", ("limits",):
                used, limit = self.usage()
                return Response(200, {"DailyApiRequests": {"Max": limit, "Remaining": max(0, limit - used)}})
            case "GET", ("query" | "queryAll" as word,):
                return self._query(part, deleted=word == "queryAll")
            case "GET", ("query" | "queryAll", locator):
                return self._next_page(part, locator)
            case "GET", ("sobjects",):
                listed = [summary(shape, self.root) for shape in self.org.schema.values()]
                return Response(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": listed})
            case _, ("sobjects", name, *rest):
                return self._sobject(part, self.org.shape(name), tuple(rest))
            case _, ("composite", "sobjects", *rest):
                return self._collection(part, tuple(rest))
            case "POST", ("composite", *_) if self.composite is not None:
                return self.composite(self, part)
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    # ------------------------------------------------------------ queries

    def _query(self, part: Part, *, deleted: bool) -> Response:
        text = part.query.get("q")
        if not text:
            raise Refused("MALFORMED_QUERY", "A query string has to be specified")
        source = self.org if self.access is None else Seen(self.org, self.access, part.actor)
        found = query.run(text, source, self.root, deleted=deleted)
        if len(found.records) != found.total:
            return Response(200, {"totalSize": found.total, "done": True, "records": []})
        locator = make_id("01g", len(self._cursors) + 1)
        size = self._page(part.headers)
        page = self._cut(locator, found.records, 0, size)
        if not page["done"]:
            self._cursors[locator] = (found.records, size)
        return Response(200, page)

    def _page(self, headers: Mapping[str, str]) -> int:
        wish = re.search(r"batchSize\s*=\s*(\d+)", headers.get("sforce-query-options", ""))
        return min(self.page_size, max(MAX_ROWS, int(wish[1]))) if wish else self.page_size

    def _cut(self, locator: str, records: list[dict[str, Any]], start: int, size: int) -> dict[str, Any]:
        """The rows from ``start`` on that fit into a page. Child rows count as well.
        https://developer.salesforce.com/docs/platform/api-rest/guide/headers-queryoptions.html
        """
        weights = accumulate(1 + _child_rows(each) for each in records[start:])
        end = start + max(1, sum(1 for _ in takewhile(lambda weight: weight <= size, weights)))
        page: dict[str, Any] = {"totalSize": len(records), "done": end >= len(records)}
        if not page["done"]:
            page["nextRecordsUrl"] = f"{self.root}/query/{locator}-{end}"
        return {**page, "records": records[start:end]}

    def _next_page(self, part: Part, locator: str) -> Response:
        cursor, _, start = locator.partition("-")
        if cursor not in self._cursors or not start.isdigit():
            raise Refused("INVALID_QUERY_LOCATOR", "invalid query locator")
        records, size = self._cursors[cursor]
        if "sforce-query-options" in part.headers:
            size = self._page(part.headers)
        return Response(200, self._cut(cursor, records, int(start), size))

    # ------------------------------------------------------------ one object

    def _sobject(self, part: Part, shape: SObject, rest: tuple[str, ...]) -> Response:
        match part.method, rest:
            case "GET", ():
                about = summary(shape, self.root)
                return Response(200, {"objectDescribe": about, "recentItems": []})
            case "POST", ():
                return self._create(part, shape)
            case "GET", ("describe",):
                return Response(200, describe(shape, self.root))
            case "GET", ("updated",):
                return updated(self.org, part, shape)
            case "GET", ("deleted",):
                return deleted(self.org, part, shape)
            case _, (row_id,):
                return self._row(part, shape, row_id)
            case _, (column, *value):
                return self._keyed_row(part, shape, column, "/".join(value))
        raise Refused("METHOD_NOT_ALLOWED", f"HTTP Method '{part.method}' not allowed")

    def _create(self, part: Part, shape: SObject) -> Response:
        body = json_object(part.body)
        if has_id(body):
            raise Refused("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call", ("Id",))
        made = self.org.insert(shape.name, body, part.actor, allow_save=allows_duplicates(part.headers))
        return self._made(shape, made)

    def _made(self, shape: SObject, row_id: str, **more: object) -> Response:
        body = {"id": row_id, "success": True, "errors": [], **more}
        return Response(201, body, {"Location": f"{self.root}/sobjects/{shape.name}/{row_id}"})

    def _row(self, part: Part, shape: SObject, row_id: str) -> Response:
        row = self.org.live(shape.name, row_id)
        if self.access is not None and not self.access.sees(part.actor, shape.name, row):
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        if part.method == "GET":
            self._precondition(part, row)
            return Response(200, self._shown(shape, row, part.query.get("fields")))
        if part.method == "PATCH":
            body = json_object(part.body)
            if has_id(body):
                raise Refused(
                    "INVALID_FIELD", "The Id field should not be specified in the sobject data.", ("Id",)
                )
            self._precondition(part, row)
            allowed = allows_duplicates(part.headers)
            self.org.update(shape.name, row["Id"], body, part.actor, allow_save=allowed)
            return Response(204)
        if part.method == "DELETE":
            self.org.delete(shape.name, row["Id"], part.actor)
            return Response(204)
        raise Refused("METHOD_NOT_ALLOWED", f"HTTP Method '{part.method}' not allowed")

    def _precondition(self, part: Part, row: Row) -> None:
        """`If-Unmodified-Since`, to the second; on DELETE the platform does not look at it."""
        given = part.headers.get("if-unmodified-since")
        if given is None:
            return
        try:
            since = parsedate_to_datetime(given)
        except ValueError:
            raise Refused("INVALID_HEADER", f"If-Unmodified-Since is no HTTP date: {given}") from None
        if since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        if row[self.precondition_field] > since:
            raise Refused(
                "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE", "The record has been modified since the date given"
            )

    def _shown(self, shape: SObject, row: Row, wanted: str | None) -> dict[str, Any]:
        made: dict[str, Any] = {
            "attributes": {"type": shape.name, "url": f"{self.root}/sobjects/{shape.name}/{row['Id']}"}
        }
        if not wanted:
            return {**made, **self.org.record(shape.name, row)}
        columns = [self._readable(shape, name.strip()) for name in wanted.split(",")]
        made.update({each.name: render(each, row) for each in columns})
        made.setdefault("Id", row["Id"])
        return made

    def _readable(self, shape: SObject, name: str) -> Field:
        each = shape.find(name)
        if each is None:
            raise Refused("INVALID_FIELD", f"No such column '{name}' on entity '{shape.name}'.")
        return each

    def _keyed_row(self, part: Part, shape: SObject, column: str, value: str) -> Response:
        """The row form by external id: at most one may match, and PATCH makes it when none does."""
        each = self.org.key_field(shape.name, column)
        found = self.org.by_key(shape.name, each, value)
        if len(found) > 1:
            urls = [f"{self.root}/sobjects/{shape.name}/{row['Id']}" for row in found]
            return Response(300, urls)
        if part.method != "PATCH":
            if not found:
                raise Refused("NOT_FOUND", "The requested resource does not exist")
            headers = {k: v for k, v in part.headers.items() if k != "if-unmodified-since"}
            return self._row(replace(part, headers=headers), shape, found[0]["Id"])
        body = json_object(part.body)
        if any(name.lower() == each.name.lower() for name in body) or has_id(body):
            raise Refused(
                "INVALID_FIELD",
                f"The {each.name} field should not be specified in the sobject data.",
                (each.name,),
            )
        if found:
            self.org.update(shape.name, found[0]["Id"], body, part.actor)
            return Response(200, {"id": found[0]["Id"], "success": True, "errors": [], "created": False})
        if part.query.get("updateOnly", "").lower() == "true":
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        whole = {**body, each.name: value}
        made = self.org.insert(shape.name, whole, part.actor, allow_save=allows_duplicates(part.headers))
        return self._made(shape, made, created=True)

    # ------------------------------------------------------------ collections

    def _collection(self, part: Part, rest: tuple[str, ...]) -> Response:
        match part.method, rest:
            case "POST", ():
                return self._rows(part, self._insert_row)
            case "PATCH", ():
                return self._rows(part, self._update_row)
            case "DELETE", ():
                return self._delete_rows(part)
            case "GET" | "POST", (name,):
                return self._retrieve(part, self.org.shape(name))
            case "PATCH", (name, column):
                shape = self.org.shape(name)
                each = self.org.key_field(shape.name, column)
                records = records_of(part)
                keys = Counter((key_value(record, each) or "").casefold() for record in records)
                twice = {key for key, count in keys.items() if key and count > 1}

                def upsert(record: dict[str, Any], at: Part) -> dict[str, Any]:
                    return self._upsert_row(record, at, shape, each, twice)

                return self._rows(part, upsert)
        raise Refused("METHOD_NOT_ALLOWED", f"HTTP Method '{part.method}' not allowed")

    def _rows(self, part: Part, act: Callable[[dict[str, Any], Part], dict[str, Any]]) -> Response:
        """Each record alone, or all of them or none; the results in the order of the request."""
        records = records_of(part)
        whole = is_true(json_object(part.body).get("allOrNone"))
        kept = self.org.savepoint() if whole else None
        results: list[dict[str, Any]] = []
        for record in records:
            try:
                results.append(act(record, part))
            except Refused as refused:
                error = row_refusal(refused)
                results.append({"success": False, "errors": [error.as_row_error()]})
        return Response(200, self._all_or_none(results, kept))

    def _all_or_none(self, results: list[dict[str, Any]], kept: Any) -> list[dict[str, Any]]:
        if kept is None or all(result["success"] for result in results):
            return results
        self.org.roll_back(kept)
        rolled = Refused(
            "ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid"
        )
        return [
            {"success": False, "errors": [rolled.as_row_error()]} if result["success"] else result
            for result in results
        ]

    def _typed(self, record: dict[str, Any]) -> SObject:
        name = (record.get("attributes") or {}).get("type")
        if not isinstance(name, str):
            raise Refused("INVALID_TYPE", "attributes.type is missing")
        try:
            return self.org.shape(name)
        except Refused:
            raise Refused("INVALID_TYPE", f"sObject type '{name}' is not supported.") from None

    def _insert_row(self, record: dict[str, Any], part: Part) -> dict[str, Any]:
        shape = self._typed(record)
        if has_id(record):
            raise Refused("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call", ("Id",))
        made = self.org.insert(shape.name, record, part.actor, allow_save=allows_duplicates(part.headers))
        return {"id": made, "success": True, "errors": []}

    def _update_row(self, record: dict[str, Any], part: Part) -> dict[str, Any]:
        shape = self._typed(record)
        given = next((value for name, value in record.items() if name.lower() == "id"), None)
        if given is None:
            raise Refused("MISSING_ARGUMENT", "Id not specified in an update call")
        wanted = checked_id(given)
        sent = {name: value for name, value in record.items() if name.lower() != "id"}
        self.org.update(shape.name, wanted, sent, part.actor, allow_save=allows_duplicates(part.headers))
        return {"id": wanted, "success": True, "errors": []}

    def _upsert_row(
        self, record: dict[str, Any], part: Part, shape: SObject, each: Field, twice: set[str]
    ) -> dict[str, Any]:
        if self._typed(record).name != shape.name:
            raise Refused("INVALID_TYPE", f"attributes.type must be {shape.name}")
        if has_id(record):
            raise Refused(
                "INVALID_FIELD", "cannot specify both Id and an external ID in an upsert call", ("Id",)
            )
        key = key_value(record, each)
        if key is None:
            raise Refused("MISSING_ARGUMENT", f"{each.name} not specified", (each.name,))
        if key.casefold() in twice:
            raise Refused("DUPLICATE_VALUE", f"Duplicate external id specified: {key}", (each.name,))
        found = self.org.by_key(shape.name, each, key)
        if len(found) > 1:
            raise Refused("DUPLICATE_EXTERNAL_ID", f"{each.name}: more than one record found", (each.name,))
        if found:
            sent = {name: value for name, value in record.items() if name.lower() != each.name.lower()}
            self.org.update(shape.name, found[0]["Id"], sent, part.actor)
            return {"id": found[0]["Id"], "success": True, "errors": [], "created": False}
        made = self.org.insert(shape.name, record, part.actor, allow_save=allows_duplicates(part.headers))
        return {"id": made, "success": True, "errors": [], "created": True}

    def _delete_rows(self, part: Part) -> Response:
        ids = [each for each in part.query.get("ids", "").split(",") if each]
        check_count(len(ids))
        kept = self.org.savepoint() if is_true(part.query.get("allOrNone")) else None
        results: list[dict[str, Any]] = []
        for each in ids:
            try:
                wanted = checked_id(each)
                shape = next((s for s in self.org.schema.values() if s.prefix == wanted[:3]), None)
                if shape is None:
                    raise Refused("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")  # noqa: TRY301
                self.org.delete(shape.name, wanted, part.actor)
                results.append({"id": wanted, "success": True, "errors": []})
            except Refused as refused:
                results.append(
                    {"id": each, "success": False, "errors": [row_refusal(refused).as_row_error()]}
                )
        return Response(200, self._all_or_none(results, kept))

    def _retrieve(self, part: Part, shape: SObject) -> Response:
        """Rows by id, in the order asked for; null where the id is unknown or its row deleted."""
        if part.method == "GET":
            ids: Any = part.query.get("ids", "").split(",")
            columns: Any = part.query.get("fields", "").split(",")
        else:
            body = json_object(part.body)
            ids, columns = body.get("ids"), body.get("fields")
        if not isinstance(ids, list) or not isinstance(columns, list) or not any(columns):
            raise Refused("MISSING_ARGUMENT", "ids and fields are required")
        check_count(len(ids), MAX_RETRIEVE)
        fields = ",".join(self._readable(shape, str(name).strip()).name for name in columns)
        shown: list[dict[str, Any] | None] = []
        for each in ids:
            row = self.org.find(shape.name, normal_id(each) or "")
            shown.append(None if row is None or row["IsDeleted"] else self._shown(shape, row, fields))
        return Response(200, shown)
