"""The fake Partner Center is worth its tests only if it is as strict as the real one, so this is where that is held."""

import json
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from acceptance import away, held_back, waited

from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.demo.seed import sales_pipeline
from cosell_sync.sandbox.partner_center import samples, schema
from cosell_sync.sandbox.partner_center.rest import REFERRALS
from cosell_sync.sandbox.partner_center.rules import MOVES
from cosell_sync.sandbox.partner_center.service import PartnerCenter
from cosell_sync.sandbox.server import Server

START = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
IMPATIENT = httpx.Timeout(
    30, read=0.1
)  # only with the answer: to connect takes as long as a busy machine needs
SCOPE = "https://api.partner.microsoft.com/.default offline_access"


@dataclass
class Stage:
    """A served Partner Center, a clock that stands still unless moved, and a signed-in client."""

    now: datetime = START
    world: PartnerCenter = field(init=False)
    server: Server = field(init=False)
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.world = PartnerCenter(lambda: self.now)

    def sign_in(self) -> None:
        self.http.headers["Authorization"] = f"Bearer {self.world.entra.issue_access_token()}"

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"client-request-id": str(uuid.uuid4()), **options.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **options)

    def get(self, **query: str) -> httpx.Response:
        return self.call("GET", REFERRALS, params={f"${name}": value for name, value in query.items()})

    def patch(self, referral_id: str, *operations: tuple[str, Any], **headers: str) -> httpx.Response:
        """A JSON Patch of (path, value) pairs; `/-` appends."""
        document = [
            {"op": "add" if path.endswith("/-") else "replace", "path": path, "value": value}
            for path, value in operations
        ]
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("PATCH", f"{REFERRALS}/{referral_id}", json=document, headers=sent)

    def token(self, **form: str) -> httpx.Response:
        entra = self.world.entra
        body = {"client_id": entra.client_id, "grant_type": "refresh_token", "scope": SCOPE, **form}
        return self.http.post(f"/{entra.tenant}/oauth2/v2.0/token", data=body)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(scope="module")
def trust(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client_context()


@pytest.fixture
def stage(certificates: Certificates, trust: ssl.SSLContext) -> Iterator[Stage]:
    stage = Stage()
    with (
        Server(stage.world, certificates.server_context()) as stage.server,
        httpx.Client(verify=trust, base_url=stage.server.url, timeout=30) as stage.http,
    ):
        stage.sign_in()
        yield stage
    assert stage.server.errors == []


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def new_referral(**changes: Any) -> dict[str, Any]:
    body = {
        "name": "Harbor Mills - ERP move",
        "externalReferenceId": "006Ab00000XyZ12",
        "type": "Shared",
        "qualification": "SalesQualified",
        "customerProfile": {
            "name": "Harbor Mills GmbH",
            "address": {"addressLine1": "Kai 7", "city": "Bremen", "postalCode": "28195", "country": "DE"},
            "team": [
                {
                    "firstName": "Greta",
                    "lastName": "Öz",
                    "email": "g@customer.example",
                    "phoneNumber": "+49421100001",
                }
            ],
        },
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": True,
        },
        "details": {
            "dealValue": 84000,
            "currency": "EUR",
            "closingDateTime": "2026-11-30T00:00:00Z",
            "notes": "",
            "requirements": {
                "solutions": [{"id": "SOL-10001-ABC", "name": "Mill Planner", "type": "Name", "price": 12.5}],
                "additionalRequirements": {
                    "attributes": [{"type": "CustomerMarketplaceIntent", "id": "HaveNotDecided"}]
                },
            },
        },
        "team": [
            {
                "firstName": "Ida",
                "lastName": "Kern",
                "email": "ida.kern@nordlicht.example",
                "phoneNumber": "+49421000001",
            }
        ],
        "target": [],
        "somethingNew": {"kept": True},
    }
    return schema.merged(body, changes)


INVITATION = {
    "target": [{"type": "BusinessProfileLocation", "id": "msft"}],
    "inviteContext": {"assistanceRequestCode": "ProofOfConceptOrDemo", "notes": "Need a specialist"},
}


# -- signing in ------------------------------------------------------------------------------------------------------


