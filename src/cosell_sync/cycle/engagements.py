"""Microsoft's part in a deal: the invitation, and Microsoft's side of it, read by engagement.

There is no batch for these reads and no list shows them, so they are made in turn, at most twenty a cycle, the oldest read
first. Whose turn it is, the store keeps between cycles (``EngagementQueue``).

asked from here     Microsoft's answer is awaited: read in turn for as long as the deal is open
asked elsewhere     a colleague made the deal a co-sell one in the portal: the same, while there are no more than twenty of
                    both; beyond, read once after each change, and all of them in a round an hour
named by a webhook  read before all others: the event names Microsoft's referral, whose id is known from the last reading
not known to be so  Microsoft may have joined a deal that its sellers see, by an incentive claim for instance, and our row
                    need not say so but for another tag: read once after a change that tells nothing else

Only a queue that changed is written back: up to twenty awaited deals cost their reads and nothing else. What changed makes
the deal due again and is reported in the same cycle. Where few calls are left, these reads are the first to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cosell_sync.core import microsoft, publishing, requirements
from cosell_sync.core.deal import Fields, Side
from cosell_sync.core.decision import Effect
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import candidate
from cosell_sync.core.memory import Action, FinalKind, Invitation, Link, Phase
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle import apply
from cosell_sync.cycle.context import Cycle, DealPlan, ids
from cosell_sync.cycle.decide import may_invite
from cosell_sync.cycle.guard import admit
from cosell_sync.cycle.record import Record, commit, keep_state
from cosell_sync.cycle.referral_outcomes import invitation_landed, post_failed
from cosell_sync.cycle.schedule import allowed
from cosell_sync.errors import RecordError, Rejected, Unavailable
from cosell_sync.ports import EngagementQueue

READS = 20
ROUND = timedelta(hours=1)  # how often those beyond are read
SPARED = 2  # of these for deals that are read once, so that many awaited ones do not keep them out

log = structlog.get_logger("cosell_sync.cycle")


# --- inviting --------------------------------------------------------------------------------------------------------


def invite_microsoft(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Invite Microsoft wherever the seller asks for help. Returns the links that changed, to be reported."""
    asking = [
        link.key
        for link in links
        if link.opportunity is not None
        and requirements.asks_for_help(link.opportunity)
        and link.memory.invite != Invitation.DONE
    ]
    if not asking:
        return []
    wanted = [link for link in cycle.store.by_keys(asking).values() if may_invite(cycle, link)]
    # one that was accepted in this very cycle was not judged yet
    new = [link for link in wanted if (link.key, FinalKind.INVITE) not in cycle.guard.admitted]
    withheld = admit(cycle, [candidate(FinalKind.INVITE, link) for link in new])
    invited = [_invite(cycle, link) for link in wanted if link.key not in withheld]
    await_microsoft(cycle, invited)
    # those that are withheld are decided again with that, so that their records say so
    return [*invited, *(link for link in wanted if link.key in withheld)]


def _invite(cycle: Cycle, link: Link) -> Link:
    """Look for Microsoft's side, and post only where there is none. The pair, our side read again, or with its failure."""
    referral, opportunity = link.referral, link.opportunity
    assert referral is not None and opportunity is not None  # noqa: S101, PT018 - an invitation has both
    engagement = referral.text("engagement_id")
    fields = publishing.new_referral_fields(opportunity, cycle.rules, cycle.shape)
    known = publishing.source_values(opportunity, fields, cycle.rules)
    record, effect = Record(), None
    try:
        side = _side(cycle, engagement)
        if not side:
            link = replace(link, memory=replace(link.memory, invite=Invitation.PENDING))
            effect = _invitation(link, fields)
            cycle.collect(DealPlan(link, effects=(effect,)))
            outcome = apply.post_invitation(cycle, link, fields, known, effect.rule, engagement)
            if outcome.error is not None:
                raise outcome.error
            side = microsoft.microsoft_side([outcome.snapshot] if outcome.snapshot else [])
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
    return Effect(Side.PARTNER_CENTER, Action.UPDATE, "help", old, fields["help"], "Microsoft is invited")


