"""One round over linked deals: Partner Center first, then the CRM, each write announced before and recorded after.

The CRM comes second because its record must tell what Partner Center really took; the second decision is made from what
landed. A record that turns out stale goes back to the caller, read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from cosell_sync.core import messages, publishing
from cosell_sync.core.deal import (
    ABSENT,
    KINDS,
    SELLER,
    SHARED,
    Fields,
    Intent,
    Link,
    Side,
    Snapshot,
    State,
    Step,
    Value,
)
from cosell_sync.core.merge import Conflict
from cosell_sync.core.outcome import after_opportunity, after_referral, after_trouble, freed_from
from cosell_sync.core.reconcile import Decision, Effect, blocked, decide, state_of
from cosell_sync.core.rules import same
from cosell_sync.core.status import Told, conflict_text, tell
from cosell_sync.cycle.context import Finding, Remembering, Run, entry, ids, intent, journal_line, trouble
from cosell_sync.cycle.reread import note_gone, refresh, tell_only
from cosell_sync.errors import Stale, Unclear
from cosell_sync.ports import Memo, OpportunityWrite, Outcome, ReferralWrite

log = structlog.get_logger("cosell_sync.cycle")


@dataclass(frozen=True)
class _Carried:
    """What Partner Center took of one deal."""

    link: Link
    notices: tuple[str, ...] = ()
    state: State | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Second:
    """The decision about the CRM and what the record shall say; written together."""

    decision: Decision
    told: Told

    @property
    def fields(self) -> Fields:
        return {**self.told.fields, **self.decision.crm}


def exchange(run: Run, links: Sequence[Link], *, last: bool) -> list[Link]:
    """Partner Center first, then the CRM. Returns the links that turned out stale, read again."""
    before = [decide(link, run.world.rules, run.shape, run.now) for link in links]
    carried, stale = write_referrals(run, [item for item in before if item.steps])
    chosen: list[_Second] = []
    for decision in before:
        if decision.link.key in stale:
            continue
        learned = carried.get(decision.link.key, _Carried(decision.link))
        if learned.link.memory.gone is not None:
            note_gone(run, [learned.link])
            continue
        chosen.append(second(run, decision, learned))
    stale_too = write_opportunities(run, chosen)
    # what Partner Center took stays learned, though the CRM's record turned out stale
    latest = {item.link.key: item.link for item in before} | {key: item.link for key, item in carried.items()}
    again = [latest[key] for key in latest if key in stale | stale_too]
    if not again:
        return []
    if last:
        given_up = [
            after_trouble(
                link,
                Side.CRM,
                Stale("changed again and again", code="stale"),
                run.now,
                run.world.habits.patience,
            )
            for link in again
        ]
        run.tally.failed.update(link.key for link in given_up)
        run.world.store.remember(Memo(links=given_up))
        return []
    read = refresh(run, again)
    run.world.store.remember(Memo(links=read))
    note_gone(run, [link for link in read if link.memory.gone is not None])
    return [link for link in read if link.memory.gone is None]


def write_referrals(run: Run, decisions: Sequence[Decision]) -> tuple[dict[str, _Carried], set[str]]:
    """Announce, write, record. Returns what each link learned, and the keys of those that were stale."""
    if not decisions:
        return {}, set()
    batch = [
        ReferralWrite(item.link.referral, item.steps) for item in decisions if item.link.referral is not None
    ]
    run.world.store.remember(
        Memo(links=[item.link for item in decisions], intents=[_announce(run, item) for item in decisions])
    )
    outcomes = run.world.referrals.write(batch)
    carried: dict[str, _Carried] = {}
    stale: set[str] = set()
    memo = Remembering()
    for decision, outcome in zip(decisions, outcomes, strict=True):
        link = decision.link
        result = _carry(run, decision, outcome, memo)
        if isinstance(outcome.error, Stale):
            stale.add(link.key)
        carried[link.key] = result
    memo.links.extend(item.link for item in carried.values())
    run.world.store.remember(memo.memo())
    return carried, stale


def _carry(run: Run, decision: Decision, outcome: Outcome, memo: Remembering) -> _Carried:
    link, taken = decision.link, decision.steps[: outcome.steps]
    result = _Carried(link)
    if taken and outcome.snapshot is not None:
        learned = after_referral(link, taken, outcome.snapshot, run.world.rules, run.shape)
        memory = replace(learned.link.memory, carried_at=run.now.replace(microsecond=0))
        link = replace(learned.link, memory=memory)
        result = _Carried(
            link, learned.notices, learned.state, frozenset().union(*(step.fields for step in taken))
        )
        run.tally.written[Side.PARTNER_CENTER].add(link.key)
        for effect in decision.effects:
            if effect.side is Side.PARTNER_CENTER and _belongs(effect, taken):
                memo.journal.append(journal_line(run, link, effect))
                if effect.action == "move":
                    log.info("deal.moved", **ids(link), side=Side.PARTNER_CENTER, state=effect.new)
    unread = outcome.steps > 0 and outcome.snapshot is None  # landed, but what it holds now must be looked up
    if not unread and not isinstance(outcome.error, Unclear):
        memo.settled.append((link.key, Side.PARTNER_CENTER))
    if outcome.error is not None and not isinstance(outcome.error, Stale):
        link = trouble(run, link, Side.PARTNER_CENTER, outcome.error, memo)
        result = replace(result, link=link)
    return result


def second(run: Run, first: Decision, carried: _Carried) -> _Second:
    """The decision about the CRM, made from what Partner Center holds now, and what the record shall say."""
    decision = decide(carried.link, run.world.rules, run.shape, run.now, carried.state)
    conflicts = [
        item
        for item in first.conflicts
        if item.kept is Side.CRM and item.field in carried.fields and item not in decision.conflicts
    ]
    down = [name for name in (*SHARED, "stage") if name in decision.crm]
    news = [*carried.notices, *decision.notices]
    news += [conflict_text(item, run.shape) for item in conflicts]
    news += [
        conflict_text(item, run.shape)
        for item in decision.conflicts
        if item.kept is not None and item.field in down
    ]
    if shared := [run.shape.label(name) for name in SHARED if name in decision.crm]:
        news.append(messages.took(shared))
    if down:
        memory = replace(decision.link.memory, carried_at=run.now.replace(microsecond=0))
        decision = replace(decision, link=replace(decision.link, memory=memory))
    decision = _name_conflicts(run, decision, [*conflicts, *decision.conflicts])
    told = tell(replace(decision, link=_hopeful(decision.link, run)), news, run.shape, run.now)
    # What follows only now (a sales stage after the accept) goes with the next cycle; an invitation follows at once.
    if decision.steps or _invites(run, told.link):
        told = replace(told, link=replace(told.link, dirty=True))
    effects = [effect for effect in first.effects if effect.side is Side.PARTNER_CENTER]
    effects += [effect for effect in decision.effects if effect.side is Side.CRM]
    opportunity = decision.link.opportunity
    effects += [
        Effect(
            Side.CRM,
            "tell",
            name,
            opportunity[name] if opportunity else None,
            item,
            "kept true on the record",
        )
        for name, item in told.fields.items()
    ]
    every = {conflict.field: conflict for conflict in (*first.conflicts, *decision.conflicts)}
    run.report(Finding(decision.link, tuple(effects), tuple(every.values()), decision.holds))
    _remind(told, carried.link)
    return _Second(decision, told)


def _invites(run: Run, link: Link) -> bool:
    if link.opportunity is None or not publishing.asks_for_help(link.opportunity):
        return False
    fields = publishing.invitation(link, run.world.rules, run.shape, run.now.date())
    return fields is not None and blocked(link.memory, run.now) is not Side.PARTNER_CENTER


def _hopeful(link: Link, run: Run) -> Link:
    """The record shall say what is true once this write has landed: then the CRM's trouble with the deal is over."""
    if blocked(link.memory, run.now) is Side.CRM:
        return link
    return replace(link, memory=freed_from(link.memory, Side.CRM))


