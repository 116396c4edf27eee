"""What the other systems' error codes and statuses mean: how each is treated, what it is about, and who ends it. Pure data.

A code knows more than the status that it comes with: a customer's plug-in in Dataverse refuses with any status from 400 to
599 (``PluginHttpStatusCode``) and keeps its code 0x80040265, which is always about the one record. A status counts where
there is no code, or none that stands here.

``ends`` is one sentence for whoever can end it, as an administrator reads it in `deals list`. What a seller reads follows from ``cure``
alone (``core/messages``).

Sources:

- Partner Center: learn.microsoft.com/partner-center/developer/error-codes; its 429 has another shape than its other
  errors (learn.microsoft.com/partner-center/developer/api-throttling-guidance)
- Dataverse: learn.microsoft.com/power-apps/developer/data-platform/api-limits and
  learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes;
  learn.microsoft.com/power-apps/developer/data-platform/handle-exceptions for ``PluginHttpStatusCode``
- Salesforce: developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html; approvals:
  developer.salesforce.com/docs/platform/apexref/namespaces/approval
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cosell_sync.errors import Cure


class Disposition(StrEnum):
    """What an answer says about the request."""

    DONE = "done"
    EXPIRED = "expired"  # the token is refused: get another, then send once more
    THROTTLED = "throttled"  # not carried out; every thread of that host pauses
    OVERLOADED = "overloaded"  # overload or maintenance: not carried out
    GATEWAY = "gateway"  # something between gave up: it may have been carried out
    FAILED = "failed"  # the system failed on this call: from 500 on it may have been carried out
    LOCKED = "locked"  # another transaction holds the row: not carried out, possible in a moment
    HELD = "held"  # a person or a process holds the record: not carried out, possible in days
    STALE = "stale"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    REJECTED = "rejected"
    NOT_READY = (
        "not_ready"  # the system lacks something that an administrator provides; no fault of the record
    )
    EXHAUSTED = "exhausted"  # no calls left for now: not sent again within this call
    CLOSED = "closed"  # the system takes no calls from us until an administrator acts
    REDIRECTED = "redirected"  # never followed, it would carry the token away
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a call or an error is about: one record, a part of it (a field, a related row), or the whole system."""

    RECORD = "record"
    PART = "part"
    SYSTEM = "system"


@dataclass(frozen=True)
class Meaning:
    """One row: how it is treated, what it is about, who ends it, and the sentence for them."""

    disposition: Disposition
    scope: Scope
    cure: Cure
    ends: str
    says: str = ""  # the same as a sentence, where it means that who signed in is refused


_D = Disposition

STATUSES: Final[Mapping[int, Disposition]] = MappingProxyType(
    {
        400: _D.REJECTED,
        401: _D.EXPIRED,
        403: _D.FORBIDDEN,
        404: _D.GONE,
        405: _D.REJECTED,
        406: _D.REJECTED,
        408: _D.GATEWAY,
        409: _D.STALE,
        410: _D.GONE,
        411: _D.REJECTED,
        412: _D.STALE,
        413: _D.REJECTED,
        415: _D.REJECTED,
        416: _D.REJECTED,
        422: _D.REJECTED,
        423: _D.LOCKED,
        429: _D.THROTTLED,
        500: _D.FAILED,
        501: _D.REJECTED,
        502: _D.GATEWAY,
        503: _D.OVERLOADED,
        504: _D.GATEWAY,
        507: _D.REJECTED,
        509: _D.THROTTLED,
    }
)
# Per system: statuses that mean something else there.
OWN_STATUSES: Final[Mapping[str, Mapping[int, Disposition]]] = MappingProxyType(
    {"salesforce": MappingProxyType({300: _D.REJECTED, 409: _D.REJECTED})}  # 300: several rows have that id
)


def _passes(disposition: Disposition, ends: str = "it passes by itself") -> Meaning:
    return Meaning(disposition, Scope.RECORD, Cure.TIME, ends)


def _system(disposition: Disposition, ends: str, cure: Cure = Cure.TIME) -> Meaning:
    return Meaning(disposition, Scope.SYSTEM, cure, ends)


def _seller(ends: str = "whoever edits the record corrects it", scope: Scope = Scope.RECORD) -> Meaning:
    return Meaning(_D.REJECTED, scope, Cure.SELLER, ends)


def _admin(ends: str, scope: Scope = Scope.RECORD, disposition: Disposition = _D.REJECTED) -> Meaning:
    return Meaning(disposition, scope, Cure.ADMIN, ends)


