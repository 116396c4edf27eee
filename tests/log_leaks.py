"""Listens to everything that is logged during a test, and knows what may never be: the test that let it out fails.

Heard are the events of this process *before* the second line of defence masks anything (callers must not need it), the
lines that our handler wrote, and the stderr of every ``cosell-sync`` that was started. Forbidden is what stands in any of the
worlds that live during the test: every person's names, address and number, every line of notes, every token and secret.
What leaked is told by its kind and event, never by its value.
"""

from __future__ import annotations

import json
import re
import subprocess
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from cosell_sync import log as logs
from cosell_sync.sandbox.dataverse.auth import CLIENT_SECRET
from cosell_sync.sandbox.dataverse.service import Dataverse
from cosell_sync.sandbox.partner_center.service import PartnerCenter
from cosell_sync.sandbox.salesforce.auth import CONSUMER_SECRET
from cosell_sync.sandbox.salesforce.service import Salesforce

MOST = 2000  # rows of a table; a pipeline of a hundred thousand deals repeats the same people
ORDINARY = {
    "New",
    "Deal",
    "Other",
    "Person",
    "Contact",
    "Customer",
    "Test",
    "Seller",
}  # how tests call people too
SHORTEST_NOTE = 8  # "one" and "two" are words of ours as well

NAME, ADDRESS, NUMBER, NOTE, SECRET = "a name", "an e-mail address", "a phone number", "a note", "a secret"
COLUMNS = {
    NAME: ("FirstName", "LastName", "firstname", "lastname", "firstName", "lastName"),
    ADDRESS: ("Email", "emailaddress1", "internalemailaddress", "email"),
    NUMBER: ("Phone", "telephone1", "address1_telephone1", "phoneNumber"),
    NOTE: (
        "Cosell_Notes__c", "Cosell_Help_Note__c", "Cosell_Reason_Note__c",
        "cosell_notes", "cosell_helpnote", "cosell_reasonnote", "notes",
    ),
}  # fmt: skip
TABLES = ("Contact", "User", "Opportunity", "contact", "systemuser", "opportunity")


class Listener:
    """What was heard, each with the place it came from; and the worlds that know what is forbidden."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.worlds: weakref.WeakSet[Any] = weakref.WeakSet()
        self.files: set[Path] = set()

    def hear(self, where: str, text: str) -> None:
        self.heard.append((where, text))

    def hear_command(self, text: str) -> None:
        """Standard error of a command: events, and sentences for the person at the terminal."""
        for line in text.splitlines():
            self.hear(event_of(line), line)

    def leaks(self) -> list[str]:
        """Kinds and events, without a value; empty when nothing slipped."""
        for file in self.files:
            if file.exists():
                self.hear_command(file.read_text(errors="replace"))
        spoken = "\n".join(text for _, text in self.heard)
        if not spoken:
            return []
        found = set()
        for value, kind in {
            each: kind for world in list(self.worlds) for each, kind in hidden(world)
        }.items():
            if value in spoken:
                word = re.compile(rf"(?<![\w-]){re.escape(value)}(?![\w-])")
                found |= {f"{where}: {kind}" for where, text in self.heard if word.search(text)}
        return sorted(found)


def event_of(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return "a sentence on stderr"


# --- what is forbidden -------------------------------------------------------------------------------------------------


def hidden(world: Any) -> Iterator[tuple[str, str]]:
    match world:
        case PartnerCenter():
            for document in list(world._referrals.documents.values())[:MOST]:
                yield from _referral(document)
            entra = world.entra
            for secret in (*entra._access, *entra._refresh, entra.client_secret):
                if secret:
                    yield secret, SECRET
        case Salesforce() | Dataverse():
            for table in TABLES:
                for row in list(world._org.tables.get(table, {}).values())[:MOST]:
                    if (
                        row.get("Id", row.get("systemuserid")) != world.integration_user
                    ):  # no person, and called as we are
                        yield from _row(row)
            tokens = world._sign_in.sessions if isinstance(world, Salesforce) else world.entra._opens
            for secret in (*tokens, CONSUMER_SECRET, CLIENT_SECRET):
                yield secret, SECRET


def _referral(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for person in [*(document["team"] or ()), *(document["customerProfile"]["team"] or ())]:
        yield from _row(person)
    yield from _notes(document["details"]["notes"])
    yield from _notes(document["inviteContext"]["notes"])


def _row(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, columns in COLUMNS.items():
        for text in (row.get(column) for column in columns):
            if kind == NOTE:
                yield from _notes(text)
            elif isinstance(text, str) and len(text.strip()) > 2 and text.strip() not in ORDINARY:
                yield text.strip(), kind


def _notes(text: object) -> Iterator[tuple[str, str]]:
    lines: Iterable[str] = text.splitlines() if isinstance(text, str) else ()
    yield from ((line.strip(), NOTE) for line in lines if len(line.strip()) >= SHORTEST_NOTE)


# --- listening ---------------------------------------------------------------------------------------------------------

LISTENER = Listener()


@pytest.fixture(scope="session", autouse=True)
def _listening() -> Iterator[None]:
    """Puts the listener to structlog, to our handler, to started commands; and learns of every world that is made."""
    with pytest.MonkeyPatch.context() as patch:
        for world in (PartnerCenter, Salesforce, Dataverse):
            patch.setattr(world, "__init__", _noted(world.__init__))
        patch.setattr(structlog._base.BoundLoggerBase, "_process_event", _overheard())
        patch.setattr(logs._Stderr, "emit", _written())
        patch.setattr(subprocess.Popen, "__init__", _started())
        patch.setattr(subprocess.Popen, "communicate", _ended())
        yield


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    LISTENER.heard.clear()
    LISTENER.files.clear()
    yield
    found = LISTENER.leaks()
    if found:
        pytest.fail("let out in a log: " + "; ".join(found), pytrace=False)


def _noted(real: Any) -> Any:
    def init(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        LISTENER.worlds.add(self)

    return init


def _overheard() -> Any:
    real = structlog._base.BoundLoggerBase._process_event

    def process(self: Any, method: str, event: str | None, fields: dict[str, Any]) -> Any:
        full = {**structlog.contextvars.get_contextvars(), **self._context, **fields}
        told = {key: value for key, value in full.items() if key != "exc_info"}
        LISTENER.hear(str(event), f"{event} {told!r}")
        return real(self, method, event, fields)

    return process


def _written() -> Any:
    real = logs._Stderr.emit

    def emit(self: Any, record: Any) -> None:
        line = self.format(record)
        LISTENER.hear(event_of(line), line)
        real(self, record)

    return emit


def _ours(process: subprocess.Popen[Any]) -> bool:
    arguments = process.args if isinstance(process.args, list | tuple) else [process.args]
    return any(str(each).endswith(("cosell-sync", "cosell_sync")) for each in arguments)


def _started() -> Any:
    real = subprocess.Popen.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        name = getattr(options.get("stdout"), "name", None)
        if _ours(self) and isinstance(name, str):
            LISTENER.files.add(Path(name))

    return init


def _ended() -> Any:
    real = subprocess.Popen.communicate

    def communicate(self: Any, *args: Any, **options: Any) -> Any:
        out, err = real(self, *args, **options)
        if _ours(self) and err:
            LISTENER.hear_command(err if isinstance(err, str) else err.decode(errors="replace"))
        return out, err

    return communicate
