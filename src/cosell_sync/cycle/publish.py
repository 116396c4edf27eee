"""Shares opportunities: a seller's opportunity becomes a referral, and never two.

A post cannot be guarded by a version and Partner Center enforces no key, so what keeps a deal single is this order:

1. An opportunity that wants to be shared waits until every referral that was pulled has been taken in, for one of them
   may be its own (a store that was lost, a colleague who typed its id in the portal).
2. An intent is stored, then comes the post, then the pair with its bases is stored and the intent cleared.
3. An intent that is found open (a crash, a lost answer) is settled by looking (``recover``).
4. The invitation (``engagements``) looks into the engagement in any case, intent or not.

The link is stored as a pair before the invitation is thought of, so a crash between the two posts leaves a deal that
still wants its invitation, and gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import structlog

from cosell_sync.core import messages, publishing, requirements
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, SyncState, Value
from cosell_sync.core.decision import Decision, Effect, Hold, HoldKind
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import Candidate, candidate, kept_withheld, standing_approvals
from cosell_sync.core.memory import Action, FinalKind, Link, Memory, Phase, Withheld
from cosell_sync.core.retry import blocked_side, changed_since_failure, freed
from cosell_sync.cycle import apply
from cosell_sync.cycle.context import Cycle, DealPlan, ids
from cosell_sync.cycle.guard import admit, log_withheld
from cosell_sync.cycle.journal import status_effects
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.referral_outcomes import post_failed, post_landed
from cosell_sync.cycle.report import RecordReport, report, words_of
from cosell_sync.errors import Unclear

SHARED_RULE = "shared from the CRM"

log = structlog.get_logger("cosell_sync.cycle")


def defer_wishes(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """The links without the opportunities that want to be shared, which come last in a cycle (``cycle.wishes``).

    Those that wanted it and do not any more, or are gone before anything came of it, are done with here.
    """
    others: list[Link] = []
    withdrawn: list[RecordReport] = []
    for link in links:
        unborn = link.phase is Phase.WAITING and link.referral is None and link.referral_id is None
        if unborn and link.memory.gone is Side.CRM:
            withdrawn.append(
                RecordReport(replace(link, memory=Memory(gone=Side.CRM), dirty=False, due=None), {})
            )
        elif publishing.wants_sharing(link):
            cycle.wishes.append(link.key)
        elif unborn and link.memory != Memory() and _unnamed(link):
            withdrawn.append(_withdrawn(link))
        else:
            others.append(link)
    if withdrawn:
        report(cycle, Record(), withdrawn)
    return others


def _unnamed(link: Link) -> bool:
    return link.opportunity is not None and not link.opportunity.text("referral_id")


def _withdrawn(link: Link) -> RecordReport:
    """The seller does not want to share it any more: our words on the record go."""
    opportunity = link.opportunity
    words: Fields = {
        name: None for name in ("sync_state", "message") if opportunity and opportunity.text(name)
    }
    forgotten = replace(link, memory=Memory(), dirty=False, due=None)
    return RecordReport(forgotten, words, replace(link, due=None) if words else None, repeat=True)


def publish_all(cycle: Cycle, wishes: Sequence[Link]) -> list[Link]:
    """Post what is complete, name what is missing. Returns the new pairs, to be exchanged in this very cycle."""
    links = [link for link in wishes if publishing.wants_sharing(link)]
    if not links:
        return []
    doubtful = {each for link in cycle.store.links([Phase.WAITING]) for each in link.memory.lookalikes}
    # of the others a person must say first whether Microsoft's deal is the same; their records say so already
    links = [_begun(link) for link in links if link.opportunity_id not in doubtful]
    steps = [step for link in links for step in _steps(cycle, link)]
    withheld = admit(cycle, steps)
    pairs: list[Link] = []
    refused: list[tuple[Link, Sequence[Hold]]] = []
    for begun in links:
        items = {**_kept(cycle, begun), **withheld.get(begun.key, {})}
        link = replace(begun, memory=replace(begun.memory, withheld=tuple(items.values())))
        log_withheld(cycle, begun, link)
        opportunity = link.opportunity
        if opportunity is None:
            continue
        if blocked_side(link.memory, cycle.now) is Side.PARTNER_CENTER:
            refused.append((link, ()))
        elif holds := _holds(cycle, opportunity):
            refused.append((replace(link, memory=replace(link.memory, withheld=())), holds))
        elif items:
            refused.append((link, [_withheld_hold(item) for item in items.values()]))
        elif (made := _post(cycle, link, opportunity)).phase is Phase.LINKED:
            pairs.append(made)
        else:
            refused.append((made, ()))
    report(cycle, Record(), [_unpublished(cycle, link, holds) for link, holds in refused])
    return pairs


def posts_of(cycle: Cycle, links: Iterable[Link]) -> list[Candidate]:
    """The posts that these links would make now, as far as the guard has not withheld them already."""
    found: list[Candidate] = []
    for link in links:
        with suppress(Exception):  # it breaks again where it is worked on, and is reported there
            found += _steps(cycle, _begun(link)) if publishing.wants_sharing(link) else ()
    return found


def _begun(link: Link) -> Link:
    """The link as it is tried: a record that changed is tried afresh, and approvals of what it no longer asks for are over."""
    memory = replace(_freed_if_changed(link), approved=standing_approvals(link))
    return replace(link, memory=memory)


def _steps(cycle: Cycle, link: Link) -> list[Candidate]:
    """What the post of this opportunity does that cannot be undone; nothing where it is not to be posted now."""
    opportunity = link.opportunity
    blocked = blocked_side(link.memory, cycle.now) is Side.PARTNER_CENTER
    if opportunity is None or blocked or _kept(cycle, link) or _holds(cycle, opportunity):
        return []
    fields = publishing.new_referral_fields(opportunity, cycle.rules, cycle.shape)
    return [candidate(kind, link) for kind in apply.kinds_of_post(cycle, fields)]


def _kept(cycle: Cycle, link: Link) -> dict[FinalKind, Withheld]:
    return {} if cycle.approve else kept_withheld(link)


def _withheld_hold(item: Withheld) -> Hold:
    return Hold(HoldKind.WITHHELD, "sync", False, True, messages.withheld(item))


def _freed_if_changed(link: Link) -> Memory:
    """A record that changed is tried afresh."""
    return freed(link.memory) if changed_since_failure(link) else link.memory


def _holds(cycle: Cycle, opportunity: Snapshot) -> list[Hold]:
    """Why this opportunity is not shared, one hold a field, all in one text."""
    rules, shape = cycle.rules, cycle.shape
    if publishing.is_closed(opportunity, rules):
        text = messages.closed_before_sharing(shape.label("sync"))
        return [Hold(HoldKind.LATE, "stage", ABSENT, opportunity["stage"], text)]
    cosell = requirements.asks_for_help(opportunity)
    gaps = requirements.missing(opportunity, rules, shape, cycle.rules.today(cycle.now), cosell=cosell)
    text = requirements.told(gaps, messages.cannot_share)
    return [Hold(HoldKind.NEED, gap.field, ABSENT, opportunity[gap.field], text) for gap in gaps]


def _post(cycle: Cycle, link: Link, opportunity: Snapshot) -> Link:
    """The first post. The pair, or the link with its failure."""
    rules = cycle.rules
    fields: dict[str, Value] = publishing.new_referral_fields(opportunity, rules, cycle.shape)
    known = publishing.source_values(opportunity, fields, rules)
    effects = tuple(
        Effect(Side.PARTNER_CENTER, Action.CREATE, name, None, value, SHARED_RULE)
        for name, value in fields.items()
    )
    cycle.collect(DealPlan(link, effects=effects))
    outcome = apply.post_referral(cycle, link, fields, known, SHARED_RULE)
    record = Record()
    if outcome.error is not None or outcome.snapshot is None:
        result = post_failed(cycle, record, link, outcome.error or Unclear("no answer"))
    else:
        holder = cycle.store.by_referral([outcome.snapshot.id]).get(outcome.snapshot.id)
        made = publishing.after_post(link, fields, known, outcome.snapshot, rules, cycle.shape, answered=True)
        result = post_landed(cycle, record, made, fields, SHARED_RULE, holder)
    commit(cycle.store, record)
    return result


def _unpublished(cycle: Cycle, link: Link, holds: Sequence[Hold]) -> RecordReport:
    """One message on a record that was not shared; nothing is written where it stands there already."""
    status, words = words_of(cycle, Decision(link, holds=tuple(holds)))
    if status.state is SyncState.IN_SYNC:
        words = {}  # a passing fault says nothing yet, and nothing is in sync
    effects = status_effects(link.opportunity, words)
    cycle.collect(DealPlan(link, effects=effects, holds=tuple(holds)))
    if words and holds and not status.link.memory.withheld:
        reason = "closed" if status.state is SyncState.CLOSED else "incomplete"
        log.warning("deal.held", **ids(link), reason=reason)
    return RecordReport(status.link, words, repeat=True)
