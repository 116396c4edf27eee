"""Whom TLS trusts: the system's certificate authorities, and those that the environment names."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

from cosell_sync.errors import ConfigError

TRUST_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def trust() -> ssl.SSLContext:
    """The system's certificate authorities, and those of SSL_CERT_FILE and REQUESTS_CA_BUNDLE where set.

    Raises ConfigError where one of them cannot be read.
    """
    context = ssl.create_default_context()
    for name in TRUST_VARIABLES:
        place = os.environ.get(name, "")
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
