"""The setup side of the fake Salesforce: what an admin's tool sees and changes.

Two doors. The Tooling API shows custom fields and objects, validation rules and Lightning components, whoever may see them
as data. A Metadata API deployment takes a zip, checks all of it and applies all or nothing; with `checkOnly` it only checks.

What a deployment makes is invisible to everybody until a permission set that is assigned to the user gives access: describe,
queries and writes of that user then see it, and not before (`seen_by`). Objects and fields that the org had from the start
are seen by all, as if every profile gave them. `may_customize` takes the admin's rights away from whoever signs in.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.exchange import Response
from cosell_sync.sandbox.salesforce import formula, schema, soql
from cosell_sync.sandbox.salesforce.rows import Org
from cosell_sync.sandbox.salesforce.schema import Field, SObject, text
from cosell_sync.sandbox.salesforce.values import Refused, make_id

NAMESPACE: Final = "{http://soap.sforce.com/2006/04/metadata}"
NEWEST: Final = 68
_FIELD_NAME: Final = re.compile(r"[A-Za-z](?!\w*__\w*__c)\w{0,36}__c")
_SCHEMA_IMPORT: Final = re.compile(r"@salesforce/schema/(\w+)\.(\w+)")
PARTS: Final = {"fields": "CustomField", "validationRules": "ValidationRule", "listViews": "ListView"}
LIST_COLUMNS: Final = frozenset({
    "OPPORTUNITY.NAME", "ACCOUNT.NAME", "OPPORTUNITY.AMOUNT", "OPPORTUNITY.CLOSE_DATE", "OPPORTUNITY.STAGE_NAME",
    "OPPORTUNITY.CLOSED", "CORE.USERS.ALIAS",
})  # fmt: skip

# Type of field → elements it needs, elements it may have besides.
_COMMON: Final = frozenset({"fullName", "label", "type", "description", "inlineHelpText"})
FIELD_TYPES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "Checkbox": (frozenset({"defaultValue"}), frozenset()),
    "Text": (frozenset({"length"}), frozenset({"required", "externalId", "unique", "caseSensitive"})),
    "Url": (frozenset(), frozenset({"required"})),
    "DateTime": (frozenset(), frozenset({"required"})),
    "LongTextArea": (frozenset({"length", "visibleLines"}), frozenset()),
    "Picklist": (frozenset({"valueSet"}), frozenset({"required"})),
    "MasterDetail": (
        frozenset({"referenceTo", "relationshipName", "relationshipOrder"}),
        frozenset({"relationshipLabel", "reparentableMasterDetail", "writeRequiresMasterRead"}),
    ),
}
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

Tree = dict[str, Any]


class Faulty(Exception):
    """Why a component cannot be deployed."""


@dataclass
class Deployment:
    """One zip on its way: what it would make of the org, and what is wrong with it."""

    schema: dict[str, SObject]
    failures: list[dict[str, object]] = field(default_factory=list)
    successes: list[dict[str, object]] = field(default_factory=list)
    fields: set[tuple[str, str]] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    last: list[Callable[[], None]] = field(default_factory=list)


def _tooling() -> dict[str, SObject]:
    def shape(name: str, prefix: str, *columns: Field) -> SObject:
        own = (Field("Id", "Id", "id", 18), text("NamespacePrefix", "Namespace"), *columns)
        return SObject(name, name, prefix, {each.name: each for each in own})

    made = (
        shape("CustomObject", "01I", text("DeveloperName", "Name"), text("SharingModel", "Sharing")),
        shape("CustomField", "00N", text("DeveloperName", "Name"), text("TableEnumOrId", "Object")),
        shape("ValidationRule", "03d", text("ValidationName", "Name"), schema.checkbox("Active", "Active")),
        shape("LightningComponentBundle", "0Rb", text("DeveloperName", "Name")),
    )  # fmt: skip
    return {each.name: each for each in made}


class Setup:
    """One org's setup. `org.schema` holds everything there is; `seen_by` cuts it to what a user sees."""

    def __init__(self, org: Org, clock: Callable[[], datetime]) -> None:
        self.org = org
        self.may_customize = True
        self.root = ""
        self._tooling = Org(_tooling(), clock)
        self._ids: dict[tuple[str, str], str] = {}
        self._rules: dict[str, Tree] = {}
        self._bundles: set[str] = set()
        self._deployments: dict[str, dict[str, Any]] = {}
        self._fields: set[tuple[str, str]] = set()
        self._objects: set[str] = set()

    def answer(
        self, method: str, steps: tuple[str, ...], query: Mapping[str, str], content_type: str, body: bytes
    ) -> Response:
        try:
            return self._route(method, steps, query, content_type, body)
        except soql.SoqlError as refused:
            return Response(400, [{"message": refused.message, "errorCode": refused.code}])
        except Refused as refused:
            return Response(refused.status, [refused.as_error()])

    def _route(
        self, method: str, steps: tuple[str, ...], query: Mapping[str, str], content_type: str, body: bytes
    ) -> Response:
        match method, steps:
            case "GET", ("tooling", "query") if self.may_customize:
                self._list_setup()
                found = soql.run(query.get("q", ""), self._tooling, f"{self.root}/tooling")
                page = {"size": found.total, "totalSize": found.total, "done": True, "records": found.records}
                return Response(200, page)
            case "GET", ("tooling", "sobjects", kind, row_id) if self.may_customize:
                return Response(200, self._shown(kind, row_id))
            case "GET", ("tooling", *_):
                raise Refused("INVALID_TYPE", "sObject type is not supported.")
            case _, ("metadata", "deployRequest", *_) if not self.may_customize:
                told = "use of the Metadata API requires a user with the ModifyAllData or ModifyMetadata permissions"
                return Response(403, [{"message": told, "errorCode": "INSUFFICIENT_ACCESS"}])
            case "POST", ("metadata", "deployRequest"):
                return self._deploy(content_type, body)
            case "GET", ("metadata", "deployRequest", started) if started in self._deployments:
                return self._status(started, query)
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    # ------------------------------------------------------------ who sees what

    def seen_by(self, user: str) -> dict[str, SObject]:
        """The schema without what a deployment made and no permission set of this user opens."""
        if not self._fields and not self._objects:
            return self.org.schema
        sets = {
            row["PermissionSetId"]
            for row in self.org.scan("PermissionSetAssignment")
            if row["AssigneeId"] == user
        }
        rights = [row for row in self.org.scan("FieldPermissions") if row["ParentId"] in sets]
        read = {row["Field"] for row in rights if row["PermissionsRead"]}
        edit = {row["Field"] for row in rights if row["PermissionsEdit"]}
        own = [row for row in self.org.scan("ObjectPermissions") if row["ParentId"] in sets]
        open_objects = {row["SobjectType"] for row in own if row["PermissionsRead"]}
        writable = {row["SobjectType"] for row in own if row["PermissionsCreate"] and row["PermissionsEdit"]}
        seen: dict[str, SObject] = {}
        for name, shape in self.org.schema.items():
            if name in self._objects and name not in open_objects:
                continue
            columns: dict[str, Field] = {}
            for column, each in shape.fields.items():
                full = f"{name}.{column}"
                if (name, column) not in self._fields or each.required or full in edit:
                    columns[column] = each
                elif full in read:
                    columns[column] = replace(each, createable=False, updateable=False)
            createable = shape.createable and (name not in self._objects or name in writable)
            seen[name] = replace(shape, fields=columns, createable=createable, _by_lower={})
        return schema.linked(seen)

    # ------------------------------------------------------------ the Tooling API

    def _id(self, kind: str, name: str) -> str:
        key = (kind, name)
        return self._ids.setdefault(key, make_id(self._tooling.schema[kind].prefix, len(self._ids) + 1))

    def _list_setup(self) -> None:
        """The rows of the Tooling API, read off the schema each time."""
        tables: dict[str, dict[str, Any]] = {name: {} for name in self._tooling.schema}

        def add(kind: str, name: str, **columns: object) -> None:
            row_id = self._id(kind, name)
            tables[kind][row_id] = {"Id": row_id, "NamespacePrefix": None, **columns}

        for name, shape in self.org.schema.items():
            table = name
            if name.endswith("__c"):
                table = self._id("CustomObject", name)
                add("CustomObject", name, DeveloperName=name[:-3], SharingModel="ControlledByParent")
            for column, each in shape.fields.items():
                if each.custom:
                    add("CustomField", f"{name}.{column}", DeveloperName=column[:-3], TableEnumOrId=table)
        for name, rule in self._rules.items():
            own = name.partition(".")[2]
            add("ValidationRule", name, ValidationName=own, Active=rule["active"] == "true")
        for name in self._bundles:
            add("LightningComponentBundle", name, DeveloperName=name)
        self._tooling.tables = tables

    def _shown(self, kind: str, row_id: str) -> dict[str, object]:
        self._list_setup()
        name = next((own for (of, own), given in self._ids.items() if of == kind and given == row_id), None)
        row = self._tooling.find(kind, row_id) if kind in self._tooling.schema else None
        if name is None or row is None:
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        url = f"{self.root}/tooling/sobjects/{kind}/{row_id}"
        shown = {"attributes": {"type": kind, "url": url}, **row, "FullName": name}
        if kind == "CustomField":
            of, _, column = name.partition(".")
            shown["Metadata"] = _metadata(self.org.schema[of].fields[column])
        elif kind == "ValidationRule":
            shown["Metadata"] = {**self._rules[name], "active": self._rules[name]["active"] == "true"}
        return shown

    # ------------------------------------------------------------ the Metadata API

    def _deploy(self, content_type: str, body: bytes) -> Response:
        parts = _multipart(content_type, body)
        try:
            options = json.loads(parts["json"])["deployOptions"]
            archive = zipfile.ZipFile(io.BytesIO(parts["file"]))
        except (KeyError, ValueError, zipfile.BadZipFile):
            raise Refused(
                "INVALID_MULTIPART_REQUEST", "a part json and a part file (zip) are needed"
            ) from None
        if not (options.get("rollbackOnError") and options.get("singlePackage")):
            raise Refused("INVALID_OPERATION", "this org takes single packages with rollbackOnError only")
        files = {name: archive.read(name) for name in archive.namelist()}
        going = Deployment(dict(self.org.schema))
        self._check(files, going)
        started = make_id("0Af", len(self._deployments) + 1)
        check_only = bool(options.get("checkOnly"))
        if not going.failures and not check_only:
            self._apply(going)
        self._deployments[started] = {
            "id": started,
            "checkOnly": check_only,
            "done": True,
            "success": not going.failures,
            "status": "Failed" if going.failures else "Succeeded",
            "numberComponentErrors": len(going.failures),
            "numberComponentsDeployed": 0 if going.failures else len(going.successes),
            "numberComponentsTotal": len(going.failures) + len(going.successes),
            "details": {"componentFailures": going.failures, "componentSuccesses": going.successes},
        }
        pending = {
            "id": started,
            "status": "Pending",
            "done": False,
            "success": False,
            "checkOnly": check_only,
        }
        return Response(201, {"id": started, "deployOptions": options, "deployResult": pending, "validatedDeployRequestId": None})  # fmt: skip

    def _status(self, started: str, query: Mapping[str, str]) -> Response:
        result = self._deployments[started]
        if query.get("includeDetails", "").lower() != "true":
            result = {**result, "details": None}
        return Response(200, {"id": started, "deployResult": result, "validatedDeployRequestId": None})

    def _apply(self, going: Deployment) -> None:
        self.org.adopt(going.schema)
        self._fields |= going.fields
        self._objects |= going.objects
        for act in going.last:
            act()

    # ------------------------------------------------------------ checking a zip

    def _check(self, files: Mapping[str, bytes], going: Deployment) -> None:
        listed = self._manifest(files, going)
        if listed is None:
            return
        trees = dict(self._trees(files, going))
        found: dict[tuple[str, str], Tree] = {}
        for path, tree in trees.items():
            found |= _components(path, tree)
        found |= {
            ("LightningComponentBundle", path.split("/")[1]): {} for path in files if path.startswith("lwc/")
        }
        for kind, name in sorted(listed - found.keys()):
            problem = f"An object '{name}' of type {kind} was named in package.xml, but was not found in zipped directory"
            going.failures.append(_failure(kind, name, problem))
        for kind, name in sorted(found.keys() - listed):
            going.failures.append(_failure(kind, name, "Not in package.xml"))
        steps: tuple[tuple[str, Callable[[str, Tree], None]], ...] = (
            ("CustomObject", lambda name, tree: self._object(name, tree, going)),
            ("CustomField", lambda name, tree: self._field(name, tree, going)),
            ("ValidationRule", lambda name, tree: self._rule(name, tree, going)),
            ("ListView", lambda name, tree: self._list_view(name, tree, going)),
            ("PermissionSet", lambda name, tree: self._permission_set(name, tree, going)),
            ("LightningComponentBundle", lambda name, _: self._bundle(name, files, going)),
        )
        for kind, check in steps:
            for (of, name), tree in found.items():
                if of != kind:
                    continue
                try:
                    check(name, tree)
                except Faulty as fault:
                    going.failures.append(_failure(kind, name, str(fault)))
                except (KeyError, TypeError, ValueError) as error:
                    going.failures.append(_failure(kind, name, f"cannot be read: {error!r}"))
                else:
                    done = {"componentType": kind, "fullName": name, "created": True, "success": True}
                    going.successes.append(done)
        masters = {of for of, column in going.fields if going.schema[of].fields[column].cascade}
        for name in going.objects - masters:
            going.failures.append(
                _failure("CustomObject", name, "ControlledByParent needs a master-detail field")
            )
        going.schema = schema.linked(going.schema)

    def _manifest(self, files: Mapping[str, bytes], going: Deployment) -> set[tuple[str, str]] | None:
        try:
            package = _tree(ET.fromstring(files["package.xml"]))  # noqa: S314  (a sandbox on loopback)
            version = float(package["version"])
            listed = {
                (each["name"], member)
                for each in _many(package, "types")
                for member in _many(each, "members")
            }
        except (KeyError, ValueError, ET.ParseError) as error:
            going.failures.append(_failure("", "package.xml", f"cannot be read: {error!r}"))
            return None
        if version > NEWEST:
            going.failures.append(_failure("", "package.xml", f"Invalid version: {version}"))
            return None
        return listed

    def _trees(self, files: Mapping[str, bytes], going: Deployment) -> Iterator[tuple[str, Tree]]:
        for path, content in files.items():
            if path == "package.xml" or path.startswith("lwc/"):
                continue
            try:
                root = ET.fromstring(content)  # noqa: S314  (a sandbox on loopback)
            except ET.ParseError as error:
                going.failures.append(_failure("", path, str(error)))
                continue
            if root.tag.startswith(NAMESPACE):
                yield path, _tree(root)
            else:
                going.failures.append(_failure("", path, "wrong namespace"))

    def _object(self, name: str, tree: Tree, going: Deployment) -> None:
        for need in ("label", "pluralLabel", "deploymentStatus", "nameField", "sharingModel"):
            if need not in tree:
                raise Faulty(f"Must specify a non-empty {need} for the CustomObject")
        if tree["sharingModel"] != "ControlledByParent" or tree["nameField"]["type"] != "AutoNumber":
            raise Faulty("this sandbox makes detail objects with a numbered name only")
        if name in going.schema:
            raise Faulty("duplicate value found: the object is there already")
        label = tree["nameField"]["label"]
        columns = [
            *schema.system(),
            schema.computed("Name", label, length=80, calculated=False),
        ]
        if "CurrencyIsoCode" in going.schema["Opportunity"].fields:
            columns.append(schema.currency_column())
        going.schema[name] = SObject(name, tree["label"], "a00", {each.name: each for each in columns})
        going.objects.add(name)

    def _field(self, name: str, tree: Tree, going: Deployment) -> None:
        of, _, column = name.partition(".")
        if of not in going.schema:
            raise Faulty(f"Entity Enumeration Or ID: bad value for restricted picklist field: {of}")
        if not _FIELD_NAME.fullmatch(column):
            raise Faulty(f"The field name is not valid: {column}")
        made = _new_field(column, tree)
        fields = going.schema[of].fields
        if column in fields and fields[column].type != made.type:
            raise Faulty(f"Cannot change field type from {fields[column].type} to {made.type}")
        if made.refers_to and made.refers_to[0] not in going.schema:
            raise Faulty(
                f"referenceTo value of '{made.refers_to[0]}' does not resolve to a valid sObject type"
            )
        going.schema[of] = replace(going.schema[of], fields={**fields, column: made}, _by_lower={})
        going.fields.add((of, column))

    def _rule(self, name: str, tree: Tree, going: Deployment) -> None:
        of = name.partition(".")[0]
        for need in ("active", "errorConditionFormula", "errorMessage"):
            if not tree.get(need):
                raise Faulty(f"Required field is missing: {need}")
        try:
            condition = formula.parse(tree["errorConditionFormula"])
        except ValueError as error:
            raise Faulty(str(error)) from None
        used = {*condition.names, *([tree["errorDisplayField"]] if "errorDisplayField" in tree else [])}
        for column in sorted(used - going.schema[of].fields.keys()):
            raise Faulty(f"Field {column} does not exist. Check spelling.")

        def act() -> None:
            self._rules[name] = {each: value for each, value in tree.items() if each != "fullName"}
            if tree["active"] == "true":
                self.org.rules.append((of, lambda row: bool(condition.value(row)), tree["errorMessage"]))

        going.last.append(act)

    def _list_view(self, name: str, tree: Tree, going: Deployment) -> None:
        of, _, own = name.partition(".")
        if tree.get("filterScope") not in {"Everything", "Mine"} or not tree.get("label"):
            raise Faulty("a list view needs a label and a filterScope")
        filters = _many(tree, "filters")
        for column in (*_many(tree, "columns"), *(each["field"] for each in filters)):
            if column not in LIST_COLUMNS and column not in going.schema[of].fields:
                raise Faulty(f"Could not resolve list view column: {column}")
        for each in filters:
            values = going.schema[of].fields[each["field"]].values
            for value in each["value"].split(",") if values else ():
                if value not in values:
                    raise Faulty(f"Picklist value: {value} in the filter does not exist")

        def act() -> None:
            row = {"DeveloperName": own, "Name": tree["label"], "SobjectType": of}
            self.org.insert("ListView", row, "", trusted=True)

        going.last.append(act)

    def _permission_set(self, name: str, tree: Tree, going: Deployment) -> None:
        if not tree.get("label"):
            raise Faulty("Required field is missing: label")
        objects = {each["object"]: each for each in _many(tree, "objectPermissions")}
        for of, rights in objects.items():
            self._object_rights(of, rights, objects, going)
        for each in _many(tree, "fieldPermissions"):
            of, _, column = each["field"].partition(".")
            found = going.schema[of].fields.get(column) if of in going.schema else None
            if found is None:
                raise Faulty(f"In field: field - no CustomField named {each['field']} found")
            if found.required or not found.custom:
                raise Faulty(f"You cannot deploy to a required field: {each['field']}")
            if each["editable"] == "true" and each["readable"] != "true":
                raise Faulty(f"Field {each['field']} is editable but not readable")

        def act() -> None:
            for row in [row for row in self.org.scan("PermissionSet") if row["Name"] == name]:
                self.org.delete("PermissionSet", row["Id"], "", trusted=True)
            about = {"Name": name, "Label": tree["label"], "Description": tree.get("description")}
            parent = self.org.insert("PermissionSet", about, "", trusted=True)
            for of, rights in objects.items():
                row = {theirs: rights.get(right) == "true" for right, theirs in RIGHTS.items()}
                row |= {"ParentId": parent, "SobjectType": of}
                self.org.insert("ObjectPermissions", row, "", trusted=True)
            for each in _many(tree, "fieldPermissions"):
                row = {
                    "ParentId": parent, "SobjectType": each["field"].partition(".")[0], "Field": each["field"],
                    "PermissionsRead": each["readable"] == "true", "PermissionsEdit": each["editable"] == "true",
                }  # fmt: skip
                self.org.insert("FieldPermissions", row, "", trusted=True)

        going.last.append(act)

    def _object_rights(self, of: str, rights: Tree, objects: Mapping[str, Tree], going: Deployment) -> None:
        if of not in going.schema or of in {"OpportunityContactRole", "OpportunityTeamMember"}:
            raise Faulty(f"In field: object - no CustomObject named {of} found")
        for right, needed in NEEDS.items():
            for each in needed:
                if rights.get(right) == "true" and rights.get(each) != "true":
                    raise Faulty(f"Permission {right} {of} depends on permission(s): {each} {of}")
        masters = [
            each.refers_to[0] for each in going.schema[of].fields.values() if each.custom and each.cascade
        ]
        for above in (*masters, *([ABOVE[of]] if of in ABOVE else [])):
            if rights.get("allowRead") == "true" and objects.get(above, {}).get("allowRead") != "true":
                raise Faulty(f"Permission Read {of} depends on permission(s): Read {above}")

    def _bundle(self, name: str, files: Mapping[str, bytes], going: Deployment) -> None:
        own = {
            path.removeprefix(f"lwc/{name}/"): text
            for path, text in files.items()
            if path.startswith(f"lwc/{name}/")
        }
        for need in (f"{name}.js", f"{name}.js-meta.xml", f"{name}.html"):
            if need not in own:
                raise Faulty(f"Cannot find Lightning Component Bundle file {need}")
        try:
            ET.fromstring(own[f"{name}.js-meta.xml"])  # noqa: S314  (a sandbox on loopback)
        except ET.ParseError as error:
            raise Faulty(str(error)) from None
        for of, column in _SCHEMA_IMPORT.findall(own[f"{name}.js"].decode()):
            if of not in going.schema or column not in going.schema[of].fields:
                raise Faulty(f"Invalid reference {of}.{column} of type sobjectField in file {name}.js")
        going.last.append(lambda: self._bundles.add(name))


