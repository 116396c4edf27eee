"""The fake Dataverse: one Dynamics 365 Sales environment behind HTTP, and the people who work in it.

It plays three parts. As a server it signs an application user in and answers the Web API (`__call__`), strict where the
platform is strict. As the environment's sellers it makes edits through `create`, `edit`, `close`, `reopen` and `delete`,
stamped with the seller's name. As its admin it has switches and rules. Tests hold the object itself; people at a shell
use the same through `/_sandbox/…`.

    dynamics = Dataverse(clock)
    server = Server(dynamics, certificates.server_context())
    deal = dynamics.create("opportunity", name="Deal", estimatedclosedate="2027-01-31")

People name choices by label and lookups by id, and read them back so: `get` says `statecode: "Open"`.

`cosell_installed=False` is an environment before `provision`; `install_cosell()` stands for what a solution import does.
Bulk actions (CreateMultiple …), FetchXML queries and $metadata are not there.

Around it: `dataverse_schema` says which tables and columns exist, `dataverse_values` what a column keeps, `dataverse_rows`
holds the rows and their rules, `dataverse_deals` the life of a deal, `dataverse_odata` reads queries, `dataverse_reading`
answers them, `dataverse_rest`, `dataverse_batch` and `dataverse_metadata` answer addresses, `dataverse_setup` changes the
metadata with `dataverse_definitions` and `dataverse_roles`, `dataverse_auth` signs in, `dataverse_control` is for people at
a shell.
"""

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid4, uuid5

from cosell_sync.sandbox.control import PREFIX, Asked, Route, Router, crm_routes, explain, unknown
from cosell_sync.sandbox.dataverse import schema, values
from cosell_sync.sandbox.dataverse.auth import MANAGED_IDENTITY_PATH, AppSignIn
from cosell_sync.sandbox.dataverse.batch import Batch
from cosell_sync.sandbox.dataverse.metadata import Metadata
from cosell_sync.sandbox.dataverse.opportunities import LOST, WON, Deals
from cosell_sync.sandbox.dataverse.query import Reader
from cosell_sync.sandbox.dataverse.rest import Part, Rest, Rights
from cosell_sync.sandbox.dataverse.roles import Roles
from cosell_sync.sandbox.dataverse.rows import Automation, Org, Record, Rule
from cosell_sync.sandbox.dataverse.schema import Option
from cosell_sync.sandbox.dataverse.setup import Setup
from cosell_sync.sandbox.dataverse.values import Ref, Refused
from cosell_sync.sandbox.entra import Refused as SignInRefused
from cosell_sync.sandbox.exchange import Request, Response

CLIENT_ID = "9d2e7c10-0000-4000-8000-00000000d001"
CLIENT_SECRET = "sandbox-dynamics-secret"  # noqa: S105  (opens nothing but this fake)
ROOT = "/api/data/v9.2/"
_VERSION = re.compile(r"/api/data/v(\d+\.\d+)/(.*)", re.DOTALL)

Protection = Literal["requests", "time", "concurrency"]
PROTECTIONS: dict[str, tuple[str, str]] = {
    "requests": ("0x80072322", "Number of requests exceeded the limit of {limit} over time window of 300 seconds."),
    "time": ("0x80072321", "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of 300 seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later."),
    "concurrency": ("0x80072326", "Number of concurrent requests exceeded the limit of {parallel}."),
}  # fmt: skip
WINDOW = timedelta(seconds=300)
SWITCHES = (
    "closed_rows_writable",
    "delta_token_at_end",
    "page_size",
    "strict_spaces",
    "key_honours_etag",
    "failed_change_set",
    "blank_codes",
    "change_tracking_days",
    "requests_per_window",
    "parallel_limit",
    "may_impersonate",
)


@dataclass
class _Throttle:
    kind: Protection
    retry_after: int
    times: int | None


