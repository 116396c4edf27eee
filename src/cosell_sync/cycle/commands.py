"""What people told the program with ``deals link|create|unlink|retry|resolve|forget``, carried out before a cycle decides.

An order changes only what is remembered of a deal; whatever follows from it on either side is decided, guarded and
journalled like everything else. One that cannot be carried out is refused with its reason and is gone.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Final

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import Link, Memory, OperatorCommand, Phase, Side
from cosell_sync.core.retry import freed
from cosell_sync.cycle.context import Cycle
from cosell_sync.cycle.record import Record, commit, journal_entry, released
from cosell_sync.ports import Store

log = structlog.get_logger("cosell_sync.cycle")


FORGET: Final = "forget"


class Refused(Exception):
    """The order does not fit what is known; the text says why, for the person who gave it."""


def run_commands(cycle: Cycle) -> None:
    for order in cycle.store.orders():
        if order.verb == FORGET:
            forgotten = cycle.store.forget(order.target)
            commit(cycle.store, Record(completed=[order.id]))
            log.info("person.forgotten", **asdict(forgotten))  # never whom
            continue
        try:
            links = carry_out(order, cycle.store)
        except Refused as refusal:
            log.warning("order.refused", verb=order.verb, target=order.target, reason=str(refusal))
            commit(cycle.store, Record(completed=[order.id]))
            continue
        journal = [
            journal_entry(cycle, links[0], Side.CRM, order.verb, "a person said so", order.field or None)
        ]
        record = Record(journal=journal, completed=[order.id])
        record.put(*links)
        commit(cycle.store, record)
        log.info("order.obeyed", verb=order.verb, target=order.target)


def find(store: Store, target: str) -> Link | None:
    """The link with this referral id or opportunity id."""
    return next(iter([*store.by_referral([target]).values(), *store.by_opportunity([target]).values()]), None)


def carry_out(order: OperatorCommand, store: Store) -> list[Link]:
    """The links as they are after the order, the one it is about first. Raises ``Refused``."""
    if order.verb == "link":
        return _link(order, store)
    link = find(store, order.target)
    if link is None:
        raise Refused(f"no deal with the id {order.target} is known")
    memory = replace(freed(link.memory), gone=None)
    match order.verb:
        case "retry":
            again = replace(link, memory=memory, dirty=True)
            return [replace(again, referral=None) if link.memory.gone and link.opportunity_id else again]
        case "unlink":
            return [replace(link, phase=Phase.PARTED, memory=Memory(), dirty=False, due=None)]
        case "create":
            if link.phase is not Phase.WAITING or link.referral is None:
                raise Refused("only a referral that waits for an opportunity can get a new one")
            return [replace(link, memory=replace(memory, create_anyway=True), dirty=True)]
        case "resolve":
            resolved = {**link.memory.resolved, order.field: Side(order.side)}
            return [replace(link, memory=replace(link.memory, resolved=resolved), dirty=True)]
        case _:
            raise Refused(f"unknown order {order.verb}")


def _link(order: OperatorCommand, store: Store) -> list[Link]:
    by_referral = store.by_referral([order.target]).get(order.target)
    by_opportunity = store.by_opportunity([order.other]).get(order.other)
    for taken, other in ((by_referral, order.other), (by_opportunity, order.target)):
        if (
            taken is not None
            and taken.phase is Phase.LINKED
            and other not in {taken.referral_id, taken.opportunity_id}
        ):
            raise Refused(
                f"{taken.referral_id} and {taken.opportunity_id} are linked already; run `cosell-sync deals unlink` first"
            )
    base = by_referral or Link(f"r:{order.target}", referral_id=order.target)
    joined = replace(
        base,
        opportunity_id=order.other,
        phase=Phase.LINKED,
        opportunity=by_opportunity.opportunity if by_opportunity else None,
        base_referral={},
        base_opportunity={},
        memory=Memory(notices=(messages.linked(),)),
        dirty=True,
    )
    if by_opportunity is None or by_opportunity.key == joined.key:
        return [joined]
    return [joined, released(by_opportunity)]
