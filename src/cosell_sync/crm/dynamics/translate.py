"""Dataverse's rows ⇄ our values; pure.

A snapshot is translated from a `Bundle`: the opportunity's row and its related rows, each read by id, so that nothing depends
on how a server nests them. What the environment does not have is left out and stays ABSENT. People without an e-mail cannot
be identified and are left alone. A value that is written and read back is the same, as far as the column can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cosell_sync.core import duns
from cosell_sync.core.countries import country_code
from cosell_sync.core.deal import HIDDEN, Customer, Fields, Known, Member, Snapshot, Solution
from cosell_sync.core.fields import KINDS
from cosell_sync.crm import values
from cosell_sync.crm.dynamics import odata, versions
from cosell_sync.crm.dynamics.org import (
    ACCOUNTS,
    COMPUTED,
    CONNECTIONS,
    CONTACTS,
    DUNS,
    OPEN,
    OPPORTUNITIES,
    SOLUTIONS,
    STOCK,
    USERS,
    WON,
    Org,
)
from cosell_sync.crm.dynamics.single_values import column_value, unreadable, value
from cosell_sync.crm.dynamics.stock_columns import ACCOUNT, ADDRESS, LENGTHS
from cosell_sync.crm.dynamics.versions import Version
from cosell_sync.crm.related import Person, member, nameless, unique, unkeyed
from cosell_sync.crm.values import email, text

Row = Mapping[str, Any]

LOOKUPS: Final = frozenset({"currency"})  # of the fields that are columns

# Columns that are read, beside the id; those of account: `stock_columns.ACCOUNT`.
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
    lost: Sequence[Row] = ()  # connections to a person whose row cannot be read
    hidden_account: bool = False  # the opportunity has an account that cannot be read

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
        "_modifiedby_value",
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
            code, known = org.currency_code(lookup(row, crm)), lookup(row, crm)
            if code is not None or (known is None and not org.security.closed(OPPORTUNITIES, crm)):
                fields[name] = code
        elif crm in row and column is not None and not unreadable(org, OPPORTUNITIES, crm, row[crm]):
            fields[name] = value(KINDS[name], row[crm], column, org.close_date_zone)
    fields |= {"is_closed": state != OPEN, "is_won": state == WON}
    unseen = set(out_of_sight(bundle, org))
    fields |= {name: item for name, item in _related(bundle, org).items() if name not in unseen}
    fields |= unkeyed(_unkeyed(bundle, org), unseen)
    return Snapshot(
        id=bundle.id,
        version=mark.text,
        fields=fields,
        readonly=readonly(row, org),
        rows=frozenset(mark.rows),
        last_by_us=by == org.user_id if (by := lookup(row, "modifiedby")) and org.user_id else None,
    )


def _related(bundle: Bundle, org: Org) -> dict[str, Known]:
    """What a snapshot has from rows of other tables."""
    owner = bundle.users.get(bundle.owner or "")
    found: dict[str, Known] = {
        "owner_email": email(owner.get("internalemailaddress")) if owner else None,
        "customer": customer(bundle.account, org),
        "contacts": contacts(bundle, org),
        "team": team(bundle, org),
    }
    return {**found, "solutions": solutions(bundle, org)} if org.solutions else found


def _unkeyed(bundle: Bundle, org: Org) -> dict[str, str | None]:
    """Who or what of a set has no e-mail address or id, by field."""
    linked = [bundle.contacts[other] for _, other in connected(bundle, bundle.contacts)]
    first = bundle.contacts.get(bundle.primary or "")
    colleagues = [bundle.users.get(user_id) for _, user_id in team_rows(bundle, org)]
    people = ("firstname", "lastname")
    found = {
        "contacts": nameless((first, *linked), CONTACT_PERSON.email, people),
        "team": nameless(colleagues, USER_PERSON.email, people),
    }
    rows = bundle.solutions if org.solutions else ()
    return {**found, "solutions": nameless(rows, "cosell_solutioncode", ("cosell_solutionname",))}


def target(row: Row, name: str) -> str:
    """The table that a lookup leads to; empty where the answer does not say."""
    return str(row.get(f"_{name}_value@Microsoft.Dynamics.CRM.lookuplogicalname") or "")


def out_of_sight(bundle: Bundle, org: Org) -> Iterator[str]:
    """Our fields that cannot be told: a lookup has an id whose row is not to be read, or an identifying column is closed."""
    if bundle.hidden_account or _hides(org, ACCOUNTS, ACCOUNT, bundle.account):
        yield "customer"
    people = [bundle.contacts[other] for _, other in connected(bundle, bundle.contacts)]
    first = bundle.contacts.get(bundle.primary or "")
    lost = [target(each, "record2id") for each in bundle.lost]
    lost_primary = bundle.primary is not None and first is None
    if (
        lost_primary
        or CONNECTIONS in org.security.narrow
        or not {"contact", ""}.isdisjoint(lost)
        or any(_hides(org, CONTACTS, CONTACT_PERSON[:1], each) for each in (*people, first))
    ):
        yield "contacts"
    members = colleagues(bundle, org)
    owner = bundle.users.get(bundle.owner or "")
    owned_by_user = bundle.owner is not None and target(bundle.row, "ownerid") in {"systemuser", ""}
    lost_owner = owner is None and owned_by_user
    if lost_owner or _hides(org, USERS, USER_PERSON[:1], owner):
        yield "owner_email"
    users: list[Row | None] = [bundle.users[other] for _, other in members] or [owner]
    if (
        CONNECTIONS in org.security.narrow
        or not {"systemuser", ""}.isdisjoint(lost)
        or (lost_owner and not members)
        or any(_hides(org, USERS, USER_PERSON[:1], each) for each in users)
    ):
        yield "team"
    secured = ("cosell_solutioncode",)
    unclear = not org.identifies_solutions or SOLUTIONS in org.security.narrow
    if unclear or any(_hides(org, SOLUTIONS, secured, each) for each in bundle.solutions):
        yield "solutions"


def _hides(org: Org, collection: str, columns: Iterable[str], row: Row | None) -> bool:
    """Whether one of these columns of the row is no value."""
    return row is not None and any(
        unreadable(org, collection, name, row.get(name)) for name in columns if name in row
    )


def _hidden_parts(org: Org, collection: str, person: Person, row: Row | None) -> list[str]:
    """The parts of a person that the row does not show."""
    parts = {part: getattr(person, part) for part in ("first_name", "last_name", "phone")}
    return [part for part, name in parts.items() if _hides(org, collection, (name,), row)]


def readonly(row: Row, org: Org) -> frozenset[str]:
    """Our fields that the row does not take now: an amount that is summed from products, a currency that is set, and on a
    closed row the columns of Sales.
    """
    found = {*org.read_only, *(["currency"] if lookup(row, org.names.get("currency", "")) else [])}
    if row.get(COMPUTED) is True:
        found.add("value")
    if row.get("statecode") == OPEN:
        return frozenset(found)
    return frozenset({*found, *STOCK})


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


# --- columns of the opportunity ----------------------------------------------------------------------------------


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
        if org.security.closed(OPPORTUNITIES, crm):
            continue
        if name == "currency":
            made |= _currency_column(crm, item, org)
        else:
            made[crm] = column_value(KINDS[name], item, org.column(name), org.close_date_zone)
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


def contacts(bundle: Bundle, org: Org) -> tuple[Member, ...]:
    """Customer contacts, the primary one first."""

    def person(contact_id: str | None, **extra: object) -> Member | None:
        row = bundle.contacts.get(contact_id or "")
        hidden = _hidden_parts(org, CONTACTS, CONTACT_PERSON, row)
        return member(row, CONTACT_PERSON, hidden=hidden, contact=contact_id, **extra)

    linked = [
        person(other, connection=row.get("connectionid")) for row, other in connected(bundle, bundle.contacts)
    ]
    first = person(bundle.primary)
    if first is not None:
        same = next((each for each in linked if each and each.extra.get("contact") == bundle.primary), None)
        linked.insert(0, same or first)
    return unique(linked)


def colleagues(bundle: Bundle, org: Org) -> list[tuple[Row, str]]:
    """Connections to users, without the application user."""
    return [pair for pair in connected(bundle, bundle.users) if pair[1] != org.user_id]


def team_rows(bundle: Bundle, org: Org) -> list[tuple[object, str]]:
    """Active colleagues: the connected ones, else the owner. The connection and the user's id."""
    people: list[tuple[object, str]] = [
        (row.get("connectionid"), other) for row, other in colleagues(bundle, org)
    ]
    if not people and bundle.owner and bundle.owner != org.user_id:
        people = [(None, bundle.owner)]
    return [pair for pair in people if bundle.users.get(pair[1], {}).get("isdisabled") is not True]


