"""One REST call, done right; everything else in this package goes through `Rest.call`.

simple-salesforce signs in, describes, formats SOQL and names the errors, but left alone it has no timeouts, drops
request headers when it repeats a call after an expired session (so a guarded write would lose its guard exactly then),
signs in once per thread, and forgets the limit header on errors. So it gets a session of ours, and that session ends
in `Rest._send`, where all of this is done once:

1. timeouts on every call, redirects never followed, the token sent to the signed-in host only
2. an expired session is renewed once, under a lock and only if nobody renewed it meanwhile; the very same request,
   headers included, is repeated once
3. `Sforce-Limit-Info` is read from every answer, good or bad
4. retries (seconds; minutes are the next cycle's) only where the caller says that a repeat is harmless

A call that may have been carried out, but was not answered, is `Unclear`; one that surely was not is `Unavailable`.
A call runs apart, so that a stopping daemon, or a server that drips, is never waited for.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
import requests.adapters
import requests.auth
import structlog
import tenacity
from simple_salesforce.api import Salesforce
from simple_salesforce.util import exception_handler

from cosell_sync.crm.salesforce import errors, signin
from cosell_sync.crm.salesforce.signin import SYSTEM, Credentials, Ticket
from cosell_sync.crm.salesforce.wire import (
    Again,
    Bearer,
    expired,
    faults,
    http_date,
    is_json,
    lost,
    never_stood,
    nobody,
    template,
    unreachable,
    void,
)
from cosell_sync.errors import AuthFailed, Unavailable, Unclear
from cosell_sync.ports import Clock
from cosell_sync.transport.client import trust_file
from cosell_sync.transport.deadline import Stopped, TooLong, apart
from cosell_sync.transport.exact_json import encode
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.session import distrusted
from cosell_sync.transport.throttle import Governor

CONNECT: Final = 10.0
TRIES: Final = 5
CAP: Final = 120.0  # seconds, all tries and waits of one call together
GRACE: Final = 5.0  # how long a running call may still finish when we are asked to stop
BUSY: Final = frozenset({429, 500, 502, 503, 504})

log = structlog.get_logger()

_USAGE: Final = re.compile(r"(?:^|[^-])api-usage=(\d+)/(\d+)")


@dataclass(frozen=True)
class Answer:
    """``data``: the parsed body, None where there is none; ``at``: the server's time when it answered."""

    status: int
    data: Any
    at: datetime


class _Through(requests.Session):
    """The session that simple-salesforce gets: its requests become ours, its own token header is dropped."""

    def __init__(self, rest: Rest) -> None:
        super().__init__()
        self._rest = rest

    def request(  # type: ignore[override]  # only what the library passes
        self, method: str, url: str, **options: Any
    ) -> requests.Response:
        headers = {
            name: value
            for name, value in (options.get("headers") or {}).items()
            if name not in {"Authorization", "X-PrettyPrint"}
        }
        parts = urlsplit(url)
        query = urlencode(options["params"]) if options.get("params") else parts.query
        path = f"{parts.path}?{query}" if query else parts.path
        body = options.get("data") or (None if options.get("json") is None else encode(options["json"]))
        return self._rest.send(method, path, body, headers, repeat=method.upper() == "GET")


