"""Every command shows how it is called, and tells its errors as JSON where its results are JSON."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from cosell_sync.cli.doctor import Row, _condensed
from cosell_sync.cli.errors import told
from cosell_sync.cli.lazy import load_command
from cosell_sync.cli.main import main
from cosell_sync.cli.names import COMMANDS
from cosell_sync.errors import AuthFailed, Busy, ConfigError, Fenced, Rejected, Surprise, Unavailable


def leaves() -> dict[str, Any]:
    """Every command that does something, by the words that call it."""
    found: dict[str, Any] = {}
    for name in COMMANDS:
        command = load_command(name)
        inner = getattr(command, "commands", None)
        found |= {f"{name} {each}": one for each, one in inner.items()} if inner else {name: command}
    return found


LEAVES = leaves()
WITH_JSON = [
    name for name, command in LEAVES.items() if any("--json" in each.opts for each in command.params)
]


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_that_it_would_take(name: str) -> None:
    """One line, called by its own name, with options and arguments that the command knows."""
    (said,) = re.findall(r"^Example: (.+)$", LEAVES[name].help or "", re.MULTILINE)
    words = shlex.split(re.sub(r"\$\([^)]*\)", "today", said.partition(" > ")[0]))  # as the shell would
    assert words[0] == "cosell-sync"
    assert " ".join(words[1 : 1 + len(name.split())]) == name
    arguments = words[1 + len(name.split()) :]
    assert LEAVES[name].make_context(name, list(arguments)).params is not None


def test_json_is_offered_wherever_something_is_reported() -> None:
    reports = {
        "sync", "health", "plan", "doctor", "provision", "backup", "deals list", "deals show", "deals explain",
        "webhooks status", "webhooks test", "connection list", "config show", "config check",
    }  # fmt: skip
    assert reports <= set(WITH_JSON)


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cosell-sync", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("name", WITH_JSON)
def test_an_error_is_one_json_object_where_json_was_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stdout, in the place of the result; nothing else stands there, and stderr says nothing that a person must read."""
    needed = [
        "x" for each in LEAVES[name].params if each.param_type_name == "argument" and each.required
    ]  # fmt: skip
    nowhere = str(tmp_path / "missing.yaml")
    code, out, err = called(monkeypatch, capsys, *name.split(), *needed, "--json", "--config", nowhere)
    error = json.loads(out)["error"]
    assert code == error["exit_code"] == 2
    assert error["code"] == "configuration"
    assert nowhere in error["message"]
    assert error["hint"]
    assert err == ""


@pytest.mark.parametrize("name", WITH_JSON)
def test_wrong_usage_is_json_as_well(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(monkeypatch, capsys, *name.split(), "--json", "--nonsense")
    error = json.loads(out)["error"]
    assert (code, error["code"], error["exit_code"], err) == (2, "usage", 2, "")
    assert "--nonsense" in error["message"]


def test_without_json_an_error_stays_a_sentence_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(monkeypatch, capsys, "plan", "--config", str(tmp_path / "missing.yaml"))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    code, out, err = called(monkeypatch, capsys, "plan", "--nonsense")
    assert (code, out) == (2, "")
    assert "No such option" in err


@pytest.mark.parametrize(
    ("error", "word", "exit_code"),
    [
        (ConfigError("no"), "configuration", 2),
        (AuthFailed("salesforce", "no", code="invalid_grant"), "sign_in", 3),
        (Unavailable("dynamics", "no"), "out_of_reach", 3),
        (Busy("process 7"), "busy", 3),
        (Fenced("no"), "lease_lost", 3),
        (Surprise("no"), "surprise", 1),
        (Rejected("no"), "deal", 1),
    ],
)
def test_the_word_and_the_exit_code_of_an_error(error: Any, word: str, exit_code: int) -> None:
    assert (told(error).code, told(error).exit_code) == (word, exit_code)


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def mentioned(page: Path) -> list[str]:
    """What a page calls: in code, `cosell-sync …`, or `deals …` alone."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    spans = [
        " ".join(each.split())
        for each in re.findall(
            r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        )
    ]
    called = [each for each in (*lines, *spans) if each.startswith("cosell-sync ")]
    return [each.removeprefix("cosell-sync ") for each in called] + [
        each for each in spans if each.startswith("deals ")
    ]


def unknown(called: str) -> bool:
    """Whether no such command exists, or one of its options does not; ``a|b`` stands for either."""
    words = re.sub(r"\s+#.*", "", called).split()
    if words[0] == "COMMAND" or words[0].startswith("--"):
        return False
    given = {word.partition("=")[0].rstrip(",.;") for word in words if word.startswith("--")}
    for name in words[0].split("|"):
        group = any(each.startswith(f"{name} ") for each in LEAVES)
        subs = words[1].split("|") if group and len(words) > 1 and words[1] != "…" else [""]
        for sub in subs:
            command = LEAVES.get(f"{name} {sub}".strip())
            if command is None and (name not in COMMANDS or sub):
                return True
            if (
                given
                - {opt for each in (command.params if command else ()) for opt in each.opts}
                - {"--help"}
            ):
                return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    assert [each for each in mentioned(page) if unknown(each)] == []


@pytest.mark.parametrize(
    "called", ["deals retri ID", "snyc", "plan --everything", "deals list --older 7d --odd"]
)
def test_a_command_that_does_not_exist_is_noticed(called: str) -> None:
    assert unknown(called)


def test_doctor_joins_only_what_is_fine_in_the_same_way() -> None:
    """A stage's name may hold dots, and what one row says is not true of its neighbours."""
    rows = [
        *(Row(f"crm.stage.{name}", "ok", "there") for name in ("New", "Id. Decision Makers", "Won")),
        Row("mapping.name", "ok", "found out with a rename"),
        Row("mapping.heart", "ok", "found out with a heart"),
        Row("MFA", "ok", "there"),
        Row("store", "ok", "there"),
    ]
    assert list(_condensed(rows)) == [Row("crm.stage", "ok", "3 checked: there"), *rows[3:]]
