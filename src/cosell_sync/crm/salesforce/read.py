"""Reads from Salesforce: changes, records by id, look-alikes, users, and the index of everything.

A pull is one call for what changed (five queries: opportunities and whatever else their snapshots are read from) and one for
what was deleted. A row's stamp is the time of the change, not of its commit, so rows may appear behind the newest stamp seen;
hence the overlap (`core.overlap`), and the versions that drop what is known. Only opportunities that may have changed are read, so an idle
pull costs two calls however many deals are linked. After a burst the lists of related rows are long; then each is a call of its
own, so that one of them is in memory at a time.

The watermark follows the rows, and where none came for longer than the overlap the server's clock.

The watermark comes with the last page, when everything before it was read; only in the first reading, which has no related
rows to read apart, each page has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from cosell_sync.core import overlap
from cosell_sync.core.deal import Snapshot
from cosell_sync.core.overlap import Position
from cosell_sync.crm.matches import lookalike_key, matches, searchable_names
from cosell_sync.crm.salesforce import composite, errors, queries, translate, versions
from cosell_sync.crm.salesforce.composite import Part, Reply, Row
from cosell_sync.crm.salesforce.ids import is_opportunity_id, opportunity_id
from cosell_sync.crm.salesforce.org import TEAM, Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.users import User
from cosell_sync.crm.values import folded, pieces
from cosell_sync.ports import KnownRecords, Matches, MatchQuery, Page

PAGE: Final = 200  # opportunities in a page
READ_AT_ONCE: Final = 2 * PAGE  # opportunities read whole in one call
SOUGHT_AT_ONCE: Final = 200  # referrals in one search: four queries, or five with references
BESIDE: Final = 500  # related rows of a kind that are read together with the opportunities
FEW: Final = 200  # rows of a kind that every pull may read again
SECOND: Final = timedelta(seconds=1)  # stamps have whole seconds
DELETED_LOG_SPAN: Final = timedelta(days=14)  # the platform keeps fifteen days
KNOWN_AT_ONCE: Final = 2000  # ids asked of the store at once

# Kind of row → column that holds the opportunity's id.
_CHILD_PARENT: Final = {
    "account": "Id",
    "role": "OpportunityId",
    "team": "OpportunityId",
    "solution": "Opportunity__c",
    "opportunity": "Id",
}
# Kind of row → its id columns → where the stamp of that other row is: (relationship, column).
_STAMPED_WITH: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "account": {"AccountId": ("Account", "SystemModstamp"), "OwnerId": ("Owner", "LastModifiedDate")},
    "role": {"ContactId": ("Contact", "SystemModstamp")},
    "team": {"UserId": ("User", "LastModifiedDate")},
    "solution": {},
}


# --- records by id ----------------------------------------------------------------------------------------------


def fetch(rest: Rest, org: Org, ids: Sequence[str]) -> dict[str, Snapshot | None]:
    """Each opportunity as it is now; None where it is deleted or hidden. Two hundred ids a query, five queries a call.

    The first 15 characters identify a row; the other three are a check sum.
    """
    found = {row["Id"][:15]: (row, at) for row, at in opportunity_rows(rest, org, ids)}
    return {
        each: translate.snapshot(found[each[:15]][0], org, found[each[:15]][1])
        if each[:15] in found
        else None
        for each in ids
    }


def opportunity_rows(
    rest: Rest, org: Org, ids: Sequence[str], *, stamps_only: bool = False
) -> Iterator[tuple[Row, datetime]]:
    """The rows that exist, with all child rows, and the server's time. ``stamps_only``: without what versions do not need."""
    wanted = [each for each in dict.fromkeys(ids) if is_opportunity_id(each)]
    parts = [
        composite.query(queries.by_ids(org, some, stamps_only=stamps_only))
        for some in pieces(wanted, queries.AT_ONCE)
    ]
    for first in composite.read(rest, parts):
        yield from whole_rows(rest, first)


def whole_rows(rest: Rest, first: composite.Rows) -> Iterator[tuple[Row, datetime]]:
    """The rows of a query of opportunities, with all child rows, and the server's time."""
    for page in composite.pages(rest, first):
        for row in page.rows:
            yield with_all_children(rest, row), page.at


