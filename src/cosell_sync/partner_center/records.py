"""Partner Center's JSON ⇄ the domain. Pure.

Why it is lenient: the referral resource is documented in parts, older and newer pages disagree, and live answers hold
more than either (learn.microsoft.com/partner-center/developer/referral-resources). So unknown properties of members
and solutions travel along in ``extra``, unknown statuses become ``UNKNOWN``, a property that is missing is ``ABSENT``
and one that is null is ``None``. What contradicts its type makes a ``problem`` of its own record and leaves the rest
of the page alone.

Choices that the page leaves open:

- An empty text reads as cleared (``None``), a null array as empty: that is how such a write reads back.
- .NET's year 1 stands for "no date".
- A member without an e-mail address and a solution without an id have no key. They ride along in the ``extra`` of
  their first keyed neighbour, so that replacing the whole array does not drop them; where there is no such neighbour
  the field is read-only.
- A sales stage that is none of the four makes no claim (``ABSENT``), nor does null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from cosell_sync.core.deal import (
    ABSENT,
    Customer,
    DealType,
    Direction,
    Fields,
    Member,
    Snapshot,
    Solution,
    State,
    Value,
)
from cosell_sync.ports import ReferralDraft, Step

MICROSOFT: Final = "msft"
PORTAL: Final = "https://partner.microsoft.com/dashboard/referrals/v2/deals/{engagement_id}"

# Answered within this, or expired (learn.microsoft.com/partner-center/manage-co-sell-opportunities).
ANSWER_WITHIN: Final = timedelta(days=14)

STATES: Final[Mapping[tuple[str, str], State]] = MappingProxyType(
    {
        ("new", "pending"): State.RECEIVED,
        ("new", "received"): State.RECEIVED,
        ("active", "accepted"): State.ACCEPTED,
        ("closed", "won"): State.WON,
        ("closed", "lost"): State.LOST,
        ("closed", "declined"): State.DECLINED,
        ("closed", "expired"): State.EXPIRED,
    }
)
# What we may ask for; the service alone expires a referral.
MOVES: Final[Mapping[State, tuple[str, str]]] = MappingProxyType(
    {
        State.ACCEPTED: ("Active", "Accepted"),
        State.WON: ("Closed", "Won"),
        State.LOST: ("Closed", "Lost"),
        State.DECLINED: ("Closed", "Declined"),
    }
)
# Portal percentages, contract names (doubt D5: sources disagree, so both are read).
SALES_STAGES: Final[Mapping[str, str]] = MappingProxyType(
    {"Qualify": "20", "Develop": "40", "Propose": "60", "Close": "80"}
)
_STAGE_OF: Final = MappingProxyType(
    {name.casefold(): name for name in SALES_STAGES}
    | {percent: name for name, percent in SALES_STAGES.items()}
)
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

# What PATCH may touch, by the connector's contract; name and favorite are not in it (doubt D6).
PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "value": "/details/dealValue",
        "currency": "/details/currency",
        "close_date": "/details/closingDateTime",
        "sales_stage": "/salesStage",
        "campaign_id": "/campaignId",
        "notes": "/details/notes",
        "team": "/team",
        "contacts": "/customerProfile/team",
        "solutions": "/details/requirements/solutions",
        "external_reference": "/externalReferenceId",
        "status_reason": "/statusReason",
        "visible": "/consent/consentToShareReferralWithMicrosoftSellers",
    }
)

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,12}))?(?:([Zz])|([+-]\d\d:?\d\d))?"
)
_PERSON: Final = MappingProxyType(
    {"first_name": "firstName", "last_name": "lastName", "phone": "phoneNumber"}
)
_ADDRESS: Final = MappingProxyType(
    {
        "address_line1": "addressLine1",
        "address_line2": "addressLine2",
        "city": "city",
        "state": "state",
        "postal_code": "postalCode",
        "country": "country",
    }
)
_UNKEYED: Final = "~unkeyed"  # neighbours without a key, see above
_DEPTH: Final = 24
_DIGITS: Final = 30


@dataclass(frozen=True)
class Wire:
    """What the vendor's pages leave open, as switches."""

    sales_stage: str = "percent"  # or "name" (D5)
    write_name: bool = False  # D6
    write_favorite: bool = False  # D6
    recipe: str = "two_posts"  # or "one_post" (D1)
    link: str = PORTAL  # the portal's address of a deal; documented nowhere, so configurable
    marketplace_intent: str = "HaveNotDecided"
    qualification: str = "SalesQualified"  # D2
    # More attributes of new deals, type → id (D3).
    attributes: Mapping[str, str] = field(default_factory=dict)


