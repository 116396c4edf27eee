"""A whole day with few calls, hundreds of cycles on a clock of its own, over two systems in memory that count every call.

People edit all day, deals are to be answered in the morning, at noon and late in the evening, the daemon is restarted and
killed. What must hold: no ceiling is passed, and whoever accepts or declines need not wait for the next day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import structlog

import memory_systems
from cosell_sync.core.deal import Side, Snapshot, State
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Flaky, Unavailable
from cosell_sync.ports import OpportunityDraft, OpportunityWrite, Outcome, ReferralWrite
from cosell_sync.store.open import open_store
from cosell_sync.store.quota import StoredLedger
from cosell_sync.summary import CycleSummary
from cosell_sync.transport.quota import Meter
from memory_systems import START, CountingStore, MemoryCrm, MemoryReferrals, Outside, rules

PC, CRM = Side.PARTNER_CENTER, Side.CRM
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = START.replace(hour=0) + DAY
DEALS = 12


@dataclass
class Gate:
    """In front of a system: its meter is asked before every call, as the real clients do."""

    meter: Meter
    clock: Callable[[], datetime]
    calls: Counter[date] = field(default_factory=Counter)
    limit: int | None = None  # what the system itself allows, and tells
    others: int = 0  # used of it by other programs
    refused: int = 0

    @property
    def total(self) -> int:
        return self.others + sum(self.calls.values())

    def pass_through(self) -> None:
        self.meter.spend()
        if self.limit is not None:
            self.meter.observe(self.total + 1, self.limit)
            if self.total >= self.limit:
                self.refused += 1
                raise Unavailable("crm", "limit", code="REQUEST_LIMIT_EXCEEDED", status=403)
        self.calls[self.clock().date()] += 1


class CountedReferrals(MemoryReferrals):
    gate: Gate

    def _call(self, what: str) -> None:
        self.gate.pass_through()
        super()._call(what)

    def _carry(self, write: ReferralWrite) -> Outcome:
        try:
            return super()._carry(write)
        except Unavailable as error:  # a batch is cut short, not raised: see ``ports.Referrals.outage``
            self.outage = error
            return Outcome(write.before.id, Flaky("not now", code="unavailable"))

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        self.gate.pass_through()
        return ()


class CountedCrm(MemoryCrm):
    gate: Gate

    def _call(self, what: str) -> None:
        self.gate.pass_through()
        super()._call(what)

    def _carry(self, write: OpportunityWrite) -> Outcome:
        try:
            return super()._carry(write)
        except Unavailable as error:
            self.outage = error
            return Outcome(write.before.id, Flaky("not now", code="unavailable"))

    def _make(self, draft: OpportunityDraft) -> Outcome:
        try:
            return super()._make(draft)
        except Unavailable as error:
            self.outage = error
            return Outcome(None, Flaky("not now", code="unavailable"))


class Office:
    """Twelve linked deals and four that wait for an answer, at midnight; then the daemon begins to count."""

    def __init__(self, folder: Path, ceilings: dict[Side, int | None], limit: int | None = None) -> None:
        self.outside = Outside()
        self.memory = CountingStore()
        self.ledger = StoredLedger(open_store(f"sqlite:///{folder / 'count.db'}", self.outside.clock).engine)
        self.ceilings = ceilings
        self.referrals, self.crm = CountedReferrals(self.outside), CountedCrm(self.outside)
        free = {side: Meter(side, clock=self.outside.clock) for side in Side}
        self.referrals.gate, self.crm.gate = (Gate(free[side], self.outside.clock) for side in Side)
        self.meters = free
        for number in range(DEALS + 4):
            self.outside.new_referral(State.ACCEPTED if number < DEALS else State.RECEIVED)
        self.outside.now = MIDNIGHT - HOUR
        for _ in range(3):
            self.cycle()
        self.outside.now = MIDNIGHT
        for gate in (self.referrals.gate, self.crm.gate):
            gate.calls.clear()
        self.crm.gate.limit = limit
        self.cycles = 0
        self.landed: dict[str, datetime] = {}
        self.start()

    def start(self) -> None:
        """A new process: what it knows of the day it has from the ledger."""
        self.meters = {
            side: Meter(side, clock=self.outside.clock, ceiling=ceiling, ledger=self.ledger)
            for side, ceiling in self.ceilings.items()
        }
        self.referrals.gate.meter, self.crm.gate.meter = self.meters[PC], self.meters[CRM]

    def stop(self) -> None:
        for meter in self.meters.values():
            meter.close()

    def cycle(self) -> CycleSummary | None:
        self.cycles = getattr(self, "cycles", 0) + 1
        world = Services(
            self.referrals,
            self.crm,
            self.memory,
            self.outside.clock,
            rules(terminal_hold=timedelta()),
            CycleSettings(surprise_min=99, retry_policy=RetryPolicy(MINUTE), full_every=10 * HOUR),
            self.meters,
        )
        with self.memory.lease(timedelta()):
            try:
                return run_cycle(world, f"c{self.cycles}")
            except Unavailable:
                return None

    def pause(self, ended: CycleSummary | None) -> timedelta:
        if ended is None:
            return 5 * MINUTE
        return max(meter.pace(MINUTE) for meter in self.meters.values())

    def live(self, until: datetime, happenings: dict[datetime, Callable[[], object]]) -> None:
        """Cycles at their pace; what people do happens at its time or before the next cycle."""
        coming = sorted(happenings.items(), key=lambda item: item[0])
        while self.outside.now < until:
            while coming and coming[0][0] <= self.outside.now:
                coming.pop(0)[1]()
            self.outside.now += self.pause(self.cycle())
            for name, row in self.outside.referrals.items():
                if row.fields["state"] != State.RECEIVED:
                    self.landed.setdefault(name, self.outside.now)

    # --- what people do ---

    def opportunity(self, deal: int) -> str:
        link = self.memory.by_keys([f"r:R{deal}"]).get(f"r:R{deal}")
        assert link is not None
        return str(link.opportunity_id)

    def edit(self, number: int) -> None:
        """A seller changes an amount, or Microsoft's seller the campaign."""
        deal = number % DEALS + 1
        if number % 2:
            self.outside.people(CRM, self.opportunity(deal), {"value": Decimal(1000 + number)})
        else:
            self.outside.people(PC, f"R{deal}", {"campaign_id": f"C{number}"})

    def accept(self, deal: int) -> None:
        assert self.outside.people(CRM, self.opportunity(deal), {"stage": "Proposal"})

    def decline(self, deal: int) -> None:
        assert self.outside.people(CRM, self.opportunity(deal), {"action": "Decline", "reason": "Other"})

    def edits(self, every: timedelta) -> dict[datetime, Callable[[], object]]:
        times = int(DAY / every)
        return {MIDNIGHT + number * every: lambda number=number: self.edit(number) for number in range(times)}  # type: ignore[misc]

    def answers(self) -> dict[datetime, Callable[[], object]]:
        return {
            MIDNIGHT + timedelta(hours=6, seconds=1): lambda: self.accept(DEALS + 1),
            MIDNIGHT + timedelta(hours=12, seconds=1): lambda: self.decline(DEALS + 2),
            MIDNIGHT + timedelta(hours=18, seconds=1): lambda: self.accept(DEALS + 3),
            MIDNIGHT + timedelta(hours=21, seconds=1): lambda: self.decline(DEALS + 4),
        }

    def late(self) -> list[timedelta]:
        """How long each answer took to reach Partner Center."""
        return [
            self.landed.get(f"R{DEALS + 1 + index}", MIDNIGHT + 99 * DAY) - moment
            for index, moment in enumerate(self.answers())
        ]