_GONE_ROW: Final = Meaning(
    _D.GONE, Scope.RECORD, Cure.ADMIN, "restore the record, or run cosell-sync deals unlink"
)
_NEWER: Final = _passes(_D.STALE, "it is read and decided again")
_FIELD_RIGHTS: Final = "let the integration user edit this field: assign the permission set `Cosell Sync`"
_ROW_RIGHTS: Final = "give the integration user access to this record, its owner and its account"
_REPORT: Final = "report it: cosell-sync sent something that the system does not understand"
_PRIVILEGE: Final = "an administrator must extend the security role of the user that the text names"

_PARTNER_CENTER: Final[Mapping[str, Meaning]] = {
    "resourceModified": _NEWER,
    "preconditionFailed": _NEWER,
    "itemNotFound": _GONE_ROW,
    "invalidRequest": _seller(scope=Scope.PART),
    "badRequest": _seller(scope=Scope.PART),
    "invalidInput": _seller(scope=Scope.PART),
    "validationError": _seller(scope=Scope.PART),
    "accessDenied": Meaning(
        _D.FORBIDDEN,
        Scope.RECORD,
        Cure.ADMIN,
        "give the signed-in user the role Referrals admin in Partner Center, for all locations",
        "Partner Center lets this user see no referrals",
    ),
    "notAllowed": _admin("see the deal in Partner Center: it does not allow this", disposition=_D.FORBIDDEN),
    "notSupported": _admin(_REPORT),
    # Enforced since June 2026 on calls of a user; another token of a sign-in that was made since may have it
    # (learn.microsoft.com/partner-center/developer/referral-api-authentication).
    "900421": Meaning(
        _D.EXPIRED,
        Scope.SYSTEM,
        Cure.ADMIN,
        "sign in again as a user with MFA: run cosell-sync login",
        "Partner Center demands multifactor authentication (MFA), and this sign-in was made without it",
    ),
}

_DYNAMICS: Final[Mapping[str, Meaning]] = {
    # the record as it is
    "0x80040265": _seller("whoever edits the record corrects what the environment's own plug-in names"),
    "0x80060882": _NEWER,  # ConcurrencyVersionMismatch
    "0x80060892": _admin(
        "another record has this referral id; see that one"
    ),  # DuplicateRecordEntityKey, a 412
    "0x80040237": _admin("another record has this key; see that one"),  # DuplicateRecord, a 412
    "0x80040333": _seller("choose the record that is meant", Scope.PART),  # DuplicateRecordsFound; 412 or 500
    "0x80060891": _GONE_ROW,  # RecordNotFoundByEntityKey
    "0x80040217": _GONE_ROW,  # ObjectDoesNotExist
    "0x8004022E": _seller("the row is closed; reopen it to change it"),  # CannotUpdateBecauseItIsReadOnly
    "0x80040515": _seller("the row is closed already"),
    "0x80040516": _seller("the row cannot be closed as it is"),
    "0x8004051A": _seller("the row is open already"),
    # values and parts
    "0x80044331": _admin("the text is longer than its column; make the column longer", Scope.PART),
    "0x80040278": _seller("take out the characters that the CRM cannot store", Scope.PART),
    "0x80048479": _admin(
        "the currency is fixed by products, quotes or orders of the opportunity", Scope.PART
    ),
    "0x80048CEC": _admin(
        "the amount is too large in the base currency; correct the exchange rate", Scope.PART
    ),
    "0x80048CEB": _admin(
        "the amount is too small in the base currency; correct the exchange rate", Scope.PART
    ),
    "0x80048408": _admin("this status reason does not belong to that state; correct mapping.stages"),
    "0x80100005": _admin(_REPORT),
    # rights and setup
    "0x80040220": _admin(_PRIVILEGE, disposition=_D.FORBIDDEN),
    "0x80040231": _admin(_PRIVILEGE, disposition=_D.FORBIDDEN),
    "0x80048306": _admin(_PRIVILEGE, disposition=_D.FORBIDDEN),
    "0x80048405": _admin(_PRIVILEGE, disposition=_D.FORBIDDEN),
    "0x8004F502": _admin(
        "an administrator must give the application user the field security profile", Scope.PART, _D.FORBIDDEN
    ),
    "0x8004F504": _admin(
        "an administrator must give the application user the field security profile", Scope.PART, _D.FORBIDDEN
    ),
    "0x8004F507": _admin(
        "an administrator must give the application user the field security profile", Scope.PART, _D.FORBIDDEN
    ),
    "0x80042F09": _admin("give the user that the text names a security role", Scope.PART, _D.FORBIDDEN),
    "0x80072560": _admin("add the user that the text names to the environment", Scope.PART, _D.FORBIDDEN),
    "0x80041D1F": _admin("the owner is disabled; name another in mapping.default_owner", Scope.PART),
    "0x80060890": _admin(  # EntityKeyNotDefined: no such key, or its index is not built yet
        "the key on the referral id is missing or still being built; run `cosell-sync provision` or wait",
        disposition=_D.NOT_READY,
    ),
    "0x8006088D": _admin("the table has no optimistic concurrency; an administrator must enable it"),
    "0x80060883": _admin("the table has no optimistic concurrency; an administrator must enable it"),
    "0x80040224": _admin("see the plug-ins of this environment: one of them failed", disposition=_D.FAILED),
    "0x80081116": _admin(
        "see the plug-ins of this environment: one of them took too much", disposition=_D.FAILED
    ),
    # what passes
    "0x80071154": _passes(_D.LOCKED),  # ConcurrentOperationFailure
    "0x80044150": _passes(_D.LOCKED),  # generic SQL error, a deadlock among them
    "0x80044151": _passes(_D.LOCKED),  # SQL timeout
    "0x80072321": _system(_D.THROTTLED, "it passes by itself"),  # service protection: execution time
    "0x80072322": _system(_D.THROTTLED, "it passes by itself"),  # service protection: number of requests
    "0x80072326": _system(_D.THROTTLED, "it passes by itself"),  # service protection: parallel requests
    "0x8005F103": _system(_D.THROTTLED, "it passes by itself"),
    "0x80048544": _system(_D.THROTTLED, "it passes by itself"),  # query throttling, with 400, 429 or 500
    "0x80048644": _system(_D.THROTTLED, "it passes by itself"),
}

