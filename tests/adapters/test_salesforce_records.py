"""Rows ⇄ values without a network: what is read, what is left out, and that writing and reading back is stable."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cosell_sync.core.deal import ABSENT, Customer, Member, Solution
from cosell_sync.core.normalize import for_crm
from cosell_sync.crm.salesforce import errors, related, signin, states, translate, versions
from cosell_sync.crm.salesforce.bulk import Change, Operation
from cosell_sync.crm.salesforce.org import DEFAULT_NAMES, Org, field_names
from cosell_sync.errors import AuthFailed, Flaky, Gone, Rejected, Stale
from cosell_sync.transport.exact_json import encode

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
STAMP = "2026-11-22T10:00:00.000+0000"
ME = "005000000000001AAA"


def org(*, codes: bool = False, team: bool = True, without: tuple[str, ...] = ()) -> Org:
    names = {name: crm for name, crm in DEFAULT_NAMES.items() if name not in without}
    place = ("BillingCountryCode", "BillingStateCode") if codes else ("BillingCountry", "BillingState")
    columns: dict[str, dict[str, Any]] = {
        "Opportunity": {crm: {"label": f"Label {crm}"} for crm in (*names.values(), "AccountId")},
        "Account": {key: {} for key in ("Name", "BillingStreet", "BillingCity", "BillingPostalCode", *place)},
        "Contact": {key: {} for key in ("AccountId", "Email", "FirstName", "LastName", "Phone")},
        "OpportunityContactRole": {"ContactId": {}},
        "User": {key: {} for key in ("Email", "IsActive", "FirstName", "LastName", "Phone")},
        "Cosell_Solution__c": {
            name: {}
            for name in (
                "Solution_Id__c",
                "Opportunity__c",
                "Solution_Name__c",
                "Solution_Type__c",
                "Cosell_Key__c",
            )
        },
    }
    if team:
        columns["OpportunityTeamMember"] = {"OpportunityAccessLevel": {"createable": True}}
    return Org(names=names, fields=columns, user_id=ME)


def user(name: str, *, active: bool = True) -> dict[str, Any]:
    return {"Email": f"{name}@Contoso.example", "FirstName": name, "LastName": "L", "Phone": None,
            "IsActive": active, "LastModifiedDate": STAMP}  # fmt: skip


def contact(name: str | None, **more: Any) -> dict[str, Any]:
    email = f"{name}@x.example" if name else None
    return {"Email": email, "FirstName": name, "LastName": "L", "Phone": "1", "SystemModstamp": STAMP, **more}


def row(**more: Any) -> dict[str, Any]:
    return {
        "Id": "006000000000001AAA", "SystemModstamp": STAMP, "LastModifiedDate": STAMP, "IsClosed": False,
        "IsWon": False, "Name": "Deal", "OwnerId": "005000000000002AAA", "Owner": user("Sam"),
        "AccountId": None, "Account": None, **more,
    }  # fmt: skip


def kids(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"totalSize": len(rows), "done": True, "records": list(rows)}


def test_what_the_org_does_not_have_is_not_known() -> None:
    """ABSENT is not None: a field that is not there must never look cleared."""
    read = translate.snapshot(row(Amount=Decimal("5.10")), org(without=("currency",)), NOW)
    assert read["currency"] is ABSENT
    assert read["value"] == Decimal("5.10")
    assert read["sales_stage"] is ABSENT


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("value", 5000, Decimal(5000)),
        ("value", None, None),
        ("close_date", "2027-01-31", date(2027, 1, 31)),
        ("last_sync", "2026-11-22T09:55:00.000+0000", datetime(2026, 11, 22, 9, 55, tzinfo=UTC)),
        ("notes", "a\r\nb", "a\nb"),
        ("reason", "", None),
        ("sync", True, True),
        ("favorite", None, False),
        ("close_date", "nonsense", None),
    ],
)
def test_columns_are_read_by_the_kind_of_their_field(name: str, data: object, value: object) -> None:
    read = translate.snapshot(row(**{DEFAULT_NAMES[name]: data}), org(), NOW)
    assert read[name] == value


def test_written_columns_read_back_as_they_were() -> None:
    fields = {
        "value": Decimal("9999999999999999.99"), "close_date": date(2027, 1, 31), "sync": True, "notes": "a\nb",
        "respond_by": datetime(2026, 12, 1, 8, 30, tzinfo=UTC), "reason": None, "action": None,
    }  # fmt: skip
    columns = translate.columns(fields, org())
    again = translate.snapshot(row(**json.loads(encode(columns), parse_float=Decimal)), org(), NOW)
    assert {name: again[name] for name in fields} == fields


def test_a_checkbox_is_cleared_with_false() -> None:
    """The platform refuses null there."""
    assert translate.columns({"sync": None, "action": None}, org()) == {
        "Cosell_Sync__c": False,
        "Cosell_Action__c": None,
    }


def test_sets_and_unknown_fields_are_no_columns() -> None:
    assert translate.columns({"team": (), "customer": None, "sales_stage": "Develop"}, org()) == {}


def test_an_amount_summed_from_products_is_readonly() -> None:
    assert translate.snapshot(row(HasOpportunityLineItem=True), org(), NOW).readonly == {"value"}


def test_contacts_stand_primary_first_and_without_those_that_have_no_email() -> None:
    roles = kids(
        {
            "Id": "r1",
            "ContactId": "c1",
            "IsPrimary": False,
            "SystemModstamp": STAMP,
            "Contact": contact("ann"),
        },
        {
            "Id": "r2",
            "ContactId": "c2",
            "IsPrimary": True,
            "SystemModstamp": STAMP,
            "Contact": contact("BOB"),
        },
        {
            "Id": "r3",
            "ContactId": "c3",
            "IsPrimary": False,
            "SystemModstamp": STAMP,
            "Contact": contact(None),
        },
    )
    read = translate.snapshot(row(OpportunityContactRoles=roles), org(), NOW)
    found = read["contacts"]
    assert isinstance(found, tuple)
    assert [each.key for each in found] == ["bob@x.example", "ann@x.example"]
    assert dict(found[0].extra) == {"role": "r2", "contact": "c2"}
    assert {"r1", "r2", "r3", "c3"} <= read.rows


def test_the_team_is_its_rows_else_the_owner_and_never_us() -> None:
    def team(**more: Any) -> list[str]:
        found = translate.snapshot(row(**more), org(), NOW)["team"]
        assert isinstance(found, tuple)
        return [each.key for each in found]

    def members(*ids: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        return kids(*({"Id": f"m{i}", "UserId": i, "SystemModstamp": STAMP, "User": who} for i, who in ids))

    assert team() == ["sam@contoso.example"]
    assert team(OwnerId=ME) == []
    assert team(OpportunityTeamMembers=members(("u1", user("Eve")), (ME, user("Us")))) == [
        "eve@contoso.example"
    ]
    assert team(OpportunityTeamMembers=members((ME, user("Us")))) == ["sam@contoso.example"]
    assert team(OpportunityTeamMembers=members(("u1", user("Left", active=False)))) == []


def test_customer_from_an_account_with_free_text() -> None:
    account = {
        "Name": "Fabrikam", "BillingStreet": "Main St 1\r\nFloor 2\nDoor 3", "BillingCity": "Berlin",
        "BillingState": "BE", "BillingPostalCode": "10115", "BillingCountry": "germany", "SystemModstamp": STAMP,
    }  # fmt: skip
    read = translate.snapshot(row(AccountId="001x", Account=account), org(), NOW)["customer"]
    assert read == Customer("Fabrikam", "Main St 1", "Floor 2, Door 3", "Berlin", "BE", "10115", "DE")
    assert isinstance(read, Customer)
    assert read.extra == {"account": "001x"}


def test_customer_goes_out_in_codes_where_the_org_has_them() -> None:
    """A state that the org's list does not know would be refused with the whole account, so it is left out."""
    with_codes = Org(
        names=DEFAULT_NAMES,
        fields=org(codes=True).fields,
        states=(states.Choice("WA", "Washington", frozenset({"US"})), states.Choice("WA", "Western Australia", frozenset({"AU"}))),
    )  # fmt: skip
    wanted = Customer("C", state="washington", country="US")
    assert translate.account_columns(wanted, with_codes) == {
        "Name": "C", "BillingCountryCode": "US", "BillingStateCode": "WA",
    }  # fmt: skip
    unknown = translate.account_columns(Customer("C", state="Bavaria", country="DE"), with_codes)
    assert unknown == {"Name": "C", "BillingCountryCode": "DE"}


