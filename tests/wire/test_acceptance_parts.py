"""Parts of a deal fail apart, from the installed command to both fakes: what one side refuses is held and named, the rest
arrives, and it is tried again once somebody mended the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged
from comparison import disagreements
from test_acceptance_orgs import org_of
from test_acceptance_people import StoryRun

from cosell_sync.sandbox.salesforce.service import Salesforce

pytestmark = pytest.mark.wire
PAST = "2020-01-01"
RULE = "Above 9'000 a next step is needed."


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm, COSELL_SYNC__TERMINAL_HOLD="0s")


def label(stage: Stage, word: str) -> str:
    """What the CRM's users call the field."""
    named = {"value": ("Amount", "Est. Revenue"), "close_date": ("Close Date", "Est. Close Date")}
    return named[word][stage.crm.name == "dynamics"]


def test_a_field_that_a_rule_refuses_waits_until_the_seller_mends_another_one(stage: Stage) -> None:
    """The rule is about a column that we do not read: that the seller saved the record is reason enough to try."""
    deal = stage.add()
    stage.sync()
    stage.crm.add_validation_rule(lambda row: row["value"] == 9001 and not row["aside"], RULE)
    stage.pc.edit(deal["id"], {"details/dealValue": 9001, "campaignId": "SPRING"})
    done = stage.sync(expect=1)
    row = stage.deal(deal)
    assert (row["value"], row["campaign_id"], row["sync_state"]) == (84000, "SPRING", "Needs attention")
    assert RULE in row["message"]
    assert f"did not take 9,001.00 for {label(stage, 'value')}" in row["message"]
    assert f"Taken over from Partner Center: {label(stage, 'value')}" not in row["message"]
    assert (done.finished["failed"], RULE in done.err) == (0, False)
    stage.forget_calls()
    stage.sync(expect=1)
    assert stage.mutations() == []
    stage.wait_a_second()
    stage.seller(deal, aside="call")
    stage.sync()
    row = stage.deal(deal)
    assert (row["value"], row["sync_state"]) == (9001, "In sync")
    assert disagreements(stage) == []
    stage.quiet()


def test_an_import_goes_without_a_refused_field_and_says_so(stage: Stage) -> None:
    """The rule names no field, so the record is made with what it needs, and the rest follows."""
    stage.crm.add_validation_rule(lambda row: row["value"] == 9001 and not row["aside"], RULE)
    deal = stage.add(details={"dealValue": 9001})
    stage.sync(expect=None)
    stage.sync(expect=1)
    row = stage.deal(deal)
    assert row["value"] != 9001
    assert row["sync_state"] == "Needs attention"
    assert RULE in row["message"]
    assert stage.referral(deal)["details"]["dealValue"] == 9001
    assert len(stage.solutions(deal)) == len(deal["details"]["requirements"]["solutions"])
    stage.wait_a_second()
    stage.seller(deal, aside="call")
    stage.sync()
    stage.sync()
    assert (stage.deal(deal)["value"], stage.deal(deal)["sync_state"]) == (9001, "In sync")
    assert disagreements(stage) == []


@pytest.mark.parametrize("named", [True, False])
def test_a_refused_field_does_not_hold_the_win(stage: Stage, named: bool) -> None:
    """Partner Center refuses the amount, by its name or with no word about which: the other fields and the win arrive."""
    deal = stage.add()
    stage.sync()
    words = "One of the values is not valid."
    refusal = {"code": "invalidRequest", "message": words}
    refusal |= {"target": "details.dealValue"} if named else {}
    stage.servers[0].faults.answer(400, {"error": refusal}, times=None, path=deal["id"], body="dealValue")
    stage.seller(deal, value=7, notes="The last word", stage="Won")
    stage.sync(expect=None)
    document = stage.referral(deal)
    assert stage.status(deal) == ("Closed", "Won")
    assert (document["details"]["dealValue"], document["details"]["notes"]) == (84000, "The last word")
    assert len(stage.patches(deal["id"])) <= (2 if named else 4)


def test_what_is_known_to_be_refused_is_not_sent(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    stage.forget_calls()
    stage.seller(deal, close_date=PAST, value=7)
    stage.sync(expect=1)
    (patch,) = stage.patches(deal["id"])
    assert patch.keys() - {"externalReferenceId"} == {"details/dealValue"}
    row = stage.deal(deal)
    assert row["sync_state"] == "Needs attention"
    assert f"for {label(stage, 'close_date')}" in row["message"]
    stage.seller(deal, stage="Won")
    stage.sync(expect=None)
    assert stage.status(deal) == ("Closed", "Won")


def test_a_solution_that_microsoft_archived_holds_nothing_else(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    stage.pc.switches.archived = ("SOL-OLD",)
    stage.crm.create("solution", opportunity=stage.deal(deal)["id"], code="SOL-OLD", title="Old")
    stage.seller(deal, value=7, stage="Won")
    stage.sync(expect=None)
    assert stage.status(deal) == ("Closed", "Won")
    assert stage.referral(deal)["details"]["dealValue"] == 7


def test_an_account_that_is_read_only_keeps_nobody_out(stage: Stage) -> None:
    env = {"COSELL_MAPPING__ACCOUNT_UPDATES": "all"}
    deal = stage.add()
    stage.sync(**env)
    org, row = org_of(stage), stage.deal(deal)
    account = row["account"] if "account" in row else stage.crm.get("opportunity", row["id"])["account"]
    org.make_read_only(account)
    greta = {"firstName": "Greta", "lastName": "Oz", "email": "greta@c.example", "phoneNumber": "+49 1"}
    before = stage.referral(deal)["customerProfile"]
    stage.pc.edit(
        deal["id"],
        {
            "customerProfile/address/addressLine1": "Elsewhere 2",
            "customerProfile/team": [*before["team"], greta],
        },
    )
    stage.sync(expect=1, **env)
    assert "greta@c.example" in stage.contacts(deal)
    row = stage.deal(deal)
    assert row["sync_state"] == "Needs attention"
    assert "did not take" in row["message"]
    assert "SecLib" not in row["message"]
    assert "access rights" not in row["message"]
    stage.forget_calls()
    stage.sync(expect=1, **env)
    assert stage.mutations() == []


def test_a_colleague_whom_the_crm_refuses_sinks_no_import_and_is_named(stage: Stage) -> None:
    org = org_of(stage)
    refused = next(each for each in stage.crm.users if each["email"] and each["id"] != stage.crm.robot)
    refuse = org.take_membership if isinstance(org, Salesforce) else org.take_roles
    refuse(refused["id"])
    colleague = {"firstName": "Al", "lastName": "Bo", "email": refused["email"], "phoneNumber": "+49 1"}
    run = StoryRun(stage)
    deal = stage.add(team=[colleague])
    stage.sync(expect=1, COSELL_MAPPING__OWNER="default")
    row = stage.deal(deal)
    assert (row["value"], row["sync_state"]) == (84000, "Needs attention")
    assert stage.contacts(deal)
    assert stage.solutions(deal)
    run.cycle()
    assert refused["email"] in run.attention[deal["id"]]
    assert "deals retry" in run.attention[deal["id"]]
