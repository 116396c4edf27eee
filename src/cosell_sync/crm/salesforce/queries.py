"""Every SOQL query, built from what the org has. Literals are written by `literal` and `named` only.

AND beside OR needs parentheses. A date-time has a `Z` and no quotes. `IN ()` is an error, so callers pass at least one value.
https://developer.salesforce.com/docs/platform/soql-sosl/guide/sforce-api-calls-soql-select-quotedstringescapes.html
"""

# ruff: noqa: S608  (SOQL, read-only, and every literal passes through `literal` or `named`)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cosell_sync.crm.salesforce.org import (
    ACCOUNT,
    CONTACT,
    KEY,
    PERSON_PARTS,
    ROLE,
    SOLUTION,
    TEAM,
    USER,
    Org,
)

LONGEST_NAME: Final = 255  # of an account; an opportunity's name has 120
NAMES_AT_ONCE: Final = 100  # in one query; each may take several conditions
USERS_AT_ONCE: Final = 100  # each name of a person stands in two conditions
AT_ONCE: Final = 200  # ids in one query: with child rows a page of the platform holds no more


def literal(value: str | Sequence[str]) -> str:
    """A text, or a list of texts for IN, quoted and escaped."""
    return soql("{}", value if isinstance(value, str) else list(value))


def soql(text: str, *values: object) -> str:
    """A query with its values quoted and escaped by simple-salesforce."""
    from simple_salesforce.format import format_soql  # noqa: PLC0415 - half a second of a command's start

    return str(format_soql(text, *values))


# --- opportunities ----------------------------------------------------------------------------------------------


def in_scope_filter(org: Org, path: str = "") -> str:
    """The condition for opportunities in scope: linked ones, those to be shared, and those that have a sync state, whose sellers
    may have stopped sharing them. ``path``: the relationship from a child row.
    """
    tests = [f"{path}{org.names['referral_id']} != null"]
    tests += [f"{path}{org.names['sync']} = true"] if "sync" in org.names else []
    tests += [f"{path}{org.names['sync_state']} != null"] if "sync_state" in org.names else []
    return f"({' OR '.join(tests)})" if len(tests) > 1 else tests[0]


def opportunities(org: Org, where: str, *, order: str = "", stamps_only: bool = False) -> str:
    """Opportunities with everything that a snapshot, or only its version, is made of."""
    columns = ["Id", "SystemModstamp", "LastModifiedDate", "OwnerId", "Owner.LastModifiedDate"]
    columns += ["AccountId", "Account.SystemModstamp"] if org.reads_account else []
    if not stamps_only:
        columns += ["LastModifiedById", "IsClosed", "IsWon", *org.names.values()]
        columns += ["HasOpportunityLineItem"] if org.has("Opportunity", "HasOpportunityLineItem") else []
        columns += _through("Account", org.customer_columns) if org.reads_account else []
        columns += _through("Owner", org.seen(USER, ("Email", "IsActive", *PERSON_PARTS)))
    children = [_roles(org, stamps_only), *([_team(org, stamps_only)] if org.team else [])]
    children += [_solutions(org, stamps_only)] if org.solutions else []
    text = f"SELECT {', '.join([*dict.fromkeys(columns), *children])} FROM Opportunity WHERE {where}"
    return f"{text} ORDER BY {order}" if order else text


def _through(relationship: str, columns: Sequence[str]) -> list[str]:
    return [f"{relationship}.{name}" for name in columns]


def _roles(org: Org, stamps_only: bool) -> str:
    columns = ["Id", "SystemModstamp", "ContactId", "Contact.SystemModstamp"]
    if not stamps_only:
        columns += ["IsPrimary", *_through("Contact", org.seen(CONTACT, ("Email", *PERSON_PARTS)))]
    return f"(SELECT {', '.join(columns)} FROM OpportunityContactRoles ORDER BY Id)"


def _team(org: Org, stamps_only: bool) -> str:
    columns = ["Id", "SystemModstamp", "UserId", "User.LastModifiedDate"]
    if not stamps_only:
        columns += _through("User", org.seen(USER, ("Email", "IsActive", *PERSON_PARTS)))
    return f"(SELECT {', '.join(columns)} FROM OpportunityTeamMembers ORDER BY Id)"


