"""The listener: health is a judgement over facts, webhooks believe nobody unsigned."""

import json
import re
import select
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.test import Client

from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Outlook
from cosell_sync.metrics import Metrics
from cosell_sync.summary import Counts, CycleSummary
from cosell_sync.web.health import Facts, fresh_within, readiness
from cosell_sync.web.server import Application, Listener
from cosell_sync.web.webhooks import BODY_CAP

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CYCLE = CycleSummary("c-1", 1.5, pulled=Counts(3, 4), written=Counts(crm=2), api_calls=Counts(5, 6), parked=1)
GOOD = Facts(
    now=NOW,
    version="1.0",
    crm="salesforce",
    fresh_within=timedelta(minutes=5),
    sign_ins={"partner_center": "", "salesforce": ""},
    carried_at=NOW - timedelta(seconds=30),
)
SIGNED = {
    "Authorization": "Signature c2ln",
    "X-Ms-Certificate-Url": "https://3psostorageacct.blob.core.windows.net/cert/x.cer",
    "X-Ms-Signature-Algorithm": "rsa-sha256",
}
PATH = "/webhooks/partner-center"
UNTIMED = 60.0  # seconds: a deadline that no test reaches


def client(facts: Facts = GOOD, **options: object) -> Client:
    return Client(Application(lambda: facts, lambda: b"m 1\n", **options))


def test_ready_when_all_is_well() -> None:
    assert readiness(GOOD) == (True, ())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"migrated": False}, "migrated"),
        ({"sign_ins": {"salesforce": "refused (invalid_grant)"}}, "salesforce: refused"),
        ({"carried_at": None}, "no cycle"),
        ({"carried_at": NOW - timedelta(minutes=6)}, "360 s ago"),
        ({"holder": "host-7:12"}, "host-7:12"),
        ({"outage": "partner_center"}, "partner_center"),
    ],
)
def test_each_fault_has_its_reason(change: dict[str, object], word: str) -> None:
    facts = replace(GOOD, **change)
    ready, reasons = readiness(facts)
    assert not ready
    assert len(reasons) == 1
    assert word in reasons[0]
    answer = client(facts).get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"ready": False, "reasons": list(reasons)}


def test_freshness_follows_the_interval() -> None:
    assert fresh_within(timedelta(seconds=1)) == timedelta(minutes=5)
    assert fresh_within(timedelta(hours=1)) == timedelta(hours=3)


def test_the_routes_answer() -> None:
    web = client()
    assert web.get("/livez").json == {"alive": True}
    assert web.get("/readyz").json == {"ready": True, "reasons": []}
    assert web.get("/metrics").data == b"m 1\n"
    assert "default-src 'none'" in web.get("/livez").headers["Content-Security-Policy"]
    assert web.get("/nothing").status_code == 404
    assert web.post("/livez").status_code == 405
    assert web.get(PATH).status_code == 405


def test_unreadable_facts_make_it_unready_but_alive() -> None:
    def broken() -> Facts:
        raise OSError("disk")

    web = Client(Application(broken, lambda: b""))
    assert web.get("/livez").status_code == 200
    assert web.get("/readyz").status_code == 503


