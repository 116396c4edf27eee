"""The guard in front of every step that cannot be undone: gathers the evidence, asks ``core.guard``, and admits.

``foresee`` counts the steps of the whole cycle before its first write, so that a kind of which there are too many is
withheld from the first on. ``guarded`` and ``admit`` judge what is about to be written, a chunk at a time, with the stages
read anew in this cycle where a step rests on one, and with everything that ``doctor`` checks. ``apply.announce`` calls
``confirm``: a step that was not admitted here raises, whatever path it came by, and nothing of it is written.

A precondition that is broken withholds these steps and nothing else: reads, imports and fields go on. Once it is mended
what was withheld for it is decided anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import structlog

from cosell_sync.core.decision import Decision
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import (
    Candidate,
    Evidence,
    candidate,
    candidates,
    counting,
    judge,
    kept_withheld,
    over,
)
from cosell_sync.core.memory import FinalKind, FinalStepTaken, Link, Phase, Withheld
from cosell_sync.core.preconditions import Fault, stage_faults
from cosell_sync.core.reconcile import decide
from cosell_sync.cycle.context import CHUNK, Cycle, ids
from cosell_sync.cycle.decide import first_decision, foreseeable, may_invite
from cosell_sync.cycle.record import Record, commit, keep_state

log = structlog.get_logger("cosell_sync.cycle")


class NotAdmitted(Exception):
    """A step that cannot be undone came without the guard's word: an error of ours. Nothing was written."""


# --- judging ---------------------------------------------------------------------------------------------------------


def guarded(cycle: Cycle, links: Sequence[Link]) -> list[Decision]:
    """The decisions about these linked deals, without the steps that are withheld; what is left of them is admitted."""
    first = [first_decision(cycle, link) for link in links]
    verdicts = admit(cycle, [each for decision in first for each in _candidates(cycle, decision)])
    decisions = []
    for link, decision in zip(links, first, strict=True):
        if withheld := verdicts.get(link.key):
            whole = {**kept_withheld(link), **withheld}
            cycle.guard.withheld[link.key] = whole
            decision = decide(link, cycle.rules, cycle.shape, cycle.now, None, whole)  # noqa: PLW2901
        else:
            cycle.guard.withheld[link.key] = {} if cycle.approve else kept_withheld(link)
        log_withheld(cycle, link, decision.link)
        decisions.append(decision)
    return decisions


def _candidates(cycle: Cycle, decision: Decision) -> list[Candidate]:
    invites = [candidate(FinalKind.INVITE, decision.link)] if may_invite(cycle, decision.link) else []
    return [*candidates(decision), *invites]


def admit(cycle: Cycle, steps: Sequence[Candidate]) -> Mapping[str, Mapping[FinalKind, Withheld]]:
    """What of these steps is withheld, by key of the link; the others may be announced from now on."""
    if not steps:
        return {}
    guard = cycle.guard
    if cycle.approve:
        guard.admitted |= {(each.link, each.kind): False for each in steps}
        return {}
    verdict = judge(steps, _evidence(cycle, steps))
    guard.closed = verdict.closed
    guard.admitted |= {(each.link, each.kind): counts for each, counts in verdict.passed.items()}
    return verdict.withheld


def confirm(cycle: Cycle, record: Record, link: Link, kind: FinalKind) -> None:
    """Take back the admission of a step that is announced now; one that counts is counted with the record."""
    counts = cycle.guard.admitted.pop((link.key, kind), None)
    if counts is None:
        raise NotAdmitted(kind)
    if counts:
        record.final.append(FinalStepTaken(link.key, kind, cycle.now))
        known = _recent(cycle)
        known[kind] = known.get(kind, frozenset()) | {link.key}


def log_withheld(cycle: Cycle, before: Link, after: Link) -> None:
    """Log each step that is withheld for the first time, or for another reason."""
    for item in after.memory.withheld:
        if item not in before.memory.withheld and (before.key, item.kind) not in cycle.guard.logged:
            cycle.guard.logged.add((before.key, item.kind))
            log.warning("deal.withheld", **ids(before), kind=item.kind, reason=item.reason)


