"""What people decide: pausing, deleting, linking, resolving; and what an org forbids or does by itself.

Each test is one story with a handful of cycles; deals that need a person say so until a person has acted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acting import Done, Stage, staged
from judging import disagreements, doubles

from cosell_sync.sandbox.pipeline import Document

pytestmark = pytest.mark.wire


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    for stage in staged(tmp_path):
        stage.env["COSELL_SYNC__TERMINAL_HOLD"] = "0s"
        yield stage


def attention(stage: Stage) -> dict[str, str]:
    """Deals that need a person, with what they are told."""
    rows = stage.cosell("deals", "list", "--attention", "--json").json()
    return {row["referral_id"]: row["todo"] for row in rows}


def test_a_paused_deal_is_left_alone_and_merges_when_it_is_switched_on_again(stage: Stage) -> None:
    deal, other = stage.add(), stage.add()
    stage.sync()
    stage.seller(deal, Cosell_Sync__c=False, Amount=11)
    stage.pc.edit(deal["id"], "campaignId", "MEANWHILE")
    stage.forget_calls()
    stage.sync()
    row = stage.deal(deal)
    assert (row["Cosell_Sync_State__c"], row["Amount"], row["Cosell_Campaign_Id__c"]) == ("Waiting", 11, None)
    assert "aused" in row["Cosell_Message__c"]
    assert stage.patches(deal["id"]) == []
    stage.seller(deal, StageName="Closed Lost")
    stage.seller(other, CloseDate="2029-02-02")
    stage.forget_calls()
    stage.sync()
    assert stage.patches(deal["id"]) == []
    assert stage.status(deal) == ("Active", "Accepted")
    stage.quiet()
    stage.seller(deal, Cosell_Sync__c=True, StageName="Qualification")
    stage.sync()
    row = stage.deal(deal)
    assert (row["Cosell_Sync_State__c"], row["Amount"], row["Cosell_Campaign_Id__c"]) == (
        "In sync",
        11,
        "MEANWHILE",
    )
    stage.sync()
    assert stage.referral(deal)["details"]["dealValue"] == 11
    assert [item for item in disagreements(stage) if "stage" not in item] == []
    stage.quiet()


def test_a_deleted_opportunity_leaves_the_referral_untouched_until_it_comes_back(stage: Stage) -> None:
    deal, other = stage.add(), stage.add()
    stage.sync()
    opportunity = stage.deal(deal)["Id"]
    document = stage.referral(deal)
    stage.sf.delete("Opportunity", opportunity)
    stage.sync(expect=1)
    assert opportunity not in {row["Id"] for row in stage.sf.rows("Opportunity")}
    assert list(attention(stage)) == [deal["id"]]
    stage.pc.edit(deal["id"], "details/dealValue", 4711)
    stage.forget_calls()
    stage.sync(expect=1)
    assert stage.mutations() == [], "neither side is written, nor is it made again"
    stage.sf.undelete("Opportunity", opportunity)
    stage.sync()
    stage.sync()
    assert stage.deal(deal)["Id"] == opportunity
    assert stage.deal(deal)["Amount"] == 4711
    assert stage.referral(deal)["id"] == document["id"]
    assert disagreements(stage) == []
    assert stage.deal(other)["Cosell_Sync_State__c"] == "In sync"


def test_a_vanished_referral_leaves_the_opportunity_untouched_until_it_comes_back(stage: Stage) -> None:
    deal, other = stage.add(), stage.add()
    stage.sync()
    row = stage.deal(deal)
    stage.pc.remove(deal["id"])
    stage.seller(deal, Amount=31)
    stage.seller(other, Amount=32)
    stage.sync(expect=1)
    after = stage.deal(deal)
    assert after["Cosell_Sync_State__c"] == "Needs attention"
    assert after["Cosell_Message__c"]
    assert {
        name: after[name] for name in ("StageName", "Cosell_Referral_Id__c", "Cosell_Status__c", "Name")
    } == {name: row[name] for name in ("StageName", "Cosell_Referral_Id__c", "Cosell_Status__c", "Name")}
    assert after["Amount"] == 31
    assert stage.referral(other)["details"]["dealValue"] == 32
    assert len(stage.pc.ours()) == 1, "it is not made again"
    stage.quiet(expect=1)
    stage.pc.restore(deal["id"])
    stage.pc.edit(deal["id"], "campaignId", "BACK")
    stage.sync()
    stage.sync()
    assert stage.referral(deal)["details"]["dealValue"] == 31
    assert stage.deal(deal)["Cosell_Campaign_Id__c"] == "BACK"
    assert stage.deal(deal)["Cosell_Sync_State__c"] == "In sync"
    assert disagreements(stage) == []


def known_customer(stage: Stage, name: str) -> tuple[str, dict[str, object]]:
    """An account of the org, and the customer of a referral that is the same."""
    account = stage.sf.create(
        "Account",
        Name=name,
        BillingStreet="Weg 1",
        BillingCity="Bern",
        BillingPostalCode="3000",
        BillingCountry="CH",
    )
    address = {"addressLine1": "Weg 1", "addressLine2": None, "city": "Bern", "state": None, "postalCode": "3000", "country": "CH"}  # fmt: skip
    return account, {"name": name, "address": address}


def own(stage: Stage, account: str, name: str) -> str:
    return stage.sf.create(  # type: ignore[no-any-return]
        "Opportunity", Name=name, AccountId=account, StageName="Needs Analysis", CloseDate="2028-08-08", Amount=5, CurrencyIsoCode="EUR"
    )  # fmt: skip


def test_a_look_alike_is_held_until_a_person_links_or_creates(stage: Stage) -> None:
    """One whose id stands in the referral is always linked; case and blanks do not matter for the others."""
    account, customer = known_customer(stage, "Lookalike AG")
    first, second, third = (
        own(stage, account, name) for name in ("the  first DEAL", "Second deal", "Unrelated")
    )
    same = stage.add(name="The first deal", customerProfile=customer)
    other = stage.add(name="Second Deal", customerProfile=customer)
    named = stage.add(name="Named", customerProfile=customer, externalReferenceId=third)
    done = stage.sync(expect=1)
    assert done.finished["created"]["crm"] == 0
    assert stage.deals(same) == stage.deals(other) == []
    assert stage.deal(named)["Id"] == third, "its id stands in the referral"
    told = attention(stage)
    assert told.keys() == {same["id"], other["id"]}
    assert first in told[same["id"]]
    assert "deals link" in told[same["id"]]
    for opportunity in (first, second):
        row = stage.sf.get("Opportunity", opportunity)
        assert row["Cosell_Sync_State__c"] == "Needs attention"
        assert row["Cosell_Message__c"]
    stage.quiet(expect=1)
    stage.cosell("deals", "link", same["id"], first)
    stage.cosell("deals", "create", other["id"])
    stage.sync()
    stage.sync()
    assert stage.deal(same)["Id"] == first
    assert stage.deal(other)["Id"] != second
    assert stage.sf.get("Opportunity", second)["Cosell_Sync_State__c"] is None, (
        "nothing is asked of it any more"
    )
    assert len(stage.sf.rows("Opportunity")) == 4
    assert [item for item in disagreements(stage) if " name: " not in item] == []
    assert doubles(stage) == []
    stage.quiet()


def test_look_alikes_are_linked_or_ignored_where_that_is_configured(stage: Stage) -> None:
    account, customer = known_customer(stage, "Lookalike AG")
    first = own(stage, account, "The first deal")
    same = stage.add(name="the first deal", customerProfile=customer)
    stage.sync(COSELL_MAPPING__MATCH="link")
    assert stage.deal(same)["Id"] == first
    second = own(stage, account, "The second deal")
    other = stage.add(name="the second deal", customerProfile=customer)
    stage.sync(COSELL_MAPPING__MATCH="off")
    assert stage.deal(other)["Id"] != second


def test_a_parted_pair_stays_parted_until_it_is_linked_again(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    opportunity = stage.deal(deal)["Id"]
    stage.cosell("deals", "unlink", opportunity)
    stage.pc.edit(deal["id"], "details/dealValue", 1)
    stage.sf.edit("Opportunity", opportunity, Amount=2)
    stage.quiet()
    stage.quiet()
    assert len(stage.sf.rows("Opportunity")) == 1, "not imported again"
    assert len(stage.pc.ours()) == 1, "not shared again"
    stage.cosell("deals", "link", deal["id"], opportunity)
    stage.sync()
    stage.sync()
    assert stage.deal(deal)["Id"] == opportunity
    assert stage.deal(deal)["Amount"] == stage.referral(deal)["details"]["dealValue"]
    assert disagreements(stage) == []
    stage.quiet()


def test_a_conflict_under_the_policy_ask_waits_for_a_person(stage: Stage) -> None:
    """Both values on the record, nothing overwritten; resolved by the same value on both sides or by ``deals resolve``."""
    config = stage.home / "ask.yaml"
    config.write_text("mapping:\n  fields:\n    value: {conflict: ask}\n    close_date: {conflict: ask}\n")
    stage.env["COSELL_CONFIG"] = str(config)
    deal, other = stage.add(), stage.add()
    stage.sync()
    for one in (deal, other):
        stage.pc.edit(one["id"], "details/dealValue", 5111)
        stage.seller(one, Amount=5222)
    done = stage.sync(expect=1)
    assert done.finished["conflicts"] == 2
    for one in (deal, other):
        row = stage.deal(one)
        assert row["Cosell_Sync_State__c"] == "Conflict"
        assert "5,111" in row["Cosell_Message__c"]
        assert "5,222" in row["Cosell_Message__c"]
        assert (row["Amount"], stage.referral(one)["details"]["dealValue"]) == (5222, 5111)
    again = stage.quiet(expect=1)
    assert again.finished["conflicts"] == 0, "named once"
    assert attention(stage).keys() == {deal["id"], other["id"]}
    stage.cosell("deals", "resolve", deal["id"], "Amount", "--keep", "partner_center")
    stage.seller(other, Amount=5111)
    stage.sync()
    assert stage.deal(deal)["Amount"] == 5111
    assert {stage.deal(one)["Cosell_Sync_State__c"] for one in (deal, other)} == {"In sync"}
    assert disagreements(stage) == []
    stage.quiet()


def test_the_words_of_a_validation_rule_reach_the_seller(stage: Stage) -> None:
    """On the record, verbatim; where the rule refuses that too, in ``deals list``."""
    deal, shut = stage.add(), stage.add()
    stage.sync()
    words = 'Deals above 1\'000 need a "Next Step" (ask Lena Söderberg).'
    stage.sf.add_validation_rule(
        "Opportunity", lambda row: row["Amount"] == 9001 and not row["NextStep"], words
    )
    harsh = "Nobody touches deal two."
    stage.sf.add_validation_rule("Opportunity", lambda row: row["Name"] == shut["name"] and row["Probability"] != -1, harsh)  # fmt: skip
    stage.pc.edit(deal["id"], "details/dealValue", 9001)
    stage.pc.edit(shut["id"], "campaignId", "SHUT")
    done = stage.sync(expect=1)
    row = stage.deal(deal)
    assert row["Cosell_Sync_State__c"] == "Needs attention"
    assert words in row["Cosell_Message__c"]
    assert row["Amount"] != 9001
    told = attention(stage)
    assert words in told[deal["id"]]
    assert harsh in told[shut["id"]]
    assert words not in done.err
    assert harsh not in done.err
    stage.sf.clear_rules()
    stage.seller(deal, NextStep="call")
    stage.cosell("deals", "retry", shut["id"])
    stage.cosell("deals", "retry", deal["id"])
    stage.sync()
    assert stage.deal(deal)["Amount"] == 9001
    assert stage.deal(shut)["Cosell_Campaign_Id__c"] == "SHUT"
    assert disagreements(stage) == []
    assert attention(stage) == {}


def test_an_automation_of_the_org_has_its_say_once_and_is_no_loop(stage: Stage) -> None:
    """What reads back is the CRM's value and goes to Partner Center once; fought over again it is a conflict."""
    deal = stage.add()
    stage.sync()
    stage.sf.add_automation(
        "Opportunity",
        lambda before, changes: (
            {**changes, "Amount": round(changes["Amount"] / 1000) * 1000}
            if changes.get("Amount")
            else changes
        ),
    )
    stage.pc.edit(deal["id"], "details/dealValue", 12345)
    stage.sync()
    stage.sync()
    assert stage.deal(deal)["Amount"] == stage.referral(deal)["details"]["dealValue"] == 12000
    stage.quiet()


