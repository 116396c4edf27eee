"""Pairs are stable: writing and reading back changes nothing more; agreement is judged by what each side can store."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from deals import SHAPE
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import ABSENT, Customer, Member, Solution, Value
from cosell_sync.core.fields import KINDS, SHARED, Kind
from cosell_sync.core.normalize import agree, clean_notes, empty, for_crm, for_referral, same
from cosell_sync.core.rules import CrmShape

TEXT = st.text(alphabet="ab \n\r\t", max_size=14)


WEIRD: dict[Kind, st.SearchStrategy[Value]] = {
    Kind.TEXT: st.none() | TEXT,
    Kind.NOTES: st.none() | st.text(alphabet="ab \n\r", max_size=60),
    Kind.NUMBER: st.none() | st.decimals(-1000, 1000, places=4),
    Kind.DATE: st.none() | st.dates(),
    Kind.MOMENT: st.none() | st.datetimes(timezones=st.just(UTC)),
    Kind.FLAG: st.none() | st.booleans(),
    Kind.MEMBERS: st.lists(st.builds(Member, st.sampled_from(["a@x", "b@x"])), max_size=2).map(tuple),
    Kind.SOLUTIONS: st.lists(st.builds(Solution, st.sampled_from(["S1", "S2"])), max_size=2).map(tuple),
    Kind.CUSTOMER: st.none() | st.builds(Customer, st.sampled_from([None, "x"])),
}


ANY = st.sampled_from(sorted(KINDS)).flatmap(lambda name: st.tuples(st.just(name), WEIRD[KINDS[name]]))


@given(ANY)
def test_writing_and_reading_back_is_stable(case: tuple[str, Value]) -> None:
    """There, back and there again arrives where once there did."""
    name, value = case
    there = for_crm(name, value, SHAPE)
    assert same(KINDS[name], for_crm(name, there, SHAPE), there)
    assert same(KINDS[name], for_crm(name, for_referral(name, there, SHAPE), SHAPE), there)
    back = for_referral(name, value, SHAPE)
    assert same(KINDS[name], for_referral(name, back, SHAPE), back)


@given(ANY)
def test_what_was_carried_agrees(case: tuple[str, Value]) -> None:
    name, value = case
    assert agree(name, value, for_crm(name, value, SHAPE), SHAPE)
    held = for_crm(name, value, SHAPE)
    assert agree(name, for_referral(name, held, SHAPE), held, SHAPE)


@given(ANY, st.data())
def test_same_and_agree_are_symmetrical(case: tuple[str, Value], data: st.DataObject) -> None:
    """Of values that both sides can hold, it does not matter which side holds which."""
    name, one = case
    other = data.draw(WEIRD[KINDS[name]])
    assert same(KINDS[name], one, other) is same(KINDS[name], other, one)
    one, other = for_crm(name, one, SHAPE), for_crm(name, other, SHAPE)
    assert agree(name, one, other, SHAPE) is agree(name, other, one, SHAPE)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_not_known_agrees_with_nothing_known(name: str) -> None:
    """ABSENT is not None."""
    assert not agree(name, ABSENT, None, SHAPE)
    assert not agree(name, None, ABSENT, SHAPE)
    assert agree(name, ABSENT, ABSENT, SHAPE)


@pytest.mark.parametrize(
    ("name", "referral", "opportunity"),
    [
        ("name", "A name too long", "A name t"),
        ("name", "Fabric ", "Fabric"),
        ("value", Decimal("1.005"), Decimal("1.01")),
        ("value", Decimal(1), Decimal("1.00")),
        ("notes", "one\r\ntwo\n", "one\ntwo"),
        ("campaign_id", "", None),
        ("favorite", None, False),
        ("contacts", (Member("a@x"), Member("b@x")), (Member("b@x"), Member("a@x", extra={"row": 1}))),
        ("customer", None, Customer()),
    ],
)
def test_held_differently_yet_agreed(name: str, referral: Value, opportunity: Value) -> None:
    assert agree(name, referral, opportunity, SHAPE)


@pytest.mark.parametrize(
    ("name", "referral", "opportunity"),
    [
        ("name", "A name too long", "A name"),
        ("value", Decimal("1.004"), Decimal("1.01")),
        ("value", None, Decimal(0)),
        ("notes", "one\n\ntwo", "one\ntwo"),
        ("close_date", date(2026, 1, 1), date(2026, 1, 2)),
        ("contacts", (Member("a@x"),), (Member("a@x", phone="1"),)),
    ],
)
def test_differing(name: str, referral: Value, opportunity: Value) -> None:
    assert not agree(name, referral, opportunity, SHAPE)


def test_a_moment_loses_its_fractions() -> None:
    moment = datetime(2026, 1, 1, 1, 1, 1, 5, tzinfo=UTC)
    assert for_crm("respond_by", moment, SHAPE) == moment.replace(microsecond=0)


def test_a_customer_is_cut_part_by_part_and_agrees_with_what_the_crm_holds() -> None:
    """An account name longer than its column is no difference, and no reason to be refused."""
    shape = CrmShape(frozenset(), {}, lengths={"customer.name": 8, "customer.city": 3})
    there, here = Customer("Fabrikam  International", city="Ulm"), Customer("Fabrikam", city="Ulm")
    assert for_crm("customer", there, shape) == here
    assert agree("customer", there, here, shape)
    assert not agree("customer", there, Customer("Fabrikan", city="Ulm"), shape)
    assert for_crm("customer", None, shape) is None


@pytest.mark.parametrize(
    ("name", "value", "crm", "referral"),
    [
        ("name", " Two\nlines ", "Two line", "Two lines"),
        ("name", "Fabrika s.", "Fabrika", "Fabrika s."),
        ("name", " \n ", None, None),
        ("campaign_id", "As long as anybody likes", "As long as anybody likes", "As long as anybody likes"),
        ("notes", "one \r\n\rtwo\t\n", "one\n\ntwo", "one\n\ntwo"),
        ("notes", "\n\n", None, None),
        ("notes", "n" * 41, "n" * 40, "n" * 41),
        ("value", Decimal("-1.005"), Decimal("-1.01"), Decimal("-1.005")),
        ("value", Decimal(1), Decimal("1.00"), Decimal(1)),
        ("respond_by", datetime(2026, 1, 1, 1, 1, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, 1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, 1, 1, 5, tzinfo=UTC)),
        ("favorite", None, False, False),
        ("favorite", ABSENT, ABSENT, ABSENT),
        ("close_date", date(2026, 1, 1), date(2026, 1, 1), date(2026, 1, 1)),
    ],
)  # fmt: skip
def test_what_each_side_makes_of_a_value(name: str, value: Value, crm: Value, referral: Value) -> None:
    held = for_crm(name, value, SHAPE), for_referral(name, value, SHAPE)
    assert held == (crm, referral)
    assert [str(each) for each in held] == [str(crm), str(referral)], "to the last digit"


def test_every_part_of_a_customer_is_cut_for_itself() -> None:
    parts = [part.name for part in fields(Customer) if part.name not in {"extra", "duns"}]
    shape = CrmShape(frozenset(), {}, lengths={f"customer.{part}": 3 for part in parts})
    whole = Customer(*["ab cd"] * len(parts), extra={"id": 1})
    cut = for_crm("customer", whole, shape)
    assert cut == Customer(*["ab"] * len(parts))
    assert isinstance(cut, Customer)
    assert cut.extra == {"id": 1}
    assert for_crm("customer", Customer("abc"), shape) == Customer("abc")


def test_cut_notes_keep_no_loose_ends() -> None:
    assert clean_notes("\n\none \n\n") == "one"
    shape = CrmShape(frozenset(), {}, lengths={"notes": 4})
    assert for_crm("notes", "one\ntwo", shape) == "one"


@pytest.mark.parametrize(
    ("value", "nothing"),
    [(None, True), (ABSENT, True), ("", True), ((), True), (False, False), (Decimal(0), False)],
)
def test_empty(value: Value, *, nothing: bool) -> None:
    assert empty(value) is nothing


def test_an_amount_is_held_with_the_decimals_of_its_currency() -> None:
    """Yen have none: what a CRM rounds by currency must read back as agreed, not come back as an edit."""
    shape = CrmShape(frozenset({"value"}), {}, scale=2, scales={"JPY": 0, "KWD": 3})
    assert agree("value", Decimal("1375000.25"), Decimal(1375000), shape.of_currency("JPY"))
    assert not agree("value", Decimal("1375000.25"), Decimal(1375000), shape.of_currency("EUR"))
    assert shape.of_currency("KWD").scale == 2
