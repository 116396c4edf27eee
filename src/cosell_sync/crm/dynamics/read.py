"""Reads from Dataverse: opportunities with their related rows, and the index of everything.

Opportunities are read in two calls, whatever they have: one for their rows, their connections and solutions, and one for the
accounts, contacts and users that these name. Who knows what they name (`Near`) saves the second. Nothing is expanded, because
expanded rows may come from caches, are cut into pages in another way, and lack annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cosell_sync.core.deal import Customer, Member, Snapshot, Solution
from cosell_sync.crm.dynamics import odata, secured, translate
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.questions import Question
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Bundle, Row
from cosell_sync.crm.values import pieces

PAGE: Final = 500  # opportunities in a page, whose related rows are read together
KEYS: Final[Mapping[str, str]] = {ACCOUNTS: "accountid", CONTACTS: "contactid", USERS: "systemuserid"}

Near = Mapping[str, Iterable[str]]  # set → ids of rows that the opportunities are known to name
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


def around(snapshots: Iterable[Snapshot]) -> dict[str, set[str]]:
    """The ids of the rows that these opportunities named when they were read, by set: they still name most of them."""
    found: dict[str, set[str]] = {name: set() for name in KEYS}
    for each in snapshots:
        customer = each["customer"]
        accounts = {str(customer.extra.get("account"))} if isinstance(customer, Customer) else set()
        contacts = _noted(each, "contacts", "contact")
        others = _noted(each, "contacts", "connection") | _noted(each, "team", "connection")
        found[ACCOUNTS] |= accounts & each.rows
        found[CONTACTS] |= contacts & each.rows
        found[USERS] |= each.rows - accounts - contacts - others - _noted(each, "solutions", "row")
    return found


def _noted(snapshot: Snapshot, name: str, what: str) -> set[str]:
    """The ids of that kind which the members of a set bring with them."""
    given = snapshot[name]
    return {
        str(each.extra.get(what)).lower()
        for each in (given if isinstance(given, tuple) else ())
        if isinstance(each, Member | Solution)
    }


# --- records by id ----------------------------------------------------------------------------------------------


def fetch(
    rest: Rest, org: Org, ids: Sequence[str], near: Near | None = None, *, refresh: bool = False
) -> dict[str, Snapshot | None]:
    """Each opportunity as it is now; None where it is deleted or hidden. ``refresh``: as of ``bundles``."""
    found = {bundle.id: bundle for bundle in bundles(rest, org, ids, near, refresh=refresh)}
    return {
        each: translate.snapshot(found[each.lower()], org) if each.lower() in found else None for each in ids
    }


def bundles(
    rest: Rest, org: Org, ids: Sequence[str], near: Near | None = None, *, refresh: bool = False
) -> Iterator[Bundle]:
    """The opportunities that exist, with their related rows. ``refresh``: with them, which columns are secured by now."""
    wanted = list(dict.fromkeys(each.lower() for each in ids if odata.is_guid(each)))
    for number, some in enumerate(pieces(wanted, PAGE)):
        query = _RelatedRows(rest, org, stamps_only=False, refresh=refresh and not number)
        own = query.questions(OPPORTUNITIES, "opportunityid", _columns(org, stamps_only=False), some)
        yield from query.bundles(own, (), some, near or {})


def all_in_scope(rest: Rest, org: Org, *, stamps_only: bool = False) -> Iterator[Sequence[Bundle]]:
    """All opportunities in scope with their related rows, by id, in pages."""
    path = odata.query(
        OPPORTUNITIES,
        select=_columns(org, stamps_only),
        where=in_scope_filter(org),
        order="opportunityid asc",
    )
    for sheet in rest.sheets(path, size=PAGE, prefer=WITH_TARGETS):
        ids = [str(row["opportunityid"]).lower() for row in sheet.rows]
        if ids:
            yield list(_RelatedRows(rest, org, stamps_only).bundles((), sheet.rows, ids, {}))


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


@dataclass(frozen=True)
class _RelatedRows:
    """Queries for the rows related to some opportunities. ``stamps_only``: without what versions do not need.
    ``refresh``: which columns are secured is asked too, and noted.
    """

    rest: Rest
    org: Org
    stamps_only: bool
    refresh: bool = False

    def bundles(
        self, own: Sequence[Question], rows: Sequence[Row], ids: Sequence[str], near: Near
    ) -> Iterator[Bundle]:
        """The opportunities of these ids: their ``rows``, or what the questions for them bring."""
        around = {name: sorted(set(near.get(name, ()))) for name in KEYS}
        asked = {
            OPPORTUNITIES: own,
            CONNECTIONS: self.connections(ids),
            SOLUTIONS: self.solutions(ids),
            **{name: self.by_id(name, around[name]) for name in KEYS},
            "secured": [secured.SECURED] if self.refresh else [],
        }
        found = self._rows(asked)
        if self.refresh:
            secured.refresh(self.rest, self.org, found["secured"])
        opportunities = [*rows, *found[OPPORTUNITIES]]
        connections = [row for row in found[CONNECTIONS] if not row.get("statecode")]
        left = {
            name: sorted(wanted - set(around[name]))
            for name, wanted in _named(opportunities, connections).items()
        }
        more = self._rows({name: self.by_id(name, wanted) for name, wanted in left.items()})
        people = {
            name: {str(row[KEYS[name]]).lower(): row for row in (*found[name], *more[name])} for name in KEYS
        }
        starting = _grouped(connections, "record1id")
        solutions = _grouped(found[SOLUTIONS], "cosell_opportunity")
        for row in opportunities:
            own_id = str(row["opportunityid"]).lower()
            yield _bundle(
                row, starting.get(own_id, ()), solutions.get(own_id, ()),
                contacts=people[CONTACTS], users=people[USERS], accounts=people[ACCOUNTS],
            )  # fmt: skip

    def connections(self, ids: Sequence[str]) -> Sequence[Question]:
        """Connections that start at these opportunities."""
        return self.questions(
            CONNECTIONS, "connectionid", translate.CONNECTION, ids, tested="_record1id_value"
        )

    def solutions(self, ids: Sequence[str]) -> Sequence[Question]:
        """Solution rows of these opportunities; none where the environment has no such table."""
        if not self.org.solutions:
            return ()
        optional = [name for name in translate.SOLUTION_MORE if self.org.has(SOLUTIONS, name)]
        columns = translate.SOLUTION[:1] if self.stamps_only else (*translate.SOLUTION, *optional)
        return self.questions(
            SOLUTIONS, "cosell_solutionid", columns, ids, tested="_cosell_opportunity_value"
        )

    def by_id(self, collection: str, wanted: Sequence[str]) -> Sequence[Question]:
        """Accounts, contacts or users of these ids."""
        columns = {
            ACCOUNTS: self.org.account_columns,
            CONTACTS: translate.CONTACT,
            USERS: translate.USER,
        }
        return self.questions(
            collection, KEYS[collection], () if self.stamps_only else columns[collection], wanted
        )

    def questions(
        self, collection: str, key: str, columns: Sequence[str], wanted: Sequence[str], *, tested: str = ""
    ) -> Sequence[Question]:
        """The rows whose key, or the column ``tested``, is one of these ids."""
        select = (key, *columns, *self.org.stamps(collection))
        prefer = WITH_TARGETS if collection in {CONNECTIONS, OPPORTUNITIES} else ""
        return [
            Question(
                odata.query(collection, select=select, where=odata.ids(tested or key, some)), prefer=prefer
            )
            for some in pieces(wanted, odata.AT_ONCE)
        ]

    def _rows(self, asked: Mapping[str, Sequence[Question]]) -> Mapping[str, Sequence[Row]]:
        """The rows of each set, asked for together."""
        answers = iter(self.rest.all_rows([each for some in asked.values() for each in some]))
        return {name: [row for _ in some for row in next(answers)] for name, some in asked.items()}


def _named(opportunities: Sequence[Row], connections: Sequence[Row]) -> Mapping[str, set[str]]:
    """The ids of accounts, contacts and users that these rows name. Where a connection does not say which table it leads to,
    the id may be of either.
    """
    leads = {name: [row for row in connections if translate.target(row, "record2id") in {table, ""}]
             for name, table in ((CONTACTS, "contact"), (USERS, "systemuser"))}  # fmt: skip
    return {
        ACCOUNTS: {found for row in opportunities for found in customers(row)},
        CONTACTS: _lookups(leads[CONTACTS], "record2id") | _lookups(opportunities, "parentcontactid"),
        USERS: _lookups(leads[USERS], "record2id") | _lookups(opportunities, "ownerid"),
    }


def _lookups(rows: Iterable[Row], name: str) -> set[str]:
    """The ids that a lookup column of these rows has."""
    return {found for row in rows if (found := translate.lookup(row, name))}


def _grouped(rows: Iterable[Row], name: str) -> Mapping[str, Sequence[Row]]:
    """The rows by the id that their lookup column has."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if own := translate.lookup(row, name):
            found.setdefault(own, []).append(row)
    return found


