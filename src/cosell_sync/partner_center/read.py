"""A referral in Partner Center's JSON → a snapshot. Pure.

Reading is lenient, because the resource is documented in parts, older and newer pages disagree, and live answers have more
than either (learn.microsoft.com/partner-center/developer/referral-resources). A missing property is ``ABSENT``, a null one
``None``, an unknown status ``UNKNOWN``. A property of the wrong type becomes the ``problem`` of its own record; the rest of
the page is read.

Choices that the pages leave open:

- A null list reads as empty, because that is how such a write reads back.
- Members of a list that lack a key are kept beside it, for a write of the list and for the seller to be told (`members`).
- A sales stage that is none of the four, or null, is ``ABSENT``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from cosell_sync.core import duns
from cosell_sync.core.deal import (
    ABSENT,
    Customer,
    DealType,
    Direction,
    Member,
    Snapshot,
    Solution,
    State,
    Value,
)
from cosell_sync.core.fields import UNKEYED
from cosell_sync.partner_center import values
from cosell_sync.partner_center.members import nameless, publisher_key, read_list, read_member, read_solution
from cosell_sync.partner_center.values import (
    ADDRESS,
    DUNS,
    ID,
    MICROSOFT,
    SALES_STAGE_OF,
    Malformed,
    WireOptions,
    folded,
    optional_text,
    unknown_properties,
)

# A referral that is not answered within this time expires (learn.microsoft.com/partner-center/manage-co-sell-opportunities).
ANSWER_WITHIN: Final = timedelta(days=14)

# Fields that have a stand-in in the CRM (see core), so that one of them keeps no deal out of it.
_STOOD_IN_FOR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": "name",
        "value": "details.dealValue",
        "currency": "details.currency",
        "close_date": "details.closingDateTime",
    }
)

_ADDRESS: Final = frozenset(ADDRESS.values())

# Status and substatus, without case → our state.
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


def snapshot(document: object, wire: WireOptions, *, own: frozenset[str] = frozenset()) -> Snapshot | None:
    """A referral as read; None where the document has no usable id. Never raises.

    ``own``: ids of our organization; empty where they are not known.
    """
    if not isinstance(document, dict):
        return None
    id = document.get("id")  # noqa: A001 - the domain's word
    if not isinstance(id, str) or not ID.fullmatch(id):
        return None
    reader = _Reader(document)
    fields = _fields(reader, id, wire, own)
    version = reader.version()
    fields |= {UNKEYED[name]: who for name, rows in reader.unkeyed.items() if (who := nameless(rows))}
    unreadable = [ours for ours, path in _STOOD_IN_FOR.items() if path in reader.malformed]
    if vital := [text for path, text in reader.malformed.items() if path not in _STOOD_IN_FOR.values()]:
        fields["problem"] = "This referral cannot be understood: " + "; ".join(vital[:5])
    if unreadable:
        fields["unreadable"] = " ".join(unreadable)
    return Snapshot(
        id=id,
        version=version,
        fields={name: value for name, value in fields.items() if value is not ABSENT},
        unkeyed=reader.unkeyed,
    )


def _fields(read: _Reader, id: str, wire: WireOptions, own: frozenset[str]) -> dict[str, Value]:  # noqa: A002
    status, substatus = read.text("status"), read.text("substatus")
    # Over is over, whatever the second word: a closed referral takes no change.
    other = State.CLOSED if folded(status) == "closed" else State.UNKNOWN
    state = STATES.get((folded(status), folded(substatus)), other)
    created = read.moment("createdDateTime")
    engagement, organization = read.text("engagementId"), read.text("organizationId")
    inviter = read.text("inviteContext", "invitedBy", "organizationId")
    visible = read.flag("consent", "consentToShareReferralWithMicrosoftSellers")
    help_code = read.text("inviteContext", "assistanceRequestCode")
    if folded(help_code) in {"", "unknown"}:
        help_code = ABSENT if help_code is ABSENT else None
    category = _category(read, organization, inviter, own)
    fresh = folded(status) == "new"
    return {
        "name": read.text("name"),
        "value": read.number("details", "dealValue"),
        "currency": read.currency(),
        "close_date": read.day(wire.close_date_zone, "details", "closingDateTime"),
        "sales_stage": read.sales_stage(),
        "campaign_id": read.text("campaignId"),
        **read.attributes(wire),
        "location": read.location(),
        "notes": read.text("details", "notes"),
        "favorite": read.flag("favorite"),
        "customer": read.customer(),
        "team": read.members("team", "team"),
        "contacts": read.members("contacts", "customerProfile", "team"),
        "solutions": read.solutions(_own_publisher(read, organization, wire)),
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
        "organization": _shown_organization(read, organization) if category == "foreign" else ABSENT,
        "referral_link": _link(wire.link, id, engagement),
    }


def _own_publisher(read: _Reader, organization: Value, wire: WireOptions) -> frozenset[str]:
    """The names under which our solutions are published: the organization's, and those that are configured."""
    known = (organization, read.text("organizationName"), *wire.publishers)
    return frozenset(key for name in known if (key := publisher_key(name)))


