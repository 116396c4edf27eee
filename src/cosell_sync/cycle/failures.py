"""What a refusal means for a deal: its next attempt, that it is parked, or fields that wait while the rest goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import structlog

from cosell_sync.core.deal import Fields, Side, SyncState
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Action, Link
from cosell_sync.core.outcome import after_failed_write
from cosell_sync.core.refusals import MOVES, is_failure, is_refusal, remember_refused
from cosell_sync.core.status import LOCK_GRACE
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.journal import journal_entry
from cosell_sync.cycle.record import Record
from cosell_sync.errors import Gone, RecordError, Stale
from cosell_sync.ports import Outcome

log = structlog.get_logger("cosell_sync.cycle")


def deal_error(link: Link, side: Side, sent: Fields, outcome: Outcome) -> RecordError | None:
    """Why the deal itself failed; None where nothing did, or only fields that are held while the rest goes on."""
    of_fields = any(outcome.error is error for error in outcome.refused.values())
    if of_fields and not is_failure(link, side, sent, outcome.refused, outcome.snapshot):
        return None
    return outcome.error


def failure(
    cycle: Cycle, record: Record, link: Link, side: Side, error: RecordError, refused: Collection[str] = ()
) -> Link:
    """The link after a write to this side failed: its reason, its next attempt, or that it is parked.

    ``refused``: our names of the fields that it is about, where that is known.
    """
    failing = after_failed_write(link, side, error, cycle.now, cycle.settings.retry_policy, refused)
    cycle.counters.failed.add(link.key)
    refused = failing.memory.failure.fields if failing.memory.failure else ()
    facts = {"side": side, "code": error.code, "status": error.status, "request_id": error.request_id}
    facts["field"] = ", ".join(refused) or None
    if isinstance(error, Gone):
        log.warning("deal.gone", **ids(link), side=side)
    elif failing.memory.parked and not link.memory.parked:
        log.error("deal.parked", **ids(link), attempts=failing.memory.attempts, **facts)
    elif failing.memory.failure is not None and failing.memory.failure.locked:
        log.warning("deal.locked", **ids(link), **facts)
    else:
        log.warning("deal.refused" if not transient(failing) else "deal.failed", **ids(link), **facts)
    code = error.code or type(error).__name__.lower()
    record.journal.append(journal_entry(cycle, failing, side, Action.FAILURE, code))
    return failing


def given_up(cycle: Cycle, record: Record, links: Iterable[Link]) -> None:
    """Deals whose record changed at each try of this cycle: they fail like any other write."""
    for link in links:
        error = Stale("changed again and again", code="stale")
        record.put(after_failed_write(link, Side.CRM, error, cycle.now, cycle.settings.retry_policy))
        cycle.counters.failed.add(link.key)


def fields_refused(
    cycle: Cycle, record: Record, link: Link, side: Side, sent: Fields, refused: Mapping[str, RecordError]
) -> Link:
    """The link after a side refused some fields of a write that landed but for them. Journals and logs each once."""
    longest = cycle.settings.retry_policy.longest_hold
    known = remember_refused(link, side, sent, refused, cycle.rules, cycle.shape, cycle.now, longest)
    written = link.referral if side is Side.PARTNER_CENTER else link.opportunity
    for name, error in refused.items():
        if name in MOVES or name not in sent or written is None or not is_refusal(error):
            continue
        log.warning(
            "deal.field_refused",
            **ids(link),
            side=side,
            field=cycle.rules.crm_name(name),
            code=error.code,
            status=error.status,
            request_id=error.request_id,
        )
        code = error.code or type(error).__name__.lower()
        record.journal.append(
            journal_entry(cycle, link, side, Action.HOLD, code, name, written[name], sent[name])
        )
    return known


def waiting_for_a_person(cycle: Cycle, failing: Link) -> Link:
    """The link of a create that failed, unless because of a system: its record says who has to act."""
    failed = failing.memory.failure
    if failed is None or failed.transient:
        return failing
    recently_locked = failed.locked and cycle.now - failed.since < LOCK_GRACE
    state = SyncState.WAITING if recently_locked else SyncState.NEEDS_ATTENTION
    return replace(failing, memory=replace(failing.memory, sync_state=state))


def transient(link: Link) -> bool:
    """Whether the deal fails because of a system, not because of itself."""
    return link.memory.failure is not None and link.memory.failure.transient
