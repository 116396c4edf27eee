"""Before anything is written, a cycle doubts what looks unusual: many deals at once, or a side that is suddenly empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
import structlog
from structlog.testing import capture_logs

from cosell_sync.core.deal import Side, State, SyncState
from cosell_sync.core.rules import CrmShape, Flow, StageFlags
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Broken, Surprise
from cosell_sync.summary import NEEDS_NOBODY, CycleSummary
from cosell_sync.transport.quota import Meter
from memory_systems import START, CountingStore, Fault, MemoryCrm, MemoryReferrals, Outside, rules

DEALS = 8
CYCLE_SETTINGS = CycleSettings(surprise_share=0.5, surprise_min=3, full_every=timedelta(hours=24))


class Pipeline:
    """Eight linked deals at rest."""

    def __init__(self) -> None:
        self.outside = Outside()
        self.store = CountingStore()
        self.world = Services(
            MemoryReferrals(self.outside),
            MemoryCrm(self.outside),
            self.store,
            self.outside.clock,
            rules(terminal_hold=timedelta()),
            CYCLE_SETTINGS,
        )
        for _ in range(DEALS):
            self.outside.new_referral(State.ACCEPTED)
        self.cycle()
        self.cycle()

    def cycle(self, *, accept: bool = False) -> CycleSummary:
        self.outside.now += timedelta(minutes=1)
        with self.store.lease(timedelta()):
            return run_cycle(self.world, "c", accept=accept)

    def admin(self, shape: CrmShape) -> None:
        """Changes the org, which is read anew as once a day."""
        self.outside.shape = shape
        self.world.crm.forget_shape()

    def forget_deletions(self) -> None:
        """As where no feed tells of them: only the full compare can see that the records are gone."""
        for row in self.outside.opportunities.values():
            row.stamp = START - timedelta(days=1)

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


def test_the_full_compare_says_what_polling_missed(pipeline: Pipeline, logs: list[dict[str, object]]) -> None:
    """Edits behind the watermark, on either side, which no pull can bring."""
    for row in (pipeline.outside.referrals["R1"], pipeline.outside.opportunities["O2"]):
        side = Side.PARTNER_CENTER if row.id == "R1" else Side.CRM
        assert pipeline.outside.people(side, row.id, {"notes": "unseen"})
        row.stamp = START - timedelta(days=1)
    pipeline.cycle()
    pipeline.outside.now += timedelta(hours=25)
    logs.clear()
    pipeline.cycle()
    assert [each["missed"] for each in logs if each["event"] == "compare.finished"] == [2]


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


# --- a side that is suddenly empty ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_an_empty_side_is_doubted_however_few_the_deals(pipeline: Pipeline, side: Side) -> None:
    """Also below ``surprise_min``: a small partner loses the right to see his deals as well."""
    pipeline.world = replace(
        pipeline.world, settings=replace(CYCLE_SETTINGS, surprise_min=20, surprise_share=1.0)
    )
    for name in list(pipeline.outside.rows(side)):
        pipeline.outside.vanish(side, name, gone=True)
    pipeline.outside.now += timedelta(hours=25)
    if side is Side.CRM:
        pipeline.forget_deletions()
    with pytest.raises(Surprise, match="none of 8"):
        pipeline.cycle()


@pytest.mark.parametrize("side", list(Side))
def test_what_is_really_gone_passes_when_a_person_says_so(pipeline: Pipeline, side: Side) -> None:
    """The full compare too hears of ``--accept``; nothing is deleted on the other side, and coming back resumes."""
    for name in list(pipeline.outside.rows(side)):
        pipeline.outside.vanish(side, name, gone=True)
    pipeline.outside.now += timedelta(hours=25)
    pipeline.cycle(accept=True)
    assert {link.memory.gone for link in pipeline.store.links()} == {side}
    other = Side.CRM if side is Side.PARTNER_CENTER else Side.PARTNER_CENTER
    assert not any(row.gone for row in pipeline.outside.rows(other).values())
    for row in pipeline.outside.rows(side).values():
        row.gone = False  # back in sight, not changed: no version and no stamp tells of it
        row.version -= 1
        row.stamp = START - timedelta(days=1)
    pipeline.outside.now += timedelta(hours=25)
    assert pipeline.cycle(accept=True).exit_code == NEEDS_NOBODY
    assert {link.memory.gone for link in pipeline.store.links()} == {None}


# --- another schema -----------------------------------------------------------------------------------------------------


def without_field(shape: CrmShape) -> CrmShape:
    return replace(shape, fields=shape.fields - {"value"})


def without_stage(shape: CrmShape) -> CrmShape:
    return replace(
        shape, stages={name: flags for name, flags in shape.stages.items() if name != "Closed Won"}
    )


def with_a_stage_that_means_something_else(shape: CrmShape) -> CrmShape:
    return replace(shape, stages={**shape.stages, "Closed Won": StageFlags()})


def without_a_value(shape: CrmShape) -> CrmShape:
    return replace(shape, picklists={"sync_state": frozenset({"In sync"})})


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (without_field, "field value"),
        (without_stage, "stage Closed Won"),
        (with_a_stage_that_means_something_else, "stage Closed Won"),
        (without_a_value, "sync_state value Conflict"),
    ],
)
def test_a_schema_that_lost_something_stops_before_writing(
    pipeline: Pipeline, change: Callable[[CrmShape], CrmShape], lost: str
) -> None:
    """It says what is gone, goes on when it is back, and, where that is meant, with ``--accept``."""
    whole = replace(
        pipeline.outside.kind.shape, picklists={"sync_state": frozenset(state.value for state in SyncState)}
    )
    pipeline.admin(whole)
    pipeline.cycle()
    pipeline.everybody(1, value=Decimal(4711))
    before = pipeline.outside.writes
    pipeline.admin(change(whole))
    for _ in range(2):
        with pytest.raises(Surprise, match=lost) as caught:
            pipeline.cycle()
        assert lost in caught.value.facts["lost"]  # type: ignore[operator]
    assert pipeline.outside.writes == before
    pipeline.outside.shape = whole
    assert pipeline.cycle().written.crm == 1
    pipeline.admin(change(whole))
    pipeline.cycle(accept=True)
    pipeline.cycle()


def test_what_a_process_remembers_of_the_org_is_no_loss(pipeline: Pipeline) -> None:
    """Several processes serve a connection in turn, and each keeps the org as it was when it read it. One that is behind must neither
    miss what another one has seen, nor bring back what is gone.
    """
    whole = replace(pipeline.outside.kind.shape, picklists={})
    less = without_field(whole)
    ours, theirs = pipeline.world, replace(pipeline.world, crm=MemoryCrm(pipeline.outside))
    pipeline.admin(less)
    pipeline.cycle(accept=True)
    pipeline.outside.shape = whole  # an admin gives it back, and another process is the first that sees it
    pipeline.world = theirs
    pipeline.cycle()
    pipeline.world = ours
    pipeline.cycle()
    pipeline.outside.shape = less  # taken away for good: the other one learns of it, and it is accepted there
    theirs.crm.forget_shape()
    pipeline.world = theirs
    pipeline.cycle(accept=True)
    for process in (ours, theirs, ours):
        pipeline.world = process
        pipeline.cycle()


def test_a_change_of_the_org_is_taken_in_once_and_not_at_each_change_of_process(pipeline: Pipeline) -> None:
    """Else every deal would be decided anew, or read anew without its base, whenever the other one has had its turn."""
    ours, theirs = pipeline.world, replace(pipeline.world, crm=MemoryCrm(pipeline.outside))
    pipeline.outside.shape = replace(pipeline.outside.kind.shape, maximum=Decimal(10**9))
    with capture_logs() as logged:
        for process in (theirs, ours, theirs, ours):
            pipeline.world = process
            pipeline.cycle()
    assert [line["event"] for line in logged].count("rules.changed") == 1


def test_a_schema_that_grew_or_is_used_otherwise_is_no_surprise(pipeline: Pipeline) -> None:
    """More fields, a stage nobody configured gone, and a field that the configuration no longer uses."""
    shape = pipeline.outside.kind.shape
    pipeline.admin(replace(shape, fields=shape.fields | {"sales_stage"}))
    pipeline.cycle()
    fields = pipeline.world.rules.fields
    unused = {**fields, "campaign_id": replace(fields["campaign_id"], flow=Flow.OFF)}
    pipeline.world = replace(pipeline.world, rules=replace(pipeline.world.rules, fields=unused))
    pipeline.admin(
        replace(shape, fields=(shape.fields | {"sales_stage"}) - {"campaign_id"}, stages={**shape.stages})
    )
    pipeline.cycle()


# --- a clock that jumped ------------------------------------------------------------------------------------------------


class WrongClock(Meter):
    """A system's clock, so far ahead of ours."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__("partner_center", clock=lambda: START)
        self.skew = ahead


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(days=-3650)])
def test_a_clock_that_disagrees_with_the_systems_stops_before_writing(
    pipeline: Pipeline, ahead: timedelta
) -> None:
    """A hold that ended ten years too early closes deals for good; once the clock is right, it goes on by itself."""
    meter = WrongClock(ahead)
    pipeline.world = replace(pipeline.world, meters={Side.PARTNER_CENTER: meter})
    pipeline.everybody(1, value=Decimal(4711))
    before, marks = pipeline.outside.writes, pipeline.store.cycle_state().clock
    with pytest.raises(Surprise, match=r"clock is .* seconds") as caught:
        pipeline.cycle()
    assert caught.value.facts["what"] == "clock"
    assert (pipeline.outside.writes, pipeline.store.cycle_state().clock) == (before, marks)
    meter.skew = timedelta(minutes=4)
    assert pipeline.cycle().written.crm == 1