class _Odd(Exception):
    """A property that cannot be understood; the text names it, never its content."""


# --- reading ----------------------------------------------------------------------------------------------------


def snapshot(document: object, wire: Wire, *, own: frozenset[str] = frozenset()) -> Snapshot | None:
    """A referral as read; None where the document has no id, so that nothing can be said of it.

    ``own``: ids of our organization, where known. Never raises.
    """
    if not isinstance(document, Mapping):
        return None
    id = document.get("id")  # noqa: A001 - the domain's word
    if not isinstance(id, str) or not ID.fullmatch(id):
        return None
    reader = _Reader(document)
    fields = _fields(reader, id, wire, own)
    version = reader.version()
    if reader.odd:
        fields["problem"] = "This referral cannot be understood: " + "; ".join(reader.odd[:5])
    return Snapshot(
        id=id,
        version=version,
        fields={name: value for name, value in fields.items() if value is not ABSENT},
        readonly=frozenset(reader.readonly),
    )


def _fields(read: _Reader, id: str, wire: Wire, own: frozenset[str]) -> dict[str, Value]:  # noqa: A002
    status, substatus = read.text("status"), read.text("substatus")
    state = STATES.get((_fold(status), _fold(substatus)), State.UNKNOWN)
    created = read.moment("createdDateTime")
    engagement, organization = read.text("engagementId"), read.text("organizationId")
    inviter = read.text("inviteContext", "invitedBy", "organizationId")
    visible = read.flag("consent", "consentToShareReferralWithMicrosoftSellers")
    help_code = read.text("inviteContext", "assistanceRequestCode")
    if _fold(help_code) in {"", "unknown"}:
        help_code = ABSENT if help_code is ABSENT else None
    category = _category(read, organization, inviter, own)
    fresh = _fold(status) == "new"
    return {
        "name": read.text("name"),
        "value": read.number("details", "dealValue"),
        "currency": read.text("details", "currency"),
        "close_date": read.day("details", "closingDateTime"),
        "sales_stage": read.sales_stage(),
        "campaign_id": read.text("campaignId"),
        "notes": read.text("details", "notes"),
        "favorite": read.flag("favorite"),
        "customer": read.customer(),
        "team": read.members("team", "team"),
        "contacts": read.members("contacts", "customerProfile", "team"),
        "solutions": read.solutions(),
        "state": state,
        "status_text": " / ".join(part for part in (status, substatus) if isinstance(part, str)),
        "status_reason": read.text("statusReason"),
        "category": category,
        "deal_type": _deal_type(category, read, visible, help_code),
        "direction": _direction(read, category, organization, inviter, fresh=fresh),
        "respond_by": _respond_by(read.moment("expirationDateTime"), created) if fresh else None,
        "visible": visible,
        "engagement_id": engagement,
        "external_reference": read.text("externalReferenceId"),
        "microsoft_id": read.text("trackingInfo", "microsoftMsxId"),
        "created_at": created,
        "updated_at": read.moment("updatedDateTime"),
        "closed_at": read.moment("closedDateTime"),
        "help_code": help_code,
        "registration_status": read.text("registrationStatus"),
        "organization": _other(read, organization) if category == "foreign" else ABSENT,
        "referral_link": _link(wire.link, id, engagement),
    }


