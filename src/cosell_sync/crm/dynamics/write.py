"""Guarded updates: only what changed, and nothing over a change that somebody else made meanwhile.

1. Where sets or the customer change, the related rows of those opportunities are read and compared with what the write was
   planned on: an edit of a contact does not move the opportunity's ETag, so the guard alone would not notice it.
2. Accounts and contacts that are needed are found or made; no existing row is changed by that.
3. Columns and status of each opportunity go in one group, guarded by `If-Match`. What takes several requests (fields and the
   close) is a change set, which lands as a whole or not at all.
4. Related rows follow, each on its own, existing ones guarded by their own ETag.
5. Everything that may have landed is read back, because PATCH answers 204 without a body, and flows may have changed it.

A closed row takes our own columns at most, and no page says whether an environment allows even that: a refusal is the
outcome, and `cycle.closed_rows` remembers it.
A failure of one record is its outcome. In an outage, what was not finished is `Flaky`, and `outage` has the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from cosell_sync.core.deal import ABSENT, Customer, Fields, Snapshot
from cosell_sync.crm import writes
from cosell_sync.crm.dynamics import closing, errors, odata, read, related, translate, versions
from cosell_sync.crm.dynamics.batch import Group, Op
from cosell_sync.crm.dynamics.customers import Customers
from cosell_sync.crm.dynamics.org import ACCOUNTS, OPEN, OPPORTUNITIES, SOLUTIONS, STOCK, Choice, Org
from cosell_sync.crm.dynamics.rest import Rest, Result, updated
from cosell_sync.crm.dynamics.translate import Bundle
from cosell_sync.crm.related import RelatedChanges, customer_key, members
from cosell_sync.crm.users import Directory
from cosell_sync.errors import Cure, Gone, OutsideError, RecordError, Rejected, Stale
from cosell_sync.ports import OpportunityWrite, Outcome

Job = tuple["PendingOpportunity", str, Op]  # our field, and the change of one related row


@dataclass
class PendingOpportunity(writes.PendingWrite):
    """``bundle``: the opportunity with its related rows as read just now, where these matter. ``related``: what they need."""

    bundle: Bundle | None = None
    related: RelatedChanges[Op] = field(default_factory=RelatedChanges)


class Writer:
    """Writes one batch. ``match``: what makes two customers one."""

    def __init__(self, rest: Rest, org: Org, directory: Directory, match: Sequence[str]) -> None:
        self.rest = rest
        self.org = org
        self.directory = directory
        self.match = match
        self.customers = Customers(rest, org, match)
        self.batch = writes.Batch[PendingOpportunity](
            errors.SYSTEM,
            "Dataverse",
            fetch=partial(read.fetch, rest, org),
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
        return self.batch.run(writes.pending_updates(PendingOpportunity, batch), steps)

    def _read_related(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 1: read the related rows, and refuse what was planned on others."""
        wanted = {each.id.lower(): each for each in pending if self._needs_related_rows(each)}
        fresh = {bundle.id: bundle for bundle in read.bundles(self.rest, self.org, list(wanted))}
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
            try:
                each.columns = translate.columns(self._writable(each), self.org)
            except LookupError as error:
                each.fail(unknown_choice(error))
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
                each.fail(writes.copy_error(account))
            elif each.bundle is not None:
                each.account_made = self.customers.claim(account)
                each.columns |= account_binding(
                    account, customer_too=each.bundle.row.get("_customerid_value") is None
                )

    def _writable(self, pending: PendingOpportunity) -> Fields:
        """The fields that the row takes. A currency that is set stays; a closed row takes only our own columns."""
        before = pending.before
        if before is None:
            return pending.fields
        wanted = dict(pending.fields)
        currency = before["currency"]
        if "currency" in wanted and currency not in {None, ABSENT} and wanted.pop("currency") != currency:
            text = "a currency is never changed once it is set"
            pending.partial_error = Rejected(text, code="fixed", fields=("currency",))
        if "value" in wanted and "value" in before.readonly and before["is_closed"] is False:
            del wanted["value"]
            pending.partial_error = Rejected(
                "the amount is summed from products", code="computed", fields=("value",)
            )
        return self._closed_row_fields(pending, wanted) if self._stays_closed(pending) else wanted

    def _closed_row_fields(self, pending: PendingOpportunity, wanted: Fields) -> Fields:
        """What a row that stays closed takes: our own columns where they may be written, and related rows."""
        if late := sorted(STOCK & wanted.keys()):
            text = "the row is closed; reopen it to change it"
            pending.partial_error = Rejected(text, code="closed_row", fields=tuple(late), cure=Cure.SELLER)
        own = {name: item for name, item in wanted.items() if name not in STOCK}
        if not own:
            pending.may_have_landed = True  # nothing is sent, but the record is read back
        return own

    def _current_status(self, before: Snapshot) -> Choice:
        """The status reason that the row had when the write was planned."""
        state = closing.state_of(is_closed=before.flag("is_closed"), is_won=before.flag("is_won"))
        label = before.text("stage")
        fitting = [each for each in self.org.statuses if each.state == state]
        return next((each for each in fitting if each.label == label), Choice(-1, label, state=state))

    def _stays_closed(self, pending: PendingOpportunity) -> bool:
        if pending.before is None or not pending.before.flag("is_closed"):
            return False
        target = self.org.status(pending.fields["stage"]) if "stage" in pending.fields else None
        return target is None or target.value == self._current_status(pending.before).value

    # --- the opportunities themselves ---------------------------------------------------------------------------

    def _write_opportunities(self, pending: Sequence[PendingOpportunity]) -> None:
        """Step 3: columns and status."""
        jobs = [(each, group) for each in pending if each.active and (group := self._group(each))]
        results = self.rest.send([group for _, group in jobs])
        for (each, _), result in zip(jobs, results, strict=True):
            error = self.failure(result)
            each.may_have_landed = each.may_have_landed or result.outage is None
            if error is None:
                continue
            code = errors.code_of(error)
            if code in errors.NOT_FROM_HERE:
                self._settle_status(each, error)
            else:
                each.fail(error)
        self.note_outage(results)

    def _group(self, pending: PendingOpportunity) -> Group:
        """The requests for one opportunity's columns and status; empty where there is nothing to send or the write failed."""
        before = pending.before
        version = versions.parse(before.version) if before else None
        if version is None or before is None:
            pending.fail(Stale("planned on a version of an unknown kind", code="UNKNOWN_VERSION"))
            return ()
        stage = pending.fields.get("stage")
        target = self.org.status(stage) if "stage" in pending.fields else None
        if target is None and "stage" in pending.fields:
            pending.fail(unknown_status(stage))
            return ()
        now = self._current_status(before)
        columns = dict(pending.columns)
        if now.state == OPEN or not self._stays_closed(pending):
            columns |= self._primary(pending)
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
        if email is None or pending.bundle is None:
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
        found = next(iter(read.bundles(self.rest, self.org, [pending.id])), None)
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
        """A connection to pending new contact."""
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
            self._settle(each, name, result)
        self.note_outage(sent)

    def _settle(self, pending: PendingOpportunity, name: str, result: Result) -> None:
        pending.may_have_landed = pending.may_have_landed or result.outage is None
        if error := self.failure(result):
            pending.fail_field(name, errors.moved(error))

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
    given = pending.columns.get("parentaccountid@odata.bind")
    return odata.guid_in(given) if isinstance(given, str) else None


def account_binding(account: str, *, customer_too: bool = True) -> dict[str, object]:
    """The columns that make this account the customer. ``customer_too`` is false where a seller chose the customer."""
    to = odata.bind(ACCOUNTS, account)
    made: dict[str, object] = {"parentaccountid@odata.bind": to}
    return {**made, "customerid_account@odata.bind": to} if customer_too else made


def unknown_status(stage: object) -> Rejected:
    """The error of a stage that is no status reason of this environment."""
    text = f'the environment has no status reason "{stage}"; correct mapping.stages'
    return Rejected(text, code="unknown_status", fields=("stage",))


def unknown_choice(error: LookupError) -> Rejected:
    """The error of a value that is no choice, or no currency, of this environment."""
    return Rejected(f'the environment has no choice or currency "{error}"', code="unknown_choice")
