"""Edits of sellers in either CRM, on the raw records of the fakes, and all that a CRM holds as text, to compare.

A deal is called by its name, on both sides: it outlives every id.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

Row = dict[str, Any]

IDA: Final = "ida.kern@nordlicht.example"
JONAS: Final = "jonas.brueck@nordlicht.example"
MARA: Final = "mara.oconnell@nordlicht.example"

AUTO_NUMBER = re.compile(
    r"CS-\d+"
)  # of a solution row in Salesforce; follows the order in which rows are made


class SalesforceSellers:
    """``WORDS``: what our words are called there. ``TABLES``: what a client could make twice. ``VOLATILE``: no story."""

    WORDS: Final = {
        "name": "Name", "value": "Amount", "close_date": "CloseDate", "notes": "Cosell_Notes__c",
        "action": "Cosell_Action__c", "reason": "Cosell_Reason__c", "reason_note": "Cosell_Reason_Note__c",
        "help": "Cosell_Help__c", "help_note": "Cosell_Help_Note__c", "consent": "Cosell_Consent__c",
        "sync": "Cosell_Sync__c", "status": "Cosell_Status__c", "state": "Cosell_Sync_State__c",
        "message": "Cosell_Message__c", "referral_id": "Cosell_Referral_Id__c", "street": "BillingStreet",
        "city": "BillingCity", "postal_code": "BillingPostalCode", "country": "BillingCountry",
    }  # fmt: skip
    DEALS = "Opportunity"
    KEY = "Id"
    TABLES: Final = (
        "Opportunity", "Account", "Contact", "OpportunityContactRole", "OpportunityTeamMember", "Cosell_Solution__c",
    )  # fmt: skip
    # A row that a seller made receives its key with whatever is written next on that deal.
    VOLATILE: Final = re.compile(
        r"Id|.*Date(time)?|SystemModstamp|.*ById|Cosell_Last_Sync__c|Cosell_Message__c|Cosell_Key__c"
    )
    STEADY: Final = frozenset({"CloseDate"})

    def __init__(self, world: Any) -> None:
        self.world = world

    def row(self, name: str) -> Row:
        (row,) = self.world.rows("Opportunity", Name=name)
        return row  # type: ignore[no-any-return]

    def edit(self, name: str, **fields: object) -> None:
        self.world.edit("Opportunity", self.row(name)["Id"], **self.heard(fields))

    def heard(self, fields: Mapping[str, object]) -> Row:
        return {self.WORDS[word]: value for word, value in fields.items()}

    def win(self, name: str) -> None:
        self.world.edit("Opportunity", self.row(name)["Id"], StageName="Closed Won")

    def lose(self, name: str, reason: str) -> None:
        self.world.edit("Opportunity", self.row(name)["Id"], StageName="Closed Lost", Cosell_Reason__c=reason)

    def born(self, name: str, **fields: object) -> None:
        account = self.world.create("Account", Name=f"Customer of {name}", **self.heard(ADDRESS))
        filled = {"name": name, "sync": True, "consent": True, **fields}
        made = self.world.create(
            "Opportunity",
            by=self.user(IDA),
            AccountId=account,
            StageName="Qualification",
            **self.heard(filled),
        )
        self.world.create(
            "Cosell_Solution__c",
            Opportunity__c=made,
            Solution_Id__c=SOLUTION,
            Solution_Name__c="Mill Planner",
        )
        self.person(name, account=account, **PERSON)

    def person(
        self, name: str, *, first: str, last: str, email: str, phone: str, account: str | None = None
    ) -> None:
        row = self.row(name)
        contact = self.world.create(
            "Contact",
            AccountId=account or row["AccountId"],
            FirstName=first,
            LastName=last,
            Email=email,
            Phone=phone,
        )
        primary = not self.world.rows("OpportunityContactRole", OpportunityId=row["Id"])
        self.world.create(
            "OpportunityContactRole", OpportunityId=row["Id"], ContactId=contact, IsPrimary=primary
        )

    def colleague(self, name: str, email: str) -> None:
        self.world.create(
            "OpportunityTeamMember",
            OpportunityId=self.row(name)["Id"],
            UserId=self.user(email),
            TeamMemberRole="Sales Rep",
        )

    def user(self, email: str) -> str:
        return next(row["Id"] for row in self.world.users if row["Email"] == email)

    def drop_person(self, name: str, email: str) -> None:
        for role in self.world.rows("OpportunityContactRole", OpportunityId=self.row(name)["Id"]):
            if self.world.get("Contact", role["ContactId"])["Email"] == email:
                self.world.delete("OpportunityContactRole", role["Id"])

    def solution(self, name: str, code: str) -> None:
        self.world.create(
            "Cosell_Solution__c",
            Opportunity__c=self.row(name)["Id"],
            Solution_Id__c=code,
            Solution_Name__c="Added",
        )

    def drop_solution(self, name: str, code: str) -> None:
        (row,) = self.world.rows(
            "Cosell_Solution__c", Opportunity__c=self.row(name)["Id"], Solution_Id__c=code
        )
        self.world.delete("Cosell_Solution__c", row["Id"])

    # -- everything there is ----------------------------------------------------------------------------------------

    def story(self) -> Counter[str]:
        """Every row of every table in words that do not depend on ids and times; a row made twice counts twice."""
        tables = self.world.snapshot()
        names = {
            row_id: self.called(table, row) for table, rows in tables.items() for row_id, row in rows.items()
        }
        return Counter(
            f"{table} {self.told(row, names)}"
            for table in self.TABLES
            for row in tables.get(table, {}).values()
            if not row.get("IsDeleted")
        )

    def told(self, row: Row, names: Mapping[str, str]) -> str:
        kept = {
            column: names.get(value, value) if isinstance(value, str) else value
            for column, value in sorted(row.items())
            if value not in (None, "")
            and (column in self.STEADY or not self.VOLATILE.fullmatch(column))
            and not (isinstance(value, str) and AUTO_NUMBER.fullmatch(value))
        }
        return str(kept)

    def called(self, table: str, row: Row) -> str:
        return f"{table}:{row.get('Email') or row.get('Name') or row.get('Solution_Id__c')}"


class DynamicsSellers(SalesforceSellers):
    WORDS: Final = {  # type: ignore[misc]
        "name": "name", "value": "estimatedvalue", "close_date": "estimatedclosedate", "notes": "cosell_notes",
        "action": "cosell_action", "reason": "cosell_reason", "reason_note": "cosell_reasonnote",
        "help": "cosell_help", "help_note": "cosell_helpnote", "consent": "cosell_consent",
        "sync": "cosell_sync", "status": "cosell_status", "state": "cosell_syncstate",
        "message": "cosell_message", "referral_id": "cosell_referralid", "street": "address1_line1",
        "city": "address1_city", "postal_code": "address1_postalcode", "country": "address1_country",
    }  # fmt: skip
    DEALS = "opportunity"
    KEY = "opportunityid"
    TABLES: Final = ("opportunity", "account", "contact", "connection", "cosell_solution", "opportunityclose")  # type: ignore[misc]
    VOLATILE: Final = re.compile(  # type: ignore[misc]
        r"(opportunity|account|contact|cosell_solution|activity|connection|relatedconnection)id|.*on|.*end|.*date"
        r"|versionnumber|modifiedby|createdby|cosell_lastsync|cosell_message|cosell_key"
    )
    STEADY: Final = frozenset({"estimatedclosedate", "description"})  # type: ignore[misc]

    def row(self, name: str) -> Row:
        (row,) = self.world.rows("opportunity", name=name)
        return row  # type: ignore[no-any-return]

    def edit(self, name: str, **fields: object) -> None:
        self.world.edit("opportunity", self.row(name)["opportunityid"], **self.heard(fields))

    def win(self, name: str) -> None:
        self.world.close(self.row(name)["opportunityid"], won=True)

    def lose(self, name: str, reason: str) -> None:
        self.edit(name, reason=reason)
        self.world.close(self.row(name)["opportunityid"], won=False, reason="Canceled")

    def born(self, name: str, **fields: object) -> None:
        account = self.world.create("account", name=f"Customer of {name}", **self.heard(ADDRESS))
        filled = {"name": name, "sync": True, "consent": True, **fields}
        made = self.world.create(
            "opportunity", by=self.user(IDA), parentaccountid=account, transactioncurrencyid=self.world.currencies["EUR"],
            **self.heard(filled),
        )  # fmt: skip
        self.world.create(
            "cosell_solution",
            cosell_name="Mill Planner",
            cosell_solutioncode=SOLUTION,
            cosell_opportunity=made,
        )
        self.person(name, account=account, **PERSON)

    def person(
        self, name: str, *, first: str, last: str, email: str, phone: str, account: str | None = None
    ) -> None:
        deal, given = self.row(name)["opportunityid"], account or self.row(name)["parentaccountid"]
        contact = self.world.create(
            "contact",
            parentcustomerid=given,
            firstname=first,
            lastname=last,
            emailaddress1=email,
            telephone1=phone,
        )
        self.world.connect(deal, contact)

    def colleague(self, name: str, email: str) -> None:
        self.world.connect(self.row(name)["opportunityid"], self.user(email), role="Sales Professional")

    def user(self, email: str) -> str:
        return next(row["systemuserid"] for row in self.world.users if row["internalemailaddress"] == email)

    def drop_person(self, name: str, email: str) -> None:
        for row in self.world.rows("connection", record1id=self.row(name)["opportunityid"]):
            other = self.world.snapshot()["contact"].get(row["record2id"])
            if other is not None and other["emailaddress1"] == email:
                self.world.delete("connection", row["connectionid"])

    def solution(self, name: str, code: str) -> None:
        deal = self.row(name)["opportunityid"]
        self.world.create(
            "cosell_solution", cosell_name="Added", cosell_solutioncode=code, cosell_opportunity=deal
        )

    def drop_solution(self, name: str, code: str) -> None:
        deal = self.row(name)["opportunityid"]
        (row,) = self.world.rows("cosell_solution", cosell_opportunity=deal, cosell_solutioncode=code)
        self.world.delete("cosell_solution", row["cosell_solutionid"])

    def called(self, table: str, row: Row) -> str:
        names = (
            "emailaddress1",
            "internalemailaddress",
            "isocurrencycode",
            "cosell_solutioncode",
            "name",
            "domainname",
        )
        return f"{table}:{next((row[each] for each in names if row.get(each)), None)}"


ADDRESS: Final = {"street": "Kai 7", "city": "Bremen", "postal_code": "28195", "country": "Germany"}
PERSON: Final = {"first": "Greta", "last": "Oz", "email": "greta@customer.example", "phone": "+49 421 1"}
SOLUTION: Final = "SOL-10001-ABC"
SELLERS: Final = {"salesforce": SalesforceSellers, "dynamics": DynamicsSellers}
