"""Accounts and contacts that a write needs: found first, made where there are none, never two for one.

Neither object has a key that could keep its rows single, so they are looked up by what makes two of them one: an account by
name, postal code and country, a contact by e-mail under its account. A create without an answer leaves its writes unclear,
so that the next cycle finds the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cosell_sync.core.deal import Customer, Member
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.salesforce import bulk, composite, errors, queries, related, results, translate
from cosell_sync.crm.salesforce.bulk import Change, Operation, Result
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.values import email, pieces
from cosell_sync.errors import RecordError

AT_ONCE: Final = 100  # names, or pairs of account and e-mail, in one query

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

    # --- accounts -----------------------------------------------------------------------------------------------

    def accounts(self, customers: Iterable[Customer]) -> Mapping[Key, str | RecordError]:
        """Account id of each customer, by `customer_key`: the oldest that matches, else a new one, or why there is none."""
        wanted = {customer_key(each, self._match): each for each in customers if each.name}
        found: dict[Key, str | RecordError] = {**self._existing_accounts(wanted)}
        missing = [key for key in wanted if key not in found]
        columns = {key: translate.account_columns(wanted[key], self._org) for key in missing}
        found |= self._make(missing, [Change(Operation.CREATE, ACCOUNT, columns[key]) for key in missing])
        # An account is made without its state where the org does not know that state for the country, and without its
        # country where the org does not take that.
        for column in (self._org.state, self._org.country):
            refused = [
                key for key in missing if _place_refused(found[key]) and columns[key].pop(column, None)
            ]
            found |= self._make(refused, [Change(Operation.CREATE, ACCOUNT, columns[key]) for key in refused])
        return found

    def _existing_accounts(self, wanted: Mapping[Key, Customer]) -> Mapping[Key, str]:
        found: dict[Key, str] = {}
        names = list(dict.fromkeys(each.name or "" for each in wanted.values()))
        for row in self._accounts_by_name(queries.within_limits(names)):
            known = translate.customer(row, self._org)
            key = customer_key(known, self._match) if known else ()
            if key in wanted:
                found.setdefault(key, str(row["Id"]))
        return found

    def _accounts_by_name(self, names: Sequence[str]) -> Iterator[composite.Row]:
        """Accounts of these names, and some more (see `queries.named`); the oldest first."""
        parts = [composite.query(queries.accounts(self._org, some)) for some in pieces(names, AT_ONCE)]
        for rows in composite.everything(self._rest, parts):
            yield from rows

    # --- contacts -----------------------------------------------------------------------------------------------

    def contacts(self, people: Iterable[tuple[str | None, Member]]) -> None:
        """Find or make a contact for each of these people under that account (id, or None for no account)."""
        wanted = {
            (account, person.email): person
            for account, person in people
            if (account, person.email) not in self._contacts
        }
        for rows in composite.everything(self._rest, _contact_queries(self._org, list(wanted))):
            for row in rows:
                self._note(row, wanted)
        missing = [each for each in wanted if each not in self._contacts]
        made = [
            Change(Operation.CREATE, CONTACT, related.contact_columns(wanted[each], each[0], self._org))
            for each in missing
        ]
        self._contacts |= self._make(missing, made)

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

    def _make(self, keys: Sequence[Any], changes: Sequence[Change]) -> Mapping[Any, str | RecordError]:
        """Ids of new rows. Where a duplicate rule names the row that exists, that one is taken. Raises an outage."""
        made: dict[Any, str | RecordError] = {}
        for key, result in zip(keys, bulk.send(self._rest, changes), strict=True):
            if result.outage is not None:
                raise result.outage
            made[key] = _duplicate(result) or results.failure(self._org, result) or result.id
        return made


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


def _duplicate(result: Result) -> str | None:
    """The existing row that a duplicate rule named."""
    matches = (each for fault in result.faults if fault.code == errors.DUPLICATES for each in fault.matches)
    return next(matches, None)


def _place_refused(result: str | RecordError) -> bool:
    return isinstance(result, RecordError) and result.code in errors.PLACE