def _solutions(org: Org, stamps_only: bool) -> str:
    columns = ["Id", "SystemModstamp"]
    if not stamps_only:
        optional = ("Solution_Name__c", "Solution_Type__c", KEY)
        columns += ["Solution_Id__c", *(name for name in optional if org.has(SOLUTION, name))]
    return f"(SELECT {', '.join(columns)} FROM Cosell_Solutions__r ORDER BY Id)"


def by_ids(org: Org, ids: Sequence[str], *, stamps_only: bool = False) -> str:
    """Opportunities by id; ``stamps_only``: without what versions do not need."""
    return opportunities(org, f"Id IN {literal(ids)}", stamps_only=stamps_only)


def whole_by_referrals(org: Org, referral_ids: Sequence[str]) -> str:
    """Opportunities by referral id, with all that a snapshot is made of."""
    return opportunities(org, f"{org.names['referral_id']} IN {literal(referral_ids)}")


# --- what changed -----------------------------------------------------------------------------------------------


def since(stamp: str | None, column: str = "SystemModstamp") -> str:
    """The condition for rows whose stamp is that or later; empty without a stamp."""
    return "" if stamp is None else f"{column} >= {stamp}"


def changed(org: Org, stamp: str | None) -> str:
    """The opportunities whose own stamp moved, oldest first; all in scope without a stamp."""
    where = " AND ".join(filter(None, [in_scope_filter(org), since(stamp)]))
    return opportunities(org, where, order="SystemModstamp ASC, Id ASC")


def changed_around(org: Org, stamp: str) -> Mapping[str, str]:
    """The related rows whose stamp moved, by kind: child rows, contacts, accounts, people."""
    owner = since(stamp, "Owner.LastModifiedDate")
    account = f"({since(stamp, 'Account.SystemModstamp')} OR {owner})"
    texts = {
        "account": (
            "SELECT Id, AccountId, Account.SystemModstamp, OwnerId, Owner.LastModifiedDate FROM Opportunity "
            f"WHERE {in_scope_filter(org)} AND {account}"
            if org.reads_account
            else f"SELECT Id, OwnerId, Owner.LastModifiedDate FROM Opportunity WHERE {in_scope_filter(org)} AND {owner}"
        ),
        "role": (
            "SELECT Id, OpportunityId, SystemModstamp, ContactId, Contact.SystemModstamp "
            f"FROM {ROLE} WHERE {in_scope_filter(org, 'Opportunity.')} AND "
            f"({since(stamp)} OR {since(stamp, 'Contact.SystemModstamp')})"
        ),
    }
    if org.team:
        texts["team"] = (
            "SELECT Id, OpportunityId, SystemModstamp, UserId, User.LastModifiedDate "
            f"FROM {TEAM} WHERE {in_scope_filter(org, 'Opportunity.')} AND "
            f"({since(stamp)} OR {since(stamp, 'User.LastModifiedDate')})"
        )
    if org.solutions:
        texts["solution"] = (
            f"SELECT Id, Opportunity__c, SystemModstamp FROM {SOLUTION} "
            f"WHERE {in_scope_filter(org, 'Opportunity__r.')} AND {since(stamp)}"
        )
    return texts


def deleted(org: Org, stamp: str) -> Mapping[str, str]:
    """For `queryAll`: rows in the Recycle Bin. This includes roles of merged contacts and removed solutions."""
    texts = {
        "opportunity": (
            f"SELECT Id, SystemModstamp FROM Opportunity WHERE IsDeleted = true AND {in_scope_filter(org)} "
            f"AND {since(stamp)}"
        ),
        "role": f"SELECT Id, OpportunityId, SystemModstamp FROM {ROLE} WHERE IsDeleted = true AND {since(stamp)}",
    }
    if org.solutions:
        texts["solution"] = (
            f"SELECT Id, Opportunity__c, SystemModstamp FROM {SOLUTION} WHERE IsDeleted = true AND {since(stamp)}"
        )
    return texts


# --- what exists ------------------------------------------------------------------------------------------------


def index(org: Org) -> str:
    """All opportunities in scope, with what their versions need."""
    return opportunities(org, in_scope_filter(org), order="Id ASC", stamps_only=True)


