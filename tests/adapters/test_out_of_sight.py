"""Out of sight is not empty: private sharing, hidden fields, column security and masks leave values unknown, never cleared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import served_dynamics, served_salesforce
from adapters.served_dynamics import SAM, only
from cosell_sync.core.deal import ABSENT, Customer, Member, Solution, hidden_parts
from cosell_sync.ports import OpportunityWrite
from cosell_sync.sandbox.certificates import Certificates


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def salesforce(certificates: Certificates, tmp_path: Path) -> Iterator[served_salesforce.World]:
    made = served_salesforce.World(certificates, certificates.write(tmp_path / "ca.pem"))
    made.server.start()
    yield made
    made.close()
    assert made.server.errors == []


@pytest.fixture
def dynamics(certificates: Certificates, tmp_path: Path) -> Iterator[served_dynamics.World]:
    made = served_dynamics.World(certificates, certificates.write(tmp_path / "ca.pem"))
    made.server.start()
    yield made
    made.close()
    assert made.server.errors == []


# --- Salesforce ---------------------------------------------------------------------------------------------------


def deal_with_people(world: served_salesforce.World) -> tuple[str, str]:
    """An opportunity of the seller's own account, with a contact; its id and the contact's."""
    org = world.org
    account = org.create("Account", Name="Fabrikam", BillingCity="Berlin", BillingStreet="Main St 1")
    contact = org.create(
        "Contact", FirstName="Ann", LastName="Lee", Email="ann@x.example", Phone="1", AccountId=account
    )
    deal = world.deal(AccountId=account, Amount=5)
    org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact)
    world.clock.tick()
    return deal, contact


def test_a_contact_out_of_sight_leaves_the_contacts_unknown(salesforce: served_salesforce.World) -> None:
    """`ContactId` is filled, `Contact` reads null: to take that for an empty set would delete everybody at Microsoft."""
    deal, _ = deal_with_people(salesforce)
    crm = salesforce.client()
    assert salesforce.read(crm, deal)["contacts"] == (Member("ann@x.example", "Ann", "Lee", "1"),)
    salesforce.org.revoke("Account", "ViewAllRecords")
    salesforce.org.revoke("Contact", "ViewAllRecords")
    seen = salesforce.read(crm, deal)
    assert (seen["contacts"], seen["customer"]) == (ABSENT, ABSENT)
    assert seen["value"] == 5
    assert seen["team"] == (Member(SAM, "Sam", "Seller", "+1 555 0100"),)


def test_what_is_out_of_sight_is_not_written_over(salesforce: served_salesforce.World) -> None:
    deal, _ = deal_with_people(salesforce)
    salesforce.org.revoke("Account", "ViewAllRecords")
    salesforce.org.revoke("Contact", "ViewAllRecords")
    crm = salesforce.client()
    before = salesforce.read(crm, deal)
    account = salesforce.org.get("Opportunity", deal)["AccountId"]
    wanted: dict[str, Any] = {"contacts": (), "customer": Customer("Fabrikam", country="DE"), "name": "New"}
    crm.write([OpportunityWrite(before, wanted)])
    assert salesforce.org.get("Opportunity", deal)["Name"] == "New"
    assert salesforce.org.get("Opportunity", deal)["AccountId"] == account
    assert len(salesforce.org.rows("OpportunityContactRole", OpportunityId=deal)) == 1
    assert len(salesforce.org.rows("Account")) == 1


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("Contact.Email", "contacts"), ("Contact.AccountId", "contacts"), ("Account.BillingAddress", "customer"),
        ("Opportunity.AccountId", "customer"), ("Opportunity.Amount", "value"),
    ],
)  # fmt: skip
def test_a_hidden_field_is_left_out_and_the_rest_goes_on(
    salesforce: served_salesforce.World, column: str, field: str
) -> None:
    deal, _ = deal_with_people(salesforce)
    salesforce.org.revoke(column)
    crm = salesforce.client()
    came, _, _ = salesforce.pull(crm)
    assert came == {deal}
    salesforce.org.edit("Opportunity", deal, Name="Later")
    salesforce.clock.tick()
    assert salesforce.pull(crm)[0] == {deal}
    seen = salesforce.read(crm, deal)
    assert seen[field] is ABSENT
    assert seen["name"] == "Later"
    assert dict(page for pages in crm.index() for page in pages.items()).keys() == {deal}


@pytest.mark.parametrize("column", ["Contact.Phone", "User.Phone", "User.FirstName"])
def test_a_hidden_part_of_a_person_is_unknown_and_the_person_is_not(
    salesforce: served_salesforce.World, column: str
) -> None:
    deal, _ = deal_with_people(salesforce)
    salesforce.org.hide_field(*column.split("."))
    seen = salesforce.read(salesforce.client(), deal)
    people = seen["contacts" if column.startswith("Contact") else "team"]
    assert isinstance(people, tuple)
    (person,) = people
    assert isinstance(person, Member)
    assert hidden_parts(person) == {"phone" if column.endswith("Phone") else "first_name"}


def test_a_person_is_made_without_what_is_hidden(salesforce: served_salesforce.World) -> None:
    deal, _ = deal_with_people(salesforce)
    salesforce.org.revoke("Contact.Phone")
    crm = salesforce.client()
    before = salesforce.read(crm, deal)
    ann, bob = Member("ann@x.example", "Ann", "Lee", "2"), Member("bob@x.example", "Bob", "Ray", "3")
    (outcome,) = crm.write([OpportunityWrite(before, {"contacts": (ann, bob)})])
    assert outcome.error is None
    assert [each["Phone"] for each in salesforce.org.rows("Contact")] == ["1", None]


def test_a_mask_is_no_value(salesforce: served_salesforce.World) -> None:
    deal, contact = deal_with_people(salesforce)
    salesforce.org.edit("Contact", contact, Phone="*****")
    salesforce.org.edit("Opportunity", deal, Cosell_Campaign_Id__c="****")
    seen = salesforce.read(salesforce.client(), deal)
    assert seen["campaign_id"] is ABSENT
    assert isinstance(seen["contacts"], tuple)
    assert [hidden_parts(each) for each in seen["contacts"]] == [{"phone"}]


# --- Dynamics -----------------------------------------------------------------------------------------------------


def dynamics_deal(world: served_dynamics.World) -> tuple[str, str, str]:
    """An opportunity with account and contact; the ids of all three."""
    account = world.account(address1_line1="Main St 1")
    contact = world.contact("ann@x.example", account, firstname="Ann", telephone1="1")
    deal = world.deal(parentaccountid=account, customerid=account, cosell_notes="Ours")
    world.org.connect(deal, contact)
    world.clock.tick()
    return deal, account, contact


def secure(world: served_dynamics.World, table: str, column: str) -> None:
    world.org.rights.secured.add((table, column))


@pytest.mark.parametrize(
    ("table", "column", "field"),
    [
        ("opportunity", "cosell_notes", "notes"), ("opportunity", "estimatedvalue", "value"),
        ("account", "address1_line1", "customer"), ("contact", "emailaddress1", "contacts"),
        ("systemuser", "internalemailaddress", "team"),
    ],
)  # fmt: skip
def test_a_secured_column_without_a_profile_is_unknown(
    dynamics: served_dynamics.World, table: str, column: str, field: str
) -> None:
    """It reads null whatever it holds. No row changes with it, so a running daemon finds out with the next change."""
    deal, _, _ = dynamics_deal(dynamics)
    crm = dynamics.client()
    dynamics.pull(crm)
    assert dynamics.memory.snapshots[deal][field] is not ABSENT
    secure(dynamics, table, column)
    dynamics.org.edit("opportunity", deal, name="Later")
    dynamics.clock.tick()
    assert dynamics.pull(crm)[0] == {deal}
    assert dynamics.memory.snapshots[deal][field] is ABSENT
    assert dynamics.memory.snapshots[deal]["name"] == "Later"


@pytest.mark.parametrize(
    ("column", "rows"),
    [("cosell_solutionname", 2), ("cosell_solutiontype", 2), ("cosell_key", 2), ("cosell_solutioncode", 1)],
)
def test_a_secured_column_of_solutions_is_left_out_of_their_rows(
    dynamics: served_dynamics.World, column: str, rows: int
) -> None:
    """A write that names a secured column is refused whole. Without the solution's id, no row is made and all are unknown."""
    deal = dynamics.deal(cosell_referralid="ref-1")
    dynamics.solution(deal, "SOL-1")
    secure(dynamics, "cosell_solution", column)
    crm = dynamics.client()
    wanted = (Solution("SOL-1", "One", "Own"), Solution("SOL-2", "Two", "Own"))
    seen = dynamics.read(crm, deal)
    assert only(crm.write([OpportunityWrite(seen, {"solutions": wanted})])).error is None
    assert only(crm.create([served_dynamics.draft("ref-2", solutions=wanted)])).error is None
    made = [row for row in dynamics.org.rows("cosell_solution") if row["cosell_opportunity"] == deal]
    assert (len(made), len(dynamics.org.rows("cosell_solution")) - len(made)) == (rows, 2 * (rows - 1))
    unknown = dynamics.read(crm, deal)["solutions"] is ABSENT
    assert unknown is (column == "cosell_solutioncode")


