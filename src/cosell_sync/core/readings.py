"""Through what each field of the CRM is read, and what is left of a deal's memory when that changes.

A base says what a side held in *this* column, by *this* conversion. Once the mapping names another column, or gives the
stages another meaning, the same base would make an edit of whatever stands there: an empty column would clear the other
side. So the base goes, and both sides are merged as at first sight. The snapshot that was read through the old column is
no evidence either; the caller reads it again.

So it is with the stage: once `mapping.stages.received` names another one, as after an admin has renamed it, the records are
where they were, under the names that stand there now.

A field that is switched off and on again keeps its base, so that edits made meanwhile arrive as edits, unless one side is
empty by then: nothing is deleted for what happened while nobody kept the two in step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from cosell_sync.core.deal import ABSENT, Customer, Snapshot, Value
from cosell_sync.core.fields import NEWER, SELLER, SHARED, partners
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Intent, Link, Memory
from cosell_sync.core.normalize import empty
from cosell_sync.core.rules import CrmShape, Flow, Rules

_ZONE: Final = "@"  # between a column and the zone of its days; no column's name has it
READINGS: Final = "readings"  # through what the last cycle read the CRM, kept among the watermarks

Readings = Mapping[
    str, tuple[str, bool]
]  # our name of a field → column with conversion; whether it is read at all


def readings(rules: Rules, shape: CrmShape) -> Readings:
    """Through what each configured field is read now. Of the fields that an earlier version did not make (`NEWER`, and the
    D-U-N-S number of the customer), whether they are read depends on the CRM, too: they may be made at any time.
    """
    found = {
        name: (
            rule.crm + _conversion(name, rules),
            rule.flow is not Flow.OFF and (name not in NEWER or name in shape.fields),
        )
        for name, rule in rules.fields.items()
    }
    customer = rules.fields.get("customer")
    reads_customer = customer is not None and customer.flow is not Flow.OFF
    return {**found, "customer.duns": ("", reads_customer and shape.duns)}


def _conversion(name: str, rules: Rules) -> str:
    """What a value is read by beside its column. Equal for equal rules in every process."""
    if name == "close_date":
        zone = str(rules.close_date_zone)
        return "" if zone == "UTC" else f"{_ZONE}{zone}"
    if name == "stage":
        return f" {rules.stages.received}"
    return json.dumps(rules.stages.sales, sort_keys=True) if name == "sales_stage" else ""


def days_read_otherwise(before: Readings, now: Readings) -> bool:
    """Whether a close date is a day in another zone than before: then Partner Center's is read otherwise too."""
    zones = [known.get("close_date", ("", False))[0].partition(_ZONE)[2] for known in (before, now)]
    return len(set(zones)) > 1


def with_unread_day(link: Link) -> Link:
    """The link without the close date that its referral had in the old zone; the next pull reads it again."""
    return replace(link, referral=_unread(link.referral, ["close_date"]))


def to_text(known: Readings) -> str:
    return json.dumps(known, sort_keys=True)


def from_text(text: str) -> Readings:
    """The inverse of ``to_text``."""
    return {name: (str(column), bool(on)) for name, (column, on) in json.loads(text).items()}


def read_otherwise(before: Readings, now: Readings) -> dict[str, bool]:
    """The fields whose values were read otherwise before; True where only the reading was off meanwhile.

    A field that is off now is left out: what it held is compared when it is on again. A field that was not known
    before (a newer version brought it) has no base to lose, and was off as it were: no snapshot has it.
    """
    return {
        name: name not in before or before[name][0] == column
        for name, (column, on) in now.items()
        if on and (name not in before or not _equal(name, before[name], (column, on)))
    }


def _equal(name: str, before: tuple[str, bool], now: tuple[str, bool]) -> bool:
    """Whether a field is read as before. An earlier version noted of the stage its column alone."""
    return before == now or (name == "stage" and now[0].startswith(f"{before[0]} ") and before[1] == now[1])


