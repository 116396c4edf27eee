"""A seller's view of Salesforce: `sandbox.seller.Seller` on the fake org."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosell_sync.sandbox.salesforce.service import Salesforce
from cosell_sync.sandbox.seller import OUR_FIELDS, DealFields, Phase, SalesStage, decimal, grouped

_FIELDS = {
    "name": "Name", "amount": "Amount", "currency": "CurrencyIsoCode", "close_date": "CloseDate",
    **{word: f"Cosell_{word.title()}__c" for word in OUR_FIELDS},
}  # fmt: skip
_PHASES: dict[str, Phase] = {"Prospecting": "standby", "Closed Won": "won", "Closed Lost": "lost"}
_SALES_STAGES: dict[str, SalesStage] = {
    "Needs Analysis": "Qualify",
    "Value Proposition": "Develop",
    "Id. Decision Makers": "Develop",
    "Perception Analysis": "Develop",
    "Proposal/Price Quote": "Propose",
    "Negotiation/Review": "Close",
}
_STAGES = {"open": "Qualification"} | {
    word: stage for stage, word in reversed([*_PHASES.items(), *_SALES_STAGES.items()])
}


class SalesforceSeller:
    crm = "Salesforce"
    labels: Mapping[str, str] = {}
    longest_name = 120

    def __init__(self, org: Salesforce) -> None:
        self.org = org

    @property
    def currencies(self) -> Mapping[str, int]:
        return {row["IsoCode"]: 2 for row in self.org.rows("CurrencyType")}

    @property
    def logins(self) -> Mapping[str, str]:
        return {
            row["Email"].lower(): row["Id"]
            for row in self.org.users
            if row["IsActive"] and row.get("Email") and row["Id"] != self.org.integration_user
        }

    def deal(self, deal: str) -> DealFields:
        return self._fields_of(self.org.get("Opportunity", deal))

    def deals(self) -> list[DealFields]:
        return [self._fields_of(row) for row in self.org.rows("Opportunity")]

    def _fields_of(self, row: Mapping[str, Any]) -> DealFields:
        owner = None if row["OwnerId"] == self.org.integration_user else self._email("User", row["OwnerId"])
        return {word: row.get(name) for word, name in _FIELDS.items()} | {
            "id": row["Id"],
            "amount": decimal(row["Amount"]),
            "phase": _PHASES.get(row["StageName"], "open"),
            "sales_stage": _SALES_STAGES.get(row["StageName"], ""),
            "account": self.org.get("Account", row["AccountId"])["Name"] if row["AccountId"] else None,
            "owner": owner,
        }

    def _email(self, table: str, row_id: str) -> str | None:
        email: str | None = self.org.get(table, row_id).get("Email")
        return email

    def contacts(self) -> Mapping[str, set[str]]:
        roles = self.org.rows("OpportunityContactRole")
        return grouped((row["OpportunityId"], self._email("Contact", row["ContactId"])) for row in roles)

    def team(self) -> Mapping[str, set[str]]:
        members = self.org.rows("OpportunityTeamMember")
        return grouped((row["OpportunityId"], self._email("User", row["UserId"])) for row in members)

    def solutions(self) -> Mapping[str, set[str]]:
        rows = self.org.rows("Cosell_Solution__c")
        return grouped((row["Opportunity__c"], row["Solution_Id__c"]) for row in rows)

    def new_deal(self, *, by: str, customer: Mapping[str, str], **words: Any) -> str:
        account = self.org.create(
            "Account",
            by=by,
            Name=customer["name"],
            BillingStreet=customer["street"],
            BillingCity=customer["city"],
            BillingPostalCode=customer["postal_code"],
            BillingCountry=customer["country"],
        )
        given = _columns(words)
        return self.org.create("Opportunity", by=by, AccountId=account, StageName=_STAGES["open"], **given)

    def write(self, deal: str, **words: Any) -> None:
        self.org.edit("Opportunity", deal, **_columns(words))

    def move(self, deal: str, to: Phase | SalesStage) -> None:
        self.org.edit("Opportunity", deal, StageName=_STAGES[to])

    def add_contact(self, deal: str, *, first: str, last: str, email: str, phone: str) -> None:
        account = self.org.get("Opportunity", deal)["AccountId"]
        contact = self.org.create(
            "Contact", AccountId=account, FirstName=first, LastName=last, Email=email, Phone=phone
        )
        first_one = not self.org.rows("OpportunityContactRole", OpportunityId=deal)
        self.org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact, IsPrimary=first_one)

    def drop_contact(self, deal: str, email: str) -> None:
        for row in self.org.rows("OpportunityContactRole", OpportunityId=deal):
            if self._email("Contact", row["ContactId"]) == email:
                self.org.delete("OpportunityContactRole", row["Id"])

    def add_colleague(self, deal: str, email: str) -> None:
        self.org.create("OpportunityTeamMember", OpportunityId=deal, UserId=self.logins[email])

    def drop_colleague(self, deal: str, email: str) -> None:
        for row in self.org.rows("OpportunityTeamMember", OpportunityId=deal, UserId=self.logins[email]):
            self.org.delete("OpportunityTeamMember", row["Id"])

    def add_solution(self, deal: str, code: str, name: str) -> None:
        self.org.create(
            "Cosell_Solution__c",
            Opportunity__c=deal,
            Solution_Id__c=code,
            Solution_Name__c=name,
            Solution_Type__c="Own",
        )

    def drop_solution(self, deal: str, code: str) -> None:
        for row in self.org.rows("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c=code):
            self.org.delete("Cosell_Solution__c", row["Id"])


def _columns(words: Mapping[str, Any]) -> dict[str, Any]:
    return {_FIELDS[word]: value for word, value in words.items()}
