"""Do both systems tell the same story? Read off the raw records of both fakes, by rules of its own.

Shares no code with the product: it knows only what the documentation promises, so it can convict the product's own
mapping. A difference that the opportunity's message names is *named*, not hidden; anything else is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cosell_sync.sandbox.partner_center import PartnerCenter
from cosell_sync.sandbox.salesforce import Salesforce

Row = Mapping[str, Any]
_WORDS = {
    ("New", "Pending"): "Received",
    ("New", "Received"): "Received",
    ("Active", "Accepted"): "Accepted",
    ("Closed", "Won"): "Won",
    ("Closed", "Lost"): "Lost",
    ("Closed", "Declined"): "Declined",
    ("Closed", "Expired"): "Expired",
}
_STAGES = {
    "Received": {"Prospecting"},
    "Won": {"Closed Won"},
    "Lost": {"Closed Lost"},
    "Declined": {"Closed Lost"},
    "Expired": {"Closed Lost"},
}
_SALES_STAGES = {"20": "Qualify", "40": "Develop", "60": "Propose", "80": "Close"}
_STAGE_MEANS = {
    "Needs Analysis": "Qualify",
    "Value Proposition": "Develop",
    "Id. Decision Makers": "Develop",
    "Perception Analysis": "Develop",
    "Proposal/Price Quote": "Propose",
    "Negotiation/Review": "Close",
}


@dataclass
class Agreement:
    """What was compared and what came out. ``faults`` empty: both sides tell the same story."""

    deals: int = 0
    fields: int = 0
    named: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    by_field: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.deals > 0 and not self.faults


def compare(partner_center: PartnerCenter, salesforce: Salesforce) -> Agreement:
    """Every referral that has an opportunity, field by field; and every open co-sell referral must have one."""
    found = Agreement()
    opportunities: dict[str, list[Row]] = {}
    for row in salesforce.rows("Opportunity"):
        if row.get("Cosell_Referral_Id__c") and not row.get("IsDeleted"):
            opportunities.setdefault(row["Cosell_Referral_Id__c"], []).append(row)
    org = _Org(salesforce)
    for referral in partner_center.ours():
        rows = opportunities.get(referral["id"], [])
        if len(rows) > 1:
            found.faults.append(f"{referral['id']}: {len(rows)} opportunities for one referral")
        if not rows:
            if _expected(referral, org):
                found.faults.append(f"{referral['id']}: no opportunity")
            continue
        found.deals += 1
        message = rows[0].get("Cosell_Message__c") or ""
        for name, there, here in _fields(referral, rows[0], org):
            found.fields += 1
            found.by_field[name] = found.by_field.get(name, 0) + 1
            if there != here:
                line = f"{rows[0]['Id']} {name}: Partner Center {there!r}, Salesforce {here!r}"
                (found.named if name in message else found.faults).append(line)
    return found


def _expected(referral: Row, org: _Org) -> bool:
    """Open, a co-sell deal and not a lead, and in a currency that the org has."""
    lead = referral["type"] == "Independent" and referral["direction"] == "Incoming"
    return (
        referral["status"] != "Closed"
        and not lead
        and (referral["details"] or {}).get("currency") in org.currencies
    )


class _Org:
    """The Salesforce rows that hang on opportunities, gathered once."""

    def __init__(self, salesforce: Salesforce) -> None:
        self.accounts = {row["Id"]: row for row in salesforce.rows("Account")}
        self.users = {row["Id"]: row for row in salesforce.rows("User")}
        self.logins = {
            row["Email"].lower() for row in self.users.values() if row["IsActive"] and row.get("Email")
        }
        contacts = {row["Id"]: row for row in salesforce.rows("Contact")}
        self.contacts = _grouped(
            salesforce.rows("OpportunityContactRole"),
            "OpportunityId",
            lambda row: contacts[row["ContactId"]].get("Email"),
        )
        self.team = _grouped(
            salesforce.rows("OpportunityTeamMember"),
            "OpportunityId",
            lambda row: self.users[row["UserId"]].get("Email"),
        )
        self.solutions = _grouped(
            salesforce.rows("Cosell_Solution__c"), "Opportunity__c", lambda row: row["Solution_Id__c"]
        )
        self.currencies = {row["IsoCode"] for row in salesforce.rows("CurrencyType")}
        self.robot = salesforce.integration_user


def _grouped(rows: Iterable[Row], parent: str, value: Callable[[Row], Any]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for row in rows:
        found = value(row)
        if found and not row.get("IsDeleted"):
            groups.setdefault(row[parent], set()).add(found.lower() if "@" in found else found)
    return groups


def _fields(referral: Row, row: Row, org: _Org) -> Iterable[tuple[str, Any, Any]]:
    details, account = referral["details"], org.accounts.get(row.get("AccountId") or "", {})
    status = _WORDS.get((referral["status"], referral["substatus"]), "")
    yield "Name", _line(referral["name"][:120]), _line(row["Name"])
    yield "Amount", _cents(details.get("dealValue")), _cents(row.get("Amount"))
    yield "Currency", details.get("currency"), row.get("CurrencyIsoCode")
    yield "Close Date", (details.get("closingDateTime") or "")[:10], row["CloseDate"]
    yield "Status", status, row.get("Cosell_Status__c")
    if status in _STAGES:
        yield "Stage", True, row["StageName"] in _STAGES[status]
    else:
        there = _SALES_STAGES.get(str(referral.get("salesStage")), "")
        here = _STAGE_MEANS.get(row["StageName"], "")
        yield "Stage", there or here, here or there
    yield "Campaign", _line(referral.get("campaignId")), _line(row.get("Cosell_Campaign_Id__c"))
    yield "Notes", _lines(details.get("notes")), _lines(row.get("Cosell_Notes__c"))
    yield "Favorite", bool(referral.get("favorite")), bool(row.get("Cosell_Favorite__c"))
    yield "Account", _line(referral["customerProfile"]["name"]), _line(account.get("Name"))
    yield "Contact", _emails(referral["customerProfile"].get("team")), org.contacts.get(row["Id"], set())
    yield "Solution", _ids(details), org.solutions.get(row["Id"], set())
    ours = _emails(referral.get("team")) & org.logins
    owner = (org.users.get(row["OwnerId"], {}).get("Email") or "").lower()
    alone = {owner} if row["OwnerId"] != org.robot else set()
    yield "Team", ours, (org.team.get(row["Id"]) or alone) if ours else ours


def _line(value: Any) -> str:
    return " ".join(str(value or "").split())


def _lines(value: Any) -> list[str]:
    return [line.rstrip() for line in str(value or "").replace("\r\n", "\n").strip("\n").split("\n")]


def _cents(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _emails(team: Any) -> set[str]:
    return {member["email"].lower() for member in team or [] if member.get("email")}


def _ids(details: Row) -> set[str]:
    return {
        item["id"] for item in ((details.get("requirements") or {}).get("solutions") or []) if item.get("id")
    }
