"""Makes every write to the outside, and announces it before: no other module calls ``write`` or ``create`` of a port.

A write is announced by storing its intent, together with all else that the record holds at that moment. While the intent
is open the write may or may not have landed; ``recover`` looks. A write of our own status fields alone needs none, for
repeating it does no harm.

What cannot be undone (a move, a post, an invitation, a deal made visible to Microsoft) passes ``announce`` with its kind,
link and cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cosell_sync.core.deal import DealType, Fields, Side, Snapshot, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.fields import SHARED
from cosell_sync.core.guard import final_effects
from cosell_sync.core.memory import FinalKind, Intent, Link
from cosell_sync.cycle.context import CrmPlan, Cycle
from cosell_sync.cycle.guard import confirm
from cosell_sync.cycle.journal import STATUS_WORDS
from cosell_sync.cycle.record import Record, commit
from cosell_sync.ports import OpportunityDraft, OpportunityWrite, Outcome, ReferralDraft, ReferralWrite


@dataclass(frozen=True)
class FinalStep:
    """One thing that cannot be undone. ``cause``: the rule by which it follows, as the journal will give it."""

    kind: FinalKind
    link: Link
    cause: str


@dataclass(frozen=True)
class Announcement:
    """A write about to be made. ``final``: what of it cannot be undone."""

    intent: Intent
    final: tuple[FinalStep, ...] = ()


def announce(cycle: Cycle, record: Record, writes: Iterable[Announcement]) -> None:
    """Store the intents of these writes, and the record with them, in one transaction. The calls come after.

    Every ``FinalStep`` of a cycle passes here. Raises ``NotAdmitted``, before anything is stored, for one that the guard did
    not admit.
    """
    writes = list(writes)
    for write in writes:
        for step in write.final:
            confirm(cycle, record, step.link, step.kind)
    record.intents += [write.intent for write in writes]
    commit(cycle.store, record)


# --- Partner Center --------------------------------------------------------------------------------------------------


def write_referrals(cycle: Cycle, decisions: Sequence[Decision]) -> list[tuple[Decision, Outcome]]:
    """Carry out the steps of these decisions. Each with its outcome, in this order."""
    record = Record()
    record.put(*(item.link for item in decisions))
    announce(cycle, record, [_of_steps(cycle, item) for item in decisions])
    batch = [
        ReferralWrite(item.link.referral, item.steps, _may_search(item.link))
        for item in decisions
        if item.link.referral is not None
    ]
    return list(zip(decisions, cycle.referrals.write(batch), strict=True))


def post_referral(cycle: Cycle, link: Link, fields: Fields, known: Fields, cause: str) -> Outcome:
    """The post that shares an opportunity; its id is what the referral is found by. ``known``: what the record holds."""
    steps = [FinalStep(kind, link, cause) for kind in kinds_of_post(cycle, fields)]
    return _post(cycle, link, fields, known, steps)


def kinds_of_post(cycle: Cycle, fields: Fields) -> tuple[FinalKind, ...]:
    """What of the post of a new referral cannot be undone: with ``one_post`` it invites Microsoft as well."""
    invites = fields.get("deal_type") == DealType.COSELL and cycle.rules.cosell_recipe == "one_post"
    return (FinalKind.POST, FinalKind.INVITE) if invites else (FinalKind.POST,)


def post_invitation(
    cycle: Cycle, link: Link, fields: Fields, known: Fields, cause: str, engagement: str
) -> Outcome:
    """The post that invites Microsoft into this engagement."""
    return _post(cycle, link, fields, known, [FinalStep(FinalKind.INVITE, link, cause)], engagement)


def _post(
    cycle: Cycle,
    link: Link,
    fields: Fields,
    known: Fields,
    steps: Sequence[FinalStep],
    engagement: str | None = None,
) -> Outcome:
    record = Record()
    record.put(link)
    intent = Intent(link.key, Side.PARTNER_CENTER, True, "", fields, known, cycle.id, cycle.now)
    announce(cycle, record, [Announcement(intent, tuple(steps))])
    return cycle.referrals.create(ReferralDraft(link.opportunity_id or "", fields, engagement))


def _of_steps(cycle: Cycle, decision: Decision) -> Announcement:
    link = decision.link
    fields: dict[str, Value] = {}
    for step in decision.steps:
        fields |= step.fields
        if step.state is not None:
            fields["state"] = step.state.value
    intent = _update(cycle, link, Side.PARTNER_CENTER, link.referral, fields, link.opportunity)
    return Announcement(intent, tuple(FinalStep(kind, link, rule) for kind, rule in final_effects(decision)))


# --- the CRM ---------------------------------------------------------------------------------------------------------


def write_opportunities(
    cycle: Cycle, record: Record, plans: Sequence[CrmPlan]
) -> list[tuple[CrmPlan, Outcome]]:
    """Carry out these plans, after the record is stored. Each with its outcome, in this order; there may be none."""
    intents = [_of_plan(cycle, item) for item in plans if item.decision.crm.keys() & {*SHARED, "stage"}]
    announce(cycle, record, intents)
    batch = [
        _of_opportunity(item, item.status.link.opportunity)
        for item in plans
        if item.status.link.opportunity is not None
    ]
    return list(zip(plans, cycle.crm.write(batch), strict=True)) if plans else []


def _of_opportunity(plan: CrmPlan, before: Snapshot) -> OpportunityWrite:
    words = {name: value for name, value in plan.status.fields.items() if name in STATUS_WORDS}
    fields = {name: value for name, value in plan.fields.items() if name not in words}
    return OpportunityWrite(before, fields, _may_search(plan.decision.link), words)


def create_opportunities(
    cycle: Cycle, record: Record, drafts: Sequence[tuple[Link, OpportunityDraft, Fields]]
) -> list[Outcome]:
    """Make an opportunity per draft, after the record is stored. With each draft what the referral holds now."""
    announce(
        cycle,
        record,
        [
            Announcement(Intent(link.key, Side.CRM, True, "", draft.fields, source, cycle.id, cycle.now))
            for link, draft, source in drafts
        ],
    )
    return list(cycle.crm.create([draft for _, draft, _ in drafts]))


def write_status(cycle: Cycle, writes: Sequence[OpportunityWrite]) -> list[Outcome]:
    """Write nothing but our own fields, which may be repeated and so needs no intent."""
    return list(cycle.crm.write(writes))


def _may_search(link: Link) -> bool:
    """Whether a refusal that names no field may be searched for: once per content, for a change of it frees the deal."""
    failure = link.memory.failure
    return failure is None or failure.transient or failure.locked


def _of_plan(cycle: Cycle, plan: CrmPlan) -> Announcement:
    link = plan.status.link
    moment = {name: value for name, value in plan.status.fields.items() if name == "last_sync"}
    fields = {**plan.decision.crm, **moment}
    return Announcement(_update(cycle, link, Side.CRM, link.opportunity, fields, link.referral))


def _update(
    cycle: Cycle, link: Link, side: Side, written: Snapshot | None, fields: Fields, source: Snapshot | None
) -> Intent:
    known = {name: source[name] for name in fields if source is not None and name in source.fields}
    version = written.version if written else ""
    return Intent(link.key, side, False, version, fields, known, cycle.id, cycle.now)