def _failure(kind: str, name: str, problem: str) -> dict[str, object]:
    return {
        "componentType": kind,
        "fullName": name,
        "problem": problem,
        "problemType": "Error",
        "success": False,
    }


def _multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form by name."""
    found = re.search(r'boundary="?([^";]+)', content_type)
    if not content_type.startswith("multipart/form-data") or found is None:
        raise Refused("UNSUPPORTED_MEDIA_TYPE", "Content-type not supported")
    made: dict[str, bytes] = {}
    for part in body.split(b"--" + found[1].encode()):
        head, gap, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        if gap and name:
            made[name[1].decode()] = content.removesuffix(b"\r\n")
    return made


def _tree(element: ET.Element) -> Tree:
    """An element as a dictionary; what is repeated becomes a list."""
    made: Tree = {}
    for child in element:
        name = child.tag.removeprefix(NAMESPACE)
        value: Any = _tree(child) if len(child) else (child.text or "").strip()
        if name not in made:
            made[name] = value
        elif isinstance(made[name], list):
            made[name].append(value)
        else:
            made[name] = [made[name], value]
    return made


def _many(tree: Tree, name: str) -> list[Any]:
    value = tree.get(name, [])
    return value if isinstance(value, list) else [value]


def _components(path: str, tree: Tree) -> dict[tuple[str, str], Tree]:
    """The components in a file of the zip. An object's file is a component itself where it says more than its parts."""
    folder, _, file = path.partition("/")
    own = file.rpartition(".")[0]
    if folder == "permissionsets":
        return {("PermissionSet", own): tree}
    if folder != "objects":
        return {("", path): tree}
    made = {
        (kind, f"{own}.{each['fullName']}"): each
        for part, kind in PARTS.items()
        for each in _many(tree, part)
    }
    rest = {name: value for name, value in tree.items() if name not in PARTS}
    return {**({("CustomObject", own): rest} if rest else {}), **made}


