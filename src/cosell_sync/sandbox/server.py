"""The floor every served fake stands on: requests in, responses out, and a network that can misbehave.

A fake is a plain function from `Request` to `Response`. `Server` puts it behind real TLS on loopback, so that the
installed program meets it through its own HTTP clients, certificate checks and timeouts. `Faults` holds what shall
go wrong next; it acts on the socket, below the fake, where real outages happen. `Calls` remembers every request, so
that a test can count what was sent and show that nothing else was.

One thread serves one connection. Every wait of a fault ends when the server stops.
"""

import contextlib
import json
import os
import re
import socket
import socketserver
import ssl
import struct
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qsl, unquote

CONTROL = "/_sandbox"  # where people at a shell reach a served fake; loopback is its only guard
HTML = b"<!DOCTYPE html><html><head><title>Service</title></head><body><h1>Please wait</h1></body></html>"


class Headers(Mapping[str, str]):
    """Header fields, looked up without regard to case; iterating yields lower-case names."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = {name.lower(): value for name, value in fields.items()}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # decoded, without the query
    query: Mapping[str, str]  # decoded; the last of several wins
    raw_query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """The body as an HTML form; the last of several values wins."""
        return dict(parse_qsl(self.body.decode("utf-8"), keep_blank_values=True))


@dataclass
class Response:
    status: int = 200
    body: object = None  # None: empty; bytes: as they are; anything else: JSON
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8")


App = Callable[[Request], Response]


@dataclass(frozen=True)
class Call:
    """One request as it arrived and the status it was answered with (0: no answer)."""

    method: str
    path: str
    raw_query: str
    status: int
    headers: Mapping[str, str]  # without Authorization
    body: bytes
    fault: str = ""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))


class Calls(list[Call]):
    """The log of a server. Appending is atomic; readers take a copy."""

    def matching(self, method: str = "", path: str = "") -> list[Call]:
        """Calls of that method (any when empty) whose path contains the pattern."""
        return [
            call
            for call in list(self)
            if (not method or call.method == method.upper()) and re.search(path, call.path)
        ]


Kind = Literal[
    "answer",
    "reset_before",
    "reset_after",
    "truncate",
    "slow",
    "delay",
    "redirect",
    "html",
    "wrong_json",
    "hang",
]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, for which requests, and how often.

    `applied` says whether the fake has done its work when the fault strikes: an answer 500 with `applied` is a write
    that landed and was reported as failed.
    """

    kind: Kind
    method: str = ""  # empty: any
    path: str = ""  # a pattern searched in the path
    body: str = ""  # a pattern searched in the request body
    times: int | None = 1  # None: until cleared
    skip: int = 0  # this many matching requests pass first
    applied: bool = False
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: object = None
    seconds: float = 0.0

    def concerns(self, request: Request) -> bool:
        return (
            (not self.method or self.method.upper() == request.method)
            and re.search(self.path, request.path) is not None
            and (not self.body or re.search(self.body, request.body.decode("utf-8", "replace")) is not None)
        )


