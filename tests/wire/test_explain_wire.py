"""``deals explain`` and ``deals show``: what landed stands apart from what waits; and history that is old goes, also under cron."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, staged

pytestmark = pytest.mark.wire

RULE = "Deals above a million need a director."


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def explained(stage: Stage, deal: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = stage.cosell("deals", "explain", deal["id"], "--json").json()
    return rows


def test_a_value_that_a_validation_rule_refuses_is_told_in_the_crms_words(stage: Stage) -> None:
    """The deal is made without it; nobody is told that people put there what is not there."""
    stage.crm.add_validation_rule(lambda row: (row["value"] or 0) > 1_000_000, RULE)
    deal = stage.add(details={"dealValue": 2_000_000})
    stage.sync()
    stage.sync(expect=1)
    waits = [row for row in explained(stage, deal) if row["status"] == "refused"]
    assert {row["field"] for row in waits} & {"Amount", "estimatedvalue"}
    assert all(RULE in row["reason"] and row["at"] is None for row in waits)
    assert RULE in stage.cosell("deals", "explain", deal["id"]).out
    shown = stage.cosell("deals", "show", deal["id"], "--json").json()
    assert "refused" in {row["status"] for row in shown["waiting"]}
    assert RULE in stage.cosell("deals", "show", deal["id"]).out


def test_an_edit_that_is_refused_waits_beside_what_landed(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    stage.crm.add_validation_rule(lambda row: (row["value"] or 0) > 1_000_000, RULE)
    stage.pc.edit(deal["id"], "details/dealValue", 2_000_000)
    stage.sync(expect=1)
    rows = [row for row in explained(stage, deal) if row["field"] in {"Amount", "estimatedvalue"}]
    assert [row["status"] for row in rows] == ["landed", "refused"]
    landed, waits = rows
    assert float(landed["value"]) == 84000
    assert landed["at"]
    assert float(waits["value"]) == 2_000_000
    assert RULE in waits["reason"]


def test_a_close_that_is_held_waits_with_its_time(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    stage.seller(deal, stage="Won")
    stage.sync()
    assert stage.status(deal)[0] == "Active"
    (row,) = [row for row in explained(stage, deal) if row["status"] == "held"]
    assert (row["side"], row["value"], row["before"]) == ("partner_center", "Won", "Accepted")
    assert row["until"]
    assert row["at"] is None


def test_history_that_is_old_goes_also_when_sync_runs_from_a_crontab(stage: Stage) -> None:
    deal = stage.add()
    stage.sync()
    with closing(sqlite3.connect(stage.store)) as store, store:
        store.execute("UPDATE journal SET at = '2020-01-01 00:00:00.000000'")
    stage.sync()
    assert explained(stage, deal) == []
    assert stage.cosell("deals", "show", deal["id"], "--json").json()["history"] == []


@pytest.mark.parametrize("tries", ["8", "1"], ids=["refused", "parked"])
def test_a_deal_that_the_crm_refuses_whole_is_explained_in_its_words(stage: Stage, tries: str) -> None:
    """No opportunity is made, so there is nothing to read but this: for the deal, for each field, in text and as JSON."""
    stage.crm.add_validation_rule(lambda row: row["name"] == "Nobody makes this", RULE)
    deal = stage.add(name="Nobody makes this")
    for _ in range(2):
        stage.sync(expect=1, COSELL_SYNC__MAX_ATTEMPTS=tries)
    assert stage.deals(deal) == []
    whole = stage.cosell("deals", "explain", deal["id"]).out
    one = stage.cosell("deals", "explain", deal["id"], stage.crm.column("value")).out
    for said in (whole, one):
        assert RULE in said
        assert "people put there" not in said
    rows = explained(stage, deal)
    assert {row["status"] for row in rows} == {"parked" if tries == "1" else "refused"}
    assert all(RULE in row["reason"] for row in rows)
    listed = {row["referral_id"] for row in stage.cosell("deals", "list", "--side", "crm", "--json").json()}
    assert deal["id"] in listed


def test_an_edit_that_the_crm_refuses_whole_is_explained_in_its_words(stage: Stage) -> None:
    deal = stage.add(name="Nobody touches this")
    stage.sync()
    stage.crm.add_validation_rule(lambda row: row["name"] == "Nobody touches this", RULE)
    stage.pc.edit(deal["id"], "campaignId", "NEW")
    stage.sync(expect=1)
    for said in (
        stage.cosell("deals", "explain", deal["id"]).out,
        stage.cosell("deals", "explain", deal["id"], stage.crm.column("campaign_id")).out,
    ):
        assert RULE in said
        assert "people put there" not in said


def test_a_close_that_is_held_is_found_by_the_side_that_it_waits_for(stage: Stage) -> None:
    deal, other = stage.add(), stage.add()
    stage.sync()
    stage.seller(deal, stage="Won")
    stage.sync()
    listed = stage.cosell("deals", "list", "--side", "partner_center", "--json").json()
    assert [row["referral_id"] for row in listed] == [deal["id"]]
    assert stage.cosell("deals", "retry", other["id"], expect=2).sentences.startswith(
        "Error: nothing of the deal"
    )
