"""One cycle: pull, decide, apply, remember, in this order and visibly so.

*Pull* stages what changed on either side in the store and moves the watermarks: from then on it cannot be forgotten.
*Decide*, *apply* and *remember* then go through the deals that are due, a chunk at a time, so that memory is bounded by
a chunk and a crash costs at most one. Within a chunk Partner Center is written first and the CRM second, because the
CRM's record must tell what Partner Center really took; the second decision is made from what landed.

Each write is announced to the store before it is made (an intent) and recorded with its consequences after; an intent
that is still open at the next look is settled by reading. A record that turns out stale is read and decided again, at
most three times. A failure of one record concerns that record alone; an outage of a system ends the cycle after what landed was recorded.

Deals born in the CRM come last, when every referral that was pulled has found its opportunity; then Microsoft's side of
those that wait for it is read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle import schedule
from cosell_sync.cycle.commands import run_commands
from cosell_sync.cycle.context import Collect, Cycle, Services
from cosell_sync.cycle.engagements import await_microsoft, queue_engagements, read_engagements
from cosell_sync.cycle.intake import take_in
from cosell_sync.cycle.isolate import isolate, place
from cosell_sync.cycle.linked import sync_links
from cosell_sync.cycle.publish import invite_microsoft, publish_all, set_aside, settle_posts
from cosell_sync.cycle.pull import pull
from cosell_sync.cycle.reread import complete, note_gone, settle_intents
from cosell_sync.cycle.safety import CHUNK, check_planned_changes
from cosell_sync.errors import Broken, CosellError, OutsideError, Surprise, Unavailable
from cosell_sync.ports import DealCount
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH, Counts, CycleSummary

ROUNDS = 3

log = structlog.get_logger("cosell_sync.cycle")


def run_cycle(
    world: Services, cycle_id: str, *, accept: bool = False, collect: Collect | None = None
) -> CycleSummary:
    """Cycle one cycle and emit its ``cycle.finished``.

    ``accept``: let a plan through that would be stopped as a surprise.
    Raises OutsideError (a system is away or refused the sign-in), Surprise, and Broken (an error that nobody foresaw),
    after ``cycle.finished``.
    """
    cycle = Cycle(world, cycle_id, world.clock(), collect or (lambda _plan: None), accept=accept)
    started, before = time.monotonic(), (world.referrals.calls, world.crm.calls)
    failure: OutsideError | Surprise | Broken | None = None
    with structlog.contextvars.bound_contextvars(cycle_id=cycle_id):
        try:
            _go(cycle)
        except (OutsideError, Surprise) as error:
            failure = error
            if isinstance(error, Surprise):
                log.error("cycle.surprise", **error.facts)  # noqa: TRY400 - facts, no traceback
            else:
                log.error("system.failed", system=error.system, code=error.code, status=error.status)  # noqa: TRY400 - facts, no traceback
        except CosellError:
            raise
        except Exception as error:  # noqa: BLE001 - told by type and place, never by its words, which may be people's data
            failure = Broken(type(error).__name__, place(error))
            failure.__cause__ = error
            log.error("cycle.broken", kind=failure.kind, place=failure.place)  # noqa: TRY400 - facts, no traceback
        schedule.log_forecasts(cycle)
        summary = _summary(cycle, time.monotonic() - started, before, failure)
        log.info("cycle.finished", **summary.as_event())
    if failure is not None:
        raise failure
    return summary


def _go(cycle: Cycle) -> None:
    schedule.begin(cycle)
    cycle.shape = cycle.crm.shape()
    run_commands(cycle)
    pull(cycle)
    schedule.reading_done(cycle)
    check_planned_changes(cycle)
    for chunk in schedule.chunks(cycle):
        isolate(cycle, chunk, process_chunk)
        end_if_unavailable(cycle)
    for start in range(0, len(cycle.wishes) if schedule.may(cycle, Urgency.STATUS) else 0, CHUNK):
        wishes = cycle.store.by_keys(cycle.wishes[start : start + CHUNK])
        isolate(cycle, list(wishes.values()), publish_chunk)
        end_if_unavailable(cycle)
    queue_engagements(cycle, cycle.changed)
    _sync_until_settled(cycle, read_engagements(cycle))
    end_if_unavailable(cycle)


def end_if_unavailable(cycle: Cycle) -> None:
    """What landed is recorded; now a system that went away ends the cycle."""
    for outage in (cycle.referrals.outage, cycle.crm.outage):
        if outage is not None:
            raise outage


def publish_chunk(cycle: Cycle, links: Sequence[Link]) -> None:
    made = publish_all(cycle, links)
    await_microsoft(cycle, made)
    sync_pairs(cycle, made)


def process_chunk(cycle: Cycle, chunk: Sequence[Link]) -> None:
    cycle.counters.looked_at.update(link.key for link in chunk)
    links = settle_posts(cycle, chunk)
    await_microsoft(cycle, links)
    links = set_aside(cycle, settle_intents(cycle, links))
    note_gone(cycle, [link for link in links if link.memory.gone is not None])
    links = [link for link in links if link.memory.gone is None]
    links = [
        *complete(cycle, [link for link in links if link.phase is Phase.LINKED]),
        *take_in(cycle, links),
    ]
    sync_pairs(cycle, links)


def sync_pairs(cycle: Cycle, links: Sequence[Link]) -> None:
    """Exchange until nothing is stale; then the invitations, which need what was exchanged, and their news."""
    _sync_until_settled(cycle, links)
    if invited := invite_microsoft(cycle, [link.key for link in links]):
        await_microsoft(cycle, invited)
        _sync_until_settled(cycle, invited)


def _sync_until_settled(cycle: Cycle, links: Sequence[Link]) -> None:
    for attempt in range(ROUNDS):
        links = sync_links(cycle, links, last=attempt == ROUNDS - 1)
        if not links:
            break


def _summary(
    cycle: Cycle, duration: float, before: tuple[int, int], failure: Exception | None
) -> CycleSummary:
    counters, world = cycle.counters, cycle.services
    counts: Sequence[DealCount] = ()
    with suppress(Unavailable):  # a store that is away has ended the cycle already
        counts = world.store.counts()
    needs = any(
        item.deals
        for item in counts
        if item.phase in {Phase.LINKED, Phase.WAITING}
        and item.sync_state in {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}
    )
    touched = counters.written[Side.PARTNER_CENTER] | counters.written[Side.CRM] | counters.failed
    code = NEEDS_A_PERSON if needs or isinstance(failure, Surprise) else NEEDS_NOBODY
    return CycleSummary(
        cycle_id=cycle.id,
        duration_s=duration,
        pulled=_counts(counters.pulled),
        written=_counts({side: len(keys) for side, keys in counters.written.items()}),
        created=_counts(counters.created),
        unchanged=max(len(counters.looked_at - touched) - counters.created[Side.CRM], 0),
        conflicts=counters.conflicts,
        rejected=sum(item.deals for item in counts if item.rejected),
        failed=len(counters.failed),
        parked=sum(item.deals for item in counts if item.parked),
        api_calls=Counts(world.referrals.calls - before[0], world.crm.calls - before[1]),
        exit_code=OUT_OF_REACH if isinstance(failure, OutsideError | Broken) else code,
    )


def _counts(numbers: dict[Side, int]) -> Counts:
    return Counts(partner_center=numbers[Side.PARTNER_CENTER], crm=numbers[Side.CRM])
