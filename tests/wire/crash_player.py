"""Runs the product in the test's process, over the fakes without a network, and stops it dead at any point of a run.

A *point* is whatever leaves a trace outside the program: an HTTP request (the other system has done its work, the answer
is on its way), a commit of the store, a file put into its place. `ProcessRun` counts them, and ends at the point it is told:
from then on no thread of the program reaches anything any more, cleaning up included. What was not
committed is rolled back, as the database does for a process that is gone.

Death right before point *n* + 1 and death right after point *n* leave the same world behind, for between two points
nothing outside changes. So stopping before each point, and after the last, covers every moment.

`SavedState` is a whole world at one moment: both fakes and the files of the store, to be set back to as often as needed.
"""

from __future__ import annotations

import copy
import copyreg
import os
import re
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import sqlalchemy
from sqlalchemy import event

from cosell_sync import settings
from cosell_sync.bootstrap import program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.sandbox.exchange import Headers, Request, Response
from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.store import tokens
from cosell_sync.transport import client

TICK = timedelta(seconds=2)  # between two requests: what Salesforce tells apart

copyreg.pickle(type(threading.RLock()), lambda _: (threading.RLock, ()))  # type: ignore[arg-type]
copyreg.pickle(type(threading.Lock()), lambda _: (threading.Lock, ()))  # type: ignore[arg-type]


class Killed(BaseException):
    """The process is gone. No ``except Exception`` of the program may catch it."""


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        self.now += span


@dataclass
class ProcessRun:
    """One run of the program. ``ends``: how many points it gets; None: it runs to its end."""

    ends: int | None = None
    points: list[str] = field(default_factory=list)
    dead: bool = False
    _turn: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def point(self, what: str) -> Iterator[None]:
        with self._turn:
            if self.dead or len(self.points) == self.ends:
                self.dead = True
                raise Killed
            self.points.append(what)
            yield


