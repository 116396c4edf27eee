"""Sample referrals: invented people, customers and solutions, and one plausible deal made of them.

The data has everything that makes real data hard: umlauts, quotes, emoji, long names, several lines, properties that nobody
has documented. All people and companies are invented; every domain ends in `.example`.
"""

import copy
import random
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cosell_sync.sandbox.partner_center.schema import (
    ANSWER_WITHIN,
    MICROSOFT,
    MPN_ID,
    ORGANIZATION_NAME,
    STATES,
    US,
    Document,
    blank,
    member,
    merged,
    midnight,
    timestamp,
)

# Own people, by e-mail: those in USERS also have a CRM login, the others do not.
PEOPLE: Mapping[str, tuple[str, str, str]] = {
    "ida.kern@nordlicht.example": ("Ida", "Kern", "+49 421 000001"),
    "jonas.brueck@nordlicht.example": ("Jonas", "Brück", "+49 421 000002"),
    "mara.oconnell@nordlicht.example": ("Mara", "O'Connell", "+353 1 000003"),
    "tariq.aziz@nordlicht.example": ("Tariq", "Aziz", "+44 20 000004"),
    "lena.soederberg@nordlicht.example": ("Lena", "Söderberg", "+46 8 000005"),
    "pia.freelance@helpers.example": ("Pia", "Ammann", "+41 44 000006"),
    "noel.contractor@helpers.example": ("Noël", "D'Arcy", "+33 1 000007"),
}
USERS: tuple[str, ...] = (
    "ida.kern@nordlicht.example",
    "jonas.brueck@nordlicht.example",
    "mara.oconnell@nordlicht.example",
    "tariq.aziz@nordlicht.example",
    "lena.soederberg@nordlicht.example",
)

SELLERS = (
    ("Alex", "Winter", "alex.winter@microsoft-sellers.example", "+1 425 000101"),
    ("Yuki", "Tanabe", "yuki.tanabe@microsoft-sellers.example", "+81 3 000102"),
)

CUSTOMERS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "Harbor Mills GmbH",
        "address": ("Kai 7", "Bremen", None, "28195", "DE"),
        "duns": "315000001",
        "currency": "EUR",
    },
    {
        "name": 'O\'Hara & Söhne "Nord"',
        "address": ("Große Straße 12b", "Flensburg", "Schleswig-Holstein", "24937", "DE"),
        "currency": "EUR",
    },
    {
        "name": "Łódź Textile S.A.",
        "address": ("ul. Piotrkowska 104", "Łódź", None, "90-004", "PL"),
        "currency": "PLN",
    },
    {
        "name": "Contoso Outdoor Inc.",
        "address": ("1 Trail Road", "Boulder", "CO", "80301", "US"),
        "duns": "079000002",
        "currency": "USD",
    },
    {
        "name": "東雲物流株式会社",
        "address": ("港区海岸 1-2-3", "東京", None, "105-0022", "JP"),
        "currency": "JPY",
    },
    {
        "name": "Crème & Fils SARL",
        "address": ("8 rue de l'Été", "Lyon", None, "69002", "FR"),
        "currency": "EUR",
    },
    {
        "name": "Thames Valley Health Trust",
        "address": ("22 King's Parade", "Reading", "Berkshire", "RG1 1AA", "GB"),
        "currency": "GBP",
    },
    {
        "name": "The Association of Independent Northern and Western Municipal Water, Waste Water and Energy Utilities of the Coast eV",
        "address": ("Am Deich 1", "Wilhelmshaven", "Niedersachsen", "26382", "DE"),
        "currency": "EUR",
    },
)

CONTACTS = (
    ("Greta", "Öztürk", "greta.oeztuerk", "+49 421 100001"),
    ("Liam", "O'Hara", "liam.ohara", "+353 1 100002"),
    ("Zoë", "van der Berg", "zoe.vdberg", "+31 20 100003"),
    ("Błażej", "Wiśniewski", "blazej.w", "+48 42 100004"),
    ("Haruto", "Sato", "h.sato", "+81 3 100005"),
)

