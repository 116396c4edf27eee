"""Accounts and contacts that a write needs: found first, made where there are none, never two for one.

Neither object has a key that could keep its rows single, so they are looked up by what makes two of them one: an account by
name, postal code and country, a contact by e-mail under its account. A create without an answer leaves its writes unclear,
so that the next cycle finds the row.

A duplicate rule may refuse a create and name rows that resemble the new one. Resemblance is not identity: such a row is taken
only if it is of the asked object and what makes two of them one agrees (for a contact the e-mail, under whatever account);
otherwise the row is made with the header that passes a rule which only alerts. Where the rule blocks, both are named.
https://developer.salesforce.com/docs/platform/api-rest/guide/headers-duplicaterules.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cosell_sync.core import messages
from cosell_sync.core.accounts import filled
from cosell_sync.core.deal import Customer, Member
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.salesforce import bulk, composite, errors, queries, related, results, translate
from cosell_sync.crm.salesforce.bulk import Change, Operation, Result
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.values import email, folded, pieces
from cosell_sync.errors import RecordError, Rejected

AT_ONCE: Final = 100  # pairs of account and e-mail in one query

Key = tuple[str, ...]
Place = tuple[str | None, str]  # account id, e-mail


class Customers:
    """The accounts and contacts that were found or made in one batch. ``match``: what makes two customers one."""

    def __init__(self, rest: Rest, org: Org, match: Sequence[str]) -> None:
        self._rest = rest
        self._org = org
        self._match = match
        self._contacts: dict[Place, str | RecordError] = {}
        self._blanks: dict[str, Mapping[str, object]] = {}
        self._made: set[str] = set()  # accounts, until a deal claims them
        self._numbers: dict[str, str] = {}  # account → the D-U-N-S number that it is to be given
        self._account_rows: list[composite.Row] = []  # that were looked up
        self._contact_rows: list[composite.Row] = []
        self._names_asked: set[str] = set()  # folded
        self._emails_asked: set[str] = set()

    def questions(
        self, customers: Iterable[Customer], people: Iterable[Member]
    ) -> tuple[Sequence[composite.Part], Sequence[composite.Part]]:
        """What to ask for these accounts and these contacts; the answers go to ``heard``."""
        names = list(dict.fromkeys(each.name or "" for each in customers))
        emails = list(dict.fromkeys(each.email for each in people))
        self._names_asked |= set(map(folded, names))
        self._emails_asked |= set(emails)
        contacts = [queries.contacts_by_email(self._org, some) for some in pieces(emails, queries.AT_ONCE)]
        return self._name_queries(names), [composite.query(each) for each in contacts]

    def heard(self, accounts: Iterable[composite.Row], contacts: Iterable[composite.Row]) -> None:
        """The rows that were found."""
        self._account_rows += accounts
        self._contact_rows += contacts

    # --- accounts -----------------------------------------------------------------------------------------------

    def accounts(self, customers: Iterable[Customer]) -> Mapping[Key, str | RecordError]:
        """Account id of each customer, by `customer_key`: the oldest that matches, else a new one, or why there is none."""
        wanted = {customer_key(each, self._match): each for each in customers if each.name}
        found: dict[Key, str | RecordError] = {**self._existing_accounts(wanted)}
        self._fill_numbers()
        missing = [key for key in wanted if key not in found]
        columns = {key: translate.account_columns(wanted[key], self._org) for key in missing}
        found |= self._make_accounts(missing, wanted, columns)
        # An account is made without its state where the org does not know that state for the country, and without its
        # country where the org does not take that.
        for column in (self._org.state, self._org.country):
            refused = [
                key for key in missing if _place_refused(found[key]) and columns[key].pop(column, None)
            ]
            found |= self._make_accounts(refused, wanted, columns)
        return found

    def claim(self, account: str) -> str | None:
        """The account's id for the first deal that asks, if the account was made in this batch; else None."""
        if account not in self._made:
            return None
        self._made.remove(account)
        return account

    def _make_accounts(
        self, keys: Sequence[Key], wanted: Mapping[Key, Customer], columns: Mapping[Key, Mapping[str, object]]
    ) -> Mapping[Key, str | RecordError]:
        def same(key: Key, rows: Sequence[composite.Row]) -> str | None:
            customers = {str(row["Id"]): translate.customer(row, self._org) for row in rows}
            return next(
                (
                    each
                    for each, known in customers.items()
                    if known and customer_key(known, self._match) == key
                ),
                None,
            )

        def blocked(key: Key, rows: Sequence[composite.Row]) -> RecordError:
            others = [messages.shown(translate.customer(row, self._org)) for row in rows]
            text = messages.blocked_account(messages.shown(wanted[key]), others)
            return Rejected(text, code=errors.DUPLICATES, fields=("customer",))

        changes = [Change(Operation.CREATE, ACCOUNT, columns[key]) for key in keys]
        return self._make(keys, changes, same, blocked)

    def _existing_accounts(self, wanted: Mapping[Key, Customer]) -> Mapping[Key, str]:
        found: dict[Key, str] = {}
        names = {
            each.name or "": None for each in wanted.values() if folded(each.name) not in self._names_asked
        }
        new = composite.everything(self._rest, self._name_queries(list(names)))
        for row in (*self._account_rows, *(row for rows in new for row in rows)):
            known = translate.customer(row, self._org)
            key = customer_key(known, self._match) if known else ()
            if known and key in wanted and key not in found:
                found[key] = str(row["Id"])
                number = filled(known, wanted[key]).duns
                if number and number != known.duns and self._org.shape().duns:
                    self._numbers[found[key]] = number
        return found

    def _fill_numbers(self) -> None:
        """Give the accounts that were found the D-U-N-S numbers that they lack, like blanks of contacts. One that is refused
        sinks no deal: it is told when the deal is looked at.
        """
        changes = [
            Change(Operation.UPDATE, ACCOUNT, {str(self._org.duns): number}, id=account)
            for account, number in self._numbers.items()
        ]
        self._numbers.clear()
        if changes:
            bulk.send(self._rest, changes)

    def _name_queries(self, names: Sequence[str]) -> Sequence[composite.Part]:
        """For accounts of these names, and some more (see `queries.named`); the oldest first."""
        usable = queries.within_limits(names)
        return [
            composite.query(queries.accounts(self._org, some))
            for some in pieces(usable, queries.NAMES_AT_ONCE)
        ]

    # --- contacts -----------------------------------------------------------------------------------------------

    def contacts(self, people: Iterable[tuple[str | None, Member]]) -> None:
        """Find or make a contact for each of these people under that account (id, or None for no account)."""
        wanted = {
            (account, person.email): person
            for account, person in people
            if (account, person.email) not in self._contacts
        }
        new = [each for each in wanted if each[1] not in self._emails_asked]
        found = composite.everything(self._rest, _contact_queries(self._org, new))
        for row in (*self._contact_rows, *(row for rows in found for row in rows)):
            self._note(row, wanted)
        missing = [each for each in wanted if each not in self._contacts]
        self._contacts |= self._make_contacts(missing, wanted)

    def _make_contacts(
        self, places: Sequence[Place], wanted: Mapping[Place, Member]
    ) -> Mapping[Place, str | RecordError]:
        def same(place: Place, rows: Sequence[composite.Row]) -> str | None:
            """The contact with that e-mail: under the account, else the only one elsewhere."""
            account, address = place
            people = [row for row in rows if email(row.get("Email")) == address]
            here = [row for row in people if row.get("AccountId") == account]
            if not here and len(people) > 1:
                return None
            row = next(iter(here or people), None)
            if row is not None and (blanks := related.blanks(wanted[place], row)):
                self._blanks[str(row["Id"])] = blanks
            return str(row["Id"]) if row is not None else None

        def blocked(place: Place, rows: Sequence[composite.Row]) -> RecordError:
            others = [_person(row) for row in rows]
            text = messages.blocked_contact(
                _person(related.contact_columns(wanted[place], None, self._org)), others
            )
            return Rejected(text, code=errors.DUPLICATES, fields=("contacts",))

        changes = [
            Change(Operation.CREATE, CONTACT, related.contact_columns(wanted[each], each[0], self._org))
            for each in places
        ]
        return self._make(places, changes, same, blocked)

    def contact(self, account: str | None, address: str) -> str | RecordError | None:
        """The id of the contact that ``contacts`` found or made, why there is none, or None where it was never looked up."""
        return self._contacts.get((account, address))

    def blanks(self, contact_id: str) -> Mapping[str, object]:
        """The columns that a found contact left blank and that are known now."""
        return self._blanks.get(contact_id, {})

    def _note(self, row: composite.Row, wanted: Mapping[Place, Member]) -> None:
        address = email(row.get("Email"))
        if address is None or (place := (row.get("AccountId"), address)) in self._contacts:
            return
        contact_id = str(row["Id"])
        self._contacts[place] = contact_id
        if place in wanted and (blanks := related.blanks(wanted[place], row)):
            self._blanks[contact_id] = blanks

    # --- making rows ----------------------------------------------------------------------------------------------

    def _make(
        self,
        keys: Sequence[Any],
        changes: Sequence[Change],
        same: Callable[[Any, Sequence[composite.Row]], str | None],
        blocked: Callable[[Any, Sequence[composite.Row]], RecordError],
    ) -> Mapping[Any, str | RecordError]:
        """Ids of new rows, or why there is none. Raises an outage.

        ``same``: which of the rows that a duplicate rule named is the one to be made, None for none of them. ``blocked``: the
        error where the rule allows no new row beside these.
        """
        sent = dict(zip(keys, self._send(changes), strict=True))
        alike = self._alike([result for result in sent.values() if _refused_as_duplicate(result)])
        again: list[int] = []
        made: dict[Any, str | RecordError] = {}
        for at, (key, result) in enumerate(sent.items()):
            if not _refused_as_duplicate(result):
                made[key] = _made(self._org, result)
            elif known := same(key, _rows_of(result, alike)):
                made[key] = known
            else:
                again.append(at)
        allowed = self._send([replace(changes[at], allow_duplicate=True) for at in again])
        for at, result in zip(again, allowed, strict=True):
            key = keys[at]
            if _refused_as_duplicate(result):
                made[key] = blocked(key, _rows_of(sent[key], alike))
            else:
                made[key] = _made(self._org, result)
        return made

    def _send(self, changes: Sequence[Change]) -> Sequence[Result]:
        found = bulk.send(self._rest, changes)
        self._made |= {
            each.id
            for each, change in zip(found, changes, strict=True)
            if each.fine and change.table == ACCOUNT
        }
        if outage := next((each.outage for each in found if each.outage is not None), None):
            raise outage
        return found

    def _alike(self, refused: Sequence[Result]) -> Mapping[str, composite.Row]:
        """Id → row, of the accounts and contacts that duplicate rules named. Rows out of sight are not among them."""
        parts = []
        for table, query in (
            (ACCOUNT, partial(queries.accounts_by_id, self._org)),
            (CONTACT, partial(queries.contacts_by_id, self._org)),
        ):
            ids = sorted({each.id for result in refused for each in _matches(result) if each.table == table})
            parts += [composite.query(query(some)) for some in pieces(ids, queries.AT_ONCE)]
        return {str(row["Id"]): row for rows in composite.everything(self._rest, parts) for row in rows}


