"""One careful HTTP call: timeouts, retries, throttling, sign-in and logging, the same for every system.

What may be repeated depends on what a call does (``safety``). Every write asks the ``permit`` before it leaves.

Each exchange runs on a thread of its own, so that a stop ends a hanging call at once and a dripping answer cannot
outlast its time. Redirects are never followed. A token goes to the configured host only, or to the one that the
sign-in named with it.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import structlog

from cosell_sync import tracing
from cosell_sync.errors import SYSTEMS, CosellError, Flaky, OutsideError, Rejected, Unavailable, Unclear
from cosell_sync.transport import answers, errors, unreachable
from cosell_sync.transport.answers import Answer, ErrorBody, error_body
from cosell_sync.transport.deadline import DeadlineExceeded, NoRoom, Stopped, within_deadline
from cosell_sync.transport.errors import Disposition, Refusal, Scope
from cosell_sync.transport.exact_json import parse
from cosell_sync.transport.permit import Permit, anyway, asked_last
from cosell_sync.transport.retry import Retrier, RetryableError, RetryStrategy
from cosell_sync.transport.safety import Safety, repeated
from cosell_sync.transport.throttle import Clock, Governor, utc_now
from cosell_sync.transport.tokens import AccessToken, TokenSource
from cosell_sync.transport.trust import trust

log = structlog.get_logger()


@dataclass(frozen=True)
class Limits:
    """Seconds for one exchange, and when to try again. ``grace``: seconds that an exchange may still take once the
    program is stopping.
    """

    connect: float = 10.0
    read: float = 30.0
    grace: float = 0.0
    retry: RetryStrategy = field(default_factory=RetryStrategy)


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
    parse: Callable[[bytes], Any]
    unchanged: Callable[[], bool] | None
    started: float
    lost: list[Unclear] = field(default_factory=list)  # tries of which nobody knows whether they landed


class HttpCaller:
    """Calls one host. ``calls`` counts every HTTP request it made.

    ``base_url`` empty: any host, for libraries that find their hosts; then there may be no ``tokens``. ``name``: of the
    system, in texts. ``hint``: what to check where nobody answers as that system does; ``hints``: the same by error code.
    ``id_headers`` get a new id with every request. ``proxies``: whether the environment's are used. ``permit``: see there.
    """

    def __init__(
        self,
        system: str,
        base_url: str,
        *,
        permit: Permit = anyway,
        governor: Governor | None = None,
        tokens: TokenSource | None = None,
        limits: Limits | None = None,
        verify: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        id_headers: tuple[str, ...] = ("client-request-id",),
        name: str = "",
        hint: str = "",
        hints: Mapping[str, str] | None = None,
        proxies: bool = True,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.system = system
        self.name = name or SYSTEMS.get(system, system)
        self.governor = governor or Governor(system, clock=clock, monotonic=monotonic)
        self.retrier = Retrier(self.governor.wait, monotonic, chance)
        self._base = httpx.URL(base_url.rstrip("/"))
        self._tokens = tokens
        self._asked_last = asked_last(permit)
        self._limits = limits or Limits()
        self._headers = {"accept": "application/json", **(headers or {})}
        self._id_headers = id_headers
        self.hint = hint
        self._hints = hints or {}
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._calls = 0
        self._closed = threading.Event()
        patience = httpx.Timeout(self._limits.read, connect=self._limits.connect)
        self._client = unreachable.make_client(verify or trust(), patience, proxies=proxies)

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def host(self) -> str:
        return self._base.host

    @property
    def address(self) -> str:
        """Host of the calls, with its port where that is not the usual one."""
        return self._base.netloc.decode()

    def sign_in(self) -> AccessToken | None:
        """The current token, signing in first if there is none; None where the calls need no sign-in.

        Raises what signing in raises.
        """
        return self._tokens.token() if self._tokens else None

    def close(self) -> None:
        """No further call starts; those under way end at once. May be called twice."""
        self._closed.set()
        self._client.close()

    def url(self, path: str) -> httpx.URL:
        """The address of a path, or of an absolute URL of this very host. Raises Rejected for any other host."""
        base = self._base
        url = httpx.URL(f"{base}{path}") if path.startswith("/") else httpx.URL(path)
        if base.host and (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            raise Rejected(f"refused to call another host than {base.host}", code="foreign_host")
        return url

    def throttled(self, wait: float | None) -> None:
        """The host said "not now": every thread leaves it alone for so many seconds; None: it did not say how long."""
        backoff = self._limits.retry.backoff(1, self.retrier.chance())
        self.governor.pause(backoff if wait is None else wait)

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
        tries: int | None = None,
        parse: Callable[[bytes], Any] = parse,
        unchanged: Callable[[], bool] | None = None,
    ) -> Answer:
        """Make one call, with the retries that ``safety`` permits.

        ``template`` is the path for the log, without ids of people and without the query. ``accept``: statuses besides
        2xx that the caller judges itself, unless they say that the whole system takes no calls. ``tries``: attempts in
        all, where they are fewer than the limits permit. ``parse`` reads the body of a success and raises ValueError
        for one that the system does not send. ``unchanged``: after an answer 500 to a guarded write, whether the
        record surely is as it was; then the write is sent again, three times in all.

        Raises the errors that ``errors.to_error`` derives; ``Unavailable`` or ``Unclear`` where no answer came.
        """
        call = _Call(
            method,
            self.url(path),
            template,
            safety,
            scope,
            {**self._headers, **(headers or {})},
            body,
            accept,
            parse,
            unchanged,
            self._monotonic(),
        )
        strategy = self._limits.retry
        if tries is not None:
            strategy = replace(strategy, tries=min(tries, strategy.tries))
        try:
            return self.retrier.run(strategy, partial(self._noted, call))
        except OutsideError:
            if call.lost:  # that the last try was not answered, or not made, says nothing of the first
                raise call.lost[-1] from None
            raise

    # --- one attempt --------------------------------------------------------------------------------------------

    def _noted(self, call: _Call) -> Answer:
        try:
            return self._attempt(call)
        except RetryableError as failure:
            if isinstance(failure.final, Unclear):
                call.lost.append(failure.final)
            raise

    def _attempt(self, call: _Call) -> Answer:
        """One attempt; two requests where the token had to be renewed."""
        token = self._tokens.token() if self._tokens else None
        answer = self._exchange(call, token)
        found, said = self._disposition(answer)
        if self._tokens and token is not None and found is Disposition.EXPIRED:
            answer = self._exchange(call, self._tokens.refresh(token))
            found, said = self._disposition(answer)
        refused_twice = found is Disposition.EXPIRED and token is not None
        if answer.status in call.accept and found not in errors.SYSTEM_WIDE and not refused_twice:
            return answer
        if found is Disposition.DONE:
            return self._parsed(answer, call)
        raise self._refused(answer, said, found, call)

    def _disposition(self, answer: Answer) -> tuple[Disposition, ErrorBody]:
        said = error_body(answer.body) if answer.status >= 300 else ErrorBody()
        return errors.disposition(self.system, answer.status, said.code), said

    def _exchange(self, call: _Call, token: AccessToken | None) -> Answer:
        """One request and its answer, whatever it says. Raises what becomes of the call where there is none."""
        if self._closed.is_set():
            raise self._stopping()
        left = max(0.0, self._limits.retry.total - (self._monotonic() - call.started))
        self.governor.admit(left)
        limit = min(self._limits.read, max(1.0, left))
        call_id = str(uuid.uuid4())
        with self._lock:
            self._calls += 1
        before = self._monotonic()
        try:
            with tracing.request(self.system, call.method, call.template) as trace:
                response = within_deadline(
                    self._client.send,
                    self._request(call, token, call_id, limit),
                    name=f"http-{self.system}",
                    limit=limit + self._limits.connect,
                    stopping=self._is_stopping,
                    grace=self._limits.grace,
                )
                trace.answered(response.status_code)
        except (
            httpx.HTTPError, httpx.InvalidURL, RuntimeError, UnicodeError, Stopped, DeadlineExceeded, NoRoom
        ) as cause:  # fmt: skip
            code, sent = self._failure(cause)
            self.governor.meter.failed(code)
            self._log(call, before, call_id, code=code)
            raise self._unanswered(code, sent, call) from None
        # httpx lets a response and its stream name each other; such a circle, with the body in it, waits for the collector.
        response.stream = httpx.ByteStream(b"")
        headers = dict(response.headers)
        self.governor.meter.answered(headers)
        request_id = next((headers[name] for name in answers.REQUEST_IDS if name in headers), call_id)
        self._log(call, before, call_id, status=response.status_code, request_id=request_id)
        at = answers.server_time(headers, self._clock())
        return Answer(response.status_code, headers, response.content, None, request_id, at)

    def _request(self, call: _Call, token: AccessToken | None, call_id: str, limit: float) -> httpx.Request:
        url = call.url
        headers = {**call.headers, **dict.fromkeys(self._id_headers, call_id), **tracing.headers(self.host)}
        if token is not None:
            headers["authorization"] = f"Bearer {token.value}"
            if token.base_url:
                url = httpx.URL(token.base_url).copy_with(raw_path=url.raw_path)
        timeout = httpx.Timeout(limit, connect=min(self._limits.connect, limit))
        extensions = {} if call.safety is Safety.READ else self._asked_last
        return self._client.build_request(
            call.method, url, headers=headers, content=call.body, timeout=timeout, extensions=extensions
        )

    def _is_stopping(self) -> bool:
        return self.governor.stop.is_set() or self._closed.is_set()

    def _stopping(self) -> Unavailable:
        return Unavailable(self.system, "the program is stopping", code="stopping")

    # --- what becomes of it -------------------------------------------------------------------------------------

    def _failure(self, cause: BaseException) -> tuple[str, bool]:
        """The code of a failure without an answer, and whether the request may have arrived."""
        if isinstance(cause, Stopped) or self._is_stopping():
            return "stopping", True
        if isinstance(cause, DeadlineExceeded):
            return "read_timeout", True
        if isinstance(cause, NoRoom):
            return "no_thread", False
        return errors.connection_failure(cause)

    def _unanswered(self, code: str, sent: bool, call: _Call) -> Exception:
        """No answer: what becomes of the call, and whether it may be tried again."""
        if sent and call.safety is not Safety.READ:
            unclear = Unclear(f"{self.name} did not answer; it may have landed", code=code)
            again = call.safety is Safety.HARMLESS and code != "stopping"
            return RetryableError(unclear) if again else unclear
        if code == "stopping":
            return self._stopping()
        if code == "certificate":
            text = f"no trust in the certificate of {self.name}"
            return Unavailable(self.system, text, code=code, hint=unreachable.UNTRUSTED)
        if code == "protocol" and call.scope is Scope.RECORD:
            return Rejected("this request cannot be expressed in HTTP", code=code)
        text, hint = unreachable.why(code, call.url.host, self.name)
        down = Unavailable(self.system, text, code=code, hint=hint or self.hint)
        return down if code == "protocol" or call.safety is Safety.ONCE else RetryableError(down)

    def _refused(self, answer: Answer, said: ErrorBody, found: Disposition, call: _Call) -> Exception:
        """An answer that is no success: what becomes of the call, and whether it may be tried again."""
        self.governor.meter.failed(said.code or str(answer.status))
        wait = self.governor.asked_wait(answer.headers)
        if found is Disposition.THROTTLED:
            self.throttled(wait)
        elif found in errors.TRANSIENT and wait is not None:
            self.governor.pause(wait)
        refusal = Refusal(
            self.system,
            found,
            said,
            answer.status,
            name=self.name,
            host=self.host,
            request_id=answer.request_id,
            retry_at=self._clock() + timedelta(seconds=wait) if wait is not None else None,
            may_have_landed=call.safety is not Safety.READ,
            hint=self._hints.get(said.code, "" if found in errors.TRANSIENT else self.hint),
        )
        return self._decided(refusal, wait, call)

    def _decided(self, refusal: Refusal, wait: float | None, call: _Call) -> Exception:
        found = refusal.disposition
        unproven = found is Disposition.FAILED and refusal.status == 500 and call.safety is Safety.GUARDED
        if unproven and call.unchanged is not None and call.unchanged():
            final = Flaky(refusal.body.text, code=refusal.code, status=500, request_id=refusal.request_id)
            return RetryableError(final, wait, tries=3)
        unguarded = call.safety in {Safety.UNGUARDED, Safety.ONCE}
        if found is Disposition.OVERLOADED and refusal.status >= 500 and unguarded:
            # A 503 is not proof enough for a write that nothing guards: the caller looks first.
            return Unclear(f"{self.name} is not available", code=refusal.code, status=refusal.status)
        final_error = errors.to_error(refusal, call.scope)
        again = repeated(call.safety, found, refusal.status)
        return RetryableError(final_error, wait) if again else final_error

    def _parsed(self, answer: Answer, call: _Call) -> Answer:
        """A success, if its body is what it should be. A proxy's web page proves nothing."""
        if not answer.body.strip():
            return answer
        try:
            return replace(answer, data=call.parse(answer.body))
        except ValueError:
            pass
        text = f"{self.name} gave an unreadable answer"
        facts: dict[str, Any] = {"code": "unreadable", "status": answer.status}
        if call.safety is not Safety.READ:
            unclear = Unclear(f"{text}; it may have landed", request_id=answer.request_id, **facts)
            raise RetryableError(unclear) if call.safety is Safety.HARMLESS else unclear
        final: CosellError = (
            Unavailable(self.system, text, hint=self.hint, **facts)
            if call.scope is Scope.SYSTEM
            else Flaky(text, request_id=answer.request_id, **facts)
        )
        raise RetryableError(final)

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
