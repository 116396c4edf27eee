"""One careful HTTP call: timeouts, retries, throttling, sign-in and logging, the same for every adapter.

What may be repeated depends on what a call does:

========= ===================================================================================================
READ      changes nothing: repeated on every transient failure
GUARDED   a write with If-Match: repeated only when it surely did not land (429, an answered 503, no connection)
ONCE      a write without a guard: never repeated, except after a 401, which was refused at the door
========= ===================================================================================================

A write whose answer is lost raises ``Unclear``; whoever called looks before doing anything else.

Each exchange runs apart, so that a stop ends a hanging call at once and a dripping answer cannot outlast its time.
Redirects are never followed and the bearer token never leaves the configured host.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import structlog
import tenacity

from cosell_sync.errors import ConfigError, CosellError, Flaky, Rejected, Unavailable, Unclear
from cosell_sync.transport import errors
from cosell_sync.transport.deadline import Stopped, TooLong, apart
from cosell_sync.transport.errors import Fate, Scope
from cosell_sync.transport.exact_json import parse
from cosell_sync.transport.throttle import Clock, Governor, utc_now
from cosell_sync.transport.tokens import TokenSource

log = structlog.get_logger()

TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
REQUEST_IDS = ("request-id", "x-ms-request-id", "ms-requestid", "req_id")


class Safety(StrEnum):
    """Whether a call may be repeated; see above."""

    READ = "read"
    GUARDED = "guarded"
    ONCE = "once"


@dataclass(frozen=True)
class Limits:
    """Seconds for one call, and how often and how long it may be tried in all."""

    connect: float = 10.0
    read: float = 30.0
    total: float = 120.0
    tries: int = 5


@dataclass(frozen=True)
class Answer:
    """What came back. ``data``: the body as JSON (numbers with a fraction as ``Decimal``), None where it is empty."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    data: Any = None
    request_id: str = ""


def trust() -> ssl.SSLContext:
    """The system's certificate authorities, and those of SSL_CERT_FILE and REQUESTS_CA_BUNDLE where set."""
    context = ssl.create_default_context()
    for name in TRUST_VARIABLES:
        place = os.environ.get(name, "")
        try:
            if place and Path(place).is_dir():
                context.load_verify_locations(capath=place)
            elif place:
                context.load_verify_locations(cafile=place)
        except OSError as cause:
            raise ConfigError(
                f"{name} names certificates that cannot be read: {place}", hint=f"correct or unset {name}"
            ) from cause
    return context


def trust_file() -> str | bool:
    """The same for ``requests`` (MSAL, simple-salesforce), as its ``verify``: it takes one file, and by itself
    ignores SSL_CERT_FILE. True: its own default.
    """
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True


