"""What only the SQLite store promises: durability, a lock that dies with its process, files for the owner alone.

Also the round trip of links through the codec, for which any database would do.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from cosell_sync.core.deal import ABSENT, Customer, Member, Side, Snapshot, Solution, State, SyncState
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.memory import Action, Closing, Failure, Intent, JournalEntry, Link, Memory, Phase
from cosell_sync.errors import Busy, ConfigError, Fenced, Unavailable
from cosell_sync.ports import Transaction
from cosell_sync.store import serialize
from cosell_sync.store.engine import parse
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens, find_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_WAIT = timedelta()


def clock() -> datetime:
    return NOW


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = open_store(url, clock)
    yield store
    store.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- durability and files ---------------------------------------------------------------------------------------------


def test_a_commit_survives_a_power_cut(store: SqlStore) -> None:
    """Write-ahead log, synchronised in full, on every connection of the pool; foreign keys hold."""
    with store.engine.connect() as one, store.engine.connect() as two:
        for connection in (one, two):
            pragmas = [
                connection.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
            assert pragmas == ["wal", 2, 1, 30000]


def test_files_are_for_the_owner_alone(tmp_path: Path, url: str) -> None:
    """The store, its helpers, the lock and the key: customers' data and a sign-in stand in them."""
    mask = os.umask(0)
    try:
        store = open_store(url, clock)
        find_key(parse(url), None)
        with store.lease(NO_WAIT):
            store.commit(Transaction(watermarks={"crm": "1"}))
            files = {path.name: mode(path) for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(mask)
    assert files.pop("store.db-shm") == files.pop("store.db-wal") == 0o600
    assert files == {"store.db": 0o600, "store.db.lock": 0o600, "store.db.key": 0o600}


def test_readers_do_not_wait_for_a_writer(store: SqlStore) -> None:
    """Health and console look while a cycle writes, and see the last commit."""
    with store.lease(NO_WAIT):
        store.commit(Transaction(links=[Link("r:1")]))
    with store.engine.connect() as writer:
        writer.execution_options(cosell_writes=True)
        with writer.begin():
            writer.execute(text("DELETE FROM link"))
            assert store.by_keys(["r:1"]).get("r:1") == Link("r:1")
            writer.rollback()


def test_several_threads_share_it(store: SqlStore) -> None:
    """A token is saved by one thread while another remembers."""
    tokens = StoredTokens(store.engine, Fernet.generate_key().decode())
    faults: list[Exception] = []

    def save() -> None:
        try:
            for number in range(20):
                tokens.save("t", str(number))
        except Exception as error:  # noqa: BLE001 - shown below
            faults.append(error)

    thread = threading.Thread(target=save)
    with store.lease(NO_WAIT):
        thread.start()
        for number in range(20):
            store.commit(Transaction(links=[Link(f"r:{number}")]))
        thread.join()
    assert faults == []
    assert tokens.load("t") == "19"
    assert len(list(store.links())) == 20


def test_store_in_memory_is_shared_by_threads() -> None:
    """There is only one connection to it, so threads take turns on it."""
    store = open_store("sqlite://", clock)
    with store.lease(NO_WAIT):
        thread = threading.Thread(target=lambda: store.commit(Transaction(links=[Link("r:1")])))
        thread.start()
        thread.join()
    assert store.by_keys(["r:1"]).get("r:1") == Link("r:1")
    store.commit(Transaction(links=[Link("r:2")]))
    store.close()


# --- obstacles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://root:hunter2@host/db",
        "sqlite://host/db",
        "sqlite:///file.db?mode=ro",
        "postgresql://u:hunter2@h:port/db",
        "sqlite:////nowhere/at/all/store.db",
        "sqlite:////proc/store.db",
        "sqlite:////",
    ],
)
def test_bad_urls(url: str) -> None:
    """The cause and the next step, never the password."""
    with pytest.raises(ConfigError) as error:
        open_store(url, clock)
    assert error.value.hint
    assert "hunter2" not in f"{error.value} {error.value.hint}"


def test_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(ConfigError, match=r"letter\.txt.*not a database"):
        open_store(f"sqlite:///{path}", clock)


def test_a_failing_database_is_unavailable_and_quiet(store: SqlStore) -> None:
    """Said as a system that does not answer; nobody's data stands in the message."""
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE link_row"))
    memo = Transaction(links=[Link("r:1", base_referral={"name": "Secret project"})])
    with store.lease(NO_WAIT), pytest.raises(Unavailable, match="no such table") as error:
        store.commit(memo)
    assert error.value.system == "store"
    assert "Secret" not in f"{error.value} {error.value.__cause__}"
    assert store.by_keys(["r:1"]).get("r:1") is None