def test_what_a_wrong_clock_noted_does_not_hold_for_years(
    pipeline: Pipeline, logs: list[dict[str, object]]
) -> None:
    """The clock stood years ahead and was set back: holds last no longer than from now on, and the full compare comes."""
    held = replace(pipeline.world, rules=rules(terminal_hold=timedelta(minutes=15)))
    pipeline.world = held
    right = pipeline.outside.now
    pipeline.outside.now += timedelta(days=3650)
    pipeline.outside.people(Side.CRM, "O1", {"stage": "Closed Won"})
    pipeline.cycle()
    assert pipeline.outside.referrals["R1"].fields["state"] == "Accepted"
    logs.clear()
    pipeline.outside.now = right
    pipeline.cycle()
    assert {"clock.set_back", "compare.started"} <= {str(entry["event"]) for entry in logs}
    pipeline.outside.now += timedelta(minutes=13)
    pipeline.cycle()
    assert pipeline.outside.referrals["R1"].fields["state"] == "Accepted"
    pipeline.outside.now += timedelta(minutes=2)
    pipeline.cycle()
    assert pipeline.outside.referrals["R1"].fields["state"] == "Won"
    logs.clear()
    pipeline.cycle()
    assert "clock.set_back" not in {entry["event"] for entry in logs}