class Rest:
    """The org behind one sign-in. Safe to share between threads."""

    def __init__(
        self,
        login_url: str,
        credentials: Credentials,
        *,
        clock: Clock,
        api_version: str = "66.0",
        call_timeout: timedelta = timedelta(seconds=30),
        verify: str | bool | None = None,
        sleep: Callable[[float], None] | None = None,
        stop: threading.Event | None = None,
        adapter: requests.adapters.BaseAdapter | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.login_url = login_url.rstrip("/")
        self.version = api_version
        self.clock = clock
        self._credentials = credentials
        self._timeout = (CONNECT, call_timeout.total_seconds())
        self._verify = trust_file() if verify is None else verify
        self._stop = stop or threading.Event()
        self._sleep = sleep or (lambda seconds: void(self._stop.wait(seconds)))
        # When the org says "not now", it and its sign-in are each left alone for as long, in later cycles too.
        pace = time.monotonic if sleep is None else lambda: clock().timestamp()
        self._governor, self._door = (
            Governor(SYSTEM, stop=self._stop, clock=clock, monotonic=pace, sleep=self._sleep, meter=counted)
            for counted in (meter, None)
        )
        self._session = requests.Session()
        self._session.mount("https://", adapter or requests.adapters.HTTPAdapter(pool_maxsize=10))
        self._signing = threading.Lock()
        self._counting = threading.Lock()
        self._ticket: Ticket | None = None
        self._library: tuple[Ticket, Salesforce] | None = None
        self.calls = 0
        self.usage: tuple[int, int] | None = None

    # --- the calls ----------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeat: bool | None = None,
    ) -> Answer:
        """One call under ``/services/data/vXX.X/`` (or at that host, where the path starts with a slash).

        ``repeat``: whether doing it twice is harmless; by default only for GET. Raises simple-salesforce's
        exceptions for what the org refuses, ``Unavailable``, ``Unclear`` and ``AuthFailed`` for the rest.
        """
        place = path if path.startswith("/") else f"{self.root}/{path}"
        payload = None if body is None else encode(body)
        again = method == "GET" if repeat is None else repeat
        response = self.send(method, place, payload, headers or {}, repeat=again)
        if response.status_code >= 300:
            exception_handler(response, name=path.partition("?")[0])
        data = response.json(parse_float=Decimal) if response.content else None
        return Answer(response.status_code, data, self._moment(response))

    def close(self) -> None:
        """Hangs up."""
        self._session.close()

    @property
    def root(self) -> str:
        return f"/services/data/v{self.version}"

    def salesforce(self) -> Salesforce:
        """simple-salesforce on top of this, for what it does well: describe, tooling, deploy."""
        now = self.ticket()
        if self._library is None or self._library[0] != now:
            made = Salesforce(
                session_id=now.token,
                instance_url=now.instance_url,
                version=self.version,
                session=_Through(self),
                parse_float=Decimal,
            )
            self._library = (now, made)
        return self._library[1]

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, repeat: bool
    ) -> requests.Response:
        """The answer, whatever the org said in it, as long as it said something. The host is the ticket's, always."""

        def attempt() -> requests.Response:
            used = self.ticket()
            response = self._once(method, path, body, headers, used, repeat=repeat)
            if expired(response):
                self._renew(used)
                fresh = self.ticket()
                response = self._once(method, path, body, headers, fresh, repeat=repeat)
                if expired(response):
                    raise AuthFailed(
                        SYSTEM,
                        "Salesforce refuses the token it has just given",
                        code="INVALID_SESSION_ID",
                        status=response.status_code,
                        hint="check the session policies and IP ranges of the app and the integration user",
                    )
            return response

        return self._tried(attempt)

    # --- one try ------------------------------------------------------------------------------------------------

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        ticket: Ticket,
        *,
        repeat: bool,
    ) -> requests.Response:
        self._governor.admit(CAP)
        with self._counting:
            self.calls += 1
        sent = {"Accept": "application/json", **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        response = self._exchange(
            repeat=repeat,
            method=method,
            url=ticket.instance_url + path,
            data=body,
            headers=sent,
            auth=Bearer(ticket.token),
        )
        if usage := _USAGE.search(response.headers.get("Sforce-Limit-Info", "")):
            self.usage = (int(usage[1]), int(usage[2]))
            self._governor.meter.observe(*self.usage)
        self._governor.meter.dated(response.headers.get("Date"))
        self._judge(response, self._governor, repeat=repeat)
        return response

    def _exchange(self, *, repeat: bool, **request: Any) -> requests.Response:
        """On the wire and back, or what became of it. A connection that never stood carried nothing."""
        if self._stop.is_set():
            raise Unavailable(SYSTEM, "stopping", code="stopped")
        try:
            return self._run(request)
        except requests.exceptions.SSLError as error:
            if not distrusted(error):  # a connection that broke inside TLS
                raise lost("connection_lost", repeat=repeat) from None
            raise Unavailable(
                SYSTEM,
                "no trust in the certificate of Salesforce",
                code="certificate",
                hint="SSL_CERT_FILE must name a bundle with the certificate authority in use",
            ) from None
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError):
            raise Again(unreachable("connect")) from None
        except requests.exceptions.ConnectionError as error:
            if never_stood(error):
                raise Again(unreachable("connect")) from None
            raise lost("connection_lost", repeat=repeat) from None
        except requests.exceptions.Timeout:
            raise lost("timeout", repeat=repeat) from None
        except requests.exceptions.RequestException:
            raise lost("broken_answer", repeat=repeat) from None
        except OSError:  # requests says so when the bundle is not there
            raise Unavailable(
                SYSTEM,
                "the certificate bundle cannot be read",
                code="certificate",
                hint="SSL_CERT_FILE or REQUESTS_CA_BUNDLE names a file that is missing or unreadable",
            ) from None

    def _run(self, request: Mapping[str, Any]) -> requests.Response:
        before = time.monotonic()
        status, code = None, "lost"
        try:
            response = apart(
                lambda: self._session.request(
                    **request, timeout=self._timeout, verify=self._verify, allow_redirects=False
                ),
                name="salesforce-call",
                limit=sum(self._timeout),
                stopping=self._stop.is_set,
                grace=GRACE,
            )
        except (Stopped, TooLong):
            raise requests.exceptions.ReadTimeout from None
        else:
            status, code = response.status_code, ""
            return response
        finally:
            log.debug(
                "http.call",
                system=SYSTEM,
                method=request["method"],
                path=template(request["url"]),
                status=status,
                code=code,
                ms=round((time.monotonic() - before) * 1000),
            )

    def _judge(self, response: requests.Response, governor: Governor, *, repeat: bool) -> None:
        """Raises for an answer that says nothing about the record. Others are the caller's."""
        status = response.status_code
        if status in BUSY:
            code = next((fault.code for fault in faults(response) if fault.code), f"http_{status}")
            after = self._after(response)
            if after is not None:
                governor.pause(after)
            final: Exception = Unavailable(
                SYSTEM,
                f"Salesforce is not able to answer ({code})",
                code=code,
                status=status,
                hint=errors.CLOSED.get(code, ""),
                retry_at=None if after is None else self.clock() + timedelta(seconds=after),
            )
            if status != 429 and not repeat:
                # A 5xx may be reported for work that was done.
                raise Unclear("Salesforce failed while it worked on this", code=code, status=status)
            raise Again(final, after)
        if status in {301, 302, 303, 307, 308}:
            raise Unavailable(
                SYSTEM,
                "Salesforce's address answers with a redirect, which is never followed",
                code="redirect",
                status=status,
                hint="check salesforce.login_url, and whether a proxy or captive portal answers instead",
            )
        if status == 403 and (shut := [each for each in faults(response) if each.code in errors.CLOSED]):
            code = shut[0].code
            raise Unavailable(
                SYSTEM,
                f"Salesforce takes no calls from us now ({code})",
                code=code,
                status=status,
                hint=errors.CLOSED[code],
            )
        if status < 300 and response.content and not is_json(response):
            raise lost("not_json", repeat=repeat)
        if status >= 400 and status != 401 and not faults(response):
            raise Unavailable(
                SYSTEM,
                "what answers at Salesforce's address is not Salesforce",
                code=f"http_{status}",
                status=status,
                hint="check salesforce.login_url and the proxy",
            )

    def _tried(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        began = self.clock()

        def pause(state: tenacity.RetryCallState) -> float:
            failed = state.outcome.exception() if state.outcome else None
            if isinstance(failed, Again) and failed.after is not None:
                return failed.after
            return float(min(2 ** (state.attempt_number - 1), 20) * (0.5 + random.random()))  # noqa: S311

        def enough(state: tenacity.RetryCallState) -> bool:
            spent = (self.clock() - began).total_seconds()
            return state.attempt_number >= TRIES or spent + state.upcoming_sleep > CAP or self._stop.is_set()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Again),
            wait=pause,
            stop=enough,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except Again as again:
            raise again.final from None

    def pause(self, low: float, high: float) -> None:
        """Waits a moment of random length; ends at once when asked to stop."""
        self._sleep(low + (high - low) * random.random())  # noqa: S311

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _after(self, response: requests.Response) -> float | None:
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text)
        moment = http_date(text)
        return None if moment is None else max(0.0, (moment - self.clock()).total_seconds())

    def _moment(self, response: requests.Response) -> datetime:
        return http_date(response.headers.get("Date", "")) or self.clock()

    # --- the sign-in --------------------------------------------------------------------------------------------

    def ticket(self) -> Ticket:
        """The current one, signing in first if there is none. One thread signs in, the others wait for it."""
        with self._signing:
            if self._ticket is None:
                self._ticket = self._sign_in()
            return self._ticket

    def _renew(self, old: Ticket) -> None:
        with self._signing:
            if self._ticket == old:
                self._ticket = None
                self._ticket = self._sign_in()

    def _sign_in(self) -> Ticket:
        if not self.login_url.startswith("https://"):
            raise AuthFailed(SYSTEM, "salesforce.login_url is not https", code="not_https")

        def attempt() -> requests.Response:
            self._door.admit(CAP)
            wanted = self._credentials.request(self.login_url, self.clock())
            response = self._exchange(
                repeat=True,
                method="POST",
                url=f"{self.login_url}/services/oauth2/token",
                data=wanted.form,
                headers={"Accept": "application/json"},
                auth=requests.auth.HTTPBasicAuth(*wanted.basic) if wanted.basic else nobody,
            )
            if response.status_code in BUSY or response.status_code < 400:
                self._judge(response, self._door, repeat=True)
            return response

        response = self._tried(attempt)
        reply = response.json() if is_json(response) else None
        if response.status_code >= 400:
            raise signin.refused(response.status_code, reply)
        return signin.ticket(self.login_url, reply)
