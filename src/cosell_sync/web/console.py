"""The console's addresses: ``/``, ``/deals?state=…&text=…`` and ``/deals/ID``, each answered with a page. Where there are several
connections, ``/`` lists them and ``?connection=NAME`` chooses one.

Read-only, unless there are ``actions``. A store that is away, a deal that nobody knows and a filter that there is none are
answered with a page that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog
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
from cosell_sync.web.hosts import Hosts
from cosell_sync.web.pages import Source, Visitor

ASKED: Final = 200  # characters of a question that are looked at
_CHOOSE: Final = (
    "Unknown connection",
    "No connection of this name can be served here. The first page lists all of them, with what is wrong.",
)


class Console:
    """``facts``: what readiness is judged by; asks the store nothing. ``names``: whether deals may be found by their names.
    ``actions``: how people sign in and act; None: nobody can. ``hosts``: as of `console.hosts`; where there are actions, these know them.
    """

    def __init__(
        self,
        source: Source,
        facts: Callable[[], Facts],
        *,
        names: bool = True,
        actions: Actions | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        self._hosts = hosts
        self._source = source
        self._facts = facts
        self._names = names
        self._actions = actions

    def rules(self) -> list[Rule]:
        """The routes, each with the method that answers it."""
        pages = [
            Rule("/", endpoint=self.overview, methods=["GET"]),
            Rule("/deals", endpoint=self.deals, methods=["GET"]),
            Rule("/deals/<path:target>", endpoint=self.deal, methods=["GET"]),
        ]
        return [*pages, *self._actions.rules()] if self._actions else Hosts(self._hosts).guarded(pages)

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

    def order(self, request: Request, target: str) -> Response:
        """What a form on a deal's page asks for."""
        return self._actions.order(request, target) if self._actions else self._problem(405, *UNKNOWN)

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


class ConsoleOfSeveral:
    """``chosen``: the console of one connection, with its actions; None where there is none of that name. ``several``: what
    readiness is judged by, by name. ``actions``: how people sign in, for all connections at once; None: nobody can. ``hosts``: as of
    ``Console``.
    """

    def __init__(
        self,
        chosen: Callable[[str], Console | None],
        several: Callable[[], Mapping[str, Facts]],
        actions: Actions | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        self._hosts = hosts
        self._chosen = chosen
        self._several = several
        self._actions = actions

    def rules(self) -> list[Rule]:
        """As of ``Console``."""
        pages = [
            Rule("/", endpoint=self.overview, methods=["GET"]),
            Rule("/deals", endpoint=self.deals, methods=["GET"]),
            Rule("/deals/<path:target>", endpoint=self.deal, methods=["GET"]),
        ]
        if self._actions is None:
            return Hosts(self._hosts).guarded(pages)
        act = Rule("/deals/<path:target>", endpoint=self.order, methods=["POST"])
        return [*pages, act, *self._actions.sign_in_rules()]

    def overview(self, request: Request) -> Response:
        if "connection" in request.args:
            return self._of(request, lambda console: console.overview(request))
        try:
            visitor = self._actions.visitor(request) if self._actions else Visitor()
        except Foreign as foreign:
            return html(pages.problem(None, "Unknown name", foreign.words, Visitor()), foreign.status)
        return html(pages.connections(self._several(), visitor))

    def deals(self, request: Request) -> Response:
        return self._of(request, lambda console: console.deals(request))

    def deal(self, request: Request, target: str) -> Response:
        return self._of(request, lambda console: console.deal(request, target))

    def order(self, request: Request, target: str) -> Response:
        return self._of(request, lambda console: console.order(request, target))

    def _of(self, request: Request, answer: Callable[[Console], Response]) -> Response:
        name = request.args.get("connection", "")
        try:
            console = self._chosen(name)
        except CosellError:
            get_logger().warning("http.facts_unreadable", exc_info=True)
            return html(pages.problem(None, *AWAY, Visitor()), 503)
        if console is None:
            return html(pages.problem(None, *_CHOOSE, Visitor()), 404)
        with structlog.contextvars.bound_contextvars(connection=name):
            return answer(console)
