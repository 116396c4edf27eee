"""One behaviour suite for every store: dictionaries, SQLite, PostgreSQL. What the fake may do, the real ones must do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet
from memory_store import MemoryStore
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import OperationalError

from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.core.deal import ABSENT, Customer, Member, Side, Snapshot, Solution, State, SyncState
from cosell_sync.core.memory import (
    Closing,
    Failure,
    FinalKind,
    FinalStepTaken,
    Intent,
    JournalEntry,
    Link,
    Memory,
    Outlook,
    Phase,
    RefusedField,
    Withheld,
    WithheldBy,
)
from cosell_sync.errors import Busy, ConfigError, Cure, Fenced
from cosell_sync.ports import (
    CycleState,
    DealCount,
    EngagementQueue,
    ErasureResult,
    Identity,
    Store,
    Transaction,
)
from cosell_sync.store import journal, migrations, schema, serialize
from cosell_sync.store.copy import copy_into_memory, open_copy
from cosell_sync.store.engine import make_engine, parse, writing
from cosell_sync.store.lease import RowLease
from cosell_sync.store.listing import Deals, Query, Which
from cosell_sync.store.migrate import NEWEST, REVISIONS, migrate, pending
from cosell_sync.store.open import open_store
from cosell_sync.store.quota import StoredLedger
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens
from postgres import private_schema, server

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NO_WAIT = timedelta()


class Slept(list[float]):
    """A sleep that only writes down; ``then`` happens during the first one."""

    then: Callable[[], object] | None = None

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
        then, self.then = self.then, None
        if then is not None:
            then()


class InMemory:
    """A place where a store lives; ``open`` is a process starting on it."""

    def __init__(self) -> None:
        self.first = MemoryStore(name="first")

    def open(self) -> MemoryStore:
        return self.first.another()

    def take_from(self, victim: Any, thief: Any) -> None:
        """The thief gets the lease though the victim never gave it back."""
        thief.usurp()


class Sql:
    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self.slept = Slept()
        self._stack = stack

    def open(self) -> SqlStore:
        store = open_store(self.url, lambda: NOW, sleep=self.slept)
        self._stack.callback(store.close)
        return store


class Sqlite(Sql):
    def take_from(self, victim: Any, thief: Any) -> None:
        Path(self.url.removeprefix("sqlite:///") + ".lock").unlink()
        self._stack.enter_context(thief.lease(NO_WAIT))


class Postgres(Sql):
    def take_from(self, victim: Any, thief: Any) -> None:
        with thief.engine.begin() as connection:
            connection.execute(text("UPDATE lease SET deadline = clock_timestamp() - interval '1 second'"))
        self._stack.enter_context(thief.lease(NO_WAIT))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def memory() -> InMemory:
    return InMemory()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Sqlite]:
    with ExitStack() as stack:
        yield Sqlite(f"sqlite:///{tmp_path}/store.db", stack)


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Postgres]:
    with private_schema(postgres_url) as url, ExitStack() as stack:
        yield Postgres(url, stack)


POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", POSTGRES])
def sql(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(place: Any) -> Iterator[Store]:
    store = place.open()
    with store.lease(NO_WAIT):
        yield store


def entry(**changes: Any) -> JournalEntry:
    line = JournalEntry("r:1", "c1", NOW, Side.CRM, "update", "name", "old", "new", "partner_center changed")
    return replace(line, **changes)


def intent(**changes: Any) -> Intent:
    return replace(
        Intent("r:1", Side.CRM, False, "7", {"name": "New"}, {"name": "New", "notes": None}, "c1", NOW),
        **changes,
    )


FULL = Link(
    key="r:1",
    referral_id="1",
    opportunity_id="006A",
    phase=Phase.LINKED,
    referral=Snapshot(
        "1",
        "etag-1",
        {
            "name": "Deal",
            "notes": None,
            "value": Decimal("1000.50"),
            "close_date": date(2026, 6, 30),
            "favorite": False,
            "team": (Member("a@b.c", "A", None, "1", {"title": {"x": [1, None]}}),),
            "solutions": (Solution("SOL-1", "S", "Own"),),
            "customer": Customer("Contoso", country="DE", extra={"id": "9"}),
            "respond_by": NOW,
        },
        readonly=frozenset({"value"}),
    ),
    opportunity=Snapshot("006A", "v1", {"name": "Deal", "contacts": ()}, rows=frozenset({"00K1", "00K2"})),
    base_referral={"name": "Deal", "notes": None},
    base_opportunity={"name": "Deal", "value": Decimal(1)},
    memory=Memory(
        closing=Closing(State.WON, "Closed Won", NOW),
        notices=("Microsoft accepted.",),
        reported=("due-7",),
        resolved={"name": Side.CRM},
        carried_at=NOW,
        failure=Failure(Side.CRM, "FIELD_CUSTOM", "no", NOW, "digest", transient=True, fields=("value",)),
        refused={
            "notes": RefusedField(Side.CRM, "x", "no", "w", "a", Cure.TIME, 3, NOW + timedelta(hours=4)),
            "team": RefusedField(Side.PARTNER_CENTER, "y", "no", "w", "a"),
        },
        attempts=3,
        next_attempt=NOW + timedelta(hours=1),
        parked=True,
        gone=Side.PARTNER_CENTER,
        lookalikes=("006B",),
        sync_state=SyncState.NEEDS_ATTENTION,
    ),
    dirty=False,
    due=NOW,
)


def extras(snapshot: Snapshot | None) -> Any:
    """``extra`` takes no part in comparison, so it is looked at by itself."""
    assert snapshot is not None
    team: Any = snapshot["team"]
    customer: Any = snapshot["customer"]
    return [member.extra for member in team], customer.extra


def test_knows_nothing_at_first(store: Store) -> None:
    """A fresh store answers every question with nothing, never with an error."""
    assert store.by_keys(["r:1"]).get("r:1") is None
    assert store.by_referral(["1"]) == store.by_opportunity(["006A"]) == store.versions(["006A"]) == {}
    assert store.holding(["00K1"]) == frozenset()
    assert list(store.due(NOW, "", 10)) == list(store.links()) == list(store.intents(["r:1"])) == []
    assert list(store.journal("r:1")) == []
    assert store.watermark("crm") is None
    assert store.by_referral([]) == {}


def test_link_comes_back_as_it_was(store: Store) -> None:
    """Nothing of a link is lost, "cleared" stays apart from "not known", and unknown properties survive."""
    store.commit(Transaction(links=[FULL]))
    link = store.by_keys(["r:1"]).get("r:1")
    assert link == FULL
    assert link is not None
    assert extras(link.referral) == extras(FULL.referral)
    assert "notes" in link.base_referral
    assert "notes" not in link.base_opportunity
    assert store.by_referral(["1", "2"]) == {"1": FULL}
    assert store.by_opportunity(["006A", "006B"]) == {"006A": FULL}


def test_link_is_replaced_whole(store: Store) -> None:
    """The last word counts; what it leaves out is gone."""
    store.commit(Transaction(links=[FULL]))
    store.commit(Transaction(links=[Link("r:1", "1")]))
    assert store.by_keys(["r:1"]).get("r:1") == Link("r:1", "1")
    assert store.by_opportunity(["006A"]) == {}
    assert list(store.links()) == [Link("r:1", "1")]


def test_survives_its_process(place: Any) -> None:
    """What was remembered is there for the next process."""
    with place.open().lease(NO_WAIT):
        pass
    first = place.open()
    with first.lease(NO_WAIT):
        first.commit(
            Transaction(links=[FULL], intents=[intent()], journal=[entry()], watermarks={"crm": "w1"})
        )
    second = place.open()
    assert second.by_keys(["r:1"]).get("r:1") == FULL
    assert list(second.intents(["r:1"])) == [intent()]
    assert list(second.journal("r:1")) == [entry()]
    assert second.watermark("crm") == "w1"


def test_versions_and_rows_follow_the_snapshot(store: Store) -> None:
    """A child row that a deal no longer has must not lead to it; a deal without a snapshot has no version."""
    other = Link(
        "o:006B", opportunity_id="006B", opportunity=Snapshot("006B", "v9", rows=frozenset({"00K1"}))
    )
    store.commit(Transaction(links=[FULL, other, Link("o:006C", opportunity_id="006C")]))
    assert store.versions(["006A", "006B", "006C", "006D"]) == {"006A": "v1", "006B": "v9"}
    assert store.holding(["00K1"]) == {"006A", "006B"}
    assert store.holding(["00K2", "00K9"]) == {"006A"}
    store.commit(
        Transaction(links=[replace(FULL, opportunity=Snapshot("006A", "v2", rows=frozenset({"00K3"})))])
    )
    assert store.versions(["006A"]) == {"006A": "v2"}
    assert store.holding(["00K1", "00K2"]) == {"006B"}
    assert store.holding(["00K3"]) == {"006A"}


def test_many_at_once(store: Store) -> None:
    """More ids than one question takes, more links than one page holds; in order of the key all the same."""
    links = [
        Link(f"r:{n:04}", str(n), f"006{n}", opportunity=Snapshot(f"006{n}", "v", rows=frozenset({f"k{n}"})))
        for n in range(1201)
    ]
    store.commit(Transaction(links=links[::-1]))
    assert list(store.links()) == links
    assert list(store.links([Phase.WAITING])) == links
    assert len(store.by_referral([str(n) for n in range(2000)])) == 1201
    assert len(store.versions([f"006{n}" for n in range(2000)])) == 1201
    assert len(store.holding([f"k{n}" for n in range(2000)])) == 1201


def test_links_by_phase_and_key(store: Store) -> None:
    """Keys sort by code point, on every database and in every locale."""
    keys = ["o:1", "o:a", "o:A", "o:B", "o:_", "r:-", "r:1"]
    phases = [
        Phase.LINKED,
        Phase.WAITING,
        Phase.LINKED,
        Phase.SKIPPED,
        Phase.PARTED,
        Phase.WAITING,
        Phase.LINKED,
    ]
    links = [Link(key, phase=phase) for key, phase in zip(keys, phases, strict=True)]
    store.commit(Transaction(links=links))
    assert [link.key for link in store.links()] == sorted(keys)
    assert [link.key for link in store.links([Phase.LINKED, Phase.SKIPPED])] == ["o:1", "o:A", "o:B", "r:1"]
    assert list(store.links([])) == []


def test_what_has_a_clock_running(store: Store) -> None:
    """Unanswered referrals and the first to expire, the first of those held back, the oldest refused write of each side."""
    assert store.outlook() == Outlook()

    def deal(key: str, hours: int | None, state: str = "Received", **changes: Any) -> Link:
        until = None if hours is None else NOW + timedelta(hours=hours)
        return Link(key, key, referral=Snapshot(key, "1", {"state": state, "respond_by": until}), **changes)

    def refused(side: Side, hours: int) -> Memory:
        return Memory(failure=Failure(side, "c", "no", NOW - timedelta(hours=hours)))

    urgent = Memory(sync_state=SyncState.NEEDS_ATTENTION)
    store.commit(
        Transaction(
            links=[
                deal("r:1", 9, phase=Phase.LINKED),
                deal("r:2", 5, phase=Phase.LINKED),
                deal("r:3", 7, phase=Phase.WAITING, memory=urgent),
                deal("r:4", 1, phase=Phase.SKIPPED),
                deal("r:5", 1, state="Accepted", phase=Phase.LINKED),
                deal("r:6", None, phase=Phase.LINKED, memory=refused(Side.CRM, 2), due=NOW),
                deal("r:7", None, phase=Phase.LINKED, memory=replace(refused(Side.CRM, 30), parked=True)),
                deal("r:8", None, phase=Phase.LINKED, memory=refused(Side.PARTNER_CENTER, 3), due=NOW),
                deal("r:9", None, phase=Phase.PARTED, memory=refused(Side.PARTNER_CENTER, 90), due=NOW),
            ],
            intents=[intent()],
        )
    )
    assert store.outlook() == Outlook(
        unanswered=3,
        expires=NOW + timedelta(hours=5),
        held_expires=NOW + timedelta(hours=7),
        refused={Side.CRM: NOW - timedelta(hours=30), Side.PARTNER_CENTER: NOW - timedelta(hours=3)},
        intents=1,
    )


def test_hints_wait_until_a_cycle_has_looked(store: Any) -> None:
    """Said twice is said once; what comes while a cycle looks is not taken with what it saw."""
    assert store.hints(10) == []
    first = [
        ("1", "referral-updated", "t1"),
        ("2", "referral-created", "t1"),
        ("1", "referral-updated", "t2"),
    ]
    assert store.hint(first) == 3
    assert store.hint(first[:1]) == 0
    assert store.hints(10) == ["1", "2"]
    assert store.hints(1) == ["1"]
    store.commit(Transaction(looked_at=["1"], looked_until=NOW))
    assert store.hints(10) == ["2"]
    assert store.hint(first[:1]) == 0  # a repetition wakes nobody
    assert store.hints(10) == ["2"]
    assert store.hint([("1", "referral-updated", "t3")]) == 1
    assert store.hints(10) == ["2", "1"] or store.hints(10) == ["1", "2"]


def test_hints_of_other_organizations_and_of_nobody_are_kept_apart(store: Any) -> None:
    hints = [
        ("1", "referral-updated", "t1"),
        ("2", "related-referral-updated", "t1"),
        ("", "test-created", "d1"),
    ]
    assert store.hint(hints) == 3
    assert (store.hints(10), store.hints(10, related=True)) == (["1"], ["2"])
    store.commit(Transaction(looked_at=["2"], looked_until=NOW))
    assert (store.hints(10), store.hints(10, related=True)) == (["1"], [])
    assert store.hint(hints) == 0
    assert store.hint([("", "test-created", "d2")]) == 1


def test_due(store: Store) -> None:
    """Dirty, come due or with an open intent, and not parted; the moment itself counts as come."""
    quiet = Link("", dirty=False)
    links = {
        "a": replace(quiet, dirty=True),
        "b": replace(quiet, due=NOW),
        "c": replace(quiet, due=NOW + timedelta(microseconds=1)),
        "d": quiet,
        "e": quiet,
        "f": replace(quiet, dirty=True, due=NOW, phase=Phase.PARTED),
        "g": replace(quiet, phase=Phase.PARTED),
        "h": replace(quiet, dirty=True, due=NOW, phase=Phase.SKIPPED),
    }
    intents = [
        intent(link="e"),
        intent(link="e", side=Side.PARTNER_CENTER),
        intent(link="g"),
        intent(link="h"),
    ]
    store.commit(Transaction(links=[replace(link, key=key) for key, link in links.items()], intents=intents))

    def keys(after: str, limit: int) -> list[str]:
        return [link.key for link in store.due(NOW, after, limit)]

    assert keys("", 10) == ["a", "b", "e", "h"]
    assert keys("", 2) == ["a", "b"]
    assert keys("b", 1) == ["e"]
    assert keys("e", 10) == ["h"]
    assert keys("h", 10) == []


def test_due_in_another_time_zone(store: Store) -> None:
    """Moments are compared as moments, wherever they were written down."""
    away = NOW.astimezone(datetime.strptime("+0530", "%z").tzinfo)
    store.commit(Transaction(links=[Link("a", dirty=False, due=away)]))
    assert [link.key for link in store.due(NOW, "", 1)] == ["a"]
    assert list(store.due(NOW - timedelta(microseconds=1), "", 1)) == []


def test_intents_open_and_settle(store: Store) -> None:
    """One intent per link and side; settling clears just that one, and a transaction may settle and open again at once."""
    there = intent(side=Side.PARTNER_CENTER, create=True, version="")
    store.commit(Transaction(links=[FULL, Link("r:2")], intents=[intent(), there, intent(link="r:2")]))
    assert list(store.intents(["r:1", "r:9"])) == [intent(), there]
    store.commit(
        Transaction(settled=[("r:1", Side.CRM), ("r:9", Side.CRM)], intents=[intent(link="r:2", version="8")])
    )
    assert list(store.intents(["r:2", "r:1"])) == [there, intent(link="r:2", version="8")]
    again = replace(there, cycle="c2")
    store.commit(Transaction(settled=[("r:1", Side.PARTNER_CENTER)], intents=[again]))
    assert list(store.intents(["r:1"])) == [again]


@pytest.mark.parametrize(
    "value",
    [
        ABSENT,
        None,
        "text",
        "",
        True,
        Decimal("12.30"),
        date(2026, 1, 2),
        NOW,
        (),
        (Member("a@b.c"),),
        (Solution("S"),),
        Customer("C"),
        "nul \0 and \ud800",
    ],
    ids=repr,
)
def test_journal_keeps_every_kind_of_value(store: Store, value: Any) -> None:
    """A line may speak of any value, of a field we know or of none."""
    lines = [entry(old=value, new="x"), entry(field=None, old="x", new=value)]
    store.commit(Transaction(journal=lines))
    assert list(store.journal("r:1")) == lines[::-1]


def test_journal_is_newest_first(store: Store) -> None:
    """By order of writing, not by time; a deal's history is its own."""
    store.commit(
        Transaction(journal=[entry(new="1"), entry(new="2", at=NOW - timedelta(days=1)), entry(link="r:2")])
    )
    store.commit(Transaction(journal=[entry(new="3")]))
    assert [line.new for line in store.journal("r:1")] == ["3", "2", "1"]
    assert [line.new for line in store.journal("r:1", 2)] == ["3", "2"]