def test_refresh_token_rotates_and_a_reused_one_may_be_refused(stage: Stage) -> None:
    first = stage.token(refresh_token="sandbox-refresh-token").json()
    assert first["token_type"] == "Bearer"
    assert first["refresh_token"] != "sandbox-refresh-token"
    stage.world.entra.strict_rotation = True
    again = stage.token(refresh_token="sandbox-refresh-token")
    assert (again.status_code, again.json()["error"], again.json()["error_codes"]) == (
        400,
        "invalid_grant",
        [54005],
    )
    assert stage.token(refresh_token=first["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "other"}, "unauthorized_client"),
        ({"client_secret": "public clients have none"}, "invalid_client"),
        ({"scope": "https://graph.microsoft.com/.default offline_access"}, "invalid_scope"),
        ({"scope": "https://api.partner.microsoft.com/.default"}, "invalid_scope"),
        ({"refresh_token": "unheard of"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
    ],
)
def test_sign_in_refuses_as_entra_does(stage: Stage, form: dict[str, str], error: str) -> None:
    answer = stage.token(**{"refresh_token": "sandbox-refresh-token", **form})
    assert answer.json()["error"] == error
    assert answer.json()["error_description"].startswith(f"AADSTS{answer.json()['error_codes'][0]}: ")


def test_refresh_token_dies_of_revocation_and_of_ninety_idle_days(stage: Stage) -> None:
    old = stage.world.entra.issue_refresh_token()
    stage.now += timedelta(days=91)
    assert stage.token(refresh_token=old).json()["error_codes"] == [700082]
    fresh = stage.world.entra.issue_refresh_token()
    stage.world.revoke_refresh_tokens()
    assert stage.token(refresh_token=fresh).json()["error_codes"] == [50173]


def test_msal_signs_in_by_device_code(
    stage: Stage, certificates: Certificates, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Microsoft's own library takes the fake for Entra."""
    import msal

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.write(tmp_path / "ca.pem")))
    entra = stage.world.entra
    entra.device_interval = 1
    app = msal.PublicClientApplication(
        entra.client_id, authority=f"{stage.server.url}/{entra.tenant}", instance_discovery=False
    )
    try:
        flow = app.initiate_device_flow(scopes=["https://api.partner.microsoft.com/.default"])
        pending = app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
        assert pending["error"] == "authorization_pending"
        assert stage.world.approve(flow["user_code"]) == 1
        signed_in = app.acquire_token_by_device_flow(flow)
        assert signed_in["refresh_token"]
        stage.http.headers["Authorization"] = f"Bearer {signed_in['access_token']}"
        assert stage.get().status_code == 200
        stage.world.expire_tokens()
        (account,) = app.get_accounts()
        assert app.acquire_token_silent([SCOPE.split(maxsplit=1)[0]], account=account, force_refresh=True)[
            "access_token"
        ]
    finally:
        app.http_client.close()


def test_access_tokens_expire_are_revoked_and_open_one_audience_only(stage: Stage) -> None:
    assert stage.get().status_code == 200
    stage.now += timedelta(seconds=3600)
    assert code(stage.get()) == (401, "unauthenticated")
    stage.sign_in()
    stage.world.expire_tokens()
    assert stage.get().status_code == 401
    webhooks = stage.world.entra.issue_access_token("https://api.partnercenter.microsoft.com")
    stage.http.headers["Authorization"] = f"Bearer {webhooks}"
    assert stage.get().status_code == 401


# -- reading ---------------------------------------------------------------------------------------------------------


def test_request_id_is_required_and_echoed(stage: Stage) -> None:
    missing = stage.http.get(REFERRALS)
    assert code(missing) == (400, "invalidRequest")
    ours = str(uuid.uuid4())
    answer = stage.call("GET", REFERRALS, headers={"client-request-id": ours})
    assert answer.headers["client-request-id"] == ours
    assert uuid.UUID(answer.headers["request-id"])


@pytest.mark.parametrize("paging", ["position", "keyset"])
def test_pages_lead_through_everything_by_links_that_must_not_be_followed(stage: Stage, paging: Any) -> None:
    """nextLink is http:// and lacks /engagements, as Microsoft prints it: only its query can be used."""
    stage.world.switches.paging = paging
    stage.world.load(sales_pipeline(230, 3, START))
    query = {"$orderby": "updatedDateTime asc", "$filter": "updatedDateTime ge 2020-01-01T00:00:00Z"}
    seen, pages = [], 0
    while True:
        body = stage.call("GET", REFERRALS, params=query).json()
        pages += 1
        assert body["@odata.count"] == len(body["value"])
        seen += [(row["updatedDateTime"], row["id"]) for row in body["value"]]
        if (link := body.get("@odata.nextLink")) is None:
            break
        assert link.startswith("http://")
        assert urlsplit(link).path == "/v1.0/referrals"
        assert stage.call("GET", urlsplit(link).path).status_code == 404
        query = dict(parse_qsl(urlsplit(link).query))
    assert pages == 3
    assert len(set(seen)) == len(seen) == 230
    assert seen == sorted(seen)


def test_rows_move_between_pages_while_others_edit(stage: Stage) -> None:
    """Paging by position loses a row when an earlier one moves to the end: only a full scan proves completeness."""
    stage.world.switches.page_size = 2
    ids = [stage.world.add()["id"] for _ in range(4)]
    first = stage.get(orderby="updatedDateTime asc").json()
    stage.world.edit(ids[0], "name", "moved to the end")
    rest = stage.call(
        "GET", REFERRALS, params=dict(parse_qsl(urlsplit(first["@odata.nextLink"]).query))
    ).json()
    assert [row["id"] for row in rest["value"]] == [ids[3], ids[0]]


def test_list_shows_microsofts_side_only_when_asked_for_the_engagement(stage: Stage) -> None:
    deal = stage.world.add("cosell")
    assert [row["id"] for row in stage.get().json()["value"]] == [deal["id"]]
    for literal in (f"'{deal['engagementId']}'", deal["engagementId"]):
        rows = stage.get(filter=f"engagementId eq {literal}").json()["value"]
        assert {row["organizationName"] for row in rows} == {"Microsoft", schema.ORGANIZATION_NAME}


def test_filters_compare_to_the_seventh_digit(stage: Stage) -> None:
    old, new = stage.world.add("private"), stage.world.add("inbound_pending")
    assert len(old["updatedDateTime"]) == len("2026-05-04T10:00:00.1234567Z")

    def ids(clause: str) -> list[str]:
        return [row["id"] for row in stage.get(filter=clause, orderby="updatedDateTime").json()["value"]]

    assert ids(f"updatedDateTime ge {old['updatedDateTime']}") == [old["id"], new["id"]]
    assert ids(f"updatedDateTime gt {old['updatedDateTime']}") == [new["id"]]
    assert ids("direction eq 'Outgoing' and status eq 'Active' and type eq 'Independent'") == [old["id"]]
    assert ids(f"team/any(t:t/email eq '{new['team'][0]['email']}') and direction eq 'Incoming'") == [
        new["id"]
    ]
    assert stage.get(select="id,eTag", top="1").json()["value"][0].keys() == {"id", "eTag"}


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "updatedDateTime le 2026-01-01T00:00:00Z"},
        {"filter": "updatedDateTime ge '2026-01-01T00:00:00Z'"},
        {"filter": "updatedDateTime ge 2026-01-01"},
        {"filter": "updatedDateTime ge 2026-13-01T00:00:00Z"},
        {"filter": "externalReferenceId eq 'x'"},
        {"filter": "status eq 'New' or status eq 'Active'"},
        {"filter": "status eq 'Engaged'"},
        {"filter": "status eq New"},
        {"filter": "status eq 'New' and "},
        {"filter": ""},
        {"orderby": "name"},
        {"orderby": "updatedDateTime sideways"},
        {"top": "0"},
        {"top": "many"},
        {"select": "id,secrets"},
        {"skip": "10"},
        {"expand": "team"},
        {"skiptoken": "made-up"},
    ],
)
def test_undocumented_queries_are_refused(stage: Stage, query: dict[str, str]) -> None:
    assert code(stage.get(**query)) == (400, "invalidRequest")


