"""The tenant's one webhook registration at Partner Center: read, replaced, tested.

There is one for the whole tenant and no DELETE: whoever registers takes the events from whoever had them, which may be
Microsoft's own connector. (learn.microsoft.com/partner-center/developer/partner-center-webhooks)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from cosell_sync.errors import Gone, Unavailable
from cosell_sync.transport.answers import Answer
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.exact_json import encode
from cosell_sync.transport.safety import Safety

SCOPE: Final = "https://api.partnercenter.microsoft.com/.default"
EVENTS: Final = (
    "referral-created",
    "referral-updated",
    "related-referral-created",
    "related-referral-updated",
)
TEST: Final = "test-created"
PATH: Final = "/webhooks/v1/registration"
CALLBACK: Final = "/webhooks/partner-center"


@dataclass(frozen=True)
class Registered:
    """Where events go, and which. ``own_header``: the signature stands in ``x-ms-signature``."""

    url: str
    events: tuple[str, ...]
    own_header: bool = False


@dataclass(frozen=True)
class Attempt:
    """One delivery of a test event. ``status``: what our address answered; None: nothing."""

    status: int | None
    at: str


class Registration:
    """``caller`` must know the sign-in for the webhook API, which is another audience than that of referrals."""

    def __init__(self, caller: HttpCaller) -> None:
        self._caller = caller

    def read(self) -> Registered | None:
        """What is registered; None: nothing. Raises ``AuthFailed`` and ``Unavailable``."""
        answer = self._call("GET", "", accept=(404,))
        return None if answer.status == 404 else _registered(answer.data)

    def events(self) -> Sequence[str]:
        """Names that may be registered."""
        named = self._call("GET", "/events").data
        if not isinstance(named, list):
            raise Unavailable("partner_center", "the list of webhook events is unreadable", code="unreadable")
        return [str(each) for each in named]

    def write(self, wanted: Registered, *, replace: bool) -> Registered:
        """Register, or with ``replace`` put it in the place of what is registered."""
        body = {
            "WebhookUrl": wanted.url,
            "WebhookEvents": list(wanted.events),
            "SignatureTokenToMsSignatureHeader": wanted.own_header,
        }
        return _registered(self._call("PUT" if replace else "POST", "", body=body).data)

    def test(self) -> str:
        """Ask for a test event; the id under which its deliveries can be read."""
        data = self._call("POST", "/validationEvents", body={}).data
        correlation = data.get("correlationId") if isinstance(data, Mapping) else None
        if not correlation:
            raise Unavailable("partner_center", "the test gave no correlation id", code="unreadable")
        return str(correlation)

    def attempts(self, correlation: str) -> tuple[bool, Sequence[Attempt]]:
        """Whether the test is over, and the deliveries so far."""
        try:
            data = self._call(
                "GET", f"/validationEvents/{quote(correlation, safe='')}", template="/validationEvents/{id}"
            ).data
        except Gone:
            return False, ()
        if not isinstance(data, Mapping):
            raise Unavailable("partner_center", "the result of the test is unreadable", code="unreadable")
        results = [each for each in data.get("results") or () if isinstance(each, Mapping)]
        return data.get("status") == "completed", [_attempt(each) for each in results]

    def _call(
        self,
        method: str,
        path: str,
        *,
        template: str = "",
        body: Mapping[str, Any] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Answer:
        return self._caller.call(
            method,
            PATH + path,
            template=PATH + (template or path),
            safety=Safety.READ if method == "GET" else Safety.ONCE,
            scope=Scope.SYSTEM,
            headers={"content-type": "application/json"} if body is not None else {},
            body=encode(body) if body is not None else None,
            accept=accept,
        )


def _registered(data: Any) -> Registered:
    events = data.get("WebhookEvents") if isinstance(data, Mapping) else None
    if not isinstance(events, list):
        raise Unavailable("partner_center", "the webhook registration is unreadable", code="unreadable")
    return Registered(
        str(data.get("WebhookUrl") or ""),
        tuple(str(each) for each in events),
        bool(data.get("SignatureTokenToMsSignatureHeader")),
    )


def _attempt(result: Mapping[str, Any]) -> Attempt:
    code = str(result.get("responseCode") or "")
    return Attempt(
        int(code) if code.isdecimal() and len(code) == 3 else None, str(result.get("dateTimeUtc") or "")
    )
