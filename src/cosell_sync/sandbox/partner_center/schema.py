"""The referral resource: its properties, its states, the organizations in it, and copies with changes.

`blank` is the resource with every property present and null, as the service sends it.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

ORGANIZATION_ID = "5c0e1f00-0000-4000-8000-0000000000aa"
ORGANIZATION_NAME = "Nordlicht Systems GmbH"
MPN_ID = "4100001"
MICROSOFT = {"organizationId": "msft", "organizationName": "Microsoft"}
US = {"organizationId": ORGANIZATION_ID, "organizationName": ORGANIZATION_NAME}

HELP = (
    "WorkloadSpecificValueProposition",
    "CustomerTechnicalArchitecture",
    "ProofOfConceptOrDemo",
    "QuotesOrLicensing",
    "PostSalesCustomerSuccess",
    "GeneralOrOther",
)
ANSWER_WITHIN = timedelta(days=14)
STATES: Mapping[str, tuple[str, str]] = {
    "pending": ("New", "Pending"),
    "received": ("New", "Received"),
    "accepted": ("Active", "Accepted"),
    "won": ("Closed", "Won"),
    "lost": ("Closed", "Lost"),
    "declined": ("Closed", "Declined"),
    "expired": ("Closed", "Expired"),
}


def timestamp(moment: datetime, tick: int = 0) -> str:
    """UTC with seven fractional digits: one more than Python's microseconds, and never a round one."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}{tick % 9 + 1}Z"


def midnight(moment: datetime) -> str:
    """The start of a day in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}T00:00:00Z"


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """A copy in which nested objects are merged and everything else is replaced."""
    result = copy.deepcopy(dict(document))
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def blank() -> Document:
    """A referral with every property present and empty."""
    return {
        "id": None,
        "engagementId": None,
        "name": None,
        "organizationId": None,
        "organizationName": None,
        "mpnId": None,
        "externalReferenceId": None,
        "campaignId": None,
        "createdDateTime": None,
        "updatedDateTime": None,
        "acceptedDateTime": None,
        "closedDateTime": None,
        "expirationDateTime": None,
        "status": "None",
        "substatus": "None",
        "statusReason": None,
        "qualification": "None",
        "type": "Independent",
        "direction": None,
        "salesStage": None,
        "referralSource": None,
        "callToAction": None,
        "favorite": False,
        "quality": "Unknown",
        "isSpam": False,
        "dealSensitivity": "None",
        "referralProgram": None,
        "tags": None,
        "createdVia": None,
        "lastModifiedVia": None,
        "lastRunId": None,
        "registrationStatus": "None",
        "registrations": [],
        "target": [],
        "customerProfile": {
            "name": None,
            "address": {
                "addressLine1": None,
                "addressLine2": None,
                "city": None,
                "state": None,
                "postalCode": None,
                "country": None,
                "region": None,
            },
            "size": None,
            "team": [],
            "ids": [],
            "isMatchingComplete": False,
        },
        "consent": {
            "consentToToShareInfoWithOthers": False,
            "consentToContact": False,
            "consentToMicrosoftToContactSpecificPartners": False,
            "consentToShareReferralWithMicrosoftSellers": False,
        },
        "details": {
            "notes": None,
            "dealValue": None,
            "currency": None,
            "closingDateTime": None,
            "customerRequestedContact": None,
            "customerAction": None,
            "incentiveLevel": None,
            "requirements": {
                "industries": [],
                "products": [],
                "services": [],
                "solutions": [],
                "offers": [],
                "salesPlays": [],
                "additionalRequirements": {"iot": None, "attributes": []},
            },
        },
        "team": [],
        "inviteContext": {
            "invitedBy": {"organizationId": None, "organizationName": None},
            "notes": None,
            "invitedMpnId": None,
            "assistanceRequestCode": "Unknown",
        },
        "trackingInfo": {
            "microsoftMsxId": None,
            "microsoftUSFedOpportunityId": None,
            "microsoftUSFedLeadId": None,
            "migratedPSCDealId": None,
            "migratedPSCPartnerDealId": None,
        },
        "links": None,
        "eTag": None,
    }


def member(first: str, last: str, email: str, phone: str | None, **extras: Any) -> Document:
    """A person as a team member or contact."""
    return {
        "firstName": first,
        "lastName": last,
        "email": email,
        "phoneNumber": phone,
        "title": None,
        "contactPreference": {"locale": "en-us", "disableNotifications": False},
        **extras,
    }
