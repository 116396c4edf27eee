"""What changed since the last pull: one feed a table, all their positions in one opaque watermark.

Two kinds of feed:

delta     opportunities, connections and solutions, where the environment tracks their changes. The position is a link of the
          service. The feed includes deletions. It cannot be filtered, so only ids are read, and then the rows in scope by id.
          https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
modified  `modifiedon` with an overlap (`core.overlap`): always for accounts, contacts and users, because tracking them would begin with a read
          of every person of the organization, and their deletion shows on the row that named them; for the other three where
          tracking is off or not allowed. This feed has no deletions; the full compare finds them.

The first pull notes every position before it reads anything, then reads everything in scope. A change in between is seen by
that read, by the next pull, or by both. After a crash, or when a link has expired, the pull starts again; what is known
already drops out by its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cosell_sync.core import overlap
from cosell_sync.core.overlap import Position
from cosell_sync.crm.dynamics import errors, odata, read, translate, versions
from cosell_sync.crm.dynamics.org import ACCOUNTS, CONNECTIONS, CONTACTS, OPPORTUNITIES, SOLUTIONS, USERS, Org
from cosell_sync.crm.dynamics.questions import Question, Sheet, refused
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.translate import Row
from cosell_sync.crm.dynamics.watermark import BEGINNING, Watermark, moment, parse
from cosell_sync.crm.values import pieces
from cosell_sync.errors import RecordError
from cosell_sync.ports import KnownRecords, Page
from cosell_sync.transport.errors import Scope

CHUNK: Final = 2000  # ids asked of the store at once
FEW: Final = 200  # rows of a set that every pull may read again
SECOND: Final = timedelta(seconds=1)  # stamps have whole seconds
ID_COLUMNS: Final[Mapping[str, str]] = {
    OPPORTUNITIES: "opportunityid",
    CONNECTIONS: "connectionid",
    SOLUTIONS: "cosell_solutionid",
    ACCOUNTS: "accountid",
    CONTACTS: "contactid",
    USERS: "systemuserid",
}
TRACKED: Final = (OPPORTUNITIES, CONNECTIONS, SOLUTIONS)
PARENT: Final[Mapping[str, str]] = {CONNECTIONS: "record1id", SOLUTIONS: "cosell_opportunity"}
_FORBIDDEN: Final = 403


class Expired(Exception):
    """A link has expired, or a table is no longer tracked: everything is read again."""


def changed_since(
    rest: Rest, org: Org, watermark: str | None, span: timedelta, seen: KnownRecords
) -> Iterator[Page]:
    """Pages of what changed since the watermark; everything in scope without one. See the top of this module."""
    known = parse(watermark)
    if known is None or not _complete(known, org):
        yield from _read_all(rest, org, seen)
        return
    org.security.narrow = known.narrow
    try:
        _look_again(rest, org, known)
        found = _Suspects(org, seen)
        now = _follow(rest, org, known, span, found)
    except Expired:
        yield from _read_all(rest, org, seen)
        return
    yield from found.pages(rest)
    if now != known:
        yield Page(watermark=now.text)


def _look_again(rest: Rest, org: Org, known: Watermark) -> None:
    """Raises ``Expired`` once the application user may read all rows of a set of which it could not; one call a set."""
    for name in known.narrow:
        if not is_narrow(rest, org, name):
            raise Expired


def is_narrow(rest: Rest, org: Org, name: str) -> bool:
    """Whether rows of that set may be out of sight: change tracking wants Read of the whole organization, and is refused else.

    https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
    """
    asked = _tracking(org, name)
    try:
        next(iter(rest.sheets(asked.path, prefer=asked.prefer, scope=asked.scope)), None)
    except RecordError as error:
        return error.status == _FORBIDDEN
    return False


def _complete(known: Watermark, org: Org) -> bool:
    """Whether every feed has a position, and a delta link where the environment tracks the table by now."""
    return all(
        name in known.links or (name in known.stamps and (name in known.refused or not _trackable(org, name)))
        for name in feeds(org)
    )


def _trackable(org: Org, name: str) -> bool:
    return name in TRACKED and name in org.tracked


def feeds(org: Org) -> Sequence[str]:
    """The sets that are followed."""
    return [name for name in ID_COLUMNS if name != SOLUTIONS or org.solutions]


# --- the first pull ---------------------------------------------------------------------------------------------


def _read_all(rest: Rest, org: Org, seen: KnownRecords) -> Iterator[Page]:
    start = _current_positions(rest, org)
    org.security.narrow = start.narrow
    for some in read.all_in_scope(rest, org):
        known = seen.versions([bundle.id for bundle in some])
        fresh = [
            translate.snapshot(bundle, org)
            for bundle in some
            if not versions.unchanged(known.get(bundle.id), translate.version(bundle).text)
        ]
        if fresh:
            yield Page(snapshots=tuple(fresh))
    yield Page(watermark=start.text)


def _current_positions(rest: Rest, org: Org) -> Watermark:
    links: dict[str, str] = {}
    by_stamp: list[str] = []
    refusing: set[str] = set()
    narrow: set[str] = set()
    tracked = [name for name in feeds(org) if _trackable(org, name)]
    started = dict(zip(tracked, rest.together([_tracking(org, name) for name in tracked]), strict=True))
    for name in feeds(org):
        link = _start_tracking(rest, started[name]) if name in started else None
        if link is not None:
            links[name] = link
            continue
        by_stamp.append(name)
        if name in started:
            refusing.add(name)
            narrow |= {name} if name in PARENT and is_narrow(rest, org, name) else set()
    newest = rest.all_rows([Question(_newest(name)) for name in by_stamp])
    stamps = {name: Position(_newest_of(rows)) for name, rows in zip(by_stamp, newest, strict=True)}
    return Watermark(links, stamps, frozenset(refusing), frozenset(narrow))


def _tracking(org: Org, name: str) -> Question:
    """All rows of a set, and behind them the link to what changes from then on."""
    path = odata.query(name, select=delta_columns(org, name))
    return Question(path, prefer="odata.track-changes", scope=Scope.RECORD)


def _start_tracking(rest: Rest, sheets: Iterator[Sheet]) -> str | None:
    """The link after the last page of all rows; None where this table cannot be tracked (its flag may be off by now, or the
    application user may not read all of it).
    """
    link = None
    try:
        for sheet in sheets:
            link = sheet.delta
    except RecordError as error:
        if errors.code_of(error) == errors.NOT_TRACKED or error.status in {400, 403}:
            return None
        raise refused(error) from None
    return rest.followed(link) if link else None


def delta_columns(org: Org, name: str) -> Sequence[str]:
    """The columns that a feed of that set reads."""
    if name == OPPORTUNITIES:
        return (ID_COLUMNS[name], *read.marker_columns(org), *org.stamps(name))
    return (ID_COLUMNS[name], f"_{PARENT[name]}_value", *org.stamps(name))


def newest_stamp(rest: Rest, name: str) -> datetime:
    """The newest stamp of a set, by the server's clock."""
    return _newest_of(list(rest.rows(_newest(name))))


