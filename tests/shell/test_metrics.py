"""Metrics are a promise: the page lists exactly what is exposed, and alerts and board ask for nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosell_sync.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "config" / "prometheus" / "alerts.yaml"
PLAYED = ROOT / "config" / "prometheus" / "alerts.test.yaml"
BOARD = ROOT / "config" / "grafana" / "cosell-sync.json"
_SUFFIX = {"counter": "_total", "gauge": "", "histogram": ""}


def families() -> list[Any]:
    metrics = Metrics("1.0")
    metrics.of("default", "salesforce")
    return [each for each in metrics.registry.collect() if each.name.startswith("cosell_")]


def table() -> str:
    """The table of docs/metrics.md."""
    labels = {
        each.name: sorted({name for sample in each.samples for name in sample.labels}) for each in families()
    }
    hidden = {"cosell_last_cycle_timestamp_seconds": ["outcome"], "cosell_budget_used_ratio": ["side"]}
    hidden |= {"cosell_sign_in_age_seconds": ["system"], "cosell_http_errors": ["code", "system"]}
    hidden |= {"cosell_connection_state": ["state"]}
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in families():
        names = [
            name for name in labels[each.name] or ["connection", *hidden.get(each.name, [])] if name != "le"
        ]
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| `{each.name}{_SUFFIX[each.type]}` | {each.type} | {shown} | {each.documentation} |")
    return "\n".join(lines)


def exposed() -> set[str]:
    found = {"up", "process_resident_memory_bytes", "ALERTS"}
    for each in families():
        name = each.name + _SUFFIX[each.type]
        found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if each.type == "histogram" else {name}
    return found


def asked(expressions: list[str]) -> set[str]:
    """Names of series in these PromQL expressions."""
    plain = [re.sub(r"\{[^}]*\}|by \([^)]*\)|on \([^)]*\)|\[[^\]]*\]", " ", each) for each in expressions]
    return {name for each in plain for name in re.findall(r"\b(?:cosell|process)_\w+", each)}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_the_page_lists_what_is_exposed() -> None:
    """`.venv/bin/python tests/shell/test_metrics.py` writes the table anew."""
    assert (
        PAGE.read_text(encoding="utf-8").split("<!-- metrics -->\n")[1].split("\n<!-- /metrics -->")[0]
        == table()
    )


def test_alerts_and_board_ask_for_what_is_exposed() -> None:
    board = json.loads(BOARD.read_text())
    drawn = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expressions in ([rule["expr"] for rule in rules()], drawn):
        assert asked(expressions)
        assert asked(expressions) <= exposed()


def test_every_alert_says_what_to_do_first_and_is_played() -> None:
    """`test_the_runbook_knows_every_alert` holds the page that goes on from there."""
    played = PLAYED.read_text()
    for rule in rules():
        assert rule["annotations"]["action"]
        assert f"alertname: {rule['alert']}}}" in played


def test_the_rules_hold_in_prometheus_own_words() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for words in (("check", "rules", RULES.name), ("test", "rules", PLAYED.name)):
        done = subprocess.run(
            [promtool, *words], cwd=RULES.parent, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- metrics -->\n")
    after = rest.split("\n<!-- /metrics -->")[1]
    PAGE.write_text(f"{before}<!-- metrics -->\n{table()}\n<!-- /metrics -->{after}", encoding="utf-8")