STATE = CycleState(
    compared_at=NOW - timedelta(hours=3),
    clock=NOW,
    rules="digest",
    shape={"fields": ["name"], "stages": {"Won": [True, True]}, "values": {}},
    engagements=EngagementQueue(("o:1", "o:2"), ("r:1",)),
)


@pytest.mark.parametrize("state", [STATE, CycleState(clock=NOW), CycleState(engagements=EngagementQueue())])
def test_what_a_cycle_leaves_for_the_next(store: Store, state: CycleState) -> None:
    """Kept whole; what does not speak of it leaves it alone; None and an empty queue are not the same."""
    assert store.cycle_state() == CycleState()
    store.commit(Transaction(state=STATE))
    store.commit(Transaction(state=state))
    store.commit(Transaction(links=[FULL], watermarks={"crm": "1"}))
    assert store.cycle_state() == state


def test_watermarks(store: Store) -> None:
    store.commit(Transaction(watermarks={"crm": "1", "partner_center": "2"}))
    store.commit(Transaction(watermarks={"crm": "3"}))
    assert (store.watermark("crm"), store.watermark("partner_center")) == ("3", "2")


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction(links=[Link("o:9", "1")]),
        Transaction(links=[Link("o:9", opportunity_id="006A")]),
        Transaction(links=[Link("o:8", "8"), Link("o:9", "8")]),
        Transaction(intents=[intent(link="r:9")]),
    ],
    ids=["referral", "opportunity", "within", "intent"],
)
def test_all_or_nothing(store: Store, transaction: Transaction) -> None:
    """No id belongs to two deals, no intent to none; and what goes with such a transaction is not kept either."""
    store.commit(Transaction(links=[FULL], watermarks={"crm": "1"}, intents=[intent()]))
    bad = replace(
        transaction,
        links=[Link("r:5", "5"), *transaction.links],
        journal=[entry()],
        watermarks={"crm": "2"},
        settled=[("r:1", Side.CRM)],
    )
    with pytest.raises(ValueError, match=r"already|not known|contradicts"):
        store.commit(bad)
    assert list(store.links()) == [FULL]
    assert list(store.journal("r:1")) == []
    assert store.watermark("crm") == "1"
    assert list(store.intents(["r:1"])) == [intent()]


