"""What both sides last agreed on holds for the column it was read through, and an amount goes with its currency."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged

pytestmark = pytest.mark.wire

OTHER_NOTES = {"salesforce": "Description", "dynamics": "description"}


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def test_notes_that_are_kept_in_another_column_now_are_not_emptied(stage: Stage, crm: str) -> None:
    deal = stage.add(details={"notes": "Line one\nLine two"})
    stage.sync()
    stage.quiet()
    stage.env["COSELL_MAPPING__FIELDS"] = json.dumps({"notes": OTHER_NOTES[crm]})
    stage.seller(deal, close_date="2028-05-05")
    stage.sync()
    details = stage.referral(deal)["details"]
    assert (details["notes"], details["closingDateTime"][:10]) == ("Line one\nLine two", "2028-05-05")
    stage.quiet()
    stage.seller(deal, notes="the old column is nobody's now")
    stage.sync()
    assert stage.referral(deal)["details"]["notes"] == "Line one\nLine two"


def test_an_amount_never_gets_the_other_side_s_currency(stage: Stage, crm: str) -> None:
    """100,000 EUR; the portal makes 110,000 USD of it, the seller 120,000: nobody entered 120,000 USD."""
    deal = stage.add(details={"dealValue": 100_000, "currency": "EUR"})
    stage.sync()
    stage.quiet()
    stage.pc.edit(deal["id"], {"details/dealValue": 110_000, "details/currency": "USD"})
    stage.seller(deal, value=120_000)
    stage.sync()
    details, row = stage.referral(deal)["details"], stage.deal(deal)
    assert (details["dealValue"], details["currency"]) == (120_000, "EUR")
    assert (float(row["value"]), row["currency"]) == (120_000, "EUR")
    assert "110,000" in row["message"]
    assert "USD" in row["message"]
    stage.quiet()
    stage.pc.edit(deal["id"], {"details/dealValue": 130_000, "details/currency": "USD"})
    stage.sync()
    row = stage.deal(deal)
    # Dynamics fixes the currency of an opportunity, so it takes neither
    assert (float(row["value"]), row["currency"]) == {
        "salesforce": (130_000, "USD"),
        "dynamics": (120_000, "EUR"),
    }[crm]
    stage.quiet()