def test_unsigned_is_refused_before_the_body_is_read() -> None:
    web = client()
    assert web.post(PATH, data=b"{}").status_code == 401
    assert web.post(PATH, data=b"not json").status_code == 401
    for name in SIGNED:
        partial = {key: value for key, value in SIGNED.items() if key != name}
        assert web.post(PATH, data=b"{}", headers=partial).status_code == 401
    assert web.post(PATH, data=b"{}", headers={**SIGNED, "Authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"3", b'{"a":', b"[1]", b"[" * 60_000, b"\xff"])
def test_malformed_is_told(body: bytes) -> None:
    assert client().post(PATH, data=body, headers=SIGNED).status_code == 400


def test_large_bodies_are_refused() -> None:
    assert client().post(PATH, data=b"x" * (BODY_CAP + 1), headers=SIGNED).status_code == 413
    assert client().post(PATH, data=b"x" * (BODY_CAP + 1)).status_code == 413


def test_nobody_is_believed_where_webhooks_are_off() -> None:
    assert client().post(PATH, data=b"{}", headers=SIGNED).status_code == 401


def test_it_serves_and_its_end_waits_for_no_idle_connection() -> None:
    before = set(threading.enumerate())
    listener = Listener(("127.0.0.1", 0), Application(lambda: GOOD, lambda: b"m 1\n"), UNTIMED)
    with listener:
        address = "127.0.0.1", int(listener.url.rpartition(":")[2])
        idle = socket.create_connection(address, timeout=UNTIMED / 2)
        with urllib.request.urlopen(f"{listener.url}/readyz", timeout=UNTIMED / 2) as answer:
            assert json.load(answer)["ready"] is True
    with idle:
        assert idle.recv(1) == b""
    for thread in set(threading.enumerate()) - before:
        thread.join(UNTIMED / 2)
        assert not thread.is_alive(), thread.name
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1)


SLOW = pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /webhooks/partner-center HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{",
        b"POST /webhooks/partner-center HTTP/1.1\r\nHost: x\r\nAuthorization: Signature c2ln\r\nTransfer-Encoding: chunked\r\n\r\nea60\r\n{",
    ],
    ids=["a letter", "a header", "a body", "chunks"],
)


@contextmanager
def dripping(begun: bytes, deadline: float) -> Iterator[tuple[str, list[socket.socket]]]:
    """The listener's address, and six clients that have begun a request."""
    with ExitStack() as stack:
        listener = stack.enter_context(
            Listener(("127.0.0.1", 0), Application(lambda: GOOD, lambda: b"m 1\n"), deadline)
        )
        address = "127.0.0.1", int(listener.url.rpartition(":")[2])
        slow = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(6)]
        for client in slow:
            client.sendall(begun)
        yield listener.url, slow


@SLOW
def test_slow_clients_starve_nobody(begun: bytes) -> None:
    """Others are answered while six clients still drip. A body in chunks takes a worker; that the process lives needs none."""
    with dripping(begun, UNTIMED) as (url, slow):
        for path in ("/livez", "/livez", *(() if b"chunked" in begun else ("/readyz", "/metrics"))):
            for client in slow:
                client.sendall(b"a")
            with urllib.request.urlopen(f"{url}{path}", timeout=UNTIMED / 2) as answer:
                assert answer.status == 200
        assert select.select(slow, [], [], 0)[0] == [], "some were answered or cut"


@SLOW
def test_slow_clients_are_cut_off_at_the_deadline(begun: bytes) -> None:
    """Though something arrives all the time; and others are answered again."""
    deadline = 0.3
    began = time.monotonic()
    with dripping(begun, deadline) as (url, slow):
        cut = [ended(client, began + UNTIMED) for client in slow]
        assert min(cut) - began >= deadline
        with urllib.request.urlopen(f"{url}/readyz", timeout=UNTIMED / 2) as answer:
            assert answer.status == 200


def ended(client: socket.socket, until: float) -> float:
    """Sends a byte now and then until the server has ended the connection; the moment at which that was seen."""
    try:
        while not (select.select([client], [], [], 0.02)[0] and not client.recv(9999)):
            assert time.monotonic() < until, "nobody cut it off"
            client.sendall(b"a")
    except ConnectionError:
        pass
    return time.monotonic()


def test_what_is_left_of_a_refused_body_is_no_request() -> None:
    """Behind a proxy it would be answered to somebody else."""
    head = "POST /webhooks/partner-center HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = "1f;x /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"
    with (
        Listener(("127.0.0.1", 0), Application(lambda: GOOD, lambda: b"m 1\n"), UNTIMED) as listener,
        socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])), timeout=30) as client,
    ):
        client.sendall(f"{head}{body}".encode())
        answers = client.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"401"]


