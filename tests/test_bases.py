"""What is remembered as agreed holds only for what it was read through, and what the CRM filled in is nobody's edit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import structlog

from cosell_sync.core.deal import Member, Side, State, Value
from cosell_sync.core.readings import READINGS
from cosell_sync.core.rules import Flow, Policy
from cosell_sync.cycle.context import CycleSettings
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Surprise
from cosell_sync.ports import Transaction
from memory_systems import LIKE_DYNAMICS, LIKE_SALESFORCE, CrmKind, Fault
from test_cycle import Play

PC, CRM = Side.PARTNER_CENTER, Side.CRM
LATER = date(2026, 9, 9)
KINDS = pytest.mark.parametrize("kind", [LIKE_SALESFORCE, LIKE_DYNAMICS], ids=["salesforce", "dynamics"])


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def begun(kind: CrmKind = LIKE_SALESFORCE, **fields: Value) -> Play:
    play = Play()
    play.outside.kind = kind
    play.world = replace(play.world, rules=replace(play.world.rules, stages=kind.stages))
    play.begin(State.ACCEPTED, **fields)
    play.cycle()
    return play


def configure(play: Play, name: str, **changes: object) -> None:
    """Another rule for this field, from the next cycle on."""
    fields = play.world.rules.fields
    rule = replace(fields[name], **changes)  # type: ignore[arg-type]
    play.world = replace(play.world, rules=replace(play.world.rules, fields={**fields, name: rule}))


def move(play: Play, name: str, holds: Value) -> None:
    """``mapping.fields`` names another column from now on, in which this stands; the record itself is as it was."""
    configure(play, name, crm=f"other_{name}")
    play.opportunity[name] = holds


# --- a base belongs to the column that it was read through -----------------------------------------------------------


@KINDS
@pytest.mark.parametrize("name", ["notes", "campaign_id"])
def test_an_empty_new_column_clears_nothing(kind: CrmKind, name: str) -> None:
    play = begun(kind, **{name: "one"})
    move(play, name, None)
    play.seller(close_date=LATER)
    play.cycle()
    assert (play.referral[name], play.referral["close_date"]) == ("one", LATER)
    play.cycle()
    assert play.opportunity[name] == "one"
    play.rests()


def test_another_column_is_read_though_nobody_touched_the_record() -> None:
    play = begun(campaign_id="C1")
    move(play, "campaign_id", None)
    play.cycle()
    assert (play.referral["campaign_id"], play.opportunity["campaign_id"]) == ("C1", "C1")
    play.rests()


def test_another_number_is_a_conflict_and_no_edit() -> None:
    play = begun()
    configure(play, "value", policy=Policy.PARTNER_CENTER)
    move(play, "value", Decimal(7))
    play.seller(close_date=LATER)
    play.cycle()
    assert (play.referral["value"], play.opportunity["value"]) == (Decimal(100), Decimal(100))
    assert "Partner Center has 100" in str(play.opportunity["message"])
    assert "the CRM has 7" in str(play.opportunity["message"])
    play.rests()


def test_what_both_sides_hold_becomes_the_new_base() -> None:
    play = begun(campaign_id="C1")
    move(play, "campaign_id", "C1")
    play.cycle()
    play.seller(campaign_id=None)
    play.cycle()
    assert play.referral["campaign_id"] is None


def test_many_numbers_that_are_not_the_same_are_a_surprise() -> None:
    play = Play()
    for _ in range(4):
        play.outside.new_referral(State.ACCEPTED)
    play.cycle()
    play.cycle()
    play.world = replace(play.world, settings=CycleSettings(surprise_min=3))
    configure(play, "value", crm="other")
    for row in play.outside.opportunities.values():
        row.fields["value"] = Decimal(7)
    with play.store.lease(timedelta()), pytest.raises(Surprise):
        run_cycle(play.world, "again")
    assert {row.fields["value"] for row in play.outside.referrals.values()} == {Decimal(100)}


def test_a_store_of_an_earlier_version_keeps_its_bases() -> None:
    play = begun(campaign_id="C1")
    play.store._held.watermarks.pop(READINGS)
    play.seller(campaign_id=None)
    play.cycle()
    assert (
        play.referral["campaign_id"] is None
    )  # an edit, though the store did not say through what it was read


def test_a_crash_while_columns_change_loses_nothing() -> None:
    play = begun(campaign_id="C1")
    move(play, "campaign_id", None)

    def crash(_transaction: Transaction) -> None:
        raise KeyboardInterrupt

    play.store.after_commit = crash
    with pytest.raises(KeyboardInterrupt):
        play.cycle()
    play.store.after_commit = None
    play.seller(close_date=LATER)
    play.cycle()
    play.cycle()
    assert (play.referral["campaign_id"], play.opportunity["campaign_id"]) == ("C1", "C1")


def test_a_write_that_is_open_while_columns_change_teaches_no_base() -> None:
    play = begun(campaign_id="C1")
    play.seller(campaign_id="C2")
    play.outside.faults.append(Fault(PC, "lost"))
    play.cycle()
    assert play.referral["campaign_id"] == "C2"
    move(play, "campaign_id", None)
    play.cycle()
    play.cycle()
    assert (play.referral["campaign_id"], play.opportunity["campaign_id"]) == ("C2", "C2")


def test_a_field_that_was_off_deletes_nothing_when_it_is_on_again() -> None:
    play = begun(campaign_id="C1", contacts=(Member("c@x.example"),))
    configure(play, "campaign_id", flow=Flow.OFF)
    play.cycle()
    play.seller(campaign_id=None)
    play.cycle()
    assert play.referral["campaign_id"] == "C1"
    configure(play, "campaign_id", flow=Flow.BOTH)
    play.cycle()
    assert (play.referral["campaign_id"], play.opportunity["campaign_id"]) == ("C1", "C1")


def test_an_edit_made_while_a_field_was_off_arrives_when_it_is_on_again() -> None:
    play = begun(campaign_id="C1")
    configure(play, "campaign_id", flow=Flow.OFF)
    play.cycle()
    play.seller(campaign_id="C2")
    play.cycle()
    configure(play, "campaign_id", flow=Flow.BOTH)
    play.cycle()
    assert play.referral["campaign_id"] == "C2"


@pytest.mark.parametrize("flow", [Flow.TO_PARTNER_CENTER, Flow.TO_CRM])
def test_a_one_way_field_clears_nothing_at_first_sight(flow: Flow) -> None:
    play = begun(campaign_id="C1")
    configure(play, "campaign_id", flow=flow, crm="other")
    side = play.opportunity if flow is Flow.TO_PARTNER_CENTER else play.referral
    other = play.referral if flow is Flow.TO_PARTNER_CENTER else play.opportunity
    side["campaign_id"] = None
    play.seller(close_date=LATER)
    play.colleague(name="Beta")
    play.cycle()
    play.cycle()
    assert other["campaign_id"] == "C1"


def test_another_meaning_of_a_stage_moves_nobody_s_stage() -> None:
    """The sales stage is read through ``mapping.sales_stages``: another meaning is no edit of the seller's."""
    play = begun(sales_stage="Propose")
    assert play.opportunity["stage"] == "Proposal"
    configure(play, "sales_stage", policy=Policy.PARTNER_CENTER)
    stages = play.world.rules.stages
    meaning = {name: each for name, each in stages.sales.items() if name != "Proposal"}
    play.world = replace(play.world, rules=replace(play.world.rules, stages=replace(stages, sales=meaning)))
    play.cycle()
    assert (play.opportunity["stage"], play.referral["sales_stage"]) == ("Proposal", "Propose")
    play.seller(stage="Development")
    play.cycle()
    assert play.referral["sales_stage"] == "Develop"


