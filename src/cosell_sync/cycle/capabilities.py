"""What is found out while deals are written, remembered for all deals: see ``core.capabilities``.

``recall`` begins a cycle with what still counts. ``in_order`` lets one deal try what is not known yet, alone, before the
others are written; ``learn`` and ``collect`` note what its write, or the adapter, found out. A dry run notes nothing: its
writes always succeed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from cosell_sync.core.capabilities import (
    FAILED,
    FIELDS,
    IGNORED,
    NO,
    SIDES,
    TAKEN,
    YES,
    Capability,
    Finding,
    Verdict,
    differs,
    evidence,
    found_of,
    negative,
    stands,
)
from cosell_sync.core.deal import Side, Step
from cosell_sync.core.decision import Decision
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.reconcile import decide
from cosell_sync.cycle.context import CHUNK, Cycle
from cosell_sync.cycle.record import Record, commit
from cosell_sync.errors import Flaky
from cosell_sync.ports import Outcome

log = structlog.get_logger("cosell_sync.cycle")


def basis(cycle: Cycle, capability: Capability) -> str | None:
    """Under what an answer of today is found; None where the configuration decides."""
    if capability is Capability.CLOSED_ROWS:
        return (cycle.state.rules or "") if cycle.settings.closed_rows == "auto" else None
    return cycle.settings.basis.get(capability)


def recall(cycle: Cycle, record: Record) -> None:
    """Begin with what was found out and still counts. What does not is forgotten, and what waits for it comes due."""
    known = cycle.store.verdicts()
    over = [each for each in known if not stands(each, basis(cycle, each.capability), cycle.now)]
    cycle.verdicts = {each.capability: each for each in known if each not in over}
    cycle.findings.recall(
        Finding(each.capability, each.answer, each.code)
        for each in cycle.verdicts.values()
        if SIDES[each.capability] is Side.PARTNER_CENTER
    )
    _to_rules(cycle)
    _requeue(cycle, record, {each.capability for each in over if negative(each)})
    record.forgotten += [each.capability for each in over]


def end(cycle: Cycle) -> None:
    """End the cycle: remember what the adapter found out, and let those deals come due whose records said otherwise until now."""
    record = Record()
    collect(cycle, record)
    _requeue(cycle, record, cycle.denied)
    commit(cycle.store, record)


def _requeue(cycle: Cycle, record: Record, capabilities: set[Capability]) -> None:
    """Decide every deal anew of which something depends on these."""
    if not capabilities:
        return
    for link in cycle.store.links([Phase.LINKED, Phase.WAITING]):
        if _waits(link, capabilities):
            record.put(replace(link, dirty=True))
        if len(record.links) >= CHUNK:
            commit(cycle.store, record)


def _waits(link: Link, capabilities: set[Capability]) -> bool:
    """Whether something of the deal was kept back for one of these."""
    if Capability.CLOSED_ROWS in capabilities and link.memory.untold:
        return True
    return any(
        capability in capabilities and differs(name, link.referral, link.opportunity)
        for name, capability in FIELDS.items()
    )


def note(cycle: Cycle, record: Record, finding: Finding) -> None:
    """Remember an answer, and log it where it is news; the rules follow it at once."""
    under = basis(cycle, finding.capability)
    before = cycle.verdicts.get(finding.capability)
    same = before is not None and (before.answer, before.code) == (finding.answer, finding.code)
    if cycle.rehearsal or under is None or same:
        return
    verdict = Verdict(finding.capability, finding.answer, finding.code, cycle.now, under)
    if verdict.capability in FIELDS.values() and verdict.answer == NO:
        cycle.denied.add(verdict.capability)
    cycle.verdicts[verdict.capability] = record.verdicts[verdict.capability] = verdict
    if before is None or before.answer != verdict.answer:
        log.info(
            "doubt.settled",
            capability=verdict.capability.value,
            side=SIDES[verdict.capability],
            answer=verdict.answer,
            code=verdict.code,
        )
    _to_rules(cycle)


def _to_rules(cycle: Cycle) -> None:
    cycle.rules = replace(cycle.rules, found=found_of(cycle.verdicts.values()))


def collect(cycle: Cycle, record: Record) -> None:
    """Remember what the adapter of Partner Center found out by itself."""
    for finding in cycle.findings.collect():
        note(cycle, record, finding)


# --- writes to Partner Center ----------------------------------------------------------------------------------------


def in_order(cycle: Cycle, decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """The decisions in the batches in which they are to be written, each decided by what the one before found out.

    A deal that tries something goes alone, and of each question there is one try in a cycle. Where that said nothing, the
    other deals are written without the field and are due again. In a dry run all are in one batch, so that each try shows.
    """
    rest = [as_answered(cycle, item) for item in decisions]
    while not cycle.rehearsal and (first := next((item for item in rest if tries(item)), None)) is not None:
        cycle.tried |= tries(first)
        yield [first]
        rest = [as_answered(cycle, item) for item in rest if item is not first]
    yield rest


def tries(decision: Decision) -> frozenset[str]:
    """The fields that this decision tries."""
    return frozenset(name for step in decision.steps if step.trial for name in step.fields)


def as_answered(cycle: Cycle, decision: Decision) -> Decision:
    """The decision as it is now that something was tried; one that tries nothing stays."""
    names = tries(decision)
    if any(cycle.rules.takes(name) is not None for name in names):
        withheld = cycle.guard.withheld.get(decision.link.key)
        decision = decide(decision.link, cycle.rules, cycle.shape, cycle.now, None, withheld)
    late = tries(decision) & cycle.tried
    if not late:
        return decision
    cycle.postponed.add(decision.link.key)
    steps = tuple(step for step in decision.steps if not (step.trial and step.fields.keys() <= late))
    effects = tuple(
        effect
        for effect in decision.effects
        if effect.side is not Side.PARTNER_CENTER or effect.field not in late
    )
    return replace(decision, steps=steps, effects=effects)


def learn(cycle: Cycle, record: Record, decision: Decision, outcome: Outcome) -> None:
    """Note what the outcome of these steps says of a question that is left to ``auto``."""
    before, after = decision.link.referral, outcome.snapshot
    for step in decision.steps[: outcome.steps]:
        for name in step.fields.keys() & FIELDS.keys():
            error = outcome.refused.get(name)
            if error is not None:
                code = FAILED if isinstance(error, Flaky) else error.code
                note(cycle, record, Finding(FIELDS[name], NO, code))
            elif before is not None and after is not None:
                taken = evidence(name, before, step, after)
                if taken is not None:
                    found = Finding(FIELDS[name], YES, TAKEN) if taken else Finding(FIELDS[name], NO, IGNORED)
                    note(cycle, record, found)


def taken_steps(cycle: Cycle, decision: Decision, outcome: Outcome) -> tuple[Step, ...]:
    """The steps that landed, less the fields that were tried or believed to be taken, and were not."""
    before, after = decision.link.referral, outcome.snapshot
    landed = []
    for step in decision.steps[: outcome.steps]:
        lost = {
            name
            for name, capability in FIELDS.items()
            if name in step.fields and basis(cycle, capability) is not None
            if name in outcome.refused
            or (before is not None and after is not None and evidence(name, before, step, after) is False)
        }
        fields = {name: value for name, value in step.fields.items() if name not in lost}
        if fields or step.state is not None:
            landed.append(replace(step, fields=fields))
    return tuple(landed)
