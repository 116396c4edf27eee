"""One careful HTTP call: what is repeated, what is waited for, what becomes of an answer. Time never sleeps here."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import respx
import structlog
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.errors import (
    AuthFailed,
    ConfigError,
    CosellError,
    Cure,
    Fenced,
    Flaky,
    Gone,
    Locked,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.transport import codes, errors, unreachable
from cosell_sync.transport.answers import Answer, ErrorBody, error_body, retry_after
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.errors import Disposition, Scope
from cosell_sync.transport.exact_json import parse
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.safety import Safety
from cosell_sync.transport.session import LibrarySession, sign_in_session
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import AccessToken, TokenSource, lifetime, renew_at
from cosell_sync.transport.trust import trust

HOST = "https://outside.example"
START = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


class Stand:
    """A caller over mocked answers."""

    def __init__(self, mock: respx.MockRouter, system: str = "partner_center") -> None:
        self.mock = mock
        self.time = Time()
        self.stop = threading.Event()
        self.signed_in = 0
        self.governor = self.governed(system)
        self.tokens = TokenSource(self.sign_in, clock=self.time.clock)
        self.caller = self.calling(self.governor, self.tokens)

    def governed(self, system: str, ceiling: int | None = None) -> Governor:
        return Governor(
            system,
            stop=self.stop,
            meter=Meter(system, clock=self.time.clock, ceiling=ceiling),
            clock=self.time.clock,
            monotonic=self.time.monotonic,
            sleep=self.time.sleep,
        )

    def calling(self, governor: Governor, tokens: TokenSource | None, **more: Limits) -> HttpCaller:
        return HttpCaller(
            governor.system,
            HOST,
            governor=governor,
            tokens=tokens,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # trusts nobody, which is quick
            clock=self.time.clock,
            monotonic=self.time.monotonic,
            chance=lambda: 1.0,
            **more,
        )

    def sign_in(self) -> AccessToken:
        self.signed_in += 1
        return AccessToken(f"token-{self.signed_in}", self.time.clock() + timedelta(hours=1))

    def get(self, scope: Scope = Scope.RECORD, path: str = "/things/1") -> Answer:
        return self.caller.call("GET", path, template="/things/{id}", safety=Safety.READ, scope=scope)

    def send(self, safety: Safety = Safety.GUARDED) -> Answer:
        return self.caller.call(
            "PATCH",
            "/things/1",
            template="/things/{id}",
            safety=safety,
            headers={"if-match": '"1"', "content-type": "application/json"},
            body=b"[]",
        )

    def answers(self, *answers: httpx.Response | Exception) -> respx.Route:
        return self.mock.route(url__startswith=HOST).mock(side_effect=list(answers))


@pytest.fixture
def stand() -> Iterator[Stand]:
    with respx.mock(assert_all_called=False) as mock:
        stand = Stand(mock)
        yield stand
        stand.caller.close()


# --- memory -----------------------------------------------------------------------------------------------------


def test_an_answer_goes_when_its_caller_lets_go_of_it(stand: Stand) -> None:
    """Answers may hold megabytes, and garbage in circles is looked for seldom (``collect_seldom``)."""

    def alive() -> int:
        return sum(isinstance(each, httpx.Response) for each in gc.get_objects())

    stand.mock.route(url__startswith=HOST).mock(side_effect=lambda _: httpx.Response(200, content=b"[]"))
    gc.collect()
    before = alive()
    gc.disable()
    try:
        stand.get()
        stand.mock.reset()  # it keeps what it answered
        assert alive() == before
    finally:
        gc.enable()


# --- what is repeated -------------------------------------------------------------------------------------------


def test_a_machine_without_room_for_a_thread_is_no_fault_of_a_record(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each exchange has a thread of its own. Without one nothing was sent, it passes, and no deal is to be told that it is refused."""
    route = stand.answers(httpx.Response(204))

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    for safety in Safety:
        with pytest.raises(Unavailable) as caught:
            stand.send(safety)
        assert (caught.value.code, route.call_count) == ("no_thread", 0)
        assert "no room" in str(caught.value)
        assert caught.value.hint


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500),
        httpx.Response(502),
        httpx.Response(503, html="<h1>Please wait</h1>"),
        httpx.Response(504),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        httpx.Response(200, text="<html>maintenance</html>"),
        httpx.Response(200, text='{"value": [{"id": "trunc'),
    ],
    ids=repr,
)
def test_a_read_is_repeated_on_every_transient_failure(
    stand: Stand, trouble: httpx.Response | Exception
) -> None:
    stand.answers(trouble, httpx.Response(200, json={"a": 1}))
    assert stand.get().data == {"a": 1}
    assert stand.caller.calls == 2
    assert stand.time.slept == [1.0]


