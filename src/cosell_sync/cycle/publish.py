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

from cosell_sync.core import messages, publishing
from cosell_sync.core.deal import (
    ABSENT,
    Fields,
    Intent,
    Link,
    Memory,
    Phase,
    Side,
    Snapshot,
    SyncState,
    Value,
)
from cosell_sync.core.outcome import freed_from
from cosell_sync.core.reconcile import Decision, Effect, Hold, HoldKind, blocked, content
from cosell_sync.core.retry import freed
from cosell_sync.core.status import tell
from cosell_sync.cycle.commands import released
from cosell_sync.cycle.context import Finding, Remembering, Run, entry, ids, transient, trouble
from cosell_sync.errors import Gone, RecordError, Rejected, Stale, Unavailable, Unclear
from cosell_sync.ports import Memo, OpportunityWrite, ReferralDraft

THERE = Side.PARTNER_CENTER
SHARED = "shared from the CRM"

log = structlog.get_logger("cosell_sync.cycle")


# --- posts of unknown fate ---------------------------------------------------------------------------------------


def settle_posts(run: Run, chunk: Sequence[Link]) -> list[Link]:
    """Open intents of posts first. Referrals that turn out to be ours already leave the chunk."""
    intents = {
        intent.link: intent
        for intent in run.world.store.intents([link.key for link in chunk])
        if intent.create and intent.side is THERE
    }
    links: list[Link] = []
    taken: set[str] = set()
    for link in chunk:
        intent = intents.get(link.key)
        if intent is None:
            links.append(link)
            continue
        settled, other = _settled(run, link, intent)
        memo = Memo(links=[settled, *([other] if other else [])], settled=[(link.key, THERE)])
        run.world.store.remember(memo)
        log.info("intent.settled", **ids(settled), side=THERE)
        links.append(settled)
        taken.update([other.key] if other else [])
    return [link for link in links if link.key not in taken]


def _settled(run: Run, link: Link, intent: Intent) -> tuple[Link, Link | None]:
    """The link as it is now, and one that had taken our referral for a new one."""
    again = replace(link, memory=freed_from(link.memory, THERE), dirty=True)
    if link.phase is not Phase.WAITING or link.referral_id is not None or link.opportunity_id is None:
        return again, None  # an invitation: it looks for itself. Or linked meanwhile by its reference.
    found = run.world.referrals.find_created(link.opportunity_id)
    if found is None:
        return again, None
    holder = run.world.store.by_referral([found.id]).get(found.id)
    if holder is not None and holder.phase not in {Phase.WAITING, Phase.SKIPPED}:
        return replace(again, phase=Phase.SKIPPED, dirty=False), None  # a person gave it to another deal
    run.tally.created[THERE] += 1
    log.info("deal.created", **{**ids(link), "referral_id": found.id}, side=THERE)
    made = publishing.adopted(link, intent.fields, intent.source, found, run.world.rules, answered=False)
    return _carried(run, made), _released(holder) if holder else None


def _released(link: Link) -> Link:
    return replace(released(link), referral=None)


# --- sharing -----------------------------------------------------------------------------------------------------


def set_aside(run: Run, links: Sequence[Link]) -> list[Link]:
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
            run.wishes.append(link.key)
        elif (
            unborn
            and link.memory != Memory()
            and link.opportunity
            and not link.opportunity.text("referral_id")
        ):
            quiet.append(_unsaid(run, link))
        else:
            others.append(link)
    if quiet:
        run.world.store.remember(Memo(links=quiet))
    return others


def _unsaid(run: Run, link: Link) -> Link:
    """The seller does not want to share it any more: our words on the record go."""
    opportunity = link.opportunity
    forgotten = replace(link, memory=Memory(), dirty=False, due=None)
    words: dict[str, Value] = {
        name: None for name in ("sync_state", "message") if opportunity and opportunity.text(name)
    }
    if opportunity is None or not words:
        return forgotten
    outcome = run.world.crm.write([OpportunityWrite(opportunity, words)])[0]
    if outcome.error is not None:
        return replace(link, dirty=isinstance(outcome.error, Stale), due=None)
    return replace(forgotten, opportunity=outcome.snapshot or opportunity)


