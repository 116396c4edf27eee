"""Countries and currencies as people write them, and whether a code is one; pure.

A CRM without address picklists holds a country as whatever somebody typed: two letters, three, a name in any language. It
is read as two letters (ISO 3166-1) where that is certain; everything else stays as it stands, so that nobody takes it for
empty, and is never sent as a code. Where from, the first that knows the text:

    codes          two or three letters that ISO lists, and Kosovo's XK, which it leaves to its users      pycountry
    English        ISO's names (common, official) and those of Unicode's CLDR                              pycountry, babel
    as spoken      `SPOKEN`: what neither library has
    any language   both in `LANGUAGES`; a name that two countries share is nobody's                      pycountry, babel

Case, accents, dots, hyphens, apostrophes and "the" do not count. Tables are made when they are first needed, not on import,
for they take time: the first three 0.1 s and 11 MB, the last another 0.27 s and 46 MB, which only CRMs that speak something
else than English ever pay (one of two busy cores, 2026; all 1,147 locales of CLDR take 2.7 s and 180 MB, hence a list).
"""

from __future__ import annotations

import gettext
import pickle
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

KOSOVO: Final = "XK"
# Former names, short names and parts that people write for the whole.
SPOKEN: Final = """
AE UAE|BO Bolivia|BN Brunei|CD DR Congo|CD DRC|CD Zaire|CI Ivory Coast|CV Cape Verde|CZ Czech Republic|FK Falklands
FM Micronesia|GB UK|GB Great Britain|GB Britain|GB England|GB Scotland|GB Wales|GB Northern Ireland|HK Hong Kong SAR
HK Hongkong|IR Iran|KP Korea, Democratic People's Republic of|KR Korea|KR Republic of Korea|LA Laos|LY Libyan Arab Jamahiriya
MK Macedonia|MK Macedonia, the former Yugoslav Republic of|MM Burma|MO Macau|MO Macau SAR|MO Macao SAR|NL Holland
PS Palestine|RU Russia|SY Syria|SZ Swaziland|TL East Timor|TR Turkey|TZ Tanzania|US U.S.|US USA|US United States of America
US America|VA Vatican|VA Vatican City|VA Holy See (Vatican City State)|XK XKX|XK Republic of Kosovo
"""
# Every language with more than a few CRM users, and those of the countries where deals are registered.
LANGUAGES: Final = (
    "es", "de", "fr", "it", "pt", "nl", "pl", "cs", "sv", "da", "no", "nb_NO", "fi", "ja", "zh", "zh_CN", "ko", "tr", "ru", "ar",
    "zh_Hant", "zh_TW", "pt_PT", "pt_BR", "es_419", "es_MX", "fr_CA", "de_CH", "nn",
    "bg", "el", "et", "he", "hr", "hu", "id", "lt", "lv", "ro", "sk", "sl", "th", "uk", "vi",
)  # fmt: skip
# Of ISO 4217, what is no money: metals, units of account, tests, and "no currency".
_NO_MONEY: Final = frozenset(
    ("XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX")
)
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_DROPPED: Final = re.compile(r"['`.\u2018\u2019\u02bb\u00b4]")
_GAPS: Final = re.compile(r"[\s\-,;:/()&\u2010-\u2014\uff08\uff09]+")


def country_code(text: object) -> str | None:
    """Two letters for a code or a name that is certain; anything else as it stands; None where there is nothing."""
    if not isinstance(text, str) or not (bare := " ".join(text.split())):
        return None
    plain = bare.isascii() and (len(bare) == 2 or bare.isupper() or bare.islower())
    code = _by_code().get(bare.upper()) if plain else None  # "Nga" and "Áo" are names, of Russia and Austria
    return code or _english().get(key := _folded(bare)) or _any_language().get(key) or bare


def is_country(code: object) -> bool:
    """Whether it is a country's code, in capitals: what Partner Center takes."""
    return isinstance(code, str) and code in _codes()


def is_currency(code: object) -> bool:
    """Whether it is a currency's code (ISO 4217), in capitals."""
    return isinstance(code, str) and code in _currencies()


@cache
def _codes() -> frozenset[str]:
    from pycountry import countries  # noqa: PLC0415 - 50 ms that commands without a deal need not wait for

    return frozenset({KOSOVO, *(each.alpha_2 for each in countries)})


@cache
def _currencies() -> frozenset[str]:
    from pycountry import currencies  # noqa: PLC0415

    return frozenset(each.alpha_3 for each in currencies) - _NO_MONEY


@cache
def _by_code() -> Mapping[str, str]:
    """Two and three letters."""
    from pycountry import countries  # noqa: PLC0415

    return {code: code for code in _codes()} | {each.alpha_3: each.alpha_2 for each in countries}


@cache
def _english() -> Mapping[str, str]:
    """Names that English is sure of, folded."""
    found = {_folded(name): code for code, name in _cldr("en")}
    found |= {
        _folded(entry[3:]): entry[:2] for row in SPOKEN.strip().splitlines() for entry in row.split("|")
    }
    found |= {_folded(name): code for code, name in _iso()}
    return found


@cache
def _any_language() -> Mapping[str, str]:
    """Names in other languages, folded; without those that mean two countries."""
    meant: defaultdict[str, set[str]] = defaultdict(set)
    for name, code in {
        (name, code) for each in LANGUAGES for code, name in (*_cldr(each), *_translated(each))
    }:
        meant[_folded(name)].add(code)
    return {name: codes.pop() for name, codes in meant.items() if len(codes) == 1}


def _iso() -> Iterator[tuple[str, str]]:
    """Code and each of its names; "Korea, Republic of" the other way round too."""
    from pycountry import countries  # noqa: PLC0415

    for each in countries:
        for name in _names(each):
            yield each.alpha_2, name
            head, comma, tail = name.partition(", ")
            if comma:
                yield each.alpha_2, f"{tail} {head}"


def _names(country: Any) -> list[str]:
    found = (getattr(country, name, None) for name in ("name", "common_name", "official_name"))
    return [name for name in found if name]


def _translated(language: str) -> Iterator[tuple[str, str]]:
    """ISO's names in that language, as the translators of iso-codes have them; not there for every language."""
    from pycountry import LOCALES_DIR, countries  # noqa: PLC0415

    if not gettext.find("iso3166-1", LOCALES_DIR, [language]):
        return
    spoken = gettext.translation("iso3166-1", LOCALES_DIR, [language]).gettext
    for each in countries:
        for name in _names(each):
            yield each.alpha_2, spoken(name)


def _cldr(language: str) -> Iterable[tuple[str, str]]:
    """Countries by code as CLDR names them in that language; a region's file holds what differs there."""
    from babel import localedata  # noqa: PLC0415

    if not localedata.exists(language):
        return []
    # Not by `localedata.load`, which would keep the part that a region's file holds for everybody who asks for that region.
    with Path(localedata.resolve_locale_filename(language)).open("rb") as file:
        named = pickle.load(file).get("territories", {})  # noqa: S301 - a file of the library
    return [(code, name) for code, name in named.items() if code in _codes() and isinstance(name, str)]


def _folded(name: str) -> str:
    """For comparing: without case, accents, signs, and "the" in front."""
    bare = (
        name.lower() if name.isascii() else _ACCENTS.sub("", unicodedata.normalize("NFKD", name)).casefold()
    )
    words = _GAPS.sub(" ", _DROPPED.sub("", _ACCENTS.sub("", bare))).split()
    return " ".join(words[1:] if words[:1] == ["the"] and len(words) > 1 else words)