def test_a_request_that_comes_in_pieces_is_answered_and_the_connection_stays() -> None:
    with (
        Listener(("127.0.0.1", 0), Application(lambda: GOOD, lambda: b"m 1\n")) as listener,
        socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])), timeout=5) as client,
    ):
        for path in ("/livez", "/readyz", "/livez"):
            for piece in (f"GET {path} HTT", "P/1.1\r\nHost: x\r\n", "\r\n"):
                client.sendall(piece.encode())
                time.sleep(0.05)
            assert client.recv(9999).startswith(b"HTTP/1.1 200")


def test_a_taken_address_is_an_error() -> None:
    application = Application(lambda: GOOD, lambda: b"")
    with Listener(("127.0.0.1", 0), application) as first:
        second = Listener(("127.0.0.1", int(first.url.rpartition(":")[2])), application)
        with pytest.raises(OSError):
            second.start()


def test_metrics_follow_the_summary() -> None:
    everything = Metrics("1.0")
    metrics, other = everything.of("default", "salesforce"), everything.of("acme", "dynamics")
    other.cycle(CYCLE, NOW)
    metrics.cycle(CYCLE, NOW)
    metrics.cycle(replace(CYCLE, parked=0, exit_code=3), NOW)
    metrics.deals({"Conflict": 2})
    metrics.budget("crm", 50, 200)
    metrics.sign_in("salesforce", 12)
    first = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    refused = {Side.CRM: NOW - timedelta(hours=2)}
    outlook = Outlook(unanswered=3, expires=first, held_expires=first, refused=refused, intents=1)
    metrics.outlook(outlook, NOW, carried_at=NOW - timedelta(hours=1), failing=False)
    for seen in (1, 3):
        metrics.errors("salesforce", {"429": seen})
    metrics.lease(held=True)
    text = everything.render().decode()
    for line in (
        'cosell_pulled_total{connection="default",side="crm"} 8.0',
        'cosell_created_total{connection="default",side="crm"} 0.0',
        'cosell_cycles_total{connection="default",exit_code="3"} 1.0',
        'cosell_deals_parked{connection="default"} 0.0',
        'cosell_deals{connection="default",sync_state="Conflict"} 2.0',
        'cosell_deals{connection="default",sync_state="In sync"} 0.0',
        'cosell_budget_used_ratio{connection="default",side="crm"} 0.25',
        'cosell_build_info{connection="default",crm="salesforce",version="1.0"} 1.0',
        'cosell_sign_in_age_seconds{connection="default",system="salesforce"} 12.0',
        'cosell_held_deal_expires_timestamp_seconds{connection="default"} 60.0',
        'cosell_next_expiry_timestamp_seconds{connection="default"} 60.0',
        'cosell_deals_unanswered{connection="default"} 3.0',
        'cosell_open_intents{connection="default"} 1.0',
        'cosell_lag_seconds{connection="default",side="partner_center"} 7200.0',
        'cosell_lag_seconds{connection="default",side="crm"} 0.0',
        'cosell_http_errors_total{code="429",connection="default",system="salesforce"} 3.0',
        'cosell_lease_held{connection="default"} 1.0',
        'cosell_deals_parked{connection="acme"} 1.0',
        'cosell_build_info{connection="acme",crm="dynamics",version="1.0"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert line in text
    assert not re.search(r"_created(?!_total)", text)
    metrics.outlook(Outlook(), NOW, carried_at=NOW - timedelta(hours=1), failing=True)
    assert 'cosell_lag_seconds{connection="default",side="crm"} 3600.0' in everything.render().decode()
    Metrics("1.0")  # a second one does not collide


def test_the_summary_is_the_event() -> None:
    assert CYCLE.as_event() == {
        "cycle_id": "c-1", "duration_s": 1.5,
        "pulled": {"partner_center": 3, "crm": 4}, "written": {"partner_center": 0, "crm": 2},
        "created": {"partner_center": 0, "crm": 0}, "unchanged": 0, "conflicts": 0, "rejected": 0, "failed": 0,
        "parked": 1, "withheld": 0, "broken": 0, "api_calls": {"partner_center": 5, "crm": 6},
    }  # fmt: skip
