"""Settles open intents by looking: after a crash or a lost answer nobody knows whether a write landed.

An update is settled by what the record holds now (``core.outcome.settle``). A create in the CRM is found by its referral
id when the referral is taken in. A post to Partner Center, which enforces no key, is searched among the newest referrals
by the opportunity's id, an invitation in its engagement; only when it is not there may it be sent again.

Where we hung up ourselves because no answer came in time, that it is not there says nothing at first: the service may go on
with the request (Azure's front ends wait 230 s, and the server goes on even then:
learn.microsoft.com/answers/questions/1465927). So for ``sync.post_patience`` from then on the deal is looked at in every
cycle, and nothing else is done with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus

import structlog

from cosell_sync.core import publishing
from cosell_sync.core.deal import Side
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Intent, Invitation, Link, Phase, released
from cosell_sync.core.microsoft import microsoft_side
from cosell_sync.core.outcome import settle
from cosell_sync.core.retry import freed_from
from cosell_sync.cycle.context import Cycle, carried, ids
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.reread import refresh
from cosell_sync.cycle.shared_rows import Change, account_that_landed, follow_account_writes
from cosell_sync.errors import Unavailable

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
        known = _after_post(cycle, link, posts[link.key])
        if known is None:
            taken.add(link.key)  # it stays due, and so does its intent
            continue
        found, other = known
        found = replace(found, memory=replace(found.memory, hung_up=None))
        record = Record()
        record.put(found, *([other] if other else []))
        record.settle(found, Side.PARTNER_CENTER)
        commit(cycle.store, record)
        log.info("intent.settled", **ids(found), side=Side.PARTNER_CENTER)
        settled[link.key] = found
        taken.update([other.key] if other else [])
    return [link for key, link in settled.items() if key not in taken]


def _after_post(cycle: Cycle, link: Link, intent: Intent) -> tuple[Link, Link | None] | None:
    """The link as it is now, and one that had taken our referral for a new one. None: it may still land."""
    again = replace(link, memory=freed_from(link.memory, Side.PARTNER_CENTER), dirty=True)
    hung_up = link.memory.hung_up
    early = hung_up is not None and timedelta() <= cycle.now - hung_up < cycle.settings.post_patience
    if link.phase is not Phase.WAITING or link.referral_id is not None or link.opportunity_id is None:
        # An invitation: it looks for itself before it is sent again. Or linked meanwhile by its reference.
        waits = early and link.memory.invite is Invitation.PENDING and not _takes_part(cycle, link)
        return None if waits else (again, None)
    found = cycle.referrals.find_created(link.opportunity_id)
    if found is None:
        return None if early else (again, None)
    holder = cycle.store.by_referral([found.id]).get(found.id)
    if holder is not None and holder.phase not in {Phase.WAITING, Phase.SKIPPED}:
        return replace(again, phase=Phase.SKIPPED, dirty=False), None  # a person gave it to another deal
    cycle.counters.created[Side.PARTNER_CENTER] += 1
    log.info("deal.created", **{**ids(link), "referral_id": found.id}, side=Side.PARTNER_CENTER)
    made = publishing.after_post(
        link, intent.fields, intent.source, found, cycle.rules, cycle.shape, answered=False
    )
    return carried(cycle, made), replace(released(holder), referral=None) if holder else None


def _takes_part(cycle: Cycle, link: Link) -> bool:
    """Whether Microsoft's side stands in the engagement; not so where the engagement cannot be searched."""
    try:
        engagement = link.referral.text("engagement_id") if link.referral else ""
        return bool(microsoft_side(cycle.referrals.engagement(engagement)))
    except Unavailable as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return False


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
