"""Stops a cycle before anything is written, where the world is not the one that we know.

The CRM's shape is compared with the one of the last cycle, our clock with those of the systems, and what would follow from
this cycle's reads with what usually does. Each check that fails ends the cycle and says what was seen; it passes by itself
where the cause does, or once with ``sync --accept``. docs/surprises.md has them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from cosell_sync.core.fields import KINDS, STATUS_FIELDS
from cosell_sync.core.memory import Action, FinalKind, Link, Phase
from cosell_sync.core.rules import CrmShape, Flow, StageFlags, digest
from cosell_sync.cycle.context import Cycle, Progress, Work
from cosell_sync.cycle.decide import foreseeable
from cosell_sync.cycle.guard import close, foresee
from cosell_sync.cycle.publish import posts_of
from cosell_sync.cycle.record import Record, keep_state
from cosell_sync.cycle.schedule import due
from cosell_sync.errors import Surprise

SKEW = timedelta(
    minutes=5
)  # between our clock and theirs; the hold before a deal is closed is three times that
EMPTY = 4  # as many deals are enough to take a side for unreadable; fewer may well have been deleted


def check_planned_changes(cycle: Cycle) -> int | None:
    """Before anything is written: would an unusual share of the deals be closed, vanish or be rewritten?

    In the same pass the steps that cannot be undone are counted, so that too many of a kind are withheld from the first on.
    Returns how many deals are due; None where a person has said that nothing needs to be looked at.
    """
    if cycle.accept and cycle.approve:
        return None
    unusual, totals, deals = 0, Counter[FinalKind](), 0
    for chunk in due(cycle):
        deals += len(chunk)
        cycle.progress(Progress(Work.DECIDING, deals))
        unusual += _changing(cycle, chunk)
        if not cycle.approve:
            foresee(cycle, totals, chunk, posts_of(cycle, chunk))
    close(cycle, totals)
    if unusual > cycle.settings.surprise_min:
        linked = sum(counters.deals for counters in cycle.store.counts() if counters.phase is Phase.LINKED)
        check_share(cycle, "changed", unusual, linked)
    return deals


def _changing(cycle: Cycle, chunk: Iterable[Link]) -> int:
    """How many of these deals vanished or would be written, fields or state, on either side."""
    known = [link for link in chunk if link.phase is Phase.LINKED and link.base_referral]
    return sum(
        decision.link.memory.gone is not None
        or any(effect.action in {Action.UPDATE, Action.MOVE} for effect in decision.effects)
        for decision in foreseeable(cycle, known)
    )


def check_clock(cycle: Cycle) -> None:
    """A clock that is wrong ends holds and deadlines at the wrong time, and a close cannot be taken back."""
    for side, meter in cycle.meters.items():
        if meter.skew is None or abs(meter.skew) <= SKEW or cycle.accept:
            continue
        seconds = round(meter.skew.total_seconds())
        raise Surprise(
            f"this machine's clock is {abs(seconds)} seconds {'behind' if seconds > 0 else 'ahead of'} that of "
            f"{side.value}; nothing was written. Set the clock (NTP); it goes on by itself then",
            what="clock",
            side=side,
            skew_s=seconds,
        )


def shape_as_it_is(cycle: Cycle) -> CrmShape:
    """What the CRM can hold. A process keeps the org as it read it, and the last cycle may have been another's, who has read it
    since: where that one decided by something else, it is read anew before anything follows from the difference.
    """
    kept = cycle.crm.shape()
    if cycle.state.rules in {None, digest(cycle.rules, kept)}:
        return kept
    cycle.crm.forget_shape()
    return cycle.crm.shape()


def check_shape(cycle: Cycle, record: Record) -> None:
    """What the CRM held of the deals in the last cycle and does not any more: each loss, by name."""
    outline, known = _outline(cycle.shape), cycle.state.shape
    if known == outline:
        return
    if lost := _lost(cycle, known) if known and not cycle.accept else []:
        cycle.crm.forget_shape()  # so that the next cycle sees when it is mended
        raise Surprise(
            f"the CRM has no longer what deals are kept in step by, or hides it from the integration user: "
            f"{', '.join(lost)}; nothing was written. Give it back, or, where it is meant so, correct the mapping and "
            "run: cosell-sync sync --accept",
            what="schema",
            lost=lost,
        )
    keep_state(cycle, record, shape=outline)


def check_stages(cycle: Cycle) -> None:
    """A name in the mapping that several stages have, of which none can be guessed.

    One that the CRM counts otherwise is `doctor`'s to name: the CRM's own state decides the ends all the same.
    """
    found = cycle.rules.stages.problems(cycle.shape)
    if problems := [each for each in found if each[0] not in cycle.shape.stages]:
        cycle.crm.forget_shape()  # so that the next cycle sees when it is mended
        said = "; ".join(f"{text}: {todo}" for _, text, todo in problems)
        raise Surprise(f"{said}; nothing was written", what="stages", stages=[name for name, *_ in problems])


def _outline(shape: CrmShape) -> dict[str, Any]:
    """The part of the CRM's shape that deals may depend on."""
    return {
        "fields": sorted(shape.fields),
        "stages": {name: [flags.closed, flags.won] for name, flags in sorted(shape.stages.items())},
        "values": {
            name: sorted(values) for name, values in sorted(shape.picklists.items()) if name in STATUS_FIELDS
        },
    }