@pytest.mark.parametrize("restarted", [True, False])
def test_rows_that_a_role_of_lesser_reach_does_not_list_are_not_taken_for_deleted(
    dynamics: served_dynamics.World, restarted: bool
) -> None:
    """A list leaves them out without a word. That they may be missing shows where change tracking is refused."""
    deal, _, _ = dynamics_deal(dynamics)
    dynamics.solution(deal, "SOL-1")
    crm = dynamics.client()
    dynamics.pull(crm)
    sets = ("contacts", "team", "solutions")
    before = [dynamics.memory.snapshots[deal][name] for name in sets]
    assert ABSENT not in before
    org = dynamics.org
    org.rights.organization_wide_read = False
    org.rights.unseen |= {row["cosell_solutionid"] for row in org.rows("cosell_solution")}
    org.rights.unseen |= {row["connectionid"] for row in org.rows("connection")}
    for name in ("Later", "Later still"):
        org.edit("opportunity", deal, name=name)
        dynamics.clock.tick()
        crm = dynamics.client() if restarted else crm
        assert dynamics.pull(crm)[:2] == ({deal}, set())
        seen = dynamics.memory.snapshots[deal]
        assert (seen["name"], [seen[each] for each in sets]) == (name, [ABSENT] * 3)
    told = {each.name for each in served_dynamics.check(crm) if each.status == "warning"}
    assert {"dynamics.connection.reach", "dynamics.cosell_solution.reach"} <= told
    org.rights.organization_wide_read = True
    org.rights.unseen.clear()
    dynamics.pull(crm)
    org.edit("opportunity", deal, name="Seen")
    dynamics.clock.tick()
    dynamics.pull(crm)
    assert [dynamics.memory.snapshots[deal][name] for name in sets] == before


