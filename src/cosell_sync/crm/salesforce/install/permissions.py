"""Permission sets that exist already: completed row by row, because a deployed set would replace the old one.

The integration user's set receives every right it lacks. The sellers' set receives the fields made in this run and nothing
else, since what it lacks besides may be lacking on purpose. A right that a set names and denies is reported, never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cosell_sync.crm.report import Finding, Status
from cosell_sync.crm.salesforce import composite, errors
from cosell_sync.crm.salesforce.install.schema import INTEGRATION_SET, Body, Component
from cosell_sync.crm.salesforce.install.setup import SetupRefused, query
from cosell_sync.crm.salesforce.queries import soql
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.errors import Unclear

SETS: Final = "Setup > Permission Sets"
BATCH: Final = 200  # rows of one collection


def assign(rest: Rest, body: Mapping[str, object]) -> None:
    """Assign a permission set to a user. Raises SalesforceError where the org refuses it, `Unclear` for an odd answer."""
    made = rest.call("POST", "sobjects/PermissionSetAssignment", body).data
    if not isinstance(made, Mapping) or not made.get("id"):
        raise Unclear(str(composite.strange()), code="unknown_shape")


@dataclass(frozen=True)
class Permissions:
    """``deployed``: whether the deployment before succeeded; nothing is granted after one that failed."""

    rest: Rest
    dry_run: bool
    deployed: bool

    @property
    def _made(self) -> Status:
        return Status.TO_MAKE if self.dry_run else Status.MADE

    def complete(self, each: Component, set_id: str, new_fields: set[str]) -> Iterator[Finding]:
        """A permission set that exists: one finding a missing right, granted or reported. ``new_fields``: made in this run."""
        where = f"{SETS} > {each.body['label']}"
        missing = self._missing(each, set_id)
        to_grant = [
            right
            for right in missing
            if right.addable and (each.name == INTEGRATION_SET or right.name in new_fields)
        ]
        refusals = self._grant(set_id, to_grant) if self.deployed and not self.dry_run else {}
        for right in to_grant:
            label = f"{each} {right.name}"
            if not self.deployed:
                yield Finding(label, Status.BLOCKED, "the deployment failed")
            elif text := refusals.get(right.name):
                yield Finding(label, Status.FAILED, text, f"give {right.words} in {where}")
            else:
                yield Finding(label, self._made, f"gives {right.words}")
        for right in missing:
            if right not in to_grant:
                todo = f"left as it is; if the users of this set need it, change it in {where}"
                yield Finding(f"{each} {right.name}", Status.DIFFERS, f"does not give {right.words}", todo)

    def _missing(self, each: Component, set_id: str) -> Sequence[_MissingRight]:
        text = "SELECT SobjectType, {:literal} FROM ObjectPermissions WHERE ParentId = {}"
        objects = {
            row["SobjectType"]: row
            for row in query(self.rest, soql(text, ", ".join(_OBJECT_RIGHTS.values()), set_id))
        }
        text = "SELECT Field, PermissionsRead, PermissionsEdit FROM FieldPermissions WHERE ParentId = {}"
        fields = {row["Field"]: row for row in query(self.rest, soql(text, set_id))}
        return [
            *_missing_rights(each.body["objectPermissions"], "object", _OBJECT_RIGHTS, objects),
            *_missing_rights(each.body["fieldPermissions"], "field", _FIELD_RIGHTS, fields),
        ]

    def _grant(self, set_id: str, rights: Sequence[_MissingRight]) -> Mapping[str, str]:
        """Of those refused, name → the org's text. Objects come first, because a field's right needs its object's."""
        refusals: dict[str, str] = {}
        for start in range(0, len(rights), BATCH):
            batch = rights[start : start + BATCH]
            rows = [{**right.row, "ParentId": set_id} for right in batch]
            try:
                answer = self.rest.call("POST", "composite/sobjects", {"allOrNone": False, "records": rows})
            except errors.refusals() as error:
                raise SetupRefused(error) from None
            if not isinstance(answer.data, list) or len(answer.data) != len(batch):
                raise Unclear(str(composite.strange()), code="unknown_shape")
            for right, result in zip(batch, answer.data, strict=True):
                if not result.get("success"):
                    faults = errors.faults(result.get("errors"))
                    refusals[right.name] = "; ".join(fault.text for fault in faults) or "no reason given"
        return refusals

    def assignment(self, user_id: str, user_name: str) -> Finding:
        """The integration user's permission set, assigned where it is not."""
        label = f"PermissionSetAssignment {INTEGRATION_SET} to {user_name}"
        text = "SELECT Id FROM PermissionSetAssignment WHERE AssigneeId = {} AND PermissionSet.Name = {}"
        if query(self.rest, soql(text, user_id, INTEGRATION_SET)):
            return Finding(label, Status.THERE)
        if not self.deployed:
            return Finding(label, Status.BLOCKED, "the deployment failed")
        if self.dry_run:
            return Finding(label, self._made)
        todo = (
            f"assign it in {SETS}; a user with an integration licence first needs the permission set licence "
            "Salesforce API Integration"
        )
        text = "SELECT Id FROM PermissionSet WHERE NamespacePrefix = null AND Name = {}"
        for row in query(self.rest, soql(text, INTEGRATION_SET)):
            body = {"PermissionSetId": row["Id"], "AssigneeId": user_id}
            try:
                assign(self.rest, body)
            except errors.refusals() as error:
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
class _MissingRight:
    """Rights on ``name`` that a permission set does not give. ``addable``: the set does not mention ``name``, so ``row`` can be
    added without changing anything.
    """

    name: str
    rights: tuple[str, ...]
    addable: bool
    row: Mapping[str, object]

    @property
    def words(self) -> str:
        """The rights as a finding names them."""
        return ", ".join(right.removeprefix("Permissions") for right in self.rights)


def _missing_rights(
    wanted: Sequence[Body], key: str, rights: Mapping[str, str], granted: Mapping[str, composite.Row]
) -> Iterator[_MissingRight]:
    for each in wanted:
        name = str(each[key])
        given = granted.get(name)
        missing = tuple(
            theirs for ours, theirs in rights.items() if each[ours] and not (given or {}).get(theirs)
        )
        if missing:
            kind = "ObjectPermissions" if key == "object" else "FieldPermissions"
            row: dict[str, object] = {"attributes": {"type": kind}, "SobjectType": name.partition(".")[0]}
            row |= {"Field": name} if key == "field" else {}
            row |= {theirs: bool(each[ours]) for ours, theirs in rights.items()}
            yield _MissingRight(name, missing, given is None, row)
