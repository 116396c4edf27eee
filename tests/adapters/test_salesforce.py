"""The Salesforce adapter against the served sandbox, and against answers made by hand where a wire has to break."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce.exceptions import SalesforceError, SalesforceMalformedRequest
from structlog.testing import capture_logs

from adapters.served_dynamics import OVERLAP, SAM, Clock, only
from adapters.served_salesforce import COMPOSITE, Connection, World, check, draft
from cosell_sync.core.deal import Customer, Member, Solution
from cosell_sync.core.normalize import agree, for_crm
from cosell_sync.core.overlap import Position
from cosell_sync.crm.salesforce import bulk, read
from cosell_sync.crm.salesforce.client import SalesforceCrm
from cosell_sync.crm.salesforce.install.checks import check_fields
from cosell_sync.crm.salesforce.org import DEFAULT_NAMES
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import JwtBearer
from cosell_sync.crm.salesforce.versions import format_stamp
from cosell_sync.crm.salesforce.write import Guard
from cosell_sync.crm.writes import Ownership
from cosell_sync.errors import (
    AuthFailed,
    Cure,
    Flaky,
    Gone,
    Locked,
    Rejected,
    Stale,
    Surprise,
    Unavailable,
    Unclear,
)
from cosell_sync.ports import MatchQuery, OpportunityWrite
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.salesforce.auth import INTEGRATION_USERNAME
from cosell_sync.transport.client import Limits


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def world(certificates: Certificates, tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def build(**switches: bool) -> World:
        each = World(certificates, certificates.write(tmp_path / "ca.pem"), **switches)
        each.server.start()
        made.append(each)
        return each

    yield build
    for each in made:
        each.close()
        assert each.server.errors == []


# --- shape --------------------------------------------------------------------------------------------------------


def test_the_shape_is_the_orgs_own(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    shape = crm.shape()
    assert shape.currencies >= {"USD", "EUR"}
    assert shape.default_currency == "USD"
    assert (shape.digits, shape.scale, shape.maximum) == (18, 2, Decimal("9999999999999999.99"))
    assert shape.stages["Closed Won"].won
    assert shape.lengths["name"] == 120
    assert shape.labels["sync"] == "Co-sell sync"
    assert "Accept" in shape.picklists["action"]
    assert crm.shape() == shape
    assert crm.calls == 1
    crm.forget_shape()
    crm.shape()
    assert crm.calls == 2


def test_an_org_without_team_selling_and_currencies(world: Callable[..., World]) -> None:
    shape = world(multi_currency=False, team_selling=False).client().shape()
    assert shape.currencies == frozenset()
    assert "currency" not in shape.fields
    assert "team" in shape.fields  # the owner


def test_without_the_joining_field_nothing_is_done(world: Callable[..., World]) -> None:
    """A fresh org shows its integration user nothing; one that lost the field shows the rest."""
    with pytest.raises(Surprise, match="Opportunity") as caught:
        world(cosell_fields_installed=False).client().shape()
    assert "provision" in str(caught.value)
    w = world()
    w.org.hide_field("Opportunity", "Cosell_Referral_Id__c")
    with pytest.raises(Surprise, match="Cosell_Referral_Id__c") as caught:
        w.client().shape()
    assert "provision" in str(caught.value)


# --- changes ------------------------------------------------------------------------------------------------------


def test_an_idle_pull_costs_two_calls_however_many_are_linked(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    ids = {w.deal(Name=f"Deal {at}") for at in range(30)}
    crm.shape()
    assert w.pull(crm) == (ids, set(), 1)
    assert w.pull(crm) == (set(), set(), 2)
    w.clock.tick(3600)
    assert w.pull(crm) == (set(), set(), 2)


def test_what_concerns_us(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    w.deal(Cosell_Sync__c=False)
    linked = w.deal(Cosell_Sync__c=False, Cosell_Referral_Id__c="ref-1")
    assert w.pull(crm)[0] == {linked}


def test_an_edit_is_seen_wherever_it_is_made(world: Callable[..., World]) -> None:
    """A snapshot is read from many rows, and none of them moves the opportunity's stamp."""
    w = world()
    crm = w.client()
    account = w.org.create("Account", Name="Fabrikam")
    eve = w.org.add_user("Eve", "Ek", "eve@contoso.example")
    deal = w.deal(AccountId=account)
    contact = w.org.create("Contact", LastName="Ann", Email="ann@x.example", AccountId=account)
    role = w.org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact)
    member = w.org.create("OpportunityTeamMember", OpportunityId=deal, UserId=eve)
    solution = w.org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="SOL-1")
    others = {w.deal(), w.deal(Name="x")}
    w.clock.tick(3600)
    assert w.pull(crm)[0] == {deal, *others}
    edits: list[Callable[[], object]] = [
        lambda: w.org.edit("Contact", contact, Phone="1"),
        lambda: w.org.edit("Account", account, BillingCity="Kiel"),
        lambda: w.org.edit("User", eve, Phone="2"),
        lambda: w.org.edit("Cosell_Solution__c", solution, Solution_Name__c="One"),
        lambda: w.org.edit("OpportunityContactRole", role, IsPrimary=True),
        lambda: w.org.delete("OpportunityTeamMember", member),
        lambda: w.org.delete("Cosell_Solution__c", solution),
        lambda: w.org.delete("OpportunityContactRole", role),
        lambda: w.org.create("OpportunityTeamMember", OpportunityId=deal, UserId=eve),
        lambda: w.org.edit("Opportunity", deal, Name="Renamed"),
    ]
    for edit in edits:
        w.clock.tick(600)
        edit()
        w.clock.tick()
        assert w.pull(crm)[0] == {deal}
        assert w.pull(crm) == (set(), set(), 2)


def test_an_edit_in_the_second_of_a_reading_is_not_lost(world: Callable[..., World]) -> None:
    """Stamps have the precision of a second, so what was read too soon after its change is read once more."""
    w = world()
    crm = w.client()
    deal = w.deal()
    w.pull(crm)
    w.clock.tick()
    w.org.edit("Opportunity", deal, Name="First")
    assert w.pull(crm)[0] == {deal}
    w.org.edit("Opportunity", deal, Name="Second")  # same second, same stamp
    w.clock.tick()
    assert w.pull(crm)[0] == {deal}
    assert w.memory.snapshots[deal]["name"] == "Second"
    assert w.pull(crm)[0] == set()


