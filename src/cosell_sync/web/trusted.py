"""The certificates that a webhook's chain may end in: a file of the configuration, else what this machine trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from cosell_sync.errors import ConfigError
from cosell_sync.web.signature import Trust, trust_from

_HINT = "give a PEM file with the roots and intermediates of Microsoft's signing chain"


def load_trust(file: str | None, organization: str) -> Trust:
    """``file``: PEM, roots and intermediates. Raises ConfigError where it cannot be read or holds no certificate."""
    if file is None:
        found = ssl.create_default_context().get_ca_certs(binary_form=True)
        roots = [x509.load_der_x509_certificate(each) for each in found]
        if not roots:
            raise ConfigError("webhooks: this machine trusts no certificate authority in a file", hint=_HINT)
        return Trust(tuple(roots), (), organization)
    try:
        return trust_from(Path(file).read_bytes(), organization)
    except OSError as error:
        raise ConfigError(
            f"webhooks.trusted_roots: {file} cannot be read: {error.strerror}", hint=_HINT
        ) from error
    except ValueError:
        raise ConfigError(f"webhooks.trusted_roots: {file} holds no certificate", hint=_HINT) from None