def team(bundle: Bundle, org: Org) -> tuple[Member, ...]:
    """Active colleagues."""
    return unique(
        member(
            bundle.users.get(user_id),
            USER_PERSON,
            hidden=_hidden_parts(org, USERS, USER_PERSON, bundle.users.get(user_id)),
            user=user_id,
            connection=connection,
        )
        for connection, user_id in team_rows(bundle, org)
    )


# --- solutions and the customer ---------------------------------------------------------------------------------


def solutions(bundle: Bundle, org: Org) -> tuple[Solution, ...]:
    """The solutions of the opportunity, each id once; rows without an id are left out."""
    found: dict[str, Solution] = {}
    kinds = org.columns.get(SOLUTIONS, {}).get("cosell_solutiontype")
    for each in sorted(bundle.solutions, key=lambda row: str(row.get("cosell_solutionid"))):
        if (code := text(each.get("cosell_solutioncode"))) is not None:
            choice = kinds.valued(each.get("cosell_solutiontype")) if kinds else None
            parts = {"name": "cosell_solutionname", "type": "cosell_solutiontype"}
            hidden = [part for part, name in parts.items() if _hides(org, SOLUTIONS, (name,), each)]
            extra = {"row": each.get("cosell_solutionid"), "key": each.get("cosell_key")}
            extra |= {HIDDEN: hidden} if hidden else {}
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