def _fold(value: Value) -> str:
    return value.casefold() if isinstance(value, str) else ""


def _is_foreign(organization: str, name: str, own: frozenset[str]) -> bool:
    if organization == MICROSOFT or name == "microsoft":
        return True
    return bool(own and organization and organization not in {item.casefold() for item in own})


def _other(read: _Reader, organization: Value) -> Value:
    named = _fold(read.text("organizationName")) == "microsoft"
    return "Microsoft" if named or _fold(organization) == MICROSOFT else organization


def _category(read: _Reader, organization: Value, inviter: Value, own: frozenset[str]) -> str:
    """By the table of learn.microsoft.com/partner-center/developer/referrals-api-introduction.

    A Shared deal to which Microsoft invites us stands in no row of it; it is a co-sell deal, so Shared is asked first.
    What fits no row at all is shown rather than skipped.
    """
    if _is_foreign(_fold(organization), _fold(read.text("organizationName")), own):
        return "foreign"
    if _fold(read.text("type")) == "shared":
        return "cosell"
    qualification, by = _fold(read.text("qualification")), _fold(inviter)
    if qualification == "direct" and by in {"", MICROSOFT}:
        return "lead"
    if qualification in {"salesqualified", "marketingqualified"} and by == MICROSOFT:
        return "lead"
    return "cosell"


def _deal_type(category: str, read: _Reader, visible: Value, help_code: Value) -> DealType:
    if category == "lead":
        return DealType.LEAD
    if _fold(read.text("type")) == "shared" or isinstance(help_code, str):
        return DealType.COSELL
    return DealType.PARTNER_LED if visible is True else DealType.PRIVATE


def _direction(read: _Reader, category: str, organization: Value, inviter: Value, *, fresh: bool) -> Value:
    """Who started the deal. ``direction`` alone misleads: live records say Incoming though the inviter is ourselves."""
    said = _fold(read.text("direction"))
    by, us = _fold(inviter), _fold(organization)
    if category == "lead" or (fresh and said != "outgoing"):
        return Direction.INBOUND  # our own deals start accepted, so a new one waits for our answer
    if by:
        return Direction.OUTBOUND if by == us else Direction.INBOUND
    if said in {"incoming", "outgoing"}:
        return Direction.INBOUND if said == "incoming" else Direction.OUTBOUND
    created = read.moment("createdDateTime")
    if isinstance(created, datetime) and created == read.moment("acceptedDateTime"):
        return Direction.OUTBOUND  # "for outgoing deals equals creation"
    return ABSENT


def _respond_by(expires: Value, created: Value) -> Value:
    if isinstance(expires, datetime):
        return expires
    if not isinstance(created, datetime):
        return ABSENT
    try:
        return created + ANSWER_WITHIN
    except OverflowError:
        return ABSENT


def _link(pattern: str, id: str, engagement: Value) -> str:  # noqa: A002
    known = isinstance(engagement, str) and ID.fullmatch(engagement) is not None
    return pattern.replace("{engagement_id}", str(engagement) if known else id).replace("{referral_id}", id)


