"""Reads from Dataverse: opportunities with their related rows, look-alikes, users, and the index of everything.

Opportunities are read in two calls, whatever they have: one for their rows, their connections and solutions, and one for the
accounts, contacts and users that these name. Who knows what they name (`Near`) saves the second. Nothing is expanded, because
expanded rows may come from caches, are cut into pages in another way, and lack annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cosell_sync.core.deal import Customer, Member, Snapshot, Solution
from cosell_sync.crm.dynamics import describe, odata, translate
from cosell_sync.crm.dynamics.ids import opportunity_id
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.questions import Question
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Bundle, Row
from cosell_sync.crm.matches import lookalike_key, matches, searchable_names
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import Matches, MatchQuery

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
            "secured": [describe.SECURED] if self.refresh else [],
        }
        found = self._rows(asked)
        if self.refresh:
            describe.refresh(self.rest, self.org, found["secured"])
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
        for row in opportunities:
            yield _bundle(
                row, connections, found[SOLUTIONS],
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
        ACCOUNTS: {found for row in opportunities for found in _customers(row)},
        CONTACTS: _lookups(leads[CONTACTS], "record2id") | _lookups(opportunities, "parentcontactid"),
        USERS: _lookups(leads[USERS], "record2id") | _lookups(opportunities, "ownerid"),
    }


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


def referral_questions(org: Org, referral_ids: Sequence[str]) -> Sequence[Question]:
    """The opportunities that have these referral ids."""
    wanted = list(dict.fromkeys(each for each in referral_ids if each))
    return [
        Question(
            odata.query(OPPORTUNITIES, select=("opportunityid", org.key), where=odata.texts(org.key, some))
        )
        for some in pieces(wanted, odata.AT_ONCE)
    ]


def by_referrals(org: Org, rows: Iterable[Row]) -> Mapping[str, str]:
    """Folded referral id → opportunity id, of the rows that ``referral_questions`` found."""
    return {folded(row.get(org.key)): str(row["opportunityid"]).lower() for row in rows}


def find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    """By referral id: the opportunity that has it, the one that the referral names, and look-alikes."""
    named = {each.external_reference or "": opportunity_id(each.external_reference) for each in sought}
    asked = (
        referral_questions(org, [each.referral_id for each in sought]),
        [
            Question(
                odata.query(
                    OPPORTUNITIES, select=("opportunityid", org.key), where=odata.ids("opportunityid", some)
                )
            )
            for some in pieces(sorted({each for each in named.values() if each}), odata.AT_ONCE)
        ],
        _lookalike_questions(org, searchable_names(sought)),
    )
    answers = iter(rest.all_rows([each for some in asked for each in some]))
    carrying, referenced, alike = ([row for _ in some for row in next(answers)] for some in asked)
    by_id = {str(row["opportunityid"]).lower(): row for row in referenced}
    return matches(
        sought,
        match,
        by_referral=by_referrals(org, carrying),
        referenced={
            text: (each, by_id[each].get(org.key)) for text, each in named.items() if each and each in by_id
        },
        lookalikes=_lookalikes(rest, org, alike, searchable_names(sought), match),
    )


def _lookalike_questions(org: Org, names: Sequence[str]) -> Sequence[Question]:
    """Open opportunities without a referral that may have one of these names."""
    column = org.names["name"]
    return [
        Question(
            odata.query(
                OPPORTUNITIES,
                select=("opportunityid", column, "_parentaccountid_value", "_customerid_value"),
                where=odata.all_of("statecode eq 0", f"{org.key} eq null", odata.named(column, some)),
                order="opportunityid asc",
            )
        )
        for some in odata.name_pieces(names)
    ]


def _lookalikes(
    rest: Rest, org: Org, candidates: Iterable[Row], names: Sequence[str], match: Sequence[str]
) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Those that do have one of the names, by `lookalike_key`."""
    column = org.names["name"]
    wanted = {folded(name) for name in names}
    rows = [row for row in candidates if folded(row.get(column)) in wanted]
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
    asked = _RelatedRows(rest, org, stamps_only=False).by_id(ACCOUNTS, sorted(set(ids)))
    return {str(row["accountid"]).lower(): row for rows in rest.all_rows(asked) for row in rows}


def account_questions(org: Org, names: Sequence[str]) -> Sequence[Question]:
    """Active accounts of these names, and some more (see `odata.named`); each the oldest first."""
    return [
        Question(
            odata.query(
                ACCOUNTS,
                select=("accountid", *org.account_columns),
                where=odata.all_of("statecode eq 0", odata.named("name", some)),
                order="createdon asc,accountid asc",
            )
        )
        for some in odata.name_pieces(names)
    ]


def foreign_accounts(rest: Rest, org: Org, account_ids: Sequence[str]) -> frozenset[str]:
    """Those of these accounts that an opportunity without a referral uses."""
    found: set[str | None] = set()
    asked = []
    for some in pieces(account_ids, odata.AT_ONCE):
        on_them = odata.any_of(
            [odata.ids("_parentaccountid_value", some), odata.ids("_customerid_value", some)]
        )
        path = odata.query(
            OPPORTUNITIES,
            select=("opportunityid", "_parentaccountid_value", "_customerid_value"),
            where=odata.all_of(f"{org.key} eq null", on_them),
        )
        asked.append(Question(path))
    for row in (row for rows in rest.all_rows(asked) for row in rows):
        found |= {translate.lookup(row, "parentaccountid"), translate.lookup(row, "customerid")}
    return frozenset(each for each in found if each in set(account_ids))


def users(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[User]:
    """Active users of these e-mails or user names, without the application user, the oldest first."""
    asked = []
    for some in odata.text_pieces(names, "internalemailaddress"):
        known = odata.any_of([odata.texts("internalemailaddress", some), odata.texts("domainname", some)])
        path = odata.query(
            USERS,
            select=("systemuserid", "internalemailaddress", "domainname"),
            where=odata.all_of("isdisabled eq false", known),
            order="createdon asc,systemuserid asc",
        )
        asked.append(Question(path))
    for row in (row for rows in rest.all_rows(asked) for row in rows):
        if (user_id := str(row["systemuserid"]).lower()) != org.user_id:
            yield User(user_id, row.get("domainname"), row.get("internalemailaddress"))


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    """Id → version of every opportunity in scope, in pages."""
    for some in all_in_scope(rest, org, stamps_only=True):
        yield {bundle.id: translate.version(bundle).text for bundle in some}