@pytest.mark.parametrize(
    ("trouble", "scope", "kind"),
    [
        (httpx.Response(500), Scope.RECORD, Flaky),
        (httpx.Response(500), Scope.SYSTEM, Unavailable),
        (httpx.Response(503), Scope.RECORD, Unavailable),
        (httpx.ReadTimeout("slow"), Scope.RECORD, Unavailable),
        (httpx.Response(200, text="<html>"), Scope.RECORD, Flaky),
        (httpx.Response(200, text="<html>"), Scope.SYSTEM, Unavailable),
    ],
    ids=repr,
)
def test_what_a_read_becomes_when_it_never_succeeds(
    stand: Stand, trouble: httpx.Response | Exception, scope: Scope, kind: type[CosellError]
) -> None:
    stand.answers(*[trouble] * 9)
    with pytest.raises(kind):
        stand.get(scope)
    assert stand.caller.calls == Limits().retry.tries
    assert stand.time.slept == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(429, json={"statusCode": 429, "message": "slow"}),
        httpx.Response(503),
        httpx.ConnectError("no"),
    ],
    ids=repr,
)
def test_a_guarded_write_is_repeated_where_it_surely_did_not_land(
    stand: Stand, refusal: httpx.Response | Exception
) -> None:
    stand.answers(refusal, httpx.Response(204))
    assert stand.send().status == 204


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500),
        httpx.Response(502),
        httpx.Response(504),
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("truncated"),
        httpx.Response(200, text="<html>hello</html>"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("safety", [Safety.GUARDED, Safety.ONCE])
def test_a_write_that_may_have_landed_is_never_repeated(
    stand: Stand, safety: Safety, trouble: httpx.Response | Exception
) -> None:
    stand.answers(trouble, httpx.Response(204))
    with pytest.raises(Unclear):
        stand.send(safety)
    assert stand.caller.calls == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(429), Unavailable),
        (httpx.Response(503), Unclear),
        (httpx.ConnectError("no"), Unavailable),
    ],
    ids=repr,
)
def test_an_unguarded_write_is_never_repeated(
    stand: Stand, answer: httpx.Response | Exception, kind: type[CosellError]
) -> None:
    stand.answers(answer, httpx.Response(204))
    with pytest.raises(kind):
        stand.send(Safety.ONCE)
    assert stand.caller.calls == 1


# --- statuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "scope", "kind"),
    [
        (400, Scope.RECORD, Rejected),
        (403, Scope.RECORD, Rejected),
        (403, Scope.SYSTEM, AuthFailed),
        (404, Scope.RECORD, Gone),
        (404, Scope.SYSTEM, Unavailable),
        (409, Scope.RECORD, Stale),
        (410, Scope.RECORD, Gone),
        (412, Scope.RECORD, Stale),
        (413, Scope.RECORD, Rejected),
        (418, Scope.RECORD, Rejected),
        (418, Scope.SYSTEM, Unavailable),
        (422, Scope.RECORD, Rejected),
        (301, Scope.RECORD, Unavailable),
        (302, Scope.SYSTEM, Unavailable),
        (507, Scope.RECORD, Rejected),
    ],
)
def test_a_verdict_is_final(stand: Stand, status: int, scope: Scope, kind: type[CosellError]) -> None:
    """Neither a verdict nor an unknown status is asked for twice."""
    stand.answers(httpx.Response(status, headers={"location": "https://evil.example/x"}))
    with pytest.raises(kind):
        stand.get(scope)
    assert stand.caller.calls == 1
    assert stand.time.slept == []


