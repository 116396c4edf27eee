"""Lists of referrals: what changed since a watermark, all of them, the sides of a deal, one that was just created.

Whether ``$filter`` takes ``updatedDateTime ge …``, and with or without quotes, is a guess of ours; refused with 400 in both
forms, the list is read newest first down to the watermark instead
(learn.microsoft.com/partner-center/developer/get-a-list-of-referrals). ``forms`` remembers what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from cosell_sync.core.capabilities import Capability
from cosell_sync.core.deal import Snapshot
from cosell_sync.partner_center import read
from cosell_sync.partner_center.forms import QUOTED, REFUSED, UNQUOTED, Forms
from cosell_sync.partner_center.organizations import Organizations
from cosell_sync.partner_center.outage import Outage
from cosell_sync.partner_center.paging import SYSTEM, QueryRefused, Reach, pages
from cosell_sync.partner_center.values import ID, WireOptions, timestamp
from cosell_sync.ports import Page
from cosell_sync.transport.client import HttpCaller

log = structlog.get_logger()

CHUNK: Final = 100  # snapshots a page, where we cut the pages ourselves
NEWEST: Final = 500  # among so many newest referrals a create whose answer was lost is looked for


class Lists:
    """Reads over this caller. ``page_size``: how many rows a page is asked to have; None leaves that to Partner Center."""

    def __init__(
        self,
        caller: HttpCaller,
        wire: WireOptions,
        forms: Forms,
        organizations: Organizations,
        outage: Outage,
        page_size: int | None,
    ) -> None:
        self._caller = caller
        self._wire = wire
        self._forms = forms
        self._organizations = organizations
        self._outage = outage
        self._top = f"$top={page_size}" if page_size else ""

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        """Referrals updated since the watermark less the overlap; all of them without a watermark."""
        reach = Reach(watermark, overlap)
        since = reach.since
        if since is None:
            yield from self._by_creation("$orderby=createdDateTime asc", reach)
            return
        moment, refusal = timestamp(since), ""
        for form in self._forms.filters(Capability.CHANGES_FILTER, UNQUOTED, QUOTED):
            literal = f"'{moment}'" if form == QUOTED else moment
            query = f"$filter=updatedDateTime ge {literal}&$orderby=createdDateTime asc"
            try:
                yield from self._by_creation(query, reach)
            except QueryRefused as refused:
                refusal = refused.code
            else:
                self._forms.filtered(Capability.CHANGES_FILTER, form)
                return
        if refusal:
            self._forms.filtered(Capability.CHANGES_FILTER, REFUSED, refusal)
            log.info("list.filter_refused", system=SYSTEM)
        yield from self._newest_down_to(since, reach)

    def index(self) -> Iterator[Page]:
        """Every referral there is. By creation, for that order no update disturbs while the pages are read."""
        for rows, _ in self._pages("$orderby=createdDateTime asc", whole=True):
            snapshots, _stamps = self._ours(rows)
            yield Page(snapshots)

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        """All sides of a deal, other organizations' included (``category`` is ``foreign`` there)."""
        if not ID.fullmatch(engagement_id):
            return ()
        rows = self._sides(engagement_id)
        own = self._organizations.known
        sides = (read.snapshot(row, self._wire, own=own) for row in rows)
        return [side for side in sides if side is not None]

    def find_created(self, external_reference: str) -> Snapshot | None:
        """Among the newest referrals, the one that carries this opportunity's id.

        Neither ``externalReferenceId`` nor ``direction`` can be relied on in a filter, so we look through them.
        """
        seen = 0
        for rows, _ in self._pages("$orderby=createdDateTime desc"):
            snapshots, _stamps = self._ours(rows)
            for snapshot in snapshots:
                if snapshot.text("external_reference") == external_reference:
                    return snapshot
            seen += len(rows)
            if seen >= NEWEST:
                return None
        return None

    def _sides(self, engagement_id: str) -> list[object]:
        first, second = self._forms.filters(Capability.ENGAGEMENT_FILTER, QUOTED, UNQUOTED)
        for form in (first, second):
            literal = f"'{engagement_id}'" if form == QUOTED else engagement_id
            try:
                rows = [row for page, _ in self._pages(f"$filter=engagementId eq {literal}") for row in page]
            except QueryRefused:
                if form == second:
                    raise
                continue
            self._forms.filtered(Capability.ENGAGEMENT_FILTER, form)
            break
        return rows

    def _by_creation(self, query: str, reach: Reach) -> Iterator[Page]:
        """Pages in an order that no edit disturbs; the last one has the watermark.

        Pages go by position: by ``updatedDateTime``, a row that is edited between two of them moves to the end, and the next
        page begins one row too late.
        """
        held: list[Snapshot] | None = None
        for rows, at in self._pages(query):
            if held is not None:
                yield Page(held)
            held, stamps = self._ours(rows)
            reach.read(stamps, at)
        yield Page(held or [], watermark=reach.watermark)

    def _newest_down_to(self, since: datetime, reach: Reach) -> Iterator[Page]:
        """For a service that refuses our filter. What changed since is held until the watermark is reached, then
        given oldest first, so that no page promises what the next one may fail to bring.
        """
        found: list[tuple[datetime, Snapshot]] = []
        for rows, at in self._pages("$orderby=updatedDateTime desc"):
            snapshots, stamps = self._ours(rows)
            reach.read(stamps, at)
            found += [
                (snapshot.moment("updated_at") or since, snapshot)
                for snapshot in snapshots
                if (snapshot.moment("updated_at") or since) >= since
            ]
            if stamps and min(stamps) < since:
                break
        found.sort(key=lambda pair: pair[0])
        chunks = [found[start : start + CHUNK] for start in range(0, len(found), CHUNK)] or [[]]
        for number, chunk in enumerate(chunks, start=1):
            last = number == len(chunks)
            yield Page([snapshot for _, snapshot in chunk], watermark=reach.watermark if last else None)

    def _ours(self, rows: Sequence[object]) -> tuple[list[Snapshot], list[datetime]]:
        """Our rows of a page, and the stamps of all of them."""
        snapshots: list[Snapshot] = []
        stamps: list[datetime] = []
        unreadable = 0
        for row in rows:
            snapshot = read.snapshot(row, self._wire, own=self._organizations.configured)
            if snapshot is None:
                unreadable += 1
                continue
            if moment := snapshot.moment("updated_at"):
                stamps.append(moment)
            if snapshot.text("category") != "foreign":
                snapshots.append(snapshot)
                self._organizations.learn(row)
                self._forms.saw(row)
        if unreadable:
            log.warning("referrals.unreadable", system=SYSTEM, count=unreadable)
        return snapshots, stamps

    def _pages(
        self, query: str, *, whole: bool = False
    ) -> Iterator[tuple[Sequence[object], datetime | None]]:
        """The rows of a list, page by page, and the service's time. Raises ``QueryRefused`` where the query is answered 400.

        ``whole``: see `pages`.
        """
        for page in pages(self._caller, "&".join(filter(None, (query, self._top))), whole=whole):
            self._outage.forget()
            yield page
