"""When a failed deal is tried again, as a value; the cycle carries it out.

The first retry is due in the next cycle, then after 2, 4, 8 … intervals, at most six hours; after ``max_attempts`` tries
the deal is parked, a dead letter, until a person or a change of the record frees it. Faults of a whole system count as
no attempt: they say nothing about the deal. Nor does a lock on the record (an approval of three days): it is tried every
hour for as long as it lasts, and at once when the record changes in any way.

A field that is refused while the rest of the deal lands is no failure of the deal (``refusals``). It is tried after 1, 2, 4 …
hours, at most as far apart as full compares are; once the deal is over, ever more rarely.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from cosell_sync.core.as_json import fields_to_json
from cosell_sync.core.deal import Side
from cosell_sync.core.fields import STATUS_FIELDS
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Failure, Link, Memory

LONGEST = timedelta(hours=6)
LOCK_PAUSE = timedelta(hours=1)
PART_PAUSE = timedelta(hours=1)


@dataclass(frozen=True)
class RetryPolicy:
    """``sync.interval`` and ``sync.max_attempts``; ``longest_hold``: between two tries of a held field (``sync.full_every``)."""

    interval: timedelta = timedelta(seconds=60)
    max_attempts: int = 8
    longest_hold: timedelta = timedelta(hours=24)


def pause(attempts: int, interval: timedelta) -> timedelta:
    """How long after the failed try number ``attempts`` (1 is the first) the next one waits."""
    return timedelta() if attempts <= 1 else min(interval * 2 ** min(attempts - 1, 30), LONGEST)


def after_failure(memory: Memory, failure: Failure, now: datetime, retry_policy: RetryPolicy) -> Memory:
    """The memory after one more failed try. A transient failure changes neither count nor schedule."""
    if memory.failure is not None and memory.failure.code == failure.code:
        failure = replace(failure, since=memory.failure.since)
        if failure.text == memory.failure.text and not failure.fields:
            failure = replace(
                failure, fields=memory.failure.fields
            )  # what was found once is not searched for again
    if failure.transient:
        if memory.failure is not None and not memory.failure.transient:
            return replace(memory, next_attempt=now)  # the deal's own failure stays the one that is reported
        return replace(memory, failure=failure, next_attempt=now)
    if failure.locked:
        return replace(memory, failure=failure, parked=False, next_attempt=now + LOCK_PAUSE)
    attempts = memory.attempts + 1
    parked = attempts >= retry_policy.max_attempts
    return replace(
        memory,
        failure=failure,
        attempts=attempts,
        parked=parked,
        next_attempt=None if parked else now + pause(attempts, retry_policy.interval),
    )


def pause_of_part(tries: int, longest: timedelta | None) -> timedelta:
    """How long a field that was refused ``tries`` times is held. ``longest`` None: there is no limit, the deal is over."""
    wait: timedelta = PART_PAUSE * (1 << min(max(tries - 1, 0), 14))
    return wait if longest is None else min(wait, longest)


def tried_at_once(memory: Memory, now: datetime) -> Memory:
    """The memory of a deal whose record a person saved: whatever was refused may be mended by that, though we read nothing
    new. One try follows at once; the count of attempts goes on.
    """
    refused = {name: replace(each, again=now) for name, each in memory.refused.items()}
    memory = replace(memory, refused=refused)
    if memory.failure is None or memory.failure.transient or memory.failure.locked:
        return memory
    return replace(memory, parked=False, next_attempt=now)


def freed(memory: Memory) -> Memory:
    """The memory of a deal that starts afresh: it worked, the record changed, or a person said retry."""
    return replace(memory, failure=None, attempts=0, parked=False, next_attempt=None)


def freed_from(memory: Memory, side: Side) -> Memory:
    """The memory of a deal whose failure with this side is over; another side's failure stays."""
    return freed(memory) if memory.failure is not None and memory.failure.side is side else memory


def may_be_retried(memory: Memory) -> bool:
    """Whether something of the deal failed, is parked or was refused, so that "retry" means something."""
    return memory.failure is not None or memory.parked or bool(memory.refused)


def resting(memory: Memory, now: datetime) -> bool:
    """Whether this deal must not be tried now."""
    return memory.parked or (memory.next_attempt is not None and memory.next_attempt > now)


def changed_since_failure(link: Link) -> bool:
    """Whether the record is not as it was when the deal failed, which frees it."""
    failure = link.memory.failure
    return failure is not None and failure.seen not in {"", seen_at_failure(link, locked=failure.locked)}


def seen_at_failure(link: Link, *, locked: bool) -> str:
    """The mark of a link that just failed. Of a locked record the version counts as well: unlocking changes no value."""
    version = link.opportunity.version if locked and link.opportunity else ""
    return f"{content_digest(link)}{version and '/'}{version}"


def content_digest(link: Link) -> str:
    """A digest of what people wrote on both sides, so that a change of the record frees a stuck deal."""
    here = {
        name: item
        for name, item in (link.opportunity.fields if link.opportunity else {}).items()
        if name not in STATUS_FIELDS
    }
    there = {
        name: item
        for name, item in (link.referral.fields if link.referral else {}).items()
        if name != "updated_at"
    }
    text = json.dumps([fields_to_json(here), fields_to_json(there)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def blocked_side(memory: Memory, now: datetime) -> Side | None:
    """The side that a failed deal must not be written to now, or None."""
    return memory.failure.side if memory.failure is not None and resting(memory, now) else None
