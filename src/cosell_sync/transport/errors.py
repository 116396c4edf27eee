"""Which error an answer becomes, and what a failure without an answer says. Pure.

An answer has a *disposition*: what it says about the request. It follows from the system's own error code where the table
(``codes``) knows it, for the code knows more than the status, else from the status. Which error the rest of the program sees
also depends on what the call was about: one record, or the system as a whole (a list, a sign-in). An unknown status
stops; it is not retried.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

import httpx

from cosell_sync.errors import (
    AuthFailed,
    CosellError,
    Flaky,
    Gone,
    Locked,
    RecordError,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.transport.answers import ErrorBody
from cosell_sync.transport.codes import Disposition, Scope, cure, disposition, meaning

__all__ = ["Disposition", "Scope", "disposition"]


_D = Disposition

# Answers after which the same read may be sent again.
TRANSIENT: Final = frozenset({_D.THROTTLED, _D.OVERLOADED, _D.GATEWAY, _D.FAILED, _D.LOCKED})
# Answers about the system and not about what the call asked for: no caller judges them itself.
SYSTEM_WIDE: Final = frozenset({_D.THROTTLED, _D.OVERLOADED, _D.EXHAUSTED, _D.CLOSED})
# Statuses from 400 to 499 that say something about the request, for callers that judge them themselves.
VERDICTS: Final = frozenset(range(400, 500)) - {401, 408, 429}

_RECORD_KINDS: Final[Mapping[Disposition, type[RecordError]]] = MappingProxyType(
    {
        _D.HELD: Locked,
        _D.CLOSED: Locked,  # of one row among others: the org has no room, and it is not the row's fault
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
# What a call about the system is answered so stays an error of what it asked for.
_ABOUT_A_RECORD: Final = frozenset({_D.REJECTED, _D.NOT_READY, _D.HELD})
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
        return _refused(refusal, f"{name} refuses a token that it just gave out", refusal.hint)
    if found is Disposition.REDIRECTED:  # never about one record: a proxy or a wrong address answers
        words = f"{refusal.host or name} answered with a redirect, which is never followed"
        hint = refusal.hint or "check the configured URL"
        return Unavailable(refusal.system, words, code="redirect", status=status, hint=hint)
    if scope is Scope.SYSTEM and found not in _ABOUT_A_RECORD:
        return _about_the_system(refusal, name)
    return record_kind(found)(
        text,
        code=code,
        status=status,
        fields=(refusal.body.target,) if refusal.body.target else (),
        request_id=refusal.request_id,
        cure=cure(refusal.system, refusal.body.code, found),
    )


def _about_the_system(refusal: Refusal, name: str) -> CosellError:
    if refusal.disposition is Disposition.FORBIDDEN:
        return _refused(
            refusal,
            f"{name} refuses access (status {refusal.status})",
            "check the roles and permissions of the signed-in user",
        )
    return Unavailable(
        refusal.system,
        f"{name} answered {refusal.status} to a basic call",
        code=refusal.code,
        status=refusal.status,
        hint=refusal.hint,
    )


def _refused(refusal: Refusal, words: str, hint: str) -> AuthFailed:
    """Words and hint: where the code says nothing of the sign-in itself."""
    known = meaning(refusal.system, refusal.body.code)
    if known is not None and known.says:
        words, hint = known.says, known.ends
    return AuthFailed(refusal.system, words, code=refusal.code, status=refusal.status, hint=hint)


# --- no answer --------------------------------------------------------------------------------------------------


def connection_failure(cause: BaseException) -> tuple[str, bool]:
    """A failure without an answer: its code for logs, and whether the request may have reached the system."""
    if _caused_by(cause, ssl.SSLCertVerificationError):
        return "certificate", False
    if _caused_by(cause, socket.gaierror):
        return "name_not_found", False
    for kind, code, sent in _CONNECTION_FAILURES:
        if isinstance(cause, kind):
            return code, sent
    return "transport", True


def _caused_by(cause: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether it was this, and not merely a connection that broke."""
    for _ in range(8):
        if cause is None:
            return False
        if isinstance(cause, kind):
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
