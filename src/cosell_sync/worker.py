"""Serves connections that a queue in PostgreSQL hands out, beside other workers: what ``cosell-sync worker`` does.

The queue (procrastinate) only wakes. Every few seconds one worker looks which connections are due and leaves a job for each,
at most one waiting per connection (``queueing_lock``). Whoever takes a job asks for the connection's lease and serves it
once; where another worker has the lease, the job ends at once. The lease alone decides who may write, so nothing of the
queue has to be exact: a job may be lost, doubled, late or done by two. A failure is a finished job, for the next look comes
anyway; the queue's own lock and its retry are not used, because after an error, or a worker that was killed, they leave
jobs behind that block a connection for ever (docs/decisions/0019).

Jobs of a worker that is gone are swept up by the next look. Where the database goes away, the queue is left and taken up
again; cycles that run meanwhile end by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Status
from procrastinate.tasks import Task

from cosell_sync.log import get_logger

QUEUE: Final = "cosell-sync"
_LOOK: Final = "look"
_SERVE: Final = "serve"
_AGAIN: Final = 1.0  # seconds until a queue that was lost is taken up again
_FIRST: Final = 10  # priority of a look: it must not wait behind what earlier looks left


@dataclass(frozen=True)
class Timing:
    """``tick``: how often due connections are looked for, in whole seconds of which a minute has a multiple. ``dead_after``: how
    long a worker says nothing until its jobs are swept up; it speaks three times as often. ``grace``: for cycles under way when
    asked to stop.
    """

    tick: timedelta = timedelta(seconds=5)
    dead_after: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(seconds=6)


class Worker:
    """``work`` blocks until ``stop``, which may be called from any thread and from a signal handler.

    ``address``: of the database, as libpq reads it. ``due``: the connections that are due now, who waits longest first.
    ``serve``: takes the lease of a connection and serves it once, or returns; called from ``parallel`` threads.
    """

    def __init__(
        self,
        address: str,
        *,
        due: Callable[[], Sequence[str]],
        serve: Callable[[str], None],
        parallel: int,
        timing: Timing = Timing(),
    ) -> None:
        self._address = address
        self._due = due
        self._serve = serve
        self._parallel = parallel
        self._timing = timing
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the queue cannot be reached just now."""
        return self._lost

    def work(self) -> None:
        """Serve until stopped. Cycles under way are waited for; who cannot wait ends the process."""
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="cycles") as pool:
            asyncio.run(self._work(pool))

    def stop(self) -> None:
        """Take no more jobs, and end."""
        self._stopping = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it ended meanwhile
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _work(self, pool: ThreadPoolExecutor) -> None:
        self._loop = asyncio.get_running_loop()
        # What the queue could not record of a job (its database went away) is nobody's loss.
        self._loop.set_exception_handler(
            lambda _loop, context: get_logger().debug("queue.error", kind=_kind(context))
        )
        while not self._stopping:
            self._running = asyncio.create_task(self._attend(pool))
            try:
                await self._running
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue is taken up again
                self._left(error)
            else:
                self._left(None)  # a part of it failed, which it told its own logger
            if not self._stopping:
                await asyncio.sleep(_AGAIN)

    async def _attend(self, pool: ThreadPoolExecutor) -> None:
        """Work for the queue until it is lost or the task is cancelled."""
        app = self.app(pool)
        dead_after = self._timing.dead_after.total_seconds()
        async with app.open_async():
            await app.run_worker_async(
                queues=[QUEUE],
                concurrency=self._parallel,
                delete_jobs="always",
                install_signal_handlers=False,
                shutdown_graceful_timeout=self._timing.grace.total_seconds(),
                fetch_job_polling_interval=self._timing.tick.total_seconds(),
                update_heartbeat_interval=dead_after / 3,
                stalled_worker_timeout=dead_after,
            )

    def app(self, pool: ThreadPoolExecutor) -> App:
        """The queue with its two kinds of jobs."""
        app = App(connector=PsycopgConnector(conninfo=self._address, min_size=1, max_size=4))

        async def serve(connection: str) -> None:
            await asyncio.wrap_future(pool.submit(self._served, connection))

        async def look(timestamp: int) -> None:
            del timestamp
            await self._look(app, serving)

        serving = app.task(name=_SERVE, queue=QUEUE)(serve)
        looking = app.task(name=_LOOK, queue=QUEUE, queueing_lock=_LOOK, priority=_FIRST)(look)
        app.periodic(cron=f"* * * * * */{round(self._timing.tick.total_seconds())}")(looking)
        return app

    async def _look(self, app: App, serving: Task[..., Any, Any]) -> None:
        """Sweep up what dead workers left, and leave a job for each connection that is due and has none."""
        if self._lost:
            self._lost = False
            get_logger().info("queue.found")
        await self._sweep(app)
        due = await asyncio.to_thread(self._due)
        waiting = {
            job.queueing_lock for job in await app.job_manager.list_jobs_async(queue=QUEUE, status="todo")
        }
        for name in due:
            if name not in waiting:
                with suppress(AlreadyEnqueued):  # the look of another worker was quicker
                    await serving.configure(queueing_lock=name).defer_async(connection=name)

    async def _sweep(self, app: App) -> None:
        seconds = self._timing.dead_after.total_seconds()
        for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=seconds):
            with suppress(ConnectorException):  # its worker goes on, and has just finished it
                await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
                get_logger().warning("job.abandoned", job=job.task_name, **_connection_of(job.task_kwargs))

    def _served(self, name: str) -> None:
        with structlog.contextvars.bound_contextvars(connection=name):
            try:
                self._serve(name)
            except Exception as error:  # noqa: BLE001 - a finished job: the connection stays due, and the next look finds it
                get_logger().error("job.failed", exc_info=error)

    def _left(self, error: Exception | None) -> None:
        if not self._stopping and not self._lost:
            get_logger().warning("queue.lost", kind=type(error).__name__ if error else "")
            self._lost = True


def _kind(context: Mapping[str, Any]) -> str:
    return type(context.get("exception")).__name__


def _connection_of(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"connection": arguments["connection"]} if "connection" in arguments else {}
