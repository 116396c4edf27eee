"""A text for sellers is one value that can be said in any language, with dates and numbers as its readers write them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from cosell_sync.core import as_json, messages
from cosell_sync.core.deal import State
from cosell_sync.core.memory import Memory
from cosell_sync.core.rules import CrmShape, Rules, digest
from cosell_sync.core.texts import PLAIN, Day, Language, Text, sentences
from cosell_sync.store.serialize import from_memory, to_memory

MOMENT = datetime(2026, 12, 12, 3, 5, tzinfo=UTC)
CATALOGUE = {
    "Sent: %(fields)s.": "Enviado: %(fields)s.",
    "%(others)s and %(last)s": "%(others)s y %(last)s",
    "won": "ganada",
}
SPANISH = Language("es", CATALOGUE)


def test_a_text_is_its_english() -> None:
    text = Text("Sent: %(fields)s.", fields=("Amount", "Name", "Amount"))
    assert text == "Sent: Amount and Name."
    assert SPANISH.say(text) == "Enviado: Amount y Name."


def test_what_is_filled_in_is_said_in_the_language_too_and_labels_stay() -> None:
    text = Text("Sent: %(fields)s.", fields=(Text("won"), "won"))
    assert SPANISH.say(text) == "Enviado: ganada y won."


def test_what_a_catalogue_lacks_is_said_in_english() -> None:
    assert SPANISH.say(Text("New: %(field)s", field=Text("won"))) == "New: ganada"
    assert SPANISH.say("somebody's own words: 100%") == "somebody's own words: 100%"


def test_several_sentences_are_one_text() -> None:
    text = sentences(Text("Sent: %(fields)s.", fields=("A",)), "", Text("won"), between="\n")
    assert text == "Sent: A.\nwon"
    assert SPANISH.say(text) == "Enviado: A.\nganada"


@pytest.mark.parametrize(
    ("code", "region", "zone", "said"),
    [
        ("en", "", "", "12 Dec 2026 | 12 Dec 2026, 03:05 UTC | 1,234,567.60"),
        ("en", "GB", "Europe/London", "12 Dec 2026 | 12 Dec 2026, 03:05 GMT | 1,234,567.60"),
        ("en", "US", "America/New_York", "Dec 11, 2026 | Dec 11, 2026, 10:05\u202fPM EST | 1,234,567.60"),
        ("en", "DE", "Europe/Berlin", "12 Dec 2026 | 12 Dec 2026, 04:05 CET | 1.234.567,60"),
        ("es", "", "", "12 dic 2026 | 12 dic 2026, 3:05 UTC | 1.234.567,60"),
        ("es", "ES", "Europe/Madrid", "12 dic 2026 | 12 dic 2026, 4:05 CET | 1.234.567,60"),
        ("es", "MX", "America/Mexico_City", "11 dic 2026 | 11 dic 2026, 9:05\u202fp.m. CST | 1,234,567.60"),
        ("en", "XX", "Mars/Olympus", "Dec 12, 2026 | Dec 12, 2026, 3:05\u202fAM UTC | 1,234,567.60"),
    ],
)
def test_dates_and_numbers_as_the_readers_write_them(code: str, region: str, zone: str, said: str) -> None:
    text = Text("%(a)s | %(b)s | %(c)s", a=Day(MOMENT), b=MOMENT, c=Decimal("1234567.60"))
    now = Language(code).of(region, zone).say(text)
    assert now.replace("\u202f", " ").replace("\xa0", " ") == said.replace("\u202f", " ")


@pytest.mark.parametrize(
    "number", [9 * 10**40, -(10**28), Decimal(10) ** 29, Decimal("1e-30"), Decimal("-1.5e27")]
)
def test_a_number_of_any_size_can_be_said(number: Decimal | int) -> None:
    english = PLAIN.number(number)
    assert Language("en").of("GB", "").number(number) == english
    assert Language("es").number(number).translate(str.maketrans(".,", ",.")) == english


@pytest.mark.parametrize(
    ("number", "said"), [("777.0", "777.00"), ("-0.5", "-0.50"), ("84000", "84,000"), ("1.125", "1.125")]
)
def test_an_amount_has_no_single_decimal(number: str, said: str) -> None:
    """JSON reads 777.00 as 777.0."""
    assert PLAIN.number(Decimal(number)) == said
    assert Language("es").number(Decimal(number)) == said.translate(str.maketrans(".,", ",."))


def test_a_close_date_is_the_same_day_everywhere() -> None:
    text = Text("%(day)s", day=date(2026, 12, 12))
    assert Language().of("", "Pacific/Kiritimati").say(text) == "12 Dec 2026"


EVERY_PART = Text(
    "%(a)s %(b)s %(c)s %(d)s %(e)s %(f)s %(g)s",
    a="A", b=Text("won"), c=Decimal("5.10"), d=MOMENT, e=Day(MOMENT), f=date(2026, 3, 9), g=("A", Text("won")),
)  # fmt: skip


@pytest.mark.parametrize("text", ["plain, of an earlier version", Text("won"), EVERY_PART])
def test_stored_and_read_again_it_can_still_be_said_in_any_language(text: str) -> None:
    again = as_json.text_from_json(json.loads(json.dumps(as_json.text_to_json(text))))
    assert again == text
    assert SPANISH.say(again) == SPANISH.say(text)


def test_news_and_failures_keep_their_templates_in_the_store() -> None:
    news = messages.moved(State.WON, "Other")
    memory = to_memory(json.loads(json.dumps(from_memory(Memory(notices=(news, "old"))))))
    assert memory == Memory(notices=(news, "old"))
    assert isinstance(memory.notices[0], Text)


def test_a_copy_keeps_the_template() -> None:
    assert SPANISH.say(copy.deepcopy(EVERY_PART)) == SPANISH.say(EVERY_PART)


def test_a_word_of_somebodys_own_can_be_taken_out() -> None:
    text = Text("Sent: %(fields)s.", fields=("Ann Lee", Text("won"), Text("x %(name)s", name="Ann Lee")))
    assert (
        SPANISH.say(text.each_word(lambda word: word.replace("Ann Lee", "-"))) == "Enviado: -, ganada y x -."
    )


def test_a_new_word_for_a_field_or_another_region_decides_no_deal_anew() -> None:
    """Else every record would be written as soon as somebody renames a column or changes the language."""
    shape = CrmShape(frozenset({"name"}), {}, labels={"name": "Name"})
    other = replace(
        shape, labels={"name": "Nombre"}, choices={"action": {"Accept": "Aceptar"}}, region="ES", zone="UTC"
    )
    assert digest(Rules({}), shape) == digest(Rules({}), other)
    assert digest(Rules({}), shape) != digest(Rules({}), replace(shape, scale=0))
