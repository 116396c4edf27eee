"""Several connections in one database: their rows, leases, sign-ins and budgets stand apart, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Date,
    Engine,
    Integer,
    LargeBinary,
    String,
    Table,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError
from test_store import FULL

import postgres
from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Link
from cosell_sync.errors import Busy, Fenced, ForeignSystem
from cosell_sync.ports import Identity, Transaction
from cosell_sync.store import backup, connections, removal, schema
from cosell_sync.store import open as store_open
from cosell_sync.store.connections import Turn
from cosell_sync.store.copy import copy_into_memory, open_copy
from cosell_sync.store.engine import reading, writing
from cosell_sync.store.notices import SqlOutbox
from cosell_sync.store.open import Databases
from cosell_sync.store.quota import StoredLedger
from cosell_sync.store.schema import Moment
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = "a key for the tests of several"
ZERO = timedelta()


def deal(number: int) -> Link:
    return replace(FULL, key=f"r:{number}", referral_id=f"referral-{number}", opportunity_id=f"006{number}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'many.db'}"
        return
    with postgres.server() as server, postgres.private_schema(server) as private:
        yield private


@pytest.fixture
def databases() -> Iterator[Databases]:
    with closing(Databases(2)) as made:
        yield made


def test_what_belongs_to_one_is_not_seen_by_another(url: str, databases: Databases) -> None:
    """Also where both know the same referral, as two partners of one tenant may."""
    acme, beta = (databases.store(url, lambda: NOW, connection=name) for name in ("acme", "beta"))
    assert acme.engine is beta.engine
    same = deal(1)
    with acme.lease(ZERO), beta.lease(ZERO):
        acme.commit(
            Transaction(
                links=[same],
                watermarks={"crm": "7"},
                bindings={Side.CRM: Identity("salesforce", "00Dacme", "acme.example")},
            )
        )
        assert beta.by_referral([str(same.referral_id)]) == {}
        assert beta.bindings() == {}
        beta.commit(Transaction(links=[replace(same, opportunity_id="006beta")], watermarks={"crm": "9"}))
    assert acme.by_keys([same.key])[same.key].opportunity_id == same.opportunity_id
    assert (acme.watermark("crm"), beta.watermark("crm")) == ("7", "9")
    assert [link.key for link in acme.links()] == [link.key for link in beta.links()] == [same.key]
    first, second = (StoredTokens(acme.engine, KEY, connection=name) for name in ("acme", "beta"))
    first.save("partner_center", "of acme")
    assert second.load("partner_center") is None
    ours, theirs = (StoredLedger(acme.engine, connection=name) for name in ("acme", "beta"))
    ours.reserve("crm", date(2026, 11, 28), 5, 10)
    assert theirs.used("crm", date(2026, 11, 28)) == 0
    assert acme.hint([("r", "referral-updated", "x")]) == beta.hint([("r", "referral-updated", "x")]) == 1
    standing = {name: len(SqlOutbox(acme.engine, name).standing()) for name in ("acme", "beta", "nobody")}
    assert standing == {"acme": 1, "beta": 1, "nobody": 0}


def test_each_has_a_lease_of_its_own(url: str, databases: Databases) -> None:
    acme, again, beta = (
        databases.store(url, lambda: NOW, connection=name) for name in ("acme", "acme", "beta")
    )
    with acme.lease(ZERO), beta.lease(ZERO):
        with pytest.raises(Busy), again.lease(ZERO):
            pass
        assert beta.holds_lease
    with again.lease(ZERO):
        assert not acme.holds_lease


def test_the_first_connection_keeps_the_lock_file_of_earlier_versions(
    tmp_path: Path, databases: Databases
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    for name in ("default", "acme"):
        with databases.store(url, lambda: NOW, connection=name).lease(ZERO):
            pass
    locks = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("*.lock")}
    assert locks == {"store.db.lock": 0o600, "store.db.acme.lock": 0o600}


def test_turns_are_kept_for_every_process(url: str, databases: Databases) -> None:
    engine = databases.store(url, lambda: NOW, connection="acme").engine
    assert connections.turn(engine, "acme") == Turn()
    later = NOW + timedelta(minutes=5)
    connections.put_off(engine, "acme", later)
    connections.pause(engine, "acme", NOW)
    assert connections.turns(engine) == {"acme": Turn(NOW, later), "default": Turn()}
    connections.pause(engine, "acme", None)
    assert connections.turn(engine, "acme") == Turn(), "resumed, it does not wait for its next turn"
    assert connections.turn(engine, "nobody") == Turn()


def test_a_copy_and_a_backup_hold_what_they_should(url: str, databases: Databases, tmp_path: Path) -> None:
    """``plan`` copies one connection, a backup holds all of the database, and puts it back connection by connection."""
    acme, beta = (databases.store(url, lambda: NOW, connection=name) for name in ("acme", "beta"))
    for store, number in ((acme, 1), (beta, 2)):
        with store.lease(ZERO):
            store.commit(Transaction(links=[deal(number)]))
        StoredTokens(store.engine, KEY, connection=store.connection).save("partner_center", store.connection)
    for copy in (copy_into_memory(acme), open_copy(url, lambda: NOW, "acme")):
        with closing(copy):
            assert [link.key for link in copy.links()] == [deal(1).key]
            with copy.lease(ZERO):
                copy.commit(Transaction(links=[deal(3)]))
    assert [link.key for link in acme.links()] == [deal(1).key]
    file = tmp_path / "backup.tar"
    assert backup.write(acme, KEY, file, "1").deals == 2
    other = f"sqlite:///{tmp_path / 'other.db'}"
    target: SqlStore = databases.store(other, lambda: NOW)
    with target.lease(ZERO):
        backup.restore(file, target, "quite another key")
    restored = databases.store(other, lambda: NOW, connection="beta")
    assert [link.key for link in restored.links()] == [deal(2).key]
    tokens = StoredTokens(target.engine, "quite another key", connection="beta")
    assert tokens.load("partner_center") == "beta"


def test_one_pair_belongs_to_one_connection(url: str, databases: Databases) -> None:
    """The configuration may call a tenant by its domain here and by its id there, or the same connection by a new name: who they are
    is known once they have answered. Both would share every deal, and what is parted under one name
    would be joined under the other.
    """

    def bound(name: str, org: str, tenant: str, host: str = "org.example") -> SqlStore:
        store = databases.store(url, lambda: NOW, connection=name)
        whose = {
            Side.CRM: Identity("salesforce", org, host),
            Side.PARTNER_CENTER: Identity("partner_center", tenant, ""),
        }
        with store.lease(ZERO):
            store.commit(Transaction(watermarks={"crm": "1"}, bindings=whose))
        return store

    acme = bound("acme", "00D1", "t1")
    bound("same-org", "00D1", "t2")
    bound("same-tenant", "00D2", "t1")
    bound("unknown", "", "t1")
    bound("unknown-too", "", "t1")
    bound("elsewhere", "00D1", "t1", "copy.example")
    with pytest.raises(ForeignSystem, match="acme"):
        bound("acme-eu", "00D1", "t1")
    new = databases.store(url, lambda: NOW, connection="acme-eu")
    assert (new.bindings(), new.watermark("crm")) == ({}, None)  # nothing is kept of it
    bound("acme", "00D1", "t1")  # itself
    connections.pause(acme.engine, "acme", NOW)
    assert bound("acme-eu", "00D1", "t1").bindings()


def row_of(table: Table, connection: str) -> dict[str, object]:
    """Some row of this table, whatever its columns are."""
    values: dict[type, object] = {
        Moment: NOW, Date: NOW.date(), LargeBinary: b"x", JSON: {}, Boolean: False, Integer: 1, String: "x",
    }  # fmt: skip
    row = {
        column.name: next(value for kind, value in values.items() if isinstance(column.type, kind))
        for column in table.columns
        if column.autoincrement is not True
    }
    return {**row, "connection": connection}


def rows_of(engine: Engine, name: str) -> dict[str, int]:
    """How many rows each table has of this connection, the one of its name among them."""
    with reading(engine) as connection:
        return {
            table.name: connection.execute(
                select(func.count()).where(
                    (table.c.name if table is schema.connection else table.c.connection) == name
                )
            ).scalar_one()
            for table in schema.metadata.sorted_tables
        }


def filled(databases: Databases, url: str, name: str) -> SqlStore:
    """The store of a connection that has a row in every table but the lease, which has one while it is held."""
    store = databases.store(url, lambda: NOW, connection=name)
    with writing(store.engine) as connection:
        for table in schema.metadata.sorted_tables:
            if table not in {schema.connection, schema.lease}:
                connection.execute(insert(table), row_of(table, name))
    return store


def test_all_that_is_kept_for_one_connection_can_be_removed(url: str, databases: Databases) -> None:
    """From every table that the schema has, so that a new one is not forgotten; and of no other connection."""
    acme, beta = (filled(databases, url, name) for name in ("acme", "beta"))
    with beta.lease(ZERO):
        pass
    kinds = {removal.KINDS[table] for table in schema.metadata.tables if table not in {"connection", "lease"}}
    assert removal.kept(acme.engine, "acme") == dict.fromkeys(kinds, 1)
    before = rows_of(beta.engine, "beta")
    assert removal.left_over(acme.engine, ["beta"]) == ["acme"]
    with acme.lease(ZERO):
        assert removal.remove(acme, with_name=True) == dict.fromkeys(kinds, 1)
    assert set(rows_of(acme.engine, "acme").values()) == {0}
    assert rows_of(beta.engine, "beta") == before
    assert removal.left_over(acme.engine, ["beta"]) == []
    new = databases.store(url, lambda: NOW, connection="acme")
    with new.lease(ZERO):
        new.commit(Transaction(links=[deal(1)]))  # it may come back, as any other


def test_what_is_to_begin_anew_keeps_its_name_and_whether_it_is_paused(
    url: str, databases: Databases
) -> None:
    acme = filled(databases, url, "acme")
    connections.pause(acme.engine, "acme", NOW)
    with acme.lease(ZERO):
        removal.remove(acme, with_name=False)
        assert removal.kept(acme.engine, "acme") == {}
        acme.commit(Transaction(links=[deal(1)]))
    assert connections.turn(acme.engine, "acme").paused_at == NOW


def test_the_first_name_is_left_over_only_where_something_is_kept_for_it(
    url: str, databases: Databases
) -> None:
    """Every database begins with a connection of that name."""
    acme = databases.store(url, lambda: NOW, connection="acme")
    assert removal.left_over(acme.engine, ["acme"]) == []
    default = filled(databases, url, "default")
    assert removal.left_over(acme.engine, ["acme"]) == ["default"]
    with default.lease(ZERO):
        removal.remove(default, with_name=True)
    assert removal.left_over(acme.engine, ["acme"]) == []


def test_much_is_removed_in_pieces_by_who_has_the_lease(
    url: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PURGED_AT_ONCE", 3)
    acme = databases.store(url, lambda: NOW, connection="acme")
    with writing(acme.engine) as connection:
        connection.execute(
            insert(schema.watermark),
            [{**row_of(schema.watermark, "acme"), "name": str(number)} for number in range(7)],
        )
        connection.execute(insert(schema.journal), [row_of(schema.journal, "acme")] * 7)
    with pytest.raises(Fenced):
        removal.remove(acme, with_name=True)
    pieces: list[int] = []
    with acme.lease(ZERO):
        real = acme.erasing

        @contextmanager
        def counted() -> Iterator[Connection]:
            before = sum(removal.kept(acme.engine, "acme").values())
            with real() as connection:
                yield connection
            pieces.append(before - sum(removal.kept(acme.engine, "acme").values()))

        monkeypatch.setattr(acme, "erasing", counted)
        assert removal.remove(acme, with_name=True) == {"history entries": 7, "watermarks": 7}
    assert sorted(pieces)[-6:] == [1, 1, 3, 3, 3, 3]


def test_what_arrives_while_a_connection_is_removed_goes_too(
    url: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are stored without the lease, by a process that has not been told yet."""
    acme = databases.store(url, lambda: NOW, connection="acme")
    with acme.lease(ZERO):
        real, numbers = acme.erasing, count()

        @contextmanager
        def disturbed() -> Iterator[Connection]:
            with real() as connection:
                yield connection
            with suppress(IntegrityError):  # it is gone
                acme.hint([(f"r{next(numbers)}", "referral-updated", "x")])

        monkeypatch.setattr(acme, "erasing", disturbed)
        removal.remove(acme, with_name=True)
    assert next(numbers) > 1
    assert set(rows_of(acme.engine, "acme").values()) == {0}