def test_an_address_in_a_question_is_no_address_to_call(stand: Stand) -> None:
    """A deal may be called after a web page; only what begins with a scheme names a host, and only ours is called."""
    assert stand.caller.url("/x?$filter=name eq 'https://else.example'").host == stand.caller.host
    assert stand.caller.url(f"{HOST}/next").host == stand.caller.host
    with pytest.raises(Rejected):
        stand.caller.url("https://else.example/x")


def test_a_redirect_names_the_host_and_is_not_followed(stand: Stand) -> None:
    evil = stand.mock.get("https://evil.example/x").respond(200)
    stand.answers(httpx.Response(302, headers={"location": "https://evil.example/x"}))
    with pytest.raises(Unavailable, match=r"outside\.example"):
        stand.get(Scope.SYSTEM)
    assert not evil.called


def test_a_foreign_address_is_refused_before_anything_is_sent(stand: Stand) -> None:
    route = stand.answers(httpx.Response(200))
    for url in ("https://evil.example/x", "http://outside.example/x", "https://outside.example:444/x"):
        with pytest.raises(Rejected):
            stand.get(path=url)
    assert not route.called


def test_a_code_knows_more_than_its_status() -> None:
    assert errors.disposition("dynamics", 412, "0x80040237") is Disposition.REJECTED
    assert errors.disposition("dynamics", 412, "0x80060882") is Disposition.STALE
    assert errors.disposition("salesforce", 403, "REQUEST_LIMIT_EXCEEDED") is Disposition.EXHAUSTED
    assert errors.disposition("salesforce", 403, "INSUFFICIENT_ACCESS") is Disposition.FORBIDDEN
    assert errors.disposition("partner_center", 400, "resourceModified") is Disposition.STALE


def test_every_documented_shape_of_errors_is_read() -> None:
    nested = b'{"error": {"code": "invalidRequest", "message": "No.", "target": "details/dealValue",'
    nested += b'"innerError": {"code": "badNumber", "innerError": {"code": null}}}}'
    assert error_body(nested) == ErrorBody("badNumber", "No.", "details/dealValue")
    assert error_body(b'{"statusCode": 429, "message": "slow"}') == ErrorBody("429", "slow")
    assert error_body(b'[{"errorCode": "X_Y", "message": "no"}]') == ErrorBody("X_Y", "no")
    flat = b'{"code": %s, "description": "MFA is required.", "data": [], "source": "PartnerFD"}'
    for code in (b'"900421"', b"900421"):
        assert error_body(flat % code) == ErrorBody("900421", "MFA is required.")
        assert error_body(b'{"error": %s}' % (flat % code)) == ErrorBody("900421", "MFA is required.")
    assert error_body(b"<html>") == ErrorBody()
    assert error_body(b"[" * 100_000) == ErrorBody()


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["error", "code", "message", "description", "innerError"]), x)
        ),
    ).map(lambda x: repr(x).encode())
)
def test_no_error_body_is_too_odd(body: bytes) -> None:
    said = error_body(body)
    assert all(sign.isascii() for sign in said.code + said.target)


# --- waiting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 30 ", 30.0),
        ("0", 0.0),
        (format_datetime(START + timedelta(seconds=42), usegmt=True), 42.0),
        ("3600", 3600.0),
        ("0" * 50 + "7", 7.0),
        (None, None),
        # What cannot be meant is five minutes.
        ("3601", 300.0),
        ("99999999999", 300.0),
        ("9" * 400, 300.0),
        ("9" * 5000, 300.0),
        ("-5", 300.0),
        ("soon", 300.0),
        ("1.5", 300.0),
        ("٣", 300.0),
        ("", 300.0),
        (format_datetime(START - timedelta(seconds=42), usegmt=True), 300.0),
        (format_datetime(START + timedelta(days=400), usegmt=True), 300.0),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 300.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, START) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_is_too_odd(header: str) -> None:
    seconds = retry_after(header, START)
    assert seconds is not None
    assert 0 <= seconds <= 3600


