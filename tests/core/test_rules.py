"""What stages mean, what a field is called, and what counts as a change of the configuration or of the CRM."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from deals import SHAPE, STAGES, rules

from cosell_sync.core.deal import ABSENT, Snapshot, State, Value
from cosell_sync.core.fields import SHARED
from cosell_sync.core.rules import (
    AccountUpdates,
    CrmShape,
    FieldRule,
    Rules,
    StageFlags,
    Stages,
    Standing,
    digest,
)


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


CHANGED_SHAPE: dict[str, object] = {
    "fields": SHAPE.fields - {"favorite"},
    "stages": {**SHAPE.stages, "Prospecting": StageFlags(closed=True)},
    "lengths": {**SHAPE.lengths, "name": 120},
    "digits": 16,
    "scale": 3,
    "default_currency": "EUR",
    "currencies": frozenset({"USD"}),
    "picklists": {"sales_stage": frozenset({"Qualify"})},
    "maximum": Decimal(5),
    "minimum": Decimal(0),
    "scales": {"JPY": 0},
    "states": {"US": {"washington": "WA"}},
    "duns": True,
    "ambiguous_stages": {"closed": ("Closed (3)", "Closed (4)")},
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
    "reasons": {"Out-Sold": "Other vendor chosen"},
    "account_updates": AccountUpdates.OWN,
    "default_close": timedelta(days=1),
    "close_date_zone": ZoneInfo("Europe/Berlin"),
}
NO_PART_OF_THE_CONFIGURATION = {"found"}


def test_any_change_of_rules_or_shape_changes_the_digest() -> None:
    """A part that does not count would keep a deal held after its reason is gone."""
    only_read_by_people = {"labels", "choices", "region", "zone"}  # tests/core/test_texts.py
    assert CHANGED_SHAPE.keys() == {each.name for each in fields(CrmShape)} - only_read_by_people
    assert CHANGED_RULES.keys() | NO_PART_OF_THE_CONFIGURATION == {each.name for each in fields(Rules)}
    assert digest(rules(found={"name": True}), SHAPE) == digest(rules(), SHAPE), (
        "what was found requeues nothing"
    )
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


def test_the_crms_own_state_decides_an_end_whatever_the_name() -> None:
    """A status reason that is called like the won one and stands under lost is lost."""
    closed = {"stage": STAGES.won, "is_closed": True, "is_won": False}
    assert STAGES.standing(Snapshot("O1", "1", closed)) is Standing.LOST
    assert STAGES.standing(Snapshot("O1", "1", {**closed, "is_closed": False})) is Standing.OPEN


def test_stages_that_cannot_be_told_apart_or_count_otherwise_are_problems() -> None:
    named = {STAGES.won: StageFlags(closed=True, won=True)}
    assert STAGES.problems(replace(SHAPE, stages=named)) == []
    apart = {"closed (3)": StageFlags(closed=True, won=True), "closed (4)": StageFlags(closed=True)}
    twice = replace(SHAPE, stages=apart, ambiguous_stages={"closed": ("Closed (3)", "Closed (4)")})
    ((name, text, todo),) = replace(STAGES, won="Closed").problems(twice)
    assert name == "Closed"
    assert "several" in text
    assert "Closed (3), Closed (4)" in todo
    assert [
        name for name, *_ in STAGES.problems(replace(SHAPE, stages={STAGES.won: StageFlags(closed=True)}))
    ] == [STAGES.won]
    won = {STAGES.lost: StageFlags(closed=True, won=True)}
    assert [name for name, *_ in STAGES.problems(replace(SHAPE, stages=won))] == [STAGES.lost]
