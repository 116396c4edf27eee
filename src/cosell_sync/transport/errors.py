"""Statuses, error codes and exceptions → what happens next, as tables. Pure.

An answer has a *fate*: what the caller does about it. The fate depends on the status, on the system's own error code
where it has one (the code knows more than the status), and, for what reaches the rest of the program, on whether the
call was about one record or about the system as a whole (a list, a sign-in). The unknown stops; it is not retried.

Partner Center's statuses and codes: learn.microsoft.com/partner-center/developer/error-codes; its 429 has another shape
than its other errors (learn.microsoft.com/partner-center/developer/api-throttling-guidance). Dataverse's:
learn.microsoft.com/power-apps/developer/data-platform/api-limits and .../reference/web-service-error-codes.
Salesforce's: REST API developer guide, "Status codes and error responses".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import httpx

from cosell_sync.errors import AuthFailed, CosellError, Flaky, Gone, Rejected, Stale, Unavailable, Unclear


class Fate(StrEnum):
    """What to do about an answer (or the lack of one)."""

    DONE = "done"
    REFRESH = "refresh"  # a new token, then once more
    WAIT = "wait"  # throttled: it surely did not land; every thread of that host pauses
    BUSY = "busy"  # 503: overload or maintenance; it surely did not land
    DOWN = "down"  # a gateway gave up: it may have landed
    FLAKY = "flaky"  # the system stumbled over this call: it may have landed
    STALE = "stale"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    REJECTED = "rejected"
    MOVED = "moved"  # a redirect: we never follow one, it would carry the token away
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a call is about: then its failure concerns one record, or the whole system."""

    RECORD = "record"
    SYSTEM = "system"


STATUS: Final[Mapping[int, Fate]] = MappingProxyType(
    {
        400: Fate.REJECTED,
        401: Fate.REFRESH,
        403: Fate.FORBIDDEN,
        404: Fate.GONE,
        405: Fate.REJECTED,
        406: Fate.REJECTED,
        408: Fate.DOWN,
        409: Fate.STALE,
        410: Fate.GONE,
        411: Fate.REJECTED,
        412: Fate.STALE,
        413: Fate.REJECTED,
        415: Fate.REJECTED,
        416: Fate.REJECTED,
        422: Fate.REJECTED,
        423: Fate.FLAKY,
        429: Fate.WAIT,
        500: Fate.FLAKY,
        501: Fate.REJECTED,
        502: Fate.DOWN,
        503: Fate.BUSY,
        504: Fate.DOWN,
        507: Fate.REJECTED,
        509: Fate.WAIT,
    }
)

# Per system: codes that know more than the status they come with.
CODES: Final[Mapping[str, Mapping[str, Fate]]] = MappingProxyType(
    {
        "partner_center": MappingProxyType(
            {
                "resourceModified": Fate.STALE,
                "preconditionFailed": Fate.STALE,
                "itemNotFound": Fate.GONE,
            }
        ),
        "dynamics": MappingProxyType(
            {
                "0x80060882": Fate.STALE,  # ConcurrencyVersionMismatch
                "0x80060892": Fate.REJECTED,  # DuplicateRecordEntityKey: no version cause, though a 412
                "0x80040237": Fate.REJECTED,  # DuplicateRecord, likewise
                "0x80040333": Fate.REJECTED,  # DuplicateRecordsFound, likewise; 412 or 500
                "0x80072321": Fate.WAIT,  # service protection: execution time
                "0x80072322": Fate.WAIT,  # service protection: number of requests
                "0x80072326": Fate.WAIT,  # service protection: parallel requests
                "0x8005F103": Fate.WAIT,  # Throttling
            }
        ),
        "salesforce": MappingProxyType(
            {
                "INVALID_SESSION_ID": Fate.REFRESH,
                "REQUEST_LIMIT_EXCEEDED": Fate.WAIT,  # a 403
                "UNABLE_TO_LOCK_ROW": Fate.FLAKY,
                "ENTITY_IS_DELETED": Fate.GONE,
                "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE": Fate.STALE,
            }
        ),
    }
)

# Answers after which the same read may be asked again.
TRANSIENT: Final = frozenset({Fate.WAIT, Fate.BUSY, Fate.DOWN, Fate.FLAKY})


def surely_not_landed(fate: Fate, status: int) -> bool:
    """Whether the answer proves that nothing was done, so that a guarded write may be sent again."""
    return fate in {Fate.WAIT, Fate.BUSY} or (fate is Fate.FLAKY and status < 500)


@dataclass(frozen=True)
class Said:
    """What an error answer says. ``text`` is for people; the rest is safe to log."""

    code: str = ""
    text: str = ""
    target: str = ""


def fate(system: str, status: int, code: str = "") -> Fate:
    """What to do about an answer of that status and error code."""
    if 200 <= status < 300:
        return Fate.DONE
    if 300 <= status < 400:
        return Fate.MOVED
    return CODES.get(system, {}).get(code) or STATUS.get(status, Fate.UNKNOWN)


