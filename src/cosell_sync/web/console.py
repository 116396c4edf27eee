"""The console's addresses: ``/``, ``/deals?state=…&text=…`` and ``/deals/ID``, each answered with a page; read-only. Where there
are several connections, ``/`` lists them and ``?connection=NAME`` chooses one.

A store that is away, a deal that nobody knows and a filter that there is none are answered with a page that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from cosell_sync.errors import CosellError
from cosell_sync.log import get_logger
from cosell_sync.store.listing import Query, Which
from cosell_sync.store.search import printable
from cosell_sync.web import pages
from cosell_sync.web.health import Facts
from cosell_sync.web.pages import Source

ASKED: Final = 200  # characters of a question that are looked at
_AWAY: Final = (
    "The store cannot be read at the moment, so there is nothing to show. The log of this process says why, and so does "
    "cosell-sync doctor. No deal is lost: load this page again once the store is back."
)
_UNKNOWN: Final = (
    "No deal with this id is known here. It may not have been read yet, or the id may be cut short."
)
_CHOOSE: Final = (
    "No connection of this name can be served here. The first page lists all of them, with what is wrong."
)


class Console:
    """``facts``: what readiness is judged by; asks the store nothing. ``names``: whether deals may be found by their names."""

    def __init__(self, source: Source, facts: Callable[[], Facts], *, names: bool = True) -> None:
        self._source = source
        self._facts = facts
        self._names = names

    def rules(self) -> list[Rule]:
        """The routes, each with the method that answers it."""
        return [
            Rule("/", endpoint=self.overview, methods=["GET"]),
            Rule("/deals", endpoint=self.deals, methods=["GET"]),
            Rule("/deals/<path:target>", endpoint=self.deal, methods=["GET"]),
        ]

    def overview(self, request: Request) -> Response:
        del request
        return self._answer(lambda: pages.overview(self._source.overview()))

    def deals(self, request: Request) -> Response:
        asked = {name: printable(request.args.get(name, ""))[:ASKED] for name in ("state", "text", "after")}
        try:
            which = Which(asked["state"] or Which.ALL)
        except ValueError:
            return self._problem(400, "Unknown filter", f"The state of deals is one of: {', '.join(Which)}.")
        query = Query(which, asked["text"], asked["after"], by_name=self._names)
        return self._answer(lambda: pages.deals(self._facts(), query, self._source.deals(query)))

    def deal(self, request: Request, target: str) -> Response:
        del request

        def page() -> str | None:
            found = self._source.story(printable(target))
            return pages.story(self._facts(), found) if found else None

        return self._answer(page)

    def _answer(self, page: Callable[[], str | None]) -> Response:
        try:
            found = page()
        except CosellError:
            get_logger().warning("http.facts_unreadable", exc_info=True)
            return self._problem(503, "The store does not answer", _AWAY)
        return self._problem(404, "Unknown deal", _UNKNOWN) if found is None else _html(found)

    def _problem(self, status: int, title: str, words: str) -> Response:
        return _html(pages.problem(self._facts(), title, words), status)


class ConsoleOfSeveral:
    """``chosen``: the console of one connection; None where there is none of that name. ``several``: what readiness is judged by,
    by name.
    """

    def __init__(
        self, chosen: Callable[[str], Console | None], several: Callable[[], Mapping[str, Facts]]
    ) -> None:
        self._chosen = chosen
        self._several = several

    def rules(self) -> list[Rule]:
        """As of ``Console``."""
        return [
            Rule("/", endpoint=self.overview, methods=["GET"]),
            Rule("/deals", endpoint=self.deals, methods=["GET"]),
            Rule("/deals/<path:target>", endpoint=self.deal, methods=["GET"]),
        ]

    def overview(self, request: Request) -> Response:
        if "connection" not in request.args:
            return _html(pages.connections(self._several()))
        return self._of(request, lambda console: console.overview(request))

    def deals(self, request: Request) -> Response:
        return self._of(request, lambda console: console.deals(request))

    def deal(self, request: Request, target: str) -> Response:
        return self._of(request, lambda console: console.deal(request, target))

    def _of(self, request: Request, answer: Callable[[Console], Response]) -> Response:
        try:
            console = self._chosen(request.args.get("connection", ""))
        except CosellError:
            get_logger().warning("http.facts_unreadable", exc_info=True)
            return _html(pages.problem(None, "The store does not answer", _AWAY), 503)
        if console is None:
            return _html(pages.problem(None, "Unknown connection", _CHOOSE), 404)
        return answer(console)


def _html(page: str, status: int = 200) -> Response:
    return Response(page, status, content_type="text/html; charset=utf-8")
