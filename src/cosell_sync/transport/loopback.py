"""Waits on this machine for the one answer that a browser brings from a sign-in page.

It listens on 127.0.0.1 only, on a port that is free, and for as long as the sign-in lasts (RFC 8252, sections 7.3 and 8.3).
MSAL has a listener of its own, which inside a container listens on all interfaces and logs the answer; so this one is ours.
Whatever does not carry the secret ``state`` of this sign-in is refused and waited past; nothing of a request is logged or
shown.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

ADDRESS: Final = "127.0.0.1"
LARGEST: Final = 64 * 1024  # bytes of an answer; real ones have about two thousand
IDLE: Final = 10.0  # seconds that a connection may say nothing: browsers open some in advance

_PAGE: Final = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>cosell-sync</title><p>{text}</p></html>\n'
)
_DONE: Final = "The answer has arrived. You can close this page; the terminal says whether you are signed in."
_STRANGE: Final = "This is not the answer to the sign-in that waits here. Start again from the terminal."


class Loopback:
    """A context manager; ``port`` is known once it is entered."""

    def __init__(self, state: str) -> None:
        """``state``: what the answer must carry."""
        self._state = state
        self._arrived = threading.Event()
        self._lock = threading.Lock()
        self._fields: Mapping[str, str] = {}
        self._server = _Server((ADDRESS, 0), _Handler)
        self._server.door = self

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        # The short poll is how long closing takes.
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="loopback", daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, seconds: float) -> Mapping[str, str] | None:
        """The fields of the answer; None where none came in that time."""
        return self._fields if self._arrived.wait(seconds) else None

    def take(self, fields: Mapping[str, str]) -> bool:
        """Whether this is the answer that is waited for; the first one counts."""
        given = fields.get("state", "")
        if not hmac.compare_digest(given.encode(), self._state.encode()) or not fields.keys() & {
            "code",
            "error",
        }:
            return False
        with self._lock:
            self._fields = self._fields or fields
        return True

    def arrived(self) -> None:
        """What was taken may be used: the browser has its page."""
        self._arrived.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False  # nobody else may listen on this port meanwhile
    door: Loopback


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE
    server: _Server

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 9 else LARGEST + 1
        if size > LARGEST:
            self._show(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _STRANGE)
            return
        self._answer(self.rfile.read(size).decode("utf-8", "replace"))

    def _answer(self, query: str) -> None:
        port = self.server.server_address[1]
        ours = self.headers.get("host") in {f"localhost:{port}", f"{ADDRESS}:{port}"}
        if not ours or urlsplit(self.path).path not in {"", "/"}:
            self._show(HTTPStatus.NOT_FOUND, _STRANGE)
        elif self.server.door.take(_fields(query)):
            self._show(HTTPStatus.OK, _DONE)
            self.server.door.arrived()
        else:
            self._show(HTTPStatus.BAD_REQUEST, _STRANGE)

    def _show(self, status: HTTPStatus, text: str) -> None:
        page = _PAGE.format(text=text).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing: a request holds the code."""


def _fields(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, max_num_fields=50))
    except ValueError:
        return {}
