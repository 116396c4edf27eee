"""Dataverse's rows ⇄ our values; pure.

A snapshot is translated from a `Bundle`: the opportunity's row and its related rows, each read by id, so that nothing depends
on how a server nests them. What the environment does not have is left out and stays ABSENT. People without an e-mail cannot
be identified and are left alone. A value that is written and read back is the same, as far as the column can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cosell_sync.core.countries import country_code
from cosell_sync.core.deal import Customer, Fields, Known, Member, Snapshot, Solution
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.crm import values
from cosell_sync.crm.dynamics import odata, versions
from cosell_sync.crm.dynamics.org import ADDRESS, COMPUTED, LENGTHS, OPEN, SOLUTIONS, STOCK, WON, Column, Org
from cosell_sync.crm.dynamics.versions import Version
from cosell_sync.crm.related import Person, member, unique
from cosell_sync.crm.values import email, text

Row = Mapping[str, Any]

LOOKUPS: Final = frozenset({"currency"})  # of the fields that are columns
CHOICES: Final = frozenset({"Picklist", "Status", "State"})

# Columns that are read, beside the id.
ACCOUNT: Final = (
    "name",
    "address1_line1",
    "address1_line2",
    "address1_line3",
    "address1_city",
    "address1_stateorprovince",
    "address1_postalcode",
    "address1_country",
)
CONTACT_PERSON: Final = Person("emailaddress1", "firstname", "lastname", "telephone1")
USER_PERSON: Final = Person("internalemailaddress", "firstname", "lastname", "address1_telephone1")
CONTACT: Final = (*CONTACT_PERSON, "_parentcustomerid_value")
USER: Final = (*USER_PERSON, "isdisabled")
CONNECTION: Final = ("_record1id_value", "_record2id_value", "statecode")
SOLUTION: Final = ("_cosell_opportunity_value", "cosell_solutioncode")
SOLUTION_MORE: Final = ("cosell_solutionname", "cosell_solutiontype", "cosell_key", "cosell_name")


@dataclass(frozen=True)
class Bundle:
    """One opportunity with its related rows. ``connections``: the active ones that start here."""

    row: Row
    account: Row | None = None
    contacts: Mapping[str, Row] = field(default_factory=dict)  # by id: connected ones and the primary
    users: Mapping[str, Row] = field(default_factory=dict)  # by id: connected ones and the owner
    connections: Sequence[Row] = ()
    solutions: Sequence[Row] = ()

    @property
    def id(self) -> str:
        """The opportunity's id, lower case."""
        return str(self.row["opportunityid"]).lower()

    @property
    def primary(self) -> str | None:
        """Id of the primary contact; None without one."""
        return lookup(self.row, "parentcontactid")

    @property
    def owner(self) -> str | None:
        """Id of the owning user or team."""
        return lookup(self.row, "ownerid")

    @property
    def account_id(self) -> str | None:
        """Id of the account; None without one."""
        return None if self.account is None else str(self.account["accountid"]).lower()


def opportunity_columns(org: Org) -> tuple[str, ...]:
    """The columns of an opportunity that a snapshot needs."""
    own = org.columns.get("opportunities", {})
    columns = ["opportunityid", "statecode", "statuscode"]
    columns += [
        "_parentaccountid_value",
        "_customerid_value",
        "_parentcontactid_value",
        "_ownerid_value",
    ]
    columns += [f"_{crm}_value" if name in LOOKUPS else crm for name, crm in org.names.items()]
    columns += [COMPUTED] if COMPUTED in own else []
    return tuple(dict.fromkeys(columns))


def lookup(row: Row, name: str) -> str | None:
    """The id that a lookup column has; None where it is empty."""
    found = row.get(f"_{name}_value")
    return found.lower() if isinstance(found, str) and odata.is_guid(found) else None


def snapshot(bundle: Bundle, org: Org) -> Snapshot:
    """The opportunity in our values, with its version."""
    mark = version(bundle)
    row = bundle.row
    state = row.get("statecode")
    fields: dict[str, Known] = {}
    for name, crm in org.names.items():
        column = org.column(name)
        if name == "currency":
            fields[name] = org.currency_code(lookup(row, crm))
        elif crm in row and column is not None:
            fields[name] = value(KINDS[name], row[crm], column)
    owner = bundle.users.get(bundle.owner or "")
    fields |= {
        "is_closed": state != OPEN,
        "is_won": state == WON,
        "owner_email": email(owner.get("internalemailaddress")) if owner else None,
        "customer": customer(bundle.account),
        "contacts": contacts(bundle),
        "team": team(bundle, org),
    }
    if org.solutions:
        fields["solutions"] = solutions(bundle, org)
    return Snapshot(
        id=bundle.id,
        version=mark.text,
        fields=fields,
        readonly=readonly(row, org),
        rows=frozenset(mark.rows),
    )


