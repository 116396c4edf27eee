"""A cycle whose lease may have gone to another process sends nothing that changes anything, to neither system.

The store refuses such a process by the fencing number. No other system knows that number, so the transport of every
adapter asks the lease before each write: with the adapters, the transport and the wiring of the product, over the fakes.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from crash_player import CrashPlayer, ProcessRun, writes
from crm_sellers import SELLERS

from cosell_sync.bootstrap.program import program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Fenced
from cosell_sync.transport import client

pytestmark = pytest.mark.wire


def outside(run: ProcessRun) -> list[str]:
    return [point for point in run.points if writes(point)]


def cycle(player: CrashPlayer, run: ProcessRun, *, writes: int | None = None) -> None:
    """One cycle of a fresh program, which gets its lease; ``writes``: and stands still once it has made so many."""

    def gone() -> None:
        if len(outside(run)) == writes:
            raise Fenced("another process may hold it")

    with (
        player._watched(run),
        patch.object(client, "trust", lambda: player.trusted),
        program(player.settings, clock=player.clock) as wired,
        wired.store.lease(timedelta(0)),
    ):
        if writes is not None:
            wired.store._lease.check = lambda _connection: None  # the store itself is not what is tried here
            wired.store._lease.check_deadline = gone
        run_cycle(wired.cycle_services(), "cycle")


def test_nothing_leaves_once_the_lease_may_be_another_ones(crm: str, tmp_path: Path) -> None:
    """A deal that is to be made in the CRM; then an edit of it that is to go to Partner Center. Each kind of write asks: also one
    that may be done twice without harm would undo what the successor, or a seller, has written since.
    """
    player = CrashPlayer(crm, tmp_path)
    sellers = SELLERS[crm](player.crm)
    details = {"currency": "EUR", "dealValue": 84000}
    acts = {
        "create": lambda: player.pc.add("inbound_accepted", name="Deal", details=details),
        "edit": lambda: sellers.edit("Deal", value=4321),
    }
    for name, act in acts.items():
        act()
        for number in (0, 1):
            run = ProcessRun()
            with pytest.raises(Fenced):
                cycle(player, run, writes=number)
            assert len(outside(run)) == number, (name, number)
        run = ProcessRun()
        cycle(player, run)
        assert outside(run), name
