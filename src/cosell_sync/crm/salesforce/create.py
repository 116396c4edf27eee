"""New opportunities for referrals, each made once however often it is asked for.

The referral id is an external id that the org keeps unique, so opportunities are upserted by it. One that is there
already is left as it is, because somebody may have worked on it since an answer was lost; only its rows are completed.
Accounts have no such key: they are looked up first, by what makes two customers one, and one that may have been made
without an answer leaves its deals unclear, so that the next look finds it.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from cosell_sync.crm.related import customer_key
from cosell_sync.crm.salesforce import bulk, composite, errors, queries, read, translate
from cosell_sync.crm.salesforce.bulk import Change, Verb
from cosell_sync.crm.salesforce.org import OPPORTUNITY
from cosell_sync.crm.salesforce.write import Deal, Writer
from cosell_sync.crm.values import folded, pieces
from cosell_sync.crm.writes import Ownership, again, drafted
from cosell_sync.errors import RecordError
from cosell_sync.ports import OpportunityDraft, Outcome


def create(writer: Writer, batch: Sequence[OpportunityDraft], ownership: Ownership) -> Sequence[Outcome]:
    deals = drafted(Deal, batch)
    steps = (_name, partial(_upsert, ownership), _read, Writer.around)
    return writer.line.carry(deals, [partial(step, writer) for step in steps])


def _name(writer: Writer, deals: Sequence[Deal]) -> None:
    """The ids of those that are there."""
    existing = _existing(writer, [deal.referral_id for deal in deals])
    for deal in deals:
        deal.id = existing.get(folded(deal.referral_id), "")


def _existing(writer: Writer, referral_ids: Sequence[str]) -> Mapping[str, str]:
    parts = [
        composite.query(queries.by_referrals(writer.org, some))
        for some in pieces(referral_ids, queries.AT_ONCE)
    ]
    key = writer.org.names["referral_id"]
    return {
        folded(row[key]): str(row["Id"]) for rows in composite.everything(writer.rest, parts) for row in rows
    }


def _upsert(ownership: Ownership, writer: Writer, deals: Sequence[Deal]) -> None:
    deals = [deal for deal in deals if not deal.id]
    if not deals:
        return
    org = writer.org
    accounts = writer.accounts([deal.customer for deal in deals if deal.customer])
    owners = ownership.of(deals, writer.directory)
    changes: list[tuple[Deal, Change]] = []
    for deal, owner in zip(deals, owners, strict=True):
        columns = {
            name: item
            for name, item in translate.columns(deal.fields, org).items()
            if item is not None and org.makes(name)
        }
        if deal.customer:
            account = accounts[customer_key(deal.customer, writer.match)]
            if isinstance(account, RecordError):
                deal.fail(again(account))
                continue
            columns["AccountId"] = account
        if owner:
            columns["OwnerId"] = owner
        changes.append((deal, Change(Verb.UPSERT, OPPORTUNITY, columns, key=org.names["referral_id"])))
    changes.sort(
        key=lambda each: str((each[1].columns or {}).get("AccountId", ""))
    )  # few locks on one account
    raced: list[Deal] = []
    results = bulk.send(writer.rest, [change for _, change in changes])
    for (deal, _), result in zip(changes, results, strict=True):
        if result.away is not None:
            writer.line.outage = result.away
        if result.fine:
            deal.id, deal.touched = result.id, True
        elif any(fault.code == errors.DUPLICATE_VALUE for fault in result.faults):
            raced.append(deal)
            deal.fail(writer.outcome(result.faults, result.status))
        elif error := writer.failure(result):
            deal.fail(error)
    if raced and writer.outage is None:
        # Somebody made it between the look and the upsert; if it is the one we want, it is found now.
        existing = _existing(writer, [deal.referral_id for deal in raced])
        for deal in raced:
            if found := existing.get(folded(deal.referral_id)):
                deal.id, deal.error = found, None
    if writer.outage is not None:
        raise writer.outage


def _read(writer: Writer, deals: Sequence[Deal]) -> None:
    """What the new opportunities hold before their rows are made: a flow may have made some, an earlier try others."""
    known = [deal.id for deal in deals if deal.id]
    rows = {row["Id"][:15]: row for row, _ in read.rows(writer.rest, writer.org, known)}
    for deal in deals:
        deal.row = rows.get(deal.id[:15])
