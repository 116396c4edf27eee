"""Countries and currencies as people write them: understood where they are certain, left as they stand where not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cosell_sync.core.countries import country_code, is_country, is_currency


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("DE", ["DE", "de", "DEU", "Germany", " germany ", "Deutschland", "Alemania", "Allemagne", "Bundesrepublik Deutschland", "Германия", "ドイツ", "德国"]),
        ("US", ["US", "USA", "U.S.A.", "U.S.", "united  states", "United States of America", "Estados Unidos", "États-Unis", "Vereinigte Staaten von Amerika"]),
        ("GB", ["GBR", "UK", "U.K.", "Great Britain", "England", "Scotland", "Reino Unido", "Vereinigtes Königreich", "영국"]),
        ("NL", ["Pays-Bas", "The Netherlands", "Holland", "Nederland", "Países Bajos"]),
        ("CW", ["Curaçao", "curacao", "CURAC\u0327AO"]),
        ("TR", ["Türkiye", "TÜRKİYE", "turkiye", "Turkey", "Turquie"]),
        ("HK", ["Hong Kong", "Hong Kong SAR", "Hong Kong SAR China", "HKG", "Sonderverwaltungsregion Hongkong", "中國香港特別行政區"]),
        ("MO", ["Macau", "Macao SAR China"]),
        ("CI", ["Côte d'Ivoire", "Côte d\u2019Ivoire", "Cote dIvoire", "Ivory Coast", "Costa d'Avorio"]),
        ("KR", ["Korea", "South Korea", "Korea, Republic of", "Republic of Korea", "대한민국"]),
        ("KP", ["North Korea", "Korea, Democratic People's Republic of"]),
        ("VN", ["Viet Nam", "Vietnam", "Việt Nam"]),
        ("XK", ["XK", "Kosovo", "XKX"]),
        ("CG", ["Congo", "Congo - Brazzaville", "Republic of the Congo"]),
        ("CD", ["Congo, the Democratic Republic of the", "The Democratic Republic of the Congo", "DRC", "Congo-Kinshasa"]),
        ("NO", ["Norge", "Noreg", "Noruega"]),
        ("RU", ["Russian Federation", "Россия", "Nga"]),
        ("AT", ["Österreich", "OSTERREICH", "Áo"]),
        ("VI", ["Virgin Islands, U.S.", "U.S. Virgin Islands"]),
        ("BA", ["Bosnia and Herzegovina", "Bosnia & Herzegovina", "Bosnien und Herzegowina"]),
        ("CZ", ["Czech Republic", "Czechia", "Česko", "Tschechische Republik", "République tchèque", "República Checa"]),
        ("MK", ["Macedonia, the former Yugoslav Republic of", "North Macedonia"]),
    ],
)  # fmt: skip
def test_names_and_codes_are_understood(code: str, names: list[str]) -> None:
    assert {name: country_code(name) for name in names} == dict.fromkeys(names, code)


@pytest.mark.parametrize(
    "text", ["EL", "EU", "XX", "ZZ", "AN", "EEU", "EUR", "Freedonia", "Kongo", "D1", "Suisse/Schweiz", "-"]
)
def test_what_is_no_country_or_two_stays_as_it_stands(text: str) -> None:
    """Kongo is one Congo in Polish and the other in Norwegian; EL is Greece to the European Union only."""
    assert country_code(text) == text
    assert not is_country(text)


@pytest.mark.parametrize("text", ["", "  ", None, 49, True])
def test_nothing_is_no_country(text: object) -> None:
    assert country_code(text) is None
    assert not is_country(text)


def test_a_code_is_what_iso_lists() -> None:
    assert all(map(is_country, ("DE", "XK", "HK", "CW")))
    assert not any(map(is_country, ("de", "UK", "EL", "EU", "DEU", None)))
    assert all(map(is_currency, ("EUR", "XOF", "JPY")))
    assert not any(map(is_currency, ("eur", "XXX", "XAU", "ABC", "DEM", "", None)))


def test_no_command_waits_for_the_tables() -> None:
    """The libraries are loaded with the first country, not with the program."""
    code = "import sys, cosell_sync.cli.main; print(sorted({'babel', 'pycountry'} & sys.modules.keys()))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