def by_referrals(org: Org, referral_ids: Sequence[str]) -> str:
    """Opportunities that have one of these referral ids."""
    key = org.names["referral_id"]
    return f"SELECT Id, {key} FROM Opportunity WHERE {key} IN {literal(referral_ids)}"


def by_references(org: Org, ids: Sequence[str]) -> str:
    """Opportunities by id, with the referral id that they have."""
    return f"SELECT Id, {org.names['referral_id']} FROM Opportunity WHERE Id IN {literal(ids)}"


def lookalikes(org: Org, names: Sequence[str]) -> str:
    """Open opportunities without a referral that have one of these names."""
    account = org.seen(ACCOUNT, org.address) if org.reads_account else ()
    columns = ", ".join(["Id", org.names["name"], *_through("Account", account)])
    return (
        f"SELECT {columns} FROM Opportunity WHERE IsClosed = false AND {org.names['referral_id']} = null "
        f"AND {named(org.names['name'], names)} ORDER BY Id ASC"
    )


def foreign(org: Org, account_ids: Sequence[str]) -> str:
    """Opportunities of these accounts that have no referral."""
    where = f"AccountId IN {literal(account_ids)} AND {org.names['referral_id']} = null"
    return f"SELECT Id, AccountId FROM Opportunity WHERE {where}"


def accounts(org: Org, names: Sequence[str]) -> str:
    """Accounts of these names, the oldest first."""
    return _accounts(org, named("Name", names))


def accounts_by_id(org: Org, ids: Sequence[str]) -> str:
    """Accounts of these ids, the oldest first."""
    return _accounts(org, f"Id IN {literal(ids)}")


def _accounts(org: Org, where: str) -> str:
    columns = ", ".join(["Id", *org.customer_columns])
    return f"SELECT {columns} FROM Account WHERE {where} ORDER BY CreatedDate ASC, Id ASC"


def within_limits(names: Sequence[str]) -> list[str]:
    """The names that a row can have: no longer than a name's column. A text in WHERE may have 4,000 characters, a query 100,000.
    https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_soslsoql.htm
    """
    return [name for name in names if len(name) <= LONGEST_NAME]


def named(column: str, names: Sequence[str]) -> str:
    """The condition for rows of one of these names. SOQL ignores case but compares blanks exactly, so any text between the
    words matches; it finds too many rows, and the caller compares them again.
    """
    exact = [name.strip() for name in names if len(name.split()) <= 1]
    loose = [name for name in names if len(name.split()) > 1]
    tests = [f"{column} IN {literal(exact)}"] if exact else []
    for name in loose:
        pattern = "%".join(soql("{:like}", word) for word in name.split())
        tests.append(f"{column} LIKE '{pattern}'")
    return f"({' OR '.join(tests)})"


def contacts(org: Org, account_ids: Sequence[str], emails: Sequence[str]) -> str:
    """Contacts by e-mail under these accounts; without accounts, those of no account."""
    where = f"AccountId IN {literal(account_ids)}" if account_ids else "AccountId = null"
    return _contacts(org, f"{where} AND Email IN {literal(emails)}")


def contacts_by_email(org: Org, emails: Sequence[str]) -> str:
    """Contacts by e-mail under any account, the oldest first."""
    return _contacts(org, f"Email IN {literal(emails)}")


def contacts_by_id(org: Org, ids: Sequence[str]) -> str:
    """Contacts of these ids, the oldest first."""
    return _contacts(org, f"Id IN {literal(ids)}")


def _contacts(org: Org, where: str) -> str:
    columns = ", ".join(["Id", "AccountId", "Email", *org.seen(CONTACT, PERSON_PARTS)])
    return f"SELECT {columns} FROM {CONTACT} WHERE {where} ORDER BY CreatedDate ASC, Id ASC"


def users(names: Sequence[str]) -> str:
    """Active users by e-mail or user name, the oldest first."""
    wanted = literal(names)
    return (
        "SELECT Id, Email, Username FROM User WHERE IsActive = true AND UserType = 'Standard' "
        f"AND (Email IN {wanted} OR Username IN {wanted}) ORDER BY CreatedDate ASC, Id ASC"
    )
