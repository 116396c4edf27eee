"""One cycle: pull, decide, apply, remember, in this order and visibly so.

*Pull* stages what changed on either side in the store and moves the watermarks: from then on it cannot be forgotten.
*Decide*, *apply* and *remember* then go through the deals that are due, a chunk at a time, so that memory is bounded by
a chunk and a crash costs at most one. Within a chunk Partner Center is written first and the CRM second, because the
CRM's record must tell what Partner Center really took; the second decision is made from what landed.

Each write is announced to the store before it is made (an intent) and recorded with its consequences after; an intent
that is still open at the next look is settled by reading. A record that turns out stale is read and decided again, at
most three times. One record's trouble stays its own; a system's trouble ends the cycle after what landed was recorded.

Deals born in the CRM come last, when every referral that was pulled has found its opportunity; then Microsoft's side of
those that wait for it is read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from cosell_sync.core.deal import Link, Phase, Side, SyncState
from cosell_sync.core.quota import Urgency
from cosell_sync.cycle import schedule
from cosell_sync.cycle.commands import obey_all
from cosell_sync.cycle.context import Report, Run, World
from cosell_sync.cycle.engagements import expect, glance, look
from cosell_sync.cycle.intake import introduce
from cosell_sync.cycle.isolate import apart, place
from cosell_sync.cycle.linked import exchange
from cosell_sync.cycle.publish import invite_all, set_aside, settle_posts, share_all
from cosell_sync.cycle.pull import pull
from cosell_sync.cycle.reread import complete, note_gone, settle_intents
from cosell_sync.cycle.safety import CHUNK, doubt
from cosell_sync.errors import Broken, CosellError, OutsideError, Surprise, Unavailable
from cosell_sync.ports import Tally
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH, Counts, CycleSummary

ROUNDS = 3

log = structlog.get_logger("cosell_sync.cycle")


def run_cycle(
    world: World, cycle_id: str, *, accept: bool = False, report: Report | None = None
) -> CycleSummary:
    """Run one cycle and emit its ``cycle.finished``.

    ``accept``: let a plan through that would be stopped as a surprise.
    Raises OutsideError (a system is away or refused the sign-in), Surprise, and Broken (an error that nobody foresaw),
    after ``cycle.finished``.
    """
    run = Run(world, cycle_id, world.clock(), report or (lambda _finding: None), accept=accept)
    started, before = time.monotonic(), (world.referrals.calls, world.crm.calls)
    failure: OutsideError | Surprise | Broken | None = None
    with structlog.contextvars.bound_contextvars(cycle_id=cycle_id):
        try:
            _go(run)
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
        schedule.foresee(run)
        summary = _summary(run, time.monotonic() - started, before, failure)
        log.info("cycle.finished", **summary.as_event())
    if failure is not None:
        raise failure
    return summary


def _go(run: Run) -> None:
    schedule.begin(run)
    run.shape = run.world.crm.shape()
    obey_all(run)
    pull(run)
    schedule.looked(run)
    doubt(run)
    for chunk in schedule.chunks(run):
        apart(run, chunk, work)
        end_if_away(run)
    for start in range(0, len(run.wishes) if schedule.may(run, Urgency.STATUS) else 0, CHUNK):
        wishes = run.world.store.by_keys(run.wishes[start : start + CHUNK])
        apart(run, list(wishes.values()), give)
        end_if_away(run)
    glance(run, run.changed)
    _exchange(run, look(run))
    end_if_away(run)


def end_if_away(run: Run) -> None:
    """What landed is recorded; now a system that went away ends the cycle."""
    for trouble in (run.world.referrals.trouble, run.world.crm.trouble):
        if trouble is not None:
            raise trouble


def give(run: Run, links: Sequence[Link]) -> None:
    made = share_all(run, links)
    expect(run, made)
    carry(run, made)


def work(run: Run, chunk: Sequence[Link]) -> None:
    run.tally.looked_at.update(link.key for link in chunk)
    links = settle_posts(run, chunk)
    expect(run, links)
    links = set_aside(run, settle_intents(run, links))
    note_gone(run, [link for link in links if link.memory.gone is not None])
    links = [link for link in links if link.memory.gone is None]
    links = [
        *complete(run, [link for link in links if link.phase is Phase.LINKED]),
        *introduce(run, links),
    ]
    carry(run, links)


def carry(run: Run, links: Sequence[Link]) -> None:
    """Exchange until nothing is stale; then the invitations, which need what was exchanged, and their news."""
    _exchange(run, links)
    if invited := invite_all(run, [link.key for link in links]):
        expect(run, invited)
        _exchange(run, invited)


def _exchange(run: Run, links: Sequence[Link]) -> None:
    for attempt in range(ROUNDS):
        links = exchange(run, links, last=attempt == ROUNDS - 1)
        if not links:
            break


def _summary(run: Run, duration: float, before: tuple[int, int], failure: Exception | None) -> CycleSummary:
    tally, world = run.tally, run.world
    counts: Sequence[Tally] = ()
    with suppress(Unavailable):  # a store that is away has ended the cycle already
        counts = world.store.counts()
    needs = any(
        item.deals
        for item in counts
        if item.phase in {Phase.LINKED, Phase.WAITING}
        and item.sync_state in {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}
    )
    touched = tally.written[Side.PARTNER_CENTER] | tally.written[Side.CRM] | tally.failed
    code = NEEDS_A_PERSON if needs or isinstance(failure, Surprise) else NEEDS_NOBODY
    return CycleSummary(
        cycle_id=run.id,
        duration_s=duration,
        pulled=_counts(tally.pulled),
        written=_counts({side: len(keys) for side, keys in tally.written.items()}),
        created=_counts(tally.created),
        unchanged=max(len(tally.looked_at - touched) - tally.created[Side.CRM], 0),
        conflicts=tally.conflicts,
        rejected=sum(item.deals for item in counts if item.rejected),
        failed=len(tally.failed),
        parked=sum(item.deals for item in counts if item.parked),
        api_calls=Counts(world.referrals.calls - before[0], world.crm.calls - before[1]),
        exit_code=OUT_OF_REACH if isinstance(failure, OutsideError | Broken) else code,
    )


def _counts(numbers: dict[Side, int]) -> Counts:
    return Counts(partner_center=numbers[Side.PARTNER_CENTER], crm=numbers[Side.CRM])