class Dataverse:
    """One environment. Switches that tests turn are plain attributes; everything else is a method."""

    def __init__(
        self, clock: Callable[[], datetime], *, cosell_installed: bool = True, base_currency: str = "USD"
    ) -> None:
        self._lock = threading.RLock()
        self._running = 0
        self._counting = threading.Lock()
        self._clock = clock
        self.requests: list[Request] = []
        self.requests_per_window = 6000
        self.parallel_limit = 52
        self.api_used = 0
        self._arrivals: deque[datetime] = deque()
        self._throttle: _Throttle | None = None
        self.may_impersonate = False
        self.entra = AppSignIn(clock, client_id=CLIENT_ID)
        self.entra.register(CLIENT_ID, CLIENT_SECRET)
        self._org = Org(schema.build(cosell_installed=cosell_installed), clock)
        self.rights = Rights()
        self._reader = Reader(self._org, may_see=self.rights.may_see)
        self._deals = Deals(self._org)
        self.security = Roles(self._org)
        self.rights.may = self.security.may
        self._metadata = Metadata(self._org, self.security.of)
        self._rest = Rest(self._org, self._reader, self._deals, self._metadata, self.rights)
        self.setup = Setup(self._org, self._metadata, self.rights, self.security)
        self._rest.setup = self.setup.answer
        self._batch = Batch(self._org, self._rest.answer)
        self._users_of: dict[str, str] = {}  # client id -> application user
        self.currencies: dict[str, str] = {}
        self.roles: dict[str, str] = {}
        self._furnish(base_currency)
        self._control = Router(self._routes(), explain=_explain, loopback_only=True, exact_numbers=True)

    def _routes(self) -> tuple[Route, ...]:
        """The control addresses: what the methods below do, over HTTP."""

        def close(asked: Asked) -> Response:
            body = asked.body
            about = body.get("columns", {})
            made = self.close(
                body.get("id", ""), won=body["won"], reason=body.get("reason"), by=body.get("by"), **about
            )
            return Response(201, {"id": made})

        def throttle(asked: Asked) -> None:
            body = asked.body
            self.throttle(
                body.get("kind", "requests"),
                retry_after=body.get("retry_after", 5),
                times=body.get("times", 1),
            )

        shared = crm_routes(
            self,
            kind="table",
            values="columns",
            rows=self.rows,
            usage=lambda: {"used": self.api_used, "in_window": self.in_window, "logins": self.logins},
            switches=SWITCHES,
        )
        return (
            *shared,
            Route("", "close", close),
            Route("", "reopen", lambda asked: self.reopen(asked.body.get("id", ""), by=asked.body.get("by"))),
            Route("", "expire-delta-tokens", lambda _: self.expire_delta_tokens()),
            Route("", "throttle", throttle),
            Route("", "unthrottle", lambda _: self.unthrottle()),
        )

    def _furnish(self, base_currency: str) -> None:
        """What every environment holds before its first record."""
        self.integration_user = str(uuid5(NAMESPACE_URL, "dataverse/application-user"))
        self.organization_id = str(uuid5(NAMESPACE_URL, "dataverse/organization"))
        unit = str(uuid5(NAMESPACE_URL, "dataverse/business-unit"))
        self._put("businessunit", {"name": "contoso"}, unit)
        self.business_unit = unit
        for code, (name, symbol, rate, digits) in schema.CURRENCIES.items():
            row = {
                "currencyname": name, "isocurrencycode": code, "currencysymbol": symbol, "exchangerate": Decimal(rate),
                "currencyprecision": digits,
            }  # fmt: skip
            self.currencies[code] = self._put("transactioncurrency", row)
        base = Ref("transactioncurrency", self.currencies[base_currency])
        organization = {
            "name": "contoso",
            "expirechangetrackingindays": 7,
            "languagecode": 1033,
            "basecurrencyid": base,
        }
        self._put("organization", organization, self.organization_id)
        self.security.introduce(self.integration_user)
        for name, category in schema.CONNECTION_ROLES.items():
            self.roles[name] = self._put("connectionrole", {"name": name, "category": category})
        user = {
            "firstname": "#", "lastname": "cosell-sync", "applicationid": CLIENT_ID, "accessmode": 4,
            "domainname": "cosell-sync@contoso.example",
        }  # fmt: skip
        self._user(user, self.integration_user)
        self._users_of[CLIENT_ID] = self.integration_user
        self.seller = self.add_user("Sam", "Seller", "sam.seller@contoso.example", "+1 555 0100")

    def _put(self, table: str, columns: Record, row_id: str | None = None) -> str:
        return self._org.insert(table, columns, self.integration_user, row_id=row_id, trusted=True)

    def _user(self, columns: Record, row_id: str | None = None) -> str:
        full = f"{columns['firstname']} {columns['lastname']}"
        shared = {"fullname": full, "businessunitid": Ref("businessunit", self.business_unit)}
        entra_id = {
            "azureactivedirectoryobjectid": str(uuid5(NAMESPACE_URL, f"entra/{columns['domainname']}"))
        }
        return self._put("systemuser", {**shared, **entra_id, **columns}, row_id)

    # ------------------------------------------------------------ what an admin switches

    @property
    def closed_rows_writable(self) -> bool:
        """Whether a won or lost deal takes writes to its other columns; the vendor's pages disagree."""
        return self._deals.closed_rows_writable

    @closed_rows_writable.setter
    def closed_rows_writable(self, writable: bool) -> None:
        self._deals.closed_rows_writable = writable

    @property
    def delta_token_at_end(self) -> bool:
        """Whether the first load's token is as new as its last page, so that changes meanwhile are missed."""
        return self._reader.delta_token_at_end

    @delta_token_at_end.setter
    def delta_token_at_end(self, at_end: bool) -> None:
        self._reader.delta_token_at_end = at_end

    @property
    def page_size(self) -> int:
        """The most rows of a page, whatever a client asks for."""
        return self._reader.most_rows

    @page_size.setter
    def page_size(self, rows: int) -> None:
        self._reader.most_rows = rows

    @property
    def strict_spaces(self) -> bool:
        """Refuses a plus sign for a blank, as OData's grammar has it; Dataverse itself takes it."""
        return self._rest.strict_spaces

    @strict_spaces.setter
    def strict_spaces(self, strict: bool) -> None:
        self._rest.strict_spaces = strict

    @property
    def key_honours_etag(self) -> bool:
        """Whether If-Match with an ETag is looked at where a row is addressed by alternate key."""
        return self._rest.key_honours_etag

    @key_honours_etag.setter
    def key_honours_etag(self, honoured: bool) -> None:
        self._rest.key_honours_etag = honoured

    @property
    def blank_codes(self) -> bool:
        """Whether 404 and 412 come with an empty error code, as some of the platform's do."""
        return self._rest.blank_codes

    @blank_codes.setter
    def blank_codes(self, blank: bool) -> None:
        self._rest.blank_codes = blank

    @property
    def failed_change_set(self) -> str:
        """How a failed change set is wrapped: `nested` or `bare`."""
        return self._batch.failed_change_set

    @failed_change_set.setter
    def failed_change_set(self, shape: Literal["nested", "bare"]) -> None:
        if shape not in {"nested", "bare"}:
            raise ValueError(shape)
        self._batch.failed_change_set = shape

    @property
    def change_tracking_days(self) -> int:
        return int(self.get("organization", self.organization_id)["expirechangetrackingindays"])

    @change_tracking_days.setter
    def change_tracking_days(self, days: int) -> None:
        self.edit("organization", self.organization_id, expirechangetrackingindays=days)

    def set_change_tracking(self, table: str, enabled: bool) -> None:
        self._reshape(table, change_tracking=enabled)

    def set_concurrency(self, table: str, enabled: bool) -> None:
        """Optimistic concurrency; without it rows carry no ETag."""
        self._reshape(table, concurrency=enabled)

    def set_key_status(self, table: str, key: str, status: str) -> None:
        """`Pending`, `InProgress`, `Failed` or `Active`; only an active key can be used."""
        with self._lock:
            self._org.set_key_status(table, key, status)

    def install_cosell(self) -> None:
        """What an imported solution does to an environment that had none of our columns."""
        with self._lock:
            self._org.adopt(schema.build())
            self.security.introduce(self.integration_user)

    def change_column(self, table: str, column: str, **changes: Any) -> None:
        """An admin's change of one column, e.g. `length=20`, `required="ApplicationRequired"`."""
        with self._lock:
            columns = dict(self._org.schema[table].columns)
            columns[column] = replace(columns[column], **changes)
            self._reshape(table, columns=columns)

    def remove_column(self, table: str, column: str) -> None:
        with self._lock:
            kept = {name: each for name, each in self._org.schema[table].columns.items() if name != column}
            self._reshape(table, columns=kept)

    def add_status_reason(
        self, label: str, state: Literal["Open", "Won", "Lost"], value: int | None = None
    ) -> int:
        """An admin's own status reason of opportunities; returns its number."""
        column = self._org.schema["opportunity"].columns["statuscode"]
        code = value if value is not None else 100_000_001 + len(column.options)
        belongs = {"Open": 0, "Won": WON, "Lost": LOST}[state]
        self.change_column(
            "opportunity", "statuscode", options=(*column.options, Option(code, label, belongs))
        )
        return code

    def _reshape(self, table: str, **changes: Any) -> None:
        with self._lock:
            shape = replace(self._org.table(table), **changes)
            self._org.schema = schema.linked({**self._org.schema, table: shape})

    def add_validation_rule(self, table: str, broken: Rule, message: str) -> None:
        """A plug-in that refuses every save of that table whose record makes `broken` true."""
        self._org.rules.append((table, broken, message))

    def add_automation(self, table: str, rewrite: Automation) -> None:
        """A plug-in that runs before each save: gets the record before and the changes, returns the changes to save."""
        self._org.automations.append((table, rewrite))

    def clear_rules(self) -> None:
        self._org.rules.clear()
        self._org.automations.clear()

    def set_languages(self, base: int, *others: int) -> None:
        """The environment's base language and the further ones that are provisioned, by LCID."""
        with self._lock:
            self.setup.languages = self._metadata.languages = (base, *others)
            self.edit("organization", self.organization_id, languagecode=base)

    def enforce_roles(self, *administrators: str) -> None:
        """From now on users may do what their security roles hold, these administrators everything."""
        with self._lock:
            self.security.enforced = True
            self.security.administrators.update(administrators)

    def add_business_unit(self, name: str, *members: str) -> str:
        """A business unit below the root, these users in it; the root's roles are there too."""
        with self._lock:
            root = Ref("businessunit", self.business_unit)
            made = self._put("businessunit", {"name": name, "parentbusinessunitid": root})
            for row in list(self._org.scan("role")):
                if row["parentrootroleid"] is None:
                    parent = {"parentrootroleid": Ref("role", row["roleid"])}
                    self._put(
                        "role", {"name": row["name"], "businessunitid": Ref("businessunit", made), **parent}
                    )
            for user in members:
                self.edit("systemuser", user, businessunitid=made)
            return made

    def deny(self, *privileges: str) -> None:
        """Takes privileges from the application user, e.g. `prvWriteOpportunity`; none gives all of them back."""
        if not privileges:
            self.rights.denied.clear()
        self.rights.denied.update(privileges)

    def throttle(self, kind: Protection = "requests", *, retry_after: int = 5, times: int | None = 1) -> None:
        """The next requests (None: all until `unthrottle`) meet that service protection limit."""
        if kind not in PROTECTIONS:
            raise ValueError(f"no such limit: {kind}; there are {', '.join(PROTECTIONS)}")
        self._throttle = _Throttle(kind, retry_after, times)

    def unthrottle(self) -> None:
        self._throttle = None
        self._arrivals.clear()

    def expire_delta_tokens(self) -> None:
        """Every delta link given out so far is too old."""
        with self._lock:
            self._reader.expire_tokens()

    @property
    def in_window(self) -> int:
        """How many requests service protection counts at present."""
        return len(self._arrivals)

    # ------------------------------------------------------------ sign-in

    def register_app(
        self,
        client_id: str,
        secret: str | None = None,
        certificate: bytes | None = None,
        *,
        member: bool = True,
    ) -> str:
        """An app registration with (`member`) or without its application user here; the certificate as PEM."""
        with self._lock:
            self.entra.register(client_id, secret, certificate)
            known = self._users_of.get(client_id)
            if known is not None or not member:
                return known or ""
            row = {
                "firstname": "#",
                "lastname": client_id,
                "applicationid": client_id,
                "accessmode": 4,
                "domainname": client_id,
            }
            self._users_of[client_id] = self._user(row)
            return self._users_of[client_id]

    def refuse_sign_in(
        self, error: str | None, description: str = "The client secret has expired.", number: int = 7000222
    ) -> None:
        """Every sign-in fails like this until called with None."""
        refusal = None if error is None else SignInRefused(error, number, description, status=401)
        self.entra.refusal = refusal

    def expire_sessions(self) -> None:
        self.entra.expire_tokens()

    def open_session(self, client_id: str = CLIENT_ID) -> str:
        """A token without the sign-in, for tests of something else."""
        return self.entra.issue(client_id)

    @property
    def logins(self) -> int:
        return self.entra.logins

    # ------------------------------------------------------------ what people do

    def add_user(
        self, first: str, last: str, email: str, phone: str | None = None, *, active: bool = True
    ) -> str:
        with self._lock:
            row: Record = {
                "firstname": first, "lastname": last, "internalemailaddress": email, "address1_telephone1": phone,
                "isdisabled": not active, "domainname": email,
            }  # fmt: skip
            return self._user(row)

    def add_team(self, name: str) -> str:
        with self._lock:
            return self._put("team", {"name": name})

    @property
    def users(self) -> list[Record]:
        return self.rows("systemuser")

    def create(self, table: str, /, *, by: str | None = None, **columns: object) -> str:
        """A row made by a seller in the app; returns its id."""
        with self._lock:
            shape = self._org.table(table)
            return self._org.insert(table, self._org.heard(shape, columns), by or self.seller)

    def edit(self, table: str, row_id: str, /, *, by: str | None = None, **columns: object) -> None:
        with self._lock:
            shape = self._org.table(table)
            heard = self._org.heard(shape, columns)
            self._org.update(table, row_id, heard, by or self.seller, trusted=not shape.writable)

    def delete(self, table: str, row_id: str, /, *, by: str | None = None) -> None:
        del by  # nobody remembers who deleted
        with self._lock:
            self._org.delete(table, row_id, trusted=not self._org.table(table).writable)

    def undelete(self, table: str, row_id: str, /, *, by: str | None = None) -> None:
        """Takes a row out of the recycle bin, with what was deleted together with it."""
        with self._lock:
            self._org.undelete(table, row_id, by or self.seller)

    def close(
        self,
        opportunity: str,
        /,
        *,
        won: bool,
        reason: str | None = None,
        by: str | None = None,
        **about: object,
    ) -> str:
        """Closes a deal as the dialog does, with a status reason by label and columns of the close activity."""
        with self._lock:
            state = WON if won else LOST
            option = (
                self._org.schema["opportunity"].columns["statuscode"].labelled(reason) if reason else None
            )
            if reason and option is None:
                raise ValueError(f"no such status reason: {reason}")
            heard = self._org.heard(self._org.schema["opportunityclose"], about)
            return self._deals.close(
                opportunity, state, option.value if option else -1, heard, by or self.seller
            )

    def reopen(self, opportunity: str, /, *, reason: str = "In Progress", by: str | None = None) -> None:
        self.edit("opportunity", opportunity, by=by, statecode="Open", statuscode=reason)

    def connect(
        self, opportunity: str, other: str, /, *, role: str | None = None, by: str | None = None
    ) -> str:
        """Connects a contact or a user to a deal, in a connection role by name; returns the row seen from the deal."""
        return self.create(
            "connection", by=by, record1id=opportunity, record2id=other,
            record2roleid=self.roles[role] if role else None,
        )  # fmt: skip

    def add_products(self, opportunity: str, /, amount: object) -> None:
        """From now on the value is the sum of the products: writes to it are swallowed, its currency is fixed."""
        with self._lock:
            self._deals.price(opportunity, amount, self.seller)

    def touch(self, table: str, row_id: str, /) -> None:
        """Moves the row's version alone, as background work does."""
        with self._lock:
            self._org.touch(table, row_id)

    def merge_accounts(self, winner: str, loser: str, /, *, by: str | None = None) -> None:
        with self._lock:
            self._org.merge("account", winner, loser, by or self.seller)

    def get(self, table: str, row_id: str, /) -> Record:
        """The row as people see it: choices by label, lookups by id; KeyError when there is none."""
        with self._lock:
            row = self._org.find(table, values.guid(row_id) or row_id)
            if row is None:
                raise KeyError(row_id)
            return self._org.record(table, row)

    def rows(self, table: str, /, **equals: object) -> list[Record]:
        """Rows whose columns equal these values, in the order of creation."""
        with self._lock:
            self._org.table(table)
            found = [self._org.record(table, row) for row in self._org.scan(table)]
            return [row for row in found if all(row[column] == value for column, value in equals.items())]

    def snapshot(self) -> dict[str, dict[str, Record]]:
        """Everything, to compare field by field."""
        with self._lock:
            return {
                name: {row_id: self._org.record(name, row) for row_id, row in table.items()}
                for name, table in self._org.tables.items()
            }

    # ------------------------------------------------------------ what the server answers

    def __call__(self, request: Request) -> Response:
        if request.path.startswith(f"{PREFIX}/"):
            with self._lock:
                return self._control.answer(request) or unknown(request)
        with self._counting:
            self._running += 1
            crowded = self._running > self.parallel_limit
        try:
            with self._lock:
                self.requests.append(request)
                return self._answer(request, crowded=crowded)
        finally:
            with self._counting:
                self._running -= 1

    def _answer(self, request: Request, *, crowded: bool) -> Response:
        if request.path == MANAGED_IDENTITY_PATH:
            return self.entra.managed_identity(request)
        if self.entra.answers(request.path):
            return self.entra(request)
        try:
            response = self._data(request, crowded=crowded)
        except Refused as refused:
            response = Response(refused.status, refused.as_error(), refused.headers)
        number = str(uuid4())
        response.headers.update({"x-ms-service-request-id": number, "REQ_ID": number})
        response.headers.setdefault("OData-Version", "4.0")
        left = max(0, self.requests_per_window - len(self._arrivals))
        response.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] = str(left)
        return response

    def _data(self, request: Request, *, crowded: bool) -> Response:
        found = _VERSION.fullmatch(request.path)
        if found is None or found[1] not in {"9.0", "9.1", "9.2"}:
            raise Refused(values.NO_SEGMENT, "Resource not found.", 404)
        host = request.headers.get("host", "localhost").lower()
        client_id = self.entra.opened(request.headers.get("authorization"), f"https://{host}")
        if client_id is None:
            challenge = f"Bearer authorization_uri=https://{host}/{self.entra.tenant}/oauth2/authorize, resource_id=https://{host}/"
            return Response(401, None, {"WWW-Authenticate": challenge})
        user = self._users_of.get(client_id)
        if user is None:
            raise Refused(values.NOT_A_MEMBER, "The user is not a member of the organization.", 403)
        if self._org.live("systemuser", user)["isdisabled"]:
            raise Refused("0x80040225", f"The specified user(Id = {user}) is disabled.", 403)
        self._protect(crowded=crowded)
        actor = self._impersonated(request, user)
        root = f"https://{host}{ROOT}"
        part = Part(request.method, found[2], request.raw_query, request.headers, request.body, root)
        self._rest.actor = actor
        self._org.delegate = user if actor != user else None
        self._rest.identity = lambda: {
            "BusinessUnitId": self.business_unit, "UserId": actor, "OrganizationId": self.organization_id,
        }  # fmt: skip
        try:
            if found[2] == "$batch":
                if request.method != "POST":
                    raise Refused(values.NO_SEGMENT, "A batch is sent by POST.", 405)
                return self._batch(part)
            return self._rest.answer(part)
        finally:
            self._org.delegate = None

    def _protect(self, *, crowded: bool) -> None:
        """Service protection: told limits first, then the real ones. What is refused counts as well."""
        self.api_used += 1
        now = self._org.now()
        while self._arrivals and now - self._arrivals[0] >= WINDOW:
            self._arrivals.popleft()
        self._arrivals.append(now)
        told = self._throttle
        if told is not None:
            if told.times is not None:
                told.times -= 1
                if told.times <= 0:
                    self._throttle = None
            raise self._too_many(told.kind, told.retry_after)
        if crowded:
            raise self._too_many("concurrency", 2)
        if len(self._arrivals) > self.requests_per_window:
            frees = self._arrivals[-self.requests_per_window] + WINDOW - now
            raise self._too_many("requests", max(1, int(frees.total_seconds())))

    def _too_many(self, kind: Protection, retry_after: int) -> Refused:
        code, message = PROTECTIONS[kind]
        sentence = message.format(limit=self.requests_per_window, parallel=self.parallel_limit)
        return Refused(code, sentence, 429, {"Retry-After": str(retry_after)})

    def _impersonated(self, request: Request, user: str) -> str:
        wanted = request.headers.get("callerobjectid")
        if wanted is None:
            return user
        if not self.may_impersonate:
            raise Refused(
                values.NO_PRIVILEGE,
                f"Principal user (Id={user}) is missing prvActOnBehalfOfAnotherUser privilege.",
                403,
            )
        for row in self._org.scan("systemuser"):
            if row["azureactivedirectoryobjectid"] == wanted.lower():
                return str(row["systemuserid"])
        raise Refused(values.NOT_A_MEMBER, "The user to act for is not a member of the organization.", 403)


def _explain(error: Exception) -> object | None:
    return error.as_error() if isinstance(error, Refused) else explain(error)