def said(body: bytes) -> Said:
    """The system's own words, from any of the shapes that errors come in; empty for HTML and other foreign matter.

    ``{"error": {"code", "message", "target", "innerError"}}`` (Partner Center, Dataverse; the innermost code is the
    most specific), ``{"statusCode", "message"}`` (Partner Center's 429), ``[{"errorCode", "message", "fields"}]``
    (Salesforce), ``{"error", "error_description"}`` (token endpoints; their description is left out, it may name
    people).
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Said()
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return Said()
    error = data.get("error")
    if isinstance(error, dict):
        return _nested(error)
    if isinstance(error, str):
        return Said(code=_token(error))
    return Said(
        code=_token(data.get("errorCode") or data.get("code") or data.get("statusCode")),
        text=_text(data.get("message")),
    )


def _nested(error: Mapping[str, Any]) -> Said:
    code, node = _token(error.get("code")), error
    for _ in range(8):
        inner = node.get("innerError") or node.get("innererror")
        if not isinstance(inner, dict):
            break
        node, code = inner, _token(inner.get("code")) or code
    return Said(code=code, text=_text(error.get("message")), target=_token(error.get("target")))


def _token(value: object) -> str:
    """A code or target, made safe for logs: short, and nothing but letters, digits and a few signs."""
    text = "" if value is None or isinstance(value, (dict, list)) else str(value)
    return "".join(sign for sign in text[:80] if sign.isascii() and (sign.isalnum() or sign in "_-./[]$"))


def _text(value: object) -> str:
    return value[:1024] if isinstance(value, str) else ""


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from ``Retry-After`` as seconds or as an HTTP date; None where it says nothing of use."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else 1e9
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def error(
    system: str,
    fate: Fate,
    scope: Scope,
    said: Said,
    *,
    status: int | None,
    request_id: str = "",
    host: str = "",
    retry_at: datetime | None = None,
    may_have_landed: bool = False,
) -> CosellError:
    """The error that an answer becomes, once nothing more is tried.

    ``may_have_landed``: it was a write, so a failure that proves nothing is ``Unclear``.
    """
    code = said.code or (f"http_{status}" if status else fate.value)
    text = said.text or f"{system} answered {status} without a reason"
    fields = (said.target,) if said.target else ()
    if may_have_landed and fate in {Fate.DOWN, Fate.FLAKY} and not surely_not_landed(fate, status or 0):
        return Unclear(text, code=code, status=status, request_id=request_id)
    if fate in {Fate.WAIT, Fate.BUSY, Fate.DOWN}:
        words = "is throttling us" if fate is Fate.WAIT else "is not available"
        return Unavailable(
            system, f"{system} {words} (status {status})", code=code, status=status, retry_at=retry_at
        )
    if fate is Fate.REFRESH:
        return AuthFailed(system, f"{system} refuses a token that it just gave out", code=code, status=status)
    if fate is Fate.MOVED:  # never about one record: a proxy, a captive portal or a wrong address answers
        text = f"{host or system} answered with a redirect, which is never followed"
        return Unavailable(system, text, code="redirect", status=status, hint="check the configured URL")
    if scope is Scope.SYSTEM and fate is Fate.FORBIDDEN:
        return AuthFailed(
            system,
            f"{system} refuses access (status {status})",
            code=code,
            status=status,
            hint="check the roles and permissions of the signed-in user",
        )
    if scope is Scope.SYSTEM and fate is not Fate.REJECTED:
        return Unavailable(system, f"{system} answered {status} to a basic call", code=code, status=status)
    kind = {Fate.STALE: Stale, Fate.GONE: Gone, Fate.FLAKY: Flaky}.get(fate, Rejected)
    return kind(text, code=code, status=status, fields=fields, request_id=request_id)


def lost(cause: BaseException) -> tuple[str, bool]:
    """A failure without an answer: its code for logs, and whether the request may have reached the system."""
    for kind, code, sent in _LOST:
        if isinstance(cause, kind):
            return code, sent
    return "transport", True


_LOST: Final[tuple[tuple[type[BaseException], str, bool], ...]] = (
    (httpx.ConnectTimeout, "connect_timeout", False),
    (httpx.PoolTimeout, "pool_timeout", False),
    (httpx.ConnectError, "connect", False),
    (httpx.ProxyError, "proxy", False),
    (httpx.UnsupportedProtocol, "protocol", False),
    (httpx.LocalProtocolError, "protocol", False),
    (httpx.ReadTimeout, "read_timeout", True),
    (httpx.WriteTimeout, "write_timeout", True),
    (httpx.RemoteProtocolError, "broken_answer", True),
    (httpx.NetworkError, "reset", True),
    (httpx.DecodingError, "broken_answer", True),
)
