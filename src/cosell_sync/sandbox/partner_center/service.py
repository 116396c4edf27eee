"""The fake Partner Center: sign-in, Microsoft's referral service, and the people who work in its portal.

Three ways in. Clients come through HTTP and meet the rules of the real service (`referral_rules`, `referral_query`). Tests and
the demo come through the methods of the world (`add`, `edit`, `accept`, `microsoft_answers` …), which act as colleagues
and Microsoft do. People with a shell come through `/_sandbox/…`, the same methods over HTTP.

Stored documents are never changed in place: a write puts a new one, so an answer once given stays what it was.
Every mutating request on a closed referral is refused and kept in `violations`: the promise under test is that there are none.
"""

import copy
import json
import random
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from cosell_sync.sandbox.entra import Entra
from cosell_sync.sandbox.partner_center import query, rules, samples
from cosell_sync.sandbox.partner_center.rules import Switches, at
from cosell_sync.sandbox.partner_center.samples import HELP, Document
from cosell_sync.sandbox.server import Request, Response

REFERRALS = "/v1.0/engagements/referrals"
CONTROL = "/_sandbox"

# What the service sets itself, whatever a post says.
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
        error = {
            "code": self.code,
            "message": self.sentence[:1024],
            "target": self.target,
            "innerError": None,
        }
        return Response(self.status, {"error": error})


def _refuse(faults: list[rules.Fault]) -> None:
    if faults:
        sentence = "; ".join(f"{target.strip('/').replace('/', '.')} {wrong}" for target, wrong in faults)
        raise Refusal(400, "invalidRequest", sentence, faults[0][0].strip("/").replace("/", "."))


@dataclass(frozen=True)
class Violation:
    """A write that a client tried on a referral that was already closed."""

    method: str
    referral_id: str
    body: Any


