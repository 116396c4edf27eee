"""What a text column of another system can hold: which characters, how many of them, and what counts as nothing; pure.

Alphabet. A row that travels as XML anywhere may hold the characters of XML 1.0 and no others. Dataverse refuses the rest
(`InvalidCharactersInField`), Salesforce takes it and then breaks every SOAP reader of that row. A vertical tab or a form
feed is what word processors and slides put for a line break, so it becomes one; every other stray is dropped.
https://www.w3.org/TR/xml/#charsets

Length. Both CRMs count UTF-16 code units: Dataverse columns are nvarchar, Salesforce counts as Apex and formulas do. An emoji
is two of them or more. A cut never leaves half a character: neither half a surrogate pair, nor a letter without its accent,
nor half of a flag or of a family.
https://learn.microsoft.com/sql/t-sql/data-types/nchar-and-nvarchar-transact-sql

Nothing. A text of white space, or of characters that nobody sees, is no text.

Each function is stable: applied to its own result it changes nothing, so that what was cut once reads back as agreed.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_BREAKS: Final = re.compile("\r\n|[\r\n\v\f\x85\u2028\u2029]")
_STRAYS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Invisible, and yet no white space: zero-width space, word joiner, byte order mark, soft hyphen.
_UNSEEN: Final = "\u200b\u2060\ufeff\u00ad"
_NOT_SEEN: Final = dict.fromkeys(map(ord, _UNSEEN))
_ZWJ: Final = "\u200d"


# None of these characters is printable as Python counts, nor is any white space but the blank. So a printable text, as most
# are, has nothing to drop or to replace.


def blank(text: str) -> bool:
    """Whether nobody would see anything of it."""
    if not text.strip():
        return True
    return not text.isprintable() and not _STRAYS.sub("", text).translate(_NOT_SEEN).strip()


def lines(text: str) -> str:
    """The text with line feeds between its lines, and nothing that a column refuses."""
    return text if text.isprintable() else _STRAYS.sub("", _BREAKS.sub("\n", text))


def line(text: str) -> str:
    """The text as one line, without blanks around it; empty where there is nothing to see."""
    if text.isprintable():
        return text.strip()
    return "" if blank(text) else _STRAYS.sub("", _BREAKS.sub(" ", text)).strip()


def units(text: str) -> int:
    """Its length in UTF-16 code units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, most: int) -> str:
    """As much of the beginning as fits ``most`` code units, whole characters as people see them, no blanks at the end."""
    if units(text) <= most:
        return text
    end = used = 0
    for end, letter in enumerate(text):  # noqa: B007 - where it stopped
        used += units(letter)
        if used > most:
            break
    while end and _joined(text, end):
        end -= 1
    return text[:end].rstrip()


def fit(text: str, most: int | None) -> str:
    """One line, cut to ``most`` code units where there is a limit."""
    whole = text.strip() if text.isprintable() else line(text)
    return line(cut(whole, most)) if most and units(whole) > most else whole


def _joined(text: str, at: int) -> bool:
    """Whether what stands before and after this place is one character to the eye (the common cases of UAX 29).

    https://www.unicode.org/reports/tr29/#Grapheme_Cluster_Boundaries
    """
    before, after = text[at - 1], text[at]
    if unicodedata.category(after)[0] == "M" or _ZWJ in {before, after}:
        return True
    if (
        "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f"
    ):  # skin tones, tags of flags
        return True
    if "\u1160" <= after <= "\u11ff" or after in "\u0e33\u0eb3":  # later letters of Hangul; Thai and Lao am
        return True
    if _regional(after) and _regional(before):
        run = 0
        while at - run - 1 >= 0 and _regional(text[at - run - 1]):
            run += 1
        return run % 2 == 1
    return False


def _regional(letter: str) -> bool:
    return "\U0001f1e6" <= letter <= "\U0001f1ff"