def test_ids_move_between_links_in_one_transaction(store: Store) -> None:
    """Two halves that were seen apart become one deal, in whichever order the transaction names them."""
    referral, opportunity = Link("r:1", "1"), Link("o:2", opportunity_id="2")
    store.commit(Transaction(links=[referral, opportunity]))
    joined = [replace(referral, opportunity_id="2"), replace(opportunity, opportunity_id=None)]
    store.commit(Transaction(links=joined))
    assert store.by_opportunity(["2"]) == {"2": joined[0]}
    swapped = [replace(joined[0], opportunity_id=None), replace(joined[1], opportunity_id="2")]
    store.commit(Transaction(links=swapped[::-1]))
    assert store.by_opportunity(["2"]) == {"2": swapped[1]}


# --- the one writer -------------------------------------------------------------------------------------------------


def test_no_write_without_the_lease(place: Any) -> None:
    """Whoever does not hold the lease writes nothing, before as well as after having held it."""
    store = place.open()
    with pytest.raises(Fenced):
        store.commit(Transaction(links=[FULL]))
    with store.lease(NO_WAIT):
        assert store.holds_lease
    assert not store.holds_lease
    with pytest.raises(Fenced):
        store.commit(Transaction(links=[FULL]))
    assert list(store.links()) == []


