"""What the listener of a running daemon asks the store for: counts, and the deals that it lists; nothing for readiness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from console_world import World, deal
from structlog.testing import capture_logs

from cosell_sync.cli.daemon_service import _UnlessPaused
from cosell_sync.cli.event_receiver import Spaced, taking
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.memory import Memory
from cosell_sync.errors import Busy, Unavailable
from cosell_sync.metrics import Metrics
from cosell_sync.serving import monitor as monitoring
from cosell_sync.serving.daemon import Daemon
from cosell_sync.serving.monitor import Monitor
from cosell_sync.serving.outages import Status
from cosell_sync.store import connections, serialize
from cosell_sync.store.open import open_store
from cosell_sync.summary import CycleSummary
from cosell_sync.transport.quota import Meter
from cosell_sync.web.health import readiness
from cosell_sync.web.webhooks import Event

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def monitored(wired: Any, clock: Any = None) -> tuple[Monitor, Metrics]:
    metrics = Metrics("1.0")
    monitor = Monitor(wired.settings, clock or (lambda: NOW), metrics.of("default", "salesforce"))
    monitor.attach(wired)
    return monitor, metrics


def test_a_thousand_deals_are_counted_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness asks the store nothing, and no page of the console decodes more deals than it shows."""
    urgent = Memory(sync_state=SyncState.NEEDS_ATTENTION)
    links = [deal(number, memory=urgent if number % 4 == 0 else Memory()) for number in range(1000)]
    world = World(links)
    monitor, _ = monitored(world.wired)
    read: list[str] = []
    real = serialize.to_link
    monkeypatch.setattr(serialize, "to_link", lambda row: read.append(row["key"]) or real(row))
    counts = world.store.counts
    asked: list[str] = []
    monkeypatch.setattr(world.store, "counts", lambda: asked.append("counts") or counts())
    monitor.facts(Status())
    assert (asked, read) == ([], [])
    page = world.page("/")
    assert ">750</strong> In sync" in page
    assert ">250</strong> Needs attention" in page
    assert (asked, len(read)) == (["counts"], 5)
    read.clear()
    world.page("/deals?text=cloud")
    assert len(read) == 50
    read.clear()
    world.page("/deals?text=nowhere")
    assert read == []
    world.page(f"/deals/{links[7].referral_id}")
    assert len(read) == 1


def test_a_failed_cycle_is_counted_and_a_store_that_is_away_harms_no_count() -> None:
    """The summary of a cycle that ended early arrives like any other."""
    store = open_store("sqlite://", lambda: NOW)
    settings = SimpleNamespace(crm="salesforce", sync=SimpleNamespace(interval=timedelta(minutes=1)))
    meter = Meter("salesforce", clock=lambda: NOW)
    meter.failed("REQUEST_LIMIT_EXCEEDED")
    meter.signed_in(NOW - timedelta(minutes=3))
    wired: Any = SimpleNamespace(store=store, settings=settings, clock=lambda: NOW, meters={Side.CRM: meter})
    monitor, metrics = monitored(wired)
    monitor.count(CycleSummary("c-1", 1.5, exit_code=3))

    assert [each.exit_code for each in store.last_cycles(5)] == [3]

    def away(*_: object) -> None:
        raise Unavailable("store", "away")

    wired.store = SimpleNamespace(remember_cycle=away, counts=away, holds_lease=False)
    monitor.count(CycleSummary("c-2", 1.5, exit_code=3))
    monitor.measure(Status(outage="salesforce"), holds=False)
    text = metrics.render().decode()
    store.close()
    for line in (
        'cosell_cycles_total{connection="default",exit_code="3"} 2.0',
        'cosell_cycles_total{connection="default",exit_code="0"} 0.0',
        'cosell_http_errors_total{code="REQUEST_LIMIT_EXCEEDED",connection="default",system="salesforce"} 1.0',
        'cosell_sign_in_age_seconds{connection="default",system="salesforce"} 180.0',
        'cosell_lease_held{connection="default"} 0.0',
    ):
        assert line in text
    assert 'cosell_last_cycle_timestamp_seconds{connection="default",outcome="failure"}' in text


