"""The ceilings on the real wire, both CRMs: what the servers counted is what was allowed, over several processes of a day."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from wired_program import CRMS, WiredProgram, cycle, wired_program

from cosell_sync.errors import Unavailable

pytestmark = pytest.mark.wire

CEILINGS = (9, 60)  # Partner Center, CRM
LIMITED = {
    "COSELL_BUDGET__PARTNER_CENTER": str(CEILINGS[0]),
    "COSELL_BUDGET__CRM": str(CEILINGS[1]),
}


def one_shot(play: WiredProgram, cycles: int = 1, **more: str) -> int:
    """As ``sync`` does, so many times; how many ended well."""
    well = 0
    with play.process(**more) as wired:
        for _ in range(cycles):
            with suppress(Unavailable):
                cycle(wired)
                well += 1
    return well


@pytest.mark.parametrize("crm", CRMS)
def test_no_process_of_the_day_passes_a_ceiling(tmp_path: Path, crm: str) -> None:
    with wired_program(tmp_path, crm, deals=12) as play:
        well = sum(one_shot(play, cycles, **LIMITED) for cycles in (1, 2, 1, 4, 4, 4))
        assert 0 < well < 16
        made = play.calls()
        assert (made[0] <= CEILINGS[0], made[1] <= CEILINGS[1]) == (True, True)
        assert one_shot(play, **LIMITED) == 0
        assert play.calls() == made, "what is spent is not asked after"


@pytest.mark.parametrize("crm", CRMS)
def test_without_a_ceiling_nothing_is_held_back(tmp_path: Path, crm: str) -> None:
    with wired_program(tmp_path, crm, deals=12) as play:
        assert one_shot(play, 3) == 3


def test_the_limit_that_the_org_tells_is_heeded(tmp_path: Path) -> None:
    """Only Salesforce tells one: spent by others, it costs one question a cycle."""
    with wired_program(tmp_path, "salesforce", deals=12) as play:
        assert one_shot(play, 2) == 2
        play.org.api_used = play.org.api_calls_limit
        before = play.calls()[1]
        with play.process() as wired:
            for number in range(3):
                with pytest.raises(Unavailable):
                    cycle(wired)
                assert play.calls()[1] - before <= number + 1
            play.org.api_used = 0
            cycle(wired)
