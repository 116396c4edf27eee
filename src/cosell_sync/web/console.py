"""The console's addresses: ``/``, ``/deals?state=…&text=…`` and ``/deals/ID``, each answered with a page.

Read-only, unless there are ``actions``. A store that is away, a deal that nobody knows and a filter that there is none are
answered with a page that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from cosell_sync.errors import CosellError
from cosell_sync.log import get_logger
from cosell_sync.store.listing import Query, Which
from cosell_sync.store.search import printable
from cosell_sync.web import pages
from cosell_sync.web.actions import AWAY, UNKNOWN, Actions, html
from cosell_sync.web.forms import Foreign
from cosell_sync.web.health import Facts
from cosell_sync.web.pages import Source, Visitor

ASKED: Final = 200  # characters of a question that are looked at


class Console:
    """``facts``: what readiness is judged by; asks the store nothing. ``names``: whether deals may be found by their names.
    ``actions``: how people sign in and act; None: nobody can.
    """

    def __init__(
        self,
        source: Source,
        facts: Callable[[], Facts],
        *,
        names: bool = True,
        actions: Actions | None = None,
    ) -> None:
        self._source = source
        self._facts = facts
        self._names = names
        self._actions = actions

    def rules(self) -> list[Rule]:
        """The routes, each with the method that answers it."""
        return [
            Rule("/", endpoint=self.overview, methods=["GET"]),
            Rule("/deals", endpoint=self.deals, methods=["GET"]),
            Rule("/deals/<path:target>", endpoint=self.deal, methods=["GET"]),
            *(self._actions.rules() if self._actions else ()),
        ]

    def overview(self, request: Request) -> Response:
        return self._answer(request, lambda visitor: pages.overview(self._source.overview(), visitor))

    def deals(self, request: Request) -> Response:
        asked = {name: printable(request.args.get(name, ""))[:ASKED] for name in ("state", "text", "after")}
        try:
            which = Which(asked["state"] or Which.ALL)
        except ValueError:
            return self._problem(400, "Unknown filter", f"The state of deals is one of: {', '.join(Which)}.")
        query = Query(which, asked["text"], asked["after"], by_name=self._names)
        return self._answer(
            request, lambda visitor: pages.deals(self._facts(), query, self._source.deals(query), visitor)
        )

    def deal(self, request: Request, target: str) -> Response:
        def page(visitor: Visitor) -> str | None:
            found = self._source.story(printable(target))
            return pages.story(self._facts(), found, visitor) if found else None

        return self._answer(request, page)

    def _answer(self, request: Request, page: Callable[[Visitor], str | None]) -> Response:
        try:
            visitor = self._actions.visitor(request) if self._actions else Visitor()
            found = page(visitor)
        except Foreign as foreign:
            return self._problem(foreign.status, "Unknown name", foreign.words)
        except CosellError:
            get_logger().warning("http.facts_unreadable", exc_info=True)
            return self._problem(503, *AWAY)
        return self._problem(404, *UNKNOWN) if found is None else html(found)

    def _problem(self, status: int, title: str, words: str) -> Response:
        return html(pages.problem(self._facts(), title, words, Visitor()), status)
