"""How an opportunity gets from where it stands to where it shall stand: the writes, in the order that works; pure.

Won and lost are reached by actions only, which make the close activity that Sales expects; a PATCH of the state to either
is refused. There is no way from one closed reason to another: the row is reopened first, by a PATCH of its state.
Fields go before the close and after the reopening, in one change set with it, so that all of it lands or nothing does.
The first write carries the version and guards the rest; those after it stand in the same transaction.
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


def writes(
    opportunity_id: str,
    columns: Mapping[str, object],
    etag: str,
    now: Choice,
    target: Choice | None,
    reopened: Choice,
) -> Group:
    """``now``: the status reason it has; ``target``: the one it shall have, None for no move; ``reopened``: the one
    that a row gets in between. Empty where there is nothing to do.
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
    """The action that closes it. What it brought in is left to the server: it takes the estimated value."""
    word = "won" if target.state == WON else "lost"
    activity: dict[str, object] = {
        "subject": f"Co-sell {word}: {target.label}"[:SUBJECT_LENGTH],
        "opportunityid@odata.bind": odata.bind(OPPORTUNITIES, opportunity_id),
    }
    return Op("POST", ACTIONS[target.state], {"Status": target.value, "OpportunityClose": activity})


def described(is_closed: bool, is_won: bool) -> int:
    """The state that those two flags say."""
    return (WON if is_won else 2) if is_closed else OPEN
