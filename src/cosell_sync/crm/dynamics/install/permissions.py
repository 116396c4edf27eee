"""Security roles: made where missing, completed where that is safe, and assigned to the daemon's user.

The daemon's role receives every privilege it lacks. The sellers' receives the privileges on a table made in this run and
nothing else, since what it lacks besides may be lacking on purpose. A privilege that a role has with less reach is reported,
never raised, because an admin may have limited it.
https://learn.microsoft.com/power-apps/developer/data-platform/security-roles
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.install.schema import (
    DEPTHS,
    IN_SOLUTION,
    NAMED_RIGHTS,
    RIGHTS,
    SELLER_ROLE,
    SOLUTION,
    SYNC_ROLE,
    rights,
)
from cosell_sync.crm.dynamics.install.setup import Setup
from cosell_sync.crm.dynamics.questions import Row
from cosell_sync.crm.report import Finding, Status
from cosell_sync.errors import Rejected

WHERE: Final = "in the Power Platform admin center > Settings > Security roles"


@dataclass(frozen=True)
class User:
    """A user of the environment. ``unit``: the business unit; only roles of that unit can be assigned."""

    id: str
    name: str
    unit: str


@dataclass(frozen=True)
class Privilege:
    """A privilege with its depth. ``id`` is empty until its table exists."""

    name: str
    depth: str
    table: str = ""
    id: str = ""

    @property
    def body(self) -> Mapping[str, str]:
        """The privilege as the action ``AddPrivilegesRole`` takes it."""
        return {"PrivilegeId": self.id, "Depth": self.depth}

    @property
    def words(self) -> str:
        """The privilege as a finding names it."""
        return f"{self.name} ({self.depth})"


Make = Callable[[str, Op, Sequence[str]], Finding]


@dataclass
class Permissions:
    """``make``: sends one change of the setup and returns its finding, given the components that it depends on.
    ``new_table``: the solutions' table was made in this run, or would be.
    """

    setup: Setup
    make: Make
    dry_run: bool
    new_table: bool
    depends_on: Sequence[str]

    def findings(self, user: User) -> Iterator[Finding]:
        """One finding for each role, for each privilege that differs, and for the assignment to the user."""
        root = self._root()
        wanted = self._wanted()
        for role in (SYNC_ROLE, SELLER_ROLE):
            found = self._role(role, root)
            if found is None:
                yield self._make_role(role, root, wanted[role])
            else:
                yield Finding(f"Role {role}", Status.THERE)
                yield from self._complete(role, str(found["roleid"]), wanted[role])
        yield self._assign(user)

    # --- what a role needs ---------------------------------------------------------------------------------

    def _wanted(self) -> Mapping[str, Sequence[Privilege]]:
        tables = self._by_table()
        names = " or ".join(
            f"name eq {odata.literal(name)}" for listed in NAMED_RIGHTS.values() for name in listed
        )
        path = odata.query("privileges", select=("privilegeid", "name"), where=names)
        ids = {str(row["name"]): str(row["privilegeid"]).lower() for row in self.setup.rows(path)}
        made: dict[str, Sequence[Privilege]] = {}
        for role, listed in NAMED_RIGHTS.items():
            plain = [Privilege(name, "Global", "", ids[name]) for name in listed if name in ids]
            made[role] = [*plain, *self._of_tables(role, tables)]
        return made

    def _by_table(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Table → verb → privilege. By table, because an activity's privilege is named after all activities."""
        names = sorted({name for tables in RIGHTS.values() for name in tables})
        where = " or ".join(f"LogicalName eq {odata.literal(name)}" for name in names)
        path = odata.query("EntityDefinitions", select=("LogicalName", "Privileges"), where=where)
        return {
            str(row["LogicalName"]): {str(each["PrivilegeType"]): each for each in row["Privileges"] or ()}
            for row in self.setup.rows(path)
        }

    def _of_tables(
        self, role: str, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]
    ) -> Iterator[Privilege]:
        for table, verb, depth in rights(role):
            if table not in tables:
                if table == SOLUTION:
                    yield Privilege(f"prv{verb}{table}", depth, table)
                continue
            found = tables[table].get(verb)
            if found is not None:
                # A table that belongs to the whole organization knows only the depth Global.
                reach = depth if found.get(f"CanBe{depth}") else "Global"
                yield Privilege(str(found["Name"]), reach, table, str(found["PrivilegeId"]).lower())

    # --- roles --------------------------------------------------------------------------------------------------

    def _root(self) -> str:
        path = odata.query(
            "businessunits", select=("businessunitid",), where="_parentbusinessunitid_value eq null"
        )
        row = self.setup.one(path)
        if row is None:
            raise Rejected("the environment shows no root business unit", code="no_root_unit")
        return str(row["businessunitid"])

    def _role(self, name: str, unit: str) -> Row | None:
        where = odata.all_of(f"name eq {odata.literal(name)}", odata.ids("_businessunitid_value", [unit]))
        return self.setup.one(odata.query("roles", select=("roleid", "name"), where=where))

    def _make_role(self, role: str, root: str, wanted: Sequence[Privilege]) -> Finding:
        label = f"Role {role}"
        body = {"name": role, "businessunitid@odata.bind": odata.bind("businessunits", root)}
        made = self.make(label, Op("POST", "roles", body, IN_SOLUTION), self.depends_on)
        if made.status is not Status.MADE:
            return made
        found = self._role(role, root)
        granted = self._grant(label, str(found["roleid"]), wanted) if found else made
        return granted if granted.status is not Status.MADE else made

    def _grant(self, label: str, role_id: str, wanted: Sequence[Privilege]) -> Finding:
        body = {"Privileges": [each.body for each in wanted]}
        path = f"{odata.row('roles', role_id)}/Microsoft.Dynamics.CRM.AddPrivilegesRole"
        return self.make(label, Op("POST", path, body, IN_SOLUTION), self.depends_on)

    def _complete(self, role: str, role_id: str, wanted: Sequence[Privilege]) -> Iterator[Finding]:
        current = self._privileges(role_id)
        for each in wanted:
            label = f"Role {role} {each.name}"
            depth = current.get(each.id)
            if depth is None and (role == SYNC_ROLE or (self.new_table and each.table == SOLUTION)):
                made = self._grant(label, role_id, [each])
                yield Finding(label, made.status, made.text or f"gives {each.words}", made.todo)
            elif _reach(depth) < DEPTHS.index(each.depth):
                has = (
                    f"has {each.name} with the reach {depth} only" if depth else f"does not have {each.name}"
                )
                todo = f"left as it is; if the users of this role need {each.words}, change it {WHERE}"
                yield Finding(label, Status.DIFFERS, has, todo)

    def _privileges(self, role_id: str) -> Mapping[str, str]:
        found = self.setup.get(f"RetrieveRolePrivilegesRole(RoleId={odata.guid(role_id)})")
        return {
            str(row.get("PrivilegeId")).lower(): str(row.get("Depth"))
            for row in found.get("RolePrivileges") or ()
        }

    # --- who has the role ---------------------------------------------------------------------------------------------

    def _assign(self, user: User) -> Finding:
        label = f"Role {SYNC_ROLE} to {user.name}"
        members = f"{odata.row('systemusers', user.id)}/systemuserroles_association"
        if any(row.get("name") == SYNC_ROLE for row in self.setup.rows(f"{members}?$select=roleid,name")):
            return Finding(label, Status.THERE)
        if self.dry_run:
            return Finding(label, Status.TO_MAKE)
        role = self._role(SYNC_ROLE, user.unit)
        if role is None:
            return Finding(label, Status.BLOCKED, f"there is no Role {SYNC_ROLE} in the user's business unit")
        address = self.setup.rest.address(odata.row("roles", str(role["roleid"])))
        return self.make(label, Op("POST", f"{members}/$ref", {"@odata.id": address}), ())


def find_user(setup: Setup, given: str | None) -> User:
    """The user of this application (client) id or user name; None stands for the signed-in user. Raises `Rejected` for nobody."""
    if given is None:
        where = odata.ids("systemuserid", [str(setup.get("WhoAmI").get("UserId"))])
    elif odata.is_guid(given):
        where = odata.ids("applicationid", [given])
    else:
        where = f"domainname eq {odata.literal(given)}"
    columns = ("systemuserid", "domainname", "fullname", "_businessunitid_value")
    row = setup.one(odata.query("systemusers", select=columns, where=where))
    if row is None:
        raise Rejected(f"the environment has no user {given}", code="no_user")
    name = str(row.get("domainname") or row.get("fullname") or row["systemuserid"])
    return User(str(row["systemuserid"]), name, str(row["_businessunitid_value"]))


def _reach(depth: str | None) -> int:
    """The position of a depth among `DEPTHS`; -1 where there is none, or another. Older versions answer with the number."""
    if depth in DEPTHS:
        return DEPTHS.index(depth)
    return int(depth) if depth is not None and depth.isdigit() and int(depth) < len(DEPTHS) else -1
