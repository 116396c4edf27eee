"""A ``requests`` session for a library that makes its own calls (MSAL), as careful as ``client`` is.

Left alone, MSAL takes a 500 or a web page for a programming error, writes unreadable answers into its log, forgets
``Retry-After`` from one sign-in to the next, and waits for as long as a server drips. So the session judges every answer
before the library sees it: what passes raises ``Passing``, which ``patiently`` tries again; what does not raises
``Unavailable``; JSON that says yes or no is the library's.

Only sign-ins travel here, and asking for a token twice is harmless.
"""

from __future__ import annotations

import functools
import json
import random
import ssl
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar

import requests
from urllib3.exceptions import MaxRetryError

from cosell_sync.errors import Unavailable
from cosell_sync.transport import errors
from cosell_sync.transport.deadline import Stopped, TooLong, apart
from cosell_sync.transport.throttle import Clock, Governor

CONNECT: Final = 10.0
TRIES: Final = 5
CAP: Final = 120.0  # seconds, all tries and waits together

T = TypeVar("T")


class Passing(Exception):
    """This try failed in a way that may pass; ``final`` is what to raise when there is no further try."""

    def __init__(self, final: Unavailable, after: float | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.after = after


def patiently(work: Callable[[], T], governor: Governor, clock: Clock) -> T:
    """Do it, again while what fails may pass, never sooner than the server asked, now or in an earlier call."""
    began = clock()
    attempt = 0
    while True:
        attempt += 1
        governor.admit(CAP)
        try:
            return work()
        except Passing as passing:
            wait = passing.after
            if wait is None:
                wait = min(20.0, 2.0 ** (attempt - 1)) * (0.5 + 0.5 * random.random())  # noqa: S311
            spent = (clock() - began).total_seconds()
            if attempt == TRIES or spent + wait > CAP:
                raise passing.final from None
        governor.wait(wait)


def careful(
    session: requests.Session, governor: Governor, clock: Clock, *, timeout: float, hint: str
) -> None:
    """``governor`` is that of the sign-in's host; ``hint``: what to check where nobody answers as a sign-in should."""
    session.max_redirects = 0  # the answer holds the key to everything
    session.request = functools.partial(  # type: ignore[method-assign]  # MSAL's own way to a timeout
        _request, session.request, governor, clock, timeout, hint
    )


def _request(
    plain: Callable[..., requests.Response],
    governor: Governor,
    clock: Clock,
    timeout: float,
    hint: str,
    *args: Any,
    **options: Any,
) -> requests.Response:
    system = governor.system
    options["timeout"] = (CONNECT, timeout)

    def away(text: str, code: str, **facts: Any) -> Unavailable:
        return Unavailable(system, f"the sign-in of {system} {text}", code=code, hint=hint, **facts)

    try:
        response = apart(
            lambda: plain(*args, **options),
            name=f"sign-in-{system}",
            limit=CONNECT + timeout,
            stopping=governor.stop.is_set,
        )
    except Stopped:
        raise Unavailable(system, "the program is stopping", code="stopping") from None
    except TooLong:
        raise Passing(away("does not answer in time", "read_timeout")) from None
    except requests.TooManyRedirects:
        raise away("answered with a redirect, which is never followed", "redirect") from None
    except requests.RequestException as cause:
        if distrusted(cause):
            raise away("shows a certificate that is not trusted", "certificate") from None
        raise Passing(away("cannot be reached", type(cause).__name__)) from None
    except OSError:  # requests says so when the bundle is not there
        raise Unavailable(
            system,
            "the certificate bundle cannot be read",
            code="certificate",
            hint="SSL_CERT_FILE or REQUESTS_CA_BUNDLE names a file that is missing or unreadable",
        ) from None
    status, code = response.status_code, f"http_{response.status_code}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        now = clock()
        after = errors.retry_after(response.headers.get("Retry-After"), now)
        if after is not None:
            governor.pause(after)
        at = None if after is None else now + timedelta(seconds=after)
        raise Passing(away(f"is not available (status {status})", code, status=status, retry_at=at), after)
    if not _is_object(response):
        strange = away("gave an unreadable answer", "unreadable", status=status)
        raise Passing(strange) if status < HTTPStatus.MULTIPLE_CHOICES else strange
    return response


def distrusted(error: BaseException) -> bool:
    """Whether it was the certificate, and not a connection that broke inside TLS."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return any(
        isinstance(each, ssl.SSLCertVerificationError)
        for each in (reason, *getattr(reason, "args", ()), getattr(reason, "__cause__", None))
    )


def _is_object(response: requests.Response) -> bool:
    try:
        return isinstance(json.loads(response.text), dict)
    except (ValueError, RecursionError):
        return False