def test_a_referral_out_of_sight_answers_404_until_it_is_back(stage: Stage) -> None:
    deal = stage.world.add()
    stage.world.remove(deal["id"])
    assert code(stage.call("GET", f"{REFERRALS}/{deal['id']}")) == (404, "itemNotFound")
    stage.world.restore(deal["id"])
    answer = stage.call("GET", f"{REFERRALS}/{deal['id']}")
    assert answer.json() == deal
    assert answer.headers["ETag"] == deal["eTag"]
    assert deal["eTag"].startswith('"')


# -- creating --------------------------------------------------------------------------------------------------------


def test_own_deals_start_accepted_whatever_was_posted(stage: Stage) -> None:
    body = new_referral(status="New", substatus="Pending", id=str(uuid.uuid4()), organizationId="msft")
    made = stage.call("POST", REFERRALS, json=body).json()
    assert (made["status"], made["substatus"], made["direction"]) == ("Active", "Accepted", "Outgoing")
    assert made["id"] != body["id"]
    assert made["organizationId"] == schema.ORGANIZATION_ID
    assert made["acceptedDateTime"] == made["createdDateTime"]
    assert made["somethingNew"] == {"kept": True}
    assert made["details"]["requirements"]["solutions"][0]["price"] == 12.5
    assert stage.world.get(made["id"]) == made
    assert made.keys() >= schema.blank().keys()


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"type": None}, "type"),
        ({"type": "Private"}, "type"),
        ({"name": ""}, "name"),
        ({"consent": None}, "consent"),
        ({"consent": {"consentToContact": False}}, "consent.consentToContact"),
        ({"customerProfile": {"address": {"country": "DEU"}}}, "customerProfile.address.country"),
        ({"customerProfile": {"address": {"addressLine1": None}}}, "customerProfile.address.addressLine1"),
        ({"details": {"dealValue": "84000"}}, "details.dealValue"),
        ({"details": {"dealValue": True}}, "details.dealValue"),
        ({"details": {"closingDateTime": "2026-11-30"}}, "details.closingDateTime"),
        ({"details": {"currency": "Euro"}}, "details.currency"),
        ({"details": {"requirements": {"solutions": []}}}, "details.requirements.solutions"),
        ({"team": [{"firstName": "Ida", "email": "ida.kern@nordlicht.example"}]}, "team"),
        ({"target": [{"type": "BusinessProfileLocation", "id": "msft"}]}, "target"),
        ({"salesStage": "Dreaming"}, "salesStage"),
    ],
)
def test_incomplete_deals_are_refused_by_field(stage: Stage, changes: dict[str, Any], target: str) -> None:
    answer = stage.call("POST", REFERRALS, json=new_referral(**changes))
    assert code(answer) == (400, "invalidRequest")
    assert answer.json()["error"]["target"] == target
    assert stage.world.all() == []