def test_the_orgs_own_names_of_countries_win() -> None:
    """Kosovo under a code of the admin's, Greece under the one that the European Union uses, and one that is inactive."""
    fields = [
        {"name": "BillingCountryCode", "picklistValues": [
            {"value": "DE", "label": "Deutschland"}, {"value": "KV", "label": "Kosova"}, {"value": "EL", "label": "Griechenland"},
            {"value": "FR", "label": "France", "active": False}, {"value": "QQ", "label": "Nowhere"},
        ]},
        {"name": "BillingStateCode", "picklistValues": [{"value": "PR", "label": "Pristina", "validFor": "QA=="}]},
    ]  # fmt: skip
    listed = states.countries(fields)
    ours = Org(
        names=DEFAULT_NAMES, fields=org(codes=True).fields, countries=listed, states=states.known(fields)
    )
    assert [states.country(listed, each) for each in ("DE", "KV", "EL", "FR", "QQ", None)] == [
        "DE", "XK", "GR", "FR", "QQ", None,
    ]  # fmt: skip
    assert [states.own_code(listed, each) for each in ("DE", "XK", "GR", "FR", "US", None)] == [
        "DE", "KV", "EL", None, None, None,
    ]  # fmt: skip
    shape = ours.shape()
    assert shape.picklists["customer.country"] == {"DE", "XK", "GR", "QQ"}
    assert for_crm("customer", Customer("C", state="pristina", country="XK"), shape) == Customer(
        "C", state="PR", country="XK"
    )
    wanted = Customer("C", state="PR", country="XK")
    sent = {"Name": "C", "BillingCountryCode": "KV", "BillingStateCode": "PR"}
    assert translate.account_columns(wanted, ours) == sent
    assert translate.customer(sent, ours) == wanted


