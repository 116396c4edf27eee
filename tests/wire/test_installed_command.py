"""The installed command as a process, once for every command and exit code; and that ``main()`` in this process equals it.

The other acceptance tests call ``main()`` here (see `main_in_process`); this is what allows them to. Commands that need a
process for more than that have their own files: `run`, `sandbox`, `demo`; the orders of `deals` are given as processes in
`test_acceptance_people` and `test_forget_command`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from acceptance import Done, Stage, staged

pytestmark = pytest.mark.wire

NOBODY = {"COSELL_PARTNER_CENTER__CLIENT_ID": "00000000-0000-4000-8000-000000000000"}
# The arguments ({deal}: the id of a linked deal), the variables besides, and the exit code.
CALLS: dict[str, tuple[tuple[str, ...], dict[str, str], int]] = {
    "version": (("--version",), {}, 0),
    "help": (("--help",), {}, 0),
    "help of a command": (("sync", "--help"), {}, 0),
    "an unknown option": (("sync", "--nonsense"), {}, 2),
    "config check": (("config", "check"), {}, 0),
    "config check, a wrong value": (("config", "check"), {"COSELL_SYNC__OVERLAP": "5 parsecs"}, 2),
    "config show": (("config", "show", "--json"), {}, 0),
    "config schema": (("config", "schema"), {}, 0),
    "doctor": (("doctor",), {}, 0),
    "plan": (("plan",), {}, 0),
    "provision": (("provision", "--dry-run"), {}, 0),
    "connection list": (("connection", "list", "--json"), {}, 0),
    "connection rebind, no such connection": (("connection", "rebind", "nothing"), {}, 2),
    "connection rebind, nothing to do": (("connection", "rebind", "default"), {}, 0),
    "deals list": (("deals", "list", "--all"), {}, 0),
    "deals show": (("deals", "show", "{deal}"), {}, 0),
    "deals show, no such deal": (("deals", "show", "nothing"), {}, 2),
    "deals explain": (("deals", "explain", "{deal}", "--json"), {}, 0),
    "sync, a deal needs a person": (("sync",), {}, 1),
    "sync, a refused sign-in": (("sync",), NOBODY, 3),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One linked deal, and one in a currency that the org does not have. Nothing changes any more."""
    for stage in staged(tmp_path_factory.mktemp("command"), "salesforce"):
        stage.add()
        stage.add(details={"currency": "XTS"})
        stage.sync(expect=1)
        stage.sync(expect=1)
        yield stage


def said(done: Done) -> tuple[int, str, str, list[str]]:
    """Code, stdout, sentences and names of the events, without durations, counted API calls and widths of tables."""
    out = re.sub(r"\([\d.]+ s\)|\d+ of 100000 API calls", "", done.out)
    return done.code, " ".join(out.split()), done.sentences, [event["event"] for event in done.events]


@pytest.mark.parametrize("call", CALLS)
def test_a_process_says_what_main_in_this_process_says(stage: Stage, call: str) -> None:
    args, env, code = CALLS[call]
    linked = next(each for each in stage.pc.ours() if each["details"]["currency"] == "EUR")["id"]
    args = tuple(arg.format(deal=linked) for arg in args)
    process = stage.cosell(*args, expect=code, process=True, **env)
    here = stage.cosell(*args, expect=code, **env)
    assert said(process) == said(here)
    assert process.out or process.sentences


def test_plan_of_a_deal_that_nobody_knows_is_no_agreement(stage: Stage) -> None:
    """A new referral is known, though no cycle has seen it yet."""
    assert "no deal with the id nope is known" in stage.cosell("plan", "--deal", "nope", expect=2).err
    assert "new in Partner Center" in stage.cosell("plan", "--deal", stage.add()["id"]).out


def test_what_was_set_for_one_call_is_gone_in_the_next(stage: Stage) -> None:
    """What was said at debug level, and the handler that said it, do not stay."""
    before = os.environ.copy(), Path.cwd(), logging.getLogger().handlers[:], structlog.get_config()
    assert stage.cosell("doctor", COSELL_LOG__LEVEL="debug").named("http.call")
    assert (os.environ.copy(), Path.cwd(), logging.getLogger().handlers[:], structlog.get_config()) == before
    assert stage.cosell("doctor").err == ""


def test_login_shows_the_code_and_keeps_the_token(stage: Stage, tmp_path: Path) -> None:
    entra = stage.pc.entra
    entra.approve_at_once = True
    env = {
        "COSELL_PARTNER_CENTER__REFRESH_TOKEN": "",
        "COSELL_STORE__URL": f"sqlite:///{tmp_path / 'fresh.db'}",
    }
    done = stage.cosell("login", process=True, **env)
    assert "Signed in to Partner Center" in done.out
    assert "Next: cosell-sync doctor" in done.out
    assert stage.sync(expect=None, **env).named("cycle.finished")
    assert stage.cosell("login", **env).code == 0