@pytest.mark.parametrize("header", ["9" * 11, "9" * 400, "-1", "soon"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_cannot_be_meant_is_five_minutes_and_then_one_probe(
    stand: Stand, header: str, status: int
) -> None:
    route = stand.answers(*[httpx.Response(status, headers={"retry-after": header})] * 9)
    with structlog.testing.capture_logs() as logs, pytest.raises(Unavailable) as caught:
        stand.get()
    assert caught.value.retry_at == START + timedelta(minutes=5)
    assert [each["said"] for each in logs if each["event"] == "retry_after.unbelieved"] == [header[:40]]
    stand.time.passed = 100
    with pytest.raises(Unavailable):
        stand.get()
    assert route.call_count == 1
    stand.time.passed = 300
    with pytest.raises(Unavailable) as caught:
        stand.get()
    assert (route.call_count, caught.value.retry_at) == (2, START + timedelta(minutes=10))


def test_an_hour_is_obeyed_to_the_second(stand: Stand) -> None:
    route = stand.answers(httpx.Response(429, headers={"retry-after": "3600"}), httpx.Response(200, json={}))
    for stand.time.passed in (0, 3400):
        with pytest.raises(Unavailable):
            stand.get()
    stand.time.passed = 3595
    assert (stand.get().status, route.call_count) == (200, 2)
    assert stand.time.slept == [5.0]


@pytest.mark.parametrize("text", ["1e101", "-1e999999999", "1e-101", "1.5e999999999999999999999"])
def test_a_number_that_would_fill_the_memory_is_none(text: str) -> None:
    assert parse(text.encode()).is_nan()


@pytest.mark.parametrize("said", [0, "0", -5, "9" * 400, "soon", None, 1.5, True])
def test_a_token_whose_life_is_nonsense_lives_an_hour(said: object) -> None:
    assert lifetime(said) == timedelta(hours=1)


@pytest.mark.parametrize(
    "headers",
    [
        {"sforce-limit-info": f"api-usage={'9' * 5000}/{'9' * 5000}"},
        {"sforce-limit-info": "api-usage=5/0"},
    ],
)
def test_a_header_of_nonsense_teaches_the_meter_nothing(stand: Stand, headers: dict[str, str]) -> None:
    stand.answers(httpx.Response(200, json={}, headers=headers))
    stand.get()
    assert stand.caller.governor.meter.usage is None


@pytest.mark.parametrize(
    ("header", "slept"),
    [("7", 7.0), (format_datetime(START + timedelta(seconds=42), usegmt=True), 42.0), (None, 1.0)],
)
def test_a_429_is_waited_out_to_the_second(stand: Stand, header: str | None, slept: float) -> None:
    headers = {"retry-after": header} if header else {}
    stand.answers(httpx.Response(429, headers=headers), httpx.Response(200, json={}))
    stand.get()
    assert sum(stand.time.slept) == slept
    assert stand.caller.governor.meter.failures == {"429": 1}


def test_failures_are_counted_by_code_and_a_system_that_invents_codes_fills_nothing(stand: Stand) -> None:
    for number in range(150):
        stand.caller.governor.meter.failed(f"E{number}")
    stand.caller.governor.meter.failed("ann.lee@fabrikam.example said no")
    failures = stand.caller.governor.meter.failures
    assert (len(failures), failures["other"], failures["E0"]) == (101, 51, 1)


def test_a_wait_beyond_the_cap_is_told_rather_than_slept(stand: Stand) -> None:
    route = stand.answers(httpx.Response(429, headers={"retry-after": "300"}), httpx.Response(200))
    with pytest.raises(Unavailable) as caught:
        stand.get()
    assert caught.value.retry_at == START + timedelta(seconds=300)
    assert stand.time.slept == []
    with pytest.raises(Unavailable) as caught:  # nor does another call start meanwhile
        stand.get()
    assert caught.value.retry_at == START + timedelta(seconds=300)
    assert route.call_count == 1
    stand.time.passed = 300
    assert stand.get().status == 200


def test_a_call_with_its_retries_ends_in_time(stand: Stand) -> None:
    stand.answers(*[httpx.Response(503, headers={"retry-after": "50"})] * 9)
    with pytest.raises(Unavailable):
        stand.get()
    assert stand.time.passed <= Limits().retry.total


def test_a_pause_holds_every_thread_of_the_host(stand: Stand) -> None:
    """Queued calls do not start while one of them waits out a 429."""
    order: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        order.append(stand.time.passed)
        return httpx.Response(429, headers={"retry-after": "9"}) if len(order) == 1 else httpx.Response(200)

    stand.mock.route(url__startswith=HOST).mock(side_effect=answer)
    stand.get()
    assert order == [0.0, 9.0]
    stand.governor.pause(5)
    _together(4, stand.get)
    assert all(moment >= 14.0 for moment in order[2:])
    assert len(order) == 6


def test_a_spent_budget_sends_nothing_until_the_next_day(stand: Stand) -> None:
    route = stand.answers(*[httpx.Response(200, json={})] * 5)
    stand.caller.close()
    stand.caller = stand.calling(stand.governed("partner_center", ceiling=2), None)
    stand.get()
    stand.get()
    with pytest.raises(Unavailable) as caught:
        stand.get()
    assert (caught.value.code, caught.value.retry_at) == ("budget", datetime(2026, 5, 5, tzinfo=UTC))
    assert route.call_count == 2
    stand.time.passed = 14 * 3600
    assert stand.get().status == 200


# --- stopping ---------------------------------------------------------------------------------------------------


def test_a_stop_ends_a_wait(stand: Stand) -> None:
    stand.answers(*[httpx.Response(503)] * 5)

    def sleep(_: float) -> None:
        stand.stop.set()

    governor = Governor("x", stop=stand.stop, sleep=sleep, clock=stand.time.clock)
    caller = stand.calling(governor, None)
    with pytest.raises(Unavailable, match="stopping"):
        caller.call("GET", "/x", template="/x", safety=Safety.READ)
    assert caller.calls == 1
    with pytest.raises(Unavailable, match="stopping"):
        caller.call("GET", "/x", template="/x", safety=Safety.READ)
    assert caller.calls == 1
    caller.close()


@pytest.mark.parametrize(("safety", "kind"), [(Safety.READ, Unavailable), (Safety.GUARDED, Unclear)])
@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_stop_ends_a_hanging_call(safety: Safety, kind: type[CosellError], how: str) -> None:
    hanging, done = threading.Event(), threading.Event()

    class Hang(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hanging.set()
            done.wait(20)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hang) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        stop = threading.Event()
        caller = HttpCaller(
            "x", f"http://127.0.0.1:{server.server_port}", governor=Governor("x", stop=stop), verify=trust()
        )
        end = stop.set if how == "stop" else caller.close
        killer = threading.Thread(target=lambda: (hanging.wait(10), end()))
        killer.start()
        with pytest.raises(kind) as ended:
            caller.call("GET", "/x", template="/x", safety=safety)
        assert ended.value.code == "stopping", "and neither the server nor the time did"
        done.set()
        killer.join()
        caller.close()
        thread.join()
    for helper in threading.enumerate():
        if helper.name == "http-x":
            helper.join(5)


# --- who may write ----------------------------------------------------------------------------------------------


class Gate:
    """A permit that is refused from its ``closed``-th question on."""

    def __init__(self, closed: int) -> None:
        self.closed, self.asked = closed, 0

    def __call__(self) -> None:
        self.asked += 1
        if self.asked >= self.closed:
            raise Fenced("another process may hold the lease")


def _served(gate: Gate, safety: Safety) -> list[bytes]:
    """What a server has received of a call, after its caller was refused or had its answer."""
    received: list[bytes] = []

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            while part := connection.recv(65536):
                received.append(part)
                if b"".join(received).endswith(b"BODY"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        caller = HttpCaller(
            "x",
            f"http://127.0.0.1:{server.getsockname()[1]}",
            permit=gate,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxies=False,
        )
        try:
            refused = gate.closed < 3 and safety is not Safety.READ
            with pytest.raises(Fenced) if refused else nullcontext():
                caller.call("POST", "/x", template="/x", safety=safety, body=b"BODY")
        finally:
            caller.close()
            thread.join(5)
    return received


def test_a_write_is_not_sent_where_the_lease_ended_while_the_connection_was_made() -> None:
    """The last look is after connecting: until then a process may have stood still for minutes."""
    assert _served(Gate(closed=1), Safety.GUARDED) == []


def test_a_write_is_not_completed_where_the_lease_ended_between_its_halves() -> None:
    received = b"".join(_served(Gate(closed=2), Safety.ONCE))
    assert received.startswith(b"POST /x")
    assert b"BODY" not in received  # half a request, which no server acts upon


def test_a_write_with_the_lease_leaves_and_a_read_asks_nobody() -> None:
    gate = Gate(closed=3)
    assert b"BODY" in b"".join(_served(gate, Safety.UNGUARDED))
    assert gate.asked == 2
    closed = Gate(closed=1)
    assert b"BODY" in b"".join(_served(closed, Safety.READ))
    assert closed.asked == 0


# --- the sign-in ------------------------------------------------------------------------------------------------


def _together(number: int, work: Callable[[], object]) -> list[BaseException]:
    """Run it on that many threads at once; what they raised."""
    barrier = threading.Barrier(number)
    raised: list[BaseException] = []

    def run() -> None:
        barrier.wait()
        try:
            work()
        except CosellError as trouble:
            raised.append(trouble)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_a_401_is_answered_with_one_new_token_for_eight_threads(stand: Stand) -> None:
    seen: list[tuple[str, str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        headers = request.headers
        seen.append((headers["authorization"], headers["if-match"], headers["content-type"]))
        return httpx.Response(401 if headers["authorization"].endswith("token-1") else 204)

    stand.mock.route(url__startswith=HOST).mock(side_effect=answer)
    stand.tokens.token()
    assert _together(8, stand.send) == []
    assert stand.signed_in == 2
    assert {row[1:] for row in seen} == {('"1"', "application/json")}, "headers are kept"
    assert len([row for row in seen if row[0] == "Bearer token-2"]) == 8


def test_a_second_401_ends_it(stand: Stand) -> None:
    stand.answers(httpx.Response(401), httpx.Response(401), httpx.Response(200))
    with pytest.raises(AuthFailed):
        stand.get()
    assert (stand.caller.calls, stand.signed_in) == (2, 2)


def test_threads_in_line_share_a_failed_sign_in(stand: Stand) -> None:
    tries: list[int] = []
    waiting = threading.Event()

    def refuse() -> AccessToken:
        tries.append(1)
        waiting.wait(0.5)
        raise AuthFailed("x", "no", code="invalid_grant")

    source = TokenSource(refuse, clock=stand.time.clock)
    raised = _together(6, source.token)
    assert len(raised) == 6
    assert len(tries) < 6


def test_a_token_is_renewed_before_it_expires(stand: Stand) -> None:
    first = stand.tokens.token()
    assert first.value == "token-1"
    stand.time.passed = 54 * 60
    assert stand.tokens.token().value == "token-1"
    stand.time.passed = 56 * 60
    second = stand.tokens.token()
    assert second.value == "token-2"
    assert stand.tokens.refresh(first).value == "token-2", "another thread was faster"
    assert stand.tokens.refresh(second).value == "token-3"


def test_a_short_lived_token_serves_half_its_life() -> None:
    token = AccessToken("x", START + timedelta(seconds=60))
    assert renew_at(token, START) == START + timedelta(seconds=30)
    assert renew_at(token, START + timedelta(hours=1)) == token.expires_at


# --- what is logged, trusted, parsed ----------------------------------------------------------------------------


def test_the_log_holds_ids_but_neither_query_nor_token(stand: Stand) -> None:
    route = stand.answers(httpx.Response(503), httpx.Response(200, json={}, headers={"request-id": "theirs"}))
    with structlog.testing.capture_logs() as events:
        stand.get(path="/things/ida@partner.example?$filter=secret")
    assert [event["status"] for event in events] == [503, 200]
    assert {event["path"] for event in events} == {"/things/{id}"}
    assert events[1]["request_id"] == "theirs"
    ours = [event["client_request_id"] for event in events]
    assert len(set(ours)) == 2, "new for each request"
    assert ours == [call.request.headers["client-request-id"] for call in route.calls]
    assert not any(word in repr(events) for word in ("secret", "token-1", "partner.example"))


def test_numbers_are_read_exactly_and_nonsense_survives() -> None:
    data = parse(b'{"a": 0.1, "b": NaN, "c": 1e999999999999999999999, "d": 12, "e": ' + b"9" * 6000 + b"}")
    assert data["a"] == Decimal("0.1")
    assert data["b"].is_nan()
    assert data["c"].is_nan()
    assert data["d"] == 12
    assert data["e"] == Decimal("9" * 6000)
    with pytest.raises(ValueError):
        parse(b"[" * 100_000)


def test_trust_follows_the_usual_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cosell_sync.sandbox.certificates import Certificates

    file = Certificates().write(tmp_path / "ca.pem")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(name, str(file))
        issuers = [dict(part[0] for part in item["issuer"]) for item in trust().get_ca_certs()]
        assert any(issuer.get("organizationName") == "cosell-sync sandbox" for issuer in issuers)
        assert trust().verify_mode is ssl.CERT_REQUIRED
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
        with pytest.raises(ConfigError, match=name):
            trust()


# --- libraries that make their own calls ----------------------------------------------------------------------------


def test_a_librarys_requests_go_out_by_the_caller(stand: Stand) -> None:
    """What it words is sent, its own credentials, timeouts and redirects are not; it reads the answer as usual."""
    sent: list[tuple[str, str, dict[str, str], bytes | None]] = []

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        sent.append((method, url, dict(headers), body))
        return Answer(302, {"location": "https://evil.example", "x-y": "z"}, '{"a": "ö"}'.encode())

    with LibrarySession(send) as session:
        found = session.post(
            f"{HOST}/token",
            params={"q": "1"},
            data={"b": "2"},
            headers={"Authorization": "Bearer theirs", "X-PrettyPrint": "1", "Prefer": "x"},
            timeout=0.001,
        )
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Prefer": "x"}
    assert sent == [("POST", f"{HOST}/token?q=1", headers, b"b=2")]
    assert (found.status_code, found.json(), found.headers["X-Y"]) == (302, {"a": "ö"}, "z")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, json=["no", "object"]), "unreadable"),
        (httpx.Response(400, text="<html>"), "unreadable"),
        (httpx.Response(500, json={"error": "server_error"}), "server_error"),
        (httpx.Response(302, headers={"location": "https://evil.example"}), "redirect"),
        (httpx.ConnectError("refused"), "connect"),
    ],
    ids=repr,
)
def test_a_sign_in_library_sees_nothing_but_yes_or_no(
    stand: Stand, answer: httpx.Response | Exception, code: str
) -> None:
    stand.answers(*[answer] * 9)
    caller = stand.calling(stand.governor, None)
    with sign_in_session(caller) as session, pytest.raises(Unavailable) as caught:
        session.get(f"{HOST}/tenant")
    assert caught.value.code == code
    caller.close()


def test_a_token_goes_to_the_host_that_came_with_it(stand: Stand) -> None:
    route = stand.mock.get("https://na1.example/things/1").respond(json={"a": 1})
    token = AccessToken("t", START + timedelta(hours=1), base_url="https://na1.example")
    caller = stand.calling(stand.governor, TokenSource(lambda: token, clock=stand.time.clock))
    found = caller.call("GET", "/things/1", template="/x", safety=Safety.READ)
    assert found.data == {"a": 1}
    assert route.calls.last.request.headers["authorization"] == "Bearer t"
    caller.close()


def test_a_certificate_that_is_not_trusted_is_no_broken_connection() -> None:
    untrusted, broken = httpx.ConnectError("tls"), httpx.ConnectError("tls")
    untrusted.__cause__ = ssl.SSLCertVerificationError("self-signed")
    broken.__cause__ = ssl.SSLError("unexpected eof")
    assert errors.connection_failure(untrusted) == ("certificate", False)
    assert errors.connection_failure(broken) == ("connect", False)


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (httpx.Response(429), 2),
        (httpx.ConnectError("no"), 2),
        (httpx.Response(503), 1),
        (httpx.Response(500), 1),
        (httpx.ReadError("reset"), 1),
    ],
    ids=repr,
)
def test_a_write_without_a_guard_is_repeated_only_where_it_was_refused_at_the_door(
    stand: Stand, answer: httpx.Response | Exception, calls: int
) -> None:
    stand.answers(answer, httpx.Response(204))
    with nullcontext() if calls == 2 else pytest.raises(Unclear):
        stand.send(Safety.UNGUARDED)
    assert stand.caller.calls == calls


