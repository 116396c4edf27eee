"""Whether this process can do its work, decided from facts that the caller gathered.

Alive (``/livez``) means that the process answers. Ready (``/readyz``) means that edits are being carried: store
migrated, sign-ins valid, last cycle fresh, lease held here. Single deals that need attention do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Facts:
    """What readiness is judged by, at one moment.

    ``sign_ins``: system → what is wrong with its sign-in, empty where it is valid. ``carried_at``: end of the last
    cycle that reached both systems. ``outage``: what keeps cycles from ending well since then. ``holder``: the other process that
    holds the lease.
    """

    now: datetime
    version: str
    crm: str
    fresh_within: timedelta
    migrated: bool = True
    sign_ins: Mapping[str, str] = field(default_factory=dict)
    carried_at: datetime | None = None
    outage: str | None = None
    holder: str | None = None


def fresh_within(interval: timedelta) -> timedelta:
    """How old the last good cycle may be: three intervals, and at least five minutes, because a cycle may be slow."""
    return max(3 * interval, timedelta(minutes=5))


def readiness(facts: Facts) -> tuple[bool, tuple[str, ...]]:
    """Whether edits are carried, and every reason why not, in words for an operator; no reasons when ready."""
    reasons = []
    if not facts.migrated:
        reasons.append("the store is not migrated to this version")
    reasons += [f"sign-in of {system}: {wrong}" for system, wrong in sorted(facts.sign_ins.items()) if wrong]
    if facts.holder:
        reasons.append(f"another process holds the lease: {facts.holder}")
    elif facts.outage:
        reasons.append(f"the last cycle failed: {facts.outage}")
    elif facts.carried_at is None:
        reasons.append("no cycle has ended yet")
    elif facts.now - facts.carried_at > facts.fresh_within:
        late = int((facts.now - facts.carried_at).total_seconds())
        reasons.append(f"the last good cycle ended {late} s ago")
    return not reasons, tuple(reasons)
