"""Which related rows have to be made, changed or removed so that an opportunity's sets are as wanted; pure.

Sets are given whole. Columns of a row that we do not know are left alone, and so are rows that we cannot identify: contacts
without an e-mail, colleagues who left, solution rows without an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cosell_sync.core.deal import Fields, Member, Solution
from cosell_sync.crm.related import (
    RelatedChanges,
    changed_columns,
    changed_solution,
    members,
    person_columns,
    rows_by_code,
    solution_key,
)
from cosell_sync.crm.salesforce import translate
from cosell_sync.crm.salesforce.bulk import Change, Operation
from cosell_sync.crm.salesforce.org import CONTACT, KEY, ROLE, SOLUTION, TEAM, Org
from cosell_sync.crm.values import email

Row = Mapping[str, Any]


def changes(
    row: Row, org: Org, wanted: Fields, users: Mapping[str, str], referral_id: str
) -> RelatedChanges[Change]:
    """``row``: the opportunity with its related rows as read just now; ``users``: e-mail → id of active users."""
    found: list[tuple[str, Change]] = []
    new_contacts: tuple[Member, ...] = ()
    primary_contact = None
    unheld: dict[str, frozenset[str]] = {}
    unseen = {*org.hidden, *translate.out_of_sight(row, org)}  # what cannot be read cannot be compared
    if "team" not in unseen and (team := members(wanted, "team")) is not None:
        made, absent = _team(row, org, team, users)
        found += (("team", each) for each in made)
        unheld |= {"team": absent} if absent else {}
    if "contacts" not in unseen and (contacts := members(wanted, "contacts")) is not None:
        made, new_contacts, primary_contact = _contacts(row, org, contacts)
        found += (("contacts", each) for each in made)
    if org.solutions and ("solutions" in wanted or referral_id):
        given = wanted.get("solutions", translate.solutions(row, org))
        listed = given if isinstance(given, tuple) else ()
        made = _solutions(row, org, [each for each in listed if isinstance(each, Solution)], referral_id)
        found += (("solutions", each) for each in made)
    return RelatedChanges(tuple(found), new_contacts, primary_contact, unheld)


def _team(
    row: Row, org: Org, wanted: Sequence[Member], users: Mapping[str, str]
) -> tuple[list[Change], frozenset[str]]:
    """Changes of the team's rows, and the e-mails that the org cannot have as members."""
    emails = [each.email for each in wanted]
    strangers = set(emails) - users.keys()
    if not org.team:  # then the owner alone is the team
        return [], frozenset(
            each for each in emails if each in strangers or users[each] != row.get("OwnerId")
        )
    rows = translate.team_rows(row, org)
    present = {each.get("UserId") for each in rows}
    # The owner gets a row too. Without any row the owner counts as the team, and would leave it with the first row added.
    missing = dict.fromkeys(users[each] for each in emails if each in users and users[each] not in present)
    columns = {"OpportunityId": row["Id"], **_access(org)}
    made = [Change(Operation.CREATE, TEAM, {**columns, "UserId": user}) for user in missing]
    made += [Change(Operation.DELETE, TEAM, id=str(each["Id"])) for each in rows if _left(each, emails)]
    return made, frozenset(strangers)


def _left(row: Row, emails: Sequence[str]) -> bool:
    """Whether a row of the team is of an active colleague who is no longer wanted."""
    person = row.get("User") or {}
    address = email(person.get("Email"))
    return address is not None and person.get("IsActive", True) and address not in emails


def _access(org: Org) -> dict[str, object]:
    """A member of the team may edit the opportunity, because answering a deal takes that right."""
    may = org.may(TEAM, "OpportunityAccessLevel", "createable")
    return {"OpportunityAccessLevel": "Edit"} if may else {}


def _contacts(
    row: Row, org: Org, wanted: Sequence[Member]
) -> tuple[list[Change], tuple[Member, ...], str | None]:
    """Changes of roles and contacts, people who need a contact, and the e-mail of a new primary contact."""
    current = {each.email: each for each in translate.contacts(row, org)}
    people = {each.email: each for each in wanted}
    roles = translate.children(row, translate.ROLES)
    dropped = [str(role["Id"]) for role in roles if _dropped(role, people)]
    made = [Change(Operation.DELETE, ROLE, id=each) for each in dropped]
    made += _contact_updates(people, current)
    new = tuple(each for each in people.values() if each.email not in current)
    has_primary = any(role.get("IsPrimary") for role in roles if str(role["Id"]) not in dropped)
    return made, new, new[0].email if new and not has_primary else None


def _dropped(role: Row, people: Mapping[str, Member]) -> bool:
    """Whether a contact role is of a person who is no longer wanted."""
    address = email((role.get("Contact") or {}).get("Email"))
    return address is not None and address not in people


def _contact_updates(people: Mapping[str, Member], current: Mapping[str, Member]) -> Iterator[Change]:
    """The columns of contacts that differ, in the order of the people."""
    for address, each in people.items():
        known = current.get(address)
        if known is not None and (columns := changed_columns(each, known, translate.PERSON)):
            yield Change(Operation.UPDATE, CONTACT, columns, id=str(known.extra["contact"]))


def blanks(person: Member, row: Row) -> dict[str, object]:
    """The columns that an existing contact left blank and that are known; what it has, or hides, is left alone."""
    known = {"FirstName": person.first_name, "LastName": person.last_name, "Phone": person.phone}
    return {name: item for name, item in known.items() if item and name in row and not row[name]}


def contact_columns(person: Member, account_id: str | None, org: Org) -> dict[str, object]:
    """The columns of a new contact under that account, without hidden ones."""
    under = {"AccountId": account_id} if account_id else {}
    made = {**under, **person_columns(person, translate.PERSON)}
    return {name: item for name, item in made.items() if org.sees(CONTACT, name)}


def role(opportunity_id: str, contact_id: str, *, primary: bool) -> Change:
    """A new contact role on the opportunity."""
    columns: dict[str, object] = {"OpportunityId": opportunity_id, "ContactId": contact_id}
    return Change(Operation.CREATE, ROLE, {**columns, "IsPrimary": True} if primary else columns)


def _solutions(row: Row, org: Org, wanted: Iterable[Solution], referral_id: str) -> list[Change]:
    rows = rows_by_code(translate.children(row, translate.SOLUTIONS), "Solution_Id__c")
    solutions = {each.id: each for each in wanted}
    keyed = bool(referral_id) and org.has(SOLUTION, KEY)
    made: list[Change] = []
    for code, solution in solutions.items():
        columns = translate.solution_columns(solution, org)
        key = {KEY: solution_key(referral_id, code)} if keyed else {}
        if code in rows:
            made += _changed_solution(rows[code][0], columns, key)
            continue
        filled = {name: item for name, item in columns.items() if item is not None}
        body: dict[str, object] = {"Opportunity__c": row["Id"], **filled, **key}
        made.append(
            Change(Operation.UPSERT if key else Operation.CREATE, SOLUTION, body, key=KEY if key else "")
        )
    surplus = [each for code, listed in rows.items() if code not in solutions for each in listed]
    return [*made, *(Change(Operation.DELETE, SOLUTION, id=str(each["Id"])) for each in surplus)]


def _changed_solution(row: Row, columns: Mapping[str, object], key: Mapping[str, str]) -> list[Change]:
    """The update of an existing solution row, if it differs. A row that a seller made receives its key."""
    changed = changed_solution(columns, row, "Solution_Id__c")
    if key and not row.get(KEY):
        changed |= key
    return [Change(Operation.UPDATE, SOLUTION, changed, id=str(row["Id"]))] if changed else []
