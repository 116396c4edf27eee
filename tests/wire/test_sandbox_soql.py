"""The fake's SOQL takes what the platform takes and, above all, refuses what the platform refuses."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cosell_sync.sandbox.salesforce import soql
from cosell_sync.sandbox.salesforce.query import run
from cosell_sync.sandbox.salesforce.service import Salesforce


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 10, 0, 0, 700_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def tick(self, seconds: int = 1) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


@pytest.fixture
def org(clock: Clock) -> Salesforce:
    made = Salesforce(clock)
    account = made.create("Account", Name="Adatum", BillingCountry="Germany")
    contact = made.create("Contact", LastName="O'Neil", Email="pat@adatum.example", AccountId=account)
    for place, name in enumerate(("alpha", "Beta", "gamma"), start=1):
        clock.tick()
        deal = made.create(
            "Opportunity",
            Name=name,
            StageName="Prospecting",
            CloseDate=f"2027-0{place}-15",
            Amount=None if place == 3 else place * 100,
            AccountId=account if place < 3 else None,
            Cosell_Sync__c=place == 2,
        )
        if place == 1:
            made.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact, IsPrimary=True)
            made.create(
                "Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c="S-1", Solution_Type__c="Own"
            )
    return made


def names(org: Salesforce, condition: str, tail: str = "ORDER BY Name") -> list[str]:
    query = f"SELECT Name FROM Opportunity WHERE {condition} {tail}"
    return [row["Name"] for row in run(query, org._org, "/services/data/v66.0").records]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("Name = 'ALPHA'", ["alpha"]),
        ("Name != 'alpha'", ["Beta", "gamma"]),
        ("Name LIKE '%a_a'", []),
        ("Name LIKE '%mm%'", ["gamma"]),
        ("Name LIKE 'a\\%'", []),
        ("Name IN ('beta', 'gamma')", ["Beta", "gamma"]),
        ("Name NOT IN ('beta')", ["alpha", "gamma"]),
        ("Amount > 100", ["Beta"]),
        ("Amount != 100", ["Beta", "gamma"]),
        ("Amount = null", ["gamma"]),
        ("NOT Amount = null", ["alpha", "Beta"]),
        ("Amount < 500 AND (NOT Name = 'beta')", ["alpha"]),
        ("(Name = 'alpha' OR Name = 'beta') AND Cosell_Sync__c = true", ["Beta"]),
        ("CloseDate >= 2027-02-15", ["Beta", "gamma"]),
        ("CreatedDate = 2026-11-22T10:00:01Z", ["alpha"]),
        ("CreatedDate > 2026-11-22T10:00:01.999Z", ["Beta", "gamma"]),
        ("SystemModstamp <= 2026-11-22T11:00:02+01:00", ["alpha", "Beta"]),
        ("CreatedDate = TODAY", ["alpha", "Beta", "gamma"]),
        ("Account.Name = 'adatum'", ["alpha", "Beta"]),
        ("Account.BillingCountry != 'Germany'", ["gamma"]),
        ("Id IN (SELECT OpportunityId FROM OpportunityContactRole WHERE Contact.LastName = 'O\\'Neil')", ["alpha"]),
        ("Id NOT IN (SELECT Opportunity__c FROM Cosell_Solution__c)", ["Beta", "gamma"]),
    ],
)  # fmt: skip
def test_conditions_mean_what_they_mean_on_the_platform(
    org: Salesforce, condition: str, expected: list[str]
) -> None:
    assert names(org, condition) == expected


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("Name = 'a' AND Name = 'b' OR Name = 'c'", "MALFORMED_QUERY"),
        ("Name = 'a' AND NOT (Name = 'b')", "MALFORMED_QUERY"),
        ("NOT Name = 'a' AND Name = 'b'", "MALFORMED_QUERY"),
        ("Name IN ()", "MALFORMED_QUERY"),
        ('Name = "a"', "MALFORMED_QUERY"),
        ("Name == 'a'", "MALFORMED_QUERY"),
        ("Name > null", "MALFORMED_QUERY"),
        ("Name = 'it's'", "MALFORMED_QUERY"),
        ("CreatedDate > 2026-11-22T10:00:00", "MALFORMED_QUERY"),
        ("CreatedDate > 2026-11-22T10:00:00 00:00", "MALFORMED_QUERY"),
        ("CreatedDate > '2026-11-22T10:00:00Z'", "INVALID_FIELD"),
        ("CreatedDate > 2026-11-22", "INVALID_FIELD"),
        ("CloseDate > 2026-11-22T10:00:00Z", "INVALID_FIELD"),
        ("Amount = '100'", "INVALID_FIELD"),
        ("Name = 100", "INVALID_FIELD"),
        ("Cosell_Sync__c = 'true'", "INVALID_FIELD"),
        ("Cosell_Typo__c = 'x'", "INVALID_FIELD"),
        ("Akkount.Name = 'x'", "INVALID_FIELD"),
        ("Cosell_Notes__c LIKE '%x%'", "INVALID_FIELD"),
        ("Id = '006x'", "INVALID_QUERY_FILTER_OPERATOR"),
        (
            "Name = 'a' OR Id IN (SELECT OpportunityId FROM OpportunityContactRole)",
            "MALFORMED_QUERY",
        ),
        ("Id IN (SELECT Id FROM Opportunity)", "MALFORMED_QUERY"),
    ],
)
def test_what_the_platform_refuses_is_refused(org: Salesforce, condition: str, code: str) -> None:
    with pytest.raises(soql.SoqlError) as refused:
        names(org, condition, tail="")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT Id FROM Opportunity WHERE", "MALFORMED_QUERY"),
        ("SELECT Id, FROM Opportunity", "MALFORMED_QUERY"),
        ("SELECT Id, Id FROM Opportunity", "MALFORMED_QUERY"),
        ("SELECT * FROM Opportunity", "MALFORMED_QUERY"),
        ("SELECT Id FROM Opportunity ALL ROWS", "MALFORMED_QUERY"),
        ("SELECT Id FROM Opportunity OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
        ("SELECT Id FROM Opportunity ORDER BY Cosell_Notes__c", "MALFORMED_QUERY"),
        ("SELECT Id FROM Opportunities", "INVALID_TYPE"),
        ("SELECT Nope FROM Opportunity", "INVALID_FIELD"),
        ("SELECT Id, (SELECT Id FROM Cosell_Solution__c) FROM Opportunity", "INVALID_TYPE"),
    ],
)
def test_malformed_queries_carry_the_platforms_code(org: Salesforce, query: str, code: str) -> None:
    with pytest.raises(soql.SoqlError) as refused:
        run(query, org._org, "")
    assert refused.value.code == code


def test_order_limit_and_offset_with_nulls_first_unless_told_otherwise(org: Salesforce) -> None:
    assert names(org, "Id != null", "ORDER BY Amount") == ["gamma", "alpha", "Beta"]
    assert names(org, "Id != null", "ORDER BY Amount DESC") == ["gamma", "Beta", "alpha"]
    assert names(org, "Id != null", "ORDER BY Amount DESC NULLS LAST LIMIT 1 OFFSET 1") == ["alpha"]


def test_parents_nest_and_child_selects_are_null_when_empty(org: Salesforce) -> None:
    query = (
        "SELECT Name, Account.Name, Account.Owner.LastName, (SELECT Solution_Id__c, Opportunity__r.Account.Name "
        "FROM Cosell_Solutions__r ORDER BY Id), (SELECT Contact.Email, IsPrimary FROM OpportunityContactRoles) "
        "FROM Opportunity ORDER BY Name"
    )
    alpha, beta, gamma = run(query, org._org, "/services/data/v66.0").records
    assert alpha["Account"]["Owner"]["LastName"] == "Seller"
    assert alpha["Cosell_Solutions__r"]["records"][0]["Opportunity__r"]["Account"]["Name"] == "Adatum"
    assert alpha["OpportunityContactRoles"]["records"][0]["Contact"]["Email"] == "pat@adatum.example"
    assert alpha["OpportunityContactRoles"]["totalSize"] == 1
    assert beta["Cosell_Solutions__r"] is None
    assert gamma["Account"] is None
    assert list(alpha) == ["attributes", "Name", "Account", "Cosell_Solutions__r", "OpportunityContactRoles"]


def test_deleted_rows_show_in_query_all_only(org: Salesforce) -> None:
    [alpha] = org.rows("Opportunity", Name="alpha")
    org.delete("Opportunity", alpha["Id"])
    counting = "SELECT COUNT() FROM Opportunity"
    assert run(counting, org._org, "").total == 2
    assert run(counting, org._org, "", deleted=True).total == 3
    gone = run("SELECT Id FROM Opportunity WHERE IsDeleted = true", org._org, "", deleted=True)
    assert [row["Id"] for row in gone.records] == [alpha["Id"]]
