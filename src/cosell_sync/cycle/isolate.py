"""Isolates unexpected exceptions: a deal that the program cannot handle is set aside like one that a system refuses.

A batch in which something unforeseen happens is done again deal by deal. That is safe for the reason that a crash is:
whatever a write of the first try became, its intent or its outcome is in the store, and the deal starts from there. The
failing deal then waits, with growing pauses, is parked in the end, and its record says so. Of the error only type and
place are reported: its text may be people's data.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

import structlog

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Fields, Link, Side, SyncState
from cosell_sync.core.outcome import after_failed_write
from cosell_sync.cycle.context import Cycle, ids
from cosell_sync.cycle.record import Record
from cosell_sync.cycle.report import RecordReport, report
from cosell_sync.errors import CosellError, Rejected

CODE = "broken"

log = structlog.get_logger("cosell_sync.cycle")


def isolate(cycle: Cycle, links: Sequence[Link], act: Callable[[Cycle, Sequence[Link]], None]) -> None:
    """Act on these deals together; if that breaks, on each alone. A failure of a system (CosellError) is raised as ever."""
    try:
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
    text = messages.broken(f"{kind}, {where}")
    policy = cycle.settings.retry_policy
    failed = after_failed_write(link, Side.CRM, Rejected(text, code=CODE), cycle.now, policy)
    memory = replace(failed.memory, sync_state=SyncState.NEEDS_ATTENTION)
    failed = replace(failed, memory=memory, dirty=False, due=memory.next_attempt)
    cycle.counters.failed.add(link.key)
    if memory.parked:
        log.warning("deal.parked", **ids(link), attempts=memory.attempts)
    fields: Fields = {}
    if link.opportunity and link.opportunity["message"] not in {text, ABSENT} and memory.gone is None:
        fields = {"sync_state": SyncState.NEEDS_ATTENTION.value, "message": text}
    report(cycle, Record(), [RecordReport(failed, fields)])
