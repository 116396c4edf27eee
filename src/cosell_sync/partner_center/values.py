"""Single values of Partner Center's JSON, read and written, and the tables that say what its words mean. Pure.

A value that contradicts its type raises `Malformed`. An empty text reads as cleared (``None``), and .NET's year 1 as
"no date", because that is how such a write reads back.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from cosell_sync.core.deal import Value

MICROSOFT: Final = "msft"
DUNS: Final = "Duns"  # profileType of a customer's D-U-N-S number
PORTAL: Final = "https://partner.microsoft.com/dashboard/referrals/v2/deals/{engagement_id}"

# Our name → the portal's percentage. The contract has names instead (doubt D5), so both are read.
SALES_STAGES: Final[Mapping[str, str]] = MappingProxyType(
    {"Qualify": "20", "Develop": "40", "Propose": "60", "Close": "80"}
)
SALES_STAGE_OF: Final = MappingProxyType(
    {name.casefold(): name for name in SALES_STAGES}
    | {percent: name for name, percent in SALES_STAGES.items()}
)
# Our help kind → the contract's `assistanceRequestCode`.
HELP_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Workload-specific value proposition": "WorkloadSpecificValueProposition",
        "Customer technical architecture": "CustomerTechnicalArchitecture",
        "Proof of concept or demo": "ProofOfConceptOrDemo",
        "Quotes or licensing": "QuotesOrLicensing",
        "Post-sales customer success": "PostSalesCustomerSuccess",
        "General or other": "GeneralOrOther",
    }
)

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\s*", re.ASCII)
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,12}))?(?:([Zz])|([+-]\d\d:?\d\d))?"
)
# Our name → property of a person.
PERSON: Final = MappingProxyType({"first_name": "firstName", "last_name": "lastName", "phone": "phoneNumber"})
ADDRESS: Final = MappingProxyType(
    {
        "address_line1": "addressLine1",
        "address_line2": "addressLine2",
        "city": "city",
        "state": "state",
        "postal_code": "postalCode",
        "country": "country",
    }
)
_DEPTH: Final = 24  # levels of nesting that are kept
_DIGITS: Final = 30  # digits and decimal exponent of a number that is kept


@dataclass(frozen=True)
class Attribute:
    """One attribute that Partner Center asks of every deal. ``labels``: id → what people read; other ids stand for themselves."""

    type: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def label(self, id: str) -> str:  # noqa: A002 - Partner Center's word
        """What people read for this id."""
        return next((label for known, label in self.labels.items() if known.casefold() == id.casefold()), id)

    def id(self, text: str) -> str:
        """The id of what a person chose or typed: a label of the list, an id, or else the text itself."""
        wanted = text.strip().casefold()
        known = {label.casefold(): id for id, label in self.labels.items()}  # noqa: A001
        known |= {id.casefold(): id for id in self.labels}  # noqa: A001
        return known.get(wanted, text.strip())


# Our name → attribute. Only CustomerMarketplaceIntent was seen; the others are spelled likewise (doubt D3), so the file of value
# lists may say otherwise. https://learn.microsoft.com/partner-center/developer/create-a-referral
ATTRIBUTES: Final[Mapping[str, Attribute]] = MappingProxyType(
    {
        "marketplace_intent": Attribute("CustomerMarketplaceIntent"),
        "partner_role": Attribute("PartnerRole"),
        "solution_area": Attribute("SolutionArea"),
        "solution_play": Attribute("SolutionPlay"),
    }
)


@dataclass(frozen=True)
class WireOptions:
    """What Microsoft's pages leave open, as switches. D1 to D6 are numbers of open questions."""

    sales_stage: str = "percent"  # or "name" (D5); "auto": see ``sales_stage_form``
    write_name: bool = False  # D6
    write_favorite: bool = False  # D6
    recipe: str = "two_posts"  # or "one_post" (D1)
    link: str = PORTAL  # the portal's address of a deal; documented nowhere, so configurable
    marketplace_intent: str = "HaveNotDecided"
    qualification: str = "SalesQualified"  # D2
    close_date_zone: tzinfo = UTC  # in which a close date is a day
    publishers: tuple[
        str, ...
    ] = ()  # names under which our solutions are published, beside the organization's
    # More attributes of new deals, type → id (D3); of those that sellers choose, what goes where they chose nothing.
    attributes: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Attribute] = field(default_factory=lambda: ATTRIBUTES)
    location: str | None = None  # MPN id of the location of new deals whose seller gives none


class Malformed(Exception):
    """A property that cannot be understood; the text names it, never its content."""


def folded(value: Value) -> str:
    """A text for comparison without case; empty for anything that is not a text."""
    return value.casefold() if isinstance(value, str) else ""


# --- reading -------------------------------------------------------------------------------------------------


def optional_text(row: Mapping[str, Any], name: str) -> str | None:
    """A text property; None where it is missing, null or empty. Raises `Malformed` for any other type."""
    raw = row.get(name)
    if raw is None:
        return None
    try:
        return text(raw)
    except Malformed as cause:
        raise Malformed(f"has a {name} that {cause}") from None


def unknown_properties(row: Mapping[str, Any], known: Container[str]) -> dict[str, object]:
    """The properties that are neither known nor null, in storable form."""
    return {
        name: clean(value) if type(value) is str else storable(value)
        for name, value in row.items()
        if value is not None and name not in known
    }


