"""Accounts and contacts that a write needs: found first, made where there are none, never two for one.

Neither table has a key that could keep its rows single, so they are looked up by what makes two of them one: an account by
name, postal code and country, a contact by e-mail under its account. A create without an answer leaves its writes unclear,
so that the next cycle finds the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cosell_sync.core.deal import Customer, Member
from cosell_sync.crm.dynamics import odata, read, related, translate
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONTACTS, Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.values import email, pieces
from cosell_sync.errors import RecordError, Unclear

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

    def accounts(self, customers: Iterable[Customer]) -> Mapping[Key, str | RecordError]:
        """Account id of each customer, by `customer_key`: the oldest that matches, else a new one, or why there is none."""
        wanted = {customer_key(each, self._match): each for each in customers if each.name}
        found: dict[Key, str | RecordError] = {}
        names = list(dict.fromkeys(each.name or "" for each in wanted.values()))
        for row in read.accounts_by_name(self._rest, names) if names else ():
            known = translate.customer(row)
            key = customer_key(known, self._match) if known else ()
            if key in wanted:
                found.setdefault(key, str(row["accountid"]).lower())
        missing = [key for key in wanted if key not in found]
        bodies = [self._org.opened(ACCOUNTS, translate.account_columns(wanted[key])) for key in missing]
        made = self._make([Op("POST", ACCOUNTS, body) for body in bodies])
        return {**found, **dict(zip(missing, made, strict=True))}

    def contacts(self, people: Iterable[tuple[str | None, Member]]) -> None:
        """Find or make a contact for each of these people under that account (id, or None for no account)."""
        wanted = {
            (account, person.email): person
            for account, person in people
            if (account, person.email) not in self._contacts
        }
        for some in pieces(list(wanted), AT_ONCE):
            self._find(some)
        missing = [each for each in wanted if each not in self._contacts]
        bodies = [
            self._org.opened(CONTACTS, related.contact_columns(wanted[each], each[0])) for each in missing
        ]
        made = self._make([Op("POST", CONTACTS, body) for body in bodies])
        self._contacts |= dict(zip(missing, made, strict=True))

    def contact(self, account: str | None, address: str) -> str | RecordError | None:
        """The id of the contact that ``contacts`` found or made, why there is none, or None where it was never looked up."""
        return self._contacts.get((account, address))

    def _find(self, some: Sequence[Place]) -> None:
        """Note the contacts that exist, of people under an account and of those without one."""
        accounts = sorted({account for account, _ in some if account})
        if accounts:
            self._note(odata.ids("_parentcustomerid_value", accounts), some)
        if alone := [each for each in some if each[0] is None]:
            self._note("_parentcustomerid_value eq null", alone)

    def _note(self, parent: str, some: Sequence[Place]) -> None:
        path = odata.query(
            CONTACTS,
            select=("contactid", "emailaddress1", "_parentcustomerid_value"),
            where=odata.all_of(
                "statecode eq 0",
                parent,
                odata.texts("emailaddress1", sorted({address for _, address in some})),
            ),
            order="createdon asc,contactid asc",
        )
        for row in self._rest.rows(path):
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
