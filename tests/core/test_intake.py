"""What becomes of a referral without an opportunity: skipped, linked, held or made; never doubled, never kept out for a gap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from deals import FRESH, NOW, SHAPE, STAGES, at_rest, rules, shared

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Customer, Side, Snapshot, State, Value
from cosell_sync.core.intake import IntakeAction, IntakeDecision, Matches, decide_intake, skipped_by_category
from cosell_sync.core.memory import Failure, Link, Memory
from cosell_sync.core.rules import CrmShape, Flow, Rules, Stages

NOTHING = Matches()


def waiting(memory: Memory = FRESH, **changes: Value) -> Link:
    referral = at_rest(State.RECEIVED).referral
    assert referral is not None
    fields = {**referral.fields, **changes}
    return Link("r:R1", "R1", referral=replace(referral, fields=fields), memory=memory)


def admitted(
    link: Link, found: Matches = NOTHING, rule: Rules | None = None, shape: CrmShape = SHAPE
) -> IntakeDecision:
    return decide_intake(link, found, rule or rules(), shape, NOW)


FOREIGN = IntakeDecision(IntakeAction.SKIP, "foreign", "another organization's side of a deal")
LEAD = IntakeDecision(IntakeAction.SKIP, "lead", "a lead; mapping.leads is skip")


@pytest.mark.parametrize(
    ("category", "leads", "admission"),
    [("foreign", True, FOREIGN), ("lead", False, LEAD), ("lead", True, None), ("cosell", False, None)],
)
def test_at_first_sight(category: str, *, leads: bool, admission: IntakeDecision | None) -> None:
    assert (
        skipped_by_category(Snapshot("R1", "1", {"category": category}), rules(import_leads=leads))
        == admission
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (Matches(by_referral="O9"), "referral_id"),
        (Matches(by_reference="O9"), "external_reference"),
        (Matches("O9", "O8", ("O7",)), "referral_id"),
    ],
)
@pytest.mark.parametrize("changes", [{}, {"state": "Won"}, {"problem": "odd"}, {"customer": None}])
def test_one_that_exists_is_always_linked(found: Matches, code: str, changes: dict[str, Value]) -> None:
    """Whatever else is the matter with it: anything else would double it."""
    linked = IntakeDecision(IntakeAction.LINK, code, "its id is known on the other side", "O9")
    assert admitted(waiting(**changes), found) == linked


@pytest.mark.parametrize(
    ("match", "lookalikes", "memory", "verdict"),
    [
        ("propose", ("O1",), Memory(), IntakeAction.HOLD),
        ("link", ("O1",), Memory(), IntakeAction.LINK),
        ("link", ("O1", "O2"), Memory(), IntakeAction.HOLD),
        ("off", ("O1",), Memory(), IntakeAction.CREATE),
        ("propose", ("O1",), Memory(create_anyway=True), IntakeAction.CREATE),
        ("propose", (), Memory(), IntakeAction.CREATE),
    ],
)
def test_lookalikes(match: str, lookalikes: tuple[str, ...], memory: Memory, verdict: IntakeAction) -> None:
    admission = admitted(waiting(memory), Matches(lookalikes=lookalikes), rules(match=match))
    said = {
        IntakeAction.HOLD: IntakeDecision(
            verdict,
            "lookalike",
            messages.looks_alike("Fabric"),
            lookalikes=lookalikes,
            fields=admission.fields,
        ),
        IntakeAction.LINK: IntakeDecision(verdict, "lookalike", "same account and name", "O1"),
        IntakeAction.CREATE: IntakeDecision(verdict, "new", fields=admission.fields),
    }
    assert admission == said[verdict]
    assert bool(admission.fields) is (verdict is IntakeAction.CREATE)


def test_an_opportunity_of_another_deal_is_not_taken_away() -> None:
    held = admitted(waiting(), Matches(claimed="O9", lookalikes=("O1",)))
    assert (held.action, held.code, held.reason) == ("hold", "claimed", messages.claimed("Fabric", "O9"))
    assert admitted(waiting(Memory(create_anyway=True)), Matches(claimed="O9")).action == "create"
    assert admitted(waiting(state="Lost"), Matches(claimed="O9")).action == "skip"


def test_one_that_expired_while_it_was_held_stays_in_sight() -> None:
    failure = Failure(Side.CRM, "unmappable", "x", datetime(2026, 5, 4, tzinfo=UTC))
    held = admitted(waiting(Memory(failure=failure), state="Expired"))
    assert (held.action, held.code) == ("hold", "expired")
    assert admitted(waiting(state="Expired")).action == "skip"
    assert admitted(waiting(Memory(failure=failure), state="Declined")).action == "skip"


def test_closed_before_it_was_seen() -> None:
    reason = "closed before it was first seen; sync.import_closed is off"
    assert admitted(waiting(state="Lost")) == IntakeDecision(IntakeAction.SKIP, "closed", reason)
    admission = admitted(waiting(state="Lost"), rule=rules(import_closed=True))
    assert (admission.action, admission.fields["stage"]) == (IntakeAction.CREATE, "Closed Lost")


def test_the_draft_is_what_the_crm_can_hold() -> None:
    admission = admitted(
        waiting(name="A name too long", value=Decimal("1.005"), state="Accepted", sales_stage="Propose")
    )
    assert (admission.fields["name"], admission.fields["value"]) == ("A name t", Decimal("1.01"))
    assert (admission.fields["stage"], admission.fields["sync"]) == ("Proposal", True)
    assert "sales_stage" not in admission.fields


def test_the_draft_has_the_decimals_of_its_currency() -> None:
    shape = replace(SHAPE, currencies=frozenset({"USD", "JPY"}), scales={"JPY": 0})
    assert admitted(waiting(value=Decimal("99.5"), currency="JPY"), shape=shape).fields["value"] == Decimal(
        100
    )


@pytest.mark.parametrize(("sales", "kept"), [("Propose", "Propose"), ("Close", ABSENT), (None, ABSENT)])
def test_a_sales_stage_of_its_own_field_is_drafted_where_it_is_a_choice(sales: Value, kept: Value) -> None:
    """A word that the CRM does not have keeps no deal out; nor does it keep out what follows it in the list."""
    shape = replace(
        SHAPE, fields=SHAPE.fields | {"sales_stage"}, picklists={"sales_stage": frozenset({"Propose"})}
    )
    admission = admitted(
        waiting(state="Accepted", sales_stage=sales), rule=rules(stages=Stages()), shape=shape
    )
    assert admission.fields.get("sales_stage", ABSENT) == kept
    assert admission.fields["stage"] == "Qualification"
    assert shared().keys() <= admission.fields.keys()


def test_what_is_not_mapped_or_not_there_keeps_out_nothing_else() -> None:
    without = rules()
    without = replace(
        without, fields={name: rule for name, rule in without.fields.items() if name != "value"}
    )
    shape = replace(SHAPE, fields=SHAPE.fields - {"campaign_id"})
    fields = admitted(waiting(), rule=without, shape=shape).fields
    assert shared().keys() - {"campaign_id", "value"} <= fields.keys()
    assert not {"campaign_id", "value"} & fields.keys()


def test_a_direction_that_is_closed_brings_nothing() -> None:
    flows = {"notes": Flow.OFF, "value": Flow.TO_PARTNER_CENTER}
    fields = admitted(waiting(), rule=rules(flows=flows)).fields
    assert not {"notes", "value"} & fields.keys()
    assert "campaign_id" not in admitted(waiting(campaign_id=ABSENT)).fields


EUROS = replace(SHAPE, currencies=frozenset({"USD"}))
SMALL = replace(SHAPE, maximum=Decimal(1000), minimum=Decimal(0), labels={"value": "Betrag"})
IN_A_MONTH = NOW.date() + timedelta(days=30)


@pytest.mark.parametrize(
    ("changes", "shape", "stood_in", "made"),
    [
        ({"name": None}, SHAPE, ("name",), {"name": "Contoso"}),
        ({"name": " \u200b "}, SHAPE, ("name",), {"name": "Contoso"}),
        ({"name": ABSENT}, replace(SHAPE, lengths={}), ("name",), {"name": "Contoso - One"}),
        ({"name": None, "solutions": ()}, replace(SHAPE, lengths={}), ("name",), {"name": "Contoso"}),
        ({"close_date": None}, SHAPE, ("close_date",), {"close_date": IN_A_MONTH}),
        ({"close_date": ABSENT}, SHAPE, ("close_date",), {"close_date": IN_A_MONTH}),
        ({"close_date": date(9999, 12, 31)}, SHAPE, ("close_date",), {"close_date": IN_A_MONTH}),
        ({"close_date": date(1601, 1, 1)}, SHAPE, ("close_date",), {"close_date": IN_A_MONTH}),
        ({"customer": None}, SHAPE, ("customer",), {"customer": ABSENT}),
        ({"customer": Customer(city="Here")}, SHAPE, ("customer",), {"customer": ABSENT}),
        ({"value": Decimal(5000)}, SMALL, ("value",), {"value": None, "currency": "USD"}),
        ({"value": Decimal(-1)}, SMALL, ("value",), {"value": None}),
        ({"value": Decimal("1e17")}, SHAPE, ("value",), {"value": None}),
        ({"value": Decimal("9e29")}, SHAPE, ("value",), {"value": None}),
        ({"value": ABSENT, "unreadable": "value"}, SHAPE, ("value",), {"value": None}),
        ({"currency": "EUR"}, SHAPE, ("value",), {"value": None, "currency": ABSENT}),
        ({"currency": "EUR"}, EUROS, ("value",), {"value": None, "currency": ABSENT}),
        ({"currency": None}, EUROS, ("value",), {"value": None, "currency": ABSENT}),
        ({"currency": ABSENT}, SHAPE, ("value",), {"value": None}),
        ({"currency": None, "value": None}, EUROS, (), {"value": None}),
        ({"value": None}, SHAPE, (), {"value": None, "currency": "USD"}),
        ({"name": None, "close_date": None, "customer": None}, SHAPE, ("name", "close_date", "customer"), {"name": "One"}),
    ],
)  # fmt: skip
def test_what_the_crm_demands_or_cannot_store_has_a_stand_in(
    changes: dict[str, Value], shape: CrmShape, stood_in: tuple[str, ...], made: dict[str, Value]
) -> None:
    """No deal waits for what Partner Center does not promise."""
    admission = admitted(waiting(**changes), shape=shape)
    assert (admission.action, admission.stand_ins) == (IntakeAction.CREATE, stood_in)
    assert {name: admission.fields.get(name, ABSENT) for name in made} == made


def test_a_deal_without_any_name_is_called_by_its_id() -> None:
    admission = admitted(
        waiting(name=None, customer=None, solutions=()), shape=replace(SHAPE, lengths={"name": 80})
    )
    assert admission.fields["name"] == "Deal R1"


def test_the_close_date_that_stands_in_is_configured_and_of_the_zone_of_close_dates() -> None:
    """It is ten o'clock in the morning in Greenwich, and the next day on Kiritimati already."""
    rule = rules(default_close=timedelta(days=10), close_date_zone=ZoneInfo("Pacific/Kiritimati"))
    assert admitted(waiting(close_date=None), rule=rule).fields["close_date"] == date(2026, 3, 13)


