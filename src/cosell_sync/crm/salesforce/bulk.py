"""Many rows in one call, and what became of each.

A collection takes 200 rows, answers 200 whatever happened to them, and lists the results in the order of the rows.
Only an upsert by external id and a delete may be sent twice; a create whose answer is lost stays unclear.
Rows that meet a lock are sent again a few times.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from cosell_sync.crm.salesforce import composite, errors
from cosell_sync.crm.salesforce.errors import Fault
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.values import packed
from cosell_sync.errors import OutsideError, Unclear
from cosell_sync.transport.exact_json import encode

SIZE: Final = 200
BODY: Final = 4_000_000  # bytes of the rows in one call: long texts make few rows heavy


class Operation(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One row to be written. ``key``: the external id field of an upsert; ``id`` for update and delete."""

    operation: Operation
    table: str
    columns: Mapping[str, object] | None = None
    id: str = ""
    key: str = ""


@dataclass(frozen=True)
class Result:
    """``faults`` empty: landed. ``unclear``: no answer came, so it may have. ``outage``: never sent, and why."""

    id: str = ""
    faults: tuple[Fault, ...] = ()
    status: int | None = None
    unclear: Unclear | None = None
    outage: OutsideError | None = None

    @property
    def fine(self) -> bool:
        return not self.faults and self.unclear is None and self.outage is None


def send(rest: Rest, changes: Sequence[Change]) -> Sequence[Result]:
    """The result of each change, in order. Never raises: once the org is away, the rest is not sent."""
    results: list[Result] = [Result()] * len(changes)
    kinds: dict[tuple[Operation, str, str], list[int]] = {}
    for at in sorted(
        range(len(changes)), key=lambda at: changes[at].table
    ):  # mixed tables stand in few blocks
        each = changes[at]
        kinds.setdefault((each.operation, each.table if each.key else "", each.key), []).append(at)
    outage: OutsideError | None = None
    for places in kinds.values():
        for some in packed(places, SIZE, lambda at: len(encode(changes[at].columns or {})), BODY):
            if outage is None:
                found = _resent(rest, [changes[at] for at in some])
                outage = next((each.outage for each in found if each.outage), None)
            else:
                found = [Result(outage=outage)] * len(some)
            for at, result in zip(some, found, strict=True):
                results[at] = result
    return results


def _resent(rest: Rest, changes: Sequence[Change]) -> Sequence[Result]:
    return rest.resend_locked(
        partial(_send, rest), changes, lambda result: any(fault.locked for fault in result.faults)
    )


def _send(rest: Rest, changes: Sequence[Change]) -> Sequence[Result]:
    first = changes[0]
    try:
        if first.operation is Operation.DELETE:
            path = f"composite/sobjects?ids={','.join(each.id for each in changes)}&allOrNone=false"
            answer = rest.call("DELETE", path, repeat=True)
        else:
            upsert = first.operation is Operation.UPSERT
            path = f"composite/sobjects/{first.table}/{first.key}" if upsert else "composite/sobjects"
            answer = rest.call(
                "POST" if first.operation is Operation.CREATE else "PATCH",
                path,
                {"allOrNone": False, "records": [_record(each) for each in changes]},
                # A solution's parent may be set only once, so a second upsert would be refused for the first's sake.
                repeat=upsert and first.table == "Opportunity",
            )
    except Unclear as error:
        return [Result(unclear=error)] * len(changes)
    except OutsideError as error:
        return [Result(outage=error)] * len(changes)
    except errors.refusals() as error:
        found = errors.faults(error.content)
        return [Result(faults=found or (Fault("", ""),), status=error.status)] * len(changes)
    if not isinstance(answer.data, list) or len(answer.data) != len(changes):
        return [Result(unclear=Unclear(str(composite.strange()), code="unknown_shape"))] * len(changes)
    return [_result(row, first.operation) for row in answer.data]


def _record(change: Change) -> dict[str, object]:
    made: dict[str, object] = {"attributes": {"type": change.table}}
    if change.id:
        made["id"] = change.id
    return {**made, **(change.columns or {})}


def _result(row: Any, operation: Operation) -> Result:
    if not isinstance(row, Mapping):
        return Result(unclear=Unclear(str(composite.strange()), code="unknown_shape"))
    found = () if row.get("success") else errors.faults(row) or (Fault("", ""),)
    if operation is Operation.DELETE and found and errors.gone(found):
        found = ()  # gone is what was wanted
    return Result(id=str(row.get("id") or ""), faults=found)
