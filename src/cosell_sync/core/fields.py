"""Our names of the fields of a deal, by who writes them, and what kind of value each one holds.

To add a field: name it here, then map it in each adapter and in ``mapping.fields``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cosell_sync.core.texts import Text


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NOTES = "notes"  # text of several lines
    NUMBER = "number"
    DATE = "date"
    MOMENT = "moment"
    FLAG = "flag"
    MEMBERS = "members"
    SOLUTIONS = "solutions"
    CUSTOMER = "customer"


# Fields that exist on both sides and are merged three-way.
SHARED: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "name": Kind.TEXT,
        "value": Kind.NUMBER,
        "currency": Kind.TEXT,
        "close_date": Kind.DATE,
        "sales_stage": Kind.TEXT,  # Qualify, Develop, Propose, Close; ABSENT: this side makes no claim
        "campaign_id": Kind.TEXT,
        "marketplace_intent": Kind.TEXT,
        "partner_role": Kind.TEXT,
        "solution_area": Kind.TEXT,
        "solution_play": Kind.TEXT,
        "location": Kind.TEXT,  # of the partner: digits, the location's MPN id
        "notes": Kind.NOTES,
        "favorite": Kind.FLAG,
        "customer": Kind.CUSTOMER,
        "team": Kind.MEMBERS,
        "contacts": Kind.MEMBERS,
        "solutions": Kind.SOLUTIONS,
    }
)


# What Partner Center asks of every deal, each answered from one of Microsoft's lists of values. A CRM may hold a value as
# text or as a choice of the list, and an answer of Microsoft's that is none of the choices sinks no deal.
ASKED_PER_DEAL: Final = ("marketplace_intent", "partner_role", "solution_area", "solution_play")
# Fields whose columns a CRM lacks that an earlier version set up: deals are kept in step without them.
NEWER: Final = (*ASKED_PER_DEAL, "location")


# Fields that mean something only together: they have one winner, cross together or are held together. The first one's
# rule decides. What else belongs together is one value already: an address with its country and state is a ``Customer``.
TOGETHER: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"value": ("value", "currency")})


def partners(names: Iterable[str]) -> tuple[str, ...]:
    """These shared fields and those that mean something only together with them, in the order of ``SHARED``."""
    asked = set(names)
    if not asked:
        return ()
    for group in TOGETHER.values():
        if asked & set(group):
            asked |= set(group)
    return tuple(name for name in SHARED if name in asked)


# Who or what of a set cannot be told apart there, so that it stays on its side: people without an e-mail address, solutions
# without an id. Each side says its own, in words.
UNKEYED: Final[Mapping[str, str]] = MappingProxyType(
    {"team": "team_unkeyed", "contacts": "contacts_unkeyed", "solutions": "solutions_unkeyed"}
)
NO_NAME: Final = Text("(no name)")  # one of them that has no name either


def inseparable(names: Iterable[str]) -> list[frozenset[str]]:
    """The names, each alone or with those of them that it means something with, in their order."""
    given = dict.fromkeys(names)
    whole = {name: frozenset(partners([name])) | {name} for name in given}
    return list(dict.fromkeys(frozenset(unit & given.keys()) for unit in whole.values()))


# What only a seller writes, in the CRM.
SELLER: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "sync": Kind.FLAG,
        "action": Kind.TEXT,  # Accept, Decline
        "reason": Kind.TEXT,
        "reason_note": Kind.NOTES,
        "visible": Kind.FLAG,
        "help": Kind.TEXT,
        "help_note": Kind.NOTES,
        "consent": Kind.FLAG,
    }
)


# What only we write, in the CRM.
STATUS_FIELDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "referral_id": Kind.TEXT,
        "referral_link": Kind.TEXT,
        "status": Kind.TEXT,
        "direction": Kind.TEXT,
        "deal_type": Kind.TEXT,
        "respond_by": Kind.MOMENT,
        "microsoft_status": Kind.TEXT,
        "microsoft_id": Kind.TEXT,
        "sync_state": Kind.TEXT,
        "message": Kind.NOTES,
        "last_sync": Kind.MOMENT,
    }
)


# What the CRM's own machinery says of an opportunity.
CRM_ONLY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "stage": Kind.TEXT,
        "is_closed": Kind.FLAG,
        "is_won": Kind.FLAG,
        "loss_reason": Kind.TEXT,  # why it was lost, in a field of the org's own; only where one is configured
        "owner_email": Kind.TEXT,
    }
)


# What only Partner Center says of a referral.
REFERRAL_ONLY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "state": Kind.TEXT,  # a State
        "status_text": Kind.TEXT,  # as Partner Center words it, "New / Pending"
        "status_reason": Kind.TEXT,
        "category": Kind.TEXT,  # cosell, lead, foreign (another organization's row)
        "engagement_id": Kind.TEXT,
        "external_reference": Kind.TEXT,
        "created_at": Kind.MOMENT,
        "updated_at": Kind.MOMENT,
        "closed_at": Kind.MOMENT,
        "help_code": Kind.TEXT,
        "registration_status": Kind.TEXT,  # of a won deal, as Partner Center words it
        "organization": Kind.TEXT,  # whose row it is, on rows of others; "Microsoft" for Microsoft's
        "problem": Kind.TEXT,  # why this referral cannot be understood, or absent
        "unreadable": Kind.TEXT,  # our names of fields that cannot be understood, though the rest can; or absent
    }
)


# What only the intent of a create says, beside what was to be made.
CREATE_ONLY: Final[Mapping[str, Kind]] = MappingProxyType(
    {"stand_ins": Kind.TEXT}  # our names of the fields that were made with a stand-in
)


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        **SHARED,
        **SELLER,
        **STATUS_FIELDS,
        **CRM_ONLY,
        **REFERRAL_ONLY,
        **CREATE_ONLY,
        **dict.fromkeys(UNKEYED.values(), Kind.TEXT),
    }
)


SALES_STAGES: Final = ("Qualify", "Develop", "Propose", "Close")


CLOSED_REASONS: Final = (
    "Budget insufficient",
    "Customer did not respond",
    "Other vendor chosen",
    "Requirement not met",
    "Not a customer",
    "Timeline too short",
    "Abuse, spam or phishing",
    "Other",
)


LABELS: Final[Mapping[str, str]] = {
    "name": Text("Name"),
    "value": Text("Amount"),
    "currency": Text("Currency"),
    "close_date": Text("Close Date"),
    "sales_stage": Text("Stage"),
    "stage": Text("Stage"),
    "campaign_id": Text("Campaign Id"),
    "marketplace_intent": Text("Marketplace Intent"),
    "partner_role": Text("Partner Role"),
    "solution_area": Text("Solution Area"),
    "solution_play": Text("Solution Play"),
    "location": Text("Partner Location"),
    "notes": Text("Notes"),
    "favorite": Text("Favorite"),
    "customer": Text("Account"),
    "team": Text("Opportunity Team"),
    "contacts": Text("Contact Roles"),
    "solutions": Text("Solutions"),
    "customer.name": Text("Account Name"),
    "customer.address_line1": Text("Billing Street"),
    "customer.address_line2": Text("Billing Street"),
    "customer.city": Text("Billing City"),
    "customer.state": Text("Billing State/Province"),
    "customer.postal_code": Text("Billing Zip/Postal Code"),
    "customer.country": Text("Billing Country"),
    "customer.duns": Text("D-U-N-S Number"),
    "consent": Text("Consent"),
    "visible": Text("Visible to Microsoft"),
    "help": Text("Help"),
    "help_note": Text("Help Note"),
    "reason": Text("Reason"),
    "action": Text("Action"),
    "sync": Text("Sync"),
}