def _is_foreign(organization: str, name: str, own: frozenset[str]) -> bool:
    if organization == MICROSOFT or name == "microsoft":
        return True
    return bool(own and organization and organization not in {item.casefold() for item in own})


def _shown_organization(read: _Reader, organization: Value) -> Value:
    named = folded(read.text("organizationName")) == "microsoft"
    return "Microsoft" if named or folded(organization) == MICROSOFT else organization


def _category(read: _Reader, organization: Value, inviter: Value, own: frozenset[str]) -> str:
    """By the table of learn.microsoft.com/partner-center/developer/referrals-api-introduction.

    The table has no row for a Shared deal to which Microsoft invites us. It is a co-sell deal, so Shared is tested first.
    What fits no row counts as a co-sell deal too, so that it is shown rather than skipped.
    """
    if _is_foreign(folded(organization), folded(read.text("organizationName")), own):
        return "foreign"
    if folded(read.text("type")) == "shared":
        return "cosell"
    qualification, by = folded(read.text("qualification")), folded(inviter)
    if qualification == "direct" and by in {"", MICROSOFT}:
        return "lead"
    if qualification in {"salesqualified", "marketingqualified"} and by == MICROSOFT:
        return "lead"
    return "cosell"


def _deal_type(category: str, read: _Reader, visible: Value, help_code: Value) -> DealType:
    if category == "lead":
        return DealType.LEAD
    if folded(read.text("type")) == "shared" or isinstance(help_code, str):
        return DealType.COSELL
    return DealType.PARTNER_LED if visible is True else DealType.PRIVATE


