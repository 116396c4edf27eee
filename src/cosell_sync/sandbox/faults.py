"""Fault injection: which requests to a served fake fail, in what way, and how often.

The server asks `Faults` before the fake handles a request and acts on the connection, as a real outage does.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from cosell_sync.sandbox.exchange import Request

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
    """One fault: its kind, the requests it applies to, and how often.

    `applied`: the fake handles the request before the fault. An answer 500 with `applied` is a write that was made and
    reported as failed.
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

    def matches(self, request: Request) -> bool:
        """Whether the fault applies to the request."""
        return (
            (not self.method or self.method.upper() == request.method)
            and re.search(self.path, request.path) is not None
            and (not self.body or re.search(self.body, request.body.decode("utf-8", "replace")) is not None)
        )


class Faults:
    """The pending faults. Of several that match a request, the oldest applies.

    Every method that adds a fault takes `method`, `path`, `body` (patterns), `times` (None: until `clear`), `skip` and `applied`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[list[Any]] = []  # [fault, still to skip, times left]

    def add(self, kind: Kind, **details: Any) -> Fault:
        """Adds a fault by the name of its kind; ValueError for an unknown kind."""
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
        """The connection breaks before the fake handles the request."""
        return self.add("reset_before", **match)

    def reset_after(self, **match: Any) -> Fault:
        """The fake handles the request; the connection breaks before the reply."""
        return self.add("reset_after", **{"applied": True, **match})

    def truncate(self, **match: Any) -> Fault:
        """The fake handles the request; the reply ends in the middle of its body."""
        return self.add("truncate", **{"applied": True, **match})

    def slow(self, seconds: float, **match: Any) -> Fault:
        """The reply is sent in small pieces over that time."""
        return self.add("slow", **{"applied": True, "seconds": seconds, **match})

    def delay(self, seconds: float, **match: Any) -> Fault:
        """Waits that long before the fake handles the request (with `applied`: before the reply)."""
        return self.add("delay", seconds=seconds, **match)

    def redirect(self, location: str, status: int = 302, **match: Any) -> Fault:
        """Sends the client elsewhere, as a captive portal or a hijacked name would."""
        return self.add("redirect", status=status, headers={"Location": location}, **match)

    def html(self, status: int = 200, **match: Any) -> Fault:
        """A web page instead of JSON."""
        return self.add("html", status=status, **match)

    def wrong_json(self, answer: object = None, status: int = 200, **match: Any) -> Fault:
        """Well-formed JSON of an unexpected shape."""
        shape = ["unexpected", 1, None] if answer is None else answer
        return self.add("wrong_json", status=status, answer=shape, **match)

    def hang(self, **match: Any) -> Fault:
        """No answer, ever; ends when the server stops (or after `seconds`, with a broken connection)."""
        return self.add("hang", **match)

    def clear(self) -> None:
        """Drops all pending faults."""
        with self._lock:
            self._pending.clear()

    def pending(self) -> list[dict[str, Any]]:
        """The pending faults with the counts that are left."""
        with self._lock:
            return [{**asdict(fault), "skip": skip, "times": left} for fault, skip, left in self._pending]

    def take(self, request: Request) -> Fault | None:
        """The fault for this request, counted down; None when no fault applies."""
        with self._lock:
            for entry in self._pending:
                fault, skip, left = entry
                if not fault.matches(request):
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
