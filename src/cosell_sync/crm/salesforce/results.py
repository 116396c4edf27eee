"""What the result of one written row means for the write that it belongs to; pure."""

from __future__ import annotations

from collections.abc import Sequence

from cosell_sync.crm import writes
from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.bulk import Result
from cosell_sync.crm.salesforce.errors import Fault
from cosell_sync.crm.salesforce.org import Org
from cosell_sync.errors import Gone, RecordError, Unclear


def record_error(org: Org, faults: Sequence[Fault], status: int | None = None) -> RecordError:
    """The error of a row that the org refused, with the org's labels. ``status``: of the HTTP answer, where it had its own."""
    return errors.outcome(faults, status, org.labels, org.ours)


def failure(org: Org, result: Result) -> RecordError | None:
    """Why a row that was sent did not land; None where it landed. A row that was not sent (``outage``) has no error here."""
    if result.fine or result.outage is not None:
        return None
    if result.unclear is not None:
        return Unclear(result.unclear.text, code=result.unclear.code, status=result.unclear.status)
    return record_error(org, result.faults, result.status)


def related_error(error: RecordError) -> RecordError:
    """The error of a related row. One that is gone (a merged account, a deleted contact) makes the whole write stale."""
    return writes.as_stale(error) if isinstance(error, Gone) else error
