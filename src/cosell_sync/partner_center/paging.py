"""Reads a list of referrals page by page.

The documentation prints ``@odata.nextLink`` with http and without ``/engagements``
(learn.microsoft.com/partner-center/developer/get-a-list-of-referrals). So only its query is used, on our own address, and a
link that was followed before ends the pull with an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

from cosell_sync.core import overlap
from cosell_sync.errors import Unavailable
from cosell_sync.transport.answers import Answer, error_body
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.safety import Safety

SYSTEM: Final = "partner_center"
REFERRALS: Final = "/v1.0/engagements/referrals"
NEXT_LINKS: Final = ("@odata.nextLink", "nextLink", "@nextLink")  # a link that is not seen would end the list
FEW: Final = 50  # rows that every pull may read again: half of a page, as far as is known
SECOND: Final = timedelta(seconds=1)  # a list is asked for from a whole second on
EMPTY_PAGES: Final = 20  # so many in a row count as a circle


class QueryRefused(Unavailable):
    """A list query was answered 400. It is an outage unless another way of asking is known."""

    def __init__(self, code: str) -> None:
        super().__init__(
            SYSTEM, "Partner Center refuses a list query", code=code or "invalidRequest", status=400
        )

    def midway(self) -> Unavailable:
        """The same on a later page: the query was accepted, its continuation was not (a token too old)."""
        return Unavailable(SYSTEM, "Partner Center breaks off a list", code=self.code, status=self.status)


class Reach:
    """How far a pull has read, and so the watermark that it leaves.

    The rows of a long list may be edited while its pages are read, so it holds no further than the service's clock when the
    reading began. Where nothing new came for longer than the overlap it is that clock: else a burst would be read again in
    every pull until somebody edits. How far back the next pull reaches, `core.overlap` says.
    """

    def __init__(self, watermark: str | None, overlap: timedelta) -> None:
        self._known = _position(watermark)
        self._overlap = overlap
        self._began: datetime | None = None
        self._stamps: list[datetime] = []
        self._pages = 0

    @property
    def since(self) -> datetime | None:
        """From when on the pull must read; None: everything."""
        return None if self._known is None else self._known.reaches(self._overlap)

    def read(self, stamps: Sequence[datetime], at: datetime | None) -> None:
        """A page with these stamps came, at that time of the service."""
        self._began = at if self._pages == 0 else self._began
        self._stamps += stamps
        self._pages += 1

    @property
    def watermark(self) -> str | None:
        """The watermark once everything is read; None: it stays."""
        known = None if self._known is None else self._known.at
        reached = max([*filter(None, (self._reached(known), known))], default=None)
        if reached is None:
            return None
        now = overlap.moved(
            self._known,
            reached,
            now=self._began,
            overlap=self._overlap,
            listed=[[stamp.replace(microsecond=0) for stamp in self._stamps]],
            few=FEW,
            tick=SECOND,
        )
        return None if now == self._known else now.text

    def _reached(self, known: datetime | None) -> datetime | None:
        reached, began = max(self._stamps, default=None), self._began
        if began is not None:
            if self._pages > 1 and reached is not None:
                reached = min(reached, began)
            newest = max(filter(None, (reached, known)), default=None)
            reached = began if newest is None or began - newest > self._overlap else reached
        return reached


def _position(watermark: str | None) -> overlap.Position | None:
    """The position of a stored text; None for a text of another kind, then everything is read."""
    try:
        return overlap.read(watermark) if watermark else None
    except ValueError:
        return None


def pages(
    caller: HttpCaller, query: str, *, whole: bool = False
) -> Iterator[tuple[Sequence[object], datetime | None]]:
    """The rows of each page of the list that ``query`` (not encoded) asks for, and the service's time (None: unknown).

    Raises ``QueryRefused`` where the first page is answered 400, ``Unavailable`` where a page cannot be read, leads to
    another host or goes in a circle. ``whole``: what is not in the list is taken for gone, so a list that ends before its own
    count raises ``Unavailable`` too. Whether ``@odata.count`` is of the page or of the list is not documented; either way no
    fewer rows may have come.
    """
    received = 0
    following: str | None = _encoded(query)
    followed: set[str] = set()
    empty = 0
    while following is not None:
        followed.add(following)
        answer = list_page(caller, following, first=len(followed) == 1, encoded=True)
        rows = rows_of(answer)
        yield rows, answer.at
        received += len(rows)
        empty = 0 if rows else empty + 1
        following = _next(answer.data, followed, empty, caller.host)
        promised = answer.data.get("@odata.count")
        if whole and following is None and isinstance(promised, int) and promised > received:
            raise Unavailable(SYSTEM, "Partner Center's list ends before its end", code="incomplete_list")


def list_page(caller: HttpCaller, query: str, *, first: bool, encoded: bool = False) -> Answer:
    """One page of the list. Raises ``QueryRefused`` where the ``first`` one is answered 400, else ``Unavailable``."""
    answer = caller.call(
        "GET",
        f"{REFERRALS}?{query if encoded else _encoded(query)}",
        template=REFERRALS,
        safety=Safety.READ,
        scope=Scope.SYSTEM,
        headers={"content-type": "application/json"},
        accept=(400,),
    )
    if answer.status == 400:
        refused = QueryRefused(error_body(answer.body).code)
        raise refused if first else refused.midway()
    return answer


def rows_of(answer: Answer) -> list[object]:
    """The rows of a page, as they came. Raises ``Unavailable`` where it has none to read."""
    rows = answer.data.get("value") if isinstance(answer.data, Mapping) else None
    if not isinstance(rows, list):
        raise Unavailable(SYSTEM, "Partner Center's list has no rows", code="unreadable", status=200)
    return rows


def _next(page: Mapping[str, Any], followed: set[str], empty: int, our_host: str) -> str | None:
    link = next((page[name] for name in NEXT_LINKS if page.get(name)), None)
    if not link:
        return None
    try:
        parts = urlsplit(link) if isinstance(link, str) else None
        host = parts.hostname if parts else None
    except ValueError:
        parts = host = None
    if parts is None or not parts.query or (host is not None and host != our_host.lower()):
        raise Unavailable(SYSTEM, "Partner Center's list leads to another place", code="foreign_link")
    if parts.query in followed or empty >= EMPTY_PAGES:
        raise Unavailable(SYSTEM, "Partner Center's list goes in a circle", code="paging_circle")
    return parts.query


def _encoded(query: str) -> str:
    """Encoded by hand: blanks as %20, for not every OData service reads a plus as one."""
    pairs = (part.partition("=") for part in query.split("&"))
    return "&".join(f"{name}={quote(value, safe=chr(39) + ':,')}" for name, _, value in pairs)
