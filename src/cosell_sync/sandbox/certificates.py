"""A private certificate authority for the sandbox, so that clients check its certificates as they check real ones.

The authority lives as long as the process; a client trusts it through a PEM file (`SSL_CERT_FILE`).
"""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """One authority; every server context it hands out is for localhost and 127.0.0.1."""

    def __init__(self) -> None:
        self._authority = trustme.CA(organization_name="cosell-sync sandbox")
        self._leaf = self._authority.issue_cert("localhost", "127.0.0.1", "::1")

    @property
    def pem(self) -> bytes:
        """The authority's certificate as PEM."""
        return self._authority.cert_pem.bytes()

    def write(self, path: Path) -> Path:
        """Writes the authority's certificate for clients to trust."""
        path.write_bytes(self.pem)
        return path

    def server_context(self) -> ssl.SSLContext:
        """A TLS context for a server on localhost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._leaf.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context
