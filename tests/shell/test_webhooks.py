"""Whom the webhook listener believes: nobody but Microsoft's certificate, and nothing is fetched on a stranger's word."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID
from werkzeug.test import Client

from cosell_sync.sandbox.partner_center.webhooks import Signer
from cosell_sync.web import certificates
from cosell_sync.web.certificates import CertificateAway, Certificates
from cosell_sync.web.server import Application
from cosell_sync.web.signature import Trust, trust_from
from cosell_sync.web.webhooks import BODY_CAP, Event, Judge
from shell.test_web import GOOD

HOST = "certs.example"
URL = f"https://{HOST}/cert/x.cer"
ID = "2f0c6f3e-0000-4000-8000-000000000001"
EVENT = {
    "EventName": "referral-updated", "ResourceName": "referral", "AuditUri": None,
    "ResourceUri": f"https://api.partnercenter.microsoft.com/engagements/v1/referrals/{ID.upper()}",
    "ResourceChangeUtcDate": "2026-05-04T10:11:12.1234567+00:00",
}  # fmt: skip
MICROSOFT = Signer()
NOW = datetime.now(UTC)


class Bench:
    """A listener and what it fetched. ``served``: address → what stands there."""

    def __init__(
        self, trust: Trust | None = None, header: str = "authorization", now: datetime = NOW
    ) -> None:
        self.served: dict[str, bytes | Exception] = {URL: MICROSOFT.der}
        self.fetched: list[str] = []
        self.taken: list[Event] = []
        self.time = 0.0
        root = MICROSOFT.authority.cert_pem.bytes()
        source = Certificates([HOST, "other.example:8443"], get=self.get, monotonic=lambda: self.time)
        judge = Judge(header, source, trust or trust_from(root, "Microsoft Corporation"), lambda: now)
        self.web = Client(Application(lambda: GOOD, lambda: b"", judge=judge, take=self.taken.extend))

    def get(self, url: str) -> bytes:
        self.fetched.append(url)
        found = self.served.get(url, httpx.ConnectError("no"))
        if isinstance(found, Exception):
            raise found
        return found

    def post(
        self, event: Any = EVENT, *, sign: Callable[[bytes], str] = MICROSOFT.sign, **changes: str
    ) -> int:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        headers = {
            "Authorization": sign(body),
            "X-Ms-Certificate-Url": URL,
            "X-Ms-Signature-Algorithm": "rsa-sha256",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        return self.web.post("/webhooks/partner-center", data=body, headers=headers).status_code


def signed_by(key: Any) -> Callable[[bytes], str]:
    def sign(body: bytes) -> str:
        if isinstance(key, RSAPrivateKey):
            made = key.sign(body, PKCS1v15(), hashes.SHA256())
        else:
            assert isinstance(key, EllipticCurvePrivateKey)
            made = key.sign(body, ECDSA(hashes.SHA256()))
        return "Signature " + base64.b64encode(made).decode()

    return sign


def issued(
    authority: trustme.CA, organization: str | None, **options: Any
) -> tuple[bytes, Callable[[bytes], str]]:
    """A certificate of this authority, and what signs with it."""
    options.setdefault("key_type", trustme.KeyType.RSA)
    leaf = authority.issue_cert("signer.example", organization_name=organization, **options)
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    found = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    return found.public_bytes(serialization.Encoding.DER), signed_by(key)


def test_a_signed_event_is_taken_with_nothing_but_the_id_of_its_address() -> None:
    bench = Bench()
    assert bench.post() == 202
    assert bench.taken == [Event("referral-updated", ID, "2026-05-04T10:11:12.1234567+00:00")]
    assert (
        bench.post([EVENT, {**EVENT, "EventName": "test-created"}, {**EVENT, "EventName": "new-kind"}]) == 202
    )
    assert [each.referral_id for each in bench.taken] == [ID, ID, "", ""]
    assert bench.fetched == [URL]  # once


def test_an_event_without_a_referral_of_ours_is_told_from_another_by_all_that_it_says() -> None:
    bench = Bench()
    theirs = {**EVENT, "EventName": "related-referral-updated"}
    other = {**EVENT, "EventName": "new-kind"}
    later = {**other, "ResourceChangeUtcDate": "2026-05-04T10:11:13Z"}
    assert bench.post([theirs, other, other, later, {**other, "ResourceUri": None}]) == 202
    assert bench.taken[0] == Event("related-referral-updated", ID, EVENT["ResourceChangeUtcDate"] or "")
    digests = [each.changed for each in bench.taken[1:]]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_other_header_counts_only_where_it_was_registered() -> None:
    assert Bench().post(Authorization="", X_Ms_Signature=MICROSOFT.sign(json.dumps(EVENT).encode())) == 401
    own = Bench(header="x-ms-signature")
    assert own.post() == 401
    assert (
        own.post(Authorization="Bearer x", X_Ms_Signature=MICROSOFT.sign(json.dumps(EVENT).encode())) == 202
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://certs.example/cert/x.cer",
        "https://evil.example/cert/x.cer",
        "https://certs.example.evil.example/x.cer",
        "https://certs.example@evil.example/x.cer",
        "https://evil.example@certs.example/x.cer",
        "https://certs.example:8443/x.cer",
        "https://other.example/x.cer",
        "https://certs.example/x.cer?next=https://evil.example",
        "https://certs.example/x.cer#y",
        "https://127.0.0.1/x.cer",
        "https://[::1/x.cer",
        "file:///etc/passwd",
        "ftp://certs.example/x.cer",
    ],
)
def test_no_other_place_is_ever_asked(url: str) -> None:
    bench = Bench()
    assert bench.post(X_Ms_Certificate_Url=url) == 401
    assert bench.fetched == []


@pytest.mark.parametrize("algorithm", ["rsa-sha1", "rsa-md5", "none", "hmac-sha256", "", "ecdsa-sha256"])
def test_no_other_algorithm_is_believed_or_fetched_for(algorithm: str) -> None:
    bench = Bench()
    assert bench.post(X_Ms_Signature_Algorithm=algorithm) == 401
    assert bench.fetched == []


@pytest.mark.parametrize(
    "signature",
    ["", "Signature ", "Signature !!!", "Bearer abc", "Signature " + base64.b64encode(b"x" * 256).decode()],
)
def test_a_signature_that_does_not_fit(signature: str) -> None:
    assert Bench().post(Authorization=signature) == 401


def test_a_changed_body_is_refused() -> None:
    made = MICROSOFT.sign(json.dumps(EVENT).encode())
    bench = Bench()
    assert bench.post({**EVENT, "AuditUri": "x"}, sign=lambda _: made) == 401
    assert bench.post(json.dumps(EVENT).encode() + b" ", sign=lambda _: made) == 401
    assert bench.taken == []


def test_whose_certificate_it_is() -> None:
    """Another root; another organization under the right root, as subject or as issuer; a key of another kind; too early."""
    strangers = Signer()
    bench = Bench()
    bench.served[URL] = strangers.der
    assert bench.post(sign=strangers.sign) == 401
    der, sign = issued(MICROSOFT.authority, "Fabrikam")
    bench = Bench()
    bench.served[URL] = der
    assert bench.post(sign=sign) == 401
    fabrikam = Signer("Fabrikam")
    der, sign = issued(fabrikam.authority, "Microsoft Corporation")
    bench = Bench(trust_from(fabrikam.authority.cert_pem.bytes(), "Microsoft Corporation"))
    bench.served[URL] = der
    assert bench.post(sign=sign) == 401
    der, sign = issued(MICROSOFT.authority, "Microsoft Corporation", key_type=trustme.KeyType.ECDSA)
    bench = Bench()
    bench.served[URL] = der
    assert bench.post(sign=sign) == 401
    assert Bench(now=datetime(1999, 1, 1, tzinfo=UTC)).post() == 401
    der, sign = issued(MICROSOFT.authority, "Microsoft Corporation", not_after=NOW - timedelta(days=1))
    bench = Bench()
    bench.served[URL] = der
    assert bench.post(sign=sign) == 401


def test_a_leaf_issues_nothing() -> None:
    """A certificate of Microsoft's that is no authority must not vouch for another."""
    leaf, _ = issued(MICROSOFT.authority, "Microsoft Corporation")
    strangers = Signer()
    trust = trust_from(MICROSOFT.authority.cert_pem.bytes(), "Microsoft Corporation")
    bench = Bench(replace(trust, intermediates=(x509.load_der_x509_certificate(leaf),)))
    bench.served[URL] = strangers.der
    assert bench.post(sign=strangers.sign) == 401


