"""Before anything is written, a cycle doubts what looks unusual: many deals at once, or a side that is suddenly empty."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
import structlog

from cosell_sync.core.deal import Side, State
from cosell_sync.cycle.context import Habits, World
from cosell_sync.cycle.run import run_cycle
from cosell_sync.errors import Surprise
from cosell_sync.summary import NEEDS_NOBODY, CycleSummary
from memory_world import CountingStore, MemoryCrm, MemoryReferrals, Outside, rules

DEALS = 8
HABITS = Habits(surprise_share=0.5, surprise_min=3, full_every=timedelta(hours=24))


class Pipeline:
    """Eight linked deals at rest."""

    def __init__(self) -> None:
        self.outside = Outside()
        self.store = CountingStore()
        self.world = World(
            MemoryReferrals(self.outside),
            MemoryCrm(self.outside),
            self.store,
            self.outside.clock,
            rules(terminal_hold=timedelta()),
            HABITS,
        )
        for _ in range(DEALS):
            self.outside.new_referral(State.ACCEPTED)
        self.cycle()
        self.cycle()

    def cycle(self, *, accept: bool = False) -> CycleSummary:
        self.outside.now += timedelta(minutes=1)
        with self.store.lease(timedelta()):
            return run_cycle(self.world, "c", accept=accept)

    def everybody(self, count: int, **fields: object) -> None:
        for name in list(self.outside.referrals)[:count]:
            assert self.outside.people(Side.PARTNER_CENTER, name, fields)  # type: ignore[arg-type]


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.fixture
def pipeline(logs: list[dict[str, object]]) -> Pipeline:
    return Pipeline()


def test_a_mass_change_stops_before_writing_and_passes_when_a_person_says_so(
    pipeline: Pipeline, logs: list[dict[str, object]]
) -> None:
    """More than the share and more than the minimum would be rewritten: the cycle stops; `--accept` lets it through once."""
    pipeline.everybody(6, value=Decimal(4711))
    before = pipeline.outside.writes
    for _ in range(2):  # it stays doubtful until somebody says so
        logs.clear()
        with pytest.raises(Surprise, match="6 of 8"):
            pipeline.cycle()
        assert pipeline.outside.writes == before
        assert [entry["event"] for entry in logs if str(entry["event"]).startswith("cycle.")] == [
            "cycle.surprise",
            "cycle.finished",
        ]
    summary = pipeline.cycle(accept=True)
    assert summary.written.crm == 6


def test_a_few_changes_are_no_surprise(pipeline: Pipeline) -> None:
    """Both limits must be passed: neither a large share of few nor a small share of many stops anything."""
    pipeline.everybody(3, value=Decimal(4711))
    assert pipeline.cycle().written.crm == 3


def test_new_deals_do_not_count(pipeline: Pipeline) -> None:
    for _ in range(DEALS * 2):
        pipeline.outside.new_referral(State.ACCEPTED)
    assert pipeline.cycle().created.crm == DEALS * 2


@pytest.mark.parametrize("side", list(Side))
def test_a_full_compare_that_finds_a_side_empty_stops(pipeline: Pipeline, side: Side) -> None:
    """A role that sees nothing any more must not look like deals that are gone."""
    rows = pipeline.outside.rows(side)
    for name in list(rows):
        pipeline.outside.vanish(side, name, gone=True)
    pipeline.outside.now += timedelta(hours=25)
    before = pipeline.outside.writes
    with pytest.raises(Surprise):
        pipeline.cycle()
    assert pipeline.outside.writes == before
    for name in list(rows):
        pipeline.outside.vanish(side, name, gone=False)
    assert pipeline.cycle().exit_code == NEEDS_NOBODY
    assert not any(link.memory.gone for link in pipeline.store.links())
