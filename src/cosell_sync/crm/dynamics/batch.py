"""Several writes, or several questions, in one ``$batch``: the request's text, and the answer's parts. Pure.

A question is a part of its own. A group of one is a part of its own; a group of several is a change set, which lands as a whole or not at all. Parts are
carried out and answered in order, and ``odata.continue-on-error`` keeps one refused group from stopping the others.
Lines end with CRLF. Answers are read with any boundary, header case and nesting: servers differ in how they word a
change set that failed.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/execute-batch-operations-using-web-api
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cosell_sync.crm.dynamics import odata
from cosell_sync.transport.exact_json import encoded

JSON: Final = "application/json; charset=utf-8"

_BOUNDARY: Final = re.compile(r"""boundary\s*=\s*(?:"([^"]+)"|([^\s;]+))""", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})")


@dataclass(frozen=True)
class Op:
    """One write or question. ``path`` is relative to the service root, encoded already; of a question it may be a link."""

    method: str
    path: str
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def json(self) -> str:
        """The body as it is sent, empty where there is none; made once, for it is weighed before."""
        return "" if self.body is None else encoded(self.body)

    @property
    def guarded(self) -> bool:
        """Whether doing it twice is harmless: it names the state it expects, or what it removes."""
        return self.method == "DELETE" or any(
            name.lower() in {"if-match", "if-none-match"} for name in self.headers
        )


Group = tuple[Op, ...]


@dataclass(frozen=True)
class Reply:
    """What one write, or a change set as a whole, was answered."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def fine(self) -> bool:
        return 200 <= self.status < 300

    @property
    def entity_id(self) -> str | None:
        """Id of the row that was written, from the header that names it."""
        for name in ("odata-entityid", "location"):
            if found := odata.guid_in(self.headers.get(name, "")):
                return found
        return None


# --- requests ---------------------------------------------------------------------------------------------------


def framed(groups: Sequence[Group], root: str, boundary: str) -> bytes:
    """The body of a ``POST $batch`` with this boundary. ``root``: ``/api/data/v9.2``."""
    lines: list[str] = []
    number = 0
    for at, group in enumerate(groups):
        lines.append(f"--{boundary}")
        if len(group) == 1:
            lines += _part(group[0], root, None)
            continue
        inner = f"{boundary}_{at}"
        lines += [f'Content-Type: multipart/mixed; boundary="{inner}"', ""]
        for op in group:
            number += 1
            lines += [f"--{inner}", *_part(op, root, number)]
        lines += [f"--{inner}--", ""]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode()


def _part(op: Op, root: str, content_id: int | None) -> list[str]:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    place = op.path if op.path.startswith(("https://", "/")) else f"{root}/{op.path}"
    lines += ["", f"{op.method} {place} HTTP/1.1", "Accept: application/json"]
    lines += [f"{name}: {item}" for name, item in op.headers.items()]
    if op.body is None:
        return [*lines, "", ""]
    return [*lines, f"Content-Type: {JSON}", "", op.json]


# --- answers ----------------------------------------------------------------------------------------------------


def is_multipart(content_type: str) -> bool:
    return content_type.lower().lstrip().startswith("multipart/")


def text(body: bytes) -> bytes:
    """The body as it came. Raises ValueError for one that is no multipart, such as a proxy's page."""
    if not body.lstrip().startswith(b"--"):
        raise ValueError("no parts")
    return body


def replies(body: bytes, content_type: str) -> list[list[Reply]]:
    """One list per group: the replies of its parts, or the single one of a change set that failed.

    Raises ValueError for what is no answer to a batch.
    """
    found = []
    for headers, content in _parts(body, content_type):
        kind = headers.get("content-type", "")
        if is_multipart(kind):
            found.append([_reply(inner) for _, inner in _parts(content, kind)])
        else:
            found.append([_reply(content)])
    return found


def _parts(body: bytes, content_type: str) -> list[tuple[dict[str, str], bytes]]:
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise ValueError("no boundary")
    mark = b"--" + (match[1] or match[2]).encode()
    pieces = re.split(rb"(?:^|\r?\n)" + re.escape(mark) + rb"(?=[ \t]*(?:\r?\n|--|$))", body)
    if len(pieces) < 2:
        raise ValueError("no parts")
    live = (piece.lstrip(b" \t") for piece in pieces[1:] if not piece.startswith(b"--"))
    return [_split(re.sub(rb"^\r?\n", b"", piece)) for piece in live]


def _split(text: bytes) -> tuple[dict[str, str], bytes]:
    """Header lines, which there may be none of, and what follows the first empty line."""
    match = re.search(rb"(?:^|\r?\n)\r?\n", text)
    head, content = (text, b"") if match is None else (text[: match.start()], text[match.end() :])
    headers = {}
    for line in head.decode("latin-1").splitlines():
        name, colon, item = line.partition(":")
        if colon:
            headers[name.strip().lower()] = item.strip()
    return headers, content


def _reply(content: bytes) -> Reply:
    """``HTTP/1.1 204 No Content``, its headers and its body."""
    content = content.lstrip()
    match = _STATUS.match(content)
    if match is None:
        raise ValueError("a part without a status")
    rest = content.partition(b"\n")[2]
    headers, body = _split(rest)
    return Reply(int(match[1]), headers, body.strip())
