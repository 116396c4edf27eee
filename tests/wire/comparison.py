"""Compares Partner Center and the CRM field by field, from their raw records.

``disagreements`` lists what differs, ``doubles`` what exists twice; the product promises that both are empty. The
comparison shares no code with the product, so it finds mistakes of the product's own mapping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from acceptance import Stage
from crm_vocabulary import Board, Row

from cosell_sync.sandbox.partner_center.schema import Document

STATUS = {
    ("New", "Pending"): "Received",
    ("New", "Received"): "Received",
    ("Active", "Accepted"): "Accepted",
    ("Closed", "Won"): "Won",
    ("Closed", "Lost"): "Lost",
    ("Closed", "Declined"): "Declined",
    ("Closed", "Expired"): "Expired",
}
STAGE = {"Received": "Standby", "Won": "Won", "Lost": "Lost", "Declined": "Lost", "Expired": "Lost"}
# The portal's percents; 0 and 10 say no more than that the deal is accepted.
SALES = {"20": "Qualify", "40": "Develop", "60": "Propose", "80": "Close"}
COUNTRIES = {"DE": "Germany", "PL": "Poland", "US": "United States", "JP": "Japan", "FR": "France", "GB": "United Kingdom"}  # fmt: skip
ASKED = {
    "CustomerMarketplaceIntent": "marketplace_intent",
    "PartnerRole": "partner_role",
    "SolutionArea": "solution_area",
    "SolutionPlay": "solution_play",
}
INTENTS = {"HaveNotDecided": "Have not decided"}
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
    return [
        referral
        for referral in stage.pc.ours()
        if (closed or referral["status"] != "Closed") and (leads or not is_lead(referral))
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
    board = stage.crm.board()
    wanted = {referral["id"] for referral in expected(stage, leads=leads, closed=closed)} - set(held)
    for referral in stage.pc.ours():
        rows = board.deals.get(referral["id"], [])
        if len(rows) > 1:
            found.append(f"{referral['id']} has {len(rows)} opportunities")
        if not rows and referral["id"] in wanted:
            found.append(f"{referral['id']} ({referral['status']}) has no opportunity")
        if rows and is_lead(referral) and not leads:
            found.append(f"{referral['id']} is a lead and has an opportunity")
        for row in rows:
            for name, there, here in compared(stage, referral, row, board):
                if there != here and (referral["id"], name) not in besides:
                    found.append(f"{referral['id']} {name}: Partner Center {there!r}, CRM {here!r}")
    return found


def compared(
    stage: Stage, referral: Document, row: Row, board: Board | None = None
) -> Iterator[tuple[str, Any, Any]]:
    """(field, as Partner Center has it, as the CRM has it), in a form in which equal means agreed."""
    details, crm = referral["details"], stage.crm
    board = board or crm.board()
    yield "name", _line(referral["name"])[: crm.name_length].rstrip(), _line(row["name"])
    if not crm.currencies or details["currency"] in crm.currencies:
        digits = crm.decimals(details["currency"])
        yield "value", _rounded(details["dealValue"], digits), _rounded(row["value"], digits)
        yield "currency", details["currency"], row.get("currency", details["currency"])
    else:
        yield "value", None, row["value"]  # left empty until somebody enters one
    yield "close date", (details["closingDateTime"] or "")[:10], row["close_date"]
    yield "campaign", _line(referral["campaignId"]), _line(row["campaign_id"])
    yield from _asked(referral, row)
    yield "location", referral["mpnId"], row["location"]
    yield "notes", _lines(details["notes"]), _lines(row["notes"])
    yield "favorite", bool(referral["favorite"]), bool(row["favorite"])
    yield from _stage(referral, row, crm.unclaimed)
    yield from _customer(referral, board.accounts[row["account"]])
    yield from _people(stage, referral, row, board)
    yield from _solutions(referral, board.solutions.get(row["id"], []))
    yield from _facts(referral, row)


def _asked(referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    """What is asked per deal."""
    found = referral["details"]["requirements"]["additionalRequirements"]["attributes"]
    said = {each["type"]: INTENTS.get(each["id"], each["id"]) for each in found}
    for name, word in ASKED.items():
        yield word, said.get(name), row[word]


def _stage(referral: Document, row: Row, unclaimed: str) -> Iterator[tuple[str, Any, Any]]:
    status = STATUS[referral["status"], referral["substatus"]]
    yield "status", status, row["status"]
    there = STAGE.get(status) or SALES.get(referral["salesStage"] or "", "Accepted")
    yield "stage", there, "Accepted" if (there, row["stage"]) == ("Accepted", unclaimed) else row["stage"]


def _customer(referral: Document, account: Row) -> Iterator[tuple[str, Any, Any]]:
    profile = referral["customerProfile"]
    address = profile["address"]
    # An account that was there before keeps its own way of writing the name.
    yield "customer name", _folded(profile["name"]), _folded(account["name"])
    street = "\n".join(filter(None, (address["addressLine1"], address["addressLine2"])))
    yield "street", street, account["street"] or ""
    yield "city", address["city"], account["city"]
    yield "state", address["state"], account["state"]
    yield "postal code", address["postalCode"], account["postal_code"]
    country = account["country"]
    names = {address["country"], COUNTRIES.get(address["country"])}
    yield "country", address["country"], address["country"] if country in names else country


def _people(stage: Stage, referral: Document, row: Row, board: Board) -> Iterator[tuple[str, Any, Any]]:
    there = {
        person["email"].lower(): tuple(map(person.get, ("firstName", "lastName", "phoneNumber")))
        for person in referral["customerProfile"]["team"]
    }
    people = {person["email"].lower(): person for person in board.contacts.get(row["id"], [])}
    here = {
        email: (person["first_name"], person["last_name"], person["phone"])
        for email, person in people.items()
    }
    yield "contacts", there, here
    primary = [email for email, person in people.items() if person["primary"]]
    yield "one primary contact", bool(there), len(primary) == 1 if there else bool(primary)
    active = {
        key: user["email"].lower() for key, user in board.users.items() if user["active"] and user["email"]
    }
    robot = active.get(stage.crm.robot)
    team = {person["email"].lower() for person in referral["team"]} & set(active.values())
    members = {active[user] for user in board.team.get(row["id"], []) if user in active}
    owner = {active[row["owner"]]} if row["owner"] in active else set()
    yield "team", team, (members or owner) - {robot}


def _solutions(referral: Document, rows: Collection[Row]) -> Iterator[tuple[str, Any, Any]]:
    there = {
        tag["id"]: (_line(tag["name"]), _kind(tag["id"]), f"{referral['id']}:{tag['id']}")
        for tag in referral["details"]["requirements"]["solutions"]
    }
    here = {each["code"]: (_line(each["title"]), each["type"], each["key"]) for each in rows}
    yield "solutions", there, here


def _kind(solution_id: str) -> str:
    return "Own" if solution_id.startswith("SOL-") else "Microsoft"


def _facts(referral: Document, row: Row) -> Iterator[tuple[str, Any, Any]]:
    """What only the sync writes."""
    yield "direction", {"Incoming": "Inbound"}.get(referral["direction"], "Outbound"), row["direction"]
    yield "deal type", deal_type(referral), row["deal_type"]
    link = row["referral_link"] or ""
    yield "link", True, link.startswith("https://") and referral["id"] in link
    yield "respond by", _deadline(referral), row["respond_by"]
    yield "sync is on", True, row["sync"]


def _deadline(referral: Document) -> datetime | None:
    if referral["status"] != "New":
        return None
    if referral["expirationDateTime"]:
        return _moment(referral["expirationDateTime"])
    return _moment(referral["createdDateTime"]) + timedelta(days=14)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


def _line(text: str | None) -> str:
    return " ".join((text or "").split("\n")).strip()


def _lines(text: str | None) -> str:
    lines = (text or "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _rounded(amount: Any, digits: int) -> Decimal | None:
    return (
        None if amount is None else Decimal(str(amount)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    )


# -- nothing twice ---------------------------------------------------------------------------------------------------


def doubles(stage: Stage) -> list[str]:
    """Everything that a careless client makes twice."""
    crm, board = stage.crm, stage.crm.board()
    keys: Mapping[str, Iterable[tuple[object, ...]]] = {
        "opportunity": ((key,) for key, rows in board.deals.items() for _ in rows if key),
        "account": (
            (_folded(row["name"]), _folded(row["postal_code"]), row["country"]) for row in board.accounts.values()
        ),
        "contact": ((row["account"], _folded(row["email"])) for row in crm.rows("contact") if row["email"]),
        "contact or colleague": ((deal, person) for deal, person, _ in crm.memberships()),
        "solution": ((row["opportunity"], row["code"]) for rows in board.solutions.values() for row in rows),
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
