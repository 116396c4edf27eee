"""Every test of the whole suite is listened to: see ``log_leaks``. The modules that take longest are played first."""

from __future__ import annotations

import sqlite3
import weakref
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Pool, event

from log_leaks import _listening, _nothing_leaks

__all__ = ["_listening", "_nothing_leaks"]

# How long an example takes says how busy the machine is. Where `CI` is set Hypothesis goes by that itself.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A worker takes whole modules (`--dist loadscope --no-loadscope-reorder`), so a long one that starts last would hold up
# the end of the run. These take ten seconds and more of processor time or of waiting, longest first (each worker's
# `os.times()` around every test, summed up by module); then come the others that play over a wire, then the rest.
LONGEST_FIRST = (
    "test_crash_points",
    "test_fleet",
    "test_acceptance_crashes",
    "test_acceptance_daemon",
    "test_convergence",
    "test_fault_matrix",
    "test_fault_cycles",
    "test_acceptance_settings",
    "test_dynamics_provision",
    "test_capabilities_wire",
    "test_acceptance_faults",
    "test_sandbox_command",
    "test_store",
    "test_installed_command",
    "test_web",
    "test_dynamics",
    "test_crm",
    "test_acceptance_gaps",
    "test_login_wire",
    "test_acceptance_import",
    "test_crm_limits",
    "test_binding_wire",
    "test_webhooks_wire",
    "test_acceptance_page",
    "test_acceptance_people",
    "test_acceptance_moves",
    "test_deploy",
    "test_acceptance_per_deal",
    "test_acceptance_postgres",
    "test_withheld_wire",
    "test_acceptance_accounts",
    "test_acceptance_sharing",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank) + ("wire" not in item.path.parts)))


@event.listens_for(Pool, "connect")
def _close_with_its_pool(connection: Any, record: Any) -> None:
    """Many tests leave a store in memory to the collector of garbage; from Python 3.13 on, SQLite warns of each."""
    if isinstance(connection, sqlite3.Connection):
        weakref.finalize(record, connection.close)
