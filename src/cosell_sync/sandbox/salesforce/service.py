"""The fake Salesforce: one org behind HTTP, and the people who work in it.

It plays three parts. As a server it answers the REST API (`__call__`), strict where the platform is strict. As the org's
sellers it makes edits through `create`, `edit` and `delete`, stamped with the seller's name like any other. As the org's
admin it has switches and rules. Tests hold the object itself; people at a shell use the same through `/_sandbox/…`.

    salesforce = Salesforce(clock)
    server = Server(salesforce, certificates.server_context())
    deal = salesforce.create("Opportunity", Name="Deal", StageName="Prospecting", CloseDate="2027-01-31")

Around it: `salesforce_schema` says which objects and fields exist, `salesforce_values` what a field keeps, `salesforce_rows`
holds the rows and their rules, `soql` reads queries, `salesforce_rest` and `salesforce_composite` answer paths,
`salesforce_auth` signs in, `salesforce_setup` lets an admin's tool look at the setup and change it.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from cosell_sync.sandbox.control import PREFIX, Route, Router, crm_routes, explain, unknown
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.salesforce import schema
from cosell_sync.sandbox.salesforce.auth import ClientApp, Doorkeeper
from cosell_sync.sandbox.salesforce.composite import Envelope
from cosell_sync.sandbox.salesforce.rest import Part, Rest
from cosell_sync.sandbox.salesforce.rows import Automation, Org, Record, Rule
from cosell_sync.sandbox.salesforce.schema import Field
from cosell_sync.sandbox.salesforce.setup import Setup
from cosell_sync.sandbox.salesforce.values import Refused, normal_id, render

CONSUMER_KEY = "sandbox-consumer-key"
CONSUMER_SECRET = "sandbox-consumer-secret"  # noqa: S105  (opens nothing but this fake)
INTEGRATION_USERNAME = "cosell-sync@contoso.example"

OLDEST, NEWEST, RETIRED = 31, 68, 21
MAX_URI = 16_384
_DATA = re.compile(r"/services/data/v(\d+)\.0(?:/(.*))?", re.DOTALL)


class Salesforce:
    """One org. Switches that tests turn are plain attributes; everything else is a method."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        multi_currency: bool = True,
        team_selling: bool = True,
        state_country_picklists: bool = False,
        cosell_fields_installed: bool = True,
        api_calls_limit: int = 100_000,
    ) -> None:
        self._lock = threading.RLock()
        self._shape = {
            "multi_currency": multi_currency,
            "team_selling": team_selling,
            "state_country_picklists": state_country_picklists,
            "cosell_fields_installed": cosell_fields_installed,
        }
        self.api_calls_limit = api_calls_limit
        self.api_used = 0
        self.instance_url = ""
        """Where clients are sent after sign-in; empty: where they came from."""
        self.requests: list[Request] = []
        self._org = Org(schema.build(**self._shape), clock)
        self._setup = Setup(self._org, clock)
        self._envelope = Envelope()
        self._rest = Rest(
            self._org, usage=lambda: (self.api_used, self.api_calls_limit), composite=self._envelope
        )
        self._door = Doorkeeper(clock, self._user_named, lambda row_id: self._org.find("User", row_id))
        self.integration_user = self._first_user()
        self._org.furnish(self.integration_user)
        self.seller = self.add_user("Sam", "Seller", "sam.seller@contoso.example", "+1 555 0100")
        self.register_app(CONSUMER_KEY, CONSUMER_SECRET)
        self._control = Router(self._routes(), explain=_explain, loopback_only=True, exact_numbers=True)

    def _routes(self) -> tuple[Route, ...]:
        """The control addresses: what the methods below do, over HTTP."""
        return crm_routes(
            self,
            kind="object",
            values="fields",
            rows=lambda name: self.rows(self._org.shape(name).name),
            usage=lambda: {"used": self.api_used, "limit": self.api_calls_limit, "logins": self.logins},
            switches=SWITCHES,
        )

    # ------------------------------------------------------------ what an admin switches

    @property
    def precondition_field(self) -> str:
        """Which stamp `If-Unmodified-Since` compares: `LastModifiedDate` or `SystemModstamp`."""
        return self._rest.precondition_field

    @precondition_field.setter
    def precondition_field(self, name: str) -> None:
        if name not in {"LastModifiedDate", "SystemModstamp"}:
            raise ValueError(name)
        self._rest.precondition_field = name

    @property
    def composite_honours_headers(self) -> bool:
        return self._envelope.honours_headers

    @composite_honours_headers.setter
    def composite_honours_headers(self, honoured: bool) -> None:
        self._envelope.honours_headers = honoured

    @property
    def may_customize(self) -> bool:
        """Whether those who sign in may look at the setup and change it."""
        return self._setup.may_customize

    @may_customize.setter
    def may_customize(self, allowed: bool) -> None:
        self._setup.may_customize = allowed

    @property
    def page_size(self) -> int:
        return self._rest.page_size

    @page_size.setter
    def page_size(self, rows: int) -> None:
        self._rest.page_size = rows

    @property
    def duplicate_rule(self) -> str:
        """`off`, `alert` (passed with allowSave) or `block`, for accounts and contacts."""
        return self._org.duplicate_rule

    @duplicate_rule.setter
    def duplicate_rule(self, rule: str) -> None:
        if rule not in {"off", "alert", "block"}:
            raise ValueError(rule)
        self._org.duplicate_rule = rule

    def install_cosell_fields(self) -> None:
        """What a metadata deployment does to an org that had none of our fields."""
        with self._lock:
            self._shape["cosell_fields_installed"] = True
            self._org.adopt(schema.build(**self._shape))

    def change_field(self, name: str, column: str, **changes: object) -> None:
        """An admin's change of one field, e.g. `required=True`, `updateable=False`, `values=(…)`."""
        with self._lock:
            shape = self._org.schema[name]
            changed: Field = replace(shape.fields[column], **changes)  # type: ignore[arg-type]
            self._reshape(name, {**shape.fields, column: changed})

    def hide_field(self, name: str, column: str) -> None:
        """Takes the field from the integration user, as missing field-level security does: it is simply not there."""
        with self._lock:
            fields = self._org.schema[name].fields
            self._reshape(name, {key: each for key, each in fields.items() if key != column})

    def drop_field(self, name: str, column: str) -> None:
        """An admin deletes a custom field; the permission sets forget it."""
        with self._lock:
            self.hide_field(name, column)
            for row in self.rows("FieldPermissions", Field=f"{name}.{column}"):
                self.delete("FieldPermissions", row["Id"])

    def described(self, name: str, /, *, by: str | None = None) -> tuple[str, ...]:
        """The fields that this user sees; the integration user by default."""
        with self._lock:
            return tuple(self._setup.seen_by(by or self.integration_user)[name].fields)

    def _reshape(self, name: str, fields: Mapping[str, Field]) -> None:
        shape = replace(self._org.schema[name], fields=fields, _by_lower={})
        self._org.schema = schema.linked({**self._org.schema, name: shape})

    def add_validation_rule(self, name: str, broken: Rule, message: str) -> None:
        """Refuses every save of that object whose record makes `broken` true."""
        self._org.rules.append((name, broken, message))

    def add_automation(self, name: str, rewrite: Automation) -> None:
        """A flow that runs before each save: gets the record before and the changes, returns the changes to save."""
        self._org.automations.append((name, rewrite))

    def clear_rules(self) -> None:
        self._org.rules.clear()
        self._org.automations.clear()

    def register_app(
        self,
        consumer_key: str,
        consumer_secret: str | None = None,
        public_key: str | None = None,
        run_as: str | None = None,
    ) -> None:
        """An external client app; `public_key` (PEM) allows the JWT bearer flow."""
        self._door.apps[consumer_key] = ClientApp(
            consumer_key, consumer_secret, public_key, run_as or self.integration_user
        )

    def refuse_sign_in(self, error: str | None, description: str = "") -> None:
        """Every sign-in fails like this until called with None."""
        self._door.refusal = None if error is None else (error, description)

    @property
    def logins(self) -> int:
        return self._door.logins

    def expire_sessions(self) -> None:
        with self._lock:
            self._door.sessions.clear()

    def open_session(self, user: str | None = None) -> str:
        """A token without the sign-in, for tests of something else."""
        return self._door.open_session(user or self.integration_user)

    # ------------------------------------------------------------ what people do

    def _first_user(self) -> str:
        row = {
            "Username": INTEGRATION_USERNAME, "FirstName": "Cosell", "LastName": "Sync",
            "Email": INTEGRATION_USERNAME,
        }  # fmt: skip
        return self._org.insert("User", row, "", trusted=True)

    def _user_named(self, username: str) -> Mapping[str, object] | None:
        wanted = username.casefold()
        return next((row for row in self._org.scan("User") if row["Username"].casefold() == wanted), None)

    def add_user(
        self, first: str, last: str, email: str, phone: str | None = None, *, active: bool = True
    ) -> str:
        with self._lock:
            row = {"FirstName": first, "LastName": last, "Email": email, "Phone": phone, "IsActive": active}
            username = f"{email}.{len(list(self._org.scan('User')))}"
            return self._org.insert(
                "User", {**row, "Username": username}, self.integration_user, trusted=True
            )

    @property
    def users(self) -> list[Record]:
        return self.rows("User")

    def create(self, object_name: str, /, *, by: str | None = None, **fields: object) -> str:
        """A record made by a seller in the browser; returns its id."""
        with self._lock:
            return self._org.insert(object_name, fields, by or self.seller, allow_save=True)

    def edit(self, object_name: str, row_id: str, /, *, by: str | None = None, **fields: object) -> None:
        with self._lock:
            trusted = not self._org.shape(object_name).createable
            self._org.update(object_name, self._id(row_id), fields, by or self.seller, trusted=trusted)

    def delete(self, object_name: str, row_id: str, /, *, by: str | None = None) -> None:
        with self._lock:
            self._org.delete(object_name, self._id(row_id), by or self.seller)

    def undelete(self, object_name: str, row_id: str, /, *, by: str | None = None) -> None:
        with self._lock:
            self._org.undelete(object_name, self._id(row_id), by or self.seller)

    def purge(self, object_name: str, row_id: str, /) -> None:
        """Deletes for good: not in the bin, not in the log of deletions."""
        with self._lock:
            self._org.purge(object_name, self._id(row_id))

    def merge_accounts(self, winner: str, loser: str, /, *, by: str | None = None) -> None:
        with self._lock:
            self._org.merge("Account", self._id(winner), self._id(loser), by or self.seller)

    def add_products(self, opportunity: str, /, amount: object) -> None:
        """From now on the amount is the sum of the products, and writes to it are silently ignored."""
        with self._lock:
            fields = {"HasOpportunityLineItem": True, "Amount": amount}
            self._org.update("Opportunity", self._id(opportunity), fields, self.seller, trusted=True)

    def touch(self, object_name: str, row_id: str, /) -> None:
        """Moves SystemModstamp alone, as roll-ups and background jobs do."""
        with self._lock:
            self._org.touch(object_name, self._id(row_id))

    def get(self, object_name: str, row_id: str, /) -> Record:
        """The record with every column as JSON shows it, also when it is in the bin; KeyError when there is none."""
        with self._lock:
            row = self._org.find(object_name, self._id(row_id))
            if row is None:
                raise KeyError(row_id)
            return self._org.record(object_name, row)

    def rows(self, object_name: str, /, **equals: object) -> list[Record]:
        """Living records whose columns equal these values, in the order of creation."""
        with self._lock:
            found = [self._org.record(object_name, row) for row in self._org.scan(object_name)]
            return [row for row in found if all(row[column] == value for column, value in equals.items())]

    def snapshot(self) -> dict[str, dict[str, Record]]:
        """Everything, the bin included, to compare field by field."""
        with self._lock:
            return {
                name: {
                    row_id: {each.name: render(each, row) for each in self._org.schema[name].fields.values()}
                    for row_id, row in table.items()
                }
                for name, table in self._org.tables.items()
            }

    def _id(self, given: str) -> str:
        made = normal_id(given)
        if made is None:
            raise KeyError(given)
        return made

    # ------------------------------------------------------------ what the server answers

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path.startswith(f"{PREFIX}/"):
                return self._control.answer(request) or unknown(request)
            self.requests.append(request)
            if request.path == "/services/oauth2/token":
                organization = next(iter(self._org.scan("Organization")))["Id"]
                return self._door.token(request, self._own_url(request), organization)
            response = self._data(request)
            response.headers["Sforce-Limit-Info"] = f"api-usage={self.api_used}/{self.api_calls_limit}"
            return response

    def _own_url(self, request: Request) -> str:
        return (self.instance_url or f"https://{request.headers.get('host', 'localhost')}").rstrip("/")

    def _data(self, request: Request) -> Response:
        if len(quote(request.path)) + len(request.raw_query) + 1 > MAX_URI:
            return Response(414, [{"message": "URI Too Long", "errorCode": "URI_TOO_LONG"}])
        if request.path.rstrip("/") == "/services/data":
            versions = [
                {"label": f"v{number}.0", "url": f"/services/data/v{number}.0", "version": f"{number}.0"}
                for number in range(OLDEST, NEWEST + 1)
            ]
            return Response(200, versions)
        found = _DATA.fullmatch(request.path)
        version = int(found[1]) if found else 0
        if RETIRED <= version < OLDEST:
            gone = f"The API version v{version}.0 has been retired"
            return Response(410, [{"message": gone, "errorCode": "UNSUPPORTED_API_VERSION"}])
        if found is None or not OLDEST <= version <= NEWEST:
            return _refusal(Refused("NOT_FOUND", "The requested resource does not exist"))
        actor = self._door.user_of(request.headers.get("authorization", ""))
        if actor is None:
            return _refusal(Refused("INVALID_SESSION_ID", "Session expired or invalid"))
        if self.api_used >= self.api_calls_limit:
            return _refusal(Refused("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
        self.api_used += 1
        self._rest.root = f"/services/data/v{version}.0"
        steps = tuple(step for step in (found[2] or "").split("/") if step)
        if steps[:1] in {("tooling",), ("metadata",)}:
            self._setup.root = self._rest.root
            content_type = request.headers.get("content-type", "")
            return self._setup.answer(request.method, steps, request.query, content_type, request.body)
        try:
            body = _body(request)
        except Refused as refused:
            return _refusal(refused, 415 if refused.code == "UNSUPPORTED_MEDIA_TYPE" else 400)
        everything, self._org.schema = self._org.schema, self._setup.seen_by(actor)
        try:
            return self._rest.answer(Part(request.method, steps, request.query, request.headers, body, actor))
        finally:
            self._org.schema = everything


SWITCHES = (
    "precondition_field",
    "composite_honours_headers",
    "page_size",
    "duplicate_rule",
    "api_calls_limit",
    "api_used",
    "may_customize",
)


def _explain(error: Exception) -> object | None:
    return error.as_error() if isinstance(error, Refused) else explain(error)


def _refusal(refused: Refused, status: int | None = None) -> Response:
    return Response(status or refused.status, [refused.as_error()])


def _body(request: Request) -> Any:
    if not request.body:
        return None
    if "json" not in request.headers.get("content-type", "application/json"):
        raise Refused("UNSUPPORTED_MEDIA_TYPE", "Content-type not supported")
    try:
        return json.loads(request.body, parse_float=Decimal)
    except ValueError:
        raise Refused(
            "JSON_PARSER_ERROR", "Unexpected character or end of input in the request body"
        ) from None