def with_all_children(rest: Rest, row: Row) -> Row:
    """The row with all of its child rows; the platform sends only the first ones of many."""
    cut = {
        name: found
        for name in (translate.ROLES, translate.MEMBERS, translate.SOLUTIONS)
        if isinstance(found := row.get(name), Mapping) and not found.get("done", True)
    }
    if not cut:
        return row
    whole = dict(row)
    for name, found in cut.items():
        first = composite.rows(Reply(200, found), rest.clock())
        every = [each for page in composite.pages(rest, first) for each in page.rows]
        whole[name] = {"records": every, "done": True}
    return whole


# --- changes ----------------------------------------------------------------------------------------------------


def changed_since(
    rest: Rest, org: Org, watermark: str | None, span: timedelta, seen: KnownRecords
) -> Iterator[Page]:
    """Pages of what changed since the watermark; all opportunities in scope without one. See the top of this module."""
    if watermark is None:
        yield from _everything(rest, org, seen)
        return
    known = _position(watermark)
    stamp = versions.format_stamp(known.reaches(span).replace(microsecond=0))
    around = queries.changed_around(org, stamp)
    asked = [composite.query(text, page=BESIDE) for text in around.values()]
    lists = composite.read(rest, [composite.query(queries.changed(org, stamp)), *asked])
    at, read = lists[0].at, _Stamps()
    yield from _pages(rest, org, lists.pop(0), seen, read)
    again: dict[str, None] = {}
    for kind, text in around.items():
        rows = lists.pop(0)
        if rows.more is not None:
            rows = composite.read(rest, [composite.query(text)])[0]
        for page in composite.pages(rest, rows):
            again |= dict.fromkeys(_not_as_known(kind, page.rows, seen, read))
    gone, removed = _deletions(rest, org, stamp, at, seen, read)
    again |= dict.fromkeys(removed)
    yield from _reread(rest, org, [each for each in again if each not in read.whole], gone, seen)
    now = _moved(known, read, at, span)
    if now != known:
        yield Page(watermark=now.text)


def _everything(rest: Rest, org: Org, seen: KnownRecords) -> Iterator[Page]:
    """The first reading, which goes on from its last page if it is interrupted."""
    first = composite.read(rest, [composite.query(queries.changed(org, None))])[0]
    read, announced = _Stamps(), ""
    for page in _pages(rest, org, first, seen, read):
        announced = Position(read.newest(first.at)).text
        yield replace(page, watermark=announced)
    # An empty org still needs a watermark, so that the next pull reads what is deleted from now on.
    if (end := Position(read.newest(first.at)).text) != announced:
        yield Page(watermark=end)


