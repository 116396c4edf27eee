"""The table of statuses, error codes and exceptions: what each says about a request, and which error it becomes. Pure.

An answer has a *disposition*: what it says about the request. It follows from the system's own error code where the
table knows it (the code knows more than the status), else from the status. Which error the rest of the program sees
also depends on what the call was about: one record, or the system as a whole (a list, a sign-in). An unknown status
stops; it is not retried.

Sources:

- Partner Center: learn.microsoft.com/partner-center/developer/error-codes; its 429 has another shape than its other
  errors (learn.microsoft.com/partner-center/developer/api-throttling-guidance)
- Dataverse: learn.microsoft.com/power-apps/developer/data-platform/api-limits and
  learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes
- Salesforce: developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import httpx

from cosell_sync.errors import (
    AuthFailed,
    CosellError,
    Flaky,
    Gone,
    RecordError,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.transport.answers import ErrorBody


class Disposition(StrEnum):
    """What an answer says about the request."""

    DONE = "done"
    EXPIRED = "expired"  # the token is refused: get another, then send once more
    THROTTLED = "throttled"  # not carried out; every thread of that host pauses
    OVERLOADED = "overloaded"  # overload or maintenance: not carried out
    GATEWAY = "gateway"  # something between gave up: it may have been carried out
    FAILED = "failed"  # the system failed on this call: from 500 on it may have been carried out
    LOCKED = "locked"  # another transaction holds the row: not carried out, possible in a moment
    STALE = "stale"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    REJECTED = "rejected"
    NOT_READY = (
        "not_ready"  # the system lacks something that an administrator provides; no fault of the record
    )
    EXHAUSTED = "exhausted"  # no calls left for now: not sent again within this call
    CLOSED = "closed"  # the system takes no calls from us until an administrator acts
    REDIRECTED = "redirected"  # never followed, it would carry the token away
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a call is about: then its failure concerns one record, or the whole system."""

    RECORD = "record"
    SYSTEM = "system"


_D = Disposition

STATUSES: Final[Mapping[int, Disposition]] = MappingProxyType(
    {
        400: _D.REJECTED,
        401: _D.EXPIRED,
        403: _D.FORBIDDEN,
        404: _D.GONE,
        405: _D.REJECTED,
        406: _D.REJECTED,
        408: _D.GATEWAY,
        409: _D.STALE,
        410: _D.GONE,
        411: _D.REJECTED,
        412: _D.STALE,
        413: _D.REJECTED,
        415: _D.REJECTED,
        416: _D.REJECTED,
        422: _D.REJECTED,
        423: _D.LOCKED,
        429: _D.THROTTLED,
        500: _D.FAILED,
        501: _D.REJECTED,
        502: _D.GATEWAY,
        503: _D.OVERLOADED,
        504: _D.GATEWAY,
        507: _D.REJECTED,
        509: _D.THROTTLED,
    }
)

