"""One HTTP exchange as a fake sees it: the request, the response, and the log of the calls a server answered."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


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
    """A request as a fake gets it."""

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
    """A fake's answer."""

    status: int = 200
    body: object = None  # None: empty; bytes: as they are; anything else: JSON
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The body as bytes."""
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
