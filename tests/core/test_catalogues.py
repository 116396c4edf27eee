"""Every sentence that a seller may read stands in every catalogue, and says nothing that only an admin understands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from catalogue_templates import PLACE, SOURCE, entries, missing, path_of, templates, translated, update
from test_messages import said

from cosell_sync import catalogues
from cosell_sync.catalogues import language, languages
from cosell_sync.core.texts import Text
from cosell_sync.errors import ConfigError
from cosell_sync.settings import known_keys

MOST = 255  # characters of a whole text, so that it fits where a CRM shows it in a list
SECTIONS = "|".join(sorted({key.split(".")[0] for key in known_keys() if "." in key}))
FORBIDDEN = re.compile(
    rf"\b(?:{SECTIONS})\.\w"  # settings
    r"|cosell-sync \w|\bdeals (?:list|show|link|create|unlink|retry|resolve|forget|approve|explain)\b"  # commands
    r"|\w__[cr]\b|\b\w+_\w+|--\w"  # API names, settings, options
    r"|\b(?:API|HTTP|JSON|OAuth|URL|Python|doctor|cycle|config\w*|provision)\b"
    r"|0x[0-9A-Fa-f]{6,}|\b[45]\d\d\b",
    re.IGNORECASE,
)
SPANISH_ALLOWED = "configuración"  # a plain word there


def test_there_is_a_catalogue_for_spanish() -> None:
    assert set(languages()) >= {"en", "es"}


@pytest.mark.parametrize("code", translated())
def test_every_text_is_said_in_every_language(code: str) -> None:
    lacking = missing(code)
    lines = "\n".join(f"  {template}" for template in lacking)
    assert not lacking, (
        f"{len(lacking)} texts have no translation in {path_of(code)}:\n{lines}\n"
        "Run `make messages`, which adds them with an empty msgstr, and fill these in."
    )


@pytest.mark.parametrize("code", translated())
def test_the_catalogue_is_up_to_date(code: str) -> None:
    path = path_of(code)
    before = path.read_bytes()
    try:
        update(code)
        assert path.read_bytes() == before, f"{path} is not what the program says; run `make messages`"
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("code", translated())
def test_a_translation_has_the_places_of_its_english(code: str) -> None:
    for each in entries(code).values():
        assert places(each.string) == places(each.id), f"{code}: {each.id}"
        assert [*Message(each.id, each.string, flags=["python-format"]).check()] == []


def places(template: str) -> list[str]:
    assert "%" not in PLACE.sub("", template).replace("%%", ""), template
    return sorted(set(PLACE.findall(template)))


def everything() -> Iterator[tuple[str, str]]:
    for template in templates():
        yield "en", template
    for code in translated():
        yield from ((code, each.string) for each in entries(code).values())


def test_no_setting_no_command_and_no_api_name_in_a_sellers_text() -> None:
    found = {
        text: match.group()
        for _, text in everything()
        if (match := FORBIDDEN.search(PLACE.sub("X", text).replace(SPANISH_ALLOWED, "")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "words", ["deals resolve", "mapping.fields", "Amount__c", "sync_state", "run cosell-sync login", "HTTP"]
)
def test_the_check_of_forbidden_words_can_fail(words: str) -> None:
    assert FORBIDDEN.search(f"Ask your administrator ({words}).")


@pytest.mark.parametrize("code", languages())
def test_texts_are_short(code: str) -> None:
    spoken = language(code)
    long = {when: len(spoken.say(text)) for when, text in said() if len(spoken.say(text)) > MOST}
    assert long == {}


def test_every_message_can_be_said_in_another_language() -> None:
    assert [text for _, text in said() if not isinstance(text, Text)] == []


@pytest.mark.parametrize(
    "module", ["messages", "limits", "losses", "requirements", "lifecycle", "visibility", "accounts"]
)
def test_what_these_modules_say_is_a_text(module: str) -> None:
    """A plain string that is returned to a seller's sentence would stay English: write ``Text("…")``."""
    tree = ast.parse((SOURCE / "core" / f"{module}.py").read_text(encoding="utf-8"))
    plain = [
        f"core/{module}.py:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Return)
        and (
            isinstance(node.value, ast.JoinedStr)
            or (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))
        )
    ]
    assert plain == []


def test_every_record_is_told_in_the_configured_language() -> None:
    calls = [
        (path.name, node.lineno, ast.unparse(node))
        for path in sorted((SOURCE / "cycle").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "status_report"
    ]
    assert calls
    assert [call for call in calls if not call[2].endswith("cycle.language)")] == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path)
    languages.cache_clear()
    catalogues.catalogue.cache_clear()
    yield tmp_path
    languages.cache_clear()
    catalogues.catalogue.cache_clear()


def put(folder: Path, code: str, text: str) -> None:
    path = folder / code / catalogues.FILE
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")


def test_a_language_is_added_by_a_file(folder: Path) -> None:
    put(folder, "de", 'msgid "The CRM"\nmsgstr "Das CRM"\n\n#, fuzzy\nmsgid "won"\nmsgstr "verloren"\n')
    assert languages() == ("en", "de")
    german = language("de")
    assert (german.say(Text("The CRM")), german.say(Text("won"))) == (
        "Das CRM",
        "won",
    )  # a doubtful one is not said


def test_a_catalogue_that_cannot_be_read_is_named(folder: Path) -> None:
    put(folder, "de", "msgid The CRM\n")
    with pytest.raises(ConfigError, match=r"mapping.language: the catalogue .*cosell_sync.po cannot be read"):
        language("de")
