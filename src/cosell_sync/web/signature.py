"""Whether an event was signed by Microsoft: algorithm, chain, organization, signature. Pure: values in, a reason out.

The scheme is that of learn.microsoft.com/partner-center/developer/partner-center-webhooks: an RSA signature (PKCS#1 v1.5) over
the raw body, by a certificate whose issuer and subject are of Microsoft's organization.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

ALGORITHMS: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "rsa-sha256": hashes.SHA256(),
    "rsa-sha384": hashes.SHA384(),
    "rsa-sha512": hashes.SHA512(),
}
SHORTEST_KEY: Final = 2048  # bits
_WORD: Final = "signature "


class BadSignature(Exception):
    """The event is not proven to be Microsoft's. The text is a reason for the log, without any of the event's own words."""


@dataclass(frozen=True)
class Trust:
    """Whom we believe: chains that end in one of ``anchors``, perhaps over ``intermediates``, of this ``organization``."""

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    organization: str


def trust_from(pem: bytes, organization: str) -> Trust:
    """The certificates of a PEM file: self-signed ones are roots, the others lie between; without a root all are anchors.

    Raises ValueError where there is no certificate in it.
    """
    found = x509.load_pem_x509_certificates(pem)
    roots = tuple(each for each in found if each.subject == each.issuer)
    between = tuple(each for each in found if each.subject != each.issuer)
    return Trust(roots, between, organization) if roots else Trust(between, (), organization)


def certificates_from(data: bytes) -> list[x509.Certificate]:
    """What a certificate address gave: one in DER, or a chain in PEM, the signing one first. Raises ValueError."""
    if b"-----BEGIN" in data:
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def signature_in(header: str) -> bytes | None:
    """The signature of ``Signature <base64>``; None where the header carries none."""
    if not header.lower().startswith(_WORD):
        return None
    try:
        return base64.b64decode(header[len(_WORD) :].strip(), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def verify(
    body: bytes,
    signature: bytes,
    algorithm: str,
    chain: Sequence[x509.Certificate],
    trust: Trust,
    now: datetime,
) -> None:
    """Raise ``BadSignature`` unless ``chain[0]`` is trusted at this moment and has signed exactly this body."""
    hashing = ALGORITHMS.get(algorithm.strip().lower())
    if hashing is None:
        raise BadSignature("algorithm not allowed")
    leaf, *more = chain
    _check_chain(leaf, [*more, *trust.intermediates], trust, now)
    for whose, name in (("subject", leaf.subject), ("issuer", leaf.issuer)):
        if trust.organization not in [
            each.value for each in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ]:
            raise BadSignature(f"{whose} of another organization")
    key = leaf.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < SHORTEST_KEY:
        raise BadSignature("key too weak")
    try:
        key.verify(signature, body, PKCS1v15(), hashing)
    except InvalidSignature:
        raise BadSignature("signature does not fit the body") from None


def _check_chain(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> None:
    """A signing certificate names no server that we could compare, so its own extensions are its business; those of the
    authorities are checked.
    """
    authorities = ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, Criticality.AGNOSTIC, _must_be_authority
    )
    policy = (
        PolicyBuilder()
        .store(Store(list(trust.anchors)))
        .time(now)
        .max_chain_depth(4)
        .extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
    )
    try:
        policy.build_client_verifier().verify(leaf, list(between))
    except VerificationError:
        raise BadSignature("certificate not trusted") from None


def _must_be_authority(
    policy: object, certificate: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    del policy, certificate
    if constraints is None or not constraints.ca:
        raise ValueError("issued by a certificate that is no authority")
