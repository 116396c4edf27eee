"""Signing certificates by address: from allowed hosts only, over TLS, once an hour; failures are remembered for a minute.

What an event names is a stranger's word until its signature is checked, so nothing else of it is ever fetched: no other host or
port, no redirect, no query, nothing large, one download at a time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
from cryptography import x509

from cosell_sync.transport.trust import trust
from cosell_sync.web.signature import BadSignature, certificates_from

LARGEST: Final = 64 * 1024  # bytes
TIMEOUT: Final = 3.0  # seconds; a request has five in all
KEPT: Final = 3600.0  # seconds
FAILURE_KEPT: Final = 60.0
MOST: Final = 50  # addresses remembered; the hosts are few, but their paths are a stranger's words


class CertificateAway(Exception):
    """The certificate could not be fetched now; the sender may try again."""


class Download(Protocol):
    """Gets the bytes at an address, without following redirects. Raises ``httpx.HTTPError`` or ``CertificateAway``."""

    def __call__(self, url: str) -> bytes: ...


def download(url: str) -> bytes:
    """One GET over TLS, at most ``LARGEST`` bytes within ``TIMEOUT`` seconds."""
    started = time.monotonic()
    with (
        httpx.Client(verify=trust(), follow_redirects=False, timeout=TIMEOUT) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise CertificateAway(f"status {answer.status_code}")
        data = b""
        for part in answer.iter_bytes(4096):
            data += part
            if len(data) > LARGEST or time.monotonic() - started > TIMEOUT:
                raise CertificateAway("too large or too slow")
    return data


@dataclass(frozen=True)
class _Known:
    chain: Sequence[x509.Certificate]  # empty: it could not be had
    until: float


class Certificates:
    """``hosts``: ``host`` or ``host:port``, as configured. May be called from several threads."""

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        get: Download = download,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = frozenset(each.lower() for each in hosts)
        self._get = get
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def at(self, url: str) -> Sequence[x509.Certificate]:
        """The chain at this address, the signing certificate first.

        Raises ``BadSignature`` where it may not be asked or is no certificate, ``CertificateAway`` where it cannot be had now.
        """
        self._allow(url)
        if not self._lock.acquire(timeout=TIMEOUT):
            raise CertificateAway("another download hangs")
        try:
            found = self._known.get(url)
            if found is None or found.until < self._monotonic():
                found = self._fetched(url)
                self._known[url] = found
                self._known.move_to_end(url)
                while len(self._known) > MOST:
                    self._known.popitem(last=False)
        finally:
            self._lock.release()
        if not found.chain:
            raise CertificateAway("not to be had")
        return found.chain

    def _allow(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadSignature("certificate address is no address") from None
        host = (parts.hostname or "").lower()
        named = host if port in {None, 443} else f"{host}:{port}"
        plain = parts.scheme == "https" and "@" not in parts.netloc and not parts.query and not parts.fragment
        if not plain or named not in self._hosts:
            raise BadSignature("certificate address not allowed")

    def _fetched(self, url: str) -> _Known:
        now = self._monotonic()
        try:
            return _Known(certificates_from(self._get(url)), now + KEPT)
        except (httpx.HTTPError, OSError, CertificateAway, ValueError):
            return _Known((), now + FAILURE_KEPT)