def remembered(before: Readings, now: Readings) -> Readings:
    """What to remember: of a field that is off, through what it was read last."""
    return {
        name: (before[name][0], False) if not on and name in before else (column, on)
        for name, (column, on) in now.items()
    }


def without_stale(link: Link, changed: Mapping[str, bool], fresh: Snapshot | None) -> Link:
    """The link without what it remembers of values that were read otherwise; ``changed``: see ``read_otherwise``.

    ``fresh``: the opportunity as it reads now; None: it could not be read, and of the fields nothing is known.
    """
    opportunity = fresh or _unread(link.opportunity, changed)
    asked = _asks_for_a_move(link, opportunity)
    link = replace(link, opportunity=opportunity)
    stale = {name for name, was_off in changed.items() if not (was_off and _may_keep(link, name))}
    stale |= set(partners(stale & SHARED.keys()))
    base_referral = {name: value for name, value in link.base_referral.items() if not _drops(name, stale)}
    base_opportunity = {
        name: value
        for name, value in link.base_opportunity.items()
        if not _drops(name, stale) and not (name == "sales_stage" and name in stale)
    }
    if "customer.duns" in changed and isinstance(known := base_referral.get("customer"), Customer):
        base_referral["customer"] = replace(known, duns=None)  # the CRM could not be given it
    # What only the seller writes, and the stage: what stands there now is how it was, not a move or a wish.
    for name in stale & link.base_opportunity.keys() & {*SELLER, "stage"}:
        now = ABSENT if opportunity is None else opportunity[name]
        if now is ABSENT or (name == "stage" and asked):
            continue
        base_opportunity[name] = now
    return replace(
        link,
        base_referral=base_referral,
        base_opportunity=base_opportunity,
        memory=_without_marks(link.memory, stale),
    )


def _asks_for_a_move(link: Link, fresh: Snapshot | None) -> bool:
    """Whether the seller had left the agreed stage already, and the record is where it was then: an end that waits goes on."""
    before, agreed = link.opportunity, link.base_opportunity.get("stage", ABSENT)
    return before is not None and fresh is not None and before["stage"] == fresh["stage"] != agreed


def intent_without(intent: Intent, changed: Iterable[str]) -> Intent:
    """The intent without the fields that are read otherwise now; the very same one where it has none of them.

    What became of them is not to be found out any more; both sides are merged as they are.
    """
    names = {*changed} & SHARED.keys()
    names |= set(partners(names))
    if not names & {*intent.fields, *intent.source}:
        return intent
    return replace(
        intent,
        fields={name: value for name, value in intent.fields.items() if name not in names},
        source={name: value for name, value in intent.source.items() if name not in names},
    )


def _drops(name: str, stale: set[str]) -> bool:
    """The sales stage keeps Partner Center's base: a CRM whose stages claim none must not be moved by it."""
    return name in stale and name in SHARED and name != "sales_stage"


def _may_keep(link: Link, name: str) -> bool:
    """Whether both sides hold something, or neither does: then a base is no reason to delete anything."""

    def nothing(value: Value) -> bool:
        return empty(value) or value is False

    referral = ABSENT if link.referral is None else link.referral[name]
    opportunity = ABSENT if link.opportunity is None else link.opportunity[name]
    return nothing(referral) == nothing(opportunity)


def _unread(snapshot: Snapshot | None, changed: Iterable[str]) -> Snapshot | None:
    """A snapshot that says nothing of these fields, and is read again because its version is nobody's."""
    if snapshot is None:
        return None
    names = set(changed)
    fields = {name: value for name, value in snapshot.fields.items() if name not in names}
    return replace(snapshot, fields=fields, version="")


def _without_marks(memory: Memory, stale: set[str]) -> Memory:
    return replace(
        memory,
        rewritten={name: pending for name, pending in memory.rewritten.items() if name not in stale},
        resolved={name: side for name, side in memory.resolved.items() if name not in stale},
        disputed=tuple(name for name in memory.disputed if name not in stale),
        stand_ins=tuple(name for name in memory.stand_ins if name not in stale),
        reported=tuple(key for key in memory.reported if [*key.split(":"), ""][1] not in stale),
    )
