"""The REST API of referrals: list, create, read and patch, with the rules and the error shape of the service.

Every mutating request on a closed referral is refused and recorded as a violation: the product promises to send none.
"""

import json
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cosell_sync.sandbox.entra import Entra
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.partner_center import query, rules, samples, schema
from cosell_sync.sandbox.partner_center.rows import Referrals, with_status
from cosell_sync.sandbox.partner_center.rules import Switches, at
from cosell_sync.sandbox.partner_center.schema import HELP, Document

REFERRALS = "/v1.0/engagements/referrals"
MICROSOFT_TARGET = {"type": "BusinessProfileLocation", "id": "msft"}

# Set by the service; values in a post are ignored.
SERVER_OWNED = frozenset(
    {
        "id",
        "engagementId",
        "organizationId",
        "organizationName",
        "createdDateTime",
        "updatedDateTime",
        "acceptedDateTime",
        "closedDateTime",
        "expirationDateTime",
        "direction",
        "status",
        "substatus",
        "links",
        "eTag",
        "registrationStatus",
        "registrations",
        "trackingInfo",
        "quality",
        "isSpam",
        "dealSensitivity",
    }
)


class Refusal(Exception):
    """An answer in the error shape of the service."""

    def __init__(self, status: int, code: str, sentence: str, target: str | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence, self.target = status, code, sentence, target

    def response(self) -> Response:
        """The refusal as a response."""
        error = {
            "code": self.code,
            "message": self.sentence[:1024],
            "target": self.target,
            "innerError": None,
        }
        return Response(self.status, {"error": error})


class MfaDemanded(Refusal):
    """A user who did not pass MFA, in the shape of Partner Center's other APIs
    (learn.microsoft.com/partner-center/developer/error-codes).
    """

    def __init__(self) -> None:
        super().__init__(401, "900421", "MFA is required to call this API: cosell.service@nordlicht.example.")

    def response(self) -> Response:
        error = {"code": self.code, "description": self.sentence, "data": [], "source": "PartnerFD"}
        return Response(self.status, error)


def _refuse(problems: list[rules.Problem]) -> None:
    if problems:
        sentence = "; ".join(f"{target.strip('/').replace('/', '.')} {wrong}" for target, wrong in problems)
        raise Refusal(400, "invalidRequest", sentence, problems[0][0].strip("/").replace("/", "."))


@dataclass(frozen=True)
class Violation:
    """A write that a client tried on a referral that was already closed."""

    method: str
    referral_id: str
    body: Any


@dataclass
class Rest:
    """Answers requests below REFERRALS. The caller holds the lock."""

    clock: Callable[[], datetime]
    entra: Entra
    switches: Switches
    referrals: Referrals
    random: random.Random
    violations: list[Violation]

    def answer(self, request: Request) -> Response:
        """The response to one request, with the headers of the service."""
        try:
            response = self._answer(request)
        except Refusal as refusal:
            response = refusal.response()
        except query.BadQuery as fault:
            response = Refusal(400, "invalidRequest", str(fault), fault.target).response()
        response.headers.setdefault("request-id", str(uuid.uuid4()))
        response.headers.setdefault("x-ms-ags-diagnostic", '{"ServerInfo":{"DataCenter":"Sandbox"}}')
        if client_request_id := request.headers.get("client-request-id"):
            response.headers["client-request-id"] = client_request_id
        return response

    def _answer(self, request: Request) -> Response:
        self._check_caller(request.headers.get("Authorization"))
        if not re.fullmatch(query.GUID, request.headers.get("client-request-id", "")):
            raise Refusal(
                400, "invalidRequest", "A client-request-id (GUID) is required.", "client-request-id"
            )
        single = re.fullmatch(rf"{REFERRALS}/({query.GUID})", request.path)
        if request.path == REFERRALS:
            match request.method:
                case "GET":
                    return self._list(request)
                case "POST":
                    return self._create(request)
            raise Refusal(405, "invalidRequest", f"{request.method} is not allowed here.")
        if single is None:
            raise Refusal(404, "itemNotFound", "There is no such resource.")
        document = self.referrals.documents.get(single[1].lower())
        if document is None or not self._in_sight(document):
            raise Refusal(404, "itemNotFound", "The referral does not exist or is out of scope.", "id")
        match request.method:
            case "GET":
                return Response(200, self._shown(document), {"ETag": document["eTag"]})
            case "PATCH":
                return self._patch(request, document)
        raise Refusal(405, "invalidRequest", f"{request.method} is not allowed here.")

    def _check_caller(self, authorization: str | None) -> None:
        if not self.entra.is_signed_in(authorization):
            raise Refusal(
                401, "unauthenticated", "The access token is missing, expired or for another audience."
            )
        if self.switches.demand_mfa and not self.entra.passed_mfa(authorization):
            raise MfaDemanded
        if not self.switches.referrals_role:
            raise Refusal(403, "accessDenied", "The user has no role for referrals.")

    def _list(self, request: Request) -> Response:
        asked = query.parse(request.query, date_filter=self.switches.date_filter)
        seen = (
            document
            for document in self.referrals.documents.values()
            if (asked.engagement or document["organizationId"] == schema.ORGANIZATION_ID)
            and self._in_sight(document)
        )
        rows, following = query.page(
            asked, seen, self.switches.page_size, keyset=self.switches.paging == "keyset"
        )
        host = request.headers.get("Host", "localhost")
        body: Document = {
            "@odata.context": f"https://{host}/v1.0/engagements/$metadata#referrals",
            "@odata.count": len(rows),  # of this page; the documentation does not say whether it is the total
            "value": [asked.shown(self._shown(row)) for row in rows],
        }
        if following:
            # As printed in Microsoft's samples: not https, and without /engagements.
            kept = "&".join(f"{name}={quote(value)}" for name, value in asked.options.items())
            body["@odata.nextLink"] = (
                f"http://{host}/v1.0/referrals?{kept}{'&' if kept else ''}$skiptoken={quote(following)}"
            )
        return Response(200, body)

    def _in_sight(self, document: Document) -> bool:
        """Whether the referral is of a location that the user's role covers; other organizations' rows have none of ours."""
        covered = self.switches.locations
        ours = document["organizationId"] == schema.ORGANIZATION_ID
        return covered is None or not ours or document["mpnId"] in covered

    def _create(self, request: Request) -> Response:
        body = _json(request)
        if not isinstance(body, dict):
            raise Refusal(400, "invalidRequest", "The body must be a referral.", "body")
        _refuse(rules.check_create(body, self.switches))
        if body.get("engagementId") is not None:
            return self._join(request, body)
        code = at(body, "inviteContext/assistanceRequestCode")
        invites = rules.invites_microsoft(body) or code in HELP
        if rules.invites_microsoft(body) and not self.switches.one_post:
            raise Refusal(
                400, "invalidRequest", "Microsoft is invited into an existing engagement.", "target"
            )
        stamp = self.referrals.now()
        ours = schema.merged(
            schema.merged(
                schema.blank(), {name: value for name, value in body.items() if name not in SERVER_OWNED}
            ),
            {
                "id": self._guid(),
                "engagementId": self._guid(),
                **schema.US,
                "createdDateTime": stamp,
                "acceptedDateTime": stamp,
                "status": "Active",
                "substatus": "Accepted",
                "direction": "Outgoing",
                # The kind of help is shown on the invited side only.
                "inviteContext": {"invitedBy": schema.US, "assistanceRequestCode": "Unknown"},
            },
        )
        if invites and self.switches.one_post:
            _refuse(rules.check_invitation({**body, "target": [MICROSOFT_TARGET]}, ours, self.switches))
        ours = rules.as_kept(
            schema.blank(), ours, replace(self.switches, accept_name=True)
        )  # a post has a name
        stored = self.referrals.put(ours, stamp=stamp)
        if invites and self.switches.one_post:
            self._invite(stored, body)
        return self._created(stored)

    def _join(self, request: Request, body: Document) -> Response:
        engagement_id = str(body["engagementId"]).lower()
        ours = next(
            (
                side
                for side in self.referrals.sides(engagement_id)
                if side["organizationId"] == schema.ORGANIZATION_ID
            ),
            None,
        )
        if ours is None:
            raise Refusal(404, "itemNotFound", "There is no such engagement of yours.", "engagementId")
        if ours["status"] == "Closed":
            self.violations.append(Violation(request.method, ours["id"], body))
            raise Refusal(400, "invalidRequest", "A closed referral cannot be changed.", "status")
        if ours["status"] != "Active":
            raise Refusal(400, "invalidRequest", "The referral has not been accepted yet.", "status")
        _refuse(rules.check_invitation(body, ours, self.switches))
        return self._created(self._invite(ours, body))

    def _invite(self, ours: Document, body: Document) -> Document:
        """Microsoft's side appears. A second invitation makes a second one, as in the service."""
        side = schema.merged(
            samples.microsoft_side(ours, self.clock(), self.random),
            {name: body[name] for name in ("name", "customerProfile", "details", "consent") if name in body},
        )
        side["createdDateTime"] = self.referrals.now()
        side["target"] = [MICROSOFT_TARGET]
        side["inviteContext"] = schema.merged(
            schema.blank()["inviteContext"], {**body["inviteContext"], "invitedBy": schema.US}
        )
        if self.switches.type_follows and ours["type"] != "Shared":
            self.referrals.put({**ours, "type": "Shared"})
        return self.referrals.put(side)

    def _created(self, document: Document) -> Response:
        return Response(self.switches.create_status, self._shown(document), {"ETag": document["eTag"]})

    def _shown(self, document: Document) -> Document:
        return rules.as_shown(document, self.switches)

    def _patch(self, request: Request, document: Document) -> Response:
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Refusal(
                415, "invalidRequest", f"The media type '{media_type}' is not supported.", "Content-Type"
            )
        operations = _json(request)
        if document["organizationId"] != schema.ORGANIZATION_ID:
            raise Refusal(
                403, "accessDenied", "The referral belongs to another organization.", "organizationId"
            )
        expected = request.headers.get("If-Match")
        if expected is not None and expected != "*":
            if not re.fullmatch(r'"[^"]*"', expected):
                raise Refusal(400, "invalidRequest", "If-Match must be an eTag with its quotes.", "If-Match")
            if expected != document["eTag"]:
                code, status = self.switches.stale_code, self.switches.stale_status
                raise Refusal(status, code, "The referral was changed in the meantime.", "eTag")
        if document["status"] == "Closed":
            self.violations.append(Violation(request.method, document["id"], operations))
            raise Refusal(400, "invalidRequest", "A closed referral cannot be changed.", "status")
        _refuse(rules.check_operations(operations, self.switches))
        changed = rules.as_kept(document, rules.patched(document, operations), self.switches)
        invited = any(
            side["organizationId"] == "msft" for side in self.referrals.sides(document["engagementId"])
        )
        problems = rules.check_change(
            document, changed, invited=invited, switches=self.switches, today=f"{self.clock():%Y-%m-%d}"
        )
        if problems and not self.switches.names_target:
            raise Refusal(400, "invalidRequest", "One of the values is not valid.")
        _refuse(problems)
        if (changed["status"], changed["substatus"]) != (document["status"], document["substatus"]):
            changed = with_status(changed, changed["status"], changed["substatus"], self.referrals.now())
        stored = self.referrals.put(changed)
        wants_body = "return=representation" in request.headers.get("Prefer", "").replace(" ", "")
        if wants_body and not self.switches.always_204:
            return Response(
                200,
                self._shown(stored),
                {"ETag": stored["eTag"], "Preference-Applied": "return=representation"},
            )
        return Response(204, None, {"ETag": stored["eTag"]})

    def _guid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


def _json(request: Request) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(request.body, parse_constant=refuse)
    except ValueError as fault:
        raise Refusal(400, "invalidRequest", f"The body is not JSON: {fault}", "body") from fault