class _Reader:
    """Reads one document property by property, noting what is odd."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.odd: list[str] = []
        self.readonly: set[str] = set()

    def _raw(self, *path: str) -> Any:
        node: Any = self._document
        for depth, name in enumerate(path):
            if node is None:
                return ABSENT
            if not isinstance(node, Mapping):
                self._note(_Odd(f"{'.'.join(path[:depth])} is no object"))
                return ABSENT
            node = node.get(name, ABSENT)
            if node is ABSENT:
                return ABSENT
        return node

    def _note(self, odd: _Odd) -> None:
        if str(odd) not in self.odd:
            self.odd.append(str(odd))

    def _take(self, path: tuple[str, ...], translate: Callable[[Any], Value]) -> Value:
        raw = self._raw(*path)
        if raw is ABSENT or raw is None:
            return ABSENT if raw is ABSENT else None
        try:
            return translate(raw)
        except _Odd as odd:
            self._note(_Odd(f"{'.'.join(path)} {odd}"))
            return ABSENT

    def version(self) -> str:
        """The eTag as it is, quotes and all: it goes back byte for byte in If-Match."""
        tag = self._document.get("eTag")
        if isinstance(tag, str) and tag and tag == tag.strip() and tag.isascii() and tag.isprintable():
            return tag
        self._note(_Odd("eTag is missing or malformed"))
        return ""

    def text(self, *path: str) -> Value:
        return self._take(path, _text)

    def number(self, *path: str) -> Value:
        return self._take(path, _number)

    def flag(self, *path: str) -> Value:
        return self._take(path, _flag)

    def moment(self, *path: str) -> Value:
        return self._take(path, _moment)

    def day(self, *path: str) -> Value:
        return self._take(path, _day)

    def sales_stage(self) -> Value:
        raw = self._raw("salesStage")
        if isinstance(raw, bool) or not isinstance(raw, (str, int, Decimal)):
            return ABSENT
        return _STAGE_OF.get(str(raw).strip().rstrip("%").casefold(), ABSENT)

    def customer(self) -> Value:
        return self._take(("customerProfile",), _customer)

    def members(self, field: str, *path: str) -> Value:
        return self._keyed(field, path, _member)

    def solutions(self) -> Value:
        return self._keyed("solutions", ("details", "requirements", "solutions"), _solution)

    def _keyed(
        self,
        field: str,
        path: tuple[str, ...],
        translate: Callable[[Mapping[str, Any]], Member | Solution | None],
    ) -> Value:
        def gather(raw: Any) -> Value:
            keyed, unkeyed = _gather(raw, translate)
            if unkeyed and not keyed:
                self.readonly.add(field)
            return keyed  # type: ignore[return-value]  # all of one kind: translate makes them

        value = self._take(path, gather)
        return () if value is None else value


def _gather(
    raw: Any, translate: Callable[[Mapping[str, Any]], Member | Solution | None]
) -> tuple[tuple[Member | Solution, ...], list[Any]]:
    if not isinstance(raw, list):
        raise _Odd("is no list")
    keyed: dict[str, Member | Solution] = {}
    unkeyed: list[Any] = []
    for row in raw:
        if not isinstance(row, Mapping):
            raise _Odd("holds something that is no object")
        item = translate(row)
        if item is None or item.key in keyed:
            unkeyed.append(_jsonable(row))
        else:
            keyed[item.key] = item
    items = list(keyed.values())
    if items and unkeyed:
        first = items[0]
        items[0] = _with_extra(first, {**first.extra, _UNKEYED: unkeyed})
    return tuple(items), unkeyed


def _with_extra(item: Member | Solution, extra: Mapping[str, object]) -> Member | Solution:
    if isinstance(item, Member):
        return Member(item.email, item.first_name, item.last_name, item.phone, extra)
    return Solution(item.id, item.name, item.type, extra)


def _member(row: Mapping[str, Any]) -> Member | None:
    email = _optional(row, "email")
    if not email:
        return None
    person = {ours: _optional(row, theirs) for ours, theirs in _PERSON.items()}
    extra = _rest(row, _PERSON.values())
    if row["email"] == email.strip().lower():
        extra.pop("email", None)
    return Member(email=email.strip().lower(), **person, extra=extra)


def _solution(row: Mapping[str, Any]) -> Solution | None:
    id = _optional(row, "id")  # noqa: A001 - the domain's word
    if not id:
        return None
    kind = _fold(_optional(row, "solutionType"))
    extra = _rest(row, ("id", "name"))
    return Solution(id=id, name=_optional(row, "name"), type=_solution_type(id, kind), extra=extra)


def _solution_type(id: str, kind: str) -> str | None:  # noqa: A002
    """``SOL-…`` is a partner's own, a GUID Microsoft's; ``1P`` for Microsoft's is a guess."""
    if kind == "1p" or _GUID.fullmatch(id):
        return "Microsoft"
    if id.upper().startswith("SOL-"):
        return "Own"
    return "Third party" if kind == "3p" else None


