"""Makes in an org what `metadata` says is needed, and nothing twice: look, compare, deploy, grant, assign.

What is missing goes in one deployment, all or nothing, permission sets included. What is there is never written again,
also where it differs: then the finding says how, and a person decides.

A permission set of ours that is there already is only added to, row by row, because a deployed set replaces the old one:
the integration user's is completed; the sellers' receives the fields made in this run and no other right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simple_salesforce.exceptions import SalesforceError

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS
from cosell_sync.crm.report import Finding, Status, unsure
from cosell_sync.crm.salesforce import composite, errors, package, setup
from cosell_sync.crm.salesforce.differences import differences
from cosell_sync.crm.salesforce.metadata import INTEGRATION_SET, Body, Component, components
from cosell_sync.crm.salesforce.org import OPPORTUNITY, field_names
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.setup import SetupRefused, soql
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Rejected, Unclear

CURE: Final = "cure what Salesforce names, then run provision again"
SETS: Final = "Setup > Permission Sets"
BATCH: Final = 200  # rows of one collection


def provision(
    rest: Rest, names: Mapping[str, str] | None = None, *, dry_run: bool = False, assign: str | None = None
) -> Sequence[Finding]:
    """One finding a component, in the order of `components`, then the grants and the assignment.

    ``assign``: user name of who receives the integration permission set; by default whoever is signed in.
    """
    with unsure(SYSTEM):
        return _Run(rest, field_names(names), dry_run=dry_run).findings(assign)


def assigned(rest: Rest, body: Mapping[str, object]) -> None:
    """Assign a permission set to a user."""
    made = rest.call("POST", "sobjects/PermissionSetAssignment", body).data
    if not isinstance(made, Mapping) or not made.get("id"):
        raise Unclear(str(composite.strange()), code="unknown_shape")


class _Run:
    """One run over one org. ``stopped``: the deployment failed, so nothing after it is changed either."""

    def __init__(self, rest: Rest, names: Mapping[str, str], *, dry_run: bool) -> None:
        self.rest = rest
        self.names = names
        self.dry_run = dry_run
        self.made = Status.TO_MAKE if dry_run else Status.MADE
        self.stopped = False

    def findings(self, assign: str | None) -> Sequence[Finding]:
        wanted = components(self.names)
        user_id, user_name = self._user(assign)
        there = setup.look(self.rest, wanted)
        missing = [each for each in wanted if str(each) not in there.bodies]
        failures = self._deployed(missing)
        self.stopped = bool(failures)
        found = [
            self._outcome(each, failures)
            if each in missing
            else self._compared(each, there.bodies[str(each)])
            for each in wanted
        ]
        known = {str(each) for each in missing}
        found += [
            Finding(name or "deployment", Status.FAILED, text, CURE)
            for name, text in failures.items()
            if name not in known
        ]
        fresh = {each.name for each in missing if each.type == "CustomField"}
        for each in wanted:
            if each.type == "PermissionSet" and each.name in there.sets:
                found += self._granted(each, there.sets[each.name], fresh)
        return [*found, self._assigned(user_id, user_name)]

    def _user(self, name: str | None) -> tuple[str, str]:
        """Id and user name of who receives the integration permission set."""
        column, value = ("Username", name) if name else ("Id", self.rest.user_id)
        for row in self._query(soql("SELECT Id, Username FROM User WHERE {:literal} = {}", column, value)):
            return str(row["Id"]), str(row["Username"])
        raise Rejected(f"the org shows no user with {column} {value}", code="no_user")

    def _query(self, text: str) -> Sequence[composite.Row]:
        (rows,) = composite.everything(self.rest, [composite.query(text)])
        return rows

    # --- components -------------------------------------------------------------------------------------------

    def _deployed(self, missing: Sequence[Component]) -> Mapping[str, str]:
        if not missing:
            return {}
        zipped = package.bundle(missing, self.names, self.rest.version)
        return setup.deploy(self.rest, zipped, check_only=self.dry_run)

    def _outcome(self, each: Component, failures: Mapping[str, str]) -> Finding:
        if not failures:
            return Finding(str(each), self.made)
        if text := failures.get(str(each)):
            return Finding(str(each), Status.FAILED, text, CURE)
        return Finding(str(each), Status.HELD, "a deployment is all or nothing, and another component failed")

    def _compared(self, each: Component, found: Body) -> Finding:
        if told := differences(each, found):
            return Finding(str(each), Status.DIFFERS, "; ".join(told), self._remedy(each))
        off = each.type == "ValidationRule" and found.get("active") is False
        return Finding(str(each), Status.THERE, "switched off by an admin" if off else "")

    def _remedy(self, each: Component) -> str:
        change = f"left as it is; change it in Setup > Object Manager > {each.object or each.name}"
        ours = next((key for key in OPPORTUNITY_COLUMNS if self.names[key] == each.own_name), None)
        if ours and each.type == "CustomField" and each.object == OPPORTUNITY:
            return f"{change}, or name another field in mapping.fields.{ours}"
        return change

    # --- rights -----------------------------------------------------------------------------------------------

    def _granted(self, each: Component, set_id: str, fresh: set[str]) -> Iterator[Finding]:
        """A set that was there already: rights it lacks are added, or told where they are not ours to give."""
        where = f"{SETS} > {each.body['label']}"
        lacking = self._lacking(each, set_id)
        ours = [gap for gap in lacking if gap.new and (each.name == INTEGRATION_SET or gap.name in fresh)]
        refusals = {} if self.dry_run or self.stopped else self._grant(set_id, ours)
        for gap in ours:
            label = f"{each} {gap.name}"
            if self.stopped:
                yield Finding(label, Status.HELD, "the deployment failed")
            elif text := refusals.get(gap.name):
                yield Finding(label, Status.FAILED, text, f"give {gap.words} in {where}")
            else:
                yield Finding(label, self.made, f"gives {gap.words}")
        for gap in lacking:
            if gap not in ours:
                todo = f"left as it is; if the users of this set need it, change it in {where}"
                yield Finding(f"{each} {gap.name}", Status.DIFFERS, f"does not give {gap.words}", todo)

    def _lacking(self, each: Component, set_id: str) -> Sequence[_Gap]:
        text = "SELECT SobjectType, {:literal} FROM ObjectPermissions WHERE ParentId = {}"
        objects = {
            row["SobjectType"]: row
            for row in self._query(soql(text, ", ".join(_OBJECT_RIGHTS.values()), set_id))
        }
        text = "SELECT Field, PermissionsRead, PermissionsEdit FROM FieldPermissions WHERE ParentId = {}"
        fields = {row["Field"]: row for row in self._query(soql(text, set_id))}
        return [
            *_gaps(each.body["objectPermissions"], "object", _OBJECT_RIGHTS, objects),
            *_gaps(each.body["fieldPermissions"], "field", _FIELD_RIGHTS, fields),
        ]

    def _grant(self, set_id: str, gaps: Sequence[_Gap]) -> Mapping[str, str]:
        """Name → the org's text, of those refused. Objects come first: a field's right needs its object's."""
        refusals: dict[str, str] = {}
        for start in range(0, len(gaps), BATCH):
            batch = gaps[start : start + BATCH]
            rows = [{**gap.row, "ParentId": set_id} for gap in batch]
            try:
                answer = self.rest.call("POST", "composite/sobjects", {"allOrNone": False, "records": rows})
            except SalesforceError as error:
                raise SetupRefused(error) from None
            if not isinstance(answer.data, list) or len(answer.data) != len(batch):
                raise Unclear(str(composite.strange()), code="unknown_shape")
            for gap, result in zip(batch, answer.data, strict=True):
                if not result.get("success"):
                    faults = errors.faults(result.get("errors"))
                    refusals[gap.name] = "; ".join(fault.text for fault in faults) or "no reason given"
        return refusals

    def _assigned(self, user_id: str, user_name: str) -> Finding:
        label = f"PermissionSetAssignment {INTEGRATION_SET} to {user_name}"
        text = "SELECT Id FROM PermissionSetAssignment WHERE AssigneeId = {} AND PermissionSet.Name = {}"
        if self._query(soql(text, user_id, INTEGRATION_SET)):
            return Finding(label, Status.THERE)
        if self.stopped:
            return Finding(label, Status.HELD, "the deployment failed")
        if self.dry_run:
            return Finding(label, self.made)
        todo = (
            f"assign it in {SETS}; a user with an integration licence first needs the permission set licence "
            "Salesforce API Integration"
        )
        text = "SELECT Id FROM PermissionSet WHERE NamespacePrefix = null AND Name = {}"
        for row in self._query(soql(text, INTEGRATION_SET)):
            body = {"PermissionSetId": row["Id"], "AssigneeId": user_id}
            try:
                assigned(self.rest, body)
            except SalesforceError as error:
                faults = errors.faults(error.content)
                return Finding(label, Status.FAILED, "; ".join(fault.text for fault in faults), todo)
            return Finding(label, Status.MADE)
        return Finding(label, Status.FAILED, "the signed-in user does not see the permission set", todo)


