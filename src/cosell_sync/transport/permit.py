"""Whether a write may still leave. A process may stand still at any moment, be it in a wait before a retry or while a connection is
made, and its lease may go to another one; so the permit is asked last right before the first and the second half go out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Permit = Callable[[], None]  # raises ``Fenced`` where this process may write no more

# What httpcore reports before it sends; connecting, with proxy and TLS, lies before the first.
_LEAVING: Final = frozenset({"http11.send_request_headers.started", "http11.send_request_body.started"})


def anyway() -> None:
    """The permit of who needs none."""


def asking(permit: Permit) -> dict[str, Any]:
    """The extensions of a request of httpx with which the permit is asked before it leaves."""

    def trace(what: str, _facts: Mapping[str, Any]) -> None:
        if what in _LEAVING:
            permit()

    return {"trace": trace}