def _customer(raw: Any) -> Customer:
    if not isinstance(raw, Mapping):
        raise _Odd("is no object")
    address = raw.get("address")
    if address is None:
        address = {}
    if not isinstance(address, Mapping):
        raise _Odd("has an address that is no object")
    parts = {ours: _optional(address, theirs) for ours, theirs in _ADDRESS.items()}
    extra = _rest(raw, ("name", "address", "team"))
    if rest := _rest(address, _ADDRESS.values()):
        extra["address"] = rest
    return Customer(name=_optional(raw, "name"), **parts, extra=extra)


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    raw = row.get(name)
    if raw is None:
        return None
    try:
        return _text(raw)
    except _Odd as odd:
        raise _Odd(f"has a {name} that {odd}") from None


def _rest(row: Mapping[str, Any], known: Iterable[str]) -> dict[str, object]:
    skip = set(known)
    return {name: _jsonable(value) for name, value in row.items() if name not in skip and value is not None}


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Foreign data in a form that any JSON store holds: exact where a double can be."""
    if depth > _DEPTH:
        raise _Odd("is nested too deeply")
    match value:
        case bool() | None | int():
            return value
        case str():
            return _clean(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            if not _sane(value):
                raise _Odd("holds a number out of bounds")
            return int(value) if value == value.to_integral_value() else float(value)
        case list():
            return [_jsonable(item, depth + 1) for item in value]
        case Mapping():
            return {_clean(str(name)): _jsonable(item, depth + 1) for name, item in value.items()}
        case _:
            raise _Odd("holds something unknown")


def _clean(text: str) -> str:
    """Without what no database takes: NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(raw: Any) -> str | None:
    if not isinstance(raw, str):
        raise _Odd("is no text")
    return _clean(raw) or None


