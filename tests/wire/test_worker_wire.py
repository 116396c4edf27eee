"""``worker``: two of them share what there is, one that is killed is not missed, and each ends politely.

What more may befall them, ``tests/fleet`` plays; here it is the installed command against the served systems.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from acceptance import PATIENCE, Stage, staged, waited

import postgres
from ports import held_port

pytestmark = pytest.mark.wire


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    for stage in staged(tmp_path, "salesforce"):
        stage.env.update(COSELL_SYNC__INTERVAL="1s", COSELL_SYNC__TERMINAL_HOLD="0s")
        yield stage


class Worker:
    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        port = stack.enter_context(held_port())
        self.url = f"http://127.0.0.1:{port}"
        self.log = stage.home / f"worker-{port}.log"
        self.process = stage.start("worker", into=self.log, COSELL_HTTP__LISTEN=f"127.0.0.1:{port}")
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False


@pytest.mark.postgres
def test_two_share_one_connection_and_the_other_goes_on_when_one_is_killed(stage: Stage) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(postgres.private_schema(stack.enter_context(postgres.server())))
        stage.env.update(COSELL_STORE__URL=url, COSELL_STORE__KEY="a key for the tests of workers")
        first, second = Worker(stage, stack), Worker(stage, stack)
        deal = stage.add()
        waited(lambda: stage.deals(deal), "the first import", process=first.process)
        for each in (first, second):
            waited(each.ready, "a worker that is ready", process=each.process)
        first.process.kill()
        later = stage.add()
        waited(lambda: stage.deals(later), "the import after the kill", process=second.process)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(PATIENCE) == 0, second.log.read_text()[-3000:]
        assert "daemon.abandoned" not in second.log.read_text()


def test_a_store_in_a_file_is_refused_with_the_way_out(stage: Stage) -> None:
    """Two processes would share nothing: each would have a queue of its own."""
    done = stage.cosell("worker", expect=2)
    assert "SQLite" in done.sentences
    assert "postgresql+psycopg://" in done.sentences
    assert "cosell-sync run" in done.sentences


def test_without_the_extra_it_names_the_command_that_installs_it(stage: Stage) -> None:
    (stage.home / "procrastinate.py").write_text("raise ModuleNotFoundError(name='procrastinate')")
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    variables = {"COSELL_STORE__URL": nowhere, "COSELL_STORE__KEY": "a key", "PYTHONPATH": str(stage.home)}
    done = stage.cosell("worker", expect=2, process=True, **variables)
    assert "needs the package procrastinate" in done.sentences
    assert "pip install 'cosell-sync[workers]'" in done.sentences
