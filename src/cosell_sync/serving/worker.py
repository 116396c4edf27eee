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
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from procrastinate import App
from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Status
from procrastinate.tasks import Task

from cosell_sync.log import get_logger
from cosell_sync.serving.supervisor import Supervisor

QUEUE: Final = "cosell-sync"
_LOOK: Final = "look"
_SERVE: Final = "serve"
_ASKING: Final = (
    1.0  # seconds between two questions for a job, where the database cannot say that there is one
)
_AGAIN: Final = 1.0  # seconds until a queue that was lost is taken up again
_FIRST: Final = 1  # priority of a look: it must not wait behind what earlier looks left


@dataclass(frozen=True)
class Timing:
    """``tick``: how often due connections are looked for, in whole seconds of which a minute has a multiple. ``dead_after``: how
    long a worker says nothing until its jobs are swept up; it speaks three times as often.
    """

    tick: timedelta = timedelta(seconds=5)
    dead_after: timedelta = timedelta(seconds=30)


class Worker:
    """``run`` blocks until stopped; ``stop`` and ``wake`` may be called from any thread.

    ``connect``: makes the queue's access to its database. ``due``: the connections that are due now, and since when.
    ``serve``: takes the lease of a connection and serves it once, at the behest of somebody or not, or returns; called from
    ``parallel`` threads. ``listens``: whether the database can wake a worker, which it cannot through a pooler: there the worker
    asks every second. ``stopping`` and ``reload`` as of ``Supervisor``.
    """

    def __init__(
        self,
        connect: Callable[[], BaseAsyncConnector],
        *,
        due: Callable[[], Mapping[str, datetime]],
        serve: Callable[[str, bool], object],
        parallel: int,
        timing: Timing = Timing(),
        listens: bool = True,
        stopping: Callable[[], None] = lambda: None,
        reload: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._due = due
        self._serve = serve
        self._parallel = parallel
        self._timing = timing
        self._listens = listens
        self._on_stop = stopping
        self._supervisor = Supervisor(self._end, reload=reload)
        self._wake: Callable[[str], Coroutine[Any, Any, None]] | None = None  # while the queue is there
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._lost = False

    @property
    def shared(self) -> bool:
        """Whether the queue is there, by which other workers serve what this one does not."""
        return not self._lost

    def run(self) -> int:
        """Serve until stopped by signal or ``stop``; 0 is the exit code of the command. Call it in the main thread."""
        return self._supervisor.run(self._work, parallel=self._parallel, queue=QUEUE)

    def stop(self) -> None:
        """Take no more jobs, and end soon; asked twice, end now."""
        self._supervisor.stop()

    def wake(self, name: str) -> None:
        """Let some worker serve this connection now. Where the queue is away, or the connection is being served, it is served
        when it is due.
        """
        wake, loop = self._wake, self._loop
        if wake is not None and loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                asyncio.run_coroutine_threadsafe(wake(name), loop)

    def _end(self) -> None:
        self._on_stop()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    # --- the thread of the queue --------------------------------------------------------------------------------

    def _work(self) -> None:
        # Leaving waits for the cycles under way; for how long, the supervisor decides.
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="cycle") as pool:
            asyncio.run(self._attend_again(pool))

    async def _attend_again(self, pool: ThreadPoolExecutor) -> None:
        self._loop = asyncio.get_running_loop()
        # What the queue could not record of a job (its database went away) is nobody's loss.
        self._loop.set_exception_handler(
            lambda _loop, context: get_logger().debug("queue.error", kind=_kind(context))
        )
        while not self._supervisor.stopping:
            self._running = asyncio.create_task(self._attend(pool))
            try:
                await self._running
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue is taken up again
                self._left(error)
            else:
                self._left(None)  # a part of it failed, which it told its own logger
            self._wake = None
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
                listen_notify=self._listens,
                shutdown_graceful_timeout=0,  # a job only waits for its cycle, which ends without it as well
                fetch_job_polling_interval=self._timing.tick.total_seconds() if self._listens else _ASKING,
                update_heartbeat_interval=dead_after / 3,
                stalled_worker_timeout=dead_after,
            )

    def app(self, pool: ThreadPoolExecutor) -> App:
        """The queue with its two kinds of jobs."""
        app = App(connector=self._connect())

        async def serve(connection: str, *, woken: bool = False) -> None:
            await asyncio.wrap_future(pool.submit(self._served, connection, woken))

        async def look(timestamp: int) -> None:
            del timestamp
            await self._look(app, serving)

        serving = app.task(name=_SERVE, queue=QUEUE)(serve)
        looking = app.task(name=_LOOK, queue=QUEUE, queueing_lock=_LOOK, priority=_FIRST)(look)
        self._wake = partial(self._leave_job, serving, woken=True)
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
        for name, since in due.items():
            if name not in waiting:
                await self._leave_job(serving, name, priority=_urgency(since))

    @staticmethod
    async def _leave_job(serving: Task[..., Any, Any], name: str, priority: int = 0, **more: bool) -> None:
        with suppress(AlreadyEnqueued):  # somebody else was quicker
            job = serving.configure(queueing_lock=name, priority=priority)
            await job.defer_async(connection=name, **more)

    async def _sweep(self, app: App) -> None:
        seconds = self._timing.dead_after.total_seconds()
        for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=seconds):
            with suppress(ConnectorException):  # its worker goes on, and has just finished it
                await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
                get_logger().warning("job.abandoned", job=job.task_name, **_connection_of(job.task_kwargs))

    def _served(self, name: str, woken: bool) -> None:
        if self._supervisor.stopping:
            return
        try:
            self._serve(name, woken)
        except Exception as error:  # noqa: BLE001 - a finished job: the connection stays due, and the next look finds it
            get_logger().error("job.failed", connection=name, exc_info=error)

    def _left(self, error: Exception | None) -> None:
        if not self._supervisor.stopping and not self._lost:
            get_logger().warning("queue.lost", kind=type(error).__name__ if error else "")
            self._lost = True


def _urgency(since: datetime) -> int:
    """The priority of a job: who is due for longest comes first, also if its last job was lost with a worker. Below 0, the priority
    of who was woken.
    """
    return -max(1, int(since.timestamp()))


def _kind(context: Mapping[str, Any]) -> str:
    return type(context.get("exception")).__name__


def _connection_of(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"connection": arguments["connection"]} if "connection" in arguments else {}