def test_microsoft_is_invited_by_a_second_post(stage: Stage) -> None:
    ours = stage.call("POST", REFERRALS, json=new_referral(type="Independent")).json()
    joining = new_referral(engagementId=ours["engagementId"], **INVITATION)
    side = stage.call("POST", REFERRALS, json=joining).json()
    assert (side["organizationId"], side["status"], side["substatus"]) == ("msft", "New", "Pending")
    assert side["inviteContext"]["assistanceRequestCode"] == "ProofOfConceptOrDemo"
    assert side["inviteContext"]["invitedBy"]["organizationId"] == schema.ORGANIZATION_ID
    mine = stage.world.get(ours["id"])
    assert (mine["type"], mine["inviteContext"]["assistanceRequestCode"]) == ("Shared", "Unknown")
    assert mine["eTag"] != ours["eTag"]
    assert code(stage.patch(side["id"], ("/details/notes", "theirs"))) == (403, "accessDenied")

    stage.world.microsoft_answers(ours["engagementId"], "Active", "Accepted", msx_id="7-1")
    rows = stage.get(filter=f"engagementId eq '{ours['engagementId']}' and status eq 'Active'").json()[
        "value"
    ]
    theirs = next(row for row in rows if row["organizationId"] == "msft")
    assert theirs["trackingInfo"]["microsoftMsxId"] == "7-1"
    assert theirs["team"]

    stage.call("POST", REFERRALS, json=joining)
    assert len(stage.world.microsoft_sides(ours["engagementId"])) == 2, "nothing protects a careless client"


def test_an_invitation_needs_its_contact_and_its_kind_of_help(stage: Stage) -> None:
    ours = stage.call("POST", REFERRALS, json=new_referral()).json()
    for changes in (
        {"customerProfile": {"team": []}},
        {"inviteContext": {"assistanceRequestCode": "Unknown"}},
        {"target": []},
        {"type": "Independent"},
        {"engagementId": str(uuid.uuid4())},
    ):
        body = schema.merged(new_referral(engagementId=ours["engagementId"], **INVITATION), changes)
        assert stage.call("POST", REFERRALS, json=body).status_code in {400, 404}
    assert stage.world.microsoft_sides(ours["engagementId"]) == []