def test_a_chain_over_an_intermediate_from_the_file_or_the_address() -> None:
    between = MICROSOFT.authority.create_child_ca(key_type=trustme.KeyType.RSA)
    (organization,) = (
        str(each.value)
        for each in x509.load_pem_x509_certificate(between.cert_pem.bytes()).subject
        if each.oid == NameOID.ORGANIZATION_NAME
    )
    leaf = between.issue_cert("signer.example", organization_name=organization, key_type=trustme.KeyType.RSA)
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    roots = MICROSOFT.authority.cert_pem.bytes()
    whole = Bench(trust_from(roots + between.cert_pem.bytes(), organization))
    whole.served[URL] = leaf.cert_chain_pems[0].bytes()
    assert whole.post(sign=signed_by(key)) == 202
    chained = Bench(trust_from(roots, organization))
    chained.served[URL] = b"".join(each.bytes() for each in leaf.cert_chain_pems)
    assert chained.post(sign=signed_by(key)) == 202
    lone = Bench(trust_from(roots, organization))
    lone.served[URL] = leaf.cert_chain_pems[0].bytes()
    assert lone.post(sign=signed_by(key)) == 401  # nothing is fetched to complete a chain


@pytest.mark.parametrize(
    "event",
    [
        {},
        {**EVENT, "EventName": 3},
        {**EVENT, "ResourceUri": "https://api.partnercenter.microsoft.com/engagements/v1/referrals/../../x"},
        {**EVENT, "ResourceUri": None},
        {**EVENT, "ResourceChangeUtcDate": "yesterday"},
        {**EVENT, "EventName": "x" * 200},
    ],
)
def test_what_is_signed_and_no_event_is_malformed(event: dict[str, object]) -> None:
    bench = Bench()
    assert bench.post(event) == 400
    assert bench.taken == []