def test_without_an_overlap_the_newest_second_is_still_read_again(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    first = w.org.create(
        "Opportunity", Name="a", StageName="Prospecting", CloseDate="2027-01-31", Cosell_Sync__c=True
    )
    list(crm.changed_since(None, timedelta(0), w.memory))
    pages = list(crm.changed_since(None, timedelta(0), w.memory))
    second = w.org.create(
        "Opportunity", Name="b", StageName="Prospecting", CloseDate="2027-01-31", Cosell_Sync__c=True
    )
    w.clock.tick()
    again = [
        each.id
        for page in crm.changed_since(pages[-1].watermark, timedelta(0), w.memory)
        for each in page.snapshots
    ]
    assert again == [first, second]


def test_a_field_taken_away_is_told_once_and_then_done_without(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    w.deal()
    w.pull(crm)
    w.org.hide_field("Opportunity", "Cosell_Notes__c")
    with pytest.raises(Surprise, match="doctor"):
        w.pull(crm)
    w.clock.tick()
    w.pull(crm)
    assert "notes" not in crm.shape().fields


def test_deleted_and_undeleted(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    deal, other = w.deal(), w.deal()
    w.pull(crm)
    w.clock.tick(600)
    w.org.delete("Opportunity", deal)
    w.clock.tick()
    assert w.pull(crm)[:2] == (set(), {deal})
    assert crm.fetch([deal, other, "006000000000000AAA", "nonsense"])[deal] is None
    w.org.undelete("Opportunity", deal)
    w.clock.tick()
    assert w.pull(crm)[:2] == ({deal}, set())


def test_a_long_pull_comes_in_pages_whose_watermarks_hold(world: Callable[..., World]) -> None:
    """Stopped after any page, the next pull loses nothing."""
    w = world()
    w.org.page_size = 200
    crm = w.client()
    for at in range(450):
        w.org.create(
            "Opportunity", Name=f"D{at}", StageName="Prospecting", CloseDate="2027-01-31", Cosell_Sync__c=True
        )
        w.clock.tick(1)
    w.clock.tick()
    pages = list(crm.changed_since(None, OVERLAP, w.memory))
    assert [len(page.snapshots) for page in pages] == [200, 200, 50]
    marks = [page.watermark for page in pages if page.watermark]
    assert marks == sorted(marks)
    w.memory.snapshots = {each.id: each for each in pages[0].snapshots}
    w.memory.watermark = pages[0].watermark
    assert len(w.pull(crm)[0]) == 250
    assert sum(len(page) for page in crm.index()) == 450


def test_a_long_list_of_related_rows_costs_one_call_more_and_leaves_none_out(
    world: Callable[..., World],
) -> None:
    """Five lists in one answer are in memory together, so those beside the opportunities come with their first rows only;
    a longer one is asked for by itself.
    """
    w = world()
    crm = w.client()
    accounts = [w.org.create("Account", Name=f"Customer {at}") for at in range(read.BESIDE + 1)]
    deals = [w.deal(AccountId=account) for account in accounts]
    w.pull(crm)
    w.clock.tick(1000)
    w.pull(crm)  # read once more, now that nothing is too fresh
    w.clock.tick(1000)
    for account in accounts:
        w.org.edit("Account", account, Industry="Energy")
    w.clock.tick()
    found, gone, calls = w.pull(crm)
    assert (found, gone) == (set(deals), set())
    assert calls == 2 + 1 + ceil(len(deals) / read.READ_AT_ONCE)


def test_a_list_that_is_read_later_takes_the_watermark_past_nothing() -> None:
    """Opportunities were listed at ten; what was edited from then on is for the next pull, whatever an account's stamp says."""
    ten = datetime(2026, 11, 28, 10, tzinfo=UTC)
    read_later = read._Stamps()
    for minute in (-2, 8):
        read_later.note("account", format_stamp(ten + timedelta(minutes=minute)))
    known = Position(ten - timedelta(minutes=4))
    assert read._moved(known, read_later, ten, OVERLAP).at == ten - timedelta(minutes=2)


def test_what_a_pull_lists_whole_it_does_not_read_again(world: Callable[..., World]) -> None:
    """Its account and its solution are new as well, and none of it is settled: the list of what changed around it names it too."""
    w = world()
    crm = w.client()
    w.pull(crm)
    deal = w.deal(AccountId=w.org.create("Account", Name="Fabrikam"))
    w.org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="SOL-1")
    assert w.pull(crm) == ({deal}, set(), 2)


def test_the_index_speaks_the_same_versions(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    account = w.org.create("Account", Name="Fabrikam")
    deal = w.deal(AccountId=account)
    w.org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="SOL-1")
    w.clock.tick()
    w.pull(crm)
    index = {key: version for page in crm.index() for key, version in page.items()}
    assert index == {deal: w.memory.snapshots[deal].version}


def test_an_empty_org_has_a_watermark_too(world: Callable[..., World]) -> None:
    """Else a deal that is made and deleted between two pulls, or deleted before the second, would never show."""
    w = world()
    crm = w.client()
    assert w.pull(crm) == (set(), set(), 2)
    assert w.memory.watermark is not None
    deal = w.deal()
    w.memory.snapshots[deal] = w.read(crm, deal)
    w.org.delete("Opportunity", deal)
    w.clock.tick()
    assert w.pull(crm)[1] == {deal}


# --- finding ------------------------------------------------------------------------------------------------------


def test_finding_what_is_there_already(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    account = w.org.create(
        "Account", Name="FABRIKAM  Inc", BillingPostalCode="10 115", BillingCountry="Germany"
    )
    elsewhere = w.org.create(
        "Account", Name="Fabrikam Inc", BillingPostalCode="1010", BillingCountry="Austria"
    )
    linked = w.deal(Cosell_Referral_Id__c="ref-1")
    alike = w.deal(Name="Big  deal", AccountId=account, Cosell_Sync__c=False)
    w.deal(Name="Big deal", AccountId=elsewhere)
    w.deal(Name="Big deal", AccountId=account, StageName="Closed Won")
    fabrikam = Customer("Fabrikam Inc", postal_code="10115", country="DE")
    found = crm.find(
        [
            MatchQuery("ref-1", None, "x", Customer()),
            MatchQuery("ref-2", alike[:15], "big DEAL", fabrikam),
            MatchQuery("ref-3", "PO 4711", "O'Neil' OR Name != '", fabrikam),
            MatchQuery("ref-4", linked, "y", Customer()),
        ]
    )
    assert found["ref-1"].by_referral == linked
    assert (found["ref-2"].by_reference, found["ref-2"].lookalikes) == (alike, (alike,))
    assert found["ref-3"].lookalikes == ()
    assert found["ref-3"].by_reference is None
    assert found["ref-4"].by_reference is None  # it belongs to ref-1


# --- creating -----------------------------------------------------------------------------------------------------


def test_a_new_deal_with_everything_around_it(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    w.clock.tick()
    people = (Member("ann@x.example", "Ann", "Ek", "1"), Member("bob@x.example", "Bob"))
    made = only(
        crm.create(
            [
                draft(
                    "ref-1", value=Decimal("1234567890123.45"), currency="EUR", contacts=people,
                    team=(Member("no@user.example"), Member(SAM)), solutions=(Solution("SOL-1", "One", "Own"),),
                )
            ]
        )
    )  # fmt: skip
    assert made.error is None
    assert made.unheld == {"team": frozenset({"no@user.example"})}
    held = made.snapshot
    assert held is not None
    assert held.id == made.id
    assert held["value"] == Decimal("1234567890123.45")
    assert held["currency"] == "EUR"
    assert held["customer"] == Customer("Fabrikam", "Main St 1", None, "Berlin", None, "10115", "DE")
    assert held["contacts"] == (people[0], Member("bob@x.example", "Bob", "Bob"))
    assert held["owner_email"] == SAM
    assert held["team"] == (Member(SAM, "Sam", "Seller", "+1 555 0100"),)
    assert held["solutions"] == (Solution("SOL-1", "One", "Own"),)
    assert w.org.rows("Cosell_Solution__c")[0]["Cosell_Key__c"] == "ref-1:SOL-1"
    assert [each["IsPrimary"] for each in w.org.rows("OpportunityContactRole")] == [True, False]


def test_a_contact_that_is_there_keeps_what_it_says_and_learns_the_rest(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    first = only(crm.create([draft("ref-1", contacts=(Member("ann@x.example", "Ann", "Ek"),))]))
    w.clock.tick()
    again = only(crm.create([draft("ref-2", contacts=(Member("ann@x.example", "Anna", "Ek", "+1"),))]))
    assert again.error is None
    assert len(w.org.rows("Contact")) == 1
    assert (w.org.rows("Contact")[0]["FirstName"], w.org.rows("Contact")[0]["Phone"]) == ("Ann", "+1")
    assert first.id != again.id


def test_creating_twice_makes_one_of_each(world: Callable[..., World]) -> None:
    """Also after a crash: a second client that knows nothing finds the first's rows."""
    w = world()
    drafts = [
        draft(
            f"ref-{at}", customer=Customer(name, postal_code="10115", country="DE"),
            contacts=(Member("ann@x.example"),), solutions=(Solution("SOL-1"),), team=(Member(SAM),),
        )
        for at, name in enumerate(["Fabrikam  Inc", "fabrikam inc", "FABRIKAM INC"])
    ]  # fmt: skip
    first = w.client().create(drafts)
    w.org.edit("Opportunity", str(first[0].id), Name="A seller was here")
    again = w.client().create(drafts)
    assert [each.id for each in first] == [each.id for each in again]
    assert all(each.error is None for each in (*first, *again))
    counts = {name: len(w.org.rows(name)) for name in ("Account", "Contact", "Opportunity", "OpportunityContactRole", "Cosell_Solution__c")}  # fmt: skip
    assert counts == {
        "Account": 1,
        "Contact": 1,
        "Opportunity": 3,
        "OpportunityContactRole": 3,
        "Cosell_Solution__c": 3,
    }
    assert again[0].snapshot is not None
    assert again[0].snapshot["name"] == "A seller was here"  # not written over


def test_an_upsert_whose_answer_was_lost_is_not_sent_again(world: Callable[..., World]) -> None:
    """A flow, or a seller, may have changed the new deal before a second one arrives, which would write over it. The next look
    finds the deal and leaves it as it is.
    """
    w = world()
    slept = w.clock.sleep

    def meanwhile(seconds: float) -> None:
        for row in w.org.rows("Opportunity"):
            w.org.edit("Opportunity", row["Id"], Name="A seller was here")
        slept(seconds)

    w.clock.sleep = meanwhile  # type: ignore[method-assign]
    crm = w.client()
    crm.shape()
    w.server.faults.reset_after(path=COMPOSITE, body="PATCH")
    lost = only(crm.create([draft("ref-1")]))
    meanwhile(1)
    found = only(crm.create([draft("ref-1")]))
    assert isinstance(lost.error, Unclear)
    assert found.error is None
    assert [row["Name"] for row in w.org.rows("Opportunity")] == ["A seller was here"]


def test_a_lost_answer_to_an_account_is_unclear_and_settled_by_looking(world: Callable[..., World]) -> None:
    """A plain create is never sent twice."""
    w = world()
    crm = w.client()
    w.server.faults.reset_after(method="POST", path=r"composite/sobjects$")
    assert isinstance(only(crm.create([draft("ref-1")])).error, Unclear)
    assert len(w.org.rows("Account")) == 1
    assert w.org.rows("Opportunity") == []
    assert only(crm.create([draft("ref-1")])).error is None
    assert len(w.org.rows("Account")) == 1


def test_an_org_that_goes_away_while_creating_is_taken_up_again(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    crm.shape()
    w.server.faults.answer(503, None, path=COMPOSITE, body="PATCH", times=None)
    away = only(crm.create([draft("ref-1", contacts=(Member("ann@x.example"),))]))
    assert (type(away.error), away.id, away.snapshot) == (Flaky, None, None)
    assert crm.outage is not None
    w.server.faults.clear()
    spent = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    w.server.faults.answer(403, spent, path="composite/sobjects$", body='"Contact"', times=None)
    half = only(crm.create([draft("ref-1", contacts=(Member("ann@x.example"),))]))
    assert isinstance(half.error, Flaky)
    assert half.id is not None
    w.server.faults.clear()
    done = only(crm.create([draft("ref-1", contacts=(Member("ann@x.example"),))]))
    assert (done.error, done.id, crm.outage) == (None, half.id, None)
    assert len(w.org.rows("OpportunityContactRole")) == 1


def test_one_refused_row_harms_no_other(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    w.org.add_validation_rule("Opportunity", lambda record: record["Name"] == "Deal bad", "Name it properly.")
    good, bad, last = crm.create([draft("good"), draft("bad"), draft("last")])
    assert good.error is None
    assert last.error is None
    assert isinstance(bad.error, Rejected)
    assert "Name it properly." in bad.error.text
    assert bad.id is None


def test_a_customer_too_long_for_the_account_is_cut_and_agrees(world: Callable[..., World]) -> None:
    crm = world().client()
    there = Customer("F" * 300, city="U" * 90, postal_code="1" * 30, country="DE")
    made = only(crm.create([draft("ref-1", customer=for_crm("customer", there, crm.shape()))]))
    assert made.error is None
    assert made.snapshot is not None
    assert agree("customer", there, made.snapshot["customer"], crm.shape())


def test_a_column_we_may_not_change_is_readonly_and_the_rest_goes_on(world: Callable[..., World]) -> None:
    """A new row is made without it; what joins the systems is never left out silently."""
    w = world()
    for column in ("NextStep", "Cosell_Referral_Id__c"):
        w.org.change_field("Opportunity", column, updateable=False)
    w.org.change_field("Opportunity", "NextStep", createable=False)
    crm = w.client(names={"campaign_id": "NextStep"})
    made = only(crm.create([draft("ref-1", campaign_id="C-1")]))
    assert made.error is None
    assert made.snapshot is not None
    assert made.snapshot["campaign_id"] is None
    assert made.snapshot.readonly == {"campaign_id"}


def test_a_refused_contact_is_told_and_the_deal_stays(world: Callable[..., World]) -> None:
    w = world()
    w.org.add_validation_rule("Contact", lambda record: record["Email"] == "bad@x.example", "No such people.")
    made = only(
        w.client().create([draft("ref-1", contacts=(Member("ok@x.example"), Member("bad@x.example")))])
    )
    assert made.error is None
    assert made.refused["contacts"].text == "No such people."
    assert made.snapshot is not None
    assert made.snapshot["contacts"] == (Member("ok@x.example", None, "ok"),)


def test_an_amount_does_not_change_its_currency_where_products_fix_it(world: Callable[..., World]) -> None:
    """110 USD written to a row in EUR would be another amount, so both are refused, and the rest lands."""
    w = world()
    deal = w.deal(CurrencyIsoCode="EUR", Amount=100)
    w.org.add_products(deal, 100)
    crm = w.client()
    before = w.read(crm, deal)
    fields = {"currency": "USD", "value": Decimal(110), "close_date": date(2027, 5, 1), "notes": "new"}
    outcome = only(crm.write([OpportunityWrite(before, fields)]))
    assert (outcome.error, outcome.refused.keys()) == (None, {"currency", "value"})
    row = w.org.get("Opportunity", deal)
    assert (row["CurrencyIsoCode"], row["CloseDate"], row["Amount"]) == ("EUR", "2027-05-01", 100)


def test_the_name_of_a_person_account_keeps_nobody_out(world: Callable[..., World]) -> None:
    w = world()
    account = w.org.create("Account", Name="Ann Example")
    w.org.make_person(account)
    crm = w.client()
    before = w.read(crm, w.deal(AccountId=account))
    fields = {"customer": Customer("Ann B. Example"), "contacts": (Member("ann@x.example", "Ann", "E"),)}
    outcome = only(crm.write([OpportunityWrite(before, fields)]))
    assert (outcome.error, outcome.refused.keys()) == (None, {"customer"})
    assert [each["Email"] for each in w.org.rows("Contact")] == ["ann@x.example"]


def test_the_oldest_of_several_matching_accounts_is_taken(world: Callable[..., World]) -> None:
    w = world()
    where = {"BillingPostalCode": "10115", "BillingCountry": "Germany"}
    oldest = w.org.create("Account", Name="FABRIKAM", **where)
    w.clock.tick()
    w.org.create("Account", Name="Fabrikam", **where)
    w.client().create([draft("ref-1")])
    assert w.org.rows("Opportunity")[0]["AccountId"] == oldest


def test_the_owner_is_a_colleague_else_the_default_else_us(world: Callable[..., World]) -> None:
    w = world()
    eve = w.org.add_user("Eve", "Ek", "eve@contoso.example")
    w.org.add_user("Old", "Boy", "old@contoso.example", active=False)
    team = (Member("old@contoso.example"), Member(INTEGRATION_USERNAME), Member(SAM))
    crm = w.client(ownership=Ownership(default="EVE@contoso.example"))
    crm.create([draft("a", team=team), draft("b", team=(Member("old@contoso.example"),)), draft("c")])
    w.client().create([draft("d")])
    owners = [each["OwnerId"] for each in w.org.rows("Opportunity")]
    assert owners == [w.org.seller, eve, eve, w.org.integration_user]


def test_address_picklists_take_codes_and_lose_only_a_state_they_do_not_know(
    world: Callable[..., World],
) -> None:
    w = world(state_country_picklists=True)
    here = Customer("C1", city="Seattle", state="wa", country="US")
    odd = Customer("C2", state="WA", country="DE")  # a code of another country
    first, second = w.client().create([draft("a", customer=here), draft("b", customer=odd)])
    assert first.error is None
    assert second.error is None
    assert [each["BillingStateCode"] for each in w.org.rows("Account")] == ["WA", None]
    assert first.snapshot is not None
    assert first.snapshot["customer"] == Customer("C1", city="Seattle", state="WA", country="US")


def test_a_country_that_the_org_takes_no_longer_costs_no_account(world: Callable[..., World]) -> None:
    """An admin deactivated it since the org was described."""
    w = world(state_country_picklists=True)
    crm = w.client()
    assert "DE" in crm.shape().picklists["customer.country"]
    w.org.change_field("Account", "BillingCountryCode", values=("US",), labels=("United States",))
    made = only(crm.create([draft("a", customer=Customer("C", city="Bonn", country="DE"))]))
    assert made.error is None
    (account,) = w.org.rows("Account")
    assert (account["BillingCity"], account["BillingCountryCode"]) == ("Bonn", None)
    crm.forget_shape()
    assert crm.shape().picklists["customer.country"] == {"US"}


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_guarded_write_changes_only_what_it_names(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    deal = w.deal(Amount=5, Cosell_Action__c="Accept")
    before = w.read(crm, deal)
    w.org.edit("Account", w.org.create("Account", Name="noise"), Phone="1")
    made = only(crm.write([OpportunityWrite(before, {"name": "New", "action": None})]))
    assert made.error is None
    assert made.snapshot is not None
    assert made.snapshot["name"] == "New"
    part, read_back = w.server.calls.matching("POST", COMPOSITE)[-1].json()["compositeRequest"]
    assert part["body"] == {"Name": "New", "Cosell_Action__c": None}
    assert part["httpHeaders"] == {"If-Unmodified-Since": "Sun, 22 Nov 2026 10:00:00 GMT"}
    assert read_back["method"] == "GET", "what it holds then is read in the same call"


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("compared", ["SystemModstamp", "LastModifiedDate"])
def test_a_change_meanwhile_makes_the_write_stale(
    world: Callable[..., World], parts: bool, compared: str
) -> None:
    w = world()
    w.org.precondition_field = compared
    w.org.composite_honours_headers = parts
    crm = w.client(guard=Guard(parts=parts, last_modified=compared == "LastModifiedDate"))
    one, two = w.deal(Name="one"), w.deal(Name="two")
    reads = [w.read(crm, one), w.read(crm, two)]
    w.org.edit("Opportunity", one, Name="seller")
    w.clock.tick()
    stale, fine = crm.write([OpportunityWrite(each, {"name": "ours"}) for each in reads])
    assert isinstance(stale.error, Stale)
    assert fine.error is None
    assert w.org.get("Opportunity", one)["Name"] == "seller"


def test_a_solution_of_a_seller_receives_its_key_with_the_next_write(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    deal = w.deal(Cosell_Referral_Id__c="ref-1")
    w.org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="SOL-1", Solution_Name__c="One")
    w.clock.tick()
    made = only(crm.write([OpportunityWrite(w.read(crm, deal), {"name": "New"})]))
    assert made.error is None
    row = w.org.rows("Cosell_Solution__c")[0]
    assert (row["Cosell_Key__c"], row["Solution_Name__c"]) == ("ref-1:SOL-1", "One")


def test_sets_are_guarded_by_the_rows_they_are_made_of(world: Callable[..., World]) -> None:
    """A colleague's edit of a contact does not move the opportunity's stamp, yet must not be written over."""
    w = world()
    crm = w.client()
    made = only(crm.create([draft("ref-1", contacts=(Member("ann@x.example", "Ann", "Ek", "1"),))]))
    w.clock.tick()
    before = w.read(crm, str(made.id))
    w.org.edit("Contact", w.org.rows("Contact")[0]["Id"], Phone="seller's")
    w.clock.tick()
    ours = (Member("ann@x.example", "Ann", "Ek", "ours"),)
    assert isinstance(only(crm.write([OpportunityWrite(before, {"contacts": ours})])).error, Stale)
    assert w.org.rows("Contact")[0]["Phone"] == "seller's"
    fresh = w.read(crm, str(made.id))
    done = only(crm.write([OpportunityWrite(fresh, {"contacts": ours})]))
    assert done.snapshot is not None
    assert done.snapshot["contacts"] == ours


def test_all_sets_and_the_customer_in_one_write(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    eve = "eve@contoso.example"
    w.org.add_user("Eve", "Ek", eve)
    made = only(
        crm.create(
            [
                draft(
                    "ref-1",
                    contacts=(Member("ann@x.example"),),
                    solutions=(Solution("SOL-1"),),
                    team=(Member(SAM),),
                )
            ]
        )
    )
    w.clock.tick()
    fields: dict[str, Any] = {
        "contacts": (Member("bob@x.example", "Bob", "B"),),
        "solutions": (Solution("SOL-2", "Two"),),
        "team": (Member(SAM), Member(eve)),
        "customer": Customer("Fabrikam", "Side St 2", None, "Berlin", None, "10117", "DE"),
        "name": "New",
    }
    done = only(crm.write([OpportunityWrite(w.read(crm, str(made.id)), fields)]))
    assert done.error is None
    assert done.snapshot is not None
    people = done.snapshot["team"]
    assert isinstance(people, tuple)
    assert {each.key for each in people} == {SAM, eve}
    assert {name: done.snapshot[name] for name in fields if name != "team"} == {
        name: item for name, item in fields.items() if name != "team"
    }
    assert w.org.rows("OpportunityContactRole")[0]["IsPrimary"] is True
    w.clock.tick()
    off = only(crm.write([OpportunityWrite(w.read(crm, str(made.id)), {"team": (Member(eve),)})]))
    assert off.snapshot is not None
    left = off.snapshot["team"]
    assert isinstance(left, tuple)
    assert [each.key for each in left] == [eve]


def test_two_deals_change_the_contact_they_share_at_once(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    ann = (Member("ann@x.example", "Ann", "Ek", "1"),)
    crm.create([draft("a", contacts=ann), draft("b", contacts=ann)])
    w.clock.tick()
    deals = [w.read(crm, each["Id"]) for each in w.org.rows("Opportunity")]
    changed = (Member("ann@x.example", "Ann", "Ek", "2"),)
    done = crm.write([OpportunityWrite(each, {"contacts": changed}) for each in deals])
    assert [each.error for each in done] == [None, None]
    assert [each["Phone"] for each in w.org.rows("Contact")] == ["2"]
    (part,) = [
        part
        for part in w.server.calls.matching("POST", COMPOSITE)[-1].json()["compositeRequest"]
        if part["method"] == "PATCH"
    ]
    assert len(part["body"]["records"]) == 1


def test_a_deal_without_an_account_gets_the_customers(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    existing = w.org.create("Account", Name="Fabrikam", BillingPostalCode="10115", BillingCountry="DE")
    before = w.read(crm, w.deal())
    wanted = Customer("Fabrikam", postal_code="10115", country="DE")
    done = only(
        crm.write([OpportunityWrite(before, {"customer": wanted, "contacts": (Member("a@x.example"),)})])
    )
    assert done.error is None
    assert done.snapshot is not None
    assert done.snapshot["customer"] == wanted
    assert w.org.rows("Contact")[0]["AccountId"] == existing


def test_writes_go_25_a_call_and_are_read_back_together(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    ids = [w.deal(Name=f"D{at}") for at in range(60)]
    before = crm.fetch(ids)
    crm.shape()
    calls = crm.calls
    done = crm.write([OpportunityWrite(each, {"message": "m"}) for each in before.values() if each])
    assert all(each.error is None and each.snapshot and each.snapshot["message"] == "m" for each in done)
    assert crm.calls - calls == 3 + 1


def test_gone_and_refused(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    one, two, three = w.deal(), w.deal(), w.deal()
    before = [w.read(crm, each) for each in (one, two, three)]
    w.org.delete("Opportunity", one)
    w.org.add_validation_rule("Opportunity", lambda record: record["Name"] == "bad", "Not so.")
    outcomes = crm.write(
        [
            OpportunityWrite(before[0], {"name": "x"}),
            OpportunityWrite(before[1], {"name": "bad"}),
            OpportunityWrite(before[2], {"status": "Nonsense"}),
        ]
    )
    assert [type(each.error) for each in outcomes] == [Gone, Rejected, Rejected]
    error = outcomes[2].error
    assert error is not None
    assert error.fields == ("status",)
    assert only(crm.write([OpportunityWrite(before[0], {"team": ()})])).error.__class__ is Gone


def test_a_locked_row_is_tried_again(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    before = w.read(crm, w.deal())
    locked = [{"errorCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}]
    answer = {
        "compositeResponse": [
            {"body": locked, "httpHeaders": {}, "httpStatusCode": 400, "referenceId": "part0"},
            {"body": [], "httpHeaders": {}, "httpStatusCode": 500, "referenceId": "part1"},  # the read-back
        ]
    }
    w.server.faults.answer(200, answer, path=COMPOSITE, times=2)
    assert only(crm.write([OpportunityWrite(before, {"name": "New"})])).error is None
    assert len(w.clock.slept) == 2
    w.clock.tick()
    before = w.read(crm, before.id)
    w.server.faults.answer(200, answer, path=COMPOSITE, body="PATCH", times=None)
    stuck = only(crm.write([OpportunityWrite(before, {"name": "Newer"})]))
    assert isinstance(stuck.error, Flaky)
    assert stuck.error.code == "UNABLE_TO_LOCK_ROW"


def test_a_write_without_an_answer_is_unclear_and_never_sent_twice(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    before = w.read(crm, w.deal())
    sent = w.composites()
    w.server.faults.reset_after(path=COMPOSITE)
    done = only(crm.write([OpportunityWrite(before, {"name": "New"})]))
    assert isinstance(done.error, Unclear)
    assert done.snapshot is None
    assert w.composites() == sent + 1
    w.server.faults.answer(
        500, [{"errorCode": "UNKNOWN_EXCEPTION", "message": ""}], path=COMPOSITE, applied=True
    )
    assert isinstance(only(crm.write([OpportunityWrite(before, {"name": "New"})])).error, Unclear)


def test_an_org_that_is_away_leaves_the_rest_unstarted(world: Callable[..., World]) -> None:
    """What landed is told as landed; the cycle can remember it and then end."""
    w = world()
    crm = w.client()
    ids = [
        w.deal(Name=f"D{at}") for at in range(72)
    ]  # 24 to a call, with the question for what they hold then
    before = [each for each in crm.fetch(ids).values() if each]
    w.server.faults.reset_before(path=COMPOSITE, skip=1, times=None)
    done = crm.write([OpportunityWrite(each, {"message": "m"}) for each in before])
    kinds = [type(each.error) for each in done]
    assert kinds[:24] == [type(None)] * 24
    assert kinds[24:] == [Unclear] * 48
    assert crm.outage is not None
    w.server.stop()
    flaky = only(crm.write([OpportunityWrite(before[0], {"message": "m"})]))
    assert isinstance(flaky.error, Flaky)
    assert flaky.error.code == "unavailable"
    w.server.faults.clear()
    w.server.start()
    w.pull(crm)
    assert crm.outage is None


def test_a_merged_account_is_followed(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    made = only(crm.create([draft("ref-1")]))
    w.clock.tick()
    w.pull(crm)
    before = w.read(crm, str(made.id))
    winner = w.org.create("Account", Name="Winner")
    w.org.merge_accounts(winner, w.org.rows("Account", Name="Fabrikam")[0]["Id"])
    w.clock.tick()
    wanted = {"customer": Customer("Fabrikam", city="Kiel")}
    assert isinstance(only(crm.write([OpportunityWrite(before, wanted)])).error, Stale)
    assert w.pull(crm)[0] == {made.id}
    held = w.memory.snapshots[str(made.id)]["customer"]
    assert isinstance(held, Customer)
    assert held.name == "Winner"


# --- the session --------------------------------------------------------------------------------------------------


def test_jwt_bearer(world: Callable[..., World]) -> None:
    w = world()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    w.org.register_app("jwt-app", public_key=public.decode())
    rest = w.rest(JwtBearer("jwt-app", INTEGRATION_USERNAME, private.decode()))
    assert rest.user_id == w.org.integration_user
    assert rest.call("GET", "sobjects/Opportunity/describe").data["name"] == "Opportunity"
    assert rest.calls == 1


@pytest.mark.parametrize("code", ["invalid_grant", "inactive_user"])
def test_a_refused_sign_in_says_what_to_check(world: Callable[..., World], code: str) -> None:
    w = world()
    w.org.refuse_sign_in(code, "sam.seller@contoso.example is frozen")
    with pytest.raises(AuthFailed) as caught:
        w.client().shape()
    assert caught.value.code == code
    assert caught.value.hint
    assert "sam" not in str(caught.value)
    assert w.org.logins == 1


def test_a_token_is_never_sent_to_another_host(world: Callable[..., World]) -> None:
    w = world()
    w.org.instance_url = "https://na1.evil.example"
    with pytest.raises(AuthFailed, match="host"):
        w.client().shape()


def test_expiry_in_the_middle_keeps_the_guard(world: Callable[..., World]) -> None:
    """simple-salesforce drops request headers when it repeats; a guarded write would lose its guard exactly then."""
    w = world()
    rest = w.rest()
    crm = SalesforceCrm(rest, guard=Guard(parts=False))
    deal = w.deal()
    before = w.read(crm, deal)
    w.org.edit("Opportunity", deal, Name="seller")
    w.org.expire_sessions()
    assert isinstance(only(crm.write([OpportunityWrite(before, {"name": "ours"})])).error, Stale)
    patches = w.server.calls.matching("PATCH")
    assert [each.status for each in patches] == [401, 412]
    assert [each.headers["if-unmodified-since"] for each in patches] == ["Sun, 22 Nov 2026 10:00:00 GMT"] * 2
    assert w.org.logins == 2


def test_eight_threads_meet_expiry_and_one_signs_in(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    rest.call("GET", "sobjects")
    w.org.expire_sessions()
    barrier, statuses = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        statuses.append(rest.call("GET", "sobjects").status)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statuses == [200] * 8
    assert w.org.logins == 2


def test_the_limit_header_is_read_from_errors_too(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    with pytest.raises(SalesforceMalformedRequest):
        rest.call("GET", "query/?q=nonsense")
    assert rest.usage == (1, 100_000)
    w.org.api_calls_limit = 1
    with pytest.raises(Unavailable) as caught:
        rest.call("GET", "sobjects")
    assert caught.value.code == "REQUEST_LIMIT_EXCEEDED"
    assert rest.usage == (1, 1)
    assert rest.calls == 2  # not tried again


def test_retry_after_is_obeyed(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    w.server.faults.answer(503, [{"errorCode": "SERVER_UNAVAILABLE"}], {"Retry-After": "7"}, path="sobjects")
    assert rest.call("GET", "sobjects").status == 200
    assert w.clock.slept == [7]
    w.server.faults.answer(429, None, {"Retry-After": "600"}, path="sobjects", times=None)
    with pytest.raises(Unavailable) as caught:
        rest.call("GET", "sobjects")
    assert caught.value.retry_at == w.clock() + timedelta(seconds=600)
    assert w.clock.slept == [7]


def test_a_try_costs_at_most_two_minutes(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    rest.sign_in()
    w.server.faults.reset_before(path="sobjects", times=None)
    began = w.clock()
    with pytest.raises(Unavailable):
        rest.call("GET", "sobjects")
    assert rest.calls == 5
    assert w.clock() - began <= timedelta(seconds=120)


def test_a_redirect_is_never_followed(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    rest.sign_in()
    for status in (301, 302, 307, 308):
        w.server.faults.redirect(f"{w.server.url}/services/data/v66.0/limits", status, path="sobjects")
        with pytest.raises(Unavailable) as caught:
            rest.call("GET", "sobjects")
        assert caught.value.code == "redirect"
    w.server.faults.redirect("https://evil.example/", 302, path="oauth2/token")
    with pytest.raises(Unavailable):
        w.rest().sign_in()
    assert w.server.calls.matching(path="limits") == []


@pytest.mark.parametrize("fault", ["html", "truncate"])
def test_what_is_no_json_is_no_answer(world: Callable[..., World], fault: str) -> None:
    w = world()
    crm = w.client()
    before = w.read(crm, w.deal())
    getattr(w.server.faults, fault)(path=COMPOSITE)
    assert w.read(crm, before.id) == before  # read again
    getattr(w.server.faults, fault)(path=COMPOSITE)
    assert isinstance(only(crm.write([OpportunityWrite(before, {"name": "x"})])).error, Unclear)
    getattr(w.server.faults, fault)(path=COMPOSITE, times=None)
    with pytest.raises(Unavailable):
        crm.fetch([before.id])


def test_answers_of_an_unknown_shape_are_trouble_not_a_crash(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    deal = w.deal()
    crm.shape()
    for shape in (["unexpected"], {"compositeResponse": []}, {"compositeResponse": None}, 7):
        w.server.faults.wrong_json(shape, path=COMPOSITE)
        with pytest.raises(Unavailable):
            crm.fetch([deal])


def test_a_wrong_authority_is_named(world: Callable[..., World], tmp_path: Path) -> None:
    w = world()
    other = Certificates().write(tmp_path / "other.pem")
    with pytest.raises(Unavailable) as caught:
        w.rest(verify=ssl.create_default_context(cafile=str(other))).sign_in()
    assert (caught.value.code, "SSL_CERT_FILE" in caught.value.hint) == ("certificate", True)
    assert w.clock.slept == [], "asking again does not help"


def test_the_environments_authority_is_honoured(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    monkeypatch.setenv("SSL_CERT_FILE", str(w.bundle))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert w.rest(verify=None).sign_in().value


def test_the_library_describes_through_our_session(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    assert rest.salesforce().Opportunity.describe()["name"] == "Opportunity"
    w.org.expire_sessions()
    assert rest.salesforce().Account.describe()["name"] == "Account"
    with pytest.raises(SalesforceError):
        rest.salesforce().Nonsense__c.describe()
    assert rest.calls == 4


def test_stopping_ends_a_hanging_call(world: Callable[..., World]) -> None:
    w = world()
    stop = threading.Event()
    rest = w.rest(stop=stop, limits=Limits(grace=0.1))
    rest.sign_in()
    w.server.faults.hang(path="sobjects")
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Unavailable):
        rest.call("GET", "sobjects")
    with pytest.raises(Unavailable, match="stopping"):
        rest.call("GET", "sobjects")


# --- by hand ------------------------------------------------------------------------------------------------------


class Scripted:
    """A wire that says or does whatever comes next; sign-ins are granted beside the script."""

    def __init__(self, mock: respx.MockRouter, *script: Any) -> None:
        self.script = list(script)
        self.sent: list[httpx.Request] = []
        self.clock = Clock()
        mock.route(url__startswith=ACME).mock(side_effect=self.send)
        self.connection = Connection(
            ACME, clock=self.clock, sleep=self.clock.sleep, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )

    def send(self, request: httpx.Request) -> httpx.Response:
        patience = request.extensions["timeout"]
        assert (patience["connect"], patience["read"]) == (10.0, 30.0)
        if "oauth2" in str(request.url):
            return httpx.Response(200, json={"access_token": "t", "instance_url": ACME})
        self.sent.append(request)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        status, body = step
        return httpx.Response(status, json=body)


Script = Callable[..., tuple[Rest, Scripted, Clock]]


@pytest.fixture
def scripted() -> Iterator[Script]:
    with respx.mock(assert_all_called=False) as mock:
        made: list[Scripted] = []

        def play(*script: Any) -> tuple[Rest, Scripted, Clock]:
            mock.clear()
            wire = Scripted(mock, *script)
            made.append(wire)
            return wire.connection.rest, wire, wire.clock

        yield play
        for each in made:
            each.connection.close()


ACME = "https://acme.my.salesforce.com"
REFUSED = httpx.ConnectError("refused")


def test_a_timeout_of_a_create_is_unclear_and_of_a_read_tried_again(scripted: Script) -> None:
    rest, adapter, _ = scripted(httpx.ReadTimeout("late"), httpx.ReadTimeout("late"), (200, {"a": 1}))
    with pytest.raises(Unclear):
        rest.call("POST", "composite/sobjects", {})
    assert rest.call("GET", "sobjects").data == {"a": 1}
    assert len(adapter.sent) == 3


def test_a_connection_that_never_stood_carried_nothing(scripted: Script) -> None:
    """So even a create may be tried again."""
    rest, adapter, _ = scripted(REFUSED, httpx.ConnectTimeout("late"), (201, {"id": "x"}))
    assert rest.call("POST", "sobjects/Account", {"Name": "x"}).status == 201
    assert len(adapter.sent) == 3


def test_many_child_rows_are_read_to_the_end(scripted: Script) -> None:
    """Of many child rows the platform sends the first and says where the others are."""
    rest, adapter, _ = scripted((200, {"done": True, "records": [{"Id": "s2"}]}))
    first = {"done": False, "nextRecordsUrl": "/services/data/v66.0/query/x-1", "records": [{"Id": "s1"}]}
    row = read.with_all_children(rest, {"Id": "006", "Cosell_Solutions__r": first})
    assert [each["Id"] for each in row["Cosell_Solutions__r"]["records"]] == ["s1", "s2"]
    assert str(adapter.sent[0].url).endswith("/services/data/v66.0/query/x-1")


def test_a_cursor_that_runs_in_a_circle_is_trouble(scripted: Script) -> None:
    page = {"done": False, "nextRecordsUrl": "/services/data/v66.0/query/x-1", "records": []}
    rest, _, _ = scripted((200, page), (200, page))
    with pytest.raises(Unavailable):
        read.with_all_children(rest, {"Id": "006", "Cosell_Solutions__r": page})


def test_a_locked_row_of_a_collection_is_sent_again_alone(scripted: Script) -> None:
    fine, locked = {"id": "x", "success": True, "errors": []}, {
        "success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": ""}],
    }  # fmt: skip
    rest, adapter, clock = scripted((200, [fine, locked]), (200, [locked]), (200, [fine]))
    changes = [bulk.Change(bulk.Operation.UPDATE, "Contact", {"Phone": phone}, id=phone) for phone in "12"]
    assert [each.fine for each in bulk.send(rest, changes)] == [True, True]
    assert [len(json.loads(each.content)["records"]) for each in adapter.sent] == [2, 1, 1]
    assert len(clock.slept) == 2


def test_a_collection_knows_what_was_lost_refused_and_never_sent(scripted: Script) -> None:
    create = [bulk.Change(bulk.Operation.CREATE, "Account", {"Name": "x"})] * 2
    rest, _, _ = scripted((200, [{"success": True, "id": "a"}]))
    assert all(each.unclear for each in bulk.send(rest, create))  # an answer of the wrong length
    rest, _, _ = scripted((400, [{"errorCode": "JSON_PARSER_ERROR", "message": "m"}]))
    assert [each.faults[0].code for each in bulk.send(rest, create)] == ["JSON_PARSER_ERROR"] * 2
    rest, adapter, _ = scripted(*[REFUSED] * 5)
    deletion = bulk.Change(bulk.Operation.DELETE, "Contact", id="x")
    assert all(each.outage for each in bulk.send(rest, [*create, deletion]))
    assert {each.method for each in adapter.sent} == {"POST"}


@pytest.mark.parametrize("code", ["ORG_IN_MAINTENANCE", "REQUEST_LIMIT_EXCEEDED", "API_DISABLED_FOR_ORG"])
def test_an_org_that_takes_no_calls_is_away_and_says_why(scripted: Script, code: str) -> None:
    """A 403 of this kind is about the org, so no row of the call is refused by it."""
    rest, wire, _ = scripted((403, [{"errorCode": code, "message": ""}]))
    (result,) = bulk.send(rest, [bulk.Change(bulk.Operation.CREATE, "Account", {"Name": "x"})])
    assert isinstance(result.outage, Unavailable)
    assert (result.outage.code, len(wire.sent)) == (code, 1)
    assert result.outage.hint


def test_a_deletion_that_was_never_answered_may_have_landed(scripted: Script) -> None:
    """It is repeated, for that does no harm; where the last try does not even get there, that says nothing of the first."""
    lost = httpx.ReadTimeout("late")
    rest, wire, _ = scripted(lost, REFUSED, REFUSED, REFUSED, REFUSED)
    (result,) = bulk.send(rest, [bulk.Change(bulk.Operation.DELETE, "Contact", id="x")])
    assert (result.unclear is not None, result.outage, len(wire.sent)) == (True, None, 5)


def test_two_calls_without_an_answer_mean_that_nobody_is_there(scripted: Script) -> None:
    create = [bulk.Change(bulk.Operation.CREATE, "Account", {"Name": "x" * 1_500_000})] * 6
    rest, wire, _ = scripted(*[httpx.ReadTimeout("late")] * 2)
    found = [(each.unclear is not None, each.outage is not None) for each in bulk.send(rest, create)]
    assert (found, len(wire.sent)) == ([(True, False)] * 4 + [(False, True)] * 2, 2)


def test_removing_what_is_gone_already_is_done(scripted: Script) -> None:
    rest, _, _ = scripted(
        (200, [{"success": False, "errors": [{"statusCode": "ENTITY_IS_DELETED", "message": ""}]}])
    )
    assert bulk.send(rest, [bulk.Change(bulk.Operation.DELETE, "Contact", id="x")])[0].fine


def test_a_token_refused_twice_is_no_loop(scripted: Script) -> None:
    body = [{"errorCode": "INVALID_SESSION_ID", "message": ""}]
    rest, adapter, _ = scripted((401, body), (401, body))
    with pytest.raises(AuthFailed) as caught:
        rest.call("GET", "sobjects")
    assert caught.value.code == "INVALID_SESSION_ID"
    assert len(adapter.sent) == 2


def test_a_page_where_json_was_due_in_an_error(scripted: Script) -> None:
    rest, _, _ = scripted((404, "a proxy's page"))
    with pytest.raises(Unavailable) as caught:
        rest.call("GET", "sobjects")
    assert caught.value.code == "http_404"


def test_a_netrc_does_not_overrule_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Script
) -> None:
    (tmp_path / "netrc").write_text("machine acme.my.salesforce.com login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    rest, adapter, _ = scripted((200, {}))
    rest.call("GET", "sobjects")
    assert adapter.sent[0].headers["Authorization"] == "Bearer t"


# --- doctor -------------------------------------------------------------------------------------------------------


def test_doctor_finds_what_is_missing(world: Callable[..., World]) -> None:
    w = world(team_selling=False)
    w.org.hide_field("Opportunity", "Cosell_Notes__c")
    w.org.change_field("Opportunity", "Cosell_Message__c", updateable=False)
    found = {each.name: each for each in check(w.client(), ["Prospecting", "Nowhere"]) if each.status != "ok"}
    assert {name: each.status for name, each in found.items()} == {
        "salesforce.Opportunity.Cosell_Notes__c": "fault",
        "salesforce.Opportunity.Cosell_Message__c": "fault",
        "salesforce.OpportunityTeamMember": "warning",
        "salesforce.stage.Nowhere": "fault",
    }
    assert all(each.todo for each in found.values())
    names = {**DEFAULT_NAMES, "value": "Amuont"}
    misspelt = {each.name: each.todo for each in check_fields(w.client().org, names)}[
        "salesforce.Opportunity.Amuont"
    ]
    assert misspelt.startswith(
        "correct mapping.fields.value; if Amuont exists, grant it"
    )  # nobody makes standard fields


def test_doctor_is_content_with_a_whole_org_and_names_one_that_is_away(world: Callable[..., World]) -> None:
    w = world()
    assert {each.status for each in check(w.client(), ["Prospecting"])} == {"ok"}
    w.org.refuse_sign_in("invalid_grant")
    (found,) = check(w.client())
    assert isinstance(found.error, AuthFailed)


# --- the log --------------------------------------------------------------------------------------------------------


def test_each_call_is_logged_without_ids_and_questions(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    for method, path in (
        ("GET", "sobjects/Opportunity/Cosell_Referral_Id__c/secret"),
        ("GET", "sobjects/Opportunity/006000000000001AAA?fields=Name"),
        ("GET", "query?q=SELECT+Id+FROM+Account+WHERE+Name+='Contoso'"),
    ):
        with contextlib.suppress(SalesforceError), capture_logs() as events:
            rest.call(method, path)
        (call,) = [each for each in events if each["event"] == "http.call" and "oauth2" not in each["path"]]
        assert call["path"].partition("/")[2] in {
            "sobjects/Opportunity/Cosell_Referral_Id__c/…",
            "sobjects/Opportunity/…",
            "query",
        }
        assert (call["system"], call["method"]) == ("salesforce", "GET")
        assert call["status"] in {200, 404}
    w.server.faults.reset_before(path="query", times=None)
    with pytest.raises(Unavailable), capture_logs() as events:
        rest.call("GET", "query?q=SELECT+Id+FROM+Account")
    calls = [each for each in events if each["event"] == "http.call"]
    assert {each["status"] for each in calls} == {None}
    assert {each["code"] for each in calls} <= {"broken_answer", "reset"}


@pytest.mark.parametrize("version", ["25.0", "99.0"])
def test_a_version_that_the_org_does_not_serve_is_one_message(
    world: Callable[..., World], version: str
) -> None:
    """Retired answers 410, unknown 404; neither is a missing right or a missing object."""
    w = world()
    connection = w.rest()
    connection.version = version
    crm = SalesforceCrm(connection)
    with pytest.raises(Unavailable, match=f"does not serve version {version}") as caught:
        crm.shape()
    assert (caught.value.code, "salesforce.api_version" in caught.value.hint) == ("api_version", True)
    assert "68.0" in caught.value.hint
    (fault,) = [each for each in check(crm) if each.status == "fault"]
    assert "does not serve version" in fault.message


def test_a_row_that_is_not_found_is_no_matter_of_the_version(world: Callable[..., World]) -> None:
    w = world()
    rest = w.rest()
    for _ in range(2):
        with pytest.raises(SalesforceError):
            rest.call("GET", "sobjects/Opportunity/006000000000000AAA")
    assert w.server.calls.matching("GET", "/services/data$") == []


def test_an_approval_locks_the_record_and_nothing_else(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    held, free = w.deal(), w.deal()
    w.org.lock(held)
    batch = [OpportunityWrite(w.read(crm, each), {"notes": "x"}) for each in (held, free)]
    outcomes = crm.write(batch)
    assert isinstance(outcomes[0].error, Locked)
    assert (outcomes[0].error.code, outcomes[0].error.cure) == ("ENTITY_IS_LOCKED", Cure.TIME)
    assert outcomes[1].error is None
    w.org.unlock(held)
    assert only(crm.write([OpportunityWrite(w.read(crm, held), {"notes": "x"})])).error is None


def test_an_account_under_approval_keeps_nobody_out(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    account = w.org.create("Account", Name="Fabrikam")
    deal = w.deal(AccountId=account)
    w.org.lock(account)
    fields = {
        "customer": Customer("Fabrikam", "Elsewhere 2"),
        "contacts": (Member("ann@x.example", "Ann", "A"),),
    }
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {**fields, "notes": "x"})]))
    assert (outcome.error, outcome.refused.keys()) == (None, {"customer"})
    assert isinstance(outcome.refused["customer"], Locked)
    held = w.read(crm, deal)
    assert held["notes"] == "x"
    assert [each.email for each in held["contacts"]] == ["ann@x.example"]


def test_a_lock_is_no_refusal_of_a_field_and_is_not_searched_for(world: Callable[..., World]) -> None:
    w = world()
    crm = w.client()
    deal = w.deal()
    before = w.read(crm, deal)
    w.org.lock(deal)
    calls = crm.calls
    fields = {"notes": "x", "close_date": date(2027, 5, 1), "campaign_id": "c-1", "value": Decimal(7)}
    outcome = only(crm.write([OpportunityWrite(before, fields)]))
    assert isinstance(outcome.error, Locked)
    assert outcome.refused == {}
    assert crm.calls - calls <= 2  # the write and its read-back


def test_a_rule_against_changes_of_closed_opportunities(world: Callable[..., World]) -> None:
    w = world()
    w.org.closed_rows_writable = False
    crm = w.client()
    deal = w.deal()
    w.org.edit("Opportunity", deal, StageName="Closed Won")
    outcome = only(crm.write([OpportunityWrite(w.read(crm, deal), {"message": "Over."})]))
    assert isinstance(outcome.error, Rejected)
    assert outcome.error.cure is Cure.SELLER