def test_one_holder_at_a_time(place: Any) -> None:
    """The second is told who the first is; reading needs no lease; the lease is free again after a fault."""
    first, second = place.open(), place.open()
    assert second.holder() is None
    with first.lease(NO_WAIT):
        first.commit(Transaction(links=[FULL]))
        assert second.holder() == first.holder() is not None
        assert second.by_keys(["r:1"]).get("r:1") == FULL
        with pytest.raises(Busy) as busy, second.lease(NO_WAIT):
            pass
        assert busy.value.holder == first.holder()
        with pytest.raises(Busy), first.lease(NO_WAIT):
            pass
        first.commit(Transaction(links=[FULL]))
    assert second.holder() is None
    with pytest.raises(ZeroDivisionError), second.lease(NO_WAIT):
        raise ZeroDivisionError
    with first.lease(NO_WAIT):
        first.commit(Transaction(watermarks={"crm": "1"}))


def test_fenced_after_losing_the_lease(place: Any) -> None:
    """Who lost the lease while away is refused, and leaves the new holder's lease alone when leaving."""
    first, second = place.open(), place.open()
    with first.lease(NO_WAIT):
        place.take_from(first, second)
        with pytest.raises(Fenced):
            first.commit(Transaction(links=[FULL]))
    assert second.by_keys(["r:1"]).get("r:1") is None
    second.commit(Transaction(links=[FULL]))
    with pytest.raises(Busy), first.lease(NO_WAIT):
        pass


def test_waits_for_the_lease(sql: Any) -> None:
    """Asks again in short pauses, until it is free or the time is over."""
    first, second = sql.open(), sql.open()
    with ExitStack() as stack:
        stack.enter_context(first.lease(NO_WAIT))
        with pytest.raises(Busy), second.lease(timedelta(seconds=1.1)):
            pass
        assert sum(sql.slept) == pytest.approx(1.1)
        sql.slept.then = stack.close
        with second.lease(timedelta(seconds=30)):
            second.commit(Transaction(links=[FULL]))
    assert sum(sql.slept) < 2


@pytest.mark.postgres
def test_row_lease_is_renewed(postgres: Postgres) -> None:
    """The deadline moves while it is held; a lost lease is noticed rather than taken back."""
    store, other = postgres.open(), postgres.open()

    def deadline() -> datetime:
        with store.engine.connect() as connection:
            return connection.execute(text("SELECT deadline FROM lease")).scalar_one()

    with store.lease(NO_WAIT):
        lease = store._lease
        assert isinstance(lease, RowLease)
        before = deadline()
        assert lease.renew()
        assert deadline() > before
        postgres.take_from(store, other)
        assert not lease.renew()
    assert other.holds_lease


@pytest.mark.postgres
def test_who_asks_for_the_lease_does_not_wait_for_a_writer_that_stands_still(postgres: Postgres) -> None:
    """In the middle of its transaction, with the row locked: it would block everybody who asks, one thread after the other."""
    store, other = postgres.open(), postgres.open()
    with store.lease(NO_WAIT):
        with other.engine.begin() as connection:
            connection.execute(text("UPDATE lease SET deadline = clock_timestamp() - interval '1 second'"))
        with writing(store.engine) as transaction:
            store._lease.check(transaction)
            with pytest.raises(Busy), other.lease(NO_WAIT):
                pass
            assert transaction.scalar(text("SHOW idle_in_transaction_session_timeout")) == "15s"


@pytest.mark.postgres
def test_nobody_takes_over_in_the_middle_of_a_write(postgres: Postgres) -> None:
    """Between the look at the fencing number and the commit the row is locked, even past its deadline."""
    store, other = postgres.open(), postgres.open()
    take = text("SELECT fence FROM lease FOR UPDATE NOWAIT")
    with store.lease(NO_WAIT):
        with writing(store.engine) as transaction:
            store._lease.check(transaction)
            with pytest.raises(OperationalError), other.engine.begin() as connection:
                connection.execute(take)
        with other.engine.begin() as connection:
            connection.execute(take)


