"""Reads from Dataverse: opportunities with their related rows, look-alikes, users, and the index of everything.

A hundred opportunities are read with one query each for their rows, their connections and solutions, and the accounts,
contacts and users that these name: six calls, whatever the hundred have. Nothing is expanded, because expanded rows may come
from caches, are cut into pages in another way, and lack annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cosell_sync.core.deal import Snapshot
from cosell_sync.crm.dynamics import odata, translate
from cosell_sync.crm.dynamics.ids import opportunity_id
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Bundle, Row
from cosell_sync.crm.matches import lookalike_key, matches, searchable_names
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import Matches, MatchQuery

RELATED_AT_ONCE: Final = odata.AT_ONCE  # opportunities whose related rows are read together
PAGE: Final = 500  # opportunities in a page
PERSONS: Final = frozenset(
    {"contact", "systemuser", ""}
)  # tables of people; empty where an answer names no table
# Lookups of several tables say which table they lead to. Else an account out of sight could not be told from a contact.
# https://learn.microsoft.com/power-apps/developer/data-platform/webapi/web-api-navigation-properties
WITH_TARGETS: Final = 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"'


def marker_columns(org: Org) -> Sequence[str]:
    """The columns of which one is set where an opportunity is in scope: it is linked, or to be shared, or has a sync state."""
    return [org.key, *(org.names[name] for name in ("sync", "sync_state") if name in org.names)]


def in_scope_filter(org: Org) -> str:
    """The condition for opportunities in scope."""
    flag = org.names.get("sync")
    tests = [f"{name} eq true" if name == flag else f"{name} ne null" for name in marker_columns(org)]
    return f"({' or '.join(tests)})" if len(tests) > 1 else tests[0]


def in_scope(row: Row, org: Org) -> bool:
    """Whether a row is in scope. A row without one of the columns counts as in scope."""
    return any(name not in row or bool(row[name]) for name in marker_columns(org))


# --- records by id ----------------------------------------------------------------------------------------------


def fetch(rest: Rest, org: Org, ids: Sequence[str]) -> dict[str, Snapshot | None]:
    """Each opportunity as it is now; None where it is deleted or hidden."""
    found = {bundle.id: bundle for bundle in bundles(rest, org, ids)}
    return {
        each: translate.snapshot(found[each.lower()], org) if each.lower() in found else None for each in ids
    }


def bundles(rest: Rest, org: Org, ids: Sequence[str], *, stamps_only: bool = False) -> Iterator[Bundle]:
    """The opportunities that exist, with their related rows. ``stamps_only``: without what versions do not need."""
    wanted = list(dict.fromkeys(each.lower() for each in ids if odata.is_guid(each)))
    for some in pieces(wanted, RELATED_AT_ONCE):
        path = odata.query(
            OPPORTUNITIES, select=_columns(org, stamps_only), where=odata.ids("opportunityid", some)
        )
        rows = list(rest.rows(path, prefer=WITH_TARGETS))
        yield from with_related_rows(rest, org, rows, stamps_only=stamps_only)


def all_in_scope(rest: Rest, org: Org, *, stamps_only: bool = False) -> Iterator[Sequence[Bundle]]:
    """All opportunities in scope with their related rows, by id, in pages."""
    path = odata.query(
        OPPORTUNITIES,
        select=_columns(org, stamps_only),
        where=in_scope_filter(org),
        order="opportunityid asc",
    )
    for sheet in rest.sheets(path, size=PAGE, prefer=WITH_TARGETS):
        for some in pieces(sheet.rows, RELATED_AT_ONCE):
            yield with_related_rows(rest, org, some, stamps_only=stamps_only)


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


def with_related_rows(
    rest: Rest, org: Org, opportunities: Sequence[Row], *, stamps_only: bool = False
) -> list[Bundle]:
    """The opportunities of these rows, at most a hundred, each with its related rows."""
    ids = [str(row["opportunityid"]).lower() for row in opportunities]
    if not ids:
        return []
    query = _RelatedRows(rest, org, stamps_only)
    connections = query.connections(ids)
    solutions = query.solutions(ids)
    connected = _lookups(connections, "record2id")
    contacts = query.by_id(
        CONTACTS, "contactid", translate.CONTACT, connected | _lookups(opportunities, "parentcontactid")
    )
    users = query.by_id(
        USERS,
        "systemuserid",
        translate.USER,
        _lookups(opportunities, "ownerid") | (connected - contacts.keys()),
    )
    customers = {found for row in opportunities for found in _customers(row)}
    accounts = query.by_id(ACCOUNTS, "accountid", org.account_columns, customers)
    return [
        _bundle(row, connections, solutions, contacts=contacts, users=users, accounts=accounts)
        for row in opportunities
    ]


@dataclass(frozen=True)
class _RelatedRows:
    """Queries for the rows related to some opportunities. ``stamps_only``: without what versions do not need."""

    rest: Rest
    org: Org
    stamps_only: bool

    def connections(self, ids: Sequence[str]) -> list[Row]:
        """Active connections that start at these opportunities."""
        rows = self._rows(CONNECTIONS, "connectionid", translate.CONNECTION, "_record1id_value", ids)
        return [row for row in rows if not row.get("statecode")]

    def solutions(self, ids: Sequence[str]) -> list[Row]:
        """Solution rows of these opportunities; none where the environment has no such table."""
        if not self.org.solutions:
            return []
        optional = [name for name in translate.SOLUTION_MORE if self.org.has(SOLUTIONS, name)]
        columns = translate.SOLUTION[:1] if self.stamps_only else (*translate.SOLUTION, *optional)
        return self._rows(SOLUTIONS, "cosell_solutionid", columns, "_cosell_opportunity_value", ids)

    def by_id(
        self, collection: str, key: str, columns: Sequence[str], wanted: Iterable[str]
    ) -> dict[str, Row]:
        """Rows by their id, those that exist."""
        found = self._rows(collection, key, () if self.stamps_only else columns, key, wanted)
        return {str(row[key]).lower(): row for row in found}

    def _rows(
        self, collection: str, key: str, columns: Sequence[str], tested: str, wanted: Iterable[str]
    ) -> list[Row]:
        found: list[Row] = []
        select = (key, *columns, *self.org.stamps(collection))
        for some in pieces(sorted(set(wanted)), odata.AT_ONCE):
            path = odata.query(collection, select=select, where=odata.ids(tested, some))
            found += self.rest.rows(path, prefer=WITH_TARGETS if collection == CONNECTIONS else "")
        return found


def _lookups(rows: Iterable[Row], name: str) -> set[str]:
    """The ids that a lookup column of these rows has."""
    return {found for row in rows if (found := translate.lookup(row, name))}


def _customers(row: Row) -> Sequence[str]:
    """Id of the account, else of the customer, which may be a contact; then no account has that id."""
    found = translate.lookup(row, "parentaccountid") or translate.lookup(row, "customerid")
    return (found,) if found else ()


def _names_an_account(row: Row) -> bool:
    """Whether the row has an account by id. The customer may be a contact, which is no account."""
    if translate.lookup(row, "parentaccountid"):
        return True
    customer = translate.lookup(row, "customerid")
    person = translate.target(row, "customerid") == "contact" or customer == translate.lookup(
        row, "parentcontactid"
    )
    return customer is not None and not person


def _bundle(
    row: Row,
    connections: Sequence[Row],
    solutions: Sequence[Row],
    *,
    contacts: Mapping[str, Row],
    users: Mapping[str, Row],
    accounts: Mapping[str, Row],
) -> Bundle:
    own_id = str(row["opportunityid"]).lower()
    starting = [each for each in connections if translate.lookup(each, "record1id") == own_id]
    mine = [
        each
        for each in starting
        if (other := translate.lookup(each, "record2id")) in contacts or other in users
    ]
    lost = [each for each in starting if each not in mine and translate.target(each, "record2id") in PERSONS]
    account = _account(row, accounts)
    people = _lookups(mine, "record2id") | _lookups([row], "parentcontactid") | _lookups([row], "ownerid")
    return Bundle(
        row=row,
        account=account,
        hidden_account=account is None and _names_an_account(row),
        lost=lost,
        contacts={each: contacts[each] for each in sorted(people) if each in contacts},
        users={each: users[each] for each in sorted(people) if each in users},
        connections=tuple(mine),
        solutions=tuple(each for each in solutions if translate.lookup(each, "cosell_opportunity") == own_id),
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
    """By referral id: the opportunity that has it, the one that the referral names, and look-alikes."""
    by_referral = by_referrals(rest, org, [each.referral_id for each in sought])
    named = {each.external_reference or "": opportunity_id(each.external_reference) for each in sought}
    by_id: dict[str, Row] = {}
    for some in pieces(sorted({each for each in named.values() if each}), odata.AT_ONCE):
        path = odata.query(
            OPPORTUNITIES, select=("opportunityid", org.key), where=odata.ids("opportunityid", some)
        )
        by_id |= {str(row["opportunityid"]).lower(): row for row in rest.rows(path)}
    return matches(
        sought,
        match,
        by_referral=by_referral,
        referenced={
            text: (each, by_id[each].get(org.key)) for text, each in named.items() if each and each in by_id
        },
        lookalikes=_lookalikes(rest, org, searchable_names(sought), match),
    )


def _lookalikes(
    rest: Rest, org: Org, names: Sequence[str], match: Sequence[str]
) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Open opportunities without a referral, by `lookalike_key`."""
    column = org.names["name"]
    wanted = {folded(name) for name in names}
    rows: list[Row] = []
    for some in odata.name_pieces(names):
        path = odata.query(
            OPPORTUNITIES,
            select=("opportunityid", column, "_parentaccountid_value", "_customerid_value"),
            where=odata.all_of("statecode eq 0", f"{org.key} eq null", odata.named(column, some)),
            order="opportunityid asc",
        )
        rows += [row for row in rest.rows(path) if folded(row.get(column)) in wanted]
    accounts = accounts_by_id(rest, org, [each for row in rows for each in _customers(row)])
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        customer = translate.customer(_account(row, accounts), org)
        if customer is not None:
            key = lookalike_key(row.get(column), customer, match)
            found.setdefault(key, []).append(str(row["opportunityid"]).lower())
    return found


