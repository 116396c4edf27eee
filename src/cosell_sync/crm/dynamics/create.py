"""New opportunities for referrals, each made once however often it is asked for.

The referral id is an alternate key that the environment keeps unique. A create is a PATCH to that key with
`If-None-Match: *`, which makes the row or is refused because it exists; so a repeated create is harmless. One that exists is
left as it is, because somebody may have changed it since an answer was lost; only its related rows are completed.
A row cannot be made closed: a deal that is over is made open, and closed once everything else is written.
https://learn.microsoft.com/power-apps/developer/data-platform/use-upsert-insert-update-record
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cosell_sync.core.fields import inseparable
from cosell_sync.crm.dynamics import closing, errors, lookups, odata, read, translate, versions
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import OPEN, OPPORTUNITIES, Org
from cosell_sync.crm.dynamics.questions import Row
from cosell_sync.crm.dynamics.rest import Result, updated
from cosell_sync.crm.dynamics.writable import unknown_choice, unknown_status
from cosell_sync.crm.dynamics.write import PendingOpportunity, Writer, account_binding
from cosell_sync.crm.related import customer_key, members
from cosell_sync.crm.values import folded
from cosell_sync.crm.writes import OUT_OF_SIGHT, Ownership, copy_error, first_taken, pending_creates
from cosell_sync.errors import RecordError, Rejected, Stale
from cosell_sync.ports import OpportunityDraft, Outcome


def create(writer: Writer, batch: Sequence[OpportunityDraft], ownership: Ownership) -> Sequence[Outcome]:
    """Opportunities made or found by referral id, with their related rows, read back; in the order of the batch."""
    steps = (
        _look_up,
        partial(_make, ownership),
        _read_related,
        Writer.plan_related,
        _set_primary_contacts,
        Writer.write_related,
        _close,
    )
    return writer.batch.run(
        pending_creates(PendingOpportunity, batch), [partial(step, writer) for step in steps]
    )


def _look_up(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """Which of them exist, and the accounts and contacts that the others need; in one call."""
    own = lookups.referral_questions(writer.org, [each.referral_id for each in pending])
    customers = [each.customer for each in pending if each.customer and writer.org.identifies_accounts]
    people = [person for each in pending for person in members(each.fields, "contacts") or ()]
    accounts, contacts = writer.customers.questions(customers, people)
    answers = iter(writer.rest.all_rows([*own, *accounts, *contacts]))
    found, known, persons = (
        [row for _ in some for row in next(answers)] for some in (own, accounts, contacts)
    )
    writer.customers.heard(known, persons)
    _take_existing(writer, pending, found)


def _find_existing(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    asked = lookups.referral_questions(writer.org, [each.referral_id for each in pending])
    _take_existing(writer, pending, [row for rows in writer.rest.all_rows(asked) for row in rows])


def _take_existing(writer: Writer, pending: Sequence[PendingOpportunity], rows: Sequence[Row]) -> None:
    existing = lookups.by_referrals(writer.org, rows)
    for each in pending:
        each.id = existing.get(folded(each.referral_id), "")


def _make(ownership: Ownership, writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    missing = [each for each in pending if not each.id]
    if not missing:
        return
    _set_accounts(writer, missing)
    _set_contacts(writer, missing)
    jobs = [
        (each, op, owners)
        for each, owners in zip(missing, writer.owners(missing, ownership), strict=True)
        if each.active and (op := _upsert(each, writer.org))
    ]
    unnamed = []
    while jobs:
        results = first_taken(
            [owners for *_, owners in jobs],
            partial(_send, writer, jobs),
            lambda result, owner: (
                result.error is not None and errors.owner_refused(result.error, owner, writer.org.user_id)
            ),
        )
        again = []
        for (each, _, owners), (result, owner) in zip(jobs, results, strict=True):
            if (less := _without_refused(writer, each, result)) is not None:
                again.append((each, less, owners))
                continue
            each.owned(owners, owner)
            if _settle(writer, each, result):
                unnamed.append(each)
        writer.note_outage([result for result, _ in results])
        jobs = again
    if writer.outage is not None:
        raise writer.outage
    _find_existing(writer, unnamed)
    for each in unnamed:
        if not each.id:
            each.fail(Rejected(OUT_OF_SIGHT, code="out_of_sight", fields=("referral_id",)))


def _set_accounts(writer: Writer, missing: Sequence[PendingOpportunity]) -> None:
    placed = [each.customer for each in missing if each.customer and writer.org.identifies_accounts]
    accounts = writer.customers.accounts(placed)
    for each in missing:
        account = accounts[customer_key(each.customer, writer.match)] if placed and each.customer else None
        if isinstance(account, RecordError):
            if errors.code_of(account) in {*errors.ALIKE, errors.BLOCKED}:
                each.fail(copy_error(account))  # which account it is, a person must say
            else:
                each.fail_field("customer", account)
        elif account is not None:
            each.columns = account_binding(account)
            each.account_made = writer.customers.claim(account)


def _settle(writer: Writer, pending: PendingOpportunity, result: Result) -> bool:
    """Note what became of one create. True where the row exists and its id has to be looked up."""
    error = writer.failure(result)
    pending.id = next((each for each in result.ids if each), "") if error is None else ""
    # It exists: somebody, or a call of ours whose answer was lost, made it after it was looked up.
    exists = isinstance(error, Stale) or (error is not None and errors.code_of(error) in errors.KEY_EXISTS)
    pending.may_have_landed = error is None or exists
    if error is not None and not exists:
        pending.fail(error)
    return pending.may_have_landed and not pending.id


def _send(
    writer: Writer,
    jobs: Sequence[tuple[PendingOpportunity, Op, Sequence[str | None]]],
    asked: Sequence[tuple[int, str | None]],
) -> Sequence[Result]:
    return writer.rest.send([(_owned(jobs[at][1], owner),) for at, owner in asked])


def _without_refused(writer: Writer, pending: PendingOpportunity, result: Result) -> Op | None:
    """The create without the fields that were refused, to be sent again; None where it landed or that would not help."""
    error = writer.failure(result)
    if type(error) is not Rejected or errors.code_of(error) in {*errors.KEY_EXISTS, *errors.ABOUT_THE_ROW}:
        return None
    if not pending.may_do_without(error, writer.named(pending, error)):
        return None
    return _upsert(pending, writer.org)


def _owned(op: Op, owner: str | None) -> Op:
    if owner is None:
        return op
    return replace(op, body={**(op.body or {}), "ownerid@odata.bind": odata.bind("systemusers", owner)})


def _upsert(pending: PendingOpportunity, org: Org) -> Op | None:
    """The PATCH that makes the row; None where the write failed for what it would hold."""
    if not odata.usable_key(pending.referral_id):
        text = "this referral id holds signs that the environment cannot look up"
        pending.fail(Rejected(text, code="unusable_key", fields=("referral_id",)))
        return None
    if (columns := _columns(pending, org)) is None:
        return None
    stage = pending.fields.get("stage")
    status = org.status(stage)
    if status is None and stage:
        pending.fail(unknown_status(stage))
        return None
    if status is not None and status.state == OPEN:
        columns["statuscode"] = status.value
    address = odata.keyed(OPPORTUNITIES, org.key, pending.referral_id)
    return Op("PATCH", address, {**columns, **pending.columns}, {"If-None-Match": "*"})


def _columns(pending: PendingOpportunity, org: Org) -> dict[str, object] | None:
    """What the row is made with, without what is no choice of the environment; None where it cannot do without."""
    # The key is in the address, so it is no column of the body.
    without = {"referral_id", *pending.refused}
    fields = {name: item for name, item in pending.fields.items() if name not in without}
    try:
        return translate.columns(fields, org, creating=True)
    except LookupError:
        pass  # of one of them at least
    for unit in inseparable(fields):
        try:
            translate.columns({name: fields[name] for name in unit}, org, creating=True)
        except LookupError as error:
            if not pending.may_do_without(unknown_choice(error), unit):
                pending.fail(unknown_choice(error))
                return None
    kept = {name: item for name, item in fields.items() if name not in pending.refused}
    return translate.columns(kept, org, creating=True)


def _set_contacts(writer: Writer, missing: Sequence[PendingOpportunity]) -> None:
    """Find or make the contacts, so that each opportunity is made with its primary one."""
    wanted = []
    for each in missing:
        account = odata.guid_in(str(each.columns.get("parentaccountid@odata.bind", "")))
        if each.active:
            wanted += [(each, account, person) for person in members(each.fields, "contacts") or ()]
    writer.customers.contacts([(account, person) for _, account, person in wanted])
    for each, account, person in wanted:
        contact = writer.customers.contact(account, person.email)
        if isinstance(contact, str):
            each.columns.setdefault("parentcontactid@odata.bind", odata.bind("contacts", contact))


def _read_related(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """What the new opportunities have before their related rows are made: a flow, or an earlier try, may have made some."""
    known = [each.id for each in pending if each.id]
    found = {bundle.id: bundle for bundle in read.bundles(writer.rest, writer.org, known, writer.near())}
    for each in pending:
        each.bundle = found.get(each.id)


def _set_primary_contacts(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """A primary contact for those that existed already, or whose contact could not be made before."""
    jobs = []
    for each in pending:
        if each.active and each.bundle is not None and each.bundle.row.get("statecode") == OPEN:
            email = each.related.primary_contact
            contact = writer.customers.contact(each.bundle.account_id, email) if email else None
            if isinstance(contact, str):
                tag = writer.org.tag(OPPORTUNITIES, versions.etag(each.bundle.row))
                columns = {"parentcontactid@odata.bind": odata.bind("contacts", contact)}
                jobs.append((each, updated(OPPORTUNITIES, each.id, columns, tag)))
    results = writer.rest.send([(op,) for _, op in jobs])
    for (each, _), result in zip(jobs, results, strict=True):
        if error := writer.failure(result):
            each.partial_error = error
    writer.note_outage(results)


def _close(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """Close deals that are over. One that somebody closed or reopened since is left alone."""
    jobs = []
    for each in pending:
        status = writer.org.status(each.fields.get("stage"))
        still_open = each.bundle is not None and each.bundle.row.get("statecode") == OPEN
        if each.active and still_open and status is not None and status.state != OPEN:
            jobs.append((each, closing.close(each.id, status)))
    results = writer.rest.send([(op,) for _, op in jobs])
    for (each, _), result in zip(jobs, results, strict=True):
        if error := writer.failure(result):
            each.fail(error)
    writer.note_outage(results)
