"""The JSON Patch document of one step of a referral: which paths may be written, and how each value is. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from cosell_sync.core.deal import ABSENT, Snapshot, State, Value
from cosell_sync.core.fields import SHARED
from cosell_sync.core.normalize import only_adds
from cosell_sync.core.parted import PartedWrite
from cosell_sync.partner_center.members import nameless, write_list
from cosell_sync.partner_center.values import WireOptions, midnight, sales_stage_code, timestamp
from cosell_sync.ports import Step

# State → status and substatus of a move that a partner may make. Only the service expires a referral.
MOVES: Final[Mapping[State, tuple[str, str]]] = MappingProxyType(
    {
        State.ACCEPTED: ("Active", "Accepted"),
        State.WON: ("Closed", "Won"),
        State.LOST: ("Closed", "Lost"),
        State.DECLINED: ("Closed", "Declined"),
    }
)

# What PATCH may touch, by the connector's contract; name and favorite are not in it (doubt D6).
PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "value": "/details/dealValue",
        "currency": "/details/currency",
        "close_date": "/details/closingDateTime",
        "sales_stage": "/salesStage",
        "campaign_id": "/campaignId",
        "notes": "/details/notes",
        "team": "/team",
        "contacts": "/customerProfile/team",
        "solutions": "/details/requirements/solutions",
        "external_reference": "/externalReferenceId",
        "status_reason": "/statusReason",
        "visible": "/consent/consentToShareReferralWithMicrosoftSellers",
    }
)

MOVE: Final = "status"
# What else a refusal may name: the properties of a move, and those that go by a switch.
_OTHERS: Final[Mapping[str, str]] = MappingProxyType(
    {MOVE: "/status", "name": "/name", "favorite": "/favorite"}
)
_OF_A_MOVE: Final = frozenset({"status", "status_reason"})


def operations(before: Snapshot, step: Step, wire: WireOptions) -> list[dict[str, Any]]:
    """The JSON Patch document of one step; empty where the referral holds all of it already.

    Only ``replace`` and ``add``, only permitted paths (the connector's contract; the page
    learn.microsoft.com/partner-center/developer/patch-a-referral lists fewer). ``add`` where nothing is known to be
    there. Raises ValueError for what may not be written, which is a bug of the caller.
    """
    fields = [
        operation
        for name, value in step.fields.items()
        for operation in _appended(before, name, value)
        or filter(None, [_operation(before, name, value, wire)])
    ]
    if step.state is None:
        return fields
    if step.state not in MOVES:
        raise ValueError(f"a referral cannot be moved to {step.state}")
    status, substatus = MOVES[step.state]
    move = [
        {"op": "replace", "path": "/status", "value": status},
        {"op": "replace", "path": "/substatus", "value": substatus},
    ]
    # A closed referral takes no change, so the close comes last. A received one takes none before the accept.
    return move + fields if step.state is State.ACCEPTED else fields + move


def _appended(before: Snapshot, name: str, value: Value) -> list[dict[str, Any]]:
    """One ``add`` a new member, where members without a key stand in the list: sending those again is not known to be taken.

    Empty where the list must be written whole.
    """
    current, rows = before[name], before.unkeyed.get(name, ())
    if nameless(rows) is None or not isinstance(value, tuple) or not isinstance(current, tuple):
        return []
    if not only_adds(current, value):
        return []
    known = {item.key for item in current}
    new = tuple(item for item in value if item.key not in known)
    return [{"op": "add", "path": f"{PATHS[name]}/-", "value": row} for row in write_list(new, ())]  # type: ignore[arg-type]  # of one kind


def field_of(target: str) -> str | None:
    """Our name of the field that a refusal names as its ``target``; ``status`` for a move, None where it names none of ours.

    A path with slashes or points, with or without the index of a member, or its last word alone: the page on error codes
    says only that ``target`` is there (learn.microsoft.com/partner-center/developer/error-codes).
    """
    words = tuple(
        word for word in re.split(r"[/.]", re.sub(r"\[[^]]*\]", "", target).lower()) if word and word != "-"
    )
    known = {tuple(path.lower().strip("/").split("/")): name for name, path in {**PATHS, **_OTHERS}.items()}
    while words and words not in known and words[-1].isdigit():
        words = words[:-1]
    if words == ("substatus",):
        return MOVE
    if words in known:
        return MOVE if known[words] in _OF_A_MOVE else known[words]
    inside = [name for path, name in known.items() if words[: len(path)] == path]
    endings = [name for path, name in known.items() if words and path[-len(words) :] == words]
    found = inside or endings
    return found[0] if len(found) == 1 else None


def piece(step: Step, names: Collection[str]) -> Step:
    """The part of a step that has these names; ``status`` is its move."""
    fields = {name: value for name, value in step.fields.items() if name in names}
    return Step(fields, step.state if MOVE in names else None)


def parted(step: Step, *, search: bool) -> PartedWrite:
    """The step as a write that may be sent in pieces. An accept goes first, for an unanswered referral takes nothing else;
    an end goes last, with its reason. The opportunity's id goes along with what lands, and is no reason for a PATCH of its own
    once everything else is refused.
    """
    fields = [name for name in step.fields if name in SHARED]
    along = step.fields.keys() & {"external_reference"}
    others = step.fields.keys() - SHARED.keys() - along
    if step.state is None or step.state is State.ACCEPTED:
        moves = {MOVE} if step.state else set()
        return PartedWrite(fields, others | moves, along=along, search=search)
    reason = others & {"status_reason"}
    return PartedWrite(fields, others - reason, {MOVE, *reason}, along=along, search=search)


def _operation(before: Snapshot, name: str, value: Value, wire: WireOptions) -> dict[str, Any] | None:
    path = PATHS.get(name)
    if name == "name" and wire.write_name:
        path = "/name"
    elif name == "favorite" and wire.write_favorite:
        path = "/favorite"
    if path is None or value is ABSENT:
        raise ValueError(f"{name} cannot be written to a referral")
    current = before[name]
    if name == "close_date" and current == value:
        return None  # the same day: the time of day stays as it was set
    operation = "add" if current is ABSENT else "replace"
    return {"op": operation, "path": path, "value": _wire_value(name, value, before, wire)}


def _wire_value(name: str, value: Value, before: Snapshot, wire: WireOptions) -> Any:
    if name == "visible" and value is not True:
        raise ValueError("visibility cannot be withdrawn")
    if name in {"team", "contacts", "solutions"}:
        return write_list(value, before[name], before.unkeyed.get(name, ()))
    match value:
        case None | bool() | Decimal():
            return value
        case datetime():
            return timestamp(value)
        case date():
            return midnight(value, wire.close_date_zone)
        case str():
            return sales_stage_code(value, wire) if name == "sales_stage" else str(value)
        case _:
            raise ValueError(f"{name} cannot be written to a referral")
