"""Many rows in one call, and what became of each.

A collection takes 200 rows, answers 200 whatever happened to them, and lists the results in the order of the rows. Five of
them, or four and a query, share a composite, which counts as one call.
Only a delete may be sent twice; a create or an upsert whose answer is lost stays unclear. Rows that meet a lock are sent again a
few times.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from cosell_sync.crm.salesforce import composite, errors
from cosell_sync.crm.salesforce.composite import Part, Rows
from cosell_sync.crm.salesforce.errors import Fault
from cosell_sync.crm.salesforce.org import OPPORTUNITY
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.values import packed
from cosell_sync.errors import OutsideError, Unavailable, Unclear
from cosell_sync.transport.exact_json import Encoded, encoded
from cosell_sync.transport.safety import Safety

SIZE: Final = 200
# Passes a duplicate rule that only alerts; one that blocks refuses the row all the same.
# https://developer.salesforce.com/docs/platform/api-rest/guide/headers-duplicaterules.html
ALLOW_DUPLICATES: Final[Mapping[str, str]] = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
# What shares a call is repeated as the first of these that is in it.
_STRICTEST_FIRST: Final = (Safety.UNGUARDED, Safety.GUARDED, Safety.HARMLESS)
BODY: Final = 4_000_000  # bytes of the rows in one call: long texts make few rows heavy


class Operation(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One row to be written. ``key``: the external id field of an upsert; ``id`` for update and delete.

    ``allow_duplicate``: whether a duplicate rule that only alerts is passed. An update is of a row that is known, so it passes.
    """

    operation: Operation
    table: str
    columns: Mapping[str, object] | None = None
    id: str = ""
    key: str = ""
    allow_duplicate: bool = False

    @property
    def passes_alerts(self) -> bool:
        """Whether it is sent with the header for that."""
        return self.allow_duplicate or self.operation is Operation.UPDATE

    @cached_property
    def record(self) -> Encoded:
        """The row as it is sent; made once, for it is weighed and looked through before."""
        made: dict[str, object] = {"attributes": {"type": self.table}}
        if self.id:
            made["id"] = self.id
        return encoded({**made, **(self.columns or {})})


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


@dataclass(frozen=True)
class _Request:
    """Changes of one kind that share a collection. ``places``: where they stand among all that are sent."""

    places: Sequence[int]
    changes: Sequence[Change]

    @cached_property
    def weight(self) -> int:
        return sum(len(each.record) for each in self.changes)

    @property
    def safety(self) -> Safety:
        """Whether it may be sent again. An upsert whose answer was lost is not: meanwhile a flow or a seller may have changed the
        new row, and the second would write over it. A solution's parent may be set only once, so a second upsert would be
        refused for the first's sake.
        """
        first = self.changes[0]
        if first.operation is Operation.DELETE:
            return Safety.HARMLESS
        upsert = first.operation is Operation.UPSERT and first.table == OPPORTUNITY
        return Safety.GUARDED if upsert else Safety.UNGUARDED

    @cached_property
    def shares(self) -> bool:
        """Whether it may share a composite."""
        return all(composite.takes_literally(each.record) for each in self.changes)

    @property
    def part(self) -> Part:
        """The collection, as a part of a composite or a call of its own."""
        first = self.changes[0]
        if first.operation is Operation.DELETE:
            ids = ",".join(each.id for each in self.changes)
            return Part("DELETE", f"composite/sobjects?ids={ids}&allOrNone=false")
        upsert = first.operation is Operation.UPSERT
        path = f"composite/sobjects/{first.table}/{first.key}" if upsert else "composite/sobjects"
        return Part(
            "POST" if first.operation is Operation.CREATE else "PATCH",
            path,
            {"allOrNone": False, "records": [each.record for each in self.changes]},
            ALLOW_DUPLICATES if first.passes_alerts else {},
        )


def send(rest: Rest, changes: Sequence[Change], afterwards: Part | None = None) -> Sequence[Result]:
    """The result of each change, in order. Never raises: once the org is away, the rest is not sent. See ``send_and_ask``."""
    return send_and_ask(rest, changes, afterwards)[0]


def send_and_ask(
    rest: Rest, changes: Sequence[Change], afterwards: Part | None
) -> tuple[Sequence[Result], Rows | None]:
    """As ``send``; with the rows of the query ``afterwards``, where it was answered in the call that carried out the last change.

    Collections share a composite as long as their rows surely fit into a call's time.
    """
    results: list[Result] = [Result()] * len(changes)
    left = list(_requests(changes))
    outage: OutsideError | None = None
    rows: Rows | None = None
    silent = 0  # calls in a row
    while left:
        some = _together(left, rest.pace.rows)
        del left[: len(some)]
        if outage is not None:
            found: Sequence[Result] = [Result(outage=outage)] * sum(len(each.changes) for each in some)
        else:
            room = len(some) < composite.QUERIES and not left and some[-1].shares
            found, rows = _sent(rest, some, afterwards if room else None)
            outage = next((each.outage for each in found if each.outage), None)
            silent = silent + 1 if all(each.unclear for each in found) else 0
            if silent == 2 and outage is None:
                outage = Unavailable(SYSTEM, "Salesforce stopped answering", code="no_answer")
        for at, result in zip((at for each in some for at in each.places), found, strict=True):
            results[at] = result
    return results, rows


