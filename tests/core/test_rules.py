"""Pairs are stable: writing and reading back changes nothing more; agreement is judged by what each side can hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from deals import SHAPE, STAGES, rules
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Solution, State, Value
from cosell_sync.core.fields import KINDS, SHARED, Kind
from cosell_sync.core.normalize import agree, clean_notes, empty, for_crm, for_referral, same
from cosell_sync.core.rules import CrmShape, FieldRule, Rules, StageFlags, Stages, Standing, digest

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
    parts = [part.name for part in fields(Customer) if part.name != "extra"]
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


# --- stages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "closed", "won", "standing"),
    [
        ("Prospecting", False, False, Standing.STANDBY),
        ("Qualification", False, False, Standing.OPEN),
        ("Nobody listed it", False, False, Standing.OPEN),
        ("Closed Won", True, True, Standing.WON),
        ("Closed Lost", True, False, Standing.LOST),
        ("Closed - signed elsewhere", True, True, Standing.WON),
        ("Closed - duplicate", True, False, Standing.LOST),
    ],
)
def test_standing(stage: str, closed: bool, won: bool, standing: Standing) -> None:
    """By name first, then by the CRM's own flags."""
    assert (
        STAGES.standing(Snapshot("O1", "1", {"stage": stage, "is_closed": closed, "is_won": won})) is standing
    )


@pytest.mark.parametrize(
    ("state", "sales_stage", "stage"),
    [
        (State.RECEIVED, ABSENT, "Prospecting"),
        (State.ACCEPTED, ABSENT, "Qualification"),
        (State.ACCEPTED, "Propose", "Proposal"),
        (State.ACCEPTED, "Develop", "Qualification"),  # no stage says so
        (State.UNKNOWN, ABSENT, "Qualification"),
        (State.WON, "Propose", "Closed Won"),
        (State.LOST, ABSENT, "Closed Lost"),
        (State.DECLINED, ABSENT, "Closed Lost"),
        (State.EXPIRED, ABSENT, "Closed Lost"),
    ],
)
def test_the_stage_of_a_state(state: State, sales_stage: Value, stage: str) -> None:
    assert STAGES.for_state(state, sales_stage) == stage


def test_a_stage_that_claims_nothing() -> None:
    assert STAGES.sales_stage(Snapshot("", "", {"stage": "Proposal"})) == "Propose"
    assert STAGES.sales_stage(Snapshot("", "", {"stage": "Prospecting"})) is ABSENT


@pytest.mark.parametrize(
    ("own", "claimed"), [("Develop", "Develop"), (None, ABSENT), ("Demo booked", ABSENT)]
)
def test_a_sales_stage_in_a_field_of_its_own(own: Value, claimed: Value) -> None:
    """A word of the admin's own making claims nothing; stages that were given a meaning speak instead of the field."""
    opportunity = Snapshot("", "", {"stage": "Proposal", "sales_stage": own})
    assert Stages().sales_stage(opportunity) == claimed
    assert STAGES.sales_stage(opportunity) == "Propose"


def test_labels_and_names() -> None:
    """People read the CRM's own labels, and where it has none, words."""
    shape = CrmShape(frozenset(), {}, labels={"value": "Betrag"})
    assert (shape.label("value"), shape.label("close_date"), shape.label("status_reason")) == (
        "Betrag",
        "Close Date",
        "Status reason",
    )
    mapped = Rules({"value": FieldRule("value", "Betrag__c")})
    assert (mapped.crm_name("value"), mapped.crm_name("stage")) == ("Betrag__c", "stage")


def test_what_the_crm_holds_of_a_field() -> None:
    """A stage may mean a sales stage; everything else stands where it stands."""
    opportunity = Snapshot("", "", {"stage": "Proposal", "sales_stage": "Develop", "name": "x"})
    names = ("sales_stage", "stage", "name", "value")
    assert [rules().crm_value(name, opportunity) for name in names] == ["Propose", "Proposal", "x", ABSENT]
    assert rules(stages=Stages()).crm_value("sales_stage", opportunity) == "Develop"


def test_an_amount_is_held_with_the_decimals_of_its_currency() -> None:
    """Yen have none: what a CRM rounds by currency must read back as agreed, not come back as an edit."""
    shape = CrmShape(frozenset({"value"}), {}, scale=2, scales={"JPY": 0, "KWD": 3})
    assert agree("value", Decimal("1375000.25"), Decimal(1375000), shape.of_currency("JPY"))
    assert not agree("value", Decimal("1375000.25"), Decimal(1375000), shape.of_currency("EUR"))
    assert shape.of_currency("KWD").scale == 2


CHANGED_SHAPE: dict[str, object] = {
    "fields": SHAPE.fields - {"favorite"},
    "stages": {**SHAPE.stages, "Prospecting": StageFlags(closed=True)},
    "labels": {"value": "Betrag"},
    "lengths": {**SHAPE.lengths, "name": 120},
    "digits": 16,
    "scale": 3,
    "default_currency": "EUR",
    "currencies": frozenset({"USD"}),
    "picklists": {"sales_stage": frozenset({"Qualify"})},
    "maximum": Decimal(5),
    "scales": {"JPY": 0},
}
CHANGED_RULES: dict[str, object] = {
    "fields": {"value": FieldRule("value", "Amount")},
    "stages": Stages(received="New"),
    "terminal_hold": timedelta(minutes=1),
    "write_name": True,
    "write_favorite": True,
    "import_closed": True,
    "import_leads": True,
    "match": "off",
    "default_currency": "EUR",
    "cosell_recipe": "one_post",
}


def test_any_change_of_rules_or_shape_changes_the_digest() -> None:
    """A part that does not count would keep a deal held after its reason is gone."""
    assert CHANGED_SHAPE.keys() == {each.name for each in fields(CrmShape)}
    assert CHANGED_RULES.keys() == {each.name for each in fields(Rules)}
    shapes = [replace(SHAPE, **{name: value}) for name, value in CHANGED_SHAPE.items()]  # type: ignore[arg-type]
    others = [replace(rules(), **{name: value}) for name, value in CHANGED_RULES.items()]  # type: ignore[arg-type]
    more_choices = replace(SHAPE, picklists={"sales_stage": frozenset({"Qualify", "Develop"})})
    found = [digest(rules(), shape) for shape in (SHAPE, more_choices, *shapes)]
    found += [digest(each, SHAPE) for each in others]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_the_digest_is_the_same_in_every_process(seed: str) -> None:
    """Sets and mappings have no order in it; the order of a set differs from process to process."""
    program = (
        "from cosell_sync.core.rules import *\n"
        "from cosell_sync.core.fields import SHARED\n"
        "rules = Rules({name: FieldRule(name, name) for name in SHARED}, Stages(sales={'A': 'Qualify', 'B': 'Close'}))\n"
        "print(digest(rules, CrmShape(frozenset(SHARED), {}, picklists={'x': frozenset('abcdefgh')})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    reverse = {name: FieldRule(name, name) for name in reversed(SHARED)}
    same_rules = Rules(reverse, Stages(sales={"B": "Close", "A": "Qualify"}))
    same_shape = CrmShape(frozenset(SHARED), {}, picklists={"x": frozenset("hgfedcba")})
    assert run.stdout.strip() == digest(same_rules, same_shape)