def test_one_post_invites_only_where_the_switch_says_so(stage: Stage) -> None:
    body = new_referral(inviteContext=INVITATION["inviteContext"])
    ours = stage.call("POST", REFERRALS, json=body).json()
    assert stage.world.microsoft_sides(ours["engagementId"]) == []
    stage.world.switches.one_post = True
    ours = stage.call("POST", REFERRALS, json=body).json()
    assert len(stage.world.microsoft_sides(ours["engagementId"])) == 1


# -- changing --------------------------------------------------------------------------------------------------------


def test_patch_answers_204_unless_the_result_is_asked_for(stage: Stage) -> None:
    deal = stage.world.add("inbound_accepted")
    quiet = stage.patch(deal["id"], ("/details/notes", "a"), If_Match=deal["eTag"])
    assert (quiet.status_code, quiet.content) == (204, b"")
    now = stage.world.get(deal["id"])
    assert now["eTag"] == quiet.headers["ETag"] != deal["eTag"]
    assert now["updatedDateTime"] > deal["updatedDateTime"]
    full = stage.patch(
        deal["id"], ("/team/-", {"email": "x@y.example", "shoe": 43}), Prefer="return=representation"
    )
    assert full.status_code == 200
    assert full.json()["team"] == [*deal["team"], {"email": "x@y.example", "shoe": 43}]
    stage.world.switches.always_204 = True
    assert stage.patch(deal["id"], ("/campaignId", "c"), Prefer="return=representation").status_code == 204


def test_stale_versions_are_refused_and_leave_no_trace(stage: Stage) -> None:
    deal = stage.world.add("inbound_accepted")
    current = stage.world.edit(deal["id"], {"details": {"notes": "colleague"}})
    answer = stage.patch(deal["id"], ("/details/notes", "mine"), If_Match=deal["eTag"])
    assert code(answer) == (412, "preconditionFailed")
    assert stage.world.get(deal["id"]) == current
    assert (
        stage.patch(deal["id"], ("/details/notes", "mine"), If_Match=current["eTag"].strip('"')).status_code
        == 400
    )


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/team"},
        {"op": "test", "path": "/status", "value": "New"},
        {"op": "replace", "path": "/name", "value": "n"},
        {"op": "replace", "path": "/favorite", "value": True},
        {"op": "replace", "path": "/customerProfile/name", "value": "n"},
        {"op": "replace", "path": "/inviteContext/assistanceRequestCode", "value": "GeneralOrOther"},
        {"op": "replace", "path": "/team/0", "value": {}},
        {"op": "replace", "path": "/team/-", "value": {}},
        {"op": "replace", "path": "/team", "value": None},
        {"op": "replace", "path": "/team", "value": []},
        {"op": "replace", "path": "details/notes", "value": "n"},
        {"op": "replace", "path": "/details/notes"},
        {"op": "replace", "path": "/details/dealValue", "value": "10000"},
        {"op": "replace", "path": "/details/dealValue", "value": None},
        {"op": "replace", "path": "/details/closingDateTime", "value": "2026-05-04T00:00:00"},
        {"op": "replace", "path": "/details/requirements/solutions/-", "value": {"id": "SOL-1"}},
        {"op": "replace", "path": "/consent/consentToShareReferralWithMicrosoftSellers", "value": False},
        {"op": "replace", "path": "/customerProfile/team", "value": [{"email": "no address"}]},
        {"op": "replace", "path": "/salesStage", "value": 40},
    ],
)
def test_patches_outside_the_permitted_set_are_refused(stage: Stage, operation: dict[str, Any]) -> None:
    deal = stage.world.add("inbound_accepted")
    good = {"op": "replace", "path": "/campaignId", "value": "part of the same document"}
    answer = stage.call("PATCH", f"{REFERRALS}/{deal['id']}", json=[good, operation])
    assert code(answer) == (400, "invalidRequest")
    assert stage.world.get(deal["id"]) == deal


def test_contacts_of_an_own_deal_are_fixed_once_microsoft_is_invited(stage: Stage) -> None:
    deal = stage.world.add("cosell")
    (contact,) = deal["customerProfile"]["team"]
    more = {"firstName": "New", "lastName": "Person", "email": "new@customer.example", "phoneNumber": None}
    path = "/customerProfile/team"
    for team in ([], [{**contact, "phoneNumber": "+1 555"}], [more]):
        assert code(stage.patch(deal["id"], (path, team))) == (400, "invalidRequest")
    assert stage.patch(deal["id"], (path, [contact, more])).status_code == 204
    inbound = stage.world.add("inbound_accepted")
    assert stage.patch(inbound["id"], (path, [more])).status_code == 204


