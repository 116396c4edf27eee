"""Whom TLS trusts: the system's certificate authorities, and those that the environment names."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final

from cosell_sync.errors import ConfigError

TRUST_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def trust() -> ssl.SSLContext:
    """The system's certificate authorities, and those of SSL_CERT_FILE and REQUESTS_CA_BUNDLE where set.

    The same object for as long as these name the same files: reading the authorities takes 60 ms and leaves half a megabyte, and
    a process of a hundred connections has six hundred clients. Raises ConfigError where one of them cannot be read.
    """
    return _trust(
        tuple((name, _seen(os.environ.get(name, ""))) for name in (*TRUST_VARIABLES, "SSL_CERT_DIR"))
    )


def _seen(place: str) -> tuple[str, float]:
    """A file or directory as it is now: where it was renewed, it is another one."""
    try:
        return place, Path(place).stat().st_mtime if place else 0.0
    except OSError:
        return place, 0.0


@lru_cache(maxsize=4)
def _trust(places: tuple[tuple[str, tuple[str, float]], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name, (place, _) in places:
        if name not in TRUST_VARIABLES:
            continue
        try:
            if place and Path(place).is_dir():
                context.load_verify_locations(capath=place)
            elif place:
                context.load_verify_locations(cafile=place)
        except OSError as cause:
            raise ConfigError(
                f"{name} names certificates that cannot be read: {place}", hint=f"correct or unset {name}"
            ) from cause
    return context
