"""Defaults that depend on the CRM: the names of its stages and fields, and how each field is carried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cosell_sync.core.fields import NEWER, SELLER, SHARED, STATUS_FIELDS, Kind
from cosell_sync.settings.values import ClosedReason, CrmName, FieldConflict, FieldDirection, SalesStage

STAGES: Final[Mapping[CrmName, Mapping[str, str]]] = {
    "salesforce": {
        "received": "Prospecting",
        "accepted": "Qualification",
        "won": "Closed Won",
        "lost": "Closed Lost",
        "declined": "Closed Lost",
        "expired": "Closed Lost",
    },
    "dynamics": {
        "received": "On Hold",
        "accepted": "In Progress",
        "won": "Won",
        "lost": "Canceled",
        "declined": "Canceled",
        "expired": "Canceled",
    },
}
# Dynamics keeps the sales stage in a column of its own, so its status reasons map to none.
SALES_STAGES: Final[Mapping[CrmName, Mapping[str, SalesStage]]] = {
    "salesforce": {
        "Needs Analysis": "Qualify",
        "Value Proposition": "Develop",
        "Id. Decision Makers": "Develop",
        "Perception Analysis": "Develop",
        "Proposal/Price Quote": "Propose",
        "Negotiation/Review": "Close",
    },
    "dynamics": {},
}
# What the stock dialogs say of a lost deal. Canceled says that it was given up, and not why.
REASONS: Final[Mapping[CrmName, Mapping[str, ClosedReason]]] = {
    "salesforce": {},
    "dynamics": {"Canceled": "Other", "Out-Sold": "Other vendor chosen"},
}
# Every field that has a rule, in the order in which the configuration shows them.
FIELDS: Final = (*SHARED, "stage", *SELLER, *STATUS_FIELDS)
# Fields that have a rule only where one is configured: the org has them or not.
OPTIONAL_FIELDS: Final = ("loss_reason",)
# Fields that the CRM brings itself; all others are columns that `provision` makes.
_STANDARD_NAMES: Final[Mapping[CrmName, Mapping[str, str]]] = {
    "salesforce": {
        "name": "Name",
        "value": "Amount",
        "currency": "CurrencyIsoCode",
        "close_date": "CloseDate",
        "stage": "StageName",
        "sales_stage": "StageName",
        "customer": "AccountId",
        "team": "OpportunityTeamMember",
        "contacts": "OpportunityContactRole",
        "solutions": "Cosell_Solution__c",
    },
    "dynamics": {
        "name": "name",
        "value": "estimatedvalue",
        "currency": "transactioncurrencyid",
        "close_date": "estimatedclosedate",
        "stage": "statuscode",
        "sales_stage": "salesstage",
        "customer": "parentaccountid",
        "team": "connection",
        "contacts": "parentcontactid",
        "solutions": "cosell_solution",
    },
}
# Fields kept in rows of their own, or in a column that two of them share, so that one CRM name may serve twice.
MAY_SHARE_A_NAME: Final = frozenset({"stage", "sales_stage", "customer", "team", "contacts", "solutions"})
# Fields whose two values can be joined: notes line by line, lists of people and solutions member by member.
MERGEABLE: Final = frozenset(
    name for name, kind in SHARED.items() if kind in {Kind.NOTES, Kind.MEMBERS, Kind.SOLUTIONS}
)
# What Partner Center fixes once a deal exists is as it stands there.
_PARTNER_CENTER_WINS: Final = frozenset({"currency", "customer", *NEWER, *STATUS_FIELDS})


def direction(name: str) -> FieldDirection:
    """The way in which this field travels unless it is configured."""
    return (
        "to_partner_center"
        if name in {*SELLER, *OPTIONAL_FIELDS}
        else "to_crm"
        if name in STATUS_FIELDS
        else "both"
    )


def conflict(name: str) -> FieldConflict:
    """Who wins, unless it is configured, when both sides changed this field to different values."""
    if name == "stage":
        # Two different ends are never overwritten; the lifecycle decides everything short of that.
        return "ask"
    if name in MERGEABLE:
        return "merge"
    return "partner_center" if name in _PARTNER_CENTER_WINS else "crm"


def crm_name(crm: CrmName, name: str) -> str:
    """The CRM's own name of this field.

    Salesforce ``Cosell_Help_Note__c``; Dynamics ``cosell_helpnote``: the same words in lower case, without underscores
    after the prefix.
    """
    if name in _STANDARD_NAMES[crm]:
        return _STANDARD_NAMES[crm][name]
    words = {"visible": "visible_to_microsoft"}.get(name, name)
    return f"cosell_{words.replace('_', '')}" if crm == "dynamics" else f"Cosell_{words.title()}__c"


def field_rules(crm: CrmName) -> dict[str, dict[str, str]]:
    """The default rule of every field, as it would stand under ``mapping.fields``."""
    return {
        name: {"crm": crm_name(crm, name), "direction": direction(name), "conflict": conflict(name)}
        for name in FIELDS
    }


def with_default_rules(crm: CrmName, given: Mapping[str, Any]) -> dict[str, Any]:
    """The default rules with the given ones laid over them, part by part.

    A given rule may be a plain text, the CRM's name of the field. Anything else that is no map is passed on as it is,
    so that its type is refused where all values are checked.
    """
    rules: dict[str, Any] = dict(field_rules(crm))
    for name, rule in given.items():
        parts = {"crm": rule} if isinstance(rule, str) else rule
        usual = {"direction": direction(name), "conflict": conflict(name)} if name in OPTIONAL_FIELDS else {}
        rules[name] = {**rules.get(name, usual), **parts} if isinstance(parts, Mapping) else parts
    return rules
