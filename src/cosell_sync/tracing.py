"""Spans for OpenTelemetry, sent over OTLP/HTTP where ``tracing.otlp_endpoint`` is set; else nothing is imported and nothing done.

A span holds methods, path templates, statuses, counts and the ids of records: no query, no value, no person, no text of an error.
A cycle is one trace; its id stands in the log events of the cycle, and goes with our calls to the configured systems
(``traceparent``, www.w3.org/TR/trace-context). Exporting happens on a thread of the SDK's and fails no cycle.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cosell_sync.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind, Tracer

LEAVING: Final = 3.0  # seconds for the last spans, before the program ends without them
Attributes = Mapping[str, str | int]


class Trace:
    """What a caller may add to the span it is in; does nothing where there is none."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """The HTTP status of the answer."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)

    def ended(self, exit_code: int) -> None:
        """How a cycle ended: its exit code."""
        if self._span is not None:
            self._span.set_attribute("cosell.exit_code", exit_code)


class _Installed:
    """The tracer in use; None while tracing is off."""

    tracer: Tracer | None = None


_OFF: Final = Trace()


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[Trace]:
    """A step of the program."""
    if _Installed.tracer is None:
        yield _OFF
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only while tracing is on

    with _started(_Installed.tracer, name, SpanKind.INTERNAL, attributes) as trace:
        yield trace


@contextmanager
def request(system: str, method: str, template: str) -> Iterator[Trace]:
    """One HTTP request. ``template``: its path without ids of people and without the query."""
    if _Installed.tracer is None:
        yield _OFF
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only while tracing is on

    about = {"http.request.method": method, "url.template": template, "cosell.system": system}
    with _started(_Installed.tracer, f"{method} {template}", SpanKind.CLIENT, about) as trace:
        yield trace


@contextmanager
def _started(tracer: Tracer, name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Trace]:
    with tracer.start_as_current_span(
        name, kind=kind, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield Trace(span)
        except Exception as error:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only while tracing is on

            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise


def headers(host: str) -> dict[str, str]:
    """``traceparent`` for a call to this configured host; empty while tracing is off, and for hosts that nobody configured."""
    if _Installed.tracer is None or not host:
        return {}
    from opentelemetry.trace import get_current_span  # noqa: PLC0415 - only while tracing is on

    found = get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"traceparent": f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 1:02x}"}


def ids() -> dict[str, str]:
    """``trace_id`` and ``span_id`` for a log event; empty outside of a span."""
    parts = headers("log").get("traceparent", "").split("-")
    return {"trace_id": parts[1], "span_id": parts[2]} if len(parts) == 4 else {}


@contextmanager
def exporting(endpoint: str | None, exporter: SpanExporter | None = None) -> Iterator[None]:
    """Trace what happens within. ``endpoint``: of a collector; None: tracing is off. ``exporter``: instead of it.

    Raises ConfigError where the libraries are not installed.
    """
    if endpoint is None:
        yield
        return
    provider = _provider(endpoint, exporter)
    _Installed.tracer = provider.get_tracer("cosell_sync")
    try:
        yield
    finally:
        _Installed.tracer = None
        # A collector that is away would hold up the end for as long as the SDK is patient.
        ending = threading.Thread(target=provider.shutdown, name="tracing", daemon=True)
        ending.start()
        ending.join(LEAVING)


def _provider(endpoint: str, exporter: SpanExporter | None) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as missing:
        raise ConfigError(
            "tracing.otlp_endpoint is set, but the libraries for it are not installed",
            hint="pip install 'cosell-sync[tracing]', or take tracing.otlp_endpoint away",
        ) from missing
    about = Resource.create({"service.name": "cosell-sync", "service.version": version("cosell-sync")})
    provider = TracerProvider(resource=about, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=_traces(endpoint))))
    return provider


def _traces(endpoint: str) -> str:
    """The address for traces: a collector's base address gets the path of the protocol (opentelemetry.io/docs/specs/otlp)."""
    return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