def test_lengths_are_those_of_the_org_else_those_shipped() -> None:
    shape = org().shape()
    assert (shape.lengths["customer.street"], shape.lengths["contacts.first_name"]) == (255, 40)
    narrow = org()
    narrow = replace(narrow, fields={**narrow.fields, "Contact": {"FirstName": {"length": 30}}})
    assert narrow.shape().lengths["contacts.first_name"] == 30


def test_only_what_changes_goes_to_the_account() -> None:
    before = Customer("C", "S 1", None, "Bonn", None, "53111", "DE")
    after = Customer("C", "S 1", "c/o", "Bonn", None, "53113", "DE")
    assert translate.account_columns(after, org(), before) == {
        "BillingStreet": "S 1\nc/o",
        "BillingPostalCode": "53113",
    }
    assert translate.account_columns(before, org(), before) == {}


def test_valid_for_says_whose_a_state_is() -> None:
    """A bit set over the countries, first country in the highest bit."""
    fields = [
        {"name": "BillingCountryCode", "picklistValues": [{"value": "AU"}, {"value": "US"}]},
        {"name": "BillingStateCode", "picklistValues": [
            {"value": "WA", "label": "Washington", "validFor": "QA=="}, {"value": "NSW", "label": "N", "validFor": "gA=="},
        ]},
    ]  # fmt: skip
    choices = states.known(fields)
    assert states.state_code(choices, "US", "wa") == "WA"
    assert states.state_code(choices, "AU", "WA") is None
    assert states.state_code(choices, "AU", "NSW") == "NSW"


# --- versions -----------------------------------------------------------------------------------------------------


def test_a_version_moves_with_every_row_around() -> None:
    """An edit of a contact does not move the opportunity's stamp."""

    def read(stamp: str) -> str:
        roles = kids(
            {
                "Id": "r",
                "ContactId": "c",
                "SystemModstamp": STAMP,
                "Contact": contact("a", SystemModstamp=stamp),
            }
        )
        return translate.snapshot(row(OpportunityContactRoles=roles), org(), NOW).version

    first, second = read(STAMP), read("2026-11-22T10:00:01.000+0000")
    assert first == read(STAMP)
    assert not versions.unchanged(first, second)
    assert versions.unchanged(first, first)
    assert versions.covers(first, [("c", STAMP)])
    assert not versions.covers(first, [("c", "2026-11-22T10:00:01.000+0000")])
    assert not versions.covers(first, [("other", STAMP)])
    assert versions.has_row(first, "r")