def foresee(
    cycle: Cycle, totals: Counter[FinalKind], links: Iterable[Link], posts: Iterable[Candidate]
) -> None:
    """Add what these due deals would do. ``posts``: of the opportunities among them that would be shared."""
    linked = [link for link in links if link.phase is Phase.LINKED]
    steps = [each for decision in foreseeable(cycle, linked) for each in _foreseen(cycle, decision)]
    steps += posts
    if steps:
        totals.update(counting(steps, _evidence(cycle, steps)))


def _foreseen(cycle: Cycle, decision: Decision) -> list[Candidate]:
    return _candidates(cycle, decision) if decision.link.opportunity is not None else []


def close(cycle: Cycle, totals: Mapping[FinalKind, int]) -> None:
    """Withhold from the first on every kind of which there will be too many in this cycle."""
    if totals:
        cycle.guard.closed |= over(totals, _evidence(cycle, ()))


# --- evidence --------------------------------------------------------------------------------------------------------


def _evidence(cycle: Cycle, steps: Sequence[Candidate]) -> Evidence:
    guard = cycle.guard
    if any(each.stages for each in steps) and guard.stages is None:
        _read_stages(cycle)
    if steps and not guard.whole:
        _check_whole(cycle)
    recent = dict(_recent(cycle))
    for (key, kind), counts in guard.admitted.items():
        if counts:  # admitted, and not announced yet
            recent[kind] = recent.get(kind, frozenset()) | {key}
    return Evidence(cycle.settings.surprise_moves, recent, guard.stages, bool(guard.faults), guard.closed)


def _recent(cycle: Cycle) -> dict[FinalKind, frozenset[str]]:
    if cycle.guard.recent is None:
        cycle.guard.recent = dict(cycle.store.final_steps(cycle.now - cycle.settings.surprise_window))
    return cycle.guard.recent


def _read_stages(cycle: Cycle) -> None:
    """Once a cycle, and only where a step rests on a stage: a running program remembers the org as it was at its start."""
    stages = cycle.crm.stages()
    cycle.guard.stages = frozenset(stages)
    _add_faults(cycle, stage_faults(cycle.rules, stages))
    if dict(stages) != dict(cycle.shape.stages):
        cycle.crm.forget_shape()  # the next cycle sees the org as it is, and says what of it is missing


def _check_whole(cycle: Cycle) -> None:
    cycle.guard.whole = True
    _add_faults(cycle, cycle.preconditions(True))


def _add_faults(cycle: Cycle, faults: Iterable[Fault]) -> None:
    """What turned out only now is stored and logged at once: the next cycle begins with it."""
    new = {fault.name: fault for fault in faults if fault.name not in cycle.guard.faults}
    if new:
        record = Record()
        _note(cycle, record, {**cycle.guard.faults, **new})
        commit(cycle.store, record)


def read_anew_if_broken(cycle: Cycle) -> None:
    """While something is broken the org is read anew in each cycle, to see when it is mended."""
    if cycle.state.broken:
        cycle.crm.forget_shape()


def check_preconditions(cycle: Cycle, record: Record) -> None:
    """What is known of the org as it was read; everything, where something was broken in the last cycle."""
    cycle.guard.whole = bool(cycle.state.broken)
    faults = [*stage_faults(cycle.rules, cycle.shape.stages), *cycle.preconditions(cycle.guard.whole)]
    _note(cycle, record, {fault.name: fault for fault in faults})


def _note(cycle: Cycle, record: Record, faults: dict[str, Fault]) -> None:
    before, cycle.guard.faults = set(cycle.state.broken), faults
    if faults.keys() == before:
        return
    for name in sorted(faults.keys() - before):
        log.error("precondition.broken", check=name, text=faults[name].text, todo=faults[name].todo)
    for name in sorted(before - faults.keys()):
        log.info("precondition.mended", check=name)
    keep_state(cycle, record, broken=tuple(sorted(faults)))
    if not faults:
        requeue_withheld(cycle, record)


def requeue_withheld(cycle: Cycle, record: Record) -> None:
    """Decide every deal anew of which a step is withheld."""
    for link in cycle.store.withheld():
        record.put(replace(link, dirty=True))
        if len(record.links) >= CHUNK:
            commit(cycle.store, record)
