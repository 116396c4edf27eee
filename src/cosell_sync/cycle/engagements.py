"""Microsoft's part in a deal: the invitation, and Microsoft's side of it, read by engagement.

There is no batch for these reads and no list shows them, so they are made in turn, at most twenty a cycle, the oldest read
first. Whose turn it is stands in one text of the store, two lists of keys. Deals into which Microsoft was asked from here
are awaited and take turns for as long as they are open. Deals that were made in the portal with Microsoft in them are read
once after each change of their referral and with each full compare, so that an idle cycle costs nothing for them.

Only lists that changed are written back: up to twenty awaited deals cost their reads and nothing else. What changed makes
the deal due again and is reported in the same cycle. Where few calls are left, these reads are the first to wait.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace

import structlog

from cosell_sync.core import publishing
from cosell_sync.core.deal import Fields, Link, Phase, Side
from cosell_sync.core.quota import Urgency
from cosell_sync.core.reconcile import Effect
from cosell_sync.cycle import apply
from cosell_sync.cycle.context import Cycle, DealPlan, ids
from cosell_sync.cycle.decide import may_invite
from cosell_sync.cycle.record import Record, commit, invitation_landed, post_failed
from cosell_sync.cycle.schedule import may
from cosell_sync.errors import RecordError, Rejected, Unavailable
from cosell_sync.ports import Store

READS = 20
SPARED = 2  # of these for deals that are read once, so that many awaited ones do not keep them out
QUEUE = "microsoft"  # kept among the watermarks

log = structlog.get_logger("cosell_sync.cycle")


# --- inviting --------------------------------------------------------------------------------------------------------


def invite_microsoft(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Invite Microsoft wherever the seller asks for help. Returns the links that changed, to be reported."""
    asking = [
        link.key
        for link in links
        if link.opportunity is not None
        and publishing.asks_for_help(link.opportunity)
        and link.memory.invite != publishing.DONE
    ]
    if not asking:
        return []
    invited = [
        _invite(cycle, link) for link in cycle.store.by_keys(asking).values() if may_invite(cycle, link)
    ]
    await_microsoft(cycle, invited)
    return invited


def _invite(cycle: Cycle, link: Link) -> Link:
    """Look for Microsoft's side, and post only where there is none. The pair, our side read again, or with its failure."""
    referral, opportunity = link.referral, link.opportunity
    assert referral is not None and opportunity is not None  # noqa: S101, PT018 - an invitation has both
    engagement = referral.text("engagement_id")
    fields = publishing.draft(opportunity, cycle.rules, cycle.shape)
    known = publishing.source(opportunity, fields, cycle.rules)
    record, effect = Record(), None
    try:
        side = _side(cycle, engagement)
        if not side:
            link = replace(link, memory=replace(link.memory, invite=publishing.PENDING))
            effect = _invitation(link, fields)
            cycle.collect(DealPlan(link, effects=(effect,)))
            outcome = apply.post_invitation(cycle, link, fields, known, effect.rule, engagement)
            if outcome.error is not None:
                raise outcome.error
            side = publishing.microsoft_side([outcome.snapshot] if outcome.snapshot else [])
    except RecordError as error:
        failing = post_failed(cycle, record, link, error)
        commit(cycle.store, record)
        return failing
    made = invitation_landed(cycle, record, link, side, known, effect)
    # First what cannot be repeated, then the reading: from here on nobody invites again.
    commit(cycle.store, record)
    fresh = cycle.referrals.fetch([link.referral_id or ""]).get(link.referral_id or "")
    return replace(made, referral=fresh or made.referral)


def _invitation(link: Link, fields: Fields) -> Effect:
    old = link.base_opportunity.get("help", None)
    return Effect(Side.PARTNER_CENTER, "update", "help", old, fields["help"], "Microsoft is invited")


def _side(cycle: Cycle, engagement: str) -> Mapping[str, str]:
    """Raises Rejected where the engagement cannot be searched: then nobody is invited blindly."""
    try:
        return publishing.microsoft_side(cycle.referrals.engagement(engagement))
    except Unavailable as error:
        if error.status != 400:
            raise
        text = "Partner Center does not say whether Microsoft was invited already"
        raise Rejected(text, code=error.code, status=error.status) from error


# --- reading Microsoft's side ----------------------------------------------------------------------------------------


@dataclass
class _Turns:
    """Keys of links. ``asked``: read longest ago first, again and again. ``once``: read when it is their turn, and gone."""

    asked: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)


def await_microsoft(cycle: Cycle, links: Sequence[Link]) -> None:
    """Remember, before a deal is done with, that Microsoft's side of it is awaited."""
    waiting = [link.key for link in links if link.memory.invite and publishing.awaited(link)]
    if not waiting:
        return
    turns = _turns(cycle.store)
    # Never read is older than everything.
    if new := [key for key in waiting if key not in turns.asked]:
        _keep(cycle.store, replace(turns, asked=[*new, *turns.asked]))


def queue_engagements(cycle: Cycle, keys: Sequence[str]) -> None:
    """These deals, if Microsoft is in them, are to be read once: they changed, or everything is compared."""
    store = cycle.store
    turns = _turns(store)
    links = [link for link in store.by_keys(keys).values() if not link.memory.invite]
    waiting = set(turns.once)
    if new := [link.key for link in links if publishing.awaited(link) and link.key not in waiting]:
        _keep(store, replace(turns, once=[*turns.once, *new]))


def read_engagements(cycle: Cycle) -> list[Link]:
    """Read in turn. Returns the deals whose Microsoft side is not as remembered, to be told."""
    store = cycle.store
    if cycle.changed:
        queue_engagements(cycle, cycle.changed)
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
        if link is None or link.referral is None or not publishing.awaited(link):
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
        side = publishing.microsoft_side(sides)
        if side and side != link.memory.microsoft:
            log.info("microsoft.changed", **ids(link), status=side.get("status"))
            changed.append(replace(link, memory=replace(link.memory, microsoft=side), dirty=True))
    record = Record()
    record.put(*changed)
    if turns != before or not kept:
        record.watermarks[QUEUE] = json.dumps(asdict(turns))
    commit(store, record)
    return changed


def _turns(store: Store) -> _Turns:
    """Whose turn it is. A store that never kept it is searched once."""
    text = store.watermark(QUEUE)
    if text is not None:
        return _Turns(**json.loads(text))
    links = store.links([Phase.LINKED])
    return _Turns(asked=[link.key for link in links if link.memory.invite and publishing.awaited(link)])


def _keep(store: Store, turns: _Turns) -> None:
    commit(store, Record(watermarks={QUEUE: json.dumps(asdict(turns))}))
