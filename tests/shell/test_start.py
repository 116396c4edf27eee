"""A command imports what it needs and no more: libraries that nobody called used to be most of a start."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cosell_sync.cli.lazy import load_command
from cosell_sync.cli.main import main
from cosell_sync.cli.names import COMMANDS
from cosell_sync.sandbox.systems import Sandbox

# Runs the command in a fresh interpreter, then reports its exit code and every module that it imported.
REPORT = """
import json, sys
from cosell_sync.cli.main import main
sys.argv = ["cosell-sync", *json.loads(sys.argv[1])]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
sys.stderr.write("\\n" + json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""
OUTSIDE = {
    "sqlalchemy",
    "alembic",
    "msal",
    "httpx",
    "requests",
    "simple_salesforce",
    "zeep",
    "tenacity",
    "jwt",
}
OURS = {
    f"cosell_sync.{name}"
    for name in (
        "bootstrap",
        "crm",
        "cycle",
        "daemon",
        "partner_center",
        "sandbox",
        "store",
        "transport",
        "web",
    )
}
CREDENTIALS = {
    "COSELL_PARTNER_CENTER__TENANT_ID": "t.example",
    "COSELL_PARTNER_CENTER__CLIENT_ID": "c",
    "COSELL_SALESFORCE__LOGIN_URL": "https://x.test",
    "COSELL_SALESFORCE__CONSUMER_KEY": "k",
    "COSELL_SALESFORCE__CONSUMER_SECRET": "s",
}


def imported(*command: str, env: dict[str, str] | None = None) -> set[str]:
    """The modules that this command imports; it must end well."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COSELL_")}
    done = subprocess.run(
        [sys.executable, "-c", REPORT, json.dumps(command)],
        capture_output=True, text=True, timeout=120, check=False, env={**plain, **(env or {})},
    )  # fmt: skip
    report = json.loads(done.stderr.rpartition("\n")[2])
    assert report["code"] == 0, done.stderr[-2000:]
    return set(report["modules"])


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_help_and_version_import_no_command(command: str) -> None:
    modules = imported(command)
    assert not modules & (OUTSIDE | OURS)
    assert modules & {"structlog", "yaml", "rich.console", "cosell_sync.settings"} == set()
    # typer reads the value of any option with pydantic, `--help` apart
    assert command == "--version" or "pydantic" not in modules


def test_the_collector_of_garbage_looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """At Python's own pace it took a tenth of a first import."""
    before = gc.get_threshold()
    monkeypatch.setattr(sys, "argv", ["cosell-sync", "--version"])
    try:
        with pytest.raises(SystemExit):
            main()
        assert gc.get_threshold()[0] == 25_000
    finally:
        gc.set_threshold(*before)


def test_checking_the_configuration_imports_nothing_that_reaches_out(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("crm: salesforce\n", encoding="utf-8")
    assert not imported("config", "check", "--config", str(path), env=CREDENTIALS) & (OUTSIDE | OURS)
    assert "yaml" not in imported("config", "check", env=CREDENTIALS)


@pytest.mark.parametrize("crm", ["salesforce", "dynamics"])
def test_an_idle_sync_imports_only_what_it_calls(tmp_path: Path, crm: str) -> None:
    """Its store is up to date and it prints no table; the first cycle makes the store and the links."""
    other = {"salesforce": "dynamics", "dynamics": "salesforce"}[crm]
    with Sandbox(deals=2, crm=crm) as sandbox:
        environment = sandbox.environment(tmp_path)
        imported("sync", env=environment)
        modules = imported("sync", env=environment)
    assert f"cosell_sync.crm.{crm}" in modules
    assert not modules & {
        f"cosell_sync.crm.{other}",
        "cosell_sync.sandbox",
        "cosell_sync.web",
        "cosell_sync.serving.daemon",
    }
    # Dataverse's choices are understood by the lists of values, which are YAML.
    assert modules & {"alembic", "cheroot", "werkzeug", "prometheus_client"} == set()
    assert crm == "dynamics" or "yaml" not in modules
    assert crm == "dynamics" or "msal" not in modules
    assert modules & {"simple_salesforce", "zeep"} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    """The lines of ``--help`` are known without importing the commands, so they could drift from them."""
    first_paragraph = load_command(name).help.partition("\n\n")[0]
    assert COMMANDS[name] == " ".join(first_paragraph.split())


@pytest.mark.parametrize(("command", "code"), [("run", 0), ("worker", 0), ("sync", 143)])
def test_a_signal_ends_it_before_it_serves(command: str, code: int) -> None:
    """As the first process of a container it would not notice: the kernel has no default action for that one. So the action is
    the program's own, and the exit code that of a stop.
    """
    asked = """
import os, signal, sys
from cosell_sync.cli import main
sys.argv = ["cosell-sync", sys.argv[1]]
main.app = lambda **_: (os.kill(os.getpid(), signal.SIGTERM), signal.pause())
main.main()
"""
    done = subprocess.run([sys.executable, "-c", asked, command], timeout=60, check=False)
    assert done.returncode == code
