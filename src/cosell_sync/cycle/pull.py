"""Pull: what changed on either side is staged in the store, and the watermarks move.

From then on it cannot be forgotten: a staged link stays dirty until it was decided and written, whatever happens in
between. Once in ``full_every`` all ids and versions are compared, for what no pull could have shown. Once after the
rules have changed every deal is decided anew: a shorter hold, a field that may be sent now, a currency made active.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import structlog

from cosell_sync.core import publishing
from cosell_sync.core.deal import Link, Memory, Phase, Side, Snapshot
from cosell_sync.core.intake import at_sight
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle.context import CHUNK, Cycle
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.safety import SKEW, check_clock, check_not_empty, check_shape, check_share
from cosell_sync.cycle.schedule import may
from cosell_sync.ports import Page

LAST_FULL = "full_compare"
CLOCK = "clock"  # when the last cycle was, by this machine
SOON = timedelta(seconds=30)
RULES = "rules"  # a digest of what the last cycle decided by

log = structlog.get_logger("cosell_sync.cycle")


def pull(cycle: Cycle) -> None:
    store, settings = cycle.store, cycle.settings
    first = store.watermark(LAST_FULL) is None
    check_shape(cycle)
    requeue_after_rule_change(cycle)
    known = {side: store.watermark(side) for side in Side}
    record = Record()  # a watermark that moves alone is stored with what comes next
    for page in cycle.referrals.changed_since(known[Side.PARTNER_CENTER], settings.overlap):
        record.put(*staged_referrals(cycle, page))
        _move_watermark(record, Side.PARTNER_CENTER, page, known)
        _commit_staged(cycle, record)
    for page in cycle.crm.changed_since(known[Side.CRM], settings.overlap, store):
        record.put(*staged_opportunities(cycle, page))
        _move_watermark(record, Side.CRM, page, known)
        _commit_staged(cycle, record)
    commit(store, record)
    check_clock(cycle)
    correct_times(cycle)
    last = store.watermark(LAST_FULL)
    if first:
        commit(store, Record(watermarks={LAST_FULL: cycle.now.isoformat()}))
    elif (
        last is not None
        and may(cycle, Urgency.BACKGROUND)
        and not cycle.now - settings.full_every < datetime.fromisoformat(last) <= cycle.now
    ):
        compare_all(cycle)
        commit(store, Record(watermarks={LAST_FULL: cycle.now.isoformat()}))


def correct_times(cycle: Cycle) -> None:
    """Times that were noted by a clock that has been set back since would not come for long: they come now."""
    store = cycle.store
    last = store.watermark(CLOCK)
    if last is not None and timedelta() <= cycle.now - datetime.fromisoformat(last) < SOON:
        return
    behind = last is not None and datetime.fromisoformat(last) - cycle.now > SKEW
    wrong = []
    if behind:
        log.warning(
            "clock.set_back", seconds=round((datetime.fromisoformat(last or "") - cycle.now).total_seconds())
        )
        for link in store.links([Phase.LINKED, Phase.WAITING]):
            wrong.append(_corrected(link, cycle.now))
            if len(wrong) == CHUNK:
                commit_links(cycle, wrong)
                wrong = []
    commit_links(cycle, wrong, {CLOCK: cycle.now.isoformat()})


def _corrected(link: Link, now: datetime) -> Link:
    """No hold lasts longer than from now on, no pause longer than until now."""
    memory = link.memory
    if memory.closing is not None:
        memory = replace(memory, closing=replace(memory.closing, since=min(memory.closing.since, now)))
    if memory.next_attempt is not None:
        memory = replace(memory, next_attempt=min(memory.next_attempt, now))
    if memory.failure is not None:
        memory = replace(memory, failure=replace(memory.failure, since=min(memory.failure.since, now)))
    return replace(link, memory=memory, dirty=True)


def requeue_after_rule_change(cycle: Cycle) -> None:
    """What was held by a rule is held until the rule changes, and no longer."""
    store, shape = cycle.store, cycle.shape
    org = [
        sorted(shape.fields),
        sorted(shape.stages),
        sorted(shape.currencies),
        shape.default_currency,
    ]
    text = json.dumps([asdict(cycle.rules), org], sort_keys=True, default=str)
    rules = hashlib.sha256(text.encode()).hexdigest()[:16]
    known = store.watermark(RULES)
    if known == rules:
        return
    stale = []
    if known is not None:
        log.info("rules.changed")
        for link in store.links([Phase.LINKED, Phase.WAITING]):
            stale.append(replace(link, dirty=True))
            if len(stale) == CHUNK:
                commit_links(cycle, stale)
                stale = []
    commit_links(cycle, stale, {RULES: rules})


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
        skipped = at_sight(snapshot, cycle.rules) if link.opportunity_id is None else None
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
    named = store.by_referral(
        [snapshot.text("referral_id") for snapshot in orphans if snapshot.text("referral_id")]
    )
    staged = []
    for snapshot in page.snapshots:
        link = known.get(snapshot.id)
        if link is None:
            link = _joined(named.get(snapshot.text("referral_id")), snapshot)
            if link is None:
                continue
        elif link.phase is Phase.PARTED or (
            link.opportunity == snapshot and link.memory.gone is not Side.CRM
        ):
            continue
        elif link.memory.gone is None and _same_content(link.opportunity, snapshot):
            staged.append(
                replace(link, opportunity=snapshot)
            )  # a newer version of the same: nothing to decide
            continue
        cycle.counters.pulled[Side.CRM] += 1
        memory = replace(link.memory, gone=None) if link.memory.gone is Side.CRM else link.memory
        staged.append(replace(link, opportunity=snapshot, memory=memory, dirty=True))
    for gone in page.gone:
        link = known.get(gone)
        if link is not None and link.phase is not Phase.PARTED and link.memory.gone is None:
            cycle.counters.pulled[Side.CRM] += 1
            staged.append(replace(link, memory=replace(link.memory, gone=Side.CRM), dirty=True))
    return staged


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


def _move_watermark(record: Record, side: Side, page: Page, known: dict[Side, str | None]) -> None:
    if page.watermark is not None and page.watermark != known[side]:
        record.watermarks[side.value] = known[side] = page.watermark


def _commit_staged(cycle: Cycle, record: Record) -> None:
    if record.links:
        commit(cycle.store, record)


def commit_links(cycle: Cycle, links: Sequence[Link], watermarks: Mapping[str, str] | None = None) -> None:
    record = Record(watermarks=dict(watermarks or {}))
    record.put(*links)
    commit(cycle.store, record)


def compare_all(cycle: Cycle) -> None:
    """All ids and versions of both sides against the store: what no pull could have shown."""
    store = cycle.store
    log.info("compare.started")
    seen: set[str] = set()
    for page in cycle.referrals.index():
        seen.update(snapshot.id for snapshot in page.snapshots)
        commit_links(cycle, staged_referrals(cycle, page))
    indexed: set[str] = set()
    for versions in cycle.crm.index():
        indexed.update(versions)
        known = store.versions(list(versions))
        different = [key for key, version in versions.items() if known.get(key) != version]
        read_again(cycle, different)
    linked = missing_referrals = 0
    lost_referrals: list[str] = []
    lost_opportunities: list[str] = []
    returned: list[str] = []
    for link in store.links([Phase.LINKED]):
        linked += 1
        if link.memory.gone is Side.CRM and link.opportunity_id in indexed:
            returned.append(link.opportunity_id or "")
        if publishing.awaited(link):
            cycle.changed.append(link.key)
        if link.memory.gone is None and link.referral_id not in seen:
            missing_referrals += 1
            lost_referrals.append(link.referral_id or "")
        if link.memory.gone is None and link.opportunity_id not in indexed:
            lost_opportunities.append(link.opportunity_id or "")
    check_not_empty(cycle, max(missing_referrals, len(lost_opportunities)), linked)
    check_share(cycle, "vanished", max(missing_referrals, len(lost_opportunities)), linked)
    read_again(cycle, [*lost_opportunities, *returned])
    _fetch_referrals(cycle, lost_referrals)
    cycle.crm.forget_shape()  # once a day: a picklist may have lost a value without anybody asking for it
    log.info("compare.finished", linked=linked, lost=len(lost_opportunities) + missing_referrals)


def read_again(cycle: Cycle, ids: Sequence[str]) -> None:
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        fetched = cycle.crm.fetch(chunk)
        page = Page(
            snapshots=[item for item in fetched.values() if item is not None],
            gone=[key for key, item in fetched.items() if item is None],
        )
        commit_links(cycle, staged_opportunities(cycle, page))


def _fetch_referrals(cycle: Cycle, ids: Sequence[str]) -> None:
    fetched = cycle.referrals.fetch(ids)
    page = Page(snapshots=[item for item in fetched.values() if item is not None])
    commit_links(cycle, staged_referrals(cycle, page))
    known = cycle.store.by_referral([key for key, item in fetched.items() if item is None])
    gone = [
        replace(link, memory=replace(link.memory, gone=Side.PARTNER_CENTER), dirty=True)
        for link in known.values()
    ]
    commit_links(cycle, gone)