def shape_of(outline: Mapping[str, Any] | None) -> CrmShape:
    """The CRM's shape as far as the last cycle left it; without lengths and labels. None: nothing is known of it."""
    if outline is None:
        return CrmShape(frozenset(KINDS), {})
    return CrmShape(
        fields=frozenset(outline["fields"]),
        stages={name: StageFlags(closed, won) for name, (closed, won) in outline["stages"].items()},
        picklists={name: frozenset(values) for name, values in outline["values"].items()},
    )


def _lost(cycle: Cycle, before: Mapping[str, Any]) -> list[str]:
    """What is gone of what the configuration, as it is now, uses; by the CRM's names."""
    rules, now = cycle.rules, _outline(cycle.shape)
    stages = rules.stages
    named = {stages.received, stages.accepted, stages.won, stages.lost, stages.declined, stages.expired}
    off = {name for name, rule in rules.fields.items() if rule.flow is Flow.OFF}
    fields = [
        f"field {rules.crm_name(name)}"
        for name in before["fields"]
        if name not in now["fields"] and name not in off
    ]
    renamed = [
        f"stage {name}"
        for name, flags in before["stages"].items()
        if now["stages"].get(name) != flags and name in named | stages.sales.keys()
    ]
    values = [
        f"{rules.crm_name(name)} value {value}"
        for name, values in before["values"].items()
        for value in values
        if name in now["fields"] and value not in now["values"].get(name, ())
    ]
    return [*fields, *renamed, *values]


def check_not_empty(cycle: Cycle, missing: int, linked: int) -> None:
    """A side of which nothing at all is left has not lost its deals: somebody lost the right to see them."""
    if missing == linked >= EMPTY and not cycle.accept:
        raise Surprise(
            f"none of {linked} linked deals is there any more on one side; nothing was written. See whether the signed-in "
            "user still has its role. If they are really gone, run: cosell-sync sync --accept",
            what="empty",
            deals=missing,
            linked=linked,
        )


def check_share(cycle: Cycle, what: str, unusual: int, linked: int) -> None:
    """Raises Surprise where more deals than usual would change: ``unusual`` of ``linked``. ``what``: names it in the log."""
    settings = cycle.settings
    if cycle.accept:
        return
    if unusual > settings.surprise_min and unusual > settings.surprise_share * linked:
        raise Surprise(
            f"{unusual} of {linked} linked deals would be closed, rewritten or have vanished in one cycle; nothing was "
            "written. If that is right, run: cosell-sync sync --accept",
            what=what,
            deals=unusual,
            linked=linked,
        )
