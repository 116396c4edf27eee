"""What long work is at is told to whoever watches a terminal, and to nobody else."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli.progress import leased, progress, sentence
from cosell_sync.core.deal import Side, State
from cosell_sync.cycle.context import Progress, Work
from cosell_sync.errors import Busy
from cosell_sync.store.open import open_store
from test_cycle import Play

PC, CRM = Side.PARTNER_CENTER, Side.CRM


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def looked_at(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    """stderr is this stream, from here on: pytest puts its own there between a fixture and its test."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")


def watched(play: Play) -> list[Progress]:
    """What a cycle of this world tells from now on."""
    seen: list[Progress] = []
    play.world = replace(play.world, progress=seen.append)
    return seen


def test_a_first_import_tells_what_it_reads_decides_and_carries() -> None:
    play = Play()
    for _ in range(3):
        play.outside.new_referral(State.RECEIVED)
    seen = watched(play)
    play.cycle()
    assert Progress(Work.READING, 3, PC) in seen
    assert [each.total for each in seen if each.work is Work.CARRYING][-1] == 3
    assert [each.done for each in seen if each.work is Work.CARRYING][-1] == 3
    assert [each.work for each in seen] == sorted((each.work for each in seen), key=list(Work).index)


def test_a_full_compare_tells_how_much_of_each_side_it_has_compared() -> None:
    play = Play()
    play.begin()
    seen = watched(play)
    play.outside.now += timedelta(days=2)
    play.cycle()
    assert {(each.side, each.done) for each in seen if each.work is Work.COMPARING} == {(PC, 1), (CRM, 1)}


TOLD = [(work, side) for work in (Work.READING, Work.COMPARING) for side in Side]
TOLD += [(work, None) for work in (Work.DECIDING, Work.CARRYING)]  # type: ignore[list-item]


@pytest.mark.parametrize(("work", "side"), TOLD)
def test_whatever_a_cycle_tells_has_words(work: Work, side: Side | None) -> None:
    """A record is read of a side, a deal has both."""
    assert set(Work) == {each for each, _ in TOLD}
    assert "1,200" in sentence(Progress(work, 1200, side))
    assert "1,200 of 4,000" in sentence(Progress(work, 1200, side, 4000))


def test_it_is_shown_on_a_terminal_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at(monkeypatch, terminal := Terminal())
    with progress() as step:
        step(Progress(Work.CARRYING, 200, total=600))
    assert "Carrying: 200 of 600 deals" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased


def test_nothing_of_it_reaches_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at(monkeypatch, pipe := io.StringIO())
    with progress() as step:
        step(Progress(Work.CARRYING, 200, total=600))
    assert pipe.getvalue() == ""


@pytest.mark.parametrize("freed", [True, False], ids=["it becomes free", "it does not"])
def test_who_has_the_store_is_named_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freed: bool
) -> None:
    looked_at(monkeypatch, terminal := Terminal())
    url = f"sqlite:///{tmp_path}/store.db"
    other = open_store(url, utc_now)
    held = other.lease(timedelta())
    held.__enter__()
    ours = open_store(url, utc_now, sleep=lambda _: held.__exit__(None, None, None) if freed else None)
    try:
        if freed:
            with leased(ours, timedelta(seconds=1)):
                assert ours.holds_lease
        else:
            with pytest.raises(Busy), leased(ours, timedelta(seconds=1)):
                pass
        assert "Waiting for the store, which process " in terminal.getvalue()
    finally:
        if not freed:
            held.__exit__(None, None, None)
        ours.close()
        other.close()