def test_a_version_read_in_the_second_of_its_change_equals_none() -> None:
    """Stamps have the precision of a second: the row may change again without a new stamp."""
    at = datetime(2026, 11, 22, 10, 0, 1, 900_000, tzinfo=UTC)
    fresh = translate.version(row(), at).text
    assert not versions.unchanged(fresh, fresh)
    assert not versions.covers(fresh, [("005000000000002AAA", STAMP)])
    later = translate.version(row(), at + timedelta(seconds=1)).text
    assert fresh != later
    assert versions.unchanged(later, later)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"stamp":1}', "W/42"])
def test_a_version_of_another_kind_equals_none(text: str) -> None:
    assert versions.parse(text) is None
    assert not versions.unchanged(text, text)


# --- rows around --------------------------------------------------------------------------------------------------


def plan(around: dict[str, Any], **wanted: Any) -> related.RelatedChanges:
    users = {"sam@contoso.example": "005000000000002AAA", "eve@contoso.example": "u-eve"}
    return related.changes(row(**around), org(), wanted, users, "ref-1")


def test_the_owner_gets_a_row_as_well() -> None:
    """While there is none he stands for the team, and would leave it with the first colleague a seller adds."""
    (made,) = plan({}, team=(Member("sam@contoso.example"),)).changes
    assert made[1].columns["UserId"] == "005000000000002AAA"


def test_a_second_colleague_brings_the_owner_into_the_rows_too() -> None:
    """With any row the owner no longer stands for the team."""
    got = plan(
        {}, team=(Member("sam@contoso.example"), Member("eve@contoso.example"), Member("no@user.example"))
    )
    assert [each.columns["UserId"] for _, each in got.changes if each.columns] == [
        "005000000000002AAA",
        "u-eve",
    ]
    assert got.unheld == {"team": frozenset({"no@user.example"})}


def test_without_team_selling_everybody_but_the_owner_is_unheld() -> None:
    got = related.changes(
        row(), org(team=False), {"team": (Member("sam@contoso.example"), Member("eve@contoso.example"))},
        {"sam@contoso.example": "005000000000002AAA", "eve@contoso.example": "u-eve"}, "",
    )  # fmt: skip
    assert got.changes == ()
    assert got.unheld == {"team": frozenset({"eve@contoso.example"})}


def test_contacts_are_added_changed_and_removed() -> None:
    roles = kids(
        {"Id": "r1", "ContactId": "c1", "IsPrimary": True, "Contact": contact("ann")},
        {"Id": "r2", "ContactId": "c2", "IsPrimary": False, "Contact": contact("bob")},
        {"Id": "r3", "ContactId": "c3", "IsPrimary": False, "Contact": contact(None)},
    )
    wanted = (Member("bob@x.example", "bob", None, "2"), Member("new@x.example", "New"))
    got = plan({"OpportunityContactRoles": roles}, contacts=wanted)
    assert got.changes == (
        ("contacts", Change(Operation.DELETE, "OpportunityContactRole", id="r1")),
        ("contacts", Change(Operation.UPDATE, "Contact", {"Phone": "2"}, id="c2")),
    )
    assert [each.email for each in got.new_contacts] == ["new@x.example"]
    assert got.primary_contact == "new@x.example"


def test_a_sellers_solution_row_receives_its_key() -> None:
    rows = kids({"Id": "s1", "Solution_Id__c": "SOL-1", "Solution_Name__c": "One", "Cosell_Key__c": None})
    expected = (
        (
            "solutions",
            Change(Operation.UPDATE, "Cosell_Solution__c", {"Cosell_Key__c": "ref-1:SOL-1"}, id="s1"),
        ),
    )
    assert plan({"Cosell_Solutions__r": rows}, solutions=(Solution("SOL-1"),)).changes == expected
    assert plan({"Cosell_Solutions__r": rows}, referral_id="ref-1").changes == expected
    keyed = kids({"Id": "s1", "Solution_Id__c": "SOL-1", "Cosell_Key__c": "ref-1:SOL-1"})
    assert plan({"Cosell_Solutions__r": keyed}, solutions=(Solution("SOL-1"),)).changes == ()


