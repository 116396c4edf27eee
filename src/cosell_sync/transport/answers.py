"""An answer, and what the body of an error and the headers say: one reader for every system. Pure.

Retry-After: www.rfc-editor.org/rfc/rfc9110#field.retry-after
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

LONGEST_WAIT: Final = 3600.0  # seconds of a Retry-After that is obeyed
FARTHEST: Final = timedelta(hours=1)  # of a believable clock
UNBELIEVED: Final = 300.0  # seconds to wait instead of one that is not; then the next call is the probe

REQUEST_IDS = (
    "request-id",
    "x-ms-request-id",
    "ms-requestid",
    "req_id",
)  # headers by which systems name a call


@dataclass(frozen=True)
class Answer:
    """What came back. ``headers``: names in lower case. ``data``: the body as JSON (numbers with a fraction as
    ``Decimal``), None where it is empty or the caller judges the status itself. ``at``: see ``server_time``.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    data: Any = None
    request_id: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class ErrorBody:
    """What the body of an error answer says. ``text`` is for people; the rest is safe to log."""

    code: str = ""
    text: str = ""
    target: str = ""


def error_body(body: bytes) -> ErrorBody:
    """The system's own words, from any of the shapes that errors come in; empty for HTML and other foreign matter.

    ``{"error": {"code", "message", "target", "innerError"}}`` (Partner Center, Dataverse; the innermost code is the
    most specific), ``{"code", "description", "data", "source"}`` (Partner Center's older services,
    learn.microsoft.com/partner-center/developer/error-codes; the code is a text or a number), ``{"statusCode", "message"}``
    (Partner Center's 429), ``[{"errorCode", "message", "fields"}]`` (Salesforce), ``{"error", "error_description"}`` (token
    endpoints; their description is left out, it may name people).
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody()
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return ErrorBody()
    error = data.get("error")
    if isinstance(error, dict):
        return _nested(error)
    if isinstance(error, str):
        return ErrorBody(code=_token(error))
    return ErrorBody(
        code=_token(data.get("errorCode") or data.get("code") or data.get("statusCode")),
        text=_text(data.get("message")) or _text(data.get("description")),
    )


def _nested(error: Mapping[str, Any]) -> ErrorBody:
    code, node = _token(error.get("code")), error
    for _ in range(8):
        inner = node.get("innerError") or node.get("innererror")
        if not isinstance(inner, dict):
            break
        node, code = inner, _token(inner.get("code")) or code
    text = _text(error.get("message")) or _text(error.get("description"))
    return ErrorBody(code=code, text=text, target=_token(error.get("target")))


def _token(value: object) -> str:
    """A code or target, made safe for logs: short, and nothing but letters, digits and a few signs."""
    text = "" if value is None or isinstance(value, (dict, list)) else str(value)
    return "".join(sign for sign in text[:80] if sign.isascii() and (sign.isalnum() or sign in "_-./[]$"))


def _text(value: object) -> str:
    return value[:1024] if isinstance(value, str) else ""


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait: what ``Retry-After`` asks for, ``UNBELIEVED`` where that cannot be meant; None without one."""
    if value is None:
        return None
    asked = believable_wait(value, now)
    return UNBELIEVED if asked is None else asked


def believable_wait(value: str, now: datetime) -> float | None:
    """Seconds, from ``Retry-After`` as seconds or as an HTTP date; None for what is negative, unreadable or beyond
    ``LONGEST_WAIT``.
    """
    value = value.strip()
    seconds: float | None = None
    if value.isascii() and value.isdigit():
        seconds = float(value.lstrip("0") or "0") if len(value.lstrip("0")) < 10 else None
    elif (moment := http_date(value)) is not None:
        seconds = (moment - now).total_seconds()
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_WAIT else None


def server_time(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """When the other side answered, by its ``Date``; None without one that is within ``FARTHEST`` of our own clock."""
    moment = http_date(headers.get("date", ""))
    return moment if moment is not None and abs(moment - now) <= FARTHEST else None


def http_date(value: str) -> datetime | None:
    """The moment (UTC) that a header names; None for what is no date."""
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
