"""The fake Partner Center: sign-in and Microsoft's referral service behind HTTP.

Clients meet the rules of the real service (`rest`, `rules`, `query`). What colleagues and Microsoft do is in `actions`;
`/_sandbox/…` offers the same over HTTP.
"""

from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from cosell_sync.sandbox.control import PREFIX, Asked, Route, Router
from cosell_sync.sandbox.entra import WEBHOOKS, Entra
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.partner_center.actions import Actions
from cosell_sync.sandbox.partner_center.rules import Switches
from cosell_sync.sandbox.partner_center.schema import Document
from cosell_sync.sandbox.partner_center.webhooks import CERTIFICATE, Mischief


class PartnerCenter(Actions):
    """The portal and its API, served: an App."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        entra: Entra | None = None,
        switches: Switches | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(clock, entra=entra, switches=switches, seed=seed)
        self._control = Router(self._routes())

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def __call__(self, request: Request) -> Response:
        if request.path.startswith(PREFIX):
            with self._lock:
                unknown = Response(404, {"error": "unknown control path", "paths": CONTROL_PATHS})
                return self._control.answer(request) or unknown
        if request.path == "/devicelogin":
            return self._device_login()
        if self.entra.answers(request.path):
            return self.entra(request)
        if self.webhooks.answers(request.path):
            return self._webhook_api(request)
        with self._lock:
            return self._rest.answer(request)

    def _webhook_api(self, request: Request) -> Response:
        """The registration, for a token of its own audience; the certificate, for everybody."""
        if request.path == CERTIFICATE:
            return Response(200, self.webhooks.signer.der, {"Content-Type": "application/pkix-cert"})
        if not self.entra.is_signed_in(request.headers.get("Authorization"), WEBHOOKS):
            return Response(
                401, {"code": "900420", "description": "Unauthorized", "data": [], "source": "Webhooks"}
            )
        with self._lock:
            return self.webhooks.answer(request)

    def _mischief(self, asked: Asked) -> dict[str, Any]:
        """Read, and change with a PATCH, how events go wrong."""
        for name, value in asked.body.items():
            if name not in {one.name for one in fields(Mischief)}:
                raise LookupError(name)
            setattr(self.webhooks.mischief, name, value)
        return asdict(self.webhooks.mischief)

    def _device_login(self) -> Response:
        """Where a device-code sign-in sends a person: here, opening the page is the agreement."""
        page = f"<!DOCTYPE html><title>Sandbox</title><p>Sign-ins approved: {self.entra.approve()}. You may close this page."
        return Response(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})

    def _routes(self) -> tuple[Route, ...]:
        """The control addresses: what the methods above do, over HTTP."""

        def move(act: Callable[..., Document]) -> Callable[[Asked], object]:
            return lambda asked: act(asked.steps["id"], **asked.body)

        return (
            Route("GET", "referrals", self._listed),
            Route("POST", "referrals", lambda asked: self.add(**asked.body)),
            Route("GET", "referrals/{id}", lambda asked: self.get(asked.steps["id"])),
            Route("PATCH", "referrals/{id}", lambda asked: self.edit(asked.steps["id"], asked.body)),
            Route("POST", "referrals/{id}/accept", move(self.accept)),
            Route("POST", "referrals/{id}/decline", move(self.decline)),
            Route("POST", "referrals/{id}/win", move(self.win)),
            Route("POST", "referrals/{id}/lose", move(self.lose)),
            Route("POST", "referrals/{id}/remove", lambda asked: self.remove(asked.steps["id"])),
            Route("POST", "referrals/{id}/restore", lambda asked: self.restore(asked.steps["id"])),
            Route("POST", "referrals/{id}/microsoft", move(self.microsoft_joins)),
            Route("POST", "engagements/{id}/microsoft", move(self.microsoft_answers)),
            Route("POST", "expire", lambda _: self.expire_due()),
            Route("POST", "approve", lambda asked: {"approved": self.approve(asked.body.get("user_code"))}),
            Route("POST", "expire-tokens", lambda _: self.expire_tokens()),
            Route("POST", "revoke-refresh-tokens", lambda _: self.revoke_refresh_tokens()),
            Route("GET", "webhooks", lambda _: [asdict(each) for each in self.webhooks.deliveries]),
            Route("GET", "webhooks/mischief", self._mischief),
            Route("PATCH", "webhooks/mischief", self._mischief),
            Route("POST", "webhooks/release", lambda _: {"sent": self.webhooks.release()}),
            Route("POST", "webhooks/replay", lambda asked: self.webhooks.replay(asked.body)),
            Route("POST", "refuse-sign-ins", lambda asked: self.entra.arm(**asked.body)),
            Route("POST", "sign-ins", lambda asked: self.entra.set_policies(**asked.body)),
            Route("GET", "violations", lambda _: [asdict(violation) for violation in self.violations]),
            Route("GET", "switches", self._switched),
            Route("PATCH", "switches", self._switched),
        )

    def _listed(self, asked: Asked) -> list[Document]:
        return [
            row for row in self.all() if all(row.get(name) == value for name, value in asked.query.items())
        ]

    def _switched(self, asked: Asked) -> dict[str, Any]:
        for name, value in asked.body.items():
            if name not in {one.name for one in fields(Switches)}:
                raise LookupError(name)
            setattr(self.switches, name, value)
        return asdict(self.switches)


CONTROL_PATHS = (
    "GET /_sandbox/referrals?status=New",
    "POST /_sandbox/referrals {kind, overrides…}",
    "GET|PATCH /_sandbox/referrals/ID {path: value}",
    "POST /_sandbox/referrals/ID/accept|decline|win|lose|remove|restore",
    "POST /_sandbox/engagements/ID/microsoft {status, substatus, reason, msx_id}",
    "POST /_sandbox/expire",
    "POST /_sandbox/approve {user_code}",
    "POST /_sandbox/expire-tokens",
    "POST /_sandbox/revoke-refresh-tokens",
    "GET /_sandbox/webhooks",
    "GET|PATCH /_sandbox/webhooks/mischief {copies, drop, delay, forged, tampered, backwards}",
    "POST /_sandbox/webhooks/release",
    "POST /_sandbox/webhooks/replay {EventName, ResourceUri, ResourceChangeUtcDate}",
    "POST /_sandbox/refuse-sign-ins {number: AADSTS number or null, at: authorize|devicecode|token}",
    "POST /_sandbox/sign-ins {mfa, block_device_code: no|told|silent, approve_at_once}",
    "GET /_sandbox/violations",
    "GET|PATCH /_sandbox/switches",
    "GET|POST|DELETE /_sandbox/faults {kind, method, path, body, times, skip, applied, status, headers, answer, seconds}",
    "GET|DELETE /_sandbox/calls",
)