def readonly(row: Row, org: Org) -> frozenset[str]:
    """Our fields that the row does not take now: an amount that is summed from products, a currency that is set, and on a
    closed row everything but its status; our own columns as well, unless they are configured to be written there.
    """
    found = {*org.read_only, *(["currency"] if lookup(row, org.names.get("currency", "")) else [])}
    if row.get(COMPUTED) is True:
        found.add("value")
    if row.get("statecode") == OPEN:
        return frozenset(found)
    return frozenset({*found, *STOCK, *(() if org.closed.writable else org.names.keys() - {"stage"})})


def version(bundle: Bundle) -> Version:
    """ETags of the opportunity and of every row that its snapshot is read from."""
    rows: dict[str, str] = {}

    def note(row_id: object, row: Row | None) -> None:
        if row is not None and isinstance(row_id, str):
            rows[row_id.lower()] = versions.etag(row)

    note(bundle.account_id, bundle.account)
    for people in (bundle.contacts, bundle.users):
        for row_id, row in people.items():
            note(row_id, row)
    for each in bundle.connections:
        note(each.get("connectionid"), each)
    for each in bundle.solutions:
        note(each.get("cosell_solutionid"), each)
    return Version(versions.etag(bundle.row), rows)


# --- single values ----------------------------------------------------------------------------------------------


def value(kind: Kind, data: object, column: Column) -> Known:
    """A column's value. What cannot be read as its kind counts as cleared, never as a guess."""
    if column.type in CHOICES:
        choice = column.valued(data)
        return choice.label if choice else None
    return values.value(kind, data)


def column_value(kind: Kind, item: object, column: Column | None) -> object:
    """Our value as a column takes it. Raises LookupError for a label that a choice does not have."""
    if column is not None and column.type in CHOICES and item is not None:
        choice = column.labelled(item)
        if choice is None:
            raise LookupError(str(item))
        return choice.value
    return values.column(kind, item)


def columns(fields: Fields, org: Org, *, creating: bool = False) -> dict[str, object]:
    """The columns of opportunity for these fields, without those that the environment does not have.

    An amount needs the switch that stops Dataverse from computing it. A currency is set once, when the row is made.
    https://learn.microsoft.com/dynamics365/sales/developer/entities/opportunity
    """
    known = org.columns["opportunities"]
    made: dict[str, object] = {}
    for name, item in fields.items():
        crm = org.names.get(name)
        if crm is None or name in ROWS_AND_STATE or (creating and not known[crm].creatable):
            continue
        if name == "currency":
            made |= _currency_column(crm, item, org)
        else:
            made[crm] = column_value(KINDS[name], item, org.column(name))
    if org.names.get("value") in made and COMPUTED in known:
        made[COMPUTED] = False
    return {name: item for name, item in made.items() if item is not None} if creating else made


def _currency_column(crm: str, code: object, org: Org) -> dict[str, object]:
    """Empty where the currency is to be cleared, which a row does not take."""
    currency = org.currency(code)
    if currency is not None:
        return {f"{crm}@odata.bind": odata.bind("transactioncurrencies", currency.id)}
    if code is not None:
        raise LookupError(str(code))
    return {}


ROWS_AND_STATE: Final = frozenset({"customer", "team", "contacts", "solutions", "stage"})


def short(name: str, item: str | None) -> str | None:
    """Cut to what the stock column holds."""
    return values.short(item, LENGTHS.get(name))


# --- people -----------------------------------------------------------------------------------------------------


def connected(bundle: Bundle, to: Mapping[str, Row]) -> list[tuple[Row, str]]:
    """Connections that lead to one of these rows, with the id of that row; in the order of their ids."""
    pairs = [(each, lookup(each, "record2id")) for each in bundle.connections]
    found = [(each, other) for each, other in pairs if other is not None and other in to]
    return sorted(found, key=lambda pair: str(pair[0].get("connectionid")))