def customers(row: Row) -> Sequence[str]:
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
    starting: Sequence[Row],
    solutions: Sequence[Row],
    *,
    contacts: Mapping[str, Row],
    users: Mapping[str, Row],
    accounts: Mapping[str, Row],
) -> Bundle:
    """``starting``: the connections that start at this opportunity; ``solutions``: its own."""
    mine = [
        each
        for each in starting
        if (other := translate.lookup(each, "record2id")) in contacts or other in users
    ]
    lost = [each for each in starting if each not in mine and translate.target(each, "record2id") in PERSONS]
    own_account = account(row, accounts)
    people = _lookups(mine, "record2id") | _lookups([row], "parentcontactid") | _lookups([row], "ownerid")
    return Bundle(
        row=row,
        account=own_account,
        hidden_account=own_account is None and _names_an_account(row),
        lost=lost,
        contacts={each: contacts[each] for each in sorted(people) if each in contacts},
        users={each: users[each] for each in sorted(people) if each in users},
        connections=tuple(mine),
        solutions=tuple(solutions),
    )


# --- what exists ------------------------------------------------------------------------------------------------


def account(row: Row, accounts: Mapping[str, Row]) -> Row | None:
    """The account of an opportunity; None where it has none."""
    return next((accounts[each] for each in customers(row) if each in accounts), None)


def account_rows(rest: Rest, org: Org, ids: Iterable[str]) -> Sequence[Question]:
    """The question for accounts by id."""
    return _RelatedRows(rest, org, stamps_only=False).by_id(ACCOUNTS, sorted(set(ids)))


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    """Id → version of every opportunity in scope, in pages."""
    for some in all_in_scope(rest, org, stamps_only=True):
        yield {bundle.id: translate.version(bundle).text for bundle in some}
