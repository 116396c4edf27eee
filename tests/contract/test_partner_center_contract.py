"""Every request that the client makes, held against Microsoft's own contract of the referrals connector.

The contract (microsoft/PowerPlatformConnectors, ``certified-connectors/PartnerCenterReferrals``) is not ours to ship:
``COSELL_CONTRACT`` names the file. Where we knowingly differ from it, ``DEVIATIONS`` says why; a deviation that no
request shows any more fails too, so that the list stays true.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import jsonschema
import pytest
import respx

from cosell_sync.core.deal import Customer, Fields, Member, Snapshot, Solution, State, Step
from cosell_sync.partner_center import patch, read, values
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.values import WireOptions
from cosell_sync.ports import ReferralDraft, ReferralWrite
from cosell_sync.transport.client import HttpCaller

CONTRACT = os.environ.get("COSELL_CONTRACT", "")
pytestmark = pytest.mark.skipif(
    not CONTRACT, reason="COSELL_CONTRACT does not name Microsoft's contract (apiDefinition.swagger.json)"
)

DEVIATIONS = {
    "nulls": "the contract declares no property nullable, yet live answers are full of nulls and PATCH has no remove: "
    "null is the only way to clear a number or a text",
    "salesStage": "the contract lists names, live answers hold percent strings; percent is the default (doubt D5)",
    "additionalRequirements": "typed as an object with array keywords, which says nothing about its attributes; the "
    "current create sample carries CustomerMarketplaceIntent there",
    "if-match": "not declared for PATCH; the page of PATCH documents it, and without it nothing is checked",
    "prefer": "not declared; the page of PATCH documents return=representation",
    "client-request-id": "not declared; the headers page calls it required",
    "accept": "not declared; the body is always JSON",
    "$skiptoken": "not declared; it comes from the service's own nextLink",
    "/name": "not in the patchable list; sent only with mapping.write_name (doubt D6)",
    "/favorite": "not in the patchable list; sent only with mapping.write_favorite (doubt D6)",
}
# What any HTTP request carries; no contract declares it.
PLAIN = {"host", "user-agent", "accept-encoding", "connection", "content-length", "authorization"}

ID = "2f0c6f3e-0000-4000-8000-000000000001"
ENGAGEMENT = "2f0c6f3e-0000-4000-8000-0000000000ee"
STORED = {
    "id": ID,
    "engagementId": ENGAGEMENT,
    "eTag": '"1"',
    "status": "Active",
    "substatus": "Accepted",
    "updatedDateTime": "2026-05-04T10:11:12.2931817Z",
    "details": {"dealValue": 1, "notes": "old", "currency": "EUR"},
}
TEAM = (Member("ida.kern@partner.example", "Ida", "Kern", "+49421000001"),)
SOLUTIONS = (Solution("SOL-10001-ABC", "Mill Planner"),)
FIELDS: Fields = {
    "name": "Harbor Mills",
    "value": Decimal("84000.10"),
    "currency": "EUR",
    "close_date": date(2026, 11, 30),
    "sales_stage": "Develop",
    "campaign_id": "spring",
    "marketplace_intent": "Yes",
    "partner_role": "Reseller",
    "solution_area": "Security",
    "solution_play": "Modern SecOps",
    "location": "4100001",
    "customer": Customer("Harbor Mills GmbH", "Kai 7", None, "Bremen", None, "28195", "DE", "315000001"),
    "contacts": (Member("greta@customer.example", "Greta", "Öz", "+49"),),
    "team": TEAM,
    "solutions": SOLUTIONS,
    "consent": True,
}
ASKING: Fields = {**FIELDS, "help": "Quotes or licensing", "help_note": "In Q3", "visible": True}
EVERYTHING: Fields = {
    **{name: FIELDS[name] for name in ("value", "currency", "close_date", "sales_stage", "campaign_id")},
    "notes": "new",
    "team": TEAM,
    "contacts": TEAM,
    "solutions": SOLUTIONS,
    "external_reference": "006",
    "status_reason": "Other",
    "visible": True,
}


@dataclass
class Judge:
    """Microsoft's contract, and what of our requests it does not declare."""

    contract: dict[str, Any]
    seen: set[str] = field(default_factory=set)

    @property
    def prefix(self) -> str:
        return str(self.contract["basePath"]).rstrip("/")

    def operation(self, request: httpx.Request) -> dict[str, Any]:
        path = request.url.path
        assert path.startswith(self.prefix)
        rest = re.sub(r"/[0-9a-f-]{36}$", "/{id}", path.removeprefix(self.prefix))
        assert rest in self.contract["paths"], rest
        operations = self.contract["paths"][rest]
        assert request.method.lower() in operations, f"{request.method} {rest}"
        operation: dict[str, Any] = operations[request.method.lower()]
        assert not operation.get("deprecated")
        return operation

    def judge(self, request: httpx.Request) -> None:
        assert request.url.scheme in self.contract["schemes"]
        operation = self.operation(request)
        declared = {(item["in"], item["name"].lower()): item for item in operation["parameters"]}
        for name, value in parse_qsl(request.url.query.decode()):
            if ("query", name) not in declared:
                self.deviate(name)
            assert value
        for name in set(request.headers) - PLAIN:
            if ("header", name) not in declared and name != "content-type":
                self.deviate(name)
        for (place, name), item in declared.items():
            if place == "header" and item.get("required"):
                assert name in request.headers, f"{name} is required"
            if place == "body":
                body = json.loads(request.content)
                self.body(body, item["schema"])

    def body(self, body: Any, schema: dict[str, Any]) -> None:
        """Raises for what is neither allowed nor listed."""
        whole = {**schema, "definitions": self.contract["definitions"]}
        for fault in jsonschema.Draft4Validator(whole).iter_errors(body):
            self.deviate(self.named(fault))
        if isinstance(body, dict):
            properties = self.resolve(schema)["properties"]
            self.undeclared(body, properties)
        else:
            for item in body:
                assert set(item) == {"op", "path", "value"}
                if item["value"] is None:
                    self.deviate("nulls")
                if item["path"] == "/salesStage" and item["value"].isdigit():
                    self.deviate("salesStage")

    def named(self, fault: jsonschema.ValidationError) -> str:
        where = list(fault.absolute_path)
        if where and where[-1] == "salesStage":
            return "salesStage"
        if where and where[-1] == "path":
            return str(fault.instance)
        if fault.instance is None:
            return "nulls"
        return f"{'/'.join(map(str, where))}: {fault.message}"

    def undeclared(self, body: dict[str, Any], properties: dict[str, Any]) -> None:
        """JSON Schema lets unknown properties pass; we do not."""
        for name, value in body.items():
            assert name in properties, f"{name} is no property of a referral"
            if name == "additionalRequirements":
                self.deviate(name)
                continue
            inner = properties[name].get("properties") or properties[name].get("items", {}).get("properties")
            if not inner:
                continue
            for item in value if isinstance(value, list) else [value]:
                self.undeclared(item, inner)

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        name = schema["$ref"].removeprefix("#/definitions/")
        found: dict[str, Any] = self.contract["definitions"][name]
        return found

    def deviate(self, name: str) -> None:
        assert name in DEVIATIONS, f"the contract does not allow this: {name}"
        self.seen.add(name)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(json.loads(Path(CONTRACT).read_text(encoding="utf-8")))


