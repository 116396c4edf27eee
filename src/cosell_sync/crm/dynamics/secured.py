"""Asks which columns are under column security, and which of them the application user may read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.org import TABLES, Org
from cosell_sync.crm.dynamics.questions import Question, strange
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.security import Security
from cosell_sync.errors import RecordError
from cosell_sync.transport.errors import Scope

OUR_TABLES: Final = " or ".join(f"LogicalName eq {odata.literal(name)}" for name in TABLES.values())
# The columns under column security.
SECURED: Final = Question(
    odata.query("EntityDefinitions", select=("LogicalName",), where=OUR_TABLES)
    + "&$expand=Attributes($select=LogicalName,MetadataId;$filter=IsSecured%20eq%20true)",
    size=None,
)


def security(rest: Rest, secured: Iterable[Mapping[str, Any]], user_id: str) -> Security:
    """The columns under column security, and which of them the application user's profiles open; one call where there are any.

    ``secured``: the answer to ``SECURED``.
    """
    sets = {logical: collection for collection, logical in TABLES.items()}
    found: dict[str, dict[str, str]] = {}
    for row in secured:
        listed = row.get("Attributes")
        if not isinstance(listed, list):
            raise strange()
        if listed and (collection := sets.get(str(row.get("LogicalName")))):
            found[collection] = {
                str(each["LogicalName"]): str(each.get("MetadataId")).lower() for each in listed
            }
    opened = _opened(rest, user_id) if found else frozenset()
    return Security(
        columns={name: frozenset(columns) for name, columns in found.items()},
        readable={
            name: frozenset(column for column, known in columns.items() if known in opened)
            for name, columns in found.items()
        },
    )


# CanRead of an attribute privilege: 0 not allowed, 4 allowed.
# https://learn.microsoft.com/power-apps/developer/data-platform/webapi/reference/attributeprivilege
_MAY_READ: Final = 4


def _opened(rest: Rest, user_id: str) -> frozenset[str]:
    """MetadataIds of the secured columns that a profile of the user opens; empty where the environment does not say, and then
    null in a secured column says nothing.
    """
    if not odata.is_guid(user_id):
        return frozenset()
    path = (
        f"{odata.row('systemusers', user_id)}/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"
    )
    try:
        listed = rest.get(path, scope=Scope.RECORD).get("AttributePrivileges")
    except RecordError:
        return frozenset()
    rows = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return frozenset(
        str(each.get("AttributeId")).lower() for each in rows if each.get("CanRead") in {_MAY_READ, "Allowed"}
    )


def refresh(rest: Rest, org: Org, secured: Iterable[Mapping[str, Any]]) -> None:
    """Note which columns are secured: no row changes when a column becomes secured, its value reads null all the same.
    ``secured``: the answer to ``SECURED``.
    """
    now = security(rest, secured, org.user_id)
    org.security.columns, org.security.readable = now.columns, now.readable