def contacts(bundle: Bundle) -> tuple[Member, ...]:
    """Customer contacts, the primary one first."""
    linked = [
        member(bundle.contacts[other], CONTACT_PERSON, contact=other, connection=row.get("connectionid"))
        for row, other in connected(bundle, bundle.contacts)
    ]
    first = member(bundle.contacts.get(bundle.primary or ""), CONTACT_PERSON, contact=bundle.primary)
    if first is not None:
        same = next((each for each in linked if each and each.extra.get("contact") == bundle.primary), None)
        linked.insert(0, same or first)
    return unique(linked)


def colleagues(bundle: Bundle, org: Org) -> list[tuple[Row, str]]:
    """Connections to users, without the application user."""
    return [pair for pair in connected(bundle, bundle.users) if pair[1] != org.user_id]


def team(bundle: Bundle, org: Org) -> tuple[Member, ...]:
    """Active colleagues: the connected ones, else the owner."""
    rows = [(row.get("connectionid"), other) for row, other in colleagues(bundle, org)]
    people: list[tuple[object, str]] = rows
    if not rows and bundle.owner and bundle.owner != org.user_id:
        people = [(None, bundle.owner)]
    return unique(
        member(bundle.users.get(user_id), USER_PERSON, user=user_id, connection=connection)
        for connection, user_id in people
        if bundle.users.get(user_id, {}).get("isdisabled") is not True
    )


# --- solutions and the customer ---------------------------------------------------------------------------------


def solutions(bundle: Bundle, org: Org) -> tuple[Solution, ...]:
    """The solutions of the opportunity, each id once; rows without an id are left out."""
    found: dict[str, Solution] = {}
    kinds = org.columns.get(SOLUTIONS, {}).get("cosell_solutiontype")
    for each in sorted(bundle.solutions, key=lambda row: str(row.get("cosell_solutionid"))):
        if (code := text(each.get("cosell_solutioncode"))) is not None:
            choice = kinds.valued(each.get("cosell_solutiontype")) if kinds else None
            extra = {"row": each.get("cosell_solutionid"), "key": each.get("cosell_key")}
            made = Solution(
                code, text(each.get("cosell_solutionname")), choice.label if choice else None, extra
            )
            found.setdefault(code, made)
    return tuple(found.values())


def solution_columns(solution: Solution, org: Org) -> dict[str, object]:
    """The columns of a solution row, without those that the environment does not have."""
    kinds = org.columns.get(SOLUTIONS, {}).get("cosell_solutiontype")
    choice = kinds.labelled(solution.type) if kinds else None
    found: dict[str, object] = {
        "cosell_name": solution.name or solution.id,  # the primary column, which lists and lookups show
        "cosell_solutioncode": solution.id,
        "cosell_solutionname": solution.name,
        "cosell_solutiontype": choice.value if choice else None,
    }
    return {name: item for name, item in found.items() if org.has(SOLUTIONS, name)}


def customer(account: Row | None) -> Customer | None:
    """The customer of an account: the country in two letters where it is known, the second and third address line as one."""
    if account is None:
        return None
    more = [text(account.get(f"address1_line{at}")) for at in (2, 3)]
    return Customer(
        name=text(account.get("name")),
        address_line1=text(account.get("address1_line1")),
        address_line2=", ".join(line for line in more if line) or None,
        city=text(account.get("address1_city")),
        state=text(account.get("address1_stateorprovince")),
        postal_code=text(account.get("address1_postalcode")),
        country=country_code(account.get("address1_country")),
        extra={"account": str(account["accountid"]).lower()} if account.get("accountid") else {},
    )


def account_columns(wanted: Customer, before: Customer | None = None) -> dict[str, object]:
    """The columns of account for that customer; with ``before`` only those that differ from it."""
    made: dict[str, object] = {}
    if wanted.name and (before is None or before.name != wanted.name):
        made["name"] = short("name", wanted.name)
    for name, crm in ADDRESS.items():
        new = getattr(wanted, name)
        if before is None or getattr(before, name) != new:
            made[crm] = short(crm, new)
    if before is not None and "address1_line2" in made:
        made["address1_line3"] = None  # its text is part of our second line
    return made if before is not None else {name: item for name, item in made.items() if item is not None}
