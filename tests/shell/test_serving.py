"""One turn of a connection: leased, at its time, and whatever is wrong with it stays its own. No cycle here reaches a system."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from console_world import deal
from structlog.testing import capture_logs

import postgres
from cosell_sync.cli.event_receiver import to_each
from cosell_sync.errors import AuthFailed, ConfigError, Fenced, ForeignSystem, Unavailable
from cosell_sync.ports import Transaction
from cosell_sync.serving import monitor
from cosell_sync.serving.connections import Connections, Ending
from cosell_sync.settings import Configuration
from cosell_sync.store import connections as stored
from cosell_sync.store.open import Databases, open_store
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import readiness, readiness_of

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("acme", "beta", "gamma")


class World:
    """Three connections over one store. ``cycle``: what a cycle of a connection does, given its name."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.now = NOW
        self.cycle: Callable[[str], object] = lambda _: None
        self.ran: list[str] = []
        self.file = folder / "config.yaml"
        self.extra = ""

    def run(self, services: Any, cycle_id: str) -> CycleSummary:
        name = services.store.connection
        self.ran.append(name)
        self.cycle(name)
        summary = CycleSummary(cycle_id, 0.1)
        services.finished(summary)
        return summary

    def configuration(self) -> Configuration:
        lines = [f"store: {{url: '{self.url}', key: 'a key for these tests'}}", "connections:"]
        for name in NAMES:
            lines += [
                f"  {name}:",
                f"    partner_center: {{tenant_id: tenant-{name}, client_id: c, refresh_token: r}}",
                f"    salesforce: {{login_url: 'https://{name}.my.salesforce.com', consumer_key: k, consumer_secret: s}}",
            ]
        self.file.write_text("\n".join([*lines, self.extra]))
        return Configuration(self.file, {})

    @contextmanager
    def process(self, **more: Any) -> Iterator[Connections]:
        """One process that serves them."""
        with closing(Connections(self.configuration(), clock=lambda: self.now, **more)) as connections:
            yield connections


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    if request.param == "sqlite":
        made = World(f"sqlite:///{tmp_path / 'many.db'}", tmp_path)
        monkeypatch.setattr(monitor, "run_cycle", made.run)
        yield made
        return
    with postgres.server() as url, postgres.private_schema(url) as private:
        made = World(private, tmp_path)
        monkeypatch.setattr(monitor, "run_cycle", made.run)
        yield made


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store of this version, to be copied: making one takes a second."""
    file = tmp_path_factory.mktemp("migrated") / "many.db"
    open_store(f"sqlite:///{file}", lambda: NOW).close()
    return file


@pytest.fixture
def local(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """As ``world``, where it makes no difference which database it is."""
    shutil.copy(migrated, tmp_path)
    made = World(f"sqlite:///{tmp_path / 'many.db'}", tmp_path)
    monkeypatch.setattr(monitor, "run_cycle", made.run)
    return made


def failing(errors: dict[str, Exception]) -> Callable[[str], None]:
    def cycle(name: str) -> None:
        if name in errors:
            raise errors[name]

    return cycle


def test_two_processes_share_the_work(world: World) -> None:
    """Whoever comes first serves; the other hears from the store when the next turn is due, and takes it if it comes first."""
    with world.process() as one, world.process() as other:
        assert one.serve_once("acme").ending is Ending.SERVED
        told = other.serve_once("acme")
        assert (told.ending, told.due) == (Ending.EARLY, NOW + MINUTE)
        assert list(other.due()) == ["beta", "gamma"]
        world.now = NOW + MINUTE
        assert "acme" in one.due()
        assert other.serve_once("acme").ending is Ending.SERVED
        assert one.serve_once("acme").ending is Ending.EARLY
        assert world.ran == ["acme", "acme"]
        # both say of it that it is carried, and only one that it is the writer
        assert readiness(one.facts()["acme"]) == readiness(other.facts()["acme"]) == (True, ())
        held = 'cosell_lease_held{connection="acme"}'
        assert f"{held} 0.0" in one.rendered().decode()
        assert f"{held} 1.0" in other.rendered().decode()


def test_among_workers_what_is_not_served_here_lately_is_anothers(local: World) -> None:
    """Whoever is free serves: a worker that had no turn of a connection for long has no outage, and is not its writer."""
    held = 'cosell_lease_held{connection="acme"}'
    with local.process() as one:
        assert readiness(one.facts(shared=True)["acme"]) == (True, ())
        one.serve_once("acme")
        assert f"{held} 1.0" in one.rendered(shared=True).decode()
        local.now += timedelta(minutes=20)
        assert readiness(one.facts(shared=True)["acme"]) == (True, ())
        assert f"{held} 0.0" in one.rendered(shared=True).decode()
        assert not readiness(one.facts()["acme"])[0]  # alone, or with a queue that is lost, it is one's own
        assert f"{held} 1.0" in one.rendered().decode()


def test_who_has_waited_longest_is_due_first(local: World) -> None:
    with local.process() as one:
        for name in ("gamma", "beta"):
            one.serve_once(name)
            local.now += timedelta(seconds=5)
        local.now += MINUTE
        assert list(one.due()) == ["acme", "gamma", "beta"]


def test_a_clock_that_was_set_back_puts_nobody_off(local: World) -> None:
    with local.process() as one:
        one.serve_once("acme")
        local.now -= timedelta(hours=2)
        assert "acme" in one.due()
        assert one.serve_once("acme").ending is Ending.SERVED


def test_one_is_never_served_twice_at_a_time(world: World) -> None:
    """Neither by another process nor by another thread; and the ones beside it are served meanwhile."""
    seen: list[Ending] = []

    def cycle(name: str) -> None:
        if name == "acme":
            seen.extend(each.serve_once("acme", woken=True).ending for each in (one, other))
            seen.append(one.serve_once("beta").ending)

    world.cycle = cycle
    with world.process() as one, world.process() as other:
        assert one.serve_once("acme").ending is Ending.SERVED
    assert seen == [Ending.HELD, Ending.HELD, Ending.SERVED]


def test_a_paused_one_is_not_served_until_it_is_resumed(world: World) -> None:
    with world.process() as one:
        engine = one.databases.engine(world.url)
        one.serve_once("acme")
        stored.pause(engine, "acme", NOW)
        assert list(one.names()) == ["beta", "gamma"]
        assert "acme" not in one.due()
        assert one.serve_once("acme", woken=True).ending is Ending.PAUSED
        assert 'state="paused"} 1.0' in one.rendered().decode()
        assert readiness(one.facts()["acme"])[1] == ("paused by a person: cosell-sync connection resume",)
        stored.pause(engine, "acme", None)
        assert one.serve_once("acme").ending is Ending.SERVED, "resuming does not wait for the next turn"
        assert readiness(one.facts()["acme"]) == (True, ())
    assert world.ran == ["acme", "acme"]


def test_an_outage_of_one_backs_off_that_one_alone(local: World) -> None:
    away = Unavailable("salesforce", "away")
    local.cycle = failing({"acme": away})
    with local.process() as one, capture_logs() as events:
        pauses = []
        for _ in range(4):
            outcome = one.serve_once("acme")
            assert outcome.ending is Ending.FAILED
            pauses.append(outcome.due - local.now)
            assert one.serve_once("beta", woken=True).due == local.now + MINUTE
            local.now = outcome.due
        assert pauses == [MINUTE, 2 * MINUTE, 4 * MINUTE, 5 * MINUTE]
        assert [each["event"] for each in events if each["event"].startswith("outage")] == ["outage.began"]
        assert list(one.facts()) == list(NAMES)
        ready, reasons, _ = readiness_of(one.facts())
        assert ready
        assert reasons[0] == "acme: the last cycle failed: salesforce"


def test_a_refused_sign_in_is_told_of_that_connection_only(local: World) -> None:
    local.cycle = failing({"acme": AuthFailed("salesforce", "no", code="invalid_grant")})
    with local.process() as one:
        assert one.serve_once("acme").ending is Ending.FAILED
        assert one.serve_once("beta").ending is Ending.SERVED
        facts = one.facts()
    assert facts["acme"].sign_ins == {"salesforce": "invalid_grant"}
    assert facts["beta"].sign_ins == {}


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), Unavailable("store", "x")])
def test_whatever_a_cycle_raises_is_an_outcome(local: World, error: Exception) -> None:
    local.cycle = failing({"acme": error})
    with local.process() as one:
        assert one.serve_once("acme").ending is Ending.FAILED
        local.cycle = failing({})
        local.now += MINUTE
        assert one.serve_once("acme").ending is Ending.SERVED


def test_a_lost_lease_ends_the_turn_and_says_nothing_to_the_next(local: World) -> None:
    local.cycle = failing({"acme": Fenced("gone")})
    with local.process() as one:
        assert one.serve_once("acme").ending is Ending.HELD
        assert stored.turn(one.databases.engine(local.url), "acme").due is None


def test_another_org_misconfigures_one_and_is_looked_at_again(local: World) -> None:
    """`connection rebind` cures it while the process runs; told once."""
    foreign = ForeignSystem("this store belongs to another org")
    local.cycle = failing({"acme": foreign})
    with local.process() as one, capture_logs() as events:
        for _ in range(3):
            outcome = one.serve_once("acme", woken=True)
            assert outcome.ending is Ending.MISCONFIGURED
        assert outcome.due > local.now
        assert one.facts()["acme"].wrong == str(foreign)
        assert [each["event"] for each in events].count("connection.misconfigured") == 1
        assert one.serve_once("beta").ending is Ending.SERVED
        local.cycle = failing({})
        assert one.serve_once("acme", woken=True).ending is Ending.SERVED
        assert one.facts()["acme"].wrong == ""
        assert 'connection="acme",state="active"} 1.0' in one.rendered().decode()


def test_misconfigured_ones_are_named_and_never_served(local: World) -> None:
    local.extra = "  wrong: {sync: {interval: soon}}\n  empty:\n"
    with capture_logs() as events, local.process() as one:
        assert list(one.names()) == list(NAMES)
        assert one.serve_once("wrong").ending is Ending.MISCONFIGURED
        with pytest.raises(ConfigError, match="no connection nobody"):
            one.serve_once("nobody")
        ready, _, each = readiness_of(one.facts())
        assert not ready, "nothing was carried yet"
        assert "connections.wrong.sync.interval" in str(each["wrong"])
        assert "connections.empty.salesforce.login_url" in str(each["empty"])
        assert 'connection="wrong",state="misconfigured"} 1.0' in one.rendered().decode()
    named = [each["connection"] for each in events if each["event"] == "connection.misconfigured"]
    assert named == ["wrong", "empty"]
    assert local.ran == []


def test_programs_are_kept_and_the_one_that_is_needed_last_gives_way(local: World) -> None:
    with local.process(kept=2) as one:

        def wired() -> list[str]:
            return [name for name in NAMES if one.monitor(name).wired]

        for name in ("acme", "beta", "gamma"):
            local.now += timedelta(seconds=1)
            one.serve_once(name, woken=True)
        assert wired() == ["acme", "gamma"], "beta was served after acme, so acme's turn comes first"
        program = one.monitor("acme").wired
        one.serve_once("acme", woken=True)
        assert one.monitor("acme").wired is program
        stored.pause(one.databases.engine(local.url), "gamma", NOW)
        one.serve_once("gamma")
        one.serve_once("beta", woken=True)
        assert wired() == ["acme", "beta"], "a paused one needs nothing"
        assert local.ran == ["acme", "beta", "gamma", "acme", "beta"]
        assert one.rendered()


def test_a_stop_reaches_every_cycle_and_those_that_begin_meanwhile(local: World) -> None:
    waited: list[bool] = []
    begun = threading.Event()

    def cycle(name: str) -> None:
        wired = one.monitor(name).wired
        assert wired is not None
        begun.set()
        waited.append(wired.stop.wait(20))

    local.cycle = cycle
    with local.process() as one:
        thread = threading.Thread(target=one.serve_once, args=("acme",))
        thread.start()
        assert begun.wait(20)
        one.stop()
        thread.join(20)
        one.serve_once("beta")
        assert waited == [True, True]
        assert stored.turn(one.databases.engine(local.url), "acme").due is None, (
            "the next start does not wait"
        )


def test_an_event_goes_where_it_belongs(local: World) -> None:
    """To the connection it is addressed to and others of its tenant; at the common address to whoever knows the referral."""
    local.extra = (
        "  beta-too:\n    partner_center: {tenant_id: tenant-beta, client_id: c, refresh_token: r}\n"
        "    salesforce: {login_url: 'https://too.my.salesforce.com', consumer_key: k, consumer_secret: s}\n"
        "webhooks: {enabled: true, public_url: 'https://hooks.example'}\n"
    )
    referral = "11111111-0000-4000-8000-000000000001"
    with local.process() as one:
        assert one.receivers("beta", [referral]) == ["beta", "beta-too"]
        assert one.receivers("nobody", [referral]) == []
        assert one.receivers(None, [referral]) == [*NAMES, "beta-too"], "nobody knows it yet"
        known = deal(1)
        with (store := one.store("gamma")).lease(timedelta()):
            store.commit(Transaction(links=[known]))
        assert one.receivers(None, [str(known.referral_id)]) == ["gamma"]
        assert one.may_be_woken("acme")
        local.cycle = failing({"acme": Unavailable("salesforce", "away")})
        one.serve_once("acme")
        assert not one.may_be_woken("acme"), "while cycles fail the pause is kept"


def test_what_it_logs_carries_the_name_where_there_are_several(local: World) -> None:
    bound: list[Any] = []

    def cycle(_name: str) -> None:
        import structlog

        bound.append(structlog.contextvars.get_contextvars().get("connection"))

    local.cycle = cycle
    with local.process() as one:
        one.serve_once("beta")
    assert bound == ["beta"]


def test_a_database_that_is_away_harms_only_its_connections(local: World, tmp_path: Path) -> None:
    local.extra = (
        f"  delta:\n    store: {{url: 'sqlite:///{tmp_path}/nowhere/own.db'}}\n"
        "    partner_center: {tenant_id: tenant-delta, client_id: c, refresh_token: r}\n"
        "    salesforce: {login_url: 'https://delta.my.salesforce.com', consumer_key: k, consumer_secret: s}\n"
    )
    with local.process(databases=Databases(2)) as one:
        assert one.serve_once("delta").ending is Ending.MISCONFIGURED
        assert one.serve_once("acme").ending is Ending.SERVED
        assert "delta" in one.names(), "nothing says that it is paused"


def test_a_database_that_is_away_is_asked_now_and_then(local: World, tmp_path: Path) -> None:
    """A worker asks every few seconds who is due; to find each time that a machine is gone takes ten of them, and all would wait. A
    connection that cannot be served is no more due before its pause is over than one that can.
    """
    local.extra = (
        f"  away:\n    store: {{url: 'sqlite:///{tmp_path}/nowhere/own.db'}}\n"
        "    partner_center: {tenant_id: tenant-away, client_id: c, refresh_token: r}\n"
        "    salesforce: {login_url: 'https://away.my.salesforce.com', consumer_key: k, consumer_secret: s}\n"
    )
    asked: list[str] = []

    class Counting(Databases):
        def engine(self, url: str) -> Any:
            asked.append(url)
            return super().engine(url)

    with local.process(databases=Counting(2)) as one:
        assert list(one.due()) == [*NAMES, "away"]
        assert one.serve_once("away").ending is Ending.MISCONFIGURED
        before = len([url for url in asked if "nowhere" in url])
        for _ in range(5):
            assert list(one.due()) == [*NAMES]
            local.now += timedelta(seconds=5)
        assert len([url for url in asked if "nowhere" in url]) == before
        local.now += MINUTE
        assert list(one.due()) == [*NAMES, "away"]
        assert len([url for url in asked if "nowhere" in url]) == before + 1


def test_an_event_reaches_the_others_where_one_database_is_away(local: World, tmp_path: Path) -> None:
    """Which of its deals it knows nobody can say, so it is asked for as well, and its failure is the sender's to hear last."""
    local.extra = (
        f"  away:\n    store: {{url: 'sqlite:///{tmp_path}/nowhere/own.db'}}\n"
        "    partner_center: {tenant_id: tenant-away, client_id: c, refresh_token: r}\n"
        "    salesforce: {login_url: 'https://away.my.salesforce.com', consumer_key: k, consumer_secret: s}\n"
        "webhooks: {enabled: true, public_url: 'https://hooks.example'}\n"
    )
    told: list[str] = []

    def tell(name: str) -> None:
        one.store(name)
        told.append(name)

    with local.process() as one:
        known = deal(1)
        with (store := one.store("gamma")).lease(timedelta()):
            store.commit(Transaction(links=[known]))
        names = one.receivers(None, [str(known.referral_id)])
        assert sorted(names) == ["away", "gamma"]
        with pytest.raises(ConfigError):
            to_each(["away", "acme", "gamma"], tell)
        assert told == ["acme", "gamma"]
