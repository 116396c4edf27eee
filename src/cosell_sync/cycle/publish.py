"""Opportunities become referrals, and Microsoft is invited: the two posts, neither ever sent twice.

A post cannot be guarded by a version and Partner Center enforces no key, so what keeps a deal single is this order:

1. An opportunity that wants to be shared waits until every referral that was pulled has been introduced, for one of
   them may be its own (a store that was lost, a colleague who typed its id in the portal).
2. An intent is stored, then comes the post, then the pair with its bases is stored and the intent cleared.
3. An intent that is found open (a crash, a lost answer) is settled by looking: among the newest referrals for the
   opportunity's id, in the engagement for Microsoft's side. Only when it is not there may the post be sent again.
4. The invitation looks into the engagement in any case, intent or not.

The link is stored as a pair before the invitation is thought of, so a crash between the two posts leaves a deal that
still wants its invitation, and gets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from cosell_sync.core import messages, microsoft, publishing, requirements, visibility
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, SyncState, Value
from cosell_sync.core.decision import Decision, Effect, Hold, HoldKind
from cosell_sync.core.memory import Action, Intent, Invitation, Link, Memory, Phase
from cosell_sync.core.retry import blocked_side, content_digest, freed, freed_from
from cosell_sync.core.status import status_report
from cosell_sync.cycle.commands import released
from cosell_sync.cycle.context import (
    Cycle,
    DealPlan,
    PendingTransaction,
    ids,
    journal_entry,
    record_failure,
    transient,
)
from cosell_sync.errors import Gone, RecordError, Rejected, Stale, Unavailable, Unclear
from cosell_sync.ports import OpportunityWrite, ReferralDraft, Transaction

THERE = Side.PARTNER_CENTER
SHARED = "shared from the CRM"

log = structlog.get_logger("cosell_sync.cycle")


# --- posts of unknown fate ---------------------------------------------------------------------------------------


def settle_posts(cycle: Cycle, chunk: Sequence[Link]) -> list[Link]:
    """Open intents of posts first. Referrals that turn out to be ours already leave the chunk."""
    intents = {
        intent.link: intent
        for intent in cycle.store.intents([link.key for link in chunk])
        if intent.create and intent.side is THERE
    }
    links: list[Link] = []
    taken: set[str] = set()
    for link in chunk:
        intent = intents.get(link.key)
        if intent is None:
            links.append(link)
            continue
        settled, other = _settled(cycle, link, intent)
        pending = Transaction(links=[settled, *([other] if other else [])], settled=[(link.key, THERE)])
        cycle.store.commit(pending)
        log.info("intent.settled", **ids(settled), side=THERE)
        links.append(settled)
        taken.update([other.key] if other else [])
    return [link for link in links if link.key not in taken]


def _settled(cycle: Cycle, link: Link, intent: Intent) -> tuple[Link, Link | None]:
    """The link as it is now, and one that had taken our referral for a new one."""
    again = replace(link, memory=freed_from(link.memory, THERE), dirty=True)
    if link.phase is not Phase.WAITING or link.referral_id is not None or link.opportunity_id is None:
        return again, None  # an invitation: it looks for itself. Or linked meanwhile by its reference.
    found = cycle.referrals.find_created(link.opportunity_id)
    if found is None:
        return again, None
    holder = cycle.store.by_referral([found.id]).get(found.id)
    if holder is not None and holder.phase not in {Phase.WAITING, Phase.SKIPPED}:
        return replace(again, phase=Phase.SKIPPED, dirty=False), None  # a person gave it to another deal
    cycle.counters.created[THERE] += 1
    log.info("deal.created", **{**ids(link), "referral_id": found.id}, side=THERE)
    made = publishing.after_post(link, intent.fields, intent.source, found, cycle.rules, answered=False)
    return _carried(cycle, made), _released(holder) if holder else None


def _released(link: Link) -> Link:
    return replace(released(link), referral=None)


# --- sharing -----------------------------------------------------------------------------------------------------


def set_aside(cycle: Cycle, links: Sequence[Link]) -> list[Link]:
    """Take out the opportunities that want to be shared, until every referral has been introduced; and those that
    wanted it and do not any more, or are gone before anything came of it.
    """
    others: list[Link] = []
    quiet: list[Link] = []
    for link in links:
        unborn = link.phase is Phase.WAITING and link.referral is None and link.referral_id is None
        if unborn and link.memory.gone is Side.CRM:
            quiet.append(replace(link, memory=Memory(gone=Side.CRM), dirty=False, due=None))
        elif publishing.wants_sharing(link):
            cycle.wishes.append(link.key)
        elif (
            unborn
            and link.memory != Memory()
            and link.opportunity
            and not link.opportunity.text("referral_id")
        ):
            quiet.append(_unsaid(cycle, link))
        else:
            others.append(link)
    if quiet:
        cycle.store.commit(Transaction(links=quiet))
    return others


def _unsaid(cycle: Cycle, link: Link) -> Link:
    """The seller does not want to share it any more: our words on the record go."""
    opportunity = link.opportunity
    forgotten = replace(link, memory=Memory(), dirty=False, due=None)
    words: dict[str, Value] = {
        name: None for name in ("sync_state", "message") if opportunity and opportunity.text(name)
    }
    if opportunity is None or not words:
        return forgotten
    outcome = cycle.crm.write([OpportunityWrite(opportunity, words)])[0]
    if outcome.error is not None:
        return replace(link, dirty=isinstance(outcome.error, Stale), due=None)
    return replace(forgotten, opportunity=outcome.snapshot or opportunity)


def publish_all(cycle: Cycle, wishes: Sequence[Link]) -> list[Link]:
    """Post what is complete, name what is missing. Returns the new pairs, to be told in this very cycle."""
    store = cycle.store
    links = [link for link in wishes if publishing.wants_sharing(link)]
    if not links:
        return []
    doubtful = {each for link in store.links([Phase.WAITING]) for each in link.memory.lookalikes}
    pairs: list[Link] = []
    refused: list[tuple[Link, Sequence[Hold]]] = []
    for link in links:
        if link.opportunity is None or link.opportunity_id in doubtful:
            continue  # a person must say first whether Microsoft's deal is the same; the record says so already
        heard = replace(link, memory=_freed_if_changed(link))
        if blocked_side(heard.memory, cycle.now) is THERE:
            refused.append((heard, ()))
            continue
        if holds := _holds(cycle, link.opportunity):
            refused.append((heard, holds))
            continue
        made = _post(cycle, heard, link.opportunity)
        if made.phase is Phase.LINKED:
            pairs.append(made)
        else:
            refused.append((made, ()))
    _report_unpublished(cycle, refused)
    return pairs


def _freed_if_changed(link: Link) -> Memory:
    """A record that changed is tried afresh."""
    stuck = link.memory.failure
    return (
        freed(link.memory)
        if stuck is not None and stuck.seen not in {"", content_digest(link)}
        else link.memory
    )


def _holds(cycle: Cycle, opportunity: Snapshot) -> list[Hold]:
    """Why this opportunity is not shared, one hold a field, all in one text."""
    rules, shape = cycle.rules, cycle.shape
    if publishing.is_closed(opportunity, rules):
        text = messages.closed_before_sharing()
        return [Hold(HoldKind.LATE, "stage", ABSENT, opportunity["stage"], text)]
    cosell = requirements.asks_for_help(opportunity)
    gaps = requirements.missing(opportunity, rules, shape, cycle.now.date(), cosell=cosell)
    text = messages.cannot_share(gap.words for gap in gaps)
    return [Hold(HoldKind.NEED, gap.field, ABSENT, opportunity[gap.field], text) for gap in gaps]


def _post(cycle: Cycle, link: Link, opportunity: Snapshot) -> Link:
    """The first post. The pair, or the link with its failure."""
    rules = cycle.rules
    fields = publishing.new_referral_fields(opportunity, rules, cycle.shape)
    known = publishing.source_values(opportunity, fields, rules)
    effects = tuple(Effect(THERE, Action.CREATE, name, None, value, SHARED) for name, value in fields.items())
    cycle.collect(DealPlan(link, effects=effects))
    outcome_id = _announce(cycle, link, fields, known)
    outcome = cycle.referrals.create(ReferralDraft(outcome_id, fields))
    if outcome.error is not None or outcome.snapshot is None:
        return _failed(cycle, link, outcome.error or Unclear("no answer"))
    made = _carried(cycle, publishing.after_post(link, fields, known, outcome.snapshot, rules, answered=True))
    journal = [
        journal_entry(cycle, made, THERE, "create", SHARED, name, None, value)
        for name, value in fields.items()
    ]
    holder = cycle.store.by_referral([outcome.snapshot.id]).get(outcome.snapshot.id)
    other = [_released(holder)] if holder is not None and holder.key != made.key else []
    cycle.store.commit(Transaction(links=[made, *other], settled=[(link.key, THERE)], journal=journal))
    cycle.counters.created[THERE] += 1
    log.info("deal.created", **ids(made), side=THERE)
    return made


def _announce(cycle: Cycle, link: Link, fields: Fields, known: Fields) -> str:
    """Store the intent of a post; the opportunity's id is what it is found by."""
    intent = Intent(link.key, THERE, True, "", fields, known, cycle.id, cycle.now)
    cycle.store.commit(Transaction(links=[link], intents=[intent]))
    return link.opportunity_id or ""


