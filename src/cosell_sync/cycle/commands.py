"""Carries out what people told the program with ``deals link|create|unlink|retry|resolve|approve|forget``.

The command line does so itself where it gets the store's lease; where the daemon holds it, the command waits in the store
for the daemon's next cycle. Both call ``obey``, and leave the same journal line and the same event. A command changes only
what is remembered of a deal; whatever follows from it on either side is decided, guarded and journalled like everything
else. One that cannot be carried out is refused with its reason and is gone.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from hashlib import sha256

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import Side, SyncState, state_of
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import (
    Action,
    Approval,
    JournalEntry,
    Link,
    Memory,
    OperatorCommand,
    Phase,
    Verb,
    released,
)
from cosell_sync.core.retry import freed, may_be_retried
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.record import Record, commit
from cosell_sync.ports import ErasureResult, Store

log = structlog.get_logger("cosell_sync.cycle")


class Refused(Exception):
    """The command does not fit what is known; the text says why, for the person who gave it."""


def run_commands(cycle: Cycle) -> None:
    """Carry out, oldest first, what waits in the store. A refused one is logged and gone."""
    for command in cycle.store.orders():
        try:
            obey(cycle.store, command, cycle_id=cycle.id, now=cycle.now)
        except Refused as refusal:
            log.warning("order.refused", verb=command.verb, target=command.target, reason=str(refusal))
            commit(cycle.store, Record(completed=[command.id]))


def obey(store: Store, command: OperatorCommand, *, cycle_id: str, now: datetime) -> ErasureResult | None:
    """Carry out one command and record it; needs the lease. Raises ``Refused``, and nothing is recorded then.

    ``cycle_id``: marks the journal line. Returns what a ``forget`` found, None for every other command.
    """
    if command.verb == Verb.FORGET:
        forgotten = store.forget(command.target)
        commit(store, Record(completed=[command.id]))
        log.info("person.forgotten", **asdict(forgotten))  # never whom
        return forgotten
    links = links_after(command, store)
    line = JournalEntry(
        link=links[0].key,
        cycle=cycle_id,
        at=now,
        side=Side.CRM,
        action=Action(command.verb),
        field=command.field or None,
        old=None,
        new=None,
        rule="a person said so",
    )
    record = Record(journal=[line], completed=[command.id])
    record.put(*links)
    commit(store, record)
    log.info("order.obeyed", verb=command.verb, target=command.target)
    if command.verb == Verb.APPROVE:
        log.info("deal.approved", **ids(links[0]), kinds=[each.kind for each in links[0].memory.approved])
    return None


def find(store: Store, target: str) -> Link | None:
    """The link with this referral id or opportunity id; None where there is none."""
    return next(iter([*store.by_referral([target]).values(), *store.by_opportunity([target]).values()]), None)


def links_after(command: OperatorCommand, store: Store) -> list[Link]:
    """The links as they are after the command, the one it is about first. Changes nothing. Raises ``Refused``."""
    if command.verb == Verb.LINK:
        return _link(command, store)
    link = find(store, command.target)
    if link is None:
        raise Refused(f"no deal with the id {command.target} is known")
    match command.verb:
        case Verb.RETRY:
            return [_retry(command, link)]
        case Verb.UNLINK:
            kept = Memory(stand_ins=link.memory.stand_ins)  # joined again, they are still nobody's words
            return [replace(link, phase=Phase.PARTED, memory=kept, dirty=False, due=None)]
        case Verb.CREATE:
            if link.phase is not Phase.WAITING or link.referral is None:
                raise Refused("only a referral that waits for an opportunity can get a new one")
            return [replace(link, memory=replace(_fresh(link), create_anyway=True), dirty=True)]
        case Verb.RESOLVE:
            resolved = {**link.memory.resolved, command.field: Side(command.side)}
            return [replace(link, memory=replace(link.memory, resolved=resolved), dirty=True)]
        case Verb.APPROVE:
            return [_approve(command, link)]
        case _:
            raise Refused(f"unknown order {command.verb}")


def withheld_mark(memory: Memory) -> str:
    """What is withheld of a deal, as a short text; another one as soon as something else is."""
    items = sorted(f"{item.kind} {item.mark}" for item in memory.withheld)
    return sha256("\n".join(items).encode()).hexdigest()[:16]


def _fresh(link: Link) -> Memory:
    """The memory without failures, refusals and a record that was gone."""
    return replace(freed(link.memory), gone=None, refused={})


def _retry(command: OperatorCommand, link: Link) -> Link:
    if not may_be_retried(link.memory) and link.memory.gone is None:
        raise Refused(f"nothing of the deal {command.target} failed or was refused: {standing(link)}")
    again = replace(link, memory=_fresh(link), dirty=True)
    return replace(again, referral=None) if link.memory.gone and link.opportunity_id else again


def _approve(command: OperatorCommand, link: Link) -> Link:
    memory = link.memory
    if not memory.withheld:
        raise Refused(f"nothing of the deal {command.target} is withheld")
    if command.other and command.other != withheld_mark(memory):
        raise Refused(f"what is withheld of the deal {command.target} is not what was approved any more")
    new = [Approval(item.kind, item.mark) for item in memory.withheld]
    approved = tuple(dict.fromkeys([*memory.approved, *new]))
    # withheld no longer, also where it has to wait, for a record that is gone say
    return replace(link, memory=replace(memory, approved=approved, withheld=()), dirty=True)


def standing(link: Link) -> str:
    """How a deal stands that has no failure, and which command is for that, as the end of a sentence."""
    target = link.referral_id or link.opportunity_id
    memory = link.memory
    if link.phase is Phase.PARTED:
        return "it was unlinked; `cosell-sync deals link` joins it again"
    if link.phase is Phase.SKIPPED:
        return "it is left alone, as `cosell-sync deals list --all` shows"
    if memory.withheld:
        return f"a step of it waits to be approved (`cosell-sync deals approve {target}`)"
    if memory.sync_state is SyncState.CONFLICT:
        return f"a field of it is in conflict (`cosell-sync deals explain {target}`, then `deals resolve`)"
    if link.dirty:
        return "it is due in the next cycle anyway"
    if memory.sync_state is SyncState.NEEDS_ATTENTION:
        return f"somebody must change its record (`cosell-sync deals show {target}` says what)"
    return f"it stands in {memory.sync_state}"


def _link(command: OperatorCommand, store: Store) -> list[Link]:
    by_referral = store.by_referral([command.target]).get(command.target)
    by_opportunity = store.by_opportunity([command.other]).get(command.other)
    over = by_opportunity is not None and _is_over(by_opportunity)
    for taken, other in ((by_referral, command.other), (by_opportunity, command.target)):
        if (
            taken is not None
            and not (taken is by_opportunity and over)
            and taken.phase is Phase.LINKED
            and other not in {taken.referral_id, taken.opportunity_id}
        ):
            raise Refused(
                f"{taken.referral_id} and {taken.opportunity_id} are linked already; run `cosell-sync deals unlink` first"
            )
    base = by_referral or Link(f"r:{command.target}", referral_id=command.target)
    joined = replace(
        base,
        opportunity_id=command.other,
        phase=Phase.LINKED,
        opportunity=by_opportunity.opportunity if by_opportunity else None,
        base_referral={},
        base_opportunity={},
        memory=Memory(
            notices=(messages.linked(),),
            stand_ins=base.memory.stand_ins if base.opportunity_id == command.other else (),
        ),
        dirty=True,
    )
    if by_opportunity is None or by_opportunity.key == joined.key:
        return [joined]
    if over:  # made again at Microsoft: the old deal stays known, so that it is not taken in once more
        old = replace(by_opportunity, opportunity_id=None, opportunity=None, phase=Phase.PARTED)
        return [joined, replace(old, memory=Memory(), dirty=False, due=None)]
    return [joined, released(by_opportunity)]


def _is_over(link: Link) -> bool:
    """Whether the referral has ended or is gone."""
    ended = link.referral is not None and state_of(link.referral) in TERMINAL
    return link.phase is Phase.LINKED and (ended or link.memory.gone is Side.PARTNER_CENTER)
