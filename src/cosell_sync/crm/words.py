"""What people read in a CRM's setup, in their language: labels, help texts, choices; and choices understood in any language.

Values stay English inside. On Salesforce they are English in the org too, only their labels are not; on Dynamics a choice is a
number with a label in each language of the environment, of which English may be none.
"""

from __future__ import annotations

import locale
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cosell_sync.core.texts import ENGLISH
from cosell_sync.crm.values import folded

Catalogue = Mapping[str, str]  # English → that language


def _no_catalogue(_code: str) -> Catalogue:
    return {}


def _no_lists() -> Mapping[str, Sequence[str]]:
    return {}


@dataclass(frozen=True)
class Words:
    """``language``: that sellers read. ``languages``: those with a catalogue; ``catalogue``: of a code, read when it is needed.

    ``lists``: our name → values of the lists that Microsoft renews, in their own words; read when they are needed.
    """

    language: str = ENGLISH
    languages: Sequence[str] = (ENGLISH,)
    catalogue: Callable[[str], Catalogue] = _no_catalogue
    lists: Callable[[], Mapping[str, Sequence[str]]] = _no_lists

    def __call__(self, text: str) -> str:
        """The text in the language that sellers read."""
        return self.catalogue(self.language).get(text, text)

    def speaks(self, lcid: int) -> bool:
        """Whether there is a catalogue for this language of Windows, or it is English."""
        return self._code(lcid) is not None

    def in_language(self, text: str, lcid: int) -> str:
        """The text in a language of Windows; where there is no catalogue for that, in the one that sellers read."""
        code = self._code(lcid)
        return self(text) if code is None else self.catalogue(code).get(text, text)

    def reads(self, lcid: int) -> bool:
        """Whether this language of Windows is the one that sellers read."""
        return self.language in _names(lcid)

    def all_of(self, text: str) -> frozenset[str]:
        """The text in every language."""
        return frozenset({text, *(self.catalogue(code).get(text, text) for code in self.languages)})

    def english(self, values: Collection[str], labels: Iterable[str]) -> str | None:
        """The one of our values that these labels of a choice stand for; None where it is none, or more than one."""
        wanted = {folded(each) for each in labels}
        ours = {each for each in values if folded(each) in wanted}
        ours = ours or {
            each
            for code in self.languages
            for each in values
            if folded(self.catalogue(code).get(each, each)) in wanted
        }
        return ours.pop() if len(ours) == 1 else None

    def _code(self, lcid: int) -> str | None:
        return next((name for name in _names(lcid) if name in self.languages), None)


ENGLISH_WORDS: Final = Words()


def _names(lcid: int) -> tuple[str, ...]:
    """Codes of a language of Windows, the narrower first: 3082 is ``es_es`` and ``es``."""
    name = locale.windows_locale.get(lcid, "")
    return (name, name.lower(), name.partition("_")[0]) if name else ()


def region_of(locale_name: str) -> str:
    """The country in the name of a locale: ``MX`` of ``es_MX``; empty where it names none."""
    parts = locale_name.replace("-", "_").split("_")[1:]
    return next((part for part in parts if len(part) == 2 and part.isalpha() and part.isupper()), "")


def region_of_lcid(lcid: object) -> str:
    """The country of a locale of Windows; empty where it is not known."""
    return region_of(locale.windows_locale.get(lcid, "")) if isinstance(lcid, int) else ""