def _carried(cycle: Cycle, link: Link) -> Link:
    return replace(link, memory=replace(link.memory, carried_at=cycle.now.replace(microsecond=0)))


def _failed(cycle: Cycle, link: Link, error: RecordError) -> Link:
    """A post that failed. Without an answer its intent stays open; a 404 on a post is no vanished deal."""
    if isinstance(error, Gone):
        error = Rejected(error.text, code=error.code, status=error.status, request_id=error.request_id)
    pending = PendingTransaction()
    if not isinstance(error, Unclear):
        pending.settled.append((link.key, THERE))
    failing = record_failure(cycle, link, THERE, error, pending)
    if not transient(failing):
        failing = replace(failing, memory=replace(failing.memory, sync_state=SyncState.NEEDS_ATTENTION))
    failing = replace(failing, due=failing.memory.next_attempt)
    pending.links.append(failing)
    cycle.store.commit(pending.build())
    return failing


def _report_unpublished(cycle: Cycle, refused: Sequence[tuple[Link, Sequence[Hold]]]) -> None:
    """One message on each record that was not shared; nothing is written where it stands there already."""
    writing: list[tuple[Link, OpportunityWrite]] = []
    quiet: list[Link] = []
    for link, holds in refused:
        status = status_report(Decision(link, holds=tuple(holds)), (), cycle.shape, cycle.now)
        words = {name: value for name, value in status.fields.items() if name in {"sync_state", "message"}}
        if status.state is SyncState.IN_SYNC:
            words = {}  # a passing fault says nothing yet, and nothing is in sync
        opportunity = link.opportunity
        effects = tuple(
            Effect(
                Side.CRM,
                Action.REPORT,
                name,
                opportunity[name] if opportunity else None,
                value,
                "kept true on the record",
            )
            for name, value in words.items()
        )
        cycle.collect(DealPlan(link, effects=effects, holds=tuple(holds)))
        if opportunity is None or not words:
            quiet.append(status.link)
            continue
        if holds:
            log.warning(
                "deal.held",
                **ids(link),
                reason="closed" if status.state is SyncState.CLOSED else "incomplete",
            )
        writing.append((status.link, OpportunityWrite(opportunity, words)))
    if quiet:
        cycle.store.commit(Transaction(links=quiet))
    if not writing:
        return
    cycle.store.commit(Transaction(links=[replace(link, dirty=True) for link, _ in writing]))
    outcomes = cycle.crm.write([write for _, write in writing])
    after: list[Link] = []
    journal = []
    for (link, write), outcome in zip(writing, outcomes, strict=True):
        landed = outcome.error is None and outcome.snapshot is not None
        if landed:
            cycle.counters.written[Side.CRM].add(link.key)
            journal += [
                journal_entry(
                    cycle, link, Side.CRM, "tell", "kept true on the record", name, write.before[name], value
                )
                for name, value in write.fields.items()
            ]
        # A record that refuses even our words is left alone; ``deals list`` has them.
        after.append(
            replace(
                link,
                opportunity=outcome.snapshot or link.opportunity,
                dirty=not landed and not isinstance(outcome.error, Rejected),
            )
        )
    cycle.store.commit(Transaction(links=after, journal=journal))


