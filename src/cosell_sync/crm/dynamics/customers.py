"""Accounts and contacts that a write needs: found first, made where there are none, never two for one.

Neither table has a key that could keep its rows single, so they are looked up by what makes two of them one: an account by
name, postal code and country, a contact by e-mail under its account. A create without an answer leaves its writes unclear,
so that the next cycle finds the row.

An environment may have alternate keys or duplicate rules of its own that refuse a create because of another row. That row is
taken only if what makes two of them one agrees (for a contact the e-mail, under whatever account); else both are named.
Duplicate detection stays suppressed, which is the Web API's default.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/manage-duplicate-detection-create-update
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.accounts import filled
from cosell_sync.core.deal import Customer, Member
from cosell_sync.core.texts import Text
from cosell_sync.crm.dynamics import errors, lookups, odata, related, translate, versions
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONTACTS, DUNS, Org
from cosell_sync.crm.dynamics.questions import Question
from cosell_sync.crm.dynamics.rest import Rest, updated
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.values import email, folded, pieces
from cosell_sync.errors import RecordError, Rejected, Unclear

AT_ONCE: Final = 50  # pairs of account and e-mail in one query

Key = tuple[str, ...]
Place = tuple[str | None, str]  # account id, e-mail


class Customers:
    """The accounts and contacts that were found or made in one batch. ``match``: what makes two customers one."""

    def __init__(self, rest: Rest, org: Org, match: Sequence[str]) -> None:
        self._rest = rest
        self._org = org
        self._match = match
        self._contacts: dict[Place, str | RecordError] = {}
        self._accounts: set[str] = set()  # found or made
        self._made: set[str] = set()  # accounts, until a deal claims them
        self._numbers: list[Op] = []  # D-U-N-S numbers that accounts are to be given
        self._account_rows: list[translate.Row] = []  # that were looked up
        self._names_asked: set[str] = set()  # folded
        self._emails_asked: set[str] = set()

    def questions(
        self, customers: Iterable[Customer], people: Iterable[Member]
    ) -> tuple[Sequence[Question], Sequence[Question]]:
        """What to ask for these accounts and these contacts; the answers go to ``heard``."""
        names = list(dict.fromkeys(each.name or "" for each in customers))
        emails = list(dict.fromkeys(each.email for each in people))
        self._names_asked |= set(map(folded, names))
        self._emails_asked |= set(emails)
        accounts = lookups.account_questions(self._org, names) if names else ()
        return accounts, [Question(_by_email("", some)) for some in pieces(emails, AT_ONCE)]

    def heard(self, accounts: Iterable[translate.Row], contacts: Iterable[translate.Row]) -> None:
        """The rows that were found."""
        self._account_rows += accounts
        self._note(contacts)

    def accounts(self, customers: Iterable[Customer]) -> Mapping[Key, str | RecordError]:
        """Account id of each customer, by `customer_key`: the oldest that matches, else a new one, or why there is none."""
        wanted = {customer_key(each, self._match): each for each in customers if each.name}
        new = [each for each in wanted.values() if folded(each.name) not in self._names_asked]
        rows = [*self._account_rows, *(self._accounts_by_name(new) if new else ())]
        found: dict[Key, str | RecordError] = {**self._known_accounts(wanted, rows)}
        self._fill_numbers()
        missing = [key for key in wanted if key not in found]
        bodies = [
            self._org.opened(ACCOUNTS, translate.account_columns(wanted[key], self._org)) for key in missing
        ]
        made = self._make([Op("POST", ACCOUNTS, body) for body in bodies])
        self._made |= {each for each in made if isinstance(each, str)}
        found |= zip(missing, made, strict=True)
        if refused := {key: wanted[key] for key in missing if _refused_as_alike(found[key])}:
            found |= self._of_refused_accounts(refused)
        self._accounts |= {each for each in found.values() if isinstance(each, str)}
        return found

    def _known_accounts(
        self, wanted: Mapping[Key, Customer], rows: Iterable[translate.Row]
    ) -> Mapping[Key, str]:
        """The oldest account that is the same, of these."""
        found: dict[Key, str] = {}
        for row in rows:
            known = translate.customer(row, self._org)
            key = customer_key(known, self._match) if known else ()
            if known and key in wanted and key not in found:
                found[key] = str(row["accountid"]).lower()
                number = filled(known, wanted[key]).duns
                if number and number != known.duns and self._org.shape().duns:
                    tag = self._org.tag(ACCOUNTS, versions.etag(row))
                    self._numbers.append(updated(ACCOUNTS, found[key], {DUNS: number}, tag))
        return found

    def _fill_numbers(self) -> None:
        """Give the accounts that were found the D-U-N-S numbers that they lack. One that is refused sinks no deal: it is told
        when the deal is looked at.
        """
        ops, self._numbers = self._numbers, []
        if ops:
            self._rest.send([(op,) for op in ops])

    def _accounts_by_name(self, customers: Iterable[Customer]) -> list[translate.Row]:
        names = list(dict.fromkeys(each.name or "" for each in customers))
        asked = lookups.account_questions(self._org, names)
        return [row for rows in self._rest.all_rows(asked) for row in rows]

    def _of_refused_accounts(self, refused: Mapping[Key, Customer]) -> Mapping[Key, str | RecordError]:
        """The accounts that somebody made meanwhile; for the others an error that names those in the way."""
        found = self._accounts_by_name(refused.values())
        made: dict[Key, str | RecordError] = {**self._known_accounts(refused, found)}
        rows = [translate.customer(row, self._org) for row in found]
        for key in refused.keys() - made.keys():
            wanted = refused[key]
            others = [
                messages.shown(each) for each in rows if each and folded(each.name) == folded(wanted.name)
            ]
            text = messages.blocked_account(messages.shown(wanted), others)
            made[key] = Rejected(text, code=errors.BLOCKED, fields=("customer",))
        return made

    @property
    def account_ids(self) -> set[str]:
        """The accounts that were found or made for somebody."""
        return set(self._accounts)

    @property
    def contact_ids(self) -> set[str]:
        """The contacts that were found or made."""
        return {each for each in self._contacts.values() if isinstance(each, str)}

    def claim(self, account: str) -> str | None:
        """The account's id for the first deal that asks, if the account was made in this batch; else None."""
        if account not in self._made:
            return None
        self._made.remove(account)
        return account

    def contacts(self, people: Iterable[tuple[str | None, Member]]) -> None:
        """Find or make a contact for each of these people under that account (id, or None for no account)."""
        wanted = {
            (account, person.email): person
            for account, person in people
            if (account, person.email) not in self._contacts
        }
        asked = [
            question
            for some in pieces([each for each in wanted if each[1] not in self._emails_asked], AT_ONCE)
            for question in _of_places(some)
        ]
        for found in self._rest.all_rows(asked):
            self._note(found)
        missing = [each for each in wanted if each not in self._contacts]
        bodies = [
            self._org.opened(CONTACTS, related.contact_columns(wanted[each], each[0])) for each in missing
        ]
        made = self._make([Op("POST", CONTACTS, body) for body in bodies])
        self._contacts |= dict(zip(missing, made, strict=True))
        if refused := [each for each in missing if _refused_as_alike(self._contacts[each])]:
            self._contacts |= self._of_refused_contacts(refused, wanted)

    def _of_refused_contacts(
        self, refused: Sequence[Place], wanted: Mapping[Place, Member]
    ) -> Mapping[Place, str | RecordError]:
        """The contact with that e-mail: under the account, else the only one elsewhere; else an error that names those."""
        rows = [
            row
            for some in pieces(refused, AT_ONCE)
            for row in self._rest.rows(_by_email("", {address for _, address in some}))
        ]
        made: dict[Place, str | RecordError] = {}
        for place in refused:
            people = [row for row in rows if email(row.get("emailaddress1")) == place[1]]
            here = [row for row in people if translate.lookup(row, "parentcustomerid") == place[0]]
            if here or len(people) == 1:
                made[place] = str((here or people)[0]["contactid"]).lower()
                continue
            new = f"{messages.person(wanted[place])} ({place[1]})"
            text = messages.blocked_contact(
                new, [Text("a contact with the e-mail %(email)s", email=place[1])] if people else []
            )
            made[place] = Rejected(text, code=errors.BLOCKED, fields=("contacts",))
        return made

    def contact(self, account: str | None, address: str) -> str | RecordError | None:
        """The id of the contact that ``contacts`` found or made, why there is none, or None where it was never looked up."""
        return self._contacts.get((account, address))

    def _note(self, rows: Iterable[translate.Row]) -> None:
        """Note the contacts that exist, by account and e-mail, the oldest first."""
        for row in rows:
            if address := email(row.get("emailaddress1")):
                place = (translate.lookup(row, "parentcustomerid"), address)
                self._contacts.setdefault(place, str(row["contactid"]).lower())

    def _make(self, ops: Sequence[Op]) -> Sequence[str | RecordError]:
        """Ids of new rows. Raises an outage."""
        made: list[str | RecordError] = []
        for result in self._rest.send([(op,) for op in ops]):
            if result.outage is not None:
                raise result.outage
            row_id = next(iter(result.ids), None)
            lost = Unclear("Dataverse did not name the row it made", code="unreadable")
            made.append(result.error or row_id or lost)
        return made


def _of_places(some: Sequence[Place]) -> Iterator[Question]:
    """What to ask for people under an account, and for those without one."""
    accounts = sorted({account for account, _ in some if account})
    if accounts:
        parent = odata.ids("_parentcustomerid_value", accounts)
        yield Question(_by_email(parent, {address for _, address in some}))
    if alone := {address for account, address in some if account is None}:
        yield Question(_by_email("_parentcustomerid_value eq null", alone))


def _by_email(parent: str, emails: Iterable[str]) -> str:
    """The query for active contacts of these e-mails, the oldest first; ``parent``: a further condition."""
    return odata.query(
        CONTACTS,
        select=("contactid", "emailaddress1", "_parentcustomerid_value"),
        where=odata.all_of(
            *filter(None, ["statecode eq 0", parent, odata.texts("emailaddress1", sorted(emails))])
        ),
        order="createdon asc,contactid asc",
    )


def _refused_as_alike(result: str | RecordError) -> bool:
    return isinstance(result, RecordError) and errors.code_of(result) in errors.ALIKE
