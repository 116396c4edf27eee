"""The tables of the queue in the store's database: made once, made anew with a new version, never somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from cosell_sync.errors import ConfigError
from cosell_sync.store import queue
from cosell_sync.store.engine import make_engine, parse
from postgres import private_schema, server

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def engine(postgres: str) -> Iterator[Engine]:
    with private_schema(postgres) as url:
        engine = make_engine(parse(url))
        yield engine
        engine.dispose()


def run(engine: Engine, statement: str) -> list[object]:
    with engine.begin() as connection:
        done = connection.execute(text(statement))
        return list(done.scalars()) if done.returns_rows else []


JOB = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('cosell-sync', 'serve')"


def test_they_are_made_once(engine: Engine) -> None:
    queue.prepare(engine)
    run(engine, JOB)
    queue.prepare(engine)
    assert run(engine, "SELECT task_name FROM procrastinate_jobs") == ["serve"]


def test_those_of_an_older_version_are_made_anew_for_they_hold_nothing_worth_keeping(engine: Engine) -> None:
    queue.prepare(engine)
    run(engine, JOB)
    run(engine, "ALTER TABLE procrastinate_jobs DROP COLUMN priority CASCADE")
    old = "The queue of cosell-sync, by procrastinate 3.2.0, schema 0123456789ab"
    run(engine, f"COMMENT ON TABLE procrastinate_jobs IS '{old}'")
    queue.prepare(engine)
    assert run(engine, "SELECT priority FROM procrastinate_jobs") == []


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        (None, "another program"),
        ("Jobs of the shop", "another program"),
        ("The queue of cosell-sync, by procrastinate 99.0, schema 0123456789ab", "newer"),
    ],
)
def test_those_of_others_and_of_newer_versions_are_left_alone(
    engine: Engine, comment: str | None, told: str
) -> None:
    queue.prepare(engine)
    run(engine, JOB)
    run(engine, f"COMMENT ON TABLE procrastinate_jobs IS {'NULL' if comment is None else repr(comment)}")
    with pytest.raises(ConfigError, match=told) as raised:
        queue.prepare(engine)
    assert raised.value.hint
    assert run(engine, "SELECT task_name FROM procrastinate_jobs") == ["serve"]


def test_a_worker_that_stands_still_keeps_no_key_of_the_queue_locked(engine: Engine) -> None:
    """Each statement commits by itself: between a statement and its commit a stopped worker would block every look of the fleet."""

    async def look() -> list[bool]:
        connector = queue.connector(engine)
        await connector.open_async()
        try:
            async with (
                connector.pool.connection() as usual,
                connector._get_standalone_connection() as listening,
            ):
                return [usual.autocommit, listening.autocommit]
        finally:
            await connector.close_async()

    assert asyncio.run(look()) == [True, True]