def test_a_pause_noted_by_a_wrong_clock_ends(pipeline: Pipeline) -> None:
    right = pipeline.outside.now
    pipeline.outside.now += timedelta(days=3650)
    pipeline.everybody(1, value=Decimal(4711))
    for _ in range(2):
        pipeline.outside.faults.append(Fault(Side.CRM, "rejected"))
        pipeline.cycle()
    assert any(link.memory.next_attempt for link in pipeline.store.links())
    pipeline.outside.faults.clear()
    pipeline.outside.now = right
    pipeline.cycle()
    assert pipeline.outside.opportunities["O1"].fields["value"] == Decimal(4711)


# --- an error that nobody foresaw -----------------------------------------------------------------------------------------


def test_an_unforeseen_error_ends_the_cycle_by_type_and_place(
    pipeline: Pipeline, logs: list[dict[str, object]]
) -> None:
    """Never by its words, which may be people's data; ``cycle.finished`` comes all the same, and nothing is lost."""
    pipeline.everybody(1, value=Decimal(4711))

    def fall(where: str) -> None:
        if where == "crm.write":
            raise ZeroDivisionError("ada@example.com")

    pipeline.outside.at = fall
    logs.clear()
    with pytest.raises(Broken) as caught:
        pipeline.cycle()
    told = {str(entry["event"]): entry for entry in logs}
    assert (told["cycle.broken"]["kind"], caught.value.kind) == ("ZeroDivisionError", "ZeroDivisionError")
    assert "test_safety.py" in caught.value.place or "cycle/" in caught.value.place
    assert "cycle.finished" in told
    assert "ada@example.com" not in f"{logs}{caught.value}"
    pipeline.outside.at = lambda _where: None
    assert pipeline.cycle().written.crm == 1