def _flag(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise _Odd("is neither true nor false")
    return raw


def _sane(number: Decimal) -> bool:
    if not number.is_finite():
        return False
    exponent = number.as_tuple().exponent
    return abs(number.adjusted()) <= _DIGITS and isinstance(exponent, int) and abs(exponent) <= _DIGITS


def _number(raw: Any) -> Decimal:
    """Texts too: Microsoft's own samples hold the value as ``"10000"``."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, Decimal, str)):
        raise _Odd("is no number")
    text = str(raw)
    if len(text) > 80 or not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\s*", text, re.ASCII):
        raise _Odd("is no number")
    number = Decimal(text)
    if not _sane(number):
        raise _Odd("is a number out of bounds")
    return number


def _moment(raw: Any) -> datetime | None:
    """UTC; up to seven fractional digits arrive, Python holds six."""
    found = _MOMENT.fullmatch(raw.strip()) if isinstance(raw, str) and raw.isascii() else None
    if found is None:
        raise _Odd("is no date")
    day, clock, fraction, _, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{offset or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Odd("is no date") from None
    if moment.year == 1:
        return None
    return moment.replace(microsecond=int((fraction or "").ljust(6, "0")[:6]))


def _day(raw: Any) -> date | None:
    moment = _moment(raw)
    return moment.date() if moment else None


# --- writing ----------------------------------------------------------------------------------------------------


def midnight(day: date) -> str:
    """How a close date is written. Portals in other zones show a day more or less; the UTC day is ours."""
    return f"{day.isoformat()}T00:00:00Z"


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def patch(before: Snapshot, step: Step, wire: Wire) -> list[dict[str, Any]]:
    """The JSON Patch document of one step; empty where the referral holds all of it already.

    Only ``replace`` and ``add``, only permitted paths (the connector's contract; the page
    learn.microsoft.com/partner-center/developer/patch-a-referral lists fewer). ``add`` where nothing is known to be
    there. Raises ValueError for what may not be written: whoever asks for that has a bug.
    """
    fields = [
        operation
        for name, value in step.fields.items()
        if (operation := _operation(before, name, value, wire)) is not None
    ]
    if step.state is None:
        return fields
    if step.state not in MOVES:
        raise ValueError(f"a referral cannot be moved to {step.state}")
    status, substatus = MOVES[step.state]
    move = [
        {"op": "replace", "path": "/status", "value": status},
        {"op": "replace", "path": "/substatus", "value": substatus},
    ]
    # Nothing of a closed referral may change, so the closing comes last; an accept opens it for the rest.
    return move + fields if step.state is State.ACCEPTED else fields + move


def _operation(before: Snapshot, name: str, value: Value, wire: Wire) -> dict[str, Any] | None:
    path = PATHS.get(name)
    if name == "name" and wire.write_name:
        path = "/name"
    elif name == "favorite" and wire.write_favorite:
        path = "/favorite"
    if path is None or value is ABSENT:
        raise ValueError(f"{name} cannot be written to a referral")
    held = before[name]
    if name == "close_date" and held == value:
        return None  # the same day: whoever set the time of day keeps it
    operation = "add" if held is ABSENT else "replace"
    return {"op": operation, "path": path, "value": _wire_value(name, value, held, wire)}


def _wire_value(name: str, value: Value, held: Value, wire: Wire) -> Any:
    if name == "visible" and value is not True:
        raise ValueError("visibility cannot be withdrawn")
    if name in {"team", "contacts", "solutions"}:
        return _array(value, held)
    match value:
        case None | bool() | Decimal():
            return value
        case datetime():
            return stamp(value)
        case date():
            return midnight(value)
        case str():
            return _stage(value, wire) if name == "sales_stage" else str(value)
        case _:
            raise ValueError(f"{name} cannot be written to a referral")


def _stage(name: str, wire: Wire) -> str:
    if name not in SALES_STAGES:
        raise ValueError("no such sales stage in Partner Center")
    return name if wire.sales_stage == "name" else SALES_STAGES[name]


def _array(value: Value, held: Value) -> list[dict[str, Any]]:
    """The whole array anew, each member with the properties that we do not know, from where we last saw them."""
    if value is None:
        value = ()
    if not isinstance(value, tuple):
        raise ValueError("a list is wanted")  # noqa: TRY004 - a bug of the caller like the others here
    before = {item.key: item for item in held} if isinstance(held, tuple) else {}
    rows = [_row(item, before.get(item.key)) for item in value]
    kept = {item.key for item in value}
    unkeyed = [row for item in before.values() for row in _unkeyed(item)]
    # A second row of somebody who is to go goes as well, or they would be back at the next look.
    return rows + [row for row in unkeyed if (key := _key_of(row)) is None or key in kept]


def _key_of(row: Mapping[str, Any]) -> str | None:
    email, id = row.get("email"), row.get("id")  # noqa: A001 - the domain's word
    if isinstance(email, str) and email.strip():
        return email.strip().lower()
    return id if isinstance(id, str) and id else None


def _unkeyed(item: Member | Solution) -> list[dict[str, Any]]:
    rows = item.extra.get(_UNKEYED)
    return [dict(row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _row(item: Member | Solution, before: Member | Solution | None) -> dict[str, Any]:
    # Only what Partner Center itself said: the CRM's extras (row ids) are none of its business.
    extra = {name: data for name, data in (before.extra if before else {}).items() if name != _UNKEYED}
    if isinstance(item, Member):
        email = extra.pop("email", None)
        names = {theirs: getattr(item, ours) for ours, theirs in _PERSON.items()}
        known = {name: text for name, text in names.items() if text is not None}
        return {**known, "email": email or item.email, **extra}
    name = {"name": item.name} if item.name is not None else {}
    return {"id": item.id, **name, "type": "Name", **extra}


# --- creating ---------------------------------------------------------------------------------------------------


def draft(new: ReferralDraft, wire: Wire) -> dict[str, Any]:
    """The body of a POST (learn.microsoft.com/partner-center/developer/create-a-referral).

    Without an engagement: the deal itself. With one: the connected referral that invites Microsoft, the second of the
    two posts. ``wire.recipe`` ``one_post`` puts the invitation into the first (doubt D1).
    """
    fields = new.fields
    kind = _draft_type(fields)
    invites = new.engagement_id is not None or (kind is DealType.COSELL and wire.recipe == "one_post")
    solutions = _array(_known(fields, "solutions"), ())
    customer = fields.get("customer")
    consent = fields.get("consent") is True
    body: dict[str, Any] = {
        **({"engagementId": new.engagement_id} if new.engagement_id else {}),
        "name": _known(fields, "name") or "",
        "externalReferenceId": new.external_reference,
        "type": "Shared" if kind is DealType.COSELL or invites else "Independent",
        "qualification": wire.qualification,
        "customerProfile": {
            **_customer_body(customer if isinstance(customer, Customer) else Customer()),
            "team": _array(_known(fields, "contacts"), ()),
        },
        "consent": {
            "consentToToShareInfoWithOthers": consent,  # the doubled "To" is the real name
            "consentToContact": consent,
            "consentToShareReferralWithMicrosoftSellers": kind is not DealType.PRIVATE,
        },
        "details": {
            **_details(fields),
            "requirements": {
                "solutions": solutions,
                "additionalRequirements": {
                    "attributes": [
                        {"type": "CustomerMarketplaceIntent", "id": wire.marketplace_intent},
                        *({"type": name, "id": id} for name, id in wire.attributes.items()),  # noqa: A001
                    ]
                },
            },
        },
        "team": _array(_known(fields, "team"), ()),
        "target": _target(kind, invites, solutions),
    }
    if (campaign := _known(fields, "campaign_id")) is not None:
        body["campaignId"] = campaign
    if isinstance(stage := _known(fields, "sales_stage"), str):
        body["salesStage"] = _stage(stage, wire)
    if invites:
        body["inviteContext"] = _invitation(fields)
    return body


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
    address = {theirs: getattr(customer, ours) for ours, theirs in _ADDRESS.items()}
    duns = customer.extra.get("duns")
    return {
        "name": customer.name or "",
        "address": {name: text for name, text in address.items() if text is not None},
        **({"ids": [{"profileType": "Duns", "id": duns}]} if isinstance(duns, str) else {}),
    }


def _details(fields: Fields) -> dict[str, Any]:
    close = _known(fields, "close_date")
    known = {
        "dealValue": _known(fields, "value"),
        "currency": _known(fields, "currency"),
        "closingDateTime": midnight(close) if isinstance(close, date) else None,
    }
    notes = _known(fields, "notes")
    return {**{name: value for name, value in known.items() if value is not None}, "notes": notes or ""}


def _target(kind: DealType, invites: bool, solutions: list[dict[str, Any]]) -> list[dict[str, str]]:
    if invites:
        return [{"type": "BusinessProfileLocation", "id": MICROSOFT}]
    if kind is not DealType.COSELL:
        return []
    own = (row["id"] for row in solutions if str(row["id"]).upper().startswith("SOL-"))
    return [{"type": "SolutionProfile", "id": id} for id in own]  # noqa: A001 - the domain's word


def _invitation(fields: Fields) -> dict[str, Any]:
    help_kind = fields.get("help")
    code = HELP_CODES.get(help_kind) if isinstance(help_kind, str) else None
    if code is None:
        raise ValueError("Microsoft cannot be invited without saying for which help")
    note = _known(fields, "help_note")
    return {"assistanceRequestCode": code, **({"notes": note} if note else {})}
