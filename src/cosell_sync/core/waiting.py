"""What of a deal waits, as told from what is remembered of it: decided or wanted, and not written.

The journal holds what landed. What has not is decided anew from the same memory, so it can be told without asking anybody:
values held back and until when, steps that the guard withholds, writes that a system refused (in its own words), that failed for now, or that go with the
next cycle. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Side, Snapshot, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.fields import SHARED
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import standing_withheld
from cosell_sync.core.memory import Intent, Link, Phase, RefusedField
from cosell_sync.core.normalize import empty
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import freed
from cosell_sync.core.rules import CrmShape, Rules


class WaitKind(StrEnum):
    """Why something has not landed."""

    NEXT = "next cycle"
    HELD = "held"
    WITHHELD = "withheld"  # cannot be undone; until a person lets it through (deals approve)
    CONFLICT = "conflict"  # a person must say whose value wins
    REFUSED = "refused"  # by the system that was to be written, or by our own checks
    FAILED = "failed"  # for now
    PARKED = "parked"  # refused or failed too often; until the record changes or a person says retry
    UNKNOWN = "no answer"  # sent; the next cycle looks whether it landed
    PAUSED = "paused"  # a record is missing, or the pair was parted


@dataclass(frozen=True)
class Waiting:
    """One value that has not landed. ``field`` None: the deal as a whole. ``reason`` quotes the system that refused.

    ``value``: what is to stand on ``side``, ``before``: what stands there. ``until``: when it goes on by itself; None where
    that is not known or a person must act.
    """

    field: str | None
    side: Side
    value: Value
    before: Value
    kind: WaitKind
    reason: str
    until: datetime | None = None


_TO_CRM = frozenset({HoldKind.CRM_CANNOT, HoldKind.READ_ONLY})


def waiting(
    link: Link, intents: Sequence[Intent], rules: Rules, shape: CrmShape, now: datetime
) -> list[Waiting]:
    """Everything of this deal that waits; empty where both sides hold what they are to hold."""
    if link.phase is Phase.PARTED:
        return [
            _whole(
                Side.CRM, WaitKind.PAUSED, "a person parted the pair; cosell-sync deals link joins it again"
            )
        ]
    if link.memory.gone is not None:
        what = (
            "the opportunity is deleted or hidden"
            if link.memory.gone is Side.CRM
            else "the referral is out of sight"
        )
        return [_whole(link.memory.gone, WaitKind.PAUSED, f"{what}; nothing is written")]
    found = list(_of_pair(link, intents, rules, shape, now) if link.phase is Phase.LINKED else _of_half(link))
    failure = link.memory.failure
    if failure is not None and not any(
        item.side is failure.side and item.kind is _kind(link) for item in found
    ):
        found.append(_whole(failure.side, _kind(link), failure.text, link.memory.next_attempt))
    return found


def _of_pair(
    link: Link, intents: Sequence[Intent], rules: Rules, shape: CrmShape, now: datetime
) -> Iterator[Waiting]:
    # As if nothing had failed: what a pause keeps from being written is what is to be told.
    decision = decide(
        replace(link, memory=freed(link.memory)), rules, shape, now, None, standing_withheld(link)
    )
    for hold in decision.holds:
        yield _held(hold, link)
    for item in decision.conflicts:
        if item.kept is None:
            yield Waiting(item.field, Side.CRM, item.referral, item.opportunity, WaitKind.CONFLICT, item.rule)
    opened = {intent.side for intent in intents}
    failure, memory = link.memory.failure, link.memory
    for effect in decision.effects:
        value = (effect.field, effect.side, effect.new, effect.old)
        if failure is not None and failure.side is effect.side:
            yield Waiting(*value, _kind(link), failure.text, memory.next_attempt)
        elif effect.side in opened:
            yield Waiting(
                *value,
                WaitKind.UNKNOWN,
                "it was sent and not answered; the next cycle looks whether it landed",
            )
        elif link.dirty:
            yield Waiting(*value, WaitKind.NEXT, effect.rule)
        elif known := _refusal(link, effect.field, effect.side):
            yield Waiting(*value, WaitKind.REFUSED, known.text)


def _refusal(link: Link, name: str, side: Side) -> RefusedField | None:
    """What this side said when it refused this field while the rest landed."""
    known = link.memory.refused.get(name)
    return known if known is not None and known.side is side else None


def _held(hold: Hold, link: Link) -> Waiting:
    to_crm = hold.kind in _TO_CRM or (hold.kind is HoldKind.UNKEYED and hold.opportunity is ABSENT)
    side = Side.CRM if to_crm else Side.PARTNER_CENTER
    value, before = (hold.referral, hold.opportunity) if to_crm else (hold.opportunity, hold.referral)
    if known := _refusal(link, hold.field, side):
        return Waiting(hold.field, side, value, before, WaitKind.REFUSED, known.text, known.again)
    kind = WaitKind.WITHHELD if hold.kind is HoldKind.WITHHELD else WaitKind.HELD
    return Waiting(hold.field, side, value, before, kind, hold.text, hold.until)


def _of_half(link: Link) -> Iterator[Waiting]:
    """A record without its other half: every value of it waits to stand there."""
    side, here = (
        (Side.CRM, link.referral) if link.referral is not None else (Side.PARTNER_CENTER, link.opportunity)
    )
    if link.phase is not Phase.WAITING or here is None:
        return
    for item in standing_withheld(link).values():
        yield Waiting("sync", side, True, False, WaitKind.WITHHELD, messages.withheld(item))
    if link.memory.withheld or not (link.dirty or link.memory.failure):
        return
    failure = link.memory.failure
    kind = _kind(link) if failure else WaitKind.NEXT
    reason = failure.text if failure else "its other half is made in the next cycle"
    for name in _filled(here):
        yield Waiting(name, side, here[name], None, kind, reason, link.memory.next_attempt)


def _filled(here: Snapshot) -> Iterator[str]:
    return (name for name in SHARED if here[name] is not ABSENT and not empty(here[name]))


def _kind(link: Link) -> WaitKind:
    """What a failed write of this deal is called."""
    failure = link.memory.failure
    if link.memory.parked:
        return WaitKind.PARKED
    return WaitKind.FAILED if failure is not None and failure.transient else WaitKind.REFUSED


def _whole(side: Side, kind: WaitKind, reason: str, until: datetime | None = None) -> Waiting:
    return Waiting(None, side, ABSENT, ABSENT, kind, reason, until)
