"""The listener: a few routes over a small threaded WSGI server that starts and stops within a second.

No worker waits for a slow client: requests are gathered by ``arrivals``, which answers ``/livez`` itself.

The application only routes and answers; what it says comes from pure functions and from the providers of facts, so that tests call it without a socket, and the daemon may be busy or hanging while it answers.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import ceil
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.wsgi import Server as Cheroot
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Request, Response

from cosell_sync.log import get_logger
from cosell_sync.web import webhooks
from cosell_sync.web.arrivals import DEADLINE, HEADERS_CAP, Arrivals
from cosell_sync.web.console import Console, ConsoleOfSeveral
from cosell_sync.web.health import Facts, readiness, readiness_of
from cosell_sync.web.pages import POLICY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # with none at all a browser hides where a form of our own comes from
    "X-Content-Type-Options": "nosniff",
}


class Application:
    """The WSGI application. ``facts``: what readiness is judged by, by name where there are several connections. ``metrics`` renders what Prometheus reads. ``console``: the
    pages for people; None: there are none. ``judge``: what an event is answered with; ``take`` stores events that are
    Microsoft's, before they are answered, with the name of the connection that they are addressed to.
    """

    def __init__(
        self,
        facts: Callable[[], Facts | Mapping[str, Facts]],
        metrics: Callable[[], bytes],
        *,
        console: Console | ConsoleOfSeveral | None = None,
        judge: Callable[..., webhooks.Verdict] = webhooks.refuse_all,
        take: Callable[[Sequence[webhooks.Event], str | None], None] = lambda _, __: None,
    ) -> None:
        self._facts = facts
        self._render = metrics
        self._judge = judge
        self._take = take
        self._routes = Map([
            Rule("/livez", endpoint=self._livez, methods=["GET"]),
            Rule("/readyz", endpoint=self._readyz, methods=["GET"]),
            Rule("/metrics", endpoint=self._metrics, methods=["GET"]),
            Rule("/webhooks/partner-center", endpoint=self._webhook, methods=["POST"]),
            Rule("/webhooks/partner-center/<name>", endpoint=self._webhook, methods=["POST"]),
            *(console.rules() if console else ()),
        ])  # fmt: skip

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = self._answer(Request(environ))
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            request.query_string.decode()  # what else reads it takes for granted that it is UTF-8
        except UnicodeDecodeError:
            return Response("Bad Request\n", 400, content_type="text/plain")
        try:
            handler: Callable[..., Response]
            handler, given = self._bound(request).match()
            return handler(request, **given)
        except HTTPException as refusal:
            response = refusal.get_response(request.environ)
            return Response(f"{refusal.name}\n", refusal.code, response.headers.to_wsgi_list(), "text/plain")
        except Exception:  # noqa: BLE001 - the listener outlives any one request
            get_logger().error("http.failed", exc_info=True)
            return Response("Internal error\n", 500, content_type="text/plain")

    def _bound(self, request: Request) -> MapAdapter:
        try:
            return self._routes.bind_to_environ(request.environ)
        except BadHost:  # no name at all; who cares for it says so
            return self._routes.bind_to_environ({**request.environ, "HTTP_HOST": "localhost"})

    def _livez(self, request: Request) -> Response:
        del request
        return _json({"alive": True})

    def _readyz(self, request: Request) -> Response:
        del request
        more: dict[str, Any] = {}
        try:
            facts = self._facts()
            if isinstance(facts, Facts):
                ready, reasons = readiness(facts)
            else:
                ready, reasons, more["connections"] = readiness_of(facts)
        except Exception:  # noqa: BLE001 - a store that cannot be read is a reason, not a crash
            get_logger().warning("http.facts_unreadable", exc_info=True)
            ready, reasons = False, ("the state of this process cannot be read",)
        return _json({"ready": ready, "reasons": list(reasons), **more}, 200 if ready else 503)

    def _metrics(self, request: Request) -> Response:
        del request
        return Response(self._render(), content_type=METRICS_TYPE)

    def _webhook(self, request: Request, name: str | None = None) -> Response:
        verdict = self._judge(
            dict(request.headers.items()),
            request.content_length,
            lambda: request.stream.read(webhooks.BODY_CAP + 1),
        )
        if verdict.status == webhooks.ACCEPTED:
            self._take(verdict.events, name)  # where this fails the sender gets 500 and tries again
        else:
            get_logger().info("webhook.refused", status=verdict.status, reason=verdict.reason)
        return Response(status=verdict.status)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content) + "\n", status, content_type="application/json")


class _Headers(dict[bytes, bytes]):
    """Keeps each ``Host`` that a request names, so that it names none for certain; of several cheroot would take the last."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        several = name == b"Host" and name in self
        super().__setitem__(name, self[name] + b", " + value if several else value)