@pytest.fixture(autouse=True)
def believable_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_systems, "PAGE", 200)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


def told(logs: Sequence[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [line for line in logs if line["event"] == event]


@pytest.mark.parametrize("ceilings", [{PC: 300, CRM: 500}, {PC: 500, CRM: 300}, {PC: 150, CRM: 200}])
def test_a_day_of_edits_and_restarts_never_passes_a_ceiling(
    tmp_path: Path, logs: list[dict[str, object]], ceilings: dict[Side, int | None]
) -> None:
    """Three times as many cycles as there are calls would fit into the day, and an edit every few minutes."""
    office = Office(tmp_path, ceilings)
    restarts: dict[datetime, Callable[[], object]] = {}
    for number in range(1, 8):

        def restart(number: int = number) -> None:
            if number % 2:
                office.stop()  # else it was killed
            office.start()

        restarts[MIDNIGHT + number * 3 * HOUR + timedelta(seconds=2)] = restart
    office.live(MIDNIGHT + DAY, {**office.edits(7 * MINUTE), **office.answers(), **restarts})

    for side, gate in ((PC, office.referrals.gate), (CRM, office.crm.gate)):
        assert gate.calls[MIDNIGHT.date()] <= (ceilings[side] or 0)
    tightest = min((PC, CRM), key=lambda side: ceilings[side] or 0)
    gate = office.referrals.gate if tightest is PC else office.crm.gate
    assert gate.calls[MIDNIGHT.date()] >= 0.7 * (ceilings[tightest] or 0), (
        "what was left could have been used"
    )
    assert max(office.late()) < 2 * HOUR
    assert told(logs, "budget.deferred"), "the day was not tight enough to show anything"
    assert any(
        not line["rolling"] and line["expected"] > line["ceiling"] for line in told(logs, "budget.forecast")
    )  # type: ignore[operator]

    office.outside.now = max(office.outside.now, MIDNIGHT + DAY)
    for _ in range(4):
        office.outside.now += MINUTE
        office.cycle()
    for number in range(1, DEALS + 1):
        here, there = (
            office.outside.opportunities[office.opportunity(number)].fields,
            office.outside.referrals[f"R{number}"].fields,
        )
        assert (here["value"], here["campaign_id"]) == (there["value"], there["campaign_id"])


def test_other_programs_use_up_the_limit_of_the_crm(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    """The limit is everybody's: background and fields give way, answers still go, and once it is spent one call a cycle asks."""
    office = Office(tmp_path, {PC: None, CRM: None}, limit=5000)
    gate = office.crm.gate
    taken = {3: 3000, 5: 4000, 9: 4300, 17: 4450, 22: 5000}
    others: dict[datetime, Callable[[], object]] = {
        MIDNIGHT + hours * HOUR: lambda used=used: setattr(gate, "others", used - sum(gate.calls.values()))  # type: ignore[misc]
        for hours, used in taken.items()
    }
    office.live(MIDNIGHT + 22 * HOUR, {**office.edits(7 * MINUTE), **office.answers(), **others})
    assert gate.refused == 0
    assert gate.total < 5000, "the last calls are other programs' as well"
    assert max(office.late()) < 2.5 * HOUR
    levels = [line["level"] for line in told(logs, "budget.forecast") if line["side"] is CRM]
    assert {"ample", "tight", "low"} <= set(levels)

    before, cycles = sum(gate.calls.values()), office.cycles
    office.live(MIDNIGHT + DAY, {MIDNIGHT + 22 * HOUR: others[MIDNIGHT + 22 * HOUR]})
    assert sum(gate.calls.values()) - before <= 1
    assert 1 <= gate.refused <= office.cycles - cycles

    gate.others -= 4000
    for _ in range(3):
        office.outside.now += 5 * MINUTE
        office.cycle()
    assert office.cycle() is not None


def test_what_is_urgent_goes_first_whatever_its_key(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    """Six edits wait before four answers in the order of keys, and there are calls for hardly more than the answers."""
    office = Office(tmp_path, {PC: 9, CRM: 500})
    for number in range(1, 2 * DEALS, 2):
        office.edit(number)
    for deal in range(DEALS + 1, DEALS + 5):
        office.accept(deal)
    office.cycle()
    states = {office.outside.referrals[f"R{deal}"].fields["state"] for deal in range(DEALS + 1, DEALS + 5)}
    assert states == {State.ACCEPTED}
    assert told(logs, "budget.deferred")
    assert office.referrals.gate.calls.total() <= 9


def test_the_full_compare_waits_for_better_days(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    """It could as well be done tomorrow; and then it is."""
    office = Office(tmp_path, {PC: 1000, CRM: 1000})
    spent = office.meters[CRM]
    for _ in range(950):
        spent.spend()
    office.outside.now += 10.5 * HOUR
    office.cycle()
    assert not told(logs, "compare.started")
    office.outside.now += 14 * HOUR
    office.cycle()
    assert told(logs, "compare.started")


def test_with_ample_budgets_nothing_is_slowed_or_sorted(
    tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    office = Office(tmp_path, {PC: 100_000, CRM: None}, limit=100_000)
    office.edit(1)
    ended = office.cycle()
    assert office.pause(ended) == MINUTE
    assert not told(logs, "budget.deferred")
    assert [line["log_level"] for line in told(logs, "budget.forecast")] == ["info", "info"]
