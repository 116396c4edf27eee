"""What is said on the wire, read and written without acting on it; beneath `rest`, which acts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import requests
import requests.auth
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Unavailable, Unclear

_WORD: Final = re.compile(r"oauth2|[A-Za-z_]+|v\d+\.\d")


class Again(Exception):
    """This try failed in a way that may pass; ``final`` is what to raise when there is no further try."""

    def __init__(self, final: Exception, after: float | None = None) -> None:
        super().__init__()
        self.final = final
        self.after = after


class Bearer(requests.auth.AuthBase):
    """The token as `auth`, because requests lets a `.netrc` overrule a mere header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def void(_: object) -> None:
    """Makes a call with a result into one without."""


def template(url: str) -> str:
    """A path for the log: no query, and of its parts only words that are Salesforce's or ours, no id and no key's value."""
    parts = urlsplit(url).path.removeprefix("/services/data/").split("/")
    known = [
        _WORD.fullmatch(part) and not before.endswith("__c")
        for before, part in zip(["", *parts], parts, strict=False)
    ]
    return "/".join(part if each else "…" for part, each in zip(parts, known, strict=True))


def nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials beside the form, whatever a `.netrc` offers."""
    return request


def expired(response: requests.Response) -> bool:
    return response.status_code == 401 or (
        response.status_code == 403 and any(each.code == "INVALID_SESSION_ID" for each in faults(response))
    )


def faults(response: requests.Response) -> tuple[errors.Fault, ...]:
    try:
        return errors.faults(response.json())
    except ValueError:
        return ()


def is_json(response: requests.Response) -> bool:
    try:
        response.json()
    except ValueError:
        return False
    return True


def never_stood(error: BaseException) -> bool:
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def unreachable(code: str) -> Unavailable:
    return Unavailable(SYSTEM, "Salesforce cannot be reached", code=code)


def lost(code: str, *, repeat: bool) -> Exception:
    """The request may have arrived: try again if that is harmless, else somebody must look."""
    if repeat:
        return Again(Unavailable(SYSTEM, "Salesforce gave no usable answer", code=code))
    return Unclear("Salesforce gave no usable answer; the change may have arrived", code=code)


def http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
