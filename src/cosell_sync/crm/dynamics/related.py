"""Which related rows have to be made, changed or removed so that an opportunity's sets are as wanted; pure.

Sets are given whole. Columns of a row that we do not know are left alone, and so are rows that we cannot identify: contacts
without an e-mail, colleagues who left, solution rows without an id. People are related to an opportunity by connections; the
primary contact is a column of the opportunity as well.
https://learn.microsoft.com/power-apps/developer/data-platform/connection-entities
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cosell_sync.core.deal import Fields, Member, Solution
from cosell_sync.crm.dynamics import odata, translate, versions
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.rest import removed, updated
from cosell_sync.crm.dynamics.translate import Bundle, Row
from cosell_sync.crm.related import (
    RelatedChanges,
    changed_columns,
    changed_solution,
    members,
    person_columns,
    rows_by_code,
    solution_key,
)
from cosell_sync.crm.values import email


def changes(
    bundle: Bundle, org: Org, wanted: Fields, users: Mapping[str, str], referral_id: str
) -> RelatedChanges[Op]:
    """``bundle``: the opportunity with its related rows as read just now; ``users``: e-mail → id of active users."""
    found: list[tuple[str, Op]] = []
    new_contacts: tuple[Member, ...] = ()
    primary_contact = None
    unheld: dict[str, frozenset[str]] = {}
    unseen = set(translate.out_of_sight(bundle, org))  # what cannot be read cannot be compared
    if "team" not in unseen and (team := members(wanted, "team")) is not None:
        made, absent = _team(bundle, org, team, users)
        found += (("team", each) for each in made)
        unheld |= {"team": absent} if absent else {}
    if "contacts" not in unseen and (contacts := members(wanted, "contacts")) is not None:
        made, new_contacts, primary_contact = _contacts(bundle, org, contacts)
        found += (("contacts", each) for each in made)
    if org.solutions and "solutions" not in unseen and ("solutions" in wanted or referral_id):
        given = wanted.get("solutions", translate.solutions(bundle, org))
        listed = given if isinstance(given, tuple) else ()
        made = _solutions(bundle, org, [each for each in listed if isinstance(each, Solution)], referral_id)
        found += (("solutions", each) for each in made)
    return RelatedChanges(tuple(found), new_contacts, primary_contact, unheld)


def connection(org: Org, opportunity_id: str, name: str, other_id: str) -> Op:
    """A new connection from the opportunity to a contact or user; ``name``: contacts or team."""
    collection, table = (CONTACTS, "contact") if name == "contacts" else (USERS, "systemuser")
    body: dict[str, object] = {
        "record1id_opportunity@odata.bind": odata.bind(OPPORTUNITIES, opportunity_id),
        f"record2id_{table}@odata.bind": odata.bind(collection, other_id),
    }
    if name in org.roles:
        body["record2roleid@odata.bind"] = odata.bind("connectionroles", org.roles[name])
    return Op("POST", CONNECTIONS, body)


def _team(
    bundle: Bundle, org: Org, wanted: Sequence[Member], users: Mapping[str, str]
) -> tuple[list[Op], frozenset[str]]:
    emails = [each.email for each in wanted]
    rows = translate.colleagues(bundle, org)
    # Who is on the deal is known by id, though the e-mail may be shared with somebody else and name nobody.
    owner = bundle.users.get(bundle.owner or "", {})
    if bundle.owner and bundle.owner != org.user_id and (address := email(owner.get("internalemailaddress"))):
        users = {**users, address: bundle.owner}
    on_team = {email(bundle.users[user_id].get("internalemailaddress")) for _, user_id in rows}
    absent = set(emails) - users.keys() - on_team
    present = {user_id for _, user_id in rows}
    # The owner is connected too. Without any connection the owner counts as the team, and would leave it with the first one.
    missing = [
        users[each] for each in emails if each in users and each not in on_team and users[each] not in present
    ]
    made = [connection(org, bundle.id, "team", user_id) for user_id in dict.fromkeys(missing)]
    for row, user_id in rows:
        person = bundle.users[user_id]
        address = email(person.get("internalemailaddress"))
        if address and person.get("isdisabled") is not True and address not in emails:
            made.append(_removed(row))
    return made, frozenset(absent)


def _removed(row: Row) -> Op:
    return removed(CONNECTIONS, str(row["connectionid"]))


def _contacts(
    bundle: Bundle, org: Org, wanted: Sequence[Member]
) -> tuple[list[Op], tuple[Member, ...], str | None]:
    made: list[Op] = []
    current = {each.email: each for each in translate.contacts(bundle, org)}
    people = {each.email: each for each in wanted}
    for row, contact_id in translate.connected(bundle, bundle.contacts):
        address = email(bundle.contacts[contact_id].get("emailaddress1"))
        if address and address not in people:
            made.append(_removed(row))
    for address, each in people.items():
        known = current.get(address)
        if known is None:
            continue
        contact_id = str(known.extra["contact"])
        if "connection" not in known.extra:
            # So far only the primary contact. A connection keeps that person a contact when another becomes primary.
            made.append(connection(org, bundle.id, "contacts", contact_id))
        if columns := _short(changed_columns(each, known, translate.CONTACT_PERSON)):
            tag = org.tag(CONTACTS, versions.etag(bundle.contacts[contact_id]))
            made.append(updated(CONTACTS, contact_id, columns, tag))
    new = tuple(each for each in people.values() if each.email not in current)
    return made, new, _primary(bundle, people)


def _primary(bundle: Bundle, wanted: Mapping[str, Member]) -> str | None:
    """The first wanted contact where the primary one is missing or removed; None leaves the column, "" clears it."""
    row = bundle.contacts.get(bundle.primary or "")
    if bundle.primary is not None and row is None:
        return None  # somebody set a contact that we may not read
    address = email(row.get("emailaddress1")) if row else None
    if row is not None and (address is None or address in wanted):
        return None
    first = next(iter(wanted), "")
    return None if row is None and not first else first


def contact_columns(person: Member, account_id: str | None) -> dict[str, object]:
    """The columns of a new contact under that account."""
    under = {"parentcustomerid_account@odata.bind": odata.bind("accounts", account_id)} if account_id else {}
    return {**_short(person_columns(person, translate.CONTACT_PERSON)), **under}


def _short(columns: Mapping[str, str | None]) -> dict[str, object]:
    return {name: translate.short(name, item) for name, item in columns.items()}


def _solutions(bundle: Bundle, org: Org, wanted: Iterable[Solution], referral_id: str) -> list[Op]:
    if not org.identifies_solutions:
        return []
    rows = rows_by_code(bundle.solutions, "cosell_solutioncode")
    solutions = {each.id: each for each in wanted}
    key_open = org.has(SOLUTIONS, "cosell_key") and not org.security.closed(SOLUTIONS, "cosell_key")
    keyed = bool(referral_id) and key_open
    made: list[Op] = []
    for code, solution in solutions.items():
        columns = org.opened(SOLUTIONS, translate.solution_columns(solution, org))
        key = {"cosell_key": solution_key(referral_id, code)} if keyed else {}
        if code in rows:
            made += _changed_solution(rows[code][0], org, columns, key)
            continue
        # The key goes in the body, because its colon is not allowed in an address. The table keeps it unique all the same.
        body = {name: item for name, item in {**columns, **key}.items() if item is not None}
        body["cosell_opportunity@odata.bind"] = odata.bind(OPPORTUNITIES, bundle.id)
        made.append(Op("POST", SOLUTIONS, body))
    surplus = [each for code, listed in rows.items() if code not in solutions for each in listed]
    return [
        *made,
        *(
            removed(SOLUTIONS, str(each["cosell_solutionid"]), org.tag(SOLUTIONS, versions.etag(each)))
            for each in surplus
        ),
    ]


def _changed_solution(row: Row, org: Org, columns: Mapping[str, object], key: Mapping[str, str]) -> list[Op]:
    """The update of an existing solution row, if it differs. A row that a seller made receives its key."""
    changed = changed_solution(columns, row, "cosell_solutioncode")
    if set(changed) == {"cosell_name"}:
        changed = {}  # only the title differs, which a seller may choose
    if key and not row.get("cosell_key"):
        changed |= key
    if not changed:
        return []
    tag = org.tag(SOLUTIONS, versions.etag(row))
    return [updated(SOLUTIONS, str(row["cosell_solutionid"]), changed, tag)]
