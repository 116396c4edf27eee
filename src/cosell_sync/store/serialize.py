"""Links, intents, journal lines and the cycle's state as rows, and back. Pure: what a value becomes is decided here alone.

Fields go through ``core.as_json``, which knows them by name. A journal line may speak of anything, so its values carry
their kind with them; SQL NULL there means ``ABSENT``, which is not the same as "cleared".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from pydantic import TypeAdapter

from cosell_sync.core import as_json
from cosell_sync.core.deal import ABSENT, Customer, Member, Side, Value
from cosell_sync.core.fields import Kind
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Action, Intent, JournalEntry, Link, Memory, Phase, respond_by
from cosell_sync.ports import CycleState, EngagementQueue
from cosell_sync.store.search import searched

Row = Mapping[Any, Any]  # by column name; SQLAlchemy types its keys more loosely than we use them

# Follows ``Memory`` as it grows: what an older version did not write takes the default, what is unknown is dropped.
_MEMORY: Final = TypeAdapter(Memory)
_COMMON: Final = attrgetter(
    "link", "cycle", "at", "side", "action", "rule"
)  # what the lines of a row have in common
_TEXT: Final = Kind.TEXT.value
_CLEARED: Final = {"kind": _TEXT, "value": None}
_LINES: Final = "lines"  # the kind of a value that is several lines: field, old and new of each
_CLOSED_ROWS: Final = "closed_rows"  # stood beside the shape once; now a verdict
# Names that earlier versions stored: what a store of theirs holds is read under today's name.
_RENAMED: Final = {"trouble": "failure", "told": "reported"}


def from_link(link: Link) -> dict[str, Any]:
    """The row of a link, without ``connection``."""
    there = None if link.referral is None else as_json.snapshot_to_json(link.referral)
    here = None if link.opportunity is None else as_json.snapshot_to_json(link.opportunity)
    return {
        "key": link.key,
        "referral_id": link.referral_id,
        "opportunity_id": link.opportunity_id,
        "phase": link.phase.value,
        "dirty": link.dirty,
        "due": link.due,
        "sync_state": link.memory.sync_state.value,
        "parked": link.memory.parked,
        "rejected": link.memory.rejected,
        "withheld": bool(link.memory.withheld),
        "respond_by": respond_by(link),
        "search": searched(link),
        "referral_version": None if link.referral is None else link.referral.version,
        "opportunity_version": None if link.opportunity is None else link.opportunity.version,
        "referral": there,
        "opportunity": here,
        "base_referral": as_json.base_to_json(link.base_referral, there, link.referral),
        "base_opportunity": as_json.base_to_json(link.base_opportunity, here, link.opportunity),
        "memory": from_memory(link.memory),
    }


def child_rows(link: Link) -> dict[str, str]:
    """The ids of the rows that the opportunity was read from, each with that of the opportunity."""
    return (
        {} if link.opportunity is None else dict.fromkeys(sorted(link.opportunity.rows), link.opportunity.id)
    )


def to_link(row: Row) -> Link:
    """The link of a row with all columns."""
    there, here = row["referral"], row["opportunity"]
    referral = None if there is None else as_json.snapshot_from_json(there)
    opportunity = None if here is None else as_json.snapshot_from_json(here)
    return Link(
        key=row["key"],
        referral_id=row["referral_id"],
        opportunity_id=row["opportunity_id"],
        phase=Phase(row["phase"]),
        referral=referral,
        opportunity=opportunity,
        base_referral=as_json.base_from_json(row["base_referral"], there, referral),
        base_opportunity=as_json.base_from_json(row["base_opportunity"], here, opportunity),
        memory=to_memory(row["memory"]),
        dirty=row["dirty"],
        due=row["due"],
    )


def from_memory(memory: Memory) -> dict[str, Any]:
    """Only what differs from a fresh memory, for most deals have little."""
    # Whatever kind of mapping somebody used becomes a dict, without a word.
    data: dict[str, Any] = _MEMORY.dump_python(
        memory, mode="json", exclude_defaults=True, fallback=dict, warnings=False
    )
    if memory.notices:
        data["notices"] = [as_json.text_to_json(text) for text in memory.notices]
    if memory.failure is not None:
        data["failure"]["text"] = as_json.text_to_json(memory.failure.text)
    return data


def to_memory(data: Row) -> Memory:
    """What is missing takes the default; what this version does not know is dropped."""
    named = {_RENAMED.get(name, name): value for name, value in data.items()}
    notices = tuple(as_json.text_from_json(text) for text in named.pop("notices", ()))
    failed = named.get("failure")
    text = as_json.text_from_json(failed["text"]) if failed else ""
    if failed:
        named["failure"] = {**failed, "text": text}
    memory = replace(_MEMORY.validate_python(named), notices=notices)
    # The library makes plain strings of texts, so these go in last.
    return replace(memory, failure=replace(memory.failure, text=text)) if memory.failure else memory


def from_state(state: CycleState) -> dict[str, Any]:
    """The row of the cycle's state, without ``connection``."""
    queue = state.engagements
    return {
        "compared_at": state.compared_at,
        "clock": state.clock,
        "rules": state.rules,
        "shape": None if state.shape is None else dict(state.shape),
        "engagements": None if queue is None else _from_queue(queue),
        "broken": [*state.broken] or None,
    }