def share_all(run: Run, wishes: Sequence[Link]) -> list[Link]:
    """Post what is complete, name what is missing. Returns the new pairs, to be told in this very cycle."""
    store = run.world.store
    links = [link for link in wishes if publishing.wants_sharing(link)]
    if not links:
        return []
    doubtful = {each for link in store.links([Phase.WAITING]) for each in link.memory.lookalikes}
    pairs: list[Link] = []
    refused: list[tuple[Link, Sequence[Hold]]] = []
    for link in links:
        if link.opportunity is None or link.opportunity_id in doubtful:
            continue  # a person must say first whether Microsoft's deal is the same; the record says so already
        heard = replace(link, memory=_heard(link))
        if blocked(heard.memory, run.now) is THERE:
            refused.append((heard, ()))
            continue
        if holds := _holds(run, link.opportunity):
            refused.append((heard, holds))
            continue
        made = _post(run, heard, link.opportunity)
        if made.phase is Phase.LINKED:
            pairs.append(made)
        else:
            refused.append((made, ()))
    _say(run, refused)
    return pairs


def _heard(link: Link) -> Memory:
    """A record that changed is tried afresh."""
    stuck = link.memory.trouble
    return freed(link.memory) if stuck is not None and stuck.seen not in {"", content(link)} else link.memory


def _holds(run: Run, opportunity: Snapshot) -> list[Hold]:
    """Why this opportunity is not shared, one hold a field, all in one text."""
    rules, shape = run.world.rules, run.shape
    if publishing.is_closed(opportunity, rules):
        text = messages.closed_before_sharing()
        return [Hold(HoldKind.LATE, "stage", ABSENT, opportunity["stage"], text)]
    cosell = publishing.asks_for_help(opportunity)
    gaps = publishing.missing(opportunity, rules, shape, run.now.date(), cosell=cosell)
    text = messages.cannot_share(gap.words for gap in gaps)
    return [Hold(HoldKind.NEED, gap.field, ABSENT, opportunity[gap.field], text) for gap in gaps]


def _post(run: Run, link: Link, opportunity: Snapshot) -> Link:
    """The first post. The pair, or the link with its trouble."""
    rules = run.world.rules
    fields = publishing.draft(opportunity, rules, run.shape)
    known = publishing.source(opportunity, fields, rules)
    effects = tuple(Effect(THERE, "create", name, None, value, SHARED) for name, value in fields.items())
    run.report(Finding(link, effects=effects))
    outcome_id = _announce(run, link, fields, known)
    outcome = run.world.referrals.create(ReferralDraft(outcome_id, fields))
    if outcome.error is not None or outcome.snapshot is None:
        return _failed(run, link, outcome.error or Unclear("no answer"))
    made = _carried(run, publishing.adopted(link, fields, known, outcome.snapshot, rules, answered=True))
    journal = [entry(run, made, THERE, "create", SHARED, name, None, value) for name, value in fields.items()]
    holder = run.world.store.by_referral([outcome.snapshot.id]).get(outcome.snapshot.id)
    other = [_released(holder)] if holder is not None and holder.key != made.key else []
    run.world.store.remember(Memo(links=[made, *other], settled=[(link.key, THERE)], journal=journal))
    run.tally.created[THERE] += 1
    log.info("deal.created", **ids(made), side=THERE)
    return made


def _announce(run: Run, link: Link, fields: Fields, known: Fields) -> str:
    """Store the intent of a post; the opportunity's id is what it is found by."""
    intent = Intent(link.key, THERE, True, "", fields, known, run.id, run.now)
    run.world.store.remember(Memo(links=[link], intents=[intent]))
    return link.opportunity_id or ""


def _carried(run: Run, link: Link) -> Link:
    return replace(link, memory=replace(link.memory, carried_at=run.now.replace(microsecond=0)))


def _failed(run: Run, link: Link, error: RecordError) -> Link:
    """A post that failed. Without an answer its intent stays open; a 404 on a post is no vanished deal."""
    if isinstance(error, Gone):
        error = Rejected(error.text, code=error.code, status=error.status, request_id=error.request_id)
    memo = Remembering()
    if not isinstance(error, Unclear):
        memo.settled.append((link.key, THERE))
    troubled = trouble(run, link, THERE, error, memo)
    if not transient(troubled):
        troubled = replace(troubled, memory=replace(troubled.memory, sync_state=SyncState.NEEDS_ATTENTION))
    troubled = replace(troubled, due=troubled.memory.next_attempt)
    memo.links.append(troubled)
    run.world.store.remember(memo.memo())
    return troubled