def test_large_and_malformed_bodies_cost_no_fetch() -> None:
    bench = Bench()
    assert bench.post(b"x" * (BODY_CAP + 1), sign=lambda _: "Signature eA==") == 413
    assert bench.post(b"not json", sign=lambda _: "Signature eA==") == 400
    assert bench.fetched == []


def test_a_certificate_that_cannot_be_had_is_asked_for_again_after_a_minute() -> None:
    bench = Bench()
    bench.served[URL] = CertificateAway("404")
    assert [bench.post(), bench.post()] == [503, 503]
    bench.served[URL] = b"no certificate"
    bench.time = certificates.FAILURE_KEPT + 1
    assert bench.post() == 503
    bench.served[URL] = MICROSOFT.der
    bench.time *= 2.1
    assert bench.post() == 202
    assert len(bench.fetched) == 3
    bench.time += certificates.KEPT + 1
    assert bench.post() == 202
    assert len(bench.fetched) == 4


def test_addresses_are_not_remembered_without_end() -> None:
    source = Certificates([HOST], get=lambda _: b"no certificate")
    for number in range(certificates.MOST * 2):
        with pytest.raises(CertificateAway):
            source.at(f"https://{HOST}/{number}.cer")
    assert len(source._known) == certificates.MOST


def test_what_cannot_be_stored_is_not_confirmed() -> None:
    def full(_: object) -> None:
        raise OSError("disk")

    bench = Bench()
    bench.web = Client(Application(lambda: GOOD, lambda: b"", judge=_judge(bench), take=full))
    assert bench.post() == 500


def _judge(bench: Bench) -> Judge:
    source = Certificates([HOST], get=bench.get)
    trust = trust_from(MICROSOFT.authority.cert_pem.bytes(), "Microsoft Corporation")
    return Judge("authorization", source, trust, lambda: NOW)
