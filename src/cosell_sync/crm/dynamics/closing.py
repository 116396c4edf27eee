"""The requests that bring an opportunity from its status reason to another, in the order that Dataverse accepts; pure.

Won and lost are reached by actions only, which make the close activity that Sales expects; a PATCH of the state to either
is refused. A closed row takes no other closed reason: it is reopened first, by a PATCH of its state. Fields go before the
close and after the reopening, in one change set, so that all of it lands or nothing does. The first request carries the
version and guards the others, which are in the same transaction.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/use-web-api-actions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.batch import Group, Op
from cosell_sync.crm.dynamics.org import OPEN, OPPORTUNITIES, WON, Choice

ACTIONS: Final[Mapping[int, str]] = {1: "WinOpportunity", 2: "LoseOpportunity"}
SUBJECT_LENGTH: Final = 200


def status_writes(
    opportunity_id: str,
    columns: Mapping[str, object],
    etag: str,
    *,
    now: Choice,
    target: Choice | None,
    reopened: Choice,
) -> Group:
    """The requests; empty where there is nothing to do.

    ``now``: the status reason that the row has; ``target``: the one it is to get, None for no move; ``reopened``: the one it
    gets in between.
    """
    row = odata.row(OPPORTUNITIES, opportunity_id)

    def patch(body: Mapping[str, object], guard: str) -> Op:
        return Op("PATCH", row, body, {"If-Match": guard})

    if target is None or target.value == now.value:
        return (patch(columns, etag),) if columns else ()
    if target.state == OPEN == now.state:
        return (patch({**columns, "statuscode": target.value}, etag),)
    made: list[Op] = []
    if now.state != OPEN:
        landing = target if target.state == OPEN else reopened
        made.append(patch({"statecode": OPEN, "statuscode": landing.value}, etag))
    if columns:
        made.append(patch(columns, "*" if made else etag))
    if target.state != OPEN:
        made.append(close(opportunity_id, target))
    return tuple(made)


def close(opportunity_id: str, target: Choice) -> Op:
    """The action that closes the opportunity. It names no actual revenue, so the server takes the estimated value."""
    word = "won" if target.state == WON else "lost"
    activity: dict[str, object] = {
        "subject": f"Co-sell {word}: {target.label}"[:SUBJECT_LENGTH],
        "opportunityid@odata.bind": odata.bind(OPPORTUNITIES, opportunity_id),
    }
    return Op("POST", ACTIONS[target.state], {"Status": target.value, "OpportunityClose": activity})


def state_of(is_closed: bool, is_won: bool) -> int:
    """The Dataverse state of these two flags: open, won or lost."""
    return (WON if is_won else 2) if is_closed else OPEN