def _side(cycle: Cycle, engagement: str) -> Mapping[str, str]:
    """Raises Rejected where the engagement cannot be searched: then nobody is invited blindly."""
    try:
        return microsoft.microsoft_side(cycle.referrals.engagement(engagement))
    except Unavailable as error:
        if error.status != 400:
            raise
        text = "Partner Center does not say whether Microsoft was invited already"
        raise Rejected(text, code=error.code, status=error.status) from error


# --- reading Microsoft's side ----------------------------------------------------------------------------------------


def await_microsoft(cycle: Cycle, links: Sequence[Link]) -> None:
    """Remember, before a deal is done with, that Microsoft's side of it is awaited; or that it is not any more."""
    queue = _queue(cycle)
    known = _with_awaited(queue, links)
    over = {link.key for link in links if not microsoft.awaited(link)}
    elsewhere = tuple(key for key in known.elsewhere if key not in over)
    if (known := replace(known, elsewhere=elsewhere)) != queue:
        _keep_queue(cycle, known)


def _with_awaited(queue: EngagementQueue, links: Iterable[Link]) -> EngagementQueue:
    """The queue with these links, as far as they are awaited. Never read is older than everything."""
    asked: list[str] = []
    elsewhere: list[str] = []
    for link in links:
        if microsoft.awaited(link) and link.key not in queue.asked:
            (asked if link.memory.invite else elsewhere).append(link.key)
    more = tuple(key for key in elsewhere if key not in queue.elsewhere)
    kept = tuple(key for key in queue.elsewhere if key not in asked)
    return replace(queue, asked=(*asked, *queue.asked), elsewhere=(*more, *kept))


def read_engagements(cycle: Cycle) -> list[Link]:
    """Read in turn. Returns the deals whose Microsoft side is not as remembered, to be reported."""
    queue = _start_round(cycle, _with_changed(cycle, _queue(cycle)))
    if queue != cycle.state.engagements and (queue.asked or queue.elsewhere or queue.once):
        _keep_queue(cycle, queue)
    turn, looked_until = _Turn(), cycle.clock()
    hinted = cycle.store.hints(READS, related=True)
    named = _named(cycle, queue, hinted) if hinted else {}
    _take_turns(cycle, turn, tuple(named), READS, microsoft.awaited)
    polled = (*queue.asked, *(queue.elsewhere if _few(queue) else ()))
    _take_turns(cycle, turn, polled, READS - min(SPARED, len(queue.once)), microsoft.awaited)
    asked = _rotated(queue.asked, turn)
    _take_turns(cycle, turn, queue.once, READS, _of_interest)
    once = tuple(key for key in queue.once if key not in turn.done | turn.over)
    elsewhere = tuple(key for key in queue.elsewhere if key not in turn.over)
    record = Record()
    record.put(*turn.changed, *turn.noted)
    # Where nothing is known of a referral, nothing waits for it; what could not be read yet is read next time.
    if hinted:
        unread = {name for key, name in named.items() if key not in turn.done | turn.over}
        record.looked_at, record.looked_until = [each for each in hinted if each not in unread], looked_until
    queue = _with_awaited(replace(queue, asked=asked, once=once, elsewhere=elsewhere), turn.changed)
    if queue != cycle.state.engagements:
        keep_state(cycle, record, engagements=queue)
    commit(cycle.store, record)
    return turn.changed


def _named(cycle: Cycle, queue: EngagementQueue, hinted: Sequence[str]) -> dict[str, str]:
    """Of deals that are awaited, those whose Microsoft side a webhook named: key → that referral's id."""
    found = {
        link.memory.microsoft.get("referral", ""): key
        for key, link in cycle.store.by_keys([*queue.asked, *queue.elsewhere]).items()
    }
    return {found[each]: each for each in hinted if each in found}


def _rotated(keys: Sequence[str], turn: _Turn) -> tuple[str, ...]:
    """Those that were read go to the end, in the order in which they were read."""
    return (
        *(key for key in keys if key not in turn.done | turn.over),
        *(key for key in turn.done if key in keys),
    )


