"""New opportunities for referrals, each made once however often it is asked for.

The referral id is an external id that the org keeps unique, so opportunities are upserted by it. One that is there
already is left as it is, because somebody may have worked on it since an answer was lost; only its rows are completed.
Accounts have no such key: they are looked up first, by what makes two customers one, and one that may have been made
without an answer leaves its deals unclear, so that the next look finds it.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cosell_sync.core.deal import Customer, Member
from cosell_sync.crm.salesforce import bulk, composite, queries, reading, records, trouble
from cosell_sync.crm.salesforce.bulk import Change, Verb
from cosell_sync.crm.salesforce.org import OPPORTUNITY
from cosell_sync.crm.salesforce.writing import Deal, Writer
from cosell_sync.crm.sets import customer_key, members
from cosell_sync.crm.values import folded, pieces
from cosell_sync.errors import OutsideError, RecordError, Surprise
from cosell_sync.ports import OpportunityDraft, Outcome


@dataclass(frozen=True)
class Ownership:
    """Who owns an imported opportunity: a colleague of its team if ``team``, else ``default`` (e-mail or user name)."""

    team: bool = True
    default: str | None = None


def create(writer: Writer, batch: Sequence[OpportunityDraft], ownership: Ownership) -> Sequence[Outcome]:
    deals = [Deal("", None, {**each.fields, "referral_id": each.referral_id}) for each in batch]
    try:
        existing = _existing(writer, [each.referral_id for each in batch])
        for deal, draft in zip(deals, batch, strict=True):
            deal.id = existing.get(folded(draft.referral_id), "")
        _upsert(writer, [deal for deal in deals if not deal.id], ownership)
        _read(writer, [deal for deal in deals if deal.id])
        writer.around(deals)
    except (OutsideError, Surprise) as error:
        writer.away(deals, error)
    found = writer.read_back(deals)
    return [
        Outcome(
            id=deal.id or None,
            error=deal.error,
            snapshot=found.get(deal.id),
            steps=int(bool(deal.id)),
            unheld=deal.unheld,
        )
        for deal in deals
    ]


def _existing(writer: Writer, referral_ids: Sequence[str]) -> Mapping[str, str]:
    parts = [
        composite.query(queries.by_referrals(writer.org, some))
        for some in pieces(referral_ids, queries.AT_ONCE)
    ]
    key = writer.org.names["referral_id"]
    return {
        folded(row[key]): str(row["Id"]) for rows in composite.everything(writer.rest, parts) for row in rows
    }


def _upsert(writer: Writer, deals: Sequence[Deal], ownership: Ownership) -> None:
    if not deals:
        return
    org = writer.org
    customers = {id(deal): deal.fields.get("customer") for deal in deals}
    accounts = writer.accounts([each for each in customers.values() if isinstance(each, Customer)])
    owners = _owners(writer, deals, ownership)
    changes: list[tuple[Deal, Change]] = []
    for deal in deals:
        columns = {name: item for name, item in records.columns(deal.fields, org).items() if item is not None}
        customer = customers[id(deal)]
        if isinstance(customer, Customer) and customer.name:
            account = accounts[customer_key(customer, writer.match)]
            if isinstance(account, RecordError):
                deal.fail(
                    type(account)(
                        account.text, code=account.code, status=account.status, fields=account.fields
                    )
                )
                continue
            columns["AccountId"] = account
        if owner := owners[id(deal)]:
            columns["OwnerId"] = owner
        changes.append((deal, Change(Verb.UPSERT, OPPORTUNITY, columns, key=org.names["referral_id"])))
    changes.sort(
        key=lambda each: str((each[1].columns or {}).get("AccountId", ""))
    )  # few locks on one account
    raced: list[Deal] = []
    results = bulk.send(writer.rest, [change for _, change in changes])
    for (deal, _), result in zip(changes, results, strict=True):
        if result.away is not None:
            writer.trouble = result.away
        if result.fine:
            deal.id, deal.touched = result.id, True
        elif any(fault.code == trouble.DUPLICATE_VALUE for fault in result.faults):
            raced.append(deal)
            deal.fail(writer.outcome(result.faults, result.status))
        elif error := writer.failure(result):
            deal.fail(error)
    if raced and writer.trouble is None:
        # Somebody made it between the look and the upsert; if it is the one we want, it is found now.
        existing = _existing(writer, [str(deal.fields["referral_id"]) for deal in raced])
        for deal in raced:
            if found := existing.get(folded(str(deal.fields["referral_id"]))):
                deal.id, deal.error = found, None
    if writer.trouble is not None:
        raise writer.trouble


def _owners(writer: Writer, deals: Sequence[Deal], ownership: Ownership) -> Mapping[int, str | None]:
    teams: dict[int, Sequence[Member]] = {
        id(deal): (members(deal.fields, "team") or ()) if ownership.team else () for deal in deals
    }
    names = [each.email for team in teams.values() for each in team]
    names += [ownership.default] if ownership.default else []
    users = writer.directory.find(names, writer.org.user_id) if names else {}
    fallback = users.get(folded(ownership.default)) if ownership.default else None
    return {
        key: next((users[each.email] for each in team if each.email in users), fallback)
        for key, team in teams.items()
    }


def _read(writer: Writer, deals: Sequence[Deal]) -> None:
    """What the new opportunities hold before their rows are made: a flow may have made some, an earlier try others."""
    rows = {
        row["Id"][:15]: row for row, _ in reading.rows(writer.rest, writer.org, [deal.id for deal in deals])
    }
    for deal in deals:
        deal.row = rows.get(deal.id[:15])