class _Request(HTTPRequest):
    """A request after which the connection is closed where its body came in chunks: what is refused is refused unread, and
    the rest of it must not be taken for the next request.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.inheaders = _Headers()

    def parse_request(self) -> None:
        super().parse_request()
        if self.chunked_read:
            self.close_connection = True


class _Connection(HTTPConnection):
    """A connection that is cut when its request is not done in time: a body may drip, an answer may not be read."""

    RequestHandlerClass = _Request

    def communicate(self) -> bool:
        """Whether the connection stays open."""
        cut = threading.Timer(self.server.arrivals.deadline, self._cut)
        cut.daemon = True
        cut.start()
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            cut.cancel()

    def _cut(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class _Server(Cheroot):
    ConnectionClass = _Connection

    def __init__(self, address: tuple[str, int], application: Application, deadline: float) -> None:
        super().__init__(address, application, numthreads=4, timeout=ceil(deadline))
        self.refused: OSError | None = None  # why an address could not be taken
        self.arrivals = Arrivals(super().process_conn, self._answer_here, webhooks.BODY_CAP, deadline)

    def process_conn(self, conn: HTTPConnection) -> None:
        """A connection of which something has arrived: it goes to a worker once its request is whole."""
        self.arrivals.put(conn)

    def _answer_here(self, conn: HTTPConnection) -> None:
        try:
            stays = conn.communicate()  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - this thread outlives any one request
            self.error_log(traceback=True)
            stays = False
        if stays:
            self.put_conn(conn)
        else:
            conn.close()

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Log an event of ours instead of cheroot's own text on stderr, which may quote a request."""
        del msg, level
        get_logger().warning("http.failed", exc_info=traceback)

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:  # noqa: A002 - cheroot's name
        """Bind as cheroot does, and close the socket of an address that is taken, which cheroot leaves open."""
        sock = self.prepare_socket(
            self.bind_addr, family, type, proto, self.nodelay, self.ssl_adapter, self.reuse_port
        )
        try:
            bound: socket.socket = self.bind_socket(sock, self.bind_addr)  # type: ignore[no-untyped-call]
        except OSError as error:
            sock.close()
            self.refused = error
            raise
        self.socket = bound
        self.bind_addr = self.resolve_real_bind_addr(bound)  # type: ignore[no-untyped-call]
        return bound


class Listener:
    """Serves an application on its own threads until stopped; also a context manager. ``deadline``: seconds for a request."""

    def __init__(
        self, address: tuple[str, int], application: Application, deadline: float = DEADLINE
    ) -> None:
        self._server = _Server(address, application, deadline)
        self._server.shutdown_timeout = 0.5  # cheroot's stub says int, its code takes any
        self._server.max_request_header_size = HEADERS_CAP
        self._server.max_request_body_size = webhooks.BODY_CAP
        self._server.request_queue_size = 128  # of five, a sixth that connects at once would wait a second
        self._server.expiration_interval = 0.1
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        host, port = self._server.bind_addr[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Listen; raises ``OSError`` where the address is taken."""
        # Threads inherit `daemon` from the one that starts them. Cheroot's workers are started in a daemon thread, so
        # that a request that hangs never keeps the process from ending.
        failures: list[OSError] = []
        preparing = threading.Thread(target=self._prepare, args=(failures,), name="http-start", daemon=True)
        preparing.start()
        preparing.join()
        if failures:
            raise failures[0]
        self._server.arrivals.start()
        self._thread = threading.Thread(target=self._server.serve, name="http", daemon=True)
        self._thread.start()

    def _prepare(self, failures: list[OSError]) -> None:
        try:
            self._server.prepare()
        except OSError as error:
            failures.append(self._server.refused or error)  # cheroot's own names the socket, not the cause

    def stop(self) -> None:
        """Stop, without waiting for a request that hangs."""
        self._server.arrivals.stop()
        stopping = threading.Thread(target=self._server.stop, name="http-stop", daemon=True)
        stopping.start()
        stopping.join(1)
        if self._thread is not None:
            self._thread.join(1)
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
