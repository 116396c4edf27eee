"""Words the lines of the journal: what was written, by which rule, and what our own fields say from then on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from cosell_sync.core.deal import Fields, Side, Snapshot, Value
from cosell_sync.core.decision import Effect
from cosell_sync.core.memory import Action, JournalEntry, Link
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.record import Record

STATUS_RULE: Final = "tells the seller how the deal stands"
STATUS_WORDS: Final = (
    "sync_state",
    "message",
)  # what a person reads on the record; the rest of our fields are facts

log = structlog.get_logger("cosell_sync.cycle")


def journal_entry(
    cycle: Cycle,
    link: Link,
    side: Side,
    action: Action,
    rule: str,
    name: str | None = None,
    old: Value = None,
    new: Value = None,
) -> JournalEntry:
    """One line of the journal, of this cycle and moment."""
    return JournalEntry(link.key, cycle.id, cycle.now, side, action, name, old, new, rule)


def effect_entry(cycle: Cycle, link: Link, effect: Effect) -> JournalEntry:
    """The journal line of something that was written."""
    return journal_entry(
        cycle, link, effect.side, effect.action, effect.rule, effect.field, effect.old, effect.new
    )


def status_effects(before: Snapshot | None, fields: Fields) -> tuple[Effect, ...]:
    """Our own fields on the record as effects, for the plan and the journal."""
    return tuple(
        Effect(Side.CRM, Action.REPORT, name, before[name] if before else None, value, STATUS_RULE)
        for name, value in fields.items()
    )


def record_effects(cycle: Cycle, record: Record, link: Link, effects: Sequence[Effect]) -> None:
    """Journal what was written, and log the move and the fields of it."""
    updated: dict[Side, list[str]] = {}
    for effect in effects:
        record.journal.append(effect_entry(cycle, link, effect))
        if effect.action == Action.MOVE:
            log.info("deal.moved", **ids(link), side=effect.side, state=effect.new)
        elif effect.action == Action.UPDATE:
            updated.setdefault(effect.side, []).append(effect.field)
    for side, fields in updated.items():
        log.info("deal.updated", **ids(link), side=side, fields=sorted(set(fields)))
