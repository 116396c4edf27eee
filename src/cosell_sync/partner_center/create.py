"""The bodies of the two POSTs that make a referral and invite Microsoft. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from cosell_sync.core import duns
from cosell_sync.core.deal import ABSENT, Customer, DealType, Fields, Solution, Value
from cosell_sync.partner_center.members import write_list
from cosell_sync.partner_center.values import (
    ADDRESS,
    DUNS,
    HELP_CODES,
    MICROSOFT,
    WireOptions,
    midnight,
    sales_stage_code,
)
from cosell_sync.ports import ReferralDraft


def body(draft: ReferralDraft, wire: WireOptions) -> dict[str, Any]:
    """The body of a POST. Raises ValueError for an invitation without a kind of help.

    https://learn.microsoft.com/partner-center/developer/create-a-referral

    Without an engagement: the deal itself. With one: the connected referral that invites Microsoft, the second of the
    two posts. ``wire.recipe`` ``one_post`` puts the invitation into the first (doubt D1).
    """
    fields = draft.fields
    kind = _draft_type(fields)
    invites = draft.engagement_id is not None or (kind is DealType.COSELL and wire.recipe == "one_post")
    solutions = write_list(_known(fields, "solutions"), ())
    customer = fields.get("customer")
    consent = fields.get("consent") is True
    made: dict[str, Any] = {
        **({"engagementId": draft.engagement_id} if draft.engagement_id else {}),
        "name": _known(fields, "name") or "",
        "externalReferenceId": draft.external_reference,
        "type": "Shared" if kind is DealType.COSELL or invites else "Independent",
        "qualification": wire.qualification,
        "customerProfile": {
            **_customer_body(customer if isinstance(customer, Customer) else Customer()),
            "team": write_list(_known(fields, "contacts"), ()),
        },
        "consent": {
            "consentToToShareInfoWithOthers": consent,  # the doubled "To" is the real name
            "consentToContact": consent,
            "consentToShareReferralWithMicrosoftSellers": kind is not DealType.PRIVATE,
        },
        "details": {
            **_details(fields, wire),
            "requirements": {
                "solutions": solutions,
                "additionalRequirements": {
                    "attributes": [{"type": name, "id": id} for name, id in _attributes(fields, wire)]  # noqa: A001
                },
            },
        },
        "team": write_list(_known(fields, "team"), ()),
        "target": _target(kind, invites, _known(fields, "solutions")),
    }
    if (campaign := _known(fields, "campaign_id")) is not None:
        made["campaignId"] = campaign
    if isinstance(stage := _known(fields, "sales_stage"), str):
        made["salesStage"] = sales_stage_code(stage, wire)
    location = _known(fields, "location") or wire.location
    if location and draft.engagement_id is None:  # the invited organization's row is not of our location
        made["mpnId"] = location
    if invites:
        made["inviteContext"] = _invitation(fields)
    return made


def _attributes(fields: Fields, wire: WireOptions) -> Iterable[tuple[str, str]]:
    """Type and id of each attribute: what the seller chose, else what is configured."""
    sent = {wire.asked["marketplace_intent"].type: wire.marketplace_intent, **wire.attributes}
    for name, attribute in wire.asked.items():
        if isinstance(chosen := _known(fields, name), str) and chosen.strip():
            sent[attribute.type] = attribute.id(chosen)
    return sent.items()


def _known(fields: Fields, name: str) -> Value:
    value = fields.get(name, ABSENT)
    return None if value is ABSENT else value


def _draft_type(fields: Fields) -> DealType:
    given = fields.get("deal_type")
    if isinstance(given, str) and given in set(DealType):
        return DealType(given)
    if isinstance(fields.get("help"), str):
        return DealType.COSELL
    return DealType.PARTNER_LED if fields.get("visible") is True else DealType.PRIVATE


def _customer_body(customer: Customer) -> dict[str, Any]:
    address = {theirs: getattr(customer, ours) for ours, theirs in ADDRESS.items()}
    number = duns.normalized(customer.duns)
    return {
        "name": customer.name or "",
        "address": {name: text for name, text in address.items() if text is not None},
        **({"ids": [{"profileType": DUNS, "id": number}]} if number else {}),
    }


def _details(fields: Fields, wire: WireOptions) -> dict[str, Any]:
    close = _known(fields, "close_date")
    known = {
        "dealValue": _known(fields, "value"),
        "currency": _known(fields, "currency"),
        "closingDateTime": midnight(close, wire.close_date_zone) if isinstance(close, date) else None,
    }
    notes = _known(fields, "notes")
    return {**{name: value for name, value in known.items() if value is not None}, "notes": notes or ""}


def _target(kind: DealType, invites: bool, solutions: Value) -> list[dict[str, str]]:
    if invites:
        return [{"type": "BusinessProfileLocation", "id": MICROSOFT}]
    if kind is not DealType.COSELL or not isinstance(solutions, tuple):
        return []
    own = (item.id for item in solutions if isinstance(item, Solution) and _is_ours(item))
    return [{"type": "SolutionProfile", "id": id} for id in own]  # noqa: A001 - the domain's word


def _is_ours(solution: Solution) -> bool:
    """Whether we published it; where the type is not told, a partner's solution (``SOL-…``) is taken for ours."""
    return solution.type == "Own" if solution.type else solution.id.upper().startswith("SOL-")


def _invitation(fields: Fields) -> dict[str, Any]:
    help_kind = fields.get("help")
    code = HELP_CODES.get(help_kind) if isinstance(help_kind, str) else None
    if code is None:
        raise ValueError("Microsoft cannot be invited without saying for which help")
    note = _known(fields, "help_note")
    return {"assistanceRequestCode": code, **({"notes": note} if note else {})}