def _contact_queries(org: Org, wanted: Sequence[Place]) -> Sequence[composite.Part]:
    parts = []
    for some in pieces(wanted, AT_ONCE):
        accounts = sorted({account for account, _ in some if account})
        emails = sorted({address for _, address in some})
        if accounts:
            parts.append(composite.query(queries.contacts(org, accounts, emails)))
        if any(account is None for account, _ in some):
            parts.append(composite.query(queries.contacts(org, (), emails)))
    return parts


def _refused_as_duplicate(result: Result) -> bool:
    return any(fault.code == errors.DUPLICATES for fault in result.faults)


def _matches(result: Result) -> Sequence[errors.Match]:
    return [each for fault in result.faults for each in fault.matches]


def _rows_of(result: Result, alike: Mapping[str, composite.Row]) -> Sequence[composite.Row]:
    """The rows that this refusal named and that can be read, in its order."""
    return [alike[each.id] for each in _matches(result) if each.id in alike]


def _made(org: Org, result: Result) -> str | RecordError:
    return results.failure(org, result) or result.id


def _person(row: Mapping[str, Any]) -> str:
    """A contact as a seller knows it: name and e-mail."""
    name = " ".join(str(row[column]) for column in ("FirstName", "LastName") if row.get(column))
    return f"{name} ({row['Email']})" if row.get("Email") else name


def _place_refused(result: str | RecordError) -> bool:
    return isinstance(result, RecordError) and result.code in errors.PLACE
