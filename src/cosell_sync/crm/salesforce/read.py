"""What Salesforce holds: changes, records by id, look-alikes, and the index of everything.

A pull is one call for what changed (five queries: opportunities, and whatever else their snapshots are made of) and
one for what was deleted. A stamp is that of the change, not of its commit, so rows turn up behind the newest stamp
already seen; hence the overlap, and the version that drops what is known. Only rows whose version says that something
may have changed are read, so an idle pull costs two calls however many deals are linked.

The order inside a pull matters for its watermark: first what was deleted and what changed around opportunities, then
the opportunities themselves, oldest stamp first. A page's watermark is thus true for everything before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from simple_salesforce.exceptions import SalesforceError

from cosell_sync.core.deal import Snapshot
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.salesforce import composite, queries, translate, versions
from cosell_sync.crm.salesforce.composite import Part, Reply, Row
from cosell_sync.crm.salesforce.org import TEAM, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import KnownRecords, Matches, MatchQuery, Page

PAGE: Final = 200
LOG_OF_DELETIONS: Final = timedelta(days=14)  # the platform keeps fifteen

_OPPORTUNITY_ID: Final = re.compile(r"006[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?")
_CHILD_PARENT: Final = {
    "account": "Id",
    "role": "OpportunityId",
    "team": "OpportunityId",
    "solution": "Opportunity__c",
    "opportunity": "Id",
}
# Beside its own stamp, a row brings those of the rows behind it: id column → stamp as (relationship, column).
_BEHIND: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "account": {"AccountId": ("Account", "SystemModstamp"), "OwnerId": ("Owner", "LastModifiedDate")},
    "role": {"ContactId": ("Contact", "SystemModstamp")},
    "team": {"UserId": ("User", "LastModifiedDate")},
    "solution": {},
}


def is_opportunity_id(text: str | None) -> bool:
    return text is not None and _OPPORTUNITY_ID.fullmatch(text) is not None


# --- records by id ----------------------------------------------------------------------------------------------


def fetch(rest: Rest, org: Org, ids: Sequence[str]) -> dict[str, Snapshot | None]:
    """Two hundred ids a query, five queries a call. An id has 15 characters that count, the rest is a check sum."""
    found = {row["Id"][:15]: (row, at) for row, at in rows(rest, org, ids)}
    return {
        each: translate.snapshot(found[each[:15]][0], org, found[each[:15]][1])
        if each[:15] in found
        else None
        for each in ids
    }


def rows(
    rest: Rest, org: Org, ids: Sequence[str], *, stamps_only: bool = False
) -> Iterator[tuple[Row, datetime]]:
    wanted = [each for each in dict.fromkeys(ids) if is_opportunity_id(each)]
    parts = [
        composite.query(queries.by_ids(org, some, stamps_only=stamps_only))
        for some in pieces(wanted, queries.AT_ONCE)
    ]
    for first in composite.read(rest, parts):
        for page in composite.pages(rest, first):
            for row in page.rows:
                yield complete(rest, row), page.at


def complete(rest: Rest, row: Row) -> Row:
    """The row with all of its child rows; of many the platform sends only the first."""
    short = {
        name: found
        for name in (translate.ROLES, translate.MEMBERS, translate.SOLUTIONS)
        if isinstance(found := row.get(name), Mapping) and not found.get("done", True)
    }
    if not short:
        return row
    whole = dict(row)
    for name, found in short.items():
        first = composite.rows(Reply(200, found), rest.clock())
        every = [each for page in composite.pages(rest, first) for each in page.rows]
        whole[name] = {"records": every, "done": True}
    return whole


# --- changes ----------------------------------------------------------------------------------------------------


def changed_since(
    rest: Rest, org: Org, watermark: str | None, overlap: timedelta, seen: KnownRecords
) -> Iterator[Page]:
    if watermark is None:
        first = composite.read(rest, [composite.query(queries.changed(org, None))])[0]
        yield from _stream(rest, org, first, seen, None)
        if not first.rows:
            yield Page(
                watermark=versions.written(first.at)
            )  # an empty org: what is deleted from now on must show
        return
    reached = versions.moment(watermark)
    stamp = versions.written((reached - overlap).replace(microsecond=0))
    around = queries.changed_around(org, stamp)
    own, *others = composite.read(
        rest, [composite.query(text) for text in (queries.changed(org, stamp), *around.values())]
    )
    highest = reached
    suspects: dict[str, set[tuple[str, str]]] = {}
    for kind, first in zip(around, others, strict=True):
        for page in composite.pages(rest, first):
            for row in page.rows:
                for row_id, text in _stamps(kind, row):
                    suspects.setdefault(row[_CHILD_PARENT[kind]], set()).add((row_id, text))
                    highest = max(highest, versions.moment(text))
    gone, removed, latest = _deletions(rest, org, stamp, own.at, seen)
    highest = max(highest, latest)
    coming = {row["Id"] for row in own.rows}
    again = [each for each in _unknown(suspects, seen) if each not in coming]
    again += [each for each in removed if each not in coming]
    yield from _read_again(rest, org, list(dict.fromkeys(again)), gone, seen)
    yield from _stream(rest, org, own, seen, watermark, highest)


def _stamps(kind: str, row: Row) -> Iterator[tuple[str, str]]:
    """Ids and stamps in a row of ``queries.changed_around``."""
    if kind != "account" and row.get("SystemModstamp"):
        yield row["Id"], row["SystemModstamp"]
    for name, (relationship, column) in _BEHIND[kind].items():
        stamp = (row.get(relationship) or {}).get(column)
        if row.get(name) and stamp:
            yield row[name], stamp


def _unknown(suspects: Mapping[str, set[tuple[str, str]]], seen: KnownRecords) -> Iterator[str]:
    """Those opportunities around which something is not as remembered."""
    for some in pieces(list(suspects), 2000):
        known = seen.versions(some)
        for each in some:
            if not all(versions.holds(known.get(each), row_id, text) for row_id, text in suspects[each]):
                yield each


def _deletions(
    rest: Rest, org: Org, stamp: str, now: datetime, seen: KnownRecords
) -> tuple[Sequence[str], Sequence[str], datetime]:
    """Opportunities in the bin, those that lost a child row, and the newest stamp among the deleted."""
    texts = queries.deleted(org, stamp)
    parts = [composite.query(text, deleted=True) for text in texts.values()]
    if org.team:
        # A colleague taken off a team never reaches the Recycle Bin; only the log of deletions knows. It ignores
        # seconds, hence the minute ahead.
        # https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getdeleted.html
        parts.append(Part("GET", _log_of_deletions(stamp, now, now + timedelta(minutes=1))))
    replies, at = composite.send(rest, parts, repeat=True)
    latest = versions.moment(stamp)
    lost: dict[str, list[str]] = {}
    for kind, reply in zip(texts, replies, strict=False):
        for page in composite.pages(rest, composite.rows(reply, at)):
            for row in page.rows:
                latest = max(latest, versions.moment(row.get("SystemModstamp")))
                if row.get(_CHILD_PARENT[kind]):
                    lost.setdefault(kind, []).append(row[_CHILD_PARENT[kind]])
                    if kind != "opportunity":
                        lost.setdefault(f"{kind} row", []).append(row["Id"])
    ids = lost.get("opportunity", [])
    gone = [each for some in pieces(ids, 2000) for each in seen.versions(some)]
    pairs = [
        pair
        for kind in ("role", "solution")
        for pair in zip(lost.get(kind, ()), lost.get(f"{kind} row", ()), strict=True)
        if pair[0] not in gone
    ]
    removed = []
    for some_pairs in pieces(pairs, 2000):
        known = seen.versions(list(dict.fromkeys(parent for parent, _ in some_pairs)))
        removed += [parent for parent, row_id in some_pairs if versions.lists(known.get(parent), row_id)]
    if org.team:
        removed += [
            each
            for each in _off_the_team(rest, _log_of_deletions(stamp, now, now), replies[-1], seen)
            if each not in gone
        ]
    return gone, removed, latest


def _off_the_team(rest: Rest, url: str, reply: Reply, seen: KnownRecords) -> Iterable[str]:
    body = reply.body
    if not reply.fine:
        try:
            # Whether this resource may be a part is not documented for every version.
            body = rest.call("GET", url).data
        except SalesforceError:
            return ()  # away for too long, or no such log; the full compare sees what is missed here
    listed = body.get("deletedRecords") if isinstance(body, Mapping) else None
    ids = [str(each["id"]) for each in listed or () if isinstance(each, Mapping) and each.get("id")]
    return sorted({each for some in pieces(ids, 2000) for each in seen.holding(some)})


def _log_of_deletions(stamp: str, now: datetime, end: datetime) -> str:
    start = max(versions.moment(stamp), now - LOG_OF_DELETIONS)
    start = min(start, now - timedelta(minutes=2))  # the platform wants more than a minute
    first, last = (quote(at.replace(microsecond=0).isoformat(), safe="") for at in (start, end))
    return f"sobjects/{TEAM}/deleted/?start={first}&end={last}"


def _read_again(
    rest: Rest, org: Org, ids: Sequence[str], gone: Sequence[str], seen: KnownRecords
) -> Iterator[Page]:
    if gone:
        yield Page(gone=tuple(gone))
    for some in pieces(ids, PAGE * composite.QUERIES):
        found = fetch(rest, org, some)
        known = seen.versions(some)
        vanished = [each for each in some if found[each] is None and each in known]
        if vanished:
            yield Page(gone=tuple(vanished))
        fresh = [
            each for each in found.values() if each and not versions.same(known.get(each.id), each.version)
        ]
        yield from (Page(snapshots=tuple(part)) for part in pieces(fresh, PAGE))


def _stream(
    rest: Rest,
    org: Org,
    first: composite.Rows,
    seen: KnownRecords,
    watermark: str | None,
    highest: datetime | None = None,
) -> Iterator[Page]:
    """Opportunities in the order of their stamps, cut into pages; the last one says how far the whole pull reached."""
    told, reached = watermark, None if watermark is None else versions.moment(watermark)
    for page in composite.pages(rest, first):
        for some in pieces(page.rows, PAGE):
            known = seen.versions([row["Id"] for row in some])
            fresh = [
                snapshot
                for row in some
                if not versions.same(known.get(row["Id"]), translate.version(row, page.at).text)
                for snapshot in [translate.snapshot(complete(rest, row), org, page.at)]
            ]
            stamp = versions.moment(some[-1].get("SystemModstamp"))
            reached = stamp if reached is None else max(reached, stamp)
            if fresh:
                told = versions.written(reached)
                yield Page(snapshots=tuple(fresh), watermark=told)
    if highest is not None:
        reached = highest if reached is None else max(reached, highest)
    if reached is not None and (end := versions.written(reached)) != told:
        yield Page(watermark=end)


# --- what exists ------------------------------------------------------------------------------------------------


def find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    """By referral id, by the opportunity id that the referral names, and by name and customer."""
    found: dict[str, Matches] = {}
    for some in pieces(sought, 100):
        found |= _find(rest, org, some, match)
    return found


def _find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    key = org.names["referral_id"]
    references = [each.external_reference for each in sought if is_opportunity_id(each.external_reference)]
    names = list(dict.fromkeys(each.name for each in sought if each.name.strip() and each.customer.name))
    texts = [queries.by_referrals(org, [each.referral_id for each in sought])]
    texts += [queries.by_references(org, [each for each in references if each])] if references else []
    texts += [queries.lookalikes(org, names)] if names else []
    answers = iter(composite.everything(rest, [composite.query(text) for text in texts]))
    by_referral = {folded(row[key]): str(row["Id"]) for row in next(answers)}
    by_id = {row["Id"][:15]: row for row in (next(answers) if references else ())}
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in next(answers) if names else ():
        customer = translate.customer(row.get("Account"), org)
        if customer is not None:
            who = (folded(row.get(org.names["name"])), *customer_key(customer, match))
            alike.setdefault(who, []).append(str(row["Id"]))

    def referenced(each: MatchQuery) -> str | None:
        row = by_id.get((each.external_reference or "")[:15])
        # One that already carries another referral belongs to that one.
        if row is None or folded(row.get(key)) not in {"", folded(each.referral_id)}:
            return None
        return str(row["Id"])

    return {
        each.referral_id: Matches(
            by_referral=by_referral.get(folded(each.referral_id)),
            by_reference=referenced(each),
            lookalikes=tuple(alike.get((folded(each.name), *customer_key(each.customer, match)), ())),
        )
        for each in sought
    }


def users(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[User]:
    """Active users but ourselves, by e-mail or user name, the one longest there first."""
    parts = [composite.query(queries.users(some)) for some in pieces(names, queries.AT_ONCE)]
    for people in composite.everything(rest, parts):
        for person in people:
            if person["Id"] != org.user_id:
                yield str(person["Id"]), (person.get("Username"), person.get("Email"))


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    first = composite.read(rest, [composite.query(queries.index(org))])[0]
    for page in composite.pages(rest, first):
        yield {str(row["Id"]): translate.version(complete(rest, row), page.at).text for row in page.rows}
