"""Pulls: what changed on either side is staged in the store, and the watermarks move.

From then on it cannot be forgotten: a staged link stays dirty until it was decided and written, whatever happens in
between. Once after the rules or the CRM have changed every deal is decided anew: a shorter hold, a new picklist value, a
larger field; where the CRM is read through other columns now, it is read anew as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from cosell_sync.core.deal import Side, Snapshot
from cosell_sync.core.frozen import replace
from cosell_sync.core.intake import skipped_by_category
from cosell_sync.core.keys import referral_key
from cosell_sync.core.memory import Link, Memory, Phase
from cosell_sync.core.microsoft import tells_too_little
from cosell_sync.core.readings import (
    READINGS,
    days_read_otherwise,
    from_text,
    intent_without,
    read_otherwise,
    readings,
    remembered,
    to_text,
    with_unread_day,
    without_stale,
)
from cosell_sync.core.retry import tried_at_once
from cosell_sync.core.rules import digest
from cosell_sync.cycle.context import CHUNK, Cycle, Progress, Work
from cosell_sync.cycle.record import Record, commit, keep_state
from cosell_sync.cycle.safety import SKEW
from cosell_sync.ports import Page

MOST_HINTS = 100  # looked at in a cycle; more wait for the next
SOON = timedelta(seconds=30)  # so close to the last cycle the clock need not be noted again

log = structlog.get_logger("cosell_sync.cycle")


def pull(cycle: Cycle, record: Record) -> None:
    """Stage what changed. Pages with news are stored at once; a watermark that moves alone waits for the next commit."""
    store, overlap = cycle.store, cycle.settings.overlap
    known = {side: store.watermark(side) for side in Side}
    asked_at, hinted = cycle.clock(), store.hints(MOST_HINTS)
    seen: set[str] = set()
    if cycle.lists_referrals():
        for page in cycle.referrals.changed_since(known[Side.PARTNER_CENTER], overlap):
            seen.update(snapshot.id for snapshot in page.snapshots)
            record.put(*staged_referrals(cycle, page))
            _move_watermark(cycle, record, Side.PARTNER_CENTER, page, known)
            cycle.progress(Progress(Work.READING, len(seen), Side.PARTNER_CENTER))
    if hinted:
        _look_at(cycle, record, [each for each in hinted if each not in seen])
        record.looked_at, record.looked_until = hinted, asked_at
        commit(store, record)
    opportunities = 0
    for page in cycle.crm.changed_since(known[Side.CRM], overlap, store):
        record.put(*staged_opportunities(cycle, page))
        _move_watermark(cycle, record, Side.CRM, page, known)
        opportunities += len(page.snapshots)
        cycle.progress(Progress(Work.READING, opportunities, Side.CRM))


def _look_at(cycle: Cycle, record: Record, referral_ids: Sequence[str]) -> None:
    """Read these by id: a webhook named them, and the list does not show them (yet). What is out of sight stays a hint only."""
    found = cycle.referrals.fetch(referral_ids) if referral_ids else {}
    snapshots = [snapshot for snapshot in found.values() if snapshot is not None]
    record.put(*staged_referrals(cycle, Page(snapshots)))


def _move_watermark(
    cycle: Cycle, record: Record, side: Side, page: Page, known: dict[Side, str | None]
) -> None:
    if page.watermark is not None and page.watermark != known[side]:
        record.watermarks[side.value] = known[side] = page.watermark
    if record.links:
        commit(cycle.store, record)


def correct_times(cycle: Cycle, record: Record) -> None:
    """Times that were noted by a clock that has been set back since would not come for long: they come now."""
    last = cycle.state.clock
    if last is not None and timedelta() <= cycle.now - last < SOON:
        return
    if last is not None and last - cycle.now > SKEW:
        log.warning("clock.set_back", seconds=round((last - cycle.now).total_seconds()))
        _requeue(cycle, record, lambda link: _corrected(link, cycle.now))
    keep_state(cycle, record, clock=cycle.now)


def _corrected(link: Link, now: datetime) -> Link:
    """No hold lasts longer than from now on, no pause longer than until now."""
    memory = link.memory
    if memory.closing is not None:
        memory = replace(memory, closing=replace(memory.closing, since=min(memory.closing.since, now)))
    if memory.next_attempt is not None:
        memory = replace(memory, next_attempt=min(memory.next_attempt, now))
    if memory.failure is not None:
        memory = replace(memory, failure=replace(memory.failure, since=min(memory.failure.since, now)))
    refused = {
        name: replace(each, again=min(each.again or now, now)) for name, each in memory.refused.items()
    }
    memory = replace(memory, refused=refused)
    return replace(link, memory=memory, dirty=True)


def requeue_after_rule_change(cycle: Cycle, record: Record) -> None:
    """Decide every deal anew once the configuration or what the CRM can hold has changed: that may free what is held.

    Where it changed through what the CRM is read, the opportunities are read again first, and what was remembered of
    the old reading goes. A store that does not say through what it was read takes it that nothing changed.
    """
    rules, now = digest(cycle.rules, cycle.shape), readings(cycle.rules, cycle.shape)
    stored = cycle.store.watermark(READINGS)
    before = now if stored is None else from_text(stored)
    known = to_text(remembered(before, now))
    if (cycle.state.rules, stored) == (rules, known):
        return
    changed = read_otherwise(before, now)
    if cycle.state.rules is not None and (changed or cycle.state.rules != rules):
        log.info("rules.changed")
        _requeue(cycle, record, lambda link: replace(link, dirty=True))
    if changed:
        _read_otherwise(cycle, record, changed)
    if days_read_otherwise(before, now):
        _requeue(cycle, record, with_unread_day)
        record.unread.append(Side.PARTNER_CENTER)
    record.watermarks[READINGS] = known
    keep_state(cycle, record, rules=rules)


def _read_otherwise(cycle: Cycle, record: Record, changed: Mapping[str, bool]) -> None:
    """Read every open deal's opportunity anew, and forget what was remembered through the old columns.

    Repeated after a crash, it comes to the same: nothing is decided before the new state stands.
    """
    links: list[Link] = []
    for link in cycle.store.links([Phase.LINKED, Phase.WAITING]):
        links.append(link)
        if len(links) == CHUNK:
            _read_chunk_otherwise(cycle, record, links, changed)
            links = []
    if links:
        _read_chunk_otherwise(cycle, record, links, changed)


def _read_chunk_otherwise(
    cycle: Cycle, record: Record, links: Sequence[Link], changed: Mapping[str, bool]
) -> None:
    fresh = cycle.crm.fetch([link.opportunity_id for link in links if link.opportunity_id])
    for link in links:
        snapshot = fresh.get(link.opportunity_id or "")
        gone = link.opportunity_id in fresh and snapshot is None
        memory = replace(link.memory, gone=link.memory.gone or Side.CRM) if gone else link.memory
        record.put(without_stale(replace(link, memory=memory), changed, snapshot))
    opened = cycle.store.intents([link.key for link in links])
    kept = [(intent, intent_without(intent, changed)) for intent in opened]
    record.intents += [now for before, now in kept if now is not before]
    commit(cycle.store, record)


def _requeue(cycle: Cycle, record: Record, changed: Callable[[Link], Link]) -> None:
    """Store every open deal as ``changed`` makes it, a chunk at a time."""
    for link in cycle.store.links([Phase.LINKED, Phase.WAITING]):
        record.put(changed(link))
        if len(record.links) >= CHUNK:
            commit(cycle.store, record)
    commit(cycle.store, record)


def staged_referrals(cycle: Cycle, page: Page) -> list[Link]:
    """The links of the referrals that are not as they were, to be decided in this cycle or, after a crash, in the next."""
    known = cycle.store.by_referral([snapshot.id for snapshot in page.snapshots])
    staged = []
    for snapshot in page.snapshots:
        link = known.get(snapshot.id) or Link(f"r:{snapshot.id}", referral_id=snapshot.id)
        returned = link.memory.gone is Side.PARTNER_CENTER
        if link.phase is Phase.PARTED or (
            link.referral is not None and link.referral.version == snapshot.version and not returned
        ):
            continue
        cycle.counters.pulled[Side.PARTNER_CENTER] += 1
        if link.phase is Phase.LINKED and link.referral is not None:
            cycle.changed.append(link.key)
            if tells_too_little(link.referral, snapshot):
                cycle.untold.append(link.key)
        skipped = skipped_by_category(snapshot, cycle.rules) if link.opportunity_id is None else None
        phase = Phase.SKIPPED if skipped else link.phase if link.opportunity_id else Phase.WAITING
        memory = replace(link.memory, gone=None) if returned else link.memory
        staged.append(
            replace(link, referral=snapshot, phase=phase, memory=memory, dirty=phase is not Phase.SKIPPED)
        )
    return staged


def staged_opportunities(cycle: Cycle, page: Page) -> list[Link]:
    """The links of the opportunities that are not as they were, or gone, or new to us."""
    store = cycle.store
    known = store.by_opportunity([*(snapshot.id for snapshot in page.snapshots), *page.gone])
    orphans = [snapshot for snapshot in page.snapshots if snapshot.id not in known]
    keys = {snapshot.id: referral_key(snapshot["referral_id"]) for snapshot in orphans}
    named = store.by_referral(sorted({key for key in keys.values() if key}))
    staged: list[Link | None] = []
    for snapshot in page.snapshots:
        link = known.get(snapshot.id)
        if link is None:
            link = _joined(named.get(keys[snapshot.id]), snapshot)
            staged.append(link and _as_read(cycle, link, snapshot))
        else:
            staged.append(_changed(cycle, link, snapshot))
    staged += [_vanished(cycle, known[each]) for each in page.gone if each in known]
    return [link for link in staged if link is not None]


def _changed(cycle: Cycle, link: Link, snapshot: Snapshot) -> Link | None:
    """The link with its opportunity as it was read; None where nothing of it is new."""
    back = link.memory.gone is Side.CRM
    if link.phase is Phase.PARTED or (link.opportunity == snapshot and not back):
        return None
    link = _saved_by_a_person(cycle, link, snapshot)
    if link.memory.gone is None and _same_content(link.opportunity, snapshot):
        # A newer version of the same: nothing to decide, unless a lock may have been lifted by it.
        locked = link.memory.failure is not None and link.memory.failure.locked
        return replace(link, opportunity=snapshot, dirty=link.dirty or locked)
    return _as_read(cycle, link, snapshot)


def _saved_by_a_person(cycle: Cycle, link: Link, snapshot: Snapshot) -> Link:
    """The link, due where somebody else than we has saved the record since and something of the deal was refused: what he
    changed may be nothing that we read, and yet what the refusal was about. A version that was read too soon may hide a save of
    the same second, so the same one read again counts once.
    """
    known = link.opportunity
    if snapshot.last_by_us is not False or known is None or known.version == snapshot.version:
        return link
    memory = tried_at_once(link.memory, cycle.now)
    return link if memory == link.memory else replace(link, memory=memory, dirty=True)


def _as_read(cycle: Cycle, link: Link, snapshot: Snapshot) -> Link:
    cycle.counters.pulled[Side.CRM] += 1
    memory = replace(link.memory, gone=None) if link.memory.gone is Side.CRM else link.memory
    return replace(link, opportunity=snapshot, memory=memory, dirty=True)


def _vanished(cycle: Cycle, link: Link) -> Link | None:
    if link.phase is Phase.PARTED or link.memory.gone is not None:
        return None
    cycle.counters.pulled[Side.CRM] += 1
    return replace(link, memory=replace(link.memory, gone=Side.CRM), dirty=True)


def _same_content(known: Snapshot | None, snapshot: Snapshot) -> bool:
    return known is not None and replace(known, version=snapshot.version) == snapshot


def _joined(waiting: Link | None, snapshot: Snapshot) -> Link | None:
    """The link of an opportunity that is new to us: by the referral id it carries, else one of its own."""
    if waiting is None:
        return Link(f"o:{snapshot.id}", opportunity_id=snapshot.id)
    if waiting.opportunity_id is not None or waiting.phase is Phase.PARTED:
        return None
    log.info("deal.linked", referral_id=waiting.referral_id, opportunity_id=snapshot.id, by="referral_id")
    return replace(waiting, opportunity_id=snapshot.id, phase=Phase.LINKED, memory=Memory())
