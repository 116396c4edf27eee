"""The two decisions about a linked deal in a cycle (docs/decisions/0002), each made once.

The first says what goes to Partner Center. It is kept for the chunk, so that the checks before (``safety``, ``schedule``)
and the exchange share it. The second, made from what Partner Center holds after its write, says what goes to the CRM. Where
the first one has no steps nothing was written in between, and it is the second one as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial

import structlog

from cosell_sync.core import losses, messages, requirements, visibility
from cosell_sync.core.deal import Side, State
from cosell_sync.core.decision import Conflict, Decision
from cosell_sync.core.fields import SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import kept_withheld
from cosell_sync.core.memory import FinalKind, Link
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import blocked_side, freed_from
from cosell_sync.core.status import StatusReport, conflict_text, status_report
from cosell_sync.cycle import closed_rows
from cosell_sync.cycle.conflicts import conflicts
from cosell_sync.cycle.context import CrmPlan, Cycle, DealPlan, ReferralResult, carried, ids
from cosell_sync.cycle.journal import status_effects
from cosell_sync.cycle.record import Record

log = structlog.get_logger("cosell_sync.cycle")


def first_decision(cycle: Cycle, link: Link) -> Decision:
    """What follows for this deal as it was read; for the same reading the same decision, made once.

    What the count withheld before stays withheld; what else the guard says, ``guard.guarded`` asks.
    """
    known = cycle.decided.get(link.key)
    if known is not None and known[0] is link:
        return known[1]
    withheld = {} if cycle.approve else kept_withheld(link)
    decision = decide(link, cycle.rules, cycle.shape, cycle.now, None, withheld)
    cycle.decided[link.key] = (link, decision)
    return decision


def foreseeable(cycle: Cycle, links: Iterable[Link]) -> Iterable[Decision]:
    """The first decisions, for counting; a deal that cannot be decided changes nothing, and is reported by ``isolate``."""
    for link in links:
        try:
            yield first_decision(cycle, link)
        except Exception:  # noqa: BLE001, S112 - it breaks again where it is worked on, and is reported there
            continue


def plan_crm(cycle: Cycle, record: Record, first: Decision, result: ReferralResult) -> CrmPlan:
    """What goes to the CRM, made from what Partner Center holds now, and what the record is to say. Names conflicts."""
    decision = first
    if first.steps:
        withheld = cycle.guard.withheld.get(result.link.key)
        decision = decide(result.link, cycle.rules, cycle.shape, cycle.now, result.state, withheld)
    decision = closed_rows.without_closed(cycle, decision)
    sent = [
        item
        for item in first.conflicts
        if item.kept is Side.CRM and item.field in result.fields and item not in decision.conflicts
    ]
    news = partial(_news, cycle, decision, result, sent, first.taken_back)
    retried = decision.retried_in_crm  # the record says of these what is so until they have landed
    link = conflicts(cycle, record, decision.link, [*sent, *decision.conflicts])
    if any(name in decision.crm and name not in retried for name in (*SHARED, "stage")):
        link = carried(cycle, link)
    decision = replace(decision, link=link)
    expected = replace(decision, link=_as_if_written(cycle, link))
    status = closed_rows.untold(
        cycle, decision, status_report(expected, news(retried), cycle.shape, cycle.now, cycle.language)
    )
    # What follows only now (a sales stage after the accept) goes with the next cycle; an invitation follows at once.
    if decision.steps or may_invite(cycle, status.link):
        status = replace(status, link=replace(status.link, dirty=True))
    if cycle.collects:
        cycle.collect(_deal_plan(first, decision, status))
    if status.reminder and "message" in status.fields and result.link.opportunity is not None:
        log.warning("deal.reminder", **ids(result.link), reminder=status.reminder)
    return CrmPlan(decision, status, news)


def may_invite(cycle: Cycle, link: Link) -> bool:
    """Whether Microsoft is to be invited now: the seller asks for it, nothing is missing or withheld, Partner Center is not
    paused.
    """
    if link.opportunity is None or not requirements.asks_for_help(link.opportunity):
        return False
    if any(item.kind is FinalKind.INVITE for item in link.memory.withheld):
        return False
    fields = visibility.invitation(link, cycle.rules, cycle.shape, cycle.rules.today(cycle.now))
    return fields is not None and blocked_side(link.memory, cycle.now) is not Side.PARTNER_CENTER


def settled_as_made(cycle: Cycle, link: Link) -> Link:
    """A deal whose opportunity was just made, at rest where nothing follows from how it reads back; else due again.

    What somebody, or a flow, did between the create and its read-back shows as a difference, and is carried then.
    """
    decision = decide(link, cycle.rules, cycle.shape, cycle.now)
    status = status_report(decision, (), cycle.shape, cycle.now, cycle.language)
    follows = decision.steps or decision.crm or decision.conflicts or status.fields
    if follows or link.dirty or may_invite(cycle, status.link):
        return replace(link, dirty=True)
    return status.link


def _news(
    cycle: Cycle,
    decision: Decision,
    result: ReferralResult,
    sent: Sequence[Conflict],
    taken_back: State | None,
    refused: Collection[str],
) -> Sequence[str]:
    """What happened, in the seller's words; empty where nothing did. ``refused``: what the CRM did not take."""
    down = [name for name in (*SHARED, "stage") if name in decision.crm and name not in refused]
    decided = [item for item in decision.conflicts if item.kept is not None and item.field in down]
    news = [
        *_carried_news(cycle, result, taken_back),
        *(() if "stage" in refused else decision.notices),
    ]
    news += [conflict_text(item, cycle.shape) for item in (*sent, *decided)]
    shared = [name for name in down if name != "stage"]
    if shared:
        news.append(messages.took(cycle.shape.label(name) for name in shared))
    if result.link.referral is not None:
        news += losses.lost_in_crm(shared, result.link.referral, decision.crm, cycle.shape)
    return news


def _carried_news(cycle: Cycle, result: ReferralResult, taken_back: State | None) -> Sequence[str]:
    """What Partner Center took. Of an end that was taken back the seller reads that, not that the stage went over."""
    if taken_back is None:
        return result.notices
    labels = [cycle.shape.label(name) for name in SHARED if name in result.fields]
    others = [cycle.shape.label(name) for name in SHARED if name in result.fields and name != "sales_stage"]
    said = [notice for notice in result.notices if notice != messages.sent(labels)]
    return [messages.taken_back(taken_back), *([messages.sent(others)] if others else []), *said]


def _as_if_written(cycle: Cycle, link: Link) -> Link:
    """The record is to say what is true once this write has landed: then the CRM's failure with the deal is over."""
    if blocked_side(link.memory, cycle.now) is Side.CRM:
        return link
    return replace(link, memory=freed_from(link.memory, Side.CRM))


def _deal_plan(first: Decision, second: Decision, status: StatusReport) -> DealPlan:
    effects = [effect for effect in first.effects if effect.side is Side.PARTNER_CENTER]
    effects += [effect for effect in second.effects if effect.side is Side.CRM]
    effects += status_effects(second.link.opportunity, status.fields)
    every = {conflict.field: conflict for conflict in (*first.conflicts, *second.conflicts)}
    return DealPlan(second.link, tuple(effects), tuple(every.values()), second.holds)
