"""Thrift: where few calls are left, urgent work goes first, and what can wait waits.

Normally the deals that are due are gone through once, by key. Where a budget is small, or the due ones alone might use
it up, they are gone through by urgency, in small chunks, and the budgets are looked at before each. What was left undone
stays due. Which system is short does not matter, for a deal is told on both; but Partner Center takes one deal a call,
and so its calls bound a chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import structlog

from cosell_sync.core.deal import Link, Phase, Side, State
from cosell_sync.core.quota import Level, Urgency, allows, urgency
from cosell_sync.cycle.context import Run
from cosell_sync.cycle.isolate import decisions
from cosell_sync.cycle.safety import CHUNK, due

PART = 8  # a chunk has at most this part of what is left of Partner Center's calls
LEAST = 4  # deals in a chunk, for the CRM takes many a call

log = structlog.get_logger("cosell_sync.cycle")


def begin(run: Run) -> None:
    for meter in run.world.meters.values():
        meter.begin()


def looked(run: Run) -> None:
    for meter in run.world.meters.values():
        meter.looked()


def foresee(run: Run) -> None:
    """The cycle is over: will the budgets last?"""
    for side, meter in run.world.meters.items():
        for forecast in meter.end(run.world.habits.patience.interval):
            purse = forecast.purse
            tell = log.info if forecast.lasts and purse.level is Level.AMPLE else log.warning
            tell(
                "budget.forecast",
                side=side,
                used=purse.used,
                ceiling=purse.ceiling,
                level=purse.level.name.lower(),
                calls_per_cycle=round(forecast.per_cycle, 1),
                expected=forecast.expected,
                pause_s=round(forecast.pause.total_seconds()),
                rolling=purse.rolling,
            )


def may(run: Run, what: Urgency) -> bool:
    """Whether the smallest budget still allows this kind of work."""
    return allows(_level(run), what)


def chunks(run: Run) -> Iterator[list[Link]]:
    """The deals that are due, a chunk at a time, the urgent ones first where a budget is small."""
    if not _short(run):
        yield from due(run)
        return
    seen: set[str] = set()
    waiting: Counter[Urgency] = Counter()
    for what in Urgency:
        for chunk in due(run):
            kinds = _kinds(run, [link for link in chunk if link.key not in seen])
            now = [link for link in chunk if kinds.get(link.key) is what]
            seen.update(link.key for link in now)
            for part in _parts(run, now):
                if may(run, what):
                    yield part
                else:
                    waiting[what] += len(part)
    if waiting:
        log.warning("budget.deferred", **{what.name.lower(): waiting[what] for what in sorted(waiting)})


def _level(run: Run) -> Level:
    levels = [purse.level for meter in run.world.meters.values() for purse in meter.purses()]
    return max(levels, default=Level.AMPLE)


def _short(run: Run) -> bool:
    """Whether the order matters: the level is low, or more is due than is surely paid for."""
    size = _size(run)
    return _level(run) > Level.AMPLE or (
        size < CHUNK and len(run.world.store.due(run.now, "", size + 1)) > size
    )


def _size(run: Run) -> int:
    """How many deals that may cost a call each go into a chunk."""
    meter = run.world.meters.get(Side.PARTNER_CENTER)
    left = min((purse.left for purse in meter.purses()), default=None) if meter else None
    return CHUNK if left is None else max(LEAST, min(CHUNK, left // PART))


def _parts(run: Run, links: list[Link]) -> Iterator[list[Link]]:
    """New ones together, for they cost Partner Center nothing; the others a few at a time."""
    if new := [link for link in links if link.phase is Phase.WAITING]:
        yield new
    others = [link for link in links if link.phase is not Phase.WAITING]
    while others:
        size = _size(run)
        yield others[:size]
        others = others[size:]


def _kinds(run: Run, links: list[Link]) -> dict[str, Urgency]:
    """A write of unknown fate may be an answer, so looking after it is as urgent as that."""
    opened = {intent.link for intent in run.world.store.intents([link.key for link in links])}
    return {link.key: Urgency.ANSWER if link.key in opened else _kind(run, link) for link in links}


def _kind(run: Run, link: Link) -> Urgency:
    whole = link.phase is Phase.LINKED and link.referral is not None and link.opportunity is not None
    if not whole or link.memory.gone is not None:
        return urgency((), fresh=link.phase is Phase.WAITING)
    moves = [
        State(str(effect.new))
        for decision in decisions(run, [link])
        for effect in decision.effects
        if effect.action == "move"
    ]
    return urgency(moves)
