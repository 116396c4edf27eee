"""What the docs need to become a site: pages are written for the repository, where they may link to files beside them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\(((?!\w+:)[^)#\s]*)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Leave out the pages that are not there yet, and list every decision under its own heading."""
    docs = Path(config["docs_dir"])
    decisions = sorted((docs / "decisions").glob("*.md"))
    pages = [{_heading(each): f"decisions/{each.name}"} for each in decisions]
    config["nav"] = [*_present(config["nav"], docs), {"Decisions": pages}]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - mkdocs calls by name
    """Links to what is no page of the site (a file of the repository, a folder) become the name of that file."""
    folder = posixpath.dirname(page.file.src_uri)

    def put(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        inside = path.startswith("docs/") and (not target or target.endswith(".md"))
        if inside or not target:
            return found[0]
        return text if path in text else f"{text} (`{path}`)"

    return _LINK.sub(put, markdown)


def _present(nav: list[Any], docs: Path) -> list[Any]:
    """The navigation without pages that do not exist."""
    kept: list[Any] = []
    for entry in nav:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: _present(target, docs)})
        elif (docs / target).exists():
            kept.append(entry)
    return kept


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").replace("`", "").strip()
