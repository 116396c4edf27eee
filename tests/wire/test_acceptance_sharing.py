"""A seller's day with deals of the seller's own, with the command against the served sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, held_back, staged

pytestmark = pytest.mark.wire
HELP = "Proof of concept or demo"
REFERRALS = "/v1.0/engagements/referrals"


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def opportunity(stage: Stage, name: str = "ERP move", **fields: Any) -> str:
    """Everything that a private deal needs, as a seller enters it."""
    crm = stage.crm
    ida = stage.user("ida.kern@nordlicht.example")
    account = crm.create(
        "account",
        name=f"Customer of {name}",
        street="Kai 7",
        city="Bremen",
        country="Germany",
    )
    made: str = crm.create(
        "opportunity",
        by=ida,
        **{
            "name": name,
            "account": account,
            "value": 84000,
            "close_date": f"{stage.sandbox.clock().year + 1}-05-31",
            "stage": "Accepted",
            "sync": True,
            "consent": True,
            **fields,
        },
    )
    crm.create(
        "solution",
        opportunity=made,
        code="SOL-10001-ABC",
        title="Mill Planner",
    )
    return made


def contact(stage: Stage, deal: str) -> None:
    account = stage.crm.get("opportunity", deal)["account"]
    greta = stage.crm.create(
        "contact",
        account=account,
        first_name="Greta",
        last_name="Oz",
        email="greta@customer.example",
        phone="+49 1",
    )
    stage.crm.add_contact(deal, greta, primary=True)


def test_a_deal_of_ones_own_from_private_to_microsofts_answer(stage: Stage) -> None:
    """Shares it, widens it, asks for help, and reads what Microsoft says; another one is declined."""
    deal = opportunity(stage, consent=False)
    stage.forget_calls()
    done = stage.sync(expect=1)
    record = stage.crm.get("opportunity", deal)
    assert record["sync_state"] == "Needs attention"
    assert "onsent" in record["message"]
    assert stage.servers[0].calls.matching("POST", REFERRALS) == []
    assert done.finished["rejected"] == 1

    stage.crm.edit("opportunity", deal, consent=True)
    planned = stage.cosell("plan", "--json").json()["effects"]
    created = [effect for effect in planned if effect["action"] == "create"]
    assert {(each["side"], each["referral_id"], each["opportunity_id"]) for each in created} == {
        ("partner_center", None, deal)
    }
    assert stage.crm.column("value") in {each["field"] for each in created}
    assert stage.pc.ours() == []

    assert stage.sync().finished["created"] == {"partner_center": 1, "crm": 0}
    (referral,) = stage.pc.ours()
    assert referral["externalReferenceId"] == deal
    assert referral["consent"]["consentToShareReferralWithMicrosoftSellers"] is False
    record = stage.deal(referral)
    assert (record["deal_type"], record["status"]) == ("Private", "Accepted")
    assert (record["direction"], record["sync_state"]) == ("Outbound", "In sync")
    stage.quiet()

    stage.seller(referral, visible=True)
    stage.sync()
    assert stage.referral(referral)["consent"]["consentToShareReferralWithMicrosoftSellers"] is True
    contact(stage, deal)
    stage.seller(referral, help=HELP, help_note="Pilot in Q3")
    stage.sync()
    (side,) = stage.pc.microsoft_sides(referral["engagementId"])
    assert side["inviteContext"]["assistanceRequestCode"] == "ProofOfConceptOrDemo"
    assert stage.deal(referral)["microsoft_status"] == "New / Pending"

    other = opportunity(stage, "Other", help=HELP)
    contact(stage, other)
    stage.sync()
    second = next(each for each in stage.pc.ours() if each["externalReferenceId"] == other)
    assert stage.deal(second)["deal_type"] == "Co-sell"
    stage.pc.microsoft_answers(referral["engagementId"], "Active", "Accepted", msx_id="7-123")
    stage.pc.microsoft_answers(
        second["engagementId"], "Closed", "Declined", reason="no matching customer record"
    )
    stage.sync()
    accepted, declined = stage.deal(referral), stage.deal(second)
    assert (accepted["microsoft_status"], accepted["microsoft_id"]) == (
        "Active / Accepted",
        "7-123",
    )
    assert declined["microsoft_status"] == "Closed / Declined"
    assert "no matching customer record" in declined["message"]
    assert accepted["deal_type"] == "Co-sell"
    stage.quiet()
    assert (len(stage.pc.ours()), len(stage.pc.microsoft_sides(referral["engagementId"]))) == (2, 1)


@pytest.mark.parametrize("skip", [0, 1], ids=["first post", "invitation"])
def test_a_lost_reply_and_a_kill_at_a_post_make_no_second_one(stage: Stage, skip: int) -> None:
    """The answer is held back, the process killed meanwhile; the next cycle looks before it posts."""
    deal = opportunity(stage, help=HELP)
    contact(stage, deal)
    server = stage.servers[0]
    server.faults.slow(20, method="POST", path=REFERRALS, skip=skip, applied=True)
    stage.killed("sync", at=held_back(server))
    stage.sync()
    (referral,) = stage.pc.ours()
    assert len(stage.pc.microsoft_sides(referral["engagementId"])) == 1
    assert stage.deal(referral)["microsoft_status"] == "New / Pending"
    stage.quiet()
