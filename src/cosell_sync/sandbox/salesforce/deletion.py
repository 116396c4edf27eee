"""What a deployment deletes: the components of a `destructiveChanges.xml`, in its order, each only where nothing needs it.

What is not there is passed over with a warning; what something that stays still names is refused, as are a permission set that
somebody has and a part of the page that an admin put on it. A deleted object takes its fields along, a field its rows.
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_deploy_deleting_files.htm
https://help.salesforce.com/s/articleView?id=platform.perm_sets_delete.htm
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.salesforce import schema
from cosell_sync.sandbox.salesforce.access import Access
from cosell_sync.sandbox.salesforce.package import Tree, many
from cosell_sync.sandbox.salesforce.package import tree as tree_of
from cosell_sync.sandbox.salesforce.rows import Org

MANIFEST: Final = "destructiveChanges.xml"
Parts = dict[tuple[str, str], Tree]


@dataclass
class Deletion:
    """One manifest applied to an org. ``parts``: what the org has beside fields and rows, by type and name. ``placed``: those that
    an admin put on a page.

    It changes a copy of what it is given; `apply` makes the org so.
    """

    org: Org
    access: Access
    parts: Parts
    placed: frozenset[str]
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema = dict(self.org.schema)
        self.left = dict(self.parts)

    def run(self, manifest: bytes) -> None:
        """Deletes what the manifest lists, type after type."""
        package = tree_of(ET.fromstring(manifest))  # noqa: S314  (a sandbox on loopback)
        for each in many(package, "types"):
            for name in many(each, "members"):
                if "*" in name:
                    self.failures.append((each["name"], name, "wildcards are not supported"))
                elif reason := self._delete(each["name"], name):
                    self.failures.append((each["name"], name, reason))

    def _delete(self, kind: str, name: str) -> str:
        """Why it cannot be deleted; empty where it is gone, or was never there."""
        if name in self.placed:
            return "This component is in use on a page. Remove it from the page, then delete it."
        steps = {
            "CustomField": self._field,
            "CustomObject": self._object,
            "PermissionSet": self._permission_set,
        }
        folder = kind in {"Report", "Dashboard"} and "/" not in name
        there, reason = (self._folder if folder else steps.get(kind, self._part))(kind, name)
        if there and not reason:
            self.done.append((kind, name))
        return reason

    def _field(self, _: str, name: str) -> tuple[bool, str]:
        """Whether it is there, and why it stays; so do the others."""
        of, _, own = name.partition(".")
        if of not in self.schema or own not in self.schema[of].fields:
            return False, ""
        if reason := self._needed(own):
            return True, reason
        kept = {key: each for key, each in self.schema[of].fields.items() if key != own}
        self.schema[of] = replace(self.schema[of], fields=kept, _by_lower={})
        return True, ""

    def _object(self, _: str, name: str) -> tuple[bool, str]:
        if name not in self.schema:
            return False, ""
        reason = self._needed(name)
        if not reason:
            del self.schema[name]
        return True, reason

    def _permission_set(self, kind: str, name: str) -> tuple[bool, str]:
        row = self._row(kind, name)
        if row is None:
            return False, ""
        if any(each["PermissionSetId"] == row["Id"] for each in self.org.scan("PermissionSetAssignment")):
            return True, "You can't delete a permission set that's assigned to a user"
        self.left.pop((kind, name), None)
        return True, ""

    def _folder(self, kind: str, name: str) -> tuple[bool, str]:
        if (f"{kind}Folder", name) not in self.left:
            return False, ""
        if any(key[0] == kind and key[1].startswith(f"{name}/") for key in self.left):
            return True, "Cannot delete a folder that is not empty"
        del self.left[f"{kind}Folder", name]
        return True, ""

    def _part(self, kind: str, name: str) -> tuple[bool, str]:
        if (kind, name) not in self.left:
            return False, ""
        reason = self._needed(name)
        if not reason:
            del self.left[kind, name]
        return True, reason

    def _needed(self, name: str) -> str:
        users = sorted(self._users(name))
        return f"This component is referenced elsewhere: {', '.join(users)}" if users else ""

    def _row(self, kind: str, name: str) -> Mapping[str, Any] | None:
        return next((row for row in self.org.scan(kind) if row["Name"] == name), None)

    def _users(self, name: str) -> Iterator[str]:
        """The components that stay and name it. Permission sets forget what is deleted."""
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        for (kind, own), tree in self.left.items():
            if kind != "PermissionSet" and own != name and word.search(str(tree)):
                yield f"{kind} {own}"

    def apply(self) -> None:
        """Makes the org as the deletion left its copy."""
        for kind, name in self.done:
            self._forget(kind, name)
        for key in self.parts.keys() - self.left.keys():
            del self.parts[key]
        self.org.adopt(schema.linked(self.schema))

    def _forget(self, kind: str, name: str) -> None:
        of, _, own = name.partition(".")
        if kind == "CustomField":
            self.access.fields.discard((of, own))
            self._drop("FieldPermissions", "Field", name)
        elif kind == "CustomObject":
            self.access.objects.discard(name)
            self.access.fields -= {key for key in self.access.fields if key[0] == name}
            self.org.tables.pop(name, None)
            self._drop("ObjectPermissions", "SobjectType", name)
            self._drop("FieldPermissions", "SobjectType", name)
        elif kind == "PermissionSet":
            self._drop(kind, "Name", name)
        elif kind == "ListView":
            self._drop(kind, "DeveloperName", own)
        elif kind in {"Report", "Dashboard"}:
            folder, _, inside = name.partition("/")
            self._drop(kind, "DeveloperName", inside) if inside else self._drop(
                "Folder", "DeveloperName", folder, Type=kind
            )
        elif kind == "ValidationRule":
            self.org.rules[:] = [
                rule for rule in self.org.rules if rule[2] != self.parts[kind, name]["errorMessage"]
            ]

    def _drop(self, table: str, column: str, value: str, **also: str) -> None:
        wanted = {column: value, **also}
        for row in list(self.org.scan(table)):
            if all(row.get(key) == each for key, each in wanted.items()):
                self.org.delete(table, row["Id"], "", trusted=True)