@pytest.mark.postgres
def test_row_lease_renews_itself(postgres: Postgres) -> None:
    """At a third of the deadline, by a thread that ends with the lease."""
    store = open_store(postgres.url, lambda: NOW, deadline=timedelta(milliseconds=30))
    try:
        lease = store._lease
        assert isinstance(lease, RowLease)
        with store.lease(NO_WAIT):
            thread = lease._renewer
            assert thread is not None
            assert thread.is_alive()
            with store.engine.begin() as connection:
                connection.execute(text("UPDATE lease SET fence = fence + 1"))
            thread.join(timeout=30)
            assert not thread.is_alive()
    finally:
        store.close()


# --- beside the protocol ----------------------------------------------------------------------------------------------


def test_counts(sql: Any) -> None:
    store = sql.open()
    with store.lease(NO_WAIT):
        held = Memory(failure=Failure(Side.CRM, "ENTITY_IS_LOCKED", "no", NOW, locked=True))
        store.commit(Transaction(links=[FULL, Link("r:2"), Link("r:3"), Link("r:4", memory=held, due=NOW)]))
    assert list(store.counts()) == [
        DealCount(Phase.LINKED, SyncState.NEEDS_ATTENTION, True, False, 1),
        DealCount(Phase.WAITING, SyncState.IN_SYNC, False, False, 2),
        DealCount(Phase.WAITING, SyncState.IN_SYNC, False, False, 1, locked=True),
    ]


def test_deals_are_counted_again_only_where_they_may_have_changed(sql: Any) -> None:
    """By the one writer after it has written, and after another one was it; whoever has no lease asks every time."""
    store, other = sql.open(), sql.open()
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))

    def deals() -> tuple[int, bool]:
        """How many there are, and whether the database was asked."""
        asked.clear()
        return sum(each.deals for each in store.counts()), any("GROUP BY" in each for each in asked)

    with store.lease(NO_WAIT):
        assert [deals(), deals()] == [(0, True), (0, False)]
        store.commit(Transaction(watermarks={"crm": "1"}))
        assert deals() == (0, False)
        store.commit(Transaction(links=[FULL]))
        assert [deals(), deals()] == [(1, True), (1, False)]
    assert [deals(), deals()] == [(1, True), (1, True)]
    with other.lease(NO_WAIT):
        other.commit(Transaction(links=[Link("r:2", "2")]))
    with store.lease(NO_WAIT):
        assert deals() == (2, True)
        event.listen(
            store.engine, "commit", lambda _: deals(), once=True
        )  # who looks at the console meanwhile
        store.commit(Transaction(links=[Link("r:3", "3")]))
        assert deals() == (3, True)