def _newest(name: str) -> str:
    order = f"modifiedon desc,{ID_COLUMNS[name]} desc"
    return odata.query(name, select=(ID_COLUMNS[name], "modifiedon"), order=order, top=1)


def _newest_of(rows: Sequence[Row]) -> datetime:
    return (moment(rows[0].get("modifiedon")) if rows else None) or BEGINNING


# --- later pulls ------------------------------------------------------------------------------------------------


@dataclass
class _Suspects:
    """Opportunities that may have changed, collected from all feeds; and those that are gone."""

    org: Org
    seen: KnownRecords
    suspects: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)

    def opportunities(self, rows: Sequence[Row]) -> None:
        """Rows of the opportunities' own feed, without those that are known in this state."""
        ids = [str(row["opportunityid"]).lower() for row in rows]
        known = self.seen.versions(ids) if ids else {}
        for each, row in zip(ids, rows, strict=True):
            if each in known:
                if versions.own_etag(known[each]) != versions.etag(row):
                    self.suspects[each] = None
            elif read.in_scope(row, self.org):
                self.suspects[each] = None

    def children(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """(opportunity id, row id, ETag) of child rows, without those of opportunities that are not known."""
        known = self.seen.versions(list({parent for parent, _, _ in rows})) if rows else {}
        for parent, row_id, tag in rows:
            if parent in known and not versions.covers(known[parent], row_id, tag):
                self.suspects[parent] = None

    def neighbours(self, rows: Sequence[tuple[str, str]]) -> None:
        """(row id, ETag) of accounts, contacts and users."""
        around = sorted(self.seen.holding([row_id for row_id, _ in rows])) if rows else []
        for parents in pieces(around, CHUNK):
            for each, text in self.seen.versions(parents).items():
                version = versions.parse(text)
                if version is None or any(
                    row_id in version.rows and version.rows[row_id] != tag for row_id, tag in rows
                ):
                    self.suspects[each] = None

    def removed(self, name: str, ids: Sequence[str]) -> None:
        """Ids of deleted rows of that set."""
        if name == OPPORTUNITIES:
            self.gone |= dict.fromkeys(self.seen.versions(ids) if ids else {})
        elif ids:
            self.suspects |= dict.fromkeys(sorted(self.seen.holding(ids)))

    def pages(self, rest: Rest) -> Iterator[Page]:
        """The opportunities that did change, read by id, and those that are gone."""
        if self.gone:
            yield Page(gone=tuple(self.gone))
        ids = [each for each in self.suspects if each not in self.gone]
        for number, some in enumerate(pieces(ids, read.PAGE)):
            known = self.seen.versions(some)
            found = read.fetch(rest, self.org, some, _near(known), refresh=not number)
            vanished = tuple(each for each in some if found[each] is None and each in known)
            fresh = tuple(
                each
                for each in found.values()
                if each and not versions.unchanged(known.get(each.id), each.version)
            )
            if vanished or fresh:
                yield Page(snapshots=fresh, gone=vanished)


def _near(known: Mapping[str, str]) -> read.Near:
    """The rows around these opportunities when they were last read; of which set each is, a version does not tell. Worth
    asking for at once where they are few.
    """
    found = {
        row_id for text in known.values() if (version := versions.parse(text)) for row_id in version.rows
    }
    return dict.fromkeys(read.KEYS, sorted(found)) if len(found) <= odata.AT_ONCE else {}


def _follow(rest: Rest, org: Org, known: Watermark, span: timedelta, found: _Suspects) -> Watermark:
    """Read on in every feed; their first pages come in one call. Raises ``Expired``."""
    links, stamps = dict(known.links), dict(known.stamps)
    if not all(map(rest.ours, links.values())):
        raise Expired  # the environment's address was changed since: the positions are lost with the old one
    names = feeds(org)
    questions = [
        Question(rest.followed(links[name]), scope=Scope.RECORD)
        if name in links
        else Question(_modified(org, name, stamps[name].reaches(span)))
        for name in names
    ]
    for name, sheets in zip(names, rest.together(questions), strict=True):
        collect = _collector(found, name)
        if name in links:
            links[name] = _follow_link(rest, name, sheets, found, collect)
        else:
            read_stamps, began = _read_modified(sheets, collect)
            reached = max([stamps[name].at, *read_stamps])
            if began is not None and began - reached > span:
                reached = began  # else a burst would be read again and again, until somebody edits
            stamps[name] = overlap.moved(
                stamps[name], reached, now=began, overlap=span, listed=[read_stamps], few=FEW, tick=SECOND
            )
    return replace(known, links=links, stamps=stamps)


def _collector(found: _Suspects, name: str) -> Callable[[Sequence[Row]], None]:
    """The function that takes rows of that set."""
    key = ID_COLUMNS[name]
    if name == OPPORTUNITIES:
        return found.opportunities
    if name in PARENT:
        parent = PARENT[name]
        return lambda rows: found.children(
            [
                (above, str(row[key]).lower(), versions.etag(row))
                for row in rows
                if (above := translate.lookup(row, parent))
            ]
        )
    return lambda rows: found.neighbours([(str(row[key]).lower(), versions.etag(row)) for row in rows])


def _follow_link(
    rest: Rest,
    name: str,
    sheets: Iterator[Sheet],
    found: _Suspects,
    collect: Callable[[Sequence[Row]], None],
) -> str:
    """The next link. Raises ``Expired``."""
    fresh: str | None = None
    try:
        for sheet in sheets:
            rows, ids = _live_and_deleted(name, sheet.rows)
            for some in pieces(rows, CHUNK):
                collect(some)
            for gone in pieces(ids, CHUNK):
                found.removed(name, gone)
            fresh = sheet.delta
    except RecordError as error:
        if errors.code_of(error) in {errors.EXPIRED_LINK, errors.NOT_TRACKED} or error.status in {
            400,
            403,
            410,
        }:
            raise Expired from None
        raise refused(error) from None
    if fresh is None:
        raise Expired
    return rest.followed(fresh)


def _live_and_deleted(name: str, rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Rows, and ids of deleted rows. Both the OData 4.0 and the 4.01 form of a deletion are understood."""
    live, gone = [], []
    for row in rows:
        removed = str(row.get("@odata.context", "")).endswith("$deletedEntity") or "reason" in row
        if removed or "@removed" in row:
            place = row.get("id") or row.get("@odata.id") or row.get("@id") or row.get(ID_COLUMNS[name])
            if each := odata.guid_in(str(place or "")):
                gone.append(each)
        elif row.get(ID_COLUMNS[name]):
            live.append(row)
    return live, gone


def _modified(org: Org, name: str, stamp: datetime) -> str:
    """The rows of that set that were modified since."""
    key = ID_COLUMNS[name]
    own = delta_columns(org, name) if name in TRACKED else (key, *org.stamps(name))
    where = odata.all_of(odata.since(stamp), read.in_scope_filter(org) if name == OPPORTUNITIES else "")
    return odata.query(name, select=(*own, "modifiedon"), where=where, order=f"modifiedon asc,{key} asc")


def _read_modified(
    sheets: Iterator[Sheet], collect: Callable[[Sequence[Row]], None]
) -> tuple[list[datetime], datetime | None]:
    """The stamps of these rows; and when the reading began, by the server's clock."""
    stamps: list[datetime] = []
    began = None
    for number, sheet in enumerate(sheets):
        began = sheet.at if number == 0 else began
        for some in pieces(sheet.rows, CHUNK):
            collect(some)
        stamps += [moment(row.get("modifiedon")) or BEGINNING for row in sheet.rows]
    return stamps, began
