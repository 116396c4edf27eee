"""Every test of the whole suite is listened to: see ``log_leaks``. The modules that take longest are played first."""

from __future__ import annotations

import pytest

from log_leaks import _listening, _nothing_leaks

__all__ = ["_listening", "_nothing_leaks"]

# A worker takes whole modules (`--dist loadscope --no-loadscope-reorder`), so a long one that starts last would hold up
# the end of the run. These take 15 seconds and more, longest first (`pytest --durations=0`, summed up by module).
LONGEST_FIRST = (
    "test_crash_points",
    "test_fleet",
    "test_acceptance_settings",
    "test_acceptance_daemon",
    "test_acceptance_crashes",
    "test_fault_matrix",
    "test_acceptance_faults",
    "test_acceptance_import",
    "test_installed_command",
    "test_convergence",
    "test_acceptance_people",
    "test_fault_cycles",
    "test_provision",
    "test_acceptance_moves",
    "test_acceptance_edits",
    "test_official_clients",
    "test_deploy",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