# --- what came with our own create is nobody's edit ------------------------------------------------------------------


def created(kind: CrmKind, **defaults: Value) -> Play:
    play = Play()
    play.outside.kind = kind
    play.outside.defaults = defaults
    play.world = replace(play.world, rules=replace(play.world.rules, stages=kind.stages))
    return play


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RECEIVED])
def test_the_second_cycle_after_an_import_writes_nothing(state: State) -> None:
    play = created(LIKE_DYNAMICS, sales_stage="Qualify", campaign_id="C0")
    for _ in range(3):
        play.outside.new_referral(state)
    play.world = replace(play.world, settings=CycleSettings(surprise_min=0, surprise_share=0.0))
    play.cycle()
    before = play.outside.writes
    play.cycle()
    assert play.outside.writes == before
    play.rests()
    assert play.referral.get("sales_stage") is None
    play.world = replace(play.world, settings=CycleSettings())
    play.seller(sales_stage="Develop", **({} if state is State.ACCEPTED else {"stage": "Qualification"}))
    play.cycle()
    play.cycle()
    assert play.referral["sales_stage"] == "Develop"


def test_a_default_does_not_go_along_with_the_accept() -> None:
    play = created(LIKE_DYNAMICS, sales_stage="Qualify")
    play.begin(State.RECEIVED)
    play.seller(stage="Qualification")
    play.cycle()
    assert (play.referral["state"], play.referral.get("sales_stage")) == ("Accepted", None)
    play.cycle()
    play.rests()
    assert play.referral.get("sales_stage") is None


