"""Tracing: off it costs nothing, on it shows steps and calls, and never what no log may hold."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import httpx
import pytest
import respx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cosell_sync import log, tracing
from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.settings import InvalidSettings, load
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.retry import RetryStrategy
from cosell_sync.transport.safety import Safety

OFF = """
import sys
from cosell_sync import tracing
from cosell_sync.cli import daemon_service, sync
with tracing.exporting(None), tracing.span("cycle", cycle_id="c") as outer, tracing.request("x", "GET", "/") as call:
    outer.ended(0)
    call.answered(200)
    assert (tracing.headers("a.test"), tracing.ids()) == ({}, {})
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def caller(base: str = "https://crm.example", **limits: float) -> HttpCaller:
    return HttpCaller("salesforce", base, limits=Limits(retry=RetryStrategy(tries=1), **limits))


def test_off_nothing_is_imported_and_nothing_done() -> None:
    subprocess.run([sys.executable, "-c", OFF], check=True, timeout=120)


def test_a_call_is_a_span_of_its_step_and_tells_the_configured_host(exporter: InMemorySpanExporter) -> None:
    with respx.mock() as web, tracing.exporting("https://otel.example", exporter):
        route = web.get("https://crm.example/rows/ann@contoso.example").respond(
            404, json={"message": "no Ann Lee"}
        )
        with tracing.span("cycle", cycle_id="c1"), tracing.span("deals", deals=2), pytest.raises(Exception):  # noqa: B017
            caller().call("GET", "/rows/ann@contoso.example?q=Lee", template="/rows/{id}", safety=Safety.READ)
    one = spans(exporter)
    call, deals, cycle = (one[name] for name in ("GET /rows/{id}", "deals", "cycle"))
    assert dict(call.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/rows/{id}",
        "cosell.system": "salesforce",
        "http.response.status_code": 404,
    }
    assert call.parent is not None
    assert deals.parent is not None
    assert (call.parent.span_id, deals.parent.span_id) == (deals.context.span_id, cycle.context.span_id)  # type: ignore[union-attr]
    assert dict(cycle.attributes or {}) == {"cycle_id": "c1"}
    trace, span = f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}"  # type: ignore[union-attr]
    assert route.calls[0].request.headers["traceparent"] == f"00-{trace}-{span}-01"
    assert "Lee" not in "".join(each.to_json() for each in one.values())


def test_no_answer_is_told_by_its_type_alone(exporter: InMemorySpanExporter) -> None:
    with respx.mock() as web, tracing.exporting("https://otel.example", exporter):
        web.get("https://crm.example/rows").mock(side_effect=httpx.ReadTimeout("Ann Lee"))
        with pytest.raises(Unavailable):
            caller().call("GET", "/rows", template="/rows", safety=Safety.READ)
    (call,) = spans(exporter).values()
    assert (call.attributes or {})["error.type"] == "ReadTimeout"
    assert not call.status.is_ok
    assert "Ann" not in call.to_json()


def test_a_host_that_nobody_configured_is_told_nothing(exporter: InMemorySpanExporter) -> None:
    with respx.mock() as web, tracing.exporting("https://otel.example", exporter):
        route = web.get("https://found.example/x").respond(200, json={})
        caller("").call("GET", "https://found.example/x", template="/x", safety=Safety.READ)
    assert "traceparent" not in route.calls[0].request.headers


def test_off_no_header_is_sent() -> None:
    with respx.mock() as web:
        route = web.get("https://crm.example/x").respond(200, json={})
        caller().call("GET", "/x", template="/x", safety=Safety.READ)
    assert "traceparent" not in route.calls[0].request.headers


def test_log_events_carry_the_trace(exporter: InMemorySpanExporter) -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    try:
        log.get_logger().info("outside")
        with tracing.exporting("https://otel.example", exporter), tracing.span("cycle", cycle_id="c1"):
            log.get_logger().info("inside")
    finally:
        log.configure()
    outside, inside = (json.loads(line) for line in stream.getvalue().splitlines())
    (cycle,) = exporter.get_finished_spans()
    assert "trace_id" not in outside
    assert inside["trace_id"] == f"{cycle.context.trace_id:032x}"


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError) as caught, tracing.exporting("https://otel.example"):
        pass
    assert "cosell-sync[tracing]" in caught.value.hint


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://otel.example/", "https://otel.example/v1/traces"),
        ("https://otel.example/a/v1/traces", "https://otel.example/a/v1/traces"),
    ],
)
def test_a_collectors_base_address_gets_the_protocols_path(endpoint: str, address: str) -> None:
    assert tracing._traces(endpoint) == address


def test_the_endpoint_is_https_or_on_this_machine() -> None:
    loaded = load(None, {"COSELL_TRACING__OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert loaded.tracing.otlp_endpoint == "http://127.0.0.1:4318"
    with pytest.raises(InvalidSettings, match="https"):
        load(None, {"COSELL_TRACING__OTLP_ENDPOINT": "http://collector.test:4318"})