# Per system: what differs from the statuses above. An error code knows more than the status it comes with.
EXCEPTIONS: Final[Mapping[str, Mapping[int | str, Disposition]]] = MappingProxyType(
    {
        "partner_center": MappingProxyType(
            {
                "resourceModified": _D.STALE,
                "preconditionFailed": _D.STALE,
                "itemNotFound": _D.GONE,
            }
        ),
        "dynamics": MappingProxyType(
            {
                "0x80060882": _D.STALE,  # ConcurrencyVersionMismatch
                "0x80060892": _D.REJECTED,  # DuplicateRecordEntityKey: no version cause, though a 412
                "0x80040237": _D.REJECTED,  # DuplicateRecord, likewise
                "0x80040333": _D.REJECTED,  # DuplicateRecordsFound, likewise; 412 or 500
                "0x80060891": _D.GONE,  # RecordNotFoundByEntityKey
                "0x80040217": _D.GONE,  # ObjectDoesNotExist
                "0x80071154": _D.LOCKED,  # ConcurrentOperationFailure
                "0x80044150": _D.LOCKED,  # generic SQL error, a deadlock among them
                "0x80044151": _D.LOCKED,  # SQL timeout
                "0x80060890": _D.NOT_READY,  # EntityKeyNotDefined: no such key, or its index is not built yet
                "0x80072321": _D.THROTTLED,  # service protection: execution time
                "0x80072322": _D.THROTTLED,  # service protection: number of requests
                "0x80072326": _D.THROTTLED,  # service protection: parallel requests
                "0x8005F103": _D.THROTTLED,  # Throttling
            }
        ),
        "salesforce": MappingProxyType(
            {
                300: _D.REJECTED,  # several rows have that external id
                409: _D.REJECTED,
                "INVALID_SESSION_ID": _D.EXPIRED,  # a 401, for some clients a 403
                "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE": _D.STALE,
                "PRECONDITION_FAILED": _D.STALE,
                "ENTITY_IS_DELETED": _D.GONE,
                "NOT_FOUND": _D.GONE,
                "INVALID_ID_FIELD": _D.GONE,
                "UNABLE_TO_LOCK_ROW": _D.LOCKED,
                "SERVER_UNAVAILABLE": _D.OVERLOADED,
                "ORG_IN_MAINTENANCE": _D.OVERLOADED,
                "TOO_MANY_APEX_REQUESTS": _D.FAILED,
                "REQUEST_RUNNING_TOO_LONG": _D.FAILED,
                "QUERY_TIMEOUT": _D.FAILED,
                "TXN_SECURITY_METERING_ERROR": _D.FAILED,
                "ALL_OR_NONE_OPERATION_ROLLED_BACK": _D.FAILED,
                "PROCESSING_HALTED": _D.FAILED,
                "UNKNOWN_EXCEPTION": _D.FAILED,
                "REQUEST_LIMIT_EXCEEDED": _D.EXHAUSTED,  # a 403; the daily allocation, or too many long calls
                "API_CURRENTLY_DISABLED": _D.CLOSED,
                "API_DISABLED_FOR_ORG": _D.CLOSED,
                "ORG_LOCKED": _D.CLOSED,
                "STORAGE_LIMIT_EXCEEDED": _D.CLOSED,
            }
        ),
    }
)
_ANY_CASE: Final = {
    system: {key.lower() if isinstance(key, str) else key: found for key, found in rows.items()}
    for system, rows in EXCEPTIONS.items()
}

# Answers after which the same read may be sent again.
TRANSIENT: Final = frozenset({_D.THROTTLED, _D.OVERLOADED, _D.GATEWAY, _D.FAILED, _D.LOCKED})
# Answers about the system and not about what the call asked for: no caller judges them itself.
SYSTEM_WIDE: Final = frozenset({_D.THROTTLED, _D.OVERLOADED, _D.EXHAUSTED, _D.CLOSED})
# Statuses from 400 to 499 that say something about the request, for callers that judge them themselves.
VERDICTS: Final = frozenset(range(400, 500)) - {401, 408, 429}

_RECORD_KINDS: Final[Mapping[Disposition, type[RecordError]]] = MappingProxyType(
    {
        _D.STALE: Stale,
        _D.GONE: Gone,
        _D.FAILED: Flaky,
        _D.LOCKED: Flaky,
        _D.NOT_READY: Flaky,
        _D.THROTTLED: Flaky,
        _D.OVERLOADED: Flaky,
        _D.GATEWAY: Flaky,
        _D.EXHAUSTED: Flaky,
    }
)
_UNAVAILABLE_TEXTS: Final[Mapping[Disposition, str]] = MappingProxyType(
    {
        _D.THROTTLED: "{name} is throttling us (status {status})",
        _D.OVERLOADED: "{name} is not available (status {status})",
        _D.GATEWAY: "{name} is not available (status {status})",
        _D.EXHAUSTED: "{name} takes no calls from us now ({code})",
        _D.CLOSED: "{name} takes no calls from us now ({code})",
    }
)


@dataclass(frozen=True)
class Refusal:
    """An answer that is not a success, with what the error about it needs.

    ``name`` of the system in texts. ``may_have_landed``: it was a write, so a failure that proves nothing is
    ``Unclear``. ``hint``: what a person can check.
    """

    system: str
    disposition: Disposition
    body: ErrorBody
    status: int
    name: str = ""
    host: str = ""
    request_id: str = ""
    retry_at: datetime | None = None
    may_have_landed: bool = False
    hint: str = ""

    @property
    def code(self) -> str:
        return self.body.code or f"http_{self.status}"

    @property
    def surely_not_landed(self) -> bool:
        return surely_not_landed(self.disposition, self.status)


