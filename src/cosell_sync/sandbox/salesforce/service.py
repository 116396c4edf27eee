"""The fake Salesforce: one org behind HTTP.

It signs a client in and answers the REST, Tooling and Metadata APIs (`__call__`), strict where the platform is strict. What
sellers and admins do is in `actions`; `/_sandbox/…` offers the same over HTTP.

    salesforce = Salesforce(clock)
    server = Server(salesforce, certificates.server_context())
    deal = salesforce.create("Opportunity", Name="Deal", StageName="Prospecting", CloseDate="2027-01-31")
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from cosell_sync.sandbox.control import PREFIX, Route, Router, crm_routes, explain, unknown
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.salesforce.actions import Actions
from cosell_sync.sandbox.salesforce.auth import CONSUMER_KEY, CONSUMER_SECRET, ClientApp, SignIn
from cosell_sync.sandbox.salesforce.payload import Part
from cosell_sync.sandbox.salesforce.values import Refused

OLDEST, NEWEST, RETIRED = 31, 68, 21
MAX_URI = 16_384
_DATA = re.compile(r"/services/data/v(\d+)\.0(?:/(.*))?", re.DOTALL)


class Salesforce(Actions):
    """One org, served: an App."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        multi_currency: bool = True,
        team_selling: bool = True,
        state_country_picklists: bool = False,
        cosell_fields_installed: bool = True,
        of_earlier_version: bool = False,
        data_com: bool = False,
        api_calls_limit: int = 100_000,
    ) -> None:
        super().__init__(
            clock,
            multi_currency=multi_currency,
            team_selling=team_selling,
            state_country_picklists=state_country_picklists,
            cosell_fields_installed=cosell_fields_installed,
            of_earlier_version=of_earlier_version,
            data_com=data_com,
            api_calls_limit=api_calls_limit,
        )
        self.instance_url = ""
        """Where clients are sent after sign-in; empty: where they came from."""
        self.requests: list[Request] = []
        self._sign_in = SignIn(clock, self._user_named, lambda row_id: self._org.find("User", row_id))
        self.register_app(CONSUMER_KEY, CONSUMER_SECRET)
        self._control = Router(self._routes(), explain=_explain, loopback_only=True, exact_numbers=True)

    # ------------------------------------------------------------ sign-in

    def register_app(
        self,
        consumer_key: str,
        consumer_secret: str | None = None,
        public_key: str | None = None,
        run_as: str | None = None,
    ) -> None:
        """An external client app; `public_key` (PEM) allows the JWT bearer flow."""
        self._sign_in.apps[consumer_key] = ClientApp(
            consumer_key, consumer_secret, public_key, run_as or self.integration_user
        )

    def refuse_sign_in(self, error: str | None, description: str = "") -> None:
        """Every sign-in fails like this until called with None."""
        self._sign_in.refusal = None if error is None else (error, description)

    @property
    def organization_id(self) -> str:
        """The org's own id. Setting another makes this org a full copy: the same records with the same ids, and all
        sessions ended, as after the refresh of a sandbox.
        """
        return str(next(iter(self._org.scan("Organization")))["Id"])

    @organization_id.setter
    def organization_id(self, organization_id: str) -> None:
        with self._lock:
            (row,) = self._org.scan("Organization")
            self._org.tables["Organization"] = {organization_id: {**row, "Id": organization_id}}
        self.expire_sessions()

    @property
    def logins(self) -> int:
        """How many sign-ins were tried."""
        return self._sign_in.logins

    def expire_sessions(self) -> None:
        """Ends every session."""
        with self._lock:
            self._sign_in.sessions.clear()

    def open_session(self, user: str | None = None) -> str:
        """A token without the sign-in, for tests of something else."""
        return self._sign_in.open_session(user or self.integration_user)

    def _user_named(self, username: str) -> Mapping[str, object] | None:
        wanted = username.casefold()
        return next((row for row in self._org.scan("User") if row["Username"].casefold() == wanted), None)

    # ------------------------------------------------------------ what the server answers

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path.startswith(f"{PREFIX}/"):
                return self._control.answer(request) or unknown(request)
            self.requests.append(request)
            if request.path == "/services/oauth2/token":
                return self._sign_in.token(request, self._own_url(request), self.organization_id)
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
        actor = self._sign_in.user_of(request.headers.get("authorization", ""))
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
            return self._setup.answer(request.method, steps, request.query, content_type, request.body, actor)
        try:
            body = _body(request)
        except Refused as refused:
            return _refusal(refused, 415 if refused.code == "UNSUPPORTED_MEDIA_TYPE" else 400)
        everything, self._org.schema = self._org.schema, self._setup.access.visible_to(actor)
        try:
            return self._rest.answer(Part(request.method, steps, request.query, request.headers, body, actor))
        finally:
            self._org.schema = everything

    # ------------------------------------------------------------ control addresses

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


SWITCHES = (
    "precondition_field",
    "composite_honours_headers",
    "page_size",
    "closed_rows_writable",
    "duplicate_rule",
    "api_calls_limit",
    "api_used",
    "may_customize",
    "organization_id",
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