@pytest.mark.parametrize("name", ["name", "close_date"])
def test_a_field_that_only_goes_the_other_way_is_made_with_what_is_known(name: str) -> None:
    """There is no record without it, and nothing for the seller to fill in."""
    one_way = rules(flows={name: Flow.TO_PARTNER_CENTER})
    admission = admitted(waiting(), rule=one_way)
    assert (admission.fields[name], admission.stand_ins) == (shared()[name], ())
    assert admitted(waiting(**{name: None}), rule=one_way).stand_ins == ()


@pytest.mark.parametrize(
    ("changes", "shape", "code", "words"),
    [
        ({}, replace(SHAPE, stages={"Other": STAGES}), "unmappable", 'no stage "Prospecting"'),
        ({"problem": "no status"}, SHAPE, "unreadable", "no status"),
    ],
)
def test_what_nothing_can_stand_in_for_is_held(
    changes: dict[str, Value], shape: CrmShape, code: str, words: str
) -> None:
    admission = admitted(waiting(**changes), shape=shape)
    assert (admission.action, admission.code) == (IntakeAction.HOLD, code)
    assert words in admission.reason


def test_one_that_cannot_be_read_and_is_over_is_over() -> None:
    assert admitted(waiting(problem="odd", state="Lost")).action is IntakeAction.SKIP
    failure = Failure(Side.CRM, "unreadable", "x", datetime(2026, 5, 4, tzinfo=UTC))
    assert admitted(waiting(Memory(failure=failure), problem="odd", state="Expired")).code == "expired"


def test_closed_with_a_second_word_that_is_not_known_is_closed() -> None:
    assert admitted(waiting(state="Closed")).code == "closed"


@pytest.mark.parametrize("default", ["EUR", None])
def test_the_currency_of_an_org_that_has_one(default: str | None) -> None:
    """``mapping.default_currency`` goes before the org's own."""
    admission = admitted(
        waiting(currency="EUR", close_date=date(2026, 1, 1)), rule=rules(default_currency=default)
    )
    assert admission.stand_ins == (() if default else ("value",))