def _name_conflicts(run: Run, decision: Decision, conflicts: Sequence[Conflict]) -> Decision:
    """Count, journal and log each conflict once; what was named stays remembered while it stands."""
    named = {f"conflict:{item.field}:{item.referral!r}:{item.opportunity!r}": item for item in conflicts}
    marks = {_mark(text): item for text, item in named.items()}
    told = decision.link.memory.told
    journal = []
    for mark, conflict in marks.items():
        if mark in told:
            continue
        run.tally.conflicts += 1
        log.warning(
            "deal.conflict",
            **ids(decision.link),
            field=run.world.rules.crm_name(conflict.field),
            kept=conflict.kept,
        )
        loser = Side.PARTNER_CENTER if conflict.kept is Side.CRM else Side.CRM
        lost, won = (
            (conflict.referral, conflict.opportunity)
            if loser is Side.PARTNER_CENTER
            else (conflict.opportunity, conflict.referral)
        )
        journal.append(entry(run, decision.link, loser, "conflict", conflict.rule, conflict.field, lost, won))
    kept = [mark for mark in told if not mark.startswith("conflict:")]
    memory = replace(decision.link.memory, told=(*kept, *marks))
    if journal:
        run.world.store.remember(Memo(journal=journal))
    return replace(decision, link=replace(decision.link, memory=memory))


def _remind(told: Told, link: Link) -> None:
    opportunity = link.opportunity
    if told.reminder and "message" in told.fields and opportunity is not None:
        log.warning("deal.reminder", **ids(link), reminder=told.reminder)


