"""The fake Dataverse: one Dynamics 365 Sales environment behind HTTP.

It signs an application user in and answers the Web API (`__call__`), strict where the platform is strict. What sellers and
admins do is in `actions`; `/_sandbox/…` offers the same over HTTP.

    dynamics = Dataverse(clock)
    server = Server(dynamics, certificates.server_context())
    deal = dynamics.create("opportunity", name="Deal", estimatedclosedate="2027-01-31")

`cosell_installed=False` is an environment before `provision`; `install_cosell()` stands for what a solution import does.
Bulk actions (CreateMultiple …), FetchXML queries and $metadata are not there.
"""

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

from cosell_sync.sandbox.aadsts import Refused as SignInRefused
from cosell_sync.sandbox.control import PREFIX, Asked, Route, Router, crm_routes, explain, unknown
from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.actions import Actions
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID, CLIENT_SECRET, MANAGED_IDENTITY_PATH, AppSignIn
from cosell_sync.sandbox.dataverse.payload import Part
from cosell_sync.sandbox.dataverse.values import Refused
from cosell_sync.sandbox.exchange import Request, Response

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
    "plugin_status",
    "delta_token_at_end",
    "page_size",
    "strict_spaces",
    "key_honours_etag",
    "failed_change_set",
    "blank_codes",
    "change_tracking_days",
    "organization_id",
    "requests_per_window",
    "parallel_limit",
    "may_impersonate",
)


@dataclass
class _Throttle:
    kind: Protection
    retry_after: int
    times: int | None


class Dataverse(Actions):
    """One environment, served: an App."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        cosell_installed: bool = True,
        of_earlier_version: bool = False,
        base_currency: str = "USD",
    ) -> None:
        super().__init__(
            clock,
            cosell_installed=cosell_installed,
            of_earlier_version=of_earlier_version,
            base_currency=base_currency,
        )
        self._running = 0
        self._counting = threading.Lock()
        self.requests: list[Request] = []
        self.requests_per_window = 6000
        self.parallel_limit = 52
        self.api_used = 0
        self._arrivals: deque[datetime] = deque()
        self._throttle: _Throttle | None = None
        self.may_impersonate = False
        self.entra = AppSignIn(clock, client_id=CLIENT_ID)
        self.entra.register(CLIENT_ID, CLIENT_SECRET)
        self._users_of = {CLIENT_ID: self.integration_user}  # client id -> application user
        self._control = Router(self._routes(), explain=_explain, loopback_only=True, exact_numbers=True)

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
        """Invalidates every access token issued so far."""
        self.entra.expire_tokens()

    def open_session(self, client_id: str = CLIENT_ID) -> str:
        """A token without the sign-in, for tests of something else."""
        return self.entra.issue(client_id)

    @property
    def logins(self) -> int:
        """How many sign-ins succeeded."""
        return self.entra.logins

    # ------------------------------------------------------------ service protection

    def throttle(self, kind: Protection = "requests", *, retry_after: int = 5, times: int | None = 1) -> None:
        """The next requests (None: all until `unthrottle`) meet that service protection limit."""
        if kind not in PROTECTIONS:
            raise ValueError(f"no such limit: {kind}; there are {', '.join(PROTECTIONS)}")
        self._throttle = _Throttle(kind, retry_after, times)

    def unthrottle(self) -> None:
        """Ends `throttle` and forgets the requests counted so far."""
        self._throttle = None
        self._arrivals.clear()

    @property
    def in_window(self) -> int:
        """How many requests service protection counts at present."""
        return len(self._arrivals)

    def _protect(self, *, crowded: bool) -> None:
        """Service protection: limits set by `throttle` first, then the real ones. Refused requests count as well."""
        self.api_used += 1
        now = self._org.now()
        while self._arrivals and now - self._arrivals[0] >= WINDOW:
            self._arrivals.popleft()
        self._arrivals.append(now)
        throttled = self._throttle
        if throttled is not None:
            if throttled.times is not None:
                throttled.times -= 1
                if throttled.times <= 0:
                    self._throttle = None
            raise self._too_many(throttled.kind, throttled.retry_after)
        if crowded:
            raise self._too_many("concurrency", 2)
        if len(self._arrivals) > self.requests_per_window:
            frees = self._arrivals[-self.requests_per_window] + WINDOW - now
            raise self._too_many("requests", max(1, int(frees.total_seconds())))

    def _too_many(self, kind: Protection, retry_after: int) -> Refused:
        code, message = PROTECTIONS[kind]
        sentence = message.format(limit=self.requests_per_window, parallel=self.parallel_limit)
        return Refused(code, sentence, 429, {"Retry-After": str(retry_after)})

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

    # ------------------------------------------------------------ control addresses

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


def _explain(error: Exception) -> object | None:
    return error.as_error() if isinstance(error, Refused) else explain(error)
