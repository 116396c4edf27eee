"""Which notices a cycle calls for: once while a condition stands, the end of an outage, a few at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cosell_sync.core.deal import SyncState
from cosell_sync.core.notices import (
    FORGET_AFTER,
    MOST_LISTED,
    MOST_SINGLES,
    Due,
    Ending,
    Notice,
    NoticeKind,
    Situation,
    StandingDeal,
    Told,
    due,
    pause_after,
)

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
ALL = frozenset(NoticeKind)
CALM = Situation(NOW, "c1")


class Receiver:
    """What a store remembers for one receiver; everything arrives at once unless ``deaf``."""

    def __init__(self, *kinds: NoticeKind) -> None:
        self.kinds = frozenset(kinds) or ALL
        self.known: dict[str, Told] = {}
        self.deaf = False

    def after(self, situation: Situation) -> list[Notice]:
        """The messages that are sent."""
        found = due(situation, self.known, self.kinds)
        self.known = {key: told for key, told in self.known.items() if key not in found.ended}
        for notice in found.new:
            self.known[notice.key] = Told(situation.now, notice.silent or not self.deaf)
        return [notice for notice in found.new if not notice.silent]

    def kinds_after(self, situation: Situation) -> list[str]:
        return [notice.kind.value for notice in self.after(situation)]


def standing(state: SyncState = SyncState.WAITING, days: float | None = None, key: str = "r:1") -> Situation:
    until = None if days is None else NOW + timedelta(days=days)
    return replace(CALM, deals=[StandingDeal(key, state, until)])


def many(count: int, state: SyncState = SyncState.NEEDS_ATTENTION) -> Situation:
    return replace(CALM, deals=[StandingDeal(f"r:{number:03}", state) for number in range(count)])


def test_nothing_is_told_where_nothing_stands() -> None:
    assert due(CALM, {}, ALL) == Due()


@pytest.mark.parametrize(
    ("situation", "kind"),
    [
        (standing(SyncState.NEEDS_ATTENTION), "attention"),
        (standing(SyncState.CONFLICT), "conflict"),
        (standing(days=12), "received"),
        (replace(CALM, won=["r:1"]), "won"),
        (replace(CALM, ending=Ending.UNAVAILABLE, system="salesforce"), "outage"),
        (replace(CALM, ending=Ending.BROKEN), "outage"),
        (replace(CALM, ending=Ending.AUTH_FAILED, system="partner_center"), "sign_in"),
        (replace(CALM, ending=Ending.SURPRISE), "attention"),
    ],
)
def test_each_condition_is_told_once_and_only_to_those_who_want_it(situation: Situation, kind: str) -> None:
    receiver, other = Receiver(), Receiver(*(each for each in NoticeKind if each.value != kind))
    assert receiver.kinds_after(situation) == [kind]
    assert receiver.after(replace(situation, cycle="c2")) == []
    assert other.after(situation) == []
    assert other.known == {}


@pytest.mark.parametrize("state", [SyncState.NEEDS_ATTENTION, SyncState.CONFLICT])
def test_what_comes_back_is_told_again(state: SyncState) -> None:
    receiver = Receiver()
    assert len(receiver.after(standing(state))) == 1
    assert receiver.after(CALM) == []
    assert len(receiver.after(standing(state))) == 1


def test_what_ends_before_it_could_be_told_is_told_to_nobody() -> None:
    receiver = Receiver()
    receiver.deaf = True
    receiver.after(replace(CALM, ending=Ending.UNAVAILABLE, system="salesforce"))
    receiver.after(CALM)
    assert receiver.known == {}


@pytest.mark.parametrize(
    ("ending", "system", "kind"),
    [
        (Ending.UNAVAILABLE, "salesforce", "outage"),
        (Ending.BROKEN, "", "outage"),
        (Ending.AUTH_FAILED, "partner_center", "sign_in"),
    ],
)
def test_the_end_of_an_outage_is_told_once_and_the_next_outage_again(
    ending: Ending, system: str, kind: str
) -> None:
    receiver, away = Receiver(), replace(CALM, ending=ending, system=system)
    begun = receiver.after(away)
    assert [(each.kind.value, each.over) for each in begun] == [(kind, False)]
    over = receiver.after(replace(CALM, cycle="c2"))
    assert [(each.kind.value, each.over, each.system) for each in over] == [(kind, True, begun[0].system)]
    assert receiver.after(replace(CALM, cycle="c3")) == []
    assert receiver.kinds_after(replace(away, cycle="c4")) == [kind]
    assert receiver.kinds_after(replace(CALM, cycle="c5")) == [kind]


def test_one_system_away_says_nothing_of_the_other() -> None:
    """A cycle that Partner Center ended never reached the CRM: the CRM's outage is not over."""
    receiver = Receiver()
    crm = replace(CALM, ending=Ending.UNAVAILABLE, system="salesforce")
    ours = replace(CALM, ending=Ending.UNAVAILABLE, system="partner_center")
    assert len(receiver.after(crm)) == 1
    assert [each.system for each in receiver.after(ours)] == ["partner_center"]
    assert receiver.after(crm) == []
    assert {each.system for each in receiver.after(CALM)} == {"salesforce", "partner_center"}


