"""New opportunities for referrals, each made once however often it is asked for.

The referral id is an external id that the org keeps unique, so opportunities are upserted by it. One that exists is left as
it is, because somebody may have changed it since an answer was lost; only its related rows are completed. Accounts have no
such key: they are looked up first, and a create without an answer leaves its writes unclear, so that the next cycle finds
the account.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from cosell_sync.crm.related import customer_key, members
from cosell_sync.crm.salesforce import bulk, composite, errors, queries, results, translate
from cosell_sync.crm.salesforce.bulk import Change, Operation, Result
from cosell_sync.crm.salesforce.org import OPPORTUNITY
from cosell_sync.crm.salesforce.write import PendingOpportunity, Writer
from cosell_sync.crm.values import folded, pieces
from cosell_sync.crm.writes import OUT_OF_SIGHT, Ownership, copy_error, first_taken, pending_creates
from cosell_sync.errors import RecordError, Rejected
from cosell_sync.ports import OpportunityDraft, Outcome


def create(writer: Writer, batch: Sequence[OpportunityDraft], ownership: Ownership) -> Sequence[Outcome]:
    """Opportunities made or found by referral id, with their related rows, read back; in the order of the batch."""
    steps = (_look_up, partial(_upsert, ownership), _read_related, Writer.write_related)
    return writer.batch.run(
        pending_creates(PendingOpportunity, batch), [partial(step, writer) for step in steps]
    )


def _look_up(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """Which of them exist, and the accounts and contacts that the others need; in one call."""
    own = _id_queries(writer, pending)
    customers = [each.customer for each in pending if each.customer and writer.org.identifies_accounts]
    people = [person for each in pending for person in members(each.fields, "contacts") or ()]
    accounts, contacts = writer.customers.questions(customers, people)
    answers = iter(composite.everything(writer.rest, [*own, *accounts, *contacts]))
    found, known, persons = (
        [row for _ in some for row in next(answers)] for some in (own, accounts, contacts)
    )
    writer.customers.heard(known, persons)
    existing = _ids(writer, found)
    for each in pending:
        each.id = existing.get(folded(each.referral_id), "")


def _id_queries(writer: Writer, pending: Sequence[PendingOpportunity]) -> Sequence[composite.Part]:
    return [
        composite.query(queries.by_referrals(writer.org, some))
        for some in pieces([each.referral_id for each in pending], queries.AT_ONCE)
    ]


def _ids(writer: Writer, rows: Iterable[composite.Row]) -> Mapping[str, str]:
    """Folded referral id → id of the opportunity that has it."""
    key = writer.org.names["referral_id"]
    return {folded(row[key]): str(row["Id"]) for row in rows}


def _upsert(ownership: Ownership, writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    missing = [each for each in pending if not each.id]
    if not missing:
        return
    changes = list(_changes(writer, missing, ownership))
    # Ordered by account, so that parallel writes rarely wait for each other's locks.
    changes.sort(key=lambda each: str((each[1].columns or {}).get("AccountId", "")))
    refused_as_existing = []
    while changes:
        sent = first_taken(
            [owners for *_, owners in changes],
            partial(_send, writer, changes),
            lambda result, _: errors.owner_refused(result.faults),
        )
        again = []
        for (each, change, owners), (result, owner) in zip(changes, sent, strict=True):
            if (less := _without_refused(writer, each, change, result)) is not None:
                again.append((each, less, owners))
                continue
            each.owned(owners, owner)
            if _settle(writer, each, result):
                refused_as_existing.append(each)
        changes = again
    if refused_as_existing and writer.outage is None:
        _take_existing(writer, refused_as_existing)
    if writer.outage is not None:
        raise writer.outage


def _take_existing(writer: Writer, refused: Sequence[PendingOpportunity]) -> None:
    """Somebody made it after it was looked up; if it carries this referral id, it is found now."""
    answers = composite.everything(writer.rest, _id_queries(writer, refused))
    existing = _ids(writer, [row for rows in answers for row in rows])
    for each in refused:
        if found := existing.get(folded(each.referral_id)):
            each.id, each.error = found, None
        elif each.error is not None and writer.org.names["referral_id"] in each.error.text:
            each.error = Rejected(OUT_OF_SIGHT, code="out_of_sight", fields=("referral_id",))


def _changes(
    writer: Writer, missing: Sequence[PendingOpportunity], ownership: Ownership
) -> Iterator[tuple[PendingOpportunity, Change, Sequence[str | None]]]:
    """The upsert of each opportunity whose account was found or made, and the owners to try."""
    org = writer.org
    placed = org.identifies_accounts
    accounts = writer.customers.accounts([each.customer for each in missing if placed and each.customer])
    for each, owners in zip(missing, ownership.owners(missing, writer.directory), strict=True):
        columns = {
            name: item
            for name, item in translate.columns(each.fields, org).items()
            if item is not None and org.makes(name)
        }
        if placed and each.customer:
            account = accounts[customer_key(each.customer, writer.match)]
            if isinstance(account, RecordError):
                if account.code == errors.DUPLICATES:  # which account it is, a person must say
                    each.fail(copy_error(account))
                    continue
                each.fail_field("customer", account)
            else:
                columns["AccountId"] = account
                each.account_made = writer.customers.claim(account)
        if each.active:
            yield each, Change(Operation.UPSERT, OPPORTUNITY, columns, key=org.names["referral_id"]), owners


def _send(
    writer: Writer,
    changes: Sequence[tuple[PendingOpportunity, Change, Sequence[str | None]]],
    asked: Sequence[tuple[int, str | None]],
) -> Sequence[Result]:
    """Sent with the question for what they hold then: a flow, or an earlier try, may have made related rows."""
    made = [_owned(changes[at][1], owner) for at, owner in asked]
    wanted = [changes[at][0].referral_id for at, _ in asked]
    afterwards = composite.query(queries.whole_by_referrals(writer.org, wanted))
    results, rows = bulk.send_and_ask(
        writer.rest, made, afterwards if len(wanted) <= queries.AT_ONCE else None
    )
    writer.note(rows)
    return results


def _without_refused(
    writer: Writer, pending: PendingOpportunity, change: Change, result: Result
) -> Change | None:
    """The upsert without the fields that were refused, to be sent again; None where it landed or that would not help."""
    error = results.failure(writer.org, result)
    codes = {fault.code for fault in result.faults}
    if type(error) is not Rejected or codes & {
        errors.DUPLICATE_VALUE,
        errors.DUPLICATES,
        *errors.ABOUT_THE_ROW,
    }:
        return None
    if not pending.may_do_without(error, error.fields):
        return None
    names = {writer.org.names.get(name) for name in pending.refused}
    kept = {name: item for name, item in (change.columns or {}).items() if name not in names}
    return replace(change, columns=kept)


def _owned(change: Change, owner: str | None) -> Change:
    return change if owner is None else replace(change, columns={**(change.columns or {}), "OwnerId": owner})


def _settle(writer: Writer, pending: PendingOpportunity, result: Result) -> bool:
    """Note what became of one upsert. True where it was refused because the opportunity exists by now."""
    if result.outage is not None:
        writer.batch.outage = result.outage
    if result.fine:
        pending.id, pending.may_have_landed = result.id, True
        return False
    if any(fault.code == errors.DUPLICATE_VALUE for fault in result.faults):
        pending.fail(results.record_error(writer.org, result.faults, result.status))
        return True
    if error := writer.failure(result):
        pending.fail(error)
    return False


def _read_related(writer: Writer, pending: Sequence[PendingOpportunity]) -> None:
    """What the opportunities have before their related rows are made; of new ones it is known."""
    rows = writer.rows([each.id for each in pending if each.id])
    for each in pending:
        each.row = rows[each.id[:15]][0] if each.id[:15] in rows else None