def test_a_default_after_a_create_without_an_answer_is_no_edit() -> None:
    play = created(LIKE_DYNAMICS, sales_stage="Qualify")
    play.outside.new_referral(State.ACCEPTED)
    play.outside.faults.append(Fault(CRM, "lost"))
    for _ in range(4):
        play.cycle()
    assert play.opportunity["sales_stage"] == "Qualify"
    assert play.referral.get("sales_stage") is None


@KINDS
@pytest.mark.parametrize("fault", [None, "lost"])
def test_what_a_flow_made_of_our_create_stays_in_the_crm(kind: CrmKind, fault: str | None) -> None:
    play = created(kind)
    play.outside.flow = lambda name, value: f"{value}!" if name == "name" else value
    play.outside.new_referral(State.ACCEPTED, name="Deal")
    play.outside.faults += [Fault(CRM, fault)] if fault else []
    for _ in range(4):
        play.cycle()
    assert (play.referral["name"], play.opportunity["name"]) == ("Deal", "Deal!")
    play.rests()
    play.outside.flow = lambda _name, value: value
    play.seller(name="Beta")
    play.cycle()
    assert play.referral["name"] == "Beta"


def test_an_edit_before_the_new_record_was_read_back_is_carried() -> None:
    play = created(LIKE_SALESFORCE)
    play.outside.new_referral(State.ACCEPTED)
    play.cycle(landed=lambda: play.seller(value=Decimal(300)))
    play.cycle()
    assert play.referral["value"] == Decimal(300)


def test_records_that_were_out_of_sight_for_a_while_have_nothing_to_say() -> None:
    play = created(LIKE_DYNAMICS, sales_stage="Qualify")
    for _ in range(4):
        play.outside.new_referral(State.ACCEPTED)
    play.world = replace(play.world, settings=CycleSettings(surprise_min=3))
    play.cycle()
    play.cycle()
    rows = [*play.outside.opportunities]
    for each in rows:
        play.outside.vanish(CRM, each, gone=True)
    with pytest.raises(Surprise):
        play.cycle()
    for each in rows:
        play.outside.vanish(CRM, each, gone=False)
    play.cycle()
    play.rests()
    assert [row.fields.get("sales_stage") for row in play.outside.referrals.values()] == [None] * 4


def test_a_default_of_a_store_that_knows_no_base_of_it_is_no_edit() -> None:
    """As an earlier version left it: the stage stands there, and nobody knows since when."""
    play = created(LIKE_DYNAMICS, sales_stage="Qualify")
    play.begin(State.ACCEPTED)
    link = play.link
    known = {name: value for name, value in link.base_opportunity.items() if name != "sales_stage"}
    with play.store.lease(timedelta()):
        play.store.commit(Transaction(links=[replace(link, base_opportunity=known, dirty=True)]))
    play.cycle()
    assert play.referral.get("sales_stage") is None
    assert play.link.base_opportunity["sales_stage"] == "Qualify"


# --- close dates in another zone -------------------------------------------------------------------------------------


@KINDS
def test_in_another_zone_both_sides_are_read_again(kind: CrmKind) -> None:
    """The referral has not changed, and its day has. What both agreed on in the old zone is no edit of anybody's."""
    play = begun(kind)
    configure(play, "close_date", policy=Policy.CRM)
    play.cycle()
    day = play.opportunity["close_date"]
    assert isinstance(day, date)
    play.world = replace(
        play.world, rules=replace(play.world.rules, close_date_zone=ZoneInfo("America/New_York"))
    )
    play.referral["close_date"] = day - timedelta(days=1)  # midnight in Greenwich is an evening there
    play.cycle()
    assert play.link.referral is not None
    assert play.opportunity["close_date"] == day, "policy crm, as at first sight"
    assert play.referral["close_date"] == day
    play.rests()
    play.seller(close_date=LATER)
    play.cycle()
    assert play.referral["close_date"] == LATER
    play.rests()