# --- inviting Microsoft ------------------------------------------------------------------------------------------


def invite_microsoft(cycle: Cycle, keys: Sequence[str]) -> list[Link]:
    """Invite Microsoft wherever the seller asks for help. Returns the links that changed, to be reported."""
    changed = []
    for link in cycle.store.by_keys(keys).values():
        if link.opportunity is None or not requirements.asks_for_help(link.opportunity):
            continue
        fields = visibility.invitation(link, cycle.rules, cycle.shape, cycle.now.date())
        if fields is not None and blocked_side(link.memory, cycle.now) is not THERE:
            changed.append(_invite(cycle, link, fields))
    return changed


def _invite(cycle: Cycle, link: Link, fields: Fields) -> Link:
    """Look for Microsoft's side, and post only where there is none."""
    referral, opportunity = link.referral, link.opportunity
    assert referral is not None and opportunity is not None  # noqa: S101, PT018 - an invitation has both
    engagement = referral.text("engagement_id")
    known = publishing.source_values(opportunity, fields, cycle.rules)
    try:
        side = _side(cycle, engagement)
    except RecordError as error:
        return _failed(cycle, link, error)
    if side:
        return _joined(cycle, link, side, known)
    asked = replace(link, memory=replace(link.memory, invite=Invitation.PENDING))
    reference = _announce(cycle, asked, fields, known)
    old = link.base_opportunity.get("help", None)
    effect = Effect(THERE, Action.UPDATE, "help", old, fields["help"], "Microsoft is invited")
    cycle.collect(DealPlan(asked, effects=(effect,)))
    outcome = cycle.referrals.create(ReferralDraft(reference, fields, engagement))
    if outcome.error is not None:
        return _failed(cycle, asked, outcome.error)
    side = microsoft.microsoft_side([outcome.snapshot] if outcome.snapshot else [])
    return _joined(cycle, asked, side, known, effect)


