"""Checks the components of a deployment against the org, and collects what applying them would change.

`check` changes nothing in the org: it fills `failures` and `successes`, and `last` with the actions that apply the zip.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.salesforce import formula, layouts, reports, schema
from cosell_sync.sandbox.salesforce.access import granted_as, permissionable
from cosell_sync.sandbox.salesforce.custom_fields import FIELD_NAME, InvalidComponent, field_of
from cosell_sync.sandbox.salesforce.deletion import MANIFEST, Parts
from cosell_sync.sandbox.salesforce.package import NAMESPACE, Tree, components, many
from cosell_sync.sandbox.salesforce.package import tree as tree_of
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import SObject
from cosell_sync.sandbox.salesforce.standard_schema import currency_column

NEWEST: Final = 68
_SCHEMA_IMPORT: Final = re.compile(r"@salesforce/schema/(\w+)\.(\w+)")
LIST_COLUMNS: Final = frozenset({
    "OPPORTUNITY.NAME", "ACCOUNT.NAME", "OPPORTUNITY.AMOUNT", "OPPORTUNITY.CLOSE_DATE", "OPPORTUNITY.STAGE_NAME",
    "OPPORTUNITY.CLOSED", "CORE.USERS.ALIAS",
})  # fmt: skip

RIGHTS: Final = {
    "allowRead": "PermissionsRead", "allowCreate": "PermissionsCreate", "allowEdit": "PermissionsEdit",
    "allowDelete": "PermissionsDelete", "viewAllRecords": "PermissionsViewAllRecords",
    "modifyAllRecords": "PermissionsModifyAllRecords",
}  # fmt: skip
NEEDS: Final = {
    "allowCreate": ("allowRead",),
    "allowEdit": ("allowRead",),
    "allowDelete": ("allowRead", "allowEdit"),
    "viewAllRecords": ("allowRead",),
    "modifyAllRecords": ("allowRead", "allowEdit", "allowDelete", "viewAllRecords"),
}
ABOVE: Final = {"Opportunity": "Account", "Contact": "Account"}
"""Reading the one needs reading the other; a detail row needs its master likewise."""


@dataclass
class Deployment:
    """One zip to deploy: what it would change in the org, and its failures.

    ``parts``: what the org has beside fields and rows, by type and name; they change when the caller runs the actions in ``last``.
    ``seen``: the objects with the fields that the deploying user sees.
    """

    org: Org
    parts: Parts
    schema: dict[str, SObject]
    seen: Mapping[str, SObject]
    failures: list[dict[str, object]] = field(default_factory=list)
    successes: list[dict[str, object]] = field(default_factory=list)
    fields: set[tuple[str, str]] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    filed: Parts = field(default_factory=dict)  # reports, dashboards and folders of this zip
    last: list[Callable[[], None]] = field(default_factory=list)

    def check(self, files: Mapping[str, bytes]) -> None:
        """Checks all components of the zip."""
        listed = self._manifest(files)
        if listed is None:
            return
        trees = dict(self._trees(files))
        found: dict[tuple[str, str], Tree] = {}
        for path, tree in trees.items():
            found |= components(path, tree)
        found |= {
            ("LightningComponentBundle", path.split("/")[1]): {} for path in files if path.startswith("lwc/")
        }
        for kind, name in sorted(listed - found.keys()):
            problem = f"An object '{name}' of type {kind} was named in package.xml, but was not found in zipped directory"
            self.failures.append(failure(kind, name, problem))
        for kind, name in sorted(found.keys() - listed):
            self.failures.append(failure(kind, name, "Not in package.xml"))
        steps: tuple[tuple[str, Callable[[str, Tree], None]], ...] = (
            ("CustomObject", self._object),
            ("CustomField", self._field),
            ("ValidationRule", self._rule),
            ("ListView", self._list_view),
            ("CompactLayout", self._compact_layout),
            ("QuickAction", self._quick_action),
            ("PermissionSet", self._permission_set),
            ("LightningComponentBundle", lambda name, _: self._bundle(name, files)),
            ("Report", self._report),
            ("Dashboard", self._dashboard),
        )
        for kind, check in steps:
            for (of, name), tree in sorted(
                found.items(), key=lambda item: item[0]
            ):  # a folder before its reports
                if of == kind:
                    self._check_component(kind, name, tree, check)
        masters = {of for of, column in self.fields if self.schema[of].fields[column].cascade}
        for name in self.objects - masters:
            self.failures.append(
                failure("CustomObject", name, "ControlledByParent needs a master-detail field")
            )
        self.schema = schema.linked(self.schema)

    def _check_component(self, kind: str, name: str, tree: Tree, check: Callable[[str, Tree], None]) -> None:
        try:
            check(name, tree)
        except InvalidComponent as fault:
            self.failures.append(failure(kind, name, str(fault)))
        except (KeyError, TypeError, ValueError) as error:
            self.failures.append(failure(kind, name, f"cannot be read: {error!r}"))
        else:
            done = {"componentType": kind, "fullName": name, "created": True, "success": True}
            self.successes.append(done)

    def _manifest(self, files: Mapping[str, bytes]) -> set[tuple[str, str]] | None:
        try:
            package = tree_of(ET.fromstring(files["package.xml"]))  # noqa: S314  (a sandbox on loopback)
            version = float(package["version"])
            listed = {
                (each["name"], member) for each in many(package, "types") for member in many(each, "members")
            }
        except (KeyError, ValueError, ET.ParseError) as error:
            self.failures.append(failure("", "package.xml", f"cannot be read: {error!r}"))
            return None
        if version > NEWEST:
            self.failures.append(failure("", "package.xml", f"Invalid version: {version}"))
            return None
        return listed

    def _trees(self, files: Mapping[str, bytes]) -> Iterator[tuple[str, Tree]]:
        for path, content in files.items():
            if path in {"package.xml", MANIFEST} or path.startswith("lwc/"):
                continue
            try:
                root = ET.fromstring(content)  # noqa: S314  (a sandbox on loopback)
            except ET.ParseError as error:
                self.failures.append(failure("", path, str(error)))
                continue
            if root.tag.startswith(NAMESPACE):
                yield path, tree_of(root)
            else:
                self.failures.append(failure("", path, "wrong namespace"))

    def _object(self, name: str, tree: Tree) -> None:
        for need in ("label", "pluralLabel", "deploymentStatus", "nameField", "sharingModel"):
            if need not in tree:
                raise InvalidComponent(f"Must specify a non-empty {need} for the CustomObject")
        if tree["sharingModel"] != "ControlledByParent" or tree["nameField"]["type"] != "AutoNumber":
            raise InvalidComponent("this sandbox makes detail objects with a numbered name only")
        if name in self.schema:
            raise InvalidComponent("duplicate value found: the object is there already")
        label = tree["nameField"]["label"]
        columns = [
            *schema.system(),
            schema.computed("Name", label, length=80, calculated=False),
        ]
        if "CurrencyIsoCode" in self.schema["Opportunity"].fields:
            columns.append(currency_column())
        self.schema[name] = SObject(name, tree["label"], "a00", {each.name: each for each in columns})
        self.objects.add(name)

    def _field(self, name: str, tree: Tree) -> None:
        of, _, column = name.partition(".")
        if of not in self.schema:
            raise InvalidComponent(f"Entity Enumeration Or ID: bad value for restricted picklist field: {of}")
        if not FIELD_NAME.fullmatch(column):
            raise InvalidComponent(f"The field name is not valid: {column}")
        made = field_of(column, tree)
        fields = self.schema[of].fields
        if column in fields and fields[column].type != made.type:
            raise InvalidComponent(f"Cannot change field type from {fields[column].type} to {made.type}")
        if made.refers_to and made.refers_to[0] not in self.schema:
            raise InvalidComponent(
                f"referenceTo value of '{made.refers_to[0]}' does not resolve to a valid sObject type"
            )
        self.schema[of] = replace(self.schema[of], fields={**fields, column: made}, _by_lower={})
        self.fields.add((of, column))

    def _rule(self, name: str, tree: Tree) -> None:
        of = name.partition(".")[0]
        for need in ("active", "errorConditionFormula", "errorMessage"):
            if not tree.get(need):
                raise InvalidComponent(f"Required field is missing: {need}")
        try:
            condition = formula.parse(tree["errorConditionFormula"])
        except ValueError as error:
            raise InvalidComponent(str(error)) from None
        used = {*condition.names, *([tree["errorDisplayField"]] if "errorDisplayField" in tree else [])}
        for column in sorted(used - self.schema[of].fields.keys()):
            raise InvalidComponent(f"Field {column} does not exist. Check spelling.")

        def act() -> None:
            self.parts["ValidationRule", name] = {
                key: each for key, each in tree.items() if key != "fullName"
            }
            if tree["active"] == "true":
                self.org.rules.append((of, lambda row: bool(condition.value(row)), tree["errorMessage"], ()))

        self.last.append(act)

    def _list_view(self, name: str, tree: Tree) -> None:
        of, _, own = name.partition(".")
        if tree.get("filterScope") not in {"Everything", "Mine"} or not tree.get("label"):
            raise InvalidComponent("a list view needs a label and a filterScope")
        filters = many(tree, "filters")
        for column in (*many(tree, "columns"), *(each["field"] for each in filters)):
            if column not in LIST_COLUMNS and column not in self.schema[of].fields:
                raise InvalidComponent(f"Could not resolve list view column: {column}")
        for each in filters:
            values = self.schema[of].fields[each["field"]].values
            for value in each["value"].split(",") if values else ():
                if value not in values:
                    raise InvalidComponent(f"Picklist value: {value} in the filter does not exist")

        def act() -> None:
            row = {"DeveloperName": own, "Name": tree["label"], "SobjectType": of}
            self.org.insert("ListView", row, "", trusted=True)

        self._keep("ListView", name, tree)
        self.last.append(act)

    def _keep(self, kind: str, name: str, tree: Tree) -> None:
        """The component becomes one of the org's."""
        self.last.append(lambda: self.parts.update({(kind, name): tree}))

    def _compact_layout(self, name: str, tree: Tree) -> None:
        layouts.check_compact_layout(tree, self.schema[name.partition(".")[0]])
        self._keep("CompactLayout", name, tree)

    def _quick_action(self, name: str, tree: Tree) -> None:
        layouts.check_quick_action(name, tree, self.schema)
        self._keep("QuickAction", name, tree)

    def _report(self, name: str, tree: Tree) -> None:
        folder, _, own = name.partition("/")
        if own:
            self._check_folder_of("Report", folder)
            reports.check_report(tree, self.seen)
        self._file("Report", name, tree)

    def _dashboard(self, name: str, tree: Tree) -> None:
        folder, _, own = name.partition("/")
        if own:
            self._check_folder_of("Dashboard", folder)
            known = {**self.parts, **self.filed}
            those = {own: each for (kind, own), each in known.items() if kind == "Report"}
            usernames = {row["Username"] for row in self.org.scan("User")}
            dynamic = [
                each
                for (kind, own), each in known.items()
                if (kind, each.get("dashboardType")) == ("Dashboard", "LoggedInUser") and own != name
            ]
            reports.check_dashboard(tree, those, usernames, dynamic)
        self._file("Dashboard", name, tree)

    def _check_folder_of(self, kind: str, folder: str) -> None:
        if (f"{kind}Folder", folder) not in {**self.parts, **self.filed}:
            raise InvalidComponent(f"Cannot find folder: {folder}")

    def _file(self, kind: str, name: str, tree: Tree) -> None:
        """A report, a dashboard, or a folder of them: rows that a query lists."""
        folder, _, own = name.partition("/")
        if not own:
            reports.check_folder(tree)
        row: dict[str, object] = {"DeveloperName": own or folder}
        row |= {"FolderName": folder} if own else {"Name": tree["name"], "Type": kind}
        part = (kind if own else f"{kind}Folder", name)
        self.filed[part] = tree

        def act() -> None:
            if part not in self.parts:
                self.org.insert(kind if own else "Folder", row, "", trusted=True)
            self.parts[part] = tree

        self.last.append(act)

    def _permission_set(self, name: str, tree: Tree) -> None:
        if not tree.get("label"):
            raise InvalidComponent("Required field is missing: label")
        objects = {each["object"]: each for each in many(tree, "objectPermissions")}
        for of, rights in objects.items():
            self._object_rights(of, rights, objects)
        for each in many(tree, "fieldPermissions"):
            self._field_rights(each)

        def act() -> None:
            for row in [row for row in self.org.scan("PermissionSet") if row["Name"] == name]:
                self.org.delete("PermissionSet", row["Id"], "", trusted=True)
            about = {"Name": name, "Label": tree["label"], "Description": tree.get("description")}
            parent = self.org.insert("PermissionSet", about, "", trusted=True)
            for of, rights in objects.items():
                row = {theirs: rights.get(right) == "true" for right, theirs in RIGHTS.items()}
                row |= {"ParentId": parent, "SobjectType": of}
                self.org.insert("ObjectPermissions", row, "", trusted=True)
            for each in many(tree, "fieldPermissions"):
                row = {
                    "ParentId": parent, "SobjectType": each["field"].partition(".")[0], "Field": each["field"],
                    "PermissionsRead": each["readable"] == "true", "PermissionsEdit": each["editable"] == "true",
                }  # fmt: skip
                self.org.insert("FieldPermissions", row, "", trusted=True)

        self._keep("PermissionSet", name, tree)
        self.last.append(act)

    def _field_rights(self, given: Tree) -> None:
        of, _, column = given["field"].partition(".")
        found = self.schema[of].fields.get(column) if of in self.schema else None
        if found is None:
            raise InvalidComponent(f"In field: field - no CustomField named {given['field']} found")
        if not permissionable(of, found) or granted_as(of, column) != given["field"]:
            raise InvalidComponent(f"You cannot deploy to a required field: {given['field']}")
        if given["editable"] == "true" and given["readable"] != "true":
            raise InvalidComponent(f"Field {given['field']} is editable but not readable")

    def _object_rights(self, of: str, rights: Tree, objects: Mapping[str, Tree]) -> None:
        if of not in self.schema or of in {"OpportunityContactRole", "OpportunityTeamMember"}:
            raise InvalidComponent(f"In field: object - no CustomObject named {of} found")
        for right, needed in NEEDS.items():
            for each in needed:
                if rights.get(right) == "true" and rights.get(each) != "true":
                    raise InvalidComponent(f"Permission {right} {of} depends on permission(s): {each} {of}")
        masters = [
            each.refers_to[0] for each in self.schema[of].fields.values() if each.custom and each.cascade
        ]
        for above in (*masters, *([ABOVE[of]] if of in ABOVE else [])):
            if rights.get("allowRead") == "true" and objects.get(above, {}).get("allowRead") != "true":
                raise InvalidComponent(f"Permission Read {of} depends on permission(s): Read {above}")

    def _bundle(self, name: str, files: Mapping[str, bytes]) -> None:
        own = {
            path.removeprefix(f"lwc/{name}/"): text
            for path, text in files.items()
            if path.startswith(f"lwc/{name}/")
        }
        for need in (f"{name}.js", f"{name}.js-meta.xml", f"{name}.html"):
            if need not in own:
                raise InvalidComponent(f"Cannot find Lightning Component Bundle file {need}")
        try:
            ET.fromstring(own[f"{name}.js-meta.xml"])  # noqa: S314  (a sandbox on loopback)
        except ET.ParseError as error:
            raise InvalidComponent(str(error)) from None
        for of, column in _SCHEMA_IMPORT.findall(own[f"{name}.js"].decode()):
            if of not in self.schema or column not in self.schema[of].fields:
                raise InvalidComponent(
                    f"Invalid reference {of}.{column} of type sobjectField in file {name}.js"
                )
        self._keep("LightningComponentBundle", name, {path: text.decode() for path, text in own.items()})


def failure(kind: str, name: str, problem: str) -> dict[str, object]:
    """A component that cannot be deployed, as the result of a deployment tells it."""
    return {
        "componentType": kind,
        "fullName": name,
        "problem": problem,
        "problemType": "Error",
        "success": False,
    }
