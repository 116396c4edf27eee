"""What a user sees: objects, fields and rows, by permission sets and sharing.

The integration user has the profile *Minimum Access - API Only Integrations*: no object, no field of a standard object and
nobody else's rows, until a permission set that is assigned to the user gives them. Other users see standard objects and
fields, and of deployed ones what their permission sets open. Accounts, contacts and opportunities are private: a user sees
the own rows, contacts of accounts that the user sees, and with View All the rows of everybody. A lookup to a row out of sight
keeps its id while the row itself reads null.
https://help.salesforce.com/s/articleView?id=platform.integration_user.htm
https://developer.salesforce.com/docs/atlas.en-us.securityImplGuide.meta/securityImplGuide/securing_data_understanding_sharing.htm
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final

from cosell_sync.sandbox.salesforce import schema
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import Field, Schema, SObject
from cosell_sync.sandbox.salesforce.values import Row

STANDARD: Final = (
    "Account",
    "Contact",
    "Opportunity",
)  # standard objects whose rights a permission set gives
# Child objects that have no rights of their own; access follows these objects.
FOLLOWS: Final = {
    "OpportunityContactRole": ("Opportunity", "Contact"),
    "OpportunityTeamMember": ("Opportunity",),
}
# Standard fields that field-level security cannot hide: system fields, names, required ones, and what the platform computes.
NOT_PERMISSIONABLE: Final = frozenset({
    "Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp", "OwnerId",
    "Name", "FirstName", "LastName", "Salutation", "StageName", "CloseDate", "CurrencyIsoCode", "IsClosed", "IsWon",
    "ForecastCategory", "ForecastCategoryName", "HasOpportunityLineItem", "FiscalYear", "FiscalQuarter", "MasterRecordId",
    "ContactId",
})  # fmt: skip
# What the deployed permission set `Cosell_Sync` gives on standard objects; the product's own list is compared with this one.
GRANTED_OBJECTS: Final = {
    "Account": ("Create", "Read", "Edit", "ViewAllRecords"),
    "Contact": ("Create", "Read", "Edit", "ViewAllRecords"),
    "Opportunity": ("Create", "Read", "Edit", "ViewAllRecords"),
    "Cosell_Solution__c": ("Create", "Read", "Edit", "Delete"),
}
GRANTED_FIELDS: Final = (
    "Account.BillingAddress", "Contact.AccountId", "Contact.Email", "Contact.Phone", "Opportunity.AccountId",
    "Opportunity.Amount",
)  # fmt: skip
# Standard fields that an admin of the prepared org opened beside, so that a mapping may name them. `provision` grants those
# that the mapping names.
ALSO_GRANTED: Final = ("Opportunity.Description", "Opportunity.NextStep")
INTEGRATION_SET: Final = "Cosell_Sync"
FILED: Final = frozenset({"Report", "Dashboard", "Folder"})


def permissionable(name: str, each: Field) -> bool:
    """Whether field-level security may hide the field of that object."""
    if each.custom:
        return not each.required
    return name in STANDARD and not each.required and each.name not in NOT_PERMISSIONABLE


def granted_as(name: str, column: str) -> str:
    """The field under which a permission set grants this one: parts of an address go by the whole address."""
    for kind in ("Billing", "Mailing"):
        if column.startswith(kind):
            return f"{name}.{kind}Address"
    return f"{name}.{column}"


@dataclass
class Access:
    """``fields`` and ``objects``: what was deployed, which is closed to everybody at first. ``minimal``: users of the
    minimum-access profile. ``private``: objects whose rows belong to their owner. ``without_reports``: users without Run Reports.
    """

    org: Org
    fields: set[tuple[str, str]] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    minimal: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=lambda: set(STANDARD))
    without_reports: set[str] = field(default_factory=set)
    _cache: dict[str, tuple[list[Any], dict[str, SObject]]] = field(default_factory=dict)

    def grant_deployed(self, user: str) -> None:
        """What a deployment of the product's permission set and its assignment to the user leave behind."""
        parent = next(
            (row["Id"] for row in self.org.scan("PermissionSet") if row["Name"] == INTEGRATION_SET), None
        )
        if parent is None:
            about = {"Name": INTEGRATION_SET, "Label": "Cosell Sync"}
            parent = self.org.insert("PermissionSet", about, "", trusted=True)
            link = {"PermissionSetId": parent, "AssigneeId": user}
            self.org.insert("PermissionSetAssignment", link, "", trusted=True)
        for name, rights in GRANTED_OBJECTS.items():
            if name in self.org.schema:
                row = {
                    "ParentId": parent,
                    "SobjectType": name,
                    **{f"Permissions{right}": True for right in rights},
                }
                self.org.insert("ObjectPermissions", row, "", trusted=True)
        own = [
            f"{name}.{each.name}"
            for name in ("Opportunity", "Account", "Cosell_Solution__c")
            for each in (self.org.schema[name].fields.values() if name in self.org.schema else ())
            if each.custom and not each.required
        ]
        for full in (*GRANTED_FIELDS, *ALSO_GRANTED, *own):
            row = {"ParentId": parent, "SobjectType": full.partition(".")[0], "Field": full}
            row |= {"PermissionsRead": True, "PermissionsEdit": True}
            self.org.insert("FieldPermissions", row, "", trusted=True)

    def _rights(self, user: str, kind: str) -> list[Row]:
        sets = {
            row["PermissionSetId"]
            for row in self.org.scan("PermissionSetAssignment")
            if row["AssigneeId"] == user
        }
        return [row for row in self.org.scan(kind) if row["ParentId"] in sets]

    def visible_to(self, user: str) -> dict[str, SObject]:
        """The schema without the objects and fields that this user does not see."""
        rows = [*self._rights(user, "FieldPermissions"), *self._rights(user, "ObjectPermissions")]
        key = [self.org.schema, len(self.fields), len(self.objects), user in self.without_reports, *rows]
        known = self._cache.get(user)
        if (
            known is not None
            and len(known[0]) == len(key)
            and all(a is b for a, b in zip(known[0], key, strict=True))
        ):
            return known[1]
        made = self._visible(user)
        self._cache[user] = (key, made)
        return made

    def _visible(self, user: str) -> dict[str, SObject]:
        rights = self._rights(user, "FieldPermissions")
        read = {row["Field"] for row in rights if row["PermissionsRead"]}
        edit = {row["Field"] for row in rights if row["PermissionsEdit"]}
        own = self._rights(user, "ObjectPermissions")
        opened = {row["SobjectType"] for row in own if row["PermissionsRead"]}
        writable = {row["SobjectType"] for row in own if row["PermissionsCreate"] and row["PermissionsEdit"]}
        minimal = user in self.minimal
        closed = self.objects | (set(STANDARD) if minimal else set())
        seen: dict[str, SObject] = {}
        for name, shape in self.org.schema.items():
            if (name in closed and name not in opened) or (name in FILED and user in self.without_reports):
                continue
            if minimal and any(above not in opened for above in FOLLOWS.get(name, ())):
                continue
            columns: dict[str, Field] = {}
            for column, each in shape.fields.items():
                full = granted_as(name, column)
                guarded = (name, column) in self.fields or (
                    minimal and name in STANDARD and permissionable(name, each)
                )
                if not guarded or each.required or full in edit:
                    columns[column] = each
                elif full in read:
                    columns[column] = replace(each, createable=False, updateable=False)
            createable = shape.createable and (name not in closed or name in writable)
            seen[name] = replace(shape, fields=columns, createable=createable, _by_lower={})
        return schema.linked(seen)

    def sees(self, user: str, name: str, row: Row) -> bool:
        """Whether that user may read the row."""
        if name not in self.private or row.get("OwnerId") in {user, None, ""}:
            return True
        if user not in self.minimal:
            return True  # people have roles and sharing rules, which this org does not model
        if any(
            each["PermissionsViewAllRecords"]
            for each in self._rights(user, "ObjectPermissions")
            if each["SobjectType"] == name
        ):
            return True
        account = self.org.find("Account", row.get("AccountId") or "") if name == "Contact" else None
        return account is not None and self.sees(user, "Account", account)


@dataclass(frozen=True)
class Seen:
    """The org as one user's query reads it."""

    org: Org
    access: Access
    user: str

    @property
    def schema(self) -> Schema:
        return self.org.schema

    def scan(self, name: str, *, deleted: bool) -> Iterable[Row]:
        """The rows of an object that the user sees."""
        return [row for row in self.org.scan(name, deleted=deleted) if self.access.sees(self.user, name, row)]

    def find(self, name: str, row_id: str) -> Row | None:
        """The row of that id; None when there is none, or none that the user sees."""
        row = self.org.find(name, row_id)
        return row if row is not None and self.access.sees(self.user, name, row) else None

    def normal_id(self, text: str) -> str | None:
        return self.org.normal_id(text)

    def render(self, each: Field, row: Row) -> object:
        return self.org.render(each, row)

    def today(self) -> date:
        return self.org.today()
