"""Cycle after cycle over systems in memory and a store in a file, with edits on either side; to see what they cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from cosell_sync.core.deal import Side, State
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.store.open import open_store
from memory_systems import MemoryCrm, MemoryReferrals, Outside, rules

MINUTE = timedelta(minutes=1)


class Soak:
    """A world of some accepted deals, which the first cycle takes in."""

    def __init__(self, path: Path, deals: int) -> None:
        self.outside = Outside()
        self.store = open_store(f"sqlite:///{path}", self.outside.clock)
        self.world = Services(
            MemoryReferrals(self.outside),
            MemoryCrm(self.outside),
            self.store,
            self.outside.clock,
            rules(terminal_hold=timedelta()),
            CycleSettings(retry_policy=RetryPolicy(MINUTE, 3)),
        )
        self.number = self.edited = 0
        for _ in range(deals):
            self.outside.new_referral(State.ACCEPTED)

    def cycle(self) -> None:
        """One cycle, a minute after the last one."""
        self.number += 1
        self.outside.now += MINUTE
        with self.store.lease(timedelta()):
            run_cycle(self.world, f"c{self.number}")
        assert not self.outside.violations

    def cycles(self, count: int) -> None:
        """So many cycles, the journal purged now and then, with an edit before every fifth one, on the sides in turn."""
        for _ in range(count):
            if self.number % 5 == 0:
                self.edit((Side.CRM, Side.PARTNER_CENTER)[self.number // 5 % 2], 1)
            if self.number % 60 == 0:
                with self.store.lease(timedelta()):
                    self.store.purge_journal(self.outside.now - timedelta(hours=1))
            self.cycle()

    def edit(self, side: Side, deals: int) -> None:
        """People change the amount of so many deals; of the next ones the next time."""
        rows = self.outside.opportunities if side is Side.CRM else self.outside.referrals
        for key in (list(rows) * 2)[self.edited % max(len(rows), 1) :][: min(deals, len(rows))]:
            self.edited += 1
            assert self.outside.people(side, key, {"value": Decimal(1000 + self.edited)})