def test_deals_that_need_a_person_are_found_without_reading_the_others(
    sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand links: counts read none, the list of urgent ones as many as it tells, and no snapshot of theirs."""
    store = sql.open()
    urgent = {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}
    states = [SyncState.NEEDS_ATTENTION, SyncState.CONFLICT, *[SyncState.IN_SYNC] * 8]
    links = [
        replace(
            FULL,
            key=f"r:{number:04}",
            referral_id=f"{number}",
            opportunity_id=None,
            opportunity=None,
            memory=replace(FULL.memory, sync_state=states[number % 10]),
        )
        for number in range(1000)
    ]
    with store.lease(NO_WAIT):
        store.commit(Transaction(links=links))
    read: list[str] = []
    monkeypatch.setattr(serialize, "to_link", lambda row: read.append(row["key"]) or Link(row["key"]))
    assert sum(count.deals for count in store.counts()) == 1000
    assert [link.key for link in store.page(Query(Which.PERSON, limit=3)).links] == [
        "r:0000",
        "r:0001",
        "r:0010",
    ]
    assert sorted(read) == ["r:0000", "r:0001", "r:0010"]
    read.clear()
    list(store.links((Phase.LINKED, Phase.WAITING), urgent))
    assert len(read) == 200


PAGED = [
    ("r:1", "Alpha", Phase.LINKED, SyncState.IN_SYNC, 9),
    ("r:2", "Beta 100%", Phase.WAITING, SyncState.CONFLICT, 3),
    ("r:3", "Straße_1", Phase.LINKED, SyncState.NEEDS_ATTENTION, None),
    ("r:4", "alphabet\x00", Phase.LINKED, SyncState.CLOSED, None),
    ("r:5", "Alpha", Phase.SKIPPED, SyncState.IN_SYNC, None),
    ("r:6", "Alpha", Phase.PARTED, SyncState.IN_SYNC, 1),
    ("r:7", "Gamma", Phase.LINKED, SyncState.IN_SYNC, 3),
]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        (Query(), "12347"),
        (Query(text="ALPHA"), "14"),
        (Query(text="strasse_"), "3"),
        (Query(text="a_p"), ""),
        (Query(text="100%"), "2"),
        (Query(text="e%1"), ""),
        (Query(text="al\x00pha"), "14"),
        (Query(text="o-3"), "3"),
        (Query(text="alpha", by_name=False), ""),
        (Query(text="o-3", by_name=False), "3"),
        (Query(text="3\x00", by_name=False), "3"),
        (Query(Which.PERSON), "23"),
        (Query(Which.CONFLICT), "2"),
        (Query(Which.CONFLICT, "alpha"), ""),
        (Query(Which.IN_SYNC), "17"),
        (Query(Which.UNANSWERED), "271"),
        (Query(Which.UNANSWERED, "gamma"), "7"),
        (Query(Which.UNANSWERED, after="no moment"), "271"),
        (Query(Which.SKIPPED), "5"),
        (Query(Which.UNLINKED), "6"),
        (Query(Which.PARKED), "3"),
        (Query(Which.WITHHELD), "1"),
    ],
)
def test_deals_are_found_page_by_page(sql: Any, query: Query, keys: str) -> None:
    """By state, by deadline, by part of a name whatever its case and characters; the pages put together are the whole."""
    store = sql.open()
    links = [
        Link(
            key,
            key[2:],
            f"o-{key[2:]}",
            phase,
            Snapshot(
                key[2:],
                "1",
                {
                    "name": name,
                    "state": "Received" if hours else "Accepted",
                    "respond_by": NOW + timedelta(hours=hours) if hours else None,
                },
            ),
            memory=Memory(
                sync_state=state,
                parked=key == "r:3",
                withheld=(Withheld(FinalKind.ACCEPT, "x", WithheldBy.COUNT),) if key == "r:1" else (),
            ),
        )
        for key, name, phase, state, hours in PAGED
    ]
    with store.lease(NO_WAIT):
        store.commit(Transaction(links=links))
    by_key = {link.key[2:]: link for link in links}
    whole = store.page(query)
    assert whole == Deals([by_key[key] for key in keys], "")
    found, after = "", query.after
    for _ in range(len(keys) + 1):
        page = store.page(replace(query, after=after, limit=1))
        found += "".join(link.key[2:] for link in page.links)
        after = page.next
        if not after:
            break
    assert found == keys


@pytest.mark.parametrize("name", ["Ł" * 4000, "a\ud800b\x00c", "\u202e"], ids=["long", "broken", "turned"])
def test_any_name_can_be_stored_and_found(sql: Any, name: str) -> None:
    """An index row of PostgreSQL has a bound, and it takes neither a zero byte nor half a surrogate in a text."""
    store = sql.open()
    link = Link("r:1", "R1", referral=Snapshot("R1", "1", {"name": name, "customer": Customer(name=name)}))
    with store.lease(NO_WAIT):
        store.commit(Transaction(links=[link]))
    assert [each.key for each in store.page(Query(text=f"\x00{name[:600]}")).links] == ["r:1"]
    assert store.page(Query(text="r2")).links == []


def test_to_whom_a_store_belongs(store: Store) -> None:
    """By side; a copy for `plan` keeps it, and what was read goes when it is to be read again."""
    assert store.bindings() == {}
    crm, ours = Identity("salesforce", "00D1", "a.example"), Identity("partner_center", "t", "b.example")
    store.commit(Transaction(bindings={Side.CRM: crm}, watermarks={"crm": "1", "partner_center": "2"}))
    assert store.bindings() == {Side.CRM: crm}
    moved = replace(crm, host="c.example")
    store.commit(Transaction(bindings={Side.CRM: moved, Side.PARTNER_CENTER: ours}, unread=[Side.CRM]))
    assert store.bindings() == {Side.CRM: moved, Side.PARTNER_CENTER: ours}
    assert [store.watermark(side) for side in ("crm", "partner_center")] == [None, "2"]
    if isinstance(store, SqlStore):
        assert copy_into_memory(store).bindings() == store.bindings()


def test_the_lines_of_one_write_share_a_row(sql: Any) -> None:
    """Forty rows for a new opportunity were a tenth of an import's time, and most of a store's size."""
    lines = [entry(action="create", field=f"field{at}", old=None, new=str(at)) for at in range(40)]
    lines += [
        entry(action="move", field="stage", new="Closed Won"),
        entry(cycle="c2"),
        entry(cycle="c2", side=Side.PARTNER_CENTER),
    ]
    with (store := sql.open()).lease(NO_WAIT):
        store.commit(Transaction(journal=lines))
    with store.engine.connect() as connection:
        assert len(connection.execute(select(schema.journal.c.id)).all()) == 4
    assert list(store.journal("r:1")) == lines[::-1]
    assert list(store.journal("r:1", 10)) == lines[:-11:-1]


def test_child_rows_are_written_only_where_they_changed(sql: Any) -> None:
    """A deal is stored several times in a cycle, and its rows are nearly always the same."""
    written: list[str] = []
    with (store := sql.open()).lease(NO_WAIT):
        store.commit(Transaction(links=[FULL]))

        @event.listens_for(store.engine, "after_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            written.extend([statement] * bool(re.match(r"(INSERT INTO|DELETE FROM) link_row", statement)))

        store.commit(Transaction(links=[replace(FULL, dirty=not FULL.dirty)]))
        assert written == []
        store.commit(Transaction(links=[replace(FULL, opportunity=None)]))
        assert len(written) == 1
        assert store.holding(["00K1", "00K2"]) == frozenset()
        store.commit(Transaction(links=[FULL]))
        assert len(written) == 2
        assert store.holding(["00K1"]) == store.holding(["00K2"]) == {"006A"}


def test_purge_journal(sql: Any) -> None:
    """History goes by its age, and only by the hand that holds the lease."""
    store = sql.open()
    with store.lease(NO_WAIT):
        store.commit(Transaction(journal=[entry(at=NOW - timedelta(days=400, seconds=1)), entry(new="kept")]))
        assert store.purge_journal(NOW - timedelta(days=400)) == 1
    assert list(store.journal("r:1")) == [entry(new="kept")]
    with pytest.raises(Fenced):
        store.purge_journal(NOW)


def test_a_long_purge_is_many_short_transactions(sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes meanwhile waits for one of them only, and a purge whose lease goes away leaves the rest."""
    monkeypatch.setattr(journal, "PURGED_AT_ONCE", 2)
    store, other = sql.open(), sql.open()
    ended: list[Any] = []
    event.listen(store.engine, "commit", ended.append)
    old = [entry(at=NOW - timedelta(days=400 + day), new=str(day)) for day in range(1, 6)]
    with store.lease(NO_WAIT):
        store.commit(Transaction(journal=[*old, entry(new="kept")]))
        ended.clear()
        assert store.purge_journal(NOW - timedelta(days=400)) == 5
        assert len(ended) == 3
        store.commit(Transaction(journal=old))
        event.listen(store.engine, "checkin", lambda *_: sql.take_from(store, other), once=True)
        with pytest.raises(Fenced):
            store.purge_journal(NOW - timedelta(days=400))
    assert [line.new for line in store.journal("r:1")] == ["3", "2", "1", "kept"]


def test_copy_is_complete_and_apart(sql: Any) -> None:
    """`plan` decides on a copy: it holds everything, takes writes, and gives none of them back."""
    store = sql.open()
    with store.lease(NO_WAIT):
        store.commit(
            Transaction(links=[FULL], intents=[intent()], journal=[entry()], watermarks={"crm": "1"})
        )
        copies = [copy_into_memory(store), open_copy(sql.url, lambda: NOW)]
    for copy in copies:
        assert list(copy.links()) == [FULL]
        assert list(copy.intents(["r:1"])) == [intent()]
        assert list(copy.journal("r:1")) == [entry()]
        assert copy.holding(["00K1"]) == {"006A"}
        with copy.lease(NO_WAIT):
            copy.commit(Transaction(links=[Link("r:2")], journal=[entry(new="3")], watermarks={"crm": "2"}))
        assert copy.by_keys(["r:2"]).get("r:2") == Link("r:2")
        copy.close()
    assert list(store.links()) == [FULL]
    assert store.watermark("crm") == "1"


def test_copy_of_what_is_not_there(sql: Any, tmp_path: Path) -> None:
    """Nothing is made, not even a file; the copy is an empty store."""
    copy = open_copy(sql.url, lambda: NOW)
    assert list(copy.links()) == []
    with copy.lease(NO_WAIT):
        copy.commit(Transaction(links=[FULL]))
    copy.close()
    assert list(tmp_path.iterdir()) == []


def test_the_revisions_are_known_without_alembic() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__ or "").parent))
    assert tuple(script.revision for script in scripts.walk_revisions()) == REVISIONS
    assert REVISIONS[0] == NEWEST


