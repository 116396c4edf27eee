"""The languages that sellers may read: one gettext catalogue each, `locale/LANGUAGE/LC_MESSAGES/cosell_sync.po`.

A `.po` file is read as it is, so adding a language is adding a file, in a checkout as in an installed package; nothing is
compiled. English is the language of the templates and needs none. docs/languages.md tells how a language is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from cosell_sync.core.texts import ENGLISH, Language
from cosell_sync.errors import ConfigError

LOCALE: Final = Path(__file__).parent / "locale"
FILE: Final = Path("LC_MESSAGES") / "cosell_sync.po"


@cache
def languages() -> tuple[str, ...]:
    """The codes that `mapping.language` may have: English, and each with a catalogue."""
    found = (each.parent.parent.name for each in LOCALE.glob(f"*/{FILE.as_posix()}"))
    return (ENGLISH, *sorted(each for each in found if each != ENGLISH))


@cache
def catalogue(code: str) -> Mapping[str, str]:
    """English → that language, of what is translated; empty for English. Raises `ConfigError` for a file that cannot be read."""
    if code == ENGLISH:
        return {}
    from babel.messages.pofile import PoFileError, read_po  # noqa: PLC0415 - English needs no library

    path = LOCALE / code / FILE
    try:
        with path.open("rb") as file:
            entries = list(read_po(file, locale=None, abort_invalid=True))
    except (OSError, PoFileError, ValueError) as error:
        raise ConfigError(f"mapping.language: the catalogue {path} cannot be read: {error}") from error
    return {
        each.id: each.string
        for each in entries
        if isinstance(each.id, str)
        and isinstance(each.string, str)
        and each.id
        and each.string
        and not each.fuzzy
    }


def language(code: str) -> Language:
    """How texts are said in this language. Raises `ConfigError` for a catalogue that cannot be read."""
    return Language(code, catalogue(code))
