"""Compares the deals of Partner Center and the CRM field by field, on the raw rows of both fakes.

It shares no code with the product and knows only what the documentation promises, so that it finds faults of the product's own
mapping. A difference that the deal's message names is listed as named; any other difference is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cosell_sync.sandbox.partner_center.service import PartnerCenter
from cosell_sync.sandbox.seller import DealFields, Seller

Referral = Mapping[str, Any]
_INTENTS = {"HaveNotDecided": "Have not decided"}
_STATUS = {
    ("New", "Pending"): "Received",
    ("New", "Received"): "Received",
    ("Active", "Accepted"): "Accepted",
    ("Closed", "Won"): "Won",
    ("Closed", "Lost"): "Lost",
    ("Closed", "Declined"): "Declined",
    ("Closed", "Expired"): "Expired",
}
_PHASES = {
    "Received": "standby",
    "Accepted": "open",
    "Won": "won",
    "Lost": "lost",
    "Declined": "lost",
    "Expired": "lost",
}
_SALES_STAGES = {"20": "Qualify", "40": "Develop", "60": "Propose", "80": "Close"}


@dataclass
class Agreement:
    """The result of a comparison. ``faults`` empty: both sides agree."""

    deals: int = 0
    fields: int = 0
    named: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    by_field: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether deals were compared and none differs."""
        return self.deals > 0 and not self.faults


def compare(partner_center: PartnerCenter, seller: Seller) -> Agreement:
    """Every referral that has a deal in the CRM, field by field; and every open co-sell referral must have one."""
    found = Agreement()
    held: dict[str, list[DealFields]] = {}
    for deal in seller.deals():
        if deal["referral_id"]:
            held.setdefault(deal["referral_id"], []).append(deal)
    related = _RelatedRows(seller)
    for referral in partner_center.ours():
        deals = held.get(referral["id"], [])
        if len(deals) > 1:
            found.faults.append(f"{referral['id']}: {len(deals)} deals for one referral")
        if not deals:
            if importable(referral) and referral["status"] != "Closed":
                found.faults.append(f"{referral['id']}: no deal")
            continue
        found.deals += 1
        deal = deals[0]
        for name, there, here in _fields(referral, deal, related):
            found.fields += 1
            found.by_field[name] = found.by_field.get(name, 0) + 1
            if there != here:
                line = f"{deal['id']} {name}: Partner Center {there!r}, {seller.crm} {here!r}"
                explained = seller.labels.get(name, name) in (deal["message"] or "")
                (found.named if explained else found.faults).append(line)
    return found


def importable(referral: Referral) -> bool:
    """A co-sell deal and not a lead."""
    return not (referral["type"] == "Independent" and referral["direction"] == "Incoming")


class _RelatedRows:
    """Contacts, team, solutions and settings of a CRM, read once for all deals."""

    def __init__(self, seller: Seller) -> None:
        self.contacts, self.team, self.solutions = seller.contacts(), seller.team(), seller.solutions()
        self.currencies, self.longest_name = seller.currencies, seller.longest_name
        self.colleagues = set(seller.logins)


def _fields(referral: Referral, deal: DealFields, related: _RelatedRows) -> Iterable[tuple[str, Any, Any]]:
    details, customer = referral["details"], referral["customerProfile"]
    status = _STATUS.get((referral["status"], referral["substatus"]), "")
    decimals = related.currencies.get(details["currency"], 2)
    yield "Name", _line(referral["name"][: related.longest_name]), _line(deal["name"])
    if details["currency"] in related.currencies:
        yield "Amount", _rounded(details["dealValue"], decimals), _rounded(deal["amount"], decimals)
        yield "Currency", details["currency"], deal["currency"]
    else:  # an amount in a currency that the CRM lacks stays empty until a seller enters one
        yield "Amount", None, deal["amount"]
    yield "Close Date", (details["closingDateTime"] or "")[:10], deal["close_date"]
    yield "Status", status, deal["status"]
    yield "Stage", _PHASES.get(status), deal["phase"]
    if status == "Accepted":
        there = _SALES_STAGES.get(str(referral["salesStage"]), "")
        # A stage outside the four is no difference.
        yield "Sales Stage", there or deal["sales_stage"], deal["sales_stage"] or there
    yield "Campaign", _line(referral["campaignId"]), _line(deal["campaign_id"])
    asked = details["requirements"]["additionalRequirements"]["attributes"]
    intent = next((each["id"] for each in asked if each["type"] == "CustomerMarketplaceIntent"), "")
    yield "Marketplace intent", _INTENTS.get(intent, intent), _line(deal["marketplace_intent"])
    yield "Partner location", _line(referral["mpnId"]), _line(deal["location"])
    yield "Notes", _lines(details["notes"]), _lines(deal["notes"])
    yield "Favorite", bool(referral["favorite"]), bool(deal["favorite"])
    yield "Account", _line(customer["name"]), _line(deal["account"])
    yield "Contact", _emails(customer["team"]), related.contacts.get(deal["id"], set())
    yield "Solution", _ids(details), related.solutions.get(deal["id"], set())
    ours = _emails(referral["team"]) & related.colleagues
    alone = {deal["owner"].lower()} if deal["owner"] else set()
    yield "Team", ours, (related.team.get(deal["id"]) or alone) if ours else ours


def _line(value: Any) -> str:
    return " ".join(str(value or "").split())


def _lines(value: Any) -> list[str]:
    return [line.rstrip() for line in str(value or "").replace("\r\n", "\n").strip("\n").split("\n")]


def _rounded(value: Any, decimals: int) -> Decimal | None:
    return (
        None if value is None else Decimal(str(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    )


def _emails(team: Iterable[Mapping[str, Any]] | None) -> set[str]:
    return {member["email"].lower() for member in team or [] if member.get("email")}


def _ids(details: Referral) -> set[str]:
    return {item["id"] for item in details["requirements"]["solutions"] or [] if item.get("id")}