def test_media_type_and_method_are_checked(stage: Stage) -> None:
    deal = stage.world.add()
    path = f"{REFERRALS}/{deal['id']}"
    headers = {"Content-Type": "application/json-patch+json"}
    assert stage.call("PATCH", path, content=b"[]", headers=headers).status_code == 415
    assert stage.call("PUT", path, json=deal).status_code == 405
    assert stage.call("DELETE", path).status_code == 405
    headers = {"Content-Type": "application/json"}
    body = b'[{"op": "replace", "path": "/details/dealValue", "value": NaN}]'
    assert stage.call("PATCH", path, content=body, headers=headers).status_code == 400


ALL_STATES = [schema.STATES[name] for name in schema.STATES]


@pytest.mark.parametrize("kind", ["inbound_pending", "inbound_received", "inbound_accepted", "inbound_won"])
def test_every_move_is_in_the_table_or_refused(stage: Stage, kind: str) -> None:
    before = schema.STATES[kind.removeprefix("inbound_")]
    for status, substatus in ALL_STATES:
        deal = stage.world.add(kind)
        answer = stage.patch(
            deal["id"],
            ("/status", status),
            ("/substatus", substatus),
            ("/statusReason", "Timeline too short"),
        )
        legal = (status, substatus) in MOVES.get(before, ()) or (
            before == (status, substatus) and before[0] != "Closed"
        )
        assert answer.status_code == (204 if legal else 400), (before, status, substatus)
        assert (stage.world.get(deal["id"])["status"] == status) or not legal


def test_status_and_substatus_go_together(stage: Stage) -> None:
    deal = stage.world.add("inbound_pending")
    assert stage.patch(deal["id"], ("/status", "Active")).status_code == 400
    assert stage.patch(deal["id"], ("/status", "Closed"), ("/substatus", "Declined")).status_code == 400, (
        "no reason"
    )
    assert stage.patch(deal["id"], ("/status", "Active"), ("/substatus", "Accepted")).status_code == 204
    accepted = stage.world.get(deal["id"])
    assert accepted["acceptedDateTime"] is not None
    assert accepted["expirationDateTime"] is None


def test_closed_referrals_are_immutable_and_every_attempt_is_on_record(stage: Stage) -> None:
    deal = stage.world.add("cosell")
    closed = stage.world.win(deal["id"])
    stale = stage.patch(deal["id"], ("/details/notes", "late"), If_Match=deal["eTag"])
    assert stale.status_code == 412
    assert stage.world.violations == [], "a guarded write that came too late is no sin"
    assert code(stage.patch(deal["id"], ("/details/notes", "late"), If_Match=closed["eTag"])) == (
        400,
        "invalidRequest",
    )
    stage.call("POST", REFERRALS, json=new_referral(engagementId=deal["engagementId"], **INVITATION))
    assert [(one.method, one.referral_id) for one in stage.world.violations] == [
        ("PATCH", deal["id"]),
        ("POST", deal["id"]),
    ]
    assert stage.world.get(deal["id"]) == closed


def test_unanswered_deals_expire_after_fourteen_days(stage: Stage) -> None:
    pending, without_deadline, accepted = (
        stage.world.add(),
        stage.world.add(expirationDateTime=None),
        stage.world.add("inbound_accepted"),
    )
    stage.now += timedelta(days=13, hours=23)
    assert stage.world.expire_due() == []
    stage.now += timedelta(hours=2)
    assert set(stage.world.expire_due()) == {pending["id"], without_deadline["id"]}
    assert stage.world.get(pending["id"])["substatus"] == "Expired"
    assert stage.world.get(accepted["id"])["status"] == "Active"


# -- the network, the shell, the data --------------------------------------------------------------------------------


