"""Privileges, the security roles that hold them, and who has which role.

Every table has privileges named after it (`prvReadOpportunity`, `prvReadcosell_solution`), activities share theirs, and the
setup has its own. By default roles are not enforced: `Rights` knows only what was denied. Once `enforced`, a user
may do what the assigned roles hold, and an administrator everything.
https://learn.microsoft.com/power-platform/admin/security-roles-privileges
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.schema import Table
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

VERBS: Final = ("Create", "Read", "Write", "Delete", "Assign", "Share", "Append", "AppendTo")
DEPTHS: Final = {"Basic": 0, "Local": 1, "Deep": 2, "Global": 3}
SETUP: Final = (
    "prvPublishCustomization",
    *(
        f"prv{verb}{what}"
        for what in ("Entity", "Attribute", "Relationship", "OptionSet")
        for verb in VERBS[:4]
    ),
)
_BASES: Final = {
    "systemuser": "User",
    "transactioncurrency": "TransactionCurrency",
    "connectionrole": "ConnectionRole",
    "businessunit": "BusinessUnit",
    "annotation": "Note",
    "savedquery": "Query",
    "systemform": "SystemForm",
    "solutioncomponent": "Solution",
}


def privilege(verb: str, table: str) -> str:
    """The name of a privilege, for a table or for what is as good as one (`activity`, `entity`)."""
    base = _BASES.get(table) or (table if table.startswith("cosell_") else table[:1].upper() + table[1:])
    return f"prv{verb}{base}"


@dataclass
class Roles:
    """``held``: role → privilege name → depth; the copies of a role in other business units share it."""

    org: Org
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    administrators: set[str] = field(default_factory=set)
    enforced: bool = False

    def __post_init__(self) -> None:
        self.org.guards["role"] = self._guard
        self.org.afters["role"] = self._copied

    # ------------------------------------------------------------ privileges

    def introduce(self, actor: str) -> None:
        """Rows for the privileges of tables that have none yet."""
        there = {row["name"] for row in self.org.scan("privilege")}
        named = {each["Name"] for table in self.org.schema.values() for each in self.of(table)}
        for name in sorted(named.union(SETUP) - there):
            self.org.insert("privilege", {"name": name}, actor, row_id=_id(name), trusted=True)

    def of(self, table: Table) -> Iterator[dict[str, Any]]:
        """The privileges of a table, as its metadata lists them."""
        owned = "ownerid" in table.columns
        for verb in VERBS:
            if owned or verb not in {"Assign", "Share"}:
                name = privilege(verb, "activity" if table.activity else table.name)
                yield {
                    "CanBeBasic": owned,
                    "CanBeDeep": owned,
                    "CanBeEntityReference": False,
                    "CanBeGlobal": True,
                    "CanBeLocal": owned,
                    "CanBeParentEntityReference": False,
                    "Name": name,
                    "PrivilegeId": _id(name),
                    "PrivilegeType": verb,
                }

    def _owned(self, name: str) -> bool:
        return any(
            each["Name"] == name and each["CanBeBasic"]
            for table in self.org.schema.values()
            for each in self.of(table)
        )

    # ------------------------------------------------------------ roles

    def _guard(self, changes: dict[str, Any], before: Row | None) -> None:
        if before is None and not (changes.get("name") and changes.get("businessunitid")):
            raise Refused(values.BAD_ARGUMENT, "A role needs a name and a business unit.")
        for row in self.org.scan("role"):
            if (row["name"], row["businessunitid"]) == (changes.get("name"), changes.get("businessunitid")):
                raise Refused(values.DUPLICATE_ROW, "A role of this name already exists in the business unit.", 412)  # fmt: skip

    def _copied(self, row: Row, before: Row | None, actor: str) -> None:
        """A role of the root is there in every business unit."""
        if before is not None or row["parentrootroleid"] is not None:
            return
        unit = self.org.at(row["businessunitid"])
        if unit is None or unit["parentbusinessunitid"] is not None:
            return
        for other in self.org.scan("businessunit"):
            if other["parentbusinessunitid"] is not None:
                copy = {
                    "name": row["name"],
                    "businessunitid": Ref("businessunit", other["businessunitid"]),
                    "parentrootroleid": Ref("role", row["roleid"]),
                }
                self.org.insert("role", copy, actor, trusted=True)

    def _root(self, role_id: str) -> str:
        parent = self.org.live("role", role_id)["parentrootroleid"]
        return parent.id if parent is not None else role_id

    def depths(self, role_id: str) -> dict[str, str]:
        """The privileges of a role by name, with their depth; may be changed."""
        return self.held.setdefault(self._root(role_id), {})

    def listed(self, role_id: str) -> list[dict[str, Any]]:
        """The privileges of a role, as the API lists them."""
        unit = self.org.live("role", role_id)["businessunitid"]
        return [
            {
                "Depth": depth,
                "PrivilegeId": _id(name),
                "BusinessUnitId": unit.id,
                "PrivilegeName": name,
                "RecordFilterId": "00000000-0000-0000-0000-000000000000",
                "RecordFilterUniqueName": "",
            }
            for name, depth in self.depths(role_id).items()
        ]

    def give(self, role_id: str, privileges: object) -> None:
        """Adds privileges; a depth that is given replaces the one that was there."""
        if not isinstance(privileges, list):
            raise Refused(values.BAD_PAYLOAD, "The parameter 'Privileges' is required.")
        if self._root(role_id) != role_id:
            raise Refused(
                values.BAD_ARGUMENT, "An inherited role is changed in the business unit it comes from."
            )
        names = {row["privilegeid"]: row["name"] for row in self.org.scan("privilege")}
        for each in privileges:
            name, depth = names.get(str(each.get("PrivilegeId")).lower()), each.get("Depth")
            if name is None:
                raise Refused(values.NO_ROW, "The privilege does not exist.", 404)
            if depth not in DEPTHS or (depth != "Global" and not self._owned(name)):
                raise Refused(
                    values.BAD_ARGUMENT, f"Invalid privilege depth {depth} specified for {name} privilege."
                )
            self.depths(role_id)[name] = depth

    def assign(self, user_id: str, role_id: str) -> None:
        """Gives a user a role of the same business unit."""
        user, role = self.org.live("systemuser", user_id), self.org.live("role", role_id)
        if user["businessunitid"] != role["businessunitid"]:
            raise Refused(
                values.BAD_ARGUMENT,
                "The user and the role must belong to the same business unit to be associated.",
            )
        self.members.setdefault(user_id, set()).add(role_id)

    def of_user(self, user_id: str) -> list[Row]:
        """The rows of a user's roles."""
        return [self.org.live("role", each) for each in sorted(self.members.get(user_id, ()))]

    # ------------------------------------------------------------ asking

    def may(self, actor: str) -> frozenset[str] | None:
        """Names (folded) of what a user may do; None: everything."""
        if not self.enforced or actor in self.administrators:
            return None
        return frozenset(name.lower() for role in self.members.get(actor, ()) for name in self.depths(role))


@cache
def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"dataverse/privilege/{name}"))
