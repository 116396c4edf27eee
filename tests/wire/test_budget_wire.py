"""The ceilings on the real wire, both CRMs: what the servers counted is what was allowed, over several processes of a day."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import structlog

from cosell_sync import settings
from cosell_sync.bootstrap import Program, program
from cosell_sync.core.deal import Side
from cosell_sync.cycle.run import run_cycle
from cosell_sync.errors import Unavailable
from cosell_sync.sandbox.http import Server
from cosell_sync.sandbox.world import Sandbox

pytestmark = pytest.mark.wire

CEILINGS = {Side.PARTNER_CENTER: 9, Side.CRM: 60}
CRMS = ["salesforce", "dynamics"]


@pytest.fixture(params=CRMS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(deals=12, crm=request.param) as sandbox:
        yield sandbox


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    given = sandbox.environment(tmp_path)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, given[name])
    return given


def crm_server(sandbox: Sandbox) -> Server:
    return sandbox.salesforce_server if sandbox.crm == "salesforce" else sandbox.dynamics_server


def counted(server: Server) -> int:
    """Calls without sign-ins, which no system counts."""
    apis = ("/v1.0/engagements/", "/services/data/", "/api/data/")
    return sum(call.path.startswith(apis) for call in list(server.calls))


@contextmanager
def process(environment: dict[str, str]) -> Iterator[Program]:
    with program(settings.load(None, environment)) as wired, wired.store.lease(wired.settings.sync.interval):
        yield wired


def one_shot(environment: dict[str, str], cycles: int = 1) -> int:
    """As ``sync`` does, so many times; how many ended well."""
    well = 0
    with structlog.testing.capture_logs(), process(environment) as wired:
        for number in range(cycles):
            with suppress(Unavailable):
                run_cycle(wired.world(), f"c{number}")
                well += 1
    return well


def test_no_process_of_the_day_passes_a_ceiling(sandbox: Sandbox, environment: dict[str, str]) -> None:
    limited = {
        **environment,
        "COSELL_BUDGET__PARTNER_CENTER": str(CEILINGS[Side.PARTNER_CENTER]),
        "COSELL_BUDGET__CRM": str(CEILINGS[Side.CRM]),
    }
    well = sum(one_shot(limited, cycles) for cycles in (1, 2, 1, 4, 4, 4))
    assert 0 < well < 16
    for server, side in (
        (sandbox.partner_center_server, Side.PARTNER_CENTER),
        (crm_server(sandbox), Side.CRM),
    ):
        made = counted(server)
        assert made <= CEILINGS[side]
    made = counted(sandbox.partner_center_server)
    assert one_shot(limited) == 0
    assert counted(sandbox.partner_center_server) == made, "what is spent is not asked after"


def test_without_a_ceiling_nothing_is_held_back(environment: dict[str, str]) -> None:
    assert one_shot(environment, 3) == 3


def test_the_limit_that_the_org_tells_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Salesforce tells one: spent by others, it costs one question a cycle."""
    with Sandbox(deals=12) as sandbox:
        given = sandbox.environment(tmp_path)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, given[name])
        assert one_shot(given, 2) == 2
        server, org = sandbox.salesforce_server, sandbox.salesforce
        org.api_used = org.api_calls_limit
        server.calls.clear()
        with structlog.testing.capture_logs(), process(given) as wired:
            for number in range(3):
                with pytest.raises(Unavailable):
                    run_cycle(wired.world(), f"c{number}")
                assert counted(server) <= number + 1
            org.api_used = 0
            run_cycle(wired.world(), "c9")
