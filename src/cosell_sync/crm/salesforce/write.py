"""Guarded updates: only what changed, and nothing over a change that somebody else made meanwhile.

1. Where sets or the customer change, the related rows of those opportunities are read and compared with what the write was
   planned on. They are read rather than guarded by an empty PATCH: an edit of a related row does not move the opportunity's
   stamp, so the PATCH would not notice it, and it would run the org's flows.
2. Columns of opportunities go as PATCHes with `If-Unmodified-Since`, 25 a composite; those of accounts follow likewise.
   https://developer.salesforce.com/docs/platform/api-rest/guide/intro-rest-conditional-requests.html
3. Related rows go in collections. A contact is looked up under the account by e-mail before one is made.
4. Everything that may have landed is read back, because the org's flows may have changed it.

A failure of one record is its outcome. In an outage, what was not finished is `Flaky`, and `outage` has the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any

from cosell_sync.core.deal import Customer, Snapshot
from cosell_sync.crm import writes
from cosell_sync.crm.related import RelatedChanges, customer_key, members
from cosell_sync.crm.salesforce import (
    bulk,
    composite,
    errors,
    queries,
    read,
    related,
    results,
    translate,
    versions,
)
from cosell_sync.crm.salesforce.bulk import Change, Operation, Result
from cosell_sync.crm.salesforce.composite import Part, Row
from cosell_sync.crm.salesforce.customers import Customers
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, KEY, OPPORTUNITY, SOLUTION, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.users import Directory
from cosell_sync.crm.values import pieces
from cosell_sync.errors import Gone, OutsideError, RecordError, Rejected, Stale, Unavailable, Unclear
from cosell_sync.ports import OpportunityWrite, Outcome

Job = tuple["PendingOpportunity", str, Change]  # our field, and the change of one related row
GuardedJob = tuple["PendingOpportunity", str, str, Mapping[str, object], str]  # table, row id, columns, stamp


@dataclass(frozen=True)
class Guard:
    """How `If-Unmodified-Since` is used. Which stamp it compares, and whether the parts of a composite honour it, is not
    documented beyond doubt. SystemModstamp is never the earlier one, so it is the safe value.
    """

    last_modified: bool = False
    parts: bool = True


@dataclass
class PendingOpportunity(writes.PendingWrite):
    """``row``: the opportunity with its related rows as read just now, where these matter. ``related``: what they need."""

    row: Row | None = None
    related: RelatedChanges[Change] = field(default_factory=RelatedChanges)


class Writer:
    """Writes one batch. ``match``: what makes two customers one."""

    def __init__(
        self, rest: Rest, org: Org, directory: Directory, guard: Guard, match: Sequence[str]
    ) -> None:
        self.rest = rest
        self.org = org
        self.directory = directory
        self.guard = guard
        self.match = match
        self.customers = Customers(rest, org, match)
        self._now: dict[
            str, tuple[Row, datetime]
        ] = {}  # short id → the row, read after the last write that may change it
        self._emails: dict[str, str] = {}  # user id → e-mail, of the colleagues that were looked up
        self.batch = writes.Batch[PendingOpportunity](
            SYSTEM,
            "Salesforce",
            fetch=self._fetch,
            needs_related_rows=self._needs_related_rows,
        )

    @property
    def outage(self) -> OutsideError | None:
        """Why the org did not answer last; None while it answers."""
        return self.batch.outage

    # --- what was read together with a write ---

    def note(self, rows: composite.Rows | None) -> None:
        """Rows that were read behind the last write of theirs."""
        if rows is not None:
            found = read.whole_rows(self.rest, rows)
            self._now |= {row["Id"][:15]: (row, at) for row, at in found}

    def rows(self, ids: Sequence[str]) -> Mapping[str, tuple[Row, datetime]]:
        """Short id → the row as it is now, and the server's time; those that exist."""
        unknown = [each for each in ids if each[:15] not in self._now]
        found = read.opportunity_rows(self.rest, self.org, unknown) if unknown else ()
        self._now |= {row["Id"][:15]: (row, at) for row, at in found}
        return {each[:15]: self._now[each[:15]] for each in ids if each[:15] in self._now}

    def _fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        found = self.rows(ids)
        return {
            each: translate.snapshot(found[each[:15]][0], self.org, found[each[:15]][1])
            if each[:15] in found
            else None
            for each in ids
        }

    def _afterwards(self, pending: Sequence[PendingOpportunity]) -> Part | None:
        """The question for what these are after a write, which makes what is known of all of them old."""
        self._now.clear()
        ids = list(dict.fromkeys(each.id for each in pending if each.id))
        return composite.query(queries.by_ids(self.org, ids)) if 0 < len(ids) <= queries.AT_ONCE else None

    # --- updates ------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Guarded updates, read back; the outcomes are in the order of the batch."""
        steps = (
            self._read_related,
            self._set_columns,
            self._patch_opportunities,
            self._patch_accounts,
            self.write_related,
        )
        return self.batch.run(writes.pending_updates(PendingOpportunity, batch), steps)

    def _read_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 1: read the related rows, and refuse what was planned on others."""
        wanted = {each.id[:15]: each for each in pending if self._needs_related_rows(each)}
        fresh = {
            row["Id"][:15]: (row, at)
            for row, at in read.opportunity_rows(self.rest, self.org, [each.id for each in wanted.values()])
        }
        for short_id, each in wanted.items():
            if short_id not in fresh:
                each.fail(Gone("the opportunity is deleted or out of sight", code="NOT_FOUND"))
                continue
            each.row, at = fresh[short_id]
            planned = versions.parse(each.before.version) if each.before else None
            if planned is None or not planned.agrees(translate.version(each.row, at)):
                each.fail(Stale("changed since it was read", code="CHANGED_AROUND"))

    def _needs_related_rows(self, pending: PendingOpportunity) -> bool:
        return pending.needs_related_rows(keyed=self.org.has(SOLUTION, KEY))

    def _set_columns(self, pending: Sequence[PendingOpportunity]) -> None:
        """What to PATCH. An opportunity without an account gets the customer's, found or made."""
        without_account = [
            (each, customer)
            for each in pending
            if each.active and each.row is not None and not each.row.get("AccountId")
            and self.org.identifies_accounts and (customer := each.customer)
        ]  # fmt: skip
        found = self.customers.accounts([customer for _, customer in without_account])
        for each in pending:
            each.columns = translate.columns(each.fields, self.org)
        for each, customer in without_account:
            account = found[customer_key(customer, self.match)]
            if isinstance(account, RecordError):
                each.fail_field("customer", account)
            else:
                each.columns["AccountId"] = account
                each.account_made = self.customers.claim(account)
                each.row = {**(each.row or {}), "AccountId": account}

    def _patch_opportunities(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 2, in the order of the accounts, so that parallel writes rarely wait for each other's locks."""
        active = [each for each in pending if each.active and each.columns]
        active.sort(key=lambda each: _known_account(each.before))
        jobs = {each.id: (each, writes.parted(each, self._names(each))) for each in active}

        def settle(each: PendingOpportunity, error: RecordError | None) -> None:
            write = jobs[each.id][1]
            if error is None:
                each.may_have_landed, each.guard = True, None
                write.landed()
            elif type(error) is not Rejected or error.code in errors.ABOUT_THE_ROW:
                each.fail(error)
            else:
                write.refused(error, self._named(each, error))

        def send(pieces: Sequence[tuple[PendingOpportunity, frozenset[str]]]) -> None:
            guarded: list[GuardedJob] = []
            for each, names in pieces:
                version = versions.parse(each.guard.version) if each.guard else None
                if version is None:
                    each.fail(Stale("planned on a version of an unknown kind", code="UNKNOWN_VERSION"))
                    continue
                stamp = version.modified if self.guard.last_modified else version.stamp
                guarded.append((each, OPPORTUNITY, each.id, self._columns(each, names), stamp))
            self._guarded(guarded, settle)

        self.batch.send_pieces(list(jobs.values()), send)

    def _names(self, pending: PendingOpportunity) -> Sequence[str]:
        """Our fields whose columns are sent with the opportunity's own row."""
        return [
            name
            for name in pending.fields
            if name in self.org.names or (name == "customer" and "AccountId" in pending.columns)
        ]

    def _columns(self, pending: PendingOpportunity, names: frozenset[str]) -> dict[str, object]:
        sent = {self.org.names[name] for name in names if name in self.org.names}
        sent |= {"AccountId"} if "customer" in names else set()
        return {column: item for column, item in pending.columns.items() if column in sent}

    def _named(self, pending: PendingOpportunity, error: RecordError) -> frozenset[str]:
        """Our names of what a refusal is about; empty where it names nothing that was sent."""
        named = {"customer" if name == "AccountId" else name for name in error.fields}
        return frozenset(named & pending.fields.keys())

    def _patch_accounts(self, pending: Sequence[PendingOpportunity]) -> None:
        """The customer's columns, guarded by the account's own stamp."""
        jobs: list[GuardedJob] = []
        for each in pending:
            wanted = each.fields.get("customer")
            account = each.row.get("Account") if each.row is not None else None
            if not each.active or each.row is None or not account or not isinstance(wanted, Customer):
                continue
            columns = translate.account_columns(wanted, self.org, translate.customer(account, self.org))
            if columns:
                stamp = str(account.get("SystemModstamp"))
                jobs.append((each, ACCOUNT, str(each.row["AccountId"]), columns, stamp))

        def settle(each: PendingOpportunity, error: RecordError | None) -> None:
            if error is None:
                each.may_have_landed = True
            else:
                each.fail_field("customer", results.related_error(error))

        self._guarded(jobs, settle)

    def _guarded(
        self,
        jobs: Sequence[GuardedJob],
        settle: Callable[[PendingOpportunity, RecordError | None], None],
    ) -> None:
        """Parts of composites, or single calls where parts do not honour the guard or would change a text. Two calls in a row without
        an answer mean that nobody is there. ``settle`` is told what became of each; None: landed.
        """
        silent = 0
        shared = [job for job in jobs if self._may_share(job[3])]
        alone = [job for job in jobs if not self._may_share(job[3])]
        for some in (*pieces(shared, composite.PARTS - 1), *pieces(alone, 1)):
            parts = [
                Part("PATCH", f"sobjects/{table}/{row_id}", columns, _headers(table, stamp))
                for _, table, row_id, columns, stamp in some
            ]
            afterwards = self._afterwards([deal for deal, *_ in some])
            answers = self.rest.resend_locked(partial(self._send_parts, afterwards), parts, itemgetter(1))
            for (deal, *_), (found, _) in zip(some, answers, strict=True):
                settle(deal, found)
            unanswered = [error for error, _ in answers if isinstance(error, Unclear)]
            silent = silent + 1 if len(unanswered) == len(answers) else 0
            if silent == 2:
                raise Unavailable(SYSTEM, "Salesforce stopped answering", code=unanswered[0].code)

    def _send_parts(
        self, afterwards: Part | None, parts: Sequence[Part]
    ) -> Sequence[tuple[RecordError | None, bool]]:
        """What became of each part, and whether it met a lock."""
        try:
            return self._sent(parts, afterwards)
        except Unclear as error:
            return [(error, False)] * len(parts)

    def _sent(
        self, parts: Sequence[Part], afterwards: Part | None
    ) -> Sequence[tuple[RecordError | None, bool]]:
        if all(self._may_share(part.body) for part in parts):
            asked = [afterwards] if afterwards else []
            replies, at = composite.send(self.rest, [*parts, *asked], repeat=False)
            if asked:
                self.note(composite.rows_if_fine(replies[-1], at))
            return [self._judged(reply.status, reply.body) for reply in replies[: len(parts)]]
        (part,) = parts
        try:
            answer = self.rest.call(part.method, part.url, part.body, headers=part.headers)
        except errors.refusals() as error:
            return [self._judged(error.status, error.content)]
        if answer.data is not None:  # a change is answered without a body
            raise Unclear(str(composite.strange()), code="unknown_shape")
        return [(None, False)]

    def _may_share(self, columns: object) -> bool:
        """Whether a guarded change may be a part of a composite."""
        return self.guard.parts and composite.takes_literally(columns)

    def _judged(self, status: int, body: Any) -> tuple[RecordError | None, bool]:
        """The error of one part, and whether a lock was its cause."""
        if status < 300:
            return None, False
        found = errors.faults(body)
        return results.record_error(self.org, found, status), any(fault.locked for fault in found)

    # --- related rows ---------------------------------------------------------------------------------------------

    def write_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 3. ``row`` of each write holds the related rows as they are now."""
        active = [each for each in pending if each.active and each.row is not None]
        self._plan_related(active)
        self.customers.contacts(
            [(_account_id(each), person) for each in active for person in each.related.new_contacts]
        )
        jobs: list[Job] = [(each, name, change) for each in active for name, change in each.related.changes]
        for each in active:
            jobs += self._new_roles(each)
        self._send_related(jobs, active)

    def _plan_related(self, active: Sequence[PendingOpportunity]) -> None:
        emails = [person.email for each in active for person in members(each.fields, "team") or ()]
        found = self.directory.find(emails)
        self._emails |= {user: email for email, user in found.users.items()}
        for each in active:
            each.related = related.changes(
                each.row or {}, self.org, each.fields, found.users, each.referral_id
            )
            each.unheld |= each.related.unheld
            each.ambiguous = found.ambiguous & each.unheld.get("team", frozenset())

    def _new_roles(self, pending: PendingOpportunity) -> Iterator[Job]:
        """A contact role for each new contact, and what a contact that was found left blank."""
        for person in pending.related.new_contacts:
            contact = self.customers.contact(_account_id(pending), person.email)
            if isinstance(contact, str):
                primary = person.email == pending.related.primary_contact
                yield pending, "contacts", related.role(pending.id, contact, primary=primary)
                if blanks := self.customers.blanks(contact):
                    yield pending, "contacts", Change(Operation.UPDATE, CONTACT, blanks, id=contact)
            elif contact is not None:
                pending.fail_field("contacts", contact)

    def _send_related(self, jobs: Sequence[Job], active: Sequence[PendingOpportunity]) -> None:
        """Send each row once: two writes may share a contact, and a collection takes a row only once."""
        unique: dict[tuple[object, ...], Change] = {}
        keys = [
            (change.operation, change.id) if change.id else (at,) for at, (_, _, change) in enumerate(jobs)
        ]
        for key, (_, _, change) in zip(keys, jobs, strict=True):
            known = unique.get(key, change)
            columns = {**(known.columns or {}), **(change.columns or {})}
            unique[key] = replace(change, columns=columns)
        afterwards = self._afterwards(active) if unique else None
        results, rows = bulk.send_and_ask(self.rest, list(unique.values()), afterwards)
        self.note(rows)
        sent = dict(zip(unique, results, strict=True))
        for key, (each, name, change) in zip(keys, jobs, strict=True):
            self._settle(each, name, sent[key], self._emails.get(str((change.columns or {}).get("UserId"))))
        if outage := next((each.outage for each in sent.values() if each.outage), None):
            self.batch.outage = outage

    def _settle(
        self, pending: PendingOpportunity, name: str, result: Result, colleague: str | None = None
    ) -> None:
        """``colleague``: the e-mail of the team member that the row was about."""
        pending.may_have_landed = pending.may_have_landed or result.outage is None
        if error := self.failure(result):
            error = results.related_error(error)
            if colleague is not None:
                error = writes.copy_error(error, f"{colleague}: {error.text}")
            pending.fail_field(name, error)

    def failure(self, result: Result) -> RecordError | None:
        """Why a row did not land; None where it landed."""
        if result.outage is not None:
            return self.batch.unreachable()
        return results.failure(self.org, result)


def _account_id(pending: PendingOpportunity) -> str | None:
    """The account of the opportunity, or the one that this write gives it."""
    return (pending.row or {}).get("AccountId")


def _known_account(before: Snapshot | None) -> str:
    customer = before["customer"] if before else None
    return str(customer.extra.get("account", "")) if isinstance(customer, Customer) else ""


def _headers(table: str, stamp: str) -> Mapping[str, str]:
    """The guard; an account that is known passes a duplicate rule that only alerts."""
    allowed = bulk.ALLOW_DUPLICATES if table == ACCOUNT else {}
    return {"If-Unmodified-Since": versions.http_date(stamp), **allowed}
