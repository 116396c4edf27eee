"""The replication resources: which rows of an object were written or deleted in a span of time."""

from datetime import UTC, datetime, timedelta

from cosell_sync.sandbox.exchange import Response
from cosell_sync.sandbox.salesforce.payload import Part
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import SObject
from cosell_sync.sandbox.salesforce.values import Refused, render_moment

REPLICATION_WINDOW = timedelta(days=30)
BIN_KEEPS = timedelta(days=15)


def _window(org: Org, part: Part, shape: SObject) -> tuple[datetime, datetime]:
    """Start and end to the minute, as the platform reads them."""
    if not shape.replicateable:
        raise Refused("INVALID_TYPE_FOR_OPERATION", f"object {shape.name} is not replicable")
    bounds: list[datetime] = []
    for name in ("start", "end"):
        given = part.query.get(name)
        if not given:
            raise Refused("MISSING_ARGUMENT", f"Missing required parameter: {name}")
        try:
            bound = datetime.fromisoformat(given)
        except ValueError:
            raise Refused("INVALID_REPLICATION_DATE", f"{name} is no date-time: {given}") from None
        if bound.tzinfo is None:
            raise Refused("INVALID_REPLICATION_DATE", f"{name} has no time zone: {given}")
        bounds.append(bound.astimezone(UTC).replace(second=0, microsecond=0))
    start, end = bounds
    if end <= start:
        raise Refused("INVALID_REPLICATION_DATE", "startDate must be at least one minute before endDate")
    if start < org.now() - REPLICATION_WINDOW:
        raise Refused("INVALID_REPLICATION_DATE", "startDate cannot be more than 30 days ago")
    return start, end


def _covered(org: Org, end: datetime) -> str:
    return render_moment(min(end, org.now().replace(second=0)))


def updated(org: Org, part: Part, shape: SObject) -> Response:
    """`GET …/updated`: the ids of rows that were written in a span of time."""
    start, end = _window(org, part, shape)
    ids = [row["Id"] for row in org.scan(shape.name) if start <= row["SystemModstamp"] < end]
    return Response(200, {"ids": ids, "latestDateCovered": _covered(org, end)})


def deleted(org: Org, part: Part, shape: SObject) -> Response:
    """`GET …/deleted`: the deletions of a span of time, as far back as the Recycle Bin goes."""
    start, end = _window(org, part, shape)
    earliest = org.now() - BIN_KEEPS
    gone = [
        {"id": deletion.id, "deletedDate": render_moment(deletion.at)}
        for deletion in org.deletions
        if deletion.object == shape.name and max(start, earliest) <= deletion.at < end
    ]
    return Response(
        200,
        {
            "deletedRecords": gone,
            "earliestDateAvailable": render_moment(earliest.replace(second=0)),
            "latestDateCovered": _covered(org, end),
        },
    )