def test_a_store_that_is_up_to_date_starts_no_alembic(sqlite: Sqlite) -> None:
    """Its import is a quarter of a command's start."""
    sqlite.open().close()
    look = (
        "import sys; from datetime import UTC, datetime; from cosell_sync.store.open import open_store; "
        f"open_store({sqlite.url!r}, lambda: datetime.now(UTC)).close(); "
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_migrations_make_the_schema(sql: Any) -> None:
    """The tables that the migrations build are the tables that the code believes in."""
    migrate(sql.url)
    migrate(sql.url)
    store = sql.open()
    assert not pending(store.engine)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, schema.metadata) == []


def test_store_of_a_newer_version(sql: Any) -> None:
    """An older program does not touch it, and names both revisions."""
    store = sql.open()
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9876'"))
    with pytest.raises(ConfigError, match=f"9876.*{NEWEST}") as error:
        sql.open()
    assert error.value.hint
    with pytest.raises(ConfigError, match="9876"):
        open_copy(sql.url, lambda: NOW)


OLD_WATERMARKS = {
    "crm": "w1",
    "partner_center": "w2",
    "full_compare": (NOW - timedelta(hours=3)).isoformat(),
    "clock": NOW.isoformat(),
    "rules": "digest",
    "shape": json.dumps(STATE.shape),
    "microsoft": json.dumps({"asked": ["o:1", "o:2"], "once": ["r:1"]}),
}


@pytest.mark.parametrize("version", ["0001", "0002"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "empty"])
def test_a_store_of_a_released_version_keeps_what_it_knows(sql: Any, version: str, known: bool) -> None:
    """Made by the migrations of that version, with what it wrote, its words for a failure and what was said among it."""
    assert FULL.referral is not None
    received = replace(FULL.referral, fields={**FULL.referral.fields, "state": "Received"})
    unanswered = replace(FULL, referral=received)
    engine = make_engine(parse(sql.url))
    with writing(engine) as connection:
        configuration = Config()
        configuration.set_main_option("script_location", str(Path(migrations.__file__ or "").parent))
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, version)
        row = serialize.from_link(unanswered)
        del row["withheld"], row["respond_by"], row["search"]
        row["memory"]["trouble"] = row["memory"].pop("failure")
        row["memory"]["told"] = row["memory"].pop("reported")
        if known:
            connection.execute(insert(schema.link), [{"connection": "default", **row}])
            connection.execute(
                insert(schema.watermark),
                [{"connection": "default", "name": n, "value": v} for n, v in OLD_WATERMARKS.items()],
            )
    engine.dispose()
    store = sql.open()
    assert list(store.links()) == ([unanswered] if known else [])
    found = [store.page(Query(text=text)).links for text in ("006A", "contoso", "nowhere")]
    assert found == ([[unanswered], [unanswered], []] if known else [[], [], []])
    # Its failure is stored under the old name until the deal is next written.
    clock = Outlook(unanswered=1, expires=NOW)
    assert store.outlook() == (clock if known else Outlook())
    assert store.cycle_state() == (STATE if known else CycleState())
    assert (store.watermark("crm"), store.watermark("partner_center")) == (
        ("w1", "w2") if known else (None, None)
    )
    with store.engine.connect() as connection:
        names = set(connection.execute(select(schema.watermark.c.name)).scalars())
    assert names == ({"crm", "partner_center"} if known else set())
    assert StoredLedger(store.engine).used("dynamics", NOW.date()) == 0


def test_the_calls_of_a_day_add_up_across_processes(sql: Any) -> None:
    """Each system and day has a count of its own, no lease is needed, and no more is granted than the ceiling leaves."""
    one, two = (StoredLedger(sql.open().engine) for _ in range(2))
    assert one.reserve("dynamics", NOW.date(), 6, 10) == (6, 6)
    assert two.reserve("dynamics", NOW.date(), 6, 10) == (4, 10)
    assert one.reserve("dynamics", NOW.date(), 6, 10) == (0, 10)
    two.give_back("dynamics", NOW.date(), 3)
    assert one.used("dynamics", NOW.date()) == 7
    assert one.reserve("dynamics", NOW.date(), 1, 5) == (0, 7)  # the ceiling was lowered meanwhile
    assert one.used("partner_center", NOW.date()) == one.used("dynamics", (NOW + timedelta(1)).date()) == 0


# --- forgetting a person ------------------------------------------------------------------------------------------------


ADA = Member("ada@x.example", "Ada", "Byron", "+44 20 987650")


def about_ada(key: str) -> Transaction:
    """A deal that is full of one person: snapshots, bases, an open write, history, and what was said."""
    held = {"contacts": (ADA, Member("bob@x.example"))}
    link = replace(
        FULL,
        key=key,
        referral_id=key,
        opportunity_id=f"006{key}",
        referral=Snapshot(key, "1", {**held, "notes": "ask Ada Byron"}),
        opportunity=Snapshot(f"006{key}", "1", held, rows=frozenset({f"row{key}"})),
        base_referral=held,
        base_opportunity=held,
        memory=Memory(notices=("+44 20 987650",)),
    )
    line = entry(link=key, field="contacts", old=(), new=held["contacts"])
    return Transaction(links=[link], intents=[intent(link=key, fields=held)], journal=[line, entry(link=key)])


def test_a_person_is_forgotten_everywhere(store: Store) -> None:
    """What was found is said; a second time finds nothing; other people and other deals stay."""
    store.commit(about_ada("1"))
    store.commit(about_ada("2"))
    store.commit(Transaction(links=[replace(FULL, key="r:3", referral_id="3", opportunity_id="006C")]))
    untouched = store.by_keys(["r:3"]).get("r:3")
    assert store.forget(" ADA@x.example ") == ErasureResult(deals=2, intents=2, journal=2)
    assert store.forget("ada@x.example") == ErasureResult()
    for key in ("1", "2"):
        text = f"{store.by_keys([key]).get(key)} {store.intents([key])} {store.journal(key)}"
        assert not re.search("ada@|Byron|987650", text)
        assert "bob@x.example" in text
        assert len(store.journal(key)) == 2
        assert [link.key for link in store.due(NOW, "", 10)][:2] == ["1", "2"]
        assert store.holding([f"row{key}"]) == frozenset()
    assert store.by_keys(["r:3"]).get("r:3") == untouched