@dataclass
class _Stamps:
    """The stamps of the rows that a pull listed, by kind, and the ids of the opportunities that it listed whole."""

    of: dict[str, list[datetime]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def note(self, kind: str, stamp: object) -> None:
        """One row of that kind; None: it has no stamp."""
        if stamp is not None:
            self.of.setdefault(kind, []).append(versions.parse_stamp(stamp))

    def newest(self, otherwise: datetime) -> datetime:
        """The newest of all."""
        return max((max(stamps) for stamps in self.of.values()), default=otherwise)


def _moved(known: Position, read: _Stamps, now: datetime, span: timedelta) -> Position:
    """``now``: when the opportunities were listed. A list that was read later says nothing of what was edited in between."""
    listed = [[stamp for stamp in stamps if stamp <= now] for stamps in read.of.values()]
    reached = max([known.at, *(stamp for stamps in listed for stamp in stamps)])
    if now - reached > span:
        reached = now  # else what once came in a burst would be read again and again, until somebody edits
    return overlap.moved(known, reached, now=now, overlap=span, listed=listed, few=FEW, tick=SECOND)


def _position(watermark: str) -> Position:
    """The position of a stored text; the earliest one for a text of another kind."""
    try:
        return overlap.read(watermark)
    except ValueError:
        return Position(datetime.min.replace(tzinfo=UTC))


def _row_stamps(kind: str, row: Row) -> Iterator[tuple[str, str]]:
    """Ids and stamps in a row of ``queries.changed_around``."""
    if kind != "account" and row.get("SystemModstamp"):
        yield row["Id"], row["SystemModstamp"]
    for name, (relationship, column) in _STAMPED_WITH[kind].items():
        stamp = (row.get(relationship) or {}).get(column)
        if row.get(name) and stamp:
            yield row[name], stamp


def _not_as_known(kind: str, rows: Sequence[Row], seen: KnownRecords, read: _Stamps) -> Iterator[str]:
    """The opportunities of these rows of ``queries.changed_around`` that were last read with other stamps."""
    suspects: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        moments = list(_row_stamps(kind, row))
        suspects.setdefault(row[_CHILD_PARENT[kind]], set()).update(moments)
        read.note(kind, max((text for _, text in moments), default=None, key=versions.parse_stamp))
    known = seen.versions(list(suspects))
    for each, states in suspects.items():
        if not versions.covers(known.get(each), states):
            yield each


def _deletions(
    rest: Rest, org: Org, stamp: str, now: datetime, seen: KnownRecords, read: _Stamps
) -> tuple[Sequence[str], Sequence[str]]:
    """Opportunities in the Recycle Bin, and opportunities that lost a child row."""
    texts = queries.deleted(org, stamp)
    parts = [composite.query(text, deleted=True) for text in texts.values()]
    if org.team:
        # A colleague taken off a team never reaches the Recycle Bin; only the log of deletions has it. The log ignores
        # seconds, hence the minute ahead.
        # https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getdeleted.html
        parts.append(Part("GET", _deleted_log_path(stamp, now, now + timedelta(minutes=1))))
    replies, at = composite.send(rest, parts, repeat=True)
    deleted: dict[str, list[tuple[str, str]]] = {kind: [] for kind in texts}  # (opportunity id, row id)
    for kind, reply in zip(texts, replies, strict=False):
        for page in composite.pages(rest, composite.rows(reply, at)):
            for row in page.rows:
                read.note(f"deleted {kind}", row.get("SystemModstamp"))
                if parent := row.get(_CHILD_PARENT[kind]):
                    deleted[kind].append((parent, row["Id"]))
    ids = [opportunity_id for opportunity_id, _ in deleted["opportunity"]]
    gone = [each for some in pieces(ids, KNOWN_AT_ONCE) for each in seen.versions(some)]
    removed = _known_parents([*deleted.get("role", ()), *deleted.get("solution", ())], seen)
    if org.team:
        removed += _removed_members(rest, _deleted_log_path(stamp, now, now), replies[-1], seen)
    return gone, [each for each in removed if each not in gone]


def _known_parents(rows: Sequence[tuple[str, str]], seen: KnownRecords) -> list[str]:
    """Ids of the opportunities whose last version included that row. ``rows``: (opportunity id, row id)."""
    found = []
    for some in pieces(rows, KNOWN_AT_ONCE):
        known = seen.versions(list(dict.fromkeys(parent for parent, _ in some)))
        found += [parent for parent, row_id in some if versions.has_row(known.get(parent), row_id)]
    return found


def _removed_members(rest: Rest, url: str, reply: Reply, seen: KnownRecords) -> Sequence[str]:
    """Opportunities that lost a member of their team, by the log of deletions; empty where there is no such log."""
    body = reply.body
    if not reply.fine:
        try:
            # Not every version documents whether this resource may be part of a composite, so it is requested alone.
            body = rest.call("GET", url).data
        except errors.refusals():
            return ()  # too long ago, or no such log; the full compare finds what is missed here
    listed = body.get("deletedRecords") if isinstance(body, Mapping) else None
    if not isinstance(listed, list) or any(
        not isinstance(each, Mapping) or not each.get("id") for each in listed
    ):
        raise composite.strange()
    ids = [str(each["id"]) for each in listed]
    return sorted({each for some in pieces(ids, KNOWN_AT_ONCE) for each in seen.holding(some)})


def _deleted_log_path(stamp: str, now: datetime, end: datetime) -> str:
    start = max(versions.parse_stamp(stamp), now - DELETED_LOG_SPAN)
    start = min(start, now - timedelta(minutes=2))  # the platform requires more than a minute
    first, last = (quote(at.replace(microsecond=0).isoformat(), safe="") for at in (start, end))
    return f"sobjects/{TEAM}/deleted/?start={first}&end={last}"


def _reread(
    rest: Rest, org: Org, ids: Sequence[str], gone: Sequence[str], seen: KnownRecords
) -> Iterator[Page]:
    if gone:
        yield Page(gone=tuple(gone))
    for some in pieces(ids, READ_AT_ONCE):
        found = fetch(rest, org, some)
        known = seen.versions(some)
        vanished = [each for each in some if found[each] is None and each in known]
        if vanished:
            yield Page(gone=tuple(vanished))
        fresh = [
            each
            for each in found.values()
            if each and not versions.unchanged(known.get(each.id), each.version)
        ]
        yield from (Page(snapshots=tuple(part)) for part in pieces(fresh, PAGE))


def _pages(rest: Rest, org: Org, first: composite.Rows, seen: KnownRecords, read: _Stamps) -> Iterator[Page]:
    """Opportunities that are not as known, in the order of their stamps, in pages."""
    for page in composite.pages(rest, first):
        for some in pieces(page.rows, PAGE):
            known = seen.versions([row["Id"] for row in some])
            for row in some:
                read.note("opportunity", row.get("SystemModstamp"))
                read.whole.add(row["Id"])
            fresh = [
                snapshot
                for row in some
                if not versions.unchanged(known.get(row["Id"]), translate.version(row, page.at).text)
                for snapshot in [translate.snapshot(with_all_children(rest, row), org, page.at)]
            ]
            if fresh:
                yield Page(snapshots=tuple(fresh))


# --- what exists ------------------------------------------------------------------------------------------------


def find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    """By referral id: the opportunity that has it, the one that the referral names, and look-alikes."""
    found: dict[str, Matches] = {}
    for some in pieces(sought, SOUGHT_AT_ONCE):
        found |= _find(rest, org, some, match)
    return found


def _find(rest: Rest, org: Org, sought: Sequence[MatchQuery], match: Sequence[str]) -> Mapping[str, Matches]:
    key = org.names["referral_id"]
    named = {each.external_reference or "": opportunity_id(each.external_reference) for each in sought}
    references = sorted({each for each in named.values() if each})
    names = (
        queries.within_limits(searchable_names(sought)) if org.identifies_accounts else []
    )  # what looks alike has the same account
    texts = [queries.by_referrals(org, [each.referral_id for each in sought])]
    texts += [queries.by_references(org, references)] if references else []
    texts += [queries.lookalikes(org, some) for some in pieces(names, queries.NAMES_AT_ONCE)]
    answers = iter(composite.everything(rest, [composite.query(text) for text in texts]))
    by_referral = {folded(row[key]): str(row["Id"]) for row in next(answers)}
    by_id = {row["Id"][:15]: (str(row["Id"]), row.get(key)) for row in (next(answers) if references else ())}
    return matches(
        sought,
        match,
        by_referral=by_referral,
        referenced={text: by_id[each[:15]] for text, each in named.items() if each and each[:15] in by_id},
        lookalikes=_lookalikes((row for rows in answers for row in rows), org, match),
    )


def _lookalikes(
    rows: Iterable[Row], org: Org, match: Sequence[str]
) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Open opportunities without a referral, by `lookalike_key`."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        customer = translate.customer(row.get("Account"), org)
        if customer is not None:
            key = lookalike_key(row.get(org.names["name"]), customer, match)
            found.setdefault(key, []).append(str(row["Id"]))
    return found


def users(rest: Rest, org: Org, names: Sequence[str]) -> Iterator[User]:
    """Active users of these e-mails or user names, without the integration user, the oldest first."""
    parts = [composite.query(queries.users(some)) for some in pieces(names, queries.USERS_AT_ONCE)]
    for people in composite.everything(rest, parts):
        for person in people:
            if person["Id"] != org.user_id:
                yield User(str(person["Id"]), person.get("Username"), person.get("Email"))


def foreign_accounts(rest: Rest, org: Org, account_ids: Sequence[str]) -> frozenset[str]:
    """Those of these accounts that an opportunity without a referral uses."""
    parts = [composite.query(queries.foreign(org, some)) for some in pieces(account_ids, queries.AT_ONCE)]
    return frozenset(str(row["AccountId"]) for rows in composite.everything(rest, parts) for row in rows)


def index(rest: Rest, org: Org) -> Iterator[Mapping[str, str]]:
    """Id → version of every opportunity in scope, in pages."""
    first = composite.read(rest, [composite.query(queries.index(org))])[0]
    for page in composite.pages(rest, first):
        yield {
            str(row["Id"]): translate.version(with_all_children(rest, row), page.at).text for row in page.rows
        }
