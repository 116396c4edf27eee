"""Microsoft's side of our co-sell deals, read by engagement: at most twenty a cycle, the oldest read first.

There is no batch for it and no list shows it, so it is read in turn. Whose turn it is stands in one text of the store,
two lists of keys. Deals into which Microsoft was asked from here are awaited and take turns for as long as they are open.
Deals that were made in the portal with Microsoft in them are read once after each change of their referral and with each
full compare, so that an idle cycle costs nothing for them.

Only lists that changed are written back: up to twenty awaited deals cost their reads and nothing else. What changed makes
the deal due again and is told in the same cycle. Where few calls are left, these reads are the first to wait.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace

import structlog

from cosell_sync.core import microsoft
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.schedule import may
from cosell_sync.errors import Unavailable
from cosell_sync.ports import Store, Transaction

READS = 20
SPARED = 2  # of these for deals that are read once, so that many awaited ones do not keep them out
QUEUE = "microsoft"  # kept among the watermarks

log = structlog.get_logger("cosell_sync.cycle")


@dataclass
class _Turns:
    """Keys of links. ``asked``: read longest ago first, again and again. ``once``: read when it is their turn, and gone."""

    asked: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)


def await_microsoft(cycle: Cycle, links: Sequence[Link]) -> None:
    """Remember, before a deal is done with, that Microsoft's side of it is awaited."""
    waiting = [link.key for link in links if link.memory.invite and microsoft.awaited(link)]
    if not waiting:
        return
    turns = _turns(cycle.store)
    # Never read is older than everything.
    if new := [key for key in waiting if key not in turns.asked]:
        _keep(cycle.store, replace(turns, asked=[*new, *turns.asked]))


def queue_engagements(cycle: Cycle, keys: Sequence[str]) -> None:
    """These deals, if Microsoft is in them, are to be read once: they changed, or everything is compared."""
    if not keys:
        return
    store = cycle.store
    turns = _turns(store)
    links = [link for link in store.by_keys(keys).values() if not link.memory.invite]
    waiting = set(turns.once)
    if new := [link.key for link in links if microsoft.awaited(link) and link.key not in waiting]:
        _keep(store, replace(turns, once=[*turns.once, *new]))


def read_engagements(cycle: Cycle) -> list[Link]:
    """Read in turn. Returns the deals whose Microsoft side is not as remembered, to be told."""
    store = cycle.store
    kept = store.watermark(QUEUE) is not None
    turns = _turns(store)
    before = deepcopy(turns)
    changed: list[Link] = []
    reads = 0
    spared = min(SPARED, len(before.once))
    for asked, key in [*((True, each) for each in before.asked), *((False, each) for each in before.once)]:
        if reads >= READS - (spared if asked else 0):
            if asked:
                continue
            break
        link = store.by_keys([key]).get(key)
        if link is None or link.referral is None or not microsoft.awaited(link):
            (turns.asked if asked else turns.once).remove(key)
            continue
        if not may(cycle, Urgency.BACKGROUND):
            break
        reads += 1
        try:
            sides = cycle.referrals.engagement(link.referral.text("engagement_id"))
        except Unavailable as error:
            if error.status != 400:
                raise
            log.warning("microsoft.unreadable", **ids(link), code=error.code, status=error.status)
            break
        (turns.asked if asked else turns.once).remove(key)
        if asked:
            turns.asked.append(key)
        side = microsoft.microsoft_side(sides)
        if side and side != link.memory.microsoft:
            log.info("microsoft.changed", **ids(link), status=side.get("status"))
            changed.append(replace(link, memory=replace(link.memory, microsoft=side), dirty=True))
    if changed:
        store.commit(Transaction(links=changed))
    if turns != before or not kept:
        _keep(store, turns)
    return changed


def _turns(store: Store) -> _Turns:
    """Whose turn it is. A store that never kept it is searched once."""
    text = store.watermark(QUEUE)
    if text is not None:
        return _Turns(**json.loads(text))
    links = store.links([Phase.LINKED])
    return _Turns(asked=[link.key for link in links if link.memory.invite and microsoft.awaited(link)])


def _keep(store: Store, turns: _Turns) -> None:
    store.commit(Transaction(watermarks={QUEUE: json.dumps(asdict(turns))}))
