"""The worker's queue: who is woken, how often, and what becomes of a job that fails or whose worker is gone.

Played over procrastinate's own queue in memory; ``tests/fleet`` plays the same over PostgreSQL, with workers that are killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate import App
from procrastinate.testing import InMemoryConnector
from structlog.testing import capture_logs

from cosell_sync.serving.worker import QUEUE, Timing, Worker

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Desk:
    """A worker over a queue in memory. ``due``: what the store would say; ``served``: what was served, and whether woken."""

    def __init__(self, *due: str, fail: Sequence[str] = ()) -> None:
        self.due = dict.fromkeys(due, NOON)
        self.fail = set(fail)
        self.served: list[tuple[str, bool]] = []
        self.queue = InMemoryConnector()
        self.worker = Worker(
            lambda: self.queue,
            due=lambda: self.due,
            serve=self._serve,
            parallel=2,
            timing=Timing(),
        )

    def _serve(self, name: str, woken: bool) -> None:
        self.served.append((name, woken))
        if name in self.fail:
            raise RuntimeError("nobody foresaw this")

    def play(self, *acts: Callable[[App], Coroutine[Any, Any, object]]) -> None:
        async def all_acts() -> None:
            with ThreadPoolExecutor(2) as pool:
                app = self.worker.app(pool)
                async with app.open_async():
                    for act in acts:
                        await act(app)

        asyncio.run(all_acts())

    @property
    def waiting(self) -> list[tuple[str, str]]:
        return [
            (job["task_name"], job["queueing_lock"])
            for job in self.queue.jobs.values()
            if job["status"] == "todo"
        ]


async def look(app: App) -> None:
    await app.tasks["look"].func(timestamp=0)


async def work(app: App) -> None:
    await app.run_worker_async(
        queues=[QUEUE], wait=False, delete_jobs="always", install_signal_handlers=False
    )


def test_each_connection_that_is_due_is_left_one_job_and_no_second_while_that_waits() -> None:
    desk = Desk("north", "south")
    desk.play(look, look)
    assert desk.waiting == [("serve", "north"), ("serve", "south")]


def test_a_connection_that_is_being_served_may_have_one_job_waiting_beside() -> None:
    """Nothing of the queue keeps a connection to itself: that is what the lease is for."""
    desk = Desk("north")
    desk.play(look)
    desk.queue.jobs[1]["status"] = "doing"
    desk.play(look)
    assert desk.waiting == [("serve", "north")]


def test_jobs_carry_neither_lock_nor_retry() -> None:
    desk = Desk("north")
    desk.play(look)
    (job,) = desk.queue.jobs.values()
    assert job["lock"] is None
    with ThreadPoolExecutor(1) as pool:
        assert all(task.retry_strategy is None for task in desk.worker.app(pool).tasks.values())


def test_who_is_due_is_served_and_nothing_of_the_job_is_left() -> None:
    desk = Desk("north", "south")
    desk.play(look, work)
    assert sorted(desk.served) == [("north", False), ("south", False)]
    assert not desk.queue.jobs


def test_a_failure_is_a_finished_job_and_the_next_look_comes_anyway() -> None:
    """An error that nobody foresaw, twice: the connection is served a third time, and the other one never waits for it."""
    desk = Desk("north", "south", fail=["north"])
    with capture_logs() as log:
        desk.play(look, work, look, work)
    assert not desk.queue.jobs
    assert [line["connection"] for line in log if line["event"] == "job.failed"] == ["north", "north"]
    desk.fail.clear()
    desk.play(look, work)
    assert [name for name, _ in desk.served].count("north") == 3
    assert [name for name, _ in desk.served].count("south") == 3


def test_what_a_dead_worker_left_is_swept_up_and_what_a_living_one_does_is_not() -> None:
    desk = Desk("north", "south")
    desk.play(look)
    now = datetime.now(UTC)
    desk.queue.workers = {7: now - timedelta(seconds=31), 8: now}
    for job, worker in ((1, 7), (2, 8)):
        desk.queue.jobs[job] |= {"status": "doing", "worker_id": worker}
    desk.due = {}
    desk.play(look)
    assert [job["worker_id"] for job in desk.queue.jobs.values()] == [8]


def test_a_job_whose_worker_was_forgotten_is_swept_up_as_well() -> None:
    desk = Desk("north")
    desk.play(look)
    desk.queue.jobs[1] |= {"status": "doing", "worker_id": None}
    desk.due = {}
    desk.play(look)
    assert not desk.queue.jobs


def test_who_is_woken_is_served_although_not_due() -> None:
    desk = Desk()

    async def wake(_app: App) -> None:
        assert desk.worker._wake is not None
        await desk.worker._wake("north")

    desk.play(wake, work)
    assert desk.served == [("north", True)]
    desk.worker.wake("north")  # the queue is away: nothing happens, and nothing is raised


def test_who_is_due_for_longest_is_served_first_also_if_its_last_job_was_lost() -> None:
    """A killed worker takes its jobs along; those connections must not queue up again behind everybody else."""
    desk = Desk("north", "south")
    desk.play(look)
    desk.due["lost"] = NOON - timedelta(seconds=90)
    desk.play(look, work)
    assert [name for name, _ in desk.served] == ["lost", "north", "south"]


def test_looks_come_every_tick_by_the_queues_own_clock() -> None:
    """And a look that waits is not doubled."""
    with ThreadPoolExecutor(1) as pool:
        app = Desk().worker.app(pool)
    (periodic,) = app.periodic_registry.periodic_tasks.values()
    assert (periodic.cron, periodic.task.name, periodic.task.queueing_lock) == (
        "* * * * * */5",
        "look",
        "look",
    )
