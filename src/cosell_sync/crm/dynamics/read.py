"""What Dataverse holds: opportunities with everything around them, look-alikes, and the index of everything.

A hundred opportunities are read with one question each for their rows, their connections and solutions, and the
accounts, contacts and users that these name: six calls, whatever the hundred hold. Nothing is expanded: expanded answers
may come from caches, are cut differently by page, and say less about their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from cosell_sync.core.deal import Snapshot
from cosell_sync.crm.dynamics import odata, translate
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Bundle, Row
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import Matches, MatchQuery

AROUND: Final = odata.AT_ONCE  # opportunities whose surroundings are asked for at once
PAGE: Final = 500
NAMES: Final = 20  # names in one question: each may be several tests
PEOPLE: Final = 50  # users in one question, each compared twice


def marks(org: Org) -> Sequence[str]:
    """The columns of which one is set where an opportunity is our business: it is linked, or to be shared, or still
    carries our words.
    """
    return [org.key, *(org.names[name] for name in ("sync", "sync_state") if name in org.names)]


def concerned(org: Org) -> str:
    """Which opportunities these are."""
    flag = org.names.get("sync")
    tests = [f"{name} eq true" if name == flag else f"{name} ne null" for name in marks(org)]
    return f"({' or '.join(tests)})" if len(tests) > 1 else tests[0]


def concerns(row: Row, org: Org) -> bool:
    """The same of a row; what the row does not show counts as yes."""
    return any(name not in row or bool(row[name]) for name in marks(org))


# --- records by id ----------------------------------------------------------------------------------------------


def fetch(rest: Rest, org: Org, ids: Sequence[str]) -> dict[str, Snapshot | None]:
    found = {bundle.id: bundle for bundle in bundles(rest, org, ids)}
    return {
        each: translate.snapshot(found[each.lower()], org) if each.lower() in found else None for each in ids
    }


def bundles(rest: Rest, org: Org, ids: Sequence[str], *, stamps_only: bool = False) -> Iterator[Bundle]:
    """Those that are there, each with its surroundings."""
    wanted = list(dict.fromkeys(each.lower() for each in ids if odata.is_guid(each)))
    for some in pieces(wanted, AROUND):
        path = odata.query(
            OPPORTUNITIES, select=_columns(org, stamps_only), where=odata.ids("opportunityid", some)
        )
        yield from surrounded(rest, org, list(rest.rows(path)), stamps_only=stamps_only)


def listed(rest: Rest, org: Org, *, stamps_only: bool = False) -> Iterator[Sequence[Bundle]]:
    """All that concern us, by id, in pages."""
    path = odata.query(
        OPPORTUNITIES,
        select=_columns(org, stamps_only),
        where=concerned(org),
        order="opportunityid asc",
    )
    for sheet in rest.sheets(path, size=PAGE):
        for some in pieces(sheet.rows, AROUND):
            yield surrounded(rest, org, some, stamps_only=stamps_only)


def _columns(org: Org, stamps_only: bool) -> Sequence[str]:
    if not stamps_only:
        return (*translate.opportunity_columns(org), *org.stamps(OPPORTUNITIES))
    return (
        *org.stamps(OPPORTUNITIES),
        "opportunityid",
        "_parentaccountid_value",
        "_customerid_value",
        "_parentcontactid_value",
        "_ownerid_value",
    )


def surrounded(
    rest: Rest, org: Org, opportunities: Sequence[Row], *, stamps_only: bool = False
) -> list[Bundle]:
    """At most a hundred rows, each with what stands around it."""
    ids = [str(row["opportunityid"]).lower() for row in opportunities]
    if not ids:
        return []

    def rows(collection: str, key: str, more: Sequence[str], column: str, wanted: Iterable[str]) -> list[Row]:
        found: list[Row] = []
        for some in pieces(sorted(set(wanted)), odata.AT_ONCE):
            found += rest.rows(
                odata.query(
                    collection, select=(key, *more, *org.stamps(collection)), where=odata.ids(column, some)
                )
            )
        return found

    def by_id(collection: str, key: str, more: Sequence[str], wanted: Iterable[str]) -> dict[str, Row]:
        found = rows(collection, key, () if stamps_only else more, key, wanted)
        return {str(row[key]).lower(): row for row in found}

    live = [
        row
        for row in rows(CONNECTIONS, "connectionid", translate.CONNECTION, "_record1id_value", ids)
        if not row.get("statecode")
    ]
    solutions: list[Row] = []
    if org.solutions:
        more = [*translate.SOLUTION, *(name for name in translate.SOLUTION_MORE if org.has(SOLUTIONS, name))]
        short = translate.SOLUTION[:1] if stamps_only else more
        solutions = rows(SOLUTIONS, "cosell_solutionid", short, "_cosell_opportunity_value", ids)
    others = {other for row in live if (other := translate.lookup(row, "record2id"))}
    primaries = {found for row in opportunities if (found := translate.lookup(row, "parentcontactid"))}
    owners = {found for row in opportunities if (found := translate.lookup(row, "ownerid"))}
    customers = {found for row in opportunities for found in _customers(row)}
    contacts = by_id(CONTACTS, "contactid", translate.CONTACT, others | primaries)
    users = by_id(USERS, "systemuserid", translate.USER, owners | (others - contacts.keys()))
    accounts = by_id(ACCOUNTS, "accountid", translate.ACCOUNT, customers)
    return [
        _bundle(row, live, solutions, contacts=contacts, users=users, accounts=accounts)
        for row in opportunities
    ]


def _customers(row: Row) -> Sequence[str]:
    """The account, else the customer, which may be a contact: then no account answers to its id."""
    found = translate.lookup(row, "parentaccountid") or translate.lookup(row, "customerid")
    return (found,) if found else ()


def _bundle(
    row: Row,
    connections: Sequence[Row],
    solutions: Sequence[Row],
    *,
    contacts: Mapping[str, Row],
    users: Mapping[str, Row],
    accounts: Mapping[str, Row],
) -> Bundle:
    own = str(row["opportunityid"]).lower()
    people = {translate.lookup(row, "parentcontactid"), translate.lookup(row, "ownerid")}
    mine = []
    for each in connections:
        if translate.lookup(each, "record1id") == own:
            other = translate.lookup(each, "record2id")
            if other in contacts or other in users:
                mine.append(each)
                people.add(other)
    return Bundle(
        row=row,
        account=next((accounts[each] for each in _customers(row) if each in accounts), None),
        contacts={each: contacts[each] for each in sorted(filter(None, people)) if each in contacts},
        users={each: users[each] for each in sorted(filter(None, people)) if each in users},
        connections=tuple(mine),
        solutions=tuple(each for each in solutions if translate.lookup(each, "cosell_opportunity") == own),
    )


# --- what exists ------------------------------------------------------------------------------------------------


def by_referrals(rest: Rest, org: Org, referral_ids: Sequence[str]) -> Mapping[str, str]:
    """Folded referral id → opportunity id."""
    found: dict[str, str] = {}
    wanted = list(dict.fromkeys(each for each in referral_ids if each))
    for some in pieces(wanted, odata.AT_ONCE):
        path = odata.query(OPPORTUNITIES, select=("opportunityid", org.key), where=odata.texts(org.key, some))
        found |= {folded(row.get(org.key)): str(row["opportunityid"]).lower() for row in rest.rows(path)}
    return found


def find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    """By referral id, by the opportunity id that the referral names, and by name and customer."""
    by_referral = by_referrals(rest, org, [each.referral_id for each in sought])
    references = [each.external_reference for each in sought if odata.is_guid(each.external_reference)]
    by_id: dict[str, Row] = {}
    for some in pieces(list(dict.fromkeys(each.lower() for each in references if each)), odata.AT_ONCE):
        path = odata.query(
            OPPORTUNITIES, select=("opportunityid", org.key), where=odata.ids("opportunityid", some)
        )
        by_id |= {str(row["opportunityid"]).lower(): row for row in rest.rows(path)}
    names = list(dict.fromkeys(each.name for each in sought if each.name.strip() and each.customer.name))
    alike = _alike(rest, org, names, match)

    def referenced(each: MatchQuery) -> str | None:
        row = by_id.get((each.external_reference or "").lower())
        # One that already carries another referral belongs to that one.
        if row is None or folded(row.get(org.key)) not in {"", folded(each.referral_id)}:
            return None
        return str(row["opportunityid"]).lower()

    return {
        each.referral_id: Matches(
            by_referral=by_referral.get(folded(each.referral_id)),
            by_reference=referenced(each),
            lookalikes=tuple(alike.get((folded(each.name), *customer_key(each.customer, match)), ())),
        )
        for each in sought
    }


def _alike(
    rest: Rest, org: Org, names: Sequence[str], match: Sequence[str]
) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Open, unlinked opportunities by name and customer."""
    column = org.names["name"]
    wanted = {folded(name) for name in names}
    rows: list[Row] = []
    for some in pieces(names, NAMES):
        where = odata.all_of("statecode eq 0", f"{org.key} eq null", odata.named(column, some))
        path = odata.query(
            OPPORTUNITIES,
            select=("opportunityid", column, "_parentaccountid_value", "_customerid_value"),
            where=where,
            order="opportunityid asc",
        )
        rows += [row for row in rest.rows(path) if folded(row.get(column)) in wanted]
    accounts = accounts_by_id(rest, [each for row in rows for each in _customers(row)])
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        account = next((accounts[each] for each in _customers(row) if each in accounts), None)
        known = translate.customer(account)
        if known is not None:
            who = (folded(row.get(column)), *customer_key(known, match))
            found.setdefault(who, []).append(str(row["opportunityid"]).lower())
    return found


