"""The control addresses below `/_sandbox/`: how people act as sellers, admins or Microsoft with JSON over HTTP.

One router for all systems. A system hands it a table of routes; what both CRMs offer is listed once, in `crm_routes`.
Control addresses need no sign-in and are no requests of the fake API: they are not counted and no fault strikes them.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from cosell_sync.sandbox.exchange import Request, Response

PREFIX = "/_sandbox"
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class Asked:
    """The input of an action: the variable steps of the path by name, the query, and the body ({} when there is none)."""

    steps: Mapping[str, str]
    query: dict[str, str]
    body: Any


Action = Callable[[Asked], object]


@dataclass(frozen=True)
class Route:
    """One control address. The action returns a Response, None (204), or the body of a 200."""

    method: str  # empty: every method but GET
    path: str  # below PREFIX; {name} stands for one step
    action: Action

    def match(self, method: str, steps: list[str]) -> dict[str, str] | None:
        """The variable steps when this route is meant; otherwise None."""
        wanted = self.path.split("/")
        if len(wanted) != len(steps) or (method != self.method if self.method else method == "GET"):
            return None
        found = {name: step for name, step in zip(wanted, steps, strict=True) if name.startswith("{")}
        if any(name != step for name, step in zip(wanted, steps, strict=True) if name not in found):
            return None
        return {name[1:-1]: step for name, step in found.items()}


def explain(error: Exception) -> object | None:
    """The body of a 400 for what a caller did wrong; None for an error of the sandbox itself."""
    if isinstance(error, LookupError | ValueError | TypeError):
        return {"error": f"{type(error).__name__}: {error}"}
    return None


class Router:
    """Finds the route of a request and runs its action."""

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        explain: Callable[[Exception], object | None] = explain,
        loopback_only: bool = False,
        exact_numbers: bool = False,
    ) -> None:
        """``loopback_only``: refuse a Host header of another machine. ``exact_numbers``: read decimals as Decimal."""
        self._routes = tuple(routes)
        self._explain = explain
        self._loopback_only = loopback_only
        self._parse_float: Callable[[str], object] = Decimal if exact_numbers else float

    def answer(self, request: Request) -> Response | None:
        """The response; None when no route has this address."""
        if self._loopback_only and not _LOOPBACK.fullmatch(request.headers.get("host", "")):
            return Response(403, {"error": "the sandbox listens to its own machine only"})
        steps = [step for step in request.path.removeprefix(PREFIX).split("/") if step]
        for route in self._routes:
            found = route.match(request.method, steps)
            if found is not None:
                return self._run(route, request, found)
        return None

    def _run(self, route: Route, request: Request, steps: Mapping[str, str]) -> Response:
        try:
            body = json.loads(request.body, parse_float=self._parse_float) if request.body else {}
            made = route.action(Asked(steps, dict(request.query), body))
        except Exception as error:
            shown = self._explain(error)
            if shown is None:
                raise
            return Response(400, shown)
        if isinstance(made, Response):
            return made
        return Response(204) if made is None else Response(200, made)


class Crm(Protocol):
    """What sellers and admins can do in either CRM."""

    def create(self, kind: str, /, *, by: str | None = None, **values: object) -> str: ...
    def edit(self, kind: str, row_id: str, /, *, by: str | None = None, **values: object) -> None: ...
    def delete(self, kind: str, row_id: str, /, *, by: str | None = None) -> None: ...
    def undelete(self, kind: str, row_id: str, /, *, by: str | None = None) -> None: ...
    def merge_accounts(self, winner: str, loser: str, /, *, by: str | None = None) -> None: ...
    def add_user(
        self, first: str, last: str, email: str, phone: str | None = None, *, active: bool = True
    ) -> str: ...
    def expire_sessions(self) -> None: ...
    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]: ...


def crm_routes(
    crm: Crm,
    *,
    kind: str,
    values: str,
    rows: Callable[[str], list[dict[str, Any]]],
    usage: Callable[[], dict[str, int]],
    switches: tuple[str, ...],
) -> tuple[Route, ...]:
    """The addresses that both CRMs have.

    ``kind`` and ``values`` are the words of the CRM in a body: object and fields, or table and columns. ``rows``: all rows
    of one kind as people see them. ``switches``: the attributes of ``crm`` that can be set.
    """

    def create(asked: Asked) -> Response:
        body = asked.body
        made = crm.create(body.get(kind, ""), by=body.get("by"), **body.get(values, {}))
        return Response(201, {"id": made})

    def edit(asked: Asked) -> None:
        body = asked.body
        crm.edit(body.get(kind, ""), body.get("id", ""), by=body.get("by"), **body.get(values, {}))

    def on_row(act: Callable[..., None]) -> Action:
        return lambda asked: act(asked.body.get(kind, ""), asked.body.get("id", ""), by=asked.body.get("by"))

    def merge(asked: Asked) -> None:
        crm.merge_accounts(asked.body["winner"], asked.body["loser"], by=asked.body.get("by"))

    def switch(asked: Asked) -> None:
        for name, value in asked.body.items():
            if name not in switches:
                raise ValueError(f"no such switch: {name}; there are {', '.join(switches)}")
            setattr(crm, name, value)

    return (
        Route("GET", "rows", lambda asked: _matching(rows(asked.query.pop(kind)), asked.query)),
        Route("GET", "snapshot", lambda _: crm.snapshot()),
        Route("GET", "usage", lambda _: usage()),
        Route("", "create", create),
        Route("", "edit", edit),
        Route("", "delete", on_row(crm.delete)),
        Route("", "undelete", on_row(crm.undelete)),
        Route("", "add-user", lambda asked: Response(201, {"id": crm.add_user(**asked.body.get(values, {}))})),
        Route("", "merge-accounts", merge),
        Route("", "expire-sessions", lambda _: crm.expire_sessions()),
        Route("", "switches", switch),
    )  # fmt: skip


def unknown(request: Request) -> Response:
    """The 404 of a CRM for a control address that it does not have."""
    name = request.path.removeprefix(f"{PREFIX}/")
    if request.method == "GET":
        return Response(404, {"error": f"no such view: {name}; there are rows, snapshot, usage"})
    return Response(404, {"error": f"no such action: {name}"})


def _matching(rows: Iterable[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows whose values, written as text, equal those of the query."""
    return [row for row in rows if all(_as_text(row[name]) == value for name, value in query.items())]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