def test_a_new_solution_is_upserted_by_its_key_and_an_old_one_removed() -> None:
    rows = kids({"Id": "s1", "Solution_Id__c": "SOL-1"})
    first, second = plan({"Cosell_Solutions__r": rows}, solutions=(Solution("SOL-2", "Two", "Own"),)).changes
    assert first[1].operation is Operation.UPSERT
    assert first[1].columns == {
        "Opportunity__c": "006000000000001AAA", "Solution_Id__c": "SOL-2", "Solution_Name__c": "Two",
        "Solution_Type__c": "Own", "Cosell_Key__c": "ref-1:SOL-2",
    }  # fmt: skip
    assert second[1] == Change(Operation.DELETE, "Cosell_Solution__c", id="s1")


# --- errors and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE", 412, Stale), ("", 412, Stale), ("ENTITY_IS_DELETED", 404, Gone),
        ("NOT_FOUND", 404, Gone), ("UNABLE_TO_LOCK_ROW", 400, Flaky), ("SERVER_UNAVAILABLE", 503, Flaky),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", 400, Rejected), ("SOMETHING_NEW", 400, Rejected),
    ],
)  # fmt: skip
def test_codes_are_sorted_by_what_happens_next(code: str, status: int, kind: type) -> None:
    error = errors.outcome(errors.faults([{"errorCode": code, "message": "m"}]), status)
    assert type(error) is kind


def test_a_lock_inside_a_flow_is_a_lock() -> None:
    inner = errors.faults(
        [{"statusCode": "CANNOT_EXECUTE_FLOW_TRIGGER", "message": "… UNABLE_TO_LOCK_ROW …"}]
    )
    assert type(errors.outcome(inner)) is Flaky


def test_a_refusal_speaks_with_the_orgs_words_and_labels() -> None:
    found = errors.faults({"errors": [{"statusCode": "X", "message": "Bad value.", "fields": ["Amount"]}]})
    error = errors.outcome(found, 400, {"Amount": "Deal value"}, {"Amount": "value"})
    assert (error.text, error.fields) == ("Bad value. (Deal value)", ("value",))


def test_configured_names_are_laid_over_the_defaults() -> None:
    names = field_names({"notes": "Description", "customer": "Account", "solutions": "Cosell_Solutions__r"})
    assert names["notes"] == "Description"
    assert names["name"] == "Name"
    assert "customer" not in names


# --- the sign-in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "instance", "fine"),
    [
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com", True),
        ("https://acme.my.salesforce.com", "https://na1.salesforce.com", True),
        ("https://acme.my.salesforce.com", "http://acme.my.salesforce.com", False),
        ("https://acme.my.salesforce.com", "https://salesforce.com.evil.example", False),
        ("https://acme.my.salesforce.com", "https://evilsalesforce.com", False),
        ("https://acme.my.salesforce.com", "https://x@na1.salesforce.com", False),
        ("https://acme.my.salesforce.com", "https://na1.salesforce.com:8443", False),
        ("https://localhost:4711", "https://localhost:4711", True),
        ("https://localhost:4711", "https://127.0.0.1:4711", False),
        ("https://localhost:4711", "https://na1.salesforce.com", False),
        ("https://acme.my.salesforce.com", "", False),
        ("https://acme.my.salesforce.com", "https://na1.salesforce.com:port", False),
    ],
)
def test_the_token_goes_to_the_same_site_only(login: str, instance: str, fine: bool) -> None:
    assert signin.trusted(login, instance) is fine
    reply = {"access_token": "t", "instance_url": instance, "id": "https://login.salesforce.com/id/00D/005x"}
    if fine:
        assert signin.granted(login, reply).user_id == "005x"
    else:
        with pytest.raises(AuthFailed) as caught:
            signin.granted(login, reply)
        assert caught.value.code == "foreign_instance"


@pytest.mark.parametrize(
    ("login", "audience"),
    [
        ("https://acme.my.salesforce.com", "https://login.salesforce.com"),
        ("https://acme--uat.sandbox.my.salesforce.com", "https://test.salesforce.com"),
    ],
)
def test_the_audience_follows_the_kind_of_org(login: str, audience: str) -> None:
    assert signin.audience(login) == audience


def test_a_broken_private_key_is_told_without_the_key() -> None:
    flow = signin.JwtBearer("key", "user", "-----BEGIN NONSENSE-----")
    with pytest.raises(AuthFailed) as caught:
        flow.request("https://acme.my.salesforce.com", NOW)
    assert caught.value.code == "invalid_private_key"
    assert caught.value.__cause__ is None
    assert "NONSENSE" not in repr(flow)
