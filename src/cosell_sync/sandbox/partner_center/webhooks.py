"""Partner Center's webhooks: one registration, events signed as the real ones, delivered with its tries, and badly on demand.

https://learn.microsoft.com/partner-center/developer/partner-center-webhooks: a registration for the tenant without a DELETE,
events to an https address, ten tries, a signature over the raw body by a certificate of Microsoft Corporation that stands at an
address of its own.
"""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import httpx
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.partner_center.schema import ORGANIZATION_ID, Document

BASE: Final = "/webhooks/v1"
CERTIFICATE: Final = "/cert/pcnotifications-dispatch.microsoft.com.cer"
NAMES: Final = (
    "referral-created",
    "referral-updated",
    "related-referral-created",
    "related-referral-updated",
    "test-created",
)
TRIES: Final = 10
PAUSE: Final = 0.2  # seconds between two tries; the real spacing is not published
TIMEOUT: Final = 30.0
RESOURCE: Final = "https://api.partnercenter.microsoft.com/engagements/v1/referrals"
_LOOPBACK: Final = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?/")


@dataclass
class Signer:
    """An authority and a signing certificate; a second one is a forger."""

    organization: str = "Microsoft Corporation"
    _key: RSAPrivateKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.authority = trustme.CA(organization_name=self.organization, key_type=trustme.KeyType.RSA)
        leaf = self.authority.issue_cert(
            "pcnotifications-dispatch.microsoft.com",
            organization_name=self.organization,
            key_type=trustme.KeyType.RSA,
        )
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        assert isinstance(key, RSAPrivateKey)  # noqa: S101 - as asked for
        self._key = key
        self.certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())

    def sign(self, body: bytes) -> str:
        """The value of the signature header."""
        return "Signature " + base64.b64encode(self._key.sign(body, PKCS1v15(), hashes.SHA256())).decode()

    @property
    def der(self) -> bytes:
        """The signing certificate, as its address gives it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


@cache
def _microsoft() -> Signer:
    """One for all sandboxes of a process: making its keys takes a good part of a test's time."""
    return Signer()


@dataclass
class Mischief:
    """How the next events go wrong. ``copies``: sent so often. ``drop``: so many are not sent. ``delay``: seconds late.

    ``forged``: signed by somebody else's certificate. ``tampered``: the body is changed after it was signed. ``backwards``: a
    batch is held until ``release`` and sent in the wrong order.
    """

    copies: int = 1
    drop: int = 0
    delay: float = 0.0
    forged: bool = False
    tampered: bool = False
    backwards: bool = False


@dataclass
class Delivery:
    """One try: when, to where, what came back (0: nothing)."""

    event: str
    status: int
    at: str