class PartnerCenter:
    """An App. `clock` gives the service's time; `switches` choose between readings of the documentation."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        entra: Entra | None = None,
        switches: Switches | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = clock
        self.entra = entra or Entra(clock)
        self.switches = switches or Switches()
        self.violations: list[Violation] = []
        self._documents: dict[str, Document] = {}
        self._removed: dict[str, Document] = {}
        self._engagements: dict[str, list[str]] = {}  # ids of all sides, removed ones included
        self._writes = 0
        self._last_tick = 0
        self._lock = threading.RLock()
        self._random = random.Random(seed)  # noqa: S311  (a play needs a repeatable die)

    # -- the world: what colleagues and Microsoft do -----------------------------------------------------------------

    def load(self, documents: list[Document]) -> None:
        """Takes in a pipeline as it is, times included."""
        with self._lock:
            for document in documents:
                self._documents[document["id"]] = self._linked(
                    {**copy.deepcopy(document), "eTag": self._etag()}
                )

    def add(self, kind: str = "inbound_pending", **overrides: Any) -> Document:
        """A new deal of that kind (a key of `pipeline.KINDS`); nested overrides are merged.

        Deals from a Microsoft seller and co-sell deals come with Microsoft's side.
        """
        with self._lock:
            now = self.clock()
            ours = samples.deal(kind, now, self._random)
            stamp = self._now()
            times = {
                name: stamp
                for name in ("createdDateTime", "updatedDateTime", "acceptedDateTime", "closedDateTime")
                if ours[name]
            }
            ours = samples.merged(samples.merged(ours, times), overrides)
            self._put(ours, stamp=ours["updatedDateTime"])
            if kind == "cosell":
                invitation = {
                    "invitedBy": samples.US,
                    "assistanceRequestCode": HELP[2],
                    "notes": "Pilot in Q3",
                }
                self._put(samples.microsoft_side(ours, now, self._random, inviteContext=invitation))
            elif kind.startswith("inbound"):
                accepted = {"status": "Active", "substatus": "Accepted"}
                msx_id = {"microsoftMsxId": f"7-{self._random.randrange(10**9):09d}"}
                self._put(samples.microsoft_side(ours, now, self._random, trackingInfo=msx_id, **accepted))
            return self.get(ours["id"])

    def get(self, referral_id: str) -> Document:
        with self._lock:
            return copy.deepcopy(self._documents[referral_id])

    def all(self) -> list[Document]:
        """Every referral, Microsoft's sides included."""
        with self._lock:
            return copy.deepcopy(list(self._documents.values()))

    def ours(self) -> list[Document]:
        return [document for document in self.all() if document["organizationId"] == samples.ORGANIZATION_ID]

    def microsoft_sides(self, engagement_id: str) -> list[Document]:
        """Microsoft's referrals of an engagement: none, one, or (after a second invitation) more."""
        with self._lock:
            return [
                copy.deepcopy(side) for side in self._sides(engagement_id) if side["organizationId"] == "msft"
            ]

    def edit(self, referral_id: str, changes: str | Mapping[str, Any], value: Any = None) -> Document:
        """Someone changes the deal in the portal, unhindered by rules.

        Takes one path and its value (`"details/dealValue", 5`; `"team/-"` appends, `"team/0/title"` reaches in), or a
        mapping of paths or nested objects.
        """
        with self._lock:
            document = self.get(referral_id)
            for path, new in ({changes: value} if isinstance(changes, str) else changes).items():
                if "/" not in path and isinstance(new, Mapping) and isinstance(document.get(path), dict):
                    document[path] = samples.merged(document[path], new)
                else:
                    _assign(document, path, new)
            self._put(document)
            return self.get(referral_id)

    def accept(self, referral_id: str, **changes: Any) -> Document:
        return self._move(referral_id, "Active", "Accepted", changes)

    def decline(self, referral_id: str, reason: str = "Not a customer", **changes: Any) -> Document:
        return self._move(referral_id, "Closed", "Declined", {"statusReason": reason, **changes})

    def win(self, referral_id: str, **changes: Any) -> Document:
        return self._move(referral_id, "Closed", "Won", changes)

    def lose(self, referral_id: str, reason: str = "Other vendor chosen", **changes: Any) -> Document:
        return self._move(referral_id, "Closed", "Lost", {"statusReason": reason, **changes})

    def expire_due(self) -> list[str]:
        """The service closes what nobody answered for fourteen days; returns the ids."""
        with self._lock:
            now = query.ticks(samples.timestamp(self.clock()))
            due = []
            for document in list(self._documents.values()):
                deadline = document["expirationDateTime"]
                limit = (
                    query.ticks(deadline)
                    if deadline
                    else query.ticks(document["createdDateTime"]) + 14 * 86_400 * 10_000_000
                )
                if document["status"] == "New" and limit <= now:
                    self._put(_with_status(document, "Closed", "Expired", self._now()))
                    due.append(document["id"])
            return due

    def microsoft_answers(
        self,
        engagement_id: str,
        status: str,
        substatus: str,
        reason: str | None = None,
        msx_id: str | None = None,
    ) -> Document:
        """Microsoft's newest side of an engagement takes that status; an acceptance brings a seller and a CRM id."""
        with self._lock:
            side = max(
                self.microsoft_sides(engagement_id),
                key=lambda one: query.ticks(one["createdDateTime"]),
            )
            side = _with_status(side, status, substatus, self._now()) | {"statusReason": reason}
            if status == "Active":
                side["team"] = side["team"] or [samples.member(*self._random.choice(samples.SELLERS))]
                made_up = f"7-{self._random.randrange(10**9):09d}"
                known = side["trackingInfo"]["microsoftMsxId"]
                side["trackingInfo"] = {**side["trackingInfo"], "microsoftMsxId": msx_id or known or made_up}
            self._put(side)
            return self.get(side["id"])

    def remove(self, referral_id: str) -> None:
        """The referral is out of our sight: 404 and in no list."""
        with self._lock:
            self._removed[referral_id] = self._documents.pop(referral_id)

    def restore(self, referral_id: str) -> None:
        with self._lock:
            self._documents[referral_id] = self._removed.pop(referral_id)

    def approve(self, user_code: str | None = None) -> int:
        return self.entra.approve(user_code)

    def expire_tokens(self) -> None:
        self.entra.expire_tokens()

    def revoke_refresh_tokens(self) -> None:
        self.entra.revoke_refresh_tokens()

    # -- storing -----------------------------------------------------------------------------------------------------

    def _now(self) -> str:
        """The service's time; two writes never share a moment, however still the clock stands."""
        tick = max(
            query.ticks(f"{self.clock().astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z") + 3,
            self._last_tick + 1,
        )
        self._last_tick = tick
        moment = EPOCH + timedelta(microseconds=tick // 10)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{tick % 10}Z"

    def _etag(self) -> str:
        self._writes += 1
        return f'"{self._writes:08x}-0000-0100-0000-{int(self.clock().timestamp()):08x}0000"'

    def _put(self, document: Document, stamp: str | None = None) -> Document:
        stored = self._linked({**document, "updatedDateTime": stamp or self._now(), "eTag": self._etag()})
        return self._keep(stored)

    def _keep(self, stored: Document) -> Document:
        sides = self._engagements.setdefault(stored["engagementId"], [])
        if stored["id"] not in sides:
            sides.append(stored["id"])
        self._documents[stored["id"]] = stored
        return stored

    def _sides(self, engagement_id: str) -> list[Document]:
        ids = self._engagements.get(engagement_id, [])
        return [self._documents[one] for one in ids if one in self._documents]

    def _linked(self, document: Document) -> Document:
        # As on the real service, these addresses are not the ones to call: misspelt, and the GUID without quotes.
        base = "https://api.partner.microsoft.com/v1.0/engagments/referrals"
        return {
            **document,
            "links": {
                "relatedReferrals": {
                    "uri": f"{base}?$filter=engagementId eq {document['engagementId']}",
                    "method": "GET",
                },
                "self": {"uri": f"{base}/{document['id']}", "method": "GET"},
            },
        }

    def _move(self, referral_id: str, status: str, substatus: str, changes: Mapping[str, Any]) -> Document:
        with self._lock:
            document = self.get(referral_id)
            before = (document["status"], document["substatus"])
            if (status, substatus) not in rules.MOVES.get(before, frozenset()):
                raise ValueError(f"{'/'.join(before)} cannot become {status}/{substatus}")
            for path, value in changes.items():
                _assign(document, path, value)
            self._put(_with_status(document, status, substatus, self._now()))
            return self.get(referral_id)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def __call__(self, request: Request) -> Response:
        if request.path.startswith(CONTROL):
            return self._control(request)
        if request.path == "/devicelogin":
            return self._device_login()
        if self.entra.answers(request.path):
            return self.entra(request)
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

    def _device_login(self) -> Response:
        """Where a device-code sign-in sends a person: here, opening the page is the agreement."""
        page = f"<!DOCTYPE html><title>Sandbox</title><p>Sign-ins approved: {self.entra.approve()}. You may close this page."
        return Response(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})

    def _answer(self, request: Request) -> Response:
        if not self.entra.admits(request.headers.get("Authorization")):
            raise Refusal(
                401, "unauthenticated", "The access token is missing, expired or for another audience."
            )
        if not re.fullmatch(query.GUID, request.headers.get("client-request-id", "")):
            raise Refusal(
                400, "invalidRequest", "A client-request-id (GUID) is required.", "client-request-id"
            )
        single = re.fullmatch(rf"{REFERRALS}/({query.GUID})", request.path)
        with self._lock:
            if request.path == REFERRALS:
                match request.method:
                    case "GET":
                        return self._list(request)
                    case "POST":
                        return self._create(request)
                raise Refusal(405, "invalidRequest", f"{request.method} is not allowed here.")
            if single is None:
                raise Refusal(404, "itemNotFound", "There is no such resource.")
            document = self._documents.get(single[1].lower())
            if document is None:
                raise Refusal(404, "itemNotFound", "The referral does not exist or is out of scope.", "id")
            match request.method:
                case "GET":
                    return Response(200, document, {"ETag": document["eTag"]})
                case "PATCH":
                    return self._patch(request, document)
            raise Refusal(405, "invalidRequest", f"{request.method} is not allowed here.")

    def _list(self, request: Request) -> Response:
        asked = query.parse(request.query, date_filter=self.switches.date_filter)
        seen = (
            document
            for document in self._documents.values()
            if asked.engagement or document["organizationId"] == samples.ORGANIZATION_ID
        )
        rows, following = query.page(
            asked, seen, self.switches.page_size, keyset=self.switches.paging == "keyset"
        )
        host = request.headers.get("Host", "localhost")
        body: Document = {
            "@odata.context": f"https://{host}/v1.0/engagements/$metadata#referrals",
            "@odata.count": len(rows),  # of this page; whether the real one means the total is not said
            "value": [asked.shown(row) for row in rows],
        }
        if following:
            # As printed in Microsoft's samples: not https, and without /engagements.
            kept = "&".join(f"{name}={quote(value)}" for name, value in asked.options.items())
            body["@odata.nextLink"] = (
                f"http://{host}/v1.0/referrals?{kept}{'&' if kept else ''}$skiptoken={quote(following)}"
            )
        return Response(200, body)

    def _create(self, request: Request) -> Response:
        body = _json(request)
        if not isinstance(body, dict):
            raise Refusal(400, "invalidRequest", "The body must be a referral.", "body")
        _refuse(rules.faults_of_create(body, self.switches))
        if body.get("engagementId") is not None:
            return self._join(request, body)
        code = at(body, "inviteContext/assistanceRequestCode")
        invites = rules.invites_microsoft(body) or code in HELP
        if rules.invites_microsoft(body) and not self.switches.one_post:
            raise Refusal(
                400, "invalidRequest", "Microsoft is invited into an existing engagement.", "target"
            )
        stamp = self._now()
        ours = samples.merged(
            samples.merged(
                samples.blank(), {name: value for name, value in body.items() if name not in SERVER_OWNED}
            ),
            {
                "id": self._guid(),
                "engagementId": self._guid(),
                **samples.US,
                "createdDateTime": stamp,
                "acceptedDateTime": stamp,
                "status": "Active",
                "substatus": "Accepted",
                "direction": "Outgoing",
                # The kind of help is shown on the invited side only.
                "inviteContext": {"invitedBy": samples.US, "assistanceRequestCode": "Unknown"},
            },
        )
        if invites and self.switches.one_post:
            _refuse(rules.faults_of_invitation({**body, "target": [MICROSOFT_TARGET]}, ours, self.switches))
        stored = self._put(ours, stamp=stamp)
        if invites and self.switches.one_post:
            self._invite(stored, body)
        return self._created(stored)

    def _join(self, request: Request, body: Document) -> Response:
        engagement_id = str(body["engagementId"]).lower()
        ours = next(
            (
                side
                for side in self._sides(engagement_id)
                if side["organizationId"] == samples.ORGANIZATION_ID
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
        _refuse(rules.faults_of_invitation(body, ours, self.switches))
        return self._created(self._invite(ours, body))

    def _invite(self, ours: Document, body: Document) -> Document:
        """Microsoft's side appears. A second invitation makes a second one: nothing here protects a careless client."""
        side = samples.merged(
            samples.microsoft_side(ours, self.clock(), self._random),
            {name: body[name] for name in ("name", "customerProfile", "details", "consent") if name in body},
        )
        side["createdDateTime"] = self._now()
        side["target"] = [MICROSOFT_TARGET]
        side["inviteContext"] = samples.merged(
            samples.blank()["inviteContext"], {**body["inviteContext"], "invitedBy": samples.US}
        )
        if self.switches.type_follows and ours["type"] != "Shared":
            self._put({**ours, "type": "Shared"})
        return self._put(side)

    def _created(self, document: Document) -> Response:
        return Response(self.switches.create_status, document, {"ETag": document["eTag"]})

    def _patch(self, request: Request, document: Document) -> Response:
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Refusal(
                415, "invalidRequest", f"The media type '{media_type}' is not supported.", "Content-Type"
            )
        operations = _json(request)
        if document["organizationId"] != samples.ORGANIZATION_ID:
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
        _refuse(rules.faults_of_operations(operations, self.switches))
        changed = rules.patched(document, operations)
        invited = any(side["organizationId"] == "msft" for side in self._sides(document["engagementId"]))
        _refuse(rules.faults_of_change(document, changed, invited=invited, switches=self.switches))
        if (changed["status"], changed["substatus"]) != (document["status"], document["substatus"]):
            changed = _with_status(changed, changed["status"], changed["substatus"], self._now())
        stored = self._put(changed)
        wants_body = "return=representation" in request.headers.get("Prefer", "").replace(" ", "")
        if wants_body and not self.switches.always_204:
            return Response(
                200, stored, {"ETag": stored["eTag"], "Preference-Applied": "return=representation"}
            )
        return Response(204, None, {"ETag": stored["eTag"]})

    def _guid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    # -- the same world from a shell ---------------------------------------------------------------------------------

    def _control(self, request: Request) -> Response:
        """`/_sandbox/…`: no sign-in, for the server listens on loopback only."""
        try:
            body = request.json() if request.body else {}
            with self._lock:
                return self._controlled(request, [step for step in request.path.split("/") if step][1:], body)
        except (LookupError, ValueError, TypeError) as fault:
            return Response(400, {"error": f"{type(fault).__name__}: {fault}"})

    def _controlled(self, request: Request, steps: list[str], body: Any) -> Response:
        match request.method, steps:
            case "GET", ["referrals"]:
                rows = [
                    row
                    for row in self.all()
                    if all(row.get(name) == value for name, value in request.query.items())
                ]
                return Response(200, rows)
            case "POST", ["referrals"]:
                return Response(200, self.add(**body))
            case "GET", ["referrals", referral_id]:
                return Response(200, self.get(referral_id))
            case "PATCH", ["referrals", referral_id]:
                return Response(200, self.edit(referral_id, body))
            case "POST", ["referrals", referral_id, ("accept" | "decline" | "win" | "lose") as move]:
                return Response(200, getattr(self, move)(referral_id, **body))
            case "POST", ["referrals", referral_id, "remove"]:
                self.remove(referral_id)
                return Response(204)
            case "POST", ["referrals", referral_id, "restore"]:
                self.restore(referral_id)
                return Response(204)
            case "POST", ["engagements", engagement_id, "microsoft"]:
                return Response(200, self.microsoft_answers(engagement_id, **body))
            case "POST", ["expire"]:
                return Response(200, self.expire_due())
            case "POST", ["approve"]:
                return Response(200, {"approved": self.approve(body.get("user_code"))})
            case "POST", ["expire-tokens"]:
                self.expire_tokens()
                return Response(204)
            case "POST", ["revoke-refresh-tokens"]:
                self.revoke_refresh_tokens()
                return Response(204)
            case "GET", ["violations"]:
                return Response(200, [asdict(violation) for violation in self.violations])
            case (("GET" | "PATCH"), ["switches"]):
                for name, value in body.items():
                    if name not in {one.name for one in fields(Switches)}:
                        raise LookupError(name)
                    setattr(self.switches, name, value)
                return Response(200, asdict(self.switches))
        return Response(404, {"error": "unknown control path", "paths": CONTROL_PATHS})


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSOFT_TARGET = {"type": "BusinessProfileLocation", "id": "msft"}
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
    "GET /_sandbox/violations",
    "GET|PATCH /_sandbox/switches",
    "GET|POST|DELETE /_sandbox/faults {kind, method, path, body, times, skip, applied, status, headers, answer, seconds}",
    "GET|DELETE /_sandbox/calls",
)


def _with_status(document: Document, status: str, substatus: str, stamp: str) -> Document:
    changed = {**document, "status": status, "substatus": substatus}
    if status == "Active":
        changed["acceptedDateTime"] = stamp
        changed["expirationDateTime"] = None
    if status == "Closed":
        changed["closedDateTime"] = stamp
    return changed


def _assign(document: Document, path: str, value: Any) -> None:
    *parents, last = path.strip("/").split("/")
    holder: Any = document
    for step in parents:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    if isinstance(holder, list):
        if last == "-":
            holder.append(copy.deepcopy(value))
        else:
            holder[int(last)] = copy.deepcopy(value)
    else:
        holder[last] = copy.deepcopy(value)


def _json(request: Request) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(request.body, parse_constant=refuse)
    except ValueError as fault:
        raise Refusal(400, "invalidRequest", f"The body is not JSON: {fault}", "body") from fault
