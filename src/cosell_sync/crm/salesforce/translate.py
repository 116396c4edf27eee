"""Salesforce's rows ⇄ our values; pure.

What the org does not have is left out and stays ABSENT. People without an e-mail cannot be identified and are left alone. A
value that is written and read back is the same, as far as the field can hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cosell_sync.core import duns
from cosell_sync.core.countries import country_code
from cosell_sync.core.deal import HIDDEN, Customer, Fields, Known, Member, Snapshot, Solution
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.crm.related import Person, member, nameless, unique, unkeyed
from cosell_sync.crm.salesforce import states, versions
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, KEY, SOLUTION, USER, Org
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.salesforce.versions import Version
from cosell_sync.crm.values import column, email, masked, text, value
from cosell_sync.errors import Unavailable

Row = Mapping[str, Any]

ROLES: Final = "OpportunityContactRoles"
MEMBERS: Final = "OpportunityTeamMembers"
SOLUTIONS: Final = "Cosell_Solutions__r"
PERSON: Final = Person("Email", "FirstName", "LastName", "Phone")  # of contacts and users alike


def snapshot(row: Row, org: Org, at: datetime) -> Snapshot:
    """The opportunity of a row of `queries.opportunities` in our values, with its version. ``at``: the server's time of the read."""
    mark = version(row, at)
    fields: dict[str, Known] = {
        name: value(kind, row[crm])
        for name, crm, kind, encrypted in org.columns
        if crm in row and not _masked(kind, row[crm], encrypted=encrypted)
    }
    fields |= {"is_closed": bool(row.get("IsClosed")), "is_won": bool(row.get("IsWon"))}
    unseen = {*org.hidden, *out_of_sight(row, org)}
    fields |= {name: item for name, item in _related(row, org).items() if name not in unseen}
    fields |= unkeyed(_unkeyed(row, org), unseen)
    return Snapshot(
        id=str(row["Id"]),
        version=mark.text,
        fields=fields,
        # With products Amount is their sum, and a write to it is ignored without an error.
        readonly=org.read_only | ({"value"} if row.get("HasOpportunityLineItem") else set()),
        rows=frozenset(mark.rows),
        last_by_us=_by(row.get("LastModifiedById"), org),
    )


def _by(user_id: object, org: Org) -> bool | None:
    """Whether that is the integration user. Its flows run as the one who saves; those of others are theirs."""
    return user_id[:15] == org.user_id[:15] if isinstance(user_id, str) and org.user_id else None


def _related(row: Row, org: Org) -> dict[str, Known]:
    """What a snapshot has from rows of other objects."""
    found: dict[str, Known] = {
        "owner_email": email((row.get("Owner") or {}).get("Email")),
        "customer": customer(row.get("Account"), org, row.get("AccountId")),
        "contacts": contacts(row, org),
        "team": team(row, org),
    }
    return {**found, "solutions": solutions(row, org)} if org.solutions else found


def _unkeyed(row: Row, org: Org) -> dict[str, str | None]:
    """Who or what of a set has no e-mail address or id, by field."""
    people = ("FirstName", "LastName")
    found = {
        "contacts": nameless((each.get("Contact") for each in children(row, ROLES)), PERSON.email, people),
        "team": nameless((user for user, _, _ in colleagues(row, org)), PERSON.email, people),
    }
    rows = children(row, SOLUTIONS) if org.solutions else ()
    return {**found, "solutions": nameless(rows, "Solution_Id__c", ("Solution_Name__c",))}


