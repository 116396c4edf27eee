"""The outbox of notices on SQLite and PostgreSQL: nothing is lost by a restart, and nothing told twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from test_store import FULL, NO_WAIT, NOW, entry, postgres, postgres_url, sql, sqlite

from cosell_sync.core.deal import Side, Snapshot, State, SyncState
from cosell_sync.core.memory import Action, Memory, Phase
from cosell_sync.core.notices import Backlog, Due, Notice, NoticeKind, StandingDeal, Told, Waiting
from cosell_sync.ports import Transaction
from cosell_sync.store.notices import SqlOutbox

__all__ = ["postgres", "postgres_url", "sql", "sqlite"]  # fixtures, taken by name

FIRST = Notice("attention:r:1", NoticeKind.ATTENTION, ("r:1",))
SUM = Notice("sum:c1:received", NoticeKind.RECEIVED, ("r:3", "r:2"), 40, 3)
QUIET = Notice("received:r:2", NoticeKind.RECEIVED, ("r:2",), silent=True)
OVER = Notice("over:c1:outage:dynamics", NoticeKind.OUTAGE, system="dynamics", over=True)


def waiting(outbox: SqlOutbox, *targets: str, minutes: int = 0) -> list[Waiting]:
    return [*outbox.waiting(targets or ("a",), NOW + timedelta(minutes=minutes), 100)]


def test_what_is_kept_waits_in_its_order_also_after_a_restart(sql: Any) -> None:
    outbox = SqlOutbox(sql.open().engine)
    outbox.keep("a", Due((SUM, OVER, QUIET, FIRST)), NOW)
    again = SqlOutbox(sql.open().engine)
    assert waiting(again) == [Waiting("a", each, 0, NOW) for each in (SUM, OVER, FIRST)]
    assert again.known("a") == {
        SUM.key: Told(NOW, told=False),
        OVER.key: Told(NOW, told=False),
        FIRST.key: Told(NOW, told=False),
        QUIET.key: Told(NOW, told=True),
    }
    assert (waiting(again, "b"), again.known("b")) == ([], {})
    assert again.waiting(["a"], NOW, 2) == waiting(again)[:2]


def test_what_was_told_stays_told(sql: Any) -> None:
    outbox = SqlOutbox(sql.open().engine)
    outbox.keep("a", Due((FIRST,)), NOW)
    outbox.sent("a", FIRST.key)
    outbox.keep("a", Due((FIRST,)), NOW + timedelta(hours=1))  # another process decided the same
    assert waiting(outbox, minutes=600) == []
    assert outbox.known("a") == {FIRST.key: Told(NOW, told=True)}
    outbox.keep("a", Due(ended=frozenset({FIRST.key, "unknown"})), NOW)
    assert outbox.known("a") == {}


def test_what_was_not_taken_waits_its_pause_and_may_be_given_up(sql: Any) -> None:
    outbox = SqlOutbox(sql.open().engine)
    outbox.keep("a", Due((FIRST, SUM)), NOW)
    outbox.put_off("a", FIRST.key, NOW + timedelta(minutes=5))
    assert [each.notice for each in waiting(outbox)] == [SUM]
    assert [(each.notice, each.tries) for each in waiting(outbox, minutes=5)] == [(SUM, 0), (FIRST, 1)]
    assert outbox.backlog("a") == Backlog(waiting=2)
    outbox.put_off("a", FIRST.key, None)
    assert [each.notice for each in waiting(outbox, minutes=999)] == [SUM]
    assert (outbox.backlog("a"), outbox.backlog("b")) == (Backlog(1, 1), Backlog())


def test_a_receiver_that_is_not_configured_any_more_is_forgotten(sql: Any) -> None:
    outbox = SqlOutbox(sql.open().engine)
    for target in ("a", "b"):
        outbox.keep(target, Due((FIRST,)), NOW)
    outbox.drop_others(["b"])
    assert [each.target for each in waiting(outbox, "a", "b")] == ["b"]
    outbox.drop_others(["b"])
    assert outbox.known("b") != {}


@pytest.mark.parametrize("phase", list(Phase))
def test_deals_that_wait_for_an_answer_or_a_person_stand(sql: Any, phase: Phase) -> None:
    store = sql.open()

    def deal(number: int, state: SyncState, status: State) -> Any:
        referral = Snapshot(str(number), "v", {"state": status.value, "respond_by": NOW})
        memory = Memory(sync_state=state)
        ids = {"key": f"r:{number}", "referral_id": str(number), "opportunity_id": f"006{number}"}
        return replace(FULL, **ids, phase=phase, referral=referral, opportunity=None, memory=memory)

    states = [*SyncState]
    with store.lease(NO_WAIT):
        store.commit(
            Transaction(links=[deal(number, state, State.ACCEPTED) for number, state in enumerate(states)])
        )
        store.commit(Transaction(links=[deal(9, SyncState.WAITING, State.RECEIVED)]))
    expected = [
        StandingDeal(f"r:{number}", state)
        for number, state in enumerate(states)
        if state in {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}
    ]
    expected.append(StandingDeal("r:9", SyncState.WAITING, NOW))
    assert SqlOutbox(store.engine).standing() == (expected if phase in {Phase.LINKED, Phase.WAITING} else [])


def test_wins_are_those_that_were_carried_since(sql: Any) -> None:
    store = sql.open()
    with store.lease(NO_WAIT):
        move = {"action": Action.MOVE, "side": Side.CRM, "field": "stage"}
        lines = [
            entry(**move, link="r:1", new="Won"),
            entry(**move, link="r:1", new="Won"),
            entry(**move, link="r:2", new="Lost"),
            entry(link="r:3", new="Won"),  # somebody named a deal so
            entry(**move, link="r:4", new="Won", at=NOW - timedelta(hours=2)),
        ]
        links = [
            replace(FULL, key=f"r:{number}", referral_id=str(number), opportunity_id=None, opportunity=None)
            for number in (1, 2, 3, 4)
        ]
        store.commit(Transaction(links=links, journal=lines))
    outbox = SqlOutbox(store.engine)
    assert outbox.won(NOW - timedelta(hours=1)) == ["r:1"]
    assert outbox.won(NOW - timedelta(hours=3)) == ["r:1", "r:4"]
