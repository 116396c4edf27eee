"""What every acceptance test works with: a served sandbox, a home directory, the command, and edits of people on both sides.

`Stage` holds them together. The tests use the product as its users do: by its command, its variables and files, its
output and exit codes. Sellers edit through `crm_vocabulary`, in words that are the same for both CRMs, Microsoft through
the sandbox's Partner Center; what the command called is read from the servers. After every command `Stage.check` looks
for what must never happen: a write to a closed referral, a bug of the fakes, a line on stderr that is neither a log event
nor a sentence.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from crm_vocabulary import Dynamics, Row, Salesforce, crm
from main_in_process import run_main

from cosell_sync.sandbox.exchange import Call
from cosell_sync.sandbox.partner_center.schema import Document
from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox

COMMAND = Path(sys.executable).with_name("cosell-sync")
FOREIGN = "COSELL_"  # variables of this process that would configure the command
SENTENCES = ("Error: ", "Next: ", "Stopped: ", "- ", "Usage: ", "Try ")
PATIENCE = 120.0  # seconds a command may take on a busy machine


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def events(self) -> list[Row]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    @property
    def sentences(self) -> str:
        """What was told to the person at the terminal about an error."""
        return "\n".join(line for line in self.err.splitlines() if not line.startswith("{"))

    @property
    def finished(self) -> Row:
        """The one ``cycle.finished`` of a command that runs one cycle."""
        found = self.named("cycle.finished")
        assert len(found) == 1, f"{len(found)} times cycle.finished\n{self.err}"
        return found[0]

    @property
    def calls(self) -> tuple[int, int]:
        """API calls of the cycle: Partner Center, CRM."""
        counted = self.finished["api_calls"]
        return counted["partner_center"], counted["crm"]

    def json(self) -> Any:
        return json.loads(self.out)

    def named(self, event: str) -> list[Row]:
        return [line for line in self.events if line["event"] == event]

    def __str__(self) -> str:
        return f"$ cosell-sync {' '.join(self.args)} -> {self.code}\n{self.out}\n{self.err}"


def mutating(call: Call) -> bool:
    """Whether a request may change what a system holds; queries travel in composites and batches, so their parts decide."""
    if call.method in {"GET", "HEAD"} or call.path.endswith("/oauth2/token") or "/oauth2/v2.0/" in call.path:
        return False
    if call.method == "POST" and re.search(r"/composite/?$", call.path):
        return any(part["method"].upper() != "GET" for part in call.json()["compositeRequest"])
    if call.path.endswith("/$batch"):
        return re.search(rb"^(POST|PATCH|PUT|DELETE) /", call.body, re.MULTILINE) is not None
    return True


def api(call: Call) -> bool:
    """Whether a request counts as an API call: sign-ins do not."""
    return not re.search(r"/oauth2/|/common/|/\.well-known/", call.path)


@dataclass
class Stage:
    """One sandbox with its command. ``env``: variables that every command gets besides those of the sandbox."""

    sandbox: Sandbox
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    born: int = 0
    crm: Salesforce | Dynamics = field(init=False)

    def __post_init__(self) -> None:
        self.crm = crm(self.sandbox)

    @property
    def pc(self) -> Any:
        return self.sandbox.partner_center

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.sandbox.partner_center_server, self.crm.server

    @property
    def store(self) -> Path:
        return self.home / "cosell-sync.db"

    # -- the command -------------------------------------------------------------------------------------------------

    def environment(self, **env: str) -> dict[str, str]:
        """All variables of a command: those of this process without what configures ours, the sandbox's, the given."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {**outside, **self.sandbox.environment(self.home), **self.env, **env}

    def start(self, *args: str, into: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start the installed command as a process. ``into``: a file for what it says, where nobody waits for its end."""
        full = self.environment(**env)
        with ExitStack() as closing:
            log = closing.enter_context(into.open("a")) if into else None
            return subprocess.Popen(
                [str(COMMAND), *args],
                env=full,
                cwd=self.home,
                text=True,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT if log else subprocess.PIPE,
            )

    def finish(self, process: subprocess.Popen[str], args: tuple[str, ...] = (), since: float = 0.0) -> Done:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"cosell-sync {' '.join(args)} does not end\n{out}\n{err}") from None
        done = Done(args, process.returncode, out, err, time.monotonic() - since if since else 0.0)
        self.check(done)
        return done

    def cosell(self, *args: str, expect: int | None = 0, process: bool = False, **env: str) -> Done:
        """Run the command to its end. ``expect``: its exit code; None: any.

        ``process``: as the installed command in a process of its own, instead of its ``main()`` in this one, which is
        faster by a second. `main_in_process` says what only a process shows.
        """
        started = time.monotonic()
        if process:
            done = self.finish(self.start(*args, **env), args, started)
        else:
            ended = run_main(args, self.environment(**env), self.home)
            done = Done(args, ended.code, ended.out, ended.err, time.monotonic() - started)
            self.check(done)
        assert expect is None or done.code == expect, str(done)
        return done

    def sync(self, *, expect: int | None = 0, **env: str) -> Done:
        return self.cosell("sync", expect=expect, **env)

    def quiet(self, *, expect: int | None = 0, **env: str) -> Done:
        """A cycle that must not try to change anything anywhere."""
        self.forget_calls()
        done = self.sync(expect=expect, **env)
        assert self.mutations() == [], f"not quiet: {self.mutations()}\n{done}"
        return done

    def wait_a_second(self) -> None:
        """The product's clock is the real one, and what it tells by the second must differ from what it told before."""
        time.sleep(1.05)

    def check(self, done: Done) -> None:
        """What holds after every command, whatever happened."""
        assert self.pc.violations == [], f"wrote to a closed referral: {self.pc.violations}"
        for server in self.servers:
            assert server.errors == [], f"the {server.name} fake itself failed: {server.errors}"
        for line in done.err.splitlines():
            if not line.startswith("{"):
                assert not line or line.startswith(SENTENCES), f"neither event nor sentence: {line!r}\n{done}"
                continue
            event = json.loads(line)
            assert {"timestamp", "level", "event"} <= event.keys(), line
            assert event["event"] not in {"deal.broken", "cycle.broken"}, f"the program stumbled: {line}"

    # -- what was called ---------------------------------------------------------------------------------------------

    def forget_calls(self) -> None:
        for server in self.servers:
            server.calls.clear()

    def mutations(self) -> list[str]:
        return [
            f"{call.method} {call.path} {call.body.decode()[:600]}"
            for server in self.servers
            for call in list(server.calls)
            if mutating(call)
        ]

    def api_calls(self) -> tuple[int, int]:
        ours, theirs = (sum(map(api, list(server.calls))) for server in self.servers)
        return ours, theirs

    def patches(self, referral_id: str) -> list[Row]:
        """What PATCHes of that referral asked for: path → value, refused ones included."""
        return [
            {operation["path"].lstrip("/"): operation["value"] for operation in call.json()}
            for call in self.servers[0].calls.matching("PATCH", referral_id)
        ]

    # -- people in the CRM -------------------------------------------------------------------------------------------

    def deal(self, referral: Document | str) -> Row:
        """The one opportunity of a referral."""
        found = self.deals(referral)
        assert len(found) == 1, f"{len(found)} opportunities for {referral}"
        return found[0]

    def deals(self, referral: Document | str) -> list[Row]:
        return self.crm.rows("opportunity", referral_id=_id(referral))

    def seller(self, referral: Document | str, **words: object) -> None:
        """A seller edits the opportunity."""
        self.crm.edit("opportunity", self.deal(referral)["id"], **words)

    def contacts(self, referral: Document | str) -> dict[str, Row]:
        """The contacts on the opportunity by e-mail."""
        return {person["email"].lower(): person for person in self.crm.contacts(self.deal(referral)["id"])}

    def team(self, referral: Document | str) -> set[str]:
        return {
            self.crm.get("user", user)["email"].lower() for user in self.crm.team(self.deal(referral)["id"])
        }

    def solutions(self, referral: Document | str) -> dict[str, Row]:
        return {row["code"]: row for row in self.crm.rows("solution", opportunity=self.deal(referral)["id"])}

    def user(self, email: str) -> str:
        return next(row["id"] for row in self.crm.users if (row["email"] or "").lower() == email)

    # -- Microsoft and colleagues in the portal ----------------------------------------------------------------------

    def add(self, kind: str = "inbound_accepted", **overrides: Any) -> Document:
        """A new deal with a name of its own, in a currency that the org has."""
        self.born += 1
        details = {"currency": "EUR", "dealValue": 84000, **overrides.pop("details", {})}
        plain = {"name": f"Deal {self.born}", "campaignId": None, "favorite": False, "details": details}
        return self.pc.add(kind, **{**plain, **overrides})  # type: ignore[no-any-return]

    def referral(self, referral: Document | str) -> Document:
        return self.pc.get(_id(referral))  # type: ignore[no-any-return]

    def status(self, referral: Document | str) -> tuple[str, str]:
        document = self.referral(referral)
        return document["status"], document["substatus"]

    # -- crashes -----------------------------------------------------------------------------------------------------

    def killed(self, *args: str, at: Callable[[], bool], **env: str) -> None:
        """Starts a command and kills it (-9) the moment ``at`` is true."""
        process = self.start(*args, **env)
        try:
            waited(at, f"cosell-sync {' '.join(args)} to reach the point of the crash", process=process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def struck(server: Server) -> Callable[[], bool]:
    """True once every fault of that server has struck."""
    return lambda: not server.faults.pending()


def waited(
    condition: Callable[[], Any],
    what: str,
    *,
    process: subprocess.Popen[str] | None = None,
    within: float = 60.0,
) -> Any:
    """Polls until the condition gives something true, and returns that."""
    until = time.monotonic() + within
    while not (found := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} while waiting for {what}")
        assert time.monotonic() < until, f"waited {within:.0f} s for {what}"
        time.sleep(0.02)
    return found


def _id(referral: Document | str) -> str:
    return referral if isinstance(referral, str) else referral["id"]


def staged(home: Path, crm: str, *, deals: int = 0, seed: int = 7, **env: str) -> Iterator[Stage]:
    """The body of a fixture: a sandbox that is up while the test runs.

    Dynamics environments differ in whether a closed row takes an app's own columns. The tests are for one that does, and
    is configured so, since Salesforce does as well; for the others `test_acceptance_moves` has a test of its own.
    """
    with Sandbox(deals=deals, seed=seed, crm=crm) as sandbox:
        sandbox.dynamics.closed_rows_writable = True
        env = {"COSELL_DYNAMICS__CLOSED_ROWS": "true", **env} if crm == "dynamics" else env
        env = {"COSELL_SYNC__POST_PATIENCE": "0s", **env}  # a post lands here at once or never
        yield Stage(sandbox, home, env)


def hidden(stage: Stage) -> Mapping[str, str]:
    """Everything that no log may hold: value → what it is."""
    texts: dict[str, str] = {}

    def keep(kind: str, value: object) -> None:
        if isinstance(value, str) and len(value.strip()) > 2:
            texts.setdefault(value.strip(), kind)

    for document in stage.pc.all():
        people = [*document["team"], *document["customerProfile"]["team"]]
        for person, name in product(people, ("firstName", "lastName", "email", "phoneNumber")):
            keep(name, person.get(name))
        for line in (document["details"]["notes"] or "").splitlines():
            keep("note", line)
        keep("note to Microsoft", document["inviteContext"]["notes"])
    for user, name in product(stage.crm.users, ("first_name", "last_name", "email", "phone")):
        keep(name, user[name])
    entra = stage.pc.entra
    for token in [*entra._access, *entra._refresh, entra.client_secret, *stage.crm.sessions]:
        keep("token", token)
    for name, value in stage.sandbox.environment(stage.home).items():
        if name.endswith(("SECRET", "TOKEN")):
            keep("secret", value)
    return texts