class Faults:
    """The faults still to come; of several that match a request the oldest strikes.

    Every maker takes `method`, `path`, `body` (patterns), `times` (None: until `clear`), `skip` and `applied`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[list[Any]] = []  # [fault, still to skip, times left]

    def add(self, kind: Kind, **details: Any) -> Fault:
        """Any fault by its name, as the control API gives it."""
        if kind not in get_args(Kind):
            raise ValueError(f"unknown fault {kind!r}; one of {', '.join(get_args(Kind))}")
        fault = Fault(kind=kind, **details)
        for pattern in (fault.path, fault.body):
            re.compile(pattern)
        with self._lock:
            self._pending.append([fault, fault.skip, fault.times])
        return fault

    def answer(
        self, status: int, answer: object = None, headers: Mapping[str, str] | None = None, **match: Any
    ) -> Fault:
        """This status, body and headers (429 with Retry-After, 500, 503, 401 …) in place of the fake's."""
        return self.add("answer", status=status, answer=answer, headers=headers or {}, **match)

    def reset_before(self, **match: Any) -> Fault:
        """The connection breaks; the fake never saw the request."""
        return self.add("reset_before", **match)

    def reset_after(self, **match: Any) -> Fault:
        """The fake did its work; the connection breaks before the reply."""
        return self.add("reset_after", **{"applied": True, **match})

    def truncate(self, **match: Any) -> Fault:
        """The fake did its work; the reply ends in the middle of its body."""
        return self.add("truncate", **{"applied": True, **match})

    def slow(self, seconds: float, **match: Any) -> Fault:
        """The reply drips out over that time, never pausing for long."""
        return self.add("slow", **{"applied": True, "seconds": seconds, **match})

    def delay(self, seconds: float, **match: Any) -> Fault:
        """The request waits that long before the fake sees it (with `applied`: before the reply)."""
        return self.add("delay", seconds=seconds, **match)

    def redirect(self, location: str, status: int = 302, **match: Any) -> Fault:
        """Sends the client elsewhere, as a captive portal or a hijacked name would."""
        return self.add("redirect", status=status, headers={"Location": location}, **match)

    def html(self, status: int = 200, **match: Any) -> Fault:
        """A web page where JSON was due."""
        return self.add("html", status=status, **match)

    def wrong_json(self, answer: object = None, status: int = 200, **match: Any) -> Fault:
        """Well-formed JSON of an unexpected shape."""
        shape = ["unexpected", 1, None] if answer is None else answer
        return self.add("wrong_json", status=status, answer=shape, **match)

    def hang(self, **match: Any) -> Fault:
        """No answer, ever; ends when the server stops (or after `seconds`, with a broken connection)."""
        return self.add("hang", **match)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def pending(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{**asdict(fault), "skip": skip, "times": left} for fault, skip, left in self._pending]

    def strike(self, request: Request) -> Fault | None:
        """The fault for this request, counted down; None when nothing shall go wrong."""
        with self._lock:
            for entry in self._pending:
                fault, skip, left = entry
                if not fault.concerns(request):
                    continue
                if skip:
                    entry[1] = skip - 1
                    continue
                if left is not None:
                    entry[2] = left - 1
                    if entry[2] <= 0:
                        self._pending.remove(entry)
                return fault  # type: ignore[no-any-return]
        return None


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
        self.errors: list[
            str
        ] = []  # tracebacks of the fake itself: a bug in the sandbox, never part of the play
        self._ssl_context = ssl_context
        self._host = host
        self._port = port
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://localhost:{self._port}"

    def start(self) -> Self:
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
        """Ends at once: waiting faults are woken, open connections are cut."""
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
        """What every served fake offers under `/_sandbox`: its faults and its log. None: ask the fake."""
        match request.method, request.path.removeprefix(CONTROL).strip("/"):
            case "GET", "faults":
                return Response(200, self.faults.pending())
            case "POST", "faults":
                try:
                    return Response(200, asdict(self.faults.add(**request.json())))
                except (ValueError, TypeError, re.error) as wrong:
                    return Response(400, {"error": str(wrong)})
            case "DELETE", "faults":
                self.faults.clear()
                return Response(204)
            case "GET", "calls":
                return Response(
                    200, [f"{call.method} {call.path} {call.status}" for call in list(self.calls)]
                )
            case "DELETE", "calls":
                self.calls.clear()
                return Response(204)
        return None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


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
            # The handshake is left to the connection's own thread: a client that never speaks blocks nobody else.
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
        """Clients that leave or distrust our certificate are part of the play, and no news."""


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
        if request.path.startswith(CONTROL):
            # People at a shell are not part of the play: no fault strikes them, no call of theirs is counted.
            self._send(request, owner.control(request) or self._ask_app(request))
            return
        fault = owner.faults.strike(request)
        if fault is None:
            self._reply(request, self._ask_app(request))
            return
        if fault.kind == "delay" and not fault.applied and self.server.stopping.wait(fault.seconds):
            self._reset()  # a server that went down does no more work
            return
        ran = self._ask_app(request) if fault.applied or fault.kind in {"delay", "slow", "truncate"} else None
        match fault.kind:
            case "answer" | "redirect" | "wrong_json":
                self._reply(request, Response(fault.status, fault.answer, dict(fault.headers)), fault)
            case "html":
                headers = {"Content-Type": "text/html; charset=utf-8", **fault.headers}
                self._reply(request, Response(fault.status, HTML, headers), fault)
            case "reset_before" | "reset_after":
                self._note(request, 0, fault)
                self._reset()
            case "hang":
                self._note(request, 0, fault)
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

    def _ask_app(self, request: Request) -> Response:
        try:
            return self.server.owner.app(request)
        except Exception:  # noqa: BLE001  (a bug of the fake must answer, and be found in `errors`)
            self.server.owner.errors.append(traceback.format_exc())
            return Response(
                500, {"error": {"code": "generalException", "message": "the sandbox itself failed"}}
            )

    def _note(self, request: Request, status: int, fault: Fault | None) -> None:
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
        self._note(request, response.status, fault)
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
            # One without a body ends in the middle of its head.
            self.wfile.write(start + body[: len(body) // 2] if body else start[: len(start) // 2])
            self.close_connection = True
        elif fault is not None and fault.kind == "slow":
            self._drip(start + body, fault.seconds)
        else:
            self.wfile.write(start + body)  # head and body in one write: no pause between two small packets

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
