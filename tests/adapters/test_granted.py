"""What a cycle reads and writes on Salesforce is what the deployed permission set grants, and nothing of the set is idle.

The fake's integration user has the minimum-access profile: it sees of standard objects what the set gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import served_dynamics, served_salesforce
from adapters.served_salesforce import check, draft
from cosell_sync.core.deal import Customer, Member, Solution
from cosell_sync.crm.salesforce.install.deploy import provision
from cosell_sync.crm.salesforce.install.schema import INTEGRATION_SET, STANDARD_FIELDS, components
from cosell_sync.ports import OpportunityWrite
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.salesforce import access

RIGHTS = {
    "allowCreate": "Create", "allowRead": "Read", "allowEdit": "Edit", "allowDelete": "Delete",
    "viewAllRecords": "ViewAllRecords", "modifyAllRecords": "ModifyAllRecords",
}  # fmt: skip


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


def served(certificates: Certificates, home: Path, **switches: Any) -> Iterator[served_salesforce.World]:
    made = served_salesforce.World(certificates, certificates.write(home / "ca.pem"), **switches)
    made.server.start()
    yield made
    made.close()
    assert made.server.errors == []


@pytest.fixture
def fresh(certificates: Certificates, tmp_path: Path) -> Iterator[served_salesforce.World]:
    yield from served(certificates, tmp_path, cosell_fields_installed=False)


@pytest.fixture
def prepared(certificates: Certificates, tmp_path: Path) -> Iterator[served_salesforce.World]:
    yield from served(certificates, tmp_path)


def the_set() -> Any:
    return next(each.body for each in components() if each.name == INTEGRATION_SET)


def test_the_prepared_org_has_the_rights_of_the_deployed_set() -> None:
    rights = {
        each["object"]: {word for right, word in RIGHTS.items() if each[right]}
        for each in the_set()["objectPermissions"]
    }
    assert rights == {name: set(words) for name, words in access.GRANTED_OBJECTS.items()}
    standard = {each["field"] for each in the_set()["fieldPermissions"] if "__c" not in each["field"]}
    assert standard == set(access.GRANTED_FIELDS)


def test_a_fresh_org_shows_nothing_until_the_set_is_deployed(fresh: served_salesforce.World) -> None:
    found = {each.name: each for each in check(fresh.client())}
    assert found["salesforce.Opportunity"].status == "fault"
    list(provision(fresh.rest()))
    assert {each.name for each in check(fresh.client(), ["Prospecting"]) if each.status == "fault"} == set()


@pytest.mark.parametrize("where", ["fresh", "prepared"])
def test_a_cycle_needs_no_more_than_the_set(where: str, request: pytest.FixtureRequest) -> None:
    """Every kind of read and write, by the user of the minimum-access profile."""
    world = request.getfixturevalue(where)
    if where == "fresh":
        list(provision(world.rest()))
    crm = world.client()
    assert (crm.org.hidden, crm.org.hidden_parts) == ({}, {})
    people = (Member("ann@x.example", "Ann", "Lee", "1"),)
    fields = {"contacts": people, "solutions": (Solution("SOL-1", "One", "Own"),), "value": 5}
    (made,) = crm.create([draft("r-1", **fields)])
    assert made.error is None
    assert made.snapshot is not None
    changed = {
        "contacts": (Member("ann@x.example", "Ann", "Lee", "2"),), "solutions": (), "value": 6,
        "customer": Customer("Fabrikam", "Main St 2", None, "Bonn", None, "53111", "DE"),
        "team": (Member(served_dynamics.SAM),),
    }  # fmt: skip
    (outcome,) = crm.write([OpportunityWrite(made.snapshot, changed)])
    assert outcome.error is None
    assert outcome.snapshot is not None
    assert outcome.snapshot["contacts"] == changed["contacts"]
    assert outcome.snapshot["customer"] == changed["customer"]
    world.org.edit("Account", world.org.rows("Account")[0]["Id"], OwnerId=world.org.seller)
    assert world.read(crm, str(made.id))["customer"] == changed["customer"]
    world.pull(crm)
    world.pull(crm)


@pytest.mark.parametrize("column", [*STANDARD_FIELDS, "Opportunity.Amount"])
def test_every_field_of_the_set_is_needed_and_doctor_names_it(
    prepared: served_salesforce.World, column: str
) -> None:
    prepared.org.revoke(column)
    found = [each for each in check(prepared.client()) if each.status != "ok"]
    named = "Account.BillingStreet" if column == "Account.BillingAddress" else column
    assert f"salesforce.{named}" in {each.name for each in found}
    assert {each.status for each in found} == {"warning"}


def test_doctor_names_people_out_of_sight(prepared: served_salesforce.World) -> None:
    account = prepared.org.create("Account", Name="Fabrikam")
    contact = prepared.org.create("Contact", LastName="Lee", Email="ann@x.example", AccountId=account)
    deal = prepared.deal(AccountId=account)
    prepared.org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact)
    assert "salesforce.sharing.contacts" not in {each.name for each in check(prepared.client())}
    for name in ("Account", "Contact"):
        prepared.org.revoke(name, "ViewAllRecords")
    found = {each.name: each for each in check(prepared.client())}
    assert found["salesforce.sharing.contacts"].status == "warning"
    assert "of 1 opportunities, 1" in found["salesforce.sharing.customer"].message
    assert found["salesforce.query"].status == "ok"


def test_doctor_runs_the_queries_of_a_cycle(prepared: served_salesforce.World) -> None:
    """A query that the org refuses for whatever reason is a fault, named with the org's words."""
    prepared.org._org.schema["OpportunityContactRole"].fields.pop("IsPrimary")  # type: ignore[attr-defined]
    found = {each.name: each for each in check(prepared.client())}
    assert found["salesforce.query.opportunities"].status == "fault"
    assert "IsPrimary" in found["salesforce.query.opportunities"].message


# --- Dynamics -----------------------------------------------------------------------------------------------------


def test_doctor_names_secured_columns_and_rows_out_of_sight(
    certificates: Certificates, tmp_path: Path
) -> None:
    world = served_dynamics.World(certificates, certificates.write(tmp_path / "ca.pem"))
    with world.server:
        account = world.account()
        contact = world.contact("ann@x.example", account)
        world.org.connect(world.deal(parentaccountid=account), contact)
        crm = world.client()
        found = {each.name: each for each in served_dynamics.check(crm)}
        assert found["dynamics.query"].status == "ok"
        assert not [name for name in found if ".security" in name or ".sharing" in name]
        world.org.rights.secured.add(("contact", "telephone1"))
        world.org.rights.unseen.add(account)
        found = {each.name: each for each in served_dynamics.check(crm)}
        assert found["dynamics.contact.telephone1.security"].status == "warning"
        assert "of 1 opportunities, 1" in found["dynamics.sharing.customer"].message
        world.org.deny("prvReadUser")
        found = {each.name: each for each in served_dynamics.check(crm)}
        assert found["dynamics.query.users"].status == "fault"
    world.close()
