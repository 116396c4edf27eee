"""The listener that listens to the whole suite hears what it must: each way out of the program, and each kind of value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import log_leaks
from cosell_sync import log as logs
from cosell_sync.sandbox.systems import Sandbox

TESTS = Path(__file__).parents[1]
SLIP = """
import structlog
from cosell_sync.sandbox.systems import Sandbox

def test_slips():
    (person, *_) = Sandbox(deals=12).partner_center.ours()[0]["team"]
    structlog.get_logger().warning("deal.slipped", who=person["email"])

def test_does_not():
    structlog.get_logger().warning("deal.held", field="team")
"""


@pytest.fixture
def listener(sandbox: Sandbox) -> log_leaks.Listener:
    """One of its own, so that what is slipped here harms no test."""
    listener = log_leaks.Listener()
    listener.worlds |= {sandbox.partner_center, sandbox.salesforce, sandbox.dynamics}
    return listener


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(deals=60)


def values(sandbox: Sandbox) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for world in (sandbox.partner_center, sandbox.salesforce, sandbox.dynamics):
        for value, kind in log_leaks.hidden(world):
            found.setdefault(kind, set()).add(value)
    return found


def test_the_worlds_know_what_must_not_be_said(sandbox: Sandbox) -> None:
    known = values(sandbox)
    assert {"Ida", "Söderberg", "Tanabe"} <= known[log_leaks.NAME]
    assert {"ida.kern@nordlicht.example", "sam.seller@contoso.example"} <= known[log_leaks.ADDRESS]
    assert {"+49 421 000001", "+1 555 0100"} <= known[log_leaks.NUMBER]
    assert any("trade fair" in note for note in known[log_leaks.NOTE])
    assert {"sandbox-refresh-token", log_leaks.CLIENT_SECRET, log_leaks.CONSUMER_SECRET} <= known[
        log_leaks.SECRET
    ]


@pytest.mark.parametrize(
    "kind", [log_leaks.NAME, log_leaks.ADDRESS, log_leaks.NUMBER, log_leaks.NOTE, log_leaks.SECRET]
)
def test_each_kind_is_heard_and_named_without_its_value(
    listener: log_leaks.Listener, sandbox: Sandbox, kind: str
) -> None:
    for value in sorted(values(sandbox)[kind]):
        listener.heard.clear()
        listener.hear("deal.held", f"deal.held {{'field': 'x {value}, y'}}")
        assert f"deal.held: {kind}" in listener.leaks(), value
        assert value not in str(listener.leaks())


def test_ordinary_words_are_no_leak(listener: log_leaks.Listener) -> None:
    listener.hear_command(
        '{"event": "cycle.finished", "field": "name", "id": "Idaho"}\nNext: run cosell-sync login'
    )
    assert listener.leaks() == []


def test_a_started_command_is_heard(listener: log_leaks.Listener) -> None:
    listener.hear_command('{"event": "deal.held", "who": "Ida"}\nError: Ida is not at home')
    assert listener.leaks() == ["a sentence on stderr: a name", "deal.held: a name"]


def test_a_command_that_writes_into_a_file_is_heard(listener: log_leaks.Listener, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    file.write_text('{"event": "outage.began", "what": "+49 421 000001"}\n')
    listener.files.add(file)
    assert listener.leaks() == ["outage.began: a phone number"]


def test_what_the_second_line_of_defence_masks_is_heard_all_the_same() -> None:
    """A caller that needs the mask is wrong already; so the event is heard as it was given."""
    before = len(log_leaks.LISTENER.heard)
    logs.get_logger().warning("deal.held", about="nobody@nowhere.example")
    assert any("nobody@nowhere.example" in text for _, text in log_leaks.LISTENER.heard[before:])


def test_a_test_that_lets_something_out_fails_and_does_not_repeat_it(tmp_path: Path) -> None:
    slip = tmp_path / "test_slip.py"
    slip.write_text(SLIP)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "log_leaks",
            "--show-capture=no",
            "--rootdir",
            str(tmp_path),
            str(slip),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 passed, 1 error" in ended.stdout, ended.stdout
    assert "deal.slipped: an e-mail address" in ended.stdout
    assert "nordlicht.example" not in ended.stdout