class Webhooks:
    """The registration and the deliveries. ``address``: of the server itself, where the certificate stands."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.address = ""
        self.registration: Document | None = None
        self.mischief = Mischief()
        self.deliveries: list[Delivery] = []
        self._forger: Signer | None = None
        self._held: list[Document] = []
        self._validations: dict[str, Document] = {}
        self._work: queue.Queue[Document | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Webhooks:
        """A copy of the referrals, taken to come back to a moment, tells the same subscriber."""
        return self

    @property
    def signer(self) -> Signer:
        """Microsoft's."""
        return _microsoft()

    @property
    def authority_pem(self) -> bytes:
        """The root of the signing chain."""
        return self.signer.authority.cert_pem.bytes()

    # ------------------------------------------------------------ registration

    def answers(self, path: str) -> bool:
        """Whether this path is of the webhook API or of the certificate."""
        return path.startswith(BASE) or path == CERTIFICATE

    def answer(self, request: Request) -> Response:
        """One request; the caller has checked the sign-in."""
        match request.method, request.path.removeprefix(BASE).rstrip("/"):
            case "GET", "/registration/events":
                return Response(200, list(NAMES))
            case "GET", "/registration":
                return (
                    Response(200, self.registration) if self.registration else _error(404, "not registered")
                )
            case "POST", "/registration":
                if self.registration:
                    return _error(409, "already registered")
                return self._register(request, 201)
            case "PUT", "/registration":
                return self._register(request, 200) if self.registration else _error(404, "not registered")
            case "POST", "/registration/validationEvents":
                return self._validate()
            case "GET", path if found := re.fullmatch(r"/registration/validationEvents/([\w-]+)", path):
                known = self._validations.get(found[1])
                return Response(200, known) if known else _error(404, "no such validation")
        return _error(404, "no such resource")

    def _register(self, request: Request, status: int) -> Response:
        body = request.json()
        url, events = body.get("WebhookUrl"), body.get("WebhookEvents")
        # Plain http only to this machine, where no certificate is to be had; the real service takes https.
        if not isinstance(url, str) or not (url.startswith("https://") or _LOOPBACK.match(url)):
            return _error(400, "WebhookUrl must be https")
        if not isinstance(events, list) or not set(events) <= set(NAMES):
            return _error(400, "WebhookEvents names an unknown event")
        self.registration = {
            "SubscriberId": str(uuid.uuid4()),
            "WebhookUrl": url,
            "WebhookEvents": events,
            "SignatureTokenToMsSignatureHeader": bool(body.get("SignatureTokenToMsSignatureHeader")),
        }
        return Response(status, self.registration)

    def _validate(self) -> Response:
        if not self.registration or "test-created" not in self.registration["WebhookEvents"]:
            return _error(400, "test-created is not registered")
        correlation = str(uuid.uuid4())
        self._validations[correlation] = {
            "correlationId": correlation,
            "status": "started",
            "callbackUrl": self.registration["WebhookUrl"],
            "results": [],
        }
        self._send({**_event("test-created", correlation, self.clock()), "correlation": correlation})
        return Response(200, {"correlationId": correlation})

    # ------------------------------------------------------------ events

    def changed(self, document: Document, *, created: bool) -> None:
        """A referral was written: tell who registered for it."""
        related = "" if document["organizationId"] == ORGANIZATION_ID else "related-"
        name = f"{related}referral-{'created' if created else 'updated'}"
        if self.registration is None or name not in self.registration["WebhookEvents"]:
            return
        event = _event(name, document["id"], self.clock())
        if self.mischief.backwards:
            self._held.append(event)
        else:
            self._send(event)

    def replay(self, event: Document) -> None:
        """Send an event once more, or one of one's own making."""
        self._send(event)

    def release(self) -> int:
        """Send what was held, the newest first; how many there were."""
        held, self._held = self._held[::-1], []
        for event in held:
            self._send(event)
        return len(held)

    def _send(self, event: Document) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, name="webhooks", daemon=True)
            self._thread.start()
        self._work.put(event)

    def idle(self) -> bool:
        """Whether every event was delivered, or given up."""
        return not self._work.unfinished_tasks

    def stop(self) -> None:
        """Deliver nothing more."""
        self._work.put(None)

    def _deliver_all(self) -> None:
        with httpx.Client(verify=False, timeout=TIMEOUT, trust_env=False) as client:  # noqa: S501 - loopback, a toy's address
            while (event := self._work.get()) is not None:
                if self.mischief.drop > 0:
                    self.mischief.drop -= 1
                else:
                    if self.mischief.delay:
                        threading.Event().wait(self.mischief.delay)
                    for _ in range(self.mischief.copies):
                        self._deliver(client, event)
                self._work.task_done()

    def _deliver(self, client: httpx.Client, event: Document) -> None:
        correlation = event.get("correlation")
        registration = self.registration
        if registration is None:
            return
        body = json.dumps({key: value for key, value in event.items() if key != "correlation"}).encode()
        signer = self._signer()
        headers = {
            (
                "x-ms-signature" if registration["SignatureTokenToMsSignatureHeader"] else "Authorization"
            ): signer.sign(body),
            "x-ms-certificate-url": f"{self.address}{CERTIFICATE}",
            "x-ms-signature-algorithm": "rsa-sha256",
            "content-type": "application/json",
        }
        if self.mischief.tampered:
            body = body.replace(b'"AuditUri": null', b'"AuditUri": "x"')
        for _ in range(TRIES):
            try:
                status = client.post(registration["WebhookUrl"], content=body, headers=headers).status_code
            except httpx.HTTPError:
                status = 0
            self.deliveries.append(Delivery(event["EventName"], status, datetime.now(UTC).isoformat()))
            if correlation:
                self._note(correlation, status)
            if 200 <= status < 300:
                break
            threading.Event().wait(PAUSE)

    def _signer(self) -> Signer:
        if not self.mischief.forged:
            return self.signer
        self._forger = self._forger or Signer()
        return self._forger

    def _note(self, correlation: str, status: int) -> None:
        known = self._validations[correlation]
        done = 200 <= status < 300 or len(known["results"]) + 1 >= TRIES
        result = {
            "responseCode": str(status or ""),
            "responseMessage": "",
            "systemError": not status,
            "dateTimeUtc": datetime.now(UTC).isoformat(),
        }
        self._validations[correlation] = {
            **known,
            "status": "completed" if done else "started",
            "results": [*known["results"], result],
        }


def _event(name: str, resource: str, at: datetime) -> dict[str, Any]:
    moment = at.astimezone(UTC)
    return {
        "EventName": name,
        "ResourceUri": f"{RESOURCE}/{resource}",
        "ResourceName": "referral" if "referral" in name else "test",
        "AuditUri": None,
        "ResourceChangeUtcDate": f"{moment:%Y-%m-%dT%H:%M:%S.%f}7+00:00",
    }


def _error(status: int, sentence: str) -> Response:
    """Partner Center's older error shape."""
    return Response(
        status, {"code": str(status * 10), "description": sentence, "data": [], "source": "Webhooks"}
    )
