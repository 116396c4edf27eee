"""The demo on either CRM, and its judge: it must be able to convict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.demo.comparison import Agreement, compare
from cosell_sync.sandbox.demo.story import ROLES, Story
from cosell_sync.sandbox.partner_center import samples
from cosell_sync.sandbox.partner_center.schema import Document, member
from cosell_sync.sandbox.systems import Sandbox

CRMS = ("salesforce", "dynamics")
IDA, JONAS = samples.USERS[:2]
ZOE = ("Zoë", "Berg", "zoe@customer.example", "+31 20 100003")


@pytest.fixture(params=CRMS)
def crm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pair:
    """One referral and one deal that tell the same story, put there by hand."""

    def __init__(self, crm: str) -> None:
        self.sandbox = Sandbox(crm=crm)
        self.pc, self.seller = self.sandbox.partner_center, self.sandbox.seller
        self.referral = self.pc.add(
            "inbound_accepted",
            name="Deal",
            campaignId="SPRING-26",
            favorite=True,
            salesStage="60",
            team=[samples.own_member(IDA)],
            customerProfile={"name": "Fjord AS", "team": [member(*ZOE)]},
            details={
                "notes": "One\nTwo",
                "dealValue": 90_000,
                "currency": "EUR",
                "closingDateTime": "2027-03-31T00:00:00Z",
                "requirements": {"solutions": [samples.SOLUTIONS[0]]},
            },
        )
        customer = {
            "name": "Fjord AS",
            "street": "Kai 1",
            "city": "Oslo",
            "postal_code": "1",
            "country": "Norway",
        }
        self.deal = self.seller.new_deal(
            by=self.seller.logins[IDA],
            customer=customer,
            name="Deal",
            amount=90_000,
            currency="EUR",
            close_date="2027-03-31",
            referral_id=self.referral["id"],
            status="Accepted",
            campaign_id="SPRING-26",
            marketplace_intent="Have not decided",
            location="4100001",
            notes="One\r\nTwo",
            favorite=True,
        )
        first, last, email, phone = ZOE
        self.seller.add_contact(self.deal, first=first, last=last, email=email, phone=phone)
        self.seller.add_solution(self.deal, samples.SOLUTIONS[0]["id"], "Mill Planner")
        self.seller.move(self.deal, "Propose")

    def judged(self) -> Agreement:
        return compare(self.pc, self.seller)

    def portal(self, path: str, value: Any) -> Document:
        return self.pc.edit(self.referral["id"], path, value)


@pytest.fixture
def pair(crm: str) -> Iterator[Pair]:
    made = Pair(crm)
    yield made
    made.sandbox.stop()


def test_a_pair_that_tells_the_same_story_is_agreed(pair: Pair) -> None:
    found = pair.judged()
    assert found.faults == []
    assert (found.deals, found.fields, found.named, found.holds) == (1, 16, [], True)


BREACHES: dict[str, Callable[[Pair], object]] = {
    "Name": lambda pair: pair.seller.write(pair.deal, name="Another"),
    "Amount": lambda pair: pair.seller.write(pair.deal, amount=90_000.01),
    "Currency": lambda pair: pair.portal("details/currency", "GBP"),
    "Close Date": lambda pair: pair.portal("details/closingDateTime", "2027-04-01T00:00:00Z"),
    "Status": lambda pair: pair.seller.write(pair.deal, status="Received"),
    "Stage": lambda pair: pair.seller.move(pair.deal, "won"),
    "Sales Stage": lambda pair: pair.seller.move(pair.deal, "Develop"),
    "Campaign": lambda pair: pair.seller.write(pair.deal, campaign_id=None),
    "Marketplace intent": lambda pair: pair.seller.write(pair.deal, marketplace_intent="No"),
    "Partner location": lambda pair: pair.seller.write(pair.deal, location=None),
    "Notes": lambda pair: pair.portal("details/notes", "One\nTwo\nThree"),
    "Favorite": lambda pair: pair.seller.write(pair.deal, favorite=False),
    "Account": lambda pair: pair.portal("customerProfile/name", "Fjord A/S"),
    "Contact": lambda pair: pair.seller.drop_contact(pair.deal, ZOE[2]),
    "Solution": lambda pair: pair.seller.drop_solution(pair.deal, samples.SOLUTIONS[0]["id"]),
    "Team": lambda pair: pair.seller.add_colleague(pair.deal, JONAS),
}


@pytest.mark.parametrize("field", BREACHES)
def test_the_judge_convicts_a_difference_in_each_field(pair: Pair, field: str) -> None:
    BREACHES[field](pair)
    found = pair.judged()
    assert field in {line.split(" ", 1)[1].split(":")[0] for line in found.faults}
    assert not found.holds


def test_a_colleague_who_left_is_no_difference_any_more(pair: Pair) -> None:
    pair.seller.add_colleague(pair.deal, IDA)
    pair.seller.add_colleague(pair.deal, JONAS)
    pair.seller.drop_colleague(pair.deal, JONAS)
    assert pair.judged().faults == []


def test_a_difference_that_the_record_names_is_told_apart(pair: Pair) -> None:
    label = pair.seller.labels.get("Name", "Name")
    pair.seller.write(pair.deal, name="Another", message=f"{label} stays as you wrote it in the CRM.")
    found = pair.judged()
    assert (len(found.named), found.faults) == (1, [])


def test_a_referral_without_its_deal_is_a_fault(pair: Pair) -> None:
    other = pair.pc.add("inbound_accepted", details={"currency": "EUR"})
    assert pair.judged().faults == [f"{other['id']}: no deal"]


def test_the_story_finds_its_roles_in_however_small_a_pipeline(crm: str) -> None:
    clock = Clock()
    sandbox = Sandbox(deals=1, crm=crm, clock=clock)
    Story(sandbox, clock).add_missing_deals()
    for status, wanted in ROLES.values():
        incoming = [
            each
            for each in sandbox.partner_center.ours()
            if (each["direction"], each["status"]) == ("Incoming", status)
        ]
        assert len(incoming) >= wanted
    sandbox.stop()


@pytest.mark.wire
def test_the_demo_ends_agreed_and_stays_up_until_it_is_told_to_end(crm: str, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("cosell-sync")),
        "demo",
        "--crm",
        crm,
        "--deals",
        "5",
        "--keep",
    ]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("COSELL_")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=outside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C ends it"):
                break
        process.send_signal(signal.SIGINT)
        said += process.stdout.read()
    assert process.returncode == 0, said
    assert "Agreed." in said
    assert "0 differ" in said
    assert f"COSELL_CRM='{crm}'" in said
