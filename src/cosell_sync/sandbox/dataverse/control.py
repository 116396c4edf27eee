"""`/_sandbox/…`: what sellers and admins do in the fake Dataverse, as JSON, for people at a shell and for the demo.

Only loopback gets in, and without a sign-in; nothing that is done here counts as a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cosell_sync.sandbox.dataverse.values import Refused
from cosell_sync.sandbox.server import Request, Response

if TYPE_CHECKING:
    from cosell_sync.sandbox.dataverse.service import Dataverse

_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def control(dynamics: Dataverse, request: Request) -> Response:
    """`/_sandbox/…`: what people do, as JSON, for loopback only and without a sign-in."""
    if not _LOOPBACK.fullmatch(request.headers.get("host", "")):
        return Response(403, {"error": "the sandbox listens to its own machine only"})
    action = request.path.removeprefix("/_sandbox/")
    try:
        if request.method == "GET":
            return _show(dynamics, action, dict(request.query))
        asked = json.loads(request.body or b"{}", parse_float=Decimal)
        return _act(dynamics, action, asked)
    except Refused as refused:
        return Response(400, refused.as_error())
    except (KeyError, TypeError, ValueError) as error:
        return Response(400, {"error": f"{type(error).__name__}: {error}"})


def _show(dynamics: Dataverse, action: str, query: dict[str, str]) -> Response:
    match action:
        case "rows":
            rows = dynamics.rows(query.pop("table"))
            return Response(200, [row for row in rows if all(_same(row[k], v) for k, v in query.items())])
        case "snapshot":
            return Response(200, dynamics.snapshot())
        case "usage":
            return Response(
                200, {"used": dynamics.api_used, "in_window": dynamics.in_window, "logins": dynamics.logins}
            )
    return Response(404, {"error": f"no such view: {action}; there are rows, snapshot, usage"})


def _act(dynamics: Dataverse, action: str, asked: dict[str, Any]) -> Response:
    table, row_id, by = asked.get("table", ""), asked.get("id", ""), asked.get("by")
    columns: Mapping[str, Any] = asked.get("columns", {})
    match action:
        case "create":
            return Response(201, {"id": dynamics.create(table, by=by, **columns)})
        case "edit":
            dynamics.edit(table, row_id, by=by, **columns)
        case "delete":
            dynamics.delete(table, row_id, by=by)
        case "undelete":
            dynamics.undelete(table, row_id, by=by)
        case "close":
            made = dynamics.close(row_id, won=asked["won"], reason=asked.get("reason"), by=by, **columns)
            return Response(201, {"id": made})
        case "reopen":
            dynamics.reopen(row_id, by=by)
        case "add-user":
            return Response(201, {"id": dynamics.add_user(**columns)})
        case "merge-accounts":
            dynamics.merge_accounts(asked["winner"], asked["loser"], by=by)
        case "expire-sessions":
            dynamics.expire_sessions()
        case "expire-delta-tokens":
            dynamics.expire_delta_tokens()
        case "throttle":
            dynamics.throttle(
                asked.get("kind", "requests"),
                retry_after=asked.get("retry_after", 5),
                times=asked.get("times", 1),
            )
        case "unthrottle":
            dynamics.unthrottle()
        case "switches":
            for switch, value in asked.items():
                if switch not in SWITCHES:
                    raise ValueError(f"no such switch: {switch}; there are {', '.join(SWITCHES)}")
                setattr(dynamics, switch, value)
        case _:
            return Response(404, {"error": f"no such action: {action}"})
    return Response(204)


SWITCHES = (
    "closed_rows_writable",
    "delta_token_at_end",
    "page_size",
    "strict_spaces",
    "key_honours_etag",
    "failed_change_set",
    "blank_codes",
    "change_tracking_days",
    "requests_per_window",
    "parallel_limit",
    "may_impersonate",
)


def _same(value: object, given: str) -> bool:
    shown = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    return shown == given