def disposition(system: str, status: int | None, code: str = "") -> Disposition:
    """What an answer of that status and error code says. ``status`` None: one row of an answer, with a code only."""
    known = _ANY_CASE.get(system, {})
    if status is not None and 200 <= status < 300:
        return Disposition.DONE
    if code and (found := known.get(code.lower())):
        return found
    if status is None:
        return Disposition.REJECTED
    if found := known.get(status):
        return found
    if 300 <= status < 400:
        return Disposition.REDIRECTED
    return STATUSES.get(status, Disposition.UNKNOWN)


def surely_not_landed(found: Disposition, status: int) -> bool:
    """Whether the answer proves that nothing was done, so that a guarded write may be sent again."""
    if found is Disposition.FAILED:
        return status < 500
    return found in {Disposition.THROTTLED, Disposition.OVERLOADED, Disposition.LOCKED}


def record_kind(found: Disposition) -> type[RecordError]:
    """The error of one record that was answered so."""
    return _RECORD_KINDS.get(found, Rejected)


def to_error(refusal: Refusal, scope: Scope) -> CosellError:
    """The error that an answer becomes, once nothing more is tried."""
    found, status, code = refusal.disposition, refusal.status, refusal.code
    name = refusal.name or refusal.system
    text = refusal.body.text or f"{name} answered {status} without a reason"
    if (
        refusal.may_have_landed
        and found in {Disposition.GATEWAY, Disposition.FAILED}
        and not refusal.surely_not_landed
    ):
        return Unclear(text, code=code, status=status, request_id=refusal.request_id)
    if found in _UNAVAILABLE_TEXTS:
        words = _UNAVAILABLE_TEXTS[found].format(name=name, status=status, code=code)
        return Unavailable(
            refusal.system, words, code=code, status=status, retry_at=refusal.retry_at, hint=refusal.hint
        )
    if found is Disposition.EXPIRED:
        words = f"{name} refuses a token that it just gave out"
        return AuthFailed(refusal.system, words, code=code, status=status, hint=refusal.hint)
    if found is Disposition.REDIRECTED:  # never about one record: a proxy or a wrong address answers
        words = f"{refusal.host or name} answered with a redirect, which is never followed"
        hint = refusal.hint or "check the configured URL"
        return Unavailable(refusal.system, words, code="redirect", status=status, hint=hint)
    if scope is Scope.SYSTEM and found not in {Disposition.REJECTED, Disposition.NOT_READY}:
        return _about_the_system(refusal, name)
    fields = (refusal.body.target,) if refusal.body.target else ()
    return record_kind(found)(text, code=code, status=status, fields=fields, request_id=refusal.request_id)


def _about_the_system(refusal: Refusal, name: str) -> CosellError:
    if refusal.disposition is Disposition.FORBIDDEN:
        return AuthFailed(
            refusal.system,
            f"{name} refuses access (status {refusal.status})",
            code=refusal.code,
            status=refusal.status,
            hint="check the roles and permissions of the signed-in user",
        )
    return Unavailable(
        refusal.system,
        f"{name} answered {refusal.status} to a basic call",
        code=refusal.code,
        status=refusal.status,
        hint=refusal.hint,
    )


# --- no answer --------------------------------------------------------------------------------------------------


def connection_failure(cause: BaseException) -> tuple[str, bool]:
    """A failure without an answer: its code for logs, and whether the request may have reached the system."""
    if _distrusted(cause):
        return "certificate", False
    for kind, code, sent in _CONNECTION_FAILURES:
        if isinstance(cause, kind):
            return code, sent
    return "transport", True


def _distrusted(cause: BaseException | None) -> bool:
    """Whether it was the certificate, and not a connection that broke inside TLS."""
    for _ in range(8):
        if cause is None:
            return False
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


_CONNECTION_FAILURES: Final[tuple[tuple[type[BaseException], str, bool], ...]] = (
    (httpx.ConnectTimeout, "connect_timeout", False),
    (httpx.PoolTimeout, "pool_timeout", False),
    (httpx.ConnectError, "connect", False),
    (httpx.ProxyError, "proxy", False),
    (httpx.UnsupportedProtocol, "protocol", False),
    (httpx.LocalProtocolError, "protocol", False),
    (httpx.InvalidURL, "protocol", False),
    (UnicodeError, "protocol", False),
    (RuntimeError, "protocol", False),
    (httpx.ReadTimeout, "read_timeout", True),
    (httpx.WriteTimeout, "write_timeout", True),
    (httpx.RemoteProtocolError, "broken_answer", True),
    (httpx.NetworkError, "reset", True),
    (httpx.DecodingError, "broken_answer", True),
)
