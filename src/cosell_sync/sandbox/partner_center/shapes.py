"""The shape of each property that a client may send: one check per property, which returns what is wrong or None."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cosell_sync.sandbox.partner_center.query import ENUMS, is_date_time

VISIBLE = "consentToShareReferralWithMicrosoftSellers"


def number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    return "must not be negative" if value < 0 else None


def text(value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else "must be a string"


def boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be a boolean"


def date_time(value: Any) -> str | None:
    return None if is_date_time(value) else "must be an ISO 8601 date-time with its zone"


def currency(value: Any) -> str | None:
    return (
        None
        if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value)
        else "must be a currency code of three letters"
    )


def country(value: Any) -> str | None:
    return (
        None
        if isinstance(value, str) and re.fullmatch(r"[A-Z]{2}", value)
        else "must be a country code of two letters"
    )


def one_of(name: str) -> Callable[[Any], str | None]:
    """A check of an enumeration."""
    return lambda value: None if value in ENUMS[name] else f"is no value of {name}"


def member(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    for name in ("firstName", "lastName", "email", "phoneNumber", "title"):
        if text(value.get(name)):
            return f"has a {name} that is no string"
    email = value.get("email")
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
        return "has an e-mail address that is none"
    return None


def solution(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    if not isinstance(value.get("id"), str) or not value["id"]:
        return "needs an id"
    for name in ("name", "publisherName", "solutionType", "currency"):
        if text(value.get(name)):
            return f"has a {name} that is no string"
    if value.get("type", "Name") not in {"None", "Category", "Name"}:
        return "has a type that is none of None, Category, Name"
    return number(value["price"]) if value.get("price") is not None else None


def many(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """A check of a list of at most fifty entries."""

    def check_all(value: Any) -> str | None:
        if not isinstance(value, list):
            return "must be an array"
        if len(value) > 50:
            return "must not have more than 50 entries"
        return next((fault for fault in map(check, value) if fault), None)

    return check_all


SHAPES: Mapping[str, Callable[[Any], str | None]] = {
    "campaignId": text,
    "consent/" + VISIBLE: boolean,
    "customerProfile/team": many(member),
    "details/closingDateTime": date_time,
    "details/currency": currency,
    "details/dealValue": number,
    "details/notes": text,
    "details/requirements/solutions": many(solution),
    "externalReferenceId": text,
    "referralProgram": text,
    "salesStage": text,
    "status": one_of("status"),
    "substatus": one_of("substatus"),
    "statusReason": text,
    "team": many(member),
    "name": text,
    "favorite": boolean,
}

# Shapes of a create beyond those of a patch.
CREATE_SHAPES: Mapping[str, Callable[[Any], str | None]] = {
    **SHAPES,
    "type": one_of("type"),
    "qualification": one_of("qualification"),
    "customerProfile/name": text,
    "customerProfile/address/country": country,
    "consent/consentToToShareInfoWithOthers": boolean,
    "consent/consentToContact": boolean,
    "consent/consentToMicrosoftToContactSpecificPartners": boolean,
    "mpnId": text,
}