def test_the_list_is_read_less_often_while_events_arrive_and_at_once_after_a_failed_cycle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events of ten minutes ago still count; those of an hour ago do not."""
    now = [NOW]
    sync = SimpleNamespace(interval=timedelta(minutes=1), interval_with_webhooks=timedelta(minutes=5))
    settings = SimpleNamespace(crm="salesforce", sync=sync)
    wired: Any = SimpleNamespace(settings=settings, clock=lambda: now[0], cycle_services=Services)
    monitor, _ = monitored(wired, lambda: now[0])
    assert [monitor.lists_referrals(), monitor.lists_referrals()] == [True, True]
    monitor.hinted_at = NOW
    assert monitor.lists_referrals() is False
    now[0] = NOW + timedelta(minutes=5)
    assert [monitor.lists_referrals(), monitor.lists_referrals()] == [True, False]

    def away(*_: object) -> None:
        raise Unavailable("partner_center", "away")

    monkeypatch.setattr(monitoring, "run_cycle", away)
    monkeypatch.setattr(monitor, "purge", lambda _: None)
    with pytest.raises(Unavailable):
        monitor.cycle()
    assert monitor.lists_referrals() is True
    now[0] = NOW + timedelta(hours=1)
    assert [monitor.lists_referrals(), monitor.lists_referrals()] == [True, True]


def test_a_paused_one_gives_the_lease_back_and_says_so() -> None:
    """The only connection of a process, too; the daemon asks again every few seconds, as while another process writes."""
    store = open_store("sqlite://", lambda: NOW)
    settings = SimpleNamespace(
        connection="default", crm="salesforce", sync=SimpleNamespace(interval=timedelta(minutes=1))
    )
    wired: Any = SimpleNamespace(store=store, settings=settings, clock=lambda: NOW, meters={})
    monitor, metrics = monitored(wired)
    ran: list[str] = []
    monitor.cycle = lambda: ran.append("cycle")  # type: ignore[method-assign,assignment,return-value,func-returns-value]
    cycles = _UnlessPaused(wired, monitor, metrics)
    connections.pause(store.engine, "default", NOW)
    with pytest.raises(Busy, match="paused since 2026-11-22 12:00 UTC"):
        cycles()
    assert readiness(cycles.seen(monitor.facts(Status())))[1] == (
        "paused by a person: cosell-sync connection resume",
    )
    assert 'cosell_connection_state{connection="default",state="paused"} 1.0' in metrics.render().decode()
    connections.pause(store.engine, "default", None)
    cycles()
    assert ran == ["cycle"]
    assert not cycles.seen(monitor.facts(Status())).paused
    store.close()


def test_a_pause_of_a_week_is_logged_when_it_begins_and_when_it_ends() -> None:
    """Nobody takes the lease meanwhile, so nothing is told of taking it and giving it back every five seconds."""
    store = open_store("sqlite://", lambda: NOW)
    settings = SimpleNamespace(
        connection="default", crm="salesforce", sync=SimpleNamespace(interval=timedelta(minutes=1))
    )
    wired: Any = SimpleNamespace(store=store, settings=settings, clock=lambda: NOW, meters={})
    monitor, metrics = monitored(wired)
    monitor.cycle = lambda: CycleSummary("c", 0.1)  # type: ignore[method-assign]
    cycles = _UnlessPaused(wired, monitor, metrics)
    waits = iter(range(100))

    def wait(_: float) -> bool:
        match next(waits):
            case 1:
                connections.pause(store.engine, "default", NOW)
            case 20:
                connections.pause(store.engine, "default", None)
            case 22:
                daemon.stop()
        return False

    daemon = Daemon(cycles, interval=timedelta(minutes=1), lease=cycles.lease, clock=lambda: NOW, wait=wait)
    with capture_logs() as logged:
        daemon.run()
    told = [line["event"] for line in logged if line["event"].startswith("lease.")]
    assert told == ["lease.standby", "lease.taken"]
    store.close()


def test_what_is_said_again_wakes_nobody_and_what_names_no_deal_of_ours_wakes_seldom() -> None:
    """Whoever caught an event of Microsoft's can send it as often as they like."""
    store = open_store("sqlite://", lambda: NOW)
    monitor: Any = SimpleNamespace(hinted_at=None, clock=lambda: NOW)
    woken: list[str] = []
    take = taking(store, monitor, lambda: woken.append("now"), lambda: woken.append("seldom"))
    theirs = Event("related-referral-updated", "b" * 36, "t1")
    for events, woke in (
        ([Event("test-created", "", "d1")], []),
        ([Event("new-kind", "", "d1")], ["seldom"]),
        ([Event("new-kind", "", "d1")], []),
        ([Event("new-kind", "", "d2"), Event("new-kind", "", "d1")], ["seldom"]),
    ):
        take(events)
        assert woken == woke
        woken.clear()
    assert monitor.hinted_at is None  # none of these says that events of deals arrive
    for events, woke in (
        ([theirs], ["seldom"]),
        ([theirs, theirs], []),
        ([Event("referral-updated", "a" * 36, "t1"), theirs], ["now"]),
        ([Event("referral-updated", "a" * 36, "t1")], []),
    ):
        take(events)
        assert woken == woke
        woken.clear()
    assert monitor.hinted_at == NOW
    assert (store.hints(9), store.hints(9, related=True)) == (["a" * 36], ["b" * 36])
    store.close()


def test_a_spaced_call_comes_at_once_or_at_the_end_of_the_pause_and_one_waits_at_most() -> None:
    now, done = [0.0], []
    waiting: list[float] = []
    spaced = Spaced(
        lambda: done.append(now[0]),
        5.0,
        monotonic=lambda: now[0],
        later=lambda after, _: waiting.append(now[0] + after),
    )
    for moment in (0.0, 0.0, 1.0, 4.9, 5.0, 6.0, 14.0, 21.0):
        now[0] = moment
        spaced.call()
    assert (done, waiting) == ([0.0, 21.0], [5.0, 10.0, 15.0])


@dataclass
class Services:
    """What a cycle is given, as far as the service puts something into it."""

    finished: object = None
    lists_referrals: object = None
