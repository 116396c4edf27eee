"""The fake Dataverse is strict where the platform is, and Microsoft's own sign-in library gets along with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx
import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import BaseAdapter

from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID, CLIENT_SECRET
from cosell_sync.sandbox.dataverse.service import Dataverse
from cosell_sync.sandbox.dataverse.values import Refused
from cosell_sync.sandbox.exchange import Headers, Request, Response
from cosell_sync.sandbox.server import Server

HOST = "contoso.crm4.dynamics.com"
ROOT = f"https://{HOST}/api/data/v9.2/"
JSON = {"Content-Type": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0"}
NOBODY = "00000000-0000-4000-8000-000000000000"


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def tick(self, seconds: int = 1) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.body["error"]["code"]

    @property
    def value(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        rows: list[dict[str, Any]] = self.body["value"]
        return rows


def ask(app: Dataverse, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response:
    split = urlsplit(url)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    fields = Headers({**headers, "Host": split.netloc})
    return app(Request(method, unquote(split.path), query, split.query, fields, body))


class Client:
    """The least that can talk to an App: no network, no library."""

    def __init__(self, app: Dataverse) -> None:
        self.app = app
        self.token = app.open_session()

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Authorization": f"Bearer {self.token}", **JSON, **fields}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        url = path if path.startswith("https://") else ROOT + quote(path, safe="/()?$=&,;':@%+!")
        made = ask(self.app, method, url, sent, data)
        return Answer(made.status, made.body, made.headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, **headers)

    def patch(self, path: str, body: object, **headers: str) -> Answer:
        return self.send("PATCH", path, body, **headers)

    def post(self, path: str, body: object, **headers: str) -> Answer:
        return self.send("POST", path, body, **headers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def org(clock: Clock) -> Dataverse:
    return Dataverse(clock)


@pytest.fixture
def client(org: Dataverse) -> Client:
    return Client(org)


# ---------------------------------------------------------------- sign-in, by the library that the product uses


class InProcess(BaseAdapter):
    """Lets MSAL reach the fake without a socket."""

    def __init__(self, app: Dataverse) -> None:
        super().__init__()
        self.app = app

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        data = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        made = ask(self.app, str(request.method), str(request.url), dict(request.headers), data)
        answer = requests.Response()
        answer.status_code, answer._content, answer.encoding = made.status, made.encoded(), "utf-8"
        answer.headers.update(made.headers)
        answer.url, answer.request = str(request.url), request
        return answer

    def close(self) -> None:
        return None


def session(org: Dataverse) -> requests.Session:
    made = requests.Session()
    made.mount("http://", InProcess(org))
    made.mount("https://", InProcess(org))
    return made


def sign_in(org: Dataverse, client_id: str, credential: object, host: str = HOST) -> dict[str, Any]:
    application = msal.ConfidentialClientApplication(
        client_id, authority=f"https://{HOST}/{org.entra.tenant}", client_credential=credential,
        http_client=session(org), instance_discovery=False, validate_authority=False,
    )  # fmt: skip
    made: dict[str, Any] = application.acquire_token_for_client(scopes=[f"https://{host}/.default"])
    return made


def test_msal_signs_in_by_secret_for_this_environment_only(org: Dataverse, clock: Clock) -> None:
    client = Client(org)
    client.token = sign_in(org, CLIENT_ID, CLIENT_SECRET)["access_token"]
    assert client.get("WhoAmI").body["UserId"] == org.integration_user
    assert sign_in(org, CLIENT_ID, "wrong")["error_codes"] == [7000215]
    assert sign_in(org, CLIENT_ID, CLIENT_SECRET, "elsewhere.crm.dynamics.com")["error_codes"] == [500011]
    clock.tick(3601)
    expired = client.get("WhoAmI")
    assert expired.status == 401
    assert expired.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
    org.register_app("stranger", "s", member=False)
    client.token = org.open_session("stranger")
    assert client.get("WhoAmI").refusal == (403, "0x80072560")


@pytest.mark.parametrize("thumbprint", [hashes.SHA1, hashes.SHA256])
def test_msal_signs_in_by_certificate(org: Dataverse, thumbprint: type[hashes.SHA1 | hashes.SHA256]) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cosell-sync")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    credential = {"private_key": private.decode()}
    if thumbprint is hashes.SHA256:
        credential["public_certificate"] = pem.decode()
    else:
        credential["thumbprint"] = certificate.fingerprint(hashes.SHA1()).hex()
    org.register_app("by-certificate", certificate=pem)
    assert "access_token" in sign_in(org, "by-certificate", credential)
    org.register_app("by-another", certificate=None, secret="s")
    assert sign_in(org, "by-another", credential)["error_codes"] == [700027]


def test_a_managed_identity_asks_for_the_resource_itself(org: Dataverse) -> None:
    header = {"X-IDENTITY-HEADER": org.entra.identity_header}
    url = f"https://{HOST}/msi/token?api-version=2019-08-01&resource="
    assert ask(org, "GET", f"{url}https://{HOST}", header, b"").status == 200
    assert ask(org, "GET", f"{url}https://{HOST}/.default", header, b"").status == 400
    assert ask(org, "GET", f"{url}https://{HOST}", {}, b"").status == 401


# ---------------------------------------------------------------- writing


def test_a_row_is_written_through_navigation_properties_and_read_through_lookups(
    org: Dataverse, client: Client
) -> None:
    account = org.create("account", name="Fabrikam")
    currency = client.get(
        "transactioncurrencies?$filter=isocurrencycode eq 'EUR'&$select=currencyname"
    ).value[0]
    body = {
        "name": "Deal", "customerid_account@odata.bind": f"/accounts({account})", "estimatedvalue": 100.005,
        "transactioncurrencyid@odata.bind": f"transactioncurrencies({currency['transactioncurrencyid']})",
        "estimatedclosedate": "2027-01-31", "isrevenuesystemcalculated": False, "cosell_status": 727000001,
    }  # fmt: skip
    made = client.post("opportunities", body)
    assert (made.status, made.body) == (204, None)
    row_id = made.headers["OData-EntityId"][-37:-1]
    annotations = 'odata.include-annotations="*"'
    read = client.get(
        f"opportunities({row_id})?$select=name,estimatedvalue,_customerid_value,cosell_status,estimatedclosedate,exchangerate,estimatedvalue_base"
        "&$expand=customerid_account($select=name)",
        Prefer=annotations,
    ).body
    assert read["estimatedvalue"] == 100.01
    assert read["estimatedvalue_base"] == 108.7065
    assert read["_customerid_value"] == account
    assert read["_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert read["cosell_status@OData.Community.Display.V1.FormattedValue"] == "Accepted"
    assert read["customerid_account"]["name"] == "Fabrikam"
    assert read["@odata.etag"].startswith('W/"')
    seen = org.get("opportunity", row_id)
    assert (seen["cosell_status"], seen["statecode"], seen["statuscode"]) == (
        "Accepted",
        "Open",
        "In Progress",
    )
    assert seen["ownerid"] == seen["createdby"] == org.integration_user


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"nonsense": 1}, (400, "0x80048d19")),
        ({"_customerid_value": NOBODY}, (400, "0x80060888")),
        ({"customerid@odata.bind": f"/accounts({NOBODY})"}, (400, "0x80048d19")),
        ({"ParentAccountId@odata.bind": f"/accounts({NOBODY})"}, (400, "0x80048d19")),
        ({"parentaccountid@odata.bind": f"/accounts({NOBODY})"}, (404, "0x80040217")),
        ({"parentaccountid@odata.bind": f"/contacts({NOBODY})"}, (404, "0x80040217")),
        ({"name": "x" * 301}, (400, "0x80044331")),
        ({"name": "x" * 299 + "\N{ROCKET}"}, (400, "0x80044331")),  # two code units
        ({"name": "one\vtwo"}, (400, "0x80040278")),
        ({"cosell_notes": "bell\x07"}, (400, "0x80040278")),
        ({"name": 5}, (400, "0x80048d19")),
        ({"estimatedvalue": "5"}, (400, "0x80048d19")),
        ({"estimatedclosedate": "2027-01-31T00:00:00Z"}, (400, "0x80048d19")),
        ({"cosell_respondby": "2027-01-31T00:00:00"}, (400, "0x80048d19")),
        ({"cosell_status": "Received"}, (400, "0x80048d19")),
        ({"cosell_status": 9}, (400, "0x8004431A")),
        ({"closeprobability": 101}, (400, "0x80044330")),
        ({"estimatedvalue_base": 5}, (400, "0x80040203")),
        ({"statecode": 0}, (400, "0x80100005")),
        ({"statuscode": 3}, (400, "0x80048408")),
    ],
)
def test_bodies_are_checked(client: Client, body: object, refusal: tuple[int, str]) -> None:
    assert client.post("opportunities", body).refusal == refusal


def test_who_has_no_role_owns_nothing_and_is_named(org: Dataverse, client: Client) -> None:
    user = org.add_user("No", "Role", "role@contoso.example")
    org.take_roles(user)
    answer = client.post("opportunities", {"name": "A", "ownerid@odata.bind": f"/systemusers({user})"})
    assert answer.refusal == (403, "0x80040220")
    assert user in answer.body["error"]["message"]


def test_a_referral_id_is_an_upsert_key_while_its_index_is_active(org: Dataverse, client: Client) -> None:
    address = "opportunities(cosell_referralid='r''1')"
    representation = {"Prefer": "return=representation"}
    assert client.get(address).refusal == (404, "0x80060891")
    assert client.patch(address, {"name": "A"}, If_Match="*").refusal == (404, "0x80060891")
    made = client.patch(f"{address}?$select=name,cosell_referralid", {"name": "A"}, **representation)
    assert (made.status, made.body["cosell_referralid"]) == (201, "r'1")
    again = client.patch(
        f"{address}?$select=name", {"name": "B", "cosell_referralid": "other"}, **representation
    )
    assert (again.status, again.body["opportunityid"]) == (200, made.body["opportunityid"])
    assert org.get("opportunity", made.body["opportunityid"])["cosell_referralid"] == "r'1"
    assert client.patch(address, {"name": "C"}, If_None_Match="*").refusal == (412, "0x80040237")
    assert client.post("opportunities", {"cosell_referralid": "R'1"}).refusal == (412, "0x80060892")
    assert client.get("opportunities(cosell_referralid='a:b')").refusal == (400, "0x80060888")
    assert client.get("opportunities(name='A')").refusal == (400, "0x80060890")
    assert client.get(f"opportunities('{NOBODY}')").refusal == (400, "0x80060888")
    org.set_key_status("opportunity", "cosell_referralkey", "Pending")
    assert client.patch(address, {"name": "D"}).refusal == (400, "0x80060890")
    keys = client.get(
        "EntityDefinitions(LogicalName='opportunity')/Keys?$select=SchemaName,EntityKeyIndexStatus"
    )
    assert keys.value[0]["EntityKeyIndexStatus"] == "Pending"
    assert len(org.rows("opportunity")) == 1


def test_an_etag_guards_a_write(org: Dataverse, client: Client) -> None:
    deal = org.create("opportunity", name="A")
    address = f"opportunities({deal})"
    tag = client.get(f"{address}?$select=name").body["@odata.etag"]
    assert client.get(f"{address}?$select=name", If_None_Match=tag).status == 304
    assert client.patch(address, {"name": "B"}, If_Match=tag).status == 204
    assert client.patch(address, {"name": "C"}, If_Match=tag).refusal == (412, "0x80060882")
    assert client.send("DELETE", address, If_Match=tag).refusal == (412, "0x80060882")
    assert client.patch(f"opportunities({NOBODY})", {"name": "C"}, If_Match="*").refusal == (
        404,
        "0x80040217",
    )
    org.set_concurrency("opportunity", False)
    assert client.patch(address, {"name": "C"}, If_Match=tag).refusal == (400, "0x8006088D")


# ---------------------------------------------------------------- the life of a deal


def test_a_deal_is_closed_by_its_action_and_reopened_by_a_write(org: Dataverse, client: Client) -> None:
    deal = org.create("opportunity", name="A", estimatedvalue=500)
    address = f"opportunities({deal})"

    def close(action: str, status: int) -> Answer:
        about = {"subject": "closed", "actualend": "2026-11-20", "opportunityid@odata.bind": f"/{address}"}
        return client.post(action, {"Status": status, "OpportunityClose": about})

    assert client.patch(address, {"statecode": 1, "statuscode": 3}).refusal == (400, "0x80100005")
    assert client.patch(address, {"statuscode": 2}).status == 204
    assert close("WinOpportunity", 4).refusal == (400, "0x80048408")
    assert close("WinOpportunity", -1).status == 204
    won = org.get("opportunity", deal)
    assert (won["statecode"], won["statuscode"], won["actualvalue"]) == ("Won", "Won", 500.0)
    assert won["actualclosedate"] == "2026-11-20"
    [activity] = org.rows("opportunityclose", opportunityid=deal)
    assert (activity["statecode"], activity["opportunitystatuscode"]) == ("Completed", "Won")
    assert close("WinOpportunity", 3).refusal == (400, "0x80040515")
    assert close("LoseOpportunity", 4).refusal == (400, "0x80040516")
    assert client.patch(address, {"name": "late"}).refusal == (400, "0x8004022E")
    org.closed_rows_writable = True
    assert client.patch(address, {"cosell_message": "late"}).status == 204
    assert client.patch(address, {"statecode": 0, "statuscode": 1}).status == 204
    big = org.add_status_reason("Lost to nobody", "Lost")
    assert close("LoseOpportunity", big).status == 204
    assert org.get("opportunity", deal)["statuscode"] == "Lost to nobody"
    org.reopen(deal)
    org.close(deal, won=False, reason="Out-Sold")
    assert org.get("opportunity", deal)["statuscode"] == "Out-Sold"
    assert len(org.rows("opportunityclose", opportunityid=deal)) == 3


def test_product_lines_swallow_the_value_and_fix_the_currency(org: Dataverse, client: Client) -> None:
    deal = org.create("opportunity", name="A", estimatedvalue=1)
    org.add_products(deal, 700)
    assert client.patch(f"opportunities({deal})", {"estimatedvalue": 5}).status == 204
    assert org.get("opportunity", deal)["estimatedvalue"] == 700
    bind = {"transactioncurrencyid@odata.bind": f"/transactioncurrencies({org.currencies['JPY']})"}
    assert client.patch(f"opportunities({deal})", bind).refusal == (400, "0x80048479")


def test_a_connection_has_two_ends_and_a_merge_moves_deals_without_a_stamp(
    org: Dataverse, clock: Clock
) -> None:
    one, two = org.create("account", name="One"), org.create("account", name="Two")
    contact = org.create("contact", firstname="Kim", lastname="Li", parentcustomerid=two)
    deal = org.create("opportunity", name="A", parentaccountid=two)
    org.connect(deal, contact, role="Decision Maker")
    [seen] = org.rows("connection", record1id=deal)
    [mirror] = org.rows("connection", record1id=contact)
    assert (seen["name"], seen["record2roleid"]) == ("Kim Li", org.roles["Decision Maker"])
    assert (mirror["record2id"], mirror["ismaster"], mirror["record1roleid"]) == (
        deal,
        False,
        seen["record2roleid"],
    )
    before = org.get("opportunity", deal)
    assert before["customerid"] == two
    clock.tick()
    org.merge_accounts(one, two)
    after = org.get("opportunity", deal)
    assert (after["parentaccountid"], after["customerid"]) == (one, one)
    assert after["modifiedon"] == before["modifiedon"]
    assert after["versionnumber"] > before["versionnumber"]
    assert org.get("account", two)["statecode"] == "Inactive"
    org.delete("connection", seen["connectionid"])
    assert org.rows("connection") == []


# ---------------------------------------------------------------- reading


@pytest.fixture
def three(org: Dataverse, clock: Clock) -> list[str]:
    account = org.create("account", name="O'Neil")
    made = []
    for number, name in enumerate(("b", "a", "c")):
        clock.tick()
        row = {"name": name, "estimatedvalue": number, "parentaccountid": account if name == "a" else None}
        made.append(org.create("opportunity", **row))
    return made


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("name eq 'A'", "a"),
        ("contains(name,'b') or endswith(name,'c')", "bc"),
        ("not startswith(name,'b') and estimatedvalue le 1", "a"),
        ("(name eq 'a' or name eq 'b') and estimatedvalue gt 0", "a"),
        ("_parentaccountid_value eq null", "bc"),
        ("parentaccountid/name eq 'O''Neil'", "a"),
        ("modifiedon ge 2026-11-22T10:00:02Z", "ac"),
        ("cosell_sync eq false and statecode eq 0", "bac"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['a','c'])", "ac"),
        ("cosell_referralid ne 'x'", "bac"),
    ],
)
def test_filters(client: Client, three: list[str], condition: str, names: str) -> None:
    found = client.get(f"opportunities?$select=name&$filter={condition}&$orderby=createdon").value
    assert "".join(row["name"] for row in found) == names
    assert set(found[0]) == {"@odata.etag", "name", "opportunityid"}


@pytest.mark.parametrize(
    "query",
    [
        "$filter=nonsense eq 1", "$filter=name eq 5", "$filter=opportunityid eq 'x'", "$filter=name = 'a'",
        "$filter=(name eq 'a'", "$filter=name eq 'a", "$filter=modifiedon ge 2026-11-22", "$filter=name in ('a')",
        f"$filter=opportunityid eq '{NOBODY}'", "$select=parentaccountid", "$select=nonsense", "$skip=1", "$top=x",
        "$orderby=nonsense", "$expand=nonsense", "$apply=x", "$select=name&$select=name",
    ],
)  # fmt: skip
def test_queries_are_checked(client: Client, query: str) -> None:
    assert client.get(f"opportunities?{query}").refusal == (400, "0x80060888")


def test_unknown_sets_and_blanks(org: Dataverse, client: Client) -> None:
    assert client.get("opportunity").refusal == (404, "0x8006088a")
    plus = ROOT + "opportunities?$filter=name+eq+'a'"
    assert client.get(plus).status == 200
    org.strict_spaces = True
    assert client.get(plus).refusal == (400, "0x80060888")


def test_pages_are_followed_by_absolute_opaque_links(client: Client, three: list[str]) -> None:
    sized = {"Prefer": "odata.maxpagesize=2"}
    page = client.get(
        "opportunities?$select=name&$orderby=name desc&$filter=name ne 'z a'&$count=true", **sized
    )
    assert page.body["@odata.count"] == 3
    link = page.body["@odata.nextLink"]
    assert link.startswith(ROOT)
    rest = client.get(link, **sized)
    assert [row["name"] for row in [*page.value, *rest.value]] == ["c", "b", "a"]
    assert "@odata.nextLink" not in rest.body
    assert client.get(link.replace("name,", "").replace("$select=name", "$select=statecode")).status == 400
    assert client.get(unquote(link)).status == 400, "a link decoded once is another link"
    assert client.get("opportunities/$count").body == b"3"


def test_changes_are_followed_from_link_to_link(
    org: Dataverse, client: Client, three: list[str], clock: Clock
) -> None:
    track = {"Prefer": "odata.track-changes, odata.maxpagesize=2"}
    first = client.get("opportunities?$select=name", **track)
    assert "odata.track-changes" in first.headers["Preference-Applied"]
    org.edit("opportunity", first.value[0]["opportunityid"], name="missed")
    last = client.get(first.body["@odata.nextLink"], Prefer="odata.maxpagesize=2")
    link = last.body["@odata.deltaLink"]
    nothing = client.get(link)
    assert nothing.value == [], "the token is as new as the last page: what changed meanwhile is missed"
    org.delete("opportunity", three[0])
    org.edit("opportunity", three[2], name="new")
    gone = org.create("opportunity", name="short-lived")
    org.delete("opportunity", gone)
    changed = client.get(nothing.body["@odata.deltaLink"])
    assert changed.body["@odata.context"].endswith("opportunities(name)/$delta")
    deleted = {"@odata.context": f"{ROOT}$metadata#opportunities/$deletedEntity", "reason": "deleted"}
    assert [each for each in changed.value if "id" in each] == [
        {**deleted, "id": three[0]},
        {**deleted, "id": gone},
    ]
    assert [each["name"] for each in changed.value if "name" in each] == ["new"]
    connection = org.connect(three[2], org.seller)
    org.delete("opportunity", three[2])
    org.undelete("opportunity", three[2])
    restored = client.get(changed.body["@odata.deltaLink"])
    assert [each.get("opportunityid") for each in restored.value] == [three[2]], (
        "back under its id, not deleted"
    )
    assert org.get("connection", connection)["record2id"] == org.seller
    with pytest.raises(Refused):
        org.undelete("opportunity", three[2])
    assert client.get("opportunities?$filter=name eq 'a'", Prefer="odata.track-changes").status == 400
    clock.tick(8 * 86_400)
    assert client.get("WhoAmI").status == 401
    client.token = org.open_session()
    assert client.get(link).refusal == (400, "0x80044352")
    org.set_change_tracking("opportunity", False)
    assert client.get("opportunities", Prefer="odata.track-changes").refusal == (400, "0x80072491")
    org.rights.organization_wide_read = False
    assert client.get("accounts", Prefer="odata.track-changes").refusal == (403, "0x80040220")


def test_choices_and_columns_are_found_by_metadata(org: Dataverse, client: Client) -> None:
    attributes = "EntityDefinitions(LogicalName='opportunity')/Attributes"
    cast = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
    picklists = client.get(
        f"{attributes}/{cast}?$select=LogicalName&$expand=OptionSet($select=Options)"
    ).value
    options = next(each["OptionSet"]["Options"] for each in picklists if each["LogicalName"] == "cosell_help")
    assert "Quotes or licensing" in [each["Label"]["UserLocalizedLabel"]["Label"] for each in options]
    reasons = client.get(
        f"{attributes}(LogicalName='statuscode')/Microsoft.Dynamics.CRM.StatusAttributeMetadata?$expand=OptionSet"
    ).body["OptionSet"]["Options"]
    assert [(each["Value"], each["State"]) for each in reasons] == [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]
    ours = client.get(
        f"{attributes}?$select=LogicalName,AttributeType&$filter=IsCustomAttribute eq true"
    ).value
    assert len(ours) == 27
    assert client.get(f"{attributes}?$select=MaxLength").status == 400, "only behind the cast"
    flags = "EntityDefinitions(LogicalName='opportunity')?$select=ChangeTrackingEnabled,IsOptimisticConcurrencyEnabled"
    assert client.get(flags).body["ChangeTrackingEnabled"] is True
    bare = Client(Dataverse(lambda: datetime(2026, 11, 22, tzinfo=UTC), cosell_installed=False))
    assert bare.get("EntityDefinitions(LogicalName='cosell_solution')").status == 404
    assert bare.get("opportunities?$select=cosell_sync").status == 400
    bare.app.install_cosell()
    assert bare.get("opportunities?$select=cosell_sync").status == 200


# ---------------------------------------------------------------- batches, limits, rights


def batch(*parts: str, boundary: str = "batch_1") -> bytes:
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    return body.encode()


def operation(line: str, body: object = None, content_id: str = "") -> str:
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    head += f"Content-ID: {content_id}\r\n" if content_id else ""
    inner = "" if body is None else f"Content-Type: application/json\r\n\r\n{json.dumps(body)}"
    return f"{head}\r\n{line} HTTP/1.1\r\n{inner}" + ("\r\n" if body is None else "")


def change_set(*parts: str) -> str:
    return (
        'Content-Type: multipart/mixed; boundary="set_1"\r\n\r\n' + batch(*parts, boundary="set_1").decode()
    )


def test_a_change_set_is_all_or_nothing(org: Dataverse, client: Client) -> None:
    deal = org.create("opportunity", name="A")
    fields = operation(f"PATCH /api/data/v9.2/opportunities({deal})", {"name": "B"}, "1")

    def closing(status: int) -> str:
        about = {"Status": status, "OpportunityClose": {"opportunityid@odata.bind": "$1"}}
        return operation("POST /api/data/v9.2/WinOpportunity", about, "2")

    sent = {"Content_Type": 'multipart/mixed; boundary="batch_1"'}
    failed = client.post("$batch", batch(change_set(fields, closing(4))), **sent)
    assert failed.status == 400
    assert b"0x80048408" in failed.body
    assert (org.get("opportunity", deal)["name"], org.rows("opportunityclose")) == ("A", [])
    reading = operation(f"GET /api/data/v9.2/opportunities({deal})?$select=name,statecode")
    done = client.post("$batch", batch(change_set(fields, closing(3)), reading), **sent)
    assert done.status == 200
    assert done.body.count(b"HTTP/1.1 204") == 2
    assert b'"statecode": 1' in done.body
    assert org.get("opportunity", deal)["statecode"] == "Won"
    for wrong in (
        batch(change_set(reading)),
        batch(fields).replace(b"\r\n", b"\n"),
        batch(change_set(operation("PATCH $7", {}, "1"))),
        batch(reading).replace(b"--batch_1--", b""),
    ):
        assert client.post("$batch", wrong, **sent).refusal == (400, "0x80060888")


def test_a_batch_ends_at_its_first_failure_unless_told_to_go_on(org: Dataverse, client: Client) -> None:
    lost = operation(f"GET /api/data/v9.2/opportunities({NOBODY})")
    found = operation(f"GET {ROOT}opportunities?$select=name").removesuffix(
        "\r\n"
    )  # as Microsoft's client ends it
    sent = {"Content_Type": "multipart/mixed; boundary=batch_1"}
    stopped = client.post("$batch", batch(lost, found), **sent)
    assert (stopped.status, stopped.body.count(b"HTTP/1.1")) == (404, 1)
    whole = client.post("$batch", batch(lost, found), Prefer="odata.continue-on-error", **sent)
    assert (whole.status, whole.body.count(b"HTTP/1.1")) == (200, 2)
    made = org.snapshot().get("opportunity", {})
    broken = batch(change_set(operation("POST /api/data/v9.2/opportunities", {"name": "A"}, "1"), lost))
    assert client.post("$batch", broken, **sent).status == 400
    assert org.snapshot().get("opportunity", {}) == made, (
        "a change set that cannot be read leaves nothing behind"
    )


def test_rarer_answers_of_the_platform(org: Dataverse, client: Client) -> None:
    deep = {"name": "A", "cosell_opportunity_cosell_solution": [{"cosell_name": "S"}, {"cosell_status": 1}]}
    assert client.post("opportunities", deep).refusal == (400, "0x80048d19")
    assert org.rows("opportunity") == []
    org.blank_codes = True
    assert client.get(f"opportunities({NOBODY})").refusal == (404, "")
    told = client.get(f"opportunities({NOBODY})", Prefer='odata.include-annotations="*"').body["error"]
    assert told["@Microsoft.PowerApps.CDS.TraceText"]
    org.set_key_status("opportunity", "cosell_referralkey", "Pending")
    for _ in range(2):
        assert client.post("opportunities", {"cosell_referralid": "twice"}).status == 204
    org.set_key_status("opportunity", "cosell_referralkey", "Active")
    [key] = client.get("EntityDefinitions(LogicalName='opportunity')/Keys").value
    assert key["EntityKeyIndexStatus"] == "Failed"
    seller = org.get("systemuser", org.seller)["azureactivedirectoryobjectid"]
    assert client.post("tasks", {"subject": "x"}, CallerObjectId=seller).refusal == (403, "0x80040220")
    org.may_impersonate = True
    assert client.post("tasks", {"subject": "x"}, CallerObjectId=seller).status == 204
    [task] = org.rows("task")
    assert (task["modifiedby"], task["modifiedonbehalfby"]) == (org.seller, org.integration_user)


def test_service_protection_names_its_limit(org: Dataverse, client: Client, clock: Clock) -> None:
    for kind, code in (("requests", "0x80072322"), ("time", "0x80072321"), ("concurrency", "0x80072326")):
        org.throttle(kind, retry_after=7)  # type: ignore[arg-type]
        refused = client.get("WhoAmI")
        assert (refused.refusal, refused.headers["Retry-After"]) == ((429, code), "7")
        assert client.get("WhoAmI").status == 200
    clock.tick(400)
    org.requests_per_window = 2
    assert [client.get("WhoAmI").status for _ in range(3)] == [200, 200, 429]
    clock.tick(300)
    assert client.get("WhoAmI").status == 200


def test_roles_plugins_and_secured_columns_refuse(org: Dataverse, client: Client) -> None:
    deal = org.create("opportunity", name="A")
    address = f"opportunities({deal})"
    org.deny("prvWriteOpportunity")
    refused = client.patch(address, {"name": "B"})
    assert refused.refusal == (403, "0x80040220")
    assert "prvWriteOpportunity" in refused.body["error"]["message"]
    org.deny()
    org.rights.secured.add(("opportunity", "cosell_notes"))
    assert client.patch(address, {"cosell_notes": "x"}).refusal == (403, "0x8004F507")
    org.add_validation_rule("opportunity", lambda record: record["name"] == "B", "No B here")
    assert client.patch(address, {"name": "B"}).refusal == (400, "0x80040265")
    org.add_automation("opportunity", lambda _before, changes: {**changes, "cosell_status": "Won"})
    assert client.patch(address, {"name": "C"}).status == 204
    assert org.get("opportunity", deal)["cosell_status"] == "Won"
    org.create("account", name="Same")
    assert client.post("accounts", {"name": "same"}).status == 204
    sent = {"MSCRM.SuppressDuplicateDetection": "false"}
    assert client.post("accounts", {"name": "same"}, **sent).refusal == (412, "0x80040333")


def test_httpx_meets_it_over_tls(org: Dataverse) -> None:
    certificates = Certificates()
    with (
        Server(org, certificates.server_context(), name="dynamics") as server,
        httpx.Client(verify=certificates.client_context(), base_url=server.url) as web,
    ):
        form = {
            "grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scope": f"{server.url}/.default",
        }  # fmt: skip
        token = web.post(f"/{org.entra.tenant}/oauth2/v2.0/token", data=form).json()["access_token"]
        web.headers.update({"Authorization": f"Bearer {token}", **JSON})
        root = "/api/data/v9.2/"
        made = web.patch(f"{root}opportunities(cosell_referralid='r-1')", json={"name": "Ä & Ö"})
        assert made.status_code == 204
        [row] = web.get(f"{root}opportunities?$filter=contains(name,'%26')&$select=name").json()["value"]
        assert row["name"] == "Ä & Ö"
        assert made.headers["OData-EntityId"] == f"{server.url}{root}opportunities({row['opportunityid']})"
        tagged = {"If-Match": row["@odata.etag"]}
        assert web.delete(f"{root}opportunities({row['opportunityid']})", headers=tagged).status_code == 204
        body = {"table": "account", "columns": {"name": "By hand"}}
        assert web.post("/_sandbox/create", json=body).status_code == 201
        assert web.get("/_sandbox/rows", params={"table": "account"}).json()[0]["name"] == "By hand"
        assert server.errors == []
