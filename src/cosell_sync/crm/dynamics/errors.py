"""Dataverse's errors: which `RecordError` a row's answer becomes, and what a person can do about it.

What a code means stands in the table of `transport.codes`; here are the codes that single steps look for.
The texts go to people, codes to logs.
https://learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cosell_sync.crm import writes
from cosell_sync.errors import Cure, Flaky, Gone, OutsideError, RecordError
from cosell_sync.transport.answers import error_body
from cosell_sync.transport.codes import CODES, Disposition, cure, disposition, meaning
from cosell_sync.transport.errors import record_kind

SYSTEM: Final = "dynamics"

EXPIRED_LINK: Final = "0x80044352"  # ExpiredVersionStamp: "perform a full sync"
NOT_TRACKED: Final = "0x80072491"  # ChangeTrackingNotEnabledForEntity
KEY_EXISTS: Final = frozenset({"0x80060892", "0x80040237"})  # DuplicateRecordEntityKey, DuplicateRecord
DUPLICATES: Final = "0x80040333"  # DuplicateRecordsFound: a duplicate rule
# Another row has the value of an alternate key, or a duplicate rule found one alike.
ALIKE: Final = KEY_EXISTS | {DUPLICATES}
BLOCKED: Final = (
    "duplicate"  # our own code: such a row is in the way, and a person must say which one is meant
)
READ_ONLY: Final = "0x8004022E"  # CannotUpdateBecauseItIsReadOnly: a closed row
# AlreadyClosed, CannotBeClosed, AlreadyOpen: the row may stand where it was to go.
NOT_FROM_HERE: Final = frozenset({"0x80040515", "0x80040516", "0x8004051A"})

# What an owner may be refused with: no role, no privilege, disabled, not in this environment. 0x80040203 is said of any bad
# argument, of a disabled assignee too.
OWNER: Final = frozenset({"0x80042F09", "0x80040220", "0x80040231", "0x80041D1F", "0x80072560", "0x80040203"})
NO_PRIVILEGE: Final = (
    "0x80040220"  # PrivilegeDenied: the principal in the text lacks a right, which may be an assignee
)
# What is about the row, or about our rights on it, and never about one of several fields.
ABOUT_THE_ROW: Final = frozenset({NO_PRIVILEGE, "0x80048306", "0x80048405", READ_ONLY, "0x80048408"})
FIELD_OF: Final[Mapping[str, str]] = {
    "0x80048479": "currency"
}  # codes that are about one field of ours, whatever they say
_CANONICAL: Final = {
    code.lower(): code
    for code in {
        *CODES[SYSTEM],
        *OWNER,
        *ALIKE,
        *NOT_FROM_HERE,
        *ABOUT_THE_ROW,
        *FIELD_OF,
        EXPIRED_LINK,
        NOT_TRACKED,
        READ_ONLY,
    }
}


def code_of(error: RecordError | OutsideError) -> str:
    """The code in one spelling, whatever case the server wrote it in."""
    return _CANONICAL.get(error.code.lower(), error.code)


def owner_refused(error: RecordError, owner: str, user: str) -> bool:
    """Whether it is the chosen owner that the environment does not take, so that another may be tried.

    The text names the principal that lacks something; where that is ``user``, our own, no owner would help.
    """
    text = error.text.lower()
    return code_of(error) in OWNER and (owner.lower() in text or not user or user.lower() not in text)


def with_advice(error: RecordError) -> RecordError:
    """The same error, with what a person can do about it where the platform's own words do not say."""
    code = code_of(error)
    known = meaning(SYSTEM, code)
    advice = known.ends if known and known.cure is Cure.ADMIN else ""
    text = f"{error.text} ({advice})" if advice and advice not in error.text else error.text
    status = (
        None if isinstance(error, Flaky) else error.status
    )  # a lasting 500 would count as the record's own
    return type(error)(
        text,
        code=code,
        status=status,
        fields=error.fields,
        request_id=error.request_id,
        cure=known.cure if known else error.cure,
    )


def of_colleague(error: RecordError, user: str, address: str) -> RecordError:
    """The refusal of a row about a colleague, told by the e-mail address. The text names the user that lacks a privilege
    by id alone, and that is not always ours.
    """
    if code_of(error) == NO_PRIVILEGE and user in error.text.lower():
        text = f"{address} has no security role for opportunities; an administrator can give one"
    else:
        text = f"{address}: {error.text}"
    return writes.copy_error(error, text)


def record_error(status: int, body: bytes, request_id: str = "") -> RecordError:
    """The error of one row that was answered so. After a 5xx this row was not written, because it was answered."""
    said = error_body(body)
    found = disposition(SYSTEM, status, said.code)
    if found in {Disposition.THROTTLED, Disposition.OVERLOADED, Disposition.GATEWAY}:
        code = said.code or f"http_{status}"
        return Flaky(f"Dataverse could not do this just now ({code})", code=code, request_id=request_id)
    text = said.text or f"{SYSTEM} answered {status} without a reason"
    fields = (said.target,) if said.target else ()
    kind = record_kind(found)
    return with_advice(
        kind(
            text,
            code=said.code or f"http_{status}",
            status=status,
            fields=fields,
            request_id=request_id,
            cure=cure(SYSTEM, said.code, found),
        )
    )


def passes(status: int, body: bytes) -> bool:
    """Whether the same write may be sent again in a moment: throttled, or beaten by another one."""
    found = disposition(SYSTEM, status, error_body(body).code)
    return found in {Disposition.THROTTLED, Disposition.OVERLOADED, Disposition.LOCKED}


def moved(error: RecordError) -> RecordError:
    """A row around the opportunity that changed or is gone calls for another look."""
    if isinstance(error, Gone) or code_of(error) in KEY_EXISTS:
        return writes.as_stale(error)
    return error