def _new_field(name: str, tree: Tree) -> Field:
    kind = tree.get("type", "")
    if kind not in FIELD_TYPES:
        raise Faulty(f"'{kind}' is not a valid value for the enum 'FieldType'")
    needed, allowed = FIELD_TYPES[kind]
    for each in sorted({"label"} | needed):
        if not tree.get(each):
            raise Faulty(f"Must specify {each} for a CustomField of type {kind}")
    for each in sorted(tree.keys() - _COMMON - needed - allowed):
        raise Faulty(f"Can not specify '{each}' for a CustomField of type {kind}")
    if len(tree["label"]) > 40:
        raise Faulty("Label: data value too large")
    if len(tree.get("inlineHelpText", "")) > 510:
        raise Faulty("Help text: data value too large")
    flag = {each: tree.get(each) == "true" for each in ("required", "externalId", "unique")}
    label, length = tree["label"], int(tree.get("length", 0))
    match kind:
        case "Checkbox":
            return schema.checkbox(name, label, default=tree["defaultValue"] == "true")
        case "Text":
            if not 1 <= length <= 255:
                raise Faulty("Text length must be between 1 and 255")
            return text(name, label, length, external_id=flag["externalId"], unique=flag["unique"], required=flag["required"])  # fmt: skip
        case "Url":
            return Field(name, label, "url", 255, required=flag["required"])
        case "DateTime":
            return Field(name, label, "datetime", required=flag["required"])
        case "LongTextArea":
            if not 256 <= length <= 131_072:
                raise Faulty("Long text length must be between 256 and 131072")
            return Field(name, label, "textarea", length)
        case "Picklist":
            listed = tree["valueSet"]["valueSetDefinition"]
            values = tuple(each["fullName"] for each in _many(listed, "value"))
            restricted = tree["valueSet"].get("restricted") == "true"
            return schema.picklist(name, label, values, restricted=restricted, required=flag["required"])
    return schema.fixed(
        schema.lookup(
            name, label, tree["referenceTo"], name[:-1] + "r",
            required=True, cascade=True, child_name=f"{tree['relationshipName']}__r",
        )
    )  # fmt: skip


def _metadata(each: Field) -> dict[str, object]:
    """A field as the Tooling API shows its setup."""
    kinds = {
        "boolean": "Checkbox", "string": "Text", "url": "Url", "datetime": "DateTime", "picklist": "Picklist",
        "reference": "MasterDetail" if each.cascade else "Lookup", "date": "Date", "double": "Number", "currency": "Currency",
    }  # fmt: skip
    kind = ("LongTextArea" if each.long else "TextArea") if each.type == "textarea" else kinds[each.type]
    made: dict[str, object] = {
        "label": each.label, "type": kind, "required": each.required and kind != "MasterDetail",
        "length": each.length if kind in {"Text", "LongTextArea"} else None,
        "externalId": each.external_id, "unique": each.unique, "valueSet": None,
    }  # fmt: skip
    if each.type == "picklist":
        values = [
            {"valueName": value, "label": value, "default": False, "isActive": None} for value in each.values
        ]
        made["valueSet"] = {
            "restricted": each.restricted,
            "valueSetName": None,
            "valueSetDefinition": {"sorted": False, "value": values},
        }
    if each.refers_to:
        made["referenceTo"] = each.refers_to[0]
    return made
