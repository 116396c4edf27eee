"""Orgs and settings of another kind, each on a stage of its own: look-alikes, one currency, a doubtful change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, staged
from comparison import disagreements
from test_acceptance_people import StoryRun, known_customer, own

from cosell_sync.sandbox.partner_center import samples
from cosell_sync.sandbox.salesforce.service import Salesforce
from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox

pytestmark = pytest.mark.wire


def test_look_alikes_are_linked_or_ignored_where_that_is_configured(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        account, customer = known_customer(stage, "Lookalike AG")
        first = own(stage, account, "The first deal")
        same = stage.add(name="the first deal", customerProfile=customer)
        stage.sync(COSELL_MAPPING__MATCH="link")
        assert stage.deal(same)["id"] == first
        second = own(stage, account, "The second deal")
        other = stage.add(name="the second deal", customerProfile=customer)
        stage.sync(COSELL_MAPPING__MATCH="off")
        assert stage.deal(other)["id"] != second


def test_a_change_of_an_unusual_share_of_deals_is_doubted(tmp_path: Path, crm: str) -> None:
    """Nothing is written before somebody says so; new deals do not count."""
    for stage in staged(tmp_path, crm):
        deals = [stage.add() for _ in range(30)]
        stage.sync()
        for deal in deals[:22]:
            stage.pc.lose(deal["id"])
        for _ in range(2):
            stage.forget_calls()
            done = stage.sync(expect=1)
            assert "--accept" in done.sentences
            assert "22 of 30" in done.sentences
            assert done.finished["written"] == {"partner_center": 0, "crm": 0}
            assert stage.mutations() == []
        stage.cosell("sync", "--accept")
        assert disagreements(stage) == []


def single_currency(tmp_path: Path) -> Iterator[Stage]:
    sandbox = Sandbox()
    sandbox.salesforce = Salesforce(sandbox.clock, multi_currency=False, team_selling=False)
    for email in samples.USERS:
        first, last, phone = samples.PEOPLE[email]
        sandbox.salesforce.add_user(first, last, email, phone)
    context = sandbox.certificates.server_context()
    sandbox.salesforce_server = Server(sandbox.salesforce, context, name="salesforce")
    with sandbox:
        yield Stage(sandbox, tmp_path, {"COSELL_MAPPING__DEFAULT_CURRENCY": "EUR"})


def test_an_org_with_one_currency_leaves_an_amount_in_another_empty(tmp_path: Path) -> None:
    """Amounts are never taken over as if they were of the org's own currency; team selling is off besides.

    Salesforce only: there, several currencies and team selling are features that an org may lack. Dataverse has both
    always; an amount in a currency that its list lacks is left empty too (`test_acceptance_gaps`).
    """
    for stage in single_currency(tmp_path):
        run = StoryRun(stage)
        deal, foreign = stage.add(), stage.add(details={"currency": "USD"})
        stage.sync(expect=1)
        assert stage.deal(foreign)["value"] is None
        assert "84,000 USD" in run.attention[foreign["id"]]
        assert stage.deal(deal)["value"] == 84000
        before = stage.referral(foreign)
        stage.seller(foreign, value=79000)
        stage.sync()
        row = stage.deal(foreign)
        assert (row["value"], row["sync_state"]) == (79000, "In sync")
        assert "84,000 USD at Microsoft" in row["message"]
        stage.quiet()
        assert stage.referral(foreign) == before, "79,000 euros are not 79,000 dollars"
        stage.pc.edit(deal["id"], {"details/dealValue": 5, "details/currency": "USD"})
        stage.sync(expect=1)
        row = stage.deal(deal)
        assert row["value"] == 84000, "five dollars are not five euros"
        assert row["sync_state"] == "Needs attention"
        assert "USD" in row["message"]
        stage.pc.edit(deal["id"], "details/currency", "EUR")
        stage.pc.edit(foreign["id"], "details/currency", "EUR")
        stage.sync()
        assert stage.deal(deal)["value"] == 5
        assert stage.deal(foreign)["value"] == 79000 == stage.referral(foreign)["details"]["dealValue"]


def org_of(stage: Stage) -> Any:
    """The fake CRM itself, with what its admins may do."""
    sandbox = stage.sandbox
    return sandbox.salesforce if sandbox.crm == "salesforce" else sandbox.dynamics


def put_out_of_sight(stage: Stage) -> None:
    """An admin gives the imported accounts and contacts to a seller, and the sync user sees its own rows only."""
    org = org_of(stage)
    if isinstance(org, Salesforce):
        for name in ("Account", "Contact"):
            org.revoke(name, "ViewAllRecords")
            for row in org.rows(name):
                org.edit(name, row["Id"], OwnerId=org.seller)
    else:
        for name in ("account", "contact"):
            org.rights.unseen |= {row[f"{name}id"] for row in org.rows(name)}


def test_customer_contacts_out_of_sight_stay_at_microsoft(tmp_path: Path, crm: str) -> None:
    """Their ids are there and they read null. An empty set would delete every customer contact of the deal."""
    for stage in staged(tmp_path, crm):
        deal = stage.add()
        stage.sync()
        before = stage.referral(deal)["customerProfile"]
        assert before["team"]
        put_out_of_sight(stage)
        stage.seller(deal, value=4321)
        done = stage.sync()
        after = stage.referral(deal)
        assert after["details"]["dealValue"] == 4321
        assert after["customerProfile"] == before
        assert "not allowed to see" in stage.deal(deal)["message"]
        assert done.finished["written"]["partner_center"] == 1
        named = {
            each["name"]
            for each in stage.cosell("doctor", "--json").json()["checks"]
            if each["status"] == "warning"
        }
        assert {name.rpartition(".")[2] for name in named} >= {"contacts", "customer"}
        stage.forget_calls()
        stage.quiet()
        assert stage.mutations() == []


def test_a_secured_phone_and_secured_notes_are_not_erased_at_microsoft(tmp_path: Path) -> None:
    """Dynamics: a secured column without a profile reads null."""
    for stage in staged(tmp_path, "dynamics"):
        deal = stage.add(details={"notes": "Ours and theirs"})
        stage.sync()
        before = stage.referral(deal)
        org = org_of(stage)
        org.rights.secured |= {("contact", "telephone1"), ("opportunity", "cosell_notes")}
        stage.seller(deal, value=4321)
        stage.sync()
        after = stage.referral(deal)
        assert after["details"]["dealValue"] == 4321
        assert after["details"]["notes"] == before["details"]["notes"]
        assert after["customerProfile"] == before["customerProfile"]


def listed_countries(tmp_path: Path) -> Iterator[Stage]:
    sandbox = Sandbox()
    sandbox.salesforce = Salesforce(sandbox.clock, state_country_picklists=True)
    for email in samples.USERS:
        first, last, phone = samples.PEOPLE[email]
        sandbox.salesforce.add_user(first, last, email, phone)
    context = sandbox.certificates.server_context()
    sandbox.salesforce_server = Server(sandbox.salesforce, context, name="salesforce")
    with sandbox:
        yield Stage(sandbox, tmp_path, {})


def test_an_org_that_lists_its_countries_takes_deals_from_all_others(tmp_path: Path) -> None:
    """Salesforce only: in Dataverse a country is free text. The second cycle writes nothing anywhere."""
    for stage in listed_countries(tmp_path):
        address = {"addressLine1": "Rruga B", "city": "Prishtina", "postalCode": "10000", "country": "XK"}
        deal = stage.add(
            name="n" * 118 + "\N{ROCKET}" * 3,
            customerProfile={"name": "Balkan\x0bTrade", "address": address, "team": []},
        )
        stage.sync()
        row = stage.deal(deal)
        assert row["name"] == "n" * 118 + "\N{ROCKET}"
        assert "Partner Center has XK for Billing Country Code, which the CRM cannot hold" in row["message"]
        assert "Shortened to what the CRM can hold: Name." in row["message"]
        (account,) = stage.sandbox.salesforce.rows("Account", Name="Balkan Trade")
        assert (account["BillingCity"], account["BillingCountryCode"]) == ("Prishtina", None)
        stage.sync()
        stage.forget_calls()
        stage.sync()
        assert stage.mutations() == []


def test_texts_that_no_column_takes_are_imported_and_quiet(tmp_path: Path, crm: str) -> None:
    """Emoji beyond the column, control characters of a word processor, in the deal and in a person of the customer."""
    for stage in staged(tmp_path, crm):
        person = {
            "firstName": "Max\x0b" * 30,
            "lastName": "E" * 90,
            "phoneNumber": "1" * 60,
            "email": "max@x.example",
        }
        deal = stage.add(
            name="\N{ROCKET}" * 200,
            details={"notes": "pasted\x0bfrom a word processor\x07"},
            customerProfile={
                "name": "C" * 300,
                "address": {"addressLine1": "S" * 300, "city": "B" * 90, "postalCode": "1", "country": "DE"},
                "team": [person],
            },
        )
        stage.sync()
        row = stage.deal(deal)
        assert set(row["name"]) == {"\N{ROCKET}"}
        assert row["notes"] == "pasted\nfrom a word processor"
        assert "Shortened to what the CRM can hold" in row["message"]
        stage.sync()
        stage.forget_calls()
        stage.sync()
        assert stage.mutations() == []
        assert stage.referral(deal)["details"]["notes"] == "pasted\x0bfrom a word processor\x07"
