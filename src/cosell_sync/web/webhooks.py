"""Partner Center's change events: checked, stored as hints, and answered.

A webhook is a hint, the poll is the truth: a good event says only that a referral is worth a look. The checks run cheapest
first: size, a signature header, an allowed algorithm and certificate address, the shape of the body, and only then the
certificate and the signature itself. Microsoft sends ``Authorization: Signature …``, or ``x-ms-signature`` where it was so
registered, with ``x-ms-certificate-url`` and ``x-ms-signature-algorithm``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol

from cryptography import x509

from cosell_sync.web.certificates import CertificateAway
from cosell_sync.web.signature import ALGORITHMS, BadSignature, Trust, signature_in, verify

BODY_CAP: Final = 64 * 1024
MOST_EVENTS: Final = 100  # in one body; Microsoft sends one

ACCEPTED: Final = 202
MALFORMED: Final = 400
UNSIGNED: Final = 401
TOO_LARGE: Final = 413
TRY_AGAIN: Final = 503

# Names that Microsoft's pages use. Others are answered like these and otherwise left alone.
OURS: Final = frozenset({"referral-created", "referral-updated"})
RELATED: Final = frozenset({"related-referral-created", "related-referral-updated"})
TEST: Final = "test-created"
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Event:
    """``referral_id``: of a related event another organization's; empty where the event names none. ``changed``: the moment that
    it names, as it was written; of an event without a referral a digest of all it says, by which a repetition is known.
    """

    name: str
    referral_id: str
    changed: str


class Source(Protocol):
    """Where signing certificates come from."""

    def at(self, url: str) -> Sequence[x509.Certificate]:
        """The chain at this address. Raises ``BadSignature`` or ``CertificateAway``."""


@dataclass(frozen=True)
class Verdict:
    """What is answered, why (for the log), and the events, which are empty unless they are proven to be Microsoft's."""

    status: int
    reason: str = ""
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Judge:
    """``header``: the one that carries the signature, as it was registered."""

    header: str
    source: Source
    trust: Trust
    clock: Callable[[], datetime]

    def __call__(self, headers: Headers, length: int | None, read: Callable[[], bytes]) -> Verdict:
        """``headers`` by names as WSGI gives them. ``read`` gives at most ``BODY_CAP`` + 1 bytes; it is called when it must be."""
        if length is not None and length > BODY_CAP:
            return Verdict(TOO_LARGE, "too large")
        signature = signature_in(headers.get(self.header.title(), ""))
        address = headers.get("X-Ms-Certificate-Url", "")
        algorithm = headers.get("X-Ms-Signature-Algorithm", "")
        if signature is None or not address or algorithm.strip().lower() not in ALGORITHMS:
            return Verdict(UNSIGNED, "not signed")
        body = read()
        if len(body) > BODY_CAP:
            return Verdict(TOO_LARGE, "too large")
        objects = objects_in(body)
        if objects is None:
            return Verdict(MALFORMED, "no JSON object")
        try:
            verify(body, signature, algorithm, self.source.at(address), self.trust, self.clock())
        except BadSignature as bad:
            return Verdict(UNSIGNED, str(bad))
        except CertificateAway:
            return Verdict(TRY_AGAIN, "certificate not to be had")
        events = events_in(objects)
        return Verdict(MALFORMED, "no event") if events is None else Verdict(ACCEPTED, "", events)


def refuse_all(headers: Headers, length: int | None, read: Callable[[], bytes]) -> Verdict:
    """Where webhooks are switched off nobody is believed; what is no event at all is still told apart."""
    if length is not None and length > BODY_CAP:
        return Verdict(TOO_LARGE, "too large")
    if not any(signature_in(headers.get(name, "")) for name in ("Authorization", "X-Ms-Signature")):
        return Verdict(UNSIGNED, "not signed")
    body = read()
    if len(body) > BODY_CAP:
        return Verdict(TOO_LARGE, "too large")
    malformed = objects_in(body) is None
    return Verdict(MALFORMED, "no JSON object") if malformed else Verdict(UNSIGNED, "webhooks are off")


def objects_in(body: bytes) -> list[dict[str, Any]] | None:
    """The JSON objects of a body, which is one or a list of them; None where it is neither, or too many."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    listed = data if isinstance(data, list) else [data]
    if not listed or len(listed) > MOST_EVENTS or not all(isinstance(each, dict) for each in listed):
        return None
    return listed


def events_in(objects: Sequence[Mapping[str, Any]]) -> tuple[Event, ...] | None:
    """The events; None where one of the objects is none."""
    events = tuple(_event(each) for each in objects)
    return None if None in events else tuple(each for each in events if each is not None)


def _event(data: Mapping[str, Any]) -> Event | None:
    """Of the address only its last step is used: it names another host and path than the API, and is a stranger's word."""
    name, uri, changed = (data.get(key) for key in ("EventName", "ResourceUri", "ResourceChangeUtcDate"))
    if not isinstance(name, str) or not name or len(name) > 100:
        return None
    if name not in OURS | RELATED:
        return Event(name, "", sha256(json.dumps([uri, changed]).encode()).hexdigest()[:32])
    last = uri.rstrip("/").rpartition("/")[2] if isinstance(uri, str) else ""
    if not _GUID.fullmatch(last) or not isinstance(changed, str) or not _is_moment(changed):
        return None
    return Event(name, last.lower(), changed)


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text[:40])
    except ValueError:
        return False
    return True
