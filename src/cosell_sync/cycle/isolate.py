"""Isolates unexpected exceptions per deal: the deal is set aside like one that a system refuses, the others go on.

A batch in which something unforeseen happens is done again deal by deal. That is safe for the reason that a crash is:
whatever a write of the first try became, its intent or its outcome is in the store, and the deal starts from there. The
deal then waits, with growing pauses, and is parked in the end; its record says so. The log and the journal get the
exception's type and place and nothing else of it: its text may be people's data.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import PurePath

import structlog

from cosell_sync import tracing
from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Fields, Side, SyncState
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import INTERNAL_ERROR, Action, Link
from cosell_sync.core.outcome import after_failed_write
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.journal import journal_entry
from cosell_sync.cycle.record import Record
from cosell_sync.cycle.report import RecordReport, report
from cosell_sync.errors import CosellError, Rejected

log = structlog.get_logger("cosell_sync.cycle")


def isolate(cycle: Cycle, links: Sequence[Link], act: Callable[[Cycle, Sequence[Link]], None]) -> None:
    """Act on these deals together; if that breaks, on each alone. A failure of a system (CosellError) is raised as ever."""
    alone = {name: one for name, one in ids(links[0]).items() if one} if len(links) == 1 else {}
    try:
        with tracing.span("deals", deals=len(links), **alone):
            act(cycle, links)
    except CosellError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other deals go on
        now = cycle.store.by_keys([link.key for link in links])
        for link in now.values():
            if len(links) > 1:
                isolate(cycle, [link], act)
            else:
                _set_aside(cycle, link, error)


def place(error: Exception) -> str:
    """Where in our own code it happened, as far in as that goes: ``folder/file.py:line``."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "cosell_sync" in PurePath(frame.filename).parts] or frames
    return f"{'/'.join(PurePath(ours[-1].filename).parts[-2:])}:{ours[-1].lineno}"


def _set_aside(cycle: Cycle, link: Link, error: Exception) -> None:
    """The deal fails; its record says so once, as far as that works. Nothing is decided or merged for it."""
    kind, where = type(error).__name__, place(error)
    log.error("deal.broken", **ids(link), kind=kind, place=where)
    text = cycle.language.say(messages.broken())
    policy = cycle.settings.retry_policy
    failed = after_failed_write(
        link, Side.CRM, Rejected(messages.broken(), code=INTERNAL_ERROR), cycle.now, policy
    )
    memory = replace(failed.memory, sync_state=SyncState.NEEDS_ATTENTION)
    failed = replace(failed, memory=memory, dirty=False, due=memory.next_attempt)
    cycle.counters.failed.add(link.key)
    if memory.parked:
        log.warning("deal.parked", **ids(link), attempts=memory.attempts)
    fields: Fields = {}
    if link.opportunity and link.opportunity["message"] not in {text, ABSENT} and memory.gone is None:
        fields = {"sync_state": SyncState.NEEDS_ATTENTION.value, "message": text}
    details = journal_entry(cycle, failed, Side.CRM, Action.FAILURE, f"internal error: {kind}, {where}")
    report(cycle, Record(journal=[details]), [RecordReport(failed, fields)])
