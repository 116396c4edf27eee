"""The zip of a Metadata API deployment, read into components: the multipart body, the XML files and what is in them."""

import re
from typing import Any, Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.salesforce.values import Refused

NAMESPACE: Final = "{http://soap.sforce.com/2006/04/metadata}"

PARTS: Final = {
    "fields": "CustomField",
    "validationRules": "ValidationRule",
    "listViews": "ListView",
    "compactLayouts": "CompactLayout",
}
WHOLE: Final = {  # folder of the zip → type of which each file is one
    "permissionsets": ("PermissionSet", ".permissionset"),
    "quickActions": ("QuickAction", ".quickAction"),
    "reports": ("Report", ".report"),
    "dashboards": ("Dashboard", ".dashboard"),
}

Tree = dict[str, Any]


def multipart(content_type: str, body: bytes) -> dict[str, bytes]:
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


def tree(element: ET.Element) -> Tree:
    """An element as a dictionary; what is repeated becomes a list."""
    made: Tree = {}
    for child in element:
        name = child.tag.removeprefix(NAMESPACE)
        value: Any = tree(child) if len(child) else (child.text or "").strip()
        if name not in made:
            made[name] = value
        elif isinstance(made[name], list):
            made[name].append(value)
        else:
            made[name] = [made[name], value]
    return made


def many(tree: Tree, name: str) -> list[Any]:
    """The values of an element that may be repeated."""
    value = tree.get(name, [])
    return value if isinstance(value, list) else [value]


def components(path: str, tree: Tree) -> dict[tuple[str, str], Tree]:
    """The components in a file of the zip. An object's file is a component itself where it says more than its parts."""
    folder, _, file = path.partition("/")
    own = file.rpartition(".")[0]
    kind, suffix = WHOLE.get(folder, ("", ""))
    # A folder's own file stands beside it and is listed among its contents: Metadata API, Folder.
    if file.endswith("-meta.xml") and kind in {"Report", "Dashboard"}:
        return {(kind, file.removesuffix("-meta.xml")): tree}
    if kind and file.endswith(suffix):
        return {(kind, own): tree}
    if folder != "objects":
        return {("", path): tree}
    made = {
        (kind, f"{own}.{each['fullName']}"): each for part, kind in PARTS.items() for each in many(tree, part)
    }
    rest = {name: value for name, value in tree.items() if name not in PARTS}
    return {**({("CustomObject", own): rest} if rest else {}), **made}