# --- the lock ---------------------------------------------------------------------------------------------------------

_HOLD = """
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from cosell_sync.store.open import open_store
store = open_store(sys.argv[1], lambda: datetime.now(UTC))
with store.lease(timedelta()):
    print(store.holder(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """One that holds the lease until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


def test_two_processes(url: str, store: SqlStore) -> None:
    """The one outside is named by process and host, refused writes here, and free once it has gone politely."""
    with another_process(url) as (child, name):
        assert store.holder() == name
        assert f"process {child.pid} on " in name
        with pytest.raises(Busy) as busy, store.lease(NO_WAIT):
            pass
        assert busy.value.holder == name
        with pytest.raises(Fenced):
            store.commit(Transaction(links=[Link("r:1")]))
        StoredTokens(store.engine, Fernet.generate_key().decode()).save("t", "saved all the same")
        child.communicate("")
        assert child.returncode == 0
        assert store.holder() is None
        with store.lease(NO_WAIT):
            store.commit(Transaction(links=[Link("r:1")]))


def test_a_full_disk_keeps_no_lease_for_ever(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the holder is for people; where there is no room for it, the lock must not stay with a file that nobody knows."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        with store.lease(NO_WAIT):
            assert store.holds_lease
    with store.lease(NO_WAIT):
        assert store.holder()


def test_a_disk_without_locks_is_named_with_the_way_out(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network shares have none (flock(2): ENOLCK, EOPNOTSUPP). A person reads what to do, not a traceback."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with (
        pytest.raises(ConfigError, match="cannot be locked: No locks available") as caught,
        store.lease(NO_WAIT),
    ):
        pass
    assert "local disk" in caught.value.hint
    assert store.holder() is None


def test_killed_holder_frees_the_lease(url: str, store: SqlStore) -> None:
    """However it dies, the next one need not wait, and is not told of a ghost."""
    with another_process(url) as (child, name):
        assert store.holder() == name
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert store.holder() is None
        with store.lease(NO_WAIT):
            assert store.holder() != name


# --- the key ----------------------------------------------------------------------------------------------------------


def test_key_file_is_made_once(tmp_path: Path, url: str) -> None:
    """The first start makes it, later ones read it, and no half-written one is left about."""
    key = find_key(parse(url), None)
    assert Fernet(key)
    assert find_key(parse(url), "") == key
    assert find_key(parse(url), "given") == "given"
    assert [path.name for path in tmp_path.iterdir()] == ["store.db.key"]
    assert Fernet(find_key(parse("sqlite://"), None))


@pytest.mark.parametrize("open_mode", [0o640, 0o604, 0o660, 0o666])
@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm", "store.db.key"])
def test_a_file_that_others_can_read_is_closed_and_told(
    tmp_path: Path, url: str, open_mode: int, name: str
) -> None:
    """Copied, unpacked from a backup, or opened for its group by the mount of a volume (fsGroup): it is ours, so we mend it."""
    with closing(open_store(url, clock)) as first:
        key = find_key(parse(url), None)
        first.cycle_state()
        (tmp_path / name).chmod(open_mode)
        with structlog.testing.capture_logs() as logs, closing(open_store(url, clock)):
            assert find_key(parse(url), None) == key
        assert mode(tmp_path / name) == 0o600
    told = [event for event in logs if event["event"] == "store.file_closed"]
    assert told == [
        {
            "event": "store.file_closed",
            "log_level": "warning",
            "file": name,
            "mode": f"{open_mode:04o}",
        }
    ]


def _foreign(monkeypatch: pytest.MonkeyPatch, groups: list[int]) -> None:
    """Files belong to somebody else, whatever is tried."""

    def refuse(path: Path, mode: int) -> None:
        del mode
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(os, "getegid", lambda: groups[0])
    monkeypatch.setattr(os, "getgroups", lambda: groups)


@pytest.mark.parametrize(("open_mode", "member"), [(0o640, False), (0o604, True), (0o666, True)])
@pytest.mark.parametrize("name", ["store.db", "store.db.key"])
def test_a_foreign_file_that_others_can_read_is_refused(
    tmp_path: Path, url: str, open_mode: int, member: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(url, clock)):
        find_key(parse(url), None)
    (tmp_path / name).chmod(open_mode)
    group = (tmp_path / name).stat().st_gid
    _foreign(monkeypatch, [group if member else group + 1])
    with pytest.raises(ConfigError, match="read by others") as error, closing(open_store(url, clock)):
        pass
    assert str(tmp_path / name) in str(error.value)
    assert "chmod 600" in error.value.hint
    assert "fsGroup" in error.value.hint


def test_a_foreign_file_of_a_group_of_ours_is_lent_to_us(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume's files may belong to the user of an earlier container; the group is how the next one gets at them."""
    with closing(open_store(url, clock)):
        key = find_key(parse(url), None)
    for path in tmp_path.iterdir():
        path.chmod(0o660)
    _foreign(monkeypatch, [(tmp_path / "store.db").stat().st_gid])
    with closing(open_store(url, clock)):
        assert find_key(parse(url), None) == key


@contextmanager
def _running_as(user: int, *groups: int) -> Iterator[None]:
    """This process as a container starts it: with an id that no user of the system has."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    group, before = os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(groups[0])
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(before)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder that belongs to root, below folders that everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "data"
        path.mkdir(mode=0o755)
        path.parent.chmod(0o755)
        yield path


@pytest.mark.parametrize("user", [10001, 1000740000])
def test_a_volume_of_root_is_refused_with_user_and_path(volume: Path, user: int) -> None:
    with _running_as(user, 0), pytest.raises(ConfigError, match="cannot be opened") as error:
        open_store(f"sqlite:///{volume}/store.db", clock)
    assert str(volume / "store.db") in str(error.value)
    assert f"user id {user} (groups 0)" in error.value.hint
    assert f"`chown {user} {volume}`" in error.value.hint


def test_a_store_of_another_user_is_refused_with_both_ids(volume: Path) -> None:
    """A second start under another random id (OpenShift moves a project, `docker run --user`)."""
    url = f"sqlite:///{volume}/store.db"
    with closing(open_store(url, clock)):
        find_key(parse(url), None)
    volume.chmod(0o777)
    for name in ("store.db", "store.db.key"):
        os.chown(volume / name, 4242, 0)
        with _running_as(10001, 0), pytest.raises(ConfigError) as error:
            open_store(url, clock) if name == "store.db" else find_key(parse(url), None)
        assert f"{volume / name} belongs to user id 4242" in error.value.hint
        assert "runs as user id 10001" in error.value.hint


@pytest.mark.parametrize("user", [10001, 4242], ids=["same user", "another user"])
def test_a_second_start_after_an_orchestrator_opened_the_files_for_its_group(volume: Path, user: int) -> None:
    """Kubernetes gives what it finds on a volume to fsGroup, with rights of reading and writing, at every mount."""
    source = Path(open_store.__code__.co_filename)
    if closed := [str(each) for each in source.parents if not each.stat().st_mode & 0o001]:
        pytest.skip(f"another user cannot read the migrations: {closed[-1]} is closed to others")
    url = f"sqlite:///{volume}/store.db"
    os.chown(volume, 0, 2000)
    volume.chmod(0o2770)
    with _running_as(10001, 0, 2000), closing(open_store(url, clock)) as first, first.lease(NO_WAIT):
        key = find_key(parse(url), None)
        first.commit(Transaction(links=[Link("r:1")]))
    for path in volume.iterdir():
        os.chown(path, 10001, 2000)
        path.chmod(0o660)
    with _running_as(user, 0, 2000), closing(open_store(url, clock)) as second, second.lease(NO_WAIT):
        assert find_key(parse(url), None) == key
        second.commit(Transaction(links=[Link("r:2")]))
    assert {path.stat().st_mode & 0o007 for path in volume.iterdir()} == {0}


def test_a_disk_that_is_mounted_read_only_is_named(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="Read-only") as error:
        open_store(f"sqlite:///{volume}/store.db", clock)
    assert f"{volume} is mounted read-only" in error.value.hint


def test_a_disk_without_permissions_is_refused(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(url, clock)):
        pass
    (tmp_path / "store.db").chmod(0o666)
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)
    with pytest.raises(ConfigError, match="keeps no permissions"):
        open_store(url, clock)


def test_key_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.db\.key"):
        find_key(parse(f"sqlite:///{tmp_path}/missing/store.db"), None)
    (tmp_path / "store.db.key").mkdir(0o700)
    with pytest.raises(ConfigError, match=r"store\.db\.key"):
        find_key(parse(f"sqlite:///{tmp_path}/store.db"), None)
    with pytest.raises(ConfigError, match="PostgreSQL") as error:
        find_key(parse("postgresql://u@h/d"), None)
    assert "store.key" in error.value.hint


# --- the codec --------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
maybe = st.none() | texts
moments = st.datetimes(
    min_value=NOW.replace(year=1970, tzinfo=None),
    max_value=NOW.replace(year=2200, tzinfo=None),
    # Fixed offsets: in a zone with summer time Python lets an ambiguous hour equal nothing but itself.
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))]),
)
data = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
extra = st.dictionaries(texts, data, max_size=2)
members = st.builds(Member, texts, maybe, maybe, maybe, extra)
solutions = st.builds(Solution, texts, maybe, maybe, extra)
customers = st.builds(Customer, *[maybe] * 7, extra)
numbers = st.decimals(allow_nan=False, allow_infinity=False)
values: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: texts,
    Kind.NOTES: texts,
    Kind.NUMBER: numbers,
    Kind.DATE: st.dates(min_value=date(1, 1, 1)),
    Kind.MOMENT: moments,
    Kind.FLAG: st.booleans(),
    Kind.MEMBERS: st.lists(members, max_size=2).map(tuple),
    Kind.SOLUTIONS: st.lists(solutions, max_size=2).map(tuple),
    Kind.CUSTOMER: customers,
}
fields = st.fixed_dictionaries({}, optional={name: st.none() | values[kind] for name, kind in KINDS.items()})
snapshots = st.builds(Snapshot, texts, texts, fields, st.frozensets(texts), st.frozensets(texts))
sides = st.sampled_from(Side)
memories = st.builds(
    Memory,
    closing=st.none() | st.builds(Closing, st.sampled_from(State), texts, moments),
    notices=st.lists(texts).map(tuple),
    reported=st.lists(texts).map(tuple),
    rewritten=st.dictionaries(texts, st.booleans()),
    resolved=st.dictionaries(texts, sides),
    carried_at=st.none() | moments,
    failure=st.none() | st.builds(Failure, sides, texts, texts, moments, texts, st.booleans()),
    attempts=st.integers(0, 99),
    next_attempt=st.none() | moments,
    parked=st.booleans(),
    rejected=st.booleans(),
    gone=st.none() | sides,
    lookalikes=st.lists(texts).map(tuple),
    create_anyway=st.booleans(),
    sync_state=st.sampled_from(SyncState),
)
links = st.builds(
    Link,
    texts,
    maybe,
    maybe,
    st.sampled_from(Phase),
    st.none() | snapshots,
    st.none() | snapshots,
    fields,
    fields,
    memories,
    st.booleans(),
    st.none() | moments,
)
columns = ("due", "at")


def through_json(row: dict[str, Any]) -> dict[str, Any]:
    """What a database does to a row, moments aside."""
    return {
        name: value if name in columns else json.loads(json.dumps(value, allow_nan=False))
        for name, value in row.items()
    }


@given(links)
def test_link_round_trip(link: Link) -> None:
    """A link comes back as it was, and storing it again changes nothing (the extras, which are not compared, included)."""
    row = through_json(serialize.from_link(link))
    assert serialize.to_link(row) == link
    assert through_json(serialize.from_link(serialize.to_link(row))) == row


@given(st.from_type(Memory))
def test_memory_round_trip(memory: Memory) -> None:
    """Whatever ``Memory`` grows by is kept too."""
    assert serialize.to_memory(through_json(serialize.from_memory(memory))) == memory


@given(st.builds(Intent, texts, sides, st.booleans(), texts, fields, fields, texts, moments))
def test_intent_round_trip(intent: Intent) -> None:
    assert serialize.to_intent(through_json(serialize.from_intent(intent))) == intent


actions = st.sampled_from(Action)
anything = st.sampled_from(Kind).flatmap(lambda kind: values[kind]) | st.none() | st.just(ABSENT)


entries = st.builds(JournalEntry, texts, texts, moments, sides, actions, maybe, anything, anything, texts)


@given(entries, st.lists(st.tuples(maybe, anything, anything), max_size=3), entries)
def test_entries_round_trip(
    first: JournalEntry, more: list[tuple[Any, Any, Any]], other: JournalEntry
) -> None:
    """Lines that share a row come back as they were, in their order."""
    lines = [first, *(replace(first, field=name, old=old, new=new) for name, old, new in more), other]
    rows = serialize.from_entries(lines)
    assert [line for row in rows for line in serialize.to_entries(through_json(row))] == lines
    assert len(rows) <= 2


def test_memory_of_another_version() -> None:
    """What an older version did not know takes its default; what a newer one knew is passed over."""
    assert serialize.to_memory({}) == Memory()
    assert serialize.to_memory({"attempts": 2, "of_the_future": [1]}) == Memory(attempts=2)