@pytest.mark.parametrize(("unchanged", "kind", "calls"), [(True, Flaky, 3), (False, Unclear, 1)])
def test_a_500_to_a_guarded_write_is_looked_at(
    stand: Stand, unchanged: bool, kind: type[CosellError], calls: int
) -> None:
    stand.answers(*[httpx.Response(500)] * 9)
    with pytest.raises(kind):
        stand.caller.call(
            "PATCH", "/x", template="/x", safety=Safety.GUARDED, body=b"[]", unchanged=lambda: unchanged
        )
    assert stand.caller.calls == calls


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 429, 500, 503, 599, None])
def test_a_known_code_decides_whatever_the_status(status: int | None) -> None:
    """Each code of the table, in any case: its row, and so its error, is the same at every status."""
    for system, rows in codes.CODES.items():
        for code, known in rows.items():
            for spelling in (code, code.lower(), code.upper()):
                assert codes.disposition(system, status, spelling) is known.disposition
            assert codes.cure(system, code, known.disposition) is known.cure


def test_what_only_time_or_an_admin_ends_is_no_refusal_of_the_record() -> None:
    assert errors.record_kind(codes.disposition("salesforce", None, "ENTITY_IS_LOCKED")) is Locked
    assert errors.record_kind(codes.disposition("salesforce", None, "STORAGE_LIMIT_EXCEEDED")) is Locked


