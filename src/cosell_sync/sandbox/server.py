"""Serves one fake over TLS on loopback, logs every call, and carries out faults.

A fake is a function from `Request` to `Response`. Behind `Server` the installed program meets it through its own HTTP
clients, certificate checks and timeouts. One thread serves one connection. Every wait of a fault ends when the server stops.
"""

import contextlib
import os
import re
import socket
import socketserver
import ssl
import struct
import threading
import traceback
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from cosell_sync.sandbox.control import PREFIX, Route, Router
from cosell_sync.sandbox.exchange import App, Call, Calls, Headers, Request, Response
from cosell_sync.sandbox.faults import Fault, Faults

HTML = b"<!DOCTYPE html><html><head><title>Service</title></head><body><h1>Please wait</h1></body></html>"


class Server:
    """Serves one fake on loopback until stopped; may be started again on the same port, as after an outage."""

    def __init__(
        self,
        app: App,
        ssl_context: ssl.SSLContext | None,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "sandbox",
    ) -> None:
        self.app = app
        self.name = name
        self.faults = Faults()
        self.calls = Calls()
        self.errors: list[str] = []  # tracebacks of the fake itself, which are bugs of the sandbox
        self._router = Router(self._routes(), explain=_explain)
        self._ssl_context = ssl_context
        self._host = host
        self._port = port
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port; 0 before the first start."""
        return self._port

    @property
    def url(self) -> str:
        """The address for clients."""
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://localhost:{self._port}"

    def start(self) -> Self:
        """Starts serving; does nothing when already started."""
        if self._listener is not None:
            return self
        self._listener = _Listener((self._host, self._port), self, self._ssl_context)
        self._port = self._listener.server_address[1]
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name=f"{self.name}-listener", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stops at once: waiting faults end, open connections are cut."""
        listener, thread = self._listener, self._thread
        if listener is None or thread is None:
            return
        self._listener = self._thread = None
        listener.stopping.set()
        listener.shutdown()
        listener.server_close()
        listener.cut_connections()
        thread.join(timeout=2)

    def control(self, request: Request) -> Response | None:
        """The answer of a control address of the server itself (faults, calls). None: ask the fake."""
        return self._router.answer(request)

    def _routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "faults", lambda _: self.faults.pending()),
            Route("POST", "faults", lambda asked: asdict(self.faults.add(**asked.body))),
            Route("DELETE", "faults", lambda _: self.faults.clear()),
            Route("GET", "calls", lambda _: [f"{call.method} {call.path} {call.status}" for call in list(self.calls)]),
            Route("DELETE", "calls", lambda _: self.calls.clear()),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def _explain(error: Exception) -> object | None:
    return {"error": str(error)} if isinstance(error, ValueError | TypeError | re.error) else None


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128
    server_address: tuple[str, int]

    def __init__(self, address: tuple[str, int], owner: Server, ssl_context: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.ssl_context = ssl_context
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._idle = threading.Condition()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.ssl_context is not None:
            # The connection's own thread does the handshake, so that a silent client blocks no other.
            try:
                connection = self.ssl_context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            except OSError:
                connection.close()
                raise
        with self._idle:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._idle:
            self._open.discard(request)
            self._idle.notify_all()

    def cut_connections(self) -> None:
        with self._idle:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
            self._idle.wait_for(lambda: not self._open, timeout=2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients may close connections and refuse certificates."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 300

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(10)
            self.request.do_handshake()
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it so)
        """Silent: `Calls` is the log."""

    def _serve(self) -> None:
        request = self._read()
        owner = self.server.owner
        if request.path.startswith(PREFIX):
            # Control addresses are not part of the fake API: no fault applies to them and they are not logged.
            self._send(request, owner.control(request) or self._call_app(request))
            return
        fault = owner.faults.take(request)
        if fault is None:
            self._reply(request, self._call_app(request))
        else:
            self._fail(request, fault)

    def _fail(self, request: Request, fault: Fault) -> None:
        """Answers with the fault, before or after the fake handles the request."""
        if fault.kind == "delay" and not fault.applied and self.server.stopping.wait(fault.seconds):
            self._reset()  # the server stopped while the request waited
            return
        ran = (
            self._call_app(request) if fault.applied or fault.kind in {"delay", "slow", "truncate"} else None
        )
        match fault.kind:
            case "answer" | "redirect" | "wrong_json":
                self._reply(request, Response(fault.status, fault.answer, dict(fault.headers)), fault)
            case "html":
                headers = {"Content-Type": "text/html; charset=utf-8", **fault.headers}
                self._reply(request, Response(fault.status, HTML, headers), fault)
            case "reset_before" | "reset_after":
                self._log(request, 0, fault)
                self._reset()
            case "hang":
                self._log(request, 0, fault)
                self.server.stopping.wait(fault.seconds or None)
                self._reset()
            case "delay":
                if fault.applied:
                    self.server.stopping.wait(fault.seconds)
                self._reply(request, ran or Response(500), fault)
            case "slow" | "truncate":
                self._reply(request, ran or Response(500), fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815  (the base class looks for these names)

    def _read(self) -> Request:
        raw_path, _, raw_query = self.path.partition("?")
        return Request(
            method=self.command,
            path=unquote(raw_path),
            query=dict(parse_qsl(raw_query, keep_blank_values=True)),
            raw_query=raw_query,
            headers=Headers(dict(self.headers.items())),
            body=self._read_body(),
        )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _call_app(self, request: Request) -> Response:
        try:
            return self.server.owner.app(request)
        except Exception:  # noqa: BLE001  (a bug of the fake is answered with 500 and kept in `errors`)
            self.server.owner.errors.append(traceback.format_exc())
            return Response(
                500, {"error": {"code": "generalException", "message": "the sandbox itself failed"}}
            )

    def _log(self, request: Request, status: int, fault: Fault | None) -> None:
        headers = Headers({name: value for name, value in request.headers.items() if name != "authorization"})
        self.server.owner.calls.append(
            Call(
                method=request.method,
                path=request.path,
                raw_query=request.raw_query,
                status=status,
                headers=headers,
                body=request.body,
                fault=fault.kind if fault else "",
            )
        )

    def _reply(self, request: Request, response: Response, fault: Fault | None = None) -> None:
        self._log(request, response.status, fault)
        self._send(request, response, fault)

    def _send(self, request: Request, response: Response, fault: Fault | None = None) -> None:
        body = response.encoded()
        headers = {name.title(): value for name, value in response.headers.items()}
        if body:
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        if response.status not in {204, 304}:
            headers["Content-Length"] = str(len(body))
        headers.setdefault("Date", self.date_time_string())
        if request.method == "HEAD" or response.status in {204, 304}:
            body = b""
        known = {member.value: member.phrase for member in HTTPStatus}
        head = f"HTTP/1.1 {response.status} {known.get(response.status, 'Unknown')}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = (head + lines + "\r\n").encode("latin-1")
        if fault is not None and fault.kind == "truncate":
            # A response without a body is cut in the middle of its head.
            self.wfile.write(start + body[: len(body) // 2] if body else start[: len(start) // 2])
            self.close_connection = True
        elif fault is not None and fault.kind == "slow":
            self._drip(start + body, fault.seconds)
        else:
            self.wfile.write(start + body)  # one write, so that head and body travel together

    def _drip(self, data: bytes, seconds: float) -> None:
        pieces = min(len(data), 40)
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            self.wfile.write(data[at : at + size])
            if self.server.stopping.wait(seconds / pieces):
                break

    def _reset(self) -> None:
        """Cuts the connection with a RST, as a crashed host or a firewall does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