def test_a_secured_phone_is_unknown_and_the_contact_is_not(dynamics: served_dynamics.World) -> None:
    deal, _, _ = dynamics_deal(dynamics)
    secure(dynamics, "contact", "telephone1")
    seen = dynamics.read(dynamics.client(), deal)["contacts"]
    assert isinstance(seen, tuple)
    assert [(each.key, hidden_parts(each)) for each in seen] == [("ann@x.example", {"phone"})]


def test_a_secured_column_that_a_profile_opens_may_be_empty(dynamics: served_dynamics.World) -> None:
    deal, _, _ = dynamics_deal(dynamics)
    secure(dynamics, "opportunity", "cosell_notes")
    dynamics.org.rights.opened.add(("opportunity", "cosell_notes"))
    dynamics.org.edit("opportunity", deal, cosell_notes=None)
    assert dynamics.read(dynamics.client(), deal)["notes"] is None


def test_a_masked_column_is_unknown(dynamics: served_dynamics.World) -> None:
    deal, _, _ = dynamics_deal(dynamics)
    for table, column in (("opportunity", "cosell_notes"), ("contact", "telephone1")):
        secure(dynamics, table, column)
        dynamics.org.rights.opened.add((table, column))
        dynamics.org.rights.masks[table, column] = "***-12"
    seen = dynamics.read(dynamics.client(), deal)
    assert seen["notes"] is ABSENT
    assert isinstance(seen["contacts"], tuple)
    assert [hidden_parts(each) for each in seen["contacts"]] == [{"phone"}]


@pytest.mark.parametrize(("which", "field"), [(1, "customer"), (2, "contacts")])
def test_a_row_out_of_sight_leaves_its_field_unknown(
    dynamics: served_dynamics.World, which: int, field: str
) -> None:
    ids = dynamics_deal(dynamics)
    dynamics.org.rights.unseen.add(ids[which])
    crm = dynamics.client()
    seen = dynamics.read(crm, ids[0])
    assert seen[field] is ABSENT
    wanted: dict[str, Any] = {"contacts": (), "customer": Customer("Fabrikam", country="DE"), "name": "New"}
    crm.write([OpportunityWrite(seen, {"name": "New", field: wanted[field]})])
    row = dynamics.org.get("opportunity", ids[0])
    assert (row["name"], row["parentaccountid"]) == ("New", ids[1])
    assert len(dynamics.org.rows("connection")) == 2  # one row from either end
    assert len(dynamics.org.rows("account")) == 1


def test_an_owner_out_of_sight_is_not_nobody(dynamics: served_dynamics.World) -> None:
    deal, _, _ = dynamics_deal(dynamics)
    dynamics.org.rights.unseen.add(dynamics.org.seller)
    seen = dynamics.read(dynamics.client(), deal)
    assert (seen["team"], seen["owner_email"]) == (ABSENT, ABSENT)


def test_a_customer_who_is_a_person_is_no_account_out_of_sight(dynamics: served_dynamics.World) -> None:
    person = dynamics.contact("eve@x.example")
    deal = dynamics.deal(customerid=person)
    assert dynamics.read(dynamics.client(), deal)["customer"] is None


def test_a_currency_that_is_not_known_is_unknown(dynamics: served_dynamics.World) -> None:
    deal, _, _ = dynamics_deal(dynamics)
    dynamics.org.rights.unseen.add(dynamics.org.currencies["EUR"])
    assert dynamics.read(dynamics.client(), deal)["currency"] is ABSENT
