"""New opportunities for referrals, each made once however often it is asked for.

The referral id is an alternate key that the environment keeps unique. A create is a PATCH to that key with
`If-None-Match: *`, which makes the row or refuses because it is there; so asking again is harmless. One that is there
already is left as it is, because somebody may have worked on it since an answer was lost; only its rows are completed.
A row cannot be made closed: a deal that is over is made open, and closed when everything else stands.
https://learn.microsoft.com/power-apps/developer/data-platform/use-upsert-insert-update-record
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cosell_sync.crm.dynamics import closing, errors, odata, read, translate, versions
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import OPEN, OPPORTUNITIES, Org
from cosell_sync.crm.dynamics.rest import updated
from cosell_sync.crm.dynamics.write import Deal, Writer, bound
from cosell_sync.crm.related import customer_key, members
from cosell_sync.crm.values import folded
from cosell_sync.crm.writes import Ownership, again, drafted
from cosell_sync.errors import RecordError, Rejected, Stale
from cosell_sync.ports import OpportunityDraft, Outcome


def create(writer: Writer, batch: Sequence[OpportunityDraft], ownership: Ownership) -> Sequence[Outcome]:
    deals = drafted(Deal, batch)
    steps = (_name, partial(_make, ownership), _read, Writer.plan, _primaries, Writer.around, _close)
    return writer.line.carry(deals, [partial(step, writer) for step in steps])


def _name(writer: Writer, deals: Sequence[Deal]) -> None:
    """The ids of those that are there."""
    wanted = [str(deal.fields["referral_id"]) for deal in deals]
    existing = read.by_referrals(writer.rest, writer.org, wanted) if wanted else {}
    for deal, each in zip(deals, wanted, strict=True):
        deal.id = existing.get(folded(each), "")


def _make(ownership: Ownership, writer: Writer, deals: Sequence[Deal]) -> None:
    deals = [deal for deal in deals if not deal.id]
    if not deals:
        return
    org = writer.org
    accounts = writer.people.accounts([deal.customer for deal in deals if deal.customer])
    for deal in deals:
        account = accounts[customer_key(deal.customer, writer.match)] if deal.customer else None
        if isinstance(account, RecordError):
            deal.fail(again(account))
        elif account is not None:
            deal.columns = bound(account)
    _first_contacts(writer, deals)
    owners = ownership.of(deals, writer.directory)
    jobs = [
        (deal, op)
        for deal, owner in zip(deals, owners, strict=True)
        if deal.going and (op := _op(deal, org, owner))
    ]
    results = writer.rest.send([(op,) for _, op in jobs])
    asked: list[Deal] = []
    for (deal, _), result in zip(jobs, results, strict=True):
        error = writer.failure(result)
        deal.id = next((each for each in result.ids if each), "") if error is None else ""
        deal.touched = error is None
        if error is not None and (isinstance(error, Stale) or errors.code_of(error) in errors.KEY_EXISTS):
            deal.touched = True  # it is there: somebody, or our own lost call, made it since we looked
        elif error is not None:
            deal.fail(error)
        if deal.touched and not deal.id:
            asked.append(deal)
    writer.note_away(results)
    if writer.outage is not None:
        raise writer.outage
    _name(writer, asked)
    for deal in asked:
        if not deal.id:
            deal.fail(Stale("made by somebody else meanwhile", code="made_meanwhile"))


def _op(deal: Deal, org: Org, owner: str | None) -> Op | None:
    referral_id = str(deal.fields["referral_id"])
    if not odata.usable_key(referral_id):
        text = "this referral id holds signs that the environment cannot look up"
        deal.fail(Rejected(text, code="unusable_key", fields=("referral_id",)))
        return None
    rest = {
        name: item for name, item in deal.fields.items() if name != "referral_id"
    }  # the key is in the address
    try:
        columns = translate.columns(rest, org, creating=True)
    except LookupError as error:
        deal.fail(Rejected(f'the environment has no choice or currency "{error}"', code="unknown_choice"))
        return None
    status = org.status(deal.fields.get("stage"))
    if status is None and deal.fields.get("stage"):
        text = f'the environment has no status reason "{deal.fields["stage"]}"; correct mapping.stages'
        deal.fail(Rejected(text, code="unknown_status", fields=("stage",)))
        return None
    if status is not None and status.state == OPEN:
        columns["statuscode"] = status.value
    if owner:
        columns["ownerid@odata.bind"] = odata.bind("systemusers", owner)
    body = {**columns, **deal.columns}
    return Op("PATCH", odata.keyed(OPPORTUNITIES, org.key, referral_id), body, {"If-None-Match": "*"})


def _first_contacts(writer: Writer, deals: Sequence[Deal]) -> None:
    """The contacts, so that each opportunity is made with its primary one."""
    wanted = []
    for deal in deals:
        account = odata.guid_in(str(deal.columns.get("parentaccountid@odata.bind", "")))
        if deal.going:
            wanted += [(deal, account, each) for each in members(deal.fields, "contacts") or ()]
    writer.people.contacts([(account, person) for _, account, person in wanted])
    for deal, account, person in wanted:
        contact = writer.people.known(account, person.email)
        if isinstance(contact, str):
            deal.columns.setdefault("parentcontactid@odata.bind", odata.bind("contacts", contact))


def _read(writer: Writer, deals: Sequence[Deal]) -> None:
    """What the new opportunities hold before their rows are made: a flow may have made some, an earlier try others."""
    known = [deal.id for deal in deals if deal.id]
    found = {bundle.id: bundle for bundle in read.bundles(writer.rest, writer.org, known)}
    for deal in deals:
        deal.bundle = found.get(deal.id)


def _primaries(writer: Writer, deals: Sequence[Deal]) -> None:
    """A primary contact for those that were there already, or whose contact could not be made at first."""
    jobs = []
    for deal in deals:
        if deal.going and deal.bundle is not None and deal.bundle.row.get("statecode") == OPEN:
            who = deal.plan.primary
            contact = writer.people.known(deal.bundle.account_id, who) if who else None
            if isinstance(contact, str):
                tag = writer.org.tag(OPPORTUNITIES, versions.etag(deal.bundle.row))
                columns = {"parentcontactid@odata.bind": odata.bind("contacts", contact)}
                jobs.append((deal, updated(OPPORTUNITIES, deal.id, columns, tag)))
    results = writer.rest.send([(op,) for _, op in jobs])
    for (deal, _), result in zip(jobs, results, strict=True):
        if error := writer.failure(result):
            deal.later = error
    writer.note_away(results)


def _close(writer: Writer, deals: Sequence[Deal]) -> None:
    """Deals that are over. One that somebody closed or reopened since is left alone."""
    jobs = []
    for deal in deals:
        status = writer.org.status(deal.fields.get("stage"))
        still_open = deal.bundle is not None and deal.bundle.row.get("statecode") == OPEN
        if deal.going and still_open and status is not None and status.state != OPEN:
            jobs.append((deal, closing.close(deal.id, status)))
    results = writer.rest.send([(op,) for _, op in jobs])
    for (deal, _), result in zip(jobs, results, strict=True):
        if error := writer.failure(result):
            deal.fail(error)
    writer.note_away(results)
