"""Which characters a column takes, how its length is counted, and that a cut leaves nothing in halves."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.text_limits import blank, cut, fit, line, lines, units

ROCKET = "\N{ROCKET}"
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
GERMANY = "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}"
WALES = "\N{WAVING BLACK FLAG}" + "".join(chr(0xE0000 + ord(each)) for each in "gbwls") + "\U000e007f"
ANYTHING = st.text(
    st.one_of(
        st.characters(), st.characters(codec="ascii"), st.sampled_from("\v\f\0\r\n\t \u200b\u200d\ufe0f\u0301" + ROCKET + GERMANY)
    )
)  # fmt: skip


def test_an_emoji_counts_twice() -> None:
    assert units("n" * 118 + ROCKET * 3) == 124
    assert cut("n" * 118 + ROCKET * 3, 120) == "n" * 118 + ROCKET
    assert cut("n" * 119 + ROCKET, 120) == "n" * 119


@pytest.mark.parametrize(
    "whole",
    [ROCKET, FAMILY, GERMANY, WALES, "e\u0301", "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
     "\u2764\ufe0f", "\u1112\u1161\u11ab", "\u0e01\u0e33\u0e49"],
)  # fmt: skip
def test_what_people_see_as_one_character_is_cut_as_one(whole: str) -> None:
    for most in range(units("ab" + whole), 1, -1):
        assert cut("ab" + whole, most) in {"ab", "ab" + whole}


def test_of_two_flags_the_second_goes_whole() -> None:
    assert cut(GERMANY * 2, 7) == GERMANY
    assert cut("x" + GERMANY * 2, 6) == "x" + GERMANY


def test_a_character_longer_than_the_column_leaves_nothing() -> None:
    assert cut(FAMILY, 3) == ""


def test_breaks_of_word_processors_are_breaks_and_strays_go() -> None:
    assert lines("one\vtwo\fthree\r\nfour\rfive\x07\x00\ufffe\ud800") == "one\ntwo\nthree\nfour\nfive"
    assert line(" one\vtwo\x1f\n") == "one two"
    assert line("tab\tstays") == "tab\tstays"


def test_what_prints_goes_over_as_it_stands() -> None:
    """So that most texts need not be looked through: with a line feed behind it, which does not print, every text is."""
    printable = "".join(filter(str.isprintable, map(chr, range(0x110000))))
    assert lines(printable + "\n") == lines(printable) + "\n" == printable + "\n"
    assert line(printable + "\n") == line(printable)
    assert [each for each in printable if blank(each + "\n")] == [" "]


@pytest.mark.parametrize("text", ["", " ", "\u00a0\u2003", "\t\n\v", "\u200b", " \ufeff\u00ad\x07 "])
def test_what_nobody_sees_is_blank(text: str) -> None:
    assert blank(text)
    assert line(text) == ""


@given(ANYTHING, st.integers(1, 12))
def test_what_fits_is_left_to_the_letter_and_a_cut_is_made_once(text: str, most: int) -> None:
    short = fit(text, most)
    assert units(short) <= most
    assert fit(short, most) == short
    assert line(text).startswith(short)
    assert fit(text, None) == line(text)
    if units(line(text)) <= most:
        assert short == line(text)


@given(ANYTHING)
def test_what_is_left_is_xml_and_well_formed(text: str) -> None:
    for kept in (line(text), lines(text)):
        kept.encode("utf-16")
        assert not any(
            unicodedata.category(each) == "Cc" and each not in "\t\n\x7f" and each < "\x7f" for each in kept
        )
    assert lines(lines(text)) == lines(text)