_SALESFORCE: Final[Mapping[str, Meaning]] = {
    # the record as it is; the org's own words say what to do
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": _seller(),
    "FIELD_FILTER_VALIDATION_EXCEPTION": _seller(scope=Scope.PART),
    "FIELD_INTEGRITY_EXCEPTION": _seller(scope=Scope.PART),
    "REQUIRED_FIELD_MISSING": _seller("fill in the fields that the org requires"),
    "STRING_TOO_LONG": _seller("shorten the text", Scope.PART),
    "NUMBER_OUTSIDE_VALID_RANGE": _seller("correct the number", Scope.PART),
    "INVALID_EMAIL_ADDRESS": _seller("correct the address", Scope.PART),
    "DUPLICATES_DETECTED": _seller("choose the record that is meant", Scope.PART),
    # a person or a process holds it: an approval, or an admin who locked it
    "ENTITY_IS_LOCKED": Meaning(
        _D.HELD, Scope.RECORD, Cure.TIME, "finish or recall the approval that locks the record, or unlock it"
    ),
    "ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE": _NEWER,
    "PRECONDITION_FAILED": _NEWER,
    "ENTITY_IS_DELETED": _GONE_ROW,
    "NOT_FOUND": _GONE_ROW,
    "INVALID_ID_FIELD": _GONE_ROW,
    # rights and setup
    "CANNOT_EXECUTE_FLOW_TRIGGER": _admin("see the flows and triggers of the org: one of them failed"),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": _admin(
        "see the flows and triggers of the org: one of them failed"
    ),
    "APEX_ERROR": _admin("see the triggers of the org: one of them failed"),
    "INSUFFICIENT_ACCESS_OR_READONLY": _admin(_ROW_RIGHTS, disposition=_D.FORBIDDEN),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": _admin(_ROW_RIGHTS, Scope.PART, _D.FORBIDDEN),
    "INSUFFICIENT_ACCESS": _admin(_ROW_RIGHTS, disposition=_D.FORBIDDEN),
    "TRANSFER_REQUIRES_READ": _admin("give the new owner read access to opportunities", Scope.PART),
    "INACTIVE_OWNER_OR_USER": _admin("name an active user in mapping.default_owner", Scope.PART),
    "INVALID_CROSS_REFERENCE_KEY": _admin(
        "the record refers to one that is not there or not visible", Scope.PART
    ),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": _admin(
        "add the value to the picklist, or correct the mapping", Scope.PART
    ),
    "INVALID_FIELD": _admin(_FIELD_RIGHTS, Scope.PART),
    "INVALID_FIELD_FOR_INSERT_UPDATE": _admin(_FIELD_RIGHTS, Scope.PART),
    "INVALID_TYPE": _admin(_FIELD_RIGHTS, Scope.PART),
    "DUPLICATE_VALUE": _admin("another record has this key; see that one"),
    "MALFORMED_ID": _admin(_REPORT),
    "JSON_PARSER_ERROR": _admin(_REPORT),
    "TXN_SECURITY_NO_ACCESS": _admin("see the transaction security policies of the org"),
    "TXN_SECURITY_APEX_ERROR": _admin("see the transaction security policies of the org"),
    # what passes
    "UNABLE_TO_LOCK_ROW": _passes(_D.LOCKED),
    "REQUEST_RUNNING_TOO_LONG": _passes(_D.FAILED),
    "QUERY_TIMEOUT": _passes(_D.FAILED),
    "TXN_SECURITY_METERING_ERROR": _passes(_D.FAILED),
    "ALL_OR_NONE_OPERATION_ROLLED_BACK": _passes(_D.FAILED),
    "PROCESSING_HALTED": _passes(_D.FAILED),
    "TOO_MANY_APEX_REQUESTS": _passes(_D.FAILED, "it passes by itself; if it lasts, see the org's Apex"),
    "UNKNOWN_EXCEPTION": Meaning(
        _D.FAILED,
        Scope.RECORD,
        Cure.MICROSOFT,
        "Salesforce support has to look at it, with the number in the text",
    ),
    # the org as a whole
    "INVALID_SESSION_ID": _system(
        _D.EXPIRED, "check the session policies and IP ranges of the app and the integration user", Cure.ADMIN
    ),
    "SERVER_UNAVAILABLE": _system(_D.OVERLOADED, "Salesforce is too busy; it frees itself"),
    "ORG_IN_MAINTENANCE": _system(
        _D.OVERLOADED, "the org is read-only for maintenance; it frees itself", Cure.MICROSOFT
    ),
    "REQUEST_LIMIT_EXCEEDED": _system(  # a 403; the daily allocation, or too many long calls
        _D.EXHAUSTED, "the org's API allocation is spent or too many long calls run; it frees itself"
    ),
    "API_CURRENTLY_DISABLED": _system(_D.CLOSED, "enable the API for the org", Cure.ADMIN),
    "API_DISABLED_FOR_ORG": _system(
        _D.CLOSED, "enable the API for the integration user and the org", Cure.ADMIN
    ),
    "ORG_LOCKED": _system(_D.CLOSED, "the org is locked; ask Salesforce support", Cure.MICROSOFT),
    "STORAGE_LIMIT_EXCEEDED": _system(_D.CLOSED, "the org's data storage is full; free some", Cure.ADMIN),
    "UNSUPPORTED_API_VERSION": _system(
        _D.CLOSED, "set salesforce.api_version to a version that the org lists", Cure.ADMIN
    ),
}

