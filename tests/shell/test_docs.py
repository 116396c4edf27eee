"""The documentation tells the truth: events, modules, links and sizes are compared with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "cosell_sync"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LONGEST = 400
# Modules of more lines than that, each with the reason why it is one idea. The list may only shrink.
LONG = {
    "core/messages.py": "one short function for each sentence that a seller may read",
    "core/outcome.py": "what each kind of write teaches, whole, in part or with its answer lost",
    "sandbox/dataverse/actions.py": "one list of what people and admins do in the fake, each a few lines",
    "settings/model.py": "one line and one sentence for each key of the configuration",
    "ports.py": "every Protocol of the cycle, with the values that it takes and gives",
    "crm/dynamics/translate.py": "one opportunity with its related rows, read into our values and written from them",
}


def emitted() -> set[str]:
    """Every event name that the code may log: dotted literals given to a logger, directly or through a choice."""
    names: set[str] = set()
    for source in SOURCES:
        if "sandbox" in source.relative_to(PACKAGE).parts:
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
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    table = text.split("<!-- events")[1].split("<!-- /events -->")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", cell)}


def test_every_event_is_catalogued_and_every_entry_is_emitted() -> None:
    assert emitted() - {"library.message"} == catalogued() - {"library.message"}


def first_sentence(source: Path) -> str:
    """The first paragraph of a module's docstring, up to its first full stop, on one line."""
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("|", "\\|").removesuffix(".")


def listing() -> str:
    """The module table of docs/architecture.md: every module of the package with its sentence."""
    lines = ["| module | what it does |", "|---|---|"]
    for source in SOURCES:
        name = source.relative_to(PACKAGE).as_posix()
        if source.name == "__init__.py" or "migrations/versions" in name:
            continue
        lines.append(f"| `{name}` | {first_sentence(source)} |")
    return "\n".join(lines)


def test_every_module_has_its_sentence_in_the_architecture() -> None:
    """`.venv/bin/python tests/shell/test_docs.py` writes the table anew."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.split("<!-- modules -->\n")[1].split("\n<!-- /modules -->")[0] == listing()


def test_every_module_opens_with_a_sentence() -> None:
    silent = [
        str(source.relative_to(ROOT))
        for source in SOURCES
        if source.name != "__init__.py" and not first_sentence(source)
    ]
    assert silent == []


def test_no_module_grows_beyond_one_idea_unnoticed() -> None:
    long = {
        source.relative_to(PACKAGE).as_posix()
        for source in SOURCES
        if len(source.read_text(encoding="utf-8").splitlines()) > LONGEST
    }
    assert long - LONG.keys() == set(), "split these, or name each with its reason in LONG"
    assert LONG.keys() - long == set(), "these are short now: take them off LONG"


def test_the_runbook_knows_every_alert() -> None:
    rules = (ROOT / "config" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"alert: (\w+)", rules) if f"`{name}`" not in runbook] == []


def test_the_page_on_moving_names_fields_that_exist() -> None:
    """Ours stand in the example configuration, or are the child table; Dynamics has the same words."""
    page = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2:4] for line in page.splitlines() if "| `Cosell_" in line]
    known = (ROOT / "config" / "salesforce.yaml").read_text(encoding="utf-8")
    pairs = [tuple(re.findall(r"`(\w+)`", cell) for cell in row) for row in rows]
    assert len(pairs) >= 10
    for salesforce, dynamics in pairs:
        assert [name for name in salesforce if name not in known] == []
        assert dynamics == [
            name.removesuffix("__c").lower().replace("_", "").replace("cosell", "cosell_")
            for name in salesforce
        ]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [name for name in targets if "://" not in name and not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_and_test_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tests = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    paths = re.findall(r"`((?:tests|src|config|docs|benchmarks)/[\w./-]+)`", text)
    named = re.findall(r"`(test_\w+)`", text)
    modules = re.findall(
        r"`((?:core|cycle|crm|store|transport|cli|web|partner_center|settings)/[\w/]+\.py)`", text
    )
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing += [name for name in named if not any(f"def {name}(" in source for source in tests.values())]
    missing += [name for name in modules if not (PACKAGE / name).exists()]
    assert missing == []


if __name__ == "__main__":
    architecture = ROOT / "docs" / "architecture.md"
    before, rest = architecture.read_text(encoding="utf-8").split("<!-- modules -->\n")
    after = rest.split("\n<!-- /modules -->")[1]
    architecture.write_text(
        f"{before}<!-- modules -->\n{listing()}\n<!-- /modules -->{after}", encoding="utf-8"
    )
