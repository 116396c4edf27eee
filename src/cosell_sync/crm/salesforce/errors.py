"""What Salesforce's error codes mean to us: one table, and the few functions that read it.

An error of a row becomes a `RecordError`, by what happens next. The texts go to people; codes go to logs.
Codes: https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.errors import Flaky, Gone, RecordError, Rejected, Stale

LOCKED_ROW: Final = "UNABLE_TO_LOCK_ROW"
DUPLICATES: Final = "DUPLICATES_DETECTED"
DUPLICATE_VALUE: Final = "DUPLICATE_VALUE"

STALE: Final = frozenset({"ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE", "PRECONDITION_FAILED"})
GONE: Final = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_ID_FIELD"})
FLAKY: Final = frozenset(
    {
        LOCKED_ROW,
        "SERVER_UNAVAILABLE",
        "ORG_IN_MAINTENANCE",
        "TOO_MANY_APEX_REQUESTS",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "QUERY_TIMEOUT",
        "TXN_SECURITY_METERING_ERROR",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "PROCESSING_HALTED",
        "UNKNOWN_EXCEPTION",
    }
)
# The whole org is closed to us, whatever the record; asking again at once does not help.
CLOSED: Final = {
    "REQUEST_LIMIT_EXCEEDED": "the org's API allocation is spent or too many long calls run; it frees itself",
    "API_CURRENTLY_DISABLED": "enable the API for the org",
    "API_DISABLED_FOR_ORG": "enable the API for the integration user and the org",
    "ORG_LOCKED": "the org is locked; ask Salesforce support",
    "STORAGE_LIMIT_EXCEEDED": "the org's data storage is full; free some",
    "ORG_IN_MAINTENANCE": "the org is read-only for maintenance; it frees itself",
    "SERVER_UNAVAILABLE": "Salesforce is too busy; it frees itself",
}
SHAPE: Final = frozenset({"INVALID_FIELD", "INVALID_TYPE", "INVALID_FIELD_FOR_INSERT_UPDATE"})


@dataclass(frozen=True)
class Fault:
    """One error as Salesforce words it; rows of collections say ``statusCode`` where others say ``errorCode``."""

    code: str
    text: str
    fields: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()  # ids that a duplicate rule found

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


def _fault(error: Mapping[str, Any]) -> Fault:
    fields = error.get("fields")
    return Fault(
        code=str(error.get("errorCode") or error.get("statusCode") or error.get("error") or ""),
        text=str(error.get("message") or ""),
        fields=tuple(str(each) for each in fields) if isinstance(fields, list) else (),
        matches=tuple(_matches(error.get("duplicateResult"))),
    )


def _matches(result: object) -> Iterator[str]:
    """https://developer.salesforce.com/docs/platform/api-rest/guide/headers-duplicaterules.html"""
    if not isinstance(result, Mapping):
        return
    for match in result.get("matchResults") or ():
        for each in match.get("matchRecords") or ():
            record = each.get("record") if isinstance(each, Mapping) else None
            if isinstance(record, Mapping) and isinstance(record.get("Id"), str):
                yield record["Id"]


def outcome(
    found: Sequence[Fault],
    status: int | None = None,
    labels: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> RecordError:
    """What a row's errors mean. ``labels``: CRM field → what the seller sees; ``names``: CRM field → our name."""
    labels, names = labels or {}, names or {}
    codes = [fault.code for fault in found]
    code = next(iter(codes), "") or (f"http_{status}" if status else "unknown")
    touched = tuple(dict.fromkeys(name for fault in found for name in fault.fields))
    fields = tuple(names.get(name, name) for name in touched)
    text = "; ".join(fault.text for fault in found if fault.text) or "Salesforce gave no reason"
    kind: type[RecordError] = Rejected
    if status == 412 or not STALE.isdisjoint(codes):
        kind = Stale
    elif status == 404 or not GONE.isdisjoint(codes):
        kind = Gone
    elif any(fault.locked for fault in found) or not FLAKY.isdisjoint(codes) or (status or 0) >= 500:
        kind = Flaky
    elif seen := [labels[name] for name in touched if name in labels and labels[name] not in text]:
        text = f"{text} ({', '.join(seen)})"
    return kind(text, code=code, status=status, fields=fields)