class CrashPlayer:
    """Plays runs again and again, from any saved state: one sandbox, one home directory, one clock."""

    def __init__(self, crm: str, home: Path) -> None:
        self.clock = Clock()
        self.sandbox = Sandbox(crm=crm, clock=self.clock)
        self.home = home
        self.store = home / "store"
        self.store.mkdir()
        self.apps: dict[int, Callable[[Request], Response]] = {}
        with self.sandbox:  # only for its port numbers
            self.environment = self.sandbox.environment(home)
            self.apps = {server.port: server.app for server in self.sandbox.servers}
        self.environment["COSELL_STORE__URL"] = f"sqlite:///{self.store / 'cosell-sync.db'}"
        self.environment["COSELL_SYNC__POST_PATIENCE"] = "0s"  # a post lands here at once or never
        if crm == "dynamics":  # a record that takes no words once it is closed could not tell the end
            self.sandbox.dynamics.closed_rows_writable = True
            self.environment["COSELL_DYNAMICS__CLOSED_ROWS"] = "true"
        self.settings = settings.load(None, self.environment)
        self.trusted = ssl.create_default_context(cafile=self.environment["SSL_CERT_FILE"])

    @property
    def pc(self) -> Any:
        return self.sandbox.partner_center

    @property
    def crm(self) -> Any:
        return getattr(self.sandbox, self.sandbox.crm)

    # -- the program ------------------------------------------------------------------------------------------------

    def run_program(self, run: ProcessRun, cycles: int = 1) -> bool:
        """A fresh program runs so many cycles, or fewer: it ends after one that wrote nothing. False where it died."""
        with self._watched(run), patch.object(client, "trust", lambda: self.trusted):
            try:
                with program(self.settings, clock=self.clock) as wired, wired.store.lease(timedelta(0)):
                    for number in range(cycles):
                        before = len(run.points)
                        run_cycle(wired.cycle_services(), f"cycle{number}")
                        if not any(map(writes, run.points[before:])):
                            break
            except Killed:
                return False
        return True

    @contextmanager
    def _watched(self, run: ProcessRun) -> Iterator[None]:
        def committing(connection: sqlalchemy.Connection) -> None:
            if connection.get_execution_options().get("cosell_writes"):
                with run.point("commit"):
                    pass

        def by_httpx(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            request.extensions.get("trace", _untold)("http11.send_request_headers.started", {})
            answer = self._ask(run, request.method, str(request.url), request.headers, request.read())
            return httpx.Response(answer.status, headers=answer.headers, content=answer.encoded())

        link = os.link

        def linking(source: Path, target: Path) -> None:
            with run.point("file"):
                link(source, target)

        event.listen(sqlalchemy.Engine, "commit", committing)
        try:
            with (
                patch.object(httpx.HTTPTransport, "handle_request", by_httpx),
                patch.object(tokens.os, "link", linking),
                patch.dict(os.environ, {"SSL_CERT_FILE": self.environment["SSL_CERT_FILE"]}),
                patch.object(client, "within_deadline", _at_once),
            ):
                yield
        finally:
            event.remove(sqlalchemy.Engine, "commit", committing)

    def _ask(
        self, run: ProcessRun, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        parts = urlsplit(url)
        request = Request(
            method=method,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            raw_query=parts.query,
            headers=Headers({"host": parts.netloc, **headers}),
            body=body,
        )
        server = next(each for each in self.sandbox.servers if each.port == parts.port)
        with run.point(f"{method} {server.name} {_kind(request)}"):
            self.clock.advance(TICK)
            answer = self.apps[server.port](request)
        answer.headers.setdefault("Content-Type", "application/json; charset=utf-8")
        return answer

    # -- worlds as they were ----------------------------------------------------------------------------------------

    def saved(self, name: str) -> SavedState:
        files = self.home / f"saved-{name}"
        shutil.copytree(self.store, files)
        self.crm.requests.clear()  # a diary that nobody reads here
        return SavedState(self, files, self.clock.now, self._copied([vars(world) for world in self.worlds]))

    @property
    def worlds(self) -> tuple[Any, Any]:
        return self.pc, self.crm

    def _copied(self, state: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Everything below the worlds is copied; they themselves, the clock and the schema stay who they are."""
        same = {id(each): each for each in (*self.worlds, self.clock, self.crm._org.schema)}
        return copy.deepcopy(state, same)


@dataclass(frozen=True)
class SavedState:
    player: CrashPlayer
    files: Path
    now: datetime
    state: list[dict[str, Any]]

    def set(self) -> None:
        for world, state in zip(self.player.worlds, self.player._copied(self.state), strict=True):
            vars(world).clear()
            vars(world).update(state)
        self.player.clock.now = self.now
        shutil.rmtree(self.player.store)
        shutil.copytree(self.files, self.player.store)


def _at_once(exchange: Callable[[Any], Any], request: Any, **_limits: object) -> Any:
    """An exchange without the thread that guards it: the answer is there at once, and the thread costs a third of a run."""
    return exchange(request)


def _untold(_what: str, _facts: object) -> None:
    """Nobody wants to know what httpcore is about to do."""


def writes(point: str) -> bool:
    """Whether a request may have changed what a system holds for people."""
    return point.startswith(("PATCH", "POST", "DELETE")) and not point.endswith(("/token", " GET"))


def traces(point: str) -> bool:
    """Whether the point changed anything outside the program; to die after one that did not is to die before it."""
    return not point.startswith("GET ") and not point.endswith(" GET")


def _kind(request: Request) -> str:
    """An address without what stands for one record, so that calls can be told apart by kind."""
    path = re.sub(r"\(.*?\)", "()", request.path)
    path = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27,}|\b00[0-9A-Za-z]{13,16}\b", "ID", path)
    if request.path.endswith("/composite") or request.path.endswith("$batch"):
        verbs = set(
            re.findall(r'(?:"method": ?"|^)(GET|POST|PATCH|DELETE)', request.body.decode(), re.MULTILINE)
        )
        return f"{path} {'+'.join(sorted(verbs))}"
    return path