def customer(account: Row | None, org: Org) -> Customer | None:
    """The customer of an account: the country in two letters where it is known, the second and third address line as one."""
    if account is None:
        return None
    number = account.get(DUNS)
    if unreadable(org, ACCOUNTS, DUNS, number):
        number = None
    more = [text(account.get(f"address1_line{at}")) for at in (2, 3)]
    return Customer(
        name=text(account.get("name")),
        address_line1=text(account.get("address1_line1")),
        address_line2=", ".join(line for line in more if line) or None,
        city=text(account.get("address1_city")),
        state=text(account.get("address1_stateorprovince")),
        postal_code=text(account.get("address1_postalcode")),
        country=country_code(account.get("address1_country")),
        duns=duns.as_written(text(number)),
        extra={"account": str(account["accountid"]).lower()} if account.get("accountid") else {},
    )


def account_columns(wanted: Customer, org: Org, before: Customer | None = None) -> dict[str, object]:
    """The columns of account for that customer; with ``before`` only those that differ from it."""
    made: dict[str, object] = {}
    if wanted.name and (before is None or before.name != wanted.name):
        made["name"] = short("name", wanted.name)
    for name, crm in ADDRESS.items():
        new = getattr(wanted, name)
        if before is None or getattr(before, name) != new:
            made[crm] = short(crm, new)
    if org.has_duns and wanted.duns and (before is None or before.duns != wanted.duns):
        made[DUNS] = wanted.duns  # Partner Center never says that there is none
    if before is not None and "address1_line2" in made:
        made["address1_line3"] = None  # its text is part of our second line
    return made if before is not None else {name: item for name, item in made.items() if item is not None}
