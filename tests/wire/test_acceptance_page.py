"""What Microsoft's page on co-sell opportunities says of a deal, on the record of it: solutions, people, Microsoft's side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, staged
from crm_vocabulary import Row
from test_acceptance_sharing import HELP, REFERRALS, contact, opportunity

from cosell_sync.sandbox.partner_center.samples import member
from cosell_sync.sandbox.partner_center.schema import ORGANIZATION_NAME, Document, timestamp

pytestmark = pytest.mark.wire

GREEN = "Green Software Ltd"
AZURE = "0a1b2c3d-1111-4000-8000-000000000001"


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def solution(id: str, publisher: str | None, **more: Any) -> Document:  # noqa: A002
    return {
        "id": id,
        "name": f"Called {id}",
        "type": "Name",
        "solutionType": "3P",
        "publisherName": publisher,
        **more,
    }


def test_whose_solution_it_is_its_publisher_says(stage: Stage) -> None:
    expected = {
        "SOL-1-OURS": (ORGANIZATION_NAME, "Own"),
        "SOL-2-LOUD": (ORGANIZATION_NAME.upper() + ".", "Own"),
        "SOL-3-GREEN": (GREEN, "Third party"),
        "0a1b2c3d-1111-4000-8000-00000000000f": (GREEN, "Third party"),
        AZURE: ("Microsoft", "Microsoft"),
        "SOL-4-THEIRS": ("Microsoft Corporation", "Microsoft"),
        "SOL-5-BRAND": ("Polar Apps", "Own"),
        "SOL-6-SILENT": (None, "Own"),
    }
    stage.env["COSELL_PARTNER_CENTER__PUBLISHER_NAMES"] = "Polar Apps"
    rows = [solution(code, publisher) for code, (publisher, _) in expected.items()]
    deal = stage.add(details={"requirements": {"solutions": rows}})
    stage.sync()
    shown = {code: row["type"] for code, row in stage.solutions(deal).items()}
    assert shown == {code: kind for code, (_, kind) in expected.items()}
    # what a seller chooses in its place does not stand
    stage.crm.edit("solution", stage.solutions(deal)["SOL-3-GREEN"]["id"], type="Own")
    stage.sync()
    assert stage.solutions(deal)["SOL-3-GREEN"]["type"] == "Third party"
    stage.quiet()


def test_a_third_partys_solution_is_no_target_of_ours(stage: Stage) -> None:
    deal = opportunity(stage, help=HELP)
    contact(stage, deal)
    stage.crm.create("solution", opportunity=deal, code="SOL-9-GREEN", title="Theirs", type="Third party")
    stage.sync()
    first, _ = [call.json() for call in stage.servers[0].calls.matching("POST", REFERRALS)]
    assert first["target"] == [{"type": "SolutionProfile", "id": "SOL-10001-ABC"}]
    assert {row["id"] for row in first["details"]["requirements"]["solutions"]} == {
        "SOL-10001-ABC",
        "SOL-9-GREEN",
    }


def test_who_has_no_key_is_told_and_stays_on_its_side(stage: Stage) -> None:
    """Microsoft's contact without an e-mail and solution without an id; the seller's own; and writes of both sets."""
    crm = stage.crm
    nameless = {**member("Nora", "Nomail", "x@y.example", "+49 1"), "email": None}
    unknown = solution("", GREEN, name="Nameless Suite", price=7)
    deal = stage.add(
        "inbound_accepted",
        customerProfile={"name": "Harbor Mills GmbH", "team": [nameless]},
        details={"requirements": {"solutions": [unknown, solution("SOL-1-OURS", ORGANIZATION_NAME)]}},
    )
    stage.sync()
    stage.sync()
    row = stage.deal(deal)
    assert "Nora Nomail" in row["message"]
    assert "Nameless Suite" in row["message"]
    assert row["sync_state"] == "In sync"
    stage.quiet()
    # the seller has some, too, and both sets are written over
    account = row["account"]
    silent = crm.create("contact", account=account, first_name="Sil", last_name="Ent")
    heard = crm.create("contact", account=account, first_name="Greta", last_name="Oz", email="greta@customer.example", phone="+1")  # fmt: skip
    for person in (silent, heard):
        crm.add_contact(row["id"], person)
    stage.seller(deal, consent=True)
    crm.create("solution", opportunity=row["id"], title="Unnumbered")
    crm.create("solution", opportunity=row["id"], code="SOL-2-MORE", title="More")
    stage.sync()
    stage.sync()
    message = stage.deal(deal)["message"]
    for name in ("Nora Nomail", "Nameless Suite", "Sil Ent", "Unnumbered"):
        assert name in message
    there = stage.referral(deal)
    people = {person["lastName"]: person["email"] for person in there["customerProfile"]["team"]}
    assert people == {"Oz": "greta@customer.example", "Nomail": None}
    solutions = {each["name"]: each for each in there["details"]["requirements"]["solutions"]}
    assert solutions.keys() == {"Called SOL-1-OURS", "More", "Nameless Suite"}
    assert solutions["Nameless Suite"]["price"] == 7
    assert {each["last_name"] for each in crm.contacts(row["id"])} == {"Ent", "Oz"}
    assert {each["title"] for each in crm.rows("solution", opportunity=row["id"])} == {"Called SOL-1-OURS", "More", "Unnumbered"}  # fmt: skip
    stage.quiet()
    # what cannot be sent without losing the nameless one is told
    removed = next(
        each["id"] for each in crm.rows("solution", opportunity=row["id"]) if each["code"] == "SOL-2-MORE"
    )
    crm.delete("solution", removed)
    stage.sync()
    assert "has no id in Partner Center would be lost" in stage.deal(deal)["message"]
    assert {
        each["name"] for each in stage.referral(deal)["details"]["requirements"]["solutions"]
    } == solutions.keys()
    stage.quiet()
    # once there is an address the person goes over, and nothing more is said of it
    crm.edit("contact", silent, email="sil@customer.example")
    stage.sync()
    stage.sync()
    assert "Sil Ent" not in stage.deal(deal)["message"]
    assert "sil@customer.example" in {
        each["email"] for each in stage.referral(deal)["customerProfile"]["team"]
    }
    stage.quiet()


def told(stage: Stage, deal: Document) -> Row:
    row = stage.deal(deal)
    return {name: row[name] for name in ("microsoft_status", "microsoft_id", "deal_type")}


def test_microsofts_side_of_deals_made_in_the_portal_is_fresh_within_two_cycles(stage: Stage) -> None:
    deals = [stage.add("cosell") for _ in range(20)]
    stage.sync()
    stage.sync()
    for deal in deals:
        assert told(stage, deal) == {
            "microsoft_status": "New / Pending",
            "microsoft_id": None,
            "deal_type": "Co-sell",
        }
    accepted, declined, *others = deals
    stage.pc.microsoft_answers(accepted["engagementId"], "Active", "Accepted", msx_id="7-42")
    stage.pc.microsoft_answers(
        declined["engagementId"], "Closed", "Declined", reason="not managed by a seller"
    )
    stage.sync()
    stage.sync()
    assert told(stage, accepted) == {"microsoft_status": "Active / Accepted", "microsoft_id": "7-42", "deal_type": "Co-sell"}  # fmt: skip
    assert told(stage, declined)["microsoft_status"] == "Closed / Declined"
    assert "not managed by a seller" in stage.deal(declined)["message"]
    assert {told(stage, deal)["microsoft_status"] for deal in others} == {"New / Pending"}
    stage.quiet()


@pytest.mark.parametrize("flips", [True, False], ids=["our row flips", "our row stays Independent"])
def test_a_partner_led_deal_that_becomes_cosell_elsewhere_says_so(stage: Stage, *, flips: bool) -> None:
    deal, other, private = stage.add("partner_led"), stage.add("partner_led"), stage.add("private")
    stage.sync()
    assert stage.sync().calls[0] == 1, "a deal that nobody joined costs nothing"
    stage.pc.edit(other["id"], "details/notes", "an ordinary edit")
    stage.pc.edit(private["id"], "tags", ["not seen here"])
    assert stage.sync().calls[0] == 1
    side = stage.pc.microsoft_joins(deal["id"], flips=flips)
    assert stage.sync().calls[0] == 2
    row = stage.deal(deal)
    assert (row["deal_type"], row["microsoft_status"], row["sync_state"]) == (
        "Co-sell",
        "New / Pending",
        "In sync",
    )
    assert "co-sell deal now" in row["message"]
    assert stage.deal(other)["deal_type"] == "Partner-led"
    stage.pc.microsoft_answers(side["engagementId"], "Active", "Accepted")
    stage.sync()
    assert told(stage, deal)["microsoft_status"] == "Active / Accepted"
    stage.quiet()


def test_an_opportunity_without_an_account_is_asked_for_one(stage: Stage) -> None:
    deal = opportunity(stage, account=None)
    stage.sync(expect=1)
    record = stage.crm.get("opportunity", deal)
    assert record["sync_state"] == "Needs attention"
    assert "Choose an Account." in record["message"]
    for part in ("Street", "City", "Country"):
        assert part not in record["message"]


def test_a_win_of_an_unanswered_deal_that_would_expire_is_accepted_in_time(stage: Stage) -> None:
    expires = timestamp(stage.sandbox.clock() + timedelta(minutes=10))
    hurried, calm = stage.add("inbound_pending", expirationDateTime=expires), stage.add("inbound_pending")
    stage.sync()
    for deal in (hurried, calm):
        stage.seller(deal, stage="Won")
    stage.sync()
    assert (stage.status(hurried), stage.status(calm)) == (("Active", "Accepted"), ("New", "Pending"))
    assert "accepted at once" in stage.deal(hurried)["message"]
    assert "Accepted and Won" in stage.deal(calm)["message"]
    stage.quiet()
    stage.seller(calm, stage="Standby")
    stage.sync()
    assert stage.status(calm) == ("New", "Pending")
    assert "Your Won was taken back in time; Microsoft was not told of it." in stage.deal(calm)["message"]
    assert stage.deal(calm)["status"] == "Received"
    stage.quiet()