def test_an_amount_summed_from_products_is_read_only(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    stage.sf.add_products(stage.deal(deal)["Id"], 2500)
    stage.sync()
    assert stage.referral(deal)["details"]["dealValue"] == 2500
    stage.pc.edit(deal["id"], "details/dealValue", 7777)
    stage.sync()
    row = stage.deal(deal)
    assert row["Amount"] == 2500
    assert row["Cosell_Sync_State__c"] == "In sync"
    assert "Amount" in row["Cosell_Message__c"]
    assert "7,777" in row["Cosell_Message__c"]
    assert stage.referral(deal)["details"]["dealValue"] == 7777
    stage.quiet()
    stage.quiet()


def test_merged_accounts_and_moved_people_are_followed(stage: Stage) -> None:
    account, customer = known_customer(stage, "Doppelt AG")
    deal = stage.add(customerProfile=customer)
    stage.sync()
    twin = stage.sf.create("Account", Name="Doppelt AG (old)", BillingCountry="CH")
    stage.sf.merge_accounts(twin, account)
    stage.sync()
    row = stage.deal(deal)
    assert row["AccountId"] == twin
    assert row["Cosell_Sync_State__c"] == "In sync"
    assert len(stage.sf.rows("Account")) == 1
    stage.sync()
    stage.quiet()


def single_currency(tmp_path: Path) -> Iterator[Stage]:
    from cosell_sync.sandbox import pipeline
    from cosell_sync.sandbox.http import Server
    from cosell_sync.sandbox.salesforce import Salesforce
    from cosell_sync.sandbox.world import Sandbox

    sandbox = Sandbox()
    sandbox.salesforce = Salesforce(sandbox.clock, multi_currency=False, team_selling=False)
    for email in pipeline.USERS:
        first, last, phone = pipeline.PEOPLE[email]
        sandbox.salesforce.add_user(first, last, email, phone)
    context = sandbox.certificates.server_context()
    sandbox.salesforce_server = Server(sandbox.salesforce, context, name="salesforce")
    with sandbox:
        yield Stage(sandbox, tmp_path, {"COSELL_SYNC__TERMINAL_HOLD": "0s"})


def currency_held(stage: Stage, foreign: Document) -> Done:
    done = stage.sync(expect=1, COSELL_MAPPING__DEFAULT_CURRENCY="EUR")
    assert stage.deals(foreign) == []
    assert "USD" in attention(stage)[foreign["id"]]
    return done


def test_an_org_with_one_currency_holds_what_is_in_another(tmp_path: Path) -> None:
    """Amounts are never taken over as if they were of the org's own currency; team selling is off besides."""
    for stage in single_currency(tmp_path):
        deal, foreign = stage.add(), stage.add(details={"currency": "USD"})
        currency_held(stage, foreign)
        assert stage.deal(deal)["Amount"] == 84000
        stage.pc.edit(deal["id"], {"details/dealValue": 5, "details/currency": "USD"})
        stage.sync(expect=1, COSELL_MAPPING__DEFAULT_CURRENCY="EUR")
        row = stage.deal(deal)
        assert row["Amount"] == 84000, "five dollars are not five euros"
        assert row["Cosell_Sync_State__c"] == "Needs attention"
        assert "USD" in row["Cosell_Message__c"]
        stage.pc.edit(deal["id"], "details/currency", "EUR")
        stage.pc.edit(foreign["id"], "details/currency", "EUR")
        stage.sync(COSELL_MAPPING__DEFAULT_CURRENCY="EUR")
        assert stage.deal(deal)["Amount"] == 5
        assert stage.deal(foreign)["Amount"] == 84000