def out_of_sight(row: Row, org: Org) -> Iterator[str]:
    """Our fields that cannot be told from this row: an id is filled and its row reads null, or a value is masked.

    Private sharing lets a user read an opportunity or a contact role and not the account or contact that it names; the id is
    there all the same.
    https://developer.salesforce.com/docs/atlas.en-us.securityImplGuide.meta/securityImplGuide/securing_data_understanding_sharing.htm
    """
    account, owner = row.get("Account"), row.get("Owner")
    if (row.get("AccountId") and not account) or (
        account and any(masked(account.get(name)) for name in org.address)
    ):
        yield "customer"
    if row.get("OwnerId") and not owner:
        yield "owner_email"
    if any(_unreadable(each, "ContactId", "Contact") for each in children(row, ROLES)):
        yield "contacts"
    members = team_rows(row, org)
    lost_owner = not members and row.get("OwnerId") != org.user_id and _unreadable(row, "OwnerId", "Owner")
    if lost_owner or any(_unreadable(each, "UserId", "User") for each in members):
        yield "team"


def _unreadable(row: Row, lookup: str, relationship: str) -> bool:
    """Whether the person that a row names cannot be identified: the row of the person is hidden, or the e-mail is masked."""
    person = row.get(relationship)
    return bool(row.get(lookup)) and (not person or masked(person.get("Email")))


def _masked(kind: Kind, data: object, *, encrypted: bool) -> bool:
    """Whether a field of the opportunity shows a mask. Encrypted text shows its mask to users without View Encrypted Data.
    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/field_types.htm
    """
    return masked(data, partly=True) if encrypted else kind is not Kind.NOTES and masked(data)


def version(row: Row, at: datetime) -> Version:
    """Stamps of the opportunity and of every row that its snapshot is read from."""
    stamps: dict[str, object] = {}

    def note(row_id: object, stamp: object) -> None:
        if isinstance(row_id, str) and row_id:
            stamps[row_id] = stamp

    note(row.get("AccountId"), (row.get("Account") or {}).get("SystemModstamp"))
    note(row.get("OwnerId"), (row.get("Owner") or {}).get("LastModifiedDate"))
    for each in children(row, ROLES):
        note(each.get("Id"), each.get("SystemModstamp"))
        note(each.get("ContactId"), (each.get("Contact") or {}).get("SystemModstamp"))
    for each in children(row, MEMBERS):
        note(each.get("Id"), each.get("SystemModstamp"))
        note(each.get("UserId"), (each.get("User") or {}).get("LastModifiedDate"))
    for each in children(row, SOLUTIONS):
        note(each.get("Id"), each.get("SystemModstamp"))
    return versions.build(row.get("SystemModstamp"), row.get("LastModifiedDate"), stamps, at)


def children(row: Row, relationship: str) -> Sequence[Row]:
    """The rows of a sub-select; the platform answers null where there are none."""
    found = row.get(relationship)
    records = found.get("records") if isinstance(found, dict) else None
    if found is not None and not isinstance(records, list):
        raise Unavailable(SYSTEM, "Salesforce answered in an unknown shape", code="unknown_shape")
    return records or ()


# --- columns ----------------------------------------------------------------------------------------------


def columns(fields: Fields, org: Org) -> dict[str, object]:
    """The columns of Opportunity for these fields, without those that the org does not have."""
    return {org.names[name]: column(KINDS[name], item) for name, item in fields.items() if name in org.names}


# --- people -----------------------------------------------------------------------------------------------------


def contacts(row: Row, org: Org) -> tuple[Member, ...]:
    """Customer contacts, the primary one first."""
    roles = sorted(children(row, ROLES), key=lambda each: not each.get("IsPrimary"))
    return unique(
        member(
            each.get("Contact"),
            PERSON,
            hidden=org.unknown_parts(CONTACT),
            role=each.get("Id"),
            contact=each.get("ContactId"),
        )
        for each in roles
    )


def team_rows(row: Row, org: Org) -> list[Row]:
    """The rows of the team, without the integration user's."""
    return [each for each in children(row, MEMBERS) if each.get("UserId") != org.user_id]


def colleagues(row: Row, org: Org) -> list[tuple[Row, object, object]]:
    """Active colleagues: the team's rows, else the owner; without the integration user. User, its id, the team's row."""
    rows = team_rows(row, org)
    if rows:
        people = [(each.get("User"), each.get("UserId"), each.get("Id")) for each in rows]
    elif row.get("OwnerId") != org.user_id:
        people = [(row.get("Owner"), row.get("OwnerId"), None)]
    else:
        people = []
    return [
        (user, user_id, row_id)
        for user, user_id, row_id in people
        if isinstance(user, dict) and user.get("IsActive", True)
    ]


