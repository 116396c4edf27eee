"""The loop: it goes on after errors, tells an outage once, stands by politely and always ends when asked."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from cosell_sync.errors import AuthFailed, Busy, Fenced, Surprise, Unavailable
from cosell_sync.serving.daemon import Daemon
from cosell_sync.serving.outages import pause_after
from cosell_sync.summary import CycleSummary

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = CycleSummary("c", 0.1)
MINUTE = timedelta(seconds=60)


class Play:
    """A daemon whose cycles follow a script and whose pauses are written down instead of waited for."""

    def __init__(self, *script: object, lease: Callable[[timedelta], object] | None = None) -> None:
        self.script = list(script)
        self.pauses: list[float] = []
        self.leases = 0
        self.daemon = Daemon(
            self.cycle,
            interval=MINUTE,
            lease=lease or self.lease,
            clock=lambda: NOW,
            wait=self.wait,
        )

    def cycle(self) -> CycleSummary:
        step = self.script.pop(0)
        if not self.script:
            self.daemon.stop()
        if isinstance(step, BaseException):
            raise step
        return step

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return False

    @contextmanager
    def lease(self, wait: timedelta) -> Iterator[None]:
        assert wait == timedelta(0)
        self.leases += 1
        yield

    def run(self) -> list[dict[str, object]]:
        with capture_logs() as events:
            assert self.daemon.run() == 0
        return list(events)


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in events]


def test_cycles_follow_each_other_and_the_end_waits_for_nothing() -> None:
    play = Play(GOOD, GOOD, GOOD)
    assert names(play.run())[0] == "daemon.started"
    assert play.pauses == [60, 60]
    assert play.leases == 1
    assert play.daemon.status.last == GOOD
    assert play.daemon.status.carried_at == NOW


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    down = Unavailable("salesforce", "words", code="X", status=503)
    play = Play(GOOD, down, down, down, GOOD, GOOD)
    told = [name for name in names(play.run()) if str(name).startswith("outage")]
    assert told == ["outage.began", "outage.ended"]
    assert play.pauses == [60, 60, 120, 240, 60]


def test_a_summary_of_exit_three_is_an_outage_too() -> None:
    play = Play(CycleSummary("c", 1, exit_code=3), CycleSummary("c", 1, exit_code=3))
    assert names(play.run()).count("outage.began") == 1
    assert play.daemon.status.outage is not None
    assert play.daemon.status.carried_at is None


def test_any_error_is_survived() -> None:
    play = Play(KeyError("x"), Surprise("s", share=3), AuthFailed("salesforce", "no"), GOOD)
    events = play.run()
    assert names(events).count("outage.began") == 3
    assert [event["log_level"] for event in events if event["event"] == "outage.began"] == [
        "error",
        "warning",
        "warning",
    ]
    assert play.daemon.status.outage is None


def test_backing_off_is_bounded() -> None:
    assert [pause_after(n, MINUTE).total_seconds() for n in (0, 1, 2, 3, 4, 99)] == [
        60,
        60,
        120,
        240,
        300,
        300,
    ]
    assert pause_after(9, timedelta(seconds=1)) == timedelta(seconds=8)
    assert pause_after(9, timedelta(hours=1)) == timedelta(hours=1)


def test_a_named_moment_is_waited_for_within_the_bound() -> None:
    play = Play(
        Unavailable("salesforce", "x", retry_at=NOW + timedelta(seconds=200)),
        Unavailable("salesforce", "x", retry_at=NOW + timedelta(hours=9)),
        GOOD,
    )
    play.run()
    assert play.pauses == [200, 300]


def test_it_stands_by_and_takes_over() -> None:
    answers = [Busy("other:1"), Busy("other:1"), None]

    @contextmanager
    def lease(wait: timedelta) -> Iterator[None]:
        answer = answers.pop(0)
        holders.append(play.daemon.status.holder)
        if answer is not None:
            raise answer
        yield

    holders: list[str | None] = []
    play = Play(GOOD, lease=lease)
    told = [name for name in names(play.run()) if str(name).startswith("lease")]
    assert told == ["lease.standby", "lease.taken"]
    assert holders == [None, "other:1", "other:1"]
    assert play.pauses == [5, 5]
    assert play.daemon.status.holder is None


def test_a_lost_lease_ends_the_cycle_and_is_asked_for_again() -> None:
    play = Play(Fenced("gone"), GOOD)
    assert "lease.lost" in names(play.run())
    assert play.leases == 2


def test_an_unreachable_store_is_an_outage() -> None:
    answers: list[Exception | None] = [Unavailable("store", "x"), None]

    @contextmanager
    def lease(wait: timedelta) -> Iterator[None]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        yield

    play = Play(GOOD, lease=lease)
    assert "outage.ended" in names(play.run())


@contextmanager
def free(wait: timedelta) -> Iterator[None]:
    yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_wait_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def cycle() -> CycleSummary:
        os.kill(os.getpid(), number)
        return GOOD

    daemon = Daemon(cycle, interval=timedelta(hours=9), lease=free, clock=lambda: NOW)
    assert daemon.run() == 0
    assert signal.getsignal(number) is before


def test_a_wake_cuts_the_pause() -> None:
    cycles: list[int] = []

    def cycle() -> CycleSummary:
        cycles.append(1)
        (daemon.wake if len(cycles) < 3 else daemon.stop)()
        return GOOD

    daemon = Daemon(cycle, interval=timedelta(hours=9), lease=free, clock=lambda: NOW)
    assert daemon.run() == 0
    assert len(cycles) == 3


def test_a_wake_does_not_cut_the_pause_of_a_failing_daemon() -> None:
    play = Play(Unavailable("salesforce", "x"), GOOD)
    rung: list[bool] = []
    play.daemon._wait = lambda seconds: (play.daemon.wake(), rung.append(play.daemon._bell.is_set()), False)[
        2
    ]
    play.run()
    assert rung == [False]


@pytest.mark.parametrize("times", [1, 2])
def test_a_hanging_call_is_left_behind(times: int) -> None:
    """After the grace, or at once when asked twice, the process ends with 0 although a call still hangs."""
    release, left = threading.Event(), []

    def hang() -> CycleSummary:
        for _ in range(times):
            daemon.stop()
        release.wait(30)
        return GOOD

    grace = timedelta(seconds=0.05 if times == 1 else 3600)
    daemon = Daemon(hang, interval=MINUTE, lease=free, clock=lambda: NOW, grace=grace, leave=left.append)
    with capture_logs() as events:
        assert daemon.run() == 0
    release.set()
    assert left == [0]
    assert "daemon.abandoned" in [event["event"] for event in events]


def test_sighup_reads_the_configuration_again_and_the_daemon_goes_on() -> None:
    """In the main thread and not in the handler: reading a file and logging take locks."""
    heard: list[str] = []
    reloaded = threading.Event()

    def cycle() -> CycleSummary:
        if not heard:
            os.kill(os.getpid(), signal.SIGHUP)
        return GOOD

    def wait(_seconds: float) -> bool:
        if reloaded.wait(10):
            daemon.stop()
        return False

    def reload() -> None:
        heard.append(threading.current_thread().name)
        reloaded.set()

    daemon = Daemon(cycle, interval=MINUTE, lease=Play().lease, clock=lambda: NOW, wait=wait, reload=reload)
    assert daemon.run() == 0
    assert heard == ["MainThread"]