class _Again(Exception):
    """This try failed in a way that permits another; ``final`` is what to raise when there is none."""

    def __init__(self, final: CosellError, wait: float | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait = wait


@dataclass(frozen=True)
class _Call:
    """What is being called, the same through all tries."""

    method: str
    url: httpx.URL
    template: str
    safety: Safety
    scope: Scope
    headers: Mapping[str, str]
    body: bytes | None
    accept: Collection[int]
    started: float


class HttpCaller:
    """Calls one host. ``calls`` counts every HTTP request it made."""

    def __init__(
        self,
        system: str,
        base_url: str,
        *,
        governor: Governor | None = None,
        tokens: TokenSource | None = None,
        limits: Limits | None = None,
        verify: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        id_headers: tuple[str, ...] = ("client-request-id",),
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.system = system
        self._base = httpx.URL(base_url.rstrip("/"))
        self._governor = governor or Governor(system, clock=clock, monotonic=monotonic)
        self._tokens = tokens
        self._limits = limits or Limits()
        self._headers = dict(headers or {})
        self._id_headers = id_headers
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance
        self._lock = threading.Lock()
        self._calls = 0
        self._closed = threading.Event()
        self._client = httpx.Client(
            verify=verify or trust(),
            follow_redirects=False,
            timeout=httpx.Timeout(self._limits.read, connect=self._limits.connect),
        )

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def host(self) -> str:
        return self._base.host

    def close(self) -> None:
        """No further call starts; those under way end at once. May be called twice."""
        self._closed.set()
        self._client.close()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the program is stopping: for adapters that try again by themselves."""
        self._governor.wait(seconds)

    def backoff(self, attempt: int) -> float:
        """Seconds before the next try: 1, 2, 4 … 20, of which up to half is left to chance."""
        ceiling = min(20.0, float(2 ** (attempt - 1)))
        return ceiling * (0.5 + 0.5 * self._chance())

    def url(self, path: str) -> httpx.URL:
        """The address of a path (or of an absolute URL of this very host; anything else is refused)."""
        url = httpx.URL(f"{self._base}{path}") if path.startswith("/") else httpx.URL(path)
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise Rejected(f"refused to call another host than {self.host}", code="foreign_host")
        return url

    def call(
        self,
        method: str,
        path: str,
        *,
        template: str,
        safety: Safety,
        scope: Scope = Scope.RECORD,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Make one call, with the retries that ``safety`` permits.

        ``template`` is the path for the log, without ids of people and without the query. ``accept``: statuses
        besides 2xx that the caller judges itself. Raises the errors that ``outcomes`` derives.
        """
        call = _Call(
            method,
            self.url(path),
            template,
            safety,
            scope,
            dict(headers or {}),
            body,
            accept,
            self._monotonic(),
        )

        def pause(state: tenacity.RetryCallState) -> float:
            cause = state.outcome.exception() if state.outcome else None
            given = cause.wait if isinstance(cause, _Again) else None
            return self.backoff(state.attempt_number) if given is None else given

        def enough(state: tenacity.RetryCallState) -> bool:
            spent = self._monotonic() - call.started
            return (
                state.attempt_number >= self._limits.tries
                or spent + state.upcoming_sleep > self._limits.total
            )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=pause,
            stop=enough,
            sleep=self._governor.wait,
            reraise=True,
        )
        try:
            return retrying(self._signed, call)
        except _Again as again:
            raise again.final from None

    def _left(self, call: _Call) -> float:
        return self._limits.total - (self._monotonic() - call.started)

    def _signed(self, call: _Call) -> Answer:
        """One try; two requests where the token had to be renewed."""
        token = self._tokens.token() if self._tokens else None
        answer = self._try(call, token)
        if self._tokens and token is not None and self._fate(answer) is Fate.REFRESH:
            answer = self._try(call, self._tokens.refresh(token))
        return answer if answer.status in call.accept else self._judge(answer, call)

    def _fate(self, answer: Answer) -> Fate:
        code = errors.said(answer.body).code if answer.status >= 400 else ""
        return errors.fate(self.system, answer.status, code)

    def _try(self, call: _Call, token: str | None) -> Answer:
        if self._closed.is_set():
            raise Unavailable(self.system, "the program is stopping", code="stopping")
        self._governor.admit(max(0.0, self._left(call)))
        call_id = str(uuid.uuid4())
        full = {"accept": "application/json", **self._headers, **call.headers}
        full |= dict.fromkeys(self._id_headers, call_id)
        if token is not None:
            full["authorization"] = f"Bearer {token}"
        limit = min(self._limits.read, max(1.0, self._left(call)))
        timeout = httpx.Timeout(limit, connect=min(self._limits.connect, limit))
        before = self._monotonic()
        with self._lock:
            self._calls += 1
        try:
            request = self._client.build_request(
                call.method, call.url, headers=full, content=call.body, timeout=timeout
            )
            response = self._exchange(request, limit + self._limits.connect)
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError, UnicodeError, Stopped) as cause:
            code, sent = self._cause(cause)
            self._log(call, before, call_id, code=code)
            raise self._lost(code, sent, call) from None
        self._governor.meter.dated(response.headers.get("date"))
        answer = Answer(
            status=response.status_code,
            headers=dict(response.headers),
            body=response.content,
            request_id=next(
                (response.headers[name] for name in REQUEST_IDS if name in response.headers), call_id
            ),
        )
        self._log(call, before, call_id, status=answer.status, request_id=answer.request_id)
        return answer

    def _exchange(self, request: httpx.Request, limit: float) -> httpx.Response:
        """Send it and wait for the answer, the stop, or the end of patience."""
        try:
            return apart(
                lambda: self._client.send(request),
                name=f"http-{self.system}",
                limit=limit,
                stopping=lambda: self._governor.stop.is_set() or self._closed.is_set(),
            )
        except TooLong:
            raise httpx.ReadTimeout("the answer drips") from None

    def _cause(self, cause: BaseException) -> tuple[str, bool]:
        if isinstance(cause, Stopped) or self._closed.is_set() or self._governor.stop.is_set():
            return "stopping", True
        if isinstance(cause, (httpx.InvalidURL, UnicodeError, RuntimeError)):
            return "protocol", False
        return errors.lost(cause)

    def _lost(self, code: str, sent: bool, call: _Call) -> Exception:
        """No answer. What becomes of it, and whether to try again."""
        if sent and call.safety is not Safety.READ:
            return Unclear(f"{self.system} did not answer; it may have landed", code=code)
        if code == "stopping":
            return Unavailable(self.system, "the program is stopping", code=code)
        down = Unavailable(self.system, f"{self.system} does not answer ({code})", code=code)
        if code == "protocol":
            return (
                down
                if call.scope is Scope.SYSTEM
                else Rejected("this request cannot be expressed in HTTP", code=code)
            )
        return down if call.safety is Safety.ONCE else _Again(down)

    def _judge(self, answer: Answer, call: _Call) -> Answer:
        said = errors.said(answer.body) if answer.status >= 300 else errors.Said()
        fate = errors.fate(self.system, answer.status, said.code)
        if fate is Fate.DONE:
            return self._read(answer, call)
        now = self._clock()
        wait = errors.retry_after(answer.headers.get("retry-after"), now)
        if fate is Fate.WAIT:
            self._governor.pause(self.backoff(1) if wait is None else wait)
        elif fate is Fate.BUSY and wait is not None:
            self._governor.pause(wait)
        final = errors.error(
            self.system,
            fate,
            call.scope,
            said,
            status=answer.status,
            request_id=answer.request_id,
            host=self.host,
            retry_at=now + timedelta(seconds=wait) if wait is not None else None,
            may_have_landed=call.safety is not Safety.READ,
        )
        again = (call.safety is Safety.READ and fate in errors.TRANSIENT) or (
            call.safety is Safety.GUARDED and errors.surely_not_landed(fate, answer.status)
        )
        if call.safety is Safety.ONCE and fate is Fate.BUSY:
            # An unguarded create: "overloaded" is not proof enough, so whoever called looks first.
            raise Unclear(
                f"{self.system} is not available", code=said.code or "http_503", status=answer.status
            )
        raise _Again(final, wait) if again else final

    def _read(self, answer: Answer, call: _Call) -> Answer:
        """A good answer, if its body is what it should be. A proxy's HTML page is no proof of anything."""
        if not answer.body.strip():
            return answer
        try:
            data = parse(answer.body)
        except ValueError:
            if call.safety is not Safety.READ:
                raise Unclear(
                    f"{self.system} gave an unreadable answer; it may have landed",
                    code="unreadable",
                    status=answer.status,
                    request_id=answer.request_id,
                ) from None
            text = f"{self.system} gave an unreadable answer"
            final = (
                Unavailable(self.system, text, code="unreadable", status=answer.status)
                if call.scope is Scope.SYSTEM
                else Flaky(text, code="unreadable", status=answer.status, request_id=answer.request_id)
            )
            raise _Again(final) from None
        return Answer(answer.status, answer.headers, answer.body, data, answer.request_id)

    def _log(
        self,
        call: _Call,
        before: float,
        call_id: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
    ) -> None:
        log.debug(
            "http.call",
            system=self.system,
            method=call.method,
            path=call.template,
            status=status,
            code=code,
            client_request_id=call_id,
            request_id=request_id,
            ms=round((self._monotonic() - before) * 1000),
        )