def write_opportunities(run: Run, second: Sequence[_Second]) -> set[str]:
    """Announce, write, record. Returns the keys of those that were stale."""
    memo = Remembering()
    writing: list[_Second] = []
    for item in second:
        crm_closed = blocked(item.told.link.memory, run.now) is Side.CRM
        if item.fields and not crm_closed:
            writing.append(item)
        else:
            memo.links.append(item.told.link)
    memo.intents.extend(
        _announce_crm(run, item) for item in writing if item.decision.crm.keys() & {*SHARED, "stage"}
    )
    if memo.links or memo.intents:
        run.world.store.remember(memo.memo())
    if not writing:
        return set()
    batch = [
        OpportunityWrite(item.told.link.opportunity, item.fields)
        for item in writing
        if item.told.link.opportunity is not None
    ]
    outcomes = run.world.crm.write(batch)
    memo, stale = Remembering(), set()
    refused: list[tuple[Link, Decision]] = []
    for item, outcome in zip(writing, outcomes, strict=True):
        link = item.told.link
        if outcome.error is None and outcome.snapshot is not None and link.referral is not None:
            memo.links.append(_landed(run, item, outcome.snapshot, memo))
        elif isinstance(outcome.error, Stale):
            stale.add(link.key)
            memo.settled.append((link.key, Side.CRM))
        else:
            error = outcome.error or Unclear("no answer")
            if not isinstance(error, Unclear):
                memo.settled.append((link.key, Side.CRM))
            # part of it may have landed, words for the seller among it that are not true now
            held = replace(item.decision.link, opportunity=outcome.snapshot or link.opportunity)
            troubled = trouble(run, held, Side.CRM, error, memo)
            memo.links.append(troubled)
            if troubled.memory.trouble is not None and not troubled.memory.trouble.transient:
                refused.append((troubled, item.decision))
    run.world.store.remember(memo.memo())
    tell_refused(run, refused)
    return stale


def _landed(run: Run, item: _Second, after: Snapshot, memo: Remembering) -> Link:
    link, referral, before = item.told.link, item.told.link.referral, item.told.link.opportunity
    if referral is None or before is None:
        return link
    learned = after_opportunity(link, item.decision.crm, after, run.world.rules, state_of(referral))
    meanwhile = _meanwhile(before, item.fields, after)
    run.tally.written[Side.CRM].add(link.key)
    memo.settled.append((link.key, Side.CRM))
    for effect in item.decision.effects:
        if effect.side is Side.CRM:
            memo.journal.append(journal_line(run, link, effect))
            if effect.action == "move":
                log.info("deal.moved", **ids(link), side=Side.CRM, state=effect.new)
    memo.journal.extend(
        entry(run, link, Side.CRM, "tell", "kept true on the record", name, before[name], value)
        for name, value in item.told.fields.items()
        if name in {"sync_state", "message"}
    )
    return replace(learned, dirty=learned.dirty or meanwhile)


def tell_refused(run: Run, refused: Sequence[tuple[Link, Decision]]) -> None:
    """The CRM refused a change: say so on the record, by a write of our own fields alone."""
    writes = []
    for link, decision in refused:
        told = tell(replace(decision, link=link), (), run.shape, run.now)
        fields = {name: item for name, item in told.fields.items() if name in {"sync_state", "message"}}
        writes.append((told.link, fields))
    run.world.store.remember(Memo(links=[link for link, _ in writes]))
    tell_only(run, writes)


def _announce(run: Run, decision: Decision) -> Intent:
    link = decision.link
    fields: dict[str, Value] = {}
    for step in decision.steps:
        fields |= step.fields
        if step.state is not None:
            fields["state"] = step.state.value
    return intent(run, link, Side.PARTNER_CENTER, link.referral, fields, link.opportunity)


def _announce_crm(run: Run, item: _Second) -> Intent:
    link = item.told.link
    moment = {name: value for name, value in item.told.fields.items() if name == "last_sync"}
    return intent(run, link, Side.CRM, link.opportunity, {**item.decision.crm, **moment}, link.referral)


def _mark(text: str) -> str:
    """A conflict's mark without its values: marks are kept, values may be people's data."""
    name = text.split(":")[1]
    return f"conflict:{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _belongs(effect: Effect, taken: Sequence[Step]) -> bool:
    if effect.action == "move":
        return any(step.state is not None and step.state.value == effect.new for step in taken)
    return any(effect.field in step.fields for step in taken)


def _meanwhile(before: Snapshot, sent: Fields, after: Snapshot) -> bool:
    """Whether the record holds something else than it should after our write: somebody, or a flow, was there too."""
    expected = {**before.fields, **sent}
    names = {*SHARED, *SELLER, "stage"}
    return any(not same(KINDS[name], expected.get(name, ABSENT), after[name]) for name in names)