@pytest.fixture
def center(judge: Judge) -> Iterator[PartnerCenter]:
    """A client whose every request is judged before it is answered."""
    yield from _center(judge, WireOptions())


def _center(judge: Judge, wire: WireOptions) -> Iterator[PartnerCenter]:
    faults: list[BaseException] = []

    def answer(request: httpx.Request) -> httpx.Response:
        try:
            judge.judge(request)
        except BaseException as fault:  # shown by the test, not swallowed by the client
            faults.append(fault)
            raise
        if request.method != "GET" or request.url.path.endswith(ID):
            return httpx.Response(200, json=STORED)
        more = {} if b"skiptoken" in request.url.query else {"@odata.nextLink": "http://x/y?$skiptoken=1"}
        more = {name: link.replace("//x/", f"//{request.url.host}/") for name, link in more.items()}
        return httpx.Response(200, json={"value": [STORED], **more})

    with respx.mock(assert_all_called=False) as mock:
        mock.route().mock(side_effect=answer)
        caller = HttpCaller(
            "partner_center",
            f"https://{judge.contract['host']}",
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            id_headers=ID_HEADERS,
        )
        yield PartnerCenter(caller, wire, page_size=50)
        caller.close()
    assert faults == []


def before(**details: Any) -> Snapshot:
    snapshot = read.snapshot({**STORED, **details}, WireOptions())
    assert snapshot is not None
    return snapshot