CODES: Final[Mapping[str, Mapping[str, Meaning]]] = MappingProxyType(
    {
        "partner_center": MappingProxyType(_PARTNER_CENTER),
        "dynamics": MappingProxyType(_DYNAMICS),
        "salesforce": MappingProxyType(_SALESFORCE),
    }
)
_ANY_CASE: Final = {
    system: {code.lower(): found for code, found in rows.items()} for system, rows in CODES.items()
}
_PASSING: Final = frozenset(
    {_D.THROTTLED, _D.OVERLOADED, _D.GATEWAY, _D.FAILED, _D.LOCKED, _D.HELD, _D.STALE, _D.EXHAUSTED}
)


def meaning(system: str, code: str) -> Meaning | None:
    """The row of this code, in whatever case it came; None for a code that is not known."""
    return _ANY_CASE.get(system, {}).get(code.lower()) if code else None


def cure(system: str, code: str, found: Disposition) -> Cure:
    """Who ends an error of this code. Of an unknown code: time where the answer says so, else an administrator."""
    known = meaning(system, code)
    return known.cure if known else Cure.TIME if found in _PASSING else Cure.ADMIN


def disposition(system: str, status: int | None, code: str = "") -> Disposition:
    """What an answer of that status and error code says. ``status`` None: one row of an answer, with a code only."""
    if status is not None and 200 <= status < 300:
        return Disposition.DONE
    if known := meaning(system, code):
        return known.disposition
    if status is None:
        return Disposition.REJECTED
    if found := OWN_STATUSES.get(system, {}).get(status):
        return found
    if 300 <= status < 400:
        return Disposition.REDIRECTED
    return STATUSES.get(status, Disposition.UNKNOWN)
