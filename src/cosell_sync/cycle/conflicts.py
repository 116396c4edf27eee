"""Names each conflict once: counted, in the journal and in the log; ``Memory.reported`` holds which ones were named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import structlog

from cosell_sync.core.deal import Side
from cosell_sync.core.decision import Conflict
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Action, Link
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.journal import journal_entry
from cosell_sync.cycle.record import Record

log = structlog.get_logger("cosell_sync.cycle")


def conflicts(cycle: Cycle, record: Record, link: Link, found: Sequence[Conflict]) -> Link:
    """Count, journal and log each conflict once; what was named stays remembered while it stands."""
    marks = {_mark(item): item for item in found}
    known = link.memory.reported
    for mark, conflict in marks.items():
        if mark in known:
            continue
        cycle.counters.conflicts += 1
        log.warning(
            "deal.conflict", **ids(link), field=cycle.rules.crm_name(conflict.field), kept=conflict.kept
        )
        loser = Side.PARTNER_CENTER if conflict.kept is Side.CRM else Side.CRM
        values = (conflict.referral, conflict.opportunity)
        lost, won = values if loser is Side.PARTNER_CENTER else values[::-1]
        record.journal.append(
            journal_entry(cycle, link, loser, Action.CONFLICT, conflict.rule, conflict.field, lost, won)
        )
    kept = [mark for mark in known if not mark.startswith("conflict:")]
    return replace(link, memory=replace(link.memory, reported=(*kept, *marks)))


def _mark(conflict: Conflict) -> str:
    """A conflict's mark without its values: marks are kept, values may be people's data."""
    text = f"conflict:{conflict.field}:{conflict.referral!r}:{conflict.opportunity!r}"
    return f"conflict:{conflict.field}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
