"""The Web API below /api/data/v9.2/: routes each address and answers it from the environment.

A `Part` is one request, over the wire or inside a batch; both are handled the same way. `Rest.answer` turns `Refused` into the
platform's error object.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cosell_sync.sandbox.dataverse import odata, values
from cosell_sync.sandbox.dataverse.metadata import Metadata
from cosell_sync.sandbox.dataverse.odata import bad_request
from cosell_sync.sandbox.dataverse.opportunities import LOST, WON, Opportunities
from cosell_sync.sandbox.dataverse.payload import SEGMENT, Part, Payload, preferences
from cosell_sync.sandbox.dataverse.query import read_query
from cosell_sync.sandbox.dataverse.reading import Reader, ReadOptions, etag
from cosell_sync.sandbox.dataverse.rights import Rights
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Table
from cosell_sync.sandbox.dataverse.store import Record
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row
from cosell_sync.sandbox.exchange import Response

MOST_URL = 32_768
MOST_URL_IN_BATCH = 65_536
_ETAG = re.compile(r'W/"\d+"')


@dataclass
class Rest:
    """Routes a part and answers it."""

    org: Org
    reader: Reader
    opportunities: Opportunities
    metadata: Metadata
    rights: Rights
    strict_spaces: bool = False
    key_honours_etag: bool = True
    blank_codes: bool = False  # some 404 and 412 answers of the platform have no code
    actor: str = ""
    identity: Callable[[], dict[str, str]] = dict
    payload: Payload = field(init=False)
    setup: Callable[[Part, Mapping[str, str], str], Response | None] = lambda _part, _options, _actor: None

    def __post_init__(self) -> None:
        self.payload = Payload(self.org)

    def answer(self, part: Part) -> Response:
        """The response to one part; a refusal becomes an error object."""
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

    def _check_request(self, part: Part) -> None:
        """Refuses what is wrong before any address is looked at: length, OData version, media type."""
        if len(quote(part.path)) + len(part.raw_query) > (MOST_URL_IN_BATCH if part.batched else MOST_URL):
            raise bad_request("The request URL is too long.")
        for name in ("odata-maxversion", "odata-version"):
            if part.headers.get(name, "4.0") != "4.0":
                raise bad_request(f"The header '{name}' must be 4.0 here.")
        if (
            "json" not in part.headers.get("accept", "application/json")
            and "*/*" not in part.headers["accept"]
        ):
            raise bad_request(
                "A supported MIME type could not be found that matches the Accept header of the request."
            )

    def _route(self, part: Part) -> Response:
        self._check_request(part)
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
        found = SEGMENT.fullmatch(first)
        table = self.org.by_set(found["name"]) if found else None
        if found is None or table is None:
            raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{first}'.", 404)
        if found["key"] is None:
            return self._set(part, table, rest, options)
        return self._row(part, table, found["key"], rest, options)

    def read_options(self, part: Part) -> ReadOptions:
        """What the Prefer and OData headers of a read ask for."""
        given = preferences(part.headers.get("prefer", ""))
        page = given.get("odata.maxpagesize")
        if page is not None and not (page.isdigit() and int(page) > 0):
            raise bad_request(f"Invalid odata.maxpagesize '{page}'.")
        listed = tuple(
            each.strip() for each in given.get("odata.include-annotations", "").split(",") if each.strip()
        )
        return ReadOptions(
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
                asked = self.read_options(part)
                following = asked.track or "$deltatoken" in options
                if following and not self.rights.organization_wide_read:
                    raise Refused(
                        values.NO_PRIVILEGE,
                        f"Change tracking needs organization-level read on '{table.name}'.",
                        403,
                    )
                page = self.reader.page(table, options, asked)
                applied = []
                if asked.track:
                    applied.append("odata.track-changes")
                if asked.page is not None:
                    applied.append(f"odata.maxpagesize={asked.page}")
                if asked.annotations:
                    applied.append(f'odata.include-annotations="{",".join(asked.annotations)}"')
                return Response(200, page, {"Preference-Applied": ", ".join(applied)} if applied else {})
            case "GET", "$count":
                self.rights.need("Read", table.name, self.actor)
                count = self.reader.count(table, options)
                return Response(200, str(count).encode(), {"Content-Type": "text/plain"})
            case "POST", "":
                body = self.payload.body(part, table)
                made = self._create(part, table, self.payload.columns(part, table, body, creating=True), body)
                return self._written(part, table, made, options, created=True)
        raise Refused(values.NO_SEGMENT, f"The method '{part.method}' is not allowed here.", 405)

    def _create(
        self, part: Part, table: Table, sent: Record, body: Mapping[str, Any], row_id: str | None = None
    ) -> str:
        self.rights.need("Create", table.name, self.actor)
        self.rights.need_column(table.name, sent, creating=True)
        self._appending(table, sent)
        self._check_duplicates(part, table, sent)
        row_id = sent.pop(table.key, None) or row_id
        if row_id is not None and self.org.find(table.name, row_id) is not None:
            raise Refused(values.DUPLICATE_ROW, "A record with matching key values already exists.", 412)
        kept = self.org.savepoint()
        try:
            made = self.org.insert(table.name, sent, self.actor, row_id=row_id)
            for child in table.children:
                for inner in body.get(child.name) or []:
                    if not isinstance(inner, dict):
                        raise self.payload.bad_payload(
                            table, f"'{child.name}' holds something that is no object."
                        )
                    below = self.org.schema[child.table]
                    values_of = self.payload.columns(part, below, inner, creating=True)
                    self._create(part, below, {**values_of, child.column: Ref(table.name, made)}, inner)
        except Refused:
            self.org.roll_back(kept)
            raise
        return made

    def _appending(self, table: Table, sent: Record) -> None:
        targets = {value.table for value in sent.values() if isinstance(value, Ref)}
        if targets:
            self.rights.need("Append", table.name, self.actor)
        for target in sorted(targets):
            self.rights.need("AppendTo", target, self.actor)

    def _check_duplicates(self, part: Part, table: Table, sent: Record) -> None:
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
        row, named = self.payload.addressed(table, key)
        if part.method == "PATCH" and not rest:
            return self._patch(part, table, row, named, options)
        if row is None:
            raise self.payload.not_found(table, named)
        row_id = row[table.key]
        if rest:
            return self._related(part, table, row, rest, options)
        if part.method == "GET":
            self.rights.need("Read", table.name, self.actor)
            asked = self.read_options(part)
            query = read_query(
                self.org, table, {name: options[name] for name in options if name in {"$select", "$expand"}}
            )
            plain = not query.expand and not asked.annotations
            headers = {"ETag": etag(row)} if table.concurrency else {}
            if plain and part.headers.get("if-none-match") == etag(row):
                return Response(304, None, headers)
            return Response(200, self.reader.shown(row, query, asked, context=True), headers)
        if part.method == "DELETE":
            self.rights.need("Delete", table.name, self.actor)
            self._precondition(part, table, row, named)
            self.org.delete(table.name, row_id)
            return Response(204)
        raise Refused(values.NO_SEGMENT, f"The method '{part.method}' is not allowed here.", 405)

    def _precondition(self, part: Part, table: Table, row: Row, named: Record) -> None:
        match = part.headers.get("if-match")
        if match is None or match == "*":
            return
        if not table.concurrency:
            raise Refused(
                values.NO_CONCURRENCY, f"Optimistic concurrency is not enabled for entity type {table.name}."
            )
        if not _ETAG.fullmatch(match):
            raise bad_request(f"'{match}' is no valid ETag.")
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
        body = self.payload.body(part, table)
        if row is None:
            if "if-match" in part.headers:
                raise self.payload.not_found(table, named)
            sent = self.payload.columns(part, table, body, creating=True)
            row_id = named.get(table.key)
            made = self._create(part, table, {**({} if row_id else named), **sent}, body, row_id)
            return self._written(part, table, made, options, created=True)
        if part.headers.get("if-none-match") == "*":
            raise Refused(values.DUPLICATE_ROW, "A record with matching key values already exists.", 412)
        self._precondition(part, table, row, named)
        sent = self.payload.columns(part, table, body, creating=False)
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
        query = read_query(
            self.org, table, {name: options[name] for name in options if name in {"$select", "$expand"}}
        )
        row = self.org.live(table.name, row_id)
        headers = {
            "Preference-Applied": "return=representation",
            "OData-EntityId": address,
            "ETag": etag(row),
        }
        return Response(
            201 if created else 200,
            self.reader.shown(row, query, self.read_options(part), context=True),
            headers,
        )

    def _related(self, part: Part, table: Table, row: Row, rest: str, options: Mapping[str, str]) -> Response:
        """An address below one row: a lookup's row, a collection, the removal of a reference."""
        name, _, more = rest.partition("/")
        if (
            name == "Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"
            and table.name == "systemuser"
        ):
            # https://learn.microsoft.com/power-apps/developer/data-platform/webapi/reference/retrieveprincipalattributeprivileges
            listed = [
                {
                    "AttributeId": self.metadata.identity(f"{of}.{column}"),
                    "CanCreate": 4,
                    "CanRead": 4,
                    "CanUpdate": 4,
                }
                for of, column in sorted(self.rights.opened)
            ]
            return Response(
                200, {"@odata.context": f"{part.root}$metadata#{name}", "AttributePrivileges": listed}
            )
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
                query = read_query(self.org, self.org.schema[ref.table], options)
                return Response(200, self.reader.shown(there, query, self.read_options(part), context=True))
            if child is not None:
                below = self.org.schema[child.table]
                self.rights.need("Read", below.name, self.actor)
                query = read_query(self.org, below, options)
                parent = Ref(table.name, row[table.key])
                rows = query.sorted(self.org.children(child.table, child.column, parent))[: query.top]
                shown = [self.reader.shown(each, query, self.read_options(part)) for each in rows]
                return Response(
                    200, {"@odata.context": f"{part.root}$metadata#{below.set_name}", "value": shown}
                )
        raise Refused(values.NO_SEGMENT, f"Resource not found for the segment '{name}'.", 404)

    # ------------------------------------------------------------ actions

    def _close(self, part: Part, state: int) -> Response:
        if part.method != "POST":
            raise Refused(values.NO_SEGMENT, "An action is called by POST.", 405)
        body = self.payload.body(part, None)
        about, status = body.get("OpportunityClose"), body.get("Status")
        unknown = sorted(body.keys() - {"OpportunityClose", "Status"})
        if unknown:
            raise self.payload.bad_payload(
                None, f"The parameter '{unknown[0]}' in the request payload is not a valid parameter."
            )
        if not isinstance(about, dict) or isinstance(status, bool) or not isinstance(status, int):
            raise self.payload.bad_payload(
                None, "The parameters 'OpportunityClose' and 'Status' are required."
            )
        sent = self.payload.columns(part, self.org.schema["opportunityclose"], about, creating=True)
        deal = sent.pop("opportunityid", None)
        if deal is None:
            raise Refused(values.BAD_ARGUMENT, "opportunityid of the OpportunityClose is missing.")
        self.rights.need("Write", "opportunity", self.actor)
        self.rights.need("AppendTo", "opportunity", self.actor)
        self.rights.need("Create", "activity", self.actor)
        kept = self.org.savepoint()
        try:
            self.opportunities.close(deal.id, state, status, sent, self.actor)
        except Refused:
            self.org.roll_back(kept)
            raise
        return Response(204)
