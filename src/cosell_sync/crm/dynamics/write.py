"""Guarded updates: only what changed, and nothing over a change that somebody else made meanwhile.

1. Where sets or the customer change, the related rows of those opportunities are read and compared with what the write was
   planned on: an edit of a contact does not move the opportunity's ETag, so the guard alone would not notice it.
2. Accounts and contacts that are needed are found or made; no existing row is changed by that.
3. Columns and status of each opportunity go in one group, guarded by `If-Match`. What takes several requests (fields and the
   close) is a change set, which lands as a whole or not at all.
4. Related rows follow, each on its own, existing ones guarded by their own ETag.
5. Everything that may have landed is read back, because PATCH answers 204 without a body, and flows may have changed it.

A failure of one record is its outcome. In an outage, what was not finished is `Flaky`, and `outage` has the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cosell_sync.core.deal import Customer, Fields
from cosell_sync.crm import writes
from cosell_sync.crm.dynamics import closing, errors, odata, read, related, translate, versions
from cosell_sync.crm.dynamics.batch import Group, Op
from cosell_sync.crm.dynamics.customers import Customers
from cosell_sync.crm.dynamics.org import (
    ACCOUNTS,
    CONTACTS,
    OPEN,
    OPPORTUNITIES,
    SOLUTIONS,
    USERS,
    Org,
)
from cosell_sync.crm.dynamics.rest import Rest, Result, updated
from cosell_sync.crm.dynamics.translate import Bundle
from cosell_sync.crm.dynamics.writable import current_status, stays_closed, unknown_status, writable
from cosell_sync.crm.related import RelatedChanges, customer_key, members
from cosell_sync.crm.users import Directory
from cosell_sync.errors import Gone, OutsideError, RecordError, Rejected, Stale
from cosell_sync.ports import OpportunityWrite, Outcome

Job = tuple["PendingOpportunity", str, Op]  # our field, and the change of one related row


@dataclass
class PendingOpportunity(writes.PendingWrite):
    """``bundle``: the opportunity with its related rows as read just now, where these matter. ``related``: what they need.
    ``writable``: the fields that the row takes. ``binding``: the columns that give it an account.
    """

    bundle: Bundle | None = None
    writable: Fields = field(default_factory=dict)
    binding: dict[str, object] = field(default_factory=dict)
    related: RelatedChanges[Op] = field(default_factory=RelatedChanges)


class Writer:
    """Writes one batch. ``match``: what makes two customers one."""

    def __init__(self, rest: Rest, org: Org, directory: Directory, match: Sequence[str]) -> None:
        self.rest = rest
        self.org = org
        self.directory = directory
        self.match = match
        self.customers = Customers(rest, org, match)
        # Ids of rows that these opportunities are known to name, by set.
        self._known: dict[str, set[str]] = {}
        self._emails: dict[str, str] = {}  # user id → e-mail, of the colleagues that were looked up
        self.batch = writes.Batch[PendingOpportunity](
            errors.SYSTEM,
            "Dataverse",
            fetch=lambda ids: read.fetch(rest, org, ids, self.near()),
            needs_related_rows=self._needs_related_rows,
        )

    @property
    def outage(self) -> OutsideError | None:
        """Why Dataverse did not answer last; None while it answers."""
        return self.batch.outage

    # --- updates ------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        """Guarded updates, read back; the outcomes are in the order of the batch."""
        steps = (
            self._read_related,
            self._set_columns,
            self.plan_related,
            self._write_opportunities,
            self._patch_accounts,
            self.write_related,
        )
        self._known = read.around(each.before for each in batch)
        return self.batch.run(writes.pending_updates(PendingOpportunity, batch), steps)

    def near(self) -> read.Near:
        """The rows that these opportunities are known to name: of old, and by what was found and made for them."""
        found = {
            ACCOUNTS: self.customers.account_ids,
            CONTACTS: self.customers.contact_ids,
            USERS: {*self._emails, self.org.user_id} - {""},
        }
        return {name: ids | self._known.get(name, set()) for name, ids in found.items()}

    def _read_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 1: read the related rows, and refuse what was planned on others."""
        wanted = {each.id.lower(): each for each in pending if self._needs_related_rows(each)}
        fresh = {bundle.id: bundle for bundle in read.bundles(self.rest, self.org, list(wanted), self.near())}
        for opportunity_id, each in wanted.items():
            each.bundle = fresh.get(opportunity_id)
            if each.bundle is None:
                each.fail(Gone("the opportunity is deleted or out of sight", code="NOT_FOUND"))
            elif each.before is None or versions.parse(each.before.version) != translate.version(each.bundle):
                each.fail(Stale("changed since it was read", code="CHANGED_AROUND"))

    def _needs_related_rows(self, pending: PendingOpportunity) -> bool:
        if OPPORTUNITIES not in self.org.guarded:
            return True  # without optimistic concurrency If-Match carries no version, so the row is read and compared
        return pending.needs_related_rows(keyed=self.org.has(SOLUTIONS, "cosell_key"))

    def _set_columns(self, pending: Sequence[PendingOpportunity]) -> None:
        """What to write; an opportunity without an account gets the customer's, found or made."""
        for each in pending:
            each.writable = writable(each, self.org)
            each.columns = translate.columns(each.writable, self.org)
        without_account = [
            (each, customer)
            for each in pending
            if each.active and each.bundle is not None and each.bundle.account is None
            and not each.bundle.hidden_account and self.org.identifies_accounts
            and (customer := each.customer)
        ]  # fmt: skip
        found = self.customers.accounts([customer for _, customer in without_account])
        for each, customer in without_account:
            account = found[customer_key(customer, self.match)]
            if isinstance(account, RecordError):
                each.fail_field("customer", account)
            elif each.bundle is not None:
                each.account_made = self.customers.claim(account)
                each.binding = account_binding(
                    account, customer_too=each.bundle.row.get("_customerid_value") is None
                )

    def owners(
        self, missing: Sequence[PendingOpportunity], ownership: writes.Ownership
    ) -> Sequence[Sequence[str | None]]:
        """The users to try as owner of each new opportunity; see `Ownership.owners`."""
        found = ownership.owners(missing, self.directory)
        self._known.setdefault(USERS, set()).update(each for own in found for each in own if each)
        return found

    # --- the opportunities themselves ---------------------------------------------------------------------------

    def _write_opportunities(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 3: columns and status."""
        active = {each.id: (each, writes.parted(each, self._names(each))) for each in pending if each.active}

        def settle(each: PendingOpportunity, error: RecordError | None) -> None:
            write = active[each.id][1]
            code = errors.code_of(error) if error is not None else ""
            if error is None:
                each.guard = None
                write.landed()
            elif code in errors.NOT_FROM_HERE:
                self._settle_status(each, error)
                each.guard = None
                write.landed()
            elif type(error) is not Rejected or code in errors.ABOUT_THE_ROW:
                each.fail(error)
            else:
                write.refused(error, self.named(each, error))

        def send(pieces: Sequence[tuple[PendingOpportunity, frozenset[str]]]) -> None:
            jobs = []
            for each, names in pieces:
                if group := self._group(each, names):
                    jobs.append((each, group))
                elif each.active:  # nothing of it has a column here
                    active[each.id][1].landed()
            results = self.rest.send([group for _, group in jobs])
            for (each, _), result in zip(jobs, results, strict=True):
                each.may_have_landed = each.may_have_landed or result.outage is None
                settle(each, self.failure(result))
            self.note_outage(results)

        self.batch.send_pieces(list(active.values()), send)

    def _names(self, pending: PendingOpportunity) -> Sequence[str]:
        """Our fields whose columns, or whose status, are sent with the opportunity's own row."""
        own = [name for name in pending.writable if name in self.org.names or name == "stage"]
        own += ["stage"] if "stage" in pending.fields and "stage" not in own else []
        own += ["customer"] if pending.binding else []
        return [*own, *(["contacts"] if self._primary(pending) else [])]

    def named(self, pending: PendingOpportunity, error: RecordError) -> frozenset[str]:
        """Our names of what a refusal is about, by its target or by the columns that its text names; empty where there is none.

        Dataverse has no list of fields in its errors; validation errors quote the column in their text.
        https://learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes
        """
        code = errors.code_of(error)
        if errors.FIELD_OF.get(code) in pending.fields:
            return frozenset({errors.FIELD_OF[code]})
        wanted = pending.fields if pending.before is None else dict.fromkeys(self._names(pending))
        columns = {crm: name for name, crm in self.org.names.items()}
        columns |= {"parentaccountid": "customer", "customerid": "customer", "parentcontactid": "contacts"}
        quoted = {*re.findall(r"['\"](\w+)['\"]", error.text), *error.fields}
        words = quoted | {
            word for word in re.findall(r"\w+", error.text) if word not in {"name", "description"}
        }
        return frozenset(name for crm, name in columns.items() if crm in words and name in wanted)

    def _group(self, pending: PendingOpportunity, names: frozenset[str]) -> Group:
        """The requests for these fields of one opportunity and its status; empty where there is nothing to send or the write
        failed.
        """
        before = pending.guard
        version = versions.parse(before.version) if before else None
        if version is None or before is None:
            pending.fail(Stale("planned on a version of an unknown kind", code="UNKNOWN_VERSION"))
            return ()
        stage = pending.fields.get("stage") if "stage" in names else None
        target = self.org.status(stage) if "stage" in names else None
        if target is None and "stage" in names:
            pending.fail(unknown_status(stage))
            return ()
        now = current_status(before, self.org)
        columns = translate.columns(
            {name: item for name, item in pending.writable.items() if name in names}, self.org
        )
        columns |= pending.binding if "customer" in names else {}
        columns |= self._primary(pending) if "contacts" in names else {}
        if not columns and target is not None and target.state != OPEN == now.state:
            # The actions take no version, so a PATCH that changes nothing carries it.
            columns = {self.org.names["name"]: before["name"]}
        tag = self.org.tag(OPPORTUNITIES, version.etag)
        return closing.status_writes(
            pending.id, columns, tag, now=now, target=target, reopened=self.org.opening() or now
        )

    def _primary(self, pending: PendingOpportunity) -> dict[str, object]:
        """The opportunity's own contact column, where it has to change."""
        email = pending.related.primary_contact
        if email is None or pending.bundle is None or stays_closed(pending, self.org):
            return {}
        if not email:
            return {"parentcontactid@odata.bind": None}
        known = {
            person.email: person.extra.get("contact")
            for person in translate.contacts(pending.bundle, self.org)
        }
        contact = known.get(email) or self.customers.contact(pending.bundle.account_id, email)
        if not isinstance(contact, str):
            return {}
        return {"parentcontactid@odata.bind": odata.bind("contacts", contact)}

    def _settle_status(self, pending: PendingOpportunity, error: RecordError) -> None:
        """A refused move of the status. It counts as landed where the row already has the wanted state."""
        wanted = self.org.status(pending.fields.get("stage"))
        found = next(iter(read.bundles(self.rest, self.org, [pending.id], self.near())), None)
        if found is None or wanted is None or found.row.get("statecode") != wanted.state:
            pending.fail(error)
        elif pending.fields.keys() - {"stage"}:
            pending.fail(Stale("closed meanwhile", code=error.code, status=error.status))

    def _patch_accounts(self, pending: Sequence[PendingOpportunity]) -> None:
        """The customer's columns, guarded by the account's own ETag."""
        jobs: list[tuple[PendingOpportunity, Op]] = []
        for each in pending:
            wanted = each.fields.get("customer")
            account = each.bundle.account if each.bundle else None
            if not each.active or account is None or not isinstance(wanted, Customer):
                continue
            if columns := self.org.opened(
                ACCOUNTS, translate.account_columns(wanted, self.org, translate.customer(account, self.org))
            ):
                tag = self.org.tag(ACCOUNTS, versions.etag(account))
                jobs.append((each, updated(ACCOUNTS, str(account["accountid"]), columns, tag)))
        results = self.rest.send([(op,) for _, op in jobs])
        for (each, _), result in zip(jobs, results, strict=True):
            self._settle(each, "customer", result)
        self.note_outage(results)

    # --- related rows ---------------------------------------------------------------------------------------------

    def plan_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 2: what the related rows need, with the contacts for it. ``bundle`` of each write holds them as they are."""
        active = [each for each in pending if each.active and each.bundle is not None]
        emails = [person.email for each in active for person in members(each.fields, "team") or ()]
        found = self.directory.find(emails)
        self._emails |= {user: email for email, user in found.users.items()}
        for each in active:
            if each.bundle is not None:
                each.related = related.changes(
                    each.bundle, self.org, each.fields, found.users, each.referral_id
                )
                each.unheld |= each.related.unheld
                each.ambiguous = found.ambiguous & each.unheld.get("team", frozenset())
        self.customers.contacts(
            [(account_id(each), person) for each in active for person in each.related.new_contacts]
        )

    def write_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 4."""
        active = [each for each in pending if each.active and each.bundle is not None]
        jobs: list[Job] = []
        for each in active:
            jobs += [(each, name, op) for name, op in each.related.changes]
            jobs += self._new_connections(each)
        self._send_related(jobs)

    def _new_connections(self, pending: PendingOpportunity) -> Iterator[Job]:
        """The connections to contacts that were found or made for this write."""
        for person in pending.related.new_contacts:
            contact = self.customers.contact(account_id(pending), person.email)
            if isinstance(contact, str) and pending.bundle is not None:
                yield (
                    pending,
                    "contacts",
                    related.connection(self.org, pending.bundle.id, "contacts", contact),
                )
            elif isinstance(contact, RecordError):
                pending.fail_field("contacts", contact)

    def _send_related(self, jobs: Sequence[Job]) -> None:
        """Send each row once: two writes may share a contact, and a second write of it would meet a new version."""
        unique: dict[object, Op] = {}
        keys: list[object] = [
            (op.method, op.path) if op.method != "POST" else at for at, (_, _, op) in enumerate(jobs)
        ]
        for key, (_, _, op) in zip(keys, jobs, strict=True):
            known = unique.get(key, op)
            body = None if op.body is None else {**(known.body or {}), **op.body}
            unique[key] = Op(op.method, op.path, body, known.headers)
        sent = self.rest.send([(op,) for op in unique.values()])
        results = dict(zip(unique, sent, strict=True))
        for key, (each, name, op) in zip(keys, jobs, strict=True):
            result = results[key]
            if op.method == "DELETE" and isinstance(result.error, Gone):
                result = Result()  # a row that is gone is as good as removed
            self._settle(each, name, result, self._colleague(op))
        self.note_outage(sent)

    def _settle(
        self, pending: PendingOpportunity, name: str, result: Result, colleague: tuple[str, str] | None = None
    ) -> None:
        """``colleague``: user id and e-mail of the team member that the row was about."""
        pending.may_have_landed = pending.may_have_landed or result.outage is None
        if error := self.failure(result):
            error = errors.moved(error)
            if colleague is not None and type(error) is Rejected:
                error = errors.of_colleague(error, *colleague)
            pending.fail_field(name, error)

    def _colleague(self, op: Op) -> tuple[str, str] | None:
        user = odata.guid_in(str((op.body or {}).get("record2id_systemuser@odata.bind", "")))
        return (user, self._emails[user]) if user in self._emails else None

    # --- the end ------------------------------------------------------------------------------------------------

    def failure(self, result: Result) -> RecordError | None:
        """Why a group of writes did not land; None where it landed."""
        if result.outage is not None:
            return self.batch.unreachable()
        return result.error

    def note_outage(self, results: Iterable[Result]) -> None:
        """Note that Dataverse stopped answering, where a result says so."""
        self.batch.outage = next((each.outage for each in results if each.outage), self.outage)


def account_id(pending: PendingOpportunity) -> str | None:
    """The account of the opportunity, or the one that this write gives it."""
    if pending.bundle is not None and pending.bundle.account_id:
        return pending.bundle.account_id
    given = {**pending.columns, **pending.binding}.get("parentaccountid@odata.bind")
    return odata.guid_in(given) if isinstance(given, str) else None


def account_binding(account: str, *, customer_too: bool = True) -> dict[str, object]:
    """The columns that make this account the customer. ``customer_too`` is false where a seller chose the customer."""
    to = odata.bind(ACCOUNTS, account)
    made: dict[str, object] = {"parentaccountid@odata.bind": to}
    return {**made, "customerid_account@odata.bind": to} if customer_too else made