_OBJECT_RIGHTS: Final = {
    "allowRead": "PermissionsRead",
    "allowCreate": "PermissionsCreate",
    "allowEdit": "PermissionsEdit",
    "allowDelete": "PermissionsDelete",
    "viewAllRecords": "PermissionsViewAllRecords",
    "modifyAllRecords": "PermissionsModifyAllRecords",
}
_FIELD_RIGHTS: Final = {"readable": "PermissionsRead", "editable": "PermissionsEdit"}


@dataclass(frozen=True)
class _Gap:
    """Rights on ``name`` that a set does not give. ``new``: it says nothing of it yet, so ``row`` can be added."""

    name: str
    rights: tuple[str, ...]
    new: bool
    row: Mapping[str, object]

    @property
    def words(self) -> str:
        return ", ".join(right.removeprefix("Permissions") for right in self.rights)


def _gaps(
    wanted: Sequence[Body], key: str, rights: Mapping[str, str], there: Mapping[str, composite.Row]
) -> Iterator[_Gap]:
    for each in wanted:
        name = str(each[key])
        held = there.get(name)
        missing = tuple(
            theirs for ours, theirs in rights.items() if each[ours] and not (held or {}).get(theirs)
        )
        if missing:
            kind = "ObjectPermissions" if key == "object" else "FieldPermissions"
            row: dict[str, object] = {"attributes": {"type": kind}, "SobjectType": name.partition(".")[0]}
            row |= {"Field": name} if key == "field" else {}
            row |= {theirs: bool(each[ours]) for ours, theirs in rights.items()}
            yield _Gap(name, missing, held is None, row)