def _account(row: Row, accounts: Mapping[str, Row]) -> Row | None:
    """The account of an opportunity; None where it has none."""
    return next((accounts[each] for each in _customers(row) if each in accounts), None)


def accounts_by_id(rest: Rest, org: Org, ids: Sequence[str]) -> Mapping[str, Row]:
    """Id → account, those that exist."""
    found: dict[str, Row] = {}
    for some in pieces(sorted(set(ids)), odata.AT_ONCE):
        path = odata.query(
            ACCOUNTS, select=("accountid", *org.account_columns), where=odata.ids("accountid", some)
        )
        found |= {str(row["accountid"]).lower(): row for row in rest.rows(path)}
    return found


def accounts_by_name(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[Row]:
    """Active accounts of these names, and some more (see `odata.named`); the oldest first."""
    for some in odata.name_pieces(names):
        where = odata.all_of("statecode eq 0", odata.named("name", some))
        yield from rest.rows(
            odata.query(
                ACCOUNTS,
                select=("accountid", *org.account_columns),
                where=where,
                order="createdon asc,accountid asc",
            )
        )


def foreign_accounts(rest: Rest, org: Org, account_ids: Sequence[str]) -> frozenset[str]:
    """Those of these accounts that an opportunity without a referral uses."""
    found: set[str | None] = set()
    for some in pieces(account_ids, odata.AT_ONCE):
        on_them = odata.any_of(
            [odata.ids("_parentaccountid_value", some), odata.ids("_customerid_value", some)]
        )
        path = odata.query(
            OPPORTUNITIES,
            select=("opportunityid", "_parentaccountid_value", "_customerid_value"),
            where=odata.all_of(f"{org.key} eq null", on_them),
        )
        for row in rest.rows(path):
            found |= {translate.lookup(row, "parentaccountid"), translate.lookup(row, "customerid")}
    return frozenset(each for each in found if each in set(account_ids))


def users(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[User]:
    """Active users of these e-mails or user names, without the application user, the oldest first."""
    for some in odata.text_pieces(names, "internalemailaddress"):
        known = odata.any_of([odata.texts("internalemailaddress", some), odata.texts("domainname", some)])
        path = odata.query(
            USERS,
            select=("systemuserid", "internalemailaddress", "domainname"),
            where=odata.all_of("isdisabled eq false", known),
            order="createdon asc,systemuserid asc",
        )
        for row in rest.rows(path):
            if (user_id := str(row["systemuserid"]).lower()) != org.user_id:
                yield User(user_id, row.get("domainname"), row.get("internalemailaddress"))


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    """Id → version of every opportunity in scope, in pages."""
    for some in all_in_scope(rest, org, stamps_only=True):
        yield {bundle.id: translate.version(bundle).text for bundle in some}