def _direction(read: _Reader, category: str, organization: Value, inviter: Value, *, fresh: bool) -> Value:
    """Who started the deal. ``direction`` alone misleads: live records say Incoming though we are the inviter."""
    said = folded(read.text("direction"))
    by, us = folded(inviter), folded(organization)
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
    """Reads one document property by property, noting what is malformed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.malformed: dict[str, str] = {}  # path of a property → what is wrong, with the path in front
        self.unkeyed: dict[str, list[Any]] = {}

    def _at(self, *path: str) -> Any:
        node: Any = self._document
        for depth, name in enumerate(path):
            if node is None:
                return ABSENT
            if not isinstance(node, dict):
                self._note(".".join(path[:depth]), "is no object")
                return ABSENT
            node = node.get(name, ABSENT)
            if node is ABSENT:
                return ABSENT
        return node

    def _note(self, path: str, problem: str) -> None:
        self.malformed.setdefault(path, f"{path} {problem}")

    def _value(self, path: tuple[str, ...], convert: Callable[[Any], Value]) -> Value:
        raw = self._document.get(path[0], ABSENT) if len(path) == 1 else self._at(*path)
        if raw is ABSENT or raw is None:
            return raw
        try:
            return convert(raw)
        except Malformed as cause:
            self._note(".".join(path), str(cause))
            return ABSENT

    def version(self) -> str:
        """The eTag byte for byte, quotes included, as `If-Match` takes it; empty where it is missing or malformed."""
        tag = self._document.get("eTag")
        if isinstance(tag, str) and tag and tag == tag.strip() and tag.isascii() and tag.isprintable():
            return tag
        self._note("eTag", "is missing or malformed")
        return ""

    def text(self, *path: str) -> Value:
        return self._value(path, values.text)

    def number(self, *path: str) -> Value:
        return self._value(path, values.number)

    def flag(self, *path: str) -> Value:
        return self._value(path, values.flag)

    def moment(self, *path: str) -> Value:
        return self._value(path, values.moment)

    def day(self, zone: tzinfo, *path: str) -> Value:
        return self._value(path, lambda raw: values.day(raw, zone))

    def currency(self) -> Value:
        return self._value(("details", "currency"), values.currency)

    def sales_stage(self) -> Value:
        raw = self._at("salesStage")
        if isinstance(raw, bool) or not isinstance(raw, (str, int, Decimal)):
            return ABSENT
        return SALES_STAGE_OF.get(str(raw).strip().rstrip("%").casefold(), ABSENT)

    def attributes(self, wire: WireOptions) -> Mapping[str, Value]:
        """What is asked of every deal. Microsoft's samples and contract disagree where it stands, so what is of another shape
        says nothing, and sinks no deal. Several values of one attribute are shown in one line.
        """
        found: Any = self._document
        for name in ("details", "requirements", "additionalRequirements", "attributes"):
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, list):
            return {}
        given: dict[str, list[str]] = {}
        for each in found:
            if (
                isinstance(each, dict)
                and isinstance(each.get("id"), str)
                and values.clean(each["id"]).strip()
            ):
                given.setdefault(folded(each.get("type")), []).append(values.clean(each["id"]).strip())
        return {
            name: "; ".join(dict.fromkeys(map(asked.label, given.get(asked.type.casefold(), ())))) or None
            for name, asked in wire.asked.items()
        }

    def location(self) -> Value:
        """The MPN id of our location: digits, which the contract calls a text; a number says the same."""
        raw = self._at("mpnId")
        if isinstance(raw, int) and not isinstance(raw, bool):
            return str(raw)
        return self.text("mpnId")

    def customer(self) -> Value:
        return self._value(("customerProfile",), _customer)

    def members(self, field: str, *path: str) -> Value:
        return self._list(field, path, read_member)

    def solutions(self, own: frozenset[str]) -> Value:
        path = ("details", "requirements", "solutions")
        return self._list("solutions", path, lambda row: read_solution(row, own))

    def _list(
        self,
        field: str,
        path: tuple[str, ...],
        read_item: Callable[[Mapping[str, Any]], Member | Solution | None],
    ) -> Value:
        def gather(raw: Any) -> Value:
            keyed, unkeyed = read_list(raw, read_item)
            if unkeyed:
                self.unkeyed[field] = unkeyed
            return keyed  # type: ignore[return-value]  # all of one type: read_item makes them

        value = self._value(path, gather)
        return () if value is None else value


def _customer(raw: Any) -> Customer:
    if not isinstance(raw, dict):
        raise Malformed("is no object")
    address = raw.get("address")
    if address is None:
        address = {}
    if not isinstance(address, dict):
        raise Malformed("has an address that is no object")
    parts = {ours: optional_text(address, theirs) for ours, theirs in ADDRESS.items()}
    extra = unknown_properties(raw, ("name", "address", "team"))
    if rest := unknown_properties(address, _ADDRESS):
        extra["address"] = rest
    return Customer(name=optional_text(raw, "name"), **parts, duns=_duns(raw.get("ids")), extra=extra)


def _duns(ids: Any) -> str | None:
    """The D-U-N-S number among a customer's ids, a list, in old answers one object; None for anything that is no number."""
    for each in ids if isinstance(ids, list) else [ids]:
        if isinstance(each, dict) and folded(each.get("profileType")) == DUNS.casefold():
            return duns.normalized(each.get("id"))
    return None
