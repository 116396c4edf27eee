"""Through what a field is read, and what goes when that changes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from deals import NOW, SHAPE, at_rest, here, remembering, rules

from cosell_sync.core.deal import ABSENT, Side
from cosell_sync.core.fields import NEWER
from cosell_sync.core.memory import Intent
from cosell_sync.core.readings import (
    days_read_otherwise,
    from_text,
    intent_without,
    read_otherwise,
    readings,
    remembered,
    to_text,
    with_unread_day,
    without_stale,
)
from cosell_sync.core.rules import FieldRule, Flow, Rules, Stages

PC, CRM = Side.PARTNER_CENTER, Side.CRM


def otherwise(before: Rules, *after: Rules) -> dict[str, bool]:
    """What is read otherwise after the last of these than before it."""
    known = readings(before, SHAPE)
    for each in after[:-1]:
        known = from_text(to_text(remembered(known, readings(each, SHAPE))))
    return read_otherwise(known, readings(after[-1], SHAPE))


def mapped(name: str, column: str, flow: Flow = Flow.BOTH) -> Rules:
    plain = rules()
    return replace(plain, fields={**plain.fields, name: replace(plain.fields[name], crm=column, flow=flow)})


def test_only_another_column_or_conversion_is_another_reading() -> None:
    assert otherwise(rules(), rules()) == {}
    assert otherwise(rules(), rules(flows={"notes": Flow.TO_CRM})) == {}
    assert otherwise(rules(), mapped("notes", "Description")) == {"notes": False}
    assert otherwise(rules(), rules(stages=Stages(sales={"Proposal": "Close"}))) == {"sales_stage": False}


def test_another_zone_is_another_reading_of_both_sides() -> None:
    berlin = rules(close_date_zone=ZoneInfo("Europe/Berlin"))
    assert otherwise(rules(), berlin) == {"close_date": False}
    assert otherwise(rules(), rules(close_date_zone=ZoneInfo("UTC"))) == {}
    known = [
        from_text(to_text(readings(each, SHAPE))) for each in (rules(), berlin, mapped("close_date", "Other"))
    ]
    assert days_read_otherwise(known[0], known[1])
    assert days_read_otherwise(known[1], known[0])
    assert not days_read_otherwise(known[1], known[1])
    assert not days_read_otherwise(known[0], known[2])
    again = with_unread_day(at_rest())
    assert again.referral is not None
    assert (again.referral["close_date"], again.referral.version) == (ABSENT, "")


def test_another_standby_stage_is_another_reading_but_not_after_a_version_that_noted_none() -> None:
    plain = rules()
    plain = replace(plain, fields={**plain.fields, "stage": FieldRule("stage", "StageName")})
    renamed = replace(plain, stages=replace(plain.stages, received="New lead"))
    assert otherwise(plain, renamed) == {"stage": False}
    assert otherwise(renamed, renamed) == {}
    earlier = {**readings(plain, SHAPE), "stage": ("StageName", True)}
    assert read_otherwise(earlier, readings(renamed, SHAPE)) == {}
    assert read_otherwise({**earlier, "stage": ("Phase__c", True)}, readings(plain, SHAPE)) == {
        "stage": False
    }


def test_what_is_off_is_compared_when_it_is_on_again() -> None:
    off, moved = rules(flows={"notes": Flow.OFF}), mapped("notes", "Description", Flow.OFF)
    assert otherwise(rules(), off) == {}
    assert otherwise(rules(), off, rules()) == {"notes": True}
    assert otherwise(rules(), moved, mapped("notes", "Description")) == {"notes": False}
    assert otherwise(rules(), moved, rules()) == {"notes": True}


def test_a_column_that_is_made_later_is_read_then() -> None:
    """An earlier version left the CRM without it; an opportunity that was read meanwhile says nothing of it."""
    without = replace(SHAPE, fields=SHAPE.fields - {*NEWER})
    before = readings(rules(), without)
    assert read_otherwise(before, readings(rules(), without)) == {}
    assert read_otherwise(before, readings(rules(), SHAPE)) == dict.fromkeys(NEWER, True)
    assert read_otherwise(before, readings(rules(), replace(without, duns=True))) == {"customer.duns": True}


def test_what_a_newer_version_reads_besides_is_read_anew() -> None:
    now = readings(rules(), SHAPE)
    earlier = {name: each for name, each in now.items() if name not in {*NEWER, "customer.duns"}}
    assert read_otherwise(earlier, now) == dict.fromkeys(NEWER, True)
    left = without_stale(at_rest(), dict.fromkeys(NEWER, True), None)
    assert left.opportunity is not None
    assert (left.opportunity["location"], left.base_opportunity) == (ABSENT, at_rest().base_opportunity)


def test_a_field_that_is_read_otherwise_loses_both_bases_and_every_mark() -> None:
    link = remembering(
        at_rest(),
        rewritten={"notes": True, "name": True},
        resolved={"notes": CRM},
        disputed=("notes", "name"),
        reported=("kept:notes", "conflict:notes:abc", "kept:name", "late"),
    )
    left = without_stale(link, {"notes": False}, link.opportunity)
    assert "notes" not in {*left.base_referral, *left.base_opportunity}
    assert left.base_referral.keys() == link.base_referral.keys() - {"notes"}
    assert left.memory == replace(
        link.memory,
        rewritten={"name": True},
        resolved={},
        disputed=("name",),
        reported=("kept:name", "late"),
    )


def test_an_amount_goes_with_its_currency() -> None:
    left = without_stale(at_rest(), {"currency": False}, at_rest().opportunity)
    assert not {"value", "currency"} & {*left.base_referral, *left.base_opportunity}


def test_what_could_not_be_read_again_is_no_evidence() -> None:
    left = without_stale(at_rest(), {"notes": False}, None)
    assert left.opportunity is not None
    assert (left.opportunity["notes"], left.opportunity.version) == (ABSENT, "")
    assert left.opportunity["name"] == "Fabric"


def test_another_column_for_a_stage_or_a_consent_is_no_move_and_no_wish() -> None:
    link = replace(at_rest(), base_opportunity={**at_rest().base_opportunity, "consent": True})
    fresh = here(link, stage="Proposal", consent=False).opportunity
    left = without_stale(link, {"stage": False, "consent": False}, fresh)
    assert (left.base_opportunity["stage"], left.base_opportunity["consent"]) == ("Proposal", False)


def test_an_open_write_forgets_what_is_read_otherwise() -> None:
    fields = {"value": Decimal(5), "currency": "EUR", "notes": "one", "state": "Won"}
    intent = Intent("r:R1", PC, False, "1", fields, fields, "c", NOW)
    assert intent_without(intent, ["name", "stage"]) is intent
    left = intent_without(intent, ["value"])
    assert left.fields == left.source == {"notes": "one", "state": "Won"}
