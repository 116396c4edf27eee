"""One round over linked deals: decide, write Partner Center, decide again, write the CRM, record.

The CRM comes second because its record must tell what Partner Center really took. What Partner Center took is recorded
together with the intents of the CRM's writes. A record that turns out stale goes back to the caller, read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cosell_sync.core.deal import Side
from cosell_sync.core.decision import Decision
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import blocked_side
from cosell_sync.core.status import status_report
from cosell_sync.cycle import apply, capabilities, closed_rows
from cosell_sync.cycle.context import CrmPlan, Cycle, ReferralResult
from cosell_sync.cycle.decide import plan_crm
from cosell_sync.cycle.failures import given_up, transient
from cosell_sync.cycle.guard import guarded
from cosell_sync.cycle.opportunity_outcomes import opportunity_outcome
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.referral_outcomes import referral_outcome
from cosell_sync.cycle.report import RecordReport, report, words_of
from cosell_sync.cycle.reread import note_gone, read_again
from cosell_sync.cycle.shared_rows import Change, changed_account, follow_account_writes, still_own
from cosell_sync.errors import Stale
from cosell_sync.ports import Outcome

ROUNDS = 3  # times that a deal is decided anew in a cycle because its record changed meanwhile


def exchange(cycle: Cycle, links: Sequence[Link]) -> None:
    """Round after round until nothing is stale, at most ``ROUNDS``. Both sides of the links are known."""
    rounds = ROUNDS
    while links and rounds:
        rounds -= 1
        links = _exchange_once(cycle, links, last=not rounds)


def _exchange_once(cycle: Cycle, links: Sequence[Link], *, last: bool) -> list[Link]:
    """One round. Returns the links that turned out stale, read again; none in the last round."""
    record = Record()
    decisions = guarded(cycle, still_own(cycle, links))
    results = {item.link.key: ReferralResult(item.link) for item in decisions}
    decisions = _to_partner_center(cycle, record, decisions, results)
    plans = _plans(cycle, record, decisions, results)
    stale = {key for key, result in results.items() if result.stale} | _to_crm(cycle, record, plans)
    # what Partner Center took stays learned, though the CRM's record turned out stale
    again = [record.links.get(key, result.link) for key, result in results.items() if key in stale]
    if last:
        given_up(cycle, record, again)
        commit(cycle.store, record)
        return []
    return read_again(cycle, again) if again else []


def _to_partner_center(
    cycle: Cycle, record: Record, decisions: Sequence[Decision], results: dict[str, ReferralResult]
) -> list[Decision]:
    """Carry out the steps, and put what became of them into the results. Returns the decisions as they were carried out."""
    carried_out: list[Decision] = []
    for batch in capabilities.in_order(cycle, decisions):
        carried_out += batch
        if writing := [item for item in batch if item.steps]:
            for item, outcome in apply.write_referrals(cycle, writing):
                capabilities.learn(cycle, record, item, outcome)
                taken = capabilities.taken_steps(cycle, item, outcome)
                results[item.link.key] = referral_outcome(cycle, record, item, outcome, taken)
    place = {item.link.key: at for at, item in enumerate(decisions)}
    return sorted(carried_out, key=lambda item: place[item.link.key])


def _plans(
    cycle: Cycle, record: Record, decisions: Sequence[Decision], results: Mapping[str, ReferralResult]
) -> list[CrmPlan]:
    """What is to be written to the CRM. Deals that have nothing to write are recorded as they are now."""
    note_gone(cycle, record, [result.link for result in results.values() if not result.stale])
    plans: list[CrmPlan] = []
    try:
        for decision in decisions:
            result = results[decision.link.key]
            if result.stale or result.link.memory.gone is not None:
                continue
            plan = plan_crm(cycle, record, decision, result)
            if result.link.key in cycle.postponed:
                plan = replace(plan, status=replace(plan.status, link=replace(plan.status.link, dirty=True)))
            if plan.fields and blocked_side(plan.status.link.memory, cycle.now) is not Side.CRM:
                plans.append(plan)
            else:
                record.put(plan.status.link)
    except Exception:
        commit(cycle.store, record)  # what Partner Center took is not forgotten because of one deal's error
        raise
    return plans


def _to_crm(cycle: Cycle, record: Record, plans: Sequence[CrmPlan]) -> set[str]:
    """Carry out the plans and record them. Returns the keys of those that were stale."""
    stale: set[str] = set()
    refused: list[RecordReport] = []
    accounts: list[tuple[str, str, Change]] = []
    first = closed_rows.to_be_asked(cycle, plans)
    asked = [first] if first is not None else []
    others = [plan for plan in plans if plan is not first]
    for some in (asked, others):
        if some is others and asked:
            some = _as_answered(cycle, record, others)  # noqa: PLW2901 - the same plans, less what closed rows refuse
        for plan, outcome in apply.write_opportunities(cycle, record, some):
            closed_rows.learn(cycle, record, plan.status.link.opportunity, plan.fields, outcome)
            if outcome.error is not None and closed_rows.is_done(plan, outcome.error):
                closed_rows.done(cycle, record, plan, outcome)
                continue
            link = opportunity_outcome(cycle, record, plan, outcome)
            if "customer" in plan.decision.crm and (
                changed := changed_account(plan.status.link.opportunity, outcome.snapshot)
            ):
                accounts.append((link.key, *changed))
            if isinstance(outcome.error, Stale):
                stale.add(link.key)
            elif told := _told_of_refusal(cycle, plan, link, outcome):
                refused.append(told)
    follow_account_writes(cycle, record, accounts)
    report(cycle, record, refused)
    return stale


def _told_of_refusal(cycle: Cycle, plan: CrmPlan, link: Link, outcome: Outcome) -> RecordReport | None:
    """What the record is to say of what the CRM refused, or took now that it had refused it; None where there is nothing.

    ``link``: after the write, for only now it is known.
    """
    if (
        (outcome.refused or plan.decision.retried_in_crm)
        and outcome.snapshot is not None
        and not _failed(link)
    ):
        withheld = cycle.guard.withheld.get(link.key)
        decision = decide(link, cycle.rules, cycle.shape, cycle.now, None, withheld)
        status = status_report(decision, (), cycle.shape, cycle.now, cycle.language)
        return RecordReport(replace(status.link, dirty=link.dirty), status.fields)
    landed = outcome.error is None and outcome.snapshot is not None and "stage" not in outcome.refused
    return _refusal(cycle, plan.decision, link) if not landed and _failed(link) else None


def _failed(link: Link) -> bool:
    return link.memory.failure is not None and not transient(link)


def _as_answered(cycle: Cycle, record: Record, plans: Sequence[CrmPlan]) -> list[CrmPlan]:
    """The plans, now that it is known what closed rows take. Those of which nothing is left are recorded as they are."""
    kept = []
    for plan in plans:
        decision = closed_rows.without_closed(cycle, plan.decision)
        now = CrmPlan(decision, closed_rows.untold(cycle, decision, plan.status), plan.news)
        if now.fields:
            kept.append(now)
        else:
            record.put(now.status.link)
    return kept


def _refusal(cycle: Cycle, decision: Decision, failing: Link) -> RecordReport:
    """The CRM refused a change: the record says so, by a write of our own fields alone."""
    status, words = words_of(cycle, replace(decision, link=failing))
    return RecordReport(status.link, words)
