"""Compares all ids and versions of both sides with the store, once in ``full_every``: what no pull could have shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from cosell_sync.core import microsoft
from cosell_sync.core.deal import Side
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle.context import CHUNK, Cycle, Progress, Work
from cosell_sync.cycle.pull import staged_opportunities, staged_referrals
from cosell_sync.cycle.record import Record, commit, keep_state
from cosell_sync.cycle.safety import check_not_empty, check_share
from cosell_sync.cycle.schedule import allowed
from cosell_sync.ports import Page

log = structlog.get_logger("cosell_sync.cycle")


def compare_when_due(cycle: Cycle, record: Record) -> None:
    """Compare where the last time is too long ago. The first pull of a store reads everything, and counts as one."""
    last = cycle.state.compared_at
    if last is not None:
        if cycle.now - cycle.settings.full_every < last <= cycle.now or not allowed(
            cycle, Urgency.BACKGROUND
        ):
            return
        commit(cycle.store, record)
        _compare_all(cycle)
    keep_state(cycle, record, compared_at=cycle.now)


def _compare_all(cycle: Cycle) -> None:
    log.info("compare.started")
    before = sum(cycle.counters.pulled.values())
    present = {Side.PARTNER_CENTER: _stage_all_referrals(cycle), Side.CRM: _stage_all_opportunities(cycle)}
    linked = 0
    lost: dict[Side, list[str]] = {side: [] for side in Side}
    returned: list[str] = []
    for link in cycle.store.links([Phase.LINKED]):
        linked += 1
        if microsoft.awaited(link):
            cycle.changed.append(link.key)
        ids = {Side.PARTNER_CENTER: link.referral_id or "", Side.CRM: link.opportunity_id or ""}
        if link.memory.gone is None:
            for side in Side:
                lost[side] += [ids[side]] if ids[side] not in present[side] else []
        elif link.memory.gone is Side.CRM and ids[Side.CRM] in present[Side.CRM]:
            returned.append(ids[Side.CRM])
    missing = max(len(each) for each in lost.values())
    check_not_empty(cycle, missing, linked)
    check_share(cycle, "vanished", missing, linked)
    _read_opportunities(cycle, [*lost[Side.CRM], *returned])
    _read_referrals(cycle, lost[Side.PARTNER_CENTER])
    cycle.crm.forget_shape()  # once a day: a picklist may have lost a value without anybody asking for it
    missed = sum(cycle.counters.pulled.values()) - before
    log.info("compare.finished", linked=linked, lost=sum(len(each) for each in lost.values()), missed=missed)


def _stage_all_referrals(cycle: Cycle) -> set[str]:
    """Stage what is not as it was. Returns the ids of all referrals there are."""
    found: set[str] = set()
    for page in cycle.referrals.index():
        found.update(snapshot.id for snapshot in page.snapshots)
        _store(cycle, staged_referrals(cycle, page))
        cycle.progress(Progress(Work.COMPARING, len(found), Side.PARTNER_CENTER))
    return found


def _stage_all_opportunities(cycle: Cycle) -> set[str]:
    """Stage what is not as it was. Returns the ids of all opportunities that concern us."""
    found: set[str] = set()
    for versions in cycle.crm.index():
        found.update(versions)
        known = cycle.store.versions(list(versions))
        _read_opportunities(cycle, [key for key, version in versions.items() if known.get(key) != version])
        cycle.progress(Progress(Work.COMPARING, len(found), Side.CRM))
    return found


def _read_opportunities(cycle: Cycle, ids: Sequence[str]) -> None:
    """Stage these opportunities as they are now; one that is not found is gone."""
    for chunk in _chunks(ids):
        fetched = cycle.crm.fetch(chunk)
        page = Page(
            snapshots=[item for item in fetched.values() if item is not None],
            gone=[key for key, item in fetched.items() if item is None],
        )
        _store(cycle, staged_opportunities(cycle, page))


def _read_referrals(cycle: Cycle, ids: Sequence[str]) -> None:
    """Stage these referrals as they are now; one that is not found is gone."""
    for chunk in _chunks(ids):
        fetched = cycle.referrals.fetch(chunk)
        page = Page(snapshots=[item for item in fetched.values() if item is not None])
        _store(cycle, staged_referrals(cycle, page))
        known = cycle.store.by_referral([key for key, item in fetched.items() if item is None])
        gone = [replace(link.memory, gone=Side.PARTNER_CENTER) for link in known.values()]
        links = [
            replace(link, memory=memory, dirty=True)
            for link, memory in zip(known.values(), gone, strict=True)
        ]
        _store(cycle, links)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _store(cycle: Cycle, links: Sequence[Link]) -> None:
    record = Record()
    record.put(*links)
    commit(cycle.store, record)
