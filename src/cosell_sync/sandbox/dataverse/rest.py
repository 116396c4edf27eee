"""The Web API below /api/data/v9.2/: what each address does with the environment.

A `Part` is one request, whether it came over the wire or inside a batch; both take the same way. Refusals rise as
`Refused` and become the platform's error object in one place (`Rest.answer`).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from cosell_sync.sandbox.dataverse import odata, values
from cosell_sync.sandbox.dataverse.metadata import Metadata
from cosell_sync.sandbox.dataverse.odata import bad
from cosell_sync.sandbox.dataverse.opportunities import LOST, WON, Deals
from cosell_sync.sandbox.dataverse.query import Reader, Wish, etag
from cosell_sync.sandbox.dataverse.roles import privilege
from cosell_sync.sandbox.dataverse.rows import Org, Record
from cosell_sync.sandbox.dataverse.schema import Column, Table
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row
from cosell_sync.sandbox.exchange import Response

MOST_URL = 32_768
MOST_URL_IN_BATCH = 65_536
UNFIT_FOR_KEYS = frozenset("/<>*%&:\\?+")
_PREFERENCE = re.compile(r'\s*([\w.\-]+)\s*(?:=\s*("[^"]*"|[^,;\s]+))?\s*(?:[,;]|$)')
_SEGMENT = re.compile(r"(?P<name>[\w$.@]+)(?:\((?P<key>(?:[^'()]|'(?:[^']|'')*')*)\))?")
_KEY_PART = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<bare>[\w.:\-]+))\s*(?:,|$)")
_ETAG = re.compile(r'W/"\d+"')


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
class Rights:
    """What the roles of the application user lack."""

    denied: set[str] = field(default_factory=set)  # privilege names such as prvWriteOpportunity
    secured: set[tuple[str, str]] = field(
        default_factory=set
    )  # (table, column) without a field security profile
    has_roles: bool = True
    organization_wide_read: bool = True
    may: Callable[[str], frozenset[str] | None] = lambda _: None  # by user; None: everything
    asked: set[str] = field(default_factory=set)  # the privileges that were needed so far

    def need(self, verb: str, table: str, actor: str) -> None:
        if not self.has_roles:
            raise Refused(
                values.NO_ROLES,
                "The user has not been assigned any License or role. No roles are assigned.",
                403,
            )
        self.need_named(privilege(verb, table), table, actor)

    def need_named(self, name: str, table: str, actor: str) -> None:
        mine = self.may(actor)
        self.asked.add(name)
        if name.lower() in {each.lower() for each in self.denied} or (
            mine is not None and name.lower() not in mine
        ):
            raise Refused(
                values.NO_PRIVILEGE,
                f"Principal user (Id={actor}, type=8, roleCount=1, privilegeCount=42, accessMode=4) is missing {name} "
                f"privilege on OTC=3 for entity '{table}'. context.Caller={actor}",
                403,
            )

    def need_column(self, table: str, columns: Mapping[str, Any], *, creating: bool) -> None:
        for name in columns:
            if (table, name) in self.secured:
                code, word = ("0x8004F502", "create") if creating else ("0x8004F507", "update")
                raise Refused(
                    code, f"Caller does not have permission to {word} the secured attribute '{name}'.", 403
                )

    def may_see(self, table: str, column: str) -> bool:
        return (table, column) not in self.secured


@dataclass
class Rest:
    """Routes a part and answers it."""

    org: Org
    reader: Reader
    deals: Deals
    metadata: Metadata
    rights: Rights
    strict_spaces: bool = False
    key_honours_etag: bool = True
    blank_codes: bool = False  # some 404 and 412 of the platform come without a code
    actor: str = ""
    identity: Callable[[], dict[str, str]] = dict
    setup: Callable[[Part, Mapping[str, str], str], Response | None] = lambda _part, _options, _actor: None

    def answer(self, part: Part) -> Response:
        try:
            response = self._route(part)
        except Refused as refused:
            response = self._refusal(part, refused)
        response.headers.setdefault("OData-Version", "4.0")
        return response

    def _refusal(self, part: Part, refused: Refused) -> Response:
        error: dict[str, object] = {"code": refused.code, "message": refused.message}
        if self.blank_codes and refused.status in {404, 412}:
            error["code"] = ""
        if "include-annotations" in part.headers.get("prefer", ""):
            about = "@Microsoft.PowerApps.CDS."
            error[f"{about}ErrorDetails.OperationStatus"] = "0"
            error[f"{about}HelpLink"] = f"http://go.microsoft.com/fwlink/?LinkID=398563&error={refused.code}"
            error[f"{about}TraceText"] = "[Contoso.Plugins: Kim Li <kim.li@fabrikam.example>]"
            error[f"{about}InnerError.Message"] = refused.message
        return Response(refused.status, {"error": error}, refused.headers)

    def _route(self, part: Part) -> Response:
        if len(quote(part.path)) + len(part.raw_query) > (MOST_URL_IN_BATCH if part.batched else MOST_URL):
            raise bad("The request URL is too long.")
        for name in ("odata-maxversion", "odata-version"):
            if part.headers.get(name, "4.0") != "4.0":
                raise bad(f"The header '{name}' must be 4.0 here.")
        if (
            "json" not in part.headers.get("accept", "application/json")
            and "*/*" not in part.headers["accept"]
        ):
            raise bad(
                "A supported MIME type could not be found that matches the Accept header of the request."
            )
        options = odata.options(part.raw_query, strict_spaces=self.strict_spaces)
        first, _, rest = part.path.strip("/").partition("/")
        if first.removesuffix("()") == "WhoAmI" and part.method == "GET":
            context = f"{part.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"
            return Response(200, {"@odata.context": context, **self.identity()})
        if first in {"WinOpportunity", "LoseOpportunity"}:
            return self._close(part, WON if first.startswith("Win") else LOST)
        made = self.setup(part, options, self.actor)
        if made is not None:
            return made
        if first.partition("(")[0] in self.metadata.roots:
            self.rights.need("Read", "entity", self.actor)
            return Response(200, self.metadata.answer(part.path.strip("/"), options, part.root))
        found = _SEGMENT.fullmatch(first)
        table = self.org.by_set(found["name"]) if found else None
        if found is None or table is None:
            raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{first}'.", 404)
        if found["key"] is None:
            return self._set(part, table, rest, options)
        return self._row(part, table, found["key"], rest, options)

    def wish(self, part: Part) -> Wish:
        given = preferences(part.headers.get("prefer", ""))
        page = given.get("odata.maxpagesize")
        if page is not None and not (page.isdigit() and int(page) > 0):
            raise bad(f"Invalid odata.maxpagesize '{page}'.")
        listed = tuple(
            each.strip() for each in given.get("odata.include-annotations", "").split(",") if each.strip()
        )
        return Wish(
            part.root,
            int(page) if page else None,
            listed,
            "odata.track-changes" in given,
            modern="odata-maxversion" not in part.headers,
        )

    # ------------------------------------------------------------ a set of rows

    def _set(self, part: Part, table: Table, rest: str, options: Mapping[str, str]) -> Response:
        match part.method, rest:
            case "GET", "":
                self.rights.need("Read", table.name, self.actor)
                wish = self.wish(part)
                following = wish.track or "$deltatoken" in options
                if following and not self.rights.organization_wide_read:
                    raise Refused(
                        values.NO_PRIVILEGE,
                        f"Change tracking needs organization-level read on '{table.name}'.",
                        403,
                    )
                page = self.reader.page(table, options, wish)
                applied = []
                if wish.track:
                    applied.append("odata.track-changes")
                if wish.page is not None:
                    applied.append(f"odata.maxpagesize={wish.page}")
                if wish.annotations:
                    applied.append(f'odata.include-annotations="{",".join(wish.annotations)}"')
                return Response(200, page, {"Preference-Applied": ", ".join(applied)} if applied else {})
            case "GET", "$count":
                self.rights.need("Read", table.name, self.actor)
                count = self.reader.count(table, options)
                return Response(200, str(count).encode(), {"Content-Type": "text/plain"})
            case "POST", "":
                body = self._body(part, table)
                made = self._create(part, table, self._payload(part, table, body, creating=True), body)
                return self._written(part, table, made, options, created=True)
        raise Refused(values.NO_SEGMENT, f"The method '{part.method}' is not allowed here.", 405)

    def _create(
        self, part: Part, table: Table, sent: Record, body: Mapping[str, Any], row_id: str | None = None
    ) -> str:
        self.rights.need("Create", table.name, self.actor)
        self.rights.need_column(table.name, sent, creating=True)
        self._appending(table, sent)
        self._look_for_doubles(part, table, sent)
        row_id = sent.pop(table.key, None) or row_id
        if row_id is not None and self.org.find(table.name, row_id) is not None:
            raise Refused(values.DUPLICATE_ROW, "A record with matching key values already exists.", 412)
        kept = self.org.keep()
        try:
            made = self.org.insert(table.name, sent, self.actor, row_id=row_id)
            for child in table.children:
                for inner in body.get(child.name) or []:
                    if not isinstance(inner, dict):
                        raise self._wrong(table, f"'{child.name}' holds something that is no object.")
                    below = self.org.schema[child.table]
                    values_of = self._payload(part, below, inner, creating=True)
                    self._create(part, below, {**values_of, child.column: Ref(table.name, made)}, inner)
        except Refused:
            self.org.restore(kept)
            raise
        return made

    def _appending(self, table: Table, sent: Record) -> None:
        targets = {value.table for value in sent.values() if isinstance(value, Ref)}
        if targets:
            self.rights.need("Append", table.name, self.actor)
        for target in sorted(targets):
            self.rights.need("AppendTo", target, self.actor)

    def _look_for_doubles(self, part: Part, table: Table, sent: Record) -> None:
        """Duplicate rules look only where a client asks for it; accounts and contacts have some from the start."""
        column = {"account": "name", "contact": "emailaddress1"}.get(table.name)
        if part.headers.get("mscrm.suppressduplicatedetection", "true").lower() != "false" or column is None:
            return
        wanted = odata.comparable(sent.get(column))
        if wanted is not None and any(
            odata.comparable(row[column]) == wanted for row in self.org.scan(table.name)
        ):
            raise Refused(values.DUPLICATES_FOUND, "A record was not created or updated because a duplicate of the current record already exists.", 412)  # fmt: skip

    # ------------------------------------------------------------ one row

    def _row(self, part: Part, table: Table, key: str, rest: str, options: Mapping[str, str]) -> Response:
        row, named = self._addressed(table, key)
        if part.method == "PATCH" and not rest:
            return self._patch(part, table, row, named, options)
        if row is None:
            raise self._gone(table, named)
        row_id = row[table.key]
        if rest:
            return self._below(part, table, row, rest, options)
        if part.method == "GET":
            self.rights.need("Read", table.name, self.actor)
            wish = self.wish(part)
            query = self.reader.query(
                table, {name: options[name] for name in options if name in {"$select", "$expand"}}
            )
            plain = not query.expand and not wish.annotations
            headers = {"ETag": etag(row)} if table.concurrency else {}
            if plain and part.headers.get("if-none-match") == etag(row):
                return Response(304, None, headers)
            return Response(200, self.reader.shown(row, query, wish, context=True), headers)
        if part.method == "DELETE":
            self.rights.need("Delete", table.name, self.actor)
            self._precondition(part, table, row, named)
            self.org.delete(table.name, row_id)
            return Response(204)
        raise Refused(values.NO_SEGMENT, f"The method '{part.method}' is not allowed here.", 405)

    def _addressed(self, table: Table, key: str) -> tuple[Row | None, Record]:
        """The row under an id or an alternate key, if there is one, and how it was addressed."""
        wanted = values.guid(key)
        if wanted is not None:
            return self.org.find(table.name, wanted), {table.key: wanted}
        named: Record = {}
        at = 0
        while at < len(key) and (found := _KEY_PART.match(key, at)):
            text = found["text"]
            if text is not None and UNFIT_FOR_KEYS & set(text):
                raise bad(f"The key value '{text}' holds a character that cannot be used in an address.")
            named[found["name"]] = found["bare"] if text is None else text.replace("''", "'")
            at = found.end()
        if not named or at < len(key):
            raise bad(f"Error in the key '({key})': bare guids, or name='text' of an alternate key.")
        if set(named) == {table.key}:
            wanted = values.guid(named[table.key])
            if wanted is None:
                raise bad(f"'{named[table.key]}' is no guid.")
            return self.org.find(table.name, wanted), {table.key: wanted}
        alternate = self.org.key(table, set(named))
        sent = {name: self._key_value(table, table.columns[name], value) for name, value in named.items()}
        return self.org.by_key(table, alternate, sent), sent

    def _key_value(self, table: Table, column: Column, text: str) -> Any:
        value: object = Decimal(text) if column.kind in {"integer", "decimal"} else text
        return values.convert(column, value, table.name)

    def _gone(self, table: Table, named: Record) -> Refused:
        if table.key in named:
            return Refused(values.NO_ROW, f"{table.name} With Id = {named[table.key]} Does Not Exist", 404)
        return Refused(
            values.NO_ROW_BY_KEY,
            f"A record with the specified key values does not exist in {table.name} entity",
            404,
        )

    def _precondition(self, part: Part, table: Table, row: Row, named: Record) -> None:
        match = part.headers.get("if-match")
        if match is None or match == "*":
            return
        if not table.concurrency:
            raise Refused(
                values.NO_CONCURRENCY, f"Optimistic concurrency is not enabled for entity type {table.name}."
            )
        if not _ETAG.fullmatch(match):
            raise bad(f"'{match}' is no valid ETag.")
        if match != etag(row) and (table.key in named or self.key_honours_etag):
            raise Refused(
                values.STALE,
                "The version of the existing record doesn't match the RowVersion property provided.",
                412,
            )

    def _patch(
        self, part: Part, table: Table, row: Row | None, named: Record, options: Mapping[str, str]
    ) -> Response:
        """Update, or create where nothing is there and the headers allow it."""
        body = self._body(part, table)
        if row is None:
            if "if-match" in part.headers:
                raise self._gone(table, named)
            sent = self._payload(part, table, body, creating=True)
            row_id = named.get(table.key)
            made = self._create(part, table, {**({} if row_id else named), **sent}, body, row_id)
            return self._written(part, table, made, options, created=True)
        if part.headers.get("if-none-match") == "*":
            raise Refused(values.DUPLICATE_ROW, "A record with matching key values already exists.", 412)
        self._precondition(part, table, row, named)
        sent = self._payload(part, table, body, creating=False)
        for name in (*named, table.key):
            sent.pop(name, None)
        self.rights.need("Write", table.name, self.actor)
        if "ownerid" in sent:
            self.rights.need("Assign", table.name, self.actor)
        self.rights.need_column(table.name, sent, creating=False)
        self._appending(table, sent)
        self.org.update(table.name, row[table.key], sent, self.actor)
        kept = {name: value for name, value in options.items() if name != "$expand"}
        return self._written(part, table, row[table.key], kept, created=False)

    def _written(
        self, part: Part, table: Table, row_id: str, options: Mapping[str, str], *, created: bool
    ) -> Response:
        address = f"{part.root}{table.set_name}({row_id})"
        wanted = preferences(part.headers.get("prefer", "")).get("return") == "representation"
        if not wanted:
            return Response(204, None, {"OData-EntityId": address, "Location": address} if created else {"OData-EntityId": address})  # fmt: skip
        self.rights.need("Read", table.name, self.actor)
        query = self.reader.query(
            table, {name: options[name] for name in options if name in {"$select", "$expand"}}
        )
        row = self.org.live(table.name, row_id)
        headers = {
            "Preference-Applied": "return=representation",
            "OData-EntityId": address,
            "ETag": etag(row),
        }
        return Response(
            201 if created else 200, self.reader.shown(row, query, self.wish(part), context=True), headers
        )

    def _below(self, part: Part, table: Table, row: Row, rest: str, options: Mapping[str, str]) -> Response:
        """What hangs below one row: a lookup's row, a collection, the taking apart of a reference."""
        name, _, more = rest.partition("/")
        way = table.navigation(name)
        if part.method == "DELETE" and more == "$ref" and way is not None:
            self.rights.need("Write", table.name, self.actor)
            self.org.update(table.name, row[table.key], {way[0].name: None}, self.actor)
            return Response(204)
        if part.method == "GET" and not more:
            child = table.child(name)
            if way is not None:
                ref = row[way[0].name]
                there = self.org.at(ref) if ref is not None and ref.table in way[1] else None
                if there is None or ref is None:
                    return Response(204)
                query = self.reader.query(self.org.schema[ref.table], options)
                return Response(200, self.reader.shown(there, query, self.wish(part), context=True))
            if child is not None:
                below = self.org.schema[child.table]
                self.rights.need("Read", below.name, self.actor)
                query = self.reader.query(below, options)
                parent = Ref(table.name, row[table.key])
                rows = query.sorted(self.org.children(child.table, child.column, parent))[: query.top]
                shown = [self.reader.shown(each, query, self.wish(part)) for each in rows]
                return Response(
                    200, {"@odata.context": f"{part.root}$metadata#{below.set_name}", "value": shown}
                )
        raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{name}'.", 404)

    # ------------------------------------------------------------ bodies

    def _body(self, part: Part, table: Table | None) -> dict[str, Any]:
        if "json" not in part.headers.get("content-type", ""):
            raise Refused(values.BAD_PAYLOAD, "The Content-Type header must be application/json.", 415)
        try:
            made = json.loads(part.body, parse_float=Decimal)
        except ValueError:
            made = None
        if not isinstance(made, dict):
            raise self._wrong(table, "Invalid JSON. An object was expected.")
        return made

    def _wrong(self, table: Table | None, why: str) -> Refused:
        return Refused(
            values.BAD_PAYLOAD,
            f"Error identified in Payload provided by the user for Entity :'{table.set_name if table else ''}', For more "
            "information on this error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293 "
            f"---->  InnerException : Microsoft.OData.ODataException: {why}",
        )

    def _payload(self, part: Part, table: Table, body: Mapping[str, Any], *, creating: bool) -> Record:
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
                raise bad(
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
                raise bad("Deep update of navigation properties is not allowed.")
            raise self._wrong(
                table,
                f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'. Make sure to only "
                "use property names that are defined by the type.",
            )
        return made

    def _bound(self, part: Part, table: Table, name: str, value: object) -> tuple[Column, Ref | None]:
        way = table.navigation(name)
        if way is None:
            raise self._wrong(
                table,
                f"An undeclared property '{name}' which only has property annotations in the payload but no property "
                "value was found in the payload. In OData, only declared navigation properties and declared named "
                "streams can be represented as properties without values.",
            )
        column, tables = way
        if value is None:
            return column, None
        if not isinstance(value, str):
            raise self._wrong(table, f"The value of '{name}@odata.bind' must be a URL.")
        ref = self._pointed(part, value)
        if ref.table not in tables:
            raise self._wrong(table, f"'{name}' does not lead to {ref.table}.")
        if not (column.creatable or column.updatable):
            raise Refused(values.BAD_ARGUMENT, f"Attribute '{column.name}' of {table.name} is read-only.")
        return column, ref

    def _pointed(self, part: Part, address: str) -> Ref:
        """`/accounts(<guid>)`, the same without the slash, a whole URL, a `$1` of the change set, or by key."""
        if address.startswith("$"):
            if address[1:] not in part.made:
                raise bad(f"Content-ID Reference: '{address}' does not exist in the batch context.")
            address = part.made[address[1:]]
        path = unquote(urlsplit(address).path if "://" in address else address)
        found = _SEGMENT.fullmatch(path.removeprefix("/api/data/v9.2").lstrip("/"))
        table = self.org.by_set(found["name"]) if found else None
        if found is None or table is None or found["key"] is None:
            raise bad(f"'{address}' is no address of a row.")
        row, named = self._addressed(table, found["key"])
        if row is None:
            raise self._gone(table, named)
        return Ref(table.name, row[table.key])

    # ------------------------------------------------------------ actions

    def _close(self, part: Part, state: int) -> Response:
        if part.method != "POST":
            raise Refused(values.NO_SEGMENT, "An action is called by POST.", 405)
        body = self._body(part, None)
        about, status = body.get("OpportunityClose"), body.get("Status")
        unknown = sorted(body.keys() - {"OpportunityClose", "Status"})
        if unknown:
            raise self._wrong(
                None, f"The parameter '{unknown[0]}' in the request payload is not a valid parameter."
            )
        if not isinstance(about, dict) or isinstance(status, bool) or not isinstance(status, int):
            raise self._wrong(None, "The parameters 'OpportunityClose' and 'Status' are required.")
        sent = self._payload(part, self.org.schema["opportunityclose"], about, creating=True)
        deal = sent.pop("opportunityid", None)
        if deal is None:
            raise Refused(values.BAD_ARGUMENT, "opportunityid of the OpportunityClose is missing.")
        self.rights.need("Write", "opportunity", self.actor)
        self.rights.need("AppendTo", "opportunity", self.actor)
        self.rights.need("Create", "activity", self.actor)
        kept = self.org.keep()
        try:
            self.deals.close(deal.id, state, status, sent, self.actor)
        except Refused:
            self.org.restore(kept)
            raise
        return Response(204)


def preferences(header: str) -> dict[str, str]:
    """`Prefer` as its parts."""
    return {found[1].lower(): (found[2] or "").strip('"') for found in _PREFERENCE.finditer(header)}


def inner(part: Part, **changes: Any) -> Part:
    """A part inside a batch: the outer request's address, nothing else of it."""
    return replace(part, batched=True, **changes)