def test_faults_strike_as_often_as_told_and_lost_answers_have_been_applied(stage: Stage) -> None:
    deal = stage.world.add("inbound_accepted")
    faults = stage.server.faults
    faults.answer(
        429, {"statusCode": 429, "message": "Rate limit is exceeded."}, {"Retry-After": "7"}, times=2
    )
    assert [stage.get().status_code for _ in range(3)] == [429, 429, 200]

    faults.reset_after(method="PATCH", body="lost answer")
    faults.reset_before(method="PATCH", body="lost request")
    assert stage.get().status_code == 200
    for note in ("lost request", "lost answer"):
        with pytest.raises(httpx.TransportError):
            stage.patch(deal["id"], ("/details/notes", note))
    assert stage.world.get(deal["id"])["details"]["notes"] == "lost answer"
    assert [call.status for call in stage.server.calls.matching("PATCH", deal["id"])] == [0, 0]

    faults.answer(500, applied=True, method="PATCH")
    assert stage.patch(deal["id"], ("/details/notes", "reported as failed")).status_code == 500
    assert stage.world.get(deal["id"])["details"]["notes"] == "reported as failed"

    for make in (faults.truncate, faults.hang):
        struck = held_back(stage.server)
        make()
        with pytest.raises(httpx.TransportError):
            stage.call("GET", REFERRALS, timeout=IMPATIENT)
        waited(struck, "the fault to be there before the next request is")
    faults.html()
    assert stage.get().headers["Content-Type"].startswith("text/html")
    faults.redirect("https://elsewhere.example/")
    assert stage.get().headers["Location"] == "https://elsewhere.example/"
    assert faults.pending() == []
    assert all("authorization" not in call.headers for call in stage.server.calls)


def test_stopping_waits_for_no_fault_and_the_port_survives_an_outage(stage: Stage) -> None:
    before = set(threading.enumerate())
    stage.server.faults.hang(times=None)
    struck = held_back(stage.server)
    with pytest.raises(httpx.ReadTimeout):
        stage.call("GET", REFERRALS, timeout=IMPATIENT)
    waited(struck, "the call to hang")
    hanging = set(threading.enumerate()) - before
    assert hanging
    with away(stage.server):
        for thread in hanging:
            thread.join(30)
            assert not thread.is_alive()
        with pytest.raises(httpx.TransportError):
            stage.get()
        stage.server.faults.clear()
    assert stage.get().status_code == 200


def test_a_client_that_does_not_trust_the_sandbox_gets_nowhere(stage: Stage) -> None:
    with (
        httpx.Client(verify=ssl.create_default_context(), base_url=stage.server.url) as stranger,
        pytest.raises(httpx.ConnectError),
    ):
        stranger.get(REFERRALS)
    assert stage.server.calls == []


def test_the_world_can_be_played_from_a_shell(stage: Stage) -> None:
    control: Callable[..., httpx.Response] = lambda method, path, body=None: stage.http.request(  # noqa: E731
        method,
        f"/_sandbox/{path}",
        content=json.dumps(body) if body is not None else None,
        headers={"Authorization": ""},
    )
    made = control("POST", "referrals", {"kind": "inbound_pending", "name": "From a shell"}).json()
    assert made["name"] == "From a shell"
    control("PATCH", f"referrals/{made['id']}", {"details/dealValue": 5})
    control("POST", f"referrals/{made['id']}/accept", {})
    assert [
        row["details"]["dealValue"]
        for row in control(
            "GET", "referrals?status=Active&organizationName=" + schema.ORGANIZATION_NAME
        ).json()
    ] == [5]
    control("POST", "faults", {"kind": "answer", "status": 503, "path": "/referrals"})
    assert control("GET", "violations").json() == [], "faults never strike the control paths"
    assert stage.get().status_code == 503
    assert control("POST", f"referrals/{made['id']}/accept", {}).status_code == 400
    assert control("GET", "nonsense").status_code == 404


def test_a_pipeline_is_mixed_and_the_same_for_the_same_seed() -> None:
    documents = sales_pipeline(120, 11, START)
    assert documents == sales_pipeline(120, 11, START)
    assert documents != sales_pipeline(120, 12, START)
    ours = [one for one in documents if one["organizationId"] == schema.ORGANIZATION_ID]
    assert len(ours) == 120
    assert {(one["status"], one["substatus"]) for one in ours} == set(schema.STATES.values())
    assert len({one["id"] for one in documents}) == len(documents)
    names = [one["customerProfile"]["name"] for one in ours]
    assert len(set(names)) < len(names)
    assert any(len(one["name"]) > 120 for one in ours)
    emails = {person["email"] for one in ours for person in one["team"]}
    assert emails & set(samples.USERS)
    assert emails - set(samples.USERS)
    assert all(one["updatedDateTime"] <= schema.timestamp(START, 8) for one in documents)
    open_deadlines = [one["expirationDateTime"] for one in ours if one["status"] == "New"]
    assert all(deadline > schema.timestamp(START) for deadline in open_deadlines)
