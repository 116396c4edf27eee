"""A seller's view of Dynamics 365 Sales: `sandbox.seller.Seller` on the fake environment.

Unlike in Salesforce, a deal is closed by a dialog and not by its stage, the sales stage has a column of its own, people are
connected to a deal, and the primary contact is a column of the deal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosell_sync.sandbox.dataverse.service import Dataverse
from cosell_sync.sandbox.seller import OUR_FIELDS, DealFields, Phase, SalesStage, decimal, grouped

_COLUMNS = {
    "name": "name", "amount": "estimatedvalue", "close_date": "estimatedclosedate",
    **{word: f"cosell_{word.replace('_', '')}" for word in OUR_FIELDS},
}  # fmt: skip
_PHASES: dict[str, Phase] = {"Won": "won", "Lost": "lost"}
_REASONS = {"standby": "On Hold", "open": "In Progress"}
_EMAIL = {"contact": "emailaddress1", "systemuser": "internalemailaddress"}


class DataverseSeller:
    crm = "Dynamics 365"
    labels: Mapping[str, str] = {"Name": "Topic", "Amount": "Est. Revenue", "Notes": "Co-sell notes"}
    longest_name = 300

    def __init__(self, org: Dataverse) -> None:
        self.org = org

    @property
    def currencies(self) -> Mapping[str, int]:
        return {
            row["isocurrencycode"]: row["currencyprecision"] for row in self.org.rows("transactioncurrency")
        }

    @property
    def logins(self) -> Mapping[str, str]:
        return {
            row["internalemailaddress"].lower(): row["systemuserid"]
            for row in self.org.users
            if not row["isdisabled"] and row["internalemailaddress"]
        }

    def deal(self, deal: str) -> DealFields:
        return self._fields_of(self.org.get("opportunity", deal))

    def deals(self) -> list[DealFields]:
        return [self._fields_of(row) for row in self.org.rows("opportunity")]

    def _fields_of(self, row: Mapping[str, Any]) -> DealFields:
        currency, account, owner = row["transactioncurrencyid"], row["parentaccountid"], row["ownerid"]
        standby = row["statuscode"] == _REASONS["standby"]
        return {word: row.get(column) for word, column in _COLUMNS.items()} | {
            "id": row["opportunityid"],
            "amount": decimal(row["estimatedvalue"]),
            "currency": self.org.get("transactioncurrency", currency)["isocurrencycode"]
            if currency
            else None,
            "phase": _PHASES.get(row["statecode"], "standby" if standby else "open"),
            "sales_stage": row["salesstage"] or "",
            "account": self.org.get("account", account)["name"] if account else None,
            "owner": self.org.get("systemuser", owner)["internalemailaddress"],
        }

    def contacts(self) -> Mapping[str, set[str]]:
        emails = self._emails("contact")
        primary = [(row["opportunityid"], row["parentcontactid"]) for row in self.org.rows("opportunity")]
        return grouped((deal, emails.get(person)) for deal, person in [*primary, *self._connected()])

    def team(self) -> Mapping[str, set[str]]:
        emails = self._emails("systemuser")
        return grouped((deal, emails.get(person)) for deal, person in self._connected())

    def _emails(self, table: str) -> Mapping[str, str | None]:
        return {row[f"{table}id"]: row[_EMAIL[table]] for row in self.org.rows(table)}

    def _connected(self) -> list[tuple[str, str]]:
        """(deal, person), and from the mirrored rows (person, deal), which no table of people knows."""
        return [(row["record1id"], row["record2id"]) for row in self.org.rows("connection")]

    def solutions(self) -> Mapping[str, set[str]]:
        rows = self.org.rows("cosell_solution")
        return grouped((row["cosell_opportunity"], row["cosell_solutioncode"]) for row in rows)

    def new_deal(self, *, by: str, customer: Mapping[str, str], **words: Any) -> str:
        account = self.org.create(
            "account",
            by=by,
            name=customer["name"],
            address1_line1=customer["street"],
            address1_city=customer["city"],
            address1_postalcode=customer["postal_code"],
            address1_country=customer["country"],
        )
        currency = self.org.currencies[words.pop("currency")]
        given = _columns(words)
        return self.org.create(
            "opportunity", by=by, parentaccountid=account, transactioncurrencyid=currency, **given
        )

    def write(self, deal: str, **words: Any) -> None:
        self.org.edit("opportunity", deal, **_columns(words))

    def move(self, deal: str, to: Phase | SalesStage) -> None:
        if to in {"won", "lost"}:
            self.org.close(deal, won=to == "won")
        elif to in _REASONS:
            self.org.edit("opportunity", deal, statuscode=_REASONS[to])
        else:
            self.org.edit("opportunity", deal, salesstage=to)

    def add_contact(self, deal: str, *, first: str, last: str, email: str, phone: str) -> None:
        row = self.org.get("opportunity", deal)
        contact = self.org.create(
            "contact",
            parentcustomerid=row["parentaccountid"],
            firstname=first,
            lastname=last,
            emailaddress1=email,
            telephone1=phone,
        )
        self.org.connect(deal, contact, role="Stakeholder")
        if row["parentcontactid"] is None:
            self.org.edit("opportunity", deal, parentcontactid=contact)

    def drop_contact(self, deal: str, email: str) -> None:
        primary = self.org.get("opportunity", deal)["parentcontactid"]
        if primary and self._emails("contact")[primary] == email:
            self.org.edit("opportunity", deal, parentcontactid=None)
        self._disconnect(deal, email, "contact")

    def add_colleague(self, deal: str, email: str) -> None:
        self.org.connect(deal, self.logins[email], role="Sales Professional")

    def drop_colleague(self, deal: str, email: str) -> None:
        self._disconnect(deal, email, "systemuser")

    def _disconnect(self, deal: str, email: str, table: str) -> None:
        emails = self._emails(table)
        for row in self.org.rows("connection", record1id=deal):
            if emails.get(row["record2id"]) == email:
                self.org.delete("connection", row["connectionid"])

    def add_solution(self, deal: str, code: str, name: str) -> None:
        self.org.create(
            "cosell_solution",
            cosell_name=name,
            cosell_opportunity=deal,
            cosell_solutioncode=code,
            cosell_solutionname=name,
            cosell_solutiontype="Own",
        )

    def drop_solution(self, deal: str, code: str) -> None:
        for row in self.org.rows("cosell_solution", cosell_opportunity=deal, cosell_solutioncode=code):
            self.org.delete("cosell_solution", row["cosell_solutionid"])


def _columns(words: Mapping[str, Any]) -> dict[str, Any]:
    return {_COLUMNS[word]: value for word, value in words.items()}