def write(center: PartnerCenter, *steps: Step) -> None:
    (outcome,) = center.write([ReferralWrite(before(), steps)])
    assert outcome.error is None


def test_lists(center: PartnerCenter) -> None:
    for watermark in (None, "2026-05-04T10:00:00Z"):
        assert list(center.changed_since(watermark, timedelta(minutes=5)))
    assert list(center.index())
    assert center.engagement(ENGAGEMENT)
    assert center.find_created("006") is None
    assert center.fetch([ID])[ID]


def test_patches(center: PartnerCenter) -> None:
    write(center, Step(EVERYTHING))
    write(center, Step({"value": None, "notes": None, "campaign_id": None, "team": (), "solutions": ()}))
    for state in (State.ACCEPTED, State.WON, State.LOST, State.DECLINED):
        write(center, Step({}, state))


def test_patches_with_the_switches_on(judge: Judge) -> None:
    wire = WireOptions(sales_stage="name", write_name=True, write_favorite=True)
    for center in _center(judge, wire):
        write(center, Step({**EVERYTHING, "name": "New", "favorite": True}))


def test_creates(center: PartnerCenter) -> None:
    for fields in (FIELDS, {**FIELDS, "visible": True}, ASKING):
        assert center.create(ReferralDraft("006", fields)).error is None
    assert center.create(ReferralDraft("006", ASKING, ENGAGEMENT)).error is None


def test_creates_by_the_other_recipe(judge: Judge) -> None:
    for center in _center(judge, WireOptions(recipe="one_post", sales_stage="name")):
        assert center.create(ReferralDraft("006", ASKING)).error is None


def test_our_permitted_paths_are_the_contracts(judge: Judge) -> None:
    name = next(name for name in judge.contract["definitions"] if name.endswith("UpdateReferralDetails"))
    permitted = set(judge.contract["definitions"][name]["items"]["properties"]["path"]["enum"])
    assert set(patch.PATHS.values()) <= permitted


def test_our_kinds_of_help_are_the_contracts(judge: Judge) -> None:
    name = next(name for name in judge.contract["definitions"] if name.endswith("V3.Referral"))
    context = judge.contract["definitions"][name]["properties"]["inviteContext"]["properties"]
    codes = set(context["assistanceRequestCode"]["enum"])
    assert codes == set(values.HELP_CODES.values()) | {"Unknown"}


def test_every_listed_deviation_is_still_made(judge: Judge) -> None:
    for wire in (WireOptions(), WireOptions(write_name=True, write_favorite=True)):
        for center in _center(judge, wire):
            list(center.index())
            switched: Fields = {"name": "x", "favorite": True} if wire.write_name else {}
            write(center, Step({"notes": None, "sales_stage": "Develop", **switched}))
            center.create(ReferralDraft("006", FIELDS))
    assert judge.seen == set(DEVIATIONS)


def test_the_judge_is_not_asleep(judge: Judge) -> None:
    url = f"https://{judge.contract['host']}{judge.prefix}/referrals"
    headers = {"content-type": "application/json"}
    bad = [
        httpx.Request("DELETE", url, headers=headers),
        httpx.Request("GET", f"{url}?$search=x", headers=headers),
        httpx.Request("GET", url.replace("/v1.0", ""), headers=headers),
        httpx.Request(
            "PATCH", f"{url}/{ID}", headers=headers, json=[{"op": "remove", "path": "/team", "value": 1}]
        ),
        httpx.Request(
            "PATCH", f"{url}/{ID}", headers=headers, json=[{"op": "add", "path": "/type", "value": 1}]
        ),
        httpx.Request("POST", url, headers=headers, json={"name": 7}),
        httpx.Request("POST", url, headers=headers, json={"surprise": 7}),
        httpx.Request("POST", url, headers=headers, json={"details": {"surprise": 7}}),
    ]
    for request in bad:
        with pytest.raises(AssertionError):
            judge.judge(request)
