"""What the environment has for a referral or a customer: opportunities by referral id, look-alikes, accounts by name, users.

All questions for one purpose travel together (`questions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cosell_sync.crm.dynamics import odata, translate
from cosell_sync.crm.dynamics.ids import opportunity_id
from cosell_sync.crm.dynamics.org import ACCOUNTS, OPPORTUNITIES, USERS, Org
from cosell_sync.crm.dynamics.questions import Question
from cosell_sync.crm.dynamics.read import account, account_rows, customers
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Row
from cosell_sync.crm.matches import lookalike_key, matches, searchable_names
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import Matches, MatchQuery


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
    accounts = accounts_by_id(rest, org, [each for row in rows for each in customers(row)])
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        customer = translate.customer(account(row, accounts), org)
        if customer is not None:
            key = lookalike_key(row.get(column), customer, match)
            found.setdefault(key, []).append(str(row["opportunityid"]).lower())
    return found


def accounts_by_id(rest: Rest, org: Org, ids: Sequence[str]) -> Mapping[str, Row]:
    """Id → account, those that exist."""
    asked = account_rows(rest, org, ids)
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
