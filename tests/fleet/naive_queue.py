"""The queue as its documentation suggests it: one job of a connection at a time by ``lock``, one waiting by
``queueing_lock``, failed jobs tried again by ``retry``, stalled ones put back by the documented task. The crash test shows
what becomes of that; nothing of the product uses it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence

from procrastinate import App, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException

from cosell_sync.errors import Busy, Fenced


def run(serve: Callable[[str], None], connections: Sequence[str], given: argparse.Namespace) -> None:
    conninfo = given.database.replace("postgresql+psycopg:", "postgresql:")
    while True:  # as an orchestrator starts a worker again that ended
        try:
            asyncio.run(_worker(conninfo, serve, connections, given))
        except Exception as error:  # noqa: BLE001 - as an orchestrator, which does not ask why
            print(f"naive worker ended: {type(error).__name__}", flush=True)
        time.sleep(1)


async def _worker(
    conninfo: str, serve: Callable[[str], None], connections: Sequence[str], given: argparse.Namespace
) -> None:
    app = App(connector=PsycopgConnector(conninfo=conninfo))

    @app.task(name="serve", queue="cosell", retry=RetryStrategy(max_attempts=10, wait=1))
    async def serve_job(connection: str) -> None:
        try:
            await asyncio.to_thread(serve, connection)
        except (Busy, Fenced):
            return

    @app.periodic(cron=f"* * * * * */{given.tick}")
    @app.task(name="tick", queue="cosell", priority=10)
    async def tick(timestamp: int) -> None:
        for name in connections:
            try:
                await serve_job.configure(lock=name, queueing_lock=name).defer_async(connection=name)
            except AlreadyEnqueued:
                continue

    @app.periodic(cron=f"* * * * * */{given.tick}")
    @app.task(name="retry_stalled", queue="cosell", priority=10)
    async def retry_stalled(timestamp: int) -> None:
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=given.dead_after):
            try:
                await app.job_manager.retry_job(job)
            except ConnectorException as error:
                print(f"a stalled job cannot be put back: {type(error).__name__}", flush=True)

    async with app.open_async():
        await app.run_worker_async(
            queues=["cosell"],
            concurrency=given.parallel,
            install_signal_handlers=False,
            delete_jobs="successful",
            update_heartbeat_interval=given.dead_after / 3,
            stalled_worker_timeout=given.dead_after,
        )
