"""What people may do in the console once they are signed in: order a retry, an approval or an answer to a conflict.

Nothing is carried out here: an order goes into the store, as from the command line, and the next cycle obeys it or says why
not. Each form is answered with the page it came from (POST, then GET), or with a page that says why nothing was done.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from cosell_sync.cycle.commands import Refused
from cosell_sync.errors import CosellError
from cosell_sync.log import get_logger
from cosell_sync.settings.token_file import LONGEST as LONGEST_TOKEN
from cosell_sync.settings.token_file import Unusable
from cosell_sync.store.search import printable
from cosell_sync.web import pages
from cosell_sync.web.forms import Foreign, check_host, posted
from cosell_sync.web.health import Facts
from cosell_sync.web.pages import Order, Source, Visitor
from cosell_sync.web.sessions import LONGEST, PENALTY, Session, Sessions

# Titles and words of pages that say why there is nothing to see.
AWAY: Final = (
    "The store does not answer",
    "The store cannot be read at the moment. The log of this process and cosell-sync doctor say why. No deal is lost.",
)
UNKNOWN: Final = (
    "Unknown deal",
    "No deal with this id is known here. It may not have been read yet, or the id may be cut short.",
)
_TOO_MANY: Final = Foreign(429, "too many", "Too many wrong tokens came from your address. Wait a minute.")
_COOKIE: Final = "cosell_session"
_NOT_DONE: Final = "Nothing was done"
_ADDRESS: Final = 500  # characters of an address to come back to


class Actions:
    """``hosts``: as of `console.hosts`. ``tell``: called with the name of each event, for the metrics."""

    def __init__(
        self,
        source: Source,
        facts: Callable[[], Facts],
        sessions: Sessions,
        *,
        hosts: Iterable[str] = (),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._facts = facts
        self._sessions = sessions
        self._hosts = frozenset(host.lower() for host in hosts)
        self._tell = tell

    def rules(self) -> list[Rule]:
        """The routes, each with the method that answers it."""
        return [
            Rule("/sign-in", endpoint=self.ask, methods=["GET"]),
            Rule("/sign-in", endpoint=self.sign_in, methods=["POST"]),
            Rule("/sign-out", endpoint=self.sign_out, methods=["POST"]),
            Rule("/deals/<path:target>", endpoint=self.order, methods=["POST"]),
        ]

    def visitor(self, request: Request) -> Visitor:
        """Who asks for this page. Raises ``Foreign``."""
        check_host(request, self._hosts)
        session = self._session(request)
        return Visitor(True, session.form_key if session else "", _local(request.full_path))

    def ask(self, request: Request) -> Response:
        """The page that asks for the token."""
        try:
            known = self.visitor(request)
        except Foreign as foreign:
            return self._refused(foreign)
        back = _local(request.args.get("next", "/"))
        if known.form_key:
            return _onward(back)
        return html(pages.sign_in(self._facts(), Visitor(back=back)))

    def sign_in(self, request: Request) -> Response:
        """Look at the token that was given."""
        address = request.remote_addr or ""
        try:
            form = self._form(request)
        except Foreign as foreign:
            return self._refused(foreign)
        if not self._sessions.guesses.take(address):
            return self._refused(_TOO_MANY)
        back = _local(form.get("next", "/"))
        try:
            opened = self._sessions.open(form.get("token", "")[:LONGEST_TOKEN].strip())
        except Unusable as fault:
            self._sessions.guesses.forgive(address)
            get_logger().warning("console.token_unusable", reason=str(fault))
            words = "The token of this console cannot be read at the moment. Its log says why, and so does cosell-sync config check."
            return self._problem(503, "Nobody can sign in", words)
        if opened is None:
            get_logger().info("console.refused", status=403, reason="token")
            self._tell("refused")
            return html(pages.sign_in(self._facts(), Visitor(back=back), wrong=True), 403)
        self._sessions.guesses.forgive(address)
        self._end(request)
        get_logger().info("console.signed_in")
        self._tell("signed_in")
        answer, name = _onward(back), _cookie(request)
        secure = name != _COOKIE
        answer.set_cookie(name, opened, int(LONGEST), secure=secure, httponly=True, samesite="Strict")
        return answer

    def sign_out(self, request: Request) -> Response:
        """End the session."""
        try:
            self._signed(request, self._form(request))
        except Foreign as foreign:
            return self._refused(foreign)
        self._end(request)
        answer, name = _onward("/"), _cookie(request)
        answer.delete_cookie(name, secure=name != _COOKIE, httponly=True, samesite="Strict")
        return answer

    def order(self, request: Request, target: str) -> Response:
        """Leave an order for the next cycle."""
        page = pages.deal_path(printable(target))
        try:
            form = self._form(request)
            visitor = Visitor(True, self._signed(request, form).form_key, page)
            asked = Order(*(printable(form.get(name, "")) for name in ("verb", "field", "side", "seen")))
            done = self._source.order(printable(target), asked)
        except Foreign as foreign:
            return self._refused(foreign, page)
        except Refused as refusal:
            words = str(refusal)
            onward = (page, "Look at the deal again")
            return self._problem(409, _NOT_DONE, f"{words[:1].upper()}{words[1:]}.", visitor, onward)
        except CosellError:
            get_logger().warning("http.facts_unreadable", exc_info=True)
            return self._problem(503, *AWAY)
        if done is None:
            return self._problem(404, *UNKNOWN)
        get_logger().info("console.ordered", verb=asked.verb, target=done)
        self._tell("ordered")
        return _onward(f"{pages.deal_path(done)}#orders")

    def _form(self, request: Request) -> Mapping[str, str]:
        check_host(request, self._hosts)
        return posted(request, self._hosts)

    def _session(self, request: Request) -> Session | None:
        session_id = request.cookies.get(_cookie(request), "")
        return self._sessions.find(session_id) if session_id else None

    def _signed(self, request: Request, form: Mapping[str, str]) -> Session:
        """The session in which this form was sent. Raises ``Foreign``."""
        session = self._session(request)
        if session is None:
            raise Foreign(403, "not signed in", "You are not signed in any more.")
        if not hmac.compare_digest(form.get("form_key", "").encode(), session.form_key.encode()):
            raise Foreign(
                403, "form key", "The page that this came from is older than your sign-in. Load it again."
            )
        return session

    def _end(self, request: Request) -> None:
        self._sessions.close(request.cookies.get(_cookie(request), ""))

    def _refused(self, foreign: Foreign, back: str = "/") -> Response:
        get_logger().info("console.refused", status=foreign.status, reason=str(foreign))
        self._tell("refused")
        onward = (_sign_in(back), "Sign in") if str(foreign) == "not signed in" else (back, "Back")
        answer = self._problem(foreign.status, _NOT_DONE, foreign.words, Visitor(), onward)
        if foreign.status == 429:
            answer.headers["Retry-After"] = str(int(PENALTY))
        return answer

    def _problem(
        self,
        status: int,
        title: str,
        words: str,
        visitor: Visitor | None = None,
        onward: tuple[str, str] | None = None,
    ) -> Response:
        return html(pages.problem(self._facts(), title, words, visitor or Visitor(), onward), status)


def html(page: str, status: int = 200) -> Response:
    """An answer that is a page."""
    return Response(page, status, content_type="text/html; charset=utf-8")


def _onward(address: str) -> Response:
    return Response(status=303, headers={"Location": address})


def _sign_in(back: str) -> str:
    return f"/sign-in?next={quote(back, safe='')}"


def _cookie(request: Request) -> str:
    """Its name; over https one that browsers keep from other hosts and from plain http. A proxy's word for https is believed: who
    makes it up loses but the own cookie.
    """
    proxied = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
    return f"__Host-{_COOKIE}" if "https" in {proxied, request.scheme} else _COOKIE


def _local(address: str) -> str:
    """This address, where it is a page of the console, else the first page."""
    try:
        parts = urlsplit(printable(address)[:_ADDRESS])
    except ValueError:
        return "/"
    known = parts.path in {"/", "/deals"} or parts.path.startswith("/deals/")
    if parts.scheme or parts.netloc or not known:
        return "/"
    path = quote(parts.path, safe="/%")
    return f"{path}?{quote(parts.query, safe='=&%+')}" if parts.query else path
