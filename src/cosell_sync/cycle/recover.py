"""Settles open intents by looking: after a crash or a lost answer nobody knows whether a write landed.

An update is settled by what the record holds now (``core.outcome.settle``). A create in the CRM is found by its referral
id when the referral is taken in. A post to Partner Center, which enforces no key, is searched among the newest referrals
by the opportunity's id; only when it is not there may it be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cosell_sync.core import publishing
from cosell_sync.core.deal import Side
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Intent, Link, Phase, released
from cosell_sync.core.outcome import settle
from cosell_sync.core.retry import freed_from
from cosell_sync.cycle.context import Cycle, carried, ids
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.reread import refresh
from cosell_sync.cycle.shared_rows import Change, account_that_landed, follow_account_writes

log = structlog.get_logger("cosell_sync.cycle")


def settle_open_intents(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """The links with their intents settled.

    Left out: those that could not be read just now (they stay due), and those whose referral turned out to be ours.
    """
    intents = cycle.store.intents([link.key for link in links])
    if not intents:
        return list(links)
    posts = {item.link: item for item in intents if item.create and item.side is Side.PARTNER_CENTER}
    writes = [item for item in intents if item not in posts.values()]
    links = _settle_posts(cycle, links, posts)
    return _settle_writes(cycle, links, writes) if writes else links


def _settle_posts(cycle: Cycle, links: Sequence[Link], posts: dict[str, Intent]) -> list[Link]:
    """Search each post whose fate is unknown. A link that had taken our referral for a new one is left out."""
    settled: dict[str, Link] = {link.key: link for link in links}
    taken: set[str] = set()
    for link in links:
        if link.key not in posts or link.key in taken:
            continue
        found, other = _after_post(cycle, link, posts[link.key])
        record = Record()
        record.put(found, *([other] if other else []))
        record.settle(found, Side.PARTNER_CENTER)
        commit(cycle.store, record)
        log.info("intent.settled", **ids(found), side=Side.PARTNER_CENTER)
        settled[link.key] = found
        taken.update([other.key] if other else [])
    return [link for key, link in settled.items() if key not in taken]


def _after_post(cycle: Cycle, link: Link, intent: Intent) -> tuple[Link, Link | None]:
    """The link as it is now, and one that had taken our referral for a new one."""
    again = replace(link, memory=freed_from(link.memory, Side.PARTNER_CENTER), dirty=True)
    if link.phase is not Phase.WAITING or link.referral_id is not None or link.opportunity_id is None:
        return again, None  # an invitation: it looks for itself. Or linked meanwhile by its reference.
    found = cycle.referrals.find_created(link.opportunity_id)
    if found is None:
        return again, None
    holder = cycle.store.by_referral([found.id]).get(found.id)
    if holder is not None and holder.phase not in {Phase.WAITING, Phase.SKIPPED}:
        return replace(again, phase=Phase.SKIPPED, dirty=False), None  # a person gave it to another deal
    cycle.counters.created[Side.PARTNER_CENTER] += 1
    log.info("deal.created", **{**ids(link), "referral_id": found.id}, side=Side.PARTNER_CENTER)
    made = publishing.after_post(
        link, intent.fields, intent.source, found, cycle.rules, cycle.shape, answered=False
    )
    return carried(cycle, made), replace(released(holder), referral=None) if holder else None


def _settle_writes(cycle: Cycle, links: Sequence[Link], intents: Sequence[Intent]) -> list[Link]:
    """Read both sides of the links concerned, and see what became of the write."""
    keys = {intent.link for intent in intents}
    read = {link.key: link for link in refresh(cycle, [link for link in links if link.key in keys])}
    record = Record()
    accounts: list[tuple[str, str, Change]] = []
    for intent in intents:
        link = read.get(intent.link)
        if link is None or (intent.create and link.opportunity is None):
            continue  # the intake finds it by its referral id, or makes it again under the same id
        if found := account_that_landed(link, intent):
            accounts.append((link.key, *found))
        read[intent.link] = settle(link, intent, cycle.rules)
        record.settle(link, intent.side)
        log.info("intent.settled", **ids(link), side=intent.side)
    record.put(*read.values())
    follow_account_writes(cycle, record, accounts)
    settled = dict(record.links)
    commit(cycle.store, record)
    return [settled.get(link.key, link) for link in links if link.key in read or link.key not in keys]