def team(row: Row, org: Org) -> tuple[Member, ...]:
    """Active colleagues."""
    return unique(
        member(user, PERSON, hidden=org.unknown_parts(USER), user=user_id, member=row_id)
        for user, user_id, row_id in colleagues(row, org)
    )


# --- solutions and the customer ---------------------------------------------------------------------------------


def solutions(row: Row, org: Org) -> tuple[Solution, ...]:
    """The solutions of the opportunity, each id once; rows without an id are left out."""
    found: dict[str, Solution] = {}
    parts = {"Solution_Name__c": "name", "Solution_Type__c": "type"}
    hidden = [part for name, part in parts.items() if not org.sees(SOLUTION, name)]
    for each in children(row, SOLUTIONS):
        if (code := text(each.get("Solution_Id__c"))) is not None:
            extra = {"row": each.get("Id"), "key": each.get(KEY), **({HIDDEN: hidden} if hidden else {})}
            made = Solution(
                code, text(each.get("Solution_Name__c")), text(each.get("Solution_Type__c")), extra
            )
            found.setdefault(code, made)
    return tuple(found.values())


def solution_columns(solution: Solution, org: Org) -> dict[str, object]:
    """The columns of a solution row, without those that the org does not have."""
    found = {
        "Solution_Id__c": solution.id,
        "Solution_Name__c": solution.name,
        "Solution_Type__c": solution.type,
    }
    return {name: item for name, item in found.items() if org.has("Cosell_Solution__c", name)}


def customer(account: object, org: Org, account_id: object = None) -> Customer | None:
    """The customer of an account: the street as its first line and the rest, the country in two letters where it is known."""
    if not isinstance(account, dict):
        return None
    lines = [line.strip() for line in str(account.get("BillingStreet") or "").splitlines() if line.strip()]
    country = account.get(org.country)
    extra: dict[str, object] = {} if account_id is None else {"account": account_id}
    number = account.get(org.duns) if org.duns else None
    return Customer(
        name=text(account.get("Name")),
        address_line1=lines[0] if lines else None,
        address_line2=", ".join(lines[1:]) or None,
        city=text(account.get("BillingCity")),
        state=text(account.get(org.state)),
        postal_code=text(account.get("BillingPostalCode")),
        country=states.country(org.countries, text(country)) if org.codes else country_code(country),
        duns=None if masked(number) else duns.as_written(text(number)),
        extra=extra,
    )


def account_columns(wanted: Customer, org: Org, before: Customer | None = None) -> dict[str, object]:
    """The columns of Account for that customer; with ``before`` only those that differ from it."""

    def differs(*names: str) -> bool:
        return before is None or any(getattr(before, name) != getattr(wanted, name) for name in names)

    country = states.own_code(org.countries, wanted.country) if org.codes else wanted.country
    made: dict[str, object] = {}
    if wanted.name and differs("name"):
        made["Name"] = wanted.name
    if differs("address_line1", "address_line2"):
        made["BillingStreet"] = "\n".join(filter(None, [wanted.address_line1, wanted.address_line2])) or None
    if differs("city"):
        made["BillingCity"] = wanted.city
    if differs("postal_code"):
        made["BillingPostalCode"] = wanted.postal_code
    if differs("country"):
        made[org.country] = country
    if differs("state", *(["country"] if org.codes else [])):
        made[org.state] = states.state_code(org.states, country, wanted.state) if org.codes else wanted.state
    if org.duns and wanted.duns and differs("duns") and org.may(ACCOUNT, org.duns, "updateable"):
        made[org.duns] = wanted.duns  # Partner Center never says that there is none
    made = {name: item for name, item in made.items() if org.sees(ACCOUNT, name)}
    return made if before is not None else {name: item for name, item in made.items() if item is not None}