def test_forgetting_takes_the_lease(place: Any) -> None:
    """Else a cycle under way would write what it had read before."""
    store = place.open()
    with pytest.raises(Fenced):
        store.forget("ada@x.example")


def test_the_files_of_the_store_hold_nothing_of_the_person_either(sqlite: Sqlite, tmp_path: Path) -> None:
    """What SQLite gives up is overwritten, in the file and in its log."""
    store = sqlite.open()
    with store.lease(NO_WAIT):
        for number in range(50):
            store.commit(about_ada(str(number)))
        assert any(b"ada@x.example" in file.read_bytes() for file in tmp_path.iterdir())
        store.forget("ada@x.example")
        assert [file.name for file in tmp_path.iterdir() if b"ada@x.example" in file.read_bytes()] == []


# --- tokens -------------------------------------------------------------------------------------------------------------


OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_tokens_are_kept_encrypted(sql: Any) -> None:
    """The database never holds the token; saving works while another process holds the lease."""
    store, other = sql.open(), sql.open()
    tokens = StoredTokens(store.engine, OLD)
    assert tokens.load("partner_center") is None
    with other.lease(NO_WAIT):
        tokens.save("partner_center", "secret-1")
        tokens.save("partner_center", "secret-2")
    assert StoredTokens(other.engine, OLD).load("partner_center") == "secret-2"
    assert tokens.load("other") is None
    with store.engine.connect() as connection:
        (row,) = connection.execute(schema.token.select())
    assert b"secret" not in row.secret
    assert row.seed is None


def test_keys_rotate(sql: Any) -> None:
    """The first key encrypts, the others still open; any long text will do as a key."""
    engine = sql.open().engine
    StoredTokens(engine, OLD).save("t", "1")
    both = StoredTokens(engine, f"{NEW}, {OLD}")
    assert both.load("t") == "1"
    both.save("t", "2")
    assert StoredTokens(engine, NEW).load("t") == "2"
    StoredTokens(engine, "correct horse battery staple").save("t", "3")
    assert StoredTokens(engine, "correct horse battery staple").load("t") == "3"


def test_wrong_key(sql: Any) -> None:
    """Said with the next step and without the token; a new sign-in gets one out of it."""
    engine = sql.open().engine
    StoredTokens(engine, OLD).save("t", "secret")
    wrong = StoredTokens(engine, NEW)
    for attempt in (lambda: wrong.load("t"), lambda: wrong.seed("t", "seed")):
        with pytest.raises(ConfigError, match="key") as error:
            attempt()
        assert "cosell-sync login" in error.value.hint
        assert not re.search("secret|seed", f"{error.value}")
    wrong.save("t", "again")
    assert wrong.load("t") == "again"
    for key in ("", " , ", "short"):
        with pytest.raises(ConfigError):
            StoredTokens(engine, key)


def test_seed_counts_once(sql: Any) -> None:
    """A configured token is taken in once; the rotated one stays until the configured one is changed."""
    engine = sql.open().engine
    tokens = StoredTokens(engine, OLD)
    assert tokens.seed("t", "seed-1")
    assert tokens.load("t") == "seed-1"
    tokens.save("t", "rotated")
    assert not tokens.seed("t", "seed-1")
    assert tokens.load("t") == "rotated"
    rotated_key = StoredTokens(engine, f"{NEW},{OLD}")
    assert not rotated_key.seed("t", "seed-1")
    assert not rotated_key.seed("t", "seed-1")
    rotated_key.save("t", "rotated-2")
    assert not StoredTokens(engine, NEW).seed("t", "seed-1")
    assert tokens_after(engine, "seed-2") == "seed-2"


def tokens_after(engine: Any, seed: str) -> str | None:
    tokens = StoredTokens(engine, NEW)
    assert tokens.seed("t", seed)
    return tokens.load("t")


def test_steps_that_cannot_be_undone_are_counted_by_kind_within_a_window(store: Store) -> None:
    """Of a link and kind the last announcement counts, so one that is tried again counts once."""
    steps = [
        FinalStepTaken("r:1", FinalKind.WIN, NOW - timedelta(hours=2)),
        FinalStepTaken("r:2", FinalKind.WIN, NOW),
        FinalStepTaken("r:2", FinalKind.POST, NOW),
    ]
    item = Withheld(FinalKind.WIN, "Closed Won|", WithheldBy.COUNT)
    link = Link("r:9", referral_id="9", memory=Memory(withheld=(item,)))
    store.commit(Transaction(links=[link, Link("r:8", referral_id="8")], final=steps))
    since = NOW - timedelta(hours=1)
    assert store.final_steps(since) == {FinalKind.WIN: {"r:2"}, FinalKind.POST: {"r:2"}}
    store.commit(Transaction(final=[replace(steps[0], at=NOW)]))
    assert store.final_steps(since)[FinalKind.WIN] == {"r:1", "r:2"}
    assert store.final_steps(NOW) == {}
    assert list(store.withheld()) == [link]


def test_what_was_found_out_is_kept_by_capability(place: Any) -> None:
    """One verdict each, the last one counts; a forgotten one is gone, unless the same transaction has another."""
    store = place.open()
    name = Verdict(Capability.WRITE_NAME, "no", "invalidRequest", NOW, "https://api/v1.0")
    closed = Verdict(Capability.CLOSED_ROWS, "yes", "taken", NOW + timedelta(hours=1), "abc")
    assert store.verdicts() == []
    with store.lease(NO_WAIT):
        store.commit(Transaction(verdicts=[name, closed]))
        assert list(place.open().verdicts()) == [closed, name]
        other = replace(name, answer="yes", code="taken")
        store.commit(Transaction(verdicts=[other]))
        assert list(store.verdicts()) == [closed, other]
        store.commit(Transaction(forgotten=[Capability.CLOSED_ROWS, Capability.WRITE_NAME], verdicts=[name]))
        assert list(store.verdicts()) == [name]
        store.commit(Transaction(forgotten=[Capability.WRITE_NAME]))
    assert store.verdicts() == []
