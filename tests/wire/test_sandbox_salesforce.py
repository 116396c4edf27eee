"""The fake Salesforce is strict where the platform is, and an independent client gets along with it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import jwt
import pytest
import requests
import simple_salesforce
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import BaseAdapter

from cosell_sync.sandbox.exchange import Headers, Request, Response
from cosell_sync.sandbox.salesforce.auth import CONSUMER_KEY, CONSUMER_SECRET, INTEGRATION_USERNAME
from cosell_sync.sandbox.salesforce.service import Salesforce

ROOT = "/services/data/v66.0"
HOST = "contoso.my.salesforce.com"
DEAL = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"}


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def tick(self, seconds: int = 1) -> None:
        self.time += timedelta(seconds=seconds)


class Client:
    """The least that can talk to an App: no network, no library."""

    def __init__(self, app: Salesforce, token: str = "") -> None:
        self.app = app
        self.token = token or app.open_session()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        host: str = HOST,
    ) -> Response:
        split = urlsplit(path if path.startswith("/") else f"{ROOT}/{path}")
        sent = {"Authorization": f"Bearer {self.token}", "Host": host, **(headers or {})}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        return self.app(Request(method, unquote(split.path), query, split.query, Headers(sent), data))

    def query(self, text: str) -> Any:
        return self.send("GET", f"query?q={quote(text)}").body


class InProcess(BaseAdapter):
    """Lets `requests` reach the fake without a socket."""

    def __init__(self, app: Salesforce) -> None:
        super().__init__()
        self.app = app

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        split = urlsplit(str(request.url))
        data = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        headers = Headers({**dict(request.headers), "Host": split.netloc})
        made = self.app(Request(str(request.method), unquote(split.path), query, split.query, headers, data))
        answer = requests.Response()
        answer.status_code = made.status
        answer.headers.update(made.headers)
        answer._content = made.encoded()
        answer.encoding = "utf-8"
        answer.url, answer.request = str(request.url), request
        return answer

    def close(self) -> None:
        return None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def org(clock: Clock) -> Salesforce:
    return Salesforce(clock)


@pytest.fixture
def client(org: Salesforce) -> Client:
    return Client(org)


def code(response: Response) -> tuple[int, str]:
    assert isinstance(response.body, list)
    return response.status, response.body[0]["errorCode"]


# ---------------------------------------------------------------- an independent client


def library(org: Salesforce) -> simple_salesforce.Salesforce:
    session = requests.Session()
    session.mount("https://", InProcess(org))
    return simple_salesforce.Salesforce(
        instance_url=f"https://{HOST}", session_id=org.open_session(), session=session, version="66.0"
    )


def test_simple_salesforce_queries_pages_describes_and_upserts(org: Salesforce) -> None:
    org.page_size = 2
    for name in "abc":
        org.create("Opportunity", **{**DEAL, "Name": name})
    sf = library(org)

    assert [row["Name"] for row in sf.query_all_iter("SELECT Name FROM Opportunity ORDER BY Name")] == [
        "a",
        "b",
        "c",
    ]
    fields = {each["name"]: each for each in sf.Opportunity.describe()["fields"]}
    assert fields["Cosell_Referral_Id__c"]["externalId"]
    assert fields["Cosell_Referral_Id__c"]["unique"]
    assert fields["Name"]["nillable"] is False
    key = simple_salesforce.format_external_id("Cosell_Referral_Id__c", "r/1 x")
    assert sf.Opportunity.upsert(key, DEAL) == 201
    assert sf.Opportunity.upsert(key, {"Amount": 12.345}) == 200
    [row] = org.rows("Opportunity", Cosell_Referral_Id__c="r/1 x")
    assert row["Amount"] == 12.35
    assert row["LastModifiedById"] == org.integration_user
    assert sf.limits()["DailyApiRequests"]["Max"] == 100_000
    assert sf.api_usage["api-usage"].used == org.api_used
    with pytest.raises(simple_salesforce.SalesforceResourceNotFound):
        sf.Opportunity.get("006000000000001AAA")


def test_child_rows_count_toward_the_size_of_a_page(org: Salesforce, client: Client) -> None:
    """https://developer.salesforce.com/docs/platform/api-rest/guide/headers-queryoptions.html"""
    org.page_size = 4
    for name, solutions in (("a", 1), ("b", 1), ("c", 5), ("d", 0)):
        deal = org.create("Opportunity", **{**DEAL, "Name": name})
        for number in range(solutions):
            org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c=f"SOL-{number}")

    page = client.query("SELECT Name, (SELECT Id FROM Cosell_Solutions__r) FROM Opportunity ORDER BY Name")
    pages = [[row["Name"] for row in page["records"]]]
    while not page["done"]:
        page = client.send("GET", page["nextRecordsUrl"]).body
        pages.append([row["Name"] for row in page["records"]])
    assert pages == [["a", "b"], ["c"], ["d"]]
    assert page["totalSize"] == 4


