"""Which notices the outcome of a cycle calls for: conditions that stand now, against those that were told before.

A notice belongs to a condition with a key of its own (this deal waits for an answer, this system is out of reach). It is told
once while the condition stands, however many cycles and restarts that takes, and again where the condition ended and came
back. The end of an outage is told as well. A condition that ends before anybody could be told of it is told to nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from cosell_sync.core.deal import SyncState
from cosell_sync.core.frozen import replace

DAYS: Final = (1, 3, 7)  # before its deadline, an unanswered deal is told again
MOST_SINGLES: Final = 5  # of one kind in a cycle; what is beyond is told in one message
MOST_LISTED: Final = 10  # deals that such a message names
MOST_TRIES: Final = 8
FORGET_AFTER: Final = timedelta(days=7)  # what happened once (a win) is not looked at that far back
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=1)


class NoticeKind(StrEnum):
    """What a notice is about: the words of the setting ``notices``, urgent ones first."""

    OUTAGE = "outage"
    SIGN_IN = "sign_in"
    EXPIRING = "expiring"
    CONFLICT = "conflict"
    ATTENTION = "attention"
    RECEIVED = "received"
    WON = "won"


@dataclass(frozen=True)
class StandingDeal:
    """A deal that something is to be told of. ``respond_by``: while it waits for accept or decline."""

    key: str
    sync_state: SyncState
    respond_by: datetime | None = None


class Ending(StrEnum):
    """How a cycle ended."""

    WELL = "well"
    AUTH_FAILED = "auth_failed"  # a system refused the sign-in
    UNAVAILABLE = "unavailable"  # a system is out of reach
    BROKEN = "broken"  # an error of this program
    SURPRISE = "surprise"  # stopped, because it would have changed unusually much


@dataclass(frozen=True)
class Situation:
    """How things stand after a cycle.

    ``deals``: those that wait for an answer or a person. ``won``: keys of deals that were lately won. ``system``: which
    ended the cycle, for ``AUTH_FAILED`` and ``UNAVAILABLE``.
    """

    now: datetime
    cycle: str
    deals: Sequence[StandingDeal] = ()
    won: Collection[str] = ()
    ending: Ending = Ending.WELL
    system: str = ""


@dataclass(frozen=True)
class Notice:
    """One message. It names deals by the keys of their links, so that no copy of anybody's data waits to be sent.

    ``key``: of the condition; a receiver may tell repetitions by it. ``more``: further deals that are only counted. ``over``:
    the condition has ended. ``silent``: only remembered, because another message tells it. ``days``: left to answer.
    """

    key: str
    kind: NoticeKind
    deals: tuple[str, ...] = ()
    more: int = 0
    days: int | None = None
    system: str = ""
    over: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Told:
    """What is remembered of a notice. ``told``: it was sent, or another message told it. ``at``: when it came up."""

    at: datetime
    told: bool


@dataclass(frozen=True)
class Due:
    """What follows: messages to send, and keys to forget."""

    new: tuple[Notice, ...] = ()
    ended: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Waiting:
    """A notice that is to be sent to this target now; ``tries``: made in vain so far. ``at``: when it came up."""

    target: str
    notice: Notice
    tries: int
    at: datetime


@dataclass(frozen=True)
class Backlog:
    """Of one target: how many notices wait to be sent, and how many were given up in the last days."""

    waiting: int = 0
    given_up: int = 0


_PASSING: Final = ("won:", "sum:", "over:")  # keys of what happened once, and does not stand
_SYSTEM_KEYS: Final = ("outage:", "sign_in:")
_STOPPED: Final = "attention:cycle"
OURSELVES: Final = "cosell-sync"


def due(situation: Situation, known: Mapping[str, Told], wanted: Collection[NoticeKind]) -> Due:
    """What one receiver, who wants these kinds and to whom these keys are known, is to be told after a cycle."""
    standing = {notice.key: notice for notice in _standing(situation, known.keys()) if notice.kind in wanted}
    over = [key for key in known if key not in standing and not key.startswith(_PASSING)]
    fresh = [notice for key, notice in standing.items() if key not in known and not _late(notice)]
    ends = [_end(key, situation.cycle) for key in over if known[key].told and key.startswith(_SYSTEM_KEYS)]
    old = [
        key
        for key, what in known.items()
        if key.startswith(_PASSING) and situation.now - what.at > FORGET_AFTER and key not in standing
    ]
    return Due((*ends, *_summed(fresh, situation)), frozenset((*over, *old)))


def pause_after(tries: int) -> timedelta:
    """How long to wait after so many tries in vain: a minute, then twice as long each time, at most an hour."""
    return min(FIRST_PAUSE * (1 << min(max(tries - 1, 0), 10)), LONGEST_PAUSE)


def _standing(situation: Situation, known: Collection[str]) -> Iterator[Notice]:
    """Every condition that stands; of the kinds that name a system, also those that this cycle cannot judge."""
    yield from _of_cycle(situation)
    for deal in situation.deals:
        yield from _of_deal(deal, situation.now)
    for key in situation.won:
        yield Notice(f"won:{key}", NoticeKind.WON, (key,))
    if situation.ending is not Ending.WELL and situation.ending is not Ending.SURPRISE:
        # Nothing says that what kept earlier cycles from ending well is over.
        for key in known:
            if key.startswith(_SYSTEM_KEYS) or key == _STOPPED:
                yield Notice(key, _kind(key))


def _of_cycle(situation: Situation) -> Iterator[Notice]:
    match situation.ending:
        case Ending.AUTH_FAILED:
            yield Notice(f"sign_in:{situation.system}", NoticeKind.SIGN_IN, system=situation.system)
        case Ending.UNAVAILABLE:
            yield Notice(f"outage:{situation.system}", NoticeKind.OUTAGE, system=situation.system)
        case Ending.BROKEN:
            yield Notice(f"outage:{OURSELVES}", NoticeKind.OUTAGE, system=OURSELVES)
        case Ending.SURPRISE:
            yield Notice(_STOPPED, NoticeKind.ATTENTION)


def _of_deal(deal: StandingDeal, now: datetime) -> Iterator[Notice]:
    if deal.sync_state is SyncState.NEEDS_ATTENTION:
        yield Notice(f"attention:{deal.key}", NoticeKind.ATTENTION, (deal.key,))
    if deal.sync_state is SyncState.CONFLICT:
        yield Notice(f"conflict:{deal.key}", NoticeKind.CONFLICT, (deal.key,))
    if deal.respond_by is None:
        return
    left = deal.respond_by - now
    yield Notice(f"received:{deal.key}", NoticeKind.RECEIVED, (deal.key,), days=left.days)
    step = next((days for days in DAYS if left <= timedelta(days=days)), None)
    if step is not None:
        yield Notice(f"expiring:{deal.key}:{step}", NoticeKind.EXPIRING, (deal.key,), days=left.days)


def _late(notice: Notice) -> bool:
    """Whether nobody can answer any more: its deadline has passed."""
    return notice.days is not None and notice.days < 0


def _end(key: str, cycle: str) -> Notice:
    return Notice(f"over:{cycle}:{key}", _kind(key), system=key.partition(":")[2], over=True)


def _kind(key: str) -> NoticeKind:
    """The kind in the key of a condition that stands."""
    return NoticeKind(key.partition(":")[0])


def _summed(fresh: Sequence[Notice], situation: Situation) -> Iterator[Notice]:
    """The new notices, urgent kinds and near deadlines first; of many of one kind the first few, the rest in one.

    A deal that is told as received brings its deadline, so that the same cycle does not tell it as expiring as well.
    """
    received = {notice.deals for notice in fresh if notice.kind is NoticeKind.RECEIVED}
    order = list(NoticeKind)
    ranked = sorted(
        fresh,
        key=lambda each: (order.index(each.kind), each.days if each.days is not None else 0, each.key),
    )
    for kind, group in groupby(ranked, lambda each: each.kind):
        several = list(group)
        if kind is NoticeKind.EXPIRING:
            yield from (_silent(each) for each in several if each.deals in received)
            several = [each for each in several if each.deals not in received]
        yield from several[:MOST_SINGLES]
        rest = several[MOST_SINGLES:]
        if rest:
            yield from map(_silent, rest)
            keys = tuple(each.deals[0] for each in rest)
            listed, more = keys[:MOST_LISTED], len(keys[MOST_LISTED:])
            yield Notice(f"sum:{situation.cycle}:{kind}", kind, listed, more)


def _silent(notice: Notice) -> Notice:
    return replace(notice, silent=True)
