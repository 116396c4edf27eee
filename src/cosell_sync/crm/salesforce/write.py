"""Guarded updates: what changed, and nothing over a change that somebody else made meanwhile.

1. Where sets or the customer change, the rows around those opportunities are read, and must be as they were when the
   write was planned. Reading was chosen over an empty guarded PATCH: child rows do not move the opportunity's stamp,
   so the PATCH would not notice a colleague's edit of a contact, yet it would run the org's flows and move the stamp.
2. Columns of opportunities go as PATCHes with `If-Unmodified-Since`, 25 a composite; those of accounts follow likewise.
   https://developer.salesforce.com/docs/platform/api-rest/guide/intro-rest-conditional-requests.html
3. Rows around them go in collections; a contact is found under the account by e-mail before one is made.
4. Everything that may have landed is read back, because flows may have had a say.

A failure of one record is its outcome. When the org itself is away, what was not started is `Flaky`, and `outage`
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from operator import itemgetter
from typing import Any

from cosell_sync.core.deal import Customer, Member, Snapshot
from cosell_sync.crm import writes
from cosell_sync.crm.related import customer_key, members
from cosell_sync.crm.salesforce import bulk, composite, errors, queries, read, related, translate, versions
from cosell_sync.crm.salesforce.bulk import Change, Result, Verb
from cosell_sync.crm.salesforce.composite import Part, Row
from cosell_sync.crm.salesforce.errors import Fault
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, KEY, OPPORTUNITY, SOLUTION, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.users import Directory
from cosell_sync.crm.values import email, pieces
from cosell_sync.errors import Gone, OutsideError, RecordError, Stale, Unavailable, Unclear
from cosell_sync.ports import OpportunityWrite, Outcome


@dataclass(frozen=True)
class Guard:
    """How `If-Unmodified-Since` is used. Neither which stamp it compares nor whether parts honour it is documented
    beyond doubt. SystemModstamp is never the earlier one, so it is the safe value.
    """

    last_modified: bool = False
    parts: bool = True


@dataclass
class Deal(writes.Deal):
    row: Row | None = None  # as read just now, where the rows around it matter


class Writer:
    """One batch."""

    def __init__(
        self, rest: Rest, org: Org, directory: Directory, guard: Guard, match: Sequence[str]
    ) -> None:
        self.rest = rest
        self.org = org
        self.directory = directory
        self.guard = guard
        self.match = match
        self.line = writes.Line[Deal](
            SYSTEM, "Salesforce", fetch=partial(read.fetch, rest, org), around=self._needs_rows
        )

    @property
    def outage(self) -> OutsideError | None:
        return self.line.outage

    # --- updates ------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        steps = (self._look, self._columns, self._patch, self._customers, self.around)
        return self.line.carry(writes.asked(Deal, batch), steps)

    def _look(self, deals: Sequence[Deal]) -> None:
        """Step 1: read the rows around, and refuse what was planned on others."""
        wanted = {deal.id[:15]: deal for deal in deals if self._needs_rows(deal)}
        fresh = {
            row["Id"][:15]: (row, at)
            for row, at in read.rows(self.rest, self.org, [deal.id for deal in wanted.values()])
        }
        for short, deal in wanted.items():
            if short not in fresh:
                deal.fail(Gone("the opportunity is deleted or out of sight", code="NOT_FOUND"))
                continue
            deal.row, at = fresh[short]
            planned = versions.parse(deal.before.version) if deal.before else None
            if planned is None or not planned.agrees(translate.version(deal.row, at)):
                deal.fail(Stale("changed since it was read", code="CHANGED_AROUND"))

    def _needs_rows(self, deal: Deal) -> bool:
        return deal.concerns_rows(keyed=self.org.has(SOLUTION, KEY))

    def _columns(self, deals: Sequence[Deal]) -> None:
        """What to PATCH; an opportunity without an account gets the customer's, found or made."""
        orphans = [
            (deal, customer)
            for deal in deals
            if deal.going and deal.row is not None and not deal.row.get("AccountId")
            and (customer := deal.customer)
        ]  # fmt: skip
        found = self.accounts([customer for _, customer in orphans])
        for deal in deals:
            deal.columns = translate.columns(deal.fields, self.org)
        for deal, customer in orphans:
            account = found[customer_key(customer, self.match)]
            if isinstance(account, RecordError):
                deal.fail(writes.again(account))
            else:
                deal.columns["AccountId"] = account
                deal.row = {**(deal.row or {}), "AccountId": account}

    def _patch(self, deals: Sequence[Deal]) -> None:
        """Step 2: the opportunities themselves, in the order of their accounts to keep out of each other's locks."""
        going = [deal for deal in deals if deal.going and deal.columns]
        going.sort(key=lambda deal: _account(deal.before))
        jobs = []
        for deal in going:
            version = versions.parse(deal.before.version) if deal.before else None
            if version is None:
                deal.fail(Stale("planned on a version of an unknown kind", code="UNKNOWN_VERSION"))
                continue
            stamp = version.modified if self.guard.last_modified else version.stamp
            jobs.append((deal, OPPORTUNITY, deal.id, deal.columns, stamp))
        self._guarded(jobs)

    def _customers(self, deals: Sequence[Deal]) -> None:
        jobs = []
        for deal in deals:
            wanted = deal.fields.get("customer")
            if (
                not deal.going
                or deal.row is None
                or not isinstance(wanted, Customer)
                or not deal.row.get("Account")
            ):
                continue
            columns = translate.account_columns(
                wanted, self.org, translate.customer(deal.row["Account"], self.org)
            )
            if columns:
                stamp = str(deal.row["Account"].get("SystemModstamp"))
                jobs.append((deal, ACCOUNT, str(deal.row["AccountId"]), columns, stamp))
        self._guarded(jobs)

    def _guarded(self, jobs: Sequence[tuple[Deal, str, str, Mapping[str, object], str]]) -> None:
        """Parts of composites, or single calls where parts do not honour the guard. Two calls in a row without an
        answer mean that nobody is there.
        """
        silent = 0
        for some in pieces(jobs, composite.PARTS if self.guard.parts else 1):
            parts = [
                Part(
                    "PATCH", f"sobjects/{table}/{row_id}", columns, {"If-Unmodified-Since": http_date(stamp)}
                )
                for _, table, row_id, columns, stamp in some
            ]
            results = self.rest.resend_locked(self._send_parts, parts, itemgetter(1))
            for (deal, table, *_), (found, _) in zip(some, results, strict=True):
                if found is None:
                    deal.touched = True
                else:
                    deal.fail(found if table == OPPORTUNITY else moved(found))
            unanswered = [error for error, _ in results if isinstance(error, Unclear)]
            silent = silent + 1 if len(unanswered) == len(results) else 0
            if silent == 2:
                raise Unavailable(SYSTEM, "Salesforce stopped answering", code=unanswered[0].code)

    def _send_parts(self, parts: Sequence[Part]) -> Sequence[tuple[RecordError | None, bool]]:
        """What became of each part, and whether it met a lock."""
        try:
            return self._sent(parts)
        except Unclear as error:
            return [(error, False)] * len(parts)

    def _sent(self, parts: Sequence[Part]) -> Sequence[tuple[RecordError | None, bool]]:
        if self.guard.parts:
            replies, _ = composite.send(self.rest, parts, repeat=False)
            return [self._judged(reply.status, reply.body) for reply in replies]
        (part,) = parts
        try:
            answer = self.rest.call(part.method, part.url, part.body, headers=part.headers)
        except errors.refusals() as error:
            return [self._judged(error.status, error.content)]
        if answer.data is not None:  # a change is answered without a body
            raise Unclear(str(composite.strange()), code="unknown_shape")
        return [(None, False)]

    def _judged(self, status: int, body: Any) -> tuple[RecordError | None, bool]:
        if status < 300:
            return None, False
        found = errors.faults(body)
        return self.outcome(found, status), any(fault.locked for fault in found)

    def outcome(self, found: Sequence[Fault], status: int | None = None) -> RecordError:
        return errors.outcome(found, status, self.org.labels, self.org.ours)

    # --- rows around --------------------------------------------------------------------------------------------

    def around(self, deals: Sequence[Deal]) -> None:
        """Step 3. ``deal.row`` is what the rows are now."""
        going = [deal for deal in deals if deal.going and deal.row is not None]
        emails = [each.email for deal in going for each in members(deal.fields, "team") or ()]
        users = self.directory.find(emails)
        plans = []
        for deal in going:
            plan = related.around(deal.row or {}, self.org, deal.fields, users, deal.referral_id)
            deal.unheld |= plan.unheld
            plans.append((deal, plan))
        people = [
            (deal, (deal.row or {}).get("AccountId"), person)
            for deal, plan in plans
            for person in plan.people
        ]
        contacts, filled = self._contacts(people)
        jobs = [(deal, name, change) for deal, plan in plans for name, change in plan.changes]
        for deal, plan in plans:
            for person in plan.people:
                contact = contacts[(deal.row or {}).get("AccountId"), person.email]
                if isinstance(contact, str):
                    made = related.role(deal.id, contact, primary=person.email == plan.primary)
                    jobs.append((deal, "contacts", made))
                    if blanks := filled.get(contact):
                        jobs.append((deal, "contacts", Change(Verb.UPDATE, CONTACT, blanks, id=contact)))
                else:
                    deal.fail_at("contacts", contact)
        # Two deals may share a contact; a collection takes each row once.
        unique: dict[tuple[object, ...], Change] = {}
        keys = [(change.verb, change.id) if change.id else (at,) for at, (_, _, change) in enumerate(jobs)]
        for key, (_, _, change) in zip(keys, jobs, strict=True):
            known = unique.get(key, change)
            columns = {**(known.columns or {}), **(change.columns or {})}
            unique[key] = replace(change, columns=columns)
        results = dict(zip(unique, bulk.send(self.rest, list(unique.values())), strict=True))
        for key, (deal, name, _) in zip(keys, jobs, strict=True):
            self._settle(deal, name, results[key])
        if away := next((each.away for each in results.values() if each.away), None):
            self.line.outage = away

    def _settle(self, deal: Deal, name: str, result: Result) -> None:
        deal.touched = deal.touched or result.away is None
        if error := self.failure(result):
            deal.fail_at(name, moved(error))

    def failure(self, result: Result) -> RecordError | None:
        if result.fine:
            return None
        if result.lost is not None:
            return Unclear(result.lost.text, code=result.lost.code, status=result.lost.status)
        if result.away is not None:
            return self.line.away()
        return self.outcome(result.faults, result.status)

    def _contacts(
        self, people: Sequence[tuple[Deal, str | None, Member]]
    ) -> tuple[Mapping[tuple[str | None, str], str | RecordError], Mapping[str, Mapping[str, object]]]:
        """Contact id of each account and e-mail, found first, made where there is none; and by that id what a contact
        that was found left blank and is known now.
        """
        found: dict[tuple[str | None, str], str | RecordError] = {}
        filled: dict[str, Mapping[str, object]] = {}
        asked = {(account, person.email): person for _, account, person in people}
        parts = []
        for some in pieces(list(asked), 100):
            accounts = sorted({account for account, _ in some if account})
            emails = sorted({address for _, address in some})
            if accounts:
                parts.append(composite.query(queries.contacts(accounts, emails)))
            if any(account is None for account, _ in some):
                parts.append(composite.query(queries.contacts((), emails)))
        for rows in composite.everything(self.rest, parts):
            for row in rows:
                address = email(row.get("Email"))
                if address is not None and (key := (row.get("AccountId"), address)) not in found:
                    found[key] = str(row["Id"])
                    if key in asked and (blanks := related.blanks(asked[key], row)):
                        filled[str(row["Id"])] = blanks
        missing = [each for each in asked if each not in found]
        made = [
            Change(Verb.CREATE, CONTACT, related.contact_columns(asked[each], each[0])) for each in missing
        ]
        found |= self._made(missing, made)
        return found, filled

    def _made(self, keys: Sequence[Any], changes: Sequence[Change]) -> Mapping[Any, str | RecordError]:
        """Ids of rows that had to be made. Where a duplicate rule names the one that exists, that one is taken."""
        made: dict[Any, str | RecordError] = {}
        results = bulk.send(self.rest, changes)
        for key, result in zip(keys, results, strict=True):
            if result.away is not None:
                raise result.away
            match = next(
                (
                    each
                    for fault in result.faults
                    if fault.code == errors.DUPLICATES
                    for each in fault.matches
                ),
                None,
            )
            error = self.failure(result)
            made[key] = match or (result.id if error is None else error)
        return made

    # --- accounts -----------------------------------------------------------------------------------------------

    def accounts(self, customers: Iterable[Customer]) -> Mapping[tuple[str, ...], str | RecordError]:
        """Account id of each customer: the oldest that matches, else a new one; one per customer, never two."""
        asked = {customer_key(each, self.match): each for each in customers if each.name}
        found: dict[tuple[str, ...], str | RecordError] = {}
        names = list(dict.fromkeys(each.name or "" for each in asked.values()))
        parts = [composite.query(queries.accounts(self.org, some)) for some in pieces(names, 100)]
        for rows in composite.everything(self.rest, parts):
            for row in rows:
                known = translate.customer(row, self.org)
                key = customer_key(known, self.match) if known else ()
                if key in asked:
                    found.setdefault(key, str(row["Id"]))
        missing = [key for key in asked if key not in found]
        columns = {key: translate.account_columns(asked[key], self.org) for key in missing}
        found |= self._made(missing, [Change(Verb.CREATE, ACCOUNT, columns[key]) for key in missing])
        # A state that the org does not know for that country is no reason to have no account.
        odd = [key for key in missing if _odd_state(found[key]) and columns[key].pop(self.org.state, None)]
        found |= self._made(odd, [Change(Verb.CREATE, ACCOUNT, columns[key]) for key in odd])
        return found


def moved(error: RecordError) -> RecordError:
    """A row around the opportunity that is gone (a merged account, a deleted contact) calls for another look."""
    return writes.moved(error) if isinstance(error, Gone) else error


def _account(before: Snapshot | None) -> str:
    customer = before["customer"] if before else None
    return str(customer.extra.get("account", "")) if isinstance(customer, Customer) else ""


def _odd_state(result: str | RecordError) -> bool:
    return isinstance(result, RecordError) and result.code == "FIELD_INTEGRITY_EXCEPTION"


def http_date(stamp: str) -> str:
    moment: datetime = versions.moment(stamp).replace(microsecond=0)
    return format_datetime(moment.astimezone(UTC), usegmt=True)
