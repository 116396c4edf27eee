"""Which rows around an opportunity have to be made, changed or removed so that its sets are as wanted; pure.

Sets are given whole. What a row holds beside what we know of it is left alone, and so are rows that have no name in
our language: contacts without an e-mail, colleagues who left, solution rows without an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cosell_sync.core.deal import Fields, Member, Solution
from cosell_sync.crm.related import (
    Around,
    changed_columns,
    changed_solution,
    members,
    person_columns,
    solution_key,
)
from cosell_sync.crm.salesforce import translate
from cosell_sync.crm.salesforce.bulk import Change, Verb
from cosell_sync.crm.salesforce.org import CONTACT, KEY, ROLE, SOLUTION, TEAM, Org
from cosell_sync.crm.values import email

Row = Mapping[str, Any]


def around(row: Row, org: Org, wanted: Fields, users: Mapping[str, str], referral_id: str) -> Around[Change]:
    """``row``: as read just now; ``users``: e-mail → id of active users."""
    changes: list[tuple[str, Change]] = []
    people: tuple[Member, ...] = ()
    primary = None
    unheld: dict[str, frozenset[str]] = {}
    if (team := members(wanted, "team")) is not None:
        made, absent = _team(row, org, team, users)
        changes += (("team", each) for each in made)
        unheld |= {"team": absent} if absent else {}
    if (contacts := members(wanted, "contacts")) is not None:
        made, people, primary = _contacts(row, contacts)
        changes += (("contacts", each) for each in made)
    if org.solutions and ("solutions" in wanted or referral_id):
        given = wanted.get("solutions", translate.solutions(row))
        asked = given if isinstance(given, tuple) else ()
        made = _solutions(row, org, [each for each in asked if isinstance(each, Solution)], referral_id)
        changes += (("solutions", each) for each in made)
    return Around(tuple(changes), people, primary, unheld)


def _team(
    row: Row, org: Org, wanted: Sequence[Member], users: Mapping[str, str]
) -> tuple[list[Change], frozenset[str]]:
    owner = row.get("OwnerId")
    emails = [each.email for each in wanted]
    absent = {each for each in emails if each not in users}
    if not org.team:
        return [], frozenset(absent | {each for each in emails if users.get(each) != owner})
    rows = [each for each in translate.children(row, translate.MEMBERS) if each.get("UserId") != org.user_id]
    there = {each.get("UserId") for each in rows}
    # The owner gets a row too: while there is none he stands for the team, and would leave it with the first one added.
    missing = [users[each] for each in emails if each in users and users[each] not in there]
    made = [
        Change(Verb.CREATE, TEAM, {"OpportunityId": row["Id"], "UserId": user, **_access(org)})
        for user in dict.fromkeys(missing)
    ]
    for each in rows:
        person = each.get("User") or {}
        address = email(person.get("Email"))
        if address and person.get("IsActive", True) and address not in emails:
            made.append(Change(Verb.DELETE, TEAM, id=str(each["Id"])))
    return made, frozenset(absent)


def _access(org: Org) -> dict[str, object]:
    """A colleague named on the deal may answer it, which takes the right to edit."""
    may = org.may(TEAM, "OpportunityAccessLevel", "createable")
    return {"OpportunityAccessLevel": "Edit"} if may else {}


def _contacts(row: Row, wanted: Sequence[Member]) -> tuple[list[Change], tuple[Member, ...], str | None]:
    made: list[Change] = []
    roles = translate.children(row, translate.ROLES)
    current = {each.email: each for each in translate.contacts(row)}
    asked = {each.email: each for each in wanted}
    dropped = set()
    for role in roles:
        address = email((role.get("Contact") or {}).get("Email"))
        if address and address not in asked:
            made.append(Change(Verb.DELETE, ROLE, id=str(role["Id"])))
            dropped.add(role["Id"])
    for address, each in asked.items():
        held = current.get(address)
        if held is not None and (columns := changed_columns(each, held, translate.PERSON)):
            made.append(Change(Verb.UPDATE, CONTACT, columns, id=str(held.extra["contact"])))
    people = tuple(each for each in asked.values() if each.email not in current)
    has_primary = any(role.get("IsPrimary") and role["Id"] not in dropped for role in roles)
    return made, people, people[0].email if people and not has_primary else None


def blanks(person: Member, row: Row) -> dict[str, object]:
    """What a contact that is there already does not say; what it says is left alone."""
    known = {"FirstName": person.first_name, "LastName": person.last_name, "Phone": person.phone}
    return {name: item for name, item in known.items() if item and not row.get(name)}


def contact_columns(person: Member, account_id: str | None) -> dict[str, object]:
    under = {"AccountId": account_id} if account_id else {}
    return {**under, **person_columns(person, translate.PERSON)}


def role(opportunity_id: str, contact_id: str, *, primary: bool) -> Change:
    columns: dict[str, object] = {"OpportunityId": opportunity_id, "ContactId": contact_id}
    return Change(Verb.CREATE, ROLE, {**columns, "IsPrimary": True} if primary else columns)


def _solutions(row: Row, org: Org, wanted: Iterable[Solution], referral_id: str) -> list[Change]:
    made: list[Change] = []
    rows: dict[str, list[Row]] = {}
    for each in translate.children(row, translate.SOLUTIONS):
        if code := (each.get("Solution_Id__c") or "").strip():
            rows.setdefault(code, []).append(each)
    asked = {each.id: each for each in wanted}
    for code, solution in asked.items():
        columns = translate.solution_columns(solution, org)
        keyed = bool(referral_id) and org.has(SOLUTION, KEY)
        key = {KEY: solution_key(referral_id, code)} if keyed else {}
        if code in rows:
            held = rows[code][0]
            changed = changed_solution(columns, held, "Solution_Id__c")
            if key and not held.get(KEY):
                changed |= key  # a row that a seller made
            if changed:
                made.append(Change(Verb.UPDATE, SOLUTION, changed, id=str(held["Id"])))
            continue
        filled = {name: item for name, item in columns.items() if item is not None}
        body: dict[str, object] = {"Opportunity__c": row["Id"], **filled, **key}
        made.append(Change(Verb.UPSERT if key else Verb.CREATE, SOLUTION, body, key=KEY if key else ""))
    for code, held_rows in rows.items():
        if code not in asked:
            made += (Change(Verb.DELETE, SOLUTION, id=str(each["Id"])) for each in held_rows)
    return made
