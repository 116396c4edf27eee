"""Whether a closed opportunity takes our own fields: status, state, message. Asked once, and remembered.

No page says whether a closed row may be written, and many orgs forbid it by a rule of their own. With ``closed_rows: auto`` the
first closed record that is to be told something is written alone; what the CRM answers counts for all of them: a refusal for
a day, a success until the configuration or the CRM's shape changes (``cycle.capabilities``). A record that refuses although
others take it is left alone until it changes. Either way the deal does not fail: nothing but words is missing, and these
stand in ``deals list`` (``Memory.untold``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from cosell_sync.core.capabilities import NO, TAKEN, YES, Capability, Finding
from cosell_sync.core.deal import Fields, Side, Snapshot, state_of
from cosell_sync.core.decision import Decision
from cosell_sync.core.fields import KINDS, STATUS_FIELDS, Kind
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import Action, Link
from cosell_sync.core.normalize import same
from cosell_sync.core.retry import content_digest, freed_from
from cosell_sync.core.status import StatusReport
from cosell_sync.cycle import capabilities
from cosell_sync.cycle.context import CrmPlan, Cycle, ids
from cosell_sync.cycle.journal import journal_entry
from cosell_sync.cycle.record import Record
from cosell_sync.errors import RecordError, Rejected
from cosell_sync.ports import Outcome

# Fields in rows of their own, which do not close with the opportunity.
_ROWS: Final = frozenset(
    name for name, kind in KINDS.items() if kind in {Kind.MEMBERS, Kind.SOLUTIONS, Kind.CUSTOMER}
)
# Codes of our own adapters: they say nothing about whether the row takes writes.
_OUR_CODES: Final = frozenset(
    {"closed_row", "fixed", "computed", "unknown_choice", "unknown_status", "protocol", "foreign_host"}
)

log = structlog.get_logger("cosell_sync.cycle")


def writable(cycle: Cycle) -> bool | None:
    """Whether closed rows take our fields; None: not known yet, so one may be tried."""
    configured = cycle.settings.closed_rows
    if configured != "auto":
        return configured == "on"
    known = cycle.verdicts.get(Capability.CLOSED_ROWS)
    return known.answer == YES if known else None


def left_alone(cycle: Cycle, link: Link) -> bool:
    """Whether nothing of the opportunity's own row is to be written: it is closed, and refuses."""
    opportunity = link.opportunity
    if opportunity is None or not opportunity.flag("is_closed"):
        return False
    return writable(cycle) is False or _is_shut(cycle, link)


def without_closed(cycle: Cycle, decision: Decision) -> Decision:
    """The decision less what a closed row does not take. A move out of the closed state is no such write."""
    if "stage" in decision.crm or not left_alone(cycle, decision.link):
        return decision
    kept = {} if _is_shut(cycle, decision.link) else {k: v for k, v in decision.crm.items() if k in _ROWS}
    effects = tuple(item for item in decision.effects if item.side is not Side.CRM or item.field in kept)
    return replace(decision, crm=kept, effects=effects)


def untold(cycle: Cycle, decision: Decision, status: StatusReport) -> StatusReport:
    """The report with its words kept in memory where the closed row cannot have them, else to be written."""
    unsaid = ""
    fields = status.fields
    if "stage" not in decision.crm and left_alone(cycle, status.link):
        unsaid, fields = (status.message if fields else ""), {}
    memory = replace(status.link.memory, untold=unsaid)
    return replace(status, link=replace(status.link, memory=memory), fields=fields)


def to_be_asked(cycle: Cycle, plans: Sequence[CrmPlan]) -> CrmPlan | None:
    """The one plan that finds out; None where it is known, or none of these writes is to a row that stays closed."""
    if writable(cycle) is not None:
        return None
    return next((plan for plan in plans if _stays_closed(plan)), None)


def learn(cycle: Cycle, record: Record, before: Snapshot | None, fields: Fields, outcome: Outcome) -> None:
    """Remember what this write says of closed rows, if it says anything."""
    if writable(cycle) is not None or not _closed_before_and_after(before, fields):
        return
    answer = _answer(fields, outcome)
    if answer is not None:
        code = outcome.error.code if outcome.error and not answer else TAKEN
        capabilities.note(cycle, record, Finding(Capability.CLOSED_ROWS, YES if answer else NO, code))


def is_done(plan: CrmPlan, error: RecordError) -> bool:
    """Whether a refused write leaves nothing to do: the record is closed, and the deal is over or only words were written."""
    if not isinstance(error, Rejected) or not _stays_closed(plan):
        return False
    referral = plan.status.link.referral
    return (referral is not None and state_of(referral) in TERMINAL) or not plan.decision.crm


def done(cycle: Cycle, record: Record, plan: CrmPlan, outcome: Outcome) -> None:
    """A closed record takes nothing (more): that is no failure; what it was to be told is remembered."""
    link, reported = plan.decision.link, plan.status.link.memory
    link = replace(link, opportunity=outcome.snapshot or link.opportunity)
    memory = replace(
        freed_from(link.memory, Side.CRM),
        sync_state=plan.status.state,
        rejected=reported.rejected,
        notices=reported.notices,
        untold=plan.status.message,
    )
    link = replace(link, memory=memory, due=plan.status.link.due, dirty=False)
    if writable(cycle) is False:
        link = replace(link, dirty=bool(plan.decision.crm.keys() & _ROWS))  # related rows go without the rest
    else:
        link = replace(link, memory=replace(memory, shut=_shut_mark(cycle, link)))
    code = outcome.error.code if outcome.error else ""
    log.info("deal.untold", **ids(link), code=code)
    record.settle(link, Side.CRM)
    record.journal.append(journal_entry(cycle, link, Side.CRM, Action.FAILURE, f"closed record: {code}"))
    record.put(link)


def _stays_closed(plan: CrmPlan) -> bool:
    return _closed_before_and_after(plan.status.link.opportunity, plan.fields)


def _closed_before_and_after(before: Snapshot | None, fields: Fields) -> bool:
    return before is not None and before.flag("is_closed") and "stage" not in fields


def _answer(fields: Fields, outcome: Outcome) -> bool | None:
    """Whether our own fields stand there now, or were refused; None where the outcome says neither."""
    own = {name: value for name, value in fields.items() if name in STATUS_FIELDS}
    after = outcome.snapshot
    if (
        own
        and after is not None
        and all(same(KINDS[name], value, after[name]) for name, value in own.items())
    ):
        return True
    refused = isinstance(outcome.error, Rejected) and outcome.error.code not in _OUR_CODES
    return False if refused else None


def _is_shut(cycle: Cycle, link: Link) -> bool:
    return bool(link.memory.shut) and link.memory.shut == _shut_mark(cycle, link)


def _shut_mark(cycle: Cycle, link: Link) -> str:
    return f"{content_digest(link)}/{cycle.state.rules or ''}"
