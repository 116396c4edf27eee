"""A text for sellers as a value: its English template with what is filled in, so that it can be said in any language.

``Text`` is a ``str``, the sentence in English. What a seller reads is made of it at the very end, by ``Language.say``, from
the same template in that language. A template is an English sentence with gettext's named places: ``Sent to Partner Center:
%(fields)s.`` Catalogues are files (``cosell_sync.catalogues``); here they are mappings, so nothing is read.

What may be filled in: texts, numbers, moments (``Day`` where the day is enough) and tuples, which are listed. What else a
deal is made of (``messages.shown``) becomes one of these. A plain ``str`` is somebody's own word, a label or a name, and
stays as it is in every language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal, localcontext
from functools import cache, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cosell_sync.core.frozen import replace

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ENGLISH: Final = "en"


@dataclass(frozen=True)
class Day:
    """A moment of which only the day is said."""

    moment: datetime


Part = str | int | Decimal | datetime | date | Day | tuple[Any, ...]  # a tuple of parts


class Text(str):
    """A sentence, or words in one. Equal to its English. ``template`` must be a literal where it is made: it is extracted."""

    template: str
    values: Mapping[str, Part]

    def __new__(cls, template: str, /, **values: Part) -> Text:
        made = super().__new__(cls, _filled(template, values, PLAIN))
        made.template, made.values = template, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Part]]:
        return (self.template,), dict(self.values)

    def each_word(self, change: Callable[[str], str]) -> Text:
        """The same with every word of somebody's own changed."""
        return Text(self.template, **{name: _changed(part, change) for name, part in self.values.items()})


def _changed(part: Part, change: Callable[[str], str]) -> Part:
    match part:
        case Text():
            return part.each_word(change)
        case str():
            return change(part)
        case tuple():
            return tuple(_changed(each, change) for each in part)
        case _:
            return part


def sentences(*texts: str, between: str = " ") -> Text:
    """Several texts as one, one after the other; empty ones are left out."""
    parts = {f"part{number}": text for number, text in enumerate(filter(None, texts), start=1)}
    return Text(between.join(f"%({name})s" for name in parts), **parts)


@dataclass(frozen=True)
class Language:
    """How texts are said. The default: English, days as ``12 Dec 2026``, moments in UTC.

    ``catalogue``: template → the same in this language; a template that it lacks is said in English. ``region``: where the
    CRM's people live, two letters as in a locale, for the form of dates and numbers; empty where it is not known.
    ``zone``: that their moments are told in.
    """

    code: str = ENGLISH
    catalogue: Mapping[str, str] = field(default_factory=dict, repr=False)
    region: str = ""
    zone: tzinfo = UTC

    def say(self, text: str) -> str:
        """The text in this language; a plain ``str`` is nobody's template and stays as it is."""
        if not isinstance(text, Text):
            return text
        return _filled(self.catalogue.get(text.template, text.template), text.values, self)

    def of(self, region: str, zone: str) -> Language:
        """The same for people of that region and time zone; empty or unknown ones change nothing."""
        return replace(self, region=region or self.region, zone=_known_zone(zone) or self.zone)

    @property
    def _locale(self) -> str:
        """The locale's name as babel knows it; empty: English without a region, which needs no library."""
        return _known_locale(self.code, self.region)

    def number(self, number: Decimal | int) -> str:
        """With as many decimals as it has; one, which amounts read from JSON have, is written as two."""
        if isinstance(number, Decimal) and number.as_tuple().exponent == -1:
            number = Decimal((number.as_tuple().sign, (*number.as_tuple().digits, 0), -2))
        if not self._locale:
            return f"{number:,f}" if isinstance(number, Decimal) else f"{number:,d}"
        from babel.numbers import format_decimal  # noqa: PLC0415 - English without a region does without

        decimals = max(0, -int(number.as_tuple().exponent)) if isinstance(number, Decimal) else 0
        shape = "#,##0" + ("." + "0" * decimals if decimals else "")
        with localcontext(
            prec=max(28, Decimal(number).adjusted() + 2 + decimals)
        ):  # babel rounds, for which 28 digits are too few for some
            return format_decimal(number, shape, locale=self._locale)

    def day(self, day: date) -> str:
        """A day by the calendar; of a moment the day in this zone."""
        if isinstance(day, datetime):
            day = day.astimezone(self.zone).date()
        if not self._locale:
            return f"{day.day} {_MONTHS[day.month - 1]} {day.year:04d}"
        return _day(day, self._locale)

    def minute(self, moment: datetime) -> str:
        """To the minute, with the zone's name."""
        there = moment.astimezone(self.zone)
        if not self._locale:
            clock = f"{there:%H:%M}"
        else:
            from babel.dates import format_time  # noqa: PLC0415

            clock = format_time(there.time(), "short", locale=self._locale)
        return f"{self.day(moment)}, {clock} {there:%Z}"

    def listed(self, parts: tuple[Part, ...]) -> str:
        """One, two or more of them, each once: ``A``, ``A and B``, ``A, B and C``."""
        *others, last = list(dict.fromkeys(_said(part, self) for part in parts)) or [""]
        if not others:
            return last
        return self.say(Text("%(others)s and %(last)s", others=", ".join(others), last=last))


PLAIN: Final = Language()


@cache
def _known_zone(name: str) -> tzinfo | None:
    if not name:
        return None
    if name in {"GMT", "UTC", "Etc/GMT", "Etc/UTC"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return None


@lru_cache(maxsize=1000)  # the deals of a time share their days
def _day(day: date, locale: str) -> str:
    from babel.dates import format_date  # noqa: PLC0415

    return format_date(day, "medium", locale=locale)


@cache
def _known_locale(code: str, region: str) -> str:
    if code == ENGLISH and not region:
        return ""
    from babel import localedata  # noqa: PLC0415

    return next((name for name in (f"{code}_{region}", code) if localedata.exists(name)), ENGLISH)


def _said(part: Part, language: Language) -> str:
    match part:
        case str():
            return language.say(part)
        case Day():
            return language.day(part.moment)
        case datetime():
            return language.minute(part)
        case date():
            return language.day(part)
        case tuple():
            return language.listed(part)
        case _:
            return language.number(part)


def _filled(template: str, values: Mapping[str, Part], language: Language) -> str:
    return template % {name: _said(part, language) for name, part in values.items()} if values else template