def _say(run: Run, refused: Sequence[tuple[Link, Sequence[Hold]]]) -> None:
    """One message on each record that was not shared; nothing is written where it stands there already."""
    writing: list[tuple[Link, OpportunityWrite]] = []
    quiet: list[Link] = []
    for link, holds in refused:
        told = tell(Decision(link, holds=tuple(holds)), (), run.shape, run.now)
        words = {name: value for name, value in told.fields.items() if name in {"sync_state", "message"}}
        if told.state is SyncState.IN_SYNC:
            words = {}  # a passing fault says nothing yet, and nothing is in sync
        opportunity = link.opportunity
        effects = tuple(
            Effect(
                Side.CRM,
                "tell",
                name,
                opportunity[name] if opportunity else None,
                value,
                "kept true on the record",
            )
            for name, value in words.items()
        )
        run.report(Finding(link, effects=effects, holds=tuple(holds)))
        if opportunity is None or not words:
            quiet.append(told.link)
            continue
        if holds:
            log.warning(
                "deal.held", **ids(link), reason="closed" if told.state is SyncState.CLOSED else "incomplete"
            )
        writing.append((told.link, OpportunityWrite(opportunity, words)))
    if quiet:
        run.world.store.remember(Memo(links=quiet))
    if not writing:
        return
    run.world.store.remember(Memo(links=[replace(link, dirty=True) for link, _ in writing]))
    outcomes = run.world.crm.write([write for _, write in writing])
    after: list[Link] = []
    journal = []
    for (link, write), outcome in zip(writing, outcomes, strict=True):
        landed = outcome.error is None and outcome.snapshot is not None
        if landed:
            run.tally.written[Side.CRM].add(link.key)
            journal += [
                entry(run, link, Side.CRM, "tell", "kept true on the record", name, write.before[name], value)
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
    run.world.store.remember(Memo(links=after, journal=journal))


# --- inviting Microsoft ------------------------------------------------------------------------------------------


def invite_all(run: Run, keys: Sequence[str]) -> list[Link]:
    """Invite Microsoft wherever the seller asks for help. Returns the links that changed, to be told."""
    changed = []
    for link in run.world.store.by_keys(keys).values():
        if link.opportunity is None or not publishing.asks_for_help(link.opportunity):
            continue
        fields = publishing.invitation(link, run.world.rules, run.shape, run.now.date())
        if fields is not None and blocked(link.memory, run.now) is not THERE:
            changed.append(_invite(run, link, fields))
    return changed


def _invite(run: Run, link: Link, fields: Fields) -> Link:
    """Look for Microsoft's side, and post only where there is none."""
    referral, opportunity = link.referral, link.opportunity
    assert referral is not None and opportunity is not None  # noqa: S101, PT018 - an invitation has both
    engagement = referral.text("engagement_id")
    known = publishing.source(opportunity, fields, run.world.rules)
    try:
        side = _side(run, engagement)
    except RecordError as error:
        return _failed(run, link, error)
    if side:
        return _joined(run, link, side, known)
    asked = replace(link, memory=replace(link.memory, invite=publishing.PENDING))
    reference = _announce(run, asked, fields, known)
    old = link.base_opportunity.get("help", None)
    effect = Effect(THERE, "update", "help", old, fields["help"], "Microsoft is invited")
    run.report(Finding(asked, effects=(effect,)))
    outcome = run.world.referrals.create(ReferralDraft(reference, fields, engagement))
    if outcome.error is not None:
        return _failed(run, asked, outcome.error)
    side = publishing.microsoft_side([outcome.snapshot] if outcome.snapshot else [])
    return _joined(run, asked, side, known, effect)


def _joined(
    run: Run, link: Link, side: Mapping[str, str], known: Fields, effect: Effect | None = None
) -> Link:
    """Microsoft has its side now; ours may have changed with it, so it is read again."""
    made = publishing.invited(link, side, known)
    made = replace(made, memory=freed_from(made.memory, THERE))
    journal = []
    if effect is not None or link.memory.invite == publishing.PENDING:
        made = _carried(run, replace(made, memory=replace(made.memory, notices=(messages.invited(),))))
    if effect is not None:
        run.tally.written[THERE].add(link.key)
        journal = [entry(run, made, THERE, "update", effect.rule, "help", effect.old, effect.new)]
        log.info("deal.invited", **ids(made))
    # First what cannot be repeated, then the reading: from here on nobody invites again.
    run.world.store.remember(Memo(links=[made], settled=[(link.key, THERE)], journal=journal))
    fresh = run.world.referrals.fetch([link.referral_id or ""]).get(link.referral_id or "")
    return replace(made, referral=fresh or made.referral)


def _side(run: Run, engagement: str) -> Mapping[str, str]:
    """Raises Rejected where the engagement cannot be searched: then nobody is invited blindly."""
    try:
        return publishing.microsoft_side(run.world.referrals.engagement(engagement))
    except Unavailable as error:
        if error.status != 400:
            raise
        text = "Partner Center does not say whether Microsoft was invited already"
        raise Rejected(text, code=error.code, status=error.status) from error