def _from_queue(queue: EngagementQueue) -> dict[str, Any]:
    began = {"round": queue.round.isoformat()} if queue.round else {}
    return {"asked": [*queue.asked], "once": [*queue.once], "elsewhere": [*queue.elsewhere], **began}


def _to_queue(data: Mapping[str, Any]) -> EngagementQueue:
    """Earlier versions stored neither ``elsewhere`` nor ``round``."""
    began = data.get("round")
    return EngagementQueue(
        tuple(data["asked"]),
        tuple(data["once"]),
        tuple(data.get("elsewhere", ())),
        datetime.fromisoformat(began) if began else None,
    )


def to_state(row: Row | None) -> CycleState:
    """``row`` None: no cycle has left anything yet."""
    if row is None:
        return CycleState()
    queue = row["engagements"]
    shape = dict(row["shape"] or {})
    shape.pop(_CLOSED_ROWS, None)
    return CycleState(
        compared_at=row["compared_at"],
        clock=row["clock"],
        rules=row["rules"],
        shape=shape or None,
        engagements=queue and _to_queue(queue),
        broken=tuple(row["broken"] or ()),
    )


def from_intent(intent: Intent) -> dict[str, Any]:
    """The row of an intent, without ``connection``."""
    return {
        "link": intent.link,
        "side": intent.side.value,
        "creates": intent.create,
        "version": intent.version,
        "fields": as_json.fields_to_json(intent.fields),
        "source": as_json.fields_to_json(intent.source),
        "cycle": intent.cycle,
        "at": intent.at,
    }


def to_intent(row: Row) -> Intent:
    """The intent of a row with all columns."""
    return Intent(
        link=row["link"],
        side=Side(row["side"]),
        create=row["creates"],
        version=row["version"],
        fields=as_json.fields_from_json(row["fields"]),
        source=as_json.fields_from_json(row["source"]),
        cycle=row["cycle"],
        at=row["at"],
    )


def from_entries(entries: Iterable[JournalEntry]) -> list[dict[str, Any]]:
    """The rows of journal lines, without ``connection`` and ``id``, in their order.

    Neighbours that differ in nothing but field and values share a row: the forty lines of a new opportunity are one.
    """
    return [_from_lines(list(lines)) for _, lines in groupby(entries, key=_COMMON)]


def _from_lines(lines: Sequence[JournalEntry]) -> dict[str, Any]:
    first, one = lines[0], len(lines) == 1
    several = [[line.field, _tagged(line.old), _tagged(line.new)] for line in lines]
    name, old, new = several[0] if one else (None, None, {"kind": _LINES, "value": several})
    return {
        "link": first.link,
        "cycle": first.cycle,
        "at": first.at,
        "side": first.side.value,
        "action": str(first.action),
        "field": name,
        "old": old,
        "new": new,
        "rule": first.rule,
    }


def to_entries(row: Row) -> list[JournalEntry]:
    """The journal lines of a row with all columns, in their order."""
    new = row["new"]
    whole = new is not None and new["kind"] == _LINES
    return [
        JournalEntry(
            link=row["link"],
            cycle=row["cycle"],
            at=row["at"],
            side=Side(row["side"]),
            action=Action(row["action"]),
            field=name,
            old=_untagged(old),
            new=_untagged(new),
            rule=row["rule"],
        )
        for name, old, new in (new["value"] if whole else [(row["field"], row["old"], new)])
    ]


def _tagged(value: Value) -> dict[str, Any] | None:
    if value is None:
        return _CLEARED
    if type(value) is str:  # most values
        return {"kind": _TEXT, "value": value}
    return None if value is ABSENT else {"kind": _kind(value).value, "value": as_json.to_json(value)}


def _untagged(data: Row | None) -> Value:
    return ABSENT if data is None else as_json.value_from_json(Kind(data["kind"]), data["value"])


def _kind(value: Value) -> Kind:
    match value:
        case bool():
            return Kind.FLAG
        case Decimal():
            return Kind.NUMBER
        case datetime():
            return Kind.MOMENT
        case date():
            return Kind.DATE
        case Customer():
            return Kind.CUSTOMER
        case tuple():
            return Kind.MEMBERS if any(isinstance(item, Member) for item in value) else Kind.SOLUTIONS
        case _:
            return Kind.TEXT
