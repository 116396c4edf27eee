"""Moving from Microsoft's own connector, as docs/moving.md says: ids copied first; nothing is made twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged

pytestmark = pytest.mark.wire


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


@pytest.mark.parametrize("ticked", [True, False])
def test_an_opportunity_with_its_referral_id_copied_is_found_again(stage: Stage, ticked: bool) -> None:
    """Whether Sync is ticked on it or not: the first cycle joins the two, and ticks it."""
    deal = stage.add(name="Carried over")
    mine = stage.crm.create("opportunity", name="Carried over", stage="Accepted", close_date="2027-01-31")
    stage.crm.edit("opportunity", mine, referral_id=deal["id"], sync=ticked)
    planned = stage.cosell("plan", "--json").json()["effects"]
    assert {each["action"] for each in planned if each["referral_id"] == deal["id"]} & {"create"} == set()
    assert planned
    stage.sync(expect=None)
    assert [row["id"] for row in stage.deals(deal)] == [mine]
    assert stage.deal(deal)["sync"] is True
    assert stage.status(deal) == ("Active", "Accepted")
