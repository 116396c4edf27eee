"""What Dataverse's error codes mean to us, beyond what `transport.outcomes` knows of statuses: one table, few readers.

Branch on the code first where it is known, on the status else; a code may be missing. The texts go to people, codes to
logs. https://learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cosell_sync.crm import writes
from cosell_sync.errors import CosellError, Flaky, Gone, OutsideError, RecordError, Stale
from cosell_sync.transport import errors
from cosell_sync.transport.errors import Fate, Scope

SYSTEM: Final = "dynamics"

EXPIRED_LINK: Final = "0x80044352"  # ExpiredVersionStamp: "perform a full sync"
NOT_TRACKED: Final = "0x80072491"  # ChangeTrackingNotEnabledForEntity
KEY_EXISTS: Final = frozenset({"0x80060892", "0x80040237"})  # DuplicateRecordEntityKey, DuplicateRecord
KEY_MISSING: Final = "0x80060890"  # EntityKeyNotDefined: no such key, or its index is not built yet
READ_ONLY: Final = "0x8004022E"  # CannotUpdateBecauseItIsReadOnly: a closed row
# AlreadyClosed, CannotBeClosed, AlreadyOpen: the row may stand where it was to go.
NOT_FROM_HERE: Final = frozenset({"0x80040515", "0x80040516", "0x8004051A"})

KINDS: Final[Mapping[str, type[RecordError]]] = {
    "0x80060882": Stale,  # ConcurrencyVersionMismatch
    "0x80060891": Gone,  # RecordNotFoundByEntityKey
    "0x80040217": Gone,  # ObjectDoesNotExist
    "0x80071154": Flaky,  # ConcurrentOperationFailure
    "0x80044150": Flaky,  # generic SQL error, a deadlock among them
    "0x80044151": Flaky,  # SQL timeout
    KEY_MISSING: Flaky,  # somebody has to provision, or to wait; no fault of the record
}
# What a person can do about it, where the platform's own words do not say.
ADVICE: Final[Mapping[str, str]] = {
    KEY_MISSING: "the key on the referral id is missing or still being built; run `cosell-sync provision` or wait",
    "0x8006088D": "the table has no optimistic concurrency; an administrator must enable it",
    "0x80048408": "this status reason does not belong to that state; correct mapping.stages",
    "0x80048479": "the currency is fixed by products, quotes or orders of the opportunity",
    "0x8004F507": "an administrator must give the application user the field security profile",
    "0x80040220": "an administrator must extend the application user's security role",
    READ_ONLY: "the row is closed; reopen it to change it",
}
_CANONICAL: Final = {
    code.lower(): code
    for code in {*KINDS, *ADVICE, *KEY_EXISTS, *NOT_FROM_HERE, EXPIRED_LINK, NOT_TRACKED, READ_ONLY}
}


def code_of(error: RecordError | OutsideError) -> str:
    """The code in one spelling, whatever case the server wrote it in."""
    return _CANONICAL.get(error.code.lower(), error.code)


def judged(error: RecordError) -> RecordError:
    """The same error, by what the code says happens next."""
    code = code_of(error)
    kind = KINDS.get(code, type(error))
    advice = ADVICE.get(code, "")
    text = f"{error.text} ({advice})" if advice and advice not in error.text else error.text
    if kind is type(error) and text == error.text and code == error.code:
        return error
    status = None if kind is Flaky else error.status  # a lasting 500 would count as the record's own
    return kind(text, code=code, status=status, fields=error.fields, request_id=error.request_id)


def of(status: int, body: bytes, request_id: str = "") -> RecordError:
    """What an answer about one row means. Its 5xx means that this row was not written, for it was answered."""
    said = errors.said(body)
    fate = errors.fate(SYSTEM, status, _CANONICAL.get(said.code.lower(), said.code))
    found: CosellError = errors.error(SYSTEM, fate, Scope.RECORD, said, status=status, request_id=request_id)
    if isinstance(found, RecordError):
        return judged(found)
    code = said.code or f"http_{status}"
    return Flaky(f"Dataverse could not do this just now ({code})", code=code, request_id=request_id)


def passing(status: int, body: bytes) -> bool:
    """Whether the same write may be sent again in a moment: throttled, or beaten by another one."""
    code = errors.said(body).code
    code = _CANONICAL.get(code.lower(), code)
    if errors.fate(SYSTEM, status, code) in {Fate.WAIT, Fate.BUSY}:
        return True
    return KINDS.get(code) is Flaky and code != KEY_MISSING


def moved(error: RecordError) -> RecordError:
    """A row around the opportunity that changed or is gone calls for another look."""
    if isinstance(error, Gone) or code_of(error) in KEY_EXISTS:
        return writes.as_stale(error)
    return error