SOLUTIONS: tuple[Document, ...] = (
    {
        "id": "SOL-10001-ABC",
        "name": "Mill Planner",
        "type": "Name",
        "solutionType": "3P",
        "publisherName": ORGANIZATION_NAME,
    },
    {
        "id": "SOL-10002-DEF",
        "name": 'Tide & Flow "Pro"',
        "type": "Name",
        "solutionType": "3P",
        "publisherName": ORGANIZATION_NAME,
    },
    {
        "id": "SOL-10003-GHI",
        "name": "Lager­blick Überwachung",
        "type": "Name",
        "solutionType": "3P",
        "publisherName": None,
    },
    {
        "id": "0a1b2c3d-1111-4000-8000-000000000001",
        "name": "Azure",
        "type": "Name",
        "solutionType": "1P",
        "publisherName": "Microsoft",
    },
    {
        "id": "0a1b2c3d-1111-4000-8000-000000000002",
        "name": "Dynamics 365 Business Central",
        "type": "Name",
        "solutionType": "1P",
        "publisherName": "Microsoft",
    },
)

TOPICS = (
    "ERP move",
    "Data platform",
    "Zero-trust roll-out",
    "Copilot pilot 🚀",
    "SAP on Azure",
    "Lagerlogistik – Phase 2",  # noqa: RUF001  (people do type it)
    "Call centre, modernised",
    'Project "Möwe"',
    "Analytics & reporting <beta>",
    "Windows 365 for the whole field organization including all seasonal workers, subsidiaries and the two joint ventures overseas",
)

NOTES = (
    "",
    "Met at the trade fair.",
    "Wants a pilot in Q3.\nBudget owner: CFO.\n\n- site A\n- site B",
    "Kunde möchte „alles aus einer Hand“; Angebot bis Freitag 👍",
    "Line one\r\nline two with a tab\tand a \\ backslash & <tags>",
)

REASONS = (
    "Budget insufficient",
    "Customer did not respond",
    "Other vendor chosen",
    "Requirement not met",
    "Timeline too short",
)
STAGES = ("10", "20", "40", "60", "80")


def own_member(email: str, **extras: Any) -> Document:
    """A colleague (a key of PEOPLE) as a team member."""
    first, last, phone = PEOPLE[email]
    return member(first, last, email, phone, **extras)