def test_deals_are_told_of_while_a_system_is_away() -> None:
    situation = replace(standing(days=2), ending=Ending.UNAVAILABLE, system="salesforce")
    assert Receiver().kinds_after(situation) == ["outage", "received"]


def test_an_unanswered_deal_is_told_seven_three_and_one_days_before_its_end() -> None:
    receiver = Receiver()
    told = [
        (left, kind)
        for left in (13.9, 10, 7.1, 7, 6, 3, 2.5, 1.01, 1, 0.5, 0.1)
        for kind in receiver.kinds_after(standing(days=left))
    ]
    assert told == [(13.9, "received"), (7, "expiring"), (3, "expiring"), (1, "expiring")]


def test_a_deal_that_comes_late_is_told_once_with_its_deadline() -> None:
    receiver, only_expiring = Receiver(), Receiver(NoticeKind.EXPIRING)
    assert receiver.kinds_after(standing(days=2)) == ["received"]
    assert receiver.after(standing(days=1.5)) == []
    assert receiver.kinds_after(standing(days=0.9)) == ["expiring"]
    assert only_expiring.kinds_after(standing(days=2)) == ["expiring"]
    assert only_expiring.after(standing(days=1.5)) == []


def test_nobody_is_asked_to_answer_what_has_expired() -> None:
    assert Receiver().after(standing(days=-0.1)) == []


@pytest.mark.parametrize(
    ("count", "messages"), [(MOST_SINGLES, MOST_SINGLES), (MOST_SINGLES + 1, MOST_SINGLES + 1)]
)
def test_of_many_the_rest_is_one_message(count: int, messages: int) -> None:
    assert len(Receiver().after(many(count))) == messages


def test_a_flood_is_told_in_a_few_messages_once_and_counts_every_deal() -> None:
    receiver = Receiver()
    told = receiver.after(many(200))
    assert len(told) == MOST_SINGLES + 1
    assert len(told[-1].deals) == MOST_LISTED
    assert sum(len(each.deals) + each.more for each in told) == 200
    assert receiver.after(replace(many(200), cycle="c2")) == []
    assert [each.deals for each in receiver.after(replace(many(201), cycle="c3"))] == [("r:200",)]


def test_near_deadlines_come_first() -> None:
    deals = [StandingDeal(f"r:{day}", SyncState.WAITING, NOW + timedelta(days=day)) for day in (13, 8, 10)]
    told = Receiver().after(replace(CALM, deals=deals))
    assert [each.deals[0] for each in told] == ["r:8", "r:10", "r:13"]


def test_urgent_kinds_come_first() -> None:
    deals = [
        StandingDeal("r:1", SyncState.NEEDS_ATTENTION, NOW + timedelta(days=9)),
        StandingDeal("r:2", SyncState.CONFLICT),
    ]
    assert Receiver().kinds_after(replace(CALM, deals=deals, won=["r:3"])) == [
        "conflict", "attention", "received", "won",
    ]  # fmt: skip


def test_a_win_is_told_once_and_forgotten_only_when_it_is_not_seen_any_more() -> None:
    receiver = Receiver()
    won = replace(CALM, won=["r:1"])
    assert len(receiver.after(won)) == 1
    later = NOW + FORGET_AFTER + timedelta(hours=1)
    assert receiver.after(CALM) == []
    assert receiver.after(won) == []
    assert receiver.after(replace(won, now=later)) == []
    assert receiver.known
    receiver.after(replace(CALM, now=later))
    assert receiver.known == {}


def test_pauses_grow_to_an_hour() -> None:
    minutes = [pause_after(tries).total_seconds() / 60 for tries in range(1, 9)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60]
