"""One cycle: read, check, decide, apply, record.

*Read* stages what changed on either side in the store and moves the watermarks: from then on it cannot be forgotten.
*Check* stops the cycle before anything is written, where what follows is not what usually does. *Decide*, *apply* and
*record* then go through the deals that are due, a chunk at a time, so that memory is bounded by a chunk and a crash costs
at most one. Within a chunk Partner Center is written first and the CRM second, because the CRM's record must tell what
Partner Center really took (``linked``).

Each write is announced to the store before it is made (an intent, ``apply``) and recorded with its consequences after
(``record``); an intent that is still open at the next look is settled by reading (``recover``). A record that turns out
stale is read and decided again, at most three times. A failure of one record concerns that record alone (``isolate``); an
outage of a system ends the cycle after what landed was recorded.

Deals born in the CRM come last, when every referral that was pulled has found its opportunity (``publish``); then
Microsoft's side of those that wait for it is read (``engagements``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from cosell_sync import tracing
from cosell_sync.core.memory import Link, Phase
from cosell_sync.cycle import capabilities, schedule
from cosell_sync.cycle.binding import check_binding, tell_binding
from cosell_sync.cycle.commands import run_commands
from cosell_sync.cycle.context import Collect, Cycle, Progress, Services, Work, collect_nothing
from cosell_sync.cycle.engagements import await_microsoft, invite_microsoft, read_engagements
from cosell_sync.cycle.full_compare import compare_when_due
from cosell_sync.cycle.guard import check_preconditions, read_anew_if_broken, requeue_withheld
from cosell_sync.cycle.intake import take_in
from cosell_sync.cycle.isolate import isolate, place
from cosell_sync.cycle.linked import exchange
from cosell_sync.cycle.publish import defer_wishes, publish_all
from cosell_sync.cycle.pull import correct_times, pull, requeue_after_rule_change
from cosell_sync.cycle.record import Record, commit
from cosell_sync.cycle.recover import settle_open_intents
from cosell_sync.cycle.reread import still_present
from cosell_sync.cycle.safety import (
    check_clock,
    check_planned_changes,
    check_shape,
    check_stages,
    shape_as_it_is,
)
from cosell_sync.cycle.summarize import summarize
from cosell_sync.errors import AuthFailed, Broken, CosellError, OutsideError, Surprise
from cosell_sync.summary import Counts, CycleSummary

log = structlog.get_logger("cosell_sync.cycle")


def run_cycle(
    world: Services,
    cycle_id: str,
    *,
    accept: bool = False,
    approve: bool | None = None,
    collect: Collect | None = None,
) -> CycleSummary:
    """Run one cycle and emit its ``cycle.finished``.

    ``accept``: let a plan through that would be stopped as a surprise. ``approve``: and what the guard would withhold; None:
    as ``accept``. ``collect``: receives what is found about each deal.
    Raises OutsideError (a system is away or refused the sign-in), Surprise, and Broken (an error that nobody foresaw),
    after ``cycle.finished``; ConfigError (ForeignSystem among them) without it.
    """
    approve = accept if approve is None else approve
    cycle = Cycle(world, cycle_id, world.clock(), collect or collect_nothing, accept, approve)
    started, before = time.monotonic(), _calls(world)
    failure: OutsideError | Surprise | Broken | None = None
    with (
        structlog.contextvars.bound_contextvars(cycle_id=cycle_id),
        tracing.span("cycle", cycle_id=cycle_id, connection=world.settings.connection) as trace,
    ):
        try:
            _cycle(cycle)
        except Exception as error:  # noqa: BLE001 - an error that nobody foresaw is reported by its type and place
            failure = _reported(error)
        schedule.log_forecasts(cycle)
        summary = summarize(cycle, time.monotonic() - started, _calls(world) - before, failure)
        log.info("cycle.finished", **summary.as_event())
        world.finished(summary)
        trace.ended(summary.exit_code)
    if failure is not None:
        raise failure
    return summary


def _cycle(cycle: Cycle) -> None:
    """Read, check; then decide, apply and record chunk by chunk."""
    read(cycle)
    deals = check_planned_changes(cycle)
    for chunk in schedule.chunks(cycle):
        isolate(cycle, chunk, sync_chunk)
        cycle.progress(Progress(Work.CARRYING, len(cycle.counters.looked_at), total=deals))
        end_if_unavailable(cycle)
    for wishes in schedule.wishes(cycle):
        isolate(cycle, wishes, publish_chunk)
        end_if_unavailable(cycle)
    exchange(cycle, read_engagements(cycle))
    capabilities.end(cycle)
    end_if_unavailable(cycle)


def read(cycle: Cycle) -> None:
    """Whose records these are, what people asked for, what the CRM can hold, what changed on either side."""
    schedule.begin(cycle)
    new = check_binding(cycle)
    cycle.state = cycle.store.cycle_state()
    read_anew_if_broken(cycle)
    cycle.shape = shape_as_it_is(cycle)
    run_commands(cycle)
    record = Record()
    check_shape(cycle, record)
    check_stages(cycle)
    check_preconditions(cycle, record)
    if cycle.accept:
        requeue_withheld(cycle, record)  # to let it through, or for a plan to show it
    requeue_after_rule_change(cycle, record)
    capabilities.recall(cycle, record)
    commit(cycle.store, record)
    record.bindings.update(new)
    pull(cycle, record)
    check_clock(cycle)
    correct_times(cycle, record)
    compare_when_due(cycle, record)
    capabilities.collect(cycle, record)
    commit(cycle.store, record)
    tell_binding(new)
    schedule.reading_done(cycle)


def sync_chunk(cycle: Cycle, chunk: Sequence[Link]) -> None:
    """Bring these deals to where nothing is left to do: settle what is open, pair what is not, exchange."""
    cycle.counters.looked_at.update(link.key for link in chunk)
    links = settle_open_intents(cycle, chunk)
    await_microsoft(cycle, links)
    links = still_present(cycle, defer_wishes(cycle, links))
    pairs = [link for link in links if link.phase is Phase.LINKED]
    if waiting := [link for link in links if link.phase is Phase.WAITING]:
        taken = take_in(cycle, waiting)
        await_microsoft(cycle, [*taken.pairs, *taken.made])
        pairs += taken.pairs
    exchange(cycle, pairs)
    exchange(cycle, invite_microsoft(cycle, pairs))


def publish_chunk(cycle: Cycle, wishes: Sequence[Link]) -> None:
    """Share these opportunities, and exchange the new pairs at once."""
    made = publish_all(cycle, wishes)
    await_microsoft(cycle, made)
    exchange(cycle, made)
    exchange(cycle, invite_microsoft(cycle, made))


def end_if_unavailable(cycle: Cycle) -> None:
    """What landed is recorded; now a system that went away ends the cycle."""
    for outage in (cycle.referrals.outage, cycle.crm.outage):
        if outage is not None:
            raise outage


def _reported(error: Exception) -> OutsideError | Surprise | Broken:
    """What ended the cycle early, logged by its facts. Its text may be people's data. Other errors of ours are raised."""
    match error:
        case Surprise():
            log.error("cycle.surprise", **error.facts)
            return error
        case OutsideError():
            told = {"reason": str(error), "hint": error.hint} if isinstance(error, AuthFailed) else {}
            log.error("system.failed", system=error.system, code=error.code, status=error.status, **told)
            return error
        case CosellError():
            raise error
    broken = Broken(type(error).__name__, place(error))
    broken.__cause__ = error
    log.error("cycle.broken", kind=broken.kind, place=broken.place)
    return broken


def _calls(world: Services) -> Counts:
    return Counts(world.referrals.calls, world.crm.calls)