def accounts_by_id(rest: Rest, ids: Sequence[str]) -> Mapping[str, Row]:
    found: dict[str, Row] = {}
    for some in pieces(sorted(set(ids)), odata.AT_ONCE):
        path = odata.query(
            ACCOUNTS, select=("accountid", *translate.ACCOUNT), where=odata.ids("accountid", some)
        )
        found |= {str(row["accountid"]).lower(): row for row in rest.rows(path)}
    return found


def accounts_by_name(rest: Rest, names: Sequence[str]) -> Iterator[Row]:
    """Active accounts of these names, and more; the oldest first."""
    for some in pieces(names, NAMES):
        where = odata.all_of("statecode eq 0", odata.named("name", some))
        yield from rest.rows(
            odata.query(
                ACCOUNTS,
                select=("accountid", *translate.ACCOUNT),
                where=where,
                order="createdon asc,accountid asc",
            )
        )


def users(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[User]:
    """Active users but ourselves, by e-mail or user name, the one longest there first."""
    for some in pieces(names, PEOPLE):
        known = odata.any_of([odata.texts("internalemailaddress", some), odata.texts("domainname", some)])
        path = odata.query(
            USERS,
            select=("systemuserid", "internalemailaddress", "domainname"),
            where=odata.all_of("isdisabled eq false", known),
            order="createdon asc,systemuserid asc",
        )
        for row in rest.rows(path):
            if (user_id := str(row["systemuserid"]).lower()) != org.user_id:
                yield user_id, (row.get("domainname"), row.get("internalemailaddress"))


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    for some in listed(rest, org, stamps_only=True):
        yield {bundle.id: translate.version(bundle).text for bundle in some}
