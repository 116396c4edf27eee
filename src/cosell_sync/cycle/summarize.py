"""Makes the summary of a cycle from what it counted, from the store and from the numbers of calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.memory import Phase
from cosell_sync.cycle.context import Cycle
from cosell_sync.errors import Broken, OutsideError, Surprise, Unavailable
from cosell_sync.ports import DealCount
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH, Counts, CycleSummary

_ASKING = {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}


def summarize(cycle: Cycle, duration: float, calls: Counts, failure: Exception | None) -> CycleSummary:
    """The summary. ``duration``: seconds. ``calls``: API calls of this cycle. ``failure``: what ended it early, if anything."""
    counters = cycle.counters
    counts: Sequence[DealCount] = ()
    with suppress(Unavailable):  # a store that is away has ended the cycle already
        counts = cycle.store.counts()
    touched = counters.written[Side.PARTNER_CENTER] | counters.written[Side.CRM] | counters.failed
    return CycleSummary(
        cycle_id=cycle.id,
        duration_s=duration,
        pulled=_both(counters.pulled),
        written=_both({side: len(keys) for side, keys in counters.written.items()}),
        created=_both(counters.created),
        unchanged=max(len(counters.looked_at - touched) - counters.created[Side.CRM], 0),
        conflicts=counters.conflicts,
        rejected=sum(item.deals for item in counts if item.rejected),
        failed=len(counters.failed),
        parked=sum(item.deals for item in counts if item.parked),
        withheld=sum(item.deals for item in counts if item.withheld),
        broken=len(cycle.state.broken),
        api_calls=calls,
        exit_code=_exit_code(cycle, counts, failure),
    )


def _exit_code(cycle: Cycle, counts: Sequence[DealCount], failure: Exception | None) -> int:
    if isinstance(failure, OutsideError | Broken):
        return OUT_OF_REACH
    open_phases = {Phase.LINKED, Phase.WAITING}
    asking = any(item.deals for item in counts if item.phase in open_phases and item.sync_state in _ASKING)
    asking = asking or bool(cycle.state.broken) or isinstance(failure, Surprise)
    return NEEDS_A_PERSON if asking else NEEDS_NOBODY


def _both(numbers: dict[Side, int]) -> Counts:
    return Counts(partner_center=numbers[Side.PARTNER_CENTER], crm=numbers[Side.CRM])