def _few(queue: EngagementQueue) -> bool:
    """Whether all deals that are awaited can be read in every cycle."""
    return len(queue.asked) + len(queue.elsewhere) <= READS


def _start_round(cycle: Cycle, queue: EngagementQueue) -> EngagementQueue:
    """Where there are too many deals to read each in every cycle: once an hour all of them in turn. The first hour counts."""
    if _few(queue):
        return queue if queue.round is None else replace(queue, round=None)
    if queue.round is not None and queue.round <= cycle.now < queue.round + ROUND:
        return queue
    more = () if queue.round is None else tuple(key for key in queue.elsewhere if key not in queue.once)
    return replace(queue, once=(*queue.once, *more), round=cycle.now)


@dataclass
class _Turn:
    """The reads of one cycle. ``done``: keys that were read, in order. ``over``: keys of deals that need no reading any more.

    ``changed``: deals whose Microsoft side is another now; ``noted``: of which only its id is new. ``ended``: no more reads in this cycle.
    """

    done: dict[str, None] = field(default_factory=dict)
    over: dict[str, None] = field(default_factory=dict)
    changed: list[Link] = field(default_factory=list)
    noted: list[Link] = field(default_factory=list)
    ended: bool = False


def _of_interest(link: Link) -> bool:
    return microsoft.awaited(link) or microsoft.may_have_joined(link)


def _take_turns(
    cycle: Cycle, turn: _Turn, keys: Sequence[str], limit: int, wanted: Callable[[Link], bool]
) -> None:
    """Read these in order, until ``limit`` reads were made in this cycle or one cannot be made."""
    for key in keys:
        if turn.ended or len(turn.done) >= limit:
            return
        if key in turn.done:
            continue
        link = cycle.store.by_keys([key]).get(key)
        if link is None or not wanted(link):
            turn.over[key] = None
            continue
        side = _read(cycle, link) if allowed(cycle, Urgency.BACKGROUND) else None
        if side is None:
            turn.ended = True
            return
        turn.done[key] = None
        known = replace(link, memory=replace(link.memory, microsoft=side))
        if not side or side == link.memory.microsoft:
            continue
        if microsoft.says_nothing_new(side, link.memory.microsoft):
            turn.noted.append(known)
        else:
            log.info("microsoft.changed", **ids(link), status=side.get("status"))
            turn.changed.append(replace(known, dirty=True))


def _read(cycle: Cycle, link: Link) -> Mapping[str, str] | None:
    """Microsoft's side of this deal, empty where there is none; None where Partner Center does not say."""
    try:
        engagement = link.referral.text("engagement_id") if link.referral else ""
        return microsoft.microsoft_side(cycle.referrals.engagement(engagement))
    except Unavailable as error:
        if error.status != 400:
            raise
        log.warning("microsoft.unreadable", **ids(link), code=error.code, status=error.status)
        return None


def _keep_queue(cycle: Cycle, queue: EngagementQueue) -> EngagementQueue:
    record = Record()
    keep_state(cycle, record, engagements=queue)
    commit(cycle.store, record)
    return queue


def _with_changed(cycle: Cycle, queue: EngagementQueue) -> EngagementQueue:
    """The queue with what this cycle brought: deals that are awaited from now on, and those of which too little was told."""
    if not cycle.changed:
        return queue
    links = cycle.store.by_keys(cycle.changed)
    queue = _with_awaited(queue, links.values())
    waiting = {*queue.once, *queue.asked, *(queue.elsewhere if _few(queue) else ())}
    changed = [key for key in cycle.changed if key in queue.elsewhere]
    untold = [key for key in cycle.untold if key in links and microsoft.may_have_joined(links[key])]
    new = tuple(key for key in dict.fromkeys((*changed, *untold)) if key not in waiting)
    return replace(queue, once=(*queue.once, *new))


def _queue(cycle: Cycle) -> EngagementQueue:
    """Whose turn it is. In a store that never kept it, every deal that is awaited."""
    if cycle.state.engagements is not None:
        return cycle.state.engagements
    if cycle.first_queue is None:
        cycle.first_queue = _with_awaited(EngagementQueue(), cycle.store.links([Phase.LINKED]))
    return cycle.first_queue
