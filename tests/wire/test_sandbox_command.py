"""The `sandbox` command: what it prints is enough to work against it, with either CRM, and Ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from acceptance import COMMAND, FOREIGN, PATIENCE

pytestmark = pytest.mark.wire
PAGE = Path(__file__).parents[2] / "docs/first-deal.md"
OURS = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


@contextmanager
def served(home: Path, *args: str) -> Iterator[str]:
    """What it prints when it is up."""
    started = subprocess.Popen(
        [str(COMMAND), "sandbox", "--directory", str(home), *args],
        env=OURS,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert started.stdout is not None
    try:
        printed = ""
        for line in started.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        yield printed
        started.send_signal(signal.SIGINT)
        assert started.wait(PATIENCE) == 0
    finally:
        started.kill()
        started.stdout.close()
        started.wait()


@pytest.mark.parametrize("crm", ["salesforce", "dynamics"])
def test_what_it_prints_is_enough(tmp_path: Path, crm: str) -> None:
    with served(tmp_path, "--deals", "9", "--crm", crm) as printed:
        variables = dict(re.findall(r"export (\w+)='([^']*)'", (tmp_path / "sandbox.env").read_text()))
        assert variables["COSELL_CRM"] == crm
        synced = subprocess.run(
            [str(COMMAND), "sync"],
            env={**OURS, **variables},
            cwd=tmp_path,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert synced.returncode in {0, 1}, synced.stderr
        rows = re.findall(r"curl --cacert (\S+) '([^']+)'", printed)[0]
        shown = httpx.get(rows[1], verify=ssl.create_default_context(cafile=rows[0]))
        assert (shown.status_code, isinstance(shown.json(), list), len(shown.json()) > 0) == (200, True, True)


def test_an_empty_org_waits_for_provision(tmp_path: Path) -> None:
    with served(tmp_path, "--no-installed"):
        variables = dict(re.findall(r"export (\w+)='([^']*)'", (tmp_path / "sandbox.env").read_text()))
        synced = subprocess.run(
            [str(COMMAND), "sync"],
            env={**OURS, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (synced.returncode, "cosell-sync provision" in synced.stderr) == (1, True), synced.stderr


def test_the_page_of_the_first_deal_works_as_it_stands(tmp_path: Path) -> None:
    """Its commands, in a shell, from the settings of the sandbox to the deal that Microsoft knows as accepted."""
    page = PAGE.read_text(encoding="utf-8").partition("## 2.")[2].partition("## 5.")[0]
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).splitlines()
    script = "\n".join(f"{line}\nprintf '\\nexit %s: {line.split()[0]}\\n' $?" for line in lines if line)
    with served(tmp_path / "box"):
        played = subprocess.run(
            ["/bin/sh", "-c", script],
            env={**OURS, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
    ended = re.findall(r"^exit (\d+): (\S+)", played.stdout, re.MULTILINE)
    assert len(ended) == len([line for line in lines if line])
    assert {code for code, command in ended if command != "cosell-sync"} == {"0"}, played.stderr
    assert {code for code, _ in ended} <= {"0", "1"}, played.stderr
    assert '"status": "Active", "substatus": "Accepted"' in played.stdout
    assert "You accepted this deal" in played.stdout
