"""What a question to the store costs: along an index, whatever number of deals there is.

The statements are not listed here but heard, while real cycles run, so a new question is judged like the others. SQLite counts
the steps of its machine, PostgreSQL the rows it touches; neither may grow with the deals that a question is not about.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import event

from cosell_sync.core.deal import Side
from cosell_sync.store.listing import Query, Which
from cosell_sync.store.notices import SqlOutbox
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from filled_store import FilledWorld
from memory_systems import Outside
from postgres import private_schema, server

FEW, MANY = 2, 10  # hundreds of deals
BIG = frozenset({"link", "link_row", "journal", "intent"})


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


# --- what is asked ----------------------------------------------------------------------------------------------------


def idle_cycle(world: FilledWorld) -> None:
    world.cycle()


def cycle_with_edits(world: FilledWorld) -> None:
    """Of both sides, and of one deal that waits for its answer."""
    outside = world.outside
    outside.people(Side.CRM, "O1", {"value": outside.opportunities["O1"].fields["value"] + 1})  # type: ignore[operator]
    outside.people(Side.PARTNER_CENTER, "R3", {"notes": f"seen {world.number}"})
    world.cycle()


def what_the_daemon_does_besides(world: FilledWorld) -> None:
    """Metrics, notices, hints and the daily purge, of which nothing is old enough."""
    store, now = world.store, world.outside.now
    store.outlook()
    store.hints(100)
    store.expiring(now - timedelta(days=1))
    SqlOutbox(store.engine).won(now - timedelta(minutes=1))
    with store.lease(timedelta()):
        store.purge_journal(now - timedelta(days=400))


def console(world: FilledWorld) -> None:
    """A page of each kind, and one deal."""
    for which in Which:
        world.store.page(Query(which, limit=2))
    world.store.page(Query(Which.ALL, "R1-17", by_name=False, limit=2))
    for link in world.store.by_referral(["R1"]).values():
        world.store.journal(link.key)


def what_is_rare(world: FilledWorld) -> None:
    assert list(world.store.withheld()) == []


ASKED = (idle_cycle, cycle_with_edits, what_the_daemon_does_besides, console, what_is_rare)
# How deals stand is counted in an index alone, once a cycle: that does grow, and nothing else may.
COUNTED = re.compile(r"^SELECT link.phase, link.sync_state, link.parked, .* GROUP BY ", re.DOTALL)
WHOLE_ID = (
    "link.referral_id = "  # `deals show` of an id: two unique columns, of which SQLite takes neither in an OR
)


# --- SQLite -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sqlite_worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, FilledWorld]]:
    with ExitStack() as stack, structlog.testing.capture_logs():
        yield {each: filled(stack, f"sqlite:///{tmp_path_factory.mktemp('filled')}/{each}.db", each) for each in (FEW, MANY)}  # fmt: skip


def filled(stack: ExitStack, url: str, hundreds: int) -> FilledWorld:
    outside = Outside()
    store = open_store(url, outside.clock)
    stack.callback(store.close)
    return FilledWorld(store, outside, hundreds)


class Steps(Counter[str]):
    """Hundreds of steps that SQLite made for each statement."""


@contextmanager
def counting(store: SqlStore) -> Iterator[Steps]:
    steps = Steps()
    now = [""]

    def tick() -> int:
        steps[now[0]] += 1
        return 0

    def begun(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        now[0] = statement
        connection.connection.driver_connection.set_progress_handler(tick, 100)

    event.listen(store.engine, "before_cursor_execute", begun)
    try:
        yield steps
    finally:
        event.remove(store.engine, "before_cursor_execute", begun)


def steps_of(asked: Callable[[FilledWorld], None], world: FilledWorld) -> Steps:
    with counting(world.store) as steps:
        asked(world)
    return steps


@pytest.mark.parametrize("asked", ASKED)
def test_sqlite_takes_no_more_steps_with_more_deals(
    sqlite_worlds: dict[int, FilledWorld], asked: Callable[[FilledWorld], None]
) -> None:
    few, many = (steps_of(asked, sqlite_worlds[each]) for each in (FEW, MANY))
    grown = {
        statement: (few[statement], steps)
        for statement, steps in many.items()
        if steps > few[statement] + 8 and not COUNTED.match(statement)
    }
    assert grown == {}


def test_the_count_of_deals_reads_an_index_alone(sqlite_worlds: dict[int, FilledWorld]) -> None:
    store = sqlite_worlds[MANY].store
    with counting(store) as steps:
        store.counts()
    (counted,) = (statement for statement in steps if COUNTED.match(statement))
    with store.engine.connect() as connection:
        plan = [
            row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {counted}", ("default",))
        ]
    assert plan == ["SEARCH link USING COVERING INDEX ix_link_standing (connection=?)"]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres_world() -> Iterator[FilledWorld]:
    """Its planner rightly reads a small table whole; told not to, it shows what it would do with a large one."""
    with (
        server() as url,
        private_schema(url) as place,
        ExitStack() as stack,
        structlog.testing.capture_logs(),
    ):
        yield filled(stack, place.replace("search_path", "enable_seqscan%3Doff%20-csearch_path"), MANY)


@dataclass
class Touched:
    """The rows that a statement looked at in one of the big tables."""

    statement: str
    rows: int
    plan: str


@contextmanager
def judged(store: SqlStore) -> Iterator[list[Touched]]:
    """Each question is asked once more, by EXPLAIN ANALYZE, before it is asked."""
    found: list[Touched] = []
    explained = [False]

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if explained[0] or not statement.startswith(("SELECT", "WITH")) or "FOR UPDATE" in statement:
            return
        explained[0] = True
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plan = cursor.fetchone()[0][0]["Plan"]
        finally:
            explained[0] = False
        found.append(Touched(statement, sum(map(rows_of, nodes(plan))), json.dumps(plan)))

    event.listen(store.engine, "before_cursor_execute", before)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", before)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_of(node: dict[str, Any]) -> int:
    """Rows that this node looked at in a big table, those that it dropped included."""
    if node.get("Relation Name") not in BIG:
        return 0
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)  # fmt: skip
    return int(each * node["Actual Loops"])


@pytest.mark.postgres
@pytest.mark.parametrize("asked", ASKED)
def test_postgresql_touches_no_rows_that_are_not_asked_for(
    postgres_world: FilledWorld, asked: Callable[[FilledWorld], None]
) -> None:
    """At most what a page or the deals with a clock running have; a look at each deal would be a thousand."""
    with judged(postgres_world.store) as found:
        asked(postgres_world)
    assert found
    assert [each for each in found if each.rows > 150 and not COUNTED.match(each.statement)] == []