def _joined(
    cycle: Cycle, link: Link, side: Mapping[str, str], known: Fields, effect: Effect | None = None
) -> Link:
    """Microsoft has its side now; ours may have changed with it, so it is read again."""
    made = visibility.invited(link, side, known)
    made = replace(made, memory=freed_from(made.memory, THERE))
    journal = []
    if effect is not None or link.memory.invite == Invitation.PENDING:
        made = _carried(cycle, replace(made, memory=replace(made.memory, notices=(messages.invited(),))))
    if effect is not None:
        cycle.counters.written[THERE].add(link.key)
        journal = [journal_entry(cycle, made, THERE, "update", effect.rule, "help", effect.old, effect.new)]
        log.info("deal.invited", **ids(made))
    # First what cannot be repeated, then the reading: from here on nobody invites again.
    cycle.store.commit(Transaction(links=[made], settled=[(link.key, THERE)], journal=journal))
    fresh = cycle.referrals.fetch([link.referral_id or ""]).get(link.referral_id or "")
    return replace(made, referral=fresh or made.referral)


def _side(cycle: Cycle, engagement: str) -> Mapping[str, str]:
    """Raises Rejected where the engagement cannot be searched: then nobody is invited blindly."""
    try:
        return microsoft.microsoft_side(cycle.referrals.engagement(engagement))
    except Unavailable as error:
        if error.status != 400:
            raise
        text = "Partner Center does not say whether Microsoft was invited already"
        raise Rejected(text, code=error.code, status=error.status) from error