def test_nothing_of_it_stays_in_the_files(tmp_path: Path, databases: Databases) -> None:
    """SQLite would keep the bytes until it needs the room."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    acme = databases.store(url, lambda: NOW, connection="acme")
    with acme.lease(ZERO):
        acme.commit(Transaction(links=[replace(deal(1), opportunity_id="006gone4ever")]))
        removal.remove(acme, with_name=True)
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"006gone4ever" not in held
    assert [path.name for path in tmp_path.glob("*.lock")] == []


def test_a_database_that_hardly_answers_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    """To connect to a machine that is gone takes ten seconds each time; the others' turns, pages and events must not wait for it. Two
    who want the same one still get the same one.
    """
    gone, here = (f"sqlite:///{tmp_path / name}" for name in ("gone.db", "here.db"))
    asked, answered, real = Event(), Event(), store_open.open_engine

    def slow(url: str, cycles: int = 1) -> Engine:
        if url == gone:
            asked.set()
            answered.wait(60)
        return real(url, cycles)

    monkeypatch.setattr(store_open, "open_engine", slow)
    with ThreadPoolExecutor(3) as pool:
        try:
            first, second = (pool.submit(databases.engine, gone) for _ in range(2))
            assert asked.wait(30)
            assert pool.submit(databases.engine, here).result(timeout=30)
        finally:
            answered.set()
        assert first.result(timeout=30) is second.result(timeout=30)