def _requests(changes: Sequence[Change]) -> Iterator[_Request]:
    kinds: dict[tuple[Operation, str, str, bool], list[int]] = {}
    for at in sorted(
        range(len(changes)), key=lambda at: changes[at].table
    ):  # mixed tables stand in few blocks
        each = changes[at]
        kind = (each.operation, each.table if each.key else "", each.key, each.passes_alerts)
        kinds.setdefault(kind, []).append(at)
    for places in kinds.values():
        for some in packed(places, SIZE, lambda at: len(changes[at].record), BODY):
            yield _Request(some, [changes[at] for at in some])


def _together(requests: Sequence[_Request], rows: int) -> Sequence[_Request]:
    """The first ones, as many as fit into one call."""
    some: list[_Request] = []
    if not requests[0].shares:
        return requests[:1]
    for each in requests[: composite.QUERIES]:
        whole = [*some, each]
        if not each.shares or (
            some
            and (sum(len(one.changes) for one in whole) > rows or sum(one.weight for one in whole) > BODY)
        ):
            break
        some = whole
    return some


def _sent(
    rest: Rest, requests: Sequence[_Request], afterwards: Part | None
) -> tuple[Sequence[Result], Rows | None]:
    """One call, and again for the rows that met a lock; what was read before those is not the end."""
    heard: list[Rows | None] = []

    def once(changes: Sequence[Change]) -> Sequence[Result]:
        fresh = requests if not heard else list(_requests(changes))
        results, rows = _send(rest, fresh, afterwards if not heard else None)
        heard.append(rows)
        if fresh is requests:
            return results
        by_place = dict(zip((at for each in fresh for at in each.places), results, strict=True))
        return [by_place[at] for at in range(len(changes))]

    every = [change for each in requests for change in each.changes]
    found = rest.resend_locked(once, every, lambda result: any(fault.locked for fault in result.faults))
    return found, heard[0] if len(heard) == 1 else None


def _send(
    rest: Rest, requests: Sequence[_Request], afterwards: Part | None
) -> tuple[Sequence[Result], Rows | None]:
    size = sum(len(each.changes) for each in requests)
    try:
        with rest.pace.call(size):
            return _exchanged(rest, requests, afterwards)
    except Unclear as error:
        return [Result(unclear=error)] * size, None
    except OutsideError as error:
        return [Result(outage=error)] * size, None
    except errors.refusals() as error:
        found = errors.faults(error.content)
        return [Result(faults=found or (Fault("", ""),), status=error.status)] * size, None


def _exchanged(
    rest: Rest, requests: Sequence[_Request], afterwards: Part | None
) -> tuple[Sequence[Result], Rows | None]:
    safety = min((each.safety for each in requests), key=_STRICTEST_FIRST.index)
    if len(requests) == 1 and afterwards is None:
        part = requests[0].part
        answer = rest.call(part.method, part.url, part.body, headers=part.headers or None, safety=safety)
        return _of_rows(requests[0], answer.data), None
    parts = [*(each.part for each in requests), *([afterwards] if afterwards else [])]
    replies, at = composite.exchange(rest, parts, safety=safety)
    results: list[Result] = []
    for each, reply in zip(requests, replies, strict=False):
        if reply.fine:
            results += _of_rows(each, reply.body)
        else:
            refused = errors.faults(reply.body) or (Fault("", ""),)
            results += [Result(faults=refused, status=reply.status)] * len(each.changes)
    return results, composite.rows_if_fine(replies[-1], at) if afterwards else None


def _of_rows(request: _Request, data: Any) -> Sequence[Result]:
    if not isinstance(data, list) or len(data) != len(request.changes):
        unclear = Unclear(str(composite.strange()), code="unknown_shape")
        return [Result(unclear=unclear)] * len(request.changes)
    return [_result(row, request.changes[0].operation) for row in data]


def _result(row: Any, operation: Operation) -> Result:
    if not isinstance(row, Mapping):
        return Result(unclear=Unclear(str(composite.strange()), code="unknown_shape"))
    found = () if row.get("success") else errors.faults(row) or (Fault("", ""),)
    if operation is Operation.DELETE and found and errors.gone(found):
        found = ()  # gone is what was wanted
    return Result(id=str(row.get("id") or ""), faults=found)
