"""Whether this process can do its work, decided from facts that the caller gathered.

Alive (``/livez``) means that the process answers. Ready (``/readyz``) means that edits are being carried: store
migrated, sign-ins valid, last cycle fresh, lease held here. Single deals that need attention do not matter. A process of several
connections is ready while it carries the edits of one of them: a sick one must not take the others off the network.
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
    holds the lease. ``connection``: its name, where there are several. ``paused``: a person wants the connection left alone. ``wrong``: why it cannot be served before a
    person corrects it.
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
    connection: str = ""
    paused: bool = False
    wrong: str = ""


def fresh_within(interval: timedelta) -> timedelta:
    """How old the last good cycle may be: three intervals, and at least five minutes, because a cycle may be slow."""
    return max(3 * interval, timedelta(minutes=5))


def readiness(facts: Facts) -> tuple[bool, tuple[str, ...]]:
    """Whether edits are carried, and every reason why not, in words for an operator; no reasons when ready."""
    if facts.wrong:
        return False, (f"misconfigured: {facts.wrong}",)
    if facts.paused:
        return False, ("paused by a person: cosell-sync connection resume",)
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


def readiness_of(several: Mapping[str, Facts]) -> tuple[bool, tuple[str, ...], Mapping[str, object]]:
    """As ``readiness``, of a process of several connections, by name: whether one of them is ready, why others are not, and
    all of it by connection, as plain data.
    """
    found = {name: readiness(facts) for name, facts in several.items()}
    reasons = tuple(f"{name}: {reason}" for name, (_, why) in found.items() for reason in why)
    each = {name: {"ready": ready, "reasons": list(why)} for name, (ready, why) in found.items()}
    return any(ready for ready, _ in found.values()), reasons, each