def storable(value: Any, depth: int = 0) -> Any:
    """Data of unknown shape in a form that any JSON store keeps. Numbers are exact as far as a double is.

    Raises `Malformed` for what is nested too deeply or out of bounds.
    """
    if depth > _DEPTH:
        raise Malformed("is nested too deeply")
    match value:
        case bool() | None | int():
            return value
        case str():
            return clean(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            if not _bounded(value):
                raise Malformed("holds a number out of bounds")
            return int(value) if value == value.to_integral_value() else float(value)
        case list():
            return [storable(item, depth + 1) for item in value]
        case Mapping():
            return {clean(str(name)): storable(item, depth + 1) for name, item in value.items()}
        case _:
            raise Malformed("holds something unknown")


def clean(text: str) -> str:
    """A text without what databases refuse: NUL and lone surrogates."""
    if text.isprintable() or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def text(raw: Any) -> str | None:
    """The text; None where it is empty."""
    if not isinstance(raw, str):
        raise Malformed("is no text")
    return clean(raw) or None


def currency(raw: Any) -> str | None:
    """A currency's code in capitals, as ISO 4217 and both CRMs write it; any other text as it stands, None for blank."""
    found = (text(raw) or "").strip()
    return (found.upper() if len(found) == 3 and found.isascii() and found.isalpha() else found) or None


def flag(raw: Any) -> bool:
    """True or false, never a guess from another type."""
    if not isinstance(raw, bool):
        raise Malformed("is neither true nor false")
    return raw


def _bounded(number: Decimal) -> bool:
    if not number.is_finite():
        return False
    exponent = number.as_tuple().exponent
    return abs(number.adjusted()) <= _DIGITS and isinstance(exponent, int) and abs(exponent) <= _DIGITS


def number(raw: Any) -> Decimal:
    """An exact number, also from a text: Microsoft's samples give the value as ``"10000"``."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, Decimal, str)):
        raise Malformed("is no number")
    written = str(raw)
    if len(written) > 80 or not _NUMBER.fullmatch(written):
        raise Malformed("is no number")
    found = Decimal(written)
    if not _bounded(found):
        raise Malformed("is a number out of bounds")
    return found


def moment(raw: Any) -> datetime | None:
    """A date and time in UTC; None for year 1. The service sends up to seven fractional digits, Python keeps six."""
    found = _MOMENT.fullmatch(raw.strip()) if isinstance(raw, str) and raw.isascii() else None
    if found is None:
        raise Malformed("is no date")
    on, clock, fraction, _, offset = found.groups()
    try:
        at = datetime.fromisoformat(f"{on}T{clock}{offset or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed("is no date") from None
    if at.year == 1:
        return None
    return at.replace(microsecond=int((fraction or "").ljust(6, "0")[:6]))


def day(raw: Any, zone: tzinfo = UTC) -> date | None:
    """The day in that zone of a date and time; None for year 1."""
    at = moment(raw)
    try:
        return at.astimezone(zone).date() if at else None
    except OverflowError:
        raise Malformed("is no date") from None


# --- writing -------------------------------------------------------------------------------------------------


def midnight(day: date, zone: tzinfo = UTC) -> str:
    """A close date as it is written, the inverse of ``day``: the start of that day in the zone, in UTC.

    A portal in another zone may show its neighbour. Where the clocks skip midnight it is the first moment after.
    """
    try:
        return timestamp(datetime.combine(day, time(), zone))
    except OverflowError:  # the first or the last day that there is
        return timestamp(datetime.combine(day, time(), UTC))


def timestamp(at: datetime) -> str:
    """UTC, in whole seconds, with ``Z``."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def sales_stage_code(name: str, wire: WireOptions) -> str:
    """The sales stage as ``wire.sales_stage`` says. Raises ValueError for none of the four."""
    if name not in SALES_STAGES:
        raise ValueError("no such sales stage in Partner Center")
    return name if wire.sales_stage == "name" else SALES_STAGES[name]


def sales_stage_form(row: Any) -> str | None:
    """In which form a referral carries its sales stage, ``percent`` or ``name``; None where it has none of the four."""
    raw = row.get("salesStage") if isinstance(row, Mapping) else None
    written = str(raw).strip().rstrip("%").casefold() if isinstance(raw, (str, int, Decimal)) else ""
    if written not in SALES_STAGE_OF:
        return None
    return "percent" if written.isdigit() else "name"


def tenant_of(token: str) -> str:
    """The tenant (``tid``) that an access token was made for; empty where it is not one that can be read."""
    tenant = _claims(token).get("tid")
    return tenant.lower() if isinstance(tenant, str) else ""


def made_with_mfa(token: str) -> bool | None:
    """Whether the user passed MFA for this access token (``mfa`` in ``amr``); None where the token does not say.

    Tokens of version 1.0, as Partner Center's are, name every method in ``amr``; those of version 2.0 need not have it
    (learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
    """
    claims = _claims(token)
    methods = claims.get("amr", [] if claims.get("ver") == "1.0" else None)
    return "mfa" in methods if isinstance(methods, list) else None


def _claims(token: str) -> Mapping[str, Any]:
    """What an access token says of itself; nothing where it cannot be read.

    The signature is not verified: this tells one account from another, it opens nothing.
    """
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