def test_simple_salesforce_signs_in_with_client_credentials(org: Salesforce) -> None:
    session = requests.Session()
    session.mount("https://", InProcess(org))
    sf = simple_salesforce.Salesforce(
        consumer_key=CONSUMER_KEY,
        consumer_secret=CONSUMER_SECRET,
        domain="contoso.my",
        session=session,
        version="66.0",
    )
    assert sf.query("SELECT COUNT() FROM User")["totalSize"] == 2


# ---------------------------------------------------------------- sign-in and sessions


def token(client: Client, **form: str) -> Response:
    return client.send("POST", "/services/oauth2/token", urlencode(form).encode())


def test_jwt_bearer_is_checked_like_the_platform_checks_it(
    org: Salesforce, client: Client, clock: Clock
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    org.register_app("jwt-app", public_key=public.decode())
    good = {
        "iss": "jwt-app", "sub": INTEGRATION_USERNAME, "aud": "https://login.salesforce.com",
        "exp": int(clock().timestamp()) + 180,
    }  # fmt: skip

    def ask(**changes: object) -> Response:
        assertion = jwt.encode({**good, **changes}, key, algorithm="RS256")
        return token(client, grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=assertion)

    answer = ask()
    assert isinstance(answer.body, dict)
    assert answer.body["instance_url"] == f"https://{HOST}"
    assert Client(org, answer.body["access_token"]).send("GET", "limits").status == 200
    assert ask(aud=f"https://{HOST}").status == 200
    for wrong in (
        {"aud": "https://example.com"},
        {"exp": int(clock().timestamp()) - 1},
        {"exp": int(clock().timestamp()) + 3600},
        {"sub": "nobody@contoso.example"},
        {"iss": "another-app"},
    ):
        assert ask(**wrong).status == 400, wrong
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(good, stranger, algorithm="RS256")
    refused = token(client, grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=forged)
    assert refused.body == {"error": "invalid_grant", "error_description": "invalid assertion"}


def test_expired_sessions_wrong_secrets_and_a_spent_quota(org: Salesforce, client: Client) -> None:
    bad = token(client, grant_type="client_credentials", client_id=CONSUMER_KEY, client_secret="wrong")
    assert (bad.status, bad.body["error"]) == (401, "invalid_client")  # type: ignore[index]
    org.expire_sessions()
    expired = client.send("GET", "limits")
    assert code(expired) == (401, "INVALID_SESSION_ID")
    assert expired.headers["Sforce-Limit-Info"] == "api-usage=0/100000"
    org.api_calls_limit = 1
    fresh = Client(org)
    assert fresh.send("GET", "limits").headers["Sforce-Limit-Info"] == "api-usage=1/1"
    assert code(fresh.send("GET", "limits")) == (403, "REQUEST_LIMIT_EXCEEDED")


def test_retired_versions_and_endless_urls_are_refused(client: Client) -> None:
    assert client.send("GET", "/services/data/v30.0/limits").status == 410
    assert client.send("GET", f"query?q={quote('x' * 17_000)}").status == 414


# ---------------------------------------------------------------- what a row accepts


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Name": None}, "REQUIRED_FIELD_MISSING"),
        ({"Name": "   "}, "REQUIRED_FIELD_MISSING"),
        ({"Name": "x" * 121}, "STRING_TOO_LONG"),
        ({"Name": "x" * 119 + "\N{ROCKET}"}, "STRING_TOO_LONG"),  # two code units
        ({"Name": 5}, "JSON_PARSER_ERROR"),
        ({"Cosell_Status__c": "Nearly"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        ({"CloseDate": "2027-02-30"}, "JSON_PARSER_ERROR"),
        ({"CloseDate": "31.01.2027"}, "JSON_PARSER_ERROR"),
        ({"Cosell_Last_Sync__c": "2027-01-31"}, "JSON_PARSER_ERROR"),
        ({"Amount": 1e17}, "NUMBER_OUTSIDE_VALID_RANGE"),
        ({"Amount": "a lot"}, "JSON_PARSER_ERROR"),
        ({"Cosell_Sync__c": None}, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
        ({"IsClosed": True}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"SystemModstamp": "2027-01-31T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"Cosell_Typo__c": 1}, "INVALID_FIELD"),
        ({"AccountId": "001xx"}, "MALFORMED_ID"),
        ({"AccountId": "0065g0000000001AAA"}, "MALFORMED_ID"),
        ({"AccountId": "001000000000001AAA"}, "INVALID_CROSS_REFERENCE_KEY"),
        ({"Id": "0065g0000000001AAA"}, "INVALID_FIELD"),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(
    org: Salesforce, client: Client, changes: dict[str, object], expected: str
) -> None:
    deal = org.create("Opportunity", **DEAL)
    before = org.snapshot()
    answer = client.send("PATCH", f"sobjects/Opportunity/{deal}", changes)
    assert code(answer) == (400, expected)
    assert org.snapshot() == before


def test_values_are_kept_the_platforms_way(org: Salesforce, client: Client) -> None:
    answer = client.send("POST", "sobjects/Opportunity", {**DEAL, "NextStep": "  call  ", "Amount": 10.005, "Cosell_Notes__c": ""})  # fmt: skip
    assert answer.status == 201
    row = org.get("Opportunity", answer.body["id"][:15])  # type: ignore[index]
    assert (row["NextStep"], row["Amount"], row["Cosell_Notes__c"]) == ("call", 10.01, None)
    assert (row["Probability"], row["IsClosed"], row["ForecastCategoryName"]) == (10.0, False, "Pipeline")
    assert row["OwnerId"] == org.integration_user
    assert row["CreatedDate"] == "2026-11-22T10:00:00.000+0000"
    assert (row["CurrencyIsoCode"], row["Cosell_Sync__c"]) == ("USD", False)
    org.edit("Opportunity", row["Id"], StageName="Closed Won")
    won = org.get("Opportunity", row["Id"])
    assert (won["IsClosed"], won["IsWon"], won["Probability"]) == (True, True, 100.0)
    assert won["LastModifiedById"] == org.seller


def test_unique_keys_name_the_holder_and_are_compared_without_case(org: Salesforce, client: Client) -> None:
    held = org.create("Opportunity", **DEAL, Cosell_Referral_Id__c="Ref-1")
    answer = client.send("POST", "sobjects/Opportunity", {**DEAL, "Cosell_Referral_Id__c": "ref-1"})
    assert code(answer) == (400, "DUPLICATE_VALUE")
    assert held[:15] in answer.body[0]["message"]  # type: ignore[index]
    org.delete("Opportunity", held)
    assert (
        client.send("POST", "sobjects/Opportunity", {**DEAL, "Cosell_Referral_Id__c": "ref-1"}).status == 201
    )
    with pytest.raises(Exception, match="DUPLICATE_VALUE"):
        org.undelete("Opportunity", held)


def test_rules_of_the_org_hold_for_everybody(org: Salesforce, client: Client) -> None:
    org.add_validation_rule(
        "Opportunity", lambda row: row["IsWon"] and not row["Amount"], "Won deals need an amount"
    )
    deal = org.create("Opportunity", **DEAL)
    answer = client.send("PATCH", f"sobjects/Opportunity/{deal}", {"StageName": "Closed Won"})
    assert code(answer) == (400, "FIELD_CUSTOM_VALIDATION_EXCEPTION")
    org.clear_rules()
    org.add_automation("Opportunity", lambda _row, changes: {**changes, "NextStep": "by flow"})
    assert client.send("PATCH", f"sobjects/Opportunity/{deal}", {"Name": "New"}).status == 204
    assert org.get("Opportunity", deal)["NextStep"] == "by flow"
    org.clear_rules()
    org.add_products(deal, 500)
    assert client.send("PATCH", f"sobjects/Opportunity/{deal}", {"Amount": 1}).status == 204
    assert org.get("Opportunity", deal)["Amount"] == 500.0
    gone = org.add_user("Old", "Owner", "old@contoso.example", active=False)
    answer = client.send("PATCH", f"sobjects/Opportunity/{deal}", {"OwnerId": gone})
    assert code(answer) == (400, "INACTIVE_OWNER_OR_USER")
    blind = org.add_user("No", "Read", "blind@contoso.example")
    org.take_read(blind)
    answer = client.send("PATCH", f"sobjects/Opportunity/{deal}", {"OwnerId": blind})
    assert code(answer) == (400, "TRANSFER_REQUIRES_READ")


def test_duplicate_rules_alert_unless_the_caller_allows(org: Salesforce, client: Client) -> None:
    org.create("Account", Name="Adatum")
    org.duplicate_rule = "alert"
    answer = client.send("POST", "sobjects/Account", {"Name": "ADATUM"})
    assert code(answer) == (400, "DUPLICATES_DETECTED")
    allowed = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    assert client.send("POST", "sobjects/Account", {"Name": "ADATUM"}, allowed).status == 201
    org.duplicate_rule = "block"
    assert (
        code(client.send("POST", "sobjects/Account", {"Name": "ADATUM"}, allowed))[1] == "DUPLICATES_DETECTED"
    )


def test_address_picklists_reject_a_state_of_another_country(clock: Clock) -> None:
    org = Salesforce(clock, state_country_picklists=True)
    client = Client(org)
    made = client.send(
        "POST", "sobjects/Account", {"Name": "A", "BillingCountryCode": "US", "BillingStateCode": "WA"}
    )
    row = org.get("Account", made.body["id"])  # type: ignore[index]
    assert (row["BillingCountry"], row["BillingState"]) == ("United States", "Washington")
    for wrong in ({"BillingCountry": "Narnia"}, {"BillingCountryCode": "DE"}, {"BillingState": "Bavaria"}):
        answer = client.send("PATCH", f"sobjects/Account/{row['Id']}", wrong)
        assert code(answer) == (400, "FIELD_INTEGRITY_EXCEPTION"), wrong


# ---------------------------------------------------------------- stamps and versions


def test_a_child_or_a_merge_never_stamps_the_opportunity(org: Salesforce, clock: Clock) -> None:
    winner, loser = org.create("Account", Name="W"), org.create("Account", Name="L")
    deal = org.create("Opportunity", **DEAL, AccountId=loser)
    stamp = org.get("Opportunity", deal)["SystemModstamp"]
    clock.tick(60)
    org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="S-1")
    contact = org.create("Contact", LastName="Doe", AccountId=loser)
    first = org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact, IsPrimary=True)
    org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact, IsPrimary=True)
    org.edit("Account", loser, Name="Renamed")
    org.merge_accounts(winner, loser)
    row = org.get("Opportunity", deal)
    assert (row["AccountId"], row["SystemModstamp"]) == (winner, stamp)
    assert org.get("Account", loser)["MasterRecordId"] == winner
    assert org.get("OpportunityContactRole", first)["IsPrimary"] is False


def test_if_unmodified_since_guards_to_the_second(org: Salesforce, client: Client, clock: Clock) -> None:
    deal = org.create("Opportunity", **DEAL)
    now = {"If-Unmodified-Since": "Sun, 22 Nov 2026 10:00:00 GMT"}
    path = f"sobjects/Opportunity/{deal}"
    assert client.send("PATCH", path, {"Name": "same second"}, now).status == 204
    clock.tick()
    org.touch("Opportunity", deal)
    assert client.send("GET", path, headers=now).status == 200
    org.precondition_field = "SystemModstamp"
    assert code(client.send("GET", path, headers=now)) == (412, "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE")
    assert code(client.send("PATCH", path, {"Name": "no"}, now))[0] == 412
    assert client.send("PATCH", path, {"Name": "no"}, {"If-Unmodified-Since": "yesterday"}).status == 400
    assert client.send("DELETE", path, headers=now).status == 204
    assert code(client.send("GET", path)) == (404, "ENTITY_IS_DELETED")


def test_the_dead_and_the_changed_are_told_by_the_replication_resources(
    org: Salesforce, client: Client, clock: Clock
) -> None:
    deal = org.create("Opportunity", **DEAL)
    member = org.create("OpportunityTeamMember", OpportunityId=deal, UserId=org.seller)
    clock.tick(120)
    window = f"start={quote('2026-11-22T09:59:00+00:00')}&end={quote('2026-11-22T10:02:00+00:00')}"
    changed = client.send("GET", f"sobjects/Opportunity/updated?{window}").body
    assert changed == {"ids": [deal], "latestDateCovered": "2026-11-22T10:02:00.000+0000"}
    org.delete("Opportunity", deal)
    clock.tick(60)
    window = window.replace("10%3A02", "10%3A03")
    gone = client.send("GET", f"sobjects/Opportunity/deleted?{window}").body
    assert gone["deletedRecords"] == [{"id": deal, "deletedDate": "2026-11-22T10:02:00.000+0000"}]  # type: ignore[index]
    assert client.query("SELECT COUNT() FROM OpportunityTeamMember")["totalSize"] == 0
    gone = client.send("GET", f"sobjects/OpportunityTeamMember/deleted?{window}").body
    assert [each["id"] for each in gone["deletedRecords"]] == [member]  # type: ignore[index]
    reversed_window = window.replace("start", "x").replace("end", "start").replace("x=", "end=")
    assert (
        code(client.send("GET", f"sobjects/Opportunity/deleted?{reversed_window}"))[1]
        == "INVALID_REPLICATION_DATE"
    )
    org.undelete("Opportunity", deal)
    assert org.rows("Opportunity")[0]["Id"] == deal


# ---------------------------------------------------------------- batches


def upsert_row(key: object, **fields: object) -> dict[str, object]:
    return {"attributes": {"type": "Opportunity"}, "Cosell_Referral_Id__c": key, **fields}


def test_collections_answer_in_order_and_spare_the_healthy(org: Salesforce, client: Client) -> None:
    path = "composite/sobjects/Opportunity/Cosell_Referral_Id__c"
    records = [
        upsert_row("a", **DEAL),
        upsert_row("b"),
        upsert_row(None, **DEAL),
        upsert_row("d", **DEAL, Id="x"),
    ]
    body = client.send("PATCH", path, {"records": records}).body
    assert [each["success"] for each in body] == [True, False, False, False]  # type: ignore[attr-defined]
    assert body[0]["created"] is True  # type: ignore[index]
    assert body[1]["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"  # type: ignore[index]
    assert body[1]["errors"][0]["fields"] == ["Name", "StageName", "CloseDate"]  # type: ignore[index]
    twice = client.send("PATCH", path, {"records": [upsert_row("z", **DEAL), upsert_row("Z", **DEAL), upsert_row("z", **DEAL)]})  # fmt: skip
    assert [each["success"] for each in twice.body] == [False, False, False]  # type: ignore[attr-defined]
    whole = client.send(
        "PATCH", path, {"allOrNone": True, "records": [upsert_row("n", **DEAL), upsert_row("m")]}
    )
    assert whole.body[0]["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"  # type: ignore[index]
    assert not org.rows("Opportunity", Cosell_Referral_Id__c="n")
    crowd = [upsert_row(str(number), **DEAL) for number in range(201)]
    assert code(client.send("PATCH", path, {"records": crowd})) == (400, "EXCEEDED_ID_LIMIT")


def test_retrieve_keeps_positions_and_shows_null_for_the_unknown(org: Salesforce, client: Client) -> None:
    deal = org.create("Opportunity", **DEAL)
    asked = {"ids": ["006000000000001AAA", deal[:15]], "fields": ["Name"]}
    first, second = client.send("POST", "composite/sobjects/Opportunity", asked).body  # type: ignore[misc]
    assert first is None
    assert second["Name"] == "Deal"
    asked["fields"] = ["Nope"]
    assert code(client.send("POST", "composite/sobjects/Opportunity", asked)) == (400, "INVALID_FIELD")


def part(name: str, method: str, path: str, body: object = None, **more: object) -> dict[str, object]:
    return {"referenceId": name, "method": method, "url": f"{ROOT}/{path}", "body": body, **more}


def test_composite_fills_references_and_counts_as_one_call(org: Salesforce, client: Client) -> None:
    parts = [
        part("acc", "POST", "sobjects/Account", {"Name": "Adatum"}),
        part(
            "opp",
            "PATCH",
            "sobjects/Opportunity/Cosell_Referral_Id__c/r1",
            {**DEAL, "AccountId": "@{acc.id}"},
        ),
        part(
            "sol",
            "POST",
            "sobjects/Cosell_Solution__c",
            {"Opportunity__c": "@{opp.id}", "Solution_Id__c": "S"},
        ),
        part("all", "GET", "query?q=SELECT+Account.Name+FROM+Opportunity+WHERE+Id='@{opp.id}'"),
        part("lost", "PATCH", "sobjects/Opportunity/@{nobody.id}", {"Name": "x"}),
    ]
    used = org.api_used
    answer = client.send("POST", "composite", {"compositeRequest": parts}).body
    made = answer["compositeResponse"]  # type: ignore[index]
    assert [each["httpStatusCode"] for each in made] == [201, 201, 201, 200, 400]
    assert made[3]["body"]["records"][0]["Account"]["Name"] == "Adatum"
    assert made[4]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert org.api_used == used + 1


@pytest.mark.parametrize("honoured", [True, False])
def test_composite_parts_carry_their_own_precondition(
    org: Salesforce, client: Client, clock: Clock, honoured: bool
) -> None:
    org.composite_honours_headers = honoured
    fresh, stale = (org.create("Opportunity", **DEAL) for _ in range(2))
    clock.tick()
    org.edit("Opportunity", stale, Name="Seller's")
    guard = {"httpHeaders": {"If-Unmodified-Since": "Sun, 22 Nov 2026 10:00:00 GMT"}}
    parts = [part(f"p{n}", "PATCH", f"sobjects/Opportunity/{row}", {"Name": "Ours"}, **guard) for n, row in enumerate((fresh, stale))]  # fmt: skip
    answer = client.send("POST", "composite", {"compositeRequest": parts}).body
    states = [each["httpStatusCode"] for each in answer["compositeResponse"]]  # type: ignore[index]
    assert states == ([204, 412] if honoured else [204, 204])


def test_composite_limits_and_all_or_none(org: Salesforce, client: Client) -> None:
    query = "query?q=SELECT+Id+FROM+Account"
    many = [part(f"p{n}", "GET", "sobjects/Account/describe") for n in range(26)]
    assert client.send("POST", "composite", {"compositeRequest": many}).status == 400
    assert client.send("POST", "composite", {"compositeRequest": [part(f"p{n}", "GET", query) for n in range(6)]}).status == 400  # fmt: skip
    parts = [
        part("a", "POST", "sobjects/Account", {"Name": "A"}),
        part("b", "POST", "sobjects/Account", {}),
        part("c", "POST", "sobjects/Account", {"Name": "C"}),
    ]
    envelope = {"allOrNone": True, "compositeRequest": parts}
    made = client.send("POST", "composite", envelope).body["compositeResponse"]  # type: ignore[index]
    assert [each["httpStatusCode"] for each in made] == [400, 400, 400]
    codes = [each["body"][0]["errorCode"] for each in made]
    assert codes == ["PROCESSING_HALTED", "REQUIRED_FIELD_MISSING", "PROCESSING_HALTED"]
    graphs = {
        "graphs": [
            {"graphId": "1", "compositeRequest": parts},
            {"graphId": "2", "compositeRequest": parts[:1]},
        ]
    }
    played = client.send("POST", "composite/graph", graphs).body["graphs"]  # type: ignore[index]
    assert [each["isSuccessful"] for each in played] == [False, True]
    assert [row["Name"] for row in org.rows("Account")] == ["A"]


# ---------------------------------------------------------------- switches and the shell


def test_an_org_without_our_fields_says_so(clock: Clock) -> None:
    org = Salesforce(clock, cosell_fields_installed=False, multi_currency=False, team_selling=False)
    client = Client(org)
    assert client.send("GET", "sobjects/OpportunityTeamMember/describe").status == 404
    # The profile of the integration user shows no opportunities; the deployed permission set does.
    assert client.query("SELECT Cosell_Sync__c FROM Opportunity")[0]["errorCode"] == "INVALID_TYPE"
    org.install_cosell_fields()
    assert client.query("SELECT CurrencyIsoCode FROM Opportunity")[0]["errorCode"] == "INVALID_FIELD"
    assert client.query("SELECT Cosell_Sync__c FROM Opportunity")["totalSize"] == 0
    org.hide_field("Opportunity", "Cosell_Notes__c")
    assert client.query("SELECT Cosell_Notes__c FROM Opportunity")[0]["errorCode"] == "INVALID_FIELD"


def test_the_control_api_is_for_loopback_only(org: Salesforce, client: Client) -> None:
    asked = {"object": "Opportunity", "fields": DEAL}
    assert client.send("POST", "/_sandbox/create", asked).status == 403
    made = client.send("POST", "/_sandbox/create", asked, host="localhost:4711")
    assert made.status == 201
    edit = {"object": "Opportunity", "id": made.body["id"], "fields": {"Name": "Edited"}}  # type: ignore[index]
    assert client.send("POST", "/_sandbox/edit", edit, host="127.0.0.1:4711").status == 204
    rows = client.send("GET", "/_sandbox/rows?object=opportunity&Name=Edited", host="localhost").body
    assert [row["LastModifiedById"] for row in rows] == [org.seller]  # type: ignore[attr-defined]
    assert client.send("POST", "/_sandbox/expire-sessions", {}, host="localhost").status == 204
    assert code(client.send("GET", "limits"))[0] == 401
