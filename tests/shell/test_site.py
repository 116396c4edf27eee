"""The docs are a site for three kinds of readers; built strictly, so that a broken link or a forgotten page is an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the dependency group docs is not installed (make docs)")
ROOT = Path(__file__).parents[2]
READERS = {
    "Set it up": (
        "salesforce-setup",
        "dynamics-setup",
        "partner-center-setup",
        "mapping",
        "go-live",
        "moving",
    ),
    "Sell with it": ("sellers",),
    "Keep it running": ("runbook", "commands", "metrics", "events", "faults"),
}


def build(home: Path, into: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", home / "mkdocs.yml", "--site-dir", into],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    done = build(ROOT, made)
    assert done.returncode == 0, done.stderr
    return made


def test_every_reader_finds_the_way_in_from_any_page(site: Path) -> None:
    page = (site / "glossary.html").read_text(encoding="utf-8")
    for heading, pages in READERS.items():
        assert heading in page
        for name in pages:
            assert f'href="{name}.html"' in page


def test_a_decision_and_a_file_of_the_repository_are_no_dead_ends(site: Path) -> None:
    """Decisions are listed without anybody's hand; a file that is no page is named, for there is nothing to link to."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    page = (site / "index.html").read_text(encoding="utf-8")
    assert all(f'href="decisions/{each.stem}.html"' in page for each in decisions)
    everything = "".join(each.read_text(encoding="utf-8") for each in site.rglob("*.html"))
    assert "config/value-lists.yaml" in everything
    assert not re.findall(r'href="[^"]*\.\./config/', everything)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """It can be read where there is no internet, and tells nobody who reads it."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), page.name
        assert not re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//', text), page.name


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("sellers.md", "[gone](nowhere.md)", "nowhere.md"),
        ("sellers.md", "[gone](runbook.md#no-such-heading)", "no-such-heading"),
        ("forgotten.md", "# A page that no line of the navigation names", "forgotten.md"),
    ],
    ids=["a broken link", "a broken anchor", "a page that the navigation lacks"],
)
def test_a_mistake_in_the_docs_breaks_the_build(tmp_path: Path, name: str, text: str, told: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for each in ("mkdocs.yml", "mkdocs_hooks.py"):
        shutil.copy(ROOT / each, tmp_path / each)
    page = tmp_path / "docs" / name
    page.write_text(
        f"{page.read_text(encoding='utf-8') if page.exists() else ''}\n\n{text}\n", encoding="utf-8"
    )
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert told in done.stderr