def deal(kind: str, now: datetime, rng: random.Random, customer: Mapping[str, Any] | None = None) -> Document:
    """Our side of one plausible deal of that kind (a key of `demo.seed.KINDS`), created at `now`.

    Inbound deals start unanswered; our own are accepted from the start, as the service has it.
    """
    origin, _, state = kind.partition("_")
    inbound = origin in {"inbound", "marketplace", "qualified"}
    status, substatus = STATES.get(state, STATES["received"] if state == "lead" else STATES["accepted"])
    who = customer or rng.choice(CUSTOMERS)
    line, city, region, postal_code, country = who["address"]
    first, last, mailbox, phone = rng.choice(CONTACTS)
    domain = f"customer{CUSTOMERS.index(who) + 1 if who in CUSTOMERS else 0}.example"
    solutions = [
        copy.deepcopy(solution)
        | {"price": rng.choice((None, 1200.5, 99)), "quantity": rng.choice((None, 1, 25))}
        for solution in rng.sample(SOLUTIONS, rng.choice((1, 1, 2, 3)))
    ]
    created = timestamp(now, rng.randrange(9))
    closed = status == "Closed"
    answered = status != "New" and substatus not in {"Declined", "Expired"}
    return merged(
        blank(),
        {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "engagementId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "name": f"{who['name'][:40]} - {rng.choice(TOPICS)}",
            **US,
            "mpnId": MPN_ID,
            "campaignId": rng.choice((None, None, "SPRING-26")),
            "createdDateTime": created,
            "updatedDateTime": created,
            "acceptedDateTime": created if answered else None,
            "closedDateTime": created if closed else None,
            "expirationDateTime": timestamp(now + ANSWER_WITHIN, 3) if inbound and not answered else None,
            "status": status,
            "substatus": substatus,
            "statusReason": rng.choice(REASONS) if substatus in {"Lost", "Declined"} else None,
            "qualification": "Direct" if origin == "marketplace" else "SalesQualified",
            "type": "Shared" if origin in {"inbound", "cosell"} else "Independent",
            "direction": "Incoming" if inbound else "Outgoing",
            "salesStage": None if not answered else "100" if substatus == "Won" else rng.choice(STAGES),
            "referralSource": "AzureMarketplace" if origin == "marketplace" else None,
            "callToAction": "ContactMe" if origin == "marketplace" else None,
            "favorite": rng.random() < 0.1,
            "tags": rng.choice((None, [], ["priority"])),
            "customerProfile": {
                "name": who["name"],
                "address": {
                    "addressLine1": line,
                    "city": city,
                    "state": region,
                    "postalCode": postal_code,
                    "country": country,
                },
                "size": rng.choice((None, "51to250employees", "1001to5000employees")),
                "team": []
                if origin == "private"
                else [
                    member(first, last, f"{mailbox}@{domain}", phone, title=rng.choice((None, "Head of IT"))),
                ],
                "ids": [{"profileType": "Duns", "id": who["duns"]}] if who.get("duns") else [],
                "isMatchingComplete": rng.random() < 0.5,
            },
            "consent": {
                "consentToToShareInfoWithOthers": True,
                "consentToContact": True,
                "consentToMicrosoftToContactSpecificPartners": origin != "private",
                "consentToShareReferralWithMicrosoftSellers": origin != "private",
            },
            "details": {
                "notes": rng.choice(NOTES),
                "dealValue": rng.choice((12_000, 84_000.5, 250_000, 1_375_000.25, 0.1 + 0.2 + 4999)),
                "currency": who["currency"],
                "closingDateTime": midnight(now + timedelta(days=rng.randrange(20, 240))),
                "requirements": {
                    "industries": [{"id": "Power & Utilities"}],
                    "solutions": solutions,
                    "additionalRequirements": {
                        "attributes": [{"type": "CustomerMarketplaceIntent", "id": "HaveNotDecided"}]
                    },
                },
            },
            "team": [
                own_member(email, emailValidationStatus="Valid")
                for email in rng.sample(list(PEOPLE), rng.choice((1, 2, 2, 3)))
            ],
            "inviteContext": {
                "invitedBy": MICROSOFT if inbound else US,
                "notes": "We would like your help here." if origin == "inbound" else None,
                "invitedMpnId": MPN_ID if inbound else None,
            },
        },
    )


def microsoft_side(ours: Document, now: datetime, rng: random.Random, **overrides: Any) -> Document:
    """Microsoft's own referral of the same engagement: its status, its sellers, its CRM id."""
    answered = overrides.get("status") in {"Active", "Closed"}
    seller = rng.choice(SELLERS)
    created = timestamp(now, rng.randrange(9))
    side = merged(
        ours,
        {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            **MICROSOFT,
            "mpnId": None,
            "externalReferenceId": None,
            "campaignId": None,
            "createdDateTime": created,
            "updatedDateTime": created,
            "acceptedDateTime": created if answered else None,
            "closedDateTime": None,
            "expirationDateTime": None if answered else timestamp(now + ANSWER_WITHIN, 3),
            "status": "New",
            "substatus": "Pending",
            "statusReason": None,
            "type": "Shared",
            "direction": "Outgoing" if ours["direction"] == "Incoming" else "Incoming",
            "salesStage": None,
            "favorite": False,
            "team": [member(*seller)] if answered else [],
            "eTag": None,
            "links": None,
        },
    )
    return merged(side, overrides)
