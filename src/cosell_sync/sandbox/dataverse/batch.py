"""`POST $batch`: several requests in one, a change set of them all or nothing.

Framing is taken as strictly as the service does: CRLF line ends, the two headers of every part, an empty line before the
next boundary, the closing boundary. Answers carry boundaries of their own.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from cosell_sync.sandbox.dataverse.odata import bad_request
from cosell_sync.sandbox.dataverse.payload import Part, inner, preferences
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.values import Refused
from cosell_sync.sandbox.exchange import Headers, Response

MOST_PARTS = 1000
_BOUNDARY = re.compile(r'multipart/mixed\s*;\s*boundary="?([^";]+)"?', re.IGNORECASE)
_LINE = re.compile(r"(GET|POST|PATCH|PUT|DELETE) (\S+) HTTP/1\.1")
_ID = re.compile(r"[^/]+\([0-9a-f-]{36}\)$")
_PHRASES = {
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    412: "Precondition Failed",
}


@dataclass(frozen=True)
class _Piece:
    """One part of a multipart body: its own headers and what is inside."""

    headers: Mapping[str, str]
    content: bytes


@dataclass
class Batch:
    """Answers a batch: its parts in order, each change set all or nothing."""

    org: Org
    answer: Callable[[Part], Response]
    failed_change_set: Literal["nested", "bare"] = "nested"
    """Servers differ in how a failed change set is wrapped; clients have to read both."""

    def __call__(self, part: Part) -> Response:
        pieces = _pieces(part.body, _boundary(part.headers.get("content-type", "")))
        if sum(_size(piece) for piece in pieces) > MOST_PARTS:
            raise bad_request(f"The number of requests in the batch exceeds {MOST_PARTS}.")
        going_on = "odata.continue-on-error" in preferences(part.headers.get("prefer", ""))
        boundary = f"batchresponse_{uuid4()}"
        answers: list[bytes] = []
        status = 200
        for piece in pieces:
            kind = piece.headers.get("content-type", "")
            if kind.startswith("multipart/mixed"):
                made, failed = self._change_set(part, piece)
            else:
                response = self._one(part, piece, {})
                made, failed = _wrapped(response, None), response.status if response.status >= 400 else 0
            answers.append(made)
            if failed and not going_on:
                status = failed
                break
        body = b"".join(b"--" + boundary.encode() + b"\r\n" + each + b"\r\n" for each in answers)
        body += b"--" + boundary.encode() + b"--\r\n"
        return Response(status, body, {"Content-Type": f'multipart/mixed; boundary="{boundary}"'})

    def _one(self, part: Part, piece: _Piece, made: Mapping[str, str], *, in_set: bool = False) -> Response:
        if piece.headers.get("content-type", "") != "application/http":
            raise bad_request("A part of the batch has no Content-Type application/http.")
        if piece.headers.get("content-transfer-encoding", "").lower() != "binary":
            raise bad_request("A part of the batch has no Content-Transfer-Encoding binary.")
        # The empty line before a boundary may be the one that belongs to it: Microsoft's own client sends no second.
        head, empty, body = (piece.content + b"\r\n").partition(b"\r\n\r\n")
        if not empty:
            raise bad_request("An empty line must follow the headers of a request in a batch.")
        first, *lines = head.decode("utf-8").split("\r\n")
        found = _LINE.fullmatch(first)
        if found is None:
            raise bad_request(f"'{first}' is no request line.")
        if in_set and found[1] == "GET":
            raise bad_request("A change set holds no GET.")
        url = found[2]
        if url.startswith("$"):
            name, slash, rest = url[1:].partition("/")
            if name not in made:
                raise bad_request(f"Content-ID Reference: '${name}' does not exist in the batch context.")
            url = f"/api/data/v9.2/{made[name]}{slash}{rest}"
        split = urlsplit(url)
        path = unquote(split.path)
        if not path.startswith("/api/data/v9.2/"):
            raise bad_request(f"The address '{url}' of a part is not below this service.")
        if path.endswith("$batch"):
            raise bad_request("A batch holds no batch.")
        headers = Headers(dict(_header(line) for line in lines if line))
        return self.answer(
            inner(
                part, method=found[1], path=path.removeprefix("/api/data/v9.2/"), raw_query=split.query,
                headers=headers, body=body.rstrip(b"\r\n"), made=made,
            )
        )  # fmt: skip

    def _change_set(self, part: Part, piece: _Piece) -> tuple[bytes, int]:
        kept = self.org.savepoint()
        boundary = f"changesetresponse_{uuid4()}"
        nested = f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode()
        try:
            answers, failed = self._all(part, piece)
        except Refused:
            self.org.roll_back(kept)
            raise
        if failed:
            self.org.roll_back(kept)
            if self.failed_change_set == "bare":
                return answers[-1], failed
            answers = answers[-1:]
        return nested + _framed(answers, boundary), failed

    def _all(self, part: Part, piece: _Piece) -> tuple[list[bytes], int]:
        """The answers up to the first failure, and its status."""
        made: dict[str, str] = {}
        answers: list[bytes] = []
        for each in _pieces(piece.content, _boundary(piece.headers["content-type"])):
            if each.headers.get("content-type", "").startswith("multipart/"):
                raise bad_request("A change set holds no change set.")
            content_id = each.headers.get("content-id")
            if content_id is None:
                raise bad_request("A request in a change set needs a Content-ID.")
            response = self._one(part, each, made, in_set=True)
            answers.append(_wrapped(response, content_id))
            if response.status >= 400:
                return answers, response.status
            there = _ID.search(response.headers.get("OData-EntityId", ""))
            if there is not None:
                made[content_id] = there[0]
        return answers, 0


def _size(piece: _Piece) -> int:
    """How many requests a piece holds."""
    kind = piece.headers.get("content-type", "")
    return len(_pieces(piece.content, _boundary(kind))) if kind.startswith("multipart/mixed") else 1


def _boundary(content_type: str) -> str:
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise bad_request("The Content-Type of a batch must be multipart/mixed with a boundary.")
    return found[1]


def _pieces(body: bytes, boundary: str) -> list[_Piece]:
    mark = b"--" + boundary.encode()
    text = b"\r\n" + body
    if b"\r\n" + mark + b"--" not in text:
        raise bad_request("The batch has no closing boundary, or its lines do not end in CRLF.")
    content = text.split(b"\r\n" + mark + b"--")[0]
    pieces = []
    for chunk in content.split(b"\r\n" + mark + b"\r\n")[1:]:
        head, empty, inside = chunk.partition(b"\r\n\r\n")
        if not empty:
            raise bad_request("A part of the batch has no empty line behind its headers.")
        lines = head.decode("utf-8").split("\r\n")
        pieces.append(_Piece(Headers(dict(_header(line) for line in lines if line)), inside))
    if not pieces:
        raise bad_request("The batch is empty.")
    return pieces


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise bad_request(f"'{line}' is no header.")
    return name.strip(), value.strip()


def _wrapped(response: Response, content_id: str | None) -> bytes:
    """One answer as a part."""
    body = (
        response.body
        if isinstance(response.body, bytes)
        else b""
        if response.body is None
        else json.dumps(response.body).encode()
    )
    headers = dict(response.headers)
    if body:
        headers.setdefault("Content-Type", "application/json; odata.metadata=minimal")
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    phrase = _PHRASES.get(response.status, "Status")
    lines += [
        "",
        f"HTTP/1.1 {response.status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def _framed(parts: list[bytes], boundary: str) -> bytes:
    mark = boundary.encode()
    return b"".join(b"--" + mark + b"\r\n" + each + b"\r\n" for each in parts) + b"--" + mark + b"--\r\n"
