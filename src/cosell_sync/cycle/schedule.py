"""Decides which due deals are worked on, in which order: where few calls are left, urgent work goes first.

Normally the deals that are due are gone through once, by key. Where a quota is small, or the due deals alone might use it
up, they are gone through by urgency, in small chunks, and the quotas are read before each. What was left undone stays due.
Which system is short does not matter, for a deal is written on both; but Partner Center takes one deal a call, so its calls
bound a chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import structlog

from cosell_sync.core.deal import Side, State
from cosell_sync.core.memory import Action, Link, Phase
from cosell_sync.core.quota import Level, Urgency, allows, urgency
from cosell_sync.cycle.context import CHUNK, Cycle
from cosell_sync.cycle.decide import foreseeable

PART = 8  # a chunk has at most this part of what is left of Partner Center's calls
LEAST = 4  # deals in a chunk, for the CRM takes many a call

log = structlog.get_logger("cosell_sync.cycle")


def begin(cycle: Cycle) -> None:
    """Begin to count the calls of this cycle. Raises Unavailable where no calls are left."""
    for meter in cycle.meters.values():
        meter.begin()


def reading_done(cycle: Cycle) -> None:
    """The cycle knows what has changed; from here on its calls are counted as work, not as reading."""
    for meter in cycle.meters.values():
        meter.looked()


def log_forecasts(cycle: Cycle) -> None:
    """Log how far the quotas will last, for each side where that is news."""
    for side, meter in cycle.meters.items():
        for forecast in meter.end(cycle.settings.retry_policy.interval):
            allowance = forecast.allowance
            emit = log.info if forecast.lasts and allowance.level is Level.AMPLE else log.warning
            emit(
                "budget.forecast",
                side=side,
                used=allowance.used,
                ceiling=allowance.ceiling,
                level=allowance.level.name.lower(),
                calls_per_cycle=round(forecast.per_cycle, 1),
                expected=forecast.expected,
                pause_s=round(forecast.pause.total_seconds()),
                rolling=allowance.rolling,
            )


def allowed(cycle: Cycle, what: Urgency) -> bool:
    """Whether the smallest quota still allows this kind of work."""
    return allows(_level(cycle), what)


def due(cycle: Cycle) -> Iterator[list[Link]]:
    """The deals that are due, by key, a chunk at a time. The first chunk is read once until it is worked on."""
    if cycle.first_due is None:
        cycle.first_due = list(cycle.store.due(cycle.now, "", CHUNK))
    chunk = cycle.first_due
    while chunk:
        yield chunk
        if is_last(chunk):
            return
        cycle.decided.clear()
        chunk = list(cycle.store.due(cycle.now, chunk[-1].key, CHUNK))


def is_last(chunk: list[Link]) -> bool:
    """Whether nothing that is due comes after this chunk."""
    return len(chunk) < CHUNK


def chunks(cycle: Cycle) -> Iterator[list[Link]]:
    """The deals that are due, a chunk at a time, the urgent ones first where a quota is small."""
    if not _quota_is_small(cycle):
        yield from _due_to_work_on(cycle)
        return
    seen: set[str] = set()
    waiting: Counter[Urgency] = Counter()
    for what in Urgency:
        for chunk in _due_to_work_on(cycle):
            kinds = _urgencies(cycle, [link for link in chunk if link.key not in seen])
            now = [link for link in chunk if kinds.get(link.key) is what]
            seen.update(link.key for link in now)
            for part in _in_parts(cycle, now):
                if allowed(cycle, what):
                    yield part
                else:
                    waiting[what] += len(part)
    if waiting:
        log.warning("budget.deferred", **{what.name.lower(): waiting[what] for what in sorted(waiting)})


def wishes(cycle: Cycle) -> Iterator[list[Link]]:
    """The opportunities that want to be shared, as they are stored now, a chunk at a time, as far as the quota allows."""
    if not cycle.wishes or not allowed(cycle, Urgency.STATUS):
        return
    for start in range(0, len(cycle.wishes), CHUNK):
        yield list(cycle.store.by_keys(cycle.wishes[start : start + CHUNK]).values())


def _due_to_work_on(cycle: Cycle) -> Iterator[list[Link]]:
    """As ``due``; from here on the deals change, so the next look reads them anew."""
    for chunk in due(cycle):
        cycle.first_due = None
        yield chunk
        cycle.decided.clear()


def _level(cycle: Cycle) -> Level:
    levels = [allowance.level for meter in cycle.meters.values() for allowance in meter.allowances()]
    return max(levels, default=Level.AMPLE)


def _quota_is_small(cycle: Cycle) -> bool:
    """Whether the order matters: the level is low, or more is due than is surely paid for."""
    size = _chunk_size(cycle)
    return _level(cycle) > Level.AMPLE or (size < CHUNK and len(next(due(cycle), ())) > size)


def _chunk_size(cycle: Cycle) -> int:
    """How many deals that may cost a call each go into a chunk."""
    meter = cycle.meters.get(Side.PARTNER_CENTER)
    left = min((allowance.left for allowance in meter.allowances()), default=None) if meter else None
    return CHUNK if left is None else max(LEAST, min(CHUNK, left // PART))


def _in_parts(cycle: Cycle, links: list[Link]) -> Iterator[list[Link]]:
    """New ones together, for they cost Partner Center nothing; the others a few at a time."""
    if new := [link for link in links if link.phase is Phase.WAITING]:
        yield new
    others = [link for link in links if link.phase is not Phase.WAITING]
    while others:
        size = _chunk_size(cycle)
        yield others[:size]
        others = others[size:]


def _urgencies(cycle: Cycle, links: list[Link]) -> dict[str, Urgency]:
    """A write of unknown fate may be an answer, so looking after it is as urgent as that."""
    opened = {intent.link for intent in cycle.store.intents([link.key for link in links])}
    return {link.key: Urgency.ANSWER if link.key in opened else _urgency(cycle, link) for link in links}


def _urgency(cycle: Cycle, link: Link) -> Urgency:
    whole = link.phase is Phase.LINKED and link.referral is not None and link.opportunity is not None
    if not whole or link.memory.gone is not None:
        return urgency((), fresh=link.phase is Phase.WAITING)
    moves = [
        State(str(effect.new))
        for decision in foreseeable(cycle, [link])
        for effect in decision.effects
        if effect.action == Action.MOVE
    ]
    return urgency(moves)
