"""Do both systems tell the same story? Judged field by field from the raw records, by the words of the interface alone.

``disagreements`` lists what differs, ``doubles`` what exists twice; both empty is what the product promises. It shares no
code with the product, so it can convict the product's own mapping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from acting import Row, Stage

from cosell_sync.sandbox.pipeline import Document

STATUS = {
    ("New", "Pending"): "Received",
    ("New", "Received"): "Received",
    ("Active", "Accepted"): "Accepted",
    ("Closed", "Won"): "Won",
    ("Closed", "Lost"): "Lost",
    ("Closed", "Declined"): "Declined",
    ("Closed", "Expired"): "Expired",
}
STAGE = {
    "Received": "Prospecting",
    "Won": "Closed Won",
    "Lost": "Closed Lost",
    "Declined": "Closed Lost",
    "Expired": "Closed Lost",
}
SALES = {  # the portal's percents; 0 and 10 say no more than that the deal is accepted
    "20": {"Needs Analysis"},
    "40": {"Value Proposition", "Id. Decision Makers", "Perception Analysis"},
    "60": {"Proposal/Price Quote"},
    "80": {"Negotiation/Review"},
}
COUNTRIES = {"DE": "Germany", "PL": "Poland", "US": "United States", "JP": "Japan", "FR": "France", "GB": "United Kingdom"}  # fmt: skip
VISIBLE = "consentToShareReferralWithMicrosoftSellers"


def is_lead(referral: Document) -> bool:
    return referral["direction"] == "Incoming" and referral["type"] == "Independent"


def deal_type(referral: Document) -> str:
    if is_lead(referral):
        return "Lead"
    if referral["type"] == "Shared":
        return "Co-sell"
    return "Partner-led" if referral["consent"][VISIBLE] else "Private"


def expected(stage: Stage, *, leads: bool = False, closed: bool = False) -> list[Document]:
    """Referrals that must have an opportunity, going by what they are now."""
    currencies = {row["IsoCode"] for row in stage.sf.rows("CurrencyType")}
    return [
        referral
        for referral in stage.pc.ours()
        if (closed or referral["status"] != "Closed")
        and (leads or not is_lead(referral))
        and (not currencies or referral["details"]["currency"] in currencies)
    ]


def disagreements(
    stage: Stage,
    *,
    besides: Collection[tuple[str, str]] = (),
    leads: bool = False,
    closed: bool = False,
    held: Collection[str] = (),
) -> list[str]:
    """Every field of every deal that does not read the same.

    ``besides``: (referral id, field) that are known to differ; ``held``: referrals that wait for a person.
    """
    found: list[str] = []
    wanted = {referral["id"] for referral in expected(stage, leads=leads, closed=closed)} - set(held)
    for referral in stage.pc.ours():
        rows = stage.deals(referral)
        if len(rows) > 1:
            found.append(f"{referral['id']} has {len(rows)} opportunities")
        if not rows and referral["id"] in wanted:
            found.append(f"{referral['id']} ({referral['status']}) has no opportunity")
        if rows and is_lead(referral) and not leads:
            found.append(f"{referral['id']} is a lead and has an opportunity")
        for row in rows:
            for name, there, here in compared(stage, referral, row):
                if there != here and (referral["id"], name) not in besides:
                    found.append(f"{referral['id']} {name}: Partner Center {there!r}, CRM {here!r}")
    return found


def compared(stage: Stage, referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    """(field, as Partner Center has it, as the CRM has it), in a form in which equal means agreed."""
    details = referral["details"]
    yield "name", _line(referral["name"])[:120].rstrip(), _line(row["Name"])
    yield "value", _cents(details["dealValue"]), _cents(row["Amount"])
    yield "currency", details["currency"], row.get("CurrencyIsoCode", details["currency"])
    yield "close date", (details["closingDateTime"] or "")[:10], row["CloseDate"]
    yield "campaign", _line(referral["campaignId"]), _line(row["Cosell_Campaign_Id__c"])
    yield "notes", _lines(details["notes"]), _lines(row["Cosell_Notes__c"])
    yield "favorite", bool(referral["favorite"]), bool(row["Cosell_Favorite__c"])
    yield from _stage(referral, row)
    yield from _customer(stage, referral, row)
    yield from _people(stage, referral, row)
    yield from _solutions(stage, referral, row)
    yield from _facts(referral, row)


def _stage(referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    status = STATUS[referral["status"], referral["substatus"]]
    yield "status", status, row["Cosell_Status__c"]
    if status in STAGE:
        yield "stage", STAGE[status], row["StageName"]
        return
    fitting = SALES.get(referral["salesStage"] or "", {"Qualification"})
    yield "stage", True, row["StageName"] in fitting or f"{row['StageName']} for {referral['salesStage']}"


def _customer(stage: Stage, referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    profile, account = referral["customerProfile"], stage.sf.get("Account", row["AccountId"])
    address = profile["address"]
    # An account that was there before keeps its own way of writing the name.
    yield "customer name", _folded(profile["name"]), _folded(account["Name"])
    street = "\n".join(filter(None, (address["addressLine1"], address["addressLine2"])))
    yield "street", street, account["BillingStreet"] or ""
    yield "city", address["city"], account["BillingCity"]
    yield "state", address["state"], account["BillingState"]
    yield "postal code", address["postalCode"], account["BillingPostalCode"]
    country = account["BillingCountry"]
    names = {address["country"], COUNTRIES.get(address["country"])}
    yield "country", address["country"], address["country"] if country in names else country


def _people(stage: Stage, referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    there = {
        person["email"].lower(): tuple(map(person.get, ("firstName", "lastName", "phoneNumber")))
        for person in referral["customerProfile"]["team"]
    }
    people = stage.contacts(referral)
    here = {
        email: (person["FirstName"], person["LastName"], person["Phone"]) for email, person in people.items()
    }
    yield "contacts", there, here
    primary = [email for email, person in people.items() if person["role"]["IsPrimary"]]
    yield "one primary contact", bool(there), len(primary) == 1 if there else bool(primary)
    users = {user["Email"].lower() for user in stage.sf.users if user["IsActive"]}
    team = {person["email"].lower() for person in referral["team"]} & users
    robot = stage.sf.get("User", stage.sf.integration_user)["Email"].lower()
    owner = {stage.sf.get("User", row["OwnerId"])["Email"].lower()} - {robot}
    yield "team", team, (stage.team(referral) or owner) - {robot}


def _solutions(stage: Stage, referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    there = {
        tag["id"]: (_line(tag["name"]), _kind(tag["id"]), f"{referral['id']}:{tag['id']}")
        for tag in referral["details"]["requirements"]["solutions"]
    }
    here = {
        code: (_line(each["Solution_Name__c"]), each["Solution_Type__c"], each["Cosell_Key__c"])
        for code, each in stage.solutions(referral).items()
    }
    yield "solutions", there, here


def _kind(solution_id: str) -> str:
    return "Own" if solution_id.startswith("SOL-") else "Microsoft"


def _facts(referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    """What only the sync writes."""
    yield "direction", {"Incoming": "Inbound"}.get(referral["direction"], "Outbound"), row["Cosell_Direction__c"]  # fmt: skip
    yield "deal type", deal_type(referral), row["Cosell_Deal_Type__c"]
    link = row["Cosell_Referral_Link__c"] or ""
    yield "link", True, link.startswith("https://") and referral["id"] in link
    yield "respond by", _deadline(referral), row["Cosell_Respond_By__c"]
    yield "sync is on", True, row["Cosell_Sync__c"]


def _deadline(referral: Document) -> str | None:
    if referral["status"] != "New":
        return None
    if referral["expirationDateTime"]:
        moment = _moment(referral["expirationDateTime"])
    else:
        moment = _moment(referral["createdDateTime"]) + timedelta(days=14)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


def _line(text: str | None) -> str:
    return " ".join((text or "").split("\n")).strip()


def _lines(text: str | None) -> str:
    lines = (text or "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _cents(amount: Any) -> Decimal | None:
    if amount is None:
        return None
    return Decimal(str(amount)).quantize(Decimal("0.01"), ROUND_HALF_UP)


# -- nothing twice ---------------------------------------------------------------------------------------------------


def doubles(stage: Stage) -> list[str]:
    """Everything that a careless client makes twice."""
    sf = stage.sf
    keys: Mapping[str, Iterator[tuple[object, ...]]] = {
        "opportunity": ((row["Cosell_Referral_Id__c"],) for row in sf.rows("Opportunity") if row["Cosell_Referral_Id__c"]),
        "account": (
            (_folded(row["Name"]), _folded(row["BillingPostalCode"]), row["BillingCountry"])
            for row in sf.rows("Account")
        ),
        "contact": ((row["AccountId"], _folded(row["Email"])) for row in sf.rows("Contact") if row["Email"]),
        "contact role": ((row["OpportunityId"], row["ContactId"]) for row in sf.rows("OpportunityContactRole")),
        "team member": ((row["OpportunityId"], row["UserId"]) for row in sf.rows("OpportunityTeamMember")),
        "solution": ((row["Opportunity__c"], row["Solution_Id__c"]) for row in sf.rows("Cosell_Solution__c")),
        "our side of an engagement": ((document["engagementId"],) for document in stage.pc.ours()),
        "referral of an opportunity": (
            (document["externalReferenceId"],) for document in stage.pc.ours() if document["externalReferenceId"]
        ),
        "Microsoft's side": (
            (document["engagementId"],) for document in stage.pc.all() if document["organizationId"] == "msft"
        ),
    }  # fmt: skip
    return [
        f"{number} times the {what} {key}"
        for what, every in keys.items()
        for key, number in Counter(every).items()
        if number > 1
    ]


def _folded(text: str | None) -> str:
    return " ".join((text or "").split()).casefold()
