"""Guarded updates: what changed, and nothing over a change that somebody else made meanwhile.

1. Where sets or the customer change, the rows around those opportunities are read, and must be as they were when the
   write was planned: an edit of a contact does not move the opportunity's ETag, so the guard alone would not see it.
2. Accounts and contacts that are needed are found or made (nothing of anybody's is touched by that).
3. Columns and status of each opportunity go in one piece, guarded by `If-Match`; what takes several writes (fields and
   the close) is a change set, which lands as a whole or not at all.
4. Rows around them follow, each on its own, those that exist guarded by their own ETag.
5. Everything that may have landed is read back, because PATCH answers 204 without a body, and flows may have had a say.

A closed row takes our own columns at most, and these only where configured, because whether an environment lets them be
written is not documented. One that refuses is remembered; the words for the seller then wait in `deals list`.
A failure of one record is its outcome. When Dataverse itself is away, what was not started is `Flaky`, and `outage`
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cosell_sync.core.deal import ABSENT, Customer, Fields, Snapshot
from cosell_sync.crm import writes
from cosell_sync.crm.dynamics import closing, customers, errors, odata, read, related, translate, versions
from cosell_sync.crm.dynamics.batch import Group, Op
from cosell_sync.crm.dynamics.org import ACCOUNTS, OPEN, OPPORTUNITIES, SOLUTIONS, STOCK, Choice, Org
from cosell_sync.crm.dynamics.rest import Rest, Result, updated
from cosell_sync.crm.dynamics.translate import Bundle
from cosell_sync.crm.related import Around, customer_key, members
from cosell_sync.crm.users import Directory
from cosell_sync.errors import Gone, OutsideError, RecordError, Rejected, Stale
from cosell_sync.ports import OpportunityWrite, Outcome


@dataclass
class Deal(writes.Deal):
    bundle: Bundle | None = None  # as read just now, where the rows around it matter
    plan: Around[Op] = field(default_factory=Around)


class Writer:
    """One batch."""

    def __init__(self, rest: Rest, org: Org, directory: Directory, match: Sequence[str]) -> None:
        self.rest = rest
        self.org = org
        self.directory = directory
        self.match = match
        self.people = customers.People(rest, match)
        self.line = writes.Line[Deal](
            errors.SYSTEM, "Dataverse", fetch=partial(read.fetch, rest, org), around=self._needs_rows
        )

    @property
    def outage(self) -> OutsideError | None:
        return self.line.outage

    # --- updates ------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        steps = (self._look, self._columns, self.plan, self._send, self._customers, self.around)
        return self.line.carry(writes.asked(Deal, batch), steps)

    def _look(self, deals: Sequence[Deal]) -> None:
        """Step 1: read the rows around, and refuse what was planned on others."""
        wanted = {deal.id.lower(): deal for deal in deals if self._needs_rows(deal)}
        fresh = {bundle.id: bundle for bundle in read.bundles(self.rest, self.org, list(wanted))}
        for each, deal in wanted.items():
            deal.bundle = fresh.get(each)
            if deal.bundle is None:
                deal.fail(Gone("the opportunity is deleted or out of sight", code="NOT_FOUND"))
            elif deal.before is None or versions.parse(deal.before.version) != translate.version(deal.bundle):
                deal.fail(Stale("changed since it was read", code="CHANGED_AROUND"))

    def _needs_rows(self, deal: Deal) -> bool:
        if OPPORTUNITIES not in self.org.guarded:
            return True  # If-Match carries no version here, so looking has to do
        return deal.concerns_rows(keyed=self.org.has(SOLUTIONS, "cosell_key"))

    def _columns(self, deals: Sequence[Deal]) -> None:
        """What to write; an opportunity without an account gets the customer's, found or made."""
        for deal in deals:
            try:
                deal.columns = translate.columns(self._allowed(deal), self.org)
            except LookupError as error:
                text = f'the environment has no choice or currency "{error}"'
                deal.fail(Rejected(text, code="unknown_choice"))
        orphans = [
            (deal, customer)
            for deal in deals
            if deal.going and deal.bundle is not None and deal.bundle.account is None
            and (customer := deal.customer)
        ]  # fmt: skip
        found = self.people.accounts([customer for _, customer in orphans])
        for deal, customer in orphans:
            account = found[customer_key(customer, self.match)]
            if isinstance(account, RecordError):
                deal.fail(writes.again(account))
            elif deal.bundle is not None:
                deal.columns |= bound(account, customer_too=deal.bundle.row.get("_customerid_value") is None)

    def _allowed(self, deal: Deal) -> Fields:
        """The fields without what the row does not take: a currency that is set stays, a closed row takes only ours."""
        before = deal.before
        if before is None:
            return deal.fields
        wanted = dict(deal.fields)
        held = before["currency"]
        if "currency" in wanted and held not in {None, ABSENT} and wanted.pop("currency") != held:
            text = "a currency is never changed once it is set"
            deal.later = Rejected(text, code="fixed", fields=("currency",))
        if "value" in wanted and "value" in before.readonly and before["is_closed"] is False:
            del wanted["value"]
            deal.later = Rejected("the amount is summed from products", code="computed", fields=("value",))
        if self._stays_closed(deal):
            if late := sorted(STOCK & wanted.keys()):
                text = errors.ADVICE[errors.READ_ONLY]
                deal.later = Rejected(text, code="closed_row", fields=tuple(late))
            wanted = {name: item for name, item in wanted.items() if name not in STOCK}
            if not self.org.closed.writable:
                wanted = {name: item for name, item in wanted.items() if name in {*writes.AROUND, "stage"}}
                wanted.pop("referral_id", None)
                deal.touched = True  # nothing to send, yet what it holds is to be read
        return wanted

    def _now(self, before: Snapshot) -> Choice:
        """The status reason that the row had when the write was planned."""
        state = closing.described(is_closed=before.flag("is_closed"), is_won=before.flag("is_won"))
        label = before.text("stage")
        fitting = [each for each in self.org.statuses if each.state == state]
        return next((each for each in fitting if each.label == label), Choice(-1, label, state=state))

    def _stays_closed(self, deal: Deal) -> bool:
        if deal.before is None or not deal.before.flag("is_closed"):
            return False
        target = self.org.status(deal.fields["stage"]) if "stage" in deal.fields else None
        return target is None or target.value == self._now(deal.before).value

    # --- the opportunities themselves ---------------------------------------------------------------------------

    def _send(self, deals: Sequence[Deal]) -> None:
        """Step 3."""
        jobs = [(deal, group) for deal in deals if deal.going and (group := self._group(deal))]
        results = self.rest.send([group for _, group in jobs])
        for (deal, _), result in zip(jobs, results, strict=True):
            error = self.failure(result)
            deal.touched = deal.touched or result.away is None
            if error is None:
                continue
            code = errors.code_of(error)
            if code == errors.READ_ONLY and self._stays_closed(deal):
                self.org.closed.refused = True
            elif code in errors.NOT_FROM_HERE:
                self._not_from_here(deal, error)
            else:
                deal.fail(error)
        self.note_away(results)

    def _group(self, deal: Deal) -> Group:
        version = versions.parse(deal.before.version) if deal.before else None
        if version is None or deal.before is None:
            deal.fail(Stale("planned on a version of an unknown kind", code="UNKNOWN_VERSION"))
            return ()
        target = None
        if "stage" in deal.fields:
            target = self.org.status(deal.fields["stage"])
            if target is None:
                text = (
                    f'the environment has no status reason "{deal.fields["stage"]}"; correct mapping.stages'
                )
                deal.fail(Rejected(text, code="unknown_status", fields=("stage",)))
                return ()
        now = self._now(deal.before)
        columns = dict(deal.columns)
        if not (now.state != OPEN and self._stays_closed(deal)):
            columns |= self._primary(deal)
        if not columns and target is not None and target.state != OPEN == now.state:
            # The actions take no version, so a column that keeps its value carries it.
            columns = {self.org.names["name"]: deal.before["name"]}
        tag = self.org.tag(OPPORTUNITIES, version.etag)
        reopened = self.org.opening() or now
        return closing.writes(deal.id, columns, tag, now, target, reopened)

    def _primary(self, deal: Deal) -> dict[str, object]:
        """The opportunity's own contact column, where it has to change."""
        who = deal.plan.primary
        if who is None or deal.bundle is None:
            return {}
        if not who:
            return {"parentcontactid@odata.bind": None}
        held = {each.email: each.extra.get("contact") for each in translate.contacts(deal.bundle)}
        contact = held.get(who) or self.people.known(deal.bundle.account_id, who)
        return (
            {"parentcontactid@odata.bind": odata.bind("contacts", contact)}
            if isinstance(contact, str)
            else {}
        )

    def _not_from_here(self, deal: Deal, error: RecordError) -> None:
        """Closed already, or open already. If it stands where it was to go, somebody did it meanwhile."""
        wanted = self.org.status(deal.fields.get("stage"))
        found = next(iter(read.bundles(self.rest, self.org, [deal.id])), None)
        if found is None or wanted is None or found.row.get("statecode") != wanted.state:
            deal.fail(error)
        elif deal.fields.keys() - {"stage"}:
            deal.fail(Stale("closed meanwhile", code=error.code, status=error.status))

    def _customers(self, deals: Sequence[Deal]) -> None:
        jobs: list[tuple[Deal, Op]] = []
        for deal in deals:
            wanted = deal.fields.get("customer")
            account = deal.bundle.account if deal.bundle else None
            if not deal.going or account is None or not isinstance(wanted, Customer):
                continue
            if columns := translate.account_columns(wanted, translate.customer(account)):
                tag = self.org.tag(ACCOUNTS, versions.etag(account))
                jobs.append((deal, updated(ACCOUNTS, str(account["accountid"]), columns, tag)))
        results = self.rest.send([(op,) for _, op in jobs])
        for (deal, _), result in zip(jobs, results, strict=True):
            self._settle(deal, "customer", result)
        self.note_away(results)

    # --- rows around --------------------------------------------------------------------------------------------

    def plan(self, deals: Sequence[Deal]) -> None:
        """Step 2: what the rows around have to become, with the contacts for it. ``deal.bundle``: what they are."""
        going = [deal for deal in deals if deal.going and deal.bundle is not None]
        emails = [each.email for deal in going for each in members(deal.fields, "team") or ()]
        users = self.directory.find(emails)
        for deal in going:
            if deal.bundle is not None:
                deal.plan = related.around(deal.bundle, self.org, deal.fields, users, deal.referral_id)
                deal.unheld |= deal.plan.unheld
        self.people.contacts([(account_id(deal), person) for deal in going for person in deal.plan.people])

    def around(self, deals: Sequence[Deal]) -> None:
        """Step 4."""
        jobs: list[tuple[Deal, str, Op]] = []
        for deal in deals:
            if not deal.going or deal.bundle is None:
                continue
            jobs += [(deal, name, op) for name, op in deal.plan.changes]
            for person in deal.plan.people:
                contact = self.people.known(account_id(deal), person.email)
                if isinstance(contact, str):
                    made = related.connection(self.org, deal.bundle.id, "contacts", contact)
                    jobs.append((deal, "contacts", made))
                elif contact is not None:
                    deal.fail_at("contacts", contact)
        # Two deals may share a contact; one write of its columns is enough, and a second would meet a new version.
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
        for key, (deal, name, op) in zip(keys, jobs, strict=True):
            result = results[key]
            if op.method == "DELETE" and isinstance(result.error, Gone):
                result = Result()  # gone is what was wanted
            self._settle(deal, name, result)
        self.note_away(sent)

    def _settle(self, deal: Deal, name: str, result: Result) -> None:
        deal.touched = deal.touched or result.away is None
        if error := self.failure(result):
            deal.fail_at(name, errors.moved(error))

    # --- the end ------------------------------------------------------------------------------------------------

    def failure(self, result: Result) -> RecordError | None:
        if result.away is not None:
            return self.line.away()
        return result.error

    def note_away(self, results: Iterable[Result]) -> None:
        self.line.outage = next((each.away for each in results if each.away), self.outage)


def account_id(deal: Deal) -> str | None:
    """The account of the opportunity, or the one that this very write gives it."""
    if deal.bundle is not None and deal.bundle.account_id:
        return deal.bundle.account_id
    given = deal.columns.get("parentaccountid@odata.bind")
    return odata.guid_in(given) if isinstance(given, str) else None


def bound(account: str, *, customer_too: bool = True) -> dict[str, object]:
    """The columns that make this account the customer. A customer that somebody chose (a contact) stays."""
    to = odata.bind(ACCOUNTS, account)
    made: dict[str, object] = {"parentaccountid@odata.bind": to}
    return {**made, "customerid_account@odata.bind": to} if customer_too else made
