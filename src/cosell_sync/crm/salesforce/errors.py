"""Salesforce's errors: how they are worded, and which `RecordError` the errors of a row become.

What a code means stands in the table of `transport.codes`. The texts go to people; codes go to logs.
Codes: https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Flaky, Gone, Locked, RecordError, Rejected, Stale
from cosell_sync.transport.codes import CODES, Disposition, Scope, cure, disposition
from cosell_sync.transport.errors import record_kind

if TYPE_CHECKING:
    from simple_salesforce.exceptions import SalesforceError

LOCKED_ROW: Final = "UNABLE_TO_LOCK_ROW"
DUPLICATES: Final = "DUPLICATES_DETECTED"
DUPLICATE_VALUE: Final = "DUPLICATE_VALUE"

# By code, what a person can do about a system that takes no calls.
HINTS: Final = {code: found.ends for code, found in CODES[SYSTEM].items() if found.scope is Scope.SYSTEM}
# What an owner is refused with: no right to read, left the company, a licence without opportunities.
OWNER: Final = frozenset(
    {"TRANSFER_REQUIRES_READ", "INACTIVE_OWNER_OR_USER", "OP_WITH_INVALID_USER_TYPE_EXCEPTION"}
)
# How an org refuses a state or country that its picklists do not list.
PLACE: Final = frozenset({"FIELD_INTEGRITY_EXCEPTION", "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"})
# What may be about the owner, and is when it names the column.
OWNER_NAMED: Final = frozenset(
    {
        "INVALID_CROSS_REFERENCE_KEY",
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "FIELD_INTEGRITY_EXCEPTION",
        "INVALID_FIELD_FOR_INSERT_UPDATE",
    }
)
# What is about the row, or about our rights on it, and never about one of several fields.
ABOUT_THE_ROW: Final = frozenset(
    {"INSUFFICIENT_ACCESS_OR_READONLY", "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "ENTITY_IS_LOCKED"}
)
SHAPE: Final = frozenset({"INVALID_FIELD", "INVALID_TYPE", "INVALID_FIELD_FOR_INSERT_UPDATE"})


class Match(NamedTuple):
    """A row that a duplicate rule found alike, which may be of another object than the refused one."""

    table: str
    id: str


@dataclass(frozen=True)
class Fault:
    """One error as Salesforce words it; rows of collections say ``statusCode`` where others say ``errorCode``."""

    code: str
    text: str
    fields: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()  # rows that a duplicate rule found alike

    @property
    def locked(self) -> bool:
        """A flow that met a lock hides the code in its text."""
        return self.code == LOCKED_ROW or (self.code.startswith("CANNOT_") and LOCKED_ROW in self.text)


def faults(data: object) -> tuple[Fault, ...]:
    """The errors in a body: a list of them, one of them, or the `errors` of a collection's row."""
    if isinstance(data, Mapping):
        data = data["errors"] if isinstance(data.get("errors"), list) else [data]
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        return ()
    return tuple(_fault(each) for each in data if isinstance(each, Mapping))


def owner_refused(found: Sequence[Fault]) -> bool:
    """Whether it is the chosen owner that the org does not take, so that another may be tried."""
    return any(
        each.code in OWNER or (each.code in OWNER_NAMED and "OwnerId" in each.fields) for each in found
    )


def _fault(error: Mapping[str, Any]) -> Fault:
    fields = error.get("fields")
    return Fault(
        code=str(error.get("errorCode") or error.get("statusCode") or error.get("error") or ""),
        text=str(error.get("message") or ""),
        fields=tuple(str(each) for each in fields) if isinstance(fields, list) else (),
        matches=tuple(_matches(error.get("duplicateResult"))),
    )


def _matches(result: object) -> Iterator[Match]:
    """https://developer.salesforce.com/docs/platform/api-rest/guide/headers-duplicaterules.html"""
    if not isinstance(result, Mapping):
        return
    for match in result.get("matchResults") or ():
        for each in match.get("matchRecords") or ():
            record = each.get("record") if isinstance(each, Mapping) else None
            if isinstance(record, Mapping) and isinstance(record.get("Id"), str):
                kind = record.get("attributes")
                table = kind.get("type") if isinstance(kind, Mapping) else match.get("entityType")
                yield Match(str(table or ""), record["Id"])


def outcome(
    found: Sequence[Fault],
    status: int | None = None,
    labels: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> RecordError:
    """What a row's errors mean. ``status``: None for a row of a collection. ``labels``: CRM field → what the seller
    sees; ``names``: CRM field → our name.
    """
    kind, decisive = _decisive(found, status)
    fields = tuple(dict.fromkeys(name for fault in found for name in fault.fields))
    text = "; ".join(fault.text for fault in found if fault.text) or "Salesforce gave no reason"
    if kind is Rejected:
        text = _with_labels(text, [labels[name] for name in fields if name in labels] if labels else [])
    code = decisive or (f"http_{status}" if status else "unknown")
    return kind(
        text,
        code=code,
        status=status,
        fields=tuple((names or {}).get(name, name) for name in fields),
        cure=cure(SYSTEM, decisive, disposition(SYSTEM, status, decisive)),
    )


def _with_labels(text: str, labels: Sequence[str]) -> str:
    """The text, with the labels of the fields concerned that it does not mention itself."""
    unnamed = [label for label in labels if label not in text]
    return f"{text} ({', '.join(unnamed)})" if unnamed else text


def _decisive(found: Sequence[Fault], status: int | None) -> tuple[type[RecordError], str]:
    """The kind of several errors, and the code it comes from: the one that asks for another look, then the one that passes."""
    codes = [LOCKED_ROW if fault.locked else fault.code for fault in found] or [""]
    kinds = {record_kind(disposition(SYSTEM, status, code)): code for code in reversed(codes)}
    return next(
        ((kind, kinds[kind]) for kind in (Stale, Gone, Locked, Flaky) if kind in kinds), (Rejected, codes[0])
    )


def gone(found: Sequence[Fault]) -> bool:
    """Whether each error says that the row is not there."""
    return {disposition(SYSTEM, None, fault.code) for fault in found} <= {Disposition.GONE}


def locked_row() -> RecordError:
    return Flaky("another transaction holds this row", code=LOCKED_ROW)


def refusals() -> type[SalesforceError]:
    """simple-salesforce's exception for what the org refuses, to be caught. An ``except`` clause is evaluated when
    something is raised, so that the library (half a second) is imported only then.
    """
    from simple_salesforce.exceptions import SalesforceError  # noqa: PLC0415

    return SalesforceError