def test_an_unknown_code_goes_by_its_status_and_to_an_administrator() -> None:
    found = codes.disposition("dynamics", 400, "0xdeadbeef")
    assert (found, codes.cure("dynamics", "0xdeadbeef", found)) == (Disposition.REJECTED, Cure.ADMIN)
    found = codes.disposition("dynamics", 503, "")
    assert codes.cure("dynamics", "", found) is Cure.TIME


# --- why nobody answers -----------------------------------------------------------------------------------------------


def test_an_unknown_name_is_told_as_that() -> None:
    lost = httpx.ConnectError("x")
    lost.__cause__ = socket.gaierror(-2, "Name or service not known")
    assert errors.connection_failure(lost) == ("name_not_found", False)
    text, hint = unreachable.why("name_not_found", "nosuch.example", "Salesforce")
    assert "DNS knows no nosuch.example" in text
    assert hint == ""  # the caller's own names the setting


@pytest.mark.parametrize("code", ["connect", "connect_timeout", "proxy"])
def test_a_dead_proxy_is_named_with_its_variable_and_never_with_its_password(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@proxy.example:3128")
    text, hint = unreachable.why(code, "api.example", "Salesforce")
    assert "proxy.example:3128 of HTTPS_PROXY" in text
    assert "s3cret" not in text + hint
    assert "api.example in NO_PROXY" in hint
    monkeypatch.setenv("NO_PROXY", "api.example")
    assert unreachable.why(code, "api.example", "Salesforce") == (
        f"Salesforce does not answer at api.example ({code})",
        "",
    )
    assert unreachable.why("read_timeout", "other.example", "Salesforce")[1] == ""


def test_a_proxy_that_is_no_address_is_a_mistake_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense:::/x")
    with pytest.raises(ConfigError, match="HTTPS_PROXY is no address of a proxy"):
        HttpCaller("salesforce", "https://api.example")
