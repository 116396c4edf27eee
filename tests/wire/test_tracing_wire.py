"""Traces end to end: a collector gets the spans of a cycle, the systems their `traceparent`, the log its trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, hidden, staged
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.wire


class Collector(list[Any]):
    """The spans that were sent to a loopback address."""

    url = ""
    body = b""


@pytest.fixture
def collector() -> Iterator[Collector]:
    got = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            got.body += body
            sent = ExportTraceServiceRequest.FromString(body)
            got.extend(
                span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        got.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield got
        server.shutdown()
        thread.join()


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def test_a_cycle_is_one_trace_of_steps_and_calls_without_anybodys_data(
    stage: Stage, collector: Collector
) -> None:
    stage.add()
    done = stage.sync(COSELL_TRACING__OTLP_ENDPOINT=collector.url)
    names = {span.name for span in collector}
    assert {"cycle", "deals"} <= names
    (cycle,) = (span for span in collector if span.name == "cycle")
    within = [span for span in collector if span.trace_id == cycle.trace_id]
    statuses = [
        each.value.int_value
        for span in within
        for each in span.attributes
        if each.key == "http.response.status_code"
    ]
    assert sum(done.calls) <= len(statuses)
    assert done.finished["trace_id"] == cycle.trace_id.hex()
    text = collector.body.decode("latin-1")
    assert not [kind for value, kind in hidden(stage).items() if "@" in value and value in text]
    for server in stage.servers:
        told = [
            call.headers.get("traceparent", "") for call in list(server.calls) if "/oauth2/" not in call.path
        ]
        assert told
        assert {each.split("-")[1] for each in told if each} == {cycle.trace_id.hex()}


def test_a_collector_that_is_away_changes_nothing(stage: Stage) -> None:
    """In a process of its own: its end ends the SDK's thread, which tries again for seven to eight and a half seconds."""
    deal = stage.add()
    stage.cosell("sync", process=True, COSELL_TRACING__OTLP_ENDPOINT="http://127.0.0.1:9")
    assert stage.deal(deal)["sync_state"] == "In sync"
