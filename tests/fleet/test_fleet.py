"""The promises of ``player``, kept for half a minute by workers that are killed, stopped and cut off; see there."""

from __future__ import annotations

import pytest
from player import Play, run

from postgres import own_server

pytestmark = pytest.mark.postgres


@pytest.mark.timeout(150)
def test_whatever_befalls_the_workers_each_connection_is_served_by_one_at_a_time_and_none_is_forgotten() -> (
    None
):
    """Every write outside by the one who holds the lease, nothing twice, nobody left waiting, both sides equal in the end."""
    with own_server() as own:
        found = run(Play(seconds=20, moment=6), own)  # the machine may be busy with other tests
    assert not found.broken, found
    assert found.figures["killed"] >= 3
    assert found.figures["stopped"] >= 1
    assert found.figures["outside writes"] >= 50
