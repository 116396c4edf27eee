"""Whether a write may still leave: asked right before its first and before its second half go out.

A process may stand still at any moment, be it in a wait before a retry or while a connection is made, and its lease may go to
another one meanwhile. So the question comes last of all, after connecting, with proxy and TLS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Permit = Callable[[], None]  # raises ``Fenced`` where this process may write no more
Trace = Callable[[str, Mapping[str, Any]], None]

# What httpcore reports right before it sends.
_LEAVING: Final = frozenset({"http11.send_request_headers.started", "http11.send_request_body.started"})


def anyway() -> None:
    """The permit of who needs none."""


def asked_last(permit: Permit) -> Mapping[str, Trace]:
    """The extensions of a request that is a write (httpx): what the permit raises ends it, before it is whole."""

    def about_to(what: str, _facts: Mapping[str, Any]) -> None:
        if what in _LEAVING:
            permit()

    return {"trace": about_to}
