"""The README tells the truth: its event catalogue and its tree are held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "cosell_sync").rglob("*.py"))
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def emitted() -> set[str]:
    """Every event name that the code may log: dotted literals given to a logger, directly or through a choice."""
    names: set[str] = set()
    for source in SOURCES:
        if "sandbox" in source.parts:
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in LEVELS | {"emit", "log"}:
                literals = [item.value for item in ast.walk(node.args[0]) if isinstance(item, ast.Constant)]
                names |= {
                    item
                    for item in literals
                    if isinstance(item, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", item)
                }
    return names


def catalogued() -> set[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("<!-- events")[1].split("<!-- /events -->")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", cell)}


def test_every_event_is_catalogued_and_every_entry_is_emitted() -> None:
    assert emitted() - {"library.message"} == catalogued() - {"library.message"}


def test_every_path_of_the_tree_exists() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1]
    paths = [
        path
        for line in tree.splitlines()
        if line.startswith("| `")
        for path in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]
    prefix = ROOT / "src" / "cosell_sync"
    missing = [path for path in paths if not (ROOT / path).exists() and not (prefix / path).exists()]
    assert paths
    assert missing == []


def test_every_link_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []
