"""A seller's day with deals of the seller's own, played with the installed command against the served sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acting import Stage, staged, struck

pytestmark = pytest.mark.wire
HELP = "Proof of concept or demo"
REFERRALS = "/v1.0/engagements/referrals"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield from staged(tmp_path)


def opportunity(stage: Stage, name: str = "ERP move", **fields: Any) -> str:
    """Everything that a private deal needs, as a seller enters it."""
    sf = stage.sf
    ida = stage.user("ida.kern@nordlicht.example")
    account = sf.create(
        "Account",
        Name=f"Customer of {name}",
        BillingStreet="Kai 7",
        BillingCity="Bremen",
        BillingCountry="Germany",
    )
    made: str = sf.create(
        "Opportunity",
        by=ida,
        **{
            "Name": name,
            "AccountId": account,
            "Amount": 84000,
            "CloseDate": f"{stage.sandbox.clock().year + 1}-05-31",
            "StageName": "Qualification",
            "Cosell_Sync__c": True,
            "Cosell_Consent__c": True,
            **fields,
        },
    )
    sf.create(
        "Cosell_Solution__c",
        Opportunity__c=made,
        Solution_Id__c="SOL-10001-ABC",
        Solution_Name__c="Mill Planner",
    )
    return made


def contact(stage: Stage, deal: str) -> None:
    account = stage.sf.get("Opportunity", deal)["AccountId"]
    greta = stage.sf.create(
        "Contact",
        AccountId=account,
        FirstName="Greta",
        LastName="Oz",
        Email="greta@customer.example",
        Phone="+49 1",
    )
    stage.sf.create("OpportunityContactRole", OpportunityId=deal, ContactId=greta, IsPrimary=True)


def test_a_deal_of_ones_own_from_private_to_microsofts_answer(stage: Stage) -> None:
    """Shares it, widens it, asks for help, and reads what Microsoft says; another one is declined."""
    deal = opportunity(stage, Cosell_Consent__c=False)
    stage.forget_calls()
    done = stage.sync(expect=1)
    record = stage.sf.get("Opportunity", deal)
    assert record["Cosell_Sync_State__c"] == "Needs attention"
    assert "onsent" in record["Cosell_Message__c"]
    assert stage.servers[0].calls.matching("POST", REFERRALS) == []
    assert done.finished["rejected"] == 1

    stage.sf.edit("Opportunity", deal, Cosell_Consent__c=True)
    planned = stage.cosell("plan", "--json").json()["effects"]
    created = [effect for effect in planned if effect["action"] == "create"]
    assert {(each["side"], each["referral_id"], each["opportunity_id"]) for each in created} == {
        ("partner_center", None, deal)
    }
    assert "Amount" in {each["field"] for each in created}
    assert stage.pc.ours() == []

    assert stage.sync().finished["created"] == {"partner_center": 1, "crm": 0}
    (referral,) = stage.pc.ours()
    assert referral["externalReferenceId"] == deal
    assert referral["consent"]["consentToShareReferralWithMicrosoftSellers"] is False
    record = stage.deal(referral)
    assert (record["Cosell_Deal_Type__c"], record["Cosell_Status__c"]) == ("Private", "Accepted")
    assert (record["Cosell_Direction__c"], record["Cosell_Sync_State__c"]) == ("Outbound", "In sync")
    stage.quiet()

    stage.seller(referral, Cosell_Visible_To_Microsoft__c=True)
    stage.sync()
    assert stage.referral(referral)["consent"]["consentToShareReferralWithMicrosoftSellers"] is True
    contact(stage, deal)
    stage.seller(referral, Cosell_Help__c=HELP, Cosell_Help_Note__c="Pilot in Q3")
    stage.sync()
    (side,) = stage.pc.microsoft_sides(referral["engagementId"])
    assert side["inviteContext"]["assistanceRequestCode"] == "ProofOfConceptOrDemo"
    assert stage.deal(referral)["Cosell_Microsoft_Status__c"] == "New / Pending"

    other = opportunity(stage, "Other", Cosell_Help__c=HELP)
    contact(stage, other)
    stage.sync()
    second = next(each for each in stage.pc.ours() if each["externalReferenceId"] == other)
    assert stage.deal(second)["Cosell_Deal_Type__c"] == "Co-sell"
    stage.pc.microsoft_answers(referral["engagementId"], "Active", "Accepted", msx_id="7-123")
    stage.pc.microsoft_answers(
        second["engagementId"], "Closed", "Declined", reason="no matching customer record"
    )
    stage.sync()
    accepted, declined = stage.deal(referral), stage.deal(second)
    assert (accepted["Cosell_Microsoft_Status__c"], accepted["Cosell_Microsoft_Id__c"]) == (
        "Active / Accepted",
        "7-123",
    )
    assert declined["Cosell_Microsoft_Status__c"] == "Closed / Declined"
    assert "no matching customer record" in declined["Cosell_Message__c"]
    assert accepted["Cosell_Deal_Type__c"] == "Co-sell"
    stage.quiet()
    assert (len(stage.pc.ours()), len(stage.pc.microsoft_sides(referral["engagementId"]))) == (2, 1)


@pytest.mark.parametrize("skip", [0, 1], ids=["first post", "invitation"])
def test_a_lost_reply_and_a_kill_at_a_post_make_no_second_one(stage: Stage, skip: int) -> None:
    """The answer is held back, the process killed meanwhile; the next cycle looks before it posts."""
    deal = opportunity(stage, Cosell_Help__c=HELP)
    contact(stage, deal)
    server = stage.servers[0]
    server.faults.slow(20, method="POST", path=REFERRALS, skip=skip, applied=True)
    stage.killed("sync", at=struck(server))
    stage.sync()
    (referral,) = stage.pc.ours()
    assert len(stage.pc.microsoft_sides(referral["engagementId"])) == 1
    assert stage.deal(referral)["Cosell_Microsoft_Status__c"] == "New / Pending"
    stage.quiet()
